/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_save.c - delayed collectives that are saved in one job and loaded in another, in the
 * simulator: with FIXED, x is what it is in a job that was never interrupted, to the bit; nothing
 * that does not belong is loaded.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <gyre/gyre.h>
#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/util.h"
#include "tests/long.h"
#include "transports/sim/sim.h"

#define RANKS 3
#define COUNT 1030
#define MAX_SAVED (1 << 18)
#define STEP_NS 1000000u

/* What one rank keeps between jobs. */
struct saved {
	char bytes[MAX_SAVED];
	size_t len, at, fail_at;
	float x[COUNT];
};

struct job {
	struct gyre_delayed_attr attr;
	unsigned from, to;		/* ticks to run; from: those before are in saved */
	bool save;
	bool drain;
	unsigned set_after, set_period;	/* gyre_delayed_set after that tick; 0: none */
	uint64_t set_round;
	uint64_t seed;
	int load_err;			/* expected */
	struct saved *saved;		/* of RANKS */
	float x[RANKS][COUNT];
	uint64_t applied[RANKS];
};

static struct saved save_memory[RANKS];

static int save_to(void *arg, const void *buf, size_t len)
{
	struct saved *s = arg;

	if (s->len + len > s->fail_at)
		return -ENOSPC;
	memcpy(s->bytes + s->len, buf, len);
	s->len += len;
	return 0;
}

static int save_from(void *arg, void *buf, size_t len)
{
	struct saved *s = arg;

	if (s->at + len > s->len)
		return -ENODATA;
	memcpy(buf, s->bytes + s->at, len);
	s->at += len;
	return 0;
}

/* Depends on x, so that what once differs goes on to differ; no dyadic numbers. */
static void save_step(float *x, int rank, unsigned n)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += 0.01f * (float)((i * 7 + n * 13 + (unsigned)rank * 5) % 17 - 8.0) -
			0.03f * x[i];
}

static int save_ticks(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed *d, float *x)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_tick t;
	unsigned n;
	int err = 0;

	for (n = j->from + 1; n <= j->to && !err; n++) {
		save_step(x, me, n);
		gy_sim_sleep(rank, STEP_NS * (me + 1u));
		err = gyre_delayed_tick(d, me + 1, &t);
		if (!err)
			j->applied[me] = t.applied;
		if (!err && n == j->set_after)
			err = gyre_delayed_set(d, j->attr.delay, j->set_period, j->set_round, NULL);
	}
	return err;
}

/* Restores, runs, saves. */
static int save_run(struct job *j, struct gy_sim_rank *rank, struct gyre_comm *world,
		    struct gyre_delayed *d)
{
	const int me = gy_sim_rank_id(rank);
	struct saved *s = &j->saved[me];
	int err = 0;

	if (j->from) {
		s->at = 0;
		memcpy(j->x[me], s->x, sizeof(s->x));
		err = gyre_delayed_load(d, save_from, s);
		if (err == j->load_err && err)
			return 0;
		if (!err && j->load_err)
			return -EINVAL;
	}
	if (!err)
		err = save_ticks(j, rank, d, j->x[me]);
	if (!err && j->drain)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err)
		err = gyre_barrier(world);
	if (!err && j->save) {
		s->len = 0;
		memcpy(s->x, j->x[me], sizeof(s->x));
		err = gyre_delayed_save(d, save_to, s);
	}
	if (!err)
		err = gyre_barrier(world);
	return err;
}

static int save_main(struct gy_sim_rank *rank, void *arg)
{
	struct job *j = arg;
	struct gyre_context *ctx;
	struct gyre_delayed *d;
	struct gy_config cfg;
	unsigned i;
	int err;

	gy_config_init(&cfg);
	cfg.stall_timeout_ms = 10000;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	for (i = 0; i < COUNT; i++)
		j->x[gy_sim_rank_id(rank)][i] = (float)i / 100;
	err = gyre_delayed_create(&j->attr, j->x[gy_sim_rank_id(rank)], gyre_context_world(ctx),
				  &d);
	if (!err) {
		err = save_run(j, rank, gyre_context_world(ctx), d);
		gyre_delayed_destroy(d);
	}
	gyre_context_destroy(ctx);
	return err;
}

