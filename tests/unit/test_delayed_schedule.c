/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_schedule.c - delay and period of delayed collectives that change: at the same round
 * on all ranks, and merged in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

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
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
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
	return job_close(d, err);
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
		job_check_equal(&j);
		assert_memory_equal(j.log[1], j.log[0], sizeof(j.log[0]));
		assert_int_equal(j.log[0][10] & 0xffff, 10);
		for (n = 11; n <= 20; n++)	/* post-local: 13, 16 ...; merged 6 later */
			assert_int_equal(j.log[0][n] & 0xffff, 10 + (n - 10) / 3);
		assert_int_equal(j.log[0][18] >> 32, 10);
		assert_int_equal(j.log[0][19] >> 32, 11);
		assert_true(j.log[0][60] >> 32 > 14);
	}
}

/* ---- a switch of the period at an agreed tick ---- */

#define SWITCH_TICKS 60

static struct trace {
	float x[SWITCH_TICKS + 1][COUNT];	/* after each tick */
	uint64_t posted[SWITCH_TICKS + 1];
} traces[2][MAX_RANKS];

/* What the second of two runs does by hand. */
struct by_hand {
	struct trace *traces;		/* of ranks */
	unsigned set_after;		/* the tick; 0: does not call set */
	uint32_t delay, period;
	unsigned drain_after[2];
	unsigned skew;			/* each rank so many ticks after the one before it */
};

/* Depends on x, so that what once differs goes on to differ; not dyadic. */
static void trace_step(float *x, int rank, unsigned n)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += 0.01f * (float)((i * 7 + n * 13 + (unsigned)rank * 5) % 17) - 0.03f * x[i];
}

static int trace_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const struct by_hand *hand = j->arg;
	const int me = gy_sim_rank_id(rank);
	struct trace *trace = &hand->traces[me];
	struct gyre_delayed *d;
	struct gyre_tick t;
	unsigned n;
	int err;

	memset(j->x[me], 0, sizeof(j->x[me]));
	err = gyre_delayed_create(&j->attr, j->x[me], gyre_context_world(ctx), &d);
	for (n = 1; n <= SWITCH_TICKS && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		trace_step(j->x[me], me, n);
		err = gyre_delayed_tick(d, 1, &t);
		if (!err && n == hand->set_after)
			err = gyre_delayed_set(d, hand->delay, hand->period, 0, NULL);
		if (!err && (n == hand->drain_after[0] + hand->skew * (unsigned)me ||
			     n == hand->drain_after[1]))
			err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
		trace->posted[n] = t.posted;
		memcpy(trace->x[n], j->x[me], sizeof(trace->x[n]));
	}
	return job_close(d, err);
}

static void trace_run(uint64_t seed, const struct gyre_delayed_attr *attr,
		      const struct by_hand *hand)
{
	struct job j = { .nranks = 3, .seed = seed, .attr = *attr, .fn = trace_main, .arg = hand };

	j.attr.count = COUNT;
	assert_int_equal(job_run(&j), 0);
	job_check_equal(&j);
}

/* Both runs have done the same at each tick. */
static void trace_compare(void)
{
	int r;

	for (r = 0; r < 3; r++)
		assert_memory_equal(&traces[1][r], &traces[0][r], sizeof(traces[0][r]));
}

/* A run with attributes that switch is one without, in which set is called after that tick. */
static void check_switch(uint64_t seed, const struct gyre_delayed_attr *attr)
{
	struct by_hand hand = { .traces = traces[0], .drain_after = { seed % 3 ? 0 : 7, 40 } };
	struct gyre_delayed_attr plain = *attr;

	trace_run(seed, attr, &hand);
	hand.traces = traces[1];
	hand.set_after = attr->switch_tick;
	hand.delay = attr->delay;
	hand.period = attr->switch_period;
	plain.switch_tick = plain.switch_period = 0;
	plain.ring = attr->delay ? 8 : 0;
	trace_run(seed + 1, &plain, &hand);
	trace_compare();
}

