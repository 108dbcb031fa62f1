/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.c - the virtual clock: takes the earliest event, sets the time to it, lets it happen.
 * A coroutine that waits is an event too (its timer), so there is one queue and no other scheduler.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/sim/world.h"

#define WORLD_HOUR_NS (3600 * UINT64_C(1000000000))
#define WORLD_WAKE_NS 200	/* from being woken to running, at most, but for hiccups */

static const char *const world_waits[] = {
	[SIM_RUNNING] = "ready to run",
	[SIM_YIELD] = "yields",
	[SIM_COMPUTE] = "computes",
	[SIM_SLEEP] = "sleeps until something arrives",
	[SIM_WORD] = "waits on a word",
	[SIM_JOIN] = "joins a thread",
	[SIM_GATHER] = "waits for others to make a context",
	[SIM_FINISHED] = "is over",
};

void gy_sim_attr_init(struct gy_sim_attr *attr, int nranks, uint64_t seed)
{
	*attr = (struct gy_sim_attr){
		.nranks = nranks,
		.seed = seed,
		.link = {
			.caps = GY_SIM_BULK | GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP,
			.lanes = 2,
			.latency_ns = 1500,
			.jitter_ns = 500,
			.bytes_per_us = 5000,
			.rto_ns = 200000,
			.connect_ns = 50000,
			.msg_room = 64,
			.bulk_room = 16,
			.write_max = 64,
		},
		.hiccup_ns = 20000,
		.deadline_ns = WORLD_HOUR_NS,
		.max_events = UINT64_C(200000000),
	};
}

void gy_sim_attr_cost(struct gy_sim_attr *attr, uint32_t latency_ns, uint32_t port_bytes_per_us)
{
	attr->exact = attr->no_data = true;
	attr->hiccup_ns = 0;
	attr->port_bytes_per_us = port_bytes_per_us;
	attr->link.caps = GY_SIM_BULK;
	attr->link.lanes = 1;
	attr->link.latency_ns = latency_ns;
	attr->link.jitter_ns = 0;
	attr->link.bytes_per_us = 0;
	attr->link.msg_room = attr->link.bulk_room = attr->link.write_max = 1 << 20;
}

/* ---- randomness and trace ---- */

uint64_t sim_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t sim_below(struct gy_sim_world *w, uint64_t n)
{
	return n ? sim_next(&w->rng) % n : 0;
}

void sim_trace(struct gy_sim_world *w, uint64_t what)
{
	w->hash = (w->hash ^ what) * UINT64_C(0x100000001b3);
	w->hash ^= w->hash >> 29;
}

/* ---- events ---- */

void sim_at(struct gy_sim_world *w, struct sim_event *ev, uint64_t at)
{
	sim_heap_remove(&w->heap, ev);
	ev->at = at;
	ev->tie = sim_next(&w->rng);
	ev->seq = w->seq++;
	sim_heap_push(&w->heap, ev);
}

void sim_cancel(struct gy_sim_world *w, struct sim_event *ev)
{
	sim_heap_remove(&w->heap, ev);
}

void sim_fail(struct gy_sim_world *w, int err)
{
	if (!w->err)
		w->err = err;
}

/* ---- threads ---- */

static uint64_t world_hiccup(struct gy_sim_world *w)
{
	return !w->attr.exact && sim_one_in(w, 64) ? sim_below(w, w->attr.hiccup_ns) : 0;
}

static uint64_t world_wake(struct gy_sim_world *w)
{
	return w->attr.exact ? 0 : sim_below(w, WORLD_WAKE_NS);
}

void sim_block(struct gy_sim_world *w, enum sim_wait wait, const void *what, uint64_t timeout_ns)
{
	struct gy_thread *t = w->current;

	if (!t)
		return;
	t->wait = wait;
	t->what = what;
	t->since = w->now;
	if (wait != SIM_YIELD)
		t->yields = 0;
	if (timeout_ns < SIM_NEVER - w->now - w->attr.hiccup_ns)
		sim_at(w, &t->timer, w->now + timeout_ns + world_hiccup(w));
	sim_fiber_leave(&t->fiber);
	t->wait = SIM_RUNNING;
	t->what = NULL;
}

void sim_thread_wake(struct gy_thread *t)
{
	struct gy_sim_world *w = t->rank->world;

	if (t->wait == SIM_RUNNING || t->wait == SIM_FINISHED)
		return;
	t->wait = SIM_RUNNING;
	sim_at(w, &t->timer, w->now + world_wake(w) + world_hiccup(w));
}

