/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_request.c - requests and communicators at their limits, in the simulator: left
 * outstanding, after a failure, too many, out of order, without their communicator, from several
 * threads, with a rank that is expelled, or short of memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/context.h"
#include "lib/peer.h"
#include "tests/multi/faults.h"
#include "transports/sim/sim.h"

#define MS 1000000ull
#define MAX_RUNS 256		/* GY_MAX_RUNS */
#define LARGE 30000
#define THREADS 3
#define N 12			/* requests that end out of order */
#define PROMPT_NS (15 * MS)	/* the engine's tick is 20 ms: what takes longer has overslept */

struct requests {
	uint64_t seed;
	int nranks;
	bool manual;
	struct gyre_context *ctx[FAULTS_MAX_RANKS];
	struct gyre_comm *comms[FAULTS_MAX_RANKS][THREADS];
	float *memory[FAULTS_MAX_RANKS];
	unsigned over, threads_over[FAULTS_MAX_RANKS], next_thread[FAULTS_MAX_RANKS];
	char why[300];
};

/* Notes what went wrong first. */
static int requests_fail(struct requests *q, int rank, const char *what, int err)
{
	if (!q->why[0])
		snprintf(q->why, sizeof(q->why), "rank %d: %s: %s", rank, what, gyre_strerror(err));
	return -EBADMSG;
}

