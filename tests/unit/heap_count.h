/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HEAP_COUNT_H
#define TESTS_HEAP_COUNT_H
/*
 * Counts calls for memory: the library's own (lib/alloc.h), malloc and its like of the whole
 * process, and mmap of what is linked with -Wl,--wrap=mmap.
 */
#include <stdbool.h>

struct heap_count {
	unsigned long own;	/* gy_alloc and its like */
	unsigned long heap;	/* malloc and its like, those of own too */
	unsigned long map;	/* mmap */
};

/* Under a sanitizer its hooks count; else malloc itself is this program's. */
void heap_count_open(void);
struct heap_count heap_count_now(void);
bool heap_count_equal(const struct heap_count *a, const struct heap_count *b);
#endif
