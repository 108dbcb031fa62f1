/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.c - listeners, the acceptor's side of the hello, address blobs.
 *
 * At most WIRE_MAX_UNPROVED strangers are kept, each for a limited time.  When one too many comes
 * the oldest goes, those that have not even said a valid hello first: a flood of garbage costs
 * honest peers another try, not the connection.
 * Locking: driver only, but for open and close.
 */
#define _GNU_SOURCE
#include "lib/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/net.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "lib/wire_priv.h"

#define WIRE_MAX_UNPROVED 64
#define WIRE_ACCEPT_BATCH 16	/* connections taken at a time: fairness to everything else */
#define WIRE_PAUSE_MS 50	/* of a listener when descriptors are short */
#define WIRE_BLOB_VERSION 1

static void wire_conn_ready(struct gy_poll_fd *pfd, uint32_t events);

uint64_t wire_now(const struct gy_wire *w)
{
	return w->ctx->sys->ops->now_ns(w->ctx->sys);
}

void wire_conn_free(struct wire_conn *c)
{
	gy_poll_del(&c->w->ctx->poll, &c->pfd);
	close(c->pfd.fd);
	if (!c->dial)
		c->w->nunproved--;
	gy_list_del(&c->link);
	gy_free(c);
}

/* ---- acceptor ---- */

/* For the next message of a stranger. */
static uint64_t wire_deadline(const struct gy_wire *w)
{
	return wire_now(w) + (uint64_t)w->ctx->cfg.host_timeout_ms * WIRE_NS_PER_MS / 2;
}

static void wire_reject(struct wire_conn *c, const char *why)
{
	struct gy_wire *w = c->w;

	if (w->rejected++ == 0)		/* further ones are counted only: they may be a flood */
		gy_warn("a connection to this rank was rejected: %s", why);
	wire_conn_free(c);
}

/* What is wrong with a hello, as far as one can tell without proof. */
static int wire_check_hello(const struct wire_conn *c)
{
	const struct gyre_context *ctx = c->w->ctx;
	const struct gy_hello *h = &c->hello;
	int err = gy_hello_check(h, ctx->job_key);

	if (err)
		return err;
	if (h->to != (uint32_t)ctx->rank)
		return -ENXIO;	/* an address that means another rank where it was dialled */
	if (h->from >= (uint32_t)ctx->nranks || h->from == h->to || !h->service[0] ||
	    (h->lane > 0 && h->from > h->to))
		return -EPROTO;
	return 0;
}

static void wire_on_hello(struct wire_conn *c)
{
	struct gy_wire *w = c->w;
	int err = wire_check_hello(c);

	gy_hello_answer(&c->hello, w->ctx->job_key, err, &c->challenge);
	if (gy_net_say(c->pfd.fd, &c->challenge, sizeof(c->challenge)) && !err)
		err = -ECONNRESET;
	/* a rank that we dialled meanwhile: it has given up this one */
	if (err == -ECONNRESET) {
		wire_conn_free(c);
		return;
	}
	if (err) {
		wire_reject(c, err == -EACCES ? "it belongs to another job"
					      : "what it said is no hello of this version");
		return;
	}
	c->state = WIRE_PROOF;
	c->got = 0;
	c->deadline_ns = wire_deadline(w);
	gy_list_del(&c->link);
	gy_list_add_tail(&w->greeted, &c->link);
}

/*
 * What a rank that has proved itself gets: 0, -EALREADY: our dial of it counts, as both have
 * gone so far and ours is the lower rank; -ENOMEM: not now; -ESTALE.
 */
static int wire_judge(struct wire_conn *c, struct gy_ep *ep)
{
	const struct gyre_context *ctx = c->w->ctx;
	const struct wire_dial *d;

	const bool offered = wire_is_offered(c->w, ep, 0);

	if (ep->peer->state == GY_PEER_LOST)
		return -ESTALE;
	if (c->hello.lane > 0)		/* the transport knows its lanes, when it has the first */
		return offered ? -ENOMEM : 0;
	if (ep->peer->state == GY_PEER_UP || offered)
		return -ESTALE;
	d = wire_dial_find(c->w, ep, 0);
	return d && d->committed && (uint32_t)ctx->rank < c->hello.from ? -EALREADY : 0;
}

