/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_calls.c - collective calls of delayed collectives that are not all alike: one fails
 * on one rank, several handles, one right after another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "lib/context.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

#define SOON_NS (500 * MS)	/* far less than the stall timeout */

static uint64_t calls_now(const struct gyre_context *ctx)
{
	return ctx->sys->ops->now_ns(ctx->sys);
}

/* ---- the outer step of one rank fails in a drain: all hear of it, at once ---- */

struct outer {
	bool fails;
	unsigned left;
};

static int outer_step(void *arg, const struct gyre_round *round, void *anchor)
{
	struct outer *o = arg;

	return !o->fails || o->left-- > 0 ? 0 : -EIO;
}

static int outer_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct outer outer = { .fails = me == 1, .left = j->ticks };
	struct gyre_delayed_attr attr = j->attr;
	struct gyre_delayed *d;
	uint64_t start;
	int err;

	attr.outer = outer_step;
	attr.outer_arg = &outer;
	job_begin_x(j->x[me]);
	err = gyre_delayed_create(&attr, j->x[me], gyre_context_world(ctx), &d);
	if (!err)
		err = job_ticks(j, rank, d, 4);
	if (err)
		return err;
	start = calls_now(ctx);
	err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (err != -EIO || calls_now(ctx) - start > SOON_NS) {
		printf("rank %d, after %u steps: %s after %llu ms\n", me, j->ticks,
		       gyre_strerror(err), (unsigned long long)((calls_now(ctx) - start) / MS));
		err = -EBADMSG;
	} else {
		err = 0;
	}
	gy_sim_sleep(rank, 2 * SOON_NS); /* who waits does not hear of it by the end of another */
	gyre_delayed_destroy(d);
	return err;
}

static void test_outer_fails(void **state)
{
	unsigned k;

	for (k = 2; k < 4; k++) {
		struct job j = {
			.nranks = 3,
			.seed = k,
			.attr = job_attr(2, 1),
			.fn = outer_main,
			.ticks = k,
		};

		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- a drain that is over in time on some ranks only is so on none, and called again ---- */

static bool late_again;

static int late_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (!err)
		err = job_ticks(j, rank, d, 4);
	if (err)
		return err;
	err = -ETIMEDOUT;
	for (n = 0; n < 20 && err == -ETIMEDOUT; n++)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	late_again |= n > 1;
	gyre_delayed_destroy(d);
	return err;
}

static void test_drain_again(void **state)
{
	unsigned i, k;

	late_again = false;
	for (i = 1; i <= 14; i++) {
		struct job j = {
			.nranks = 3,
			.seed = 2 + i,
			.attr = job_attr(20, 1),
			.fn = late_main,
			.latency_ns = 2 * i * MS,
		};

		j.attr.timeout_ms = 40;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (k = 0; k < COUNT; k++)
			assert_float_equal(j.x[0][k], job_initial(k) + 4 * job_mean_update(3, k),
					   1e-5);
	}
	assert_true(late_again);
}

/* ---- two handles with a bound: ranks stop at different ticks, drain one and the other ---- */

static int two_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	static float other[MAX_RANKS][COUNT];
	struct gyre_delayed *d, *e = NULL;
	uint64_t start;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (err)
		return err;
	job_begin_x(other[me]);
	err = gyre_delayed_create(&j->attr, other[me], gyre_context_world(ctx), &e);
	for (n = 0; n < 20 + 10 * (unsigned)me && !err; n++) {
		gy_sim_sleep(rank, STEP_NS);
		job_step(j->x[me], me);
		job_step(other[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = gyre_delayed_tick(e, 1, NULL);
	}
	start = calls_now(ctx);
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err)
		err = gyre_delayed_drain(e, GYRE_DRAIN_APPLY);
	if (!err && calls_now(ctx) - start > SOON_NS)
		err = -EBADMSG;
	gyre_delayed_destroy(e);
	gyre_delayed_destroy(d);
	return err;
}

static void test_two_handles(void **state)
{
	struct job j = { .nranks = 2, .seed = 2, .attr = job_attr(0, 2), .fn = two_main };

	j.attr.apply = GYRE_APPLY_ARRIVAL;
	j.attr.max_delay = 4;
	j.attr.min_steps = 1;
	j.attr.ring = 1;
	j.attr.trigger = GYRE_TRIGGER_READY_ALL;
	assert_int_equal(job_run(&j), 0);
	job_check_equal(&j);
}

/* ---- calls right after one another, ranks at ticks of their own ---- */

static int rows_calls(struct job *j, struct gyre_context *ctx, struct gyre_delayed *d, unsigned k)
{
	int err = gyre_delayed_set(d, 0, 2 + k, 0, NULL);

	if (!err)
		err = gyre_delayed_set(d, 0, 3 + k, 0, NULL);
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err && k % 2)
		err = gyre_delayed_drain(d, GYRE_DRAIN_ABORT);
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err && k % 3 == 2)
		err = gyre_delayed_rebind(d, gyre_context_world(ctx));
	return err;
}

