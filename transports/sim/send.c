/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send.c - small messages and grains on their way, and revoking memory.
 * Small messages of a pair arrive in order; grains of one lane too, those of different lanes do
 * not. A grain's bytes are taken at a random moment before gy_sent, which is some time before or
 * after the grain arrives; where more are to follow, it may wait for the last of them, but not when
 * the engine says that they cannot follow.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/engine.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

/* ---- room ---- */

static void send_room(struct sim_ep *ep, uint64_t delay)
{
	struct gy_sim_world *w = ep->room->world;

	if (gy_list_empty(&ep->room->link))
		sim_parcel_fly(ep->room, w->now + delay);
}

void sim_ep_freed(struct sim_ep *from)
{
	if (from->want_room)
		send_room(from, from->how.latency_ns);
}

/* Now and then there is no room although there is. */
static int send_no_room(struct sim_ep *ep, bool full)
{
	ep->want_room = true;
	if (!full)
		send_room(ep, 1 + sim_below(ep->room->world, ep->how.latency_ns + 1));
	return -EAGAIN;
}

/* ---- time ---- */

static uint64_t send_delay(struct gy_sim_world *w, const struct gy_sim_link *how)
{
	uint64_t ns = how->latency_ns + sim_below(w, (uint64_t)how->jitter_ns + 1);

	if (how->loss_ppm && sim_below(w, 1000000) < how->loss_ppm)
		ns += how->rto_ns;
	return ns;
}

static uint64_t send_time(const struct gy_sim_link *how, size_t len)
{
	return how->bytes_per_us ? (uint64_t)len * 1000 / how->bytes_per_us : 0;
}

/* ---- messages ---- */

int sim_ep_msg(struct gy_ep *base, const struct gy_hdr *hdr, const void *body)
{
	struct sim_ep *ep = to_sim_ep(base);
	struct gy_sim_world *w = sim_ep_nic(ep)->rank->world;
	const size_t len = hdr->len;
	struct sim_parcel *p;
	uint64_t at;

	gy_assert_always(len <= gy_body_max(base));
	if (ep->state != SIM_EP_UP)
		return -ENOTCONN;
	if (ep->msgs_out >= ep->how.msg_room)
		return send_no_room(ep, true);
	if (!w->attr.exact && sim_one_in(w, 64))
		return send_no_room(ep, false);
	if (ep->broken) {
		ep->msgs_out++;
		return 0;
	}
	p = sim_parcel_new(ep->other, SIM_MSG, len);
	if (!p)
		return send_no_room(ep, false);
	p->hdr = *hdr;
	if (len && !(w->attr.no_data && hdr->kind == GY_MSG_EAGER))
		memcpy(p->body, body, len);
	ep->msgs_out++;
	at = send_delay(w, &ep->how);
	if (w->attr.exact)
		at = sim_cost_msg(ep, sizeof(*hdr) + len, at);
	else
		at += w->now + send_time(&ep->how, sizeof(*hdr) + len);
	ep->small_at = gy_max(ep->small_at + 1, at);
	sim_parcel_fly(p, ep->small_at);
	return 0;
}

/* ---- grains ---- */

/* When it arrives: takes its turn on a lane, the idlest or any. */
static uint64_t send_lane(struct sim_ep *ep, size_t len)
{
	struct gy_sim_world *w = sim_ep_nic(ep)->rank->world;
	unsigned i, lane = (unsigned)sim_below(w, ep->how.lanes);
	uint64_t at;

	if (sim_one_in(w, 2)) {
		for (i = 0; i < ep->how.lanes; i++) {
			if (ep->lane_free[i] < ep->lane_free[lane])
				lane = i;
		}
	}
	ep->lane_free[lane] = gy_max(ep->lane_free[lane], w->now) + send_time(&ep->how, len);
	at = ep->lane_free[lane] + send_delay(w, &ep->how);
	ep->lane_at[lane] = gy_max(gy_max(ep->lane_at[lane], ep->floor) + 1, at);
	return ep->lane_at[lane];
}

/* NULL and 0: it goes to memory that has been revoked. */
static int send_grain_new(struct sim_ep *ep, const struct gy_grain *grain, struct sim_parcel **pp)
{
	if (ep->base.caps & GY_CAP_WRITE)
		return sim_write_new(ep->other, grain, pp);
	*pp = sim_parcel_new(ep->other, SIM_GRAIN, sim_body_len(ep->other, grain->hdr.len));
	return *pp ? 0 : -ENOMEM;
}

/* Whether gy_sent waits for a grain that comes later.  Out of a slot it may not: see pooled. */
static bool send_holds(struct gy_sim_world *w, const struct gy_grain *grain)
{
	return grain->more && !grain->pooled && sim_one_in(w, 2);
}

/* All that wait. */
static void send_release(struct sim_ep *ep)
{
	const uint64_t now = ep->room->world->now;
	struct gy_list *pos;

	if (ep->state != SIM_EP_UP || ep->broken)
		return;
	gy_list_for_each(pos, &ep->grains) {
		struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, own);

		if (!p->held)
			continue;
		p->held = false;
		sim_parcel_fly(p, gy_max(p->at, now));
	}
}

