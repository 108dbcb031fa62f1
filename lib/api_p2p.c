/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * api_p2p.c - the public sends and receives: arguments in, requests out, which p2p.c starts.
 * Locking: each takes the token.
 */
#include <errno.h>

#include "lib/context.h"
#include "lib/log.h"
#include "lib/request.h"

struct p2p_args {
	enum gy_request_kind kind;
	struct gyre_comm *comm;
	const void *in;
	void *out;
	size_t count;
	enum gyre_type type;
	int rank, tag;
};

/* What a call's arguments are called. */
struct p2p_names {
	const char *buf, *count, *type, *rank, *tag;
};

static const struct p2p_names p2p_send_names = { "buf", "count", "type", "dest", "tag" };
static const struct p2p_names p2p_recv_names = { "buf", "count", "type", "source", "tag" };
static const struct p2p_names p2p_sendrecv_names[] = {
	{ "recvbuf", "recvcount", "recvtype", "source", "recvtag" },
	{ "sendbuf", "sendcount", "sendtype", "dest", "sendtag" },
};

static gy_cold int p2p_bad(const char *name, const char *arg, const char *what)
{
	gy_err("%s: %s %s", name, arg, what);
	return -EINVAL;
}

static int p2p_check(const char *name, const struct p2p_args *a, const struct p2p_names *arg)
{
	const bool recv = a->kind == GY_REQ_RECV;
	const void *buf = recv ? a->out : a->in;

	if (gy_unlikely(!a->comm))
		return p2p_bad(name, "comm", "is NULL");
	if (gy_unlikely((unsigned)a->type >= GYRE_NTYPES))
		return p2p_bad(name, arg->type, "is not an enum gyre_type");
	if (gy_unlikely(a->count > SIZE_MAX / 16))
		return p2p_bad(name, arg->count, "is too large for the address space");
	if (gy_unlikely(a->count && (!buf || buf == GYRE_IN_PLACE)))
		return p2p_bad(name, arg->buf, "is NULL or GYRE_IN_PLACE");
	if (gy_unlikely((a->rank < 0 && !(recv && a->rank == GYRE_ANY_SOURCE)) ||
			a->rank >= a->comm->size))
		return p2p_bad(name, arg->rank, "is not a rank of comm");
	if (gy_unlikely(a->tag < 0 && !(recv && a->tag == GYRE_ANY_TAG)))
		return p2p_bad(name, arg->tag, "is negative");
	return 0;
}

/* A request for a valid call; started unless persistent. */
static int p2p_make(struct gy_engine *e, const struct p2p_args *args, bool persistent,
		    struct gyre_request **reqp)
{
	struct gyre_request *req = gy_request_get(e);
	int err = 0;

	if (!req)
		return -ENOMEM;
	req->comm = args->comm;
	req->kind = args->kind;
	req->in = args->in;
	req->out = args->out;
	req->count = args->count;
	req->type = args->type;
	req->root = args->rank;
	req->tag = args->tag;
	req->status = (struct gyre_status){ .source = -1, .tag = -1 };
	req->persistent = persistent;
	if (!persistent)
		err = gy_p2p_start(e, req);
	if (err)
		gy_request_put(e, req);
	else
		*reqp = req;
	return err;
}

static int p2p_request(const char *name, const struct p2p_args *args, bool persistent,
		       struct gyre_request **reqp)
{
	struct gy_engine *e;
	int err;

	err = p2p_check(name, args,
			args->kind == GY_REQ_RECV ? &p2p_recv_names : &p2p_send_names);
	if (err)
		return err;
	if (!reqp)
		return p2p_bad(name, "reqp", "is NULL");
	e = &args->comm->ctx->engine;
	gy_engine_enter(e);
	err = p2p_make(e, args, persistent, reqp);
	gy_engine_exit(e);
	return err;
}

/*
 * A receive that is not to be, since the send that goes with it cannot be.  One that has its
 * message already cannot give it back.
 */
static gy_cold void p2p_withdraw(struct gy_engine *e, struct gyre_request *recv, int err)
{
	if (atomic_load_explicit(&recv->run.state, memory_order_relaxed) != GY_RUN_RUNNING ||
	    recv->run.plan) {
		gy_comm_fail(recv->comm, err, "rank %d has received, and cannot send: %s",
			     recv->comm->rank, gyre_strerror(err));
		return;
	}
	gy_list_del(&recv->link);
	gy_request_done(e, recv, err);
}

