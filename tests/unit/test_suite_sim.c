/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_suite_sim.c - the property suite (tests/multi/suite.h) in the simulator: every type,
 * operator, algorithm and number of ranks at small counts, a fifth of these combinations without
 * GY_TEST_LONG=1 or --product; then random rounds until the time is over.
 *
 *	test_suite_sim [--seed S] [--rounds N] [--seconds N] [--ranks N] [--cases N] [--product]
 *		       [--stall MS] [--verbose]
 */
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/config.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/registry.h"
#include "tests/long.h"
#include "tests/multi/suite.h"
#include "tests/unit/suite_sim.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 64
#define DOING 200
#define MIN_ROUNDS 16 /* of random cases, however slow the machine */

static bool verbose;
static int stall_ms = 2000; /* virtual: nothing takes that long */
static unsigned product_step; /* a type, operator and count at every so many numbers of ranks */

struct round {
	uint64_t seed;
	int nranks;
	unsigned cases;
	int coll; /* >= 0: the product for this collective and algorithm */
	const char *algorithm;
	struct suite_sim sim;
	size_t max_bytes;
	_Atomic uint32_t arrivals;
	struct suite_heap heaps[MAX_RANKS];
	char doing[MAX_RANKS][DOING];
};

/*
 * Every type and operator at a few counts, around the eager limit too.  With a step, each two of
 * type, operator, count and number of ranks still meet.
 */
static int rank_product(struct suite_env *env, const struct round *r)
{
	static const size_t counts[] = { 0, 1, 5, 64, 131 };
	unsigned type, op, i;

	for (type = 0; type < GYRE_NTYPES; type++) {
		for (op = 0; op < GYRE_NOPS; op++) {
			for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
				if ((type + op + i + (unsigned)r->nranks) % product_step)
					continue;
				if (suite_collective(env, r->seed + type * 100 + op * 10 + i,
						     r->coll, (enum gyre_type)type,
						     (enum gyre_op)op, counts[i]))
					return -1;
			}
		}
	}
	return 0;
}

/* What came for an operation is used up with it. */
static bool rank_keeps_messages(const struct gyre_context *ctx)
{
	const struct gy_list *pos;
	bool keeps = false;
	int i;

	for (i = 0; i < ctx->nranks; i++) {
		const struct gy_peer *peer = ctx->engine.peers[i];

		if (!peer)
			continue;
		gy_list_for_each(pos, &peer->parked) {
			const struct gy_hdr *hdr = &gy_list_entry(pos, struct gy_parked, link)->hdr;
			char call[96];

			gy_call_text(hdr, call, sizeof(call));
			printf("rank %d: a message of kind %u is left of call %u of rank %d, %s\n",
			       ctx->rank, hdr->kind, hdr->seq, i, call);
			keeps = true;
		}
	}
	return keeps;
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct round *r = arg;
	struct suite_env env = {
		.rank = gy_sim_rank_id(rank),
		.nranks = r->nranks,
		.max_bytes = r->max_bytes,
		.manual = r->sim.manual,
		.pass = suite_sim_pass,
		.parallel = suite_sim_parallel,
		.arg = rank,
		.arrivals = &r->arrivals,
		.doing_size = DOING,
	};
	unsigned i = 0;
	int err;

	env.doing = r->doing[env.rank];
	env.heap = &r->heaps[env.rank];
	snprintf(env.doing, DOING, "making a context");
	err = gy_sim_context(rank, &r->sim.cfg, &env.ctx);
	if (err) {
		printf("rank %d: context: %s\n", env.rank, gyre_strerror(err));
		return err;
	}
	if (r->coll >= 0)
		err = rank_product(&env, r);
	for (; i < r->cases && !err; i++)
		err = suite_case(&env, suite_case_seed(r->seed, i));
	if (err) {
		printf("rank %d: case %u: %s: %s\n", env.rank, i - 1, env.doing, env.why);
		return -EBADMSG;
	}
	if (rank_keeps_messages(env.ctx))
		return -EBADMSG;
	snprintf(env.doing, DOING, "leaving");
	gyre_context_destroy(env.ctx);
	snprintf(env.doing, DOING, "over");
	return 0;
}

static int round_once(struct round *r, struct gy_sim_stats *stats)
{
	struct gy_sim_attr attr;
	int err, i;

	gy_sim_attr_init(&attr, r->nranks, r->seed);
	attr.random_links = r->seed % 8 > 3;
	if (r->seed % 8 == 1)
		attr.link.caps = GY_SIM_BULK; /* as over TCP */
	else if (r->seed % 8 == 2)
		attr.link.caps = GY_SIM_LEND | GY_SIM_MAP; /* as over shm without CMA */
	else if (r->seed % 8 == 3)
		attr.link.caps = GY_SIM_BULK | GY_SIM_WRITE; /* as by RDMA */
	attr.ranks_per_node = r->seed % 5 == 0 ? 1 + (int)(r->seed / 5 % (uint64_t)r->nranks) : 0;
	attr.deadline_ns = 300ull * 1000 * 1000 * 1000;
	attr.max_events = 50 * 1000 * 1000;
	attr.stats = stats;
	atomic_store(&r->arrivals, 0);
	err = gy_sim_run(&attr, rank_main, r);
	for (i = 0; i < r->nranks; i++)
		suite_heap_free(&r->heaps[i]);
	return err;
}