static void wire_on_proof(struct wire_conn *c)
{
	struct gy_verdict v = { .status = 0 };
	struct gy_ep *ep = NULL;

	if (gy_hello_proved(&c->hello, c->w->ctx->job_key, &c->challenge, &c->proof)) {
		wire_reject(c, "it did not prove the job key");
		return;
	}
	v.status = gy_peer_ep(c->w->ctx, (int)c->hello.from, c->hello.service, &ep);
	if (!v.status)
		v.status = wire_judge(c, ep);
	if (gy_net_say(c->pfd.fd, &v, sizeof(v)) || v.status)
		wire_conn_free(c);
	else
		wire_offer(c, ep);
}

static void wire_conn_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct wire_conn *c = gy_container_of(pfd, struct wire_conn, pfd);
	int r;

	if (c->state == WIRE_HELLO)
		r = gy_net_read(pfd->fd, &c->hello, sizeof(c->hello), &c->got);
	else
		r = gy_net_read(pfd->fd, &c->proof, sizeof(c->proof), &c->got);
	if (r < 0)
		wire_conn_free(c);
	else if (r == 1 && c->state == WIRE_HELLO)
		wire_on_hello(c);
	else if (r == 1)
		wire_on_proof(c);
}

static struct wire_conn *wire_oldest(struct gy_wire *w)
{
	struct gy_list *l = gy_list_first(&w->fresh);

	if (!l)
		l = gy_list_first(&w->greeted);
	return l ? gy_list_entry(l, struct wire_conn, link) : NULL;
}

static void wire_admit(struct wire_listener *l, int fd)
{
	struct gy_wire *w = l->w;
	struct wire_conn *c;

	if (w->nunproved == WIRE_MAX_UNPROVED)
		wire_reject(wire_oldest(w), "too many at once that prove nothing");
	c = gy_alloc(sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	if (l->kind == GY_WIRE_TCP)
		gy_net_tune(fd, w->ctx->cfg.host_timeout_ms, true);
	c->w = w;
	c->kind = l->kind;
	c->state = WIRE_HELLO;
	c->deadline_ns = wire_deadline(w);
	c->pfd = (struct gy_poll_fd){ .fd = fd, .ready = wire_conn_ready };
	if (gy_poll_add(&w->ctx->poll, &c->pfd, EPOLLIN)) {
		close(fd);
		gy_free(c);
		return;
	}
	gy_list_add_tail(&w->fresh, &c->link);
	w->nunproved++;
}

static void wire_listener_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct wire_listener *l = gy_container_of(pfd, struct wire_listener, pfd);
	struct wire_conn *c;
	int i, fd;

	for (i = 0; i < WIRE_ACCEPT_BATCH; i++) {
		fd = gy_net_accept(pfd->fd);
		if (fd == -EAGAIN)
			return;
		if (fd < 0) {		/* -EMFILE, -ENFILE, -ENOMEM: the poll set would spin */
			c = wire_oldest(l->w);
			if (c)
				wire_reject(c, "descriptors or memory are short");
			l->paused = gy_poll_mod(&l->w->ctx->poll, pfd, 0) == 0;
			return;
		}
		wire_admit(l, fd);
	}
}

/* ---- time ---- */

/* Ends overdue strangers; when the next one is due. */
static uint64_t wire_tick_unproved(struct gy_list *list, uint64_t now_ns)
{
	struct wire_conn *c;
	struct gy_list *l;

	while ((l = gy_list_first(list))) {
		c = gy_list_entry(l, struct wire_conn, link);
		if (c->deadline_ns > now_ns)
			return c->deadline_ns;
		/* It may have answered in time, and we have not looked. */
		c->deadline_ns = UINT64_MAX;
		wire_conn_ready(&c->pfd, 0);
		l = gy_list_first(list);
		if (l == &c->link && c->deadline_ns == UINT64_MAX)
			wire_conn_free(c);
	}
	return UINT64_MAX;
}

