/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_attr.c - delayed collectives: attributes that are wrong or differ, results handed
 * back, contributions that are not finite, time limits, rounds that begin while a rank posts,
 * contributions taken anew, and why updates are exchanged instead of gradients.
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

#include "collectives/delayed/delayed.h"
#include "tests/unit/delayed_job.h"
#include "transports/sim/world.h"

/* ---- wrong attributes ---- */

struct wrong {
	void (*spoil)(struct gyre_delayed_attr *a, int rank);
	const char *says;		/* what the log must have */
};

static void spoil_size(struct gyre_delayed_attr *a, int rank)
{
	a->size = 8;
}

static void spoil_count(struct gyre_delayed_attr *a, int rank)
{
	a->count = 0;
}

static void spoil_type(struct gyre_delayed_attr *a, int rank)
{
	a->type = GYRE_INT32;
}

static void spoil_wire(struct gyre_delayed_attr *a, int rank)
{
	a->wire = GYRE_F64;
}

static void spoil_model(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_MODEL;
	a->delay = 7;
	a->period = 5;
}

static void spoil_ring(struct gyre_delayed_attr *a, int rank)
{
	a->delay = 9;
	a->period = 2;
	a->ring = 4;
}

static void spoil_raw(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_RAW;
}

static void spoil_period(struct gyre_delayed_attr *a, int rank)
{
	a->period = 0;
}

static void spoil_quorum(struct gyre_delayed_attr *a, int rank)
{
	a->trigger = GYRE_TRIGGER_QUORUM;
	a->apply = GYRE_APPLY_ARRIVAL;
	a->min_steps = 1;
	a->quorum = 9;
}

static void spoil_margin(struct gyre_delayed_attr *a, int rank)
{
	a->apply = GYRE_APPLY_AGREED;
	a->max_delay = 3;
}

static void spoil_flags(struct gyre_delayed_attr *a, int rank)
{
	a->flags = 64;
}

static void spoil_fresh(struct gyre_delayed_attr *a, int rank)
{
	a->flags = GYRE_DELAYED_FRESH;
}

static void spoil_turn(struct gyre_delayed_attr *a, int rank)
{
	a->flags = GYRE_DELAYED_IN_TURN;
}

static void spoil_overwrite(struct gyre_delayed_attr *a, int rank)
{
	a->merge = GYRE_MERGE_OVERWRITE;
	a->delay = 3;
	a->period = 2;
}

static void spoil_alpha(struct gyre_delayed_attr *a, int rank)
{
	a->merge = GYRE_MERGE_INTERPOLATE;
	a->alpha = 1.5;
}

static void differ_delay(struct gyre_delayed_attr *a, int rank)
{
	a->delay = rank == 2 ? 3 : 2;
}

static void differ_count(struct gyre_delayed_attr *a, int rank)
{
	a->count -= rank == 1;
}

static void differ_alpha(struct gyre_delayed_attr *a, int rank)
{
	a->alpha = rank == 2 ? 0.25 : 0.5;
}

static void one_is_wrong(struct gyre_delayed_attr *a, int rank)
{
	if (rank == 2)
		a->period = 0;
}

static const struct wrong wrongs[] = {
	{ spoil_size, "size is 8" },
	{ spoil_count, "count is 0" },
	{ spoil_type, "type is" },
	{ spoil_wire, "wire is" },
	{ spoil_model, "delay 7, period 5" },
	{ spoil_ring, "ring is 4: delay 9 and period 2 need 5" },
	{ spoil_raw, "merge NONE belongs to payload RAW" },
	{ spoil_period, "period is 0" },
	{ spoil_quorum, "quorum is 9" },
	{ spoil_margin, "margin 0" },
	{ spoil_flags, "flags is 0x40" },
	{ spoil_fresh, "FRESH needs trigger" },
	{ spoil_turn, "IN_TURN needs trigger" },
	{ spoil_overwrite, "delay 3, period 2" },
	{ spoil_alpha, "alpha is 1.5" },
	{ differ_delay, "delay is 2 on rank 0, and 3 on rank 2" },
	{ differ_count, "count is 37 on rank 0, and 36 on rank 1" },
	{ differ_alpha, "alpha is 0.5 on rank 0, and 0.25 on rank 2" },
	{ one_is_wrong, "period is 0 on rank 2" },
};

