/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_base.c - util, list, log, alloc, types, error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <gyre/types.h>
#include "lib/alloc.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/transport.h"
#include "lib/util.h"

struct item {
	int value;
	struct gy_list link;
};

static void test_util(void **state)
{
	struct item it = { .value = 7 };

	assert_ptr_equal(gy_container_of(&it.link, struct item, link), &it);
	assert_int_equal(gy_mod(-1, 4), 3);
	assert_int_equal(gy_mod(-8, 4), 0);
	assert_int_equal(gy_mod(9, 4), 1);
	assert_int_equal(gy_mod(INT_MIN, 3), 1);
	assert_int_equal(gy_align_up(0, 64), 0);
	assert_int_equal(gy_align_up(1, 64), 64);
	assert_int_equal(gy_align_up(64, 64), 64);
	assert_int_equal(gy_min(3, SIZE_MAX), 3);
	assert_true(gy_max(3, SIZE_MAX) == SIZE_MAX);
	gy_assert(it.value == 7);
	gy_assert_slow(it.value == 7);
}

static void test_list_order(void **state)
{
	struct item items[5];
	struct gy_list head, *pos, *after;
	int i, sum = 0;

	gy_list_init(&head);
	assert_true(gy_list_empty(&head));
	assert_null(gy_list_first(&head));
	assert_null(gy_list_pop(&head));
	for (i = 0; i < 5; i++) {
		items[i].value = i;
		if (i < 3)
			gy_list_add_tail(&head, &items[i].link);
		else
			gy_list_add_head(&head, &items[i].link);
	}
	/* 4 3 0 1 2 */
	gy_list_for_each(pos, &head)
		sum = sum * 10 + gy_list_entry(pos, struct item, link)->value;
	assert_int_equal(sum, 43012);
	assert_ptr_equal(gy_list_pop(&head), &items[4].link);
	assert_true(gy_list_empty(&items[4].link));
	gy_list_for_each_safe(pos, after, &head) {
		if (gy_list_entry(pos, struct item, link)->value % 2)
			gy_list_del(pos);
	}
	gy_list_del(&items[1].link);		/* again: harmless */
	assert_ptr_equal(gy_list_pop(&head), &items[0].link);
	assert_ptr_equal(gy_list_pop(&head), &items[2].link);
	assert_true(gy_list_empty(&head));
}

static void test_alloc_zeroed(void **state)
{
	long live = gy_alloc_live(), calls = gy_alloc_count();
	unsigned char *a = gy_alloc(100), *b = gy_alloc_aligned(4096, 5000);
	char *s = gy_strdup("ring");
	uint32_t *v = gy_alloc_array(10, sizeof(*v));
	size_t i;

	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(v);
	for (i = 0; i < 100; i++)
		assert_int_equal(a[i], 0);
	for (i = 0; i < 5000; i++)
		assert_int_equal(b[i], 0);
	assert_int_equal((uintptr_t)b % 4096, 0);
	assert_string_equal(s, "ring");
	v[9] = 77;
	v = gy_realloc_array(v, 1000, sizeof(*v));
	assert_int_equal(v[9], 77);
	assert_int_equal(gy_alloc_live() - live, 4);
	assert_int_equal(gy_alloc_count() - calls, 5);
	gy_free(a);
	gy_free(b);
	gy_free(s);
	gy_free(v);
	gy_free(NULL);
	assert_int_equal(gy_alloc_live(), live);
}

static void test_alloc_limits(void **state)
{
	long live = gy_alloc_live();
	void *empty = gy_alloc(0), *grown = gy_realloc_array(NULL, 0, 8);

	assert_non_null(empty);
	assert_non_null(grown);
	assert_null(gy_alloc_array(SIZE_MAX / 4, 8));
	assert_null(gy_realloc_array(grown, SIZE_MAX / 4, 8));
	gy_free(empty);
	gy_free(grown);
	assert_int_equal(gy_alloc_live(), live);
}

