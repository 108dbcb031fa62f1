/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_train.c - gyre-train without ranks: gradients against finite differences, the optimizer
 * against its formulas.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "bench/train/data.h"
#include "bench/train/layers.h"
#include "bench/train/loss.h"
#include "bench/train/model.h"
#include "bench/train/rng.h"
#include "bench/train/sgd.h"

#define CLASSES 10

static float *floats(size_t count)
{
	float *v = calloc(count ? count : 1, sizeof(*v));

	assert_non_null(v);
	return v;
}

static void fill_uniform(struct rng *rng, float *v, size_t count, float limit)
{
	size_t i;

	for (i = 0; i < count; i++)
		v[i] = rng_uniform(rng, limit);
}

/* 0.02 or more between any two, 0.01 to zero: far from where ReLU and maxima bend. */
static void fill_grid(struct rng *rng, float *v, size_t count)
{
	uint32_t *order = calloc(count, sizeof(*order));
	size_t i;

	assert_non_null(order);
	data_shuffle(order, count, rng_next(rng), 0);
	for (i = 0; i < count; i++)
		v[i] = 0.02f * ((float)order[i] - (float)(count / 2)) + 0.01f;
	free(order);
}

/* ---- one layer: f = sum of r * y, by x and by the parameters ---- */

struct layer_case {
	struct layer layer;
	size_t nx, ny;
	float *x, *dx, *r;
	int n;
};

static void case_init(struct layer_case *c, const struct layer_spec *spec, struct shape in, int n)
{
	struct layer *l = &c->layer;
	struct rng rng;

	*l = (struct layer){
		.ops = spec->ops, .in = in, .units = spec->units, .kernel = spec->kernel
	};
	l->ops->setup(l);
	l->nparams = l->fan_in ? (l->fan_in + 1) * l->units : 0;
	l->params = floats(l->nparams);
	l->grads = floats(l->nparams);
	l->scratch = floats(n * l->scratch_len);
	c->n = n;
	c->nx = n * shape_len(in);
	c->ny = n * shape_len(l->out);
	l->y = floats(c->ny);
	c->x = floats(c->nx);
	c->dx = floats(c->nx);
	c->r = floats(c->ny);
	rng_init(&rng, 7, 0);
	fill_grid(&rng, c->x, c->nx);
	fill_uniform(&rng, l->params, l->nparams, 1);
	fill_uniform(&rng, c->r, c->ny, 1);
}

static void case_fini(struct layer_case *c)
{
	free(c->layer.params);
	free(c->layer.grads);
	free(c->layer.scratch);
	free(c->layer.y);
	free(c->x);
	free(c->dx);
	free(c->r);
}

static double case_value(struct layer_case *c)
{
	double sum = 0;
	size_t i;

	c->layer.ops->forward(&c->layer, c->x, c->n);
	for (i = 0; i < c->ny; i++)
		sum += (double)c->r[i] * c->layer.y[i];
	return sum;
}

/* A layer is linear in each single number as far as h goes: only rounding is between the two. */
static void case_compare(struct layer_case *c, float *v, const float *grads, size_t count, float h)
{
	double above, below, slope;
	float was;
	size_t i;

	for (i = 0; i < count; i++) {
		was = v[i];
		v[i] = was + h;
		above = case_value(c);
		v[i] = was - h;
		below = case_value(c);
		v[i] = was;
		slope = (above - below) / (2 * h);
		if (fabs(slope - grads[i]) > 2e-3 * (1 + fabs(slope)))
			fail_msg("%s: number %zu: slope %g, gradient %g", c->layer.ops->name, i,
				 slope, grads[i]);
	}
}

static void check_layer(const struct layer_spec *spec, struct shape in, float h)
{
	struct layer_case c;
	float *grads;

	case_init(&c, spec, in, 3);
	case_value(&c);
	c.layer.ops->backward(&c.layer, c.x, c.r, c.dx, c.n);
	case_compare(&c, c.x, c.dx, c.nx, h);
	case_compare(&c, c.layer.params, c.layer.grads, c.layer.nparams, h);

	/* Without dx the parameters' gradient is the same. */
	grads = floats(c.layer.nparams);
	memcpy(grads, c.layer.grads, c.layer.nparams * sizeof(*grads));
	case_value(&c);
	c.layer.ops->backward(&c.layer, c.x, c.r, NULL, c.n);
	assert_memory_equal(grads, c.layer.grads, c.layer.nparams * sizeof(*grads));
	free(grads);
	case_fini(&c);
}

