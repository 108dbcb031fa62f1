/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_AFFINE_H
#define TRAIN_AFFINE_H
/*
 * y = x W' + b over a row-major matrix x of rows x fan_in: what dense and convolution layers have
 * in common.  W is units x fan_in with b behind it, as in struct layer.
 */
#include "bench/train/layers.h"

void affine_forward(const struct layer *l, const float *x, size_t rows, float *y);

/* Gradients by W and b to l->grads, and by x to dx unless it is NULL; dx may be x. */
void affine_backward(const struct layer *l, const float *x, const float *dy, float *dx,
		     size_t rows);

#endif
