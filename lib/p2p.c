/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * p2p.c - point-to-point: matching sends with receives; the public calls are in api_p2p.c.
 *
 * The first message of a send (EAGER, or LEND or RTS with the promise of more) carries its tag,
 * type and count.  It is matched with the oldest posted receive that fits, or kept with the
 * communicator as unexpected; first messages of one sender are taken in the order of their numbers,
 * whatever the order in which they come.  An eager message is copied out at once; a larger one
 * becomes a run of one move, `recv`, which is bound to the sender's stream.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/request.h"

/* Two plans of one move, whose peer is the run's. */
static struct gy_end p2p_ends[] = {
	{ .space = GY_IN, .range = { .first = 0, .count = 1, .stride = 1 } },
	{ .space = GY_STREAM },
	{ .space = GY_OUT, .range = { .first = 0, .count = 1, .stride = 1 } },
};
static struct gy_move p2p_send_move = { .end = 0, .nin = 1, .nout = 1 };
static struct gy_move p2p_recv_move = { .end = 1, .nin = 1, .nout = 1 };

static const struct gy_plan p2p_send_plan = {
	.nblocks = 1,
	.nmoves = 1,
	.nends = 2,
	.moves = &p2p_send_move,
	.ends = p2p_ends,
	.max_inputs = 1,
	.min_window = 1,
};
static const struct gy_plan p2p_recv_plan = {
	.nblocks = 1,
	.nmoves = 1,
	.nends = 3,
	.moves = &p2p_recv_move,
	.ends = p2p_ends,
	.max_inputs = 1,
	.min_window = 1,
};

static bool p2p_matches(const struct gyre_request *recv, int source, uint32_t tag)
{
	return (recv->root == GYRE_ANY_SOURCE || recv->root == source) &&
	       (recv->tag == GYRE_ANY_TAG || (uint32_t)recv->tag == tag);
}

/* A run of one move for req, not started. */
static int p2p_run_prepare(struct gy_engine *e, struct gyre_request *req,
			   const struct gy_plan *plan, int peer, uint64_t count, uint32_t seq,
			   int tag)
{
	struct gyre_comm *comm = req->comm;
	struct gy_run *run = &req->run;

	req->bound.comm = NULL;
	run->comm = comm;
	run->es = gyre_type_size(req->type);
	run->mem[GY_IN] = (void *)req->in;
	run->mem[GY_OUT] = req->out;
	run->q = run->total = count;
	run->grain = e->pool.slot_size / run->es;
	run->type = req->type;
	run->divide = 0;
	run->peer = peer;
	run->hdr = (struct gy_hdr){
		.coll = GY_P2P,
		.type = req->type,
		.comm = comm->id,
		.seq = seq,
		.count = count,
		.stream = (uint32_t)tag,
	};
	return gy_run_prepare(run, plan);
}

static void p2p_run_enlist(struct gy_engine *e, struct gy_run *run)
{
	run->straight = false;
	run->dirty = true;
	run->moved_ns = e->now_ns;
	atomic_store_explicit(&run->state, GY_RUN_RUNNING, memory_order_relaxed);
	gy_list_add_tail(&run->comm->runs, &run->comm_link);
	gy_list_add_tail(&e->runs, &run->link);
	gy_engine_count(e, 1);
}

/* ---- to oneself ---- */

static void self_transfer(struct gy_engine *e, struct gyre_request *send, struct gyre_request *recv)
{
	int err = 0;

	recv->status = (struct gyre_status){
		.source = send->comm->rank, .tag = send->tag, .count = send->count,
	};
	if (send->type != recv->type)
		err = -EPROTO;
	else if (send->count > recv->count)
		err = -EMSGSIZE;
	else if (send->count)
		gy_kernel_copy(e->kernels, recv->out, send->in,
			       send->count * gyre_type_size(send->type));
	gy_request_done(e, send, 0);
	gy_request_done(e, recv, err);
}

static void self_send(struct gy_engine *e, struct gyre_request *send)
{
	struct gyre_comm *comm = send->comm;
	struct gy_list *pos;

	gy_list_for_each(pos, &comm->posted) {
		struct gyre_request *recv = gy_list_entry(pos, struct gyre_request, link);

		if (!p2p_matches(recv, comm->rank, (uint32_t)send->tag))
			continue;
		gy_list_del(&recv->link);
		self_transfer(e, send, recv);
		return;
	}
	gy_list_add_tail(&comm->self, &send->link);
}

/* ---- receiving ---- */

/* A message that is dropped: its sender gets its memory back.  False: not now. */
static bool p2p_release(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *first)
{
	struct gy_hdr hdr = *first;

	if (first->kind == GY_MSG_EAGER)
		return true;
	hdr.kind = GY_MSG_RELEASE;
	hdr.off = hdr.count;
	hdr.len = 0;
	return gy_peer_msg(e, peer, &hdr, NULL) != -EAGAIN;
}

