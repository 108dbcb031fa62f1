/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * api_coll.c - the public collectives: arguments in, a run out.
 *
 * Every collective has three entry points that differ only in what happens to the request: the
 * blocking one waits for it and hands it back, the nonblocking one starts it, _init only keeps it.
 */
#include <errno.h>
#include <string.h>

#include "lib/context.h"
#include "lib/line.h"
#include "lib/log.h"
#include "lib/request.h"

enum how { BLOCKING, NONBLOCKING, PERSISTENT };

/* A call's arguments. */
struct call {
	const char *name;		/* of the public function, for messages */
	enum gy_coll coll;
	const void *in;
	void *out;
	size_t count;
	enum gyre_type type;
	enum gyre_op op;
	int root;
	struct gyre_comm *comm;
};

static gy_cold int call_refuse(const struct call *c, const char *what)
{
	gy_err("%s: %s", c->name, what);
	return -EINVAL;
}

/* NULL or GYRE_IN_PLACE. */
static inline bool call_is_nowhere(const void *ptr)
{
	return (uintptr_t)ptr + 1 <= 1;
}

static inline __attribute__((always_inline)) bool call_has_memory(const struct call *c)
{
	return c->coll == GY_BARRIER ||
	       (!call_is_nowhere(c->out) && (c->in || c->coll == GY_BROADCAST));
}

static int call_check(const struct call *c)
{
	const bool reduces = c->coll == GY_ALLREDUCE || c->coll == GY_REDUCE_SCATTER;

	if (gy_unlikely(!c->comm))
		return call_refuse(c, "comm is NULL");
	if (gy_unlikely((unsigned)c->type >= GYRE_NTYPES))
		return call_refuse(c, "type is not an enum gyre_type");
	if (gy_unlikely(reduces && (unsigned)c->op >= GYRE_NOPS))
		return call_refuse(c, "op is not an enum gyre_op");
	if (gy_unlikely(c->count >= SIZE_MAX / 16 / UINT16_MAX))
		return call_refuse(c, "count is too large for the address space");
	if (gy_unlikely(c->count && call_is_nowhere(c->out)))
		return call_refuse(c, c->coll == GY_BROADCAST ? "buf is NULL or GYRE_IN_PLACE"
							      : "out is NULL or GYRE_IN_PLACE");
	if (gy_unlikely(c->count && !c->in && c->coll != GY_BROADCAST))
		return call_refuse(c, "in is NULL");
	if (gy_unlikely(c->coll == GY_BROADCAST && (c->root < 0 || c->root >= c->comm->size)))
		return call_refuse(c, "root is not a rank of comm");
	return 0;
}

static void request_fill(struct gyre_request *req, const struct call *c)
{
	req->comm = c->comm;
	req->kind = GY_REQ_COLL;
	req->coll = c->coll;
	req->in = c->in;
	req->out = c->out;
	req->count = c->count;
	req->type = c->type;
	req->op = c->op;
	req->root = c->root;
	req->status = (struct gyre_status){ .source = -1, .tag = -1, .count = c->count };
}

/* One rank: the result is the input. */
static void coll_alone(struct gy_engine *e, const struct gyre_request *req)
{
	if (req->in && req->in != GYRE_IN_PLACE && req->count)
		gy_kernel_copy(e->kernels, req->out, req->in,
			       req->count * gyre_type_size(req->type));
}

/* The grid: how blocks lie in memory, in elements; equal on all ranks. */
static void run_bind_blocks(struct gy_run *run, const struct gyre_request *req)
{
	const uint64_t n = run->plan->nblocks, line = GY_CACHELINE / run->es;

	if (req->coll == GY_REDUCE_SCATTER || req->coll == GY_ALLGATHER) {
		run->q = req->count;
		run->total = req->count * (uint64_t)req->comm->size;
		return;
	}
	run->total = req->count;
	run->q = (req->count + n - 1) / n;
	if (run->q > 16 * line)		/* whole cache lines, when that costs no balance */
		run->q = (run->q + line - 1) / line * line;
}

