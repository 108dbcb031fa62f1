/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed.c - delayed collectives in the simulator: what x is after every tick, by the closed
 * forms of the methods; weights; several handles; that a drain makes all models one.  Values are
 * dyadic, so equality is exact; links have jitter, and each case is run under several seeds, which
 * are printed when it fails.
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

#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

/* ---- oracle 1: constant updates ---- */

static void test_constant(void **state)
{
	unsigned p, delay, commit;
	uint64_t seed = 1;

	for (p = 1; p <= 4; p++) {
		for (delay = 0; delay <= 9; delay++) {
			for (commit = 0; commit < 2; commit++) {
				struct job j = {
					.nranks = seed % 3 ? 4 : 2,
					.seed = seed,
					.attr = job_attr(delay, p),
					.fn = job_constant_main,
					.ticks = 25,
				};

				j.attr.commit = (enum gyre_commit)commit;
				assert_int_equal(job_run(&j), 0);
				job_check_equal(&j);
				seed++;
			}
		}
	}
}

/* ---- oracle 2: no delay, every step ---- */

static float noise(struct gy_sim_rank *rank)
{
	return (float)(int32_t)gy_sim_random(rank) * 1e-9f;
}

static int sync_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	float y[COUNT], sum[COUNT];
	struct gyre_delayed *d;
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		y[i] = j->x[me][i] = 1.0f / (float)(i + 3);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
	if (err)
		return err;
	for (n = 1; n <= 12 && !err; n++) {
		for (i = 0; i < COUNT; i++)
			j->x[me][i] += noise(rank);
		for (i = 0; i < COUNT; i++)
			sum[i] = j->x[me][i] - y[i];
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = gyre_allreduce(GYRE_IN_PLACE, sum, COUNT, GYRE_F32, GYRE_SUM, world);
		for (i = 0; i < COUNT; i++)
			y[i] += sum[i] / (float)j->nranks;
		if (!err && memcmp(y, j->x[me], sizeof(y)))
			err = -EBADMSG;
	}
	gyre_delayed_destroy(d);
	return err;
}

static void test_synchronous(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = 2 + (int)(seed % 4),
			.seed = seed,
			.attr = job_attr(0, 1),
			.fn = sync_main,
		};

		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- oracle 3: after a drain all are equal, whatever the method ---- */

static int modes_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const bool led = j->attr.trigger == GYRE_TRIGGER_READY_ALL ||
			 j->attr.trigger == GYRE_TRIGGER_QUORUM;
	const int me = gy_sim_rank_id(rank);
	const bool free = led && j->attr.apply != GYRE_APPLY_FIXED;
	const unsigned ticks = free ? 15 + (unsigned)me * 5 : 20;
	float left[COUNT];
	struct gyre_delayed *d;
	unsigned n, phase;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (phase = 0; phase < 3 && !err; phase++) {
		for (n = 1; n <= ticks && !err; n++) {
			memcpy(left, j->x[me], sizeof(left));
			gy_sim_sleep(rank, gy_sim_random(rank) % (STEP_NS * (unsigned)(me + 1)));
			if (memcmp(left, j->x[me], sizeof(left)))
				return -EBADMSG;	/* x is the caller's between calls */
			job_step(j->x[me], me);
			err = gyre_delayed_tick(d, (double)(gy_sim_random(rank) % 3), NULL);
			if (!err && j->attr.trigger == GYRE_TRIGGER_MANUAL && n % 5 == 0)
				err = gyre_delayed_post(d, NULL, 1);
			if (err == -EAGAIN)
				err = 0;
		}
		if (!err)
			err = gyre_delayed_drain(d,
						 phase == 1 ? GYRE_DRAIN_ABORT : GYRE_DRAIN_APPLY);
		if (!err && phase != 1) {
			memcpy(j->log[me], j->x[me], sizeof(j->x[me]));
			err = gyre_barrier(gyre_context_world(ctx));
			if (!err && memcmp(j->log[me], j->log[0], sizeof(j->x[me]))) {
				printf("rank %d differs after drain %u\n", me, phase);
				err = -EBADMSG;
			}
			if (!err)
				err = gyre_barrier(gyre_context_world(ctx));
		}
	}
	gyre_delayed_destroy(d);
	return err;
}

static void test_modes(void **state)
{
	uint64_t seed, rng = 1;

	for (seed = 1; seed <= test_times(60, 300); seed++) {
		struct job j = {
			.nranks = 1 + (int)(seed % 4),
			.seed = seed,
			.attr = job_draw(&rng),
			.fn = modes_main,
		};

		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
	}
}

/* ---- oracle 11: weights ---- */

struct weights {
	double w[4];
	unsigned h[4];			/* steps, a tick each */
	unsigned flags;
	float mean;			/* of updates 1, 2, 4, 8 */
	bool noop;
};

static int weights_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const struct weights *w = j->arg;
	const int me = gy_sim_rank_id(rank);
	const float u = (float)(1 << me);
	struct gyre_delayed *d;
	unsigned i, k;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (k = 0; k < w->h[me] && !err; k++) {
		for (i = 0; i < COUNT; i++)
			j->x[me][i] += u;
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_post(d, NULL, w->w[me]);
	/* delay 0: merged; who has abstained keeps its progress */
	for (i = 0; i < COUNT && !err; i++) {
		const float own = (float)w->h[me] * u;
		const float want = w->noop ? job_initial(i) + own
					   : job_initial(i) + w->mean + (w->w[me] > 0 ? 0 : own);

		if (j->x[me][i] != want) {
			printf("rank %d: %g, not %g\n", me, (double)j->x[me][i], (double)want);
			err = -EBADMSG;
		}
	}
	gyre_delayed_destroy(d);
	return err;
}