/* More of a message than its first, which has come while no receive had taken it. */
static void p2p_drop_rest(struct gy_engine *e, const struct gy_parked *first)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &first->peer->parked) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->hdr.kind != GY_MSG_LEND || p->hdr.coll != GY_P2P ||
		    p->hdr.comm != first->hdr.comm || p->hdr.seq != first->hdr.seq)
			continue;
		gy_list_del(&p->link);
		gy_unpark(e, p);
	}
}

bool gy_p2p_is_over(const struct gyre_comm *comm, const struct gy_peer *peer,
		    const struct gy_hdr *hdr)
{
	const int source = gy_comm_rank_of(comm, peer->rank);
	const struct gy_list *pos;

	if (source < 0 || (int32_t)(hdr->seq - comm->received[source]) >= 0)
		return false;
	gy_list_for_each(pos, &comm->unexpected) {
		const struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->peer == peer && p->hdr.seq == hdr->seq)
			return false;
	}
	gy_list_for_each(pos, &comm->runs) {
		const struct gy_run *run = gy_list_entry(pos, struct gy_run, comm_link);

		if (run->plan == &p2p_recv_plan && run->peer == peer->rank &&
		    run->hdr.seq == hdr->seq)
			return false;		/* it has yet to open its stream */
	}
	return true;
}

static void p2p_refuse(struct gy_engine *e, struct gyre_request *recv, struct gy_parked *p)
{
	const bool size = p->hdr.type == recv->type;

	gy_err("receive of %zu %s got %llu %s from rank %d, tag %u", recv->count,
	       gyre_type_name(recv->type), (unsigned long long)p->hdr.count,
	       gyre_type_name(p->hdr.type),
	       recv->status.source, p->hdr.stream);
	p2p_drop_rest(e, p);
	if (p2p_release(e, p->peer, &p->hdr))
		gy_unpark(e, p);
	else
		gy_list_add_tail(&e->dropped, &p->link);
	gy_request_done(e, recv, size ? -EMSGSIZE : -EPROTO);
}

/* Gives a first message to a receive.  p is ours. */
static void p2p_accept(struct gy_engine *e, struct gyre_request *recv, struct gy_parked *p)
{
	struct gyre_comm *comm = recv->comm;
	int err;

	recv->status = (struct gyre_status){
		.source = gy_comm_rank_of(comm, p->peer->rank),
		.tag = (int)p->hdr.stream,
		.count = p->hdr.count,
	};
	if (p->hdr.type != recv->type || p->hdr.count > recv->count ||
	    (p->hdr.kind == GY_MSG_EAGER &&
	     p->hdr.len != p->hdr.count * gyre_type_size(recv->type))) {
		p2p_refuse(e, recv, p);
		return;
	}
	if (p->hdr.kind == GY_MSG_EAGER) {
		if (p->hdr.len)
			gy_kernel_copy(e->kernels, recv->out, p->body, p->hdr.len);
		gy_unpark(e, p);
		gy_request_done(e, recv, 0);
		return;
	}
	err = p2p_run_prepare(e, recv, &p2p_recv_plan, p->peer->rank, p->hdr.count, p->hdr.seq,
			      (int)p->hdr.stream);
	/* The run's stream finds it there, before what followed it. */
	gy_list_add_head(&p->peer->parked, &p->link);
	if (err) {
		gy_request_done(e, recv, err);
		gy_comm_fail(comm, err, "no memory to receive a message");
		return;
	}
	p2p_run_enlist(e, &recv->run);
}

static void p2p_match(struct gy_engine *e, struct gyre_comm *comm, struct gy_parked *p)
{
	const int source = gy_comm_rank_of(comm, p->peer->rank);
	struct gy_list *pos;

	gy_list_for_each(pos, &comm->posted) {
		struct gyre_request *recv = gy_list_entry(pos, struct gyre_request, link);

		if (!p2p_matches(recv, source, p->hdr.stream))
			continue;
		gy_list_del(&recv->link);
		p2p_accept(e, recv, p);
		return;
	}
	gy_list_add_tail(&comm->unexpected, &p->link);
}

/* p, which is in no list, is a first message of that rank. */
static void p2p_take(struct gyre_comm *comm, int source, struct gy_parked *p)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_peer *peer = p->peer;
	struct gy_list *pos, *after;
	bool found;

	if (p->hdr.seq != comm->received[source]) {
		gy_list_add_tail(&comm->early, &p->link);
		return;
	}
	comm->received[source]++;
	p2p_match(e, comm, p);
	do {	/* later ones that it had overtaken */
		found = false;
		gy_list_for_each_safe(pos, after, &comm->early) {
			p = gy_list_entry(pos, struct gy_parked, link);
			if (p->peer != peer || p->hdr.seq != comm->received[source])
				continue;
			gy_list_del(&p->link);
			comm->received[source]++;
			p2p_match(e, comm, p);
			found = true;
			break;
		}
	} while (found);
}

