/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_neon.c - reduction kernels for 64-bit ARM, where NEON is always there.
 */
#include "lib/kernels_impl.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define SIMD_NAME "neon"
#define SIMD_BYTES 16
#define SIMD_TARGET
#define SIMD_F16_WIDEN(p) \
	(simd_f32)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(p))))
#define SIMD_F16_NARROW(p, x) \
	vst1_u8((uint8_t *)(p), vreinterpret_u8_f16(vcvt_f16_f32((float32x4_t)(x))))
/* Ordinary stores: there is no intrinsic for others. */
#define SIMD_STREAM(p, x) (*(simd_memory *)(p) = (x))
#define SIMD_STREAM_END() ((void)0)

#include "lib/kernels_simd.h"

const struct gy_kernels *gy_kernels_neon(void)
{
	return &simd_kernels;
}

#else

const struct gy_kernels *gy_kernels_neon(void)
{
	return NULL;
}
#endif
