/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_KERNELS_IMPL_H
#define GY_KERNELS_IMPL_H
/*
 * What the sets of kernels share; for lib/kernels*.c only.
 */
#include "lib/kernels.h"

typedef void gy_divide_fn(void *dst, const void *src, size_t n, unsigned divisor);

struct gy_kernels {
	const char *name;
	gy_reduce_fn *reduce[GYRE_NTYPES][GYRE_NOPS];
	gy_divide_fn *divide[GYRE_NTYPES];
	void (*stream)(void *dst, const void *src,
		       size_t len); /* done when it returns, for all threads */
	size_t shortest;	/* what is shorter reduce leaves to the scalar kernels */
	size_t stream_len;	/* from which on gy_kernel_copy streams */
};

/*
 * From this length on a block and its copy hardly fit a core's share of the last-level cache.  With
 * 32 MiB of it, streaming is 1.3 times as fast as memcpy at 16 MiB even when both blocks are in
 * steady use, and 0.8 times at 4 MiB.
 */
#define KERNELS_STREAM_LEN ((size_t)16 << 20)

#define GY_KERNEL_ROW(sum, prod, min, max) { \
	[GYRE_SUM] = (sum), [GYRE_PROD] = (prod), [GYRE_MIN] = (min), [GYRE_MAX] = (max), \
	[GYRE_AVG] = (sum) }

/* Runs anywhere; the others use it for what is short, or slow on every CPU. */
extern const struct gy_kernels gy_kernels_scalar;

gy_divide_fn gy_kernel_divide_int8, gy_kernel_divide_uint8;
gy_divide_fn gy_kernel_divide_int16, gy_kernel_divide_uint16;
gy_divide_fn gy_kernel_divide_int32, gy_kernel_divide_uint32;
gy_divide_fn gy_kernel_divide_int64, gy_kernel_divide_uint64;

/* NULL when this CPU, or what the compiler builds for, is of another kind. */
const struct gy_kernels *gy_kernels_avx2(void);
const struct gy_kernels *gy_kernels_avx512(void);
const struct gy_kernels *gy_kernels_neon(void);

#endif
