/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels_none.c - kernels that touch nothing: the simulator's cost mode counts bytes and has
 * none.
 */
#include "lib/kernels_impl.h"

static void none_reduce(void *dst, const void *const *in, unsigned nin, size_t n)
{
}

static void none_divide(void *dst, const void *src, size_t n, unsigned divisor)
{
}

static void none_stream(void *dst, const void *src, size_t len)
{
}

const struct gy_kernels gy_kernels_none = {
	.name = "none",
	.reduce = { [0 ... GYRE_NTYPES - 1] = { [0 ... GYRE_NOPS - 1] = none_reduce } },
	.divide = { [0 ... GYRE_NTYPES - 1] = none_divide },
	.stream = none_stream,
	.stream_len = 0,
};
