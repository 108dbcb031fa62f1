/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_PLAN_H
#define GY_PLAN_H
/*
 * Plans: what one rank does in a collective, as a list of moves in program order.
 *
 * A move is out[] = reduce(in[]), left to right.  An end of a move is a range of blocks of IN, OUT
 * or SCRATCH, or a stream from or to a peer.  A plan knows blocks, never bytes: no count, address,
 * type or operator; starting it binds a block table.  A planner writes moves as if each ran to its
 * end before the next began; the builder derives every dependency from the ranges.
 *
 * A finished plan is immutable and may be shared by any number of runs.  MT-Unsafe while built.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gy_space {
	GY_IN,
	GY_OUT,
	GY_SCRATCH,
	GY_STREAM,	/* not memory: bytes from (as in) or to (as out) a peer */
};

/*
 * Blocks first, first + stride, ... (count of them), each taken modulo `modulo` when that is not 0.
 * Their concatenation is what the end reads or writes.  No block may occur twice.
 */
struct gy_range {
	uint32_t first, count, stride, modulo;
};

/* The i-th block of a range. */
static inline uint32_t gy_range_block(const struct gy_range *r, uint32_t i)
{
	const uint64_t b = r->first + (uint64_t)i * r->stride;

	return r->modulo ? b % r->modulo : b;
}

struct gy_end {
	uint8_t space;		/* enum gy_space */
	int32_t peer;		/* GY_STREAM: rank in the communicator */
	uint32_t stream;	/* GY_STREAM: the stream-th of this sender to this receiver */
	struct gy_range range;	/* memory: which blocks */
};

enum gy_move_flags {
	/*
	 * This move completes the elements that it writes: AVG divides its result, before it is
	 * stored or sent.  On each path from the inputs to an element of OUT exactly one move that
	 * reduces has it.  Planners say gy_final() after the move.
	 */
	GY_MOVE_FINAL = 1,
};

struct gy_move {
	uint32_t end;		/* ends[end .. end + nin) are inputs, then nout outputs */
	uint16_t nin, nout;
	uint16_t flags;
	uint32_t dep, ndeps;	/* deps[dep .. dep + ndeps) */
};

/*
 * Blocks at .. at + n of this move's sequence (position in its concatenation, not block number)
 * must not run before blocks from .. from + n, position by position, of an earlier move:
 * GY_DEP_DONE: have been computed (this move reads, or overwrites, what that one wrote or read);
 * GY_DEP_FREE: have been computed and have left too: a stream that is sent out of memory reads that
 * memory until the peer has it, and this move overwrites the memory.
 */
enum gy_dep_kind { GY_DEP_DONE, GY_DEP_FREE };

struct gy_dep {
	uint32_t move;
	uint32_t at, from, n;
	uint8_t kind;		/* enum gy_dep_kind */
};

struct gy_plan {
	int rank, nranks;
	uint32_t nblocks;	/* blocks in the grid; IN and OUT have nblocks or 1, see coll.h */
	uint32_t nscratch;	/* scratch sets; block b is as long as grid block b % nblocks */
	uint32_t min_window;	/* moves that must be open at a time: gy_plan_window */
	uint32_t nmoves, nends, ndeps;
	struct gy_move *moves;
	struct gy_end *ends;
	struct gy_dep *deps;
	uint32_t max_inputs;	/* of any move; set by gy_plan_finish */
	struct gy_builder *builder;	/* NULL once finished */
};

/* ---- for the owner of plans (communicator, tests) ---- */

struct gy_coll_args;

/*
 * An empty plan, to be handed to a planner.  in_place: IN block b is OUT block b + alias, so that
 * ranges in IN and OUT can conflict.  NULL: no memory.
 */
struct gy_plan *gy_plan_create(int rank, int nranks, bool in_place, uint32_t alias);

/* Derives dependencies, trims.  0, or the first error of the builder; then only destroy remains. */
int gy_plan_finish(struct gy_plan *pl);
void gy_plan_destroy(struct gy_plan *pl);

/* ---- for planners ---- */

/* The number of blocks in the grid; call once, first.  Default: nranks. */
void gy_plan_blocks(struct gy_plan *pl, uint32_t nblocks);

/*
 * With fewer than n moves open (in program order, from the oldest that is not complete) ranks that
 * run this plan could wait for each other for good.  Default 1; the largest n that was said holds.
 * The checker proves it with the smallest means: a send completes when its receiver has consumed
 * it, a stream that is not sent out of memory holds one grain.
 */
void gy_plan_window(struct gy_plan *pl, uint32_t n);

/* Memory ends: one block, or any range; scratch blocks are set * nblocks + i. */
struct gy_end gy_in(uint32_t block);
struct gy_end gy_out(uint32_t block);
struct gy_end gy_scratch(uint32_t block);
struct gy_end gy_blocks(enum gy_space space, struct gy_range range);

/* Stream ends: the next stream from or to that peer; a's k-th to b is b's k-th from a. */
struct gy_end gy_from(int peer);
struct gy_end gy_to(int peer);

#define GY_MAX_ENDS 128		/* inputs of a move */

/*
 * Appends a move.  Every move has at least one memory end, and all its memory ends are equally
 * long; that is its length.  IN is never written.  Outputs: at most one memory end, any number of
 * streams; each stream carries the result.  An error is kept by the builder and ends the planner's
 * later calls.
 */
void gy_move(struct gy_plan *pl, const struct gy_end *in, uint16_t nin,
	     const struct gy_end *out, uint16_t nout);

/* The move just appended completes its elements. */
void gy_final(struct gy_plan *pl);

/* The usual moves, by gy_move. */
void gy_copy(struct gy_plan *pl, struct gy_end from, struct gy_end to);
void gy_send(struct gy_plan *pl, int peer, struct gy_end from);
void gy_recv(struct gy_plan *pl, int peer, struct gy_end to);
/* to = stream op with */
void gy_recv_reduce(struct gy_plan *pl, int peer, struct gy_end with, struct gy_end to);
/* send (stream op with) on to next, keeping nothing, or keeping it in `keep` */
void gy_recv_reduce_send(struct gy_plan *pl, int peer, struct gy_end with, int next);
void gy_recv_reduce_keep_send(struct gy_plan *pl, int peer, struct gy_end with,
			      struct gy_end keep, int next);
void gy_recv_keep_send(struct gy_plan *pl, int peer, struct gy_end keep, int next);

/*
 * Scopes: until the matching pop, peers p of moves mean rank ranks[p], and memory blocks b of the
 * grid mean block map[b] (map NULL: unchanged), both as the scope around it understands them.
 * gy_plan_blocks within a scope says how many blocks that grid has (default: nranks of the scope)
 * and leaves the plan's grid alone; scratch sets are those of the plan.  What a map makes of a
 * range must be a range again (any stride, wrapping at the end of the grid), else -EINVAL.
 * Scopes nest, GY_MAX_SCOPES deep.  The arrays must live until the pop.
 */
#define GY_MAX_SCOPES 4

void gy_scope_push(struct gy_plan *pl, const int *ranks, int nranks, const uint32_t *map);
void gy_scope_pop(struct gy_plan *pl);

/* The builder's first error, or 0. */
int gy_plan_error(const struct gy_plan *pl);

/*
 * A finished plan for people, one line per move: "3: OUT[2] ->1 = <-3 + IN[2]  after 1, 0 sent".
 * Owned by the caller (gy_free).  NULL: no memory.
 */
char *gy_plan_text(const struct gy_plan *pl);
#endif