static inline void run_bind_memory(struct gy_run *run, const void *in, void *out)
{
	run->mem[GY_OUT] = out;
	run->mem[GY_IN] = (void *)in;
	if (in == GYRE_IN_PLACE)	/* IN begins where the plan's alias says */
		run->mem[GY_IN] = (char *)out + run->in_place_off;
}

static void run_bind(struct gy_engine *e, struct gyre_request *req, const struct gy_choice *choice)
{
	struct gy_run *run = &req->run;
	const struct gyre_comm *comm = req->comm;

	run->es = gyre_type_size(req->type);
	run_bind_blocks(run, req);
	run->grain = ((uint64_t)1 << choice->grain_log2) / run->es;
	run->in_place_off = req->coll == GY_ALLGATHER ? (size_t)comm->rank * req->count * run->es
						      : 0;
	run->type = req->type;
	run->reduce = gy_kernel_reduce_upto(e->kernels, req->type, req->op, run->total * run->es);
	run->divide = req->op == GYRE_AVG ? (unsigned)comm->size : 0;
	run->peer = -1;
	run->hdr = (struct gy_hdr){
		.coll = req->coll,
		.type = req->type,
		.op = req->op,
		.algo = choice->algo_id,
		.grain_log2 = choice->grain_log2,
		.root = (uint16_t)req->root,
		.comm = comm->id,
		.count = req->count,
	};
}

/* Binds req's run to its call: algorithm, plan, grid, fingerprint. */
static int coll_bind(struct gy_engine *e, struct gyre_request *req, const struct gy_call_key *key)
{
	struct gyre_comm *comm = req->comm;
	const uint64_t bytes =
		gy_coll_bytes(req->coll, req->count, comm->size, gyre_type_size(req->type));
	const struct gy_choice *choice = gy_select(&comm->select, req->coll, bytes);
	int err;

	req->bound.comm = NULL;
	err = gy_comm_plan(comm, choice->algo, req->root, req->in == GYRE_IN_PLACE,
			   &req->run.plan);
	if (err)
		return err;
	req->run.comm = comm;
	run_bind(e, req, choice);
	run_bind_memory(&req->run, req->in, req->out);
	err = req->run.total * req->run.es <= gy_line_bytes(e) ? gy_line_compile(e, &req->run)
							       : -EOPNOTSUPP;
	req->line = !err;
	if (err != -ENOTCONN && err != -ENOMEM)		/* else: perhaps by a line the next time */
		req->bound = *key;
	return 0;
}

static inline void run_enlist(struct gy_engine *e, struct gyre_comm *comm, struct gy_run *run)
{
	run->hdr.seq = comm->seq++;
	atomic_store_explicit(&run->state, GY_RUN_RUNNING, memory_order_relaxed);
	gy_list_add_tail(&comm->runs, &run->comm_link);
	gy_engine_count(e, 1);
}

int gy_coll_start(struct gy_engine *e, struct gyre_request *req, bool wait)
{
	struct gyre_comm *comm = req->comm;
	const struct gy_call_key key = {
		.comm = comm,
		.count = req->count,
		.call = gy_call_word(req->coll, req->type, req->op, req->root,
				     req->in == GYRE_IN_PLACE),
	};
	struct gy_run *run = &req->run;
	int err;

	gy_assert(gy_driver_held(e));
	err = atomic_load_explicit(&comm->err, memory_order_relaxed);
	if (gy_unlikely(err))
		return err;
	if (gy_unlikely(comm->size == 1)) {
		coll_alone(e, req);
		req->bound.comm = NULL;		/* what it was before is not this call's */
		req->line = false;
		req->active = true;
		gy_request_done(e, req, 0);
		return 0;
	}
	if (gy_unlikely(gy_engine_nruns(e) >= GY_MAX_RUNS))
		return -EAGAIN;
	if (gy_unlikely(!gy_call_equal(&key, &req->bound))) {
		err = coll_bind(e, req, &key);
		if (err)
			return err;
	}
	run_bind_memory(run, req->in, req->out);
	req->active = true;
	if (wait && req->line && !gy_engine_nruns(e)) {
		run_enlist(e, comm, run);
		gy_straight_run(e, run);
		return 0;
	}
	err = gy_run_prepare(run, run->plan);
	if (gy_unlikely(err)) {
		req->active = false;
		return err;
	}
	run_enlist(e, comm, run);
	gy_run_start(e, run);
	return 0;
}