static void test_alloc_fail_at(void **state)
{
	long live = gy_alloc_live();
	void *p[4];

	gy_alloc_fail_at(3);
	p[0] = gy_alloc(1);
	p[1] = gy_strdup("x");
	p[2] = gy_alloc_aligned(64, 64);
	p[3] = gy_alloc_array(2, 2);
	assert_non_null(p[0]);
	assert_non_null(p[1]);
	assert_null(p[2]);
	assert_non_null(p[3]);
	gy_alloc_fail_at(1);
	assert_null(gy_realloc_array(p[0], 2, 2));
	gy_alloc_fail_at(1);
	gy_alloc_fail_at(-1);
	p[2] = gy_alloc(8);
	assert_non_null(p[2]);
	gy_free(p[0]);
	gy_free(p[1]);
	gy_free(p[2]);
	gy_free(p[3]);
	assert_int_equal(gy_alloc_live(), live);
}

static void *alloc_and_free(void *arg)
{
	int i;

	for (i = 0; i < 10000; i++)
		gy_free(gy_alloc(16));
	return NULL;
}

static void test_alloc_threads(void **state)
{
	long live = gy_alloc_live(), calls = gy_alloc_count();
	pthread_t thread[4];
	int i;

	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, alloc_and_free, NULL), 0);
	for (i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(gy_alloc_live(), live);
	assert_int_equal(gy_alloc_count() - calls, 40000);
}

/* Sends stderr into a pipe; log_captured reads what came and puts stderr back. */
static int log_saved, log_pipe[2];

static void log_capture(void)
{
	assert_int_equal(pipe2(log_pipe, O_NONBLOCK | O_CLOEXEC), 0);
	log_saved = dup(STDERR_FILENO);
	dup2(log_pipe[1], STDERR_FILENO);
}

static const char *log_captured(void)
{
	static char text[8192];
	ssize_t n;

	dup2(log_saved, STDERR_FILENO);
	close(log_saved);
	close(log_pipe[1]);
	n = read(log_pipe[0], text, sizeof(text) - 1);
	close(log_pipe[0]);
	text[n > 0 ? n : 0] = 0;
	return text;
}

static void test_log_line(void **state)
{
	gy_log_set_level(GY_LOG_WARN);
	log_capture();
	errno = EBADF;
	gy_warn("no %s %d", "rank", 3);
	gy_err("broken\nby\x1b peer");
	gy_info("not shown");
	assert_int_equal(errno, EBADF);
	gy_log_set_rank(5);
	gy_err("x");
	gy_log_set_level(GY_LOG_DEBUG);
	gy_dbg("y");
	gy_log_set_rank(-1);
	gy_log_set_level(GY_LOG_WARN);
	assert_string_equal(log_captured(), "gyre warn: no rank 3\n"
					    "gyre error: broken?by? peer\n"
					    "gyre[5] error: x\n"
					    "gyre[5] debug: y\n");
}

static char log_hooked[100];

static void log_hook(enum gy_log_level level, const char *text)
{
	snprintf(log_hooked, sizeof(log_hooked), "%d:%s", level, text);
}

static void test_log_hook(void **state)
{
	gy_log_set_level(GY_LOG_WARN);
	log_capture();
	gy_log_set_hook(log_hook);
	gy_info("not wanted");
	assert_string_equal(log_hooked, "");
	gy_warn("no rank %d\n", 3);
	gy_log_set_hook(NULL);
	gy_warn("again");
	assert_string_equal(log_captured(), "gyre warn: again\n");
	assert_string_equal(log_hooked, "1:no rank 3?");
}

static void test_log_long_line(void **state)
{
	char big[5000];
	const char *text;
	size_t len;

	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = 0;
	log_capture();
	gy_err("%s", big);
	text = log_captured();
	len = strlen(text);
	assert_true(len > 500 && len < 1100);
	assert_string_equal(text + len - 5, "a...\n");
}