static int rows_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const uint64_t step = STEP_NS * (me == (int)(j->seed % 3) ? 10 : 1);
	struct gyre_delayed *d;
	unsigned n, k;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (k = 0; k < 6 && !err; k++) {
		for (n = 0; n < 5 + (unsigned)me * 4 && !err; n++) {
			gy_sim_sleep(rank, gy_sim_random(rank) % step);
			job_step(j->x[me], me);
			err = gyre_delayed_tick(d, 1, NULL);
		}
		if (!err)
			err = rows_calls(j, ctx, d, k);
	}
	return job_close(d, err);
}

static void test_rows(void **state)
{
	const unsigned times = test_times(24, 240);
	unsigned k;

	for (k = 0; k < times; k++) {
		struct job j = {
			.nranks = 3 + (int)(k % 3),
			.seed = k,
			.attr = job_attr(0, 2),
			.fn = rows_main,
			.latency_ns = k % 2 ? 3 * STEP_NS : 0,
		};

		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.max_delay = 1 + k % 7;
		j.attr.min_steps = 1;
		j.attr.ring = 1;
		if (k % 3 == 0)
			j.attr.trigger = GYRE_TRIGGER_READY_ALL;
		if (k % 8 < 4)
			j.attr.payload = GYRE_PAYLOAD_MODEL;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
	}
}

/* ---- what is done without a tick is in the drain ---- */

static int untold_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 0; n < 3 && !err; n++) {
		job_step(j->x[me], me);
		err = j->attr.trigger == GYRE_TRIGGER_MANUAL ? gyre_delayed_post(d, NULL, 1)
							     : gyre_delayed_tick(d, 1, NULL);
	}
	job_step(j->x[me], me);
	return job_close(d, err);
}

static void test_untold(void **state)
{
	static const enum gyre_trigger triggers[] = { GYRE_TRIGGER_PERIOD, GYRE_TRIGGER_MANUAL };
	unsigned t, i;

	for (t = 0; t < GY_ARRAY_SIZE(triggers); t++) {
		struct job j = {
			.nranks = 2, .seed = 2, .attr = job_attr(0, 1), .fn = untold_main
		};

		j.attr.trigger = triggers[t];
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (i = 0; i < COUNT; i++)
			assert_float_equal(j.x[0][i], job_initial(i) + 4 * job_mean_update(2, i),
					   0);
	}
}

/* ---- the step of a tick that timed out is a step of the contribution ---- */

static int counted_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (me == 0)
		gy_sim_sleep(rank, 200 * MS);
	for (n = 1; n <= (me ? 5u : 4u) && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (me)
		err = err == -ETIMEDOUT ? 0 : -EBADMSG;
	return job_close(d, err);
}

static void test_counted(void **state)
{
	struct job j = { .nranks = 2, .seed = 1, .attr = job_attr(2, 3), .fn = counted_main };
	unsigned i;

	j.attr.timeout_ms = 10;
	j.attr.flags = GYRE_DELAYED_BY_STEPS;
	assert_int_equal(job_run(&j), 0);
	/* a round of three steps each, and one of one and two, times their mean */
	for (i = 0; i < COUNT; i++)
		assert_float_equal(j.x[0][i], job_initial(i) + 4.5f * job_mean_update(2, i), 1e-5);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outer_fails), cmocka_unit_test(test_drain_again),
		cmocka_unit_test(test_two_handles), cmocka_unit_test(test_rows),
		cmocka_unit_test(test_untold),	    cmocka_unit_test(test_counted),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
