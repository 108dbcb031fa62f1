/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_server.c - the rendezvous: gathers a blob from each rank, gives all to all, round by round.
 * Here its connections, events and deadlines; boot_gen.c has what the ranks do.
 *
 * Cost: O(ranks) per event; memory: two connections and one blob per rank, and BOOT_SPARE
 * strangers.
 * Locking: one thread runs; stop, from any thread, is an eventfd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/addrs.h"
#include "lib/alloc.h"
#include "lib/boot_priv.h"
#include "lib/log.h"
#include "lib/net.h"

#define BOOT_SPARE 64			/* unproved connections, beyond one for each rank */
#define BOOT_HELLO_MS 5000		/* for a connection to prove itself */
#define BOOT_FLUSH_MS 1000		/* after stop, for replies to get out */
#define BOOT_SILENT_MS 30000		/* of a host, until the kernel calls it gone */
#define BOOT_PAUSE_MS 100		/* of accepting, when descriptors are short */
#define BOOT_MAX_RANKS (1 << 20)

static int boot_on_head(struct boot_conn *c)
{
	c->got = 0;
	if (c->head.magic != GY_BOOT_MAGIC || c->head.len > GY_BOOT_MAX_LEN)
		return -EPROTO;
	gy_free(c->body);
	c->body = gy_alloc(c->head.len);
	if (!c->body)
		return -ENOMEM;
	c->state = BOOT_BODY;
	if (c->head.len == 0)
		gy_boot_on_blob(c);
	return 0;
}

/* Reads as much as there is.  -errno: the connection is to be dropped. */
static int boot_read(struct boot_conn *c)
{
	char none;
	size_t got = 0;
	int r;

	switch (c->state) {
	case BOOT_HELLO:
		r = gy_net_read(c->fd, &c->hello, sizeof(c->hello), &c->got);
		return r == 1 ? gy_boot_on_hello(c) : r;
	case BOOT_PROOF:
		r = gy_net_read(c->fd, &c->proof, sizeof(c->proof), &c->got);
		return r == 1 ? gy_boot_on_proof(c) : r;
	case BOOT_HEAD:
		r = gy_net_read(c->fd, &c->head, sizeof(c->head), &c->got);
		return r == 1 ? boot_on_head(c) : r;
	case BOOT_BODY:
		r = gy_net_read(c->fd, c->body, c->head.len, &c->got);
		if (r == 1)
			gy_boot_on_blob(c);
		return r == 1 ? 0 : r;
	default:	/* it waits for us: only its end may come */
		r = gy_net_read(c->fd, &none, 1, &got);
		return r == 1 ? -EPROTO : r;
	}
}