static void save_job(struct job *j)
{
	struct gy_sim_attr sim;

	gy_sim_attr_init(&sim, RANKS, j->seed);
	sim.link.latency_ns = 2 * STEP_NS;
	sim.link.jitter_ns = STEP_NS;
	sim.deadline_ns = UINT64_C(100000000000);
	assert_int_equal(gy_sim_run(&sim, save_main, j), 0);
	assert_int_equal(gy_alloc_live(), 0);
}

static struct gyre_delayed_attr save_attr(uint32_t delay, uint32_t period)
{
	struct gyre_delayed_attr a;

	gyre_dts_attr(&a, delay, period);
	a.count = COUNT;
	return a;
}

static void save_reset(void)
{
	int r;

	for (r = 0; r < RANKS; r++)
		save_memory[r].fail_at = MAX_SAVED;
}

/* Saved after each tick from 1 on: x after 20 is as if nothing had happened. */
static void save_compare_set(const char *name, const struct gyre_delayed_attr *attr,
			     unsigned set_after, unsigned set_period)
{
	static struct job whole, first, second;
	unsigned at;
	int r;

	save_reset();
	whole = (struct job){ .attr = *attr,
			      .to = 20,
			      .seed = 1,
			      .drain = true,
			      .set_after = set_after,
			      .set_period = set_period };
	save_job(&whole);
	for (at = 1; at <= 12; at += test_times(5, 1)) {
		first = (struct job){ .attr = *attr,
				      .to = at,
				      .seed = at,
				      .save = true,
				      .set_after = set_after,
				      .set_period = set_period,
				      .saved = save_memory };
		save_job(&first);
		second = (struct job){ .attr = *attr,
				       .from = at,
				       .to = 20,
				       .seed = at + 1,
				       .drain = true,
				       .set_after = set_after,
				       .set_period = set_period,
				       .saved = save_memory };
		save_job(&second);
		for (r = 0; r < RANKS; r++)
			if (memcmp(second.x[r], whole.x[r], sizeof(whole.x[r])) != 0)
				fail_msg("%s, saved at %u: rank %d has another x", name, at, r);
	}
}

static void save_compare(const char *name, const struct gyre_delayed_attr *attr)
{
	save_compare_set(name, attr, 0, 0);
}

static void save_filter(void *arg, void *v, size_t count, uint64_t round)
{
	float *s = v;
	size_t i;

	for (i = 0; i < count; i++)
		if ((i + round) % 3)
			s[i] = 0;
}

static void test_periods(void **state)
{
	static const uint32_t delays[] = { 0, 1, 3, 4, 9 }, periods[] = { 1, 2, 4 };
	struct gyre_delayed_attr a;
	unsigned d, p;

	for (d = 0; d < GY_ARRAY_SIZE(delays); d++) {
		for (p = 0; p < GY_ARRAY_SIZE(periods); p++) {
			a = save_attr(delays[d], periods[p]);
			save_compare("periods", &a);
		}
	}
}

static void test_methods(void **state)
{
	struct gyre_delayed_attr a = save_attr(5, 2);

	a.flags = GYRE_DELAYED_BY_STEPS;
	save_compare("by steps", &a);
	a.wire = GYRE_BF16;
	save_compare("by steps, bf16", &a);
	a = save_attr(5, 2);
	a.wire = GYRE_F16;
	a.filter = save_filter;
	save_compare("filter, f16", &a);
	gyre_cocod_attr(&a, 4);
	a.count = COUNT;
	save_compare("cocod", &a);
	a.wire = GYRE_BF16;
	save_compare("cocod, bf16", &a);
	gyre_postlocal_sgd_attr(&a, 4, 6);
	a.count = COUNT;
	save_compare("post-local", &a);
	save_compare_set("post-local, overruled", &a, 3, 2);
	gyre_diloco_attr(&a, 4, 0.7, 0.9, 1);
	a.count = COUNT;
	save_compare("asynchronous diloco", &a);
	gyre_slowmo_attr(&a, 3, 1, 0.5);
	a.count = COUNT;
	save_compare("slowmo", &a);
	gyre_streaming_diloco_attr(&a, 6, 3, 1, 2, 0.7, 0.9, 0.5);
	a.count = COUNT;
	save_compare("streaming diloco", &a);
}