static void world_run_thread(struct sim_event *ev)
{
	struct gy_thread *t = gy_container_of(ev, struct gy_thread, timer);
	struct gy_sim_rank *rank = t->rank;
	struct gy_sim_world *w = rank->world;
	const uint64_t until = sim_stalled_until(rank);

	if (until > w->now) {
		sim_at(w, ev, until);
		return;
	}
	t->wait = SIM_RUNNING;
	w->current = t;
	w->switches++;
	sim_fiber_enter(&t->fiber, &w->home);
	w->current = NULL;
	if (!t->fiber.done)
		return;
	t->wait = SIM_FINISHED;
	if (t->joiner)
		sim_thread_wake(t->joiner);
	if (t == rank->main)
		sim_rank_end(rank);
}

static void world_result_of(struct gy_sim_rank *rank, int rc)
{
	if (!rank->rc)
		rank->rc = rc;
}

static void world_thread_main(void *arg)
{
	struct gy_thread *t = arg;

	if (!t->user_fn)
		t->fn(t->arg);
	else
		world_result_of(t->rank, t->user_fn(t->rank, t->arg));
}

int sim_thread_start(struct gy_sim_rank *rank, void (*fn)(void *), void *arg,
		     struct gy_thread **threadp)
{
	struct gy_sim_world *w = rank->world;
	struct gy_thread *t = gy_alloc(sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	err = sim_fiber_init(&t->fiber, world_thread_main, t);
	if (err) {
		gy_free(t);
		return err;
	}
	t->rank = rank;
	t->fn = fn;
	t->arg = arg;
	t->timer.fire = world_run_thread;
	t->timer.tag = (uint64_t)rank->id;
	gy_list_add_tail(&rank->threads, &t->link);
	sim_at(w, &t->timer, w->now + 10 * world_wake(w) + world_hiccup(w));
	*threadp = t;
	return 0;
}

void sim_thread_free(struct gy_thread *t)
{
	sim_cancel(t->rank->world, &t->timer);
	gy_list_del(&t->link);
	sim_fiber_fini(&t->fiber);
	gy_free(t);
}

/* ---- ranks ---- */

/* A thread of gy_sim_spawn that is not over, or NULL. */
static struct gy_thread *world_user_thread(const struct gy_sim_rank *rank)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->threads) {
		struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

		if (t->user_fn && t->wait != SIM_FINISHED)
			return t;
	}
	return NULL;
}

static void world_rank_main(void *arg)
{
	struct gy_sim_rank *rank = arg;
	struct gy_sim_world *w = rank->world;
	struct gy_thread *t;

	world_result_of(rank, w->fn(rank, w->arg));
	while ((t = world_user_thread(rank)) != NULL) {
		t->joiner = rank->main;
		sim_block(w, SIM_JOIN, t, SIM_NEVER);
	}
}

void sim_rank_end(struct gy_sim_rank *rank)
{
	struct gy_sim_world *w = rank->world;
	struct gy_list *pos;

	if (rank->gone)
		return;
	rank->gone = true;
	w->live--;
	gy_list_for_each(pos, &rank->threads)
		sim_cancel(w, &gy_list_entry(pos, struct gy_thread, link)->timer);
	/* Contexts first: what they look at may lie on the threads' stacks. */
	sim_contexts_abandon(rank);
	sim_nics_vanish(rank);
	while (!gy_list_empty(&rank->threads))
		sim_thread_free(gy_list_entry(rank->threads.next, struct gy_thread, link));
	rank->main = NULL;
	sim_bells_free(rank);
	sim_gathers_fail(w);
}

static int world_rank_start(struct gy_sim_world *w, int id)
{
	struct gy_sim_rank *rank = &w->ranks[id];

	rank->sys.ops = &sim_sys_ops;
	rank->world = w;
	rank->id = id;
	rank->rng = sim_next(&w->rng);
	rank->clock = sim_below(w, UINT64_C(1) << 40);
	rank->kill_event = SIM_NEVER;
	gy_list_init(&rank->threads);
	gy_list_init(&rank->bells);
	gy_list_init(&rank->stalls);
	gy_list_init(&rank->nics);
	gy_list_init(&rank->made);
	w->live++;
	return sim_thread_start(rank, world_rank_main, rank, &rank->main);
}

/* ---- the run ---- */

