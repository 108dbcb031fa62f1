/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef DELAYED_WORK_H
#define DELAYED_WORK_H
/*
 * What the ranks of test_delayed do: processes, with a delayed collective each.  What they compute
 * are whole numbers, so that what x must be can be said exactly.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gyre/gyre.h>

#define RANKS 4
#define COUNT 60000
#define GATHER_MAX 8192
#define LIMIT_S 60 /* of one case */

/* What a rank of "drawn" has seen of its rounds, and done itself. */
struct seen {
	uint64_t rounds, hash; /* applied: how many; of their numbers, weights, averages */
	double shared[RANKS]; /* steps of each rank that are in them */
	uint64_t ticks;
};

/* What the ranks and their parent share. */
struct shared {
	_Atomic unsigned come[RANKS]; /* allgathers so far */
	uint8_t gather[2][RANKS][GATHER_MAX];
	float x[RANKS][COUNT];
	struct gyre_delayed_stats stats[RANKS];
	struct seen seen[RANKS];
};

struct rank {
	struct shared *shared;
	int me;
	uint64_t seed;
	struct gyre_context *ctx;
	struct gyre_comm *world;
	float *x;
};

struct work {
	const char *name;
	int (*fn)(struct rank *rank);
	int (*victim)(uint64_t seed); /* who is killed; NULL: nobody */
	bool parts; /* x differs between ranks in the end */
	bool draws; /* runs several times, with as many seeds */
	const char *shape; /* of connections: only over TCP; NULL: none */
};

/* Of delayed_oracles.c and delayed_killed.c, ended by an empty one. */
extern const struct work delayed_oracles[], delayed_killed[];

double delayed_seconds(void);
/* The same numbers on all that begin with the same state. */
uint64_t delayed_random(uint64_t *state);

/* What rank adds to element i at each step: a multiple of all that ranks may be divided by. */
float delayed_update(int rank, unsigned i);
float delayed_mean_update(int but, unsigned i); /* of all ranks but one; -1: of all */
void delayed_step(float *x, int rank);
/* Computes for about so long; longer where exchanges take longer, too (GY_TEST_SLOWDOWN). */
void delayed_compute(double s);

#define DELAYED_BATCHES 100
/*
 * Steps of s seconds, a tick after each, so many at a time, until each rank has merged two rounds:
 * on a busy machine that takes long, and -ETIME ends it.  *np: ticks in all; log, unless it is
 * NULL, takes the rounds merged << 32 and posted by each.
 */
int delayed_until_merged(struct rank *rank, struct gyre_delayed *d, double s, unsigned ticks,
			 uint64_t *log, unsigned *np);

struct gyre_delayed_attr delayed_attr(uint32_t delay, uint32_t period);
/* After n ticks, of which merged are in the model: 0, or -EBADMSG and the rank says so. */
int delayed_check(const struct rank *rank, const float *x, unsigned n, unsigned merged);
/* x[i] is want: 0, or -EBADMSG and the rank says so. */
int delayed_expect(const struct rank *rank, const char *what, unsigned i, double x, double want);
#endif
