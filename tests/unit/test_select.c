/* SPDX-License-Identifier: BSD-3-Clause */
/* Selection: the table covers everything, overrides, their limits, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/config.h"
#include "lib/registry.h"
#include "lib/select.h"

static int select_init(struct gy_select *sel, const char *algorithm, int nranks,
		       enum gy_where where)
{
	struct gy_config cfg = { .grain_bytes = 0 };

	snprintf(cfg.algorithm, sizeof(cfg.algorithm), "%s", algorithm);
	memset(sel, 0, sizeof(*sel));
	return gy_select_init(sel, &cfg, nranks, where);
}

static const char *select_name(const struct gy_select *sel, enum gy_coll coll, uint64_t bytes)
{
	return gy_select(sel, coll, bytes)->algo->name;
}

static void select_check(const struct gy_choice *c, enum gy_coll coll, int nranks, uint64_t bytes)
{
	const struct gy_config cfg = { .grain_bytes = 0 };

	assert_non_null(c->algo);
	assert_int_equal(c->algo->coll, coll);
	assert_ptr_equal(gy_algos[c->algo_id], c->algo);
	assert_true(!c->algo->max_ranks || nranks <= c->algo->max_ranks);
	assert_true(!(c->algo->flags & GY_ALGO_SMALL) || bytes <= GY_SMALL_COLL);
	assert_true((size_t)1 << c->grain_log2 <= gy_grain_max(&cfg));
	assert_true(c->grain_log2 >= 12);
}

/* Every collective, number of ranks and size has an algorithm that may be used there. */
static void test_every_call_has_one(void **state)
{
	static const int ranks[] = { 2, 3, 8, 9, 64, 65, 128, 129, 1000, 20000 };
	static const char *const overrides[] = { "", "allreduce=flat,broadcast=scatter_allgather",
						 "allreduce=direct,allgather=direct" };
	struct gy_select sel;
	unsigned i, o, where, bit;
	int coll;

	(void)state;
	for (i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
		for (o = 0; o < sizeof(overrides) / sizeof(overrides[0]); o++)
			for (where = GY_NEAR; where <= GY_FAR; where++) {
				assert_int_equal(select_init(&sel, overrides[o], ranks[i], where),
						 0);
				for (coll = 0; coll < GY_NCOLLS; coll++) {
					select_check(gy_select(&sel, coll, 0), coll, ranks[i], 0);
					select_check(gy_select(&sel, coll, UINT64_MAX), coll,
						     ranks[i], UINT64_MAX);
					for (bit = 0; bit < 64; bit++)
						select_check(gy_select(&sel, coll, 1ull << bit),
							     coll, ranks[i], 1ull << bit);
				}
			}
}

static void test_override(void **state)
{
	struct gy_select sel, table;

	(void)state;
	assert_int_equal(select_init(&table, "", 4, GY_FAR), 0);
	assert_int_equal(select_init(&sel, "allreduce=ring,broadcast=chain", 4, GY_FAR), 0);
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, 0), "ring");
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, UINT64_MAX), "ring");
	assert_string_equal(select_name(&sel, GY_BROADCAST, 8), "chain");
	assert_string_equal(select_name(&sel, GY_ALLGATHER, 8),
			    select_name(&table, GY_ALLGATHER, 8));
	assert_string_equal(select_name(&table, GY_ALLREDUCE, 1 << 30), "ring");
}

/* What an algorithm is not made for is left to the table. */
static void test_override_has_limits(void **state)
{
	struct gy_select sel, table;

	(void)state;
	assert_int_equal(select_init(&table, "", 4, GY_NEAR), 0);
	assert_int_equal(select_init(&sel, "allreduce=recursive_doubling", 4, GY_NEAR), 0);
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, GY_SMALL_COLL), "recursive_doubling");
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, GY_SMALL_COLL + 1),
			    select_name(&table, GY_ALLREDUCE, GY_SMALL_COLL + 1));
	assert_int_equal(select_init(&table, "", GY_MAX_ENDS + 1, GY_NEAR), 0);
	assert_int_equal(select_init(&sel, "allreduce=direct", GY_MAX_ENDS + 1, GY_NEAR), 0);
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, 1 << 20),
			    select_name(&table, GY_ALLREDUCE, 1 << 20));
	assert_int_equal(select_init(&sel, "allreduce=direct", GY_MAX_ENDS, GY_NEAR), 0);
	assert_string_equal(select_name(&sel, GY_ALLREDUCE, 1 << 20), "direct");
}

/* Where a device writes, grains are smaller, and all else is as over any network. */
static void test_written(void **state)
{
	struct gy_select written, far;

	(void)state;
	assert_int_equal(select_init(&written, "", 4, GY_WRITTEN), 0);
	assert_int_equal(select_init(&far, "", 4, GY_FAR), 0);
	assert_string_equal(select_name(&written, GY_ALLREDUCE, 4 << 20), "ring");
	assert_true(gy_select(&written, GY_ALLREDUCE, 4 << 20)->grain_log2 <
		    gy_select(&far, GY_ALLREDUCE, 4 << 20)->grain_log2);
	assert_memory_equal(written.rows[GY_ALLREDUCE], far.rows[GY_ALLREDUCE],
			    2 * sizeof(far.rows[0][0]));
	assert_memory_equal(written.rows[GY_BROADCAST], far.rows[GY_BROADCAST],
			    sizeof(far.rows[0]));
}

static void test_grain(void **state)
{
	struct gy_config cfg = { .grain_bytes = 5000 };
	struct gy_select sel;

	(void)state;
	assert_int_equal(gy_grain_max(&cfg), 4096);
	assert_int_equal(gy_select_init(&sel, &cfg, 4, GY_NEAR), 0);
	assert_int_equal(gy_select(&sel, GY_ALLREDUCE, 8)->grain_log2, 12);
	assert_int_equal(gy_select(&sel, GY_BROADCAST, 1 << 30)->grain_log2, 12);
}

static void test_bytes(void **state)
{
	(void)state;
	assert_true(gy_coll_bytes(GY_ALLREDUCE, 10, 4, 8) == 80);
	assert_true(gy_coll_bytes(GY_ALLGATHER, 10, 4, 8) == 320);
	assert_true(gy_coll_bytes(GY_REDUCE_SCATTER, 1ull << 40, 4, 8) == 1ull << 45);
}

/* Runs with stderr in a pipe; what was said goes to text. */
static int select_refused(const char *algorithm, char *text, size_t size)
{
	struct gy_select sel;
	int fds[2], saved = dup(STDERR_FILENO), err;
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	err = select_init(&sel, algorithm, 4, GY_NEAR);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(fds[1]);
	close(saved);
	n = read(fds[0], text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	return err;
}

static void test_unknown_names(void **state)
{
	static const char *const bad[] = {
		"allreduce=rin", "allreduce=ringx",	      "allreduce=",
		"allreduce",	 "broadcast=chain,allreduce",
	};
	char text[512];
	unsigned i;

	(void)state;	/* the log line lists the known ones, of this collective */
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(select_refused(bad[i], text, sizeof(text)), -EINVAL);
		assert_non_null(strstr(text, "recursive_doubling"));
		assert_null(strstr(text, "bruck"));
	}
	assert_int_equal(select_refused("allredce=ring", text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "allredce"));
	assert_non_null(strstr(text, "reduce_scatter"));
	assert_int_equal(select_refused("=ring", text, sizeof(text)), -EINVAL);
	assert_int_equal(select_refused("allreduce=ring,,", text, sizeof(text)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_has_one),
		cmocka_unit_test(test_override),
		cmocka_unit_test(test_override_has_limits),
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_grain),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_unknown_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
