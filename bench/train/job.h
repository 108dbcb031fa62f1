/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_JOB_H
#define TRAIN_JOB_H
/* This process as one rank of a job, and how it reports what went wrong. */
#include <gyre/gyre.h>

#include "bench/train/why.h"

struct job {
	struct gyre_context *ctx;
	struct gyre_comm *comm;
	int rank, nranks;
};

/* Joins the job that the environment describes; alone without one.  Says why on error. */
int job_open(struct job *job);
void job_close(struct job *job);

/* Prints what failed, with the communicator's own account of the cause, and returns err. */
int job_fail(const struct job *job, const char *what, int err);

/*
 * Collective.  err: this rank's result so far, why: its reason.  0 when it is 0 on every
 * rank; else every rank gets an error, and one of those that failed prints its reason.
 */
int job_agree(const struct job *job, int err, const struct why *why);

#endif
