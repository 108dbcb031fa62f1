/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_schedule.c - delay and period of delayed collectives that change: at the same round on
 * all ranks, and merged in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
	};

	gy_log_set_hook(job_log);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
