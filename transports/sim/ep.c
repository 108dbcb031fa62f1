/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ep.c - endpoints: joining two of them, handing over what has arrived, and losing the connection.
 *
 * The caller's SIM_CONNECT arrives at the peer's nic, whose poll joins the two and answers
 * SIM_ACCEPT; when both call at once the first to be seen joins them.  After a break what is sent
 * goes nowhere, and each side is told (SIM_DOWN) when it notices.  Grains stay with a lost
 * endpoint until revoked.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/peer.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

static struct gy_sim_world *ep_world(const struct sim_ep *ep)
{
	return sim_ep_nic(ep)->rank->world;
}

/* ---- connecting ---- */

int sim_ep_open(struct gy_nic *base, struct gy_peer *peer, struct gy_ep **epp)
{
	struct sim_nic *nic = to_sim_nic(base);
	struct sim_ep *ep = gy_alloc(sizeof(*ep));

	if (!ep)
		return -ENOMEM;
	ep->base = (struct gy_ep){ .ops = &gy_sim_ops, .nic = base, .peer = peer };
	ep->peer = peer->rank;
	sim_link_get(nic->rank->world, nic->rank->id, ep->peer, &ep->how);
	ep->base.caps = (ep->how.caps & GY_SIM_BULK ? GY_CAP_BULK : 0) |
			(ep->how.caps & GY_SIM_LEND ? GY_CAP_LEND : 0) |
			(ep->how.caps & GY_SIM_WRITE ? GY_CAP_WRITE : 0);
	ep->base.write_max = ep->how.write_max;
	gy_list_init(&ep->busy_link);
	gy_list_init(&ep->flying);
	gy_list_init(&ep->arrived);
	gy_list_init(&ep->grains);
	gy_list_init(&ep->revoked);
	gy_list_init(&ep->exposures);
	ep->room = sim_parcel_new(ep, SIM_ROOM, 0);
	ep->down = sim_parcel_new(ep, SIM_DOWN, 0);
	if (!ep->room || !ep->down) {
		sim_parcel_free(ep->room);
		sim_parcel_free(ep->down);
		gy_free(ep);
		return -ENOMEM;
	}
	gy_list_add_tail(&nic->eps, &ep->link);
	*epp = &ep->base;
	return 0;
}

int sim_ep_connect(struct gy_ep *base)
{
	struct sim_ep *ep = to_sim_ep(base);

	if (ep->state == SIM_EP_DOWN)
		return -ENOTCONN;
	if (ep->state != SIM_EP_IDLE)
		return 0;
	ep->dial = sim_parcel_new(ep, SIM_CONNECT, 0);
	if (!ep->dial)
		return -ENOMEM;
	ep->dial->from = ep;
	ep->dial->to = NULL;
	ep->state = SIM_EP_DIALING;
	sim_parcel_fly(ep->dial, sim_ep_notice(ep));
	return 0;
}

uint64_t sim_ep_notice(const struct sim_ep *ep)
{
	struct gy_sim_world *w = ep_world(ep);

	return w->now + ep->how.connect_ns / 2 + sim_below(w, (uint64_t)ep->how.connect_ns + 1);
}

static void ep_hang_up(struct sim_ep *ep)
{
	sim_parcel_free(ep->dial);
	ep->dial = NULL;
}

void sim_ep_refuse(struct sim_ep *caller)
{
	ep_hang_up(caller);
	sim_ep_doom(caller, ep_world(caller)->now + caller->how.latency_ns, -ECONNRESET,
		    "connection refused");
}

void sim_ep_called(struct sim_nic *nic, struct sim_parcel *p)
{
	struct gy_sim_world *w = nic->rank->world;
	struct sim_ep *caller = p->from, *ep;
	struct gy_ep *base;
	const int err = gy_peer_ep(nic->base.ctx, sim_ep_nic(caller)->rank->id, "sim", &base);
	struct sim_parcel *accept = sim_parcel_new(caller, SIM_ACCEPT, 0);

	ep = err ? NULL : to_sim_ep(base);
	if (!ep || !accept || ep->state == SIM_EP_DOWN || ep->doomed || ep->other ||
	    sim_is_parted(w, nic->rank->id, ep->peer)) {
		sim_parcel_free(accept);
		sim_ep_refuse(caller);
		return;
	}
	ep_hang_up(caller);
	ep_hang_up(ep);			/* both had called */
	ep->other = caller;
	caller->other = ep;
	ep->base.recalls = caller->base.nic->recalls;
	caller->base.recalls = ep->base.nic->recalls;
	ep->floor = w->now + ep->how.latency_ns + sim_below(w, ep->how.jitter_ns);
	ep->small_at = ep->floor;
	sim_parcel_fly(accept, ep->floor);
	ep->state = SIM_EP_UP;
	gy_ep_up(&ep->base);
}

