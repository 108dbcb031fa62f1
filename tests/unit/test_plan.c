/* SPDX-License-Identifier: BSD-3-Clause */
/* The plan builder: what it derives, what it refuses, scopes, text, memory that runs out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "lib/alloc.h"
#include "lib/registry.h"

/* Rank 0 of 4, 4 blocks. */
static struct gy_plan *plan_new(bool in_place, uint32_t alias)
{
	struct gy_plan *pl = gy_plan_create(0, 4, in_place, alias);

	assert_non_null(pl);
	return pl;
}

static struct gy_end plan_range(enum gy_space space, uint32_t first, uint32_t count,
				uint32_t stride, uint32_t modulo)
{
	return gy_blocks(space, (struct gy_range){ first, count, stride, modulo });
}

/* Finishes, compares the text, destroys. */
static void plan_expect(struct gy_plan *pl, const char *want)
{
	char *text;

	assert_int_equal(gy_plan_finish(pl), 0);
	text = gy_plan_text(pl);
	assert_non_null(text);
	assert_string_equal(text, want);
	gy_free(text);
	gy_plan_destroy(pl);
}

static void plan_expect_dep(const struct gy_plan *pl, uint32_t move, uint32_t i, struct gy_dep want)
{
	const struct gy_dep *dep;

	assert_true(i < pl->moves[move].ndeps);
	dep = &pl->deps[pl->moves[move].dep + i];
	assert_int_equal(dep->move, want.move);
	assert_int_equal(dep->at, want.at);
	assert_int_equal(dep->from, want.from);
	assert_int_equal(dep->n, want.n);
	assert_int_equal(dep->kind, want.kind);
}

static void test_hazards(void **state)
{
	struct gy_plan *pl = plan_new(false, 0);

	(void)state;
	gy_copy(pl, gy_in(0), gy_out(0));	/* 0 */
	gy_copy(pl, gy_out(0), gy_out(1));	/* 1: reads what 0 wrote */
	gy_copy(pl, gy_in(1), gy_out(0));	/* 2: overwrites what 1 reads, hence after 0 too */
	gy_copy(pl, gy_in(2), gy_out(0));	/* 3: overwrites what 2 wrote and nobody read */
	gy_copy(pl, gy_in(2), gy_out(2));	/* 4: reading IN twice is no hazard */
	gy_recv_reduce(pl, 1, gy_out(2), gy_out(2));	/* 5: in place, elementwise */
	gy_copy(pl, gy_out(2), gy_scratch(2));	/* 6 */
	gy_copy(pl, gy_out(1), gy_scratch(2));	/* 7 */
	plan_expect(pl, "0: OUT[0] = IN[0]\n"
			"1: OUT[1] = OUT[0]  after 0\n"
			"2: OUT[0] = IN[1]  after 1\n"
			"3: OUT[0] = IN[2]  after 2\n"
			"4: OUT[2] = IN[2]\n"
			"5: OUT[2] = <-1 + OUT[2]  after 4\n"
			"6: SCRATCH[2] = OUT[2]  after 5\n"
			"7: SCRATCH[2] = OUT[1]  after 1, 6\n");
}

/* In place: IN[b] is OUT[b + alias]. */
static void test_alias(void **state)
{
	struct gy_plan *pl = plan_new(true, 2);

	(void)state;
	gy_copy(pl, gy_in(0), gy_out(0));
	gy_recv(pl, 1, gy_out(2));		/* overwrites IN[0] */
	gy_send(pl, 1, gy_in(0));		/* sends what came */
	gy_recv(pl, 2, gy_out(1));
	plan_expect(pl, "0: OUT[0] = IN[0]\n"
			"1: OUT[2] = <-1  after 0\n"
			"2: ->1 = IN[0]  after 1\n"
			"3: OUT[1] = <-2\n");
	pl = plan_new(true, 2);
	gy_send(pl, 1, gy_in(2));
	assert_int_equal(gy_plan_error(pl), -EINVAL);	/* OUT has no block 4 */
	gy_plan_destroy(pl);
}

