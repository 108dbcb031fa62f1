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
#include <gyre/gyre.h>

#include "collectives/delayed/delayed.h"
#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 5
#define COUNT 37
#define STEP_NS 1000000u
#define MS UINT64_C(1000000)

static char said[1000];		/* the last error that was logged */

static void log_keep(enum gy_log_level level, const char *text)
{
	if (level == GY_LOG_ERROR)
		snprintf(said, sizeof(said), "%s", text);
}

/* A job of the simulator, and what its ranks leave for the test. */
struct job {
	int nranks;
	uint64_t seed;
	struct gyre_delayed_attr attr;
	int (*fn)(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx);
	uint32_t latency_ns;
	unsigned ticks;
	float x[MAX_RANKS][COUNT];
	uint64_t log[MAX_RANKS][64];
	uint64_t blocked_ns[MAX_RANKS];
	const void *arg;
};

static struct gyre_delayed_attr attr_of(uint32_t delay, uint32_t period)
{
	struct gyre_delayed_attr a;

	gyre_delayed_attr_init(&a);
	a.count = COUNT;
	a.delay = delay;
	a.period = period;
	return a;
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct job *j = arg;
	struct gyre_context *ctx;
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.stall_timeout_ms = 10000;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	err = j->fn(j, rank, ctx);
	gyre_context_destroy(ctx);
	return err;
}

static int job_run(struct job *j)
{
	struct gy_sim_attr sim;
	int err;

	gy_sim_attr_init(&sim, j->nranks, j->seed);
	sim.random_links = j->seed % 2;
	sim.link.jitter_ns = 200000;
	if (j->latency_ns) {
		sim.random_links = false;
		sim.link.latency_ns = j->latency_ns;
	}
	sim.deadline_ns = 100000 * MS;
	err = gy_sim_run(&sim, rank_main, j);
	if (!err && gy_alloc_live()) {
		printf("%ld blocks are left\n", gy_alloc_live());
		err = -ENOTEMPTY;
	}
	if (err)
		printf("seed %llu: %d ranks, delay %u, period %u: %s; logged last: %s\n",
		       (unsigned long long)j->seed, j->nranks, j->attr.delay, j->attr.period,
		       gyre_strerror(err), said);
	return err;
}

/* What rank adds to element i at each step: a multiple of 1/8. */
static float update(int rank, unsigned i)
{
	return (float)((int)((unsigned)rank * 5 + i * 3) % 16 - 7) / 8;
}

static float mean_update(int nranks, unsigned i)
{
	float sum = 0;
	int r;

	for (r = 0; r < nranks; r++)
		sum += update(r, i);
	return sum / (float)nranks;
}

static float initial(unsigned i)
{
	return (float)i - 10;
}

static void step(float *x, int rank)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += update(rank, i);
}

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
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	if (err)
		return err;
	for (n = 1; n <= j->ticks && !err; n++) {
		const unsigned k = n >= delay ? (n - delay) / p : 0;

		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		if (!err && (t.tick != n || t.applied != k))
			err = -EBADMSG;
		for (i = 0; i < COUNT && !err; i++) {
			const float want = initial(i) + (float)(p * k) * mean_update(j->nranks, i) +
					   (float)(n - p * k) * update(me, i);

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
					.seed = seed++,
					.attr = attr_of(delay, p),
					.fn = constant_main,
					.ticks = 25,
				};

				j.attr.commit = (enum gyre_commit)commit;
				assert_int_equal(job_run(&j), 0);
				check_equal(&j);
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
			.attr = attr_of(0, 1),
			.fn = sync_main,
		};

		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- oracle 3: after a drain all are equal, whatever the method ---- */

/* Whole eighths go, the rest stays. */
static void filter_eighths(void *arg, void *s, size_t count, uint64_t round)
{
	float *v = s;
	size_t i;

	for (i = 0; i < count; i++)
		v[i] = (float)(int)(v[i] * 8) / 8;
}

static int outer_half(void *arg, const struct gyre_round *round, void *anchor)
{
	const float *avg = round->avg;
	float *a = anchor;
	size_t i;

	for (i = 0; i < round->count; i++)
		a[i] += 0.5f * avg[i];
	return 0;
}

