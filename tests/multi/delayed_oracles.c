/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delayed_oracles.c - what methods of delayed collectives promise, with processes: the bits of a
 * synchronous average, weights, a schedule that changes, contributions that a filter makes smaller,
 * handles that are destroyed with rounds in flight, and connections slower than the delay.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/multi/delayed_work.h"

/* Delay 0, period 1: the bits of an average by allreduce. */
static int work_sync(struct rank *rank)
{
	const struct gyre_delayed_attr a = delayed_attr(0, 1);
	uint64_t dice = rank->seed * RANKS + (unsigned)rank->me;
	float *y = calloc(COUNT, sizeof(*y)), *sum = calloc(COUNT, sizeof(*sum));
	struct gyre_delayed *d = NULL;
	unsigned n, i;
	int err = y && sum ? 0 : -ENOMEM;

	if (!err)
		err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 0; n < 8 && !err; n++) {
		for (i = 0; i < COUNT; i++) {
			rank->x[i] += (float)(int32_t)delayed_random(&dice) * 1e-9f;
			sum[i] = rank->x[i] - y[i];
		}
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = gyre_allreduce(GYRE_IN_PLACE, sum, COUNT, GYRE_F32, GYRE_SUM,
					     rank->world);
		for (i = 0; i < COUNT; i++)
			y[i] += sum[i] / RANKS;
		for (i = 0; i < COUNT && !err; i++)
			err = delayed_expect(rank, "synchronous", i, rank->x[i], y[i]);
	}
	gyre_delayed_destroy(d);
	free(sum);
	free(y);
	return err;
}

/* ---- weights ---- */

struct weights {
	double w[RANKS];
	unsigned h[RANKS]; /* steps, a tick each */
	unsigned flags;
	double mean; /* of updates 1, 2, 4, 8 */
	bool noop;
};

static int weights_case(struct rank *rank, const struct weights *w)
{
	struct gyre_delayed_attr a = delayed_attr(0, 0);
	const float u = (float)(1 << rank->me);
	const double own = (double)w->h[rank->me] * (double)u;
	struct gyre_delayed *d = NULL;
	unsigned i, k;
	int err;

	a.trigger = GYRE_TRIGGER_MANUAL;
	a.flags = w->flags;
	memset(rank->x, 0, COUNT * sizeof(float));
	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (k = 0; k < w->h[rank->me] && !err; k++) {
		for (i = 0; i < COUNT; i++)
			rank->x[i] += u;
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_post(d, NULL, w->w[rank->me]);
	/* merged, with delay 0; who has abstained keeps its progress */
	for (i = 0; i < COUNT && !err; i++)
		err = delayed_expect(rank, "weighted", i, rank->x[i],
				     w->mean + (w->noop || w->w[rank->me] == 0 ? own : 0));
	gyre_delayed_destroy(d);
	return err;
}

static int work_weights(struct rank *rank)
{
	static const struct weights cases[] = {
		{ { 1, 2, 5, 8 }, { 1, 1, 1, 1 }, 0, 89 / 16.0, false },
		{ { 0, 1, 2, 5 }, { 1, 1, 1, 1 }, 0, 50 / 8.0, false },
		{ { 0, 0, 0, 0 }, { 1, 1, 1, 1 }, 0, 0, true },
		/* each by its steps; the mean of these is (1 + 2 + 4 + 1) / 4 = 2 */
		{ { 1, 1, 1, 1 }, { 1, 2, 4, 1 }, GYRE_DELAYED_BY_STEPS, 15 / 4.0 * 2, false },
		/* weights 1, 2, 4, 1 */
		{ { 1, 1, 1, 1 }, { 1, 2, 4, 1 }, GYRE_DELAYED_WEIGHT_STEPS, 81 / 8.0, false },
	};
	size_t i;
	int err = 0;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]) && !err; i++)
		err = weights_case(rank, &cases[i]);
	return err;
}

/* ---- a schedule that changes ---- */

/* The same rounds at the same ticks on all ranks. */
static int check_logs(const struct rank *rank, const uint64_t *log, unsigned n)
{
	uint64_t *first = malloc(n * sizeof(*first));
	int err = first ? 0 : -ENOMEM;

	if (!err) {
		memcpy(first, log, n * sizeof(*first));
		err = gyre_broadcast(first, n, GYRE_UINT64, 0, rank->world);
	}
	if (!err && memcmp(first, log, n * sizeof(*first))) {
		fprintf(stderr, "rank %d: rounds are not at rank 0's ticks\n", rank->me);
		err = -EBADMSG;
	}
	free(first);
	return err;
}

