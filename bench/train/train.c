/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/train.c - data-parallel training: setting up, and the steps.
 * Every rank has the whole model and the whole data.  With synchronous SGD and even shards, step s
 * of an epoch takes the images at s * nranks * batch of the epoch's order, rank r its batch of
 * them; so the sequence of models depends on nranks * batch, and on nranks only by rounding.
 *
 *	images -> loss -> backward pass -> gradients -> optimizer -> tick
 *			      |  ready         ^ reduce		      |  progress, models
 *			      +-- allreduce ---+ (sync)		      +-------------------> (others)
 *
 * A step is padded between backward pass and reduce, so an exchange that has been started may hide
 * behind all of the padding. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/checkpoint.h"
#include "bench/train/clock.h"
#include "bench/train/logs.h"
#include "bench/train/train.h"
#include "bench/train/trainer.h"

#define TRAIN_ALIGN 64

static int train_check(struct trainer *t, struct why *why)
{
	if (t->opt->ranks && t->opt->ranks != t->job.nranks)
		return why_set(why, -EINVAL, "-n %d: this job has %d ranks", t->opt->ranks,
			       t->job.nranks);
	return 0;
}

static int train_alloc(struct trainer *t)
{
	const struct options *opt = t->opt;
	const size_t batch = opt->batch;
	size_t size;
	int err;

	err = model_create(opt->model, t->data.shape, DATA_CLASSES, opt->batch, opt->seed,
			   &t->model);
	if (err)
		return err;
	t->nparams = model_nparams(t->model);
	t->npadding = (size_t)opt->payload / sizeof(float);
	size = (t->nparams + t->npadding) * sizeof(float);
	t->params = aligned_alloc(TRAIN_ALIGN, (size / TRAIN_ALIGN + 1) * TRAIN_ALIGN);
	t->mean = calloc(t->nparams, sizeof(*t->mean));
	t->sgd.velocity = calloc(t->nparams, sizeof(*t->sgd.velocity));
	t->x = calloc(batch * shape_len(t->data.shape), sizeof(*t->x));
	t->labels = calloc(batch, sizeof(*t->labels));
	t->pick = calloc(batch, sizeof(*t->pick));
	if (!t->params || !t->mean || !t->sgd.velocity || !t->x || !t->labels || !t->pick)
		return -ENOMEM;
	memset(t->params, 0, size);
	memcpy(t->params, model_params(t->model), t->nparams * sizeof(float));
	model_set_params(t->model, t->params);
	return 0;
}

static int train_cut_shards(struct trainer *t, struct why *why)
{
	const struct shards_spec spec = {
		.kind = t->opt->shards,
		.alpha = t->opt->alpha,
		.seed = t->opt->seed,
		.rank = t->job.rank,
		.nranks = t->job.nranks,
		.batch = t->opt->batch,
	};
	int err = shards_create(&spec, &t->data.train, &t->shards, why);

	if (err)
		return err;
	t->steps = shards_steps(t->shards);
	if (t->opt->evals > t->steps)
		return why_set(why, -EINVAL, "--evals %d: an epoch has %d steps", t->opt->evals,
			       t->steps);
	if (t->opt->settle && t->opt->settle >= (int64_t)t->steps * t->opt->epochs)
		return why_set(why, -EINVAL, "--settle %d: the run has %lld steps", t->opt->settle,
			       (long long)t->steps * t->opt->epochs);
	return 0;
}

/* What this rank can do alone.  On error the reason goes to why. */
static int train_prepare(struct trainer *t, struct why *why)
{
	const struct options *opt = t->opt;
	int err;

	err = train_check(t, why);
	if (!err)
		err = data_load(opt->data, opt->limit, &t->data, why);
	if (!err)
		err = train_cut_shards(t, why);
	if (!err)
		err = pace_init(&t->pace, opt->straggler, 1e-3 * opt->step_time, opt->seed,
				t->job.rank, why);
	if (!err)
		err = pace_check(&t->pace, t->job.nranks, why);
	if (!err && opt->checkpoint)
		err = checkpoint_check(opt->checkpoint, why);
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
	t->until = -1;
	if (t->job.rank != 0)
		return 0;
	if (opt->replay) /* its file may be the one that the report is written to */
		err = logs_read_schedule(opt->replay, opt, t->job.nranks, &t->replay, why);
	return err ? err : report_create(opt, t->job.nranks, t->steps, &t->report, why);
}

/* What rank 0 has read. */
static int train_share_replay(struct trainer *t)
{
	struct schedule *s = &t->replay;
	int64_t count = s->count;
	int err;

	if (!t->opt->replay)
		return 0;
	err = gyre_broadcast(&count, 1, GYRE_INT64, 0, t->job.comm);
	if (err)
		return job_fail(&t->job, "schedule", err);
	if (!s->entries)
		s->entries = calloc((size_t)count, sizeof(*s->entries));
	s->count = (int)count;
	err = job_agree(&t->job, s->entries ? 0 : -ENOMEM, &(struct why){ "out of memory" });
	if (err)
		return err;
	err = gyre_broadcast(s->entries, (size_t)count * sizeof(*s->entries), GYRE_UINT8, 0,
			     t->job.comm);
	return err ? job_fail(&t->job, "schedule", err) : 0;
}