/* ---- entry points ---- */

static inline bool call_is_running(const struct gyre_request *req)
{
	return atomic_load_explicit(&req->run.state, memory_order_relaxed) == GY_RUN_RUNNING;
}

/*
 * The request of a small call stays with its communicator: the next one of this collective is
 * likely the same.  Not in the place of one that another thread's call is running, or was when the
 * communicator failed.
 */
static void call_keep(struct gy_engine *e, struct gyre_request *req)
{
	struct gyre_comm *comm = req->bound.comm;
	struct gyre_request *before = comm->last[req->coll];

	if (before &&
	    (call_is_running(before) || atomic_load_explicit(&comm->err, memory_order_relaxed))) {
		gy_request_put(e, req);
		return;
	}
	if (before)
		gy_request_put(e, before);
	comm->last[req->coll] = req;
}

/* It has left its line.  Nobody may start it again before this thread has seen its end. */
static gy_cold void call_finish(struct gy_engine *e, struct gyre_request *req)
{
	req->bound.comm->last[req->coll] = NULL;
	gy_engine_wait(e, &req->run);
	call_keep(e, req);
}

/*
 * The hot path: the same small call as the last one of this collective on its communicator, which
 * was found valid and has a line.  False: not that; nothing has happened.  A line holds the
 * request: while it runs, another thread finds that some operation is outstanding, and where it
 * ends early, an error.
 */
static inline __attribute__((always_inline)) bool call_again(const struct call *c, int *err)
{
	const uint64_t word =
		gy_call_word(c->coll, c->type, c->op, c->root, c->in == GYRE_IN_PLACE);
	struct gyre_request *req;
	struct gy_engine *e;

	/* What has no room in the key is no type or operator. */
	if (gy_unlikely(!c->comm || !call_has_memory(c) ||
			((unsigned)c->type | (unsigned)c->op) > UINT8_MAX))
		return false;
	e = &c->comm->ctx->engine;
	gy_engine_enter(e);
	req = c->comm->last[c->coll];
	if (gy_unlikely(!req || req->bound.count != c->count || req->bound.call != word ||
			gy_engine_nruns(e) ||
			atomic_load_explicit(&c->comm->err, memory_order_relaxed))) {
		gy_engine_leave(e);
		return false;
	}
	run_bind_memory(&req->run, c->in, c->out);
	run_enlist(e, c->comm, &req->run);
	gy_straight_run(e, &req->run);
	if (gy_unlikely(call_is_running(req)))
		call_finish(e, req);
	*err = req->run.err;
	gy_engine_exit(e);
	return true;
}

static int call_block(const struct call *c)
{
	struct gy_engine *e = &c->comm->ctx->engine;
	struct gyre_request *req;
	unsigned idle = 0;
	int err;

	gy_engine_enter(e);
	for (;;) {
		req = gy_request_get(e);
		err = -ENOMEM;
		if (!req)
			break;
		request_fill(req, c);
		err = gy_coll_start(e, req, true);
		if (!err) {
			gy_engine_wait(e, &req->run);
			err = req->run.err;
		}
		if (!err && req->line)
			call_keep(e, req);
		else
			gy_request_put(e, req);
		if (gy_likely(err != -EAGAIN))
			break;
		if (!gy_engine_progress(e))	/* a blocking call waits for its turn */
			gy_engine_wait_step(e, &idle);
	}
	gy_engine_exit(e);
	return err;
}

