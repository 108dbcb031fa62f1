/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H
/*
 * Inside gyre-limits: what one rank knows, the loops over memory (limits-loops.c), and the
 * operations that are timed (limits-ops.c).
 */
#include <sys/types.h>

#include "bench/data.h"
#include "bench/flag.h"
#include "bench/local.h"
#include "bench/proto.h"

#define LIMITS_SMALL 4096		/* bytes up to which an allreduce goes through slots */
#define LIMITS_STAGED (64 << 10)	/* bytes of a block that goes through shared memory */
#define LIMITS_PIECE (256 << 10)	/* bytes that one system call reads: fits in any L2 */

/* A small message: the number of the operation and its data behind it, so that 8 bytes and their
 * flag travel in one cache line. */
struct limits_slot {
	_Alignas(64) struct local_flag turn;
	float data[LIMITS_SMALL / sizeof(float)];
};

/* What a rank shows the others. */
struct limits_rank {
	struct limits_slot slots[2];			/* used in turn: see limits_small */
	_Alignas(64) struct local_flag entered;		/* operation: my in and out may be used */
	_Alignas(64) struct local_flag staged;	/* staged: blocks given to the others, ever */
	_Alignas(64) struct local_flag progress;	/* blocks of my part done, ever */
	_Alignas(64) struct local_flag left;	/* operation: I need no peer's memory any more */
	pid_t pid;
	float *in[PROTO_SETS], *out[PROTO_SETS];
};

struct limits_job {
	struct proto_job base;
	struct local_team *team;
	const struct limits_op *op;
	size_t cache;			/* bytes of the last-level cache */
	struct limits_rank *ranks;	/* shared, as are the next two */
	float *stages;			/* staged: see limits_stage */
	char *arena;			/* the mapped buffers of all ranks */
	struct data_buffers buf;
	struct data_buffers second;	/* sum: the other operand */
	float *piece;			/* LIMITS_PIECE bytes that stay in a cache */
	uint64_t turn;			/* operations started */
	uint64_t blocks;		/* of progress, before this operation */
};

/* One thing that is measured. */
struct limits_op {
	const char *name;
	bool mapped;	/* buffers in the arena, else in ordinary memory */
	bool alone;	/* ranks work on memory of their own */
	int (*run)(struct limits_job *job, int set);
};

extern const struct limits_op limits_ops[];
extern const int limits_nops;

/* limits-loops.c: count elements; out may be a. */
void limits_sum(float *out, const float *a, const float *b, size_t count);
/* The sum to two places; with stream past the caches: then all are aligned to 64 bytes. */
void limits_sum_to_both(float *out0, float *out1, const float *a, const float *b, size_t count,
			bool stream);
void limits_copy_past_caches(float *out, const float *in, size_t count);

#endif