static void test_weights(void **state)
{
	/* updates 1, 2, 4, 8 */
	static const struct weights cases[] = {
		{ { 1, 2, 5, 8 }, { 1, 1, 1, 1 }, 0, 89 / 16.0f, false },
		{ { 0, 1, 2, 5 }, { 1, 1, 1, 1 }, 0, 50 / 8.0f, false },
		{ { 1, 0, 0, 0 }, { 1, 1, 1, 1 }, 0, 1, false },
		{ { 0, 0, 0, 0 }, { 1, 1, 1, 1 }, 0, 0, true },
		{ { 0.5, 0.5, 0.5, 0.5 }, { 1, 1, 1, 1 }, 0, 15 / 4.0f, false },
		/* each by its steps; the mean of these is (1 + 2 + 4 + 1) / 4 = 2 */
		{ { 1, 1, 1, 1 }, { 1, 2, 4, 1 }, GYRE_DELAYED_BY_STEPS, 15 / 4.0f * 2, false },
		{ { 2, 1, 1, 4 }, { 1, 2, 4, 2 }, GYRE_DELAYED_BY_STEPS, 40 / 8.0f * 2, false },
		/* weights 1, 2, 4, 1 and 2, 1, 0, 5 */
		{ { 1, 1, 1, 1 }, { 1, 2, 4, 1 }, GYRE_DELAYED_WEIGHT_STEPS, 81 / 8.0f, false },
		{ { 2, 0.5, 0, 5 }, { 1, 2, 4, 1 }, GYRE_DELAYED_WEIGHT_STEPS, 46 / 8.0f, false },
	};
	uint64_t seed;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (seed = 1; seed <= 4; seed++) {
			struct job j = {
				.nranks = 4,
				.seed = seed,
				.attr = job_attr(0, 0),
				.fn = weights_main,
				.arg = &cases[i],
			};

			j.attr.trigger = GYRE_TRIGGER_MANUAL;
			j.attr.flags = cases[i].flags;
			if (seed > 2 && !cases[i].flags) {
				j.attr.payload = GYRE_PAYLOAD_MODEL;
			}
			assert_int_equal(job_run(&j), 0);
		}
	}
}

/* ---- steps that were overwritten are not those of the next contribution ---- */

/* Two steps in the first round; one that is overwritten; then one in the second, or three. */
static int overwritten_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned last = me ? 6 : 4;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 1; n <= last + 1 && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err && (n == 2 || n == last))
			err = gyre_delayed_post(d, NULL, 1);
	}
	if (!err)	/* destroying it would abort what the other waits for */
		err = gyre_barrier(gyre_context_world(ctx));
	gyre_delayed_destroy(d);
	return err;
}

static void test_overwritten(void **state)
{
	unsigned seed, i;

	for (seed = 1; seed <= 4; seed++) {
		const bool by_steps = seed % 2;
		struct job j = {
			.nranks = 2, .seed = seed, .attr = job_attr(1, 0), .fn = overwritten_main,
		};

		j.attr.trigger = GYRE_TRIGGER_MANUAL;
		j.attr.merge = GYRE_MERGE_OVERWRITE;
		j.attr.flags = by_steps ? GYRE_DELAYED_BY_STEPS : GYRE_DELAYED_WEIGHT_STEPS;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (i = 0; i < COUNT; i++) {
			const float first = job_update(0, i), other = job_update(1, i);
			const float second = by_steps ? first + other : (first + 9 * other) / 4;

			assert_float_equal(j.x[0][i], job_initial(i) + first + other + second, 0);
		}
	}
}

/* ---- oracle 12: two handles ---- */

static int pair_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_attr other = j->attr;
	struct gyre_delayed *d[2];
	float y[COUNT];
	unsigned n, i;
	int err, k;

	for (i = 0; i < COUNT; i++)
		y[i] = j->x[me][i] = job_initial(i);
	other.period = j->attr.period + 1;
	other.delay = j->attr.delay + 2;
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d[0]);
	if (!err)
		err = gyre_delayed_create(&other, y, gyre_context_world(ctx), &d[1]);
	for (n = 1; n <= 30 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		job_step(y, me);
		for (k = 0; k < 2 && !err; k++)	/* in another order on each rank */
			err = gyre_delayed_tick(d[(k + me + (int)n) % 2], 1, NULL);
	}
	for (k = 0; k < 2 && !err; k++)
		err = gyre_delayed_drain(d[k], GYRE_DRAIN_APPLY);
	if (!err && memcmp(y, j->x[me], sizeof(y)))
		err = -EBADMSG;		/* both have the mean of all progress */
	gyre_delayed_destroy(d[0]);
	gyre_delayed_destroy(d[1]);
	return err;
}

static void test_pair(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 30; seed++) {
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr((uint32_t)(seed % 5), 1 + (uint32_t)(seed % 3)),
			.fn = pair_main,
		};

		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_synchronous),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_overwritten),
		cmocka_unit_test(test_pair),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
