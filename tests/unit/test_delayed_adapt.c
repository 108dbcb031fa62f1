/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_adapt.c - the controller of delayed collectives: its arithmetic, and in the
 * simulator that delay and period follow a network that changes, the same on all ranks at the same
 * round, and that a run without it, given the same decisions, has the same bits.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <gyre/gyre.h>
#include "collectives/delayed/adapt.h"
#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/util.h"
#include "transports/sim/nic.h"
#include "transports/sim/sim.h"
#include "transports/sim/world.h"

#define RANKS 3
#define MS 1000000u
#define STEP_NS (10 * MS)
#define PHASES 3
#define MAX_TICKS 2000
#define QUIET_TICKS 40		/* at the end of a phase, when nobody is to wait any more */
#define MAX_DECISIONS 32
#define MOVING 64		/* elements that change */

/* ---- arithmetic ---- */

static void test_measure(void **state)
{
	double values[1 + 20 * GY_ADAPT_VALUES];
	struct gy_adapt_measures m;
	unsigned i;

	values[0] = 0.25;
	for (i = 0; i < 20; i++) {	/* latency, transfer, done, control */
		values[1 + i * 4] = -(double)(i + 1);
		values[2 + i * 4] = -(double)(100 - i);
		values[3 + i * 4] = -(double)(i * 10);
		values[4 + i * 4] = i % 2 ? GY_ADAPT_UNKNOWN : -1;
	}
	gy_adapt_measure(values, 20, &m);
	assert_int_equal(m.nrounds, 20);
	assert_true(m.step == 0.25 && m.latency == 19 && m.transfer == 99);
	assert_true(m.total == 181 && m.control == 1);
	values[3] = GY_ADAPT_UNKNOWN;
	gy_adapt_measure(values, 2, &m);
	assert_int_equal(m.nrounds, 1);
	assert_true(m.latency == 2 && m.transfer == 99 && m.total == 10 && m.control == 0);
	gy_adapt_measure(values, 1, &m);
	assert_int_equal(m.nrounds, 0);
}

static void test_choose(void **state)
{
	static const struct {
		double step, transfer, total;
		struct gy_adapt_limits limits;
		struct gy_adapt_schedule should;
	} cases[] = {
		{ 0.33, 1.22, 1.82, { 20, 64, 8 }, { 7, 5 } },	/* ResNet-50 over 1 Gbit/s */
		{ 0.33, 12.2, 12.8, { 20, 64, 8 }, { 20, 41 } },	/* over 100 Mbit/s */
		{ 0.33, 12.2, 12.8, { 20, 30, 8 }, { 20, 30 } },
		{ 1, 0, 0, { 20, 64, 8 }, { 1, 1 } },
		{ 1, 0.1, 10, { 20, 64, 8 }, { 11, 2 } },		/* as the ring allows */
		{ 1, 0.1, 10, { 20, 64, 1 }, { 11, 11 } },
		{ 1, 0.1, 10, { 20, 2, 4 }, { 8, 2 } },
		{ 0, 1, 1, { 20, 64, 8 }, { 20, 64 } },
	};
	struct gy_adapt_schedule s;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(cases); i++) {
		const struct gy_adapt_measures m = { .step = cases[i].step,
						     .transfer = cases[i].transfer,
						     .total = cases[i].total,
						     .nrounds = 8 };

		s = gy_adapt_choose(&m, &cases[i].limits);
		if (s.delay != cases[i].should.delay || s.period != cases[i].should.period)
			fail_msg("case %zu: delay %u, period %u", i, s.delay, s.period);
	}
}