/* What the ranks do together before the first step. */
static int train_open(struct trainer *t)
{
	const struct method_env env = {
		.job = &t->job,
		.opt = t->opt,
		.params = t->params,
		.nparams = t->nparams,
		.npadding = t->npadding,
		.steps = t->steps,
		.replay = t->opt->replay ? &t->replay : NULL,
	};
	struct why why = { "" };
	int err = train_share_replay(t);

	if (err)
		return err;
	err = method_open(&env, &t->method);

	why_set(&why, err, "rank %d: --method %s: %s", t->job.rank, t->opt->method,
		gyre_strerror(err));
	err = job_agree(&t->job, err, &why);
	if (err)
		return err;
	model_set_grads(t->model, t->method->grads);
	if (t->opt->resume)
		err = trainer_load(t);
	if (!err && t->method->row->own_pace && t->job.nranks > 1)
		err = monitor_create(&t->job, t->step, &t->monitor);
	return err;
}

static void train_fini(struct trainer *t)
{
	monitor_destroy(t->monitor);
	method_close(t->method);
	report_destroy(t->report);
	free(t->pick);
	free(t->labels);
	free(t->x);
	free(t->sgd.velocity);
	free(t->mean);
	free(t->params);
	model_destroy(t->model);
	shards_destroy(t->shards);
	data_fini(&t->data);
	schedule_fini(&t->replay);
}

double trainer_epoch(const struct trainer *t)
{
	int64_t sum;

	if (!t->monitor)
		return (double)t->step / t->steps;
	sum = monitor_sum(t->monitor);
	return (double)sum / t->job.nranks / t->steps;
}

static void train_ready(void *arg, size_t first)
{
	struct method *m = arg;

	m->ops->ready(m, first);
}

static int train_step(struct trainer *t, double epoch)
{
	struct method *m = t->method;
	const double start = clock_seconds(), exposed = m->exposed;
	double took;
	int err;

	data_batch(&t->data, &t->data.train, shards_pick(t->shards, t->step), t->opt->batch, t->x,
		   t->labels);
	m->grads[t->nparams] = model_loss(t->model, t->x, t->labels, t->opt->batch);
	model_backward(t->model, train_ready, m);
	pace_sleep(pace_rest(&t->pace, t->step, clock_seconds() - start));
	err = m->ops->reduce(m);
	if (err)
		return job_fail(&t->job, "exchange of gradients", err);
	t->lr = sgd_lr(&t->sgd, fmin(epoch, t->opt->epochs));
	sgd_step(&t->sgd, t->lr, t->params, m->grads, t->nparams);
	err = m->ops->tick(m);
	if (err)
		return job_fail(&t->job, "exchange between steps", err);
	t->step++;
	t->since.steps++;
	t->since.loss += m->grads[t->nparams];
	took = clock_seconds() - start;
	t->since.seconds += took;
	if (t->step == (uint64_t)t->opt->settle)
		t->settled = (struct trainer_mark){ t->step, t->time + t->since.seconds,
						    m->blocked };
	pace_end(&t->pace, t->step - 1, took - (m->exposed - exposed));
	if (t->monitor)
		monitor_set(t->monitor, t->step);
	return 0;
}

/* At least one; until the next test is due, with a monitor by the steps of all ranks together. */
static int train_steps(struct trainer *t)
{
	const uint64_t evals = t->opt->evals;
	const double due = ceil((double)(t->ntested + 1) * t->steps / evals) / t->steps;
	double epoch = trainer_epoch(t);
	int err;

	do {
		err = train_step(t, epoch + 0.5 / t->steps);
		if (err)
			return err;
		epoch = trainer_epoch(t);
		if (epoch < 0)
			return job_fail(&t->job, "sum of steps", monitor_sum(t->monitor));
		report_schedule(t->report, &t->method->schedule);
		report_step(t->report, epoch, t->since.loss / t->since.steps);
	} while (epoch < due);
	return 0;
}

static int train_epochs(struct trainer *t)
{
	const uint64_t tests = (uint64_t)t->opt->epochs * t->opt->evals;
	int err = 0;

	report_start(t->report, t->nparams, t->data.train.count, t->data.test.count,
		     trainer_epoch(t));
	report_schedule(t->report, &t->method->schedule);
	while (!err && t->ntested < tests && t->until < 0) {
		err = train_steps(t);
		if (!err)
			err = trainer_test(t);
	}
	return err ? err : trainer_end(t);
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
	t.agreed = true;
	err = job_agree(&t.job, train_prepare(&t, &why), &why);
	if (!err)
		err = train_open(&t);
	if (!err) {
		t.agreed = false;
		err = train_epochs(&t);
	}
	/* Alone with an error: threads may wait for other ranks, which learn of it by the end. */
	if (err && !t.agreed)
		return err;
	train_fini(&t);
	job_close(&t.job);
	return err;
}
