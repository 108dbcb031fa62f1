/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite.c - drawing: settings of a round, cases, counts, ways to wait.
 */
#include "tests/multi/suite.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/multi/suite_priv.h"

static const char *const suite_colls[SUITE_NCOLLS] = {
	"allreduce", "reduce_scatter", "allgather", "broadcast", "barrier",
};

static const char *const suite_algorithms[SUITE_NCOLLS][8] = {
	{ "flat", "recursive_doubling", "halving_doubling", "direct", "ring" },
	{ "direct", "ring" },
	{ "bruck", "direct", "ring" },
	{ "binomial", "scatter_allgather", "chain" },
	{ "dissemination" },
};

const char *suite_coll_name(int coll)
{
	return suite_colls[coll];
}

const char *suite_algorithm(int coll, unsigned i)
{
	return suite_algorithms[coll][i];
}

/* ---- randomness ---- */

uint64_t suite_next(struct suite_rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t suite_below(struct suite_rng *rng, uint64_t n)
{
	return n ? suite_next(rng) % n : 0;
}

struct suite_rng suite_own_rng(const struct suite_env *env, uint64_t seed)
{
	struct suite_rng rng = { seed ^ ((uint64_t)env->rank + 1) * UINT64_C(0xd1342543de82ef95) };

	suite_next(&rng);
	return rng;
}

uint64_t suite_case_seed(uint64_t round_seed, unsigned i)
{
	struct suite_rng rng = { round_seed * UINT64_C(0x2545f4914f6cdd1d) + i };

	return suite_next(&rng);
}

/* ---- saying ---- */

int suite_fail(struct suite_env *env, const char *fmt, ...)
{
	va_list ap;

	if (!env->why[0]) {
		va_start(ap, fmt);
		vsnprintf(env->why, sizeof(env->why), fmt, ap);
		va_end(ap);
	}
	return -1;
}

void suite_doing(struct suite_env *env, const char *fmt, ...)
{
	va_list ap;

	if (!env->doing)
		return;
	va_start(ap, fmt);
	vsnprintf(env->doing, env->doing_size, fmt, ap);
	va_end(ap);
}

/* ---- drawing ---- */

size_t suite_count(const struct suite_env *env, struct suite_rng *rng, size_t esize)
{
	static const size_t small[] = { 0, 1, 2, 3, 5, 7, 8, 13, 31, 64, 97, 127, 251, 509, 1021 };
	const size_t max = env->max_bytes / esize;
	size_t n;

	switch (suite_below(rng, 8)) {
	case 0:
	case 1:
	case 2:
		n = small[suite_below(rng, sizeof(small) / sizeof(small[0]))];
		break;
	case 3:		/* around powers of two of bytes: eager limits, grains */
	case 4:
		n = (((size_t)64 << suite_below(rng, 13)) / esize) + suite_below(rng, 5);
		n -= n > 2 ? 2 : n;
		break;
	case 5:		/* around multiples of the number of ranks */
		n = (size_t)env->nranks * suite_below(rng, 600) + suite_below(rng, 3);
		break;
	case 6:
		n = suite_below(rng, 20000);
		break;
	default:
		n = suite_below(rng, max);
	}
	return n > max ? max : n;
}

int suite_complete(struct suite_env *env, struct suite_rng *own, struct gyre_request **req,
		   struct gyre_status *status)
{
	int done = 0, err = 0;

	switch (suite_below(own, 3)) {
	case 0:
		return gyre_request_wait(req, status);
	case 1:
		return gyre_request_waitall(1, req, status);
	default:
		while (!done && !err) {
			if (env->manual)
				gyre_progress(env->ctx);
			err = gyre_request_test(req, &done, status);
			if (!done)
				env->pass(env->arg, 0);
		}
		return err;
	}
}

/* ---- settings ---- */

static void settings_number(suite_set_fn *set, void *arg, const char *name, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	set(arg, name, text);
}

void suite_settings(uint64_t seed, int nranks, suite_set_fn *set, void *arg)
{
	struct suite_rng rng = { seed ^ 0x73657474 };
	char text[200] = "";
	size_t used = 0;
	int coll;
	unsigned n;

	for (coll = 0; coll < SUITE_NCOLLS; coll++) {
		for (n = 0; suite_algorithms[coll][n]; n++)
			;
		if (suite_one_in(&rng, 3))
			continue;		/* the table's choice */
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s=%s",
					 used ? "," : "",
					 suite_colls[coll],
					 suite_algorithms[coll][suite_below(&rng, n)]);
	}
	if (used)
		set(arg, "algorithm", text);
	if (suite_one_in(&rng, 2))
		settings_number(set, arg, "grain_bytes", UINT64_C(64) << suite_below(&rng, 13));
	if (suite_one_in(&rng, 2))
		settings_number(set, arg, "eager_bytes",
				suite_one_in(&rng, 3) ? 0 : UINT64_C(8) << suite_below(&rng, 11));
	if (suite_one_in(&rng, 3))
		set(arg, "pool_bytes", "1m");
	if (suite_one_in(&rng, 3))
		settings_number(set, arg, "tcp_streams", 1 + suite_below(&rng, 4));
	if (suite_one_in(&rng, 3))
		set(arg, "cma", "auto");
	if (suite_one_in(&rng, 4))
		set(arg, "mapped", "0");
	if (suite_one_in(&rng, 4))
		set(arg, "progress", "manual");
}

/* ---- cases ---- */

int suite_run_barrier(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct suite_rng own = suite_own_rng(env, seed);
	struct gyre_comm *world = gyre_context_world(env->ctx);
	const unsigned n = 1 + (unsigned)suite_below(rng, 5);
	struct gyre_request *req;
	unsigned i;
	int err = 0;

	suite_doing(env, "%u barriers", n);
	for (i = 0; i < n && !err; i++) {
		if (suite_one_in(&own, 3))
			env->pass(env->arg, 100);
		atomic_fetch_add(env->arrivals, 1);
		env->arrived++;
		if (suite_one_in(rng, 2)) {
			err = gyre_barrier(world);
		} else {
			err = gyre_ibarrier(world, &req);
			if (!err)
				err = suite_complete(env, &own, &req, NULL);
		}
		if (!err && atomic_load(env->arrivals) < env->arrived * (uint32_t)env->nranks)
			return suite_fail(env, "a barrier was left before all had come");
	}
	return err ? suite_fail(env, "barrier: %s", gyre_strerror(err)) : 0;
}

int suite_case(struct suite_env *env, uint64_t seed)
{
	struct suite_rng rng = { seed };
	unsigned kind;

	env->why[0] = 0;
	kind = (unsigned)suite_below(&rng, 16);
	if (env->no_split && (kind == 9 || kind == 10))
		kind = 1;
	switch (kind) {
	case 0:
		return suite_run_barrier(env, &rng, seed);
	case 1:
	case 2:
	case 3:
		return suite_run_many(env, &rng, seed);
	case 4:
	case 5:
	case 6:
		return suite_run_graph(env, &rng, seed);
	case 7:
		return suite_run_ring(env, &rng, seed);
	case 8:
		return suite_run_wrong(env, &rng, seed);
	case 9:
		return suite_run_split(env, &rng, seed);
	case 10:
		return suite_run_threads(env, &rng, seed);
	default:
		return suite_run_single(env, &rng, seed);
	}
}
