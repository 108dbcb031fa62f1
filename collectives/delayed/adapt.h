/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_ADAPT_H
#define GY_ADAPT_H
/*
 * GYRE_DELAYED_ADAPT: delay and period from what was measured.
 *
 * Every window of rounds, the ranks find the maximum of what each has measured, by one small
 * reduction that runs beside the round at which the window ends.  Its result is used when the next
 * window ends, before the round there is posted, so all ranks compute the same from the same
 * numbers, and at the same round.
 */
#include <stdbool.h>
#include <stdint.h>

struct gy_round;
struct gyre_delayed;

/* Of a window: seconds, as agreed.  Rounds: the 95th percentile of them. */
struct gy_adapt_measures {
	double step;		/* from tick to tick, waiting left out; of the slowest rank */
	double transfer;	/* the payload of a round keeps the network busy */
	double latency;		/* a round of a few bytes takes */
	double total;		/* a round takes: from its start to its commit */
	double control;		/* of that, to tell each other that it is done */
	unsigned nrounds;	/* that were measured; 0: nothing is known */
};

struct gy_adapt_schedule {
	uint32_t delay, period;
};

struct gy_adapt_limits {
	uint32_t max_delay, max_period;
	uint32_t ring;		/* rounds in flight */
};

/* values: struct gy_adapt_measures.step, then GY_ADAPT_VALUES for each of nrounds rounds. */
#define GY_ADAPT_VALUES 4
#define GY_ADAPT_UNKNOWN (-1e300)	/* least of all, so that any rank's word counts */
void gy_adapt_measure(const double *values, unsigned nrounds, struct gy_adapt_measures *m);

/*
 * The smallest period that the network keeps up with, and with it the smallest delay after which a
 * round is committed, a tenth added to both; within the limits: what does not fit, waits.
 */
struct gy_adapt_schedule gy_adapt_choose(const struct gy_adapt_measures *m,
					 const struct gy_adapt_limits *limits);

/*
 * Whether to change: the choice has been off by a quarter or more in three windows.  *votes counts
 * them.
 */
bool gy_adapt_vote(unsigned *votes, const struct gy_adapt_schedule *now,
		   const struct gy_adapt_schedule *choice);

/* ---- of a handle; those without the flag do nothing ---- */
int gy_adapt_create(struct gyre_delayed *d);
void gy_adapt_destroy(struct gyre_delayed *d);
/* In a new communicator: what was measured is forgotten. */
void gy_adapt_reset(struct gyre_delayed *d);
/* Token held: before the requests of a round start.  -EAGAIN: not yet. */
int gy_adapt_start(struct gyre_delayed *d, uint64_t round);
/* Token held: in the pump. */
void gy_adapt_watch(struct gyre_delayed *d);
/* Token held: a round is merged. */
void gy_adapt_note(struct gyre_delayed *d, const struct gy_round *r);
/* Before a trigger posts a round: decides, where a window ends. */
int gy_adapt_turn(struct gyre_delayed *d, uint64_t *blocked_ns);

#endif
