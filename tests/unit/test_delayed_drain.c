/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_drain.c - drains of delayed collectives: all progress counts, once, whoever has
 * posted more rounds, had no weight, was timed out, or has something left by a filter; and there is
 * no round in which nobody has anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

/* ---- what a filter leaves out, or was posted for a round that has not begun ---- */

/* The largest quarter of the elements goes. */
static void filter_top(void *arg, void *s, size_t count, uint64_t round)
{
	float *v = s;
	size_t i, k;

	for (i = 0; i < count; i++) {
		size_t above = 0;

		for (k = 0; k < count; k++)
			above += fabsf(v[k]) > fabsf(v[i]) || (fabsf(v[k]) == fabsf(v[i]) && k < i);
		if (above >= count / 4)
			v[i] = 0;
	}
}

/* A drain has what a filter left out too, also where an optimizer over rounds moves the anchor. */
static int filter_drain_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const float *const x = j->x[gy_sim_rank_id(rank)];
	const unsigned steps = 4 * j->attr.period;
	struct gyre_delayed *d;
	unsigned i;
	int r, err;

	err = job_open(j, rank, ctx, &d);
	if (!err)
		err = job_ticks(j, rank, d, steps);
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	for (i = 0; i < COUNT && !err; i++) {
		float want = 0;

		for (r = 0; r < j->nranks; r++)
			want += (float)steps * job_update(r, i);
		want = job_initial(i) + want / (float)j->nranks;
		if (x[i] != want) {
			printf("element %u: %g, not %g\n", i, (double)x[i], (double)want);
			err = -EBADMSG;
		}
	}
	gyre_delayed_destroy(d);
	return err;
}

static void test_filter_drain(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 10; seed++) {
		const bool by_steps = seed % 3 == 2;
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr(0, 1 + (uint32_t)(by_steps ? seed % 2 : seed % 3)),
			.fn = filter_drain_main,
		};

		j.attr.filter = filter_top;
		if (by_steps)		/* 1 or 2, and what is left counts as of 1 */
			j.attr.flags = GYRE_DELAYED_BY_STEPS;
		else
			j.attr.outer_lr = 1;
		assert_int_equal(job_run(&j), 0);
	}
}

/* Nor is lost what was posted for a round that some rank was not ready for. */
static void test_ready_drain(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr(0, 1),
			.fn = filter_drain_main,
		};

		j.attr.trigger = GYRE_TRIGGER_READY_ALL;
		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.min_steps = 1;
		j.attr.outer_lr = 1;
		assert_int_equal(job_run(&j), 0);
	}
}

/* All have the mean of all progress. */
static void check_progress(const struct job *j, unsigned (*steps)(int rank))
{
	unsigned i;
	int r;

	job_check_equal(j);
	for (i = 0; i < COUNT; i++) {
		float sum = 0;

		for (r = 0; r < j->nranks; r++)
			sum += (float)steps(r) * job_update(r, i);
		assert_float_equal(j->x[0][i], job_initial(i) + sum / (float)j->nranks, 0);
	}
}

/* ---- ranks that have posted more rounds than others: a drain averages all ranks in each ---- */

/* Of that rank. */
static unsigned uneven_steps(int rank)
{
	return 12 + 5 * (unsigned)rank;
}

static int uneven_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (!err)
		err = job_ticks(j, rank, d, uneven_steps(me));
	if (!err)
		err = gyre_delayed_stats(d, &st);
	j->log[me][0] = st.posted;
	if (!err && j->seed % 8 >= 4)	/* nothing is lost by it */
		err = gyre_delayed_drain(d, GYRE_DRAIN_ABORT);
	return job_close(d, err);
}

