/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nic.c - a simulated context's side of the transport: its endpoints, polling, and the table of
 * ops.  A poll hands over a random number of what has arrived, one at least; what remains makes arm
 * say so.
 * Locking: one thread; upcalls only from poll, progress and revoke of the context they concern.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

#define NIC_BUDGET 8

struct sim_blob {
	uint64_t world;			/* its address: worlds are in one process */
	uint32_t ordinal;
};

struct sim_nic *sim_nic_of(struct gy_sim_world *w, int rank, unsigned ordinal)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &w->ranks[rank].nics) {
		struct sim_nic *nic = gy_list_entry(pos, struct sim_nic, link);

		if (nic->ordinal == ordinal)
			return nic;
	}
	return NULL;
}

static int sim_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	struct gy_sim_rank *rank = ctx->sim;
	struct sim_nic *nic;
	void *recalls;
	int err;

	if (!rank)
		return -EOPNOTSUPP;
	nic = gy_alloc(sizeof(*nic));
	if (!nic)
		return -ENOMEM;
	nic->base.ops = &gy_sim_ops;
	nic->base.ctx = ctx;
	nic->rank = rank;
	nic->ordinal = rank->contexts;
	gy_list_init(&nic->eps);
	gy_list_init(&nic->busy);
	gy_list_init(&nic->calls);
	gy_list_init(&nic->mems);
	gy_list_init(&nic->regions);
	err = sim_mem_alloc(&nic->base, sizeof(*nic->base.recalls), &recalls);
	if (err) {
		gy_free(nic);
		return err;
	}
	nic->base.recalls = recalls;
	gy_list_add_tail(&rank->nics, &nic->link);
	*nicp = &nic->base;
	return 0;
}

static void sim_close(struct gy_nic *base)
{
	struct sim_nic *nic = to_sim_nic(base);

	sim_context_forget(nic->rank, base->ctx);
	if (base->ctx->job == nic->rank->world->job)
		base->ctx->job = NULL;
	while (!gy_list_empty(&nic->calls))
		sim_ep_refuse(gy_list_entry(nic->calls.next, struct sim_parcel, link)->from);
	sim_regions_free(nic);
	sim_mems_bury(nic);
	gy_list_del(&nic->link);
	gy_free(nic);
}

void sim_nics_vanish(struct gy_sim_rank *rank)
{
	while (!gy_list_empty(&rank->nics)) {
		struct sim_nic *nic = gy_list_entry(rank->nics.next, struct sim_nic, link);

		while (!gy_list_empty(&nic->eps))
			sim_ep_close(&gy_list_entry(nic->eps.next, struct sim_ep, link)->base,
				     false);
		sim_close(&nic->base);
	}
}

void sim_nics_cut(struct gy_sim_rank *rank, int peer)
{
	struct gy_list *pos, *eps;

	gy_list_for_each(pos, &rank->nics) {
		gy_list_for_each(eps, &gy_list_entry(pos, struct sim_nic, link)->eps) {
			struct sim_ep *ep = gy_list_entry(eps, struct sim_ep, link);

			if (ep->peer != peer)
				continue;
			sim_ep_break(ep);
			sim_ep_doom(ep, sim_ep_notice(ep), -ECONNRESET, "connection lost");
		}
	}
}

static int sim_describe(struct gy_nic *base, void *blob, size_t size)
{
	const struct sim_nic *nic = to_sim_nic(base);
	struct sim_blob b;

	memset(&b, 0, sizeof(b));
	b.world = (uintptr_t)nic->rank->world;
	b.ordinal = nic->ordinal;
	gy_assert(size >= sizeof(b));
	memcpy(blob, &b, sizeof(b));
	return sizeof(b);
}

static int sim_reach(struct gy_nic *base, int rank, const void *blob, size_t len)
{
	const struct sim_nic *nic = to_sim_nic(base);
	struct sim_blob b;

	if (len != sizeof(b))
		return -EHOSTUNREACH;
	memcpy(&b, blob, sizeof(b));
	return b.world == (uintptr_t)nic->rank->world && b.ordinal == nic->ordinal ? 0
										   : -EHOSTUNREACH;
}

/* ---- polling ---- */

void sim_nic_arrived(struct sim_nic *nic)
{
	if (nic->armed)
		sim_ring(nic->rank, nic->base.ctx);
	if (nic->rank->world->attr.exact)
		sim_wake_yielding(nic->rank);
}

static int nic_budget(struct sim_nic *nic)
{
	struct gy_sim_world *w = nic->rank->world;

	return w->attr.exact ? INT_MAX : 1 + (int)sim_below(w, NIC_BUDGET);
}

static int sim_poll(struct gy_ep *base)
{
	struct sim_ep *ep = to_sim_ep(base);
	struct sim_nic *nic = sim_ep_nic(ep);
	const unsigned closes = nic->closes;
	int n = 0, budget;

	if (nic->rank->world->attr.exact)
		sim_cost_pay(nic);
	sim_nic_pressed(nic);
	if (gy_list_empty(&ep->arrived))
		return 0;
	budget = nic_budget(nic);
	while (n < budget && nic->closes == closes && !gy_list_empty(&ep->arrived)) {
		sim_ep_deliver(ep, gy_list_entry(ep->arrived.next, struct sim_parcel, link));
		n++;
	}
	return n;
}