void gy_p2p_arrived(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr,
		    const void *body)
{
	const int source = gy_comm_rank_of(comm, peer->rank);
	struct gy_parked *p;

	if (source < 0)
		return;
	if ((int32_t)(hdr->seq - comm->received[source]) < 0) {
		gy_peer_expel(peer, -EPROTO, "it sent a message twice");
		return;
	}
	p = gy_park(&comm->ctx->engine, peer, hdr, body);
	if (p)
		p2p_take(comm, source, p);
	else
		gy_comm_fail(comm, -ENOMEM, "no memory for a message of rank %d", source);
}

void gy_p2p_opened(struct gyre_comm *comm)
{
	struct gy_list *pos, *after;
	int r;

	for (r = 0; r < comm->size; r++) {
		struct gy_peer *peer = comm->ctx->engine.peers[comm->ranks[r]];

		if (!peer)
			continue;
		gy_list_for_each_safe(pos, after, &peer->parked) {
			struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

			if (p->hdr.comm != comm->id || !gy_p2p_is_first(&p->hdr))
				continue;
			gy_list_del(&p->link);
			p2p_take(comm, r, p);
		}
	}
}

/* ---- late ones ---- */

/* arg: the peer is to send it. */
void gy_p2p_ask(const struct gy_run *run, struct gy_hdr *hdr)
{
	const int rank = gy_comm_rank_of(run->comm, run->peer);

	hdr->arg = run->plan != &p2p_send_plan;
	if (!run->plan && rank >= 0) /* the next that comes may be it */
		hdr->seq = run->comm->received[rank];
}

bool gy_p2p_has_done(const struct gyre_comm *past, const struct gy_peer *peer,
		     const struct gy_hdr *hdr)
{
	const int rank = gy_comm_rank_of(past, peer->rank);
	const bool sends = hdr->kind == GY_MSG_WAIT && hdr->arg;	/* this rank, to the peer */

	if (rank < 0)
		return false;
	return (int32_t)((sends ? past->sent : past->received)[rank] - hdr->seq) > 0;
}

void gy_p2p_release_dropped(struct gy_engine *e)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &e->dropped) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (!p2p_release(e, p->peer, &p->hdr))
			continue;
		gy_list_del(&p->link);
		gy_unpark(e, p);
	}
}

bool gy_p2p_has_told(struct gy_engine *e, const struct gy_peer *peer)
{
	const struct gy_list *pos;

	gy_p2p_release_dropped(e);
	gy_list_for_each(pos, &e->dropped)
		if (gy_list_entry(pos, struct gy_parked, link)->peer == peer)
			return false;
	return true;
}

/* Requests that wait to be matched, and that a thread waits for. */
static void p2p_check_late(struct gyre_comm *comm, struct gy_list *list)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos;

	gy_list_for_each(pos, list) {
		struct gyre_request *req = gy_list_entry(pos, struct gyre_request, link);

		if (!req->awaited)
			continue;
		gy_run_check_late(e, &req->run);
		if (atomic_load_explicit(&comm->err, memory_order_relaxed))
			return;		/* and the list is empty */
	}
}

void gy_p2p_tick(struct gyre_comm *comm)
{
	p2p_check_late(comm, &comm->posted);
	p2p_check_late(comm, &comm->self);
}

/*
 * Whether a message for recv can still come: connects to whoever could send it, so that its end
 * would be seen.  When none can, the communicator has failed.
 */
static int p2p_can_come(const struct gyre_request *recv)
{
	struct gyre_comm *comm = recv->comm;
	struct gy_peer *peer, *gone = NULL;
	bool can = false;
	int i, err = 0;

	for (i = 0; i < comm->size && !err; i++) {
		if (recv->root != GYRE_ANY_SOURCE && recv->root != i)
			continue;
		if (i == comm->rank) {
			/* from any: nobody waits for himself alone */
			can |= recv->root == i;
			continue;
		}
		err = gy_peer_get(comm->ctx, comm->ranks[i], &peer);
		if (err)
			break;
		if (peer->left || peer->state == GY_PEER_LOST)
			gone = peer;
		else
			err = gy_peer_need(peer, comm);
		can |= peer != gone;
	}
	return err || can || !gone ? err : gy_peer_need(gone, comm);
}

void gy_p2p_left(struct gyre_comm *comm, const struct gy_peer *peer)
{
	const int rank = gy_comm_rank_of(comm, peer->rank);
	struct gy_list *pos;

	if (rank < 0)
		return;
	gy_list_for_each(pos, &comm->posted) {
		struct gyre_request *recv = gy_list_entry(pos, struct gyre_request, link);

		if ((recv->root == rank || recv->root == GYRE_ANY_SOURCE) && p2p_can_come(recv))
			return;		/* and the list is empty */
	}
}

