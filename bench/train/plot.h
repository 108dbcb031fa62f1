/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_PLOT_H
#define TRAIN_PLOT_H
/* Runs as one SVG picture: accuracy over time and epochs, loss, and what steps were spent on. */
#include <stdio.h>

#include "bench/train/point.h"

struct plot_run {
	const char *label;
	const struct point *points;
	int npoints; /* 1 or more */
};

void plot_write(FILE *file, const char *title, const struct plot_run *runs, int nruns);

#endif
