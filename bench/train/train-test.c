/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/train-test.c - tests, outside of the run's time.
 * Tested is the mean of the ranks' models, each rank doing its share of the images; with
 * synchronous SGD all models are this mean. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "bench/train/trainer.h"

/* This rank's share of the test images. */
static double test_count_correct(struct trainer *t)
{
	const size_t count = t->data.test.count;
	const uint32_t end = count * (t->job.rank + 1) / t->job.nranks;
	uint32_t at = count * t->job.rank / t->job.nranks;
	double correct = 0;
	int n;

	while (at < end) {
		for (n = 0; n < t->opt->batch && at < end; n++)
			t->pick[n] = at++;
		data_batch(&t->data, &t->data.test, t->pick, n, t->x, t->labels);
		correct += model_count_correct(t->model, t->x, t->labels, n);
	}
	return correct;
}

static bool test_models_are_equal(const struct trainer *t)
{
	return t->method->ops == &method_sync;
}

/* How many images the ranks' mean recognises of this rank's share. */
static int test_mean(struct trainer *t, double *correct)
{
	int err;

	if (test_models_are_equal(t)) {
		*correct = test_count_correct(t);
		return 0;
	}
	memcpy(t->mean, t->params, t->nparams * sizeof(float));
	err = gyre_allreduce(GYRE_IN_PLACE, t->mean, t->nparams, GYRE_F32, GYRE_AVG, t->job.comm);
	if (err)
		return err;
	model_set_params(t->model, t->mean);
	*correct = test_count_correct(t);
	model_set_params(t->model, t->params);
	return 0;
}

/*
 * Where the method makes models equal they are so to the bit.  If they are not, a sum was wrong or
 * the ranks' processors round differently, and what follows is another algorithm.
 */
static int test_check_equal(struct trainer *t, uint32_t *crc)
{
	uint32_t mine[2], largest[2];
	int err;

	*crc = crc32_z(0, (const void *)t->params, t->nparams * sizeof(float));
	mine[0] = *crc;
	mine[1] = ~*crc;
	err = gyre_allreduce(mine, largest, 2, GYRE_UINT32, GYRE_MAX, t->job.comm);
	if (err)
		return job_fail(&t->job, "comparison of the models", err);
	if (largest[0] == ~largest[1])
		return 0;
	if (t->job.rank == 0)
		fprintf(stderr, "gyre-train: the ranks' models are no longer equal\n");
	t->agreed = true;
	return -EILSEQ;
}

enum { SUM_SECONDS, SUM_LOSS, SUM_EXPOSED, SUM_BLOCKED, SUM_STEPS, SUM_BYTES, SUM_CORRECT, NSUMS };

/* Of all ranks: what each has counted since the last test. */
static int test_sum(struct trainer *t, double correct, double sums[NSUMS])
{
	const struct trainer_sums *s = &t->since;
	const double mine[NSUMS] = {
		[SUM_SECONDS] = s->seconds,
		[SUM_LOSS] = s->loss,
		[SUM_EXPOSED] = t->method->exposed - s->exposed,
		[SUM_BLOCKED] = t->method->blocked - s->blocked,
		[SUM_STEPS] = s->steps,
		[SUM_BYTES] = t->method->bytes,
		[SUM_CORRECT] = correct,
	};

	return gyre_allreduce(mine, sums, NSUMS, GYRE_F64, GYRE_SUM, t->job.comm);
}

static struct point test_point(const struct trainer *t, const double sums[NSUMS])
{
	const double steps = fmax(1, sums[SUM_STEPS]), nranks = t->job.nranks;
	const double seconds = sums[SUM_SECONDS] / nranks;

