/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_turn.c - handles for parts of one model whose rounds take turns, in the simulator:
 * one runs at a time, none is left out, nobody waits for ever, and the sum of all models is kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "collectives/delayed/delayed.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

#define PARTS 4
#define PART (COUNT / PARTS) /* the last has the rest, too */

/* Log: rounds of each part, then how many of them ran at once on the leader, at most. */
#define LOG_RUNNING PARTS

static unsigned turn_running(struct gyre_delayed *const *d)
{
	struct gy_engine *e = &d[0]->ctx->engine;
	unsigned n = 0;
	int i;

	gy_engine_enter(e);
	for (i = 0; i < PARTS; i++)
		n += d[i]->started > d[i]->done;
	gy_engine_leave(e);
	return n;
}

static int turn_open(struct job *j, int me, struct gyre_comm *world, struct gyre_delayed **d)
{
	struct gyre_delayed_attr a = j->attr;
	int i, err = 0;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial((unsigned)i);
	for (i = 0; i < PARTS && !err; i++) {
		a.count = i + 1 < PARTS ? PART : COUNT - i * PART;
		err = gyre_delayed_create(&a, j->x[me] + i * PART, world, &d[i]);
	}
	return err;
}

static int turn_steps(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed **d, unsigned n)
{
	const int me = gy_sim_rank_id(rank);
	int i, err = 0;

	while (n-- && !err) {
		gy_sim_sleep(rank, (me ? 1 : 4) * STEP_NS);
		job_step(j->x[me], me);
		for (i = 0; i < PARTS && !err; i++)
			err = gyre_delayed_tick(d[i], 1, NULL);
		if (me == 0 && turn_running(d) > j->log[0][LOG_RUNNING])
			j->log[0][LOG_RUNNING] = turn_running(d);
	}
	return err;
}

/* Rank 0 is slow; who waits for its rounds takes as many steps. */
static unsigned turn_steps_of(const struct job *j, int me)
{
	return me || j->attr.max_delay ? j->ticks : j->ticks / 4;
}

/* With arg, a drain of one part when half of the steps are done; of all at the end. */
static int turn_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned steps = turn_steps_of(j, me);
	struct gyre_delayed *d[PARTS];
	struct gyre_delayed_stats st;
	int i, err;

	err = turn_open(j, me, gyre_context_world(ctx), d);
	if (!err)
		err = turn_steps(j, rank, d, steps / 2);
	if (!err && j->arg)
		err = gyre_delayed_drain(d[1], GYRE_DRAIN_APPLY);
	if (!err)
		err = turn_steps(j, rank, d, steps - steps / 2);
	if (err)
		return err;
	for (i = 0; i < PARTS; i++) {
		gyre_delayed_stats(d[i], &st);
		j->log[me][i] = st.applied;
		j->blocked_ns[me] += st.blocked_ns;
	}
	for (i = PARTS - 1; i >= 0 && !err; i--)
		err = gyre_delayed_drain(d[i], GYRE_DRAIN_APPLY);
	for (i = 0; i < PARTS; i++)
		gyre_delayed_destroy(d[i]);
	return err;
}

static void check_models(const struct job *j)
{
	unsigned i;
	int r;

	for (i = 0; i < COUNT; i++) {
		float want = 0;

		for (r = 0; r < j->nranks; r++)
			want += (float)turn_steps_of(j, r) * job_update(r, i);
		for (r = 0; r < j->nranks; r++)
			assert_float_equal(j->x[r][i], job_initial(i) + want / (float)j->nranks, 0);
	}
}

static void check_rounds(const struct job *j)
{
	uint64_t least = UINT64_MAX, most = 0;
	int i, r;

	for (r = 0; r < j->nranks; r++) {
		for (i = 0; i < PARTS; i++) {
			least = gy_min(least, j->log[r][i]);
			most = gy_max(most, j->log[r][i]);
		}
		assert_true(j->arg || j->blocked_ns[r] == 0);
	}
	assert_true(least > 20 && (j->arg || 4 * least >= 3 * most));
}

static struct job turn_job(uint64_t seed)
{
	struct job j = {
		.nranks = 4,
		.seed = 2 * seed,
		.fn = turn_main,
		.latency_ns = 200000,
		.ticks = 200,
	};

	gyre_lasgd_attr(&j.attr, 1);
	j.attr.flags |= GYRE_DELAYED_IN_TURN;
	return j;
}

static void test_turns(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= test_times(6, 40); seed++) {
		struct job j = turn_job(seed);

		j.arg = seed % 3 ? NULL : &j;
		j.attr.payload = seed % 2 ? GYRE_PAYLOAD_MODEL : GYRE_PAYLOAD_DELTA;
		assert_int_equal(job_run(&j), 0);
		check_models(&j);
		check_rounds(&j);
		assert_int_equal(j.log[0][LOG_RUNNING], 1);

		j = turn_job(seed);
		j.attr.flags &= ~(unsigned)GYRE_DELAYED_IN_TURN;
		assert_int_equal(job_run(&j), 0);
		check_models(&j);
		assert_true(j.log[0][LOG_RUNNING] > 1);
	}
}

/* Ranks wait for rounds of one part while others have a turn. */
static void test_turns_waiting(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= test_times(6, 40); seed++) {
		struct job j = turn_job(seed);

		j.attr.max_delay = 1;
		j.ticks = 80;
		assert_int_equal(job_run(&j), 0);
		check_models(&j);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_turns_waiting),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