static void test_vote(void **state)
{
	const struct gy_adapt_schedule now = { 8, 4 }, near = { 9, 4 }, far = { 10, 4 };
	const struct gy_adapt_schedule sparse = { 8, 5 }, none = { 0, 1 }, less = { 6, 4 };
	unsigned votes = 0;

	assert_false(gy_adapt_vote(&votes, &now, &near));
	assert_false(gy_adapt_vote(&votes, &now, &far));
	assert_false(gy_adapt_vote(&votes, &now, &sparse));
	assert_false(gy_adapt_vote(&votes, &now, &near));	/* begins anew */
	assert_false(gy_adapt_vote(&votes, &now, &less));
	assert_false(gy_adapt_vote(&votes, &now, &far));
	assert_true(gy_adapt_vote(&votes, &now, &sparse));
	assert_int_equal(votes, 0);
	assert_false(gy_adapt_vote(&votes, &none, &none));
	assert_int_equal(votes, 0);
	assert_false(gy_adapt_vote(&votes, &none, &near));
	assert_int_equal(votes, 1);
}

/* ---- in the simulator ---- */

/* What holds in one phase, and what is found at its end. */
struct phase {
	unsigned ticks;
	uint32_t latency_ns;
	uint32_t bytes_per_us;
};

/* From that round on. */
struct decision {
	uint64_t round;
	uint32_t delay, period;
};

struct decisions {
	unsigned n;
	struct decision d[MAX_DECISIONS];
};

struct job {
	struct gyre_delayed_attr attr;
	const struct decisions *replay;		/* or NULL: ADAPT */
	struct decisions made;			/* as rank 0's statistics tell */
	uint64_t hash[RANKS][MAX_TICKS];	/* of x, by tick */
	struct phase phases[PHASES];
	size_t count;
	float *x;			/* RANKS of them */
	uint32_t delay[RANKS][MAX_TICKS];	/* by round */
	uint32_t period[RANKS][MAX_TICKS];
	uint32_t last_delay[PHASES], last_period[PHASES];
	unsigned quiet_blocked[PHASES];		/* of the quiet ticks, those that waited */
	uint64_t quiet_blocked_ns[PHASES];
};

/* The network of the whole job becomes another one. */
static void adapt_network(struct gy_sim_rank *rank, const struct phase *phase)
{
	struct gy_sim_world *w = gy_sim_world(rank);
	struct gy_list *n, *e;
	int r;

	for (r = 0; r < w->attr.nranks; r++) {
		gy_list_for_each(n, &w->ranks[r].nics) {
			struct sim_nic *nic = gy_list_entry(n, struct sim_nic, link);

			gy_list_for_each(e, &nic->eps) {
				struct sim_ep *ep = gy_list_entry(e, struct sim_ep, link);

				ep->how.latency_ns = phase->latency_ns;
				ep->how.bytes_per_us = phase->bytes_per_us;
			}
		}
	}
}

/* Depends on x, so that what once differs goes on to differ; not dyadic. */
static void adapt_step(float *x, int rank, uint64_t n)
{
	unsigned i;

	for (i = 0; i < MOVING; i++)
		x[i] += 0.01f * (float)((i * 7 + n * 13 + (unsigned)rank * 5) % 17) - 0.03f * x[i];
}

static uint64_t adapt_hash(const float *x)
{
	uint64_t hash = 14695981039346656037u;
	uint32_t bits;
	unsigned i;

	for (i = 0; i < MOVING; i++) {
		memcpy(&bits, &x[i], sizeof(bits));
		hash = (hash ^ bits) * 1099511628211u;
	}
	return hash;
}

/* What has been decided is in the statistics after the tick that posts the round before. */
static void adapt_remember(struct decisions *made, uint64_t posted,
			   const struct gyre_delayed_stats *stats)
{
	static const struct decision first = { .delay = 1, .period = 1 };
	const struct decision *last = made->n ? &made->d[made->n - 1] : &first;

	if ((last->delay != stats->delay || last->period != stats->period) &&
	    made->n < MAX_DECISIONS)
		made->d[made->n++] = (struct decision){ posted + 1, stats->delay, stats->period };
}

/* The decision that holds for the round after that one. */
static int adapt_replay(const struct decisions *replay, uint64_t posted, struct gyre_delayed *d)
{
	uint64_t round;
	unsigned i;
	int err;

	for (i = 0; i < replay->n; i++) {
		const struct decision *c = &replay->d[i];

		if (c->round != posted + 1)
			continue;
		err = gyre_delayed_set(d, c->delay, c->period, c->round, &round);
		return err ? err : round == c->round ? 0 : -EBADMSG;
	}
	return 0;
}

