/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/conv.c - convolution as a matrix product (im2col).
 * Scratch holds one row per output pixel: its window, row by row, with zeros where the window
 * leaves the image.  Channels are adjacent, so a row of a window is one run of memory.
 *
 * kernel 3, pixel (0, 0):   0 0 0   row 0 is outside, column 0 of each row is outside:
 *                           0 a b   0 0 0  0 a b  0 d e
 *                           0 d e */
#include <string.h>

#include "bench/train/affine.h"

static void conv_setup(struct layer *l)
{
	l->fan_in = l->kernel * l->kernel * l->in.c;
	l->out = (struct shape){ l->in.h, l->in.w, l->units };
	l->scratch_len = l->in.h * l->in.w * l->fan_in;
}

/* The columns first .. end - 1 of the window round column x lie inside the image. */
static void conv_clip(const struct layer *l, int x, int *first, int *end)
{
	const int left = x - l->kernel / 2;

	*first = left < 0 ? -left : 0;
	*end = left + l->kernel > l->in.w ? l->in.w - left : l->kernel;
}

/* One row of the windows of all pixels of an image row.  row: of the image, NULL outside. */
static void conv_gather_row(const struct layer *l, const float *row, float *window)
{
	const int c = l->in.c;
	const size_t run = l->kernel * c;
	int x, first, end;

	for (x = 0; x < l->in.w; x++, window += l->fan_in) {
		conv_clip(l, x, &first, &end);
		if (!row || first > 0 || end < l->kernel)
			memset(window, 0, run * sizeof(*window));
		if (row)
			memcpy(window + first * c, row + (x - l->kernel / 2 + first) * c,
			       (end - first) * c * sizeof(*window));
	}
}

/* The opposite: adds the windows' gradients to those of the image row. */
static void conv_scatter_row(const struct layer *l, float *row, const float *window)
{
	const int c = l->in.c;
	const float *from;
	float *to;
	int x, k, first, end;

	for (x = 0; x < l->in.w; x++, window += l->fan_in) {
		conv_clip(l, x, &first, &end);
		to = row + (x - l->kernel / 2 + first) * c;
		from = window + first * c;
		for (k = 0; k < (end - first) * c; k++)
			to[k] += from[k];
	}
}

static void conv_gather(struct layer *l, const float *image, float *windows)
{
	const int row_len = l->in.w * l->in.c;
	int y, ky, row, inside;

	for (y = 0; y < l->in.h; y++) {
		for (ky = 0; ky < l->kernel; ky++) {
			row = y + ky - l->kernel / 2;
			inside = row >= 0 && row < l->in.h;
			conv_gather_row(l, inside ? image + row * row_len : NULL,
					windows + ky * l->kernel * l->in.c);
		}
		windows += l->in.w * l->fan_in;
	}
}

static void conv_scatter(struct layer *l, float *image, const float *windows)
{
	const int row_len = l->in.w * l->in.c;
	int y, ky, row;

	memset(image, 0, l->in.h * row_len * sizeof(*image));
	for (y = 0; y < l->in.h; y++) {
		for (ky = 0; ky < l->kernel; ky++) {
			row = y + ky - l->kernel / 2;
			if (row >= 0 && row < l->in.h)
				conv_scatter_row(l, image + row * row_len,
						 windows + ky * l->kernel * l->in.c);
		}
		windows += l->in.w * l->fan_in;
	}
}

static size_t conv_rows(const struct layer *l, int n)
{
	return (size_t)n * l->out.h * l->out.w;
}

static void conv_forward(struct layer *l, const float *x, int n)
{
	int i;

	for (i = 0; i < n; i++)
		conv_gather(l, x + i * shape_len(l->in),
			    l->scratch + i * l->scratch_len);
	affine_forward(l, l->scratch, conv_rows(l, n), l->y);
}

/* Scratch is x in another order; when the weights' gradient is done, dx takes its place. */
static void conv_backward(struct layer *l, const float *x, const float *dy, float *dx, int n)
{
	int i;

	affine_backward(l, l->scratch, dy, dx ? l->scratch : NULL, conv_rows(l, n));
	for (i = 0; dx && i < n; i++)
		conv_scatter(l, dx + i * shape_len(l->in),
			     l->scratch + i * l->scratch_len);
}

const struct layer_ops layer_conv = {
	.name = "conv",
	.setup = conv_setup,
	.forward = conv_forward,
	.backward = conv_backward,
};
