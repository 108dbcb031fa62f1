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

static int call_check(const struct call *c)
{
	const bool reduces = c->coll == GY_ALLREDUCE || c->coll == GY_REDUCE_SCATTER;

	if (gy_unlikely(!c->comm))
		return call_refuse(c, "comm is NULL");
	if (gy_unlikely((unsigned)c->type >= GYRE_NTYPES))
		return call_refuse(c, "type is not an enum gyre_type");
	if (gy_unlikely(reduces && (unsigned)c->op >= GYRE_NOPS))
		return call_refuse(c, "op is not an enum gyre_op");
	if (gy_unlikely(c->count > SIZE_MAX / 16 / (unsigned)c->comm->size))
		return call_refuse(c, "count is too large for the address space");
	if (gy_unlikely(c->count && (!c->out || (!c->in && c->coll != GY_BROADCAST))))
		return call_refuse(c, c->coll == GY_BROADCAST ? "buf is NULL" :
				   c->out ? "in is NULL" : "out is NULL");
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
static void coll_alone(const struct gyre_request *req)
{
	if (req->in && req->in != GYRE_IN_PLACE && req->count)
		memcpy(req->out, req->in, req->count * gyre_type_size(req->type));
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

static void run_bind(struct gy_engine *e, struct gyre_request *req, const struct gy_choice *choice)
{
	struct gy_run *run = &req->run;
	const struct gyre_comm *comm = req->comm;

	run->es = gyre_type_size(req->type);
	run->mem[GY_IN] = (void *)(req->in == GYRE_IN_PLACE ? req->out : req->in);
	run->mem[GY_OUT] = req->out;
	if (req->in == GYRE_IN_PLACE && req->coll == GY_ALLGATHER)
		run->mem[GY_IN] = (char *)req->out + (size_t)comm->rank * req->count * run->es;
	run_bind_blocks(run, req);
	run->grain = ((uint64_t)1 << choice->grain_log2) / run->es;
	run->type = req->type;
	run->reduce = gy_kernel_reduce(e->kernels, req->type, req->op);
	run->divide = req->op == GYRE_AVG ? (unsigned)comm->size : 0;
	run->peer = -1;
	run->hdr = (struct gy_hdr){
		.coll = req->coll, .type = req->type, .op = req->op, .algo = choice->algo_id,
		.grain_log2 = choice->grain_log2, .root = (uint16_t)req->root, .comm = comm->id,
		.count = req->count,
	};
}

int gy_coll_start(struct gy_engine *e, struct gyre_request *req, bool wait)
{
	const bool in_place = req->in == GYRE_IN_PLACE;
	struct gyre_comm *comm = req->comm;
	struct gy_run *run = &req->run;
	const struct gy_choice *choice;
	const struct gy_plan *plan;
	bool straight;
	int err;

	gy_assert(gy_driver_held(e));
	err = atomic_load_explicit(&comm->err, memory_order_relaxed);
	if (gy_unlikely(err))
		return err;
	if (comm->size == 1) {
		coll_alone(req);
		req->active = true;
		gy_request_done(e, req, 0);
		return 0;
	}
	if (gy_unlikely(gy_engine_nruns(e) >= GY_MAX_RUNS))
		return -EAGAIN;
	choice = gy_select(&comm->select, req->coll, gy_coll_bytes(req->coll, req->count, comm->size,
						    gyre_type_size(req->type)));
	err = gy_comm_plan(comm, choice->algo, req->root, in_place, &plan);
	if (gy_unlikely(err))
		return err;
	run->plan = plan;
	run->comm = comm;
	run_bind(e, req, choice);
	straight = wait && gy_straight_fits(e, run);
	if (!straight) {
		err = gy_run_prepare(run, plan);
		if (gy_unlikely(err))
			return err;
	}
	run->hdr.seq = comm->seq++;
	req->active = true;
	atomic_store_explicit(&run->state, GY_RUN_RUNNING, memory_order_relaxed);
	gy_list_add_tail(&comm->runs, &run->comm_link);
	gy_list_add_tail(&e->runs, &run->link);
	gy_engine_count(e, 1);
	if (straight)
		gy_straight_run(e, run);
	else
		gy_run_start(e, run);
	return 0;
}

/* ---- entry points ---- */

static int call_block(const struct call *c)
{
	struct gy_engine *e = &c->comm->ctx->engine;
	struct gyre_request *req;
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
		gy_request_put(e, req);
		if (gy_likely(err != -EAGAIN))
			break;
		gy_engine_progress(e);		/* a blocking call waits for its turn */
		gy_engine_leave(e);
		gy_engine_enter(e);
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

int gyre_allreduce(const void *in, void *out, size_t count, enum gyre_type type, enum gyre_op op,
		   struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_allreduce", .coll = GY_ALLREDUCE, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, BLOCKING, NULL);
}

int gyre_iallreduce(const void *in, void *out, size_t count, enum gyre_type type, enum gyre_op op,
		    struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_iallreduce", .coll = GY_ALLREDUCE, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_allreduce_init(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_allreduce_init", .coll = GY_ALLREDUCE, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_reduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_reduce_scatter", .coll = GY_REDUCE_SCATTER, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, BLOCKING, NULL);
}

int gyre_ireduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			 enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_ireduce_scatter", .coll = GY_REDUCE_SCATTER, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_reduce_scatter_init(const void *in, void *out, size_t count, enum gyre_type type,
			     enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_reduce_scatter_init", .coll = GY_REDUCE_SCATTER, .in = in, .out = out,
		.count = count, .type = type, .op = op, .comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_allgather(const void *in, void *out, size_t count, enum gyre_type type,
		   struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_allgather", .coll = GY_ALLGATHER, .in = in, .out = out,
		.count = count, .type = type, .comm = comm,
	};

	return call_make(&c, BLOCKING, NULL);
}

int gyre_iallgather(const void *in, void *out, size_t count, enum gyre_type type,
		    struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_iallgather", .coll = GY_ALLGATHER, .in = in, .out = out,
		.count = count, .type = type, .comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_allgather_init(const void *in, void *out, size_t count, enum gyre_type type,
			struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_allgather_init", .coll = GY_ALLGATHER, .in = in, .out = out,
		.count = count, .type = type, .comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_broadcast(void *buf, size_t count, enum gyre_type type, int root, struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_broadcast", .coll = GY_BROADCAST, .out = buf,
		.count = count, .type = type, .root = root, .comm = comm,
	};

	return call_make(&c, BLOCKING, NULL);
}

int gyre_ibroadcast(void *buf, size_t count, enum gyre_type type, int root, struct gyre_comm *comm,
		    struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_ibroadcast", .coll = GY_BROADCAST, .out = buf,
		.count = count, .type = type, .root = root, .comm = comm,
	};

	return call_make(&c, NONBLOCKING, reqp);
}

int gyre_broadcast_init(void *buf, size_t count, enum gyre_type type, int root,
			struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct call c = {
		.name = "gyre_broadcast_init", .coll = GY_BROADCAST, .out = buf,
		.count = count, .type = type, .root = root, .comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}

int gyre_barrier(struct gyre_comm *comm)
{
	const struct call c = {
		.name = "gyre_barrier", .coll = GY_BARRIER, .type = GYRE_UINT8, .comm = comm,
	};

	return call_make(&c, BLOCKING, NULL);
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
		.name = "gyre_barrier_init", .coll = GY_BARRIER, .type = GYRE_UINT8, .comm = comm,
	};

	return call_make(&c, PERSISTENT, reqp);
}