static int set_ticks(struct rank *rank, struct gyre_delayed *d, uint64_t *log)
{
	uint64_t round = 0;
	struct gyre_tick t;
	unsigned n;
	int err = 0;

	for (n = 1; n <= 60 && !err; n++) {
		delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, &t);
		log[n] = t.applied << 32 | t.posted;
		if (!err && n == 10) {
			err = gyre_delayed_set(d, 6, 3, 0, &round);
			if (!err && round != 11)
				err = -EBADMSG;
		}
		if (!err && n == 20)
			err = gyre_delayed_set(d, 1, 5, t.posted + 3, &round);
		if (!err && n == 22)
			err = gyre_delayed_set(d, 0, 2, 40, &round);
		if (!err && n == 23 && gyre_delayed_set(d, 100, 1, 0, NULL) != -EINVAL)
			err = -EBADMSG; /* beyond the ring */
	}
	return err;
}

static int work_set(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(0, 1);
	struct gyre_delayed *d = NULL;
	uint64_t log[61] = { 0 };
	unsigned n;
	int err;

	a.ring = 4;
	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	if (!err)
		err = set_ticks(rank, d, log);
	if (!err)
		err = check_logs(rank, log, 61);
	for (n = 11; n <= 20 && !err; n++) /* 13, 16 ... */
		if ((log[n] & 0xffff) != 10 + (n - 10) / 3)
			err = -EBADMSG;
	/* merged 6 later, and in order to the end */
	if (!err && (log[18] >> 32 != 10 || log[19] >> 32 != 11 || log[60] >> 32 <= 14))
		err = -EBADMSG;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	for (n = 0; n < COUNT && !err; n++)
		err = delayed_expect(rank, "drained", n, rank->x[n],
				     60 * delayed_mean_update(-1, n));
	gyre_delayed_destroy(d);
	return err;
}

/* ---- a filter ---- */

/* A quarter of the elements, another one each time. */
static void filter_quarter(void *arg, void *s, size_t count, uint64_t round)
{
	float *v = s;
	size_t i;

	for (i = 0; i < count; i++)
		if ((i + round) % 4)
			v[i] = 0;
}

/* The mean of all models is that of their progress, whatever was left out so far. */
static int check_conserved(const struct rank *rank, float *sum, unsigned steps)
{
	unsigned i;
	int err;

	memcpy(sum, rank->x, COUNT * sizeof(*sum));
	err = gyre_allreduce(GYRE_IN_PLACE, sum, COUNT, GYRE_F32, GYRE_SUM, rank->world);
	for (i = 0; i < COUNT && !err; i++)
		err = delayed_expect(rank, "sum", i, sum[i],
				     (float)steps * RANKS * delayed_mean_update(-1, i));
	return err;
}

static int work_filter(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(2, 1);
	float *sum = malloc(COUNT * sizeof(*sum));
	struct gyre_delayed *d = NULL;
	unsigned n;
	int err = sum ? 0 : -ENOMEM;

	a.filter = filter_quarter;
	if (!err)
		err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 1; n <= 20 && !err; n++) {
		if (n <= 12)
			delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = check_conserved(rank, sum, n < 12 ? n : 12);
	}
	/* by now all that was left out has come */
	for (n = 0; n < COUNT && !err; n++)
		err = delayed_expect(rank, "delivered", n, rank->x[n],
				     12 * delayed_mean_update(-1, n));
	gyre_delayed_destroy(d);
	free(sum);
	return err;
}

/* ---- destroyed with rounds in flight ---- */

/* Then x is the caller's again, and the communicator as it was. */
static int destroy_once(struct rank *rank, const struct gyre_delayed_attr *a, unsigned ticks)
{
	float *x = calloc(COUNT, sizeof(*x));
	struct gyre_delayed *d = NULL;
	float one = 1;
	unsigned i;
	int err = x ? gyre_delayed_create(a, x, rank->world, &d) : -ENOMEM;

	for (i = 0; i < ticks && !err; i++) {
		delayed_step(x, rank->me);
		gyre_delayed_tick(d, 1, NULL); /* another may have destroyed its */
	}
	gyre_delayed_destroy(d);
	for (i = 0; i < COUNT && x; i++)
		x[i] = -1;
	if (!err)
		err = gyre_allreduce(GYRE_IN_PLACE, &one, 1, GYRE_F32, GYRE_SUM, rank->world);
	if (!err)
		err = delayed_expect(rank, "sum of ones", 0, one, RANKS);
	for (i = 0; i < COUNT && !err; i++)
		err = delayed_expect(rank, "x of a destroyed handle", i, x[i], -1);
	free(x);
	return err;
}