void gy_p2p_fail(struct gyre_comm *comm, int err)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos;

	while ((pos = gy_list_pop(&comm->posted)))
		gy_request_done(e, gy_list_entry(pos, struct gyre_request, link), err);
	while ((pos = gy_list_pop(&comm->self)))
		gy_request_done(e, gy_list_entry(pos, struct gyre_request, link), err);
}

/* What is waiting here may fit already; who sent it may have left since. */
static bool p2p_match_posted(struct gy_engine *e, struct gyre_request *recv)
{
	struct gyre_comm *comm = recv->comm;
	struct gy_list *pos;

	gy_list_for_each(pos, &comm->unexpected) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (!p2p_matches(recv, gy_comm_rank_of(comm, p->peer->rank), p->hdr.stream))
			continue;
		gy_list_del(&p->link);
		p2p_accept(e, recv, p);
		return true;
	}
	gy_list_for_each(pos, &comm->self) {
		struct gyre_request *send = gy_list_entry(pos, struct gyre_request, link);

		if (!p2p_matches(recv, comm->rank, (uint32_t)send->tag))
			continue;
		gy_list_del(&send->link);
		self_transfer(e, send, recv);
		return true;
	}
	return false;
}

/* ---- starting ---- */

/* An eager message straight away, without a run, when that is possible. */
static bool p2p_send_now(struct gy_engine *e, struct gyre_request *req, struct gy_peer *peer)
{
	const size_t bytes = req->count * gyre_type_size(req->type);
	struct gy_hdr hdr = {
		.kind = GY_MSG_EAGER,
		.coll = GY_P2P,
		.type = req->type,
		.comm = req->comm->id,
		.seq = req->comm->sent[req->root],
		.count = req->count,
		.stream = (uint32_t)req->tag,
		.len = (uint32_t)bytes,
	};

	if (bytes > e->eager_bytes || peer->state != GY_PEER_UP || peer->left || peer->blocked ||
	    !gy_peer_allows(peer, bytes) || gy_peer_msg(e, peer, &hdr, req->in))
		return false;
	req->comm->sent[req->root]++;
	gy_request_done(e, req, 0);
	return true;
}

/* No run yet: what is said of req while it waits to be matched. */
static void p2p_run_waits(struct gyre_request *req)
{
	struct gyre_comm *comm = req->comm;
	struct gy_run *run = &req->run;

	req->bound.comm = NULL;
	run->comm = comm;
	run->plan = NULL;
	run->peer = req->root == GYRE_ANY_SOURCE ? -1 : comm->ranks[req->root];
	run->hdr = (struct gy_hdr){
		.coll = GY_P2P,
		.type = req->type,
		.comm = comm->id,	/* late.c asks with it */
		.count = req->count,
		.stream = (uint32_t)req->tag,
	};
}

static int p2p_start_send(struct gy_engine *e, struct gyre_request *req)
{
	struct gyre_comm *comm = req->comm;
	struct gy_peer *peer;
	int err;

	if (req->root == comm->rank) {
		atomic_store_explicit(&req->run.state, GY_RUN_RUNNING, memory_order_relaxed);
		p2p_run_waits(req);
		self_send(e, req);
		return 0;
	}
	err = gy_peer_get(comm->ctx, comm->ranks[req->root], &peer);
	if (err)
		return err;
	if (p2p_send_now(e, req, peer))
		return 0;
	if (gy_engine_nruns(e) >= GY_MAX_RUNS)
		return -EAGAIN;
	err = p2p_run_prepare(e, req, &p2p_send_plan, peer->rank, req->count, comm->sent[req->root],
			      req->tag);
	if (err)
		return err;
	comm->sent[req->root]++;
	p2p_run_enlist(e, &req->run);
	gy_run_pump(e, &req->run);
	return 0;
}

static int p2p_start_recv(struct gy_engine *e, struct gyre_request *req)
{
	struct gyre_comm *comm = req->comm;
	struct gy_run *run = &req->run;
	int err;

	atomic_store_explicit(&run->state, GY_RUN_RUNNING, memory_order_relaxed);
	if (p2p_match_posted(e, req))
		return 0;
	err = p2p_can_come(req);
	if (err)
		return err;
	p2p_run_waits(req);
	gy_list_add_tail(&comm->posted, &req->link);
	return 0;
}

int gy_p2p_start(struct gy_engine *e, struct gyre_request *req)
{
	int err = atomic_load_explicit(&req->comm->err, memory_order_relaxed);

	if (!err)
		err = req->kind == GY_REQ_SEND ? p2p_start_send(e, req) : p2p_start_recv(e, req);
	req->active = !err;
	return err;
}
