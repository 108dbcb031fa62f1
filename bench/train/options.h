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
	const char *data, *json, *plot; /* json and plot: NULL if not asked for */
	const char *progress; /* "auto", "line" or "plain" */
	bool help;
};

/*
 * Fills opt from argv, with defaults for what is not there.  Prints what is wrong (only when
 * speak) and returns -EINVAL.
 */
int options_parse(int argc, char **argv, bool speak, struct options *opt);

/* What --help prints. */
void options_usage(void);

#endif