static void layers_have_right_gradients(void **state)
{
	const struct layer_spec dense = { .ops = &layer_dense, .units = 5 };
	const struct layer_spec conv3 = { .ops = &layer_conv, .units = 3, .kernel = 3 };
	const struct layer_spec conv5 = { .ops = &layer_conv, .units = 2, .kernel = 5 };
	const struct layer_spec pool = { .ops = &layer_pool };
	const struct layer_spec relu = { .ops = &layer_relu };

	check_layer(&dense, (struct shape){ 2, 3, 4 }, 0.5f);
	check_layer(&conv3, (struct shape){ 5, 6, 2 }, 0.5f);
	check_layer(&conv3, (struct shape){ 1, 1, 1 }, 0.5f);
	check_layer(&conv5, (struct shape){ 6, 5, 1 }, 0.5f);
	check_layer(&conv5, (struct shape){ 2, 2, 3 }, 0.5f); /* window larger than the image */
	check_layer(&pool, (struct shape){ 4, 6, 3 }, 0.005f);
	check_layer(&pool, (struct shape){ 5, 3, 8 },
		    0.005f); /* last row and column in no window */
	check_layer(&relu, (struct shape){ 3, 5, 2 }, 0.005f);
}

static void pool_gives_ties_to_the_first(void **state)
{
	const struct layer_spec pool = { .ops = &layer_pool };
	const float x[4] = { 1, 2, 2, 2 };
	struct layer_case c;

	case_init(&c, &pool, (struct shape){ 2, 2, 1 }, 1);
	memcpy(c.x, x, sizeof(x));
	c.r[0] = 3;
	case_value(&c);
	c.layer.ops->backward(&c.layer, c.x, c.r, c.dx, 1);
	assert_true(c.dx[0] == 0 && c.dx[1] == 3 && c.dx[2] == 0 && c.dx[3] == 0);
	case_fini(&c);
}

/* ---- whole models ---- */

struct model_case {
	struct model *model;
	size_t nparams;
	float *params, *grads, *x;
	uint8_t *labels;
	int n;
	size_t layers[16]; /* where each layer's parameters begin, last layer first */
	int nlayers;
};

static void model_case_init(struct model_case *c, const char *name, uint64_t seed, int n)
{
	const struct shape in = { 12, 12, 1 };
	struct rng rng;
	int i;

	memset(c, 0, sizeof(*c));
	c->n = n;
	assert_int_equal(model_create(name, in, CLASSES, n, seed, &c->model), 0);
	c->nparams = model_nparams(c->model);
	c->params = model_params(c->model);
	c->grads = floats(c->nparams);
	model_set_grads(c->model, c->grads);
	c->x = floats(n * shape_len(in));
	c->labels = calloc(n, 1);
	assert_non_null(c->labels);
	rng_init(&rng, seed, 99);
	fill_uniform(&rng, c->x, n * shape_len(in), 2);
	for (i = 0; i < n; i++)
		c->labels[i] = rng_below(&rng, CLASSES);
}

static void model_case_fini(struct model_case *c)
{
	model_destroy(c->model);
	free(c->grads);
	free(c->x);
	free(c->labels);
}

static void model_case_ready(void *arg, size_t first)
{
	struct model_case *c = arg;

	assert_in_range(c->nlayers, 0, 15);
	if (c->nlayers)
		assert_true(first < c->layers[c->nlayers - 1]);
	c->layers[c->nlayers++] = first;
}

static float model_case_run(struct model_case *c)
{
	const float loss = model_loss(c->model, c->x, c->labels, c->n);

	c->nlayers = 0;
	model_backward(c->model, model_case_ready, c);
	assert_true(c->nlayers > 0 && c->layers[c->nlayers - 1] == 0);
	return loss;
}

static double norm(const float *v, size_t count)
{
	double sum = 0;
	size_t i;

	for (i = 0; i < count; i++)
		sum += (double)v[i] * v[i];
	return sqrt(sum);
}