/* By period, and merged on arrival: a rank whose ring is full passes its trigger over, alone. */
static void test_uneven(void **state)
{
	unsigned payload, uneven = 0;
	uint64_t seed;
	int r;

	for (seed = 1; seed <= test_times(80, 400); seed++) {
		for (payload = GYRE_PAYLOAD_DELTA; payload <= GYRE_PAYLOAD_MODEL; payload++) {
			struct job j = {
				.nranks = seed % 2 ? 4 : 2,
				.seed = seed,
				.attr = job_attr(0, 1 + (uint32_t)(seed % 2)),
				.fn = uneven_main,
				.latency_ns = seed % 3 ? STEP_NS : 0,
			};

			j.attr.apply = GYRE_APPLY_ARRIVAL;
			j.attr.payload = (enum gyre_payload)payload;
			j.attr.commit = seed % 16 >= 8 ? GYRE_COMMIT_NONE : GYRE_COMMIT_ALL;
			if (payload == GYRE_PAYLOAD_DELTA)
				j.attr.ring = 1 + (uint32_t)(seed % 4);
			assert_int_equal(job_run(&j), 0);
			check_progress(&j, uneven_steps);
			for (r = 1; r < j.nranks; r++)
				uneven += j.log[r][0] != j.log[0][0];
		}
	}
	assert_true(uneven > 80);
}

/* ---- no round in which nobody has anything ---- */

struct empty {
	unsigned steps[2];		/* of rank 0, of the others */
	uint64_t rounds;		/* that all have merged after the drain */
};

/* Half the average; log[][0]: rounds, log[][1]: those in which nobody had anything. */
static int empty_outer(void *arg, const struct gyre_round *round, void *anchor)
{
	const float *avg = round->avg;
	uint64_t *log = arg;
	float *a = anchor;
	bool empty = true;
	size_t i;

	for (i = 0; i < round->count; i++) {
		empty &= avg[i] == 0;
		a[i] += avg[i] / 2;
	}
	log[0]++;
	log[1] += empty;
	return 0;
}

static int empty_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const struct empty *e = j->arg;
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_attr attr = j->attr;
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	attr.outer_arg = j->log[me];
	job_begin_x(j->x[me]);
	err = gyre_delayed_create(&attr, j->x[me], gyre_context_world(ctx), &d);
	if (!err)
		err = job_ticks(j, rank, d, e->steps[me > 0]);
	for (n = 0; n < 2 && !err; n++)		/* the second has nothing to do */
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err)
		err = gyre_delayed_stats(d, &st);
	if (!err && (st.applied != e->rounds || j->log[me][1] ||
		     (attr.outer && j->log[me][0] != e->rounds))) {
		printf("rank %d: %llu rounds, not %llu\n", me, (unsigned long long)st.applied,
		       (unsigned long long)e->rounds);
		err = -EBADMSG;
	}
	gyre_delayed_destroy(d);
	return err;
}

static void check_empty(const struct gyre_delayed_attr *attr, const struct empty *e)
{
	unsigned outer;

	for (outer = 0; outer < 2; outer++) {
		struct job j = {
			.nranks = 4, .seed = 1 + outer, .attr = *attr, .fn = empty_main, .arg = e,
		};

		j.attr.outer = outer ? empty_outer : NULL;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
	}
}

/* All progress is in rounds by then; of some ranks in those that others have posted. */
static void test_empty_uneven(void **state)
{
	static const struct empty all = { { 8, 8 }, 4 }, few = { { 5, 8 }, 4 };
	static const struct empty more = { { 12, 5 }, 6 }, rest = { { 8, 9 }, 5 };
	struct gyre_delayed_attr a = job_attr(0, 2);

	a.apply = GYRE_APPLY_ARRIVAL;
	a.ring = 8;
	check_empty(&a, &all);
	check_empty(&a, &few);
	check_empty(&a, &more);
	check_empty(&a, &rest);
}

/* Progress that was overwritten: at tick 7, or in the drain. */
static void test_empty_overwritten(void **state)
{
	static const struct empty merged = { { 7, 7 }, 1 }, inflight = { { 6, 6 }, 1 };
	struct gyre_delayed_attr a = job_attr(2, 5);

	a.merge = GYRE_MERGE_OVERWRITE;
	check_empty(&a, &merged);
	check_empty(&a, &inflight);
}

