/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The operations that gyre-bench times.  Each uses the buffers of one set as data.h lays them out.
 */
#include <errno.h>
#include <string.h>

#include "bench/gyre-bench.h"

#define BENCH_TAG 1

const char bench_op_names[] = "allreduce reduce_scatter allgather bcast barrier latency bw";

static int bench_allreduce(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;

	return gyre_allreduce(b->in[set], b->out[set], b->count, b->type, b->op, job->world);
}

static int bench_reduce_scatter(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;

	return gyre_reduce_scatter(b->in[set], b->out[set], b->count, b->type, b->op, job->world);
}

static int bench_allgather(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;

	return gyre_allgather(b->in[set], b->out[set], b->count, b->type, job->world);
}

static int bench_bcast(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;

	return gyre_broadcast(b->out[set], b->count, b->type, 0, job->world);
}

static int bench_barrier(struct bench_job *job, int set)
{
	(void)set;
	return gyre_barrier(job->world);
}

/* A round trip between ranks 0 and 1; the others have nothing to do. */
static int bench_latency(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;
	int me = job->base.rank, err = 0;

	if (me > 1)
		return 0;
	if (me == 0)
		err = gyre_send(b->in[set], b->count, b->type, 1, BENCH_TAG, job->world);
	if (!err)
		err = gyre_recv(b->out[set], b->count, b->type, !me, BENCH_TAG, job->world, NULL);
	if (!err && me == 1)
		err = gyre_send(b->in[set], b->count, b->type, 0, BENCH_TAG, job->world);
	return err;
}

/* Message i of a window; its buffers are apart, as more than one may be under way. */
static int bench_post(struct bench_job *job, int set, size_t i, struct gyre_request **req)
{
	struct data_buffers *b = &job->buf;
	size_t step = b->count * gyre_type_size(b->type);

	if (job->base.rank == 0)
		return gyre_isend(b->in[set], b->count, b->type, 1, BENCH_TAG, job->world, req);
	return gyre_irecv((char *)b->out[set] + i * step, b->count, b->type, 0, BENCH_TAG,
			  job->world, req);
}

/* A window of messages from rank 0 to rank 1, and an empty one back. */
static int bench_bw(struct bench_job *job, int set)
{
	struct data_buffers *b = &job->buf;
	struct gyre_request *reqs[DATA_MAX_COPIES] = { NULL };
	size_t i, oldest = 0;
	int err = 0, waited;

	if (job->base.rank > 1)
		return 0;
	for (i = 0; !err && i < b->copies; i++) {
		while ((err = bench_post(job, set, i, &reqs[i])) == -EAGAIN && oldest < i) {
			err = gyre_request_wait(&reqs[oldest++], NULL);
			if (err)
				break;
		}
	}
	waited = gyre_request_waitall(b->copies, reqs, NULL);
	err = err ? err : waited;
	if (err)
		return err;
	if (job->base.rank == 0)
		return gyre_recv(NULL, 0, b->type, 1, BENCH_TAG, job->world, NULL);
	return gyre_send(NULL, 0, b->type, 0, BENCH_TAG, job->world);
}

static const struct bench_op bench_ops[] = {
	{ "allreduce", "allreduce", DATA_ALLREDUCE, bench_allreduce },
	{ "reduce_scatter", "reduce_scatter", DATA_REDUCE_SCATTER, bench_reduce_scatter },
	{ "allgather", "allgather", DATA_ALLGATHER, bench_allgather },
	{ "bcast", "broadcast", DATA_BCAST, bench_bcast },
	{ "barrier", "barrier", DATA_NOTHING, bench_barrier },
	{ "latency", "send", DATA_PINGPONG, bench_latency },
	{ "bw", "send", DATA_STREAM, bench_bw },
};

const struct bench_op *bench_op_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(bench_ops) / sizeof(bench_ops[0]); i++)
		if (!strcmp(bench_ops[i].name, name))
			return &bench_ops[i];
	return strcmp(name, "broadcast") ? NULL : bench_op_find("bcast");
}
