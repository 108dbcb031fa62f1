/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/affine.c - the matrix products of dense and convolution layers, by BLAS. */
#include <cblas.h>
#include <string.h>

#include "bench/train/affine.h"

void affine_forward(const struct layer *l, const float *x, size_t rows, float *y)
{
	const blasint m = rows, units = l->units, k = l->fan_in;
	const float *bias = l->params + l->fan_in * l->units;
	size_t i;

	for (i = 0; i < rows; i++)
		memcpy(y + i * units, bias, units * sizeof(*y));
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, units, k, 1.0f, x, k, l->params, k,
		    1.0f, y, units);
}

static void affine_bias_gradient(const struct layer *l, const float *dy, size_t rows)
{
	float *grad = l->grads + l->fan_in * l->units;
	size_t i;
	int u;

	memset(grad, 0, l->units * sizeof(*grad));
	for (i = 0; i < rows; i++, dy += l->units)
		for (u = 0; u < l->units; u++)
			grad[u] += dy[u];
}

void affine_backward(const struct layer *l, const float *x, const float *dy, float *dx, size_t rows)
{
	const blasint m = rows, units = l->units, k = l->fan_in;

	affine_bias_gradient(l, dy, rows);
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, units, k, m, 1.0f, dy, units, x, k,
		    0.0f, l->grads, k);
	if (dx)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, units, 1.0f, dy, units,
			    l->params, k, 0.0f, dx, k);
}