/* What is sent narrow, and is exact. */
static void test_empty_exact(void **state)
{
	static const struct empty e = { { 6, 6 }, 6 };
	struct gyre_delayed_attr a = job_attr(2, 1);

	a.wire = GYRE_BF16;
	check_empty(&a, &e);
}

/* ---- a rank waits in a tick for a round that others do not post, since they drain ---- */

static unsigned bound_steps(int rank)
{
	return 30 + 6 * (unsigned)rank;
}

/* One rank is slow, so that the others are far ahead when it has posted as much. */
static int bound_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank), slow = j->seed % 4 < 2 ? 0 : 1;
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 1; n <= bound_steps(me) && !err; n++) {
		gy_sim_sleep(rank, (me == slow ? 10 : 1) * STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err && n == bound_steps(me) / 2)
			err = gyre_delayed_set(d, 0, 3, 0, NULL);
	}
	if (!err)
		err = gyre_delayed_stats(d, &st);
	j->blocked_ns[me] = st.blocked_ns;
	return job_close(d, err);
}

static void test_bound(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= test_times(24, 200); seed++) {
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr(0, 2),
			.fn = bound_main,
			.latency_ns = 3 * STEP_NS,
		};

		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.max_delay = 1 + (uint32_t)(seed % 7);
		j.attr.min_steps = 1;
		j.attr.ring = 1;
		if (seed % 3 == 0)
			j.attr.trigger = GYRE_TRIGGER_READY_ALL;
		if (seed % 8 < 4)
			j.attr.payload = GYRE_PAYLOAD_MODEL;
		assert_int_equal(job_run(&j), 0);
		check_progress(&j, bound_steps);
		assert_true(j.blocked_ns[0] > 0 || j.blocked_ns[1] > 0);
	}
}

/* ---- a tick that was timed out before it posted ---- */

static int late_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned steps = me ? 3 : 2;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (me == 0)
		gy_sim_sleep(rank, 200 * MS);
	for (n = 1; n <= steps && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (me)		/* it waits for the round of tick 2 */
		err = err == -ETIMEDOUT ? 0 : -EBADMSG;
	return job_close(d, err);
}

/* Its step is in x, and counts: with an optimizer over rounds, and divided by its steps. */
static void test_late(void **state)
{
	unsigned seed, i;

	for (seed = 1; seed <= 6; seed++) {
		const bool by_steps = seed % 2;
		struct job j = {
			.nranks = 2, .seed = seed, .attr = job_attr(1, 2), .fn = late_main,
		};

		j.attr.timeout_ms = 10;
		if (by_steps)
			j.attr.flags = GYRE_DELAYED_BY_STEPS;
		else
			j.attr.outer_lr = 1;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (i = 0; i < COUNT; i++) {
			const float both = 2 * job_mean_update(2, i), one = job_update(1, i);

			assert_float_equal(j.x[0][i],
					   job_initial(i) + both + (by_steps ? one : one / 2), 0);
		}
	}
}

/* ---- a rank that never had a weight counts with 1 in a drain ---- */

static int unweighted_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 0; n < 6 && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, me, NULL);
	}
	return job_close(d, err);
}

static void test_unweighted(void **state)
{
	struct job j = {
		.nranks = 2, .seed = 1, .attr = job_attr(2, 1), .fn = unweighted_main,
	};
	unsigned i;

	assert_int_equal(job_run(&j), 0);
	job_check_equal(&j);
	for (i = 0; i < COUNT; i++)
		assert_float_equal(j.x[0][i],
				   job_initial(i) + 6 * (job_update(1, i) + job_update(0, i) / 2),
				   0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filter_drain),
		cmocka_unit_test(test_ready_drain),
		cmocka_unit_test(test_uneven),
		cmocka_unit_test(test_empty_uneven),
		cmocka_unit_test(test_empty_overwritten),
		cmocka_unit_test(test_empty_exact),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_unweighted),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