/* ---- losing it ---- */

void sim_ep_doom(struct sim_ep *ep, uint64_t at, int err, const char *why)
{
	if (ep->doomed)
		return;
	ep->doomed = true;
	ep->down->err = err;
	ep->down->why = why;
	sim_parcel_fly(ep->down, at);
}

/*
 * Drops what is on its way to ep.  Grains that are with ep stay known, and are not said by
 * themselves.
 */
static void ep_drop_incoming(struct sim_ep *ep)
{
	struct gy_list *pos, *after, *list[] = { &ep->flying, &ep->arrived };
	unsigned i;

	for (i = 0; i < GY_ARRAY_SIZE(list); i++) {
		gy_list_for_each_safe(pos, after, list[i]) {
			struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, link);

			if (p->kind == SIM_SENT || p == ep->room || p == ep->down) {
				sim_cancel(p->world, &p->ev);
				sim_parcel_take(p);
			} else {
				sim_parcel_free(p);
			}
		}
	}
}

/* Grains that are with ep and not read yet will not be. */
static void ep_drop_unread(struct sim_ep *ep)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &ep->grains)
		sim_parcel_free(gy_list_entry(pos, struct sim_parcel, own)->pair);
}

/* Of what flies to ep, a random end is lost. */
static void ep_lose_some(struct sim_ep *ep)
{
	struct gy_sim_world *w = ep_world(ep);
	const uint64_t end = w->now + sim_below(w, 2 * (uint64_t)ep->how.latency_ns + 1);
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &ep->flying) {
		struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, link);

		if ((p->kind == SIM_MSG || p->kind == SIM_GRAIN || p->kind == SIM_WRITE) &&
		    p->ev.at > end)
			sim_parcel_free(p);
	}
}

void sim_ep_break(struct sim_ep *ep)
{
	ep->broken = true;
	ep_drop_unread(ep);
	if (ep->other)
		ep_lose_some(ep->other);
}

void sim_ep_close(struct gy_ep *base, bool drain)
{
	struct sim_ep *ep = to_sim_ep(base), *other = ep->other;
	struct sim_nic *nic = sim_ep_nic(ep);
	uint64_t at;

	/* What a device has been given, it sends all the same while its process lives. */
	if (nic->rank->gone || !(drain || ep->base.caps & GY_CAP_WRITE))
		sim_ep_break(ep);
	ep_drop_unread(ep);
	ep_hang_up(ep);
	ep_drop_incoming(ep);
	while (!gy_list_empty(&ep->grains))
		sim_parcel_free(gy_list_entry(ep->grains.next, struct sim_parcel, own));
	if (other) {
		other->other = NULL;
		other->broken = true;
		at = gy_max(ep->small_at, ep_world(ep)->now + ep->how.latency_ns) + 1;
		if (nic->rank->gone)
			at = sim_ep_notice(other);
		sim_ep_doom(other, at, -ECONNRESET, "connection closed by the peer");
	}
	sim_revoked_free(ep);
	sim_exposures_free(ep);
	sim_parcel_free(ep->room);
	sim_parcel_free(ep->down);
	gy_list_del(&ep->busy_link);
	gy_list_del(&ep->link);
	nic->closes++;
	gy_free(ep);
}

static void ep_down(struct sim_ep *ep, int err, const char *why)
{
	struct sim_ep *other = ep->other;

	ep_hang_up(ep);
	ep_drop_incoming(ep);
	ep_drop_unread(ep);
	ep->state = SIM_EP_DOWN;
	ep->doomed = ep->broken = true;
	ep->other = NULL;
	if (other) {
		other->other = NULL;
		other->broken = true;
		sim_ep_doom(other, sim_ep_notice(other), -ECONNRESET, "connection lost");
	}
	gy_ep_down(&ep->base, err, why);
}

