/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_faults_sim.c - ranks that die, leave, stall or lose a connection while the property suite
 * runs in the simulator.  Every survivor's pending or next call ends with an error that the
 * communicator can explain, in bounded (virtual) time; later calls end so too; nothing is written
 * or left behind.
 *
 *	test_faults_sim [--seed S] [--rounds N] [--seconds N] [--verbose]
 */
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"
#include "tests/long.h"
#include "tests/multi/suite.h"
#include "tests/unit/suite_sim.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 9
#define CASES 30
#define DOING 200
#define MIN_ROUNDS 20 /* of seeds, however slow the machine */
#define MS UINT64_C(1000000)
#define NOTICE_NS (200 * MS) /* from a fault to the error of a call */
#define LEAVE_NS (3000 * MS) /* of gyre_context_destroy */

enum fault {
	KILL,
	KILL_TWO,
	CUT,
	STALL,
	LEAVE,
	FAULTS
};

static const char *const fault_names[] = { "kill", "kill two", "cut", "stall", "leave" };

struct round {
	uint64_t seed;
	int nranks;
	enum fault fault;
	int a, b;
	uint64_t at_ns; /* 0: not set yet */
	unsigned leave_after; /* cases */
	struct suite_sim sim;
	bool failed;
	bool ended[MAX_RANKS]; /* or about to */
	_Atomic uint32_t arrivals;
	struct suite_heap heaps[MAX_RANKS];
	char doing[MAX_RANKS][DOING];
};

static bool verbose;

static int rank_complain(struct round *r, struct gy_sim_rank *rank, const char *what)
{
	printf("rank %d, %.3f ms, fault (%s of %d, %d) at %.3f ms: %s: %s\n", gy_sim_rank_id(rank),
	       (double)gy_sim_now(gy_sim_world(rank)) * 1e-6, fault_names[r->fault], r->a, r->b,
	       (double)r->at_ns * 1e-6, r->doing[gy_sim_rank_id(rank)], what);
	r->failed = true;
	return -EBADMSG;
}

/* The first that has its context decides when it happens. */
static void rank_schedule(struct round *r, struct gy_sim_rank *rank)
{
	struct gy_sim_world *w = gy_sim_world(rank);

	if (r->at_ns)
		return;
	r->at_ns = gy_sim_now(w) + 1 + gy_sim_random(rank) % (2 * MS);
	if (r->fault == KILL || r->fault == KILL_TWO)
		gy_sim_kill(w, r->a, r->at_ns);
	if (r->fault == KILL_TWO)
		gy_sim_kill(w, r->b, r->at_ns + gy_sim_random(rank) % (MS / 2));
	if (r->fault == CUT)
		gy_sim_cut(w, r->a, r->b, r->at_ns);
	if (r->fault == STALL)
		gy_sim_stall(w, r->a, r->at_ns, r->at_ns + gy_sim_random(rank) % (300 * MS));
}

/*
 * Whether the text names who was hit, or one that has ended since.  A message from anybody may
 * come of those who are left: only time ends that wait.
 */
static bool rank_named(const struct round *r, const char *text)
{
	char name[24];
	int i;

	for (i = 0; i < r->nranks; i++) {
		snprintf(name, sizeof(name), "rank %d", i);
		if (strstr(text, name) &&
		    (i == r->a || r->ended[i] ||
		     (i == r->b && (r->fault == KILL_TWO || r->fault == CUT))))
			return true;
	}
	return r->fault == LEAVE && strstr(text, "waits for rank any in message");
}

