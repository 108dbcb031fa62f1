/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/train-save.c - a run's checkpoints: written by each rank between two steps, while all
 * ranks pause; read before the first step. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/train/checkpoint.h"
#include "bench/train/trainer.h"

struct save_state {
	uint64_t step, ntested, bytes;
	double time, until, exposed, blocked;
	struct trainer_mark settled;
};

/* What has to be the same for a run to go on as it would have. */
static void save_head(const struct trainer *t, uint64_t number, struct checkpoint_head *head)
{
	const struct options *o = t->opt;

	memset(head, 0, sizeof(*head));
	head->number = number;
	snprintf(head->id, sizeof(head->id),
		 "%s %d ranks x %d %s delay %d period %d outer %g %g weights %s switch %g seed "
		 "%d shards %s %g images %zu lr %g %s warmup %g epochs %d evals %d momentum %g%s "
		 "decay %g padding %zu fragments %d adapt %s replay %s settle %d",
		 o->model, t->job.nranks, o->batch, o->method, o->delay, o->period, o->outer_lr,
		 o->outer_momentum, o->weights, o->switch_epoch, o->seed, o->shards, o->alpha,
		 t->data.train.count, o->lr, o->schedule, o->warmup, o->epochs, o->evals,
		 o->momentum, o->nesterov ? " nesterov" : "", o->weight_decay, t->npadding,
		 o->fragments, o->adapt ? o->adapt : "-", o->replay ? o->replay : "-", o->settle);
}

static int save_write(const struct trainer *t, struct checkpoint *c)
{
	const struct method *m = t->method;
	const struct save_state state = { t->step,  t->ntested, m->bytes,   t->time,
					  t->until, m->exposed, m->blocked, t->settled };
	const size_t size = t->nparams * sizeof(float);

	checkpoint_write(c, &state, sizeof(state)); /* errors are kept */
	checkpoint_write(c, t->params, size + t->npadding * sizeof(float));
	checkpoint_write(c, t->sgd.velocity, size);
	return m->ops->save(t->method, checkpoint_write, c);
}

int trainer_save(struct trainer *t)
{
	struct checkpoint_head head;
	struct checkpoint *c;
	struct why why = { "" };
	int err;

	save_head(t, t->ntested, &head);
	err = checkpoint_create(t->opt->checkpoint, t->job.rank, &head, &c);
	if (!err)
		err = checkpoint_close(c, save_write(t, c));
	if (err)			/* of the library, ENOSPC is shared memory */
		why_set(&why, err, "checkpoint %s of rank %d: %s", t->opt->checkpoint, t->job.rank,
			err == -ENOSPC ? strerror(ENOSPC) : gyre_strerror(err));
	err = job_agree(&t->job, err, &why);
	t->agreed = err;
	return err;
}

/* The latest that all ranks have. */
static int save_find(struct trainer *t, uint64_t *number)
{
	*number = checkpoint_latest(t->opt->checkpoint, t->job.rank);
	return gyre_allreduce(GYRE_IN_PLACE, number, 1, GYRE_UINT64, GYRE_MIN, t->job.comm);
}

static int save_read(struct trainer *t, struct checkpoint *c)
{
	const size_t size = t->nparams * sizeof(float);
	struct save_state state;
	int err;

	checkpoint_read(c, &state, sizeof(state)); /* errors are kept */
	checkpoint_read(c, t->params, size + t->npadding * sizeof(float));
	err = checkpoint_read(c, t->sgd.velocity, size);
	if (err)
		return err;
	t->step = state.step;
	t->ntested = state.ntested;
	t->time = state.time;
	t->settled = state.settled;
	t->until = t->opt->until > 0 ? state.until : -1;
	t->method->bytes = state.bytes;
	t->method->exposed = t->since.exposed = state.exposed;
	t->method->blocked = t->since.blocked = state.blocked;
	return 0;
}

int trainer_load(struct trainer *t)
{
	struct checkpoint_head head;
	struct checkpoint *c = NULL;
	struct why why = { "" };
	uint64_t number;
	int err = save_find(t, &number);

	if (err)
		return job_fail(&t->job, "search for checkpoints", err);
	save_head(t, number, &head);
	err = number ? checkpoint_open(t->opt->checkpoint, t->job.rank, &head, &c, &why)
		     : why_set(&why, -ENOENT, "--resume: not all ranks have a checkpoint %s",
			       t->opt->checkpoint);
	if (!err) {
		err = save_read(t, c);
		why_set(&why, err, "checkpoint %s of rank %d is shorter than it should be",
			t->opt->checkpoint, t->job.rank);
	}
	err = job_agree(&t->job, err, &why);
	if (!err) {
		err = t->method->ops->load(t->method, checkpoint_read, c);
		why_set(&why, err, "checkpoint %s of rank %d: %s", t->opt->checkpoint, t->job.rank,
			gyre_strerror(err));
		err = job_agree(&t->job, err, &why);
	}
	if (c)
		checkpoint_close(c, 0);
	return err;
}
