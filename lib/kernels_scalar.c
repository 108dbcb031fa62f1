/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_scalar.c - reduction kernels in plain C: for CPUs without a set of their own, and for
 * vectors shorter than one register of the others, which makes them part of every small message.
 * Cost of 8 bytes: 30 instructions, and 9 for each 8 more.
 */
#include <string.h>
#include "lib/kernels_impl.h"
#include "lib/util.h"

#define F32_NAN 0x7fc00000u	/* canonical, see kernels.h */
#define F64_NAN 0x7ff8000000000000u

static inline float scalar_f32(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline uint32_t scalar_f32_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline double scalar_f64(uint64_t bits)
{
	double x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline uint64_t scalar_f64_bits(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* Subnormals come out of a subtraction of two normal numbers, which is exact. */
static inline float scalar_f16_widen(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = (uint32_t)(h & 0x7fff) << 13;
	float x;

	if (mag >= 0x7c00u << 13)				/* infinity, NaN */
		return scalar_f32(sign | 0x7f800000u | mag);
	if (mag >= 0x0400u << 13)
		return scalar_f32(sign | (mag + (112u << 23)));
	x = scalar_f32(mag + (113u << 23)) - scalar_f32(113u << 23);
	return scalar_f32(sign | scalar_f32_bits(x));
}

static inline uint16_t scalar_f16_narrow(float x)
{
	const uint32_t bits = scalar_f32_bits(x), mag = bits & 0x7fffffff,
		sign = bits >> 16 & 0x8000;
	const uint32_t half = 126u << 23;	/* 0.5: a sum with it ends at 2^-24 */

	if (mag > 0x7f800000u)
		return 0x7e00;
	if (mag >= 143u << 23)			/* 2^16 and beyond */
		return (uint16_t)(sign | 0x7c00);
	if (mag < 113u << 23)			/* result is subnormal: the addition rounds */
		return (uint16_t)(sign |
				  (scalar_f32_bits(scalar_f32(mag) + scalar_f32(half)) - half));
	return (uint16_t)(sign | ((mag - (112u << 23) + 0xfff + (mag >> 13 & 1)) >> 13));
}

static inline float scalar_bf16_widen(uint16_t h)
{
	return scalar_f32((uint32_t)h << 16);
}

static inline uint16_t scalar_bf16_narrow(float x)
{
	const uint32_t bits = x != x ? F32_NAN : scalar_f32_bits(x);

	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float scalar_f32_narrow(float x)
{
	return x != x ? scalar_f32(F32_NAN) : x;
}

static inline double scalar_f64_narrow(double x)
{
	return x != x ? scalar_f64(F64_NAN) : x;
}

/* Equal operands may be -0 and +0: the bits of both are -0, those in common +0. */
static inline float scalar_f32_min(float a, float b)
{
	return a < b ? a : a > b ? b : scalar_f32(scalar_f32_bits(a) | scalar_f32_bits(b));
}

static inline float scalar_f32_max(float a, float b)
{
	return a > b	? a
	       : a < b	? b
	       : a == b ? scalar_f32(scalar_f32_bits(a) & scalar_f32_bits(b))
			: scalar_f32(F32_NAN);
}

static inline double scalar_f64_min(double a, double b)
{
	return a < b ? a : a > b ? b : scalar_f64(scalar_f64_bits(a) | scalar_f64_bits(b));
}

static inline double scalar_f64_max(double a, double b)
{
	return a > b	? a
	       : a < b	? b
	       : a == b ? scalar_f64(scalar_f64_bits(a) & scalar_f64_bits(b))
			: scalar_f64(F64_NAN);
}

#define KEEP(x) (x)
#define ADD(a, b) ((a) + (b))
#define MUL(a, b) ((a) * (b))
#define INT_ADD(a, b) ((uint64_t)(a) + (uint64_t)(b))	/* unsigned: wraps */
#define INT_MUL(a, b) ((uint64_t)(a) * (uint64_t)(b))
#define INT_MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define INT_MAX_OF(a, b) ((a) > (b) ? (a) : (b))

/* T: type in memory; A: type of the accumulator. */
#define REDUCE(name, T, A, widen, op, narrow) \
static inline __attribute__((always_inline)) void \
scalar_reduce_##name##_loop(char *dst, const void *const *in, unsigned nin, size_t n) \
{ \
	size_t i; \
	unsigned k; \
	T x; \
	A acc; \
\
	for (i = 0; i < n * sizeof(T); i += sizeof(T)) { \
		memcpy(&x, (const char *)in[0] + i, sizeof(T)); \
		acc = widen(x); \
		for (k = 1; k < nin; k++) { \
			memcpy(&x, (const char *)in[k] + i, sizeof(T)); \
			acc = (A)op(acc, widen(x)); \
		} \
		x = narrow(acc); \
		memcpy(dst + i, &x, sizeof(T)); \
	} \
} \
\
static void scalar_reduce_##name(void *dst, const void *const *in, unsigned nin, size_t n) \
{ \
	if (nin == 2) \
		scalar_reduce_##name##_loop(dst, (const void *const[]){ in[0], in[1] }, 2, n); \
	else if (nin > 2) \
		scalar_reduce_##name##_loop(dst, in, nin, n); \
	else if (dst != in[0]) \
		gy_kernel_copy(&gy_kernels_scalar, dst, in[0], n * sizeof(T)); \
}

/* D: the type of the division, which holds all of T and the divisor. */
#define DIVIDE(function, T, D, widen, narrow) \
void function(void *dst, const void *src, size_t n, unsigned divisor) \
{ \
	const D d = (D)divisor; \
	size_t i; \
	T x; \
\
	for (i = 0; i < n * sizeof(T); i += sizeof(T)) { \
		memcpy(&x, (const char *)src + i, sizeof(T)); \
		x = (T)narrow(widen(x) / d); \
		memcpy((char *)dst + i, &x, sizeof(T)); \
	} \
}

#define INT_KERNELS(name, T, D) \
REDUCE(name##_sum, T, T, KEEP, INT_ADD, KEEP) \
REDUCE(name##_prod, T, T, KEEP, INT_MUL, KEEP) \
REDUCE(name##_min, T, T, KEEP, INT_MIN_OF, KEEP) \
REDUCE(name##_max, T, T, KEEP, INT_MAX_OF, KEEP) \
DIVIDE(gy_kernel_divide_##name, T, D, KEEP, KEEP)

#define FLOAT_KERNELS(name, T, A, widen, narrow, min, max) \
REDUCE(name##_sum, T, A, widen, ADD, narrow) \
REDUCE(name##_prod, T, A, widen, MUL, narrow) \
REDUCE(name##_min, T, A, widen, min, narrow) \
REDUCE(name##_max, T, A, widen, max, narrow) \
static DIVIDE(scalar_divide_##name, T, A, widen, narrow)

/*
 * Up to 32 bits divided as double, which is faster: a quotient x / d that is no integer differs
 * from the next one by 1 / d or more, and is rounded by 2^-53 x / d at most.
 */
INT_KERNELS(int8, int8_t, double)
INT_KERNELS(uint8, uint8_t, double)
INT_KERNELS(int16, int16_t, double)
INT_KERNELS(uint16, uint16_t, double)
INT_KERNELS(int32, int32_t, double)
INT_KERNELS(uint32, uint32_t, double)
INT_KERNELS(int64, int64_t, int64_t)
INT_KERNELS(uint64, uint64_t, uint64_t)
FLOAT_KERNELS(f16, uint16_t, float, scalar_f16_widen, scalar_f16_narrow, scalar_f32_min,
	      scalar_f32_max)
FLOAT_KERNELS(bf16, uint16_t, float, scalar_bf16_widen, scalar_bf16_narrow, scalar_f32_min,
	      scalar_f32_max)
FLOAT_KERNELS(f32, float, float, KEEP, scalar_f32_narrow, scalar_f32_min, scalar_f32_max)
FLOAT_KERNELS(f64, double, double, KEEP, scalar_f64_narrow, scalar_f64_min, scalar_f64_max)

static void scalar_stream(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}

#define ROW(name) \
	GY_KERNEL_ROW(scalar_reduce_##name##_sum, scalar_reduce_##name##_prod, \
		      scalar_reduce_##name##_min, scalar_reduce_##name##_max)

const struct gy_kernels gy_kernels_scalar = {
	.name = "scalar",
	.reduce = {
		[GYRE_INT8] = ROW(int8),
		[GYRE_UINT8] = ROW(uint8),
		[GYRE_INT16] = ROW(int16),
		[GYRE_UINT16] = ROW(uint16),
		[GYRE_INT32] = ROW(int32),
		[GYRE_UINT32] = ROW(uint32),
		[GYRE_INT64] = ROW(int64),
		[GYRE_UINT64] = ROW(uint64),
		[GYRE_F16] = ROW(f16),
		[GYRE_BF16] = ROW(bf16),
		[GYRE_F32] = ROW(f32),
		[GYRE_F64] = ROW(f64),
	},
	.divide = {
		[GYRE_INT8] = gy_kernel_divide_int8,
		[GYRE_UINT8] = gy_kernel_divide_uint8,
		[GYRE_INT16] = gy_kernel_divide_int16,
		[GYRE_UINT16] = gy_kernel_divide_uint16,
		[GYRE_INT32] = gy_kernel_divide_int32,
		[GYRE_UINT32] = gy_kernel_divide_uint32,
		[GYRE_INT64] = gy_kernel_divide_int64,
		[GYRE_UINT64] = gy_kernel_divide_uint64,
		[GYRE_F16] = scalar_divide_f16,
		[GYRE_BF16] = scalar_divide_bf16,
		[GYRE_F32] = scalar_divide_f32,
		[GYRE_F64] = scalar_divide_f64,
	},
	.stream = scalar_stream,
	.stream_len = KERNELS_STREAM_LEN,
};
