/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap_count.c - malloc and its like, counted and handed on to glibc; where a sanitizer has them,
 * by its hooks.
 */
#include "tests/unit/heap_count.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "lib/alloc.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNT_BY_HOOKS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNT_BY_HOOKS 1
#endif

static atomic_ulong heap_calls, map_calls;

void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	atomic_fetch_add_explicit(&map_calls, 1, memory_order_relaxed);
	return __real_mmap(addr, len, prot, flags, fd, off);
}

#ifdef COUNT_BY_HOOKS
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
					      void (*on_free)(const volatile void *));

static void count_malloc(const volatile void *ptr, size_t len)
{
	atomic_fetch_add_explicit(&heap_calls, 1, memory_order_relaxed);
}

static void count_free(const volatile void *ptr)
{
}

void heap_count_open(void)
{
	if (!__sanitizer_install_malloc_and_free_hooks(count_malloc, count_free)) {
		printf("no room for the hooks of the sanitizer\n");
		exit(1);
	}
}
#else
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *ptr, size_t len);
void *__libc_memalign(size_t align, size_t len);

void heap_count_open(void)
{
}

static void count(void)
{
	atomic_fetch_add_explicit(&heap_calls, 1, memory_order_relaxed);
}

void *malloc(size_t len)
{
	count();
	return __libc_malloc(len);
}

void *calloc(size_t n, size_t len)
{
	count();
	return __libc_calloc(n, len);
}

void *realloc(void *ptr, size_t len)
{
	count();
	return __libc_realloc(ptr, len);
}

void *reallocarray(void *ptr, size_t n, size_t len)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, len, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(ptr, bytes);
}

void *aligned_alloc(size_t align, size_t len)
{
	count();
	return __libc_memalign(align, len);
}

int posix_memalign(void **ptrp, size_t align, size_t len)
{
	void *ptr;

	count();
	ptr = __libc_memalign(align, len);
	if (!ptr)
		return ENOMEM;
	*ptrp = ptr;
	return 0;
}
#endif

struct heap_count heap_count_now(void)
{
	return (struct heap_count){
		.own = (unsigned long)gy_alloc_count(),
		.heap = atomic_load(&heap_calls),
		.map = atomic_load(&map_calls),
	};
}

bool heap_count_equal(const struct heap_count *a, const struct heap_count *b)
{
	return a->own == b->own && a->heap == b->heap && a->map == b->map;
}
