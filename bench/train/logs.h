/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_LOGS_H
#define TRAIN_LOGS_H
/* The JSON log of a run, one object a line: how it was asked for, its tests, its result. */
#include <stdio.h>

#include "bench/train/options.h"
#include "bench/train/report.h"

void logs_start(FILE *file, const struct options *opt, int nranks, size_t nparams, double epoch);
void logs_point(FILE *file, const struct options *opt, int nranks, const struct point *point);
/* Delay and period from a round on. */
void logs_schedule(FILE *file, const struct schedule_entry *entry);
void logs_end(FILE *file, const struct report_end *end);

/* "dts, 4 ranks, delay 4, period 4, ...": what a run's curve is called. */
void logs_label(const struct options *opt, int nranks, char *label, size_t len);

/*
 * The schedule of a run with --adapt, from its log.  -errno with the reason in why, also when this
 * run, of so many ranks, begins otherwise.
 */
int logs_read_schedule(const char *path, const struct options *opt, int nranks,
		       struct schedule *schedule, struct why *why);

/* The command "plot": argv are the files, -o FILE, -e.  An exit status. */
int logs_plot(int argc, char **argv);

#endif
