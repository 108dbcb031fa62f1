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
#include "tests/unit/plan_check.h"

#define PLANNERS_MAX_RANKS 64

static uint64_t planners_seed;
static int planners_long;

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
		mode.in_order = i % 2;
		mode.grain = 1 + mode.seed / 12 % 3;
		mode.window = i % 3 == 2 ? 16 : 0;
		if (mode.window && mode.window < (int)set->plans[0]->min_window)
			mode.window = 0;
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
	const int nseeds = (nranks <= 12 ? 6 : nranks <= 32 ? 2 : 1) * (planners_long ? 20 : 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_planner),
		cmocka_unit_test(test_windows_are_needed),
	};
	const char *seed = getenv("GY_TEST_SEED"), *more = getenv("GY_TEST_LONG");

	planners_seed = seed ? strtoull(seed, NULL, 0) : 1;
	planners_long = more && strcmp(more, "0");
	printf("seed %llu\n", (unsigned long long)planners_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