/* Others go on, and are one model in the end. */
static void save_goes_on(const struct gyre_delayed_attr *attr)
{
	static struct job first, second;
	unsigned at;
	int r;

	save_reset();
	for (at = 1; at <= 25; at += test_times(8, 3)) {
		first = (struct job){ .attr = *attr,
				      .to = at,
				      .seed = at,
				      .save = true,
				      .saved = save_memory };
		save_job(&first);
		second = (struct job){ .attr = *attr,
				       .from = at,
				       .to = at + 60,
				       .seed = at + 1,
				       .drain = true,
				       .saved = save_memory };
		save_job(&second);
		for (r = 0; r < RANKS; r++) {
			assert_true(second.applied[r] > first.applied[r]);
			assert_memory_equal(second.x[r], second.x[0], sizeof(second.x[0]));
		}
	}
}

static void test_ready(void **state)
{
	struct gyre_delayed_attr a;

	gyre_lasgd_attr(&a, 2);
	a.count = COUNT;
	save_goes_on(&a);
	a.payload = GYRE_PAYLOAD_DELTA;
	save_goes_on(&a);
	a.trigger = GYRE_TRIGGER_QUORUM;
	a.quorum = 2;
	save_goes_on(&a);
	a = save_attr(0, 2);
	a.commit = GYRE_COMMIT_ALL;
	a.apply = GYRE_APPLY_AGREED;
	a.max_delay = 30;
	a.margin = 4;
	save_goes_on(&a);
}

static char save_said[1000];		/* the last error that was logged */

static void save_log(enum gy_log_level level, const char *text)
{
	if (level == GY_LOG_ERROR)
		snprintf(save_said, sizeof(save_said), "%s", text);
}

/* Word i of rank 1's file. */
static void save_put_word(unsigned i, uint64_t value)
{
	memcpy(save_memory[1].bytes + 8 * i, &value, sizeof(value));
}

static uint64_t save_get_word(unsigned i)
{
	uint64_t value;

	memcpy(&value, save_memory[1].bytes + 8 * i, sizeof(value));
	return value;
}

#define WORD_SWITCHED 40
#define WORD_NCHANGES 42

/* What no call leads to: changes that wait, and a switch that is still to come. */
static void test_impossible(void **state)
{
	struct gyre_delayed_attr a = save_attr(2, 2);
	static struct job first, second;

	save_reset();
	a.switch_tick = 12;
	a.switch_period = 3;
	first = (struct job){ .attr = a,
			      .to = 7,
			      .seed = 1,
			      .save = true,
			      .set_after = 3,
			      .set_period = 4,
			      .set_round = 50,
			      .saved = save_memory };
	save_job(&first);
	second = (struct job){ .attr = a, .from = 7, .to = 9, .seed = 2, .saved = save_memory };
	assert_int_equal(save_get_word(WORD_SWITCHED), 1);
	assert_int_equal(save_get_word(WORD_NCHANGES), 1);
	second.load_err = -EPROTO;
	save_put_word(WORD_SWITCHED, 0);
	save_job(&second);
	assert_non_null(strstr(save_said, "no such handle can be where this one was saved"));
	save_put_word(WORD_SWITCHED, 2);
	save_job(&second);
	save_put_word(WORD_SWITCHED, 1);
	save_put_word(WORD_NCHANGES, 9);
	save_job(&second);
	save_put_word(WORD_NCHANGES, 1);
	second.attr.switch_tick++;
	save_job(&second);
	assert_non_null(strstr(save_said, "switch_tick was 12 when it was saved, and is 13"));
	second.attr = a;
	second.load_err = 0;
	save_job(&second);
}

