/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_SGD_H
#define TRAIN_SGD_H
/* Stochastic gradient descent with momentum, and how its learning rate changes over a run. */
#include <stdbool.h>
#include <stddef.h>

struct sgd {
	double lr, momentum, weight_decay;
	bool nesterov;
	const char *schedule;  /* "constant", "step" or "cosine" */
	double warmup, epochs; /* epochs of linear rise, and of the whole run */
	float *velocity;       /* as many as there are parameters, zero at first */
};

/* The learning rate at a point of the run, in epochs.  0 for an unknown schedule. */
double sgd_lr(const struct sgd *sgd, double epoch);

/*
 * v = momentum v + g + weight_decay w;  w -= lr v, or with nesterov  w -= lr (g' + momentum v)
 * where g' is g with the weight decay.
 */
void sgd_step(struct sgd *sgd, double lr, float *params, const float *grads, size_t count);

#endif
