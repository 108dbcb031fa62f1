/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_GYRE_BENCH_H
#define BENCH_GYRE_BENCH_H
/*
 * Inside gyre-bench: one rank's state, and the operations that it times (gyre-bench-ops.c).
 */
#include <gyre/gyre.h>

#include "bench/data.h"
#include "bench/proto.h"

struct bench_job {
	struct proto_job base;
	struct gyre_context *ctx;
	struct gyre_comm *world;
	const struct bench_op *op;
	bool gyre_mem;	/* buffers by gyre_mem_alloc, else from the heap */
	struct data_buffers buf;
};

struct bench_op {
	const char *name;	/* as proto_find knows it */
	const char *coll;	/* as gyre_comm_describe knows it */
	enum data_shape shape;
	int (*run)(struct bench_job *job, int set);
};

/* NULL for an unknown name. */
const struct bench_op *bench_op_find(const char *name);

/* Names of all operations, for the usage message. */
extern const char bench_op_names[];

#endif