#define EXPECT(q, me, cond, err)                                                                 \
	do {                                                                                     \
		if (!(cond))                                                                     \
			requests_fail(q, me, #cond, err);                                        \
	} while (0)

static bool all_are(const float *p, size_t n, float value)
{
	for (; n && *p == value; n--)
		p++;
	return !n;
}

/* ---- cases: all ranks run them ---- */

/* A rank leaves with everything outstanding; its memory is its own again. */
static void case_leave(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	const int next = (me + 1) % q->nranks, prev = (me + q->nranks - 1) % q->nranks;
	struct gyre_request *reqs[6] = { NULL };
	float *m = q->memory[me];
	int err = 0;

	err |= gyre_iallreduce(m, m + LARGE, LARGE, GYRE_F32, GYRE_SUM, world, &reqs[0]);
	err |= gyre_iallreduce(m, m + 2 * LARGE, 2, GYRE_F32, GYRE_SUM, world, &reqs[1]);
	err |= gyre_irecv(m + 3 * LARGE, LARGE, GYRE_F32, prev, 1, world, &reqs[2]);
	err |= gyre_isend(m, LARGE, GYRE_F32, next, 2, world, &reqs[3]);
	err |= gyre_isend(m, 4, GYRE_F32, me, 3, world, &reqs[4]);
	err |= gyre_recv_init(m + 3 * LARGE, 4, GYRE_F32, GYRE_ANY_SOURCE, 4, world, &reqs[5]);
	EXPECT(q, me, !err, err);
	gy_sim_sleep(rank, gy_sim_random(rank) % (q->seed % 2 ? 100000 : 20 * MS));
	gyre_context_destroy(q->ctx[me]);
	free(m);
	q->memory[me] = NULL;
	q->ctx[me] = NULL;
}

/* Rank 0 dies: what is outstanding ends, what comes later does not start. */
static void case_failure(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	struct gyre_request *reqs[4] = { NULL }, *kept = NULL, *none = NULL;
	float *m = q->memory[me];
	int err = 0, done = 0, i;

	err |= gyre_allreduce_init(m, m + 3 * LARGE, 8, GYRE_F32, GYRE_SUM, world, &kept);
	err |= gyre_iallreduce(m, m + LARGE, LARGE, GYRE_F32, GYRE_SUM, world, &reqs[0]);
	err |= gyre_ibroadcast(m + 2 * LARGE, LARGE, GYRE_F32, 0, world, &reqs[1]);
	err |= gyre_irecv(m, 4, GYRE_F32, 0, 1, world, &reqs[2]);
	err |= gyre_ibarrier(world, &reqs[3]);
	EXPECT(q, me, !err, err);
	if (me == 0)
		gy_sim_kill(gy_sim_world(rank), 0,
			    gy_sim_now(gy_sim_world(rank)) + q->seed % 100000);
	err = 0;
	while (!done && !err) {		/* one way to wait ... */
		err = gyre_request_test(&reqs[2], &done, NULL);
		gy_sim_sleep(rank, 1000);
	}
	EXPECT(q, me, err && done && !reqs[2], err);
	err = gyre_request_wait(&reqs[3], NULL);	/* ... and another */
	EXPECT(q, me, !reqs[3], err);		/* which may have been in time */
	err = gyre_request_waitall(4, reqs, NULL);
	for (i = 0; i < 4; i++)
		EXPECT(q, me, !reqs[i], err);
	EXPECT(q, me, gyre_comm_status(world, NULL, 0) == -ECONNRESET, err);
	err = gyre_request_start(kept);
	EXPECT(q, me, err == -ECONNRESET, err);
	EXPECT(q, me, !gyre_request_wait(&kept, NULL), 0);	/* inactive */
	EXPECT(q, me, !gyre_request_free(kept), 0);
	err = gyre_irecv(m, 4, GYRE_F32, GYRE_ANY_SOURCE, 1, world, &none);
	EXPECT(q, me, err == -ECONNRESET && !none, err);
	err = gyre_isend(m, 4, GYRE_F32, (me + 1) % q->nranks, 1, world, &none);
	EXPECT(q, me, err == -ECONNRESET && !none, err);
	err = gyre_ibarrier(world, &none);
	EXPECT(q, me, err == -ECONNRESET && !none, err);
}

/* As many as there may be, and one more; then there is room for one again, and all end right. */
static void case_limit(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	struct gyre_request *reqs[MAX_RUNS + 1] = { NULL };
	const float sum = (float)(q->nranks * (q->nranks + 1) / 2);
	float *in = q->memory[me], *out = in + 8;
	int i, err = 0, n = 0;

	in[0] = (float)(me + 1);
	/* Nobody can be finished before all have come. */
	if (me == 0)
		gy_sim_sleep(rank, 5 * MS);
	for (i = 0; i <= MAX_RUNS && !err; i++) {
		err = gyre_iallreduce(in, &out[i], 1, GYRE_F32, GYRE_SUM, world, &reqs[i]);
		n += !err;
	}
	if (me)
		EXPECT(q, me, err == -EAGAIN && n == MAX_RUNS && !reqs[n], err);
	/* A blocking call waits for its turn; the others make the call nonblocking. */
	if (me != 1 && err) {
		err = gyre_request_wait(&reqs[0], NULL);
		EXPECT(q, me, !err, err);
	}
	for (; n <= MAX_RUNS; n++) {
		err = me == 1 ? gyre_allreduce(in, &out[n], 1, GYRE_F32, GYRE_SUM, world)
			      : gyre_iallreduce(in, &out[n], 1, GYRE_F32, GYRE_SUM, world,
						&reqs[n]);
		EXPECT(q, me, !err, err);
	}
	err = gyre_request_waitall(MAX_RUNS + 1, reqs, NULL);
	EXPECT(q, me, !err, err);
	EXPECT(q, me, all_are(out, MAX_RUNS + 1, sum), 0);
}

/* Waited for in any order, by any means. */
static void case_order(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	const float sum = (float)(q->nranks * (q->nranks + 1) / 2);
	float *in = q->memory[me], *out = in + LARGE;
	struct gyre_request *reqs[N] = { NULL };
	uint64_t rng = q->seed;
	size_t at[N + 1] = { 0 };
	int i, left = N, done, err = 0;

	for (i = 0; i < LARGE; i++)
		in[i] = (float)(me + 1);
	for (i = 0; i < N; i++) {
		at[i + 1] = at[i] + (faults_next(&rng) % 3 ? faults_next(&rng) % 100 : LARGE / 6);
		err |= gyre_iallreduce(in, out + at[i], at[i + 1] - at[i], GYRE_F32, GYRE_SUM,
				       world, &reqs[i]);
	}
	EXPECT(q, me, !err, err);
	while (left && !err) {
		i = (int)(gy_sim_random(rank) % N);
		if (!reqs[i])
			continue;
		done = 1;
		if (gy_sim_random(rank) % 3)
			err = gyre_request_wait(&reqs[i], NULL);
		else
			err = gyre_request_test(&reqs[i], &done, NULL);
		left -= done;
		if (!done)
			gy_sim_sleep(rank, 1000);
		else
			EXPECT(q, me, all_are(out + at[i], at[i + 1] - at[i], sum), 0);
	}
	EXPECT(q, me, !err, err);
}

/* Requests outlive their communicator, and a communicator the calls of others on it. */
static void case_orphans(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]), *sub = NULL;
	struct gyre_request *kept = NULL, *recv = NULL, *self = NULL;
	float *m = q->memory[me];
	int err, one;

	err = gyre_comm_split(world, 0, -me, &sub);
	EXPECT(q, me, !err && gyre_comm_rank(sub) == q->nranks - 1 - me, err);
	err = gyre_allreduce_init(m, m + 8, 8, GYRE_F32, GYRE_SUM, sub, &kept);
	err |= gyre_request_start(kept);
	err |= gyre_request_wait(&kept, NULL);
	err |= gyre_irecv(m + 16, 8, GYRE_F32, 0, 1, sub, &recv);
	err |= gyre_isend(m, 8, GYRE_F32, gyre_comm_rank(sub), 2, sub, &self);
	err |= gyre_barrier(world);
	EXPECT(q, me, !err, err);
	if (me == 0) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (3 * MS));
		gyre_comm_destroy(sub);
		err = gyre_request_wait(&recv, NULL);
		one = gyre_request_wait(&self, NULL);
		EXPECT(q, me, err == -ECANCELED && one == -ECANCELED, err);
		err = gyre_request_start(kept);
		EXPECT(q, me, err == -EINVAL, err);
	} else {
		while (!err) {		/* in bounded time, with an error */
			err = gyre_barrier(sub);
			gy_sim_sleep(rank, 1000);
		}
		one = gyre_comm_status(sub, NULL, 0);
		EXPECT(q, me, err == one && (err == -ECANCELED || err == -EPROTO), err);
		EXPECT(q, me, gyre_request_wait(&recv, NULL) == err, err);
		gyre_comm_destroy(sub);
	}
	err = gyre_request_free(kept);
	EXPECT(q, me, !err, err);
	err = gyre_barrier(world);		/* which nothing has happened to */
	EXPECT(q, me, !err, err);
}

