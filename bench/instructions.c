/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * instructions.c - blocking 8-byte allreduces of two ranks, for `bench/instructions` to count what
 * one takes.
 *
 * Both ranks are threads of this process, each with a context of its own, joined by shared memory.
 * Rank 1 starts its call before rank 0 makes its own, so that rank 0 always finds a message: what
 * is counted is the call, without polls that find nothing.  Rank 0's calls are blocking, and the
 * only ones of gyre_allreduce.
 */
#include <gyre/gyre.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job {
	pthread_barrier_t meet;
	char gather[2][8192];
	unsigned calls;
};

struct rank {
	struct job *job;
	int rank;
	int err;
};

static int instructions_allgather(void *arg, const void *in, void *out, size_t len)
{
	struct rank *r = arg;
	int i;

	if (len > sizeof(r->job->gather[0]))
		return -1;
	memcpy(r->job->gather[r->rank], in, len);
	pthread_barrier_wait(&r->job->meet);
	for (i = 0; i < 2; i++)
		memcpy((char *)out + (size_t)i * len, r->job->gather[i], len);
	pthread_barrier_wait(&r->job->meet);
	return 0;
}

static int instructions_call(struct rank *r, struct gyre_comm *comm)
{
	struct gyre_request *req;
	double in = r->rank + 1, out = 0;
	int err;

	if (r->rank == 0) {
		pthread_barrier_wait(&r->job->meet);	/* rank 1 has begun */
		err = gyre_allreduce(&in, &out, 1, GYRE_F64, GYRE_SUM, comm);
	} else {
		err = gyre_iallreduce(&in, &out, 1, GYRE_F64, GYRE_SUM, comm, &req);
		pthread_barrier_wait(&r->job->meet);
		if (!err)
			err = gyre_request_wait(&req, NULL);
	}
	pthread_barrier_wait(&r->job->meet);
	return err ? err : out == 3 ? 0 : -1;
}

static void *instructions_rank(void *arg)
{
	struct rank *r = arg;
	struct gyre_context_attr attr = {
		.size = sizeof(attr), .rank = r->rank, .nranks = 2,
		.allgather = instructions_allgather, .allgather_arg = r,
		.transport = "shm", .progress = GYRE_PROGRESS_MANUAL,
	};
	struct gyre_context *ctx;
	unsigned i;

	r->err = gyre_context_create(&attr, &ctx);
	if (r->err)
		exit(1);	/* the other would wait for us */
	r->err = gyre_barrier(gyre_context_world(ctx));		/* connects */
	for (i = 0; i < r->job->calls; i++)
		r->err |= instructions_call(r, gyre_context_world(ctx));
	gyre_context_destroy(ctx);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct job job;
	struct rank ranks[2] = { { .job = &job, .rank = 0 }, { .job = &job, .rank = 1 } };
	pthread_t thread;

	job.calls = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	if (!job.calls) {
		fprintf(stderr, "usage: instructions CALLS\n");
		return 2;
	}
	pthread_barrier_init(&job.meet, NULL, 2);
	if (pthread_create(&thread, NULL, instructions_rank, &ranks[1]))
		return 1;
	instructions_rank(&ranks[0]);
	pthread_join(thread, NULL);
	return ranks[0].err || ranks[1].err;
}