void sim_nic_pressed(struct sim_nic *nic)
{
	struct gy_list *pos;

	if (!nic->base.pressed)
		return;
	nic->base.pressed = false;
	gy_list_for_each(pos, &nic->eps)
		send_release(gy_list_entry(pos, struct sim_ep, link));
}

/* The source is read at once: nothing may change it until the last byte has left. */
static void send_exactly(struct sim_ep *ep, struct sim_parcel *p, struct sim_parcel *sent)
{
	struct gy_sim_world *w = p->world;
	uint64_t left;

	p->at = sim_cost_grain(ep, sizeof(p->hdr) + p->hdr.len, send_delay(w, &ep->how), &left);
	p->at = gy_max(p->at, ep->floor + 1);
	sim_parcel_read(p);
	sim_parcel_fly(p, p->at);
	sim_parcel_fly(sent, left);
}

/* It is read, arrives and is known to have gone at random moments, or when another has gone. */
static void send_roughly(struct sim_ep *ep, struct sim_parcel *p, struct sim_parcel *sent)
{
	struct gy_sim_world *w = p->world;
	uint64_t read;

	p->at = send_lane(ep, sizeof(p->hdr) + p->hdr.len);
	read = w->now + sim_below(w, p->at - w->now);
	sim_parcel_fly(p, read);
	sent->at = read + 1 + sim_below(w, 2 * (p->at - w->now));
	sent->held = send_holds(w, sent->grain);
	if (!sent->held)
		sim_parcel_fly(sent, sent->at);
}

int sim_ep_bulk(struct gy_ep *base, struct gy_grain *grain)
{
	struct sim_ep *ep = to_sim_ep(base);
	struct gy_sim_world *w = sim_ep_nic(ep)->rank->world;
	struct sim_parcel *sent, *p = NULL;
	int err = 0;

	if (ep->state != SIM_EP_UP)
		return -ENOTCONN;
	gy_assert_always(ep->base.caps & GY_CAP_BULK);
	if (ep->base.caps & GY_CAP_WRITE &&
	    !sim_is_registered(sim_ep_nic(ep), grain->src, grain->hdr.len, true))
		return -EOPNOTSUPP;
	if (ep->grains_out >= ep->how.bulk_room)
		return send_no_room(ep, true);
	if (!w->attr.exact && sim_one_in(w, 64))
		return send_no_room(ep, false);
	sent = sim_parcel_new(ep, SIM_SENT, 0);
	if (sent && !ep->broken)
		err = send_grain_new(ep, grain, &p);
	if (!sent || err) {
		sim_parcel_free(sent);
		sim_parcel_free(p);
		return send_no_room(ep, false);
	}
	sent->grain = grain;
	gy_list_add_tail(&ep->grains, &sent->own);
	if (!grain->more)
		send_release(ep);
	if (!p) {			/* nobody will ever read it */
		if (!ep->broken)
			sim_parcel_fly(sent, w->now + ep->how.latency_ns);
		return 0;
	}
	ep->grains_out++;
	p->hdr = grain->hdr;
	p->grain = grain;
	p->pair = sent;
	sent->pair = p;
	if (w->attr.exact)
		send_exactly(ep, p, sent);
	else
		send_roughly(ep, p, sent);
	return 0;
}

/* ---- revoking ---- */

static void revoke_incoming(struct gy_list *list, const void *ptr, size_t len)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, list) {
		struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, link);

		if ((p->kind != SIM_REST && p->kind != SIM_WRITE) ||
		    !sim_overlap(p->dst, p->hdr.len, ptr, len))
			continue;
		if (p->kind == SIM_WRITE && p->to->other) {
			p->to->other->grains_out--;
			sim_ep_freed(p->to->other);
		}
		sim_parcel_free(p);
	}
}

/* It will not be handed over. */
static void revoke_outgoing(struct sim_ep *ep, struct sim_parcel *p)
{
	ep->grains_out--;
	sim_ep_freed(ep);
	sim_parcel_free(p);
}

/* A grain with its source in the range, or NULL. */
static struct sim_parcel *revoke_find(struct sim_ep *ep, const void *ptr, size_t len)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &ep->grains) {
		struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, own);

		if (sim_overlap(p->grain->src, p->grain->hdr.len, ptr, len))
			return p;
	}
	return NULL;
}

bool sim_ep_sends(struct sim_ep *ep, const void *ptr, size_t len)
{
	return revoke_find(ep, ptr, len) != NULL;
}

void sim_ep_revoke(struct gy_ep *base, const void *ptr, size_t len)
{
	struct sim_ep *ep = to_sim_ep(base);
	struct gy_grain *grain;
	struct sim_parcel *p;

	sim_lend_revoke(ep, ptr, len);
	revoke_incoming(&ep->flying, ptr, len);
	revoke_incoming(&ep->arrived, ptr, len);
	while ((p = revoke_find(ep, ptr, len)) != NULL) {
		if (p->pair && sim_one_in(p->world, 2))
			sim_parcel_read(p->pair);
		else if (p->pair)
			revoke_outgoing(ep, p->pair);
		grain = p->grain;
		sim_parcel_free(p);
		gy_sent(&ep->base, grain);
	}
}
