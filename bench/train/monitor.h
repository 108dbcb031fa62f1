/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_MONITOR_H
#define TRAIN_MONITOR_H
/*
 * How far the ranks are together, when each goes at its own pace: a thread on each adds up their
 * steps now and then, so that nobody waits to know.  All ranks see the same sums, one after the
 * other, if not at the same moment.
 */
#include "bench/train/job.h"

struct monitor;

/*
 * Collective; so is destroy, unless the job has failed.  steps: of this rank so far.  Errors, on
 * all ranks alike.
 */
int monitor_create(const struct job *job, uint64_t steps, struct monitor **monitorp);
/* NULL is fine. */
void monitor_destroy(struct monitor *monitor);

/* This rank has taken so many steps. */
void monitor_set(struct monitor *monitor, uint64_t steps);

/* Steps of all ranks, as last added up.  -errno when that has failed. */
int64_t monitor_sum(struct monitor *monitor);

#endif
