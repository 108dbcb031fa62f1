/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_INPROC_H
#define TESTS_INPROC_H
/*
 * A job whose ranks are threads of this process, a context each, joined by shm or tcp as processes
 * would be.  What the test itself needs of memory is made before the ranks start.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <gyre/gyre.h>
#include "lib/config.h"
#include "lib/sys.h"

#define INPROC_RANKS 16
#define INPROC_GATHER 8192

struct inproc;

struct inproc_rank {
	struct inproc *job;
	int rank;
	struct gyre_context *ctx;
	pthread_t id;
	int err;		/* of main; stays 0 where all is well */
};

struct inproc {
	int nranks;
	struct gy_sys *sys;	/* NULL: the real one */
	struct gy_config cfg;
	void (*edit)(void *said, size_t len);	/* changes what a rank says of itself; or NULL */
	int (*main)(struct inproc_rank *r, void *arg);
	void *arg;
	pthread_barrier_t meet;
	uint8_t gather[INPROC_RANKS][INPROC_GATHER];
	struct inproc_rank ranks[INPROC_RANKS];
};

/* Defaults for nranks ranks over "shm" or "tcp"; then change job->cfg and job->sys at will. */
void inproc_init(struct inproc *job, int nranks, const char *transport);
void inproc_set(struct inproc *job, const char *name, const char *value);

/* Runs main on each rank, with its context made.  0, or the first rank's error. */
int inproc_run(struct inproc *job, int (*main)(struct inproc_rank *r, void *arg), void *arg);

/* All ranks meet, without gyre and without an allocation. */
void inproc_meet(struct inproc *job);

double inproc_seconds(void);

/* By how much sanitizers slow down: GY_TEST_SLOWDOWN. */
double inproc_slowdown(void);

/* Random numbers: a sequence of its own for each state. */
uint64_t inproc_random(uint64_t *state);
#endif
