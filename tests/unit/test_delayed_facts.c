/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_facts.c - the algebra that delayed collectives rest on: updates are exchanged and
 * not gradients, optimizers stay local, and what is left out of a contribution comes later.
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
#include "tests/unit/delayed_job.h"

/* ---- F1: applied updates, not gradients ---- */

#define DROP 12			/* the learning rate falls after this step */
#define QUIET 30		/* and there are no gradients after this one */

static double rate(unsigned n)
{
	return n <= DROP ? 0.5 : 0.125;
}

static float gradient(int rank, unsigned n, unsigned i)
{
	return n <= QUIET ? job_update(rank, i + n) : 0;
}

static int rate_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n, i;
	int err;

	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= 50 && !err; n++) {
		for (i = 0; i < COUNT; i++)
			j->x[me][i] -= (float)rate(n) * gradient(me, n, i);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err) /* destroying it would abort what others wait for */
		err = gyre_barrier(gyre_context_world(ctx));
	gyre_delayed_destroy(d);
	return err;
}

/* The lecture's rule: w -= rate (g - g(n - delay) + mean of g(n - delay)), for two ranks. */
static double drift_of_gradients(unsigned delay, unsigned i)
{
	double w[2] = { 0, 0 };
	unsigned n;
	int r;

	for (n = 1; n <= 50; n++) {
		for (r = 0; r < 2; r++) {
			const unsigned m = n > delay ? n - delay : 0;
			const double g = (double)gradient(r, n, i);
			const double old = m ? (double)gradient(r, m, i) : 0;
			const double other = m ? (double)gradient(1 - r, m, i) : 0;

			w[r] -= rate(n) * (g - old + (old + other) / 2);
		}
	}
	return w[0] - w[1];
}

static void test_rate_drop(void **state)
{
	unsigned delay, i;

	for (delay = 1; delay <= 6; delay++) {
		struct job j = {
			.nranks = 2, .seed = delay, .attr = job_attr(delay, 1), .fn = rate_main,
		};
		double drift = 0;

		assert_int_equal(job_run(&j), 0);
		assert_memory_equal(j.x[1], j.x[0], sizeof(j.x[0]));
		for (i = 0; i < COUNT; i++)
			drift += fabs(drift_of_gradients(delay, i));
		assert_true(drift > 1);		/* for ever: nothing has moved for 20 steps */
	}
}

/* ---- F2: under heavy ball, delta is as if the corrected gradient had been injected ---- */

#define BALL_TICKS 20

static double ball_x[2][COUNT];

static int ball_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	double velocity[COUNT] = { 0 };
	double *x = ball_x[me];
	struct gyre_delayed *d;
	unsigned n, i;
	int err;

	memset(x, 0, sizeof(ball_x[me]));
	err = gyre_delayed_create(&j->attr, x, gyre_context_world(ctx), &d);
	for (n = 1; n <= BALL_TICKS && !err; n++) {
		for (i = 0; i < COUNT; i++) {
			velocity[i] = 0.5 * velocity[i] + (double)gradient(me, n, i);
			x[i] -= 0.25 * velocity[i];
		}
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err) /* destroying it would abort what others wait for */
		err = gyre_barrier(gyre_context_world(ctx));
	gyre_delayed_destroy(d);
	return err;
}

/* What rank's x is when g(n) + mean of g(n - delay) - own g(n - delay) goes into its optimizer. */
static double ball_injected(unsigned delay, int rank, unsigned i)
{
	double velocity = 0, x = 0;
	unsigned n;

	for (n = 1; n <= BALL_TICKS; n++) {
		double g = (double)gradient(rank, n, i);

		if (n > delay)
			g += ((double)gradient(1 - rank, n - delay, i) -
			      (double)gradient(rank, n - delay, i)) /
			     2;
		velocity = 0.5 * velocity + g;
		x -= 0.25 * velocity;
	}
	return x;
}

static void test_heavy_ball(void **state)
{
	unsigned delay, i;
	int r;

	for (delay = 1; delay <= 5; delay++) {
		struct job j = {
			.nranks = 2, .seed = delay, .attr = job_attr(delay, 1), .fn = ball_main,
		};

		j.attr.type = j.attr.wire = GYRE_F64;
		assert_int_equal(job_run(&j), 0);
		for (r = 0; r < 2; r++)
			for (i = 0; i < COUNT; i++)
				assert_true(ball_x[r][i] == ball_injected(delay, r, i));
	}
}

/* ---- F3: models are averaged right with one round in flight only ---- */

/*
 * How far two models are apart after 40 steps, of which only the first 10 moved them apart.  Each
 * step's round comes delay steps later, with what was x then, or what had been done in that step.
 */
static double apart_after(unsigned delay, bool model)
{
	double apart = 0, sent[41] = { 0 };
	unsigned n;

	for (n = 1; n <= 40; n++) {
		const double done = n <= 10 ? 1 : 0;

		apart += done;
		apart -= n > delay ? sent[n - delay] : 0;
		sent[n] = model ? apart : done;
	}
	return fabs(apart);
}

static void test_model_rounds(void **state)
{
	unsigned delay;

	assert_true(apart_after(1, true) <= 1);
	for (delay = 1; delay <= 6; delay++)
		assert_true(apart_after(delay, false) == 0);
	for (delay = 3; delay <= 6; delay++)	/* corrected again for what is under way */
		assert_true(apart_after(delay, true) > 10);
}

/* ---- oracle 7: what a filter leaves out comes later ---- */

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

/* The mean of all models is the mean of their progress, whatever was left out so far. */
static int check_conserved(struct job *j, unsigned steps)
{
	unsigned i;
	int r;

	for (i = 0; i < COUNT; i++) {
		float sum = 0, want = 0;

		for (r = 0; r < j->nranks; r++) {
			sum += j->x[r][i];
			want += job_initial(i) + (float)steps * job_update(r, i);
		}
		if (sum != want) {
			printf("element %u: sum %g, not %g\n", i, (double)sum, (double)want);
			return -EBADMSG;
		}
	}
	return 0;
}

static int filter_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 1; n <= 60 && !err; n++) {
		if (n <= 20)
			job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
		/* what all have merged is the same set of rounds here */
		if (!err)
			err = gyre_barrier(world);
		if (!err)
			err = check_conserved(j, n < 20 ? n : 20);
		if (!err)
			err = gyre_barrier(world);
	}
	if (!err && memcmp(j->x[me], j->x[0], sizeof(j->x[0])))
		err = -EBADMSG;		/* all that was left out has gone by now */
	if (!err)
		err = gyre_barrier(world);
	gyre_delayed_destroy(d);
	return err;
}

static void test_filter(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr((uint32_t)(seed % 5), 1 + (uint32_t)(seed % 3)),
			.fn = filter_main,
		};

		j.attr.filter = filter_top;
		assert_int_equal(job_run(&j), 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_drop),
		cmocka_unit_test(test_heavy_ball),
		cmocka_unit_test(test_model_rounds),
		cmocka_unit_test(test_filter),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
