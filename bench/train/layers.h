/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_LAYERS_H
#define TRAIN_LAYERS_H
/*
 * Layers of a network.  A layer is a function of a batch of n samples, x -> y, with nparams
 * trainable numbers; backward turns the loss's gradient by y into those by its parameters and
 * by x.  Memory is the model's (model.c); layers only compute.
 */
#include "bench/train/shape.h"

struct layer_ops;

/* What a model's table says of a layer. */
struct layer_spec {
	const struct layer_ops *ops;
	int units;  /* dense: outputs; convolution: output channels */
	int kernel; /* convolution: side of its window, odd; zero padding keeps the image's size */
};

struct layer {
	const struct layer_ops *ops;
	struct shape in, out;
	int units, kernel;
	size_t fan_in;	    /* inputs of one unit; 0 for a layer without parameters */
	size_t nparams;	    /* units * fan_in weights, unit by unit, then units biases */
	size_t scratch_len; /* floats per sample that the layer wants kept as scratch */
	float *params, *grads;
	float *scratch; /* backward reads what the forward pass of the same batch left here */
	float *y;
};

struct layer_ops {
	const char *name;
	/* in, units and kernel are set; sets out, fan_in and scratch_len. */
	void (*setup)(struct layer *l);
	/* y = f(x) */
	void (*forward)(struct layer *l, const float *x, int n);
	/*
	 * Writes grads, and dx unless it is NULL (nothing below wants it).  x and y are those of
	 * the last forward pass.
	 */
	void (*backward)(struct layer *l, const float *x, const float *dy, float *dx, int n);
};

extern const struct layer_ops layer_dense;  /* y = W x + b of the flattened sample */
extern const struct layer_ops layer_conv;   /* the same of each pixel's window */
extern const struct layer_ops layer_pool;   /* the largest of each 2 x 2 pixels */
extern const struct layer_ops layer_relu;   /* max(x, 0) */

#endif
