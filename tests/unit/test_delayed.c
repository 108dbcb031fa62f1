/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed.c - delayed collectives in the simulator: what x is after every tick, by the closed
 * forms of the methods.  Values are dyadic, so equality is exact; links have jitter, and each case
 * is run under several seeds, which are printed when it fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/long.h"
#include "tests/unit/delayed_job.h"

/* ---- oracle 1: constant updates ---- */

static int constant_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned p = j->attr.period, delay = j->attr.delay;
	struct gyre_delayed *d;
	struct gyre_tick t;
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	if (err)
		return err;
	for (n = 1; n <= j->ticks && !err; n++) {
		const unsigned k = n >= delay ? (n - delay) / p : 0;

		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		if (!err && (t.tick != n || t.applied != k))
			err = -EBADMSG;
		for (i = 0; i < COUNT && !err; i++) {
			const float want = job_initial(i) +
					   (float)(p * k) * job_mean_update(j->nranks, i) +
					   (float)(n - p * k) * job_update(me, i);

			if (j->x[me][i] != want) {
				printf("rank %d, tick %u, element %u: %g, not %g\n", me, n, i,
				       (double)j->x[me][i], (double)want);
				err = -EBADMSG;
			}
		}
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void check_equal(const struct job *j)
{
	int r;

	for (r = 1; r < j->nranks; r++)
		assert_memory_equal(j->x[r], j->x[0], sizeof(j->x[0]));
}

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
					.fn = constant_main,
					.ticks = 25,
				};

				j.attr.commit = (enum gyre_commit)commit;
				assert_int_equal(job_run(&j), 0);
				check_equal(&j);
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
	struct gyre_delayed *d;
	unsigned n, i, phase;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (phase = 0; phase < 3 && !err; phase++) {
		for (n = 1; n <= ticks && !err; n++) {
			gy_sim_sleep(rank, gy_sim_random(rank) % (STEP_NS * (unsigned)(me + 1)));
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
		check_equal(&j);
	}
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
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
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

/* A drain has what a filter left out too, also where an optimizer over rounds moves the anchor. */
static int filter_drain_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned steps = 4 * j->attr.period;
	struct gyre_delayed *d;
	unsigned n, i;
	int r, err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 0; n < steps && !err; n++) {
		gy_sim_sleep(rank, STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	for (i = 0; i < COUNT && !err; i++) {
		float want = 0;

		for (r = 0; r < j->nranks; r++)
			want += (float)steps * job_update(r, i);
		want = job_initial(i) + want / (float)j->nranks;
		if (j->x[me][i] != want) {
			printf("element %u: %g, not %g\n", i, (double)j->x[me][i], (double)want);
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
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr(0, 1 + (uint32_t)(seed % 3)),
			.fn = filter_drain_main,
		};

		j.attr.filter = filter_top;
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

/* ---- oracle 8: a network slower than the delay ---- */

#define SLOW_NS (20 * MS)

static int slow_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	struct gyre_tick t;
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	if (err)
		return err;
	for (n = 1; n <= 60 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (10 * STEP_NS));
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		j->log[me][n] = t.applied << 32 | t.posted;
		j->blocked_ns[me] += t.blocked_ns;
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_slow_fixed(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= test_times(4, 10); seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr(1 + (uint32_t)(seed % 3), 1),
			.fn = slow_main,
			.latency_ns = SLOW_NS,
		};

		assert_int_equal(job_run(&j), 0);
		check_equal(&j);
		assert_true(j.blocked_ns[0] > 60 * SLOW_NS / 4);
		/* each x as on a fast network: constant_main checks it at every tick */
		j.fn = constant_main;
		j.ticks = 30;
		assert_int_equal(job_run(&j), 0);
	}
}

static void test_slow_agreed(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr(0, 2),
			.fn = slow_main,
			.latency_ns = SLOW_NS,
		};

		j.attr.apply = GYRE_APPLY_AGREED;
		j.attr.margin = 1 + (uint32_t)(seed % 20);
		j.attr.max_delay = j.attr.margin + (uint32_t)(seed % 3) * 40;
		j.attr.ring = 1 + (uint32_t)(seed % 4);
		assert_int_equal(job_run(&j), 0);
		check_equal(&j);
		/* the same rounds at the same ticks */
		assert_memory_equal(j.log[1], j.log[0], sizeof(j.log[0]));
		assert_memory_equal(j.log[3], j.log[0], sizeof(j.log[0]));
		assert_true(j.log[0][60] >> 32 > 0);
	}
}

static void test_slow_arrival(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 10; seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr(0, 2),
			.fn = slow_main,
			.latency_ns = SLOW_NS,
		};

		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.ring = 3;
		assert_int_equal(job_run(&j), 0);
		check_equal(&j);
		for (r = 0; r < 4; r++)
			assert_int_equal(j.blocked_ns[r], 0);
		assert_true(j.log[0][60] >> 32 > 0);
	}
}