static int wrong_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d = NULL;
	size_t i;
	int err;

	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct gyre_delayed_attr a = job_attr(2, 1);

		wrongs[i].spoil(&a, me);
		job_said[0] = 0;
		err = gyre_delayed_create(&a, j->x[me], world, &d);
		if (err != -EINVAL || d || !strstr(job_said, wrongs[i].says)) {
			printf("%zu: %d, \"%s\", not \"%s\"\n", i, err, job_said, wrongs[i].says);
			return -EBADMSG;
		}
	}
	/* on one rank alone */
	err = gyre_delayed_create(me == 1 ? NULL : &j->attr, j->x[me], world, &d);
	if (err != -EINVAL || !strstr(job_said, "attr is NULL on rank 1"))
		return -EBADMSG;
	err = gyre_delayed_create(&j->attr, me == 2 ? NULL : j->x[me], world, &d);
	if (err != -EINVAL || !strstr(job_said, "x is NULL"))
		return -EBADMSG;
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);	/* and all is well */
	if (!err && (gyre_delayed_tick(d, -1, NULL) != -EINVAL ||
		     gyre_delayed_tick(d, (double)NAN, NULL) != -EINVAL ||
		     gyre_delayed_post(d, NULL, 1) != -EINVAL))
		err = -EBADMSG;
	gyre_delayed_destroy(d);
	return err;
}

static void test_wrong(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 5; seed++) {
		struct job j = {
			.nranks = 3, .seed = seed, .attr = job_attr(2, 1), .fn = wrong_main,
		};

		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- results that are handed back ---- */

static int raw_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const float me = (float)gy_sim_rank_id(rank);
	const unsigned delay = j->attr.delay;
	struct gyre_delayed *d;
	struct gyre_round r;
	float v[COUNT];
	unsigned n, i;
	int err;

	err = gyre_delayed_create(&j->attr, NULL, gyre_context_world(ctx), &d);
	if (!err && gyre_delayed_result(d, 1, &r) != -ENODATA)
		err = -EBADMSG;
	for (n = 1; n <= 20 && !err; n++) {
		for (i = 0; i < COUNT; i++)
			v[i] = (float)(n + i) + 8 * me;
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = gyre_delayed_post(d, v, me + 1);
		if (!err && n <= delay && gyre_delayed_result(d, 1, &r) != -EAGAIN)
			err = -EBADMSG;		/* no waiting brings what a tick must */
		if (err || n <= delay)
			continue;
		err = gyre_delayed_result(d, 1, &r);
		if (!err && (r.round != n - delay || r.staleness != delay || r.weight != me + 1 ||
			     r.weight_sum != 10 || r.count != COUNT))
			err = -EBADMSG;
		/* weights 1, 2, 3, 4: the mean of 8 rank is 16 */
		for (i = 0; i < COUNT && !err; i++)
			if (fabsf(((const float *)r.avg)[i] - (float)(n - delay + i) - 16) >
				    1e-4f ||
			    ((const float *)r.own)[i] != (float)(n - delay + i) + 8 * me)
				err = -EBADMSG;
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	for (n = 0; n < delay && !err; n++) {
		gyre_delayed_tick(d, 1, NULL);
		err = gyre_delayed_result(d, 0, &r);
	}
	gyre_delayed_destroy(d);
	return err;
}

static void test_raw(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr((uint32_t)(seed % 4), 0),
			.fn = raw_main,
		};

		j.attr.payload = GYRE_PAYLOAD_RAW;
		j.attr.merge = GYRE_MERGE_NONE;
		j.attr.trigger = GYRE_TRIGGER_MANUAL;
		/* results stay with the caller until the next call: one slot more */
		j.attr.ring = j.attr.delay + 2;
		assert_int_equal(job_run(&j), 0);
	}
}

/* ---- what fails a handle ---- */