/* A case has failed: rightly so? */
static int rank_check_failure(struct round *r, struct gy_sim_rank *rank, struct suite_env *env)
{
	struct gy_sim_world *w = gy_sim_world(rank);
	struct gyre_comm *world = gyre_context_world(env->ctx);
	const uint64_t start = gy_sim_now(w);
	char text[300] = "";

	/* A communicator of some may fail a moment before that of all. */
	if (!gyre_comm_status(world, text, sizeof(text)) &&
	    (strstr(env->why, "wrong") || !gyre_barrier(world)))
		return rank_complain(r, rank, env->why);
	if (!gyre_comm_status(world, text, sizeof(text)) || !text[0])
		return rank_complain(r, rank, env->why);
	if (r->fault == STALL)
		return rank_complain(r, rank, "a rank that is late is not dead");
	if (r->fault != LEAVE && start > r->at_ns + NOTICE_NS + MS)
		return rank_complain(r, rank, "the error came too late");
	if (!rank_named(r, text))
		return rank_complain(r, rank, text);
	if (!gyre_barrier(world))
		return rank_complain(r, rank, "a later call works");
	if (gy_sim_now(w) > start + NOTICE_NS)
		return rank_complain(r, rank, "later calls took long to fail");
	if (verbose)
		printf("rank %d: %s\n", env->rank, text);
	return 0;
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct round *r = arg;
	struct gy_sim_world *w = gy_sim_world(rank);
	struct suite_env env = {
		.rank = gy_sim_rank_id(rank),
		.nranks = r->nranks,
		.max_bytes = 64 << 10,
		.manual = r->sim.manual,
		.no_split = r->fault == KILL || r->fault == KILL_TWO,
		.pass = suite_sim_pass,
		.parallel = suite_sim_parallel,
		.arg = rank,
		.arrivals = &r->arrivals,
		.doing_size = DOING,
	};
	uint64_t start;
	unsigned i;
	int err;

	env.doing = r->doing[env.rank];
	env.heap = &r->heaps[env.rank];
	err = gy_sim_context(rank, &r->sim.cfg, &env.ctx);
	if (err)
		return rank_complain(r, rank, "no context");
	rank_schedule(r, rank);
	for (i = 0; i < CASES && !err; i++) {
		if (r->fault == LEAVE && env.rank == r->a && i == r->leave_after)
			break;
		err = suite_case(&env, suite_case_seed(r->seed, i));
	}
	if (err && rank_check_failure(r, rank, &env))
		return -EBADMSG;
	start = gy_sim_now(w);
	snprintf(env.doing, DOING, "leaving");
	r->ended[env.rank] = true;
	gyre_context_destroy(env.ctx);
	if (gy_sim_now(w) > start + LEAVE_NS)
		return rank_complain(r, rank, "leaving took long");
	snprintf(env.doing, DOING, "over");
	return 0;
}

static int round_run(uint64_t seed)
{
	struct round r = { .seed = seed, .fault = (enum fault)(seed % FAULTS) };
	struct gy_sim_stats stats;
	struct gy_sim_attr attr;
	int i, err;

	r.nranks = 2 + (int)(seed / FAULTS % (MAX_RANKS - 1));
	r.a = (int)(seed / 7 % (uint64_t)r.nranks);
	r.b = (r.a + 1 + (int)(seed / 11 % (uint64_t)(r.nranks - 1))) % r.nranks;
	r.leave_after = (unsigned)(seed / 3 % CASES);
	gy_config_init(&r.sim.cfg);
	r.sim.cfg.stall_timeout_ms = 2000;
	suite_settings(seed, r.nranks, suite_sim_set, &r.sim);
	gy_sim_attr_init(&attr, r.nranks, seed);
	attr.random_links = seed % 8 > 3;
	if (seed % 8 == 1)
		attr.link.caps = GY_SIM_BULK;
	else if (seed % 8 == 3)
		attr.link.caps = GY_SIM_BULK | GY_SIM_WRITE;
	attr.deadline_ns = 20000 * MS;
	attr.stats = &stats;
	err = gy_sim_run(&attr, rank_main, &r);
	for (i = 0; i < r.nranks; i++)
		suite_heap_free(&r.heaps[i]);
	if (verbose)
		printf("seed %llu: %s, %d ranks, %.3f ms virtual, %llu events\n",
		       (unsigned long long)seed, fault_names[r.fault], r.nranks,
		       (double)stats.now_ns * 1e-6, (unsigned long long)stats.events);
	if (!err && gy_alloc_live()) {
		printf("%ld blocks are left\n", gy_alloc_live());
		err = -ENOTEMPTY;
	}
	if (!err && !r.failed)
		return 0;
	printf("FAILED: %s\n", gyre_strerror(err));
	for (i = 0; i < r.nranks; i++)
		printf("  rank %d: %s\n", i, r.doing[i]);
	printf("again: test_faults_sim --seed %llu --rounds 1\n", (unsigned long long)seed);
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },    { "rounds", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 't' }, { "verbose", 0, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	const double start = test_cpu_seconds();
	double time = test_is_long() ? 26 : 1.3;
	/* 239: a message that a line had taken was given back twice. */
	static const uint64_t regressions[] = { 239 };
	uint64_t seed = 1, chosen = 0, rounds = UINT64_MAX, i;
	int opt, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = chosen = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			rounds = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			time = atof(optarg);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	if (!verbose)
		gy_log_set_level(GY_LOG_ERROR);
	for (i = 0; !chosen && i < GY_ARRAY_SIZE(regressions) && !failed; i++)
		failed = round_run(regressions[i]);
	for (i = 0; i < rounds && !failed &&
		    (rounds != UINT64_MAX || test_cpu_seconds() - start < time || i < MIN_ROUNDS);
	     i++)
		failed = round_run(seed + i);
	printf("%s: %llu rounds from seed %llu\n", failed ? "FAILED" : "passed",
	       (unsigned long long)i, (unsigned long long)seed);
	return failed;
}