static void test_postlocal(void **state)
{
	struct gyre_delayed_attr attr;
	uint64_t seed;
	unsigned n;

	for (seed = 1; seed <= 6; seed++) {
		const unsigned at = 10 + (unsigned)seed * 3;

		gyre_postlocal_sgd_attr(&attr, 4, at);
		check_switch(seed, &attr);
		for (n = 1; n <= 39; n++)	/* before the drain at 40 */
			assert_int_equal(traces[0][0].posted[n] - (seed % 3 == 0 && n > 7),
					 n <= at ? n : at + (n - at) / 4);
	}
}

/* Of any method by period, to longer and shorter ones, also in the middle of a period. */
static void test_switch(void **state)
{
	struct gyre_delayed_attr attr;
	uint64_t seed;

	for (seed = 1; seed <= 12; seed++) {
		gyre_dts_attr(&attr, (uint32_t)(seed % 7), 1 + (uint32_t)(seed % 5));
		attr.phase = (uint32_t)(seed % 3);
		attr.switch_tick = 9 + (uint32_t)seed;
		attr.switch_period = 2 + (uint32_t)(seed % 4);
		check_switch(seed, &attr);
	}
}

/* What set says later overrules it. */
static void test_switch_overruled(void **state)
{
	struct by_hand hand = { .traces = traces[0], .set_after = 8, .delay = 3, .period = 3 };
	struct gyre_delayed_attr attr;

	gyre_dts_attr(&attr, 3, 2);
	attr.ring = 3;
	trace_run(1, &attr, &hand);
	attr.switch_tick = 20;
	attr.switch_period = 5;
	hand.traces = traces[1];
	trace_run(2, &attr, &hand);
	trace_compare();
}

/* Some ranks drain before the switch, others after it: from there on all post at the same ticks. */
static void test_switch_drained(void **state)
{
	const struct by_hand hand = { .traces = traces[0], .drain_after = { 8, 0 }, .skew = 5 };
	struct gyre_delayed_attr attr;
	unsigned n;

	gyre_dts_attr(&attr, 0, 2);
	attr.apply = GYRE_APPLY_ARRIVAL;
	attr.ring = 32;
	attr.switch_tick = 10;
	attr.switch_period = 4;
	trace_run(1, &attr, &hand);
	for (n = 19; n <= SWITCH_TICKS; n++) {	/* the rank that was furthest: 10, 14, 18 */
		const uint64_t since = traces[0][0].posted[n] - traces[0][0].posted[19];

		assert_int_equal(since, (n - 18) / 4);
		assert_int_equal(traces[0][1].posted[n], traces[0][0].posted[n]);
		assert_int_equal(traces[0][2].posted[n], traces[0][0].posted[n]);
	}
}

/* A drain is no post: what comes then is counted from the post before it. */
static void test_set_drained(void **state)
{
	const struct by_hand hand = {
		.traces = traces[0], .set_after = 13, .period = 4, .drain_after = { 12, 0 },
	};
	struct gyre_delayed_attr attr;
	unsigned n;

	gyre_dts_attr(&attr, 0, 5);
	trace_run(1, &attr, &hand);
	for (n = 13; n <= SWITCH_TICKS; n++)	/* 10, 14, 18 */
		assert_int_equal(traces[0][0].posted[n] - traces[0][0].posted[13], (n - 10) / 4);
}

/* Runs, and says which ticks from first on may be those of posts. */
static void check_posts(uint64_t seed, const struct gyre_delayed_attr *attr, unsigned first)
{
	const struct by_hand hand = { .traces = traces[0] };
	unsigned n, r;

	trace_run(seed, attr, &hand);
	for (r = 0; r < 3; r++)
		for (n = attr->switch_tick + 1; n <= SWITCH_TICKS; n++)
			if (traces[0][r].posted[n] > traces[0][r].posted[n - 1] &&
			    (n < first || (n - first) % attr->switch_period))
				fail_msg("seed %u: rank %u has posted at tick %u", (unsigned)seed,
					 r, n);
}

/* Ranks whose rings are full pass over different triggers; from the switch on all count alike. */
static void test_switch_skipped(void **state)
{
	struct gyre_delayed_attr attr;
	unsigned seed, r, differ = 0;

	gyre_dts_attr(&attr, 0, 2);
	attr.apply = GYRE_APPLY_ARRIVAL;
	attr.ring = 1;
	attr.switch_tick = 10;
	attr.switch_period = 7;
	for (seed = 1; seed <= 10; seed++) {
		check_posts(seed, &attr, 17);
		for (r = 0; r < 3; r++) {
			differ += traces[0][r].posted[10] == traces[0][r].posted[9];
			assert_true(traces[0][r].posted[SWITCH_TICKS] > traces[0][r].posted[10]);
		}
	}
	assert_true(differ > 0);
}

