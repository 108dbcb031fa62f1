/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lib/kernels.c - choice of a set of reduction kernels for this CPU, and copies.
 */
#include <string.h>
#include "lib/kernels_impl.h"
#include "lib/util.h"

/* Best first. */
static const struct {
	const char *name;
	const struct gy_kernels *(*find)(void);
} kernels_sets[] = {
	{ "avx512", gy_kernels_avx512 },
	{ "avx2", gy_kernels_avx2 },
	{ "neon", gy_kernels_neon },
};

const struct gy_kernels *gy_kernels_best(void)
{
	const struct gy_kernels *ks;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(kernels_sets); i++) {
		ks = kernels_sets[i].find();
		if (ks)
			return ks;
	}
	return &gy_kernels_scalar;
}

const struct gy_kernels *gy_kernels_named(const char *name)
{
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(kernels_sets); i++)
		if (!strcmp(name, kernels_sets[i].name))
			return kernels_sets[i].find();
	return strcmp(name, gy_kernels_scalar.name) ? NULL : &gy_kernels_scalar;
}

const char *gy_kernels_name(const struct gy_kernels *ks)
{
	return ks->name;
}

gy_reduce_fn *gy_kernel_reduce(const struct gy_kernels *ks, enum gyre_type type, enum gyre_op op)
{
	gy_assert(type < GYRE_NTYPES && op < GYRE_NOPS);
	return ks->reduce[type][op];
}

gy_reduce_fn *gy_kernel_reduce_upto(const struct gy_kernels *ks, enum gyre_type type,
				    enum gyre_op op, size_t len)
{
	return gy_kernel_reduce(len < ks->shortest ? &gy_kernels_scalar : ks, type, op);
}

void gy_kernel_divide(const struct gy_kernels *ks, enum gyre_type type, void *dst, const void *src,
		      size_t n, unsigned divisor)
{
	gy_assert(type < GYRE_NTYPES && divisor > 0);
	ks->divide[type](dst, src, n, divisor);
}

void gy_kernel_copy(const struct gy_kernels *ks, void *dst, const void *src, size_t len)
{
	if (len < ks->stream_len)
		memcpy(dst, src, len);
	else
		ks->stream(dst, src, len);
}

void gy_kernel_copy_stream(const struct gy_kernels *ks, void *dst, const void *src, size_t len)
{
	ks->stream(dst, src, len);
}
