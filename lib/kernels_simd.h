/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_simd.h - reduction kernels in the compiler's vector extensions.  A file per kind of
 * CPU includes it once, after it has defined
 *
 *	SIMD_NAME		of the set, a string
 *	SIMD_BYTES		length of a vector register
 *	SIMD_TARGET		attribute that lets a function use the instructions
 *	SIMD_F16_WIDEN(p)	SIMD_BYTES / 2 of f16 at p, as simd_f32
 *	SIMD_F16_NARROW(p, x)	the reverse, to nearest even; x is canonical where it is NaN
 *	SIMD_STREAM(p, x)	stores a vector at p, which is aligned, past the caches
 *	SIMD_STREAM_END()	orders these stores before all later ones
 *
 * It leaves simd_kernels for the file to return.
 *
 * A kernel takes SIMD_BYTES from each input per step.  The first and the last step overlap their
 * neighbours instead of being shorter; they are computed before and stored after all others,
 * because dst may be an input.  Less than one step is left to the scalar kernels.
 */
#include <string.h>
#include "lib/kernels_impl.h"
#include "lib/util.h"

#define SIMD_FN inline __attribute__((always_inline)) SIMD_TARGET

/* Typedefs, because vector types have no other names. */
typedef uint8_t simd_uint8 __attribute__((vector_size(SIMD_BYTES)));
typedef int8_t simd_int8 __attribute__((vector_size(SIMD_BYTES)));
typedef uint16_t simd_uint16 __attribute__((vector_size(SIMD_BYTES)));
typedef int16_t simd_int16 __attribute__((vector_size(SIMD_BYTES)));
typedef uint32_t simd_uint32 __attribute__((vector_size(SIMD_BYTES)));
typedef int32_t simd_int32 __attribute__((vector_size(SIMD_BYTES)));
typedef uint64_t simd_uint64 __attribute__((vector_size(SIMD_BYTES)));
typedef int64_t simd_int64 __attribute__((vector_size(SIMD_BYTES)));
typedef float simd_f32 __attribute__((vector_size(SIMD_BYTES)));
typedef double simd_f64 __attribute__((vector_size(SIMD_BYTES)));
/* SIMD_BYTES of f16 or bf16, widened.  Which element lies where is the affair of load and store. */
typedef struct { simd_f32 a, b; } simd_f16, simd_bf16;
/* A vector anywhere in memory. */
typedef uint8_t simd_memory __attribute__((vector_size(SIMD_BYTES), aligned(1), may_alias));

/*
 * Lanes of yes where mask is all ones, of no where it is 0.  All three are signed, as results of
 * comparisons are: compilers then make a blend of it, or of the whole a minimum.
 */
#define SIMD_SELECT(mask, yes, no) (((mask) & (yes)) | (~(mask) & (no)))