static int sim_progress(struct gy_nic *base)
{
	struct sim_nic *nic = to_sim_nic(base);
	int n = 0, budget;

	if (nic->rank->world->attr.exact)
		sim_cost_pay(nic);
	sim_nic_pressed(nic);
	if (gy_list_empty(&nic->calls) && gy_list_empty(&nic->busy))
		return 0;
	budget = nic_budget(nic);
	for (; n < budget; n++) {
		if (!gy_list_empty(&nic->calls)) {
			sim_ep_called(nic, gy_list_entry(nic->calls.next, struct sim_parcel, link));
		} else if (!gy_list_empty(&nic->busy)) {
			struct sim_ep *ep = gy_list_entry(nic->busy.next, struct sim_ep, busy_link);

			gy_list_del(&ep->busy_link);	/* each in its turn */
			gy_list_add_tail(&nic->busy, &ep->busy_link);
			sim_ep_deliver(ep,
				       gy_list_entry(ep->arrived.next, struct sim_parcel, link));
		} else {
			break;
		}
	}
	return n;
}

static int sim_arm(struct gy_nic *base)
{
	struct sim_nic *nic = to_sim_nic(base);

	nic->armed = true;
	sim_nic_pressed(nic);
	return !gy_list_empty(&nic->calls) || !gy_list_empty(&nic->busy);
}

static void sim_disarm(struct gy_nic *base)
{
	to_sim_nic(base)->armed = false;
}

/* ---- links ---- */

/* Any link that a pair could have, the same for the same seed and pair. */
static void sim_link_random(uint64_t seed, int a, int b, struct gy_sim_link *link)
{
	static const unsigned caps[] = {
		GY_SIM_BULK,
		GY_SIM_BULK | GY_SIM_WRITE,
		GY_SIM_BULK | GY_SIM_WRITE,
		GY_SIM_LEND | GY_SIM_MAP,
		GY_SIM_LEND | GY_SIM_LEND_HEAP,
		GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP,
		GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP | GY_SIM_MAP_HEAP,
		GY_SIM_BULK | GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP,
		GY_SIM_BULK | GY_SIM_LEND,
	};
	uint64_t s = seed ^ ((uint64_t)a << 32 | (uint64_t)b);

	sim_next(&s);
	link->caps = caps[sim_next(&s) % GY_ARRAY_SIZE(caps)];
	link->lanes = 1 + sim_next(&s) % 4;
	link->latency_ns = 100u << sim_next(&s) % 7;
	link->jitter_ns = link->latency_ns * (uint32_t)(sim_next(&s) % 4);
	link->bytes_per_us = 100u << sim_next(&s) % 8;
	link->loss_ppm = sim_next(&s) % 4 ? 0 : 3000;
	link->msg_room = 1 + (sim_next(&s) % 4 ? sim_next(&s) % 64 : 0);
	link->bulk_room = 1 + sim_next(&s) % 16;
	link->write_max = 48u << sim_next(&s) % 5;
}

void sim_link_get(struct gy_sim_world *w, int a, int b, struct gy_sim_link *link)
{
	const struct gy_sim_attr *attr = &w->attr;
	const int lo = a < b ? a : b, hi = a < b ? b : a, node = attr->ranks_per_node;

	*link = attr->link;
	if (attr->random_links)
		sim_link_random(attr->seed, lo, hi, link);
	if (node && lo / node != hi / node) {
		link->caps = GY_SIM_BULK;
		link->latency_ns *= 10;
	}
	if (attr->link_of)
		attr->link_of(attr->link_arg, lo, hi, link);
	gy_assert_always(link->caps & (GY_SIM_BULK | GY_SIM_LEND));
	gy_assert_always(link->lanes >= 1 && link->lanes <= SIM_MAX_LANES);
	gy_assert_always(link->msg_room && link->bulk_room);
	gy_assert_always(link->write_max >= 2 || !(link->caps & GY_SIM_WRITE));
}

const struct gy_transport_ops gy_sim_ops = {
	.name = "sim",
	.open = sim_open,
	.close = sim_close,
	.describe = sim_describe,
	.reach = sim_reach,
	.ep_open = sim_ep_open,
	.connect = sim_ep_connect,
	.accepted = gy_no_accepted,
	.ep_close = sim_ep_close,
	.msg = sim_ep_msg,
	.bulk = sim_ep_bulk,
	.expose = sim_ep_expose,
	.lend = sim_ep_lend,
	.map = sim_ep_map,
	.pull = sim_ep_pull,
	.revoke = sim_ep_revoke,
	.poll = sim_poll,
	.progress = sim_progress,
	.arm = sim_arm,
	.disarm = sim_disarm,
	.mem_alloc = sim_mem_alloc,
	.mem_free = sim_mem_free,
	.mem_register = sim_mem_register,
	.mem_unregister = sim_mem_unregister,
};