static float loss_along(struct model_case *c, size_t first, size_t count, const float *way,
			float eps)
{
	float *was = floats(count), loss;
	size_t i;

	memcpy(was, c->params + first, count * sizeof(*was));
	for (i = 0; i < count; i++)
		c->params[first + i] += eps * way[i];
	loss = model_loss(c->model, c->x, c->labels, c->n);
	memcpy(c->params + first, was, count * sizeof(*was));
	free(was);
	return loss;
}

/* Slope of the loss along the layer's gradient mixed with a random direction. */
static void check_slope(struct model_case *c, size_t first, size_t end, struct rng *rng)
{
	const size_t count = end - first;
	const float eps = 2e-3f;
	float *way = floats(count);
	double by_gradient = 0, slope, grad_norm, way_norm;
	size_t i;

	fill_uniform(rng, way, count, 1);
	way_norm = norm(way, count);
	grad_norm = norm(c->grads + first, count);
	assert_true(grad_norm > 0);
	for (i = 0; i < count; i++) {
		way[i] = 0.5 * way[i] / way_norm + c->grads[first + i] / grad_norm;
		by_gradient += (double)way[i] * c->grads[first + i];
	}
	slope = ((double)loss_along(c, first, count, way, eps) -
		 loss_along(c, first, count, way, -eps)) /
		(2 * eps);
	if (fabs(slope - by_gradient) > 0.02 * fabs(by_gradient))
		fail_msg("parameters from %zu: slope %g, gradient says %g", first, slope,
			 by_gradient);
	free(way);
}

static void check_model(const char *name, uint64_t seed)
{
	struct model_case c;
	struct rng rng;
	size_t end;
	int i;

	model_case_init(&c, name, seed, 16);
	model_case_run(&c);
	rng_init(&rng, seed, 5);
	end = c.nparams;
	for (i = 0; i < c.nlayers; i++) {
		check_slope(&c, c.layers[i], end, &rng);
		end = c.layers[i];
	}
	model_case_fini(&c);
}

static void models_have_right_gradients(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 5; seed++) {
		check_model("mlp", seed);
		check_model("cnn", seed);
	}
}

/* What data parallelism rests on: the batch's gradient is the mean of its slices' gradients. */
static void gradient_of_batch_is_mean_of_slices(void **state)
{
	struct model_case whole, slice;
	const int slices = 4, n = 5;
	double *mean, loss = 0;
	size_t i;
	int s;

	model_case_init(&whole, "cnn", 3, slices * n);
	model_case_init(&slice, "cnn", 3, n);
	assert_memory_equal(whole.params, slice.params, whole.nparams * sizeof(float));
	mean = calloc(whole.nparams, sizeof(*mean));
	assert_non_null(mean);
	for (s = 0; s < slices; s++) {
		memcpy(slice.x, whole.x + s * n * 144, n * 144 * sizeof(float));
		memcpy(slice.labels, whole.labels + s * n, n);
		loss += model_case_run(&slice) / slices;
		for (i = 0; i < whole.nparams; i++)
			mean[i] += (double)slice.grads[i] / slices;
	}
	assert_true(fabs(model_case_run(&whole) - loss) < 1e-5 * loss);
	for (i = 0; i < whole.nparams; i++)
		assert_true(fabs(mean[i] - whole.grads[i]) < 1e-5);
	free(mean);
	model_case_fini(&whole);
	model_case_fini(&slice);
}

static struct model_case *final_case;
static float *final_copy; /* gradients as they were when they were said to be final */

static void final_ready(void *arg, size_t first)
{
	size_t *end = arg;

	memcpy(final_copy + first, final_case->grads + first, (*end - first) * sizeof(float));
	*end = first;
}

static void ready_gradients_do_not_change(void **state)
{
	struct model_case c;
	size_t end;

	model_case_init(&c, "cnn", 11, 4);
	final_case = &c;
	final_copy = floats(c.nparams);
	end = c.nparams;
	model_loss(c.model, c.x, c.labels, c.n);
	model_backward(c.model, final_ready, &end);
	assert_memory_equal(final_copy, c.grads, c.nparams * sizeof(float));
	free(final_copy);
	model_case_fini(&c);
}

