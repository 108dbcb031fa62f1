/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SUITE_H
#define GY_SUITE_H
/*
 * One property suite over the public interface, for every transport: in the simulator each rank is
 * a coroutine (tests/unit/test_suite_sim.c), else a process (test_multi.c).
 *
 * A round is one job: settings are drawn from its seed, then cases, each from a seed of its own.
 * All ranks draw the same case; what one rank does alone (order of completion, delays) depends on
 * its rank too.  Data are a function of (seed, rank, index) for which each result is exact in any
 * order.
 */
#include <gyre/gyre.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUITE_MAX_THREADS 4

/* What each thread of a rank has allocated, in the caller's storage: for ranks that end early. */
struct suite_heap {
	struct suite_block *first[SUITE_MAX_THREADS + 1];
};

void suite_heap_free(struct suite_heap *heap);

struct suite_env {
	int rank, nranks;
	struct gyre_context *ctx;
	struct suite_heap *heap;
	unsigned thread;		/* 0: the rank's main */
	size_t max_bytes;		/* of one buffer, about */
	bool manual;			/* data move in calls only */
	bool no_split;			/* ranks may be killed: they would leak in a split */
	/*
	 * Lets time pass: how = 0: a moment, in a loop that tests; else up to so many microseconds
	 * of computing.
	 */
	void (*pass)(void *arg, unsigned how);
	/* Runs fn(args[i]) in n threads until all are over: 0, or not when one has failed. */
	int (*parallel)(void *arg, unsigned n, int (*fn)(void *), void **args);
	void *arg;
	/*
	 * Shared by all ranks of the job, 0 at first: how often they came to a barrier; and this
	 * rank.
	 */
	_Atomic uint32_t *arrivals;
	uint32_t arrived;
	char *doing;			/* what this rank does now, for who looks when it hangs */
	size_t doing_size;
	char why[400];			/* after a failure */
};

/* Called once for each setting of a round: "grain_bytes", "4096". */
typedef void suite_set_fn(void *arg, const char *name, const char *value);
void suite_settings(uint64_t seed, int nranks, suite_set_fn *set, void *arg);

/*
 * Runs one case on this rank.  0, or -1 and env->why; then the job is of no further use: destroy
 * the context, then suite_heap_free.
 */
int suite_case(struct suite_env *env, uint64_t seed);

/* One given collective, blocking; for products of everything.  coll: 0 .. SUITE_NCOLLS - 1. */
#define SUITE_NCOLLS 5
int suite_collective(struct suite_env *env, uint64_t seed, int coll, enum gyre_type type,
		     enum gyre_op op, size_t count);

/* The algorithms of a collective, by position; NULL after the last. */
const char *suite_coll_name(int coll);
const char *suite_algorithm(int coll, unsigned i);

/* Seed of case i of a round. */
uint64_t suite_case_seed(uint64_t round_seed, unsigned i);
#endif
