/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H
/* Delay and period over a run in which they change. */
#include <stdint.h>

/* From that round on, 1, 2 ...; 0: nothing. */
struct schedule_entry {
	uint64_t round;
	uint32_t delay, period;
};

struct schedule {
	struct schedule_entry *entries; /* by round */
	int count;
};

/* Takes the place of what was to be from that round on.  -ENOMEM; -EINVAL: it cannot be. */
int schedule_add(struct schedule *s, const struct schedule_entry *entry);
void schedule_fini(struct schedule *s);

/* The first entry of a round after that one; NULL: there is none. */
const struct schedule_entry *schedule_after(const struct schedule *s, uint64_t round);

#endif
