/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot.c - a rank's side of the rendezvous: find it, prove the key, exchange blobs.
 * Blocking, for the calling thread; every wait has a deadline.
 * Failure: a rendezvous that is not there yet is tried again until the deadline; one that refuses
 * is an error at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "lib/addrs.h"
#include "lib/alloc.h"
#include "lib/boot_priv.h"
#include "lib/log.h"
#include "lib/net.h"
#include "lib/sys.h"

#define BOOT_CANDIDATES 16	/* addresses tried */
#define BOOT_STAGGER_MS 250	/* between the starts of two */
#define BOOT_ANSWER_MS 10000	/* for a rendezvous to answer a hello, if it is one */
#define BOOT_GRACE_MS 2000	/* beyond the timeout, for the rendezvous to say who is missing */
#define BOOT_SILENT_MS 30000	/* of a host, until the kernel calls it gone */

struct gy_boot {
	int fd, nranks;
	int timeout_ms;
	uint32_t round;
	struct gy_boot_server *server;	/* when this rank serves */
	struct gy_thread *thread;
};

/* An address of the rendezvous. */
struct boot_candidate {
	struct sockaddr_storage sa;
	socklen_t len;
	int fd;			/* while it connects, else -1 */
	int err;		/* of its hello: not to be tried again in this search */
};

struct boot_search {
	struct boot_candidate c[BOOT_CANDIDATES];
	int n, started;
	int err;		/* of the last one that failed */
	uint64_t start_ms;	/* when to start the next */
};

static int boot_ms_until(uint64_t end_ms)
{
	const uint64_t now = gy_boot_now_ms();

	if (end_ms <= now)
		return 0;
	return end_ms - now > INT_MAX ? INT_MAX : (int)(end_ms - now);
}

