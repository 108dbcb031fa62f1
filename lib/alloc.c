/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc.c - heap with failure injection and a count of live blocks.
 * Cost: malloc's and two relaxed atomic adds; nothing on the data path allocates.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "lib/alloc.h"
#include "lib/util.h"

static atomic_long alloc_calls;
static atomic_long alloc_live;
static atomic_long alloc_countdown;	/* > 0: that many calls until one fails */

void gy_alloc_fail_at(long n)
{
	atomic_store_explicit(&alloc_countdown, n > 0 ? n : 0, memory_order_relaxed);
}

long gy_alloc_count(void)
{
	return atomic_load_explicit(&alloc_calls, memory_order_relaxed);
}

long gy_alloc_live(void)
{
	return atomic_load_explicit(&alloc_live, memory_order_relaxed);
}

/* Counts a call.  True: it is to fail. */
static bool alloc_fails(void)
{
	atomic_fetch_add_explicit(&alloc_calls, 1, memory_order_relaxed);
	if (gy_likely(atomic_load_explicit(&alloc_countdown, memory_order_relaxed) <= 0))
		return false;
	return atomic_fetch_sub_explicit(&alloc_countdown, 1, memory_order_relaxed) == 1;
}

static void *alloc_counted(void *ptr)
{
	if (ptr)
		atomic_fetch_add_explicit(&alloc_live, 1, memory_order_relaxed);
	return ptr;
}

void *gy_alloc_array(size_t n, size_t size)
{
	if (alloc_fails())
		return NULL;
	return alloc_counted(n && size ? calloc(n, size) : calloc(1, 1));
}

void *gy_alloc(size_t size)
{
	return gy_alloc_array(1, size);
}

void *gy_alloc_aligned(size_t align, size_t size)
{
	void *ptr;

	gy_assert(align && (align & (align - 1)) == 0);
	if (alloc_fails())
		return NULL;
	if (posix_memalign(&ptr, gy_max(align, sizeof(void *)), gy_max(size, 1)))
		return NULL;
	memset(ptr, 0, size);
	return alloc_counted(ptr);
}

void *gy_realloc_array(void *ptr, size_t n, size_t size)
{
	void *grown;

	if (alloc_fails())
		return NULL;
	grown = n && size ? reallocarray(ptr, n, size) : realloc(ptr, 1);
	return ptr ? grown : alloc_counted(grown);
}

char *gy_strdup(const char *s)
{
	size_t len = strlen(s) + 1;
	char *copy = gy_alloc(len);

	if (copy)
		memcpy(copy, s, len);
	return copy;
}

void gy_free(void *ptr)
{
	if (ptr)
		atomic_fetch_sub_explicit(&alloc_live, 1, memory_order_relaxed);
	free(ptr);
}
