/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_dial.c - the dialler's side: all addresses of a peer, staggered, until one proves itself.
 *
 * Each WIRE_STAGGER_MS, or as soon as one fails, the next address is tried beside those that have
 * not answered yet.  The first whose acceptor proves the job key is committed to: our proof goes
 * out on it and the others are closed.  When both ranks dial each other, each accepts the other's
 * connection as long as it has not committed to its own; if both have, the lower rank's counts
 * (wire_judge).
 *
 * A peer that is connected to but does not answer computes or is stopped: that may last; the kernel
 * tells when its host is gone.  Where nobody listens at any address, the process is dead.
 * Locking: driver only.  Upcalls come last: the dial is freed before them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/net.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "lib/wire_priv.h"

#define WIRE_STAGGER_MS 250
#define WIRE_BACKOFF_MS 50		/* before the second round; doubles */
#define WIRE_BACKOFF_MAX_MS 1000
#define WIRE_DEAD_ROUNDS 4		/* without a listener of ours anywhere: 350 ms */
#define WIRE_MAX_DROPS 64		/* connections that ended during the hello */

static const struct wire_blob *wire_dial_peer(const struct wire_dial *d)
{
	return (const struct wire_blob *)&d->w->ctx->job[d->ep->peer->rank].addr;
}

struct wire_dial *wire_dial_find(struct gy_wire *w, const struct gy_ep *ep, unsigned lane)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &w->dials) {
		struct wire_dial *d = gy_list_entry(pos, struct wire_dial, link);

		if (d->ep == ep && d->lane == lane)
			return d;
	}
	return NULL;
}

static void wire_dial_drop_conns(struct wire_dial *d, const struct wire_conn *but)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &d->conns)
		if (!but || pos != &but->link)
			wire_conn_free(gy_list_entry(pos, struct wire_conn, link));
}

void wire_dial_free(struct wire_dial *d)
{
	wire_dial_drop_conns(d, NULL);
	gy_list_del(&d->link);
	gy_free(d);
}

static void wire_dial_fail(struct wire_dial *d, int err, const char *why)
{
	struct gy_ep *ep = d->ep;
	const unsigned lane = d->lane;

	wire_dial_free(d);
	wire_lose(ep, lane, err, why);
}

/* ---- attempts ---- */

/* Nobody listens there, or somebody else than the peer. */
static bool wire_is_refusal(int err)
{
	return err == -ECONNREFUSED || err == -ENOENT || err == -EPROTO || err == -EACCES ||
	       err == -ENXIO;
}

/* An attempt is over; the dial goes on, at once when it was the only one. */
static void wire_attempt_failed(struct wire_conn *c, int err)
{
	struct wire_dial *d = c->dial;
	const uint64_t now = wire_now(d->w);

	if (wire_is_refusal(err))
		d->refused++;
	else if (c->state != WIRE_CONNECTING && !d->no_memory && d->drops++ < WIRE_MAX_DROPS)
		/* It was there, and may be again: say, it was too busy with strangers. */
		d->deadline_ns = now + wire_host_timeout_ns(d->w);
	d->no_memory |= err == -ENOMEM;
	d->err = err;
	d->committed = false;
	wire_conn_free(c);
	wire_dial_step(d, now);
}

static void wire_on_connected(struct wire_conn *c)
{
	const struct gyre_context *ctx = c->w->ctx;
	const struct wire_dial *d = c->dial;
	int err = gy_net_connected(c->pfd.fd);

	if (!err) {
		if (c->kind == GY_WIRE_TCP)
			gy_net_tune(c->pfd.fd, ctx->cfg.host_timeout_ms, true);
		gy_hello_make(&c->hello, ctx->job_key, d->ep->ops->name, (uint32_t)ctx->rank,
			      (uint32_t)d->ep->peer->rank, d->lane);
		err = gy_net_say(c->pfd.fd, &c->hello, sizeof(c->hello));
	}
	if (!err)
		err = gy_poll_mod(&c->w->ctx->poll, &c->pfd, EPOLLIN);
	if (err) {
		wire_attempt_failed(c, err);
		return;
	}
	c->state = WIRE_CHALLENGE;
	c->got = 0;
}

