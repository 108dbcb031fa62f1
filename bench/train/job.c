/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/job.c - joining the job, and errors that concern all of it. */
#include <errno.h>
#include <stdio.h>

#include "bench/train/job.h"

int job_open(struct job *job)
{
	struct gyre_context *ctx;
	int err = gyre_context_create(NULL, &ctx);

	if (err) {
		fprintf(stderr, "gyre-train: cannot join the job: %s\n", gyre_strerror(err));
		return err;
	}
	job->ctx = ctx;
	job->comm = gyre_context_world(ctx);
	job->rank = gyre_comm_rank(job->comm);
	job->nranks = gyre_comm_size(job->comm);
	return 0;
}

void job_close(struct job *job)
{
	gyre_context_destroy(job->ctx);
}

int job_fail(const struct job *job, const char *what, int err)
{
	char cause[512] = "";

	gyre_comm_status(job->comm, cause, sizeof(cause));
	fprintf(stderr, "gyre-train: rank %d: %s: %s%s%s\n", job->rank, what, gyre_strerror(err),
		*cause ? ": " : "", cause);
	return err;
}

int job_agree(const struct job *job, int err, const struct why *why)
{
	/* The lowest rank that failed has the largest number. */
	const int32_t mine = err ? job->nranks - job->rank : 0;
	int32_t largest;
	int comm_err = gyre_allreduce(&mine, &largest, 1, GYRE_INT32, GYRE_MAX, job->comm);

	if (comm_err)
		return job_fail(job, "agreement to start", comm_err);
	if (!largest)
		return 0;
	if (largest == mine)
		fprintf(stderr, "gyre-train: %s\n", why->text);
	/* The first rank that ends takes the others with it: none does before that is said. */
	gyre_barrier(job->comm);
	return -ECANCELED;
}
