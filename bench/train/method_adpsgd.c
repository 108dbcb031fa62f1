/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method_adpsgd.c - asynchronous decentralised SGD (Lian, Zhang, Zhang, Liu, ICML
 * 2018).  Each rank has a model that its training thread adds its progress to, and that its gossip
 * thread averages with others' meanwhile.  Only even ranks ask, only odd ones answer, so nobody can
 * wait in a circle.  After every period steps an even rank asks a random odd one, and they send
 * their models a and b to each other at the same time, a as it is when it asks, b when it is asked.
 * Both go half of the way, b += (a - b) / 2 there, a += (b - a) / 2 here, which keeps the sum of
 * all models.  Steps taken in between are kept.
 * Receives for answers are posted before the question, those for questions two ahead.
 * Locking: lock is over the model and the flags. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/clock.h"
#include "bench/train/method.h"
#include "bench/train/rng.h"

#define ADPSGD_STREAM (1ull << 42) /* of random numbers: far from those of epochs */

enum { ADPSGD_ASK, ADPSGD_MODEL };

struct method_of_adpsgd {
	struct method base;
	struct gyre_comm *comm;
	size_t len;	      /* of a message: model, padding */
	float *memory;
	float *out, *in;
	float questions[2]; /* received; what they say is their length */
	float *model, *last; /* last: params after the last tick */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t steps, asked; /* asked: steps at the last question */
	uint64_t sent;	       /* bytes, by the thread */
	bool running, paused, busy, stop;
	int err; /* of the thread */
};

static struct method_of_adpsgd *to_adpsgd(struct method *m)
{
	return (struct method_of_adpsgd *)m;
}

/* Half of the way to theirs, from mine, the model when it was given to them. */
static void adpsgd_meet(struct method_of_adpsgd *a, const float *theirs, const float *mine)
{
	size_t i;

	for (i = 0; i < a->base.env.nparams; i++)
		a->model[i] += 0.5f * (theirs[i] - mine[i]);
}

/* False: the run is over. */
static bool adpsgd_wait_turn(struct method_of_adpsgd *a)
{
	bool go;

	pthread_mutex_lock(&a->lock);
	a->busy = false;
	pthread_cond_broadcast(&a->changed);
	while (!a->stop && (a->paused || a->steps - a->asked < (uint64_t)a->base.env.opt->period))
		pthread_cond_wait(&a->changed, &a->lock);
	go = !a->stop;
	a->busy = go;
	a->asked = a->steps;
	memcpy(a->out, a->model, a->base.env.nparams * sizeof(*a->out));
	pthread_mutex_unlock(&a->lock);
	return go;
}