static void wire_on_challenge(struct wire_conn *c)
{
	struct wire_dial *d = c->dial;
	int err = gy_hello_prove(&c->hello, c->w->ctx->job_key, &c->challenge, &c->proof);

	if (!err)
		err = gy_net_say(c->pfd.fd, &c->proof, sizeof(c->proof));
	if (err) {
		wire_attempt_failed(c, err);
		return;
	}
	d->committed = true;
	wire_dial_drop_conns(d, c);
	c->state = WIRE_VERDICT;
	c->got = 0;
}

static void wire_on_verdict(struct wire_conn *c)
{
	const int status = c->verdict.status;

	/* It is dialling us; or has no memory for us, and may have some later. */
	if (status == -EALREADY || status == -ENOMEM)
		wire_attempt_failed(c, status);
	else if (status)
		wire_dial_fail(c->dial, -ESTALE, "it takes no connection from this rank any more");
	else
		wire_offer(c, c->dial->ep);
}

static void wire_dial_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct wire_conn *c = gy_container_of(pfd, struct wire_conn, pfd);
	int r;

	if (c->state == WIRE_CONNECTING) {
		wire_on_connected(c);
		return;
	}
	if (c->state == WIRE_CHALLENGE)
		r = gy_net_read(pfd->fd, &c->challenge, sizeof(c->challenge), &c->got);
	else
		r = gy_net_read(pfd->fd, &c->verdict, sizeof(c->verdict), &c->got);
	if (r < 0)
		wire_attempt_failed(c, r);
	else if (r == 1 && c->state == WIRE_CHALLENGE)
		wire_on_challenge(c);
	else if (r == 1)
		wire_on_verdict(c);
}

static socklen_t wire_dial_sockaddr(const struct wire_dial *d, unsigned i,
				    struct sockaddr_storage *sa)
{
	const struct wire_blob *b = wire_dial_peer(d);
	struct sockaddr_un *un = (struct sockaddr_un *)sa;
	size_t len;

	if (d->kind == GY_WIRE_TCP)
		return gy_ip_sockaddr(&b->ips[i], b->port, sa);
	memset(sa, 0, sizeof(*sa));
	len = strnlen(b->name, sizeof(b->name));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path + 1, b->name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

static unsigned wire_dial_naddrs(const struct wire_dial *d)
{
	return d->kind == GY_WIRE_TCP ? wire_dial_peer(d)->nips : 1;
}

/* Starts the attempt at the next address.  What fails at once is noted: the next step goes on. */
static void wire_dial_next(struct wire_dial *d, uint64_t now_ns)
{
	struct sockaddr_storage sa;
	struct wire_conn *c;
	socklen_t len;
	int fd;

	d->next_ns = now_ns + WIRE_STAGGER_MS * WIRE_NS_PER_MS;
	len = wire_dial_sockaddr(d, d->next++, &sa);
	fd = gy_net_dial((struct sockaddr *)&sa, len);
	c = fd >= 0 ? gy_alloc(sizeof(*c)) : NULL;
	if (!c) {
		d->err = fd >= 0 ? -ENOMEM : fd;
		d->refused += wire_is_refusal(d->err);
		if (fd >= 0)
			close(fd);
		return;
	}
	c->w = d->w;
	c->dial = d;
	c->kind = d->kind;
	c->state = WIRE_CONNECTING;
	c->pfd = (struct gy_poll_fd){ .fd = fd, .ready = wire_dial_ready };
	d->err = gy_poll_add(&d->w->ctx->poll, &c->pfd, EPOLLOUT);
	if (d->err) {
		close(fd);
		gy_free(c);
		return;
	}
	gy_list_add_tail(&d->conns, &c->link);
}

/* ---- the dial ---- */

static bool wire_dial_is_connected(const struct wire_dial *d)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &d->conns)
		if (gy_list_entry(pos, struct wire_conn, link)->state != WIRE_CONNECTING)
			return true;
	return false;
}

