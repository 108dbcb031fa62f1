/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_CLOCK_H
#define TRAIN_CLOCK_H
#include <time.h>

/* Seconds since some fixed moment; never goes back. */
static inline double clock_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