/* ---- handing over ---- */

/* The parcel goes first: the rank may be killed while the message is looked at. */
static void ep_deliver_msg(struct sim_ep *ep, struct sim_parcel *p)
{
	const struct gy_hdr hdr = p->hdr;
	_Alignas(8) uint8_t body[GY_BODY_LONG];

	memcpy(body, p->body, hdr.len);
	sim_parcel_free(p);
	if (ep->other) {
		ep->other->msgs_out--;
		sim_ep_freed(ep->other);
	}
	gy_deliver(&ep->base, &hdr, body);
}

static void ep_grain_came(struct sim_ep *ep)
{
	if (!ep->other)
		return;
	ep->other->grains_out--;
	sim_ep_freed(ep->other);
}

static void ep_deliver_write(struct sim_ep *ep, struct sim_parcel *p)
{
	const uint32_t ticket = p->ticket;

	ep_grain_came(ep);
	sim_parcel_free(p);
	gy_written(&ep->base, ticket);
}

/*
 * Where the bytes go is known from now on; they may come later, and until then what lies there is
 * nobody's to rely on.
 */
static void ep_deliver_grain(struct sim_ep *ep, struct sim_parcel *p)
{
	struct gy_sim_world *w = p->world;
	void *dst;
	int err;

	ep_grain_came(ep);
	err = gy_place(&ep->base, &p->hdr, &dst);
	if (err) {
		sim_parcel_free(p);
		ep_down(ep, -EPROTO, "grain without a grant");
	} else if (!dst) {
		sim_parcel_free(p);
	} else if (w->attr.no_data) {
		gy_arrived(&ep->base, &p->hdr);
		sim_parcel_free(p);
	} else if (!w->attr.exact && sim_one_in(w, 3)) {
		memset(dst, 0xa5, p->hdr.len);
		p->kind = SIM_REST;
		p->dst = dst;
		sim_parcel_fly(p, w->now + sim_below(w, 2 * (uint64_t)ep->how.latency_ns));
	} else {
		memcpy(dst, p->body, p->hdr.len);
		gy_arrived(&ep->base, &p->hdr);
		sim_parcel_free(p);
	}
}

/* The source must be as it was when it was read: who changes it earlier has a bug. */
static void ep_deliver_sent(struct sim_ep *ep, struct sim_parcel *p)
{
	struct gy_grain *grain = p->grain;

	if (p->sum && !p->world->attr.liars && p->sum != sim_sum(grain->src, grain->hdr.len)) {
		sim_complain(p->world,
			     "rank %d changed a grain to rank %d before gy_sent: collective %u, "
			     "sequence %u, stream %u, offset %" PRIu64,
			     sim_ep_nic(ep)->rank->id,
			     ep->peer, grain->hdr.coll, grain->hdr.seq, grain->hdr.stream,
			     grain->hdr.off);
		sim_fail(p->world, -EILSEQ);
	}
	sim_parcel_free(p);
	gy_sent(&ep->base, grain);
}

void sim_ep_deliver(struct sim_ep *ep, struct sim_parcel *p)
{
	sim_parcel_take(p);
	if (p->kind == SIM_MSG || p->kind == SIM_GRAIN || p->kind == SIM_WRITE)
		sim_cost_spend(sim_ep_nic(ep)->rank, p->world->attr.overhead_ns);
	switch (p->kind) {
	case SIM_ACCEPT:
		sim_parcel_free(p);
		ep->state = SIM_EP_UP;
		gy_ep_up(&ep->base);
		break;
	case SIM_MSG:
		ep_deliver_msg(ep, p);
		break;
	case SIM_GRAIN:
		ep_deliver_grain(ep, p);
		break;
	case SIM_WRITE:
		ep_deliver_write(ep, p);
		break;
	case SIM_REST:
		memcpy(p->dst, p->body, p->hdr.len);
		gy_arrived(&ep->base, &p->hdr);
		sim_parcel_free(p);
		break;
	case SIM_SENT:
		ep_deliver_sent(ep, p);
		break;
	case SIM_ROOM:
		ep->want_room = false;
		gy_ep_room(&ep->base);
		break;
	default:
		ep_down(ep, p->err, p->why);
	}
}