/* What would be behind is due at once. */
static void test_switch_late(void **state)
{
	struct gyre_delayed_attr attr;

	gyre_dts_attr(&attr, 0, 8);
	attr.switch_tick = 12;
	attr.switch_period = 2;
	check_posts(1, &attr, 13);
	assert_int_equal(traces[0][0].posted[12], 1);
	assert_int_equal(traces[0][0].posted[13], 2);
	assert_int_equal(traces[0][0].posted[15], 3);
}

/* ---- a rank dies while all call set ---- */

/* What only the stack of a rank knew that was killed in the middle of a call. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:half_set_main\n";
}

struct half_set {
	uint64_t before, after;		/* events: when the first calls set, when the last has */
	uint64_t event;			/* of rank 2's death; 0: does not */
	struct gyre_delayed *d[MAX_RANKS];
	unsigned nset;			/* ranks for which set has worked */
};

static struct half_set half_set;

static void half_set_begin(struct job *j, struct gy_sim_rank *rank)
{
	if (gy_sim_rank_id(rank) == 2 && half_set.event)
		gy_sim_kill_at_event(gy_sim_world(rank), 2, half_set.event);
}

static int half_set_call(struct gy_sim_rank *rank, struct gyre_delayed *d)
{
	struct gy_sim_world *world = gy_sim_world(rank);
	int err;

	if (!half_set.before)
		half_set.before = gy_sim_events(world);
	err = gyre_delayed_set(d, 0, 3, 0, NULL);
	half_set.after = gy_sim_events(world);
	half_set.nset += !err;
	return err;
}

static int half_set_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_comm *comm;
	struct gyre_tick t;
	unsigned n;
	int err;

	job_begin_x(j->x[me]);
	err = gyre_comm_split(gyre_context_world(ctx), 0, 0, &comm);
	if (!err)
		err = gyre_delayed_create(&j->attr, j->x[me], comm, &half_set.d[me]);
	for (n = 1; n <= 40 && !err; n++) {
		job_step(j->x[me], me);
		err = gyre_delayed_tick(half_set.d[me], 1, &t);
		if (!err && n == 8)
			err = half_set_call(rank, half_set.d[me]);
		if (err)
			err = job_recover(half_set.d[me], &comm);
		j->log[me][n] = t.posted;
	}
	if (!err)
		err = gyre_delayed_drain(half_set.d[me], GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(half_set.d[me]);
	gyre_comm_destroy(comm);
	return err;
}

static void half_set_run(uint64_t event)
{
	struct job j = {
		.nranks = 3,
		.seed = 2,
		.attr = job_attr(0, 2),
		.fn = half_set_main,
		.begin = half_set_begin,
		.leaks = true,
	};
	unsigned n;

	j.attr.switch_tick = 20;
	j.attr.switch_period = 5;
	half_set = (struct half_set){ .event = event };
	assert_int_equal(job_run(&j), 0);
	if (event)
		job_bury(half_set.d[2]);
	for (n = 16; n < 40; n++)
		assert_int_equal(j.log[0][n + 1] - j.log[0][n], j.log[1][n + 1] - j.log[1][n]);
}

/* Survivors for which it has not worked have the schedule of one for which it has: no switch. */
static void test_set_killed(void **state)
{
	uint64_t event, end;
	unsigned half = 0;

	half_set_run(0);
	end = half_set.after;
	for (event = half_set.before; event <= end; event += test_times(3, 1)) {
		half_set_run(event);
		half += half_set.nset == 1;
	}
	assert_true(half > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_postlocal),
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_switch_overruled),
		cmocka_unit_test(test_switch_drained),
		cmocka_unit_test(test_set_drained),
		cmocka_unit_test(test_switch_skipped),
		cmocka_unit_test(test_switch_late),
		cmocka_unit_test(test_set_killed),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
