/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef KERNELS_REF_H
#define KERNELS_REF_H
/*
 * kernels_ref.h - what lib/kernels.h says, one element at a time and without its tricks.
 */
#include <stddef.h>
#include <gyre/types.h>

/* As gy_reduce_fn and gy_kernel_divide; dst is none of the inputs. */
void kernels_ref_reduce(enum gyre_type type, enum gyre_op op, void *dst, const void *const *in,
			unsigned nin, size_t n);
void kernels_ref_divide(enum gyre_type type, void *dst, const void *src, size_t n,
			unsigned divisor);

#endif