	return (struct point){
		.epoch = trainer_epoch(t),
		.time = t->time,
		.loss = sums[SUM_LOSS] / steps,
		.accuracy = sums[SUM_CORRECT] / t->data.test.count,
		.lr = t->lr,
		.seconds = seconds,
		.images_per_s = sums[SUM_STEPS] * t->opt->batch / seconds,
		.steps_per_s = sums[SUM_STEPS] / seconds,
		.compute_ms = 1e3 * (sums[SUM_SECONDS] - sums[SUM_EXPOSED]) / steps,
		.exposed_ms = 1e3 * sums[SUM_EXPOSED] / steps,
		.blocked_ms = 1e3 * sums[SUM_BLOCKED] / steps,
		.megabytes = 1e-6 * sums[SUM_BYTES] / nranks,
	};
}

int trainer_test(struct trainer *t)
{
	double correct = 0, sums[NSUMS];
	struct point p;
	uint32_t crc;
	int err;

	t->time += t->since.seconds;
	t->ntested++;
	err = t->method->ops->pause(t->method);
	if (!err)
		err = test_mean(t, &correct);
	if (!err)
		err = test_sum(t, correct, sums);
	if (err)
		return job_fail(&t->job, "test", err);
	p = test_point(t, sums);
	if (!isfinite(p.loss)) {
		if (t->job.rank == 0)
			fprintf(stderr, "gyre-train: the loss is no longer finite; "
					"try a smaller --lr\n");
		t->agreed = true;
		return -ERANGE;
	}
	if (t->until < 0 && t->opt->until > 0 && p.accuracy >= t->opt->until)
		t->until = t->time;
	report_point(t->report, &p);
	err = test_models_are_equal(t) ? test_check_equal(t, &crc) : 0;
	if (!err && t->opt->checkpoint)
		err = trainer_save(t);
	t->method->ops->resume(t->method);
	t->since = (struct trainer_sums){ .exposed = t->method->exposed,
					  .blocked = t->method->blocked };
	return err;
}

/*
 * Of the steps after --settle.  Each rank divides by its own time since its own mark: ranks at
 * their own pace get there at different times.  One that did not has no rates, so all have none.
 */
static int test_rates(struct trainer *t, struct report_end *end)
{
	const double time = t->time - t->settled.time, nranks = t->job.nranks;
	const bool settled = t->step > (uint64_t)t->opt->settle;
	const double mine[2] = {
		settled ? (double)(t->step - t->settled.step) / time : 0,
		settled ? (t->method->blocked - t->settled.blocked) / time : 0,
	};
	int64_t fewest = (int64_t)t->step * t->job.nranks + t->job.rank;
	double sums[2];
	int err;

	err = gyre_allreduce(mine, sums, 2, GYRE_F64, GYRE_SUM, t->job.comm);
	if (!err)
		err = gyre_allreduce(GYRE_IN_PLACE, &fewest, 1, GYRE_INT64, GYRE_MIN, t->job.comm);
	if (err)
		return job_fail(&t->job, "rates", err);
	end->slowest = (int)(fewest % t->job.nranks);
	end->fewest_steps = fewest / t->job.nranks;
	end->has_rates = end->fewest_steps > t->opt->settle;
	end->steps_per_s = sums[0];
	end->blocked_share = sums[1] / nranks;
	return 0;
}

int trainer_end(struct trainer *t)
{
	struct report_end end = { .epoch = trainer_epoch(t), .until = t->until };
	double mine[2], sums[2];
	int err;

	err = test_rates(t, &end); /* without what the method does at the end, as time is */
	if (err)
		return err;
	err = t->method->ops->finish(t->method);
	if (err)
		return job_fail(&t->job, "average at the end", err);
	err = test_check_equal(t, &end.crc);
	if (err)
		return err;
	mine[0] = test_count_correct(t);
	mine[1] = t->method->bytes;
	err = gyre_allreduce(mine, sums, 2, GYRE_F64, GYRE_SUM, t->job.comm);
	if (err)
		return job_fail(&t->job, "test", err);
	end.time = t->time;
	end.accuracy = sums[0] / t->data.test.count;
	end.megabytes = 1e-6 * sums[1] / t->job.nranks;
	return report_finish(t->report, &end);
}
