/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_PLAN_CHECK_H
#define TESTS_PLAN_CHECK_H
/*
 * The checker: runs the plans of all ranks of one collective without a network and judges them.
 *
 * Elements are symbolic: a value remembers which ranks' inputs it sums, the exact tree of the sum
 * as a non-commutative hash, and how many final moves it has passed.  A run fails on a wrong
 * result, trees that differ between ranks, memory read before it is written, streams whose two
 * sides do not fit, and deadlock.
 *
 * The model of execution is the worst that the engine may do: a window of moves, counted from the
 * oldest that is not complete; a stream that is not sent out of memory holds one grain; one that
 * is sent out of memory reads it at the moment at which the receiver consumes, and only then the
 * send completes.  An empty move is one empty grain, which goes after all of the moves that it
 * depends on, and is waited for like any other.  Which of the possible grains runs next is random,
 * by priorities that are drawn per move, so that some moves or ranks are always late.  Only derived
 * dependencies hold anything back.
 */
#include <stdbool.h>
#include <stdint.h>
#include "lib/coll.h"

struct plan_set {
	const struct gy_coll_algo *algo;
	int nranks, root;
	bool in_place;
	struct gy_plan **plans;		/* by rank; tests may tamper with them */
};

/* Lengths of blocks, elements. */
enum plan_sizes {
	PLAN_EVEN,	/* as the engine splits: equal, the last ones shorter or empty */
	PLAN_EQUAL,	/* all of `unit` */
	PLAN_RANDOM,	/* 0 .. unit */
	PLAN_NSIZES,
};

struct plan_mode {
	bool sequential;	/* straight line: whole moves in program order, streams unbounded */
	bool in_order;		/* grains of a move run in order; else in any, but through slots */
	int window;		/* 0: each plan's least; > 0: that or more; < 0: so many less */
	uint32_t grain;		/* elements */
	enum plan_sizes sizes;
	uint32_t unit;
	uint64_t seed;
	bool rank_order;	/* sums must be evaluated left to right in rank order */
};

/* Plans of all ranks, finished.  0 or -errno of the first that fails. */
int plan_set_init(struct plan_set *set, const struct gy_coll_algo *algo, int nranks, int root,
		  bool in_place);
void plan_set_fini(struct plan_set *set);

/* NULL when all is well, else what is wrong (valid until the next call; not thread-safe). */
const char *plan_check(const struct plan_set *set, const struct plan_mode *mode);

/* A small seeded generator, for tests too: the next number. */
uint64_t plan_random(uint64_t *state);
#endif
