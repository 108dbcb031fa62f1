/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method_sgp.c - stochastic gradient push (Assran, Loizou, Ballas, Rabbat, ICML 2019),
 * with a delay its overlapped form.  A rank has a numerator and a weight, and computes with their
 * quotient.  In a round it keeps half of both and sends half to one rank, by turns 1, 2, 4 ...
 * further on; what comes in is added delay steps later, at a fixed step, so a run can be repeated.
 *
 * A thread of its own starts the sends and waits for what comes; receives are posted a round ahead.
 * Round r is in slot r mod the number of slots of either side.
 * Locking: lock is over the counts; a slot is of the side whose turn it is by these. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench/train/clock.h"
#include "bench/train/method.h"

struct method_of_sgp {
	struct method base;
	struct gyre_comm *comm;
	size_t len; /* of a message: numerator, weight, padding */
	int nslots;
	float *memory, **out, **in;
	struct gyre_request **sends, **receives;
	float *numerator, *last; /* last: params after the last tick */
	float weight;
	uint64_t steps;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t posted, sent, wanted, arrived, merged; /* rounds */
	bool stop, running;
	int err; /* of the thread */
};

static struct method_of_sgp *to_sgp(struct method *m)
{
	return (struct method_of_sgp *)m;
}

/* How many ranks further the message of a round goes. */
static int sgp_hop(const struct method_of_sgp *s, uint64_t round)
{
	const int nranks = s->base.env.job->nranks;
	int hops = 1;

	while (1 << hops < nranks)
		hops++;
	return 1 << (round % hops);
}

static int sgp_peer(const struct method_of_sgp *s, uint64_t round, int direction)
{
	const int nranks = s->base.env.job->nranks;

	return (s->base.env.job->rank + direction * (sgp_hop(s, round) % nranks) + nranks) % nranks;
}

static int sgp_receive(struct method_of_sgp *s, uint64_t round)
{
	const int slot = round % s->nslots;

	return gyre_irecv(s->in[slot], s->len, GYRE_F32, sgp_peer(s, round, -1), 0, s->comm,
			  &s->receives[slot]);
}

/* Starts the send of a round; the receive of the next is posted before. */
static int sgp_send(struct method_of_sgp *s, uint64_t round)
{
	const int slot = round % s->nslots;
	int err = sgp_receive(s, round + 1);

	if (err)
		return err;
	return gyre_isend(s->out[slot], s->len, GYRE_F32, sgp_peer(s, round, 1), 0, s->comm,
			  &s->sends[slot]);
}

static int sgp_await(struct method_of_sgp *s, uint64_t round)
{
	const int slot = round % s->nslots;
	const int err = gyre_request_wait(&s->receives[slot], NULL);

	return err ? err : gyre_request_wait(&s->sends[slot], NULL);
}

/*
 * Sends go first.  One that is posted while this waits for round r could only be of a later tick,
 * and that tick itself waits for r.
 */
static void *sgp_main(void *arg)
{
	struct method_of_sgp *s = arg;
	uint64_t round;
	bool send;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	while (!err) {
		while (!s->stop && s->sent == s->posted && s->arrived >= s->wanted)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->stop)
			break;
		send = s->sent < s->posted;
		round = send ? s->sent++ : s->arrived;
		pthread_mutex_unlock(&s->lock);
		err = send ? sgp_send(s, round) : sgp_await(s, round);
		pthread_mutex_lock(&s->lock);
		s->arrived += !send;
		pthread_cond_broadcast(&s->changed);
	}
	s->err = err;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int sgp_start(struct method_of_sgp *s)
{
	int err = sgp_receive(s, s->posted);

	s->sent = s->posted;
	if (err)
		return err;
	err = -pthread_create(&s->thread, NULL, sgp_main, s);
	s->running = !err;
	return err;
}