/* Memory that is being sent must have left before it is overwritten. */
static void test_memory_on_its_way(void **state)
{
	struct gy_plan *pl = plan_new(true, 0);

	(void)state;
	gy_send(pl, 1, gy_in(0));		/* 0: out of IN[0] */
	gy_recv(pl, 1, gy_out(0));		/* 1 */
	gy_recv_keep_send(pl, 1, gy_out(1), 2);	/* 2: out of OUT[1] */
	gy_copy(pl, gy_out(1), gy_out(2));	/* 3: reads it: computed is enough */
	gy_recv(pl, 3, gy_out(1));		/* 4: also what 3 reads */
	gy_recv_reduce_send(pl, 3, gy_in(3), 2);	/* 5: sums are sent out of slots, */
	gy_recv(pl, 3, gy_out(3));		/* 6: so IN[3] is free when they are computed */
	gy_recv_keep_send(pl, 1, gy_out(0), 2);	/* 7 */
	gy_recv_reduce(pl, 1, gy_out(0), gy_out(0));	/* 8: FREE covers DONE */
	plan_expect(pl, "0: ->1 = IN[0]\n"
			"1: OUT[0] = <-1  after 0 sent\n"
			"2: OUT[1] ->2 = <-1\n"
			"3: OUT[2] = OUT[1]  after 2\n"
			"4: OUT[1] = <-3  after 2 sent, 3\n"
			"5: ->2 = <-3 + IN[3]\n"
			"6: OUT[3] = <-3  after 5\n"
			"7: OUT[0] ->2 = <-1  after 1\n"
			"8: OUT[0] = <-1 + OUT[0]  after 7 sent\n");
}

/* Dependencies come as runs of positions, in the order of the earlier move. */
static void test_runs(void **state)
{
	struct gy_plan *pl = plan_new(false, 0);

	(void)state;
	gy_recv(pl, 1, plan_range(GY_OUT, 0, 2, 1, 0));		/* 0: 0 1 */
	gy_recv(pl, 2, plan_range(GY_OUT, 3, 2, 3, 4));		/* 1: 3 2 */
	gy_send(pl, 1, plan_range(GY_OUT, 1, 3, 1, 4));		/* 2: 1 2 3 */
	gy_send(pl, 2, plan_range(GY_OUT, 2, 4, 1, 4));		/* 3: 2 3 0 1 */
	gy_recv(pl, 3, plan_range(GY_OUT, 0, 4, 1, 0));		/* 4 */
	assert_int_equal(gy_plan_finish(pl), 0);
	assert_int_equal(pl->moves[2].ndeps, 3);
	plan_expect_dep(pl, 2, 0, (struct gy_dep){ 0, 0, 1, 1, GY_DEP_DONE });
	plan_expect_dep(pl, 2, 1, (struct gy_dep){ 1, 1, 1, 1, GY_DEP_DONE });
	plan_expect_dep(pl, 2, 2, (struct gy_dep){ 1, 2, 0, 1, GY_DEP_DONE });
	assert_int_equal(pl->moves[3].ndeps, 3);
	plan_expect_dep(pl, 3, 0, (struct gy_dep){ 0, 2, 0, 2, GY_DEP_DONE });
	assert_int_equal(pl->moves[4].ndeps, 3);
	plan_expect_dep(pl, 4, 0, (struct gy_dep){ 2, 1, 0, 3, GY_DEP_FREE });
	plan_expect_dep(pl, 4, 1, (struct gy_dep){ 3, 0, 2, 2, GY_DEP_FREE });
	plan_expect_dep(pl, 4, 2, (struct gy_dep){ 3, 2, 0, 2, GY_DEP_FREE });
	gy_plan_destroy(pl);
}

static void test_streams_are_numbered(void **state)
{
	struct gy_plan *pl = plan_new(false, 0);

	(void)state;
	gy_send(pl, 1, gy_in(0));
	gy_recv_reduce_send(pl, 1, gy_in(1), 1);
	gy_send(pl, 2, gy_in(2));
	gy_recv_reduce_keep_send(pl, 1, gy_in(1), gy_out(1), 1);
	gy_plan_window(pl, 3);
	gy_plan_window(pl, 2);
	assert_int_equal(gy_plan_finish(pl), 0);
	assert_int_equal(pl->ends[1].stream, 0);	/* -> 1 */
	assert_int_equal(pl->ends[2].stream, 0);	/* <- 1 */
	assert_int_equal(pl->ends[4].stream, 1);	/* -> 1 */
	assert_int_equal(pl->ends[6].stream, 0);	/* -> 2 */
	assert_int_equal(pl->ends[7].stream, 1);	/* <- 1 */
	assert_int_equal(pl->ends[10].stream, 2);	/* -> 1 */
	assert_int_equal(pl->min_window, 3);
	assert_int_equal(pl->nscratch, 0);
	assert_int_equal(pl->max_inputs, 2);
	gy_plan_destroy(pl);
}

