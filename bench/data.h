/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_DATA_H
#define BENCH_DATA_H
/*
 * What a benchmark moves: buffers of a collective with numbers whose result is known.  Needs the
 * enums of <gyre/types.h> and nothing else of gyre: the programs for other systems share it.
 */
#include <stdbool.h>
#include <stddef.h>

#include <gyre/types.h>

#include "bench/proto.h"

#ifdef __cplusplus
extern "C" {
#endif

enum data_shape {
	DATA_ALLREDUCE,
	DATA_REDUCE_SCATTER,	/* the size is that of the input */
	DATA_ALLGATHER,		/* the size is that of the input */
	DATA_BCAST,		/* from rank 0, in place: out only */
	DATA_PINGPONG,		/* rank 0's in arrives in rank 1's out, and the reverse */
	DATA_STREAM,		/* rank 0's in arrives in rank 1's out, copies times */
	DATA_NOTHING		/* barrier */
};

#define DATA_MAX_COPIES 64	/* OSU's window */

/*
 * data_layout sets the counts, the caller points in and out at memory of in_bytes and out_bytes
 * (0: none is needed), data_fill fills it.
 */
struct data_buffers {
	enum data_shape shape;
	enum gyre_type type;
	enum gyre_op op;
	int rank, nranks;
	size_t count;	/* as the collective is called with */
	size_t copies;	/* DATA_STREAM: messages under way at once, less for large ones */
	size_t in_bytes, out_bytes;
	void *in[PROTO_SETS], *out[PROTO_SETS];
};

/* Shape, type, op, rank and nranks are set.  Lowers *bytes to what whole elements on each rank
 * make; -ERANGE when that is none. */
int data_layout(struct data_buffers *b, size_t *bytes);
void data_fill(struct data_buffers *b, int set);
/* 0 or -EBADMSG with a line on stderr; spoils the result (see proto_ops.check). */
int data_check(struct data_buffers *b, int set);

/* Page-aligned heap memory; NULL when there is none.  Freed by free(3). */
void *data_alloc(size_t len);
/* in and out of all sets by data_alloc, and filled.  -ENOMEM. */
int data_heap_get(struct data_buffers *b);
void data_heap_put(struct data_buffers *b);

/* Values of "f32", "sum", ... or -1. */
int data_type_by_name(const char *name);
int data_op_by_name(const char *name);

#ifdef __cplusplus
}
#endif
#endif