/* Elements of T: load, store and the operators on SIMD_BYTES of them. */
#define SIMD_ARITHMETIC(T) \
static SIMD_FN simd_##T simd_##T##_load(const char *p) \
{ \
	return (simd_##T)*(const simd_memory *)p; \
} \
\
static SIMD_FN simd_##T simd_##T##_sum(simd_##T x, simd_##T y) \
{ \
	return x + y; \
} \
\
static SIMD_FN simd_##T simd_##T##_prod(simd_##T x, simd_##T y) \
{ \
	return x * y; \
}

#define SIMD_INT(T, M) \
static SIMD_FN void simd_##T##_store(char *p, simd_##T x) \
{ \
	*(simd_memory *)p = (simd_memory)x; \
} \
\
static SIMD_FN simd_##T simd_##T##_min(simd_##T x, simd_##T y) \
{ \
	return (simd_##T)SIMD_SELECT(x < y, (M)x, (M)y); \
} \
\
static SIMD_FN simd_##T simd_##T##_max(simd_##T x, simd_##T y) \
{ \
	return (simd_##T)SIMD_SELECT(x > y, (M)x, (M)y); \
}

/*
 * Equal operands may be -0 and +0: the bits of either are -0, those of both +0.  Unordered ones
 * become some NaN.
 */
#define SIMD_FLOAT(T, M, nan) \
static SIMD_FN simd_##T simd_##T##_canonical(simd_##T x) \
{ \
	return (simd_##T)SIMD_SELECT(x != x, (nan), (M)x); \
} \
\
static SIMD_FN void simd_##T##_store(char *p, simd_##T x) \
{ \
	*(simd_memory *)p = (simd_memory)simd_##T##_canonical(x); \
} \
\
static SIMD_FN simd_##T simd_##T##_min(simd_##T x, simd_##T y) \
{ \
	const M lt = x < y, gt = x > y, other = (M)x | (M)y; \
\
	return (simd_##T)SIMD_SELECT(lt, (M)x, SIMD_SELECT(gt, (M)y, other)); \
} \
\
static SIMD_FN simd_##T simd_##T##_max(simd_##T x, simd_##T y) \
{ \
	const M lt = x < y, gt = x > y, other = ((M)x & (M)y) | ~(x == y); \
\
	return (simd_##T)SIMD_SELECT(gt, (M)x, SIMD_SELECT(lt, (M)y, other)); \
}

/* For averages.  By a power of two, a product has the same bits in a fraction of the time. */
#define SIMD_FLOAT_DIVIDE(T, S) \
static SIMD_FN simd_##T simd_##T##_div(simd_##T x, S d) \
{ \
	return x / d; \
} \
\
static SIMD_FN simd_##T simd_##T##_scale(simd_##T x, S factor) \
{ \
	return x * factor; \
}

#define SIMD_HALF_OP(T, op) \
static SIMD_FN simd_##T simd_##T##_##op(simd_##T x, simd_##T y) \
{ \
	return (simd_##T){ simd_f32_##op(x.a, y.a), simd_f32_##op(x.b, y.b) }; \
}

#define SIMD_HALF_DIVIDE(T, op) \
static SIMD_FN simd_##T simd_##T##_##op(simd_##T x, float d) \
{ \
	return (simd_##T){ simd_f32_##op(x.a, d), simd_f32_##op(x.b, d) }; \
}

/*
 * min and max of f16 and bf16 need no f32: as integers with the magnitude of negative ones inverted
 * they have the order of the numbers.  NaN is made the one that wins: first or last.
 */
#define SIMD_HALF_KEY(T, op, inf, nan, nan_key) \
static SIMD_FN simd_int16 simd_##T##_##op##_load(const char *p) \
{ \
	const simd_int16 x = simd_int16_load(p); \
\
	return SIMD_SELECT((x & INT16_MAX) > (inf), (nan_key), x ^ (x >> 15 & INT16_MAX)); \
} \
\
static SIMD_FN void simd_##T##_##op##_store(char *p, simd_int16 key) \
{ \
	simd_int16_store(p, SIMD_SELECT(key == (nan_key), (nan), key ^ (key >> 15 & INT16_MAX))); \
}

#define SIMD_HALF(T, inf, nan) \
SIMD_HALF_OP(T, sum) \
SIMD_HALF_OP(T, prod) \
SIMD_HALF_DIVIDE(T, div) \
SIMD_HALF_DIVIDE(T, scale) \
SIMD_HALF_KEY(T, min, inf, nan, INT16_MIN) \
SIMD_HALF_KEY(T, max, inf, nan, INT16_MAX)

SIMD_ARITHMETIC(uint8) SIMD_INT(uint8, simd_int8)
SIMD_ARITHMETIC(uint16) SIMD_INT(uint16, simd_int16)
SIMD_ARITHMETIC(uint32) SIMD_INT(uint32, simd_int32)
SIMD_ARITHMETIC(uint64) SIMD_INT(uint64, simd_int64)
SIMD_ARITHMETIC(int8) SIMD_INT(int8, simd_int8)
SIMD_ARITHMETIC(int16) SIMD_INT(int16, simd_int16)
SIMD_ARITHMETIC(int32) SIMD_INT(int32, simd_int32)
SIMD_ARITHMETIC(int64) SIMD_INT(int64, simd_int64)
SIMD_ARITHMETIC(f32) SIMD_FLOAT(f32, simd_int32, 0x7fc00000) SIMD_FLOAT_DIVIDE(f32, float)
SIMD_ARITHMETIC(f64) SIMD_FLOAT(f64, simd_int64, 0x7ff8000000000000) SIMD_FLOAT_DIVIDE(f64, double)
SIMD_HALF(f16, 0x7c00, 0x7e00)
SIMD_HALF(bf16, 0x7f80, 0x7fc0)

static SIMD_FN simd_f16 simd_f16_load(const char *p)
{
	return (simd_f16){ SIMD_F16_WIDEN(p), SIMD_F16_WIDEN(p + SIMD_BYTES / 2) };
}

static SIMD_FN void simd_f16_store(char *p, simd_f16 x)
{
	SIMD_F16_NARROW(p, simd_f32_canonical(x.a));
	SIMD_F16_NARROW(p + SIMD_BYTES / 2, simd_f32_canonical(x.b));
}

/* bf16: a has the elements in the low halves of 32-bit words, b those in the high halves. */
static SIMD_FN simd_bf16 simd_bf16_load(const char *p)
{
	const simd_uint32 x = simd_uint32_load(p);

	return (simd_bf16){ (simd_f32)(x << 16), (simd_f32)(x & 0xffff0000) };
}

/*
 * To nearest even; not by vcvtneps2bf16, which takes subnormals for zero.  Works on the upper and
 * the lower halves of all: an upper one goes up by 1 where the lower is more than half of its
 * range, or just that and the upper odd.  A NaN shows in its upper half: arithmetic made it quiet.
 */
static SIMD_FN void simd_bf16_store(char *p, simd_bf16 x)
{
	const simd_uint32 a = (simd_uint32)x.a, b = (simd_uint32)x.b;
	const simd_int16 upper = (simd_int16)(a >> 16 | (b & 0xffff0000));
	const simd_int16 lower = (simd_int16)((a & 0xffff) | b << 16) ^ INT16_MIN;
	const simd_int16 up = lower > -(upper & 1), nan = (upper & INT16_MAX) > 0x7f80;

	simd_int16_store(p, SIMD_SELECT(nan, 0x7fc0, upper - up));
}

/* Offset of the second step, after which stores are aligned if dst is aligned to its elements. */
static inline size_t simd_second_step(const void *dst, size_t elem_size)
{
	return SIMD_BYTES - (uintptr_t)dst % SIMD_BYTES / elem_size * elem_size;
}

#define SIMD_INPUTS(...) ((const void *const[]){ __VA_ARGS__ })

/*
 * One operator on one type.  A: the accumulator; E: an element in memory.  The addresses of few
 * inputs are copied, and their number made a constant, so that they stay in registers.
 */
#define SIMD_REDUCE(name, A, E, load, op, store, type, opcode) \
static SIMD_FN A simd_fold_##name(const void *const *in, unsigned nin, size_t at) \
{ \
	A acc = load((const char *)in[0] + at); \
	unsigned k; \
\
	for (k = 1; k < nin; k++) \
		acc = op(acc, load((const char *)in[k] + at)); \
	return acc; \
} \
\
static SIMD_FN void simd_loop_##name(char *dst, const void *const *in, unsigned nin, size_t len) \
{ \
	const size_t end = len - SIMD_BYTES; \
	const A first = simd_fold_##name(in, nin, 0), last = simd_fold_##name(in, nin, end); \
	size_t i; \
\
	for (i = simd_second_step(dst, sizeof(E)); i < end; i += SIMD_BYTES) \
		store(dst + i, simd_fold_##name(in, nin, i)); \
	store(dst, first); \
	store(dst + end, last); \
} \
\
SIMD_TARGET static void simd_reduce_##name(void *dst, const void *const *in, unsigned nin, \
					   size_t n) \
{ \
	const size_t len = n * sizeof(E); \
\
	if (len < SIMD_BYTES || nin == 1) \
		gy_kernels_scalar.reduce[type][opcode](dst, in, nin, n); \
	else if (nin == 2) \
		simd_loop_##name(dst, SIMD_INPUTS(in[0], in[1]), 2, len); \
	else if (nin == 3) \
		simd_loop_##name(dst, SIMD_INPUTS(in[0], in[1], in[2]), 3, len); \
	else if (nin == 4) \
		simd_loop_##name(dst, SIMD_INPUTS(in[0], in[1], in[2], in[3]), 4, len); \
	else \
		simd_loop_##name(dst, in, nin, len); \
}

/* S: the divisor in the type of the division. */
#define SIMD_DIVIDE(T, E, S, type) \
SIMD_TARGET static void simd_divide_##T(void *dst, const void *src, size_t n, unsigned divisor) \
{ \
	const size_t end = n * sizeof(E) / SIMD_BYTES * SIMD_BYTES; \
	const S d = (S)divisor, inverse = 1 / d; \
	const char *from = src; \
	char *to = dst; \
	simd_##T x; \
	size_t i; \
\
	if (divisor & (divisor - 1)) { \
		for (i = 0; i < end; i += SIMD_BYTES) { \
			x = simd_##T##_load(from + i); \
			simd_##T##_store(to + i, simd_##T##_div(x, d)); \
		} \
	} else { \
		for (i = 0; i < end; i += SIMD_BYTES) { \
			x = simd_##T##_load(from + i); \
			simd_##T##_store(to + i, simd_##T##_scale(x, inverse)); \
		} \
	} \
	gy_kernels_scalar.divide[type](to + end, from + end, n - end / sizeof(E), divisor); \
}

#define SIMD_SUM_PROD(T, E, type) \
SIMD_REDUCE(T##_sum, simd_##T, E, simd_##T##_load, simd_##T##_sum, simd_##T##_store, \
	    type, GYRE_SUM) \
SIMD_REDUCE(T##_prod, simd_##T, E, simd_##T##_load, simd_##T##_prod, simd_##T##_store, \
	    type, GYRE_PROD)

#define SIMD_MIN_MAX(T, E, type) \
SIMD_REDUCE(T##_min, simd_##T, E, simd_##T##_load, simd_##T##_min, simd_##T##_store, \
	    type, GYRE_MIN) \
SIMD_REDUCE(T##_max, simd_##T, E, simd_##T##_load, simd_##T##_max, simd_##T##_store, \
	    type, GYRE_MAX)

#define SIMD_HALF_MIN_MAX(T, type) \
SIMD_REDUCE(T##_min, simd_int16, int16_t, simd_##T##_min_load, simd_int16_min, \
	    simd_##T##_min_store, type, GYRE_MIN) \
SIMD_REDUCE(T##_max, simd_int16, int16_t, simd_##T##_max_load, simd_int16_max, \
	    simd_##T##_max_store, type, GYRE_MAX)

/* Signed sums and products have the bits of the unsigned ones, which wrap. */
SIMD_SUM_PROD(uint8, uint8_t, GYRE_UINT8)
SIMD_SUM_PROD(uint16, uint16_t, GYRE_UINT16)
SIMD_SUM_PROD(uint32, uint32_t, GYRE_UINT32)
SIMD_SUM_PROD(uint64, uint64_t, GYRE_UINT64)
SIMD_SUM_PROD(f16, uint16_t, GYRE_F16)
SIMD_SUM_PROD(bf16, uint16_t, GYRE_BF16)
SIMD_SUM_PROD(f32, float, GYRE_F32)
SIMD_SUM_PROD(f64, double, GYRE_F64)
SIMD_MIN_MAX(int8, int8_t, GYRE_INT8)
SIMD_MIN_MAX(uint8, uint8_t, GYRE_UINT8)
SIMD_MIN_MAX(int16, int16_t, GYRE_INT16)
SIMD_MIN_MAX(uint16, uint16_t, GYRE_UINT16)
SIMD_MIN_MAX(int32, int32_t, GYRE_INT32)
SIMD_MIN_MAX(uint32, uint32_t, GYRE_UINT32)
SIMD_MIN_MAX(int64, int64_t, GYRE_INT64)
SIMD_MIN_MAX(uint64, uint64_t, GYRE_UINT64)
SIMD_HALF_MIN_MAX(f16, GYRE_F16)
SIMD_HALF_MIN_MAX(bf16, GYRE_BF16)
SIMD_MIN_MAX(f32, float, GYRE_F32)
SIMD_MIN_MAX(f64, double, GYRE_F64)
SIMD_DIVIDE(f16, uint16_t, float, GYRE_F16)
SIMD_DIVIDE(bf16, uint16_t, float, GYRE_BF16)
SIMD_DIVIDE(f32, float, float, GYRE_F32)
SIMD_DIVIDE(f64, double, double, GYRE_F64)

SIMD_TARGET static void simd_stream(void *dst, const void *src, size_t len)
{
	const size_t head = gy_min(len, -(uintptr_t)dst % SIMD_BYTES);
	const char *from = src;
	char *to = dst;
	size_t i;

	memcpy(to, from, head);
	for (i = head; i + SIMD_BYTES <= len; i += SIMD_BYTES)
		SIMD_STREAM(to + i, *(const simd_memory *)(from + i));
	memcpy(to + i, from + i, len - i);
	SIMD_STREAM_END();
}

#define SIMD_ROW(T, A) \
	GY_KERNEL_ROW(simd_reduce_##A##_sum, simd_reduce_##A##_prod, simd_reduce_##T##_min, \
		      simd_reduce_##T##_max)

static const struct gy_kernels simd_kernels = {
	.name = SIMD_NAME,
	.reduce = {
		[GYRE_INT8] = SIMD_ROW(int8, uint8),
		[GYRE_UINT8] = SIMD_ROW(uint8, uint8),
		[GYRE_INT16] = SIMD_ROW(int16, uint16),
		[GYRE_UINT16] = SIMD_ROW(uint16, uint16),
		[GYRE_INT32] = SIMD_ROW(int32, uint32),
		[GYRE_UINT32] = SIMD_ROW(uint32, uint32),
		[GYRE_INT64] = SIMD_ROW(int64, uint64),
		[GYRE_UINT64] = SIMD_ROW(uint64, uint64),
		[GYRE_F16] = SIMD_ROW(f16, f16),
		[GYRE_BF16] = SIMD_ROW(bf16, bf16),
		[GYRE_F32] = SIMD_ROW(f32, f32),
		[GYRE_F64] = SIMD_ROW(f64, f64),
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
		[GYRE_F16] = simd_divide_f16,
		[GYRE_BF16] = simd_divide_bf16,
		[GYRE_F32] = simd_divide_f32,
		[GYRE_F64] = simd_divide_f64,
	},
	.stream = simd_stream,
	.shortest = SIMD_BYTES,
	.stream_len = KERNELS_STREAM_LEN,
};