static void plan_refused(struct gy_plan *pl)
{
	const uint32_t nmoves = pl->nmoves;

	if (!gy_plan_error(pl)) {
		assert_int_equal(gy_plan_finish(pl),
				 -EINVAL); /* seen when dependencies are derived */
		gy_plan_destroy(pl);
		return;
	}
	assert_int_equal(gy_plan_error(pl), -EINVAL);
	gy_send(pl, 1, gy_in(0));
	gy_scope_pop(pl);
	gy_final(pl);
	assert_int_equal(pl->nmoves, nmoves);	/* nothing happens after the first error */
	assert_int_equal(gy_plan_finish(pl), -EINVAL);
	gy_plan_destroy(pl);
}

static void plan_refuses_move(struct gy_end in, struct gy_end out)
{
	struct gy_plan *pl = plan_new(true, 0);

	gy_copy(pl, in, out);
	plan_refused(pl);
}

static void test_refusals(void **state)
{
	const struct gy_end ends[] = { gy_in(0), gy_out(0), gy_out(1) };
	struct gy_plan *pl;

	(void)state;
	plan_refuses_move(gy_from(1), gy_to(2));		/* no memory */
	plan_refuses_move(gy_in(0), gy_to(0));			/* itself */
	plan_refuses_move(gy_in(0), gy_to(4));
	plan_refuses_move(gy_from(-1), gy_out(0));
	plan_refuses_move(gy_in(0), gy_in(1));			/* IN is not written */
	plan_refuses_move(gy_in(4), gy_out(0));
	plan_refuses_move(gy_in(0), gy_out(4));
	plan_refuses_move(plan_range(GY_IN, 0, 0, 1, 0), gy_to(1));	/* empty */
	plan_refuses_move(plan_range(GY_IN, 0, UINT32_MAX, 1, 0), gy_to(1));
	plan_refuses_move(plan_range(GY_IN, 2, 3, 1, 0), gy_to(1));
	plan_refuses_move(plan_range(GY_IN, 2, 2, 1, 5), gy_out(0));	/* unequal length */
	plan_refuses_move(plan_range(GY_IN, 0, 3, 2, 4), gy_to(1));	/* a block twice */
	plan_refuses_move(plan_range(GY_IN, 0, 2, 0, 0), gy_to(1));
	plan_refuses_move(plan_range(GY_IN, 0, 4, UINT32_MAX, 0), gy_to(1));
	plan_refuses_move(plan_range(GY_IN, 3, 2, 2, 5), gy_out(0));
	plan_refuses_move((struct gy_end){ .space = 7 }, gy_out(0));
	plan_refuses_move(plan_range(GY_IN, 0, 2, 1, 0), plan_range(GY_OUT, 1, 2, 1, 0));

	pl = plan_new(false, 0);
	gy_move(pl, ends, 1, ends + 1, 2);			/* two memory outputs */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_move(pl, ends, 0, ends + 1, 1);
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_move(pl, ends, GY_MAX_ENDS + 1, ends + 1, 1);
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_final(pl);
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_copy(pl, gy_in(0), gy_out(0));
	gy_final(pl);						/* nothing is reduced */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_copy(pl, gy_in(0), gy_out(0));
	gy_plan_blocks(pl, 2);					/* too late */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_plan_blocks(pl, 0);
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_scope_pop(pl);
	plan_refused(pl);
}

static void test_scopes(void **state)
{
	static const int odd[] = { 1, 3, 5, 7 }, last[] = { 2, 3 };
	static const uint32_t map[] = { 6, 0, 2, 4 };
	struct gy_plan *pl = gy_plan_create(1, 8, false, 0);

	(void)state;
	gy_scope_push(pl, odd, 4, map);
	gy_send(pl, 1, gy_in(1));
	gy_send(pl, 1, plan_range(GY_IN, 1, 3, 1, 0));	/* 0 2 4 */
	gy_send(pl, 1, plan_range(GY_IN, 0, 4, 1, 0));	/* 6 0 2 4 */
	gy_send(pl, 1, plan_range(GY_IN, 3, 3, 3, 4));	/* 4 2 0 */
	gy_copy(pl, gy_in(0), gy_scratch(5));		/* set 1, block 1 there: 8 + 0 */
	gy_scope_push(pl, last, 2, NULL);
	gy_recv(pl, 1, gy_out(1));			/* last[1] = 3: rank 7; block map[1] */
	gy_scope_pop(pl);
	gy_plan_blocks(pl, 3);
	gy_send(pl, 2, gy_in(2));
	gy_scope_pop(pl);
	gy_send(pl, 2, gy_in(7));
	assert_int_equal(pl->nblocks, 8);
	assert_int_equal(pl->nscratch, 2);
	plan_expect(pl, "0: ->3 = IN[0]\n"
			"1: ->3 = IN[0..4 step 2]\n"
			"2: ->3 = IN[6..4 step 2 mod 8]\n"
			"3: ->3 = IN[4..0 step 6 mod 8]\n"
			"4: SCRATCH[8] = IN[6]\n"
			"5: OUT[0] = <-7\n"
			"6: ->5 = IN[2]\n"
			"7: ->2 = IN[7]\n");
}

