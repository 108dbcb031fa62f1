/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H
/*
 * Files from which a run can go on.  A rank keeps its two latest, so that if the job ends while
 * they are written there is one that all ranks have.  They are of this program on this kind of
 * machine; damaged ones and those of other runs are refused.
 */
#include <stddef.h>
#include <stdint.h>

#include "bench/train/why.h"

#define CHECKPOINT_ID 512

/* What a file says about itself: the run, as text, and how many tests it has had. */
struct checkpoint_head {
	char id[CHECKPOINT_ID];
	uint64_t number;
};

struct checkpoint;

/* Whether files can be made there: 0, or -errno with the reason in why. */
int checkpoint_check(const char *path, struct why *why);
/* For writing: path.RANK.0 or .1 by number.  The file counts once it is complete. */
int checkpoint_create(const char *path, int rank, const struct checkpoint_head *head,
		      struct checkpoint **cp);
/* For reading, if it is whole, has that number and is of the same run.  -ENOENT, -EBADMSG. */
int checkpoint_open(const char *path, int rank, const struct checkpoint_head *head,
		    struct checkpoint **cp, struct why *why);
/* Number of this rank's latest; 0: none. */
uint64_t checkpoint_latest(const char *path, int rank);

/* arg is the struct checkpoint.  The first error is kept, and returned by close. */
int checkpoint_write(void *arg, const void *buf, size_t len);
int checkpoint_read(void *arg, void *buf, size_t len);

/* What was written counts from here on, unless err. */
int checkpoint_close(struct checkpoint *c, int err);

#endif
