/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_MODEL_H
#define TRAIN_MODEL_H
/*
 * A network: a chain of layers whose parameters lie in one array, first layer first, and whose
 * gradients lie in another in the same order.  Knows nothing of ranks.
 */
#include <stddef.h>
#include <stdint.h>

#include "bench/train/shape.h"

struct model;

/*
 * name: "mlp" or "cnn".  batch: the most samples of one pass.  The weights are drawn from seed,
 * the same on every machine.  Free by model_destroy.
 * Errors: -EINVAL (unknown name, or images too small for it), -ENOMEM.
 */
int model_create(const char *name, struct shape input, int classes, int batch, uint64_t seed,
		 struct model **modelp);
void model_destroy(struct model *model);

size_t model_nparams(const struct model *model);
float *model_params(struct model *model);

/* The parameters are from now on the nparams floats at params, the caller's. */
void model_set_params(struct model *model, float *params);

/*
 * Where model_backward writes: nparams floats of the caller's, which live as long as the model is
 * used.
 */
void model_set_grads(struct model *model, float *grads);

/* The mean loss of n <= batch samples.  x and labels are kept until model_backward. */
float model_loss(struct model *model, const float *x, const uint8_t *labels, int n);

/*
 * The gradient of the last model_loss.  Layers are done last to first; after each that has
 * parameters, ready(arg, first) says that grads[first ..] are final.  The last call has first 0.
 */
void model_backward(struct model *model, void (*ready)(void *arg, size_t first), void *arg);

/* How many of n <= batch samples are recognised. */
int model_count_correct(struct model *model, const float *x, const uint8_t *labels, int n);

#endif