static void test_scopes_refuse(void **state)
{
	static const int odd[] = { 1, 3 };
	static const uint32_t map[] = { 0, 1, 3, 2 };
	struct gy_plan *pl = plan_new(false, 0);
	int i;

	(void)state;
	gy_scope_push(pl, odd, 2, NULL);
	gy_send(pl, 2, gy_in(0));			/* not in the scope */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_scope_push(pl, odd, 2, NULL);
	gy_send(pl, 1, gy_in(2));			/* its grid has 2 blocks */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_scope_push(pl, odd, 2, map);
	gy_plan_blocks(pl, 4);
	gy_send(pl, 1, plan_range(GY_IN, 0, 4, 1, 0));	/* 0 1 3 2 is no range */
	plan_refused(pl);
	pl = plan_new(false, 0);
	gy_scope_push(pl, odd, 2, NULL);
	assert_int_equal(gy_plan_finish(pl), -EINVAL);	/* not popped */
	gy_plan_destroy(pl);
	pl = plan_new(false, 0);
	for (i = 0; i <= GY_MAX_SCOPES; i++)
		gy_scope_push(pl, odd, 2, NULL);
	plan_refused(pl);
}

static int plan_build(const struct gy_coll_algo *algo, int rank, int nranks, bool in_place,
		      struct gy_plan **plp)
{
	const struct gy_coll_args a = { .rank = rank, .nranks = nranks, .in_place = in_place };
	struct gy_plan *pl = gy_plan_create(rank, nranks, in_place, gy_coll_alias(algo->coll, &a));
	int err;

	if (!pl)
		return -ENOMEM;
	err = algo->plan(pl, &a);
	if (err)
		assert_int_equal(gy_plan_error(pl), err);
	err = gy_plan_finish(pl);
	if (err)
		gy_plan_destroy(pl);
	else
		*plp = pl;
	return err;
}

/* Every allocation of every planner fails once: -ENOMEM and nothing is left. */
static void test_no_memory(void **state)
{
	const long live = gy_alloc_live();
	int i;

	(void)state;
	for (i = 0; gy_algos[i]; i++) {
		struct gy_plan *pl = NULL;
		long n;

		for (n = 1; !pl; n++) {
			long before = gy_alloc_count();
			int err;

			gy_alloc_fail_at(n);
			err = plan_build(gy_algos[i], 1, 40, true, &pl);
			gy_alloc_fail_at(0);
			if (!err && gy_alloc_count() - before >= n) {	/* only trimming failed */
				gy_plan_destroy(pl);
				pl = NULL;
				continue;
			}
			if (err) {
				assert_int_equal(err, -ENOMEM);
				assert_int_equal(gy_alloc_live(), live);
			}
		}
		gy_alloc_fail_at(1);
		assert_null(gy_plan_text(pl));
		gy_alloc_fail_at(0);
		gy_plan_destroy(pl);
		assert_int_equal(gy_alloc_live(), live);
	}
}

/* Many ranks: the work and the memory of a rank grow as its moves do. */
static void test_many_ranks(void **state)
{
	int i, in_place;

	(void)state;
	for (i = 0; gy_algos[i]; i++)
		for (in_place = 0; in_place < 2; in_place++) {
			struct gy_plan *pl;

			if (gy_algos[i]->max_ranks)
				continue;
			assert_int_equal(plan_build(gy_algos[i], 700, 5000, in_place, &pl), 0);
			assert_true(pl->nmoves <= 2 * 5000);
			assert_true(pl->ndeps <= 4 * pl->nmoves);
			gy_plan_destroy(pl);
		}
}

static void test_coll_names(void **state)
{
	const struct gy_coll_args a = { .rank = 3, .nranks = 5, .in_place = true };

	(void)state;
	assert_string_equal(gy_coll_name(GY_ALLREDUCE), "allreduce");
	assert_string_equal(gy_coll_name(GY_BARRIER), "barrier");
	assert_null(gy_coll_name(GY_NCOLLS));
	assert_null(gy_coll_name(GY_P2P));
	assert_int_equal(gy_coll_alias(GY_ALLGATHER, &a), 3);
	assert_int_equal(gy_coll_alias(GY_REDUCE_SCATTER, &a), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazards),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_memory_on_its_way),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_streams_are_numbered),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_scopes_refuse),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_many_ranks),
		cmocka_unit_test(test_coll_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
