/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every planner in the registry, for every number of ranks up to 64, through the checker.
 * GY_TEST_SEED repeats a run; GY_TEST_LONG=1 tries more seeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "lib/alloc.h"
#include "lib/registry.h"
#include "tests/long.h"
#include "tests/unit/plan_check.h"

/* One thread, no memory of anybody else's: ThreadSanitizer has little to find, and is slow. */
#if defined(__SANITIZE_THREAD__)
#define PLANNERS_MAX_RANKS 12
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLANNERS_MAX_RANKS 12
#endif
#endif
#ifndef PLANNERS_MAX_RANKS
#define PLANNERS_MAX_RANKS 64
#endif

static uint64_t planners_seed;

/* Moves that reduce from all ranks at once do so in rank order; the others need not. */
static bool planners_rank_order(const struct gy_coll_algo *algo)
{
	return !strcmp(algo->name, "flat") || !strcmp(algo->name, "direct");
}

static void planners_expect(const struct plan_set *set, const struct plan_mode *mode)
{
	const char *why = plan_check(set, mode);

	if (why)
		fail_msg("%s %s, %d ranks, root %d%s%s%s, grain %u, unit %u, seed %llu: %s",
			 gy_coll_name(set->algo->coll), set->algo->name, set->nranks, set->root,
			 set->in_place ? ", in place" : "", mode->sequential ? ", sequential" : "",
			 mode->in_order ? ", in order" : "", mode->grain, mode->unit,
			 (unsigned long long)mode->seed, why);
}

/* One set of plans by both executors: straight, and with the least window and random order. */
static void planners_check_set(const struct plan_set *set, int nseeds)
{
	static const uint32_t grains[] = { 1, 2, 3, 1000 };
	struct plan_mode mode = { .rank_order = planners_rank_order(set->algo) };
	int i;

	for (i = 0; i < nseeds; i++) {
		mode.seed = planners_seed + i * 1000 + set->nranks;
		mode.sizes = mode.seed % PLAN_NSIZES;
		mode.unit = 1 + mode.seed / 3 % 4;
		mode.sequential = true;
		mode.grain = 1u << 30;
		planners_expect(set, &mode);
		mode.sequential = false;
		mode.in_order = (i + set->nranks) % 2;
		mode.grain = grains[mode.seed / 12 % 4];
		mode.window = (i + set->nranks) % 3 == 2 ? 16 : 0;
		planners_expect(set, &mode);
	}
}

static int planners_limit(const struct gy_coll_algo *algo)
{
	return algo->max_ranks && algo->max_ranks < PLANNERS_MAX_RANKS ? algo->max_ranks
								       : PLANNERS_MAX_RANKS;
}

static void planners_check(const struct gy_coll_algo *algo, int nranks)
{
	const bool no_in = algo->coll == GY_BROADCAST || algo->coll == GY_BARRIER;
	const int nseeds = (nranks <= 12 ? 6 : nranks <= 32 ? 2 : 1) * (int)test_times(1, 12);
	struct plan_set set;
	int root, in_place;

	for (root = 0; root < nranks; root++) {
		if (root && (algo->coll != GY_BROADCAST ||
			     (nranks > 9 && root != 1 && root != nranks / 2 && root != nranks - 1)))
			continue;
		for (in_place = 0; in_place < (no_in ? 1 : 2); in_place++) {
			assert_int_equal(plan_set_init(&set, algo, nranks, root, in_place), 0);
			planners_check_set(&set, nseeds);
			plan_set_fini(&set);
		}
	}
}

static void test_every_planner(void **state)
{
	int i, nranks;

	(void)state;
	for (i = 0; gy_algos[i]; i++) {
		const clock_t begin = clock();

		for (nranks = 2; nranks <= planners_limit(gy_algos[i]); nranks++)
			planners_check(gy_algos[i], nranks);
		printf("%s %s: %.2f s\n", gy_coll_name(gy_algos[i]->coll), gy_algos[i]->name,
		       (double)(clock() - begin) / CLOCKS_PER_SEC);
	}
}