/* 0: ready; -ETIMEDOUT. */
static int boot_wait(int fd, short events, uint64_t end_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n;

	do {
		n = poll(&pfd, 1, boot_ms_until(end_ms));
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : -ETIMEDOUT;
}

static int boot_read_all(int fd, void *buf, size_t len, uint64_t end_ms)
{
	size_t got = 0;
	int r;

	for (;;) {
		r = gy_net_read(fd, buf, len, &got);
		if (r)
			return r < 0 ? r : 0;
		r = boot_wait(fd, POLLIN, end_ms);
		if (r)
			return r;
	}
}

static int boot_write_all(int fd, const void *buf, size_t len, uint64_t end_ms)
{
	size_t done = 0;
	ssize_t n;
	int err;

	while (done < len) {
		n = send(fd, (const char *)buf + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			err = boot_wait(fd, POLLOUT, end_ms);
			if (err)
				return err;
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* ---- finding it ---- */

static void boot_resolve_one(struct boot_search *s, const char *host, const char *port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICSERV };
	struct addrinfo *list, *ai;

	if (getaddrinfo(host, port, &hints, &list))
		return;			/* DNS may know it later */
	for (ai = list; ai && s->n < BOOT_CANDIDATES; ai = ai->ai_next) {
		memcpy(&s->c[s->n].sa, ai->ai_addr, ai->ai_addrlen);
		s->c[s->n].len = ai->ai_addrlen;
		s->c[s->n].fd = -1;
		s->n++;
	}
	freeaddrinfo(list);
}

/* addr: "host:port,host:port..." */
static int boot_resolve(struct boot_search *s, const char *addr)
{
	char host[256], port[8];
	size_t len;
	int err;

	memset(s, 0, sizeof(*s));
	s->err = -EHOSTUNREACH;
	if (!*addr)
		return -EINVAL;
	for (; *addr; addr += len + (addr[len] == ',')) {
		len = strcspn(addr, ",");
		err = gy_host_port(addr, len, host, sizeof(host), port, sizeof(port));
		if (err)
			return err;
		boot_resolve_one(s, host, port);
	}
	return 0;
}

static void boot_start_next(struct boot_search *s)
{
	struct boot_candidate *c = &s->c[s->started++];

	if (c->err)
		return;
	c->fd = gy_net_dial((struct sockaddr *)&c->sa, c->len);
	if (c->fd < 0)
		s->err = c->fd;
	else
		s->start_ms = gy_boot_now_ms() + BOOT_STAGGER_MS;
}

static int boot_pending(const struct boot_search *s, struct pollfd *pfds, int *index)
{
	int i, n = 0;

	for (i = 0; i < s->started; i++) {
		if (s->c[i].fd < 0)
			continue;
		pfds[n] = (struct pollfd){ .fd = s->c[i].fd, .events = POLLOUT };
		index[n++] = i;
	}
	return n;
}

static void boot_search_stop(struct boot_search *s)
{
	int i;

	for (i = 0; i < s->n; i++) {
		if (s->c[i].fd >= 0)
			close(s->c[i].fd);
		s->c[i].fd = -1;
	}
	s->started = 0;
	s->start_ms = 0;
}

/*
 * Dials the candidates that have not said no, a new one each BOOT_STAGGER_MS or as soon as
 * one fails.  Gives the first that connects and forgets the others; or the last error.
 */
static int boot_connect(struct boot_search *s, uint64_t end_ms, int *which)
{
	struct pollfd pfds[BOOT_CANDIDATES];
	int index[BOOT_CANDIDATES], n, i, fd, err;

	for (;;) {
		n = boot_pending(s, pfds, index);
		while (s->started < s->n && (n == 0 || gy_boot_now_ms() >= s->start_ms)) {
			boot_start_next(s);
			n = boot_pending(s, pfds, index);
		}
		if (n == 0)
			return s->err;
		if (gy_boot_now_ms() >= end_ms)
			return -ETIMEDOUT;
		poll(pfds, (nfds_t)n,
		     boot_ms_until(s->started < s->n && s->start_ms < end_ms ? s->start_ms
									     : end_ms));
		for (i = 0; i < n; i++) {
			if (!pfds[i].revents)
				continue;
			fd = pfds[i].fd;
			s->c[index[i]].fd = -1;
			err = gy_net_connected(fd);
			if (!err) {
				*which = index[i];
				return fd;
			}
			close(fd);
			s->err = err;
			s->start_ms = 0;
		}
	}
}

static int boot_hello(int fd, int rank, int nranks, uint8_t key[GY_KEY_LEN], int have_key,
		      uint64_t end_ms)
{
	static const uint8_t no_key[GY_KEY_LEN];
	const uint64_t answer_ms = gy_boot_now_ms() + BOOT_ANSWER_MS;
	const uint8_t *k = have_key ? key : no_key;
	struct gy_challenge c;
	struct gy_verdict v;
	struct gy_hello h;
	struct gy_proof p;
	int err;

	gy_hello_make(&h, k, GY_BOOT_SERVICE, (uint32_t)rank, (uint32_t)nranks, 0);
	err = boot_write_all(fd, &h, sizeof(h), end_ms);
	if (!err)
		err = boot_read_all(fd, &c, sizeof(c), answer_ms < end_ms ? answer_ms : end_ms);
	if (!err)
		err = gy_hello_prove(&h, k, &c, &p);
	if (!err)
		err = boot_write_all(fd, &p, sizeof(p), end_ms);
	if (!err)
		err = boot_read_all(fd, &v, sizeof(v), end_ms);
	if (err)
		return err;
	if (v.status)
		return v.status < 0 && v.status >= -4095 ? v.status : -EPROTO;
	if (!have_key)
		memcpy(key, v.key, GY_KEY_LEN);
	return 0;
}

/* Whether to give up, rather than to try again later. */
static bool boot_final(int err)
{
	return err == -EPROTO || err == -EACCES || err == -EINVAL || err == -EEXIST ||
	       err == -ENOMEM;
}

/*
 * All candidates in turn, until one says yes: its descriptor.  A connection to the wrong place (an
 * address that means another host there and here) must not hide the right one.  Else the error: one
 * to give up for only when none of them may become better.
 */
static int boot_try(struct boot_search *s, int rank, int nranks, uint8_t key[GY_KEY_LEN],
		    int have_key, uint64_t end_ms)
{
	int fd, err = -EHOSTUNREACH, which = 0, i;

	for (;;) {
		fd = boot_connect(s, end_ms, &which);
		boot_search_stop(s);
		if (fd < 0)
			break;
		gy_net_tune(fd, BOOT_SILENT_MS, false);
		err = boot_hello(fd, rank, nranks, key, have_key, end_ms);
		if (!err)
			return fd;
		close(fd);
		s->c[which].err = err;
	}
	for (i = 0; i < s->n; i++) {
		if (!s->c[i].err)
			return fd;
		if (!boot_final(s->c[i].err))
			err = s->c[i].err;
	}
	return err;
}

static const char *boot_explain(int err)
{
	switch (err) {
	case -EACCES:
		return "the job key (GYRE_JOB_KEY) is another one there";
	case -EPROTO:
		return "what answers there is no rendezvous of this version";
	case -EINVAL:
		return "GYRE_SIZE is another one there";
	case -EEXIST:
		return "this rank has joined already";
	default:
		return strerrordesc_np(-err);
	}
}

static int boot_dial(const char *addr, int rank, int nranks, uint8_t key[GY_KEY_LEN], int have_key,
		     uint64_t end_ms)
{
	struct boot_search s;
	int fd, wait_ms = 10, last = 0;

	for (;;) {
		fd = boot_resolve(&s, addr);
		if (fd) {
			gy_err("GYRE_ROOT: \"%s\" is not host:port", addr);
			return fd;
		}
		fd = boot_try(&s, rank, nranks, key, have_key, end_ms);
		if (fd >= 0)
			return fd;
		if (fd == -ETIMEDOUT && last)
			fd = last;	/* what was wrong while there was time */
		if (boot_final(fd) || boot_ms_until(end_ms) <= wait_ms)
			break;
		last = fd;
		poll(NULL, 0, wait_ms);		/* the rendezvous may be late */
		wait_ms = wait_ms < 500 ? 2 * wait_ms : wait_ms;
	}
	gy_err("rank %d cannot join the job at %s: %s", rank, addr, boot_explain(fd));
	return fd == -EEXIST || fd == -EINVAL ? -EPROTO : fd;
}

/* ---- serving it ---- */

static void boot_thread(void *arg)
{
	struct gy_boot *b = arg;

	gy_boot_server_run(b->server, -1);	/* gy_boot_leave ends it */
}

/* text: where it can be reached from here. */
static int boot_serve(struct gy_boot *b, const char *addr, const uint8_t *key, char *text,
		      size_t len)
{
	int err = gy_boot_server_open(addr, b->nranks, key, &b->server, text, len);

	if (err == -EADDRINUSE || err == -EADDRNOTAVAIL) {
		/* A launcher serves there, here or on another host; if not, joining will say so. */
		snprintf(text, len, "%s", addr);
		return 0;
	}
	if (err == -EINVAL) {
		gy_err("GYRE_ROOT: \"%s\" is not host:port", addr);
		return err;
	}
	if (err) {
		gy_err("rank 0 cannot serve the job at %s: %s", addr, strerrordesc_np(-err));
		return err;
	}
	return gy_sys_posix.ops->spawn(&gy_sys_posix, boot_thread, b, &b->thread);
}

/* ---- entry points ---- */

int gy_boot_join(const char *addr, int rank, int nranks, int serve, uint8_t key[GY_KEY_LEN],
		 int have_key, int timeout_ms, struct gy_boot **bp)
{
	const uint64_t end_ms = gy_boot_now_ms() + (uint64_t)timeout_ms;
	struct gy_boot *b;
	char text[300];
	int err = 0;

	if (nranks < 1 || rank < 0 || rank >= nranks)
		return -EINVAL;
	b = gy_alloc(sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->fd = -1;
	b->nranks = nranks;
	b->timeout_ms = timeout_ms;
	if (rank == 0 && serve) {
		err = boot_serve(b, addr, have_key ? key : NULL, text, sizeof(text));
		addr = text;
	}
	if (!err)
		b->fd = boot_dial(addr, rank, nranks, key, have_key, end_ms);
	if (err || b->fd < 0) {
		err = err ? err : b->fd;
		if (b->server)
			gy_boot_server_stop(b->server);
		gy_boot_leave(b);
		return err;
	}
	*bp = b;
	return 0;
}

int gy_boot_allgather(void *boot, const void *in, void *out, size_t len)
{
	struct gy_boot *b = boot;
	const uint64_t end_ms = gy_boot_now_ms() + (uint64_t)b->timeout_ms + BOOT_GRACE_MS;
	struct gy_boot_head head = { .magic = GY_BOOT_MAGIC,
				     .round = b->round,
				     .len = len,
				     .timeout_ms = (uint32_t)b->timeout_ms };
	int err;

	if (len > GY_BOOT_MAX_LEN)
		return -EINVAL;
	err = boot_write_all(b->fd, &head, sizeof(head), end_ms);
	if (!err)
		err = boot_write_all(b->fd, in, len, end_ms);
	if (!err)
		err = boot_read_all(b->fd, &head, sizeof(head), end_ms);
	if (err)
		return err;
	if (head.magic != GY_BOOT_MAGIC || head.round != b->round || head.status < -4095 ||
	    head.status > 0)
		return -EPROTO;
	if (head.status)
		return head.status;
	if (head.len != len * (uint64_t)b->nranks)
		return -EPROTO;
	b->round++;
	return boot_read_all(b->fd, out, head.len, end_ms);
}

/* Rank 0, when it serves, waits until the others have their last replies. */
void gy_boot_leave(struct gy_boot *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	if (b->server)
		gy_boot_server_stop(b->server);
	if (b->thread)
		gy_sys_posix.ops->join(&gy_sys_posix, b->thread);
	gy_boot_server_close(b->server);
	gy_free(b);
}
