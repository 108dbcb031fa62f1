/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write.c - writing into a peer's memory, and what may be written and sent from: memory that the
 * nic was told of (mem_register).
 *
 *   receiver: expose(memory) -> remote		sender: bulk(grain, to remote, ticket)
 *	bytes land, some earlier than others, while the receiver looks elsewhere
 *	poll: gy_written(ticket)
 *
 * Who breaks the rules ends the run (attr.liars: the connection): a grain outside of what was
 * exposed, or where one was written already, more grains than the receiver said it has room for
 * (write_max), a ticket that is under way already, bytes that land in memory that is no longer
 * registered, memory that is freed while it is.  What would land in memory that was revoked is
 * dropped, with its ticket: the sender cannot know yet.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/alloc.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

struct sim_region {
	struct gy_list link;		/* struct sim_nic.regions */
	void *ptr;
	size_t len;
};

#define SPANS 64		/* of an exposure, apart from each other: more than a window */

/* What an endpoint's peer may write.  Kept until all of it is written. */
struct sim_exposure {
	struct gy_list link;		/* struct sim_ep.exposures */
	uint64_t id;
	void *ptr;
	size_t len;
	size_t sent, landed;		/* bytes so far */
	/* which bytes were sent: no two spans touch */
	struct {
		size_t from, to;
	} span[SPANS];
	unsigned nspans;
};

/* ---- memory that the nic was told of ---- */

static gy_cold void write_fault(const struct sim_nic *nic, int err, const char *what, int peer)
{
	struct gy_sim_world *w = nic->rank->world;

	sim_complain(w, "rank %d: %s (rank %d)", nic->rank->id, what, peer);
	sim_fail(w, err);
}

static struct sim_region *write_region(const struct sim_nic *nic, const void *ptr, size_t len,
				       bool whole)
{
	const char *at = ptr;
	struct gy_list *pos;

	gy_list_for_each(pos, &nic->regions) {
		struct sim_region *r = gy_list_entry(pos, struct sim_region, link);
		const char *start = r->ptr;

		if (whole ? at >= start && at + len <= start + r->len
			  : sim_overlap(r->ptr, r->len, ptr, len))
			return r;
	}
	return NULL;
}

int sim_mem_register(struct gy_nic *base, void *ptr, size_t len)
{
	struct sim_nic *nic = to_sim_nic(base);
	struct sim_region *r = gy_alloc(sizeof(*r));

	if (!r)
		return -ENOMEM;
	if (write_region(nic, ptr, len, false))
		write_fault(nic, -EEXIST, "registers memory twice", nic->rank->id);
	r->ptr = ptr;
	r->len = len;
	gy_list_add_tail(&nic->regions, &r->link);
	return 0;
}

void sim_mem_unregister(struct gy_nic *base, void *ptr, size_t len)
{
	struct sim_nic *nic = to_sim_nic(base);
	struct sim_region *r = write_region(nic, ptr, len, true);
	struct gy_list *pos;

	if (!r || r->ptr != ptr || r->len != len) {
		write_fault(nic, -EINVAL, "unregisters memory that is not registered",
			    nic->rank->id);
		return;
	}
	gy_list_for_each(pos, &nic->eps) {
		struct sim_ep *ep = gy_list_entry(pos, struct sim_ep, link);

		if (ep->base.caps & GY_CAP_WRITE && sim_ep_sends(ep, ptr, len))
			write_fault(nic, -EBUSY, "unregisters memory that is being sent", ep->peer);
	}
	gy_list_del(&r->link);
	gy_free(r);
}

bool sim_is_registered(const struct sim_nic *nic, const void *ptr, size_t len, bool whole)
{
	return write_region(nic, ptr, len, whole) != NULL;
}

void sim_regions_free(struct sim_nic *nic)
{
	while (!gy_list_empty(&nic->regions))
		gy_free(gy_list_entry(gy_list_pop(&nic->regions), struct sim_region, link));
}

/* ---- what a peer may write ---- */

/* What lies there has been written to the last byte that was granted, for all we can know. */
static void write_forget_older(struct sim_ep *ep, const void *ptr, size_t len)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &ep->exposures) {
		struct sim_exposure *x = gy_list_entry(pos, struct sim_exposure, link);

		if (x->ptr != ptr || x->len != len || !x->sent || x->sent != x->landed)
			continue;
		gy_list_del(&x->link);
		gy_free(x);
	}
}

int sim_ep_expose(struct gy_ep *base, void *ptr, size_t len, struct gy_remote *remote)
{
	struct sim_ep *ep = to_sim_ep(base);
	struct sim_exposure *x;

	gy_assert_always(ep->base.caps & GY_CAP_WRITE);
	if (ep->state != SIM_EP_UP)
		return -ENOTCONN;
	if (!write_region(sim_ep_nic(ep), ptr, len, true))
		return -EOPNOTSUPP;
	write_forget_older(ep, ptr, len);
	x = gy_alloc(sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->id = ep->lends++;
	x->ptr = ptr;
	x->len = len;
	gy_list_add_tail(&ep->exposures, &x->link);
	*remote = (struct gy_remote){ .w = { (uintptr_t)ptr, len, x->id } };
	return 0;
}

void sim_exposures_free(struct sim_ep *ep)
{
	while (!gy_list_empty(&ep->exposures))
		gy_free(gy_list_entry(gy_list_pop(&ep->exposures), struct sim_exposure, link));
}

static struct sim_exposure *write_exposure(const struct sim_ep *owner, uint64_t id)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &owner->exposures) {
		struct sim_exposure *x = gy_list_entry(pos, struct sim_exposure, link);