/* min_window is not larger than it must be: one less ends in a deadlock. */
static void test_windows_are_needed(void **state)
{
	int i, nranks, in_place;

	(void)state;
	for (i = 0; gy_algos[i]; i++)
		for (nranks = 2; nranks <= 9; nranks++)
			for (in_place = 0; in_place < 2; in_place++) {
				struct plan_mode mode = {
					.window = -1,
					.grain = 1,
					.sizes = PLAN_EQUAL,
					.unit = 12,
					.seed = planners_seed,
					.in_order = true,
				};
				struct plan_set set;
				uint32_t most = 0;
				const char *why;
				int r;

				assert_int_equal(plan_set_init(&set, gy_algos[i], nranks, 0,
							       in_place),
						 0);
				for (r = 0; r < nranks; r++)
					if (set.plans[r]->min_window > most)
						most = set.plans[r]->min_window;
				why = plan_check(&set, &mode);
				if (most > 1 && (!why || strncmp(why, "deadlock", 8)))
					fail_msg("%s %s, %d ranks: window %u is not needed: %s",
						 gy_coll_name(gy_algos[i]->coll), gy_algos[i]->name,
						 nranks, most, why ? why : "it works with less");
				plan_set_fini(&set);
			}
}

/* ---- the checker itself: plans that have been spoilt must not pass ---- */

static const struct gy_coll_algo *planners_find(enum gy_coll coll, const char *name)
{
	unsigned i;

	for (i = 0; gy_algos[i]; i++)
		if (gy_algos[i]->coll == coll && !strcmp(gy_algos[i]->name, name))
			return gy_algos[i];
	fail_msg("no algorithm %s", name);
	return NULL;
}

/* Whether a spoilt set is found out within some seeds. */
static bool planners_rejects(const struct plan_set *set)
{
	int i;

	for (i = 0; i < 300; i++) {
		struct plan_mode mode = {
			.sizes = PLAN_EQUAL,
			.unit = 4,
			.grain = 1 + i % 3,
			.in_order = i % 2,
			.window = i % 4 == 3 ? 64 : 0,
			.seed = planners_seed + i,
			.rank_order = planners_rank_order(set->algo),
		};

		if (plan_check(set, &mode))
			return true;
	}
	return false;
}

static void planners_found_out(const struct plan_set *set, int rank, const char *what)
{
	if (!planners_rejects(set))
		fail_msg("%s %s%s: rank %d, %s: not noticed", gy_coll_name(set->algo->coll),
			 set->algo->name, set->in_place ? " in place" : "", rank, what);
}

/*
 * Without any one of its dependencies each of these goes wrong.  (In others, peers' data imply
 * some: in a ring in place, what overwrites a block has passed whoever was to read it.)
 */
static void test_missing_dependency(void **state)
{
	static const struct {
		enum gy_coll coll;
		const char *name;
	} plans[] = {
		{ GY_ALLREDUCE, "flat" },
		{ GY_ALLREDUCE, "recursive_doubling" },
		{ GY_REDUCE_SCATTER, "direct" },
		{ GY_REDUCE_SCATTER, "ring" },
		{ GY_ALLGATHER, "bruck" },
	};
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		struct plan_set set;
		uint32_t d;
		int r, n = 0;

		assert_int_equal(plan_set_init(&set, planners_find(plans[i].coll, plans[i].name), 8,
					       0, true),
				 0);
		for (r = 0; r < set.nranks; r++)
			for (d = 0; d < set.plans[r]->ndeps; d++, n++) {
				struct gy_dep *dep = &set.plans[r]->deps[d];
				const uint32_t positions = dep->n;

				dep->n = 0;
				planners_found_out(&set, r, "a dependency is missing");
				dep->n = positions;
			}
		assert_true(n > 0);
		plan_set_fini(&set);
	}
}

