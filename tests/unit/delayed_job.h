/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef DELAYED_JOB_H
#define DELAYED_JOB_H
/*
 * A job with a delayed collective in the simulator.  What ranks compute is dyadic, so that what x
 * must be can be said exactly.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gyre/gyre.h>

#include "transports/sim/sim.h"

struct CMUnitTest;

#define MAX_RANKS 5
#define COUNT 37
#define STEP_NS 1000000u
#define MS UINT64_C(1000000)

/* A job, and what its ranks leave for the test. */
struct job {
	int nranks;
	uint64_t seed;
	struct gyre_delayed_attr attr;
	int (*fn)(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx);
	uint32_t latency_ns;		/* 0: of random links, or some microseconds */
	unsigned ticks;
	float x[MAX_RANKS][COUNT];
	uint64_t log[MAX_RANKS][64];
	uint64_t blocked_ns[MAX_RANKS];
	const void *arg;
	bool leaks;			/* a rank is killed with what its stack alone knows */
	/* Runs first on each rank; may be NULL. */
	void (*begin)(struct job *j, struct gy_sim_rank *rank);
	struct gy_sim_stats stats;
};

/* A test's main: runs its n tests, or those that an argument names.  The log goes to job_said. */
int job_test(int argc, char **argv, const struct CMUnitTest *tests, size_t n);

/* 0, or an error; then the seed and the setting are printed. */
int job_run(struct job *j);

extern char job_said[1000];		/* the last error that was logged */

struct gyre_delayed_attr job_attr(uint32_t delay, uint32_t period);
/* Any of those that create takes. */
struct gyre_delayed_attr job_draw(uint64_t *rng);

/* What rank adds to element i at each step: a multiple of 1/8; and what x begins with. */
float job_update(int rank, unsigned i);
float job_mean_update(int nranks, unsigned i);
float job_initial(unsigned i);
void job_begin_x(float *x);
void job_step(float *x, int rank);

/* Of each rank: x as it begins, and a handle by the job's attributes. */
int job_open(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx,
	     struct gyre_delayed **d);
/* So many steps of up to STEP_NS, and a tick after each. */
int job_ticks(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed *d, unsigned n);
/* Unless there is an error already, drains; destroys d, which may be NULL; returns the error. */
int job_close(struct gyre_delayed *d, int err);

/*
 * A job's fn: oracle 1.  With constant updates, x after each tick n is what it began with, the mean
 * updates of the p K ticks in the K rounds merged so far, and the rank's own ones since.
 */
int job_constant_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx);
/*
 * After a failure: a communicator of those that are left, in the place of *comm, and d goes on
 * there; again, until it has worked on all.  -errno: this rank is out.
 */
int job_recover(struct gyre_delayed *d, struct gyre_comm **comm);
/* One try: 1 when it has worked on all, 0 when not. */
int job_recover_once(struct gyre_delayed *d, struct gyre_comm **comm);
/* Whether all that are left have ok; -errno when this rank is out. */
int job_agree(struct gyre_comm *comm, bool ok);
/* Of a killed rank's handle, what its stack alone knew.  NULL is fine. */
void job_bury(struct gyre_delayed *d);
/* That all ranks' x are equal. */
void job_check_equal(const struct job *j);
#endif
