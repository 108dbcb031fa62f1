/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed_abstain.c - ranks that exchange models, abstain as it comes, and die: what survivors
 * have without their own progress is the same model after each round, also on those that have
 * missed one, or abstain in the first after a failure.
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
#include "tests/long.h"
#include "tests/unit/delayed_job.h"

#define TICKS 24u

/* What only the stack of a rank knew that was killed in the middle of a call. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:abstain_main\n";
}

struct abstain {
	int victims[2];			/* the second may be -1 */
	uint64_t events[2];		/* 0: later, at a tick */
	uint64_t created;		/* event after which all have a handle */
	struct gyre_delayed *d[MAX_RANKS];
	unsigned recovered, given;	/* survivors; rounds that they merged in rebind */
	unsigned nended;
	int furthest;			/* at the failure, who has merged most, and how many */
	uint64_t most;
	uint64_t from, to;		/* events: the failure, the end of a rebind that gave */
	unsigned halves;		/* survivors given a round in a rebind that failed */
	/* x without own progress, by rounds merged: the model that all come from */
	float model[MAX_RANKS][TICKS + 1][COUNT];
	bool known[MAX_RANKS][TICKS + 1];
};

static struct abstain abstain;

static void abstain_begin(struct job *j, struct gy_sim_rank *rank)
{
	int i;

	for (i = 0; i < 2; i++)
		if (gy_sim_rank_id(rank) == abstain.victims[i] && abstain.events[i])
			gy_sim_kill_at_event(gy_sim_world(rank), abstain.victims[i],
					     abstain.events[i]);
}

/* Those that have not died yet do at ticks in the middle, one after the other. */
static void abstain_die(struct gy_sim_rank *rank, unsigned n)
{
	const int me = gy_sim_rank_id(rank);
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (me != abstain.victims[i] || n != TICKS / 2 + i)
			continue;
		gy_sim_kill(gy_sim_world(rank), me, 0);
		gy_sim_sleep(rank, MS);
	}
}

/* What a rank knows of its progress, and of the round that it has posted last. */
struct progress {
	float own[COUNT];		/* in no round that it has merged */
	float since[COUNT];		/* since it has posted */
	double weight;			/* with that */
	bool kept;			/* a failure came between, and it is to be merged yet */
};

static void progress_merged(struct progress *p)
{
	if (p->weight > 0)
		memcpy(p->own, p->since, sizeof(p->own));
	p->kept = false;
}

static void progress_step(struct progress *p, float *x, int me, unsigned n)
{
	unsigned i;

	for (i = 0; i < COUNT; i++) {
		const float u = 8 * job_update(me, i) + (float)n;

		x[i] += u;
		p->own[i] += u;
		p->since[i] += u;
	}
}

static void abstain_note(int me, const float *x, const struct progress *p, uint64_t applied)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		abstain.model[me][applied][i] = x[i] - p->own[i];
	abstain.known[me][applied] = true;
}

/* A rank has learnt of a failure, and has merged so many rounds. */
static void abstain_fail(struct gy_sim_rank *rank, uint64_t applied)
{
	const int me = gy_sim_rank_id(rank);

	if (!abstain.from)
		abstain.from = gy_sim_events(gy_sim_world(rank));
	if (applied < abstain.most || (applied == abstain.most && me > abstain.furthest))
		return;
	abstain.most = applied;
	abstain.furthest = me;
}

static int abstain_recover(struct gy_sim_rank *rank, struct gyre_delayed *d,
			   struct gyre_comm **comm, struct progress *p, uint64_t applied)
{
	struct gyre_delayed_stats st;
	int ok;

	abstain_fail(rank, applied);
	do {
		ok = job_recover_once(d, comm);
		gyre_delayed_stats(d, &st);
		abstain.halves += ok == 0 && st.applied > applied;
	} while (ok == 0);
	if (ok < 0)
		return ok;
	abstain.to = st.applied > applied ? gy_sim_events(gy_sim_world(rank)) : abstain.to;
	if (st.applied > applied)
		progress_merged(p);
	p->kept = st.committed > st.applied;
	abstain.recovered++;
	abstain.given += st.applied > applied;
	return 0;
}

static int abstain_tick(struct job *j, struct gy_sim_rank *rank, struct gyre_comm **comm,
			struct progress *p, unsigned n)
{
	const int me = gy_sim_rank_id(rank);
	const double weight = gy_sim_random(rank) % 2;
	struct gyre_delayed *d = abstain.d[me];
	struct gyre_delayed_stats before, st;
	struct gyre_tick t;
	int err;

	gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
	progress_step(p, j->x[me], me, n);
	gyre_delayed_stats(d, &before);
	err = gyre_delayed_tick(d, weight, &t);
	gyre_delayed_stats(d, &st);
	if (st.applied != t.applied || st.applied > TICKS)
		return -EBADMSG;
	if (p->kept && t.napplied)
		progress_merged(p);
	if (st.posted > before.posted) {
		memset(p->since, 0, sizeof(p->since));
		p->weight = weight;
	}
	if (t.applied == t.posted && st.posted > before.posted)
		progress_merged(p);
	if (err)
		err = abstain_recover(rank, d, comm, p, t.applied);
	if (err)
		return err;
	gyre_delayed_stats(d, &st);
	abstain_note(me, j->x[me], p, st.applied);
	return 0;
}

