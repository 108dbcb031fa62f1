/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H
/* What train.c (steps), train-test.c (tests) and train-save.c (checkpoints) share: a run. */
#include "bench/train/data.h"
#include "bench/train/method.h"
#include "bench/train/model.h"
#include "bench/train/monitor.h"
#include "bench/train/pace.h"
#include "bench/train/report.h"
#include "bench/train/sgd.h"
#include "bench/train/shards.h"

/* Sums since the last test, of this rank. */
struct trainer_sums {
	double seconds, loss;
	double exposed, blocked; /* the method's counts then */
	uint64_t steps;
};

/* How far it was after the steps of --settle. */
struct trainer_mark {
	uint64_t step;
	double time, blocked;
};

struct trainer {
	const struct options *opt;
	struct job job;
	struct data data;
	struct shards *shards;
	struct pace pace;
	struct model *model;
	float *params; /* the model's, and padding */
	size_t nparams, npadding;
	struct sgd sgd;
	struct method *method;
	struct monitor *monitor; /* NULL: all ranks take the same steps */
	struct report *report;
	int steps; /* of an epoch */

	uint64_t step;	  /* this rank's, so far */
	uint64_t ntested; /* tests so far */
	double time;	  /* of training before the last test */
	double until;	  /* time when --until was reached; < 0: not yet */
	double lr;	  /* of the last step */
	struct trainer_sums since;
	struct trainer_mark settled;
	struct schedule replay; /* of --replay */
	bool agreed; /* the error that ends the run is that of all ranks */

	float *mean; /* the ranks' mean model */
	float *x;    /* a batch */
	uint8_t *labels;
	uint32_t *pick;
};

/* Epochs that all ranks together have done; < 0: error. */
double trainer_epoch(const struct trainer *t);

/* Collective: a test, and what belongs to it. */
int trainer_test(struct trainer *t);
/* Collective: the result of the run, of a model that is the same on all ranks. */
int trainer_end(struct trainer *t);

/* Collective. */
int trainer_save(struct trainer *t);
int trainer_load(struct trainer *t);

#endif
