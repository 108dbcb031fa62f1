/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/layers.c - the layers without a window: dense, pooling, ReLU. */
#include <string.h>

#include "bench/train/affine.h"

static void dense_setup(struct layer *l)
{
	l->fan_in = shape_len(l->in);
	l->out = (struct shape){ 1, 1, l->units };
}

static void dense_forward(struct layer *l, const float *x, int n)
{
	affine_forward(l, x, n, l->y);
}

static void dense_backward(struct layer *l, const float *x, const float *dy, float *dx, int n)
{
	affine_backward(l, x, dy, dx, n);
}

const struct layer_ops layer_dense = {
	.name = "dense",
	.setup = dense_setup,
	.forward = dense_forward,
	.backward = dense_backward,
};

static void pool_setup(struct layer *l)
{
	l->out = (struct shape){ l->in.h / 2, l->in.w / 2, l->in.c };
}

static float pool_max(float a, float b)
{
	return a > b ? a : b;
}

static void pool_forward_row(const struct layer *l, const float *top, float *restrict y)
{
	const int c = l->in.c;
	const float *bottom = top + l->in.w * c;
	int ox, k;

	for (ox = 0; ox < l->out.w; ox++, top += 2 * c, bottom += 2 * c, y += c)
		for (k = 0; k < c; k++)
			y[k] = pool_max(pool_max(top[k], top[c + k]),
					pool_max(bottom[k], bottom[c + k]));
}

static void pool_forward(struct layer *l, const float *x, int n)
{
	const int row_len = l->in.w * l->in.c;
	float *y = l->y;
	int i, oy;

	for (i = 0; i < n; i++, x += shape_len(l->in))
		for (oy = 0; oy < l->out.h; oy++, y += l->out.w * l->out.c)
			pool_forward_row(l, x + 2 * oy * row_len, y);
}

/*
 * The gradient goes to the first of equal pixels, row by row: each takes what those before it
 * left, all or nothing, so that there are no branches and the inner loop is vectorised.
 */
static void pool_backward_row(const struct layer *l, const float *top, const float *y,
			      const float *dy, float *restrict dtop)
{
	const int c = l->in.c, row_len = l->in.w * c;
	const float *bottom = top + row_len;
	float *restrict dbottom = dtop + row_len;
	float max, left;
	int ox, k;

	for (ox = 0; ox < l->out.w; ox++) {
		for (k = 0; k < c; k++) {
			max = y[k];
			left = dy[k];
			dtop[k] = top[k] == max ? left : 0.0f;
			left = top[k] == max ? 0.0f : left;
			dtop[c + k] = top[c + k] == max ? left : 0.0f;
			left = top[c + k] == max ? 0.0f : left;
			dbottom[k] = bottom[k] == max ? left : 0.0f;
			dbottom[c + k] = bottom[k] == max ? 0.0f : left;
		}
		top += 2 * c, bottom += 2 * c, dtop += 2 * c, dbottom += 2 * c;
		y += c, dy += c;
	}
}

static void pool_backward(struct layer *l, const float *x, const float *dy, float *dx, int n)
{
	const int row_len = l->in.w * l->in.c;
	const size_t len = shape_len(l->in);
	const float *y = l->y;
	int i, oy;

	if (!dx)
		return;
	if (l->in.h % 2 || l->in.w % 2) /* pixels that are in no window */
		memset(dx, 0, n * len * sizeof(*dx));
	for (i = 0; i < n; i++, x += len, dx += len) {
		for (oy = 0; oy < l->out.h; oy++) {
			pool_backward_row(l, x + 2 * oy * row_len, y, dy, dx + 2 * oy * row_len);
			y += l->out.w * l->out.c;
			dy += l->out.w * l->out.c;
		}
	}
}

const struct layer_ops layer_pool = {
	.name = "pool",
	.setup = pool_setup,
	.forward = pool_forward,
	.backward = pool_backward,
};

static void relu_setup(struct layer *l)
{
	l->out = l->in;
}

static void relu_forward(struct layer *l, const float *x, int n)
{
	const size_t len = n * shape_len(l->in);
	float *y = l->y;
	size_t i;

	for (i = 0; i < len; i++)
		y[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

static void relu_backward(struct layer *l, const float *x, const float *dy, float *dx, int n)
{
	const size_t len = n * shape_len(l->in);
	size_t i;

	for (i = 0; dx && i < len; i++)
		dx[i] = x[i] > 0.0f ? dy[i] : 0.0f;
}

const struct layer_ops layer_relu = {
	.name = "relu",
	.setup = relu_setup,
	.forward = relu_forward,
	.backward = relu_backward,
};