/* ---- oracle 9: a straggler ---- */

static int straggler_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
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
		check_equal(&j);
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
		check_equal(&j);
		for (r = 0; r < 4; r++)
			assert_int_equal(j.blocked_ns[r], 0);
		assert_true(j.log[1][0] > 16);	/* not held up: the straggler takes part unasked */
		assert_true(j.log[0][1] < j.log[1][1]);

		j.attr = job_attr(4, 1);
		j.ticks = 100;
		j.fn = slow_main;	/* each as fast as it can: FIXED waits for the slowest */
		assert_int_equal(job_run(&j), 0);
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
	check_equal(j);
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

/* FIXED: the others wait for the straggler. */
static int waits_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= 50 && !err; n++) {
		gy_sim_sleep(rank, (me ? 1 : 4) * STEP_NS);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_stats(d, &st);
	j->blocked_ns[me] = st.blocked_ns;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_straggler_fixed(void **state)
{
	struct job j = { .nranks = 4, .seed = 4, .attr = job_attr(2, 1), .fn = waits_main };

	assert_int_equal(job_run(&j), 0);
	assert_true(j.blocked_ns[1] > 100 * MS && j.blocked_ns[0] < j.blocked_ns[1] / 4);
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

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
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
		check_equal(&j);
	}
}

/* ---- oracle 13: the schedule changes ---- */

/* Arguments that are not the same on all ranks are refused by name. */
static int set_differs(struct gyre_delayed *d, int me)
{
	const uint32_t other = me > 0;

	if (gyre_delayed_set(d, 1, 1 + other, 0, NULL) != -EINVAL ||
	    !strstr(job_said, "period is 1 on rank 0, and 2 on rank 1"))
		return -EBADMSG;
	if (gyre_delayed_set(d, 1 + other, 1, 0, NULL) != -EINVAL ||
	    !strstr(job_said, "delay is 1 on rank 0, and 2 on rank 1"))
		return -EBADMSG;
	if (gyre_delayed_set(d, 1, 1, 90 + other, NULL) != -EINVAL ||
	    !strstr(job_said, "from_round is 90 on rank 0, and 91 on rank 1"))
		return -EBADMSG;
	if (gyre_delayed_drain(d, other ? GYRE_DRAIN_ABORT : GYRE_DRAIN_APPLY) != -EINVAL ||
	    !strstr(job_said, "how is 0 on rank 0, and 1 on rank 1"))
		return -EBADMSG;
	return 0;
}

static int set_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	struct gyre_tick t;
	uint64_t round[3];
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= 60 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		j->log[me][n] = t.applied << 32 | t.posted;
		if (!err && n == 10)
			err = gyre_delayed_set(d, 6, 3, 0, &round[0]);
		if (!err && n == 20)
			err = gyre_delayed_set(d, 1, 5, t.posted + 3, &round[1]);
		if (!err && n == 22)
			err = gyre_delayed_set(d, 0, 2, 40, &round[2]);
		if (!err && n == 23 && gyre_delayed_set(d, 100, 1, 0, NULL) != -EINVAL)
			err = -EBADMSG;		/* beyond the ring */
		if (!err && n == 24) /* not the same on all ranks */
			err = set_differs(d, me);
	}
	if (!err && (round[0] != 11 || round[1] <= round[0] || round[2] != 40))
		err = -EBADMSG;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_set(void **state)
{
	uint64_t seed;
	unsigned n;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = seed % 2 ? 4 : 2,
			.seed = seed,
			.attr = job_attr(0, 1),
			.fn = set_main,
		};

		j.attr.ring = 4;
		assert_int_equal(job_run(&j), 0);
		check_equal(&j);
		assert_memory_equal(j.log[1], j.log[0], sizeof(j.log[0]));
		assert_int_equal(j.log[0][10] & 0xffff, 10);
		for (n = 11; n <= 20; n++)	/* post-local: 13, 16 ...; merged 6 later */
			assert_int_equal(j.log[0][n] & 0xffff, 10 + (n - 10) / 3);
		assert_int_equal(j.log[0][18] >> 32, 10);
		assert_int_equal(j.log[0][19] >> 32, 11);
		assert_true(j.log[0][60] >> 32 > 14);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_synchronous),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_filter_drain),
		cmocka_unit_test(test_ready_drain),
		cmocka_unit_test(test_slow_fixed),
		cmocka_unit_test(test_slow_agreed),
		cmocka_unit_test(test_slow_arrival),
		cmocka_unit_test(test_straggler),
		cmocka_unit_test(test_fresh),
		cmocka_unit_test(test_straggler_fixed),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_pair),
		cmocka_unit_test(test_set),
	};

	gy_log_set_hook(job_log);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