/* DONE is not enough where memory is overwritten that is still being sent. */
static void test_done_for_free(void **state)
{
	struct plan_set set;
	uint32_t d;
	int r, n = 0;

	(void)state;
	assert_int_equal(plan_set_init(&set, planners_find(GY_ALLREDUCE, "recursive_doubling"), 8,
				       0, true),
			 0);
	for (r = 0; r < set.nranks; r++)
		for (d = 0; d < set.plans[r]->ndeps; d++) {
			struct gy_dep *dep = &set.plans[r]->deps[d];

			if (dep->kind != GY_DEP_FREE)
				continue;
			dep->kind = GY_DEP_DONE;
			planners_found_out(&set, r, "done for free");
			dep->kind = GY_DEP_FREE;
			n++;
		}
	assert_true(n > 0);
	plan_set_fini(&set);
}

static void planners_spoil_end(const struct plan_set *set, int r, struct gy_end *e)
{
	const struct gy_range range = e->range;

	if (e->space == GY_STREAM || set->algo->coll == GY_BARRIER)
		return;		/* which block of a barrier hears of all does not matter */
	e->range.first = (range.first + 1) % set->plans[r]->nblocks;
	planners_found_out(set, r, "a wrong block");
	e->range = range;
}

static void planners_spoil_flags(const struct plan_set *set, int r, struct gy_move *move)
{
	if (move->nin < 2 || set->algo->coll == GY_BARRIER)
		return;
	move->flags ^= GY_MOVE_FINAL;
	planners_found_out(set, r, "final where it should not be, or not");
	move->flags ^= GY_MOVE_FINAL;
}

/* Wrong blocks, and elements that are completed twice or never, in any move of any planner. */
static void test_wrong_block_or_final(void **state)
{
	struct plan_set set;
	uint32_t i;
	int a, r, in_place;

	(void)state;
	for (a = 0; gy_algos[a]; a++)
		for (in_place = 0; in_place < 2; in_place++) {
			assert_int_equal(plan_set_init(&set, gy_algos[a], 5, 0, in_place), 0);
			for (r = 0; r < set.nranks; r++) {
				struct gy_plan *pl = set.plans[r];

				for (i = 0; i < pl->nends && pl->nblocks > 1; i++)
					planners_spoil_end(&set, r, &pl->ends[i]);
				for (i = 0; i < pl->nmoves; i++)
					planners_spoil_flags(&set, r, &pl->moves[i]);
			}
			plan_set_fini(&set);
		}
}

static void planners_swap(const struct plan_set *set, int r, struct gy_end *in)
{
	const struct gy_end first = in[0];

	in[0] = in[1];
	in[1] = first;
	planners_found_out(set, r, "operands in another order");
	in[1] = in[0];
	in[0] = first;
}

/* One rank that reduces in another order than the others, or than the ranks' order. */
static void test_swapped_operands(void **state)
{
	static const char *const names[] = { "flat", "recursive_doubling", "direct" };
	struct plan_set set;
	unsigned i;
	uint32_t m;
	int r;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(plan_set_init(&set, planners_find(GY_ALLREDUCE, names[i]), 4, 0,
					       false),
				 0);
		for (r = 0; r < set.nranks; r++)
			for (m = 0; m < set.plans[r]->nmoves; m++)
				if (set.plans[r]->moves[m].nin > 1)
					planners_swap(&set, r,
						      set.plans[r]->ends +
							      set.plans[r]->moves[m].end);
		plan_set_fini(&set);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_planner),
		cmocka_unit_test(test_windows_are_needed),
		cmocka_unit_test(test_missing_dependency),
		cmocka_unit_test(test_done_for_free),
		cmocka_unit_test(test_wrong_block_or_final),
		cmocka_unit_test(test_swapped_operands),
	};
	const char *seed = getenv("GY_TEST_SEED");

	planners_seed = seed ? strtoull(seed, NULL, 0) : 1;
	printf("seed %llu\n", (unsigned long long)planners_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
