/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_METHODS_H
#define TRAIN_METHODS_H
/* The ways of training together, as far as the command line knows them; method.h runs them. */
#include <stdbool.h>

#include "bench/train/why.h"

struct options;

/* Options that a method may take. */
enum methods_takes {
	METHODS_DELAY = 1,
	METHODS_PERIOD = 2,
	METHODS_OUTER = 4,
	METHODS_WEIGHTS = 8,
	METHODS_SWITCH = 16,
	METHODS_FRAGMENTS = 32,
	METHODS_ADAPT = 64,
};

struct methods_row {
	const char *name;
	const char *about;
	unsigned takes;	   /* enum methods_takes */
	int delay, period; /* unless options say */
	double outer_lr, outer_momentum;
	/*
	 * Ranks take as many steps as they can, so a run is measured by those of all ranks;
	 * otherwise each takes as many as the others.
	 */
	bool own_pace;
};

/* NULL: there is no such method. */
const struct methods_row *methods_find(const char *name);

/*
 * Fills in what opt leaves to the method.  -EINVAL, with the reason in why: the method has no use
 * for an option that was given.
 */
int methods_settle(struct options *opt, struct why *why);

/* A line per method, for --help. */
void methods_usage(void);

#endif