static int boot_write(struct boot_conn *c)
{
	const size_t head = sizeof(c->head), total = head + c->head.len;
	ssize_t n;

	if (c->told && !c->head.status)
		return -ECONNRESET;	/* that reply may be gone */
	while (c->sent < total) {
		if (c->sent < head)
			n = send(c->fd, (char *)&c->head + c->sent, head - c->sent,
				 MSG_NOSIGNAL | (c->head.len ? MSG_MORE : 0));
		else
			n = send(c->fd, c->s->all + c->sent - head, total - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		c->sent += n > 0 ? (size_t)n : 0;
	}
	c->state = BOOT_HEAD;
	c->got = 0;
	return 0;
}

static void boot_accept(struct gy_boot_server *s)
{
	struct boot_conn *c;
	int fd, i;

	for (i = 0; i < 16; i++) {
		fd = gy_net_accept(s->listener);
		if (fd == -EAGAIN)
			return;
		/* Also when descriptors or memory are short: the oldest stranger makes room. */
		if ((fd < 0 || s->nstrangers == s->nranks + BOOT_SPARE) && s->nstrangers)
			gy_boot_drop(gy_list_entry(s->strangers.next, struct boot_conn, link));
		if (fd < 0) {
			s->listen_ms = gy_boot_now_ms() + BOOT_PAUSE_MS;
			return;
		}
		c = gy_alloc(sizeof(*c));
		if (!c) {
			close(fd);
			return;
		}
		gy_net_tune(fd, BOOT_SILENT_MS, false);
		c->s = s;
		c->fd = fd;
		c->state = BOOT_HELLO;
		c->deadline_ms = gy_boot_now_ms() + BOOT_HELLO_MS;
		gy_list_add_tail(&s->strangers, &c->link);
		s->nstrangers++;
	}
}

static void boot_polled_add(struct gy_boot_server *s, struct gy_list *list)
{
	struct gy_list *pos;

	gy_list_for_each(pos, list) {
		struct boot_conn *c = gy_list_entry(pos, struct boot_conn, link);

		if (s->npolled == s->max_polled)
			return;
		s->polled[s->npolled] = c;
		s->pfds[2 + s->npolled++] =
			(struct pollfd){ .fd = c->fd,
					 .events = c->state == BOOT_REPLY ? POLLOUT : POLLIN };
	}
}

/* Handles what is ready.  A connection that is served may drop itself, never another. */
static void boot_serve_once(struct gy_boot_server *s, int timeout_ms)
{
	struct boot_conn *c;
	size_t i;
	int err;

	s->npolled = 0;
	s->pfds[0] = (struct pollfd){ .fd = s->listener,
				      .events = gy_boot_now_ms() < s->listen_ms ? 0 : POLLIN };
	s->pfds[1] = (struct pollfd){ .fd = s->stop, .events = s->stopping ? 0 : POLLIN };
	boot_polled_add(s, &s->strangers);
	boot_polled_add(s, &s->parked);
	boot_polled_add(s, &s->members);
	boot_polled_add(s, &s->told);
	if (poll(s->pfds, 2 + s->npolled, timeout_ms) <= 0)
		return;
	for (i = 0; i < s->npolled; i++) {
		if (!s->pfds[2 + i].revents)
			continue;
		c = s->polled[i];
		err = c->state == BOOT_REPLY ? boot_write(c) : boot_read(c);
		if (err)
			gy_boot_lost(c);
	}
	if (s->pfds[1].revents) {
		s->stopping = true;
		s->end_ms = gy_boot_now_ms() + BOOT_FLUSH_MS;
	}
	if (s->pfds[0].revents)
		boot_accept(s);
}

/* ---- time ---- */

static void boot_name_missing(const struct gy_boot_server *s)
{
	char text[128] = "";
	size_t len = 0;
	uint32_t r;

	for (r = 0; r < s->nranks && len + 16 < sizeof(text); r++)
		if (!s->member[r] || s->member[r]->state != BOOT_WAITING)
			len += (size_t)snprintf(text + len, sizeof(text) - len, " %u", r);
	gy_err("rendezvous: not all of %u ranks came in time; missing:%s%s", s->nranks, text,
	       r < s->nranks ? " ..." : "");
}

/* Ends what is overdue; milliseconds until something else may be. */
static int boot_tick(struct gy_boot_server *s)
{
	const uint64_t now = gy_boot_now_ms();
	uint64_t next = s->end_ms;
	struct boot_conn *c;

	while (!gy_list_empty(&s->strangers)) {	/* in order of deadlines */
		c = gy_list_entry(s->strangers.next, struct boot_conn, link);
		if (c->deadline_ms > now) {
			next = c->deadline_ms < next ? c->deadline_ms : next;
			break;
		}
		gy_boot_drop(c);
	}
	while (s->ntold > s->nranks)	/* they have had time enough to ask */
		gy_boot_drop(gy_list_entry(s->told.next, struct boot_conn, link));
	if (now < s->listen_ms && s->listen_ms < next)
		next = s->listen_ms;
	if (s->nwaiting && s->round_end_ms <= now) {
		boot_name_missing(s);
		gy_boot_fail(s, -ETIMEDOUT);
	} else if (s->nwaiting && s->round_end_ms < next) {
		next = s->round_end_ms;
	}
	if (next <= now)
		return 0;
	return next - now > INT_MAX ? INT_MAX : (int)(next - now);
}

static bool boot_replies_left(const struct gy_boot_server *s)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &s->members)
		if (gy_list_entry(pos, struct boot_conn, link)->state == BOOT_REPLY)
			return true;
	gy_list_for_each(pos, &s->told)
		if (gy_list_entry(pos, struct boot_conn, link)->state == BOOT_REPLY)
			return true;
	return false;
}