		if (x->id == id)
			return x;
	}
	return NULL;
}

/* ---- a grain on its way to owner ---- */

static bool write_is_under_way(const struct sim_ep *owner, uint32_t ticket)
{
	const struct gy_list *pos, *list[] = { &owner->flying, &owner->arrived };
	unsigned i;

	for (i = 0; i < GY_ARRAY_SIZE(list); i++) {
		gy_list_for_each(pos, list[i]) {
			const struct sim_parcel *p = gy_list_entry(pos, struct sim_parcel, link);

			if (p->kind == SIM_WRITE && p->ticket == ticket)
				return true;
		}
	}
	return false;
}

/* False: some of these bytes were sent before. */
static bool write_mark(struct sim_exposure *x, size_t from, size_t to)
{
	unsigned i;

	for (i = 0; i < x->nspans; i++) {
		if (from < x->span[i].to && x->span[i].from < to)
			return false;
	}
	for (i = 0; i < x->nspans; i++) {
		if (x->span[i].to != from && x->span[i].from != to)
			continue;
		from = gy_min(from, x->span[i].from);
		to = gy_max(to, x->span[i].to);
		x->span[i--] = x->span[--x->nspans];
	}
	if (x->nspans < SPANS) {	/* else that byte may be written twice unnoticed */
		x->span[x->nspans].from = from;
		x->span[x->nspans++].to = to;
	}
	return true;
}

/* Why this grain breaks the rules, or NULL; *is_void: its memory has been revoked. */
static const char *write_check(struct sim_ep *owner, const struct gy_grain *g,
			       struct sim_exposure **xp, bool *is_void)
{
	const size_t len = g->hdr.len;
	struct sim_exposure *x = *xp = write_exposure(owner, g->to.w[2]);

	*is_void = g->to.w[2] < owner->lends && g->to_off <= g->to.w[1] &&
		   sim_is_revoked(owner, (char *)(uintptr_t)g->to.w[0] + g->to_off, len,
				  g->to.w[2]);
	if (*is_void)
		return NULL;
	if (!x || x->ptr != (void *)(uintptr_t)g->to.w[0] || x->len != g->to.w[1])
		return "writes where nothing is exposed";
	if (g->to_off > x->len || len > x->len - g->to_off)
		return "writes beyond what is exposed";
	if (owner->writes_in >= owner->base.write_max)
		return "has more grains under way than the receiver has room for";
	if (write_is_under_way(owner, g->ticket))
		return "sends a ticket twice";
	if (!write_mark(x, g->to_off, g->to_off + len))
		return "writes twice to what is exposed once";
	return NULL;
}

static gy_cold void write_refuse(struct sim_ep *owner, const char *why)
{
	const struct sim_nic *nic = sim_ep_nic(owner), *sender = sim_ep_nic(owner->other);

	if (!nic->rank->world->attr.liars) {
		write_fault(sender, -EFAULT, why, nic->rank->id);
		return;
	}
	sim_nics_cut(nic->rank, sender->rank->id);
	sim_nics_cut(sender->rank, nic->rank->id);
}

int sim_write_new(struct sim_ep *owner, const struct gy_grain *g, struct sim_parcel **pp)
{
	struct sim_exposure *x;
	struct sim_parcel *p;
	const char *why;
	bool is_void;

	*pp = NULL;
	p = sim_parcel_new(owner, SIM_WRITE, sim_body_len(owner, g->hdr.len));
	if (!p)
		return -ENOMEM;
	why = write_check(owner, g, &x, &is_void);
	owner->writes_in++;		/* until the parcel is freed */
	if (why || is_void) {
		sim_parcel_free(p);
		if (why)
			write_refuse(owner, why);
		return 0;
	}
	p->ticket = g->ticket;
	p->id = x->id;
	p->dst = (char *)x->ptr + g->to_off;
	x->sent += g->hdr.len;
	*pp = p;
	return 0;
}

void sim_write_land(struct sim_parcel *p, size_t from, size_t to)
{
	struct sim_ep *owner = p->to;
	const struct sim_nic *nic = sim_ep_nic(owner);
	struct sim_exposure *x = write_exposure(owner, p->id);

	if (!x || !write_region(nic, p->dst, p->hdr.len, true)) {
		write_fault(nic, -EFAULT, "is written to where its memory was", owner->peer);
		return;
	}
	if (!p->world->attr.no_data)
		memcpy((char *)p->dst + from, p->body + from, to - from);
	x->landed += to - from;
	p->landed = to;
	if (x->landed != x->len)
		return;
	gy_list_del(&x->link);
	gy_free(x);
}
