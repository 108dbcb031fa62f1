/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_faults.c - delayed collectives that are destroyed, or lose a rank, with rounds in
 * flight: survivors have merged the same rounds, x is what these make it, and nothing of their own
 * is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

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
		job_step(j->x[me], me);
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
			.attr = job_attr(8, 1 + (uint32_t)(seed % 2)),
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

static void killed_begin(struct job *j, struct gy_sim_rank *rank)
{
	const struct deaths *dead = j->arg;

	if (gy_sim_rank_id(rank) == dead->victim && dead->event)
		gy_sim_kill_at_event(gy_sim_world(rank), dead->victim, dead->event);
}

static int killed_run(struct job *j, struct deaths *dead)
{
	int err;

	memset(j->x, 0, sizeof(j->x));
	j->arg = dead;
	j->begin = killed_begin;
	j->leaks = true;
	err = job_run(j);
	if (err)
		printf("rank %d killed at event %llu\n", dead->victim,
		       (unsigned long long)dead->event);
	job_bury(dead->ranks[dead->victim].d);
	return err;
}

/* After all of it, and at some moment of it.  Returns how many survivors have rebound. */
static unsigned killed_twice(uint64_t seed, enum gyre_payload payload, enum gyre_commit commit)
{
	struct job j = {
		.nranks = 2 + (int)(seed % 4),
		.seed = seed,
		.attr = job_attr((uint32_t)(seed % 7), 1 + (uint32_t)(seed % 3)),
		.fn = killed_main,
	};
	struct deaths dead = { .victim = (int)(seed / 4 % (uint64_t)j.nranks) };

	j.attr.commit = commit;
	j.attr.payload = payload;
	if (payload == GYRE_PAYLOAD_MODEL)
		j.attr.delay %= j.attr.period + 1;
	assert_int_equal(killed_run(&j, &dead), 0);
	dead = (struct deaths){
		.victim = dead.victim,
		.event = dead.created + seed * 7919 % (j.stats.events - dead.created),
	};
	assert_int_equal(killed_run(&j, &dead), 0);
	return dead.rebound;
}

static void test_killed(void **state)
{
	const unsigned seeds = test_times(60, 1000);
	unsigned rebound = 0;
	uint64_t seed;

	for (seed = 1; seed <= seeds; seed++)
		rebound += killed_twice(seed,
					seed / 5 % 2 ? GYRE_PAYLOAD_MODEL : GYRE_PAYLOAD_DELTA,
					seed % 5 == 4 ? GYRE_COMMIT_NONE : GYRE_COMMIT_ALL);
	assert_true(rebound > seeds);
}

/* A survivor has merged a round, and another never learns that it was done. */
static void test_killed_model(void **state)
{
	const unsigned seeds = test_times(120, 1000);
	uint64_t seed;

	for (seed = 1; seed <= seeds; seed++)
		killed_twice(seed, GYRE_PAYLOAD_MODEL, GYRE_COMMIT_NONE);
}

/* ---- any method, ranks that die at any time, and what is left goes on ---- */

/* LeakSanitizer: what only the stack of a rank knew that was killed in the middle of a call. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:wreck_main\n";
}

struct wreck {
	int victims[2];
	uint64_t events[2];		/* 0: does not */
	struct gyre_delayed *d[MAX_RANKS];
	bool early;			/* one may die while handles are made */
	uint64_t created;
	unsigned recovered;		/* survivors, times */
	int nended;
};

static void wreck_begin(struct job *j, struct gy_sim_rank *rank)
{
	const struct wreck *w = j->arg;
	int i;

	for (i = 0; i < 2; i++)
		if (gy_sim_rank_id(rank) == w->victims[i] && w->events[i])
			gy_sim_kill_at_event(gy_sim_world(rank), w->victims[i], w->events[i]);
}

/* 12 ticks, or more: up to the same one on all ranks. */
static int wreck_ticks(struct job *j, struct gy_sim_rank *rank, struct gyre_comm *comm,
		       struct gyre_delayed *d)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_delayed_stats st;
	uint64_t n, last;
	int err;

	gyre_delayed_stats(d, &st);
	err = gyre_allreduce(&st.ticks, &last, 1, GYRE_UINT64, GYRE_MAX, comm);
	for (n = st.ticks + 1; n <= last + 12 && !err; n++) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
		if (!err && j->attr.trigger == GYRE_TRIGGER_MANUAL && n > last && n % 3 == 0)
			err = gyre_delayed_post(d, NULL, 1);
		if (err == -EAGAIN)
			err = 0;
	}
	return err ? err : gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
}