gy_cold void sim_complain(const struct gy_sim_world *w, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	if (w->attr.quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	gy_err("sim: seed %" PRIu64 ", %" PRIu64 " ns: %s", w->attr.seed, w->now, text);
}

static gy_cold void world_report(struct gy_sim_world *w, const char *why)
{
	struct gy_list *pos;
	int i;

	sim_complain(w, "%s: %d ranks, %" PRIu64 " events", why, w->attr.nranks, w->events);
	for (i = 0; i < w->attr.nranks; i++) {
		const struct gy_sim_rank *rank = &w->ranks[i];

		if (rank->gone)
			sim_complain(w, "rank %d: %s", i, rank->killed ? "killed" : "has returned");
		gy_list_for_each(pos, &rank->threads) {
			const struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

			sim_complain(w, "rank %d: %s %s, for %" PRIu64 " ns", i,
				     t == rank->main ? "main"
				     : t->user_fn    ? "thread"
						     : "library's thread",
				     world_waits[t->wait], w->now - t->since);
		}
	}
}

static void world_loop(struct gy_sim_world *w)
{
	struct sim_event *ev;

	while (w->live && !w->err) {
		ev = sim_heap_pop(&w->heap);
		if (!ev) {
			world_report(w, "deadlock");
			sim_fail(w, -EDEADLK);
		} else if (ev->at > w->attr.deadline_ns || w->events == w->attr.max_events) {
			world_report(w, "still not over");
			sim_fail(w, -ETIMEDOUT);
		} else {
			if (ev->at > w->now)
				w->now = ev->at;
			w->events++;
			sim_trace(w, w->now);
			sim_trace(w, ev->tag);
			ev->fire(ev);
			if (w->events >= w->next_kill_event)
				sim_check_kill_events(w);
		}
	}
}

static int world_create(const struct gy_sim_attr *attr, struct gy_sim_world **wp)
{
	struct gy_sim_world *w;

	w = gy_alloc(sizeof(*w) + (size_t)attr->nranks * sizeof(w->ranks[0]));
	if (!w)
		return -ENOMEM;
	w->attr = *attr;
	w->rng = attr->seed;
	w->next_kill_event = SIM_NEVER;
	gy_list_init(&w->faults);
	gy_list_init(&w->gathers);
	gy_list_init(&w->graves);
	gy_list_init(&w->parts);
	sim_fiber_init_main(&w->home);
	*wp = w;
	return 0;
}

static int world_result(const struct gy_sim_world *w)
{
	int i;

	if (w->err)
		return w->err;
	for (i = 0; i < w->attr.nranks; i++) {
		if (w->ranks[i].rc && !w->ranks[i].killed)
			return w->ranks[i].rc;
	}
	return 0;
}

static void world_destroy(struct gy_sim_world *w, int started)
{
	int i;

	for (i = 0; i < started; i++)
		sim_rank_end(&w->ranks[i]);
	sim_faults_free(w);
	sim_gathers_free(w);
	sim_graves_free(w);
	sim_cost_memory_unmap(w);
	gy_free(w->job);
	gy_free(w);
}

int gy_sim_run(const struct gy_sim_attr *attr, int (*fn)(struct gy_sim_rank *rank, void *arg),
	       void *arg)
{
	struct gy_sim_world *w;
	int i, rc, err;

	err = world_create(attr, &w);
	if (err)
		return err;
	w->fn = fn;
	w->arg = arg;
	err = sim_cost_memory_map(w);
	for (i = 0; i < attr->nranks && !err; i++)
		err = world_rank_start(w, i);
	if (err)
		sim_fail(w, err);
	world_loop(w);
	if (attr->stats)
		*attr->stats = (struct gy_sim_stats){ .hash = w->hash,
						      .events = w->events,
						      .switches = w->switches,
						      .now_ns = w->now };
	rc = world_result(w);
	world_destroy(w, i);
	return rc;
}

/* ---- small entry points ---- */

int gy_sim_rank_id(const struct gy_sim_rank *rank)
{
	return rank->id;
}

int gy_sim_nranks(const struct gy_sim_rank *rank)
{
	return rank->world->attr.nranks;
}

struct gy_sim_world *gy_sim_world(struct gy_sim_rank *rank)
{
	return rank->world;
}

uint64_t gy_sim_random(struct gy_sim_rank *rank)
{
	return sim_next(&rank->rng);
}

uint64_t gy_sim_now(const struct gy_sim_world *w)
{
	return w->now;
}

uint64_t gy_sim_events(const struct gy_sim_world *w)
{
	return w->events;
}
