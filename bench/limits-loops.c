/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loops over memory, as fast as the machine allows: a cache line at a time in the compiler's vector
 * types, compiled once for each vector unit.
 */
#include <string.h>

#include "bench/limits.h"

#define LIMITS_WIDE 16	/* floats in a vector: a cache line */

typedef float limits_vec __attribute__((vector_size(64), aligned(4), may_alias));

static inline __attribute__((always_inline)) void limits_sum_any(float *out, const float *a,
								 const float *b, size_t count)
{
	size_t i = 0;

	for (; i + 2 * LIMITS_WIDE <= count; i += 2 * LIMITS_WIDE) {
		limits_vec x = *(const limits_vec *)(a + i) + *(const limits_vec *)(b + i);
		limits_vec y = *(const limits_vec *)(a + i + LIMITS_WIDE) +
			       *(const limits_vec *)(b + i + LIMITS_WIDE);

		*(limits_vec *)(out + i) = x;
		*(limits_vec *)(out + i + LIMITS_WIDE) = y;
	}
	for (; i < count; i++)
		out[i] = a[i] + b[i];
}

static inline __attribute__((always_inline)) void
limits_twice_any(float *out0, float *out1, const float *a, const float *b, size_t count)
{
	size_t i = 0;

	for (; i + LIMITS_WIDE <= count; i += LIMITS_WIDE) {
		limits_vec x = *(const limits_vec *)(a + i) + *(const limits_vec *)(b + i);

		*(limits_vec *)(out0 + i) = x;
		*(limits_vec *)(out1 + i) = x;
	}
	for (; i < count; i++)
		out0[i] = out1[i] = a[i] + b[i];
}

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void limits_sum_avx512(float *out, const float *a,
								 const float *b, size_t count)
{
	limits_sum_any(out, a, b, count);
}

__attribute__((target("avx2"))) static void limits_sum_avx2(float *out, const float *a,
							    const float *b, size_t count)
{
	limits_sum_any(out, a, b, count);
}

__attribute__((target("avx512f"))) static void
limits_twice_avx512(float *out0, float *out1, const float *a, const float *b, size_t count)
{
	limits_twice_any(out0, out1, a, b, count);
}

__attribute__((target("avx2"))) static void
limits_twice_avx2(float *out0, float *out1, const float *a, const float *b, size_t count)
{
	limits_twice_any(out0, out1, a, b, count);
}

void limits_sum(float *out, const float *a, const float *b, size_t count)
{
	if (__builtin_cpu_supports("avx512f"))
		limits_sum_avx512(out, a, b, count);
	else if (__builtin_cpu_supports("avx2"))
		limits_sum_avx2(out, a, b, count);
	else
		limits_sum_any(out, a, b, count);
}

static void limits_sum_twice(float *out0, float *out1, const float *a, const float *b, size_t count)
{
	if (__builtin_cpu_supports("avx512f"))
		limits_twice_avx512(out0, out1, a, b, count);
	else if (__builtin_cpu_supports("avx2"))
		limits_twice_avx2(out0, out1, a, b, count);
	else
		limits_twice_any(out0, out1, a, b, count);
}
#else
void limits_sum(float *out, const float *a, const float *b, size_t count)
{
	limits_sum_any(out, a, b, count);
}

static void limits_sum_twice(float *out0, float *out1, const float *a, const float *b, size_t count)
{
	limits_twice_any(out0, out1, a, b, count);
}
#endif

#ifdef __SSE2__
#include <emmintrin.h>

static size_t limits_stream_both(float *out0, float *out1, const float *a, const float *b,
				 size_t count)
{
	size_t i, j;

	for (i = 0; i + LIMITS_WIDE <= count; i += LIMITS_WIDE) {
		__m128 x[4];

		for (j = 0; j < 4; j++)
			x[j] = _mm_add_ps(_mm_loadu_ps(a + i + 4 * j), _mm_loadu_ps(b + i + 4 * j));
		for (j = 0; j < 4; j++)
			_mm_stream_ps(out0 + i + 4 * j, x[j]);
		for (j = 0; j < 4; j++)
			_mm_stream_ps(out1 + i + 4 * j, x[j]);
	}
	_mm_sfence();
	return i;
}

void limits_copy_past_caches(float *out, const float *in, size_t count)
{
	size_t i, j;

	for (i = 0; i + LIMITS_WIDE <= count; i += LIMITS_WIDE)
		for (j = 0; j < LIMITS_WIDE; j += 4)
			_mm_stream_ps(out + i + j, _mm_loadu_ps(in + i + j));
	_mm_sfence();
	memcpy(out + i, in + i, (count - i) * sizeof(*out));
}
#else
static size_t limits_stream_both(float *out0, float *out1, const float *a, const float *b,
				 size_t count)
{
	(void)out0, (void)out1, (void)a, (void)b, (void)count;
	return 0;
}

void limits_copy_past_caches(float *out, const float *in, size_t count)
{
	memcpy(out, in, count * sizeof(*out));
}
#endif

void limits_sum_to_both(float *out0, float *out1, const float *a, const float *b, size_t count,
			bool stream)
{
	size_t done = stream ? limits_stream_both(out0, out1, a, b, count) : 0;

	limits_sum_twice(out0 + done, out1 + done, a + done, b + done, count - done);
}
