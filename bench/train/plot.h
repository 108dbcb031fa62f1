/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_PLOT_H
#define TRAIN_PLOT_H
/* Loss and test accuracy over epochs as an SVG picture. */
#include <stdio.h>

#include "bench/train/report.h"

void plot_write(FILE *file, const char *title, const struct report_epoch *epochs, int count);

#endif
