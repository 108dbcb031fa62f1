/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H
/*
 * What the user sees of a run: a progress line, a line per test, JSON and a plot.  Only rank 0
 * makes a report; every function takes NULL, on the others, and does nothing.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/train/options.h"
#include "bench/train/point.h"
#include "bench/train/schedule.h"
#include "bench/train/why.h"

/* Of a whole run. */
struct report_end {
	double accuracy; /* of the average of all ranks */
	double epoch, time;
	/* Of a rank that took the fewest steps. */
	int slowest;
	int64_t fewest_steps;
	/* Without the steps of --settle. */
	bool has_rates;	      /* all ranks took more steps than those */
	double steps_per_s;   /* of all ranks */
	double blocked_share; /* of the ranks' time */
	double until;	      /* time at which --until was reached; < 0: it was not */
	double megabytes;     /* given away by a rank */
	uint32_t crc;	      /* of the model */
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

/* One line about the job before it starts; epoch: where it does. */
void report_start(struct report *report, size_t nparams, size_t ntrain, size_t ntest,
		  double epoch);

/* So many epochs are done.  Prints now and then.  loss: mean since the last test. */
void report_step(struct report *report, double epoch, double loss);

/* Delay and period where they change; does nothing if it was told these, or the round is 0. */
void report_schedule(struct report *report, const struct schedule_entry *now);

void report_point(struct report *report, const struct point *point);

/* The result, and the plot.  -EIO, and a message, if something could not be written. */
int report_finish(struct report *report, const struct report_end *end);

#endif