int gy_boot_server_run(struct gy_boot_server *s, int timeout_ms)
{
	int wait_ms;

	s->end_ms = timeout_ms < 0 ? UINT64_MAX : gy_boot_now_ms() + (uint64_t)timeout_ms;
	gy_boot_next_generation(s);
	for (;;) {
		wait_ms = boot_tick(s);
		if (s->njoined == s->nranks && s->nmembers == 0)
			return 0;
		if (s->stopping && (!boot_replies_left(s) || gy_boot_now_ms() >= s->end_ms))
			return -ECANCELED;
		if (gy_boot_now_ms() >= s->end_ms) {
			boot_name_missing(s);
			return -ETIMEDOUT;
		}
		boot_serve_once(s, wait_ms);
	}
}

/* ---- open, stop, close ---- */

/*
 * An IP address is bound as it is, and "localhost" to the loopback.  Any other name stands for
 * every address: that of a machine itself often resolves to its loopback (/etc/hosts).
 */
static int boot_bind(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV },
		*ai;
	char *end;
	long n;
	int fd;

	n = strtol(port, &end, 10);
	if (*end || n < 0 || n > 65535)
		return -EINVAL;
	if (strcmp(host, "localhost") == 0)
		return gy_net_listen_loopback((uint16_t)n);
	if (strcmp(host, "*") == 0 || getaddrinfo(host, port, &hints, &ai))
		return gy_net_listen_any((uint16_t)n);
	fd = gy_net_listen(ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);
	return fd;
}

static int boot_listen(struct gy_boot_server *s, const char *addr, char *text, size_t len)
{
	char host[256], port[8];
	int err, n;

	err = gy_host_port(addr, strcspn(addr, ","), host, sizeof(host), port, sizeof(port));
	if (err)
		return err;
	s->listener = boot_bind(host, port);
	if (s->listener < 0)
		return s->listener;
	n = gy_net_port(s->listener);
	if (n < 0)
		return n;
	n = snprintf(text, len, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, n);
	return (size_t)n < len ? 0 : -EINVAL;
}

static int boot_server_init(struct gy_boot_server *s, uint32_t nranks, const uint8_t *key)
{
	const size_t polled = 4 * (size_t)nranks + BOOT_SPARE;

	s->listener = s->stop = -1;
	s->nranks = nranks;
	gy_list_init(&s->strangers);
	gy_list_init(&s->parked);
	gy_list_init(&s->members);
	gy_list_init(&s->told);
	s->max_polled = polled;
	s->keyed = key;
	if (key)
		memcpy(s->key, key, sizeof(s->key));
	else
		gy_hello_random(s->job_key, sizeof(s->job_key));
	s->member = gy_alloc_array(nranks, sizeof(struct boot_conn *));
	s->joined = gy_alloc_array(nranks, sizeof(*s->joined));
	s->pfds = gy_alloc_array(2 + polled, sizeof(*s->pfds));
	s->polled = gy_alloc_array(polled, sizeof(struct boot_conn *));
	if (!s->member || !s->joined || !s->pfds || !s->polled)
		return -ENOMEM;
	s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->stop < 0 ? -errno : 0;
}

int gy_boot_server_open(const char *addr, int nranks, const uint8_t key[GY_KEY_LEN],
			struct gy_boot_server **sp, char *text, size_t len)
{
	struct gy_boot_server *s;
	int err;

	if (nranks < 1 || nranks > BOOT_MAX_RANKS)
		return -EINVAL;
	s = gy_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	err = boot_server_init(s, (uint32_t)nranks, key);
	if (!err)
		err = boot_listen(s, addr, text, len);
	if (err) {
		gy_boot_server_close(s);
		return err;
	}
	*sp = s;
	return 0;
}

void gy_boot_server_stop(struct gy_boot_server *s)
{
	const uint64_t one = 1;

	while (write(s->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void boot_drop_all(struct gy_list *list)
{
	while (!gy_list_empty(list))
		gy_boot_drop(gy_list_entry(list->next, struct boot_conn, link));
}

void gy_boot_server_close(struct gy_boot_server *s)
{
	if (!s)
		return;
	boot_drop_all(&s->strangers);
	boot_drop_all(&s->parked);
	boot_drop_all(&s->members);
	boot_drop_all(&s->told);
	if (s->stop >= 0)
		close(s->stop);
	if (s->listener >= 0)
		close(s->listener);
	gy_free(s->polled);
	gy_free(s->pfds);
	gy_free(s->joined);
	gy_free(s->member);
	gy_free(s->all);
	gy_free(s);
}
