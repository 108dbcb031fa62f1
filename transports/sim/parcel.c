/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * parcel.c - things on their way to an endpoint.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

/* A nic that may take the call, or nobody is there. */
static void parcel_call(struct sim_parcel *p)
{
	struct sim_ep *from = p->from;
	struct sim_nic *nic = sim_nic_of(p->world, from->peer, sim_ep_nic(from)->ordinal);

	if (!nic) {
		sim_ep_refuse(from);
		return;
	}
	gy_list_add_tail(&nic->calls, &p->link);
	sim_nic_arrived(nic);
}

void sim_parcel_arrive(struct sim_parcel *p)
{
	struct sim_ep *to = p->to;

	gy_list_del(&p->link);
	gy_list_add_tail(&to->arrived, &p->link);
	if (gy_list_empty(&to->busy_link))
		gy_list_add_tail(&sim_ep_nic(to)->busy, &to->busy_link);
	sim_nic_arrived(sim_ep_nic(to));
}

/* A grain's bytes are read; some may land at once, all have when it arrives. */
static void parcel_leave(struct sim_parcel *p)
{
	struct gy_sim_world *w = p->world;

	sim_parcel_read(p);
	if (p->kind == SIM_GRAIN) {
		sim_at(w, &p->ev, p->at);
		return;
	}
	if (sim_one_in(w, 2))
		sim_write_land(p, 0, sim_below(w, p->hdr.len));
	sim_at(w, &p->ev, w->now + sim_below(w, p->at - w->now + 1));
}

static void parcel_fire(struct sim_event *ev)
{
	struct sim_parcel *p = gy_container_of(ev, struct sim_parcel, ev);

	if (p->kind == SIM_CONNECT) {
		parcel_call(p);
		return;
	}
	if ((p->kind == SIM_GRAIN || p->kind == SIM_WRITE) && p->grain) {
		parcel_leave(p);
		return;
	}
	if (p->kind == SIM_WRITE && p->landed < p->hdr.len) {
		sim_write_land(p, p->landed, p->hdr.len);
		sim_at(p->world, ev, p->at);
		return;
	}
	sim_parcel_arrive(p);
}

struct sim_parcel *sim_parcel_new(struct sim_ep *to, enum sim_kind kind, size_t len)
{
	struct sim_parcel *p = gy_alloc(sizeof(*p) + len);

	if (!p)
		return NULL;
	gy_list_init(&p->link);
	gy_list_init(&p->own);
	p->world = sim_ep_nic(to)->rank->world;
	p->kind = kind;
	p->to = to;
	p->ev.fire = parcel_fire;
	p->ev.tag = UINT64_C(1) << 48 | (uint64_t)kind << 40 |
		    (uint64_t)sim_ep_nic(to)->rank->id << 20 | (uint64_t)to->peer;
	return p;
}

void sim_parcel_take(struct sim_parcel *p)
{
	gy_list_del(&p->link);
	if (p->to && gy_list_empty(&p->to->arrived))
		gy_list_del(&p->to->busy_link);
}

void sim_parcel_free(struct sim_parcel *p)
{
	if (!p)
		return;
	sim_cancel(p->world, &p->ev);
	sim_parcel_take(p);
	gy_list_del(&p->own);
	if (p->kind == SIM_WRITE)
		p->to->writes_in--;
	if (p->pair)
		p->pair->pair = NULL;
	gy_free(p);
}

void sim_parcel_fly(struct sim_parcel *p, uint64_t at)
{
	if (p->kind != SIM_CONNECT)
		gy_list_add_tail(&p->to->flying, &p->link);
	sim_at(p->world, &p->ev, at);
}

size_t sim_body_len(const struct sim_ep *to, size_t len)
{
	return sim_ep_nic(to)->rank->world->attr.no_data ? 0 : len;
}

uint64_t sim_sum(const void *ptr, size_t len)
{
	const uint8_t *byte = ptr;
	uint64_t sum = len, word;

	for (; len >= sizeof(word); len -= sizeof(word), byte += sizeof(word)) {
		memcpy(&word, byte, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		sum ^= sum >> 32;
	}
	while (len--)
		sum = (sum ^ *byte++) * UINT64_C(0x100000001b3);
	return sum | 1;
}

void sim_parcel_read(struct sim_parcel *p)
{
	if (!p->world->attr.no_data) {
		memcpy(p->body, p->grain->src, p->hdr.len);
		p->pair->sum = sim_sum(p->body, p->hdr.len);
	}
	p->pair->pair = NULL;
	p->pair = NULL;
	p->grain = NULL;
}