/* No address is left and no attempt runs: wait, then all again; or it is over. */
static bool wire_dial_round_over(struct wire_dial *d, uint64_t now_ns)
{
	char why[128];

	d->rounds = d->refused == d->next ? d->rounds + 1 : 0;
	if (d->rounds < WIRE_DEAD_ROUNDS && now_ns < d->deadline_ns) {
		d->next = d->refused = 0;
		d->next_ns = now_ns + d->backoff_ms * WIRE_NS_PER_MS;
		d->backoff_ms = d->backoff_ms * 2 < WIRE_BACKOFF_MAX_MS ? d->backoff_ms * 2
									: WIRE_BACKOFF_MAX_MS;
		return false;
	}
	snprintf(why, sizeof(why), "cannot connect to it: %s", strerrordesc_np(-d->err));
	wire_dial_fail(d, d->err, why);
	return true;
}

static void wire_dial_expired(struct wire_dial *d)
{
	if (d->no_memory || d->err == -ENOMEM)
		wire_dial_fail(d, -ENOMEM, WIRE_NO_MEMORY);
	else
		wire_dial_fail(d, d->err && !gy_list_empty(&d->conns) ? d->err : -ETIMEDOUT,
			       "none of its addresses can be connected to in time");
}

bool wire_dial_step(struct wire_dial *d, uint64_t now_ns)
{
	const unsigned n = wire_dial_naddrs(d);

	if (d->committed || (now_ns >= d->deadline_ns && wire_dial_is_connected(d)))
		return false;
	if (now_ns >= d->deadline_ns) {
		wire_dial_expired(d);
		return true;
	}
	/* The first address of a round waits for its time, further ones only beside others. */
	while (d->next < n && (now_ns >= d->next_ns || (d->next > 0 && gy_list_empty(&d->conns))))
		wire_dial_next(d, now_ns);
	if (d->next < n || !gy_list_empty(&d->conns))
		return false;
	return wire_dial_round_over(d, now_ns);
}

uint64_t wire_dial_due(const struct wire_dial *d)
{
	if (d->committed)
		return UINT64_MAX;
	if (wire_dial_is_connected(d))
		return d->next < wire_dial_naddrs(d) ? d->next_ns : UINT64_MAX;
	return d->next < wire_dial_naddrs(d) && d->next_ns < d->deadline_ns ? d->next_ns
									    : d->deadline_ns;
}

int gy_wire_dial(struct gy_wire *w, struct gy_ep *ep, enum gy_wire_kind kind, unsigned lane)
{
	const uint64_t now = wire_now(w);
	struct wire_dial *d;

	if (wire_dial_find(w, ep, lane) || wire_is_offered(w, ep, lane))
		return 0;
	if (gy_wire_reach(w, kind, &w->ctx->job[ep->peer->rank].addr))
		return -EHOSTUNREACH;
	d = gy_alloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->w = w;
	d->ep = ep;
	d->kind = kind;
	d->lane = lane;
	d->backoff_ms = WIRE_BACKOFF_MS;
	d->deadline_ns = now + wire_host_timeout_ns(d->w);
	gy_list_init(&d->conns);
	gy_list_add_tail(&w->dials, &d->link);
	wire_dial_next(d, now);
	return 0;
}

void gy_wire_cancel(struct gy_wire *w, struct gy_ep *ep)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &w->dials) {
		struct wire_dial *d = gy_list_entry(pos, struct wire_dial, link);

		if (d->ep == ep)
			wire_dial_free(d);
	}
	wire_drop_offers(w, ep);
}
