/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_avx512.c - reduction kernels for x86 CPUs with AVX-512 F, BW, DQ and VL.
 */
#include "lib/kernels_impl.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define SIMD_NAME "avx512"
#define SIMD_BYTES 64
#define SIMD_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define SIMD_F16_WIDEN(p) (simd_f32) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define SIMD_F16_NARROW(p, x) \
	_mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph((__m512)(x), _MM_FROUND_TO_NEAREST_INT))
#define SIMD_STREAM(p, x) _mm512_stream_si512((__m512i *)(p), (__m512i)(x))
#define SIMD_STREAM_END() _mm_sfence()

#include "lib/kernels_simd.h"

/* The builtin also asks whether the system saves the registers. */
const struct gy_kernels *gy_kernels_avx512(void)
{
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
		return NULL;
	return &simd_kernels;
}

#else

const struct gy_kernels *gy_kernels_avx512(void)
{
	return NULL;
}
#endif