/* Destroyed by one rank while others send on it, or call: they end, whatever had come when. */
static void case_destroyed(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]), *sub = NULL;
	float *m = q->memory[me];
	int err;

	err = gyre_comm_split(world, 0, me, &sub);
	EXPECT(q, me, !err, err);
	gy_sim_sleep(rank, gy_sim_random(rank) % (2 * MS));
	if (me == 0) {
		gyre_comm_destroy(sub);
	} else {
		err = q->seed % 2 ? gyre_send(m, LARGE, GYRE_F32, 0, 1, sub)
				  : gyre_allreduce(m, m + LARGE, LARGE, GYRE_F32, GYRE_SUM, sub);
		EXPECT(q, me, err == -EPROTO, err);
		gyre_comm_destroy(sub);
	}
	err = gyre_barrier(world);
	EXPECT(q, me, !err, err);
}

/* ---- several threads ---- */

static int thread_calls(struct gy_sim_rank *rank, struct requests *q, int me, unsigned t)
{
	struct gyre_comm *comm = q->comms[me][t], *sub = NULL;
	const struct gy_sim_world *w = gy_sim_world(rank);
	const float sum = (float)(q->nranks * (q->nranks + 1) / 2);
	float *in = q->memory[me] + t * LARGE, *out = in + LARGE / 2;
	uint64_t rng = q->seed * THREADS + t, start, took;
	struct gyre_request *req;
	unsigned i, n;
	int err = 0;

	for (n = 0; n < LARGE / 2; n++)
		in[n] = (float)(me + 1);
	for (i = 0; i < 30 && !err; i++) {
		n = (unsigned)(faults_next(&rng) % 4 ? faults_next(&rng) % 200 : 9000);
		start = gy_sim_now(w);
		switch (faults_next(&rng) % 4) {
		case 0:
			err = gyre_iallreduce(in, out, n, GYRE_F32, GYRE_SUM, comm, &req);
			if (!err)
				err = gyre_request_wait(&req, NULL);
			break;
		case 1:
			err = gyre_barrier(comm);
			n = 0;
			break;
		default:
			err = gyre_allreduce(in, out, n, GYRE_F32, GYRE_SUM, comm);
		}
		took = gy_sim_now(w) - start;
		EXPECT(q, me, all_are(out, n, sum), err);
		if (took > PROMPT_NS)
			requests_fail(q, me, "a call has overslept", (int)(took / MS));
	}
	/* Each thread splits its own communicator, all at once. */
	if (!err)
		err = gyre_comm_split(comm, 0, 0, &sub);
	for (i = 0; i < 10 && !err; i++) {
		err = gyre_allreduce(in, out, 100 + t, GYRE_F32, GYRE_SUM, sub);
		EXPECT(q, me, all_are(out, 100 + t, sum), err);
	}
	gyre_comm_destroy(sub);
	EXPECT(q, me, !err, err);
	return 0;
}