static int adapt_tick(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed *d,
		      struct gyre_tick *t, struct gyre_delayed_stats *stats)
{
	const int me = gy_sim_rank_id(rank);
	float *const x = j->x + (size_t)me * j->count;
	const uint64_t posted = t->posted;
	int err;

	gy_sim_sleep(rank, STEP_NS);
	adapt_step(x, me, t->tick + 1);
	err = gyre_delayed_tick(d, 1, t);
	if (!err && j->replay && t->posted > posted)
		err = adapt_replay(j->replay, t->posted, d);
	if (!err)
		err = gyre_delayed_stats(d, stats);
	if (!err && me == 0)
		adapt_remember(&j->made, t->posted, stats);
	j->hash[me][t->tick] = adapt_hash(x);
	return err;
}

static int adapt_ticks(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed *d)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_tick t = { .tick = 0 };
	struct gyre_delayed_stats stats;
	unsigned phase, n;
	int err;

	for (phase = 0; phase < PHASES; phase++) {
		if (me == 0 && !j->replay)	/* a replay needs no network to be like */
			adapt_network(rank, &j->phases[phase]);
		for (n = 0; n < j->phases[phase].ticks; n++) {
			err = adapt_tick(j, rank, d, &t, &stats);
			if (err)
				return err;
			j->delay[me][t.posted] = stats.delay;
			j->period[me][t.posted] = stats.period;
			if (me == 0 && n + QUIET_TICKS >= j->phases[phase].ticks) {
				j->quiet_blocked[phase] += t.blocked_ns != 0;
				j->quiet_blocked_ns[phase] += t.blocked_ns;
			}
		}
		if (me == 0) {
			j->last_delay[phase] = stats.delay;
			j->last_period[phase] = stats.period;
		}
	}
	return gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
}

static int adapt_main(struct gy_sim_rank *rank, void *arg)
{
	struct job *j = arg;
	float *const x = j->x + (size_t)gy_sim_rank_id(rank) * j->count;
	struct gyre_context *ctx;
	struct gyre_delayed *d;
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.stall_timeout_ms = 60000;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	err = gyre_delayed_create(&j->attr, x, gyre_context_world(ctx), &d);
	if (!err) {
		err = adapt_ticks(j, rank, d);
		gyre_delayed_destroy(d);
	}
	gyre_context_destroy(ctx);
	return err;
}

static void adapt_job(struct job *j)
{
	struct gy_sim_attr sim;
	unsigned i;
	int r;

	gyre_dts_attr(&j->attr, 1, 1);
	j->attr.count = j->count;
	j->attr.flags = j->replay ? 0 : GYRE_DELAYED_ADAPT;
	j->attr.ring = 10;
	j->attr.adapt_max_delay = 30;
	j->x = gy_alloc_array(RANKS * j->count, sizeof(*j->x));
	gy_sim_attr_init(&sim, RANKS, 7);
	sim.link.caps = GY_SIM_BULK;
	sim.link.latency_ns = j->phases[0].latency_ns;
	sim.deadline_ns = UINT64_C(1000000000000);
	assert_int_equal(gy_sim_run(&sim, adapt_main, j), 0);
	for (r = 1; r < RANKS; r++) {
		for (i = 0; i < MAX_TICKS; i++) {
			assert_int_equal(j->delay[r][i], j->delay[0][i]);
			assert_int_equal(j->period[r][i], j->period[0][i]);
		}
		assert_memory_equal(j->x + (size_t)r * j->count, j->x, j->count * sizeof(*j->x));
	}
	gy_free(j->x);
	assert_int_equal(gy_alloc_live(), 0);
	for (i = 0; i < PHASES; i++)
		print_message("phase %u: delay %u, period %u, waited %.1f ms in %u of %u ticks\n",
			      i, j->last_delay[i], j->last_period[i],
			      (double)j->quiet_blocked_ns[i] / MS, j->quiet_blocked[i],
			      QUIET_TICKS);
}

