/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/sync.c - gradients averaged in buckets, overlapped with the backward pass.
 * Buckets lie at multiples of their length from the start, so that each but the first is aligned;
 * the last may be shorter.  They start in the same order, last to first, on every rank.
 * Failure: after an error nothing more starts; what runs is waited for. */
#include <errno.h>
#include <stdlib.h>

#include "bench/train/clock.h"
#include "bench/train/sync.h"

struct sync {
	const struct job *job;
	float *vector;
	size_t count, bucket_len, nbuckets;
	size_t next;			 /* buckets next .. have started */
	size_t oldest;			 /* buckets oldest .. are complete, of those started */
	struct gyre_request **requests; /* of each bucket; NULL when complete */
	double seconds, blocked;
	int err;
};

int sync_create(const struct job *job, size_t count, size_t bucket_len, struct sync **syncp)
{
	struct sync *s = calloc(1, sizeof(*s));
	void *vector;
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->job = job;
	s->count = count;
	s->bucket_len = bucket_len < count ? bucket_len : count;
	s->nbuckets = (count + s->bucket_len - 1) / s->bucket_len;
	s->next = s->oldest = s->nbuckets;
	s->requests = calloc(s->nbuckets, sizeof(*s->requests));
	if (!s->requests)
		goto free_sync;
	err = gyre_mem_alloc(job->ctx, count * sizeof(*s->vector), &vector);
	if (err)
		goto free_requests;
	s->vector = vector;
	*syncp = s;
	return 0;

free_requests:
	free(s->requests);
free_sync:
	free(s);
	return err;
}

void sync_destroy(struct sync *s)
{
	if (!s)
		return;
	gyre_mem_free(s->job->ctx, s->vector);
	free(s->requests);
	free(s);
}

float *sync_vector(struct sync *s)
{
	return s->vector;
}

static int sync_wait_oldest(struct sync *s)
{
	const double start = clock_seconds();
	const int err = gyre_request_wait(&s->requests[--s->oldest], NULL);

	s->blocked += clock_seconds() - start;
	return err;
}

static int sync_start(struct sync *s, size_t bucket)
{
	float *at = s->vector + bucket * s->bucket_len;
	const size_t left = s->count - bucket * s->bucket_len;
	const size_t len = left < s->bucket_len ? left : s->bucket_len;
	int err;

	for (;;) {
		err = gyre_iallreduce(GYRE_IN_PLACE, at, len, GYRE_F32, GYRE_AVG, s->job->comm,
				      &s->requests[bucket]);
		if (err != -EAGAIN || s->oldest == s->next)
			return err;
		err = sync_wait_oldest(s); /* too many outstanding */
		if (err)
			return err;
	}
}

void sync_ready(void *arg, size_t first)
{
	struct sync *s = arg;
	const double start = clock_seconds();

	while (!s->err && s->next && (s->next - 1) * s->bucket_len >= first) {
		s->err = sync_start(s, s->next - 1);
		if (!s->err)
			s->next--;
	}
	s->seconds += clock_seconds() - start;
}

int sync_wait(struct sync *s)
{
	const double start = clock_seconds();
	int err;

	while (s->oldest > s->next) {
		err = sync_wait_oldest(s);
		if (!s->err)
			s->err = err;
	}
	s->next = s->oldest = s->nbuckets;
	s->seconds += clock_seconds() - start;
	return s->err;
}

void sync_take_seconds(struct sync *s, double *exposed, double *blocked)
{
	*exposed += s->seconds;
	*blocked += s->blocked;
	s->seconds = s->blocked = 0;
}