/* One rank's file is not right: all ranks say so. */
static void test_wrong(void **state)
{
	const struct gyre_delayed_attr a = save_attr(4, 2);
	static struct job first, second;
	struct saved *const s = &save_memory[1];
	char byte;

	save_reset();
	first = (struct job){ .attr = a, .to = 7, .seed = 1, .save = true, .saved = save_memory };
	save_job(&first);
	second = (struct job){ .attr = a, .from = 7, .to = 9, .seed = 2, .saved = save_memory };
	s->len -= 4;
	second.load_err = -ENODATA;
	save_job(&second);
	s->len += 4;
	second.load_err = -EPROTO;
	byte = s->bytes[0];
	s->bytes[0]++;			/* magic */
	save_job(&second);
	s->bytes[0] = byte;
	s->bytes[8]--;			/* version */
	save_job(&second);
	assert_non_null(strstr(save_said, "saved in format 2, and this library reads 3"));
	s->bytes[8]++;
	s->bytes[16]++;			/* number of words */
	save_job(&second);
	s->bytes[16]--;
	s->bytes[23] = 0x7f;
	save_job(&second);
	s->bytes[23] = 0;
	s->bytes[24]++;			/* bytes of vectors */
	save_job(&second);
	s->bytes[24]--;
	second.attr.count--;
	save_job(&second);
	second.attr = save_attr(4, 2);
	second.attr.merge = GYRE_MERGE_OVERWRITE;
	second.attr.delay = 2;
	save_job(&second);
	second.attr = save_attr(4, 2);
	second.load_err = 0;
	save_job(&second);
}

/* FRESH: ranks post with weight 0, are saved, and contribute after all when they are loaded. */
static int save_abstain_main(struct gy_sim_rank *rank, void *arg)
{
	const int me = gy_sim_rank_id(rank);
	struct saved *const s = &save_memory[me];
	struct gyre_delayed_stats st = { .abstained = 0 };
	struct gyre_delayed_attr a;
	struct gyre_context *ctx;
	struct gyre_delayed *d[2] = { NULL, NULL };
	struct gy_config cfg;
	unsigned n;
	int err;

	gyre_lasgd_attr(&a, 1);
	a.count = COUNT;
	gy_config_init(&cfg);
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	for (n = 0; n < 2 && !err; n++) {
		err = gyre_delayed_create(&a, s->x, gyre_context_world(ctx), &d[n]);
		if (!err && n)
			err = gyre_delayed_load(d[n], save_from, s);
		if (!err && me)		/* rank 0 is not ready: no round begins */
			err = gyre_delayed_tick(d[n], n, NULL);
		if (!err)
			err = gyre_delayed_stats(d[n], &st);
		if (!err && st.abstained != (me && !n))
			err = -EINVAL;
		if (!err)
			err = gyre_barrier(gyre_context_world(ctx));
		if (!err && !n)
			err = gyre_delayed_save(d[n], save_to, s);
	}
	gyre_delayed_destroy(d[0]);
	gyre_delayed_destroy(d[1]);
	gyre_context_destroy(ctx);
	return err;
}

static void test_abstained(void **state)
{
	struct gy_sim_attr sim;

	save_reset();
	gy_sim_attr_init(&sim, RANKS, 1);
	assert_int_equal(gy_sim_run(&sim, save_abstain_main, NULL), 0);
}

static int save_full_main(struct gy_sim_rank *rank, void *arg)
{
	struct gyre_delayed_attr a = save_attr(2, 1);
	struct saved *const s = arg;
	struct gyre_context *ctx;
	struct gyre_delayed *d;
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	err = gyre_delayed_create(&a, s->x, gyre_context_world(ctx), &d);
	if (!err) {
		s->len = 0;
		s->fail_at = 2000;	/* the words go in, the first vector does not */
		err = gyre_delayed_save(d, save_to, s) == -ENOSPC ? 0 : -EINVAL;
		if (gyre_delayed_save(d, NULL, s) != -EINVAL ||
		    gyre_delayed_save(NULL, save_to, s) != -EINVAL ||
		    gyre_delayed_load(d, NULL, s) != -EINVAL ||
		    gyre_delayed_load(NULL, save_from, s) != -EINVAL)
			err = -EINVAL;
		gyre_delayed_destroy(d);
	}
	gyre_context_destroy(ctx);
	return err;
}

static void test_arguments(void **state)
{
	struct gy_sim_attr sim;

	gy_sim_attr_init(&sim, 1, 1);
	assert_int_equal(gy_sim_run(&sim, save_full_main, &save_memory[0]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_periods),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_abstained),
		cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_arguments),
	};

	gy_log_set_hook(save_log);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