static uint64_t wire_tick_dials(struct gy_wire *w, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX, next;
	struct gy_list *pos;
	struct wire_dial *d;

again:
	gy_list_for_each(pos, &w->dials) {
		d = gy_list_entry(pos, struct wire_dial, link);
		if (wire_dial_step(d, now_ns))
			goto again;	/* the upcall may have changed the list */
		next = wire_dial_due(d);
		due = next < due ? next : due;
	}
	return due;
}

static void wire_listener_resume(struct wire_listener *l)
{
	if (l->paused)
		l->paused = gy_poll_mod(&l->w->ctx->poll, &l->pfd, EPOLLIN) != 0;
}

int gy_wire_tick(struct gy_wire *w, uint64_t now_ns)
{
	uint64_t due = wire_tick_dials(w, now_ns), next;

	next = wire_tick_offers(w, now_ns);
	due = next < due ? next : due;
	next = wire_tick_unproved(&w->fresh, now_ns);
	due = next < due ? next : due;
	next = wire_tick_unproved(&w->greeted, now_ns);
	due = next < due ? next : due;
	wire_listener_resume(&w->tcp);
	wire_listener_resume(&w->unx);
	if (due == UINT64_MAX)
		return w->tcp.paused || w->unx.paused ? WIRE_PAUSE_MS : -1;
	due = due > now_ns ? (due - now_ns) / WIRE_NS_PER_MS + 1 : 0;
	return due > INT_MAX ? INT_MAX : (int)due;
}

/* ---- addresses ---- */

/* Two ranks reach each other by loopback and abstract sockets when both of these are equal. */
static void wire_node(uint8_t node[24])
{
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[16 * 2 + 4 + 1] = "", *p = text;
	struct stat st;
	uint64_t net;
	unsigned byte;
	int i;

	memset(node, 0, 24);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	for (i = 0; i < 16 && sscanf(p, "%2x", &byte) == 1; i++) {
		node[i] = (uint8_t)byte;
		p += p[2] == '-' ? 3 : 2;
	}
	if (stat("/proc/self/ns/net", &st) == 0) {
		net = st.st_ino;
		memcpy(node + 16, &net, sizeof(net));
	}
}

static void wire_loopback(struct wire_blob *b, bool in6)
{
	b->loopback = 1;
	b->nips = 1;
	b->ips[0].family = in6 ? 6 : 4;
	if (in6)
		b->ips[0].bytes[15] = 1;
	else
		memcpy(b->ips[0].bytes, &(uint32_t){ htonl(INADDR_LOOPBACK) }, 4);
}

static int wire_add_addresses(struct gy_wire *w, bool in6)
{
	struct gy_ip ips[WIRE_IPS];
	int n = gy_ips_local(w->ctx->cfg.tcp_interfaces, ips, WIRE_IPS), i;

	if (n < 0)
		return n;
	for (i = 0; i < n; i++)
		if (in6 || ips[i].family == 4)
			w->self.ips[w->self.nips++] = ips[i];
	return w->self.nips ? 0 : -EADDRNOTAVAIL;
}

static int wire_listen_tcp(struct gy_wire *w, bool all_local)
{
	const int fd = all_local ? gy_net_listen_loopback(0) : gy_net_listen_any(0);
	socklen_t len = sizeof(int);
	int port, domain = 0;

	if (fd < 0)
		return fd;
	w->tcp.pfd.fd = fd;
	port = gy_net_port(fd);
	if (port < 0)
		return port;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		return -errno;
	w->self.port = (uint16_t)port;
	if (!all_local)
		return wire_add_addresses(w, domain == AF_INET6);
	/* Not needed here; a setting that is right for no machine is told of on this one too. */
	if (w->ctx->cfg.tcp_interfaces[0]) {
		struct gy_ip ip;
		int n = gy_ips_local(w->ctx->cfg.tcp_interfaces, &ip, 1);

		if (n < 0)
			return n;
	}
	wire_loopback(&w->self, domain == AF_INET6);
	return 0;
}