/* What a reader makes of the recalls of others: by name, as far back as the log goes. */
static void test_recalls(void **state)
{
	static struct gy_recalls r;
	char why[GY_RECALL_TEXT];
	uint32_t since, i;

	r.count = UINT32_MAX - 2;	/* it comes round */
	since = r.count;
	assert_true(gy_none_recalled(&r, since));
	gy_recall(&r, 7, -ECANCELED, "seven");
	gy_recall(&r, 8, -ECONNRESET, "eight");
	assert_false(gy_none_recalled(&r, since));
	assert_int_equal(gy_recalled(&r, 7, &since, why), -ECANCELED);
	assert_string_equal(why, "seven");
	assert_int_equal(gy_recalled(&r, 8, &since, why), -ECONNRESET);
	assert_string_equal(why, "eight");
	assert_false(gy_none_recalled(&r, since));
	assert_int_equal(gy_recalled(&r, 9, &since, why), 0);
	assert_true(gy_none_recalled(&r, since));
	assert_int_equal(gy_recalled(&r, 8, &since, why), 0);	/* lent again: it is another's */
	for (i = 1; i < GY_RECALLS; i++)
		gy_recall(&r, 100 + i, -EIO, "a hundred");
	assert_int_equal(gy_recalled(&r, 101, &since, why), -EIO);
	assert_string_not_equal(why, "a hundred");	/* so old is no text */
	assert_int_equal(gy_recalled(&r, 9, &since, why), 0);
	for (i = 0; i < GY_RECALLS; i++)
		gy_recall(&r, 400 + i, -EIO, "four hundred");
	assert_int_equal(gy_recalled(&r, 9, &since, why), -ECANCELED);
	assert_int_equal(gy_recalled(&r, 9, &since, why), -ECANCELED);
}

static void test_types(void **state)
{
	const int negative = -1;

	assert_int_equal(gyre_type_size(GYRE_INT8), 1);
	assert_int_equal(gyre_type_size(GYRE_BF16), 2);
	assert_int_equal(gyre_type_size(GYRE_F32), 4);
	assert_int_equal(gyre_type_size(GYRE_UINT64), 8);
	assert_int_equal(gyre_type_size(GYRE_NTYPES), 0);
	assert_int_equal(gyre_type_size((enum gyre_type)negative), 0);
	assert_string_equal(gyre_type_name(GYRE_F16), "f16");
	assert_string_equal(gyre_type_name(GYRE_NTYPES), "?");
	assert_string_equal(gyre_op_name(GYRE_AVG), "avg");
	assert_string_equal(gyre_op_name((enum gyre_op)negative), "?");
	assert_int_equal(strspn(gyre_version(), "0123456789."), strlen(gyre_version()));
}

static void test_strerror(void **state)
{
	int err;

	assert_string_equal(gyre_strerror(0), "success");
	assert_non_null(strstr(gyre_strerror(-EPROTO), "EPROTO"));
	assert_ptr_equal(gyre_strerror(-EPROTO), gyre_strerror(EPROTO));
	assert_non_null(gyre_strerror(-EDOM));
	assert_string_equal(gyre_strerror(-100000), "unknown error");
	assert_string_equal(gyre_strerror(INT_MIN), "unknown error");
	for (err = -4096; err <= 4096; err++)
		assert_non_null(gyre_strerror(err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_util),
		cmocka_unit_test(test_list_order),
		cmocka_unit_test(test_alloc_zeroed),
		cmocka_unit_test(test_alloc_limits),
		cmocka_unit_test(test_alloc_fail_at),
		cmocka_unit_test(test_alloc_threads),
		cmocka_unit_test(test_log_line),
		cmocka_unit_test(test_log_hook),
		cmocka_unit_test(test_log_long_line),
		cmocka_unit_test(test_recalls),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_strerror),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
