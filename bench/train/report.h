/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H
/*
 * What the user sees of a run: a progress line, a line per epoch, JSON and a plot.  Only rank 0
 * makes a report; every function takes NULL, on the others, and does nothing.
 */
#include <stdbool.h>
#include <stddef.h>

#include "bench/train/options.h"
#include "bench/train/why.h"

struct report_epoch {
	int number; /* from 1 */
	double loss, accuracy; /* means over all ranks: 0 .. 1 */
	double lr;	       /* of its last step */
	double seconds;	       /* of its steps, without the test */
	double images_per_s;
	double compute_ms, exposed_ms; /* per step, mean over ranks: own work, and waiting */
};

struct report;

/* Whether progress comes as a line in place: as the options say, or for a terminal. */
bool report_in_place(const struct options *opt);

/*
 * steps: of one epoch.  Opens the files, so that a wrong path is found before the work.
 * opt must live as long as the report.  On error the reason goes to why.
 */
int report_create(const struct options *opt, int nranks, int steps, struct report **reportp,
		  struct why *why);
void report_destroy(struct report *report);

/* One line about the job before it starts. */
void report_start(struct report *report, size_t nparams, size_t ntrain, size_t ntest);

/* Step step (from 0) of epoch number is done.  Prints now and then. */
void report_step(struct report *report, int number, int step, double loss);

void report_epoch(struct report *report, const struct report_epoch *epoch);

/* The result, and the plot.  0 or -errno if the files could not be written. */
int report_finish(struct report *report);

#endif
