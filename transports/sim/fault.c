/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.c - kill, stall, cut, part, as events like any other.
 */
#include <errno.h>

#include "lib/alloc.h"
#include "transports/sim/world.h"

struct sim_fault {
	struct gy_list link;		/* struct gy_sim_world.faults */
	struct sim_event ev;
	struct gy_sim_world *world;
	int a, b;			/* b < 0: a dies; else the pair is cut */
};

/* A wall round a set of ranks. */
struct sim_part {
	struct gy_list link;		/* struct gy_sim_world.parts */
	struct sim_event ev;
	struct gy_sim_world *world;
	uint64_t set, from, to;
};

static void fault_kill(struct gy_sim_rank *rank)
{
	if (rank->gone)
		return;
	rank->killed = true;
	sim_rank_end(rank);
}

static void fault_cut(struct gy_sim_world *w, int a, int b)
{
	sim_nics_cut(&w->ranks[a], b);
	sim_nics_cut(&w->ranks[b], a);
}

static void fault_fire(struct sim_event *ev)
{
	struct sim_fault *f = gy_container_of(ev, struct sim_fault, ev);
	struct gy_sim_world *w = f->world;

	if (f->b < 0) {
		fault_kill(&w->ranks[f->a]);
		return;
	}
	fault_cut(w, f->a, f->b);
}

static void fault_add(struct gy_sim_world *w, int a, int b, uint64_t at_ns)
{
	struct sim_fault *f = gy_alloc(sizeof(*f));

	if (!f) {
		sim_fail(w, -ENOMEM);
		return;
	}
	f->world = w;
	f->a = a;
	f->b = b;
	f->ev.fire = fault_fire;
	f->ev.tag = UINT64_C(1) << 32 | (uint32_t)a;
	gy_list_add_tail(&w->faults, &f->link);
	sim_at(w, &f->ev, at_ns);
}

void sim_faults_free(struct gy_sim_world *w)
{
	int i;

	while (!gy_list_empty(&w->parts))
		gy_free(gy_list_entry(gy_list_pop(&w->parts), struct sim_part, link));
	while (!gy_list_empty(&w->faults))
		gy_free(gy_list_entry(gy_list_pop(&w->faults), struct sim_fault, link));
	for (i = 0; i < w->attr.nranks; i++) {
		struct gy_list *stalls = &w->ranks[i].stalls;

		while (!gy_list_empty(stalls))
			gy_free(gy_list_entry(gy_list_pop(stalls), struct sim_stall, link));
	}
}

void gy_sim_kill(struct gy_sim_world *w, int rank, uint64_t at_ns)
{
	fault_add(w, rank, -1, at_ns);
}

void gy_sim_cut(struct gy_sim_world *w, int a, int b, uint64_t at_ns)
{
	fault_add(w, a, b, at_ns);
}

static bool part_is_between(const struct sim_part *p, int a, int b)
{
	return (p->set >> a & 1) != (p->set >> b & 1);
}

static void part_fire(struct sim_event *ev)
{
	const struct sim_part *p = gy_container_of(ev, struct sim_part, ev);
	struct gy_sim_world *w = p->world;
	int a, b;

	for (b = 0; b < w->attr.nranks; b++)
		for (a = 0; a < b; a++)
			if (part_is_between(p, a, b))
				fault_cut(w, a, b);
}

void gy_sim_part(struct gy_sim_world *w, uint64_t set, uint64_t from_ns, uint64_t to_ns)
{
	struct sim_part *p = gy_alloc(sizeof(*p));

	if (!p) {
		sim_fail(w, -ENOMEM);
		return;
	}
	gy_assert_always(w->attr.nranks <= 64);
	p->world = w;
	p->set = set;
	p->from = from_ns;
	p->to = to_ns;
	p->ev.fire = part_fire;
	p->ev.tag = UINT64_C(3) << 32;
	gy_list_add_tail(&w->parts, &p->link);
	sim_at(w, &p->ev, from_ns);
}

bool sim_is_parted(const struct gy_sim_world *w, int a, int b)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &w->parts) {
		const struct sim_part *p = gy_list_entry(pos, struct sim_part, link);

		if (p->from <= w->now && w->now < p->to && part_is_between(p, a, b))
			return true;
	}
	return false;
}

void gy_sim_kill_at_event(struct gy_sim_world *w, int rank, uint64_t event)
{
	w->ranks[rank].kill_event = event;
	if (event < w->next_kill_event)
		w->next_kill_event = event;
}

void sim_check_kill_events(struct gy_sim_world *w)
{
	int i;

	w->next_kill_event = SIM_NEVER;
	for (i = 0; i < w->attr.nranks; i++) {
		struct gy_sim_rank *rank = &w->ranks[i];

		if (rank->kill_event <= w->events)
			fault_kill(rank);
		else if (!rank->gone && rank->kill_event < w->next_kill_event)
			w->next_kill_event = rank->kill_event;
	}
}

bool gy_sim_alive(const struct gy_sim_world *w, int rank)
{
	return !w->ranks[rank].killed;
}

void gy_sim_stall(struct gy_sim_world *w, int rank, uint64_t from_ns, uint64_t to_ns)
{
	struct sim_stall *s = gy_alloc(sizeof(*s));

	if (!s) {
		sim_fail(w, -ENOMEM);
		return;
	}
	s->from = from_ns;
	s->to = to_ns;
	gy_list_add_tail(&w->ranks[rank].stalls, &s->link);
}

uint64_t sim_stalled_until(const struct gy_sim_rank *rank)
{
	uint64_t until = rank->world->now;
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->stalls) {
		const struct sim_stall *s = gy_list_entry(pos, struct sim_stall, link);

		if (s->from <= rank->world->now && s->to > until)
			until = s->to;
	}
	return until;
}
