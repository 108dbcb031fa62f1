/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H
#include "bench/train/options.h"

/* The whole run, as a rank of the job.  0 or -errno; says what is wrong. */
int train_run(const struct options *opt);

#endif