/* What rank 0 has logged. */
static struct decisions logged;

static void adapt_hook(enum gy_log_level level, const char *text)
{
	struct decision *c = &logged.d[logged.n];
	const char *delay = strstr(text, "delay "), *period = strstr(text, "period ");
	unsigned long long round;

	if (logged.n == MAX_DECISIONS || !strstr(text, "from the next round on") || !delay ||
	    !period || sscanf(text, "adapt: round %llu:", &round) != 1 ||
	    sscanf(delay, "delay %*u -> %u", &c->delay) != 1 ||
	    sscanf(period, "period %*u -> %u", &c->period) != 1)
		return;
	c->round = round + 1;
	logged.n++;
}

/* A job whose latency changes, and what it has logged: run once, for two tests. */
static const struct job *adapt_followed(void)
{
	static struct job j = {
		.count = 100,
		.phases = { { 300, 10 * MS, 0 }, { 300, 40 * MS, 0 }, { 300, MS, 0 } },
	};

	if (j.made.n)
		return &j;
	gy_log_set_hook(adapt_hook);
	gy_log_set_level(GY_LOG_INFO);
	adapt_job(&j);
	gy_log_set_level(GY_LOG_ERROR);
	gy_log_set_hook(NULL);
	return &j;
}

/*
 * At the end of a phase one tick at most waits for its round, since the schedule is for 95 of 100
 * rounds; and no round is later than it need be.
 */
static void test_latency(void **state)
{
	const struct job *j = adapt_followed();
	unsigned i;

	for (i = 0; i < PHASES; i++)
		assert_in_range(j->quiet_blocked[i], 0, 1);
	assert_in_range(j->last_delay[0], 4, 10);
	assert_in_range(j->last_delay[1], 12, 30);
	assert_in_range(j->last_delay[2], 1, 2);
	assert_int_equal(j->last_period[2], 1);
}

/* A link that is slower than rounds come: fewer of them. */
static void test_rate(void **state)
{
	static struct job j = {
		.count = 100000,
		.phases = { { 150, MS, 1000 }, { 500, MS, 10 }, { 600, MS, 1000 } },
	};

	adapt_job(&j);
	assert_int_equal(j.last_period[0], 1);
	assert_in_range(j.last_period[1], 2, 12);
	assert_int_equal(j.last_period[2], 1);
	assert_true(j.last_delay[1] > j.last_delay[0]);
	assert_int_equal(j.quiet_blocked_ns[0], 0);
	assert_true(j.quiet_blocked_ns[1] < QUIET_TICKS * (uint64_t)STEP_NS / 20);
	assert_int_equal(j.quiet_blocked_ns[2], 0);
}

/* ---- a run is replayed from what the other has logged ---- */

static void test_replay(void **state)
{
	const struct job *adaptive = adapt_followed();
	static struct job again = {
		.count = 100,
		.phases = { { 300, 5 * MS, 0 }, { 300, 0, 0 }, { 300, 0, 0 } },
	};
	unsigned i;

	print_message("%u decisions\n", logged.n);
	assert_in_range(logged.n, 3, MAX_DECISIONS - 1);
	assert_int_equal(adaptive->made.n, logged.n);
	for (i = 0; i < logged.n; i++) {
		assert_int_equal(adaptive->made.d[i].round, logged.d[i].round);
		assert_int_equal(adaptive->made.d[i].delay, logged.d[i].delay);
		assert_int_equal(adaptive->made.d[i].period, logged.d[i].period);
	}
	again.replay = &logged;
	adapt_job(&again);
	assert_memory_equal(again.delay, adaptive->delay, sizeof(again.delay));
	assert_memory_equal(again.period, adaptive->period, sizeof(again.period));
	assert_memory_equal(again.hash, adaptive->hash, sizeof(again.hash));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_measure),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_vote),
		cmocka_unit_test(test_latency),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_replay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
