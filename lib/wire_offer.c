/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_offer.c - proved connections go to their transports, which may have no memory for one just
 * then: it is offered again every WIRE_OFFER_MS, for the host timeout.
 *
 * The peer takes it for made meanwhile: what it sends waits in the socket, and other lanes that it
 * dials are put off (wire_judge).
 * Locking: driver only.  Upcalls come last.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "lib/wire_priv.h"

#define WIRE_OFFER_MS 50

void wire_lose(struct gy_ep *ep, unsigned lane, int err, const char *why)
{
	if (!lane) {
		gy_ep_down(ep, err, why);
		return;
	}
	/* The transport has other lanes to end, and the peer to let know by that. */
	gy_info("lane %u to rank %d: %s", lane, ep->peer->rank, why);
	ep->ops->accepted(ep, lane, err);
}

bool wire_is_offered(const struct gy_wire *w, const struct gy_ep *ep, unsigned lane)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &w->offers) {
		struct wire_conn *c = gy_list_entry(pos, struct wire_conn, link);

		if (c->ep == ep && c->hello.lane == lane)
			return true;
	}
	return false;
}

/* It is in no list during the upcall, which may close the endpoint and so drop its offers. */
static void offer_now(struct wire_conn *c, uint64_t now_ns)
{
	if (c->ep->ops->accepted(c->ep, c->hello.lane, c->pfd.fd) != -ENOMEM) {
		gy_free(c);
		return;
	}
	c->again_ns = now_ns + WIRE_OFFER_MS * WIRE_NS_PER_MS;
	gy_list_add_tail(&c->w->offers, &c->link);
}

void wire_offer(struct wire_conn *c, struct gy_ep *ep)
{
	struct gy_wire *w = c->w;
	const uint64_t now = wire_now(w);
	struct wire_dial *d;

	gy_poll_del(&w->ctx->poll, &c->pfd);
	if (!c->dial)
		w->nunproved--;
	gy_list_del(&c->link);
	d = wire_dial_find(w, ep, c->hello.lane);
	if (d)
		wire_dial_free(d);
	c->ep = ep;
	c->deadline_ns = now + wire_host_timeout_ns(w);
	offer_now(c, now);
}

static void offer_drop(struct wire_conn *c)
{
	gy_list_del(&c->link);
	close(c->pfd.fd);
	gy_free(c);
}

static void offer_give_up(struct wire_conn *c)
{
	struct gy_ep *ep = c->ep;
	const unsigned lane = c->hello.lane;

	offer_drop(c);
	wire_lose(ep, lane, -ENOMEM, WIRE_NO_MEMORY);
}

uint64_t wire_tick_offers(struct gy_wire *w, uint64_t now_ns)
{
	struct wire_conn *c;
	struct gy_list *l;

	/* What was offered first is due first; what is refused again is not due now. */
	while ((l = gy_list_first(&w->offers))) {
		c = gy_list_entry(l, struct wire_conn, link);
		if (c->again_ns > now_ns)
			return c->again_ns;
		if (now_ns >= c->deadline_ns) {
			offer_give_up(c);
			continue;
		}
		gy_list_del(&c->link);
		offer_now(c, now_ns);
	}
	return UINT64_MAX;
}

void wire_drop_offers(struct gy_wire *w, const struct gy_ep *ep)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &w->offers) {
		struct wire_conn *c = gy_list_entry(pos, struct wire_conn, link);

		if (!ep || c->ep == ep)
			offer_drop(c);
	}
}