static int sgp_alloc(struct method_of_sgp *s)
{
	const size_t nparams = s->base.env.nparams, len = s->len;
	float *at;
	int i;

	s->memory = calloc(2 * s->nslots * len + 3 * nparams + 1, sizeof(float));
	s->out = calloc(s->nslots, sizeof(*s->out));
	s->in = calloc(s->nslots, sizeof(*s->in));
	s->sends = calloc(s->nslots, sizeof(*s->sends));
	s->receives = calloc(s->nslots, sizeof(*s->receives));
	if (!s->memory || !s->out || !s->in || !s->sends || !s->receives)
		return -ENOMEM;
	at = s->memory;
	for (i = 0; i < s->nslots; i++, at += 2 * len) {
		s->out[i] = at;
		s->in[i] = at + len;
	}
	s->numerator = at;
	s->last = at + nparams;
	s->base.grads = at + 2 * nparams;
	return 0;
}

static void sgp_free(struct method_of_sgp *s)
{
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s->receives);
	free(s->sends);
	free(s->in);
	free(s->out);
	free(s->memory);
}

static int sgp_open(struct method *m)
{
	struct method_of_sgp *s = to_sgp(m);
	size_t i;
	int err;

	s->len = m->env.nparams + 1 + m->env.npadding;
	s->nslots = m->env.opt->delay / m->env.opt->period + 2; /* as many rounds, and one ahead */
	s->weight = 1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	err = method_agree(m, sgp_alloc(s));
	if (!err)
		err = gyre_comm_split(m->env.job->comm, 0, 0, &s->comm);
	if (err) {
		sgp_free(s);
		return err;
	}
	for (i = 0; i < m->env.nparams; i++)
		s->numerator[i] = s->last[i] = m->env.params[i];
	return 0;
}

/* Waits until a round is here, and adds it. */
static int sgp_merge(struct method_of_sgp *s)
{
	const double start = clock_seconds();
	const size_t nparams = s->base.env.nparams;
	const float *in = s->in[s->merged % s->nslots];
	size_t i;
	int err;

	pthread_mutex_lock(&s->lock);
	s->wanted = s->merged + 1;
	pthread_cond_broadcast(&s->changed);
	while (!s->err && s->arrived < s->wanted)
		pthread_cond_wait(&s->changed, &s->lock);
	err = s->err;
	pthread_mutex_unlock(&s->lock);
	s->base.blocked += clock_seconds() - start;
	if (err)
		return err;
	for (i = 0; i < nparams; i++)
		s->numerator[i] += in[i];
	s->weight += in[nparams];
	s->merged++;
	return 0;
}

