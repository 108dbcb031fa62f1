/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_HEAP_H
#define GY_SIM_HEAP_H
/*
 * Events in order of time: a pairing heap through the events themselves, so that nothing is
 * allocated when one is scheduled.  Equal times are ordered by tie (random), then by seq.
 */
#include <stdbool.h>
#include <stdint.h>

struct sim_event {
	uint64_t at;
	uint64_t tie, seq;
	void (*fire)(struct sim_event *ev);
	uint64_t tag;			/* what the trace knows it by */
	bool queued;
	struct sim_event *child, *prev, *next;	/* prev: the parent, for a first child */
};

struct sim_heap {
	struct sim_event *root;
};

void sim_heap_push(struct sim_heap *h, struct sim_event *ev);
struct sim_event *sim_heap_pop(struct sim_heap *h);	/* NULL: empty */
void sim_heap_remove(struct sim_heap *h, struct sim_event *ev);	/* fine when not queued */
#endif
