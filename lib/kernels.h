/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_KERNELS_H
#define GY_KERNELS_H
/*
 * Reduction kernels: the loops that touch every element.  One set per kind of CPU, all with bitwise
 * equal results, so that ranks on different machines agree:
 *
 * - inputs are folded left to right, ((in[0] op in[1]) op in[2]) ...; nothing is reassociated;
 * - f16 and bf16 are widened to f32, folded there over all inputs, rounded once, to nearest even;
 * - integer sums and products wrap;
 * - min and max give NaN when an operand is NaN, and -0 < +0;
 * - a result that is NaN is the canonical one: positive, quiet, no payload.  (Which operand's
 *   payload survives an addition depends on the CPU and on how the compiler orders operands.)
 *
 * They expect the default floating-point environment.  Buffers need no alignment at all; loops run
 * fastest when dst is aligned to its element.  No state, no allocation; all functions are MT-Safe.
 */
#include <stddef.h>
#include <gyre/types.h>

#define GY_MAX_INPUTS 16	/* of one reduce call; more are folded in several calls */

struct gy_kernels;

/*
 * dst[i] = in[0][i] op in[1][i] op ... op in[nin - 1][i] for i < n; 1 <= nin <= GY_MAX_INPUTS.
 * One pass over all buffers.  nin == 1 copies, bit by bit.  dst may equal any in[k]; other overlap
 * of dst and an input is forbidden.
 */
typedef void gy_reduce_fn(void *dst, const void *const *in, unsigned nin, size_t n);

/* The fastest set that this CPU runs.  Constant data; asks cpuid: look it up once, not per call. */
const struct gy_kernels *gy_kernels_best(void);

/* "scalar", "avx2", "avx512" or "neon"; NULL when this CPU or this build lacks it. */
const struct gy_kernels *gy_kernels_named(const char *name);

/* Touches nothing, and so takes addresses that nothing is at: see transports/sim. */
extern const struct gy_kernels gy_kernels_none;

const char *gy_kernels_name(const struct gy_kernels *ks);

/* GYRE_AVG is GYRE_SUM here; gy_kernel_divide ends it. */
gy_reduce_fn *gy_kernel_reduce(const struct gy_kernels *ks, enum gyre_type type, enum gyre_op op);

/* For blocks of len bytes at most: the same, without a look at their length where that is short. */
gy_reduce_fn *gy_kernel_reduce_upto(const struct gy_kernels *ks, enum gyre_type type,
				    enum gyre_op op, size_t len);

/*
 * dst[i] = src[i] / divisor for i < n; divisor >= 1.  One rounding in the type's own precision (f16
 * and bf16 through f32); integers toward zero.  dst may equal src; other overlap is forbidden.
 */
void gy_kernel_divide(const struct gy_kernels *ks, enum gyre_type type, void *dst, const void *src,
		      size_t n, unsigned divisor);

/* memcpy; streams (see below) when len says that the block will not stay in the caches anyway. */
void gy_kernel_copy(const struct gy_kernels *ks, void *dst, const void *src, size_t len);

/*
 * memcpy past the caches where the CPU can: a quarter faster than memcpy when dst is not cached,
 * and less than half as fast when it is.  For parts of a large block that nobody reads soon.
 */
void gy_kernel_copy_stream(const struct gy_kernels *ks, void *dst, const void *src, size_t len);

#endif