static void sgp_post(struct method_of_sgp *s)
{
	const size_t nparams = s->base.env.nparams;
	float *out = s->out[s->posted % s->nslots];
	size_t i;

	for (i = 0; i < nparams; i++)
		out[i] = s->numerator[i] *= 0.5f;
	out[nparams] = s->weight *= 0.5f;
	s->base.bytes += s->len * sizeof(*out);
	pthread_mutex_lock(&s->lock);
	s->posted++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* The optimizer has moved the quotient: the numerator goes with it. */
static void sgp_take_progress(struct method_of_sgp *s)
{
	const float *params = s->base.env.params;
	size_t i;

	for (i = 0; i < s->base.env.nparams; i++)
		s->numerator[i] += params[i] - s->last[i];
}

static void sgp_divide(struct method_of_sgp *s)
{
	const float share = 1 / s->weight;
	float *params = s->base.env.params;
	size_t i;

	for (i = 0; i < s->base.env.nparams; i++)
		params[i] = s->last[i] = s->numerator[i] * share;
}

/* Rounds posted by a step. */
static uint64_t sgp_due(const struct method_of_sgp *s, uint64_t step)
{
	return step / s->base.env.opt->period;
}

static int sgp_tick(struct method *m)
{
	const double start = clock_seconds();
	struct method_of_sgp *s = to_sgp(m);
	const uint64_t delay = m->env.opt->delay;
	int err = 0;

	s->steps++;
	if (m->env.job->nranks == 1)
		return 0;
	if (!s->running)
		err = sgp_start(s);
	sgp_take_progress(s);
	if (sgp_due(s, s->steps) > s->posted)
		sgp_post(s);
	while (!err && s->steps > delay && s->merged < sgp_due(s, s->steps - delay))
		err = sgp_merge(s);
	sgp_divide(s);
	m->exposed += clock_seconds() - start;
	return err;
}

/* Every rank has posted as many rounds, so all that are in flight arrive. */
static int sgp_finish(struct method *m)
{
	struct method_of_sgp *s = to_sgp(m);
	int err = 0;

	if (m->env.job->nranks == 1)
		return 0;
	while (!err && s->merged < s->posted)
		err = sgp_merge(s);
	sgp_divide(s);
	return err ? err : method_average(m);
}

/* What is in flight arrives, and is saved as it is. */
static int sgp_save(struct method *m, method_write_fn write, void *arg)
{
	struct method_of_sgp *s = to_sgp(m);
	const uint64_t counts[3] = { s->steps, s->posted, s->merged };
	uint64_t round;
	int err;

	pthread_mutex_lock(&s->lock);
	s->wanted = s->posted;
	pthread_cond_broadcast(&s->changed);
	while (!s->err && s->arrived < s->wanted)
		pthread_cond_wait(&s->changed, &s->lock);
	err = s->err;
	pthread_mutex_unlock(&s->lock);
	if (!err)
		err = write(arg, counts, sizeof(counts));
	if (!err)
		err = write(arg, &s->weight, sizeof(s->weight));
	if (!err)
		err = write(arg, s->numerator, m->env.nparams * sizeof(float));
	for (round = s->merged; !err && round < s->posted; round++)
		err = write(arg, s->in[round % s->nslots], (m->env.nparams + 1) * sizeof(float));
	return err;
}

static int sgp_load(struct method *m, method_read_fn read, void *arg)
{
	struct method_of_sgp *s = to_sgp(m);
	uint64_t counts[3], round;
	int err = read(arg, counts, sizeof(counts));
	size_t i;

	if (!err)
		err = read(arg, &s->weight, sizeof(s->weight));
	if (!err)
		err = read(arg, s->numerator, m->env.nparams * sizeof(float));
	if (err)
		return err;
	if (counts[2] > counts[1] || counts[1] - counts[2] >= (uint64_t)s->nslots)
		return -EBADMSG;
	s->steps = counts[0];
	s->posted = s->arrived = s->wanted = counts[1];
	s->merged = counts[2];
	for (round = s->merged; !err && round < s->posted; round++)
		err = read(arg, s->in[round % s->nslots], (m->env.nparams + 1) * sizeof(float));
	for (i = 0; i < m->env.nparams; i++)
		s->last[i] = m->env.params[i];
	return err;
}

/* Something for the receive that is ahead: no communicator is left with one. */
static void sgp_part(struct method_of_sgp *s)
{
	gyre_send(s->memory, 0, GYRE_F32, sgp_peer(s, s->posted, 1), 0, s->comm);
	gyre_request_wait(&s->receives[s->posted % s->nslots], NULL);
}

/* The thread is idle between ticks, or has failed, and with it the communicator. */
static void sgp_close(struct method *m)
{
	struct method_of_sgp *s = to_sgp(m);

	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->running) {
		pthread_join(s->thread, NULL);
		sgp_part(s);
	}
	gyre_comm_destroy(s->comm);
	gyre_request_waitall(s->nslots, s->receives, NULL);
	gyre_request_waitall(s->nslots, s->sends, NULL);
	sgp_free(s);
}

const struct method_ops method_sgp = {
	.size = sizeof(struct method_of_sgp),
	.open = sgp_open,
	.ready = method_no_ready,
	.reduce = method_nothing,
	.tick = sgp_tick,
	.pause = method_nothing,
	.resume = method_no_resume,
	.finish = sgp_finish,
	.save = sgp_save,
	.load = sgp_load,
	.close = sgp_close,
};
