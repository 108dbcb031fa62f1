/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inproc.c - a job of threads: contexts that meet through memory.
 */
#include "tests/unit/inproc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/context.h"

void inproc_meet(struct inproc *job)
{
	pthread_barrier_wait(&job->meet);
}

static int inproc_allgather(void *arg, const void *in, void *out, size_t len)
{
	struct inproc_rank *r = arg;
	struct inproc *job = r->job;
	int i;

	if (len > INPROC_GATHER)
		return -EMSGSIZE;
	memcpy(job->gather[r->rank], in, len);
	if (job->edit)
		job->edit(job->gather[r->rank], len);
	inproc_meet(job);
	for (i = 0; i < job->nranks; i++)
		memcpy((char *)out + (size_t)i * len, job->gather[i], len);
	inproc_meet(job);	/* before anyone writes there again */
	return 0;
}

static void *inproc_thread(void *arg)
{
	struct inproc_rank *r = arg;
	struct inproc *job = r->job;
	const struct gyre_context_attr attr = {
		.size = sizeof(attr),
		.rank = r->rank,
		.nranks = job->nranks,
		.allgather = inproc_allgather,
		.allgather_arg = r,
	};

	r->err = gy_context_create(&attr, job->sys ? job->sys : &gy_sys_posix, NULL, &job->cfg,
				   &r->ctx);
	if (r->err) {
		printf("rank %d: no context: %s\n", r->rank, gyre_strerror(r->err));
		exit(1);	/* the others wait for it */
	}
	r->err = job->main(r, job->arg);
	gyre_context_destroy(r->ctx);
	return NULL;
}

void inproc_init(struct inproc *job, int nranks, const char *transport)
{
	memset(job, 0, sizeof(*job));
	job->nranks = nranks;
	gy_config_init(&job->cfg);
	inproc_set(job, "transport", transport);
}

void inproc_set(struct inproc *job, const char *name, const char *value)
{
	if (gy_config_set(&job->cfg, name, value, GY_CONFIG_FILE, "the test"))
		abort();
}

int inproc_run(struct inproc *job, int (*main)(struct inproc_rank *r, void *arg), void *arg)
{
	int i, err = 0;

	job->main = main;
	job->arg = arg;
	if (pthread_barrier_init(&job->meet, NULL, (unsigned)job->nranks))
		abort();
	for (i = 0; i < job->nranks; i++) {
		struct inproc_rank *r = &job->ranks[i];

		*r = (struct inproc_rank){ .job = job, .rank = i };
		if (pthread_create(&r->id, NULL, inproc_thread, r))
			abort();
	}
	for (i = 0; i < job->nranks; i++) {
		pthread_join(job->ranks[i].id, NULL);
		if (!err)
			err = job->ranks[i].err;
	}
	pthread_barrier_destroy(&job->meet);
	return err;
}

double inproc_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

double inproc_slowdown(void)
{
	const char *slow = getenv("GY_TEST_SLOWDOWN");

	return slow && atof(slow) > 1 ? atof(slow) : 1;
}

uint64_t inproc_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
