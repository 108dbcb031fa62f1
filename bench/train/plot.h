/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_PLOT_H
#define TRAIN_PLOT_H
/* Runs as one SVG picture: accuracy over time and epochs, loss, and what steps were spent on. */
#include <stdbool.h>
#include <stdio.h>

#include "bench/train/point.h"

struct plot_run {
	const char *label;
	const struct point *points;
	int npoints; /* 1 or more */
};

/*
 * only_epochs: without what goes by time, for runs whose time means nothing.
 */
void plot_write(FILE *file, const char *title, const struct plot_run *runs, int nruns,
		bool only_epochs);

#endif