/* A setting that create takes; what it refuses is tried again with other numbers. */
static struct gyre_delayed_attr attr_draw(uint64_t *rng)
{
	struct gyre_delayed_attr a = attr_of(0, 1);

	*rng = *rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	a.trigger = (enum gyre_trigger)(*rng >> 20 & 3);
	a.apply = (enum gyre_apply)((*rng >> 23) % 3);
	a.merge = (enum gyre_merge)((*rng >> 26) % 3);
	a.payload = (enum gyre_payload)(*rng >> 29 & 1);
	a.commit = (enum gyre_commit)(*rng >> 30 & 1);
	a.period = 1 + (uint32_t)((*rng >> 31) % 4);
	a.delay = (uint32_t)((*rng >> 34) % 7);
	if (a.payload == GYRE_PAYLOAD_MODEL || a.merge != GYRE_MERGE_ADD_DIFF)
		a.delay %= a.period + 1;
	if (a.payload == GYRE_PAYLOAD_MODEL && a.merge == GYRE_MERGE_OVERWRITE)
		a.delay %= a.period;
	a.min_steps = a.period;
	a.quorum = 1;
	a.grace_ms = (uint32_t)(*rng >> 37 & 3);
	a.margin = 1 + (uint32_t)(*rng >> 39 & 3);
	a.max_delay = a.apply == GYRE_APPLY_AGREED ? a.margin + 4 : 0;
	a.alpha = 0.5;
	a.wire = (*rng >> 41 & 3) == 0 ? GYRE_BF16 : a.type;
	if (a.trigger == GYRE_TRIGGER_QUORUM && a.apply == GYRE_APPLY_FIXED)
		a.apply = GYRE_APPLY_ARRIVAL;
	if (a.payload == GYRE_PAYLOAD_MODEL && a.trigger == GYRE_TRIGGER_QUORUM)
		a.trigger = GYRE_TRIGGER_READY_ALL;
	if (a.payload == GYRE_PAYLOAD_DELTA) {
		a.filter = (*rng >> 43 & 3) == 0 ? filter_eighths : NULL;
		a.outer = (*rng >> 45 & 3) == 0 ? outer_half : NULL;
		if (!a.outer && (*rng >> 45 & 3) == 1) {
			a.outer_lr = 0.5;
			a.outer_momentum = 0.5;
			a.outer_nesterov = *rng >> 47 & 1;
		}
		a.flags = *rng >> 48 & 1 ? GYRE_DELAYED_BY_STEPS : 0;
	}
	return a;
}

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
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (phase = 0; phase < 3 && !err; phase++) {
		for (n = 1; n <= ticks && !err; n++) {
			gy_sim_sleep(rank, gy_sim_random(rank) % (STEP_NS * (unsigned)(me + 1)));
			step(j->x[me], me);
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

static void attr_print(const struct gyre_delayed_attr *a)
{
	printf("trigger %d, apply %d, merge %d, payload %d, commit %d, wire %d, flags %u, "
	       "delay %u, period %u, margin %u, grace %u, %s, %s, outer_lr %g\n",
	       (int)a->trigger, (int)a->apply, (int)a->merge, (int)a->payload, (int)a->commit,
	       (int)a->wire, a->flags, a->delay, a->period, a->margin, a->grace_ms,
	       a->filter ? "filter" : "", a->outer ? "outer" : "", a->outer_lr);
}

static void test_modes(void **state)
{
	uint64_t seed, rng = 1;

	for (seed = 1; seed <= 300; seed++) {
		struct job j = {
			.nranks = 1 + (int)(seed % 4),
			.seed = seed,
			.attr = attr_draw(&rng),
			.fn = modes_main,
		};
		const int err = job_run(&j);

		if (err)
			attr_print(&j.attr);
		assert_int_equal(err, 0);
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
			want += initial(i) + (float)steps * update(r, i);
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
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
	for (n = 1; n <= 60 && !err; n++) {
		if (n <= 20)
			step(j->x[me], me);
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
			.attr = attr_of((uint32_t)(seed % 5), 1 + (uint32_t)(seed % 3)),
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
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	if (err)
		return err;
	for (n = 1; n <= 60 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (10 * STEP_NS));
		step(j->x[me], me);
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

	for (seed = 1; seed <= 10; seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = attr_of(1 + (uint32_t)(seed % 3), 1),
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
			.attr = attr_of(0, 2),
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
			.attr = attr_of(0, 2),
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
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
	for (n = 1; n <= (me ? j->ticks : j->ticks / 4) && !err; n++) {
		gy_sim_sleep(rank, (me ? 1 : 4) * STEP_NS);
		step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (err)
		return err;
	gyre_delayed_stats(d, &st);
	j->blocked_ns[me] = st.blocked_ns;
	j->log[me][0] = st.applied;
	j->log[me][1] = st.posted;
	err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_straggler(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 10; seed++) {
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

		j.attr = attr_of(0, 0);
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

		j.attr = attr_of(4, 1);
		j.ticks = 100;
		j.fn = slow_main;	/* each as fast as it can: FIXED waits for the slowest */
		assert_int_equal(job_run(&j), 0);
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
	struct job j = { .nranks = 4, .seed = 4, .attr = attr_of(2, 1), .fn = waits_main };

	assert_int_equal(job_run(&j), 0);
	assert_true(j.blocked_ns[1] > 100 * MS && j.blocked_ns[0] < j.blocked_ns[1] / 4);
}

/* ---- oracle 11: weights ---- */

struct weights {
	double w[4];
	unsigned h[4];			/* BY_STEPS: steps per tick */
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
		j->x[me][i] = initial(i);
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
		const float want = w->noop ? initial(i) + own
					   : initial(i) + w->mean + (w->w[me] > 0 ? 0 : own);

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
	};
	uint64_t seed;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (seed = 1; seed <= 4; seed++) {
			struct job j = {
				.nranks = 4,
				.seed = seed,
				.attr = attr_of(0, 0),
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
		y[i] = j->x[me][i] = initial(i);
	other.period = j->attr.period + 1;
	other.delay = j->attr.delay + 2;
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d[0]);
	if (!err)
		err = gyre_delayed_create(&other, y, gyre_context_world(ctx), &d[1]);
	for (n = 1; n <= 30 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		step(j->x[me], me);
		step(y, me);
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
			.attr = attr_of((uint32_t)(seed % 5), 1 + (uint32_t)(seed % 3)),
			.fn = pair_main,
		};

		assert_int_equal(job_run(&j), 0);
		check_equal(&j);
	}
}

/* ---- oracle 13: the schedule changes ---- */

static int set_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	struct gyre_tick t;
	uint64_t round[3];
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= 60 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		step(j->x[me], me);
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
		if (!err && n == 24 && gyre_delayed_set(d, 1, 1 + (unsigned)me, 0, NULL) != -EINVAL)
			err = -EBADMSG;		/* not the same on all ranks */
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
			.attr = attr_of(0, 1),
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

/* ---- oracle 14: destroyed with rounds in flight ---- */

static int destroy_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	const unsigned ticks = 1 + (unsigned)(gy_sim_random(rank) % 6);
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
	if (err)
		return err;
	for (n = 0; n < ticks; n++) {
		step(j->x[me], me);
		gyre_delayed_tick(d, 1, NULL);	/* another may have destroyed its */
	}
	gyre_delayed_destroy(d);
	return gyre_barrier(world);	/* the communicator it was made of is as it was */
}

static void test_destroy(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 100; seed++) {
		struct job j = {
			.nranks = 2 + (int)(seed % 3),
			.seed = seed,
			.attr = attr_of(8, 1 + (uint32_t)(seed % 2)),
			.fn = destroy_main,
		};

		if (seed % 3 == 0) {
			j.attr.trigger = GYRE_TRIGGER_READY_ALL;
			j.attr.apply = GYRE_APPLY_ARRIVAL;
			j.attr.min_steps = 1;
		}
		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- oracle 10: a rank dies ---- */

/* A multiple of all that ranks may be divided by. */
static float whole_update(int rank, unsigned i)
{
	return (float)(60 * ((rank * 3 + (int)i) % 7 - 3));
}

struct survivor {
	struct job *j;
	struct gy_sim_rank *rank;
	struct gyre_comm *survivors;
	struct gyre_delayed *d;
	int me;
	unsigned n;			/* ticks */
	unsigned shared;		/* rounds with the victim, that all have merged or will */
	bool rebound;
};

struct deaths {
	int victim;
	uint64_t event;			/* 0: it ends by itself */
	uint64_t created;		/* event after which all have a handle */
	unsigned rebound;		/* survivors that did */
	struct survivor ranks[MAX_RANKS];
};

static float mean_of(const struct job *j, int but, unsigned i)
{
	float sum = 0;
	int r, n = 0;

	for (r = 0; r < j->nranks; r++) {
		sum += r == but ? 0 : whole_update(r, i);
		n += r != but;
	}
	return sum / (float)n;
}

/* Before a failure, and at it: x is what the rounds merged so far make it. */
static int survivor_check(const struct survivor *s, uint64_t applied)
{
	const struct job *j = s->j;
	const float p = (float)j->attr.period;
	unsigned i;

	for (i = 0; i < COUNT; i++) {
		const float want = p * (float)applied * mean_of(j, -1, i) +
				   ((float)s->n - p * (float)applied) * whole_update(s->me, i);

		if (j->x[s->me][i] != want) {
			printf("rank %d, tick %u, %u rounds merged, element %u: %g, not %g\n",
			       s->me, s->n, (unsigned)applied, i, (double)j->x[s->me][i],
			       (double)want);
			return -EBADMSG;
		}
	}
	return 0;
}

static int survivor_rebind(struct survivor *s)
{
	struct gyre_delayed_stats st;
	int err = gyre_delayed_rebind(s->d, s->survivors);

	if (err)
		return err;
	err = gyre_delayed_stats(s->d, &st);
	if (!s->rebound)
		s->shared = (unsigned)st.committed;
	s->rebound = true;
	return err;
}

static int survivor_ticks(struct survivor *s, unsigned upto)
{
	struct job *j = s->j;
	struct gyre_tick t;
	unsigned i;
	int err, bad;

	while (s->n < upto) {
		gy_sim_sleep(s->rank, gy_sim_random(s->rank) % STEP_NS);
		for (i = 0; i < COUNT; i++)
			j->x[s->me][i] += whole_update(s->me, i);
		s->n++;
		err = gyre_delayed_tick(s->d, 1, &t);
		bad = s->rebound ? 0 : survivor_check(s, t.applied);
		if (bad)
			return bad;
		if (err && s->rebound)
			return err;
		if (err)
			err = survivor_rebind(s);
		if (err)
			return err;
	}
	return 0;
}

/* All that survivors have done is in the model; of the victim, what was in shared rounds. */
static int survivor_check_end(struct survivor *s, unsigned shared)
{
	const struct job *j = s->j;
	const struct deaths *dead = j->arg;
	const float p = (float)j->attr.period;
	unsigned i;

	for (i = 0; i < COUNT; i++) {
		const float all = mean_of(j, -1, i), rest = mean_of(j, dead->victim, i);
		const float want =
			p * (float)shared * all + ((float)s->n - p * (float)shared) * rest;

		if (j->x[s->me][i] != want) {
			printf("rank %d, %u shared rounds, element %u: %g, not %g\n", s->me, shared,
			       i, (double)j->x[s->me][i], (double)want);
			return -EBADMSG;
		}
	}
	return 0;
}

/* Drains until it has worked for all survivors. */
static int survivor_drain(struct survivor *s)
{
	unsigned mine[2], all[2];
	int tries, err, ok;

	for (tries = 0; tries < 3; tries++) {
		ok = gyre_delayed_drain(s->d, GYRE_DRAIN_APPLY) == 0;
		mine[0] = !ok;
		mine[1] = s->rebound ? s->shared : 0;
		err = gyre_allreduce(mine, all, 2, GYRE_UINT32, GYRE_MAX, s->survivors);
		if (err || !all[0]) {
			s->shared = all[1];
			return err;
		}
		err = survivor_rebind(s);
		if (err)
			return err;
	}
	return -EBADMSG;
}

static int killed_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct deaths *dead = (struct deaths *)j->arg;
	struct gyre_comm *world = gyre_context_world(ctx);
	struct survivor *s = &dead->ranks[me];
	int err;

	*s = (struct survivor){ .j = j, .rank = rank, .me = me };
	err = gyre_comm_split(world, me != dead->victim, 0, &s->survivors);
	if (!err)
		err = gyre_delayed_create(&j->attr, j->x[me], world, &s->d);
	if (err) {		/* it died so early that there is nothing to go on with */
		gyre_comm_destroy(s->survivors);
		return 0;
	}
	dead->created = gy_sim_events(gy_sim_world(rank));
	err = survivor_ticks(s, 12);
	if (me == dead->victim) {	/* now, if not before */
		gy_sim_kill(gy_sim_world(rank), me, 0);
		gy_sim_sleep(rank, MS);
	}
	if (!err)
		err = survivor_ticks(s, 30);
	if (!err)
		err = survivor_drain(s);
	if (!err)
		err = survivor_check_end(s, s->shared);
	dead->rebound += s->rebound;
	gyre_delayed_destroy(s->d);
	gyre_comm_destroy(s->survivors);
	return err;
}

static int killed_start(struct gy_sim_rank *rank, void *arg)
{
	const struct job *j = arg;
	const struct deaths *dead = j->arg;

	if (gy_sim_rank_id(rank) == dead->victim && dead->event)
		gy_sim_kill_at_event(gy_sim_world(rank), dead->victim, dead->event);
	return rank_main(rank, arg);
}

/* What a killed rank's stack alone knew. */
static void handle_bury(struct gyre_delayed *d)
{
	if (!d)
		return;
	gy_free(d->rounds);
	gy_free(d->inflight);
	gy_free(d->commit_ticks);
	gy_free(d->members);
	gy_free(d->standings);
	gy_free(d->zeros);
	gy_free(d);
}

static int killed_run(struct job *j, struct deaths *dead, struct gy_sim_stats *stats)
{
	struct gy_sim_attr sim;
	int err;

	memset(j->x, 0, sizeof(j->x));
	gy_sim_attr_init(&sim, j->nranks, j->seed);
	sim.random_links = j->seed % 2;
	sim.link.jitter_ns = 200000;
	sim.deadline_ns = 100000 * MS;
	sim.stats = stats;
	j->arg = dead;
	err = gy_sim_run(&sim, killed_start, j);
	if (err)
		printf("seed %llu: rank %d of %d killed at event %llu, delay %u, period %u, "
		       "commit %d: %s; logged last: %s\n",
		       (unsigned long long)j->seed, dead->victim, j->nranks,
		       (unsigned long long)dead->event, j->attr.delay, j->attr.period,
		       (int)j->attr.commit, gyre_strerror(err), said);
	handle_bury(dead->ranks[dead->victim].d);
	return err;
}

static void test_killed(void **state)
{
	const unsigned seeds = getenv("GY_TEST_LONG") ? 3000 : 150;
	unsigned rebound = 0;
	uint64_t seed;

	for (seed = 1; seed <= seeds; seed++) {
		struct job j = {
			.nranks = 2 + (int)(seed % 4),
			.seed = seed,
			.attr = attr_of((uint32_t)(seed % 7), 1 + (uint32_t)(seed % 3)),
			.fn = killed_main,
		};
		struct deaths dead = { .victim = (int)(seed / 4 % (uint64_t)j.nranks) };
		struct gy_sim_stats stats;

		j.attr.commit = seed % 5 == 4 ? GYRE_COMMIT_NONE : GYRE_COMMIT_ALL;
		assert_int_equal(killed_run(&j, &dead, &stats), 0);
		dead = (struct deaths){
			.victim = dead.victim,
			.event = dead.created + seed * 7919 % (stats.events - dead.created),
		};
		assert_int_equal(killed_run(&j, &dead, &stats), 0);
		rebound += dead.rebound;
	}
	assert_true(rebound > seeds);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_synchronous),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_slow_fixed),
		cmocka_unit_test(test_slow_agreed),
		cmocka_unit_test(test_slow_arrival),
		cmocka_unit_test(test_straggler),
		cmocka_unit_test(test_straggler_fixed),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_pair),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_destroy),
		cmocka_unit_test(test_killed),
	};

	gy_log_set_hook(log_keep);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