static int call_request(const struct call *c, enum how how, struct gyre_request **reqp)
{
	struct gy_engine *e = &c->comm->ctx->engine;
	struct gyre_request *req;
	int err = 0;

	if (!reqp)
		return call_refuse(c, "reqp is NULL");
	gy_engine_enter(e);
	req = gy_request_get(e);
	if (req) {
		request_fill(req, c);
		req->persistent = how == PERSISTENT;
		if (how == NONBLOCKING)
			err = gy_coll_start(e, req, false);
		if (err)
			gy_request_put(e, req);
		else
			*reqp = req;
	} else {
		err = -ENOMEM;
	}
	gy_engine_exit(e);
	return err;
}

static int call_make(const struct call *c, enum how how, struct gyre_request **reqp)
{
	const int err = call_check(c);

	if (gy_unlikely(err))
		return err;
	return how == BLOCKING ? call_block(c) : call_request(c, how, reqp);
}

/* Inlined into the entry points, where most of the call is constant. */
static inline __attribute__((always_inline)) int call_blocking(const struct call *c)
{
	struct call first;
	int err;

	if (gy_likely(call_again(c, &err)))
		return err;
	first = *c;	/* so that nothing of a call is in memory otherwise */
	return call_make(&first, BLOCKING, NULL);
}

int gyre_allreduce(const void *in, void *out, size_t count, enum gyre_type type, enum gyre_op op,
		   struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_allreduce",
		.coll = GY_ALLREDUCE,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_blocking(&c);
}

int gyre_iallreduce(const void *in, void *out, size_t count, enum gyre_type type, enum gyre_op op,
		    struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_iallreduce",
		.coll = GY_ALLREDUCE,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_allreduce_init(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_allreduce_init",
		.coll = GY_ALLREDUCE,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_reduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_reduce_scatter",
		.coll = GY_REDUCE_SCATTER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_blocking(&c);
}

int gyre_ireduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			 enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_ireduce_scatter",
		.coll = GY_REDUCE_SCATTER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_reduce_scatter_init(const void *in, void *out, size_t count, enum gyre_type type,
			     enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_reduce_scatter_init",
		.coll = GY_REDUCE_SCATTER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_allgather(const void *in, void *out, size_t count, enum gyre_type type,
		   struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_allgather",
		.coll = GY_ALLGATHER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.comm = comm,
	};

	return call_blocking(&c);
}

int gyre_iallgather(const void *in, void *out, size_t count, enum gyre_type type,
		    struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_iallgather",
		.coll = GY_ALLGATHER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_allgather_init(const void *in, void *out, size_t count, enum gyre_type type,
			struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_allgather_init",
		.coll = GY_ALLGATHER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_broadcast(void *buf, size_t count, enum gyre_type type, int root, struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_broadcast",
		.coll = GY_BROADCAST,
		.out = buf,
		.count = count,
		.type = type,
		.root = root,
		.comm = comm,
	};

	return call_blocking(&c);
}

int gyre_ibroadcast(void *buf, size_t count, enum gyre_type type, int root, struct gyre_comm *comm,
		    struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_ibroadcast",
		.coll = GY_BROADCAST,
		.out = buf,
		.count = count,
		.type = type,
		.root = root,
		.comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_broadcast_init(void *buf, size_t count, enum gyre_type type, int root,
			struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_broadcast_init",
		.coll = GY_BROADCAST,
		.out = buf,
		.count = count,
		.type = type,
		.root = root,
		.comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_barrier(struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_barrier", .coll = GY_BARRIER, .type = GYRE_UINT8, .comm = comm,
	};

	return call_blocking(&c);
}

int gyre_ibarrier(struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_ibarrier", .coll = GY_BARRIER, .type = GYRE_UINT8, .comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_barrier_init(struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_barrier_init",
		.coll = GY_BARRIER,
		.type = GYRE_UINT8,
		.comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}
