/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/train.c - data-parallel training.
 * Every rank has the whole model and the whole data, and the same order of the images.  Step s of
 * an epoch takes the images at s * nranks * batch of that order, rank r its batch of them; so the
 * sequence of models depends on nranks * batch, and on nranks only by rounding.
 *
 *	images -> loss -> backward pass -> gradients -> optimizer
 *			      |  sync_ready      ^ sync_wait
 *			      +--- allreduce ----+	buckets, deepest layer first
 *
 * The loss of the batch travels behind the gradients, so its mean over ranks costs no message. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "bench/train/clock.h"
#include "bench/train/data.h"
#include "bench/train/model.h"
#include "bench/train/report.h"
#include "bench/train/sgd.h"
#include "bench/train/sync.h"
#include "bench/train/train.h"

struct trainer {
	const struct options *opt;
	struct job job;
	struct data data;
	struct model *model;
	struct sync *sync; /* gradients, then the loss */
	struct sgd sgd;
	struct report *report;
	int steps;	 /* of an epoch */
	uint32_t *order; /* of the training images in this epoch */
	float *x;	 /* a batch */
	uint8_t *labels;
};

static int train_check(struct trainer *t, struct why *why)
{
	const size_t step = (size_t)t->job.nranks * t->opt->batch;

	if (t->opt->ranks && t->opt->ranks != t->job.nranks)
		return why_set(why, -EINVAL, "-n %d: this job has %d ranks", t->opt->ranks,
			       t->job.nranks);
	if (step > t->data.train.count)
		return why_set(why, -EINVAL,
			       "%d ranks x --batch %d are more images than there are (%zu)",
			       t->job.nranks, t->opt->batch, t->data.train.count);
	t->steps = t->data.train.count / step;
	return 0;
}

static int train_alloc(struct trainer *t)
{
	const struct options *opt = t->opt;
	const size_t batch = opt->batch;
	size_t nparams;
	int err;

	err = model_create(opt->model, t->data.shape, DATA_CLASSES, opt->batch,
			   opt->seed, &t->model);
	if (err)
		return err;
	nparams = model_nparams(t->model);
	err = sync_create(&t->job, nparams + 1, opt->bucket_kib * 1024 / sizeof(float),
			  &t->sync);
	if (err)
		return err;
	model_set_grads(t->model, sync_vector(t->sync));
	t->sgd.velocity = calloc(nparams, sizeof(*t->sgd.velocity));
	t->order = calloc(t->data.train.count, sizeof(*t->order));
	t->x = calloc(batch * shape_len(t->data.shape), sizeof(*t->x));
	t->labels = calloc(batch, sizeof(*t->labels));
	return t->sgd.velocity && t->order && t->x && t->labels ? 0 : -ENOMEM;
}

/* What this rank can do alone.  On error the reason goes to why. */
static int train_prepare(struct trainer *t, struct why *why)
{
	const struct options *opt = t->opt;
	int err;

	err = data_load(opt->data, opt->limit, &t->data, why);
	if (err)
		return err;
	err = train_check(t, why);
	if (err)
		return err;
	err = train_alloc(t);
	if (err)
		return why_set(why, err, "rank %d: model and buffers: %s", t->job.rank,
			       gyre_strerror(err));
	t->sgd.lr = opt->lr;
	t->sgd.momentum = opt->momentum;
	t->sgd.weight_decay = opt->weight_decay;
	t->sgd.nesterov = opt->nesterov;
	t->sgd.schedule = opt->schedule;
	t->sgd.warmup = opt->warmup;
	t->sgd.epochs = opt->epochs;
	if (t->job.rank != 0)
		return 0;
	return report_create(opt, t->job.nranks, t->steps, &t->report, why);
}

static void train_fini(struct trainer *t)
{
	report_destroy(t->report);
	free(t->labels);
	free(t->x);
	free(t->order);
	free(t->sgd.velocity);
	sync_destroy(t->sync);
	model_destroy(t->model);
	data_fini(&t->data);
}

static int train_step(struct trainer *t, double epoch, int step, double *loss)
{
	const int batch = t->opt->batch;
	const size_t nparams = model_nparams(t->model);
	const size_t first = ((size_t)step * t->job.nranks + t->job.rank) * batch;
	float *vector = sync_vector(t->sync);
	int err;

	data_batch(&t->data, &t->data.train, t->order + first, batch, t->x, t->labels);
	vector[nparams] = model_loss(t->model, t->x, t->labels, batch);
	model_backward(t->model, sync_ready, t->sync);
	err = sync_wait(t->sync);
	if (err)
		return job_fail(&t->job, "exchange of gradients", err);
	*loss = vector[nparams];
	sgd_step(&t->sgd, sgd_lr(&t->sgd, epoch), model_params(t->model), vector, nparams);
	return 0;
}