static int work_destroy(struct rank *rank)
{
	uint64_t dice = rank->seed * RANKS + (unsigned)rank->me;
	struct gyre_delayed_attr a;
	unsigned i;
	int err = 0;

	for (i = 0; i < 10 && !err; i++) {
		a = delayed_attr(8, 1 + i % 2);
		if (i % 3 == 0) {
			a.trigger = GYRE_TRIGGER_READY_ALL;
			a.apply = GYRE_APPLY_ARRIVAL;
			a.min_steps = 1;
		}
		err = destroy_once(rank, &a, 1 + (unsigned)(delayed_random(&dice) >> 33) % 6);
	}
	return err;
}

/* ---- connections slower than the delay ---- */

#define ONE_WAY_NS 1500000u
#define SLOW "rtt=3ms"

/* FIXED waits, and x is at each tick what it is on a fast network. */
static int work_slow_fixed(struct rank *rank)
{
	const struct gyre_delayed_attr a = delayed_attr(2, 1);
	struct gyre_delayed_stats st = { 0 };
	struct gyre_delayed *d = NULL;
	unsigned n;
	int err;

	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 1; n <= 20 && !err; n++) {
		delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err)
			err = delayed_check(rank, rank->x, n, n < a.delay ? 0 : n - a.delay);
	}
	if (!err)
		err = gyre_delayed_stats(d, &st);
	if (!err && st.blocked_ns < 8 * ONE_WAY_NS) /* two at a time, and to compute is quick */
		err = -EBADMSG;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

#define SLOW_TICKS 60

/* AGREED: the same rounds at the same ticks; ARRIVAL: nobody waits. */
static int slow_led(struct rank *rank, const struct gyre_delayed_attr *a)
{
	uint64_t *log = calloc(SLOW_TICKS * DELAYED_BATCHES, sizeof(*log));
	struct gyre_delayed_stats st = { 0 };
	struct gyre_delayed *d = NULL;
	unsigned ticks, n;
	int err = log ? 0 : -ENOMEM;

	if (!err)
		err = gyre_delayed_create(a, rank->x, rank->world, &d);
	if (!err)
		err = delayed_until_merged(rank, d, 1e-3, SLOW_TICKS, log, &ticks);
	if (!err)
		err = gyre_delayed_stats(d, &st);
	if (!err && a->apply == GYRE_APPLY_AGREED)
		err = check_logs(rank, log, ticks);
	if (!err && a->apply == GYRE_APPLY_ARRIVAL && st.blocked_ns) {
		fprintf(stderr, "rank %d: waited for %llu ns\n", rank->me,
			(unsigned long long)st.blocked_ns);
		err = -EBADMSG;
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	/* ARRIVAL: ranks take part in unequal rounds, and only in the end all are equal */
	for (n = 0; n < COUNT && !err && a->apply == GYRE_APPLY_AGREED; n++)
		err = delayed_expect(rank, "drained", n, rank->x[n],
				     (float)ticks * delayed_mean_update(-1, n));
	gyre_delayed_destroy(d);
	free(log);
	return err;
}

static int work_slow_agreed(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(0, 2);

	a.apply = GYRE_APPLY_AGREED;
	a.margin = 2;
	a.max_delay = 20;
	a.ring = 3;
	return slow_led(rank, &a);
}

static int work_slow_arrival(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(0, 2);

	a.apply = GYRE_APPLY_ARRIVAL;
	a.ring = 3;
	return slow_led(rank, &a);
}

const struct work delayed_oracles[] = {
	{ .name = "sync", .fn = work_sync },
	{ .name = "weights", .fn = work_weights, .parts = true },
	{ .name = "set", .fn = work_set },
	{ .name = "filter", .fn = work_filter },
	{ .name = "destroy", .fn = work_destroy },
	{ .name = "slow, fixed", .fn = work_slow_fixed, .shape = SLOW },
	{ .name = "slow, agreed", .fn = work_slow_agreed, .shape = SLOW },
	{ .name = "slow, arrival", .fn = work_slow_arrival, .shape = SLOW },
	{ .name = NULL },
};
