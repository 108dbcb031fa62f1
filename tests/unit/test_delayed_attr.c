/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_attr.c - delayed collectives: attributes that are wrong or differ, results handed
 * back, contributions that are not finite.
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

/* ---- wrong attributes ---- */

struct wrong {
	void (*spoil)(struct gyre_delayed_attr *a, int rank);
	const char *says;		/* what the log must have */
};

static int wrong_outer(void *arg, const struct gyre_round *round, void *anchor)
{
	return 0;
}

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

static void spoil_switch(struct gyre_delayed_attr *a, int rank)
{
	a->switch_tick = 5;
}

/* What its caller has given is the period to switch to. */
static void spoil_postlocal(struct gyre_delayed_attr *a, int rank)
{
	const size_t count = a->count;

	gyre_postlocal_sgd_attr(a, 0, 5);
	a->count = count;
}

static void spoil_switch_tick(struct gyre_delayed_attr *a, int rank)
{
	a->switch_period = 5;
}

static void spoil_switch_period(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_MODEL;
	a->delay = a->period = 4;
	a->switch_tick = 5;
	a->switch_period = 3;
}

static void spoil_switch_trigger(struct gyre_delayed_attr *a, int rank)
{
	a->trigger = GYRE_TRIGGER_READY_ALL;
	a->min_steps = 1;
	a->switch_tick = 5;
	a->switch_period = 3;
}

static void spoil_switch_adapt(struct gyre_delayed_attr *a, int rank)
{
	a->flags = GYRE_DELAYED_ADAPT;
	a->switch_tick = 5;
	a->switch_period = 3;
}

static void spoil_switch_ring(struct gyre_delayed_attr *a, int rank)
{
	a->delay = 9;
	a->period = 9;
	a->switch_tick = 5;
	a->switch_period = 2;
	a->ring = 4;
}

static void spoil_payload(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_MODEL;
	a->delay = 1;
	a->outer_lr = 1;
}

static void spoil_two_outers(struct gyre_delayed_attr *a, int rank)
{
	gyre_diloco_attr(a, 4, 0.5, 0.5, 0);
	a->count = COUNT;
	a->outer = wrong_outer;
}

static void spoil_model_ring(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_MODEL;
	a->delay = 1;
	a->ring = 2;
}

static void spoil_model_overwrite(struct gyre_delayed_attr *a, int rank)
{
	a->payload = GYRE_PAYLOAD_MODEL;
	a->merge = GYRE_MERGE_OVERWRITE;
	a->delay = a->period = 3;
}

static void spoil_min_steps(struct gyre_delayed_attr *a, int rank)
{
	a->trigger = GYRE_TRIGGER_READY_ALL;
}

static void spoil_quorum_fixed(struct gyre_delayed_attr *a, int rank)
{
	a->trigger = GYRE_TRIGGER_QUORUM;
	a->min_steps = a->quorum = 1;
}

static void spoil_quorum_model(struct gyre_delayed_attr *a, int rank)
{
	spoil_quorum_fixed(a, rank);
	a->apply = GYRE_APPLY_ARRIVAL;
	a->payload = GYRE_PAYLOAD_MODEL;
}

/* AGREED, and nothing that says how late. */
static void spoil_max_delay(struct gyre_delayed_attr *a, int rank)
{
	a->apply = GYRE_APPLY_AGREED;
	a->margin = 2;
}

static void spoil_adapt(struct gyre_delayed_attr *a, int rank)
{
	a->flags = GYRE_DELAYED_ADAPT;
	a->apply = GYRE_APPLY_ARRIVAL;
}

static void differ_switch(struct gyre_delayed_attr *a, int rank)
{
	a->switch_tick = rank == 1 ? 6 : 5;
	a->switch_period = 3;
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
	{ spoil_switch, "switch_period is 0: switch_tick 5" },
	{ spoil_postlocal, "switch_period is 0" },
	{ spoil_switch_tick, "switch_tick is 0: switch_period 5" },
	{ spoil_switch_period, "switch_period: payload MODEL needs delay <= period: delay 4, "
			       "period 3" },
	{ spoil_switch_trigger, "switch_tick needs trigger PERIOD" },
	{ spoil_switch_adapt, "ADAPT chooses the period itself: switch_tick 5" },
	{ spoil_switch_ring, "ring is 4: delay 9 and period 2 need 5" },
	{ spoil_payload, "outer, outer_lr needs payload DELTA" },
	{ spoil_two_outers, "outer and outer_lr 0.5: only one of them" },
	{ spoil_model_ring, "payload MODEL has one round in flight: ring 2" },
	{ spoil_model_overwrite, "MODEL with OVERWRITE needs delay < period: delay 3, period 3" },
	{ spoil_min_steps, "min_steps is 0" },
	{ spoil_quorum_fixed, "trigger QUORUM needs apply AGREED or ARRIVAL" },
	{ spoil_quorum_model, "trigger QUORUM needs payload DELTA" },
	{ spoil_max_delay, "apply AGREED needs max_delay >= margin: 0, 2" },
	{ spoil_adapt, "ADAPT needs PERIOD, FIXED, DELTA and ADD_DIFF" },
	{ differ_switch, "switch_tick is 5 on rank 0, and 6 on rank 1" },
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
	return job_close(d, err);
}

static void test_nan(void **state)
{
	uint64_t seed;

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
		job_check_equal(&j);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_nan),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
