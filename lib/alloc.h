/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_ALLOC_H
#define GY_ALLOC_H
/*
 * The library's only way to the heap, so that tests can make each call fail and count what is left.
 * All return NULL when memory is short; what they return is freed by gy_free.  Size 0 gives a
 * pointer that can be freed.  MT-Safe.
 */
#include <stddef.h>

void *gy_alloc(size_t size);			/* zeroed */
void *gy_alloc_array(size_t n, size_t size);	/* zeroed; NULL when n * size overflows */
void *gy_alloc_aligned(size_t align, size_t size); /* zeroed; align: a power of two */
char *gy_strdup(const char *s);
void gy_free(void *ptr); /* NULL is fine */

/* What it grows by is not zeroed.  On NULL ptr is as it was. */
void *gy_realloc_array(void *ptr, size_t n, size_t size);

/*
 * Test hooks, process-wide.  The n-th allocation from now on fails, once (1: the next).
 * n <= 0: none does.
 */
void gy_alloc_fail_at(long n);
long gy_alloc_count(void);	/* allocation calls so far, failed ones included */
long gy_alloc_live(void);	/* blocks allocated and not freed */

#endif