/* Blocking: n requests started in order and waited for; statuses may be NULL, or have NULLs. */
static int p2p_block(struct gy_engine *e, const struct p2p_args *args, unsigned n,
		     struct gyre_status *status)
{
	struct gyre_request *req[2] = { NULL, NULL };
	unsigned i, idle = 0;
	int err = 0, one;

	gy_engine_enter(e);
	for (i = 0; i < n && !err; i++) {
		while ((err = p2p_make(e, &args[i], false, &req[i])) == -EAGAIN) {
			if (!gy_engine_progress(e))	/* a blocking call waits for its turn */
				gy_engine_wait_step(e, &idle);
		}
	}
	if (err && req[0])
		p2p_withdraw(e, req[0], err);
	for (i = 0; i < n && req[i]; i++) {
		gy_request_await(e, req[i]);
		one = req[i]->run.err;
		if (!err)
			err = one;
		if (status && req[i]->kind == GY_REQ_RECV)
			*status = req[i]->status;
		gy_request_put(e, req[i]);
	}
	gy_engine_exit(e);
	return err;
}

static struct p2p_args send_args(const void *buf, size_t count, enum gyre_type type, int dest,
				 int tag, struct gyre_comm *comm)
{
	return (struct p2p_args){
		.kind = GY_REQ_SEND,
		.comm = comm,
		.in = buf,
		.count = count,
		.type = type,
		.rank = dest,
		.tag = tag,
	};
}

static struct p2p_args recv_args(void *buf, size_t count, enum gyre_type type, int source, int tag,
				 struct gyre_comm *comm)
{
	return (struct p2p_args){
		.kind = GY_REQ_RECV,
		.comm = comm,
		.out = buf,
		.count = count,
		.type = type,
		.rank = source,
		.tag = tag,
	};
}

int gyre_send(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
	      struct gyre_comm *comm)
{
	const struct p2p_args args = send_args(buf, count, type, dest, tag, comm);
	const int err = p2p_check("gyre_send", &args, &p2p_send_names);

	return err ? err : p2p_block(&comm->ctx->engine, &args, 1, NULL);
}

int gyre_isend(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
	       struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct p2p_args args = send_args(buf, count, type, dest, tag, comm);

	return p2p_request("gyre_isend", &args, false, reqp);
}

int gyre_send_init(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
		   struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct p2p_args args = send_args(buf, count, type, dest, tag, comm);

	return p2p_request("gyre_send_init", &args, true, reqp);
}

int gyre_recv(void *buf, size_t count, enum gyre_type type, int source, int tag,
	      struct gyre_comm *comm, struct gyre_status *status)
{
	const struct p2p_args args = recv_args(buf, count, type, source, tag, comm);
	const int err = p2p_check("gyre_recv", &args, &p2p_recv_names);

	return err ? err : p2p_block(&comm->ctx->engine, &args, 1, status);
}

int gyre_irecv(void *buf, size_t count, enum gyre_type type, int source, int tag,
	       struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct p2p_args args = recv_args(buf, count, type, source, tag, comm);

	return p2p_request("gyre_irecv", &args, false, reqp);
}

int gyre_recv_init(void *buf, size_t count, enum gyre_type type, int source, int tag,
		   struct gyre_comm *comm, struct gyre_request **reqp)
{
	const struct p2p_args args = recv_args(buf, count, type, source, tag, comm);

	return p2p_request("gyre_recv_init", &args, true, reqp);
}

int gyre_sendrecv(const void *sendbuf, size_t sendcount, enum gyre_type sendtype, int dest,
		  int sendtag, void *recvbuf, size_t recvcount, enum gyre_type recvtype, int source,
		  int recvtag, struct gyre_comm *comm, struct gyre_status *status)
{
	const struct p2p_args args[] = {
		recv_args(recvbuf, recvcount, recvtype, source, recvtag, comm),
		send_args(sendbuf, sendcount, sendtype, dest, sendtag, comm),
	};
	int err;

	err = p2p_check("gyre_sendrecv", &args[1], &p2p_sendrecv_names[1]);
	if (!err)
		err = p2p_check("gyre_sendrecv", &args[0], &p2p_sendrecv_names[0]);
	return err ? err : p2p_block(&comm->ctx->engine, args, 2, status);
}
