/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_led.c - delayed collectives whose rounds start when ranks are ready, READY_ALL and
 * QUORUM: stragglers hold up nobody, contributions that wait are taken anew, rounds begin while a
 * rank posts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "collectives/delayed/delayed.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"
#include "transports/sim/world.h"

/* ---- oracle 9: a straggler ---- */

static int straggler_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 1; n <= (me ? j->ticks : j->ticks / 4) && !err; n++) {
		gy_sim_sleep(rank, (me ? 1 : 4) * STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (err)
		return err;
	gyre_delayed_stats(d, &st);
	j->blocked_ns[me] = st.blocked_ns;
	j->log[me][0] = st.applied;
	j->log[me][1] = st.posted;
	j->log[me][2] = st.max_staleness;
	err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_straggler(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= test_times(4, 10); seed++) {
		struct job j = {
			.nranks = 4, .seed = 2 * seed, .fn = straggler_main, .ticks = 200,
		};

		gyre_lasgd_attr(&j.attr, 2);
		j.attr.count = COUNT;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (r = 0; r < 4; r++) {
			assert_int_equal(j.blocked_ns[r], 0);
			assert_true(j.log[r][0] > 8);
		}

		j.attr = job_attr(0, 0);
		j.attr.trigger = GYRE_TRIGGER_QUORUM;
		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.min_steps = 2;
		j.attr.quorum = 3;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (r = 0; r < 4; r++)
			assert_int_equal(j.blocked_ns[r], 0);
		assert_true(j.log[1][0] > 16);	/* not held up: the straggler takes part unasked */
		assert_true(j.log[0][1] < j.log[1][1]);
	}
}

/*
 * FRESH: what ranks that were ready early contribute is of the tick before the last rank was, and
 * all their progress counts, once.
 */
static void check_fresh(struct job *j)
{
	unsigned i;
	int r;

	assert_int_equal(job_run(j), 0);
	job_check_equal(j);
	for (i = 0; i < COUNT; i++) {
		float want = (float)(j->ticks / 4) * job_update(0, i);

		for (r = 1; r < j->nranks; r++)
			want += (float)j->ticks * job_update(r, i);
		assert_float_equal(j->x[0][i], job_initial(i) + want / (float)j->nranks, 0);
	}
	for (r = 0; r < j->nranks; r++)
		assert_true(j->log[r][0] > 20 && j->log[r][0] <= 25);
}

static void test_fresh(void **state)
{
	unsigned payload, fresh;
	uint64_t seed;

	for (seed = 1; seed <= test_times(4, 10); seed++) {
		for (payload = GYRE_PAYLOAD_DELTA; payload <= GYRE_PAYLOAD_MODEL; payload++) {
			for (fresh = 0; fresh < 2; fresh++) {
				struct job j = {
					.nranks = 4,
					.seed = 2 * seed,
					.fn = straggler_main,
					.ticks = 100,
				};

				gyre_lasgd_attr(&j.attr, 1);
				j.attr.payload = (enum gyre_payload)payload;
				j.attr.flags = fresh ? GYRE_DELAYED_FRESH : 0;
				j.attr.count = COUNT;
				check_fresh(&j);
				if (fresh)	/* a step, and one more where ticks are close */
					assert_in_range(j.log[1][2], 1, 2);
				else
					assert_in_range(j.log[1][2], 3, 6);
			}
		}
	}
}

/* ---- FRESH: a rank posts with weight 0, and what it does until the round starts counts ---- */

static int abstain_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	struct gyre_tick t = { .applied = 0 };
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (err)
		return err;
	if (me == 0)
		err = gyre_barrier(world);
	for (n = 0; n < (me ? 4 : 1) && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, me && n == 0 ? 0 : 1, NULL);
	}
	gyre_delayed_stats(d, &st);
	if (!err && (st.abstained || st.bytes != COUNT * sizeof(float)))
		err = -EBADMSG;
	if (me && !err)
		err = gyre_barrier(world);
	for (n = 0; n < 1000 && !t.applied && !err; n++) {
		gy_sim_sleep(rank, STEP_NS);
		err = gyre_delayed_tick(d, 0, &t);
	}
	memcpy(j->log[me], j->x[me], sizeof(j->x[me]));
	return job_close(d, err);
}

static void test_abstain(void **state)
{
	float merged[COUNT];
	unsigned payload, i;
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 5; seed++) {
		for (payload = GYRE_PAYLOAD_DELTA; payload <= GYRE_PAYLOAD_MODEL; payload++) {
			struct job j = { .nranks = 4, .seed = seed, .fn = abstain_main };

			gyre_lasgd_attr(&j.attr, 1);
			j.attr.payload = (enum gyre_payload)payload;
			j.attr.count = COUNT;
			assert_int_equal(job_run(&j), 0);
			for (i = 0; i < COUNT; i++)
				merged[i] = job_initial(i) + 4 * job_mean_update(4, i) -
					    3 * job_update(0, i) / 4;
			for (r = 0; r < j.nranks; r++)
				assert_memory_equal(j.log[r], merged, sizeof(merged));
		}
	}
}

