/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sys.c - lib/sys.h for a simulated rank: waiting is a switch to another coroutine.
 * Called outside of coroutines (contexts of killed ranks are freed there) nothing waits.
 */
#include <errno.h>
#include <stdatomic.h>

#include "lib/alloc.h"
#include "transports/sim/world.h"

#define SYS_YIELD_NS 50		/* a yield takes 1 to 10 times this; */
#define SYS_YIELDS 64		/* after so many in a row, 10 to 100 times */
#define SYS_EXACT_NS 100	/* exact: a yield to another thread, */
#define SYS_IDLE_NS 1000000	/* or until something arrives, at most */

static uint64_t sim_now_ns(struct gy_sys *sys)
{
	const struct gy_sim_rank *rank = to_sim_rank(sys);

	return rank->world->now + rank->clock;
}

static uint64_t sim_random(struct gy_sys *sys)
{
	return sim_next(&to_sim_rank(sys)->rng);
}

static void sim_node(struct gy_sys *sys, uint64_t id[2])
{
	const struct gy_sim_rank *rank = to_sim_rank(sys);
	const int node = rank->world->attr.ranks_per_node;

	id[0] = 1;
	id[1] = node ? (uint64_t)(rank->id / node) : 0;
}

/* Whether a thread of this rank but the running one could go on. */
static bool sim_has_ready(const struct gy_sim_rank *rank)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &rank->threads) {
		const struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

		if (t != rank->world->current && t->wait == SIM_RUNNING)
			return true;
	}
	return false;
}

void sim_wake_yielding(struct gy_sim_rank *rank)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->threads) {
		struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

		if (t->wait == SIM_YIELD)
			sim_thread_wake(t);
	}
}

/* Time goes on, so that loops that only yield come to an end. */
static void sim_yield(struct gy_sys *sys)
{
	struct gy_sim_world *w = to_sim_rank(sys)->world;
	uint64_t ns = SYS_YIELD_NS * (1 + sim_below(w, 10));

	if (w->attr.exact) {
		sim_block(w, SIM_YIELD, NULL,
			  sim_has_ready(to_sim_rank(sys)) ? SYS_EXACT_NS : SYS_IDLE_NS);
		return;
	}
	if (w->current && ++w->current->yields > SYS_YIELDS)
		ns *= 10;
	sim_block(w, SIM_YIELD, NULL, ns);
}

/* ---- sleep and wake ---- */

/* NULL: no memory; then sleep is short and spurious, and nothing is lost. */
static struct sim_bell *sim_bell_of(struct gy_sim_rank *rank, const struct gyre_context *ctx)
{
	struct gy_list *pos;
	struct sim_bell *bell;

	gy_list_for_each(pos, &rank->bells) {
		bell = gy_list_entry(pos, struct sim_bell, link);
		if (bell->ctx == ctx)
			return bell;
	}
	bell = gy_alloc(sizeof(*bell));
	if (bell) {
		bell->ctx = ctx;
		gy_list_add_tail(&rank->bells, &bell->link);
	}
	return bell;
}

void sim_bells_free(struct gy_sim_rank *rank)
{
	while (!gy_list_empty(&rank->bells))
		gy_free(gy_list_entry(gy_list_pop(&rank->bells), struct sim_bell, link));
}

void sim_ring(struct gy_sim_rank *rank, const struct gyre_context *ctx)
{
	struct sim_bell *bell = sim_bell_of(rank, ctx);

	if (!bell)
		return;
	bell->rung = true;
	if (bell->sleeper)
		sim_thread_wake(bell->sleeper);
}

static void sim_sleep(struct gy_sys *sys, struct gyre_context *ctx, uint64_t timeout_ns)
{
	struct gy_sim_rank *rank = to_sim_rank(sys);
	struct sim_bell *bell = sim_bell_of(rank, ctx);

	if (!bell || !rank->world->current) {
		sim_yield(sys);
		return;
	}
	gy_assert_always(!bell->sleeper);	/* one at a time, says the contract */
	if (!bell->rung) {
		bell->sleeper = rank->world->current;
		sim_block(rank->world, SIM_SLEEP, ctx, timeout_ns);
		bell->sleeper = NULL;
	}
	bell->rung = false;
}

static void sim_wake(struct gy_sys *sys, struct gyre_context *ctx)
{
	sim_ring(to_sim_rank(sys), ctx);
}

/* ---- words ---- */

static void sim_wait_word(struct gy_sys *sys, _Atomic uint32_t *word, uint32_t value,
			  uint64_t timeout_ns)
{
	struct gy_sim_world *w = to_sim_rank(sys)->world;

	if (atomic_load(word) != value)
		return;
	if (!w->attr.exact && sim_one_in(w, 32)) {
		sim_yield(sys);		/* a spurious return */
		return;
	}
	if (w->attr.exact)
		sim_wake_yielding(to_sim_rank(sys));	/* who waits may wait for them */
	sim_block(w, SIM_WORD, (const void *)word, timeout_ns);
}

static void sim_notify_word(struct gy_sys *sys, _Atomic uint32_t *word)
{
	struct gy_sim_rank *rank = to_sim_rank(sys);
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->threads) {
		struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

		if (t->wait == SIM_WORD && t->what == (const void *)word)
			sim_thread_wake(t);
	}
}

/* ---- threads ---- */

static int sim_spawn(struct gy_sys *sys, void (*fn)(void *), void *arg, struct gy_thread **threadp)
{
	return sim_thread_start(to_sim_rank(sys), fn, arg, threadp);
}

static void sim_join(struct gy_sys *sys, struct gy_thread *t)
{
	struct gy_sim_world *w = to_sim_rank(sys)->world;

	if (t->rank->gone)
		return;			/* all threads go with the rank */
	t->joiner = w->current;
	while (t->wait != SIM_FINISHED)
		sim_block(w, SIM_JOIN, t, SIM_NEVER);
	sim_thread_free(t);
}

const struct gy_sys_ops sim_sys_ops = {
	.now_ns = sim_now_ns,
	.random = sim_random,
	.yield = sim_yield,
	.sleep = sim_sleep,
	.wake = sim_wake,
	.wait_word = sim_wait_word,
	.notify_word = sim_notify_word,
	.node = sim_node,
	.spawn = sim_spawn,
	.join = sim_join,
};

/* ---- for rank functions ---- */

void gy_sim_sleep(struct gy_sim_rank *rank, uint64_t ns)
{
	struct gy_sim_world *w = rank->world;
	const uint64_t until = gy_sim_time(rank) + ns;

	while (w->current && w->now < until)
		sim_block(w, SIM_COMPUTE, NULL, until - w->now);
}

int gy_sim_spawn(struct gy_sim_rank *rank, int (*fn)(struct gy_sim_rank *rank, void *arg),
		 void *arg)
{
	struct gy_thread *t;
	int err;

	err = sim_thread_start(rank, NULL, arg, &t);
	if (!err)
		t->user_fn = fn;
	return err;
}
