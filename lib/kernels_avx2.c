/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_avx2.c - reduction kernels for x86 CPUs with AVX2 and F16C.
 */
#include "lib/kernels_impl.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define SIMD_NAME "avx2"
#define SIMD_BYTES 32
#define SIMD_TARGET __attribute__((target("avx2,f16c")))
#define SIMD_F16_WIDEN(p) (simd_f32) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define SIMD_F16_NARROW(p, x) \
	_mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph((__m256)(x), _MM_FROUND_TO_NEAREST_INT))
#define SIMD_STREAM(p, x) _mm256_stream_si256((__m256i *)(p), (__m256i)(x))
#define SIMD_STREAM_END() _mm_sfence()

#include "lib/kernels_simd.h"

/* The builtin also asks whether the system saves the registers; clang's does not know f16c. */
const struct gy_kernels *gy_kernels_avx2(void)
{
	unsigned a, b, c, d;

	if (!__builtin_cpu_supports("avx2") || !__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C))
		return NULL;
	return &simd_kernels;
}

#else

const struct gy_kernels *gy_kernels_avx2(void)
{
	return NULL;
}
#endif