static int wreck_work(struct job *j, struct gy_sim_rank *rank, struct gyre_comm **comm,
		      struct gyre_delayed *d)
{
	struct wreck *w = (struct wreck *)j->arg;
	unsigned rounds = 0;
	int err, ok = 0;

	while (!ok || rounds < 3) {
		err = wreck_ticks(j, rank, *comm, d);
		ok = job_agree(*comm, !err);
		if (ok < 0)
			return ok;
		rounds++;
		if (ok)
			continue;
		err = job_recover(d, comm);
		if (err)
			return err;
		w->recovered++;
	}
	return 0;
}

static int wreck_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct wreck *w = (struct wreck *)j->arg;
	struct gyre_comm *comm;
	int err;

	job_begin_x(j->x[me]);
	err = gyre_comm_split(gyre_context_world(ctx), 0, 0, &comm);
	if (err)
		return w->early ? 0 : err;
	err = gyre_delayed_create(&j->attr, j->x[me], comm, &w->d[me]);
	if (!err) {
		w->created = gy_sim_events(gy_sim_world(rank));
		err = wreck_work(j, rank, &comm, w->d[me]);
		gyre_delayed_destroy(w->d[me]);
		w->d[me] = NULL;
		w->nended += !err;
	} else if (w->early) {
		err = 0;
	}
	gyre_comm_destroy(comm);
	return err == -ENETUNREACH ? 0 : err;	/* too few are left */
}

static int wreck_run(struct job *j, struct wreck *w)
{
	int r, err;

	memset(j->x, 0, sizeof(j->x));
	j->arg = w;
	j->begin = wreck_begin;
	j->leaks = true;
	err = job_run(j);
	if (err)
		printf("ranks %d, %d killed at events %llu, %llu\n", w->victims[0], w->victims[1],
		       (unsigned long long)w->events[0], (unsigned long long)w->events[1]);
	for (r = 0; r < j->nranks; r++)
		job_bury(w->d[r]);
	return err;
}

static void wreck_check(const struct job *j, const struct wreck *w)
{
	int r, first = -1;

	for (r = 0; r < j->nranks; r++) {
		if ((r == w->victims[0] && w->events[0]) || (r == w->victims[1] && w->events[1]))
			continue;
		if (first < 0)
			first = r;
		assert_memory_equal(j->x[r], j->x[first], sizeof(j->x[0]));
	}
}

static void test_wrecks(void **state)
{
	const unsigned seeds = test_times(50, 600);
	unsigned recovered = 0;
	const char *only = getenv("GY_TEST_SEED");
	uint64_t seed, span;

	for (seed = only ? strtoull(only, NULL, 0) : 1; seed <= seeds; seed++) {
		uint64_t rng = seed;
		struct job j = {
			.nranks = 3 + (int)(seed % 3),
			.seed = seed,
			.attr = job_draw(&rng),
			.fn = wreck_main,
		};
		struct wreck w = { .victims = { (int)(seed / 3 % 3), -1 } };

		/* after a failure ranks are not at the same tick */
		if (j.attr.trigger == GYRE_TRIGGER_MANUAL && j.attr.apply == GYRE_APPLY_AGREED)
			j.attr.apply = GYRE_APPLY_FIXED;
		/* and some would wait in a tick for those that drain */
		if (j.attr.trigger == GYRE_TRIGGER_READY_ALL && j.attr.apply == GYRE_APPLY_FIXED)
			j.attr.apply = GYRE_APPLY_ARRIVAL;
		if (j.nranks == 5 && seed % 2)
			w.victims[1] = (w.victims[0] + 1 + (int)(seed / 6 % 4)) % 5;
		assert_int_equal(wreck_run(&j, &w), 0);
		wreck_check(&j, &w);
		span = j.stats.events - w.created;
		w.events[0] = w.created + seed * 7919 % span;
		w.events[1] = w.victims[1] < 0 ? 0 : w.events[0] + seed * 104729 % (span / 3);
		assert_int_equal(wreck_run(&j, &w), 0);
		if (w.nended)
			wreck_check(&j, &w);
		recovered += w.recovered;
		if (only)
			return;
	}
	assert_true(recovered > seeds);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_destroy),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_killed_model),
		cmocka_unit_test(test_wrecks),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
