/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H
/* The command line. */
#include <stdbool.h>

struct options {
	int ranks; /* to start; 0: run as the rank that the environment says */
	const char *model;
	int epochs, batch;
	double lr, momentum, weight_decay, warmup;
	bool nesterov;
	const char *schedule;
	int seed, limit, bucket_kib;
	const char *data;
	const char *shards; /* "iid", "sorted" or "dirichlet" */
	double alpha;	    /* of dirichlet */
	/* From methods.c if not given. */
	const char *method, *weights; /* weights: "equal" or "steps" */
	int delay, period, fragments;
	double switch_epoch, outer_lr, outer_momentum;
	const char *adapt; /* "DELAY:PERIOD", most of each; NULL: they stay as they are */
	int adapt_delay, adapt_period;
	const char *replay; /* log of a run with adapt, whose schedule to take; NULL: none */
	/* Of a larger model and a slower machine. */
	const char *straggler; /* see pace.h; NULL: none */
	double step_time;      /* ms; 0: as it comes */
	double payload;	       /* bytes beside the model */
	const char *wan;       /* what GYRE_TCP_SHAPE takes; NULL: the network as it is */
	int evals;	       /* in an epoch */
	int settle;	       /* steps before those that the result's rates are of */
	double until;	       /* accuracy, 0 .. 1; 0: to the end */
	const char *checkpoint, *json, *plot; /* NULL if not asked for */
	bool resume;
	const char *progress; /* "auto", "line" or "plain" */
	bool help, version;
};

/*
 * Fills opt from argv, with defaults for what is not there.  Prints what is wrong (only when
 * speak) and returns -EINVAL.
 */
int options_parse(int argc, char **argv, bool speak, struct options *opt);

/* What --help prints. */
void options_usage(void);

#endif