static int abstain_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	struct progress progress = { .weight = 0 };
	struct gyre_comm *comm;
	unsigned n;
	int err;

	err = gyre_comm_split(gyre_context_world(ctx), 0, 0, &comm);
	if (!err)
		err = gyre_delayed_create(&j->attr, j->x[me], comm, &abstain.d[me]);
	if (err) {	/* it died so early that there is nothing to go on with */
		gyre_comm_destroy(comm);
		return 0;
	}
	abstain.created = gy_sim_events(gy_sim_world(rank));
	for (n = 1; n <= TICKS && !err; n++) {
		abstain_die(rank, n);
		err = abstain_tick(j, rank, &comm, &progress, n);
	}
	if (!err)
		err = gyre_delayed_drain(abstain.d[me], GYRE_DRAIN_APPLY);
	abstain.nended += !err;
	gyre_delayed_destroy(abstain.d[me]);
	gyre_comm_destroy(comm);
	return err;
}

/* Up to what sums in another order make of them. */
static void abstain_compare(const struct job *j, int a, int b)
{
	unsigned k, i;

	for (k = 0; k <= TICKS; k++) {
		for (i = 0; i < COUNT && abstain.known[a][k] && abstain.known[b][k]; i++) {
			const float x = abstain.model[a][k][i], y = abstain.model[b][k][i];

			if (fabsf(x - y) > 0.01f)
				fail_msg("seed %llu, commit %d: after round %u element %u is %g "
					 "on rank %d, and %g on rank %d",
					 (unsigned long long)j->seed, (int)j->attr.commit, k, i,
					 (double)x, a, (double)y, b);
		}
	}
}

static void abstain_run(struct job *j)
{
	const int *v = abstain.victims;
	int a, b;

	memset(j->x, 0, sizeof(j->x));
	memset(abstain.d, 0, sizeof(abstain.d));
	memset(abstain.known, 0, sizeof(abstain.known));
	abstain.nended = 0;
	abstain.from = abstain.to = abstain.most = 0;
	abstain.furthest = MAX_RANKS;
	assert_int_equal(job_run(j), 0);
	assert_int_equal(abstain.nended, j->nranks - 1 - (v[1] >= 0));
	for (a = 0; a < 2; a++)
		if (v[a] >= 0)
			job_bury(abstain.d[v[a]]);
	for (a = 0; a < j->nranks; a++)
		for (b = 0; b < a; b++)
			if (a != v[0] && a != v[1] && b != v[0] && b != v[1])
				abstain_compare(j, a, b);
}

static struct job abstain_job(int nranks, uint64_t seed, enum gyre_commit commit)
{
	struct job j = {
		.nranks = nranks,
		.seed = seed,
		.attr = job_attr(0, 1),
		.fn = abstain_main,
		.begin = abstain_begin,
		.leaks = true,
	};

	j.attr.commit = commit;
	j.attr.payload = GYRE_PAYLOAD_MODEL;
	return j;
}

/* First to see where events are, then with ranks killed at some. */
static void abstain_seed(uint64_t seed, enum gyre_commit commit)
{
	struct job j = abstain_job(3 + (int)(seed % 3), seed, commit);
	uint64_t span;

	abstain.victims[0] = (int)(seed / 4 % (uint64_t)j.nranks);
	abstain.victims[1] = j.nranks == 5 ? (abstain.victims[0] + 1 + (int)(seed / 6 % 4)) % 5
					   : -1;
	abstain.events[0] = abstain.events[1] = 0;
	abstain_run(&j);
	span = (j.stats.events - abstain.created) / 2;
	abstain.events[0] = abstain.created + seed * 7919 % span;
	abstain.events[1] = abstain.events[0] + seed * 104729 % (span / 8 + 1);
	abstain_run(&j);
}

static void abstain_all(enum gyre_commit commit)
{
	const unsigned seeds = test_times(60, 1000);
	uint64_t seed;

	abstain.recovered = abstain.given = 0;
	for (seed = 1; seed <= seeds; seed++)
		abstain_seed(seed, commit);
	assert_true(abstain.recovered > seeds);
}

/* Some have merged a round that others have not: these merge it in rebind. */
static void test_none(void **state)
{
	abstain_all(GYRE_COMMIT_NONE);
	assert_true(abstain.given > 0);
}

/* Up to where the first failure is, and that one rank gives a round to two others or more. */
static struct job halves_job(uint64_t seed)
{
	struct job j = abstain_job(5, seed, GYRE_COMMIT_NONE);
	uint64_t span;

	abstain.victims[0] = (int)(seed % 5);
	abstain.victims[1] = -1;
	abstain.events[0] = abstain.events[1] = 0;
	abstain_run(&j);
	span = (j.stats.events - abstain.created) / 2;
	abstain.events[0] = abstain.created + seed * 7919 % span;
	abstain.given = 0;
	abstain_run(&j);
	return j;
}

/*
 * The rank that gives the others a round is lost while it does: those that have it then give it to
 * the rest.
 */
static void test_halves(void **state)
{
	unsigned halves = 0;
	uint64_t seed, event, step;

	for (seed = 1; halves <= 5 && seed < 1000; seed++) {
		struct job j = halves_job(seed);
		const uint64_t from = abstain.from, end = abstain.to;

		if (abstain.given < 2) /* to one rank at most: it has it or has not */
			continue;
		/* it gives when the ranks have found each other again */
		step = gy_max((end - from) / test_times(100, 2000), UINT64_C(1));
		abstain.victims[1] = abstain.furthest;
		for (event = end - (end - from) / 5; event < end; event += step) {
			abstain.halves = 0;
			abstain.events[1] = event;
			abstain_run(&j);
			halves += abstain.halves > 0;
		}
	}
	assert_true(halves > 5);
}

static void test_all(void **state)
{
	abstain_all(GYRE_COMMIT_ALL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_all),
	};

	return job_test(argc, argv, tests, GY_ARRAY_SIZE(tests));
}
