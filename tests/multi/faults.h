/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_FAULTS_H
#define GY_FAULTS_H
/*
 * Misuse and faults: ranks whose calls do not match, that die, are late, or leave while they are
 * needed.
 *
 *   faults.c		calls as data, buffers, what was logged
 *   faults_mismatch.c	calls that do not match, in the simulator
 *   faults_kill.c	death at every event, in the simulator
 *   faults_late.c	late, stopped and leaving ranks, in the simulator
 *   faults_request.c	requests and communicators at their limits, in the simulator
 *   faults_proc.c	the same with real processes
 *   faults_recall.c	lent memory that is taken back, with real processes
 */
#include <gyre/gyre.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/long.h"

#define FAULTS_MAX_RANKS 16
#define FAULTS_MAX_COUNT 40001		/* elements of 4 bytes, of a call and rank */
#define FAULTS_SECOND 30000
#define FAULTS_NCALLS 18
#define FAULTS_S 1000000000ull

enum faults_coll { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, BARRIER };

struct faults_call {
	enum faults_coll coll;
	enum gyre_type type;
	enum gyre_op op;
	unsigned count;
	int root;
};

/* Each two of them do not match. */
extern const struct faults_call faults_calls[FAULTS_NCALLS];

/* Big enough for each call; zeroed.  One for each rank. */
struct faults_buf {
	float in[FAULTS_MAX_RANKS * FAULTS_MAX_COUNT];
	float out[FAULTS_MAX_RANKS * FAULTS_MAX_COUNT];
	float second[FAULTS_SECOND];
};

int faults_do(const struct faults_call *call, struct faults_buf *buf, struct gyre_comm *comm);
int faults_start(const struct faults_call *call, struct faults_buf *buf, struct gyre_comm *comm,
		 struct gyre_request **reqp);
/*
 * One random step of a stream: a collective, two at once, or messages round the ring, the same on
 * all ranks for the same seed.  Fills the buffers and checks the result; -EBADMSG: it is wrong.
 */
int faults_step(uint64_t seed, struct faults_buf *buf, struct gyre_comm *comm);
/* As the library names it. */
void faults_text(const struct faults_call *call, char *text, size_t len);

/* splitmix64 */
uint64_t faults_next(uint64_t *state);

uint64_t faults_slowdown(void);		/* GY_TEST_SLOWDOWN: sanitizers */

/* What goes to stderr meanwhile; only one at a time.  The text is the caller's, freed by free. */
void faults_capture(void);
char *faults_captured(void);

/*
 * Each runs count cases (0: as many as fit), each of its own seed; prints those that fail; 0 or 1.
 */
int faults_mismatch(uint64_t seed, unsigned count);
int faults_kill(uint64_t seed, unsigned count);
int faults_late(uint64_t seed, unsigned count);
int faults_request(uint64_t seed, unsigned count);
int faults_proc(uint64_t seed, unsigned count);
int faults_recall(uint64_t seed, unsigned count);
#endif