static int wire_listen_unix(struct gy_wire *w)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint8_t id[8];
	int fd, i, n;

	gy_hello_random(id, sizeof(id));
	n = snprintf(w->self.name, sizeof(w->self.name), "gyre-");
	for (i = 0; i < (int)sizeof(id); i++)
		n += snprintf(w->self.name + n, sizeof(w->self.name) - (size_t)n, "%02x", id[i]);
	memcpy(sa.sun_path + 1, w->self.name, (size_t)n);	/* abstract: after a zero byte */
	fd = gy_net_listen((struct sockaddr *)&sa,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n));
	if (fd < 0)
		return fd;
	w->unx.pfd.fd = fd;
	return 0;
}

int gy_wire_reach(const struct gy_wire *w, enum gy_wire_kind kind, const struct gy_wire_addr *addr)
{
	const struct wire_blob *b = (const struct wire_blob *)addr;
	const bool here = memcmp(b->node, w->self.node, sizeof(b->node)) == 0;

	if (b->version != WIRE_BLOB_VERSION || b->nips > WIRE_IPS)
		return -EHOSTUNREACH;
	if (kind == GY_WIRE_UNIX)
		return here && b->name[0] ? 0 : -EHOSTUNREACH;
	return b->nips && b->port && (here || !b->loopback) ? 0 : -EHOSTUNREACH;
}

/* ---- open and close ---- */

static void wire_listener_init(struct wire_listener *l, struct gy_wire *w, enum gy_wire_kind kind)
{
	l->w = w;
	l->kind = kind;
	l->pfd = (struct gy_poll_fd){ .fd = -1, .ready = wire_listener_ready };
}

int gy_wire_open(struct gyre_context *ctx, bool all_local, struct gy_wire **wirep,
		 struct gy_wire_addr *addr)
{
	struct gy_wire *w = gy_alloc(sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->ctx = ctx;
	wire_listener_init(&w->tcp, w, GY_WIRE_TCP);
	wire_listener_init(&w->unx, w, GY_WIRE_UNIX);
	gy_list_init(&w->fresh);
	gy_list_init(&w->greeted);
	gy_list_init(&w->dials);
	gy_list_init(&w->offers);
	w->self.version = WIRE_BLOB_VERSION;
	wire_node(w->self.node);
	err = wire_listen_tcp(w, all_local);
	if (!err)
		err = wire_listen_unix(w);
	if (!err)
		err = gy_poll_add(&ctx->poll, &w->tcp.pfd, EPOLLIN);
	if (!err)
		err = gy_poll_add(&ctx->poll, &w->unx.pfd, EPOLLIN);
	if (err) {
		gy_err("cannot listen for other ranks: %s", strerrordesc_np(-err));
		gy_wire_close(w);
		return err;
	}
	memset(addr, 0, sizeof(*addr));
	memcpy(addr, &w->self, sizeof(w->self));
	*wirep = w;
	return 0;
}

static void wire_listener_close(struct wire_listener *l)
{
	if (l->pfd.fd < 0)
		return;
	gy_poll_del(&l->w->ctx->poll, &l->pfd);
	close(l->pfd.fd);
}

void gy_wire_close(struct gy_wire *w)
{
	struct wire_conn *c;

	if (!w)
		return;
	while (!gy_list_empty(&w->dials))
		wire_dial_free(gy_list_entry(w->dials.next, struct wire_dial, link));
	wire_drop_offers(w, NULL);
	while ((c = wire_oldest(w)))
		wire_conn_free(c);
	wire_listener_close(&w->tcp);
	wire_listener_close(&w->unx);
	if (w->rejected)
		gy_info("%llu connections were rejected", (unsigned long long)w->rejected);
	gy_free(w);
}