static int thread_main(struct gy_sim_rank *rank, void *arg)
{
	struct requests *q = arg;
	const int me = gy_sim_rank_id(rank);

	thread_calls(rank, q, me, q->next_thread[me]++);
	q->threads_over[me]++;
	return 0;
}

static void case_threads(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	unsigned t;
	int err = 0;

	for (t = 0; t < THREADS; t++)
		err |= gyre_comm_split(world, 0, 0, &q->comms[me][t]);
	/* Once in advance, so that no connection has to be made in what is timed. */
	err |= gyre_allgather(q->memory[me], q->memory[me] + LARGE, 1, GYRE_F32, world);
	err |= gyre_barrier(world);
	EXPECT(q, me, !err, err);
	for (t = 1; t < THREADS; t++)
		err |= gy_sim_spawn(rank, thread_main, q);
	EXPECT(q, me, !err, err);
	thread_main(rank, q);
	while (q->threads_over[me] < THREADS)
		gy_sim_sleep(rank, MS / 10);
	for (t = 0; t < THREADS; t++)
		gyre_comm_destroy(q->comms[me][t]);
}

/*
 * A rank breaks the protocol, as rank 0 finds when there is no room to say so: it learns at once,
 * by the end of its connection.  Those who are left go on.
 */
static void case_expelled(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]);
	struct gy_engine *e = &q->ctx[me]->engine;
	const int last = q->nranks - 1;
	struct gyre_request *req = NULL;
	float *m = q->memory[me];
	uint64_t begin;
	int err, i;

	err = gyre_barrier(world);
	EXPECT(q, me, !err, err);
	for (q->over++; q->over < (unsigned)q->nranks;) {
		gyre_progress(q->ctx[me]);
		gy_sim_sleep(rank, MS / 10);
	}
	if (me == 0) {
		for (i = 0; i < 100 && !e->peers[last]->blocked; i++) {
			gy_engine_enter(e);
			gy_peer_msg(e, e->peers[last], &(struct gy_hdr){ .kind = GY_MSG_CREDIT },
				    NULL);
			gy_engine_leave(e);
		}
		EXPECT(q, me, e->peers[last]->blocked, i);
		gy_engine_enter(e);
		gy_peer_expel(e->peers[last], -EPROTO, "it lies");
		gy_engine_leave(e);
		q->over++;
	} else if (me == last) {
		begin = gy_sim_time(rank);
		err = gyre_irecv(m, 4, GYRE_F32, 0, 1, world, &req);
		EXPECT(q, me, !err || err == -EPROTO || err == -ECONNRESET, err);
		err = err ? err : gyre_request_wait(&req, NULL);
		EXPECT(q, me, err == -EPROTO || err == -ECONNRESET, err);
		EXPECT(q, me, gy_sim_time(rank) - begin < FAULTS_S / 10, err);
		q->over++;
	}
	while (q->over < (unsigned)q->nranks + 2)	/* nobody drives meanwhile */
		gy_sim_sleep(rank, MS / 10);
}