static int nan_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	int err, n;

	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
	for (n = 1; n <= 50 && !err; n++) {
		job_step(j->x[me], me);
		if (n == 5 && me == 1)
			j->x[me][3] = NAN;
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (err != -EDOM || !strstr(job_said, "rank 1's contribution to round 5"))
		err = -EBADMSG;
	else
		err = 0;
	if (me == 1)
		j->x[me][3] = 0;
	if (!err)
		err = gyre_delayed_rebind(d, world);	/* which has not failed */
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_nan(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 10; seed++) {
		struct job j = {
			.nranks = 3, .seed = seed, .attr = job_attr(2, 1), .fn = nan_main,
		};

		j.attr.flags = GYRE_DELAYED_CHECK_FINITE;
		if (seed % 2) {
			j.attr.delay = 1;
			j.attr.merge = GYRE_MERGE_OVERWRITE;
		}
		assert_int_equal(job_run(&j), 0);
		for (r = 1; r < 3; r++)
			assert_memory_equal(j.x[r], j.x[0], sizeof(j.x[0]));
	}
}

/* A rank that is late for longer than the others wait in a call. */
static int timeout_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n, late = 0;
	float before[COUNT];
	int err;

	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= 10 && !err; n++) {
		if (me == 0 && n == 5)
			gy_sim_sleep(rank, 200 * MS);
		job_step(j->x[me], me);
		memcpy(before, j->x[me], sizeof(before));
		while ((err = gyre_delayed_tick(d, 1, NULL)) == -ETIMEDOUT && late < 100) {
			late++;
			if (memcmp(before, j->x[me], sizeof(before)))
				return -EBADMSG;
		}
	}
	if (!err && me && (late < 4 || late > 40))
		err = -EBADMSG;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static void test_timeout(void **state)
{
	uint64_t seed;
	int r;

	for (seed = 1; seed <= 10; seed++) {
		struct job j = {
			.nranks = 3,
			.seed = 2 * seed,
			.attr = job_attr((uint32_t)(seed % 3), 1),
			.fn = timeout_main,
		};

		j.attr.timeout_ms = 10;
		assert_int_equal(job_run(&j), 0);
		for (r = 1; r < 3; r++)
			assert_memory_equal(j.x[r], j.x[0], sizeof(j.x[0]));
	}
}

/*
 * The tick that posts is timed out, and a drain follows instead of another call: no steps have
 * passed for who waited, and one for rank 0.
 */
static int timeout_drain_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned ticks = me ? 2 : 3;
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n, i, late = 0;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	if (me == 0)
		gy_sim_sleep(rank, 200 * MS);
	for (n = 1; n <= ticks && !err; n++) {
		job_step(j->x[me], me);
		do
			err = gyre_delayed_tick(d, 1, NULL);
		while (me == 0 && err == -ETIMEDOUT && ++late < 100);
	}
	if (me)
		err = err == -ETIMEDOUT ? 0 : -EBADMSG;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err)
		err = gyre_delayed_stats(d, &st);
	if (!err)
		j->log[me][0] = st.max_staleness;
	gyre_delayed_destroy(d);
	return err;
}

static void test_timeout_drain(void **state)
{
	uint64_t seed;
	unsigned i;
	int r;

	for (seed = 1; seed <= 10; seed++) {
		const bool by_steps = seed % 2;
		const float share = by_steps ? 1 : 0.25f;
		struct job j = {
			.nranks = 4,
			.seed = seed,
			.attr = job_attr(0, 2),
			.fn = timeout_drain_main,
		};

		j.attr.timeout_ms = 10;
		j.attr.flags = by_steps ? GYRE_DELAYED_BY_STEPS : GYRE_DELAYED_WEIGHT_STEPS;
		assert_int_equal(job_run(&j), 0);
		for (r = 0; r < j.nranks; r++) {
			assert_int_equal(j.log[r][0], 0);
			for (i = 0; i < COUNT; i++) {
				const float all = job_initial(i) + 2 * job_mean_update(4, i);

				assert_float_equal(j.x[r][i], all + share * job_update(0, i), 0);
			}
		}
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
	int r;

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
		for (r = 1; r < j.nranks; r++)
			assert_memory_equal(j.x[r], j.x[0], sizeof(j.x[0]));
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
	unsigned n, i;
	int err;

	for (i = 0; i < COUNT; i++)
		j->x[me][i] = job_initial(i);
	err = gyre_delayed_create(&j->attr, j->x[me], world, &d);
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
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),	      cmocka_unit_test(test_raw),
		cmocka_unit_test(test_nan),	      cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_timeout_drain), cmocka_unit_test(test_gap),
		cmocka_unit_test(test_abstain),
		cmocka_unit_test(test_rate_drop),     cmocka_unit_test(test_heavy_ball),
	};

	gy_log_set_hook(job_log);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