/* ---- QUORUM: a round waits grace_ms for those that are not ready, and no longer ---- */

#define GRACE_MS 50u

static int grace_outer(void *arg, const struct gyre_round *round, void *anchor)
{
	uint64_t *log = arg;

	if (round->round == 1)
		log[0] = (uint64_t)round->weight_sum;
	return 0;
}

/* Two ranks are ready at once, the third after `ticks` milliseconds. */
static int grace_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_attr attr = j->attr;
	struct gyre_tick t = { .applied = 0 };
	struct gyre_delayed *d;
	unsigned n;
	int err;

	attr.outer_arg = j->log[me];
	err = gyre_delayed_create(&attr, j->x[me], gyre_context_world(ctx), &d);
	if (me == 2)
		gy_sim_sleep(rank, j->ticks * STEP_NS);
	for (n = 0; n < 1000 && !t.applied && !err; n++) {
		err = gyre_delayed_tick(d, n == 0, &t);
		gy_sim_sleep(rank, STEP_NS);
	}
	j->log[me][1] = n;
	return job_close(d, err);
}

static void test_grace(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 4; seed++) {
		const bool early = seed % 2;
		struct job j = {
			.nranks = 3,
			.seed = 2 * seed,
			.attr = job_attr(0, 0),
			.fn = grace_main,
			.ticks = early ? GRACE_MS / 5 : 2 * GRACE_MS,
		};
		const unsigned starts = early ? j.ticks : GRACE_MS;

		j.attr.trigger = GYRE_TRIGGER_QUORUM;
		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.min_steps = 1;
		j.attr.quorum = 2;
		j.attr.grace_ms = GRACE_MS;
		j.attr.outer = grace_outer;
		assert_int_equal(job_run(&j), 0);
		for (r = 0; r < j.nranks; r++)
			assert_int_equal(j.log[r][0], early ? 3 : 2);
		assert_in_range(j.log[1][1], starts, starts + GRACE_MS / 2);
	}
}

/* ---- rounds that begin while a rank posts ---- */

/*
 * Whenever a rank's own thread lets go of its engine, time passes and another drives it, as the
 * progress thread may: so messages come between any two looks at a handle.
 */
static struct gap {
	struct gy_sys_ops ops;
	struct gyre_context *ctx;
	struct gyre_delayed *d;
	bool open, wrong;
} gaps[MAX_RANKS];

static void gap_open(struct gap *g, bool open)
{
	g->open = open;
	if (open)
		atomic_fetch_add(&g->ctx->engine.wanted, 1);
	else
		atomic_fetch_sub(&g->ctx->engine.wanted, 1);
}

static void gap_notify(struct gy_sys *sys, _Atomic uint32_t *word)
{
	struct gy_sim_rank *rank = to_sim_rank(sys);
	struct gap *g = &gaps[rank->id];

	sim_sys_ops.notify_word(sys, word);
	if (!g->open || word != &g->ctx->engine.bell || rank->world->current != rank->main)
		return;
	gap_open(g, false);
	gy_sim_sleep(rank, gy_sim_random(rank) % (2 * STEP_NS));
	gyre_progress(g->ctx);
	gap_open(g, true);
}

/* A rank posts when none of its rounds is in flight: this is the only one. */
static void gap_filter(void *arg, void *s, size_t count, uint64_t round)
{
	struct gap *g = arg;

	g->wrong |= gy_rounds_inflight(g->d) != 1;
}

static int gap_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_attr attr = j->attr;
	struct gap *g = &gaps[me];
	unsigned n;
	int err;

	*g = (struct gap){ .ops = sim_sys_ops, .ctx = ctx };
	g->ops.notify_word = gap_notify;
	attr.filter = gap_filter;
	attr.filter_arg = g;
	err = gyre_delayed_create(&attr, j->x[me], gyre_context_world(ctx), &g->d);
	if (err)
		return err;
	ctx->sys->ops = &g->ops;
	gap_open(g, true);
	for (n = 1; n <= 30 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (4 * STEP_NS));
		job_step(j->x[me], me);
		err = gyre_delayed_tick(g->d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_drain(g->d, GYRE_DRAIN_APPLY);
	gap_open(g, false);
	ctx->sys->ops = &sim_sys_ops;
	if (!err && (g->wrong || gy_rounds_inflight(g->d))) {
		printf("rank %d: %s\n", me, g->wrong ? "posted a second round" : "left a round");
		err = -EBADMSG;
	}
	gyre_delayed_destroy(g->d);
	return err;
}

static void test_gap(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr(0, 0),
			.fn = gap_main,
			.latency_ns = 300000,
		};

		j.attr.trigger = GYRE_TRIGGER_QUORUM;
		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.merge = seed % 2 ? GYRE_MERGE_ADD_DIFF : GYRE_MERGE_OVERWRITE;
		j.attr.flags = seed % 4 < 2 ? GYRE_DELAYED_FRESH : 0;
		j.attr.min_steps = 2;
		j.attr.quorum = 2;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_straggler),
		cmocka_unit_test(test_fresh),
		cmocka_unit_test(test_abstain),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_gap),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
