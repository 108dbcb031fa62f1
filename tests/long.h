/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TESTS_LONG_H
#define GY_TESTS_LONG_H
/*
 * How much a test does: GY_TEST_LONG=1 (make check-long) asks for more seeds, sizes and iterations
 * of what make check has a few of.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

static inline bool test_is_long(void)
{
	const char *text = getenv("GY_TEST_LONG");

	return text && atoi(text);
}

static inline unsigned test_times(unsigned n, unsigned long_n)
{
	return test_is_long() ? long_n : n;
}

/* Of this process, so that a busy machine tries as much as an idle one. */
static inline double test_cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}
#endif
