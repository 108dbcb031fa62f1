/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_late.c - delayed collectives when the network, or a rank, is slower than the delay:
 * who waits, for how long, and that nothing else changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

/* ---- oracle 8: a network slower than the delay ---- */

#define SLOW_NS (20 * MS)

static int slow_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	struct gyre_tick t;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (err)
		return err;
	for (n = 1; n <= 60 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (10 * STEP_NS));
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		/* nobody drains yet */
		if (n <= 30 && j->attr.max_delay && t.staleness > j->attr.max_delay)
			err = -EBADMSG;
		j->log[me][n] = t.applied << 32 | t.posted;
		j->blocked_ns[me] += t.blocked_ns;
	}
	return job_close(d, err);
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
		job_check_equal(&j);
		assert_true(j.blocked_ns[0] > 60 * SLOW_NS / 4);
		/* each x as on a fast network: job_constant_main checks it at every tick */
		j.fn = job_constant_main;
		j.ticks = 30;
		assert_int_equal(job_run(&j), 0);
	}
}

static struct job slow_job(uint64_t seed)
{
	return (struct job){
		.nranks = 4,
		.seed = seed,
		.attr = job_attr(0, 2),
		.fn = slow_main,
		.latency_ns = SLOW_NS,
	};
}

static void test_slow_agreed(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		struct job j = slow_job(seed);

		j.attr.apply = GYRE_APPLY_AGREED;
		j.attr.margin = 1 + (uint32_t)(seed % 20);
		j.attr.max_delay = j.attr.margin + (uint32_t)(seed % 3) * 40;
		j.attr.ring = 1 + (uint32_t)(seed % 4);
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
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
		struct job j = slow_job(seed);

		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.ring = 3;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		for (r = 0; r < 4; r++)
			assert_int_equal(j.blocked_ns[r], 0);
		assert_true(j.log[0][60] >> 32 > 0);
	}
}

/* A rank is max_delay ticks ahead of a round at most, and waits for that. */
static void test_slow_bound(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 6; seed++) {
		struct job j = slow_job(seed);

		j.attr.apply = GYRE_APPLY_ARRIVAL;
		j.attr.max_delay = 1 + (uint32_t)seed % 4;
		if (seed % 2)
			j.attr.payload = GYRE_PAYLOAD_MODEL;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
		assert_true(j.blocked_ns[0] > 0);
	}
}

/* ---- oracle 9: a straggler; FIXED: the others wait for it ---- */

static int waits_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	struct gyre_delayed *d;
	unsigned n;
	int err;

	err = job_open(j, rank, ctx, &d);
	for (n = 1; n <= 50 && !err; n++) {
		gy_sim_sleep(rank, (me ? 1 : 4) * STEP_NS);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_stats(d, &st);
	j->blocked_ns[me] = st.blocked_ns;
	return job_close(d, err);
}

static void test_straggler_fixed(void **state)
{
	struct job j = { .nranks = 4, .seed = 4, .attr = job_attr(2, 1), .fn = waits_main };

	assert_int_equal(job_run(&j), 0);
	assert_true(j.blocked_ns[1] > 100 * MS && j.blocked_ns[0] < j.blocked_ns[1] / 4);
}

/* ---- time limits ---- */

/* A rank that is late for longer than the others wait in a call. */
static int timeout_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed *d;
	unsigned n, late = 0;
	float before[COUNT];
	int err;

	err = job_open(j, rank, ctx, &d);
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
	return job_close(d, err);
}

static void test_timeout(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 10; seed++) {
		struct job j = {
			.nranks = 3,
			.seed = 2 * seed,
			.attr = job_attr((uint32_t)(seed % 3), 1),
			.fn = timeout_main,
		};

		j.attr.timeout_ms = 10;
		assert_int_equal(job_run(&j), 0);
		job_check_equal(&j);
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
	unsigned n, late = 0;
	int err;

	err = job_open(j, rank, ctx, &d);
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_fixed),
		cmocka_unit_test(test_slow_agreed),
		cmocka_unit_test(test_slow_arrival),
		cmocka_unit_test(test_slow_bound),
		cmocka_unit_test(test_straggler_fixed),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_timeout_drain),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