/* A rank has no memory for a communicator: nobody gets it, and then there is memory for all. */
static void case_short(struct gy_sim_rank *rank, struct requests *q, int me)
{
	struct gyre_comm *world = gyre_context_world(q->ctx[me]), *some = NULL;
	const int last = q->nranks - 1;
	const uint64_t begin = gy_sim_time(rank);
	uint64_t flags = 1;
	int err, again;

	err = gyre_comm_agree(world, &flags);
	EXPECT(q, me, !err, err);
	for (again = 0; again < 2; again++) {
		if (me == last && !again)
			gy_alloc_fail_at(1);
		err = gyre_comm_shrink(world, &some);
		EXPECT(q, me, err == (again ? 0 : -ENOMEM), err);
	}
	gyre_comm_destroy(some);
	for (again = 0; again < 2; again++) {
		if (me == last && !again)
			gy_alloc_fail_at(1);
		err = gyre_comm_split(world, 0, 0, &some);
		EXPECT(q, me, err == (again ? 0 : -ENOMEM), err);
	}
	gyre_comm_destroy(some);
	err = gyre_barrier(world);
	EXPECT(q, me, !err, err);
	EXPECT(q, me, gy_sim_time(rank) - begin < FAULTS_S / 5, 0);
	q->over++;
	while (q->over < (unsigned)q->nranks)
		gy_sim_sleep(rank, MS / 10);
}

/* ---- running them ---- */

static const struct {
	const char *name;
	void (*run)(struct gy_sim_rank *rank, struct requests *q, int me);
} cases[] = {
	{ "leave", case_leave },
	{ "failure", case_failure },
	{ "limit", case_limit },
	{ "order", case_order },
	{ "orphans", case_orphans },
	{ "destroyed", case_destroyed },
	{ "threads", case_threads },
	{ "expelled", case_expelled },
	{ "short of memory", case_short },
};

#define NCASES (sizeof(cases) / sizeof(cases[0]))

static int requests_rank(struct gy_sim_rank *rank, void *arg)
{
	struct requests *q = arg;
	const int me = gy_sim_rank_id(rank);
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.progress = q->manual ? GY_CONFIG_PROGRESS_MANUAL : GY_CONFIG_PROGRESS_THREAD;
	err = gy_sim_context(rank, &cfg, &q->ctx[me]);
	if (err)
		return requests_fail(q, me, "context", err);
	cases[q->seed % NCASES].run(rank, q, me);
	gyre_context_destroy(q->ctx[me]);
	return q->why[0] ? -EBADMSG : 0;
}

static int requests_run(uint64_t seed)
{
	struct requests q = { .seed = seed };
	const long live = gy_alloc_live();
	struct gy_sim_attr attr;
	uint64_t rng = seed;
	char *log;
	int i, err;

	q.nranks = 2 + (int)(faults_next(&rng) % 3);
	q.manual = faults_next(&rng) % 3 == 0;
	for (i = 0; i < q.nranks; i++)
		q.memory[i] = calloc(4 * LARGE, sizeof(float));
	gy_sim_attr_init(&attr, q.nranks, seed);
	/* Slow or lossy links would hide who oversleeps. */
	attr.random_links = faults_next(&rng) % 2 && cases[seed % NCASES].run != case_threads;
	attr.deadline_ns = 30 * FAULTS_S;
	attr.max_events = 5000000;
	faults_capture();
	err = gy_sim_run(&attr, requests_rank, &q);
	log = faults_captured();
	for (i = 0; i < q.nranks; i++)
		free(q.memory[i]);
	if (err || q.why[0] || gy_alloc_live() != live) {
		printf("%s: %s; %ld blocks left\n%s", gyre_strerror(err), q.why,
		       gy_alloc_live() - live, log);
		printf("%s, %d ranks%s; again: test_faults --seed %llu --count 1 request\n",
		       cases[seed % NCASES].name, q.nranks, q.manual ? ", manual" : "",
		       (unsigned long long)seed);
		err = -EBADMSG;
	}
	free(log);
	return err != 0;
}

int faults_request(uint64_t seed, unsigned count)
{
	unsigned i, failed = 0;

	if (!count)
		count = NCASES * (test_is_long() ? 300 : 15);
	for (i = 0; i < count && failed < 5; i++)
		failed += (unsigned)requests_run(seed + i);
	return failed != 0;
}
