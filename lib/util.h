/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_UTIL_H
#define GY_UTIL_H
/*
 * Small things that every file may use.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* 1: gy_assert checks; 2 (--enable-debug=full): gy_assert_slow too. */
#ifndef GY_DEBUG
#define GY_DEBUG 0
#endif

#define GY_CACHELINE 64

#define gy_likely(x) __builtin_expect(!!(x), 1)
#define gy_unlikely(x) __builtin_expect(!!(x), 0)

/* On a function off the hot path: errors, set-up, logging. */
#define gy_cold __attribute__((cold, noinline))

/* The object of type whose member ptr points to; a ptr of another type than the member's warns. */
#define gy_container_of(ptr, type, member) \
	((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

#define GY_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#if defined(__x86_64__) || defined(__i386__)
#define GY_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define GY_PAUSE() __asm__ volatile("yield" ::: "memory")
#else
#define GY_PAUSE() __asm__ volatile("" ::: "memory")
#endif

static inline size_t gy_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t gy_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* x rounded up to a multiple of align, a power of two. */
static inline size_t gy_align_up(size_t x, size_t align)
{
	return (x + align - 1) & ~(align - 1);
}

/* a modulo n, in 0..n-1 for negative a too.  n > 0. */
static inline int gy_mod(int a, int n)
{
	int r = a % n;

	return r < 0 ? r + n : r;
}

__attribute__((cold, noreturn)) static inline void
gy_assert_failed(const char *file, int line, const char *func, const char *what)
{
	fprintf(stderr, "gyre: %s:%d: %s: assertion failed: %s\n", file, line, func, what);
	abort();
}

#define gy_assert_always(x) \
	(gy_likely(x) ? (void)0 : gy_assert_failed(__FILE__, __LINE__, __func__, #x))
#define gy_assert_never(x) ((void)sizeof(!(x)))		/* compiled, never evaluated */

/* Preconditions: cheap enough for every call of a debug build. */
#if GY_DEBUG >= 1
#define gy_assert(x) gy_assert_always(x)
#else
#define gy_assert(x) gy_assert_never(x)
#endif

/* Invariants of whole structures. */
#if GY_DEBUG >= 2
#define gy_assert_slow(x) gy_assert_always(x)
#else
#define gy_assert_slow(x) gy_assert_never(x)
#endif

#endif