/* out to the peer while its model comes into in; then the model goes half of the way. */
static int adpsgd_exchange(struct method_of_adpsgd *a, int peer, bool asks)
{
	static const float question = 1;
	struct gyre_request *theirs;
	int err, failed;

	err = gyre_irecv(a->in, a->len, GYRE_F32, peer, ADPSGD_MODEL, a->comm, &theirs);
	if (err)
		return err;
	if (asks)
		err = gyre_send(&question, 1, GYRE_F32, peer, ADPSGD_ASK, a->comm);
	if (!err)
		err = gyre_send(a->out, a->len, GYRE_F32, peer, ADPSGD_MODEL, a->comm);
	failed = gyre_request_wait(&theirs, NULL); /* after an error: with the communicator */
	if (err || failed)
		return err ? err : failed;
	pthread_mutex_lock(&a->lock);
	adpsgd_meet(a, a->in, a->out);
	a->sent += a->len * sizeof(*a->out);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

/* An empty question says that there will be no more. */
static int adpsgd_ask_all(struct method_of_adpsgd *a)
{
	const int nranks = a->base.env.job->nranks;
	struct rng rng;
	int err = 0, peer;

	rng_init(&rng, a->base.env.opt->seed, ADPSGD_STREAM + a->base.env.job->rank);
	while (!err && adpsgd_wait_turn(a))
		err = adpsgd_exchange(a, 2 * rng_below(&rng, nranks / 2) + 1, true);
	for (peer = 1; !err && peer < nranks; peer += 2)
		err = gyre_send(a->out, 0, GYRE_F32, peer, ADPSGD_ASK, a->comm);
	return err;
}

static int adpsgd_answer(struct method_of_adpsgd *a, int peer)
{
	pthread_mutex_lock(&a->lock);
	memcpy(a->out, a->model, a->base.env.nparams * sizeof(*a->out));
	pthread_mutex_unlock(&a->lock);
	return adpsgd_exchange(a, peer, false);
}

static int adpsgd_listen(struct method_of_adpsgd *a, int i, struct gyre_request **question)
{
	return gyre_irecv(&a->questions[i], 1, GYRE_F32, GYRE_ANY_SOURCE, ADPSGD_ASK, a->comm,
			  question);
}

/* Each rank that asks sends one message more, at least: no more receives than that are posted. */
static int adpsgd_answer_all(struct method_of_adpsgd *a)
{
	struct gyre_request *questions[2] = { NULL, NULL };
	int asking = (a->base.env.job->nranks + 1) / 2, i, err;
	struct gyre_status status;

	err = adpsgd_listen(a, 0, &questions[0]);
	if (!err && asking > 1)
		err = adpsgd_listen(a, 1, &questions[1]);
	for (i = 0; !err && asking; i = questions[!i] ? !i : i) {
		err = gyre_request_wait(&questions[i], &status);
		if (!err && status.count)
			err = adpsgd_answer(a, status.source);
		asking -= !err && !status.count;
		if (!err && asking > (questions[!i] != NULL))
			err = adpsgd_listen(a, i, &questions[i]);
	}
	gyre_request_waitall(2, questions, NULL); /* an error has ended them all */
	return err;
}

static void *adpsgd_main(void *arg)
{
	struct method_of_adpsgd *a = arg;
	int err;

	if (a->base.env.job->rank % 2 == 0)
		err = adpsgd_ask_all(a);
	else
		err = adpsgd_answer_all(a);
	if (!err)
		err = gyre_barrier(a->comm); /* nobody leaves while another listens */
	pthread_mutex_lock(&a->lock);
	a->err = err;
	a->busy = false;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static int adpsgd_alloc(struct method_of_adpsgd *a)
{
	const size_t nparams = a->base.env.nparams;

	a->memory = calloc(2 * a->len + 3 * nparams + 1, sizeof(float));
	if (!a->memory)
		return -ENOMEM;
	a->out = a->memory;
	a->in = a->out + a->len;
	a->model = a->in + a->len;
	a->last = a->model + nparams;
	a->base.grads = a->last + nparams;
	return 0;
}

static int adpsgd_open(struct method *m)
{
	const size_t size = m->env.nparams * sizeof(float);
	struct method_of_adpsgd *a = to_adpsgd(m);
	int err;

	a->len = m->env.nparams + m->env.npadding;
	err = method_agree(m, adpsgd_alloc(a));
	if (!err)
		err = gyre_comm_split(m->env.job->comm, 0, 0, &a->comm);
	if (err) {
		free(a->memory);
		return err;
	}
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	memcpy(a->model, m->env.params, size);
	memcpy(a->last, m->env.params, size);
	return 0;
}

/* The first tick: load may have changed the model before. */
static int adpsgd_start(struct method_of_adpsgd *a)
{
	int err = 0;

	if (!a->running)
		err = -pthread_create(&a->thread, NULL, adpsgd_main, a);
	a->running = !err;
	return err;
}

static void adpsgd_take(struct method_of_adpsgd *a)
{
	const size_t size = a->base.env.nparams * sizeof(float);

	memcpy(a->base.env.params, a->model, size);
	memcpy(a->last, a->model, size);
}

static int adpsgd_tick(struct method *m)
{
	const double start = clock_seconds();
	struct method_of_adpsgd *a = to_adpsgd(m);
	size_t i;
	int err;

	if (m->env.job->nranks == 1)
		return 0;
	err = adpsgd_start(a);
	if (err)
		return err;
	pthread_mutex_lock(&a->lock);
	m->blocked += clock_seconds() - start;
	for (i = 0; i < m->env.nparams; i++)
		a->model[i] += m->env.params[i] - a->last[i];
	adpsgd_take(a);
	a->steps++;
	m->bytes = a->sent;
	err = a->err;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	m->exposed += clock_seconds() - start;
	return err;
}

/* When no rank asks any more, no answer is under way. */
static int adpsgd_pause(struct method *m)
{
	struct method_of_adpsgd *a = to_adpsgd(m);
	int err;

	if (m->env.job->nranks == 1)
		return 0;
	pthread_mutex_lock(&a->lock);
	a->paused = true;
	while (a->busy)
		pthread_cond_wait(&a->changed, &a->lock);
	err = a->err;
	pthread_mutex_unlock(&a->lock);
	if (!err)
		err = gyre_barrier(m->env.job->comm);
	if (err)
		return err;
	pthread_mutex_lock(&a->lock);
	adpsgd_take(a);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

static void adpsgd_resume(struct method *m)
{
	struct method_of_adpsgd *a = to_adpsgd(m);

	pthread_mutex_lock(&a->lock);
	a->paused = false;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static int adpsgd_finish(struct method *m)
{
	int err = adpsgd_pause(m);

	return err ? err : method_average(m);
}

static int adpsgd_load(struct method *m, method_read_fn read, void *arg)
{
	struct method_of_adpsgd *a = to_adpsgd(m);
	const size_t size = m->env.nparams * sizeof(float);

	memcpy(a->model, m->env.params, size);
	memcpy(a->last, m->env.params, size);
	return 0;
}

static void adpsgd_close(struct method *m)
{
	struct method_of_adpsgd *a = to_adpsgd(m);

	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	if (a->running)
		pthread_join(a->thread, NULL);
	gyre_comm_destroy(a->comm);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a->memory);
}

const struct method_ops method_adpsgd = {
	.size = sizeof(struct method_of_adpsgd),
	.open = adpsgd_open,
	.ready = method_no_ready,
	.reduce = method_nothing,
	.tick = adpsgd_tick,
	.pause = adpsgd_pause,
	.resume = adpsgd_resume,
	.finish = adpsgd_finish,
	.save = method_no_save,
	.load = adpsgd_load,
	.close = adpsgd_close,
};
