/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/model.c - the two networks, their memory, and passes through them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/layers.h"
#include "bench/train/loss.h"
#include "bench/train/model.h"
#include "bench/train/rng.h"

#define MODEL_MAX_LAYERS 10
#define MODEL_ALIGN 64

struct model_spec {
	const char *name;
	struct layer_spec layers[MODEL_MAX_LAYERS]; /* a dense layer of the classes follows */
};

/* Pooling before ReLU gives the same as after it, for a quarter of the work. */
static const struct model_spec model_specs[] = {
	{
		.name = "mlp",
		.layers = {
			{.ops = &layer_dense, .units = 256}, {.ops = &layer_relu},
			{.ops = &layer_dense, .units = 128}, {.ops = &layer_relu},
		},
	},
	{
		.name = "cnn",
		.layers = {
			{.ops = &layer_conv, .units = 16, .kernel = 3},
			{.ops = &layer_pool}, {.ops = &layer_relu},
			{.ops = &layer_conv, .units = 32, .kernel = 3},
			{.ops = &layer_pool}, {.ops = &layer_relu},
			{.ops = &layer_dense, .units = 128}, {.ops = &layer_relu},
		},
	},
};

struct model {
	int nlayers, batch;
	struct layer layers[MODEL_MAX_LAYERS];
	size_t nparams;
	float *memory; /* everything below but what the caller gives */
	float *params;
	float *dy, *dx; /* gradients by the outputs and inputs of the layer that is at work */
	const float *x; /* of the last model_loss */
	int n;
};

static const struct model_spec *model_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(model_specs) / sizeof(*model_specs); i++)
		if (strcmp(model_specs[i].name, name) == 0)
			return &model_specs[i];
	return NULL;
}

static void model_add(struct model *m, const struct layer_spec *spec, struct shape in)
{
	struct layer *l = &m->layers[m->nlayers++];

	*l = (struct layer){
		.ops = spec->ops, .in = in, .units = spec->units, .kernel = spec->kernel
	};
	l->ops->setup(l);
	l->nparams = l->fan_in ? (l->fan_in + 1) * l->units : 0;
	m->nparams += l->nparams;
}

static int model_build(struct model *m, const struct model_spec *spec, struct shape input,
		       int classes)
{
	const struct layer_spec last = { .ops = &layer_dense, .units = classes };
	int i;

	for (i = 0; spec->layers[i].ops; i++) {
		model_add(m, &spec->layers[i], input);
		input = m->layers[i].out;
		if (!shape_len(input))
			return -EINVAL;
	}
	model_add(m, &last, input);
	return 0;
}

static size_t model_aligned(size_t len)
{
	const size_t unit = MODEL_ALIGN / sizeof(float);

	return (len + unit - 1) / unit * unit;
}

/* Hands out len floats of the model's memory; before there is any, only counts them in *used. */
static float *model_take(struct model *m, size_t *used, size_t len)
{
	float *at = m->memory ? m->memory + *used : NULL;

	*used += model_aligned(len);
	return at;
}

/* Called twice: to measure, and to place. */
static size_t model_place(struct model *m)
{
	const size_t batch = m->batch;
	size_t used = 0, widest = 0, done = 0;
	struct layer *l;

	m->params = model_take(m, &used, m->nparams);
	for (l = m->layers; l < m->layers + m->nlayers; l++) {
		l->params = m->params ? m->params + done : NULL;
		done += l->nparams;
		l->scratch = model_take(m, &used, batch * l->scratch_len);
		l->y = model_take(m, &used, batch * shape_len(l->out));
		if (shape_len(l->out) > widest)
			widest = shape_len(l->out);
	}
	m->dy = model_take(m, &used, batch * widest);
	m->dx = model_take(m, &used, batch * widest);
	return used;
}

/*
 * Small and uniform: small, so that the first steps do not overshoot and blow up rounding errors;
 * uniform, because no function is in it whose last bit depends on the C library.
 */
static void model_draw_weights(struct model *m, uint64_t seed)
{
	struct layer *l;
	struct rng rng;
	size_t i, nweights;
	float limit;

	rng_init(&rng, seed, 0);
	for (l = m->layers; l < m->layers + m->nlayers; l++) {
		if (!l->nparams)
			continue;
		nweights = l->fan_in * l->units;
		limit = sqrtf(1.0f / l->fan_in);
		for (i = 0; i < nweights; i++)
			l->params[i] = rng_uniform(&rng, limit);
		memset(l->params + nweights, 0, l->units * sizeof(*l->params));
	}
}

int model_create(const char *name, struct shape input, int classes, int batch, uint64_t seed,
		 struct model **modelp)
{
	const struct model_spec *spec = model_find(name);
	struct model *m;
	int err;

	if (!spec || batch < 1)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->batch = batch;
	err = model_build(m, spec, input, classes);
	if (err)
		goto free_model;
	m->memory = aligned_alloc(MODEL_ALIGN, model_place(m) * sizeof(float));
	if (!m->memory) {
		err = -ENOMEM;
		goto free_model;
	}
	model_place(m);
	model_draw_weights(m, seed);
	*modelp = m;
	return 0;

free_model:
	free(m);
	return err;
}

void model_destroy(struct model *m)
{
	if (!m)
		return;
	free(m->memory);
	free(m);
}

size_t model_nparams(const struct model *m)
{
	return m->nparams;
}

float *model_params(struct model *m)
{
	return m->params;
}

void model_set_params(struct model *m, float *params)
{
	struct layer *l;

	for (l = m->layers; l < m->layers + m->nlayers; l++)
		l->params = params + (l->params - m->params);
	m->params = params;
}

void model_set_grads(struct model *m, float *grads)
{
	struct layer *l;

	for (l = m->layers; l < m->layers + m->nlayers; l++)
		l->grads = grads + (l->params - m->params);
}

static const struct layer *model_forward(struct model *m, const float *x, int n)
{
	struct layer *l;

	for (l = m->layers; l < m->layers + m->nlayers; l++) {
		l->ops->forward(l, x, n);
		x = l->y;
	}
	return l - 1;
}

float model_loss(struct model *m, const float *x, const uint8_t *labels, int n)
{
	const struct layer *last = model_forward(m, x, n);

	m->x = x;
	m->n = n;
	return loss_softmax(last->y, labels, n, last->units, m->dy);
}

void model_backward(struct model *m, void (*ready)(void *arg, size_t first), void *arg)
{
	struct layer *l;
	float *swap;

	for (l = m->layers + m->nlayers - 1; l > m->layers; l--) {
		l->ops->backward(l, l[-1].y, m->dy, m->dx, m->n);
		if (l->nparams)
			ready(arg, l->params - m->params);
		swap = m->dy;
		m->dy = m->dx;
		m->dx = swap;
	}
	l->ops->backward(l, m->x, m->dy, NULL, m->n);
	ready(arg, 0);
}

int model_count_correct(struct model *m, const float *x, const uint8_t *labels, int n)
{
	const struct layer *last = model_forward(m, x, n);

	return loss_count_correct(last->y, labels, n, last->units);
}
