/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_SYNC_H
#define TRAIN_SYNC_H
/*
 * Keeps the ranks' models equal: the mean of a vector over all ranks, taken while the vector is
 * still being written.  The vector is cut into buckets of equal size; the writer goes from its end
 * to its start, and each bucket's allreduce starts as soon as the writer has passed it.
 *
 *	backward pass of step s:  sync_ready(first) ... sync_ready(0)
 *	before the optimizer:     sync_wait
 */
#include "bench/train/job.h"

struct sync;

/*
 * A vector of count floats in buckets of at most bucket_len.  Free by sync_destroy, before the job
 * is closed and when nothing is in flight.  Errors: -ENOMEM and those of gyre_mem_alloc.
 */
int sync_create(const struct job *job, size_t count, size_t bucket_len, struct sync **syncp);
void sync_destroy(struct sync *sync);

/* The vector: of this rank until sync_ready gives it away, the mean over ranks after sync_wait. */
float *sync_vector(struct sync *sync);

/*
 * Elements first .. of the vector are final.  arg is the struct sync.  An error is kept for
 * sync_wait.
 */
void sync_ready(void *arg, size_t first);

/* Waits for all buckets.  Errors: the first one of starting or of running an allreduce. */
int sync_wait(struct sync *sync);

/*
 * Adds the seconds since the last call: in sync_ready and sync_wait, that is, of communication not
 * hidden; and what of these was spent waiting.
 */
void sync_take_seconds(struct sync *sync, double *exposed, double *blocked);

#endif