static int round_run(struct round *r, const char *how)
{
	struct gy_sim_stats stats, again;
	int err, i;

	err = round_once(r, &stats);
	if (!err && r->seed % 16 == 0) { /* the same seed, the same run */
		err = round_once(r, &again);
		if (!err && memcmp(&stats, &again, sizeof(stats)))
			err = -ESTALE;
	}
	if (verbose)
		printf("%s: %d ranks, %.3f ms virtual, %llu events, hash %016llx\n", how, r->nranks,
		       (double)stats.now_ns * 1e-6, (unsigned long long)stats.events,
		       (unsigned long long)stats.hash);
	if (!err)
		return 0;
	printf("FAILED: %s; settings: algorithm=%s grain=%zu eager=%zu pool=%zu progress=%d\n",
	       gyre_strerror(err), r->sim.cfg.algorithm, r->sim.cfg.grain_bytes,
	       r->sim.cfg.eager_bytes, r->sim.cfg.pool_bytes, r->sim.cfg.progress);
	for (i = 0; i < r->nranks; i++)
		printf("  rank %d: %s\n", i, r->doing[i]);
	printf("again: test_suite_sim %s\n", how);
	return 1;
}

static int random_round(uint64_t seed, int nranks, unsigned cases)
{
	static const size_t bytes[] = { 16 << 10, 16 << 10, 128 << 10, 1 << 20 };
	struct round r = { .seed = seed, .coll = -1, .cases = cases };
	char how[100];

	r.nranks = nranks ? nranks : 1 + (int)(seed % 97 % 9);
	r.max_bytes = bytes[seed / 8 % 4];
	gy_config_init(&r.sim.cfg);
	r.sim.cfg.stall_timeout_ms = stall_ms;
	suite_settings(seed, r.nranks, suite_sim_set, &r.sim);
	if (r.sim.cfg.grain_bytes && r.max_bytes > 256 * r.sim.cfg.grain_bytes)
		r.max_bytes = 256 * r.sim.cfg.grain_bytes;
	snprintf(how, sizeof(how), "--seed %llu --rounds 1 --ranks %d --cases %u",
		 (unsigned long long)seed, r.nranks, cases);
	return round_run(&r, how);
}

static int product_round(int coll, const char *algorithm, int nranks)
{
	struct round r = {
		.seed = 1 + (uint64_t)nranks, .coll = coll, .nranks = nranks, .max_bytes = 4096
	};
	char text[64];

	gy_config_init(&r.sim.cfg);
	r.sim.cfg.stall_timeout_ms = stall_ms;
	snprintf(text, sizeof(text), "%s=%s", suite_coll_name(coll), algorithm);
	suite_sim_set(&r.sim, "algorithm", text);
	suite_sim_set(&r.sim, "eager_bytes", "512");
	return round_run(&r, "--product");
}

/* The suite's table of algorithms is the library's. */
static int product_check_names(void)
{
	unsigned i, k;

	for (i = 0; gy_algos[i]; i++) {
		const int coll = (int)gy_algos[i]->coll;

		for (k = 0; suite_algorithm(coll, k); k++) {
			if (!strcmp(suite_algorithm(coll, k), gy_algos[i]->name))
				break;
		}
		if (!suite_algorithm(coll, k)) {
			printf("suite.c does not know algorithm %s of %s\n", gy_algos[i]->name,
			       suite_coll_name(coll));
			return 1;
		}
	}
	return 0;
}

static int product(int max_ranks)
{
	int coll, nranks, failed = product_check_names();
	unsigned i;

	for (coll = 0; coll < SUITE_NCOLLS && !failed; coll++) {
		for (i = 0; suite_algorithm(coll, i) && !failed; i++) {
			for (nranks = 1; nranks <= max_ranks && !failed; nranks++)
				failed = product_round(coll, suite_algorithm(coll, i), nranks);
		}
	}
	return failed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },    { "rounds", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 't' }, { "ranks", 1, NULL, 'r' },
		{ "cases", 1, NULL, 'c' },   { "product", 0, NULL, 'p' },
		{ "verbose", 0, NULL, 'v' }, { "stall", 1, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	const double start = test_cpu_seconds();
	double time = test_times(2, 36);
	uint64_t seed = 1, rounds = UINT64_MAX, i;
	bool products = argc == 1, random = true;
	unsigned cases = 6;
	int opt, nranks = 0, failed = 0;

	product_step = test_times(5, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			rounds = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			time = atof(optarg);
		else if (opt == 'r')
			nranks = atoi(optarg);
		else if (opt == 'c')
			cases = (unsigned)atoi(optarg);
		else if (opt == 'p')
			products = !(random = false), product_step = 1;
		else if (opt == 'w')
			stall_ms = atoi(optarg);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	if (products)
		failed = product(9);
	for (i = 0; random && i < rounds && !failed &&
		    (rounds != UINT64_MAX || test_cpu_seconds() - start < time || i < MIN_ROUNDS);
	     i++)
		failed = random_round(seed + i, nranks, cases);
	if (!failed && gy_alloc_live()) {
		printf("FAILED: %ld blocks are left\n", gy_alloc_live());
		failed = 1;
	}
	printf("%s: %llu random rounds from seed %llu\n", failed ? "FAILED" : "passed",
	       (unsigned long long)(random ? i : 0), (unsigned long long)seed);
	return failed;
}
