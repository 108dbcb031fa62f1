/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_PACE_H
#define TRAIN_PACE_H
/*
 * How long a step takes: as long as its work, or padded by sleeping, so that many ranks on few
 * cores look like as many machines; longer on stragglers, which free no core by it.
 */
#include <stdint.h>

#include "bench/train/why.h"

#define PACE_MAX_STRAGGLERS 16

struct pace_straggler {
	int rank;	    /* -1: any rank, with the probability in each step */
	double probability; /* of being slow in a step */
	double factor;
};

struct pace {
	double step_seconds; /* 0: no padding */
	double late;	     /* seconds that steps took too long, still to be made up for */
	uint64_t seed;
	int rank;
	int nstragglers;
	struct pace_straggler stragglers[PACE_MAX_STRAGGLERS];
};

/*
 * text: RANK:FACTOR or random:P:FACTOR, several divided by commas; NULL: none.  Factors are at
 * least 1.  -EINVAL, with the reason in why.
 */
int pace_init(struct pace *pace, const char *text, double step_seconds, uint64_t seed, int rank,
	      struct why *why);

/* -EINVAL, with the reason in why: a straggler is no rank of a job of so many. */
int pace_check(const struct pace *pace, int nranks, struct why *why);

/* How much longer than others' this rank's step is: the same for the same seed, rank and step. */
double pace_factor(const struct pace *pace, uint64_t step);

/* What is left of a step in which the rank has worked for so long, less what steps before took too
 * long. */
double pace_rest(const struct pace *pace, uint64_t step, double worked);

/*
 * The step has ended and took so long, not counting the exchange with others: what a padded step
 * took too long, since ranks share processors or the sleep was long, the next ones make up for, up
 * to the length of one.
 */
void pace_end(struct pace *pace, uint64_t step, double took);

/* Does nothing when seconds <= 0. */
void pace_sleep(double seconds);

#endif