static void check_learns(const char *name)
{
	struct model_case c;
	struct sgd sgd = { .lr = 0.05, .momentum = 0.9, .schedule = "constant", .epochs = 1 };
	float first, last = 0;
	int step;

	model_case_init(&c, name, 2, 32);
	sgd.velocity = floats(c.nparams);
	first = model_case_run(&c);
	for (step = 0; step < 60; step++) {
		sgd_step(&sgd, sgd_lr(&sgd, 0), c.params, c.grads, c.nparams);
		last = model_case_run(&c);
	}
	assert_true(first > 1 && last < 0.05f * first);
	assert_int_equal(model_count_correct(c.model, c.x, c.labels, c.n), c.n);
	free(sgd.velocity);
	model_case_fini(&c);
}

static void models_learn_a_batch_by_heart(void **state)
{
	check_learns("mlp");
	check_learns("cnn");
}

static void models_refuse_what_they_cannot_do(void **state)
{
	struct model *m;

	assert_int_equal(model_create("vgg", (struct shape){ 28, 28, 1 }, 10, 1, 1, &m), -EINVAL);
	assert_int_equal(model_create("cnn", (struct shape){ 3, 28, 1 }, 10, 1, 1, &m), -EINVAL);
	assert_int_equal(model_create("cnn", (struct shape){ 28, 28, 1 }, 10, 0, 1, &m), -EINVAL);
	model_destroy(NULL);
}

static void loss_is_right_and_does_not_overflow(void **state)
{
	float logits[6] = { 1, 1, 1, 1000, -1000, 0 }, grads[6];
	const uint8_t labels[2] = { 2, 1 };

	assert_true(fabs(loss_softmax(logits, labels, 1, 3, grads) - log(3)) < 1e-6);
	assert_true(fabs(grads[0] - 1 / 3.) < 1e-6 && fabs(grads[2] + 2 / 3.) < 1e-6);
	assert_true(fabs(loss_softmax(logits + 3, labels + 1, 1, 3, grads) - 2000) < 1e-3);
	assert_true(grads[0] == 1 && grads[1] == -1 && grads[2] == 0);
	assert_int_equal(loss_count_correct(logits, labels, 2, 3), 0);
}

/* ---- optimizer ---- */

static void sgd_follows_its_formulas(void **state)
{
	struct sgd sgd = { .momentum = 0.5, .weight_decay = 0.25 };
	float w = 2, v = 0.75f;
	const float g = 1;

	sgd.velocity = &v;
	sgd_step(&sgd, 0.5, &w, &g, 1); /* g' = 1.5, v = 0.375 + 1.5 */
	assert_true(v == 1.875f && w == 2 - 0.5f * 1.875f);

	w = 2, v = 0.75f, sgd.nesterov = true;
	sgd_step(&sgd, 0.5, &w, &g, 1);
	assert_true(v == 1.875f && w == 2 - 0.5f * (1.5f + 0.5f * 1.875f));
}

static void check_lr(const char *schedule, double epoch, double want)
{
	const struct sgd sgd = { .lr = 0.1, .schedule = schedule, .warmup = 2, .epochs = 10 };

	if (fabs(sgd_lr(&sgd, epoch) - want) > 1e-9)
		fail_msg("%s at %g: %g, not %g", schedule, epoch, sgd_lr(&sgd, epoch), want);
}

static void learning_rate_follows_its_schedule(void **state)
{
	check_lr("constant", 0, 0);
	check_lr("constant", 1, 0.05);
	check_lr("constant", 2, 0.1);
	check_lr("constant", 9.9, 0.1);
	check_lr("step", 5.9, 0.1);
	check_lr("step", 6, 0.01);
	check_lr("step", 8, 0.001);
	check_lr("cosine", 1, 0.05);
	check_lr("cosine", 2, 0.1);
	check_lr("cosine", 6, 0.05);
	check_lr("cosine", 10, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_have_right_gradients),
		cmocka_unit_test(pool_gives_ties_to_the_first),
		cmocka_unit_test(models_have_right_gradients),
		cmocka_unit_test(gradient_of_batch_is_mean_of_slices),
		cmocka_unit_test(ready_gradients_do_not_change),
		cmocka_unit_test(models_learn_a_batch_by_heart),
		cmocka_unit_test(models_refuse_what_they_cannot_do),
		cmocka_unit_test(loss_is_right_and_does_not_overflow),
		cmocka_unit_test(sgd_follows_its_formulas),
		cmocka_unit_test(learning_rate_follows_its_schedule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