/* This rank's share of the test images. */
static double train_count_correct(struct trainer *t)
{
	const size_t count = t->data.test.count;
	const uint32_t end = count * (t->job.rank + 1) / t->job.nranks;
	uint32_t at = count * t->job.rank / t->job.nranks;
	uint32_t *pick = t->order; /* between epochs it is free */
	double correct = 0;
	int n;

	while (at < end) {
		for (n = 0; n < t->opt->batch && at < end; n++)
			pick[n] = at++;
		data_batch(&t->data, &t->data.test, pick, n, t->x, t->labels);
		correct += model_count_correct(t->model, t->x, t->labels, n);
	}
	return correct;
}

/*
 * Gradients are bitwise equal on all ranks, so the models are.  If they are not, a sum was wrong
 * or the ranks' processors round differently, and what follows is no longer data-parallel SGD.
 */
static int train_check_equal(struct trainer *t)
{
	const size_t len = model_nparams(t->model) * sizeof(float);
	const uint32_t crc = crc32(0, (const void *)model_params(t->model), len);
	const uint32_t mine[2] = { crc, ~crc };
	uint32_t largest[2];
	int err = gyre_allreduce(mine, largest, 2, GYRE_UINT32, GYRE_MAX, t->job.comm);

	if (err)
		return job_fail(&t->job, "comparison of the models", err);
	if (largest[0] == ~largest[1])
		return 0;
	if (t->job.rank == 0)
		fprintf(stderr, "gyre-train: the ranks' models are no longer equal\n");
	return -EILSEQ;
}

/* Sums over ranks what only a rank knows, and tests the model. */
static int train_close_epoch(struct trainer *t, struct report_epoch *e)
{
	const double exposed = sync_take_seconds(t->sync);
	double sums[3] = { exposed, e->seconds - exposed, train_count_correct(t) };
	const double to_ms = 1e3 / ((double)t->steps * t->job.nranks);
	int err;

	err = gyre_allreduce(GYRE_IN_PLACE, sums, 3, GYRE_F64, GYRE_SUM, t->job.comm);
	if (err)
		return job_fail(&t->job, "test", err);
	e->exposed_ms = sums[0] * to_ms;
	e->compute_ms = sums[1] * to_ms;
	e->accuracy = sums[2] / t->data.test.count;
	e->images_per_s = (double)t->steps * t->job.nranks * t->opt->batch / e->seconds;
	return train_check_equal(t);
}

static int train_epoch(struct trainer *t, int epoch)
{
	struct report_epoch e = { .number = epoch + 1 };
	const double start = clock_seconds();
	double at = epoch, loss = 0, total = 0;
	int step, err;

	data_shuffle(t->order, t->data.train.count, t->opt->seed, epoch);
	for (step = 0; step < t->steps; step++) {
		at = epoch + (step + 0.5) / t->steps;
		err = train_step(t, at, step, &loss);
		if (err)
			return err;
		if (!isfinite(loss)) {
			if (t->job.rank == 0)
				fprintf(stderr, "gyre-train: the loss is no longer finite; "
						"try a smaller --lr\n");
			return -ERANGE;
		}
		total += loss;
		report_step(t->report, e.number, step, total / (step + 1));
	}
	e.seconds = clock_seconds() - start;
	e.loss = total / t->steps;
	e.lr = sgd_lr(&t->sgd, at);
	err = train_close_epoch(t, &e);
	if (err)
		return err;
	report_epoch(t->report, &e);
	return 0;
}

static int train_epochs(struct trainer *t)
{
	int epoch, err;

	report_start(t->report, model_nparams(t->model), t->data.train.count, t->data.test.count);
	for (epoch = 0; epoch < t->opt->epochs; epoch++) {
		err = train_epoch(t, epoch);
		if (err)
			return err;
	}
	err = report_finish(t->report);
	if (err)
		fprintf(stderr, "gyre-train: results could not be written: %s\n", strerror(-err));
	return err;
}

int train_run(const struct options *opt)
{
	struct trainer t = { .opt = opt };
	struct why why = { "out of memory" };
	int err;

	openblas_set_num_threads(1); /* ranks are the parallelism */
	err = job_open(&t.job);
	if (err)
		return err;
	err = job_agree(&t.job, train_prepare(&t, &why), &why);
	if (!err)
		err = train_epochs(&t);
	train_fini(&t);
	job_close(&t.job);
	return err;
}
