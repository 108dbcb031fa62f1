/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * comm.c - communicators: membership, cached plans, agreement of calls, and failure.
 *
 * A communicator fails once and for good: what it has lent is recalled (transport.h), its runs end,
 * and every member that we are connected to is told, who tells others in turn; whoever there is no
 * room to tell, or who talks to us on it later, is told then.
 * Locking: driver.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <gyre/coll.h>
#include "lib/agree.h"
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/request.h"

#define TEXT_MAX 256

static bool comm_is_local(const struct gyre_context *ctx, const int *ranks, int size)
{
	int i;

	for (i = 0; i < size; i++)
		if (memcmp(ctx->job[ranks[i]].node, ctx->job[ctx->rank].node,
			   sizeof(ctx->job[0].node)))
			return false;
	return true;
}

/*
 * On one node, joined by lending: what one rank sees, all see, since reach is symmetric and
 * settings agree.
 */
static bool comm_lends(const struct gyre_context *ctx, const int *ranks, int size)
{
	int i, t;

	if (!comm_is_local(ctx, ranks, size))
		return false;
	for (i = 0; i < size; i++) {
		if (ranks[i] == ctx->rank)
			continue;
		t = gy_peer_transport(ctx, ranks[i]);
		if (t < 0 || !gy_transports[t]->near)
			return false;
	}
	return true;
}

/* All have the same device, as the job's table says; who must do without it loses little. */
static bool comm_writes(const struct gyre_context *ctx, const int *ranks, int size)
{
	int i, t;

	for (t = 0; gy_transports[t]; t++) {
		for (i = 0; i < size && ctx->job[ranks[i]].blob[t].len; i++)
			;
		if (gy_transports[t]->writes && i == size)
			return true;
	}
	return false;
}

static enum gy_where comm_where(const struct gyre_context *ctx, const int *ranks, int size)
{
	if (comm_lends(ctx, ranks, size))
		return GY_NEAR;
	return comm_writes(ctx, ranks, size) ? GY_WRITTEN : GY_FAR;
}

struct gyre_comm *gy_comm_alloc(struct gyre_context *ctx, int size)
{
	struct gyre_comm *comm = gy_alloc(sizeof(*comm));

	if (!comm)
		return NULL;
	comm->ctx = ctx;
	gy_list_init(&comm->link);
	gy_list_init(&comm->runs);
	gy_list_init(&comm->posted);
	gy_list_init(&comm->unexpected);
	gy_list_init(&comm->self);
	gy_list_init(&comm->early);
	gy_list_init(&comm->dropped);
	comm->ranks = gy_alloc_array(size, sizeof(*comm->ranks));
	comm->sent = gy_alloc_array(size, sizeof(*comm->sent));
	comm->received = gy_alloc_array(size, sizeof(*comm->received));
	comm->told = gy_alloc_array(size, sizeof(*comm->told));
	if (comm->ranks && comm->sent && comm->received && comm->told)
		return comm;
	gy_comm_free(comm);
	return NULL;
}

int gy_comm_open(struct gyre_comm *comm, uint32_t id, const int *ranks, int size, int rank)
{
	struct gyre_context *ctx = comm->ctx;
	int err;

	err = gy_select_init(&comm->select, &ctx->cfg, size, comm_where(ctx, ranks, size));
	if (err)
		return err;
	comm->id = id;
	comm->rank = rank;
	comm->size = size;
	memmove(comm->ranks, ranks, size * sizeof(*ranks));
	gy_list_add_tail(&ctx->engine.comms, &comm->link);
	gy_agree_open(comm);
	gy_p2p_opened(comm);
	return 0;
}

int gy_comm_create(struct gyre_context *ctx, uint32_t id, const int *ranks, int size, int rank,
		   struct gyre_comm **commp)
{
	struct gyre_comm *comm = gy_comm_alloc(ctx, size);
	int err;

	if (!comm)
		return -ENOMEM;
	err = gy_comm_open(comm, id, ranks, size, rank);
	if (err) {
		gy_comm_free(comm);
		return err;
	}
	*commp = comm;
	return 0;
}

static void comm_unpark_all(struct gy_engine *e, struct gy_list *list)
{
	struct gy_list *pos;

	while ((pos = gy_list_pop(list)))
		gy_unpark(e, gy_list_entry(pos, struct gy_parked, link));
}

void gy_comm_drop_unmatched(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;

	comm_unpark_all(e, &comm->unexpected);
	comm_unpark_all(e, &comm->early);
	comm_unpark_all(e, &comm->dropped);
}

/* Of what operations need nothing is left. */
static void comm_strip(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_cached_plan *c;
	struct gy_list *pos;
	unsigned i;

	gy_list_del(&comm->link);
	for (i = 0; i < GY_NCOLLS; i++) {
		if (comm->last[i])
			gy_request_put(e, comm->last[i]);
		comm->last[i] = NULL;
	}
	/* Requests that are left can be tested, waited for and freed, but not started. */
	gy_list_for_each(pos, &e->requests) {
		struct gyre_request *req = gy_list_entry(pos, struct gyre_request, all_link);

		if (req->comm == comm)
			req->comm = NULL;
		if (req->bound.comm == comm)
			req->bound.comm = NULL;
	}
	gy_comm_drop_unmatched(comm);
	while ((c = comm->plans)) {
		comm->plans = c->next;
		gy_plan_destroy(c->plan);
		gy_free(c);
	}
	gy_free(comm->sent);
	gy_free(comm->received);
	gy_free(comm->told);
	comm->sent = comm->received = NULL;
	comm->told = NULL;
}

void gy_comm_free(struct gyre_comm *comm)
{
	comm_strip(comm);
	gy_agree_close(comm);
	gy_free(comm->ranks);
	gy_free(comm);
}

/* Other ranks may still ask what was agreed on in it. */
static void comm_retire(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;

	comm_strip(comm);
	comm->retired = true;
	gy_list_add_tail(&e->past, &comm->link);
	if (++e->npast <= GY_DESTROYED)
		return;
	e->npast--;
	gy_comm_free(gy_list_entry(e->past.next, struct gyre_comm, link));
}

struct gyre_comm *gy_comm_find(struct gy_engine *e, uint32_t id)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &e->comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (comm->id == id)
			return comm;
	}
	return NULL;
}

int gy_comm_rank_of(const struct gyre_comm *comm, int world_rank)
{
	int i;

	for (i = 0; i < comm->size; i++)
		if (comm->ranks[i] == world_rank)
			return i;
	return -1;
}

/* ---- plans ---- */

static int comm_make_plan(struct gyre_comm *comm, const struct gy_coll_algo *algo,
			  const struct gy_coll_args *a, struct gy_plan **planp)
{
	struct gy_plan *pl;
	int err;

	pl = gy_plan_create(a->rank, a->nranks, a->in_place, gy_coll_alias(algo->coll, a));
	if (!pl)
		return -ENOMEM;
	err = algo->plan(pl, a);
	if (!err)
		err = gy_plan_finish(pl);
	if (err) {
		gy_err("planning %s by %s failed: %s", gy_coll_name(algo->coll), algo->name,
		       gyre_strerror(err));
		gy_plan_destroy(pl);
		return err;
	}
	*planp = pl;
	return 0;
}

int gy_comm_plan(struct gyre_comm *comm, const struct gy_coll_algo *algo, int root, bool in_place,
		 const struct gy_plan **planp)
{
	const struct gy_coll_args a = {
		.rank = comm->rank, .nranks = comm->size, .root = root, .in_place = in_place,
	};
	struct gy_cached_plan **pos, *c;
	int err;

	for (pos = &comm->plans; (c = *pos); pos = &c->next) {
		if (c->algo != algo || c->root != root || c->in_place != in_place)
			continue;
		if (pos != &comm->plans) {
			*pos = c->next;
			c->next = comm->plans;
			comm->plans = c;
		}
		*planp = c->plan;
		return 0;
	}
	c = gy_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	err = comm_make_plan(comm, algo, &a, &c->plan);
	if (err) {
		gy_free(c);
		return err;
	}
	c->algo = algo;
	c->root = root;
	c->in_place = in_place;
	c->next = comm->plans;
	comm->plans = c;
	*planp = c->plan;
	return 0;
}

/* ---- agreement of calls ---- */

void gy_call_text(const struct gy_hdr *hdr, char *buf, size_t len)
{
	const char *coll = gy_coll_name(hdr->coll);

	if (hdr->coll == GY_P2P)
		snprintf(buf, len, "message(count %llu, %s, tag %d)",
			 (unsigned long long)hdr->count, gyre_type_name(hdr->type),
			 (int)hdr->stream);
	else if (hdr->coll == GY_BARRIER)
		snprintf(buf, len, "barrier()");
	else if (hdr->coll == GY_BROADCAST)
		snprintf(buf, len, "broadcast(count %llu, %s, root %u)",
			 (unsigned long long)hdr->count, gyre_type_name(hdr->type), hdr->root);
	else if (hdr->coll == GY_ALLGATHER)
		snprintf(buf, len, "allgather(count %llu, %s)", (unsigned long long)hdr->count,
			 gyre_type_name(hdr->type));
	else
		snprintf(buf, len, "%s(count %llu, %s, %s)", coll ? coll : "unknown call",
			 (unsigned long long)hdr->count, gyre_type_name(hdr->type),
			 gyre_op_name(hdr->op));
}

struct gy_run *gy_comm_run(struct gyre_comm *comm, uint32_t seq)
{
	struct gy_list *pos;

	for (pos = comm->runs.prev; pos != &comm->runs; pos = pos->prev) {	/* newest first */
		struct gy_run *run = gy_list_entry(pos, struct gy_run, comm_link);

		if (run->hdr.seq == seq && run->hdr.coll != GY_P2P)
			return run;
	}
	return NULL;
}

static gy_cold void comm_mismatch(struct gyre_comm *comm, struct gy_peer *peer,
				  const struct gy_hdr *hdr, struct gy_comm_fp mine)
{
	struct gy_hdr own = { .count = mine.count };
	char theirs[96], ours[96];
	uint64_t call = mine.call << 8;

	memcpy(&own, &call, sizeof(call));
	gy_call_text(hdr, theirs, sizeof(theirs));
	gy_call_text(&own, ours, sizeof(ours));
	gy_comm_fail(comm, -EPROTO, "calls do not match: call %u is %s on rank %d, %s on rank %d%s",
		     hdr->seq, ours, comm->rank, theirs, gy_comm_rank_of(comm, peer->rank),
		     strcmp(ours, theirs) ? "" : " (with another algorithm or grain)");
}

bool gy_comm_check(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	const struct gy_run *run = gy_comm_run(comm, hdr->seq);
	struct gy_comm_fp mine;

	if (run) {
		mine = gy_fp(&run->hdr);
	} else {
		const uint32_t age = comm->seq - hdr->seq;

		if (age == 0 || age > GY_HISTORY)	/* not called yet, or long ago */
			return true;
		mine = comm->history[hdr->seq % GY_HISTORY];
	}
	if (gy_likely(gy_fp_equal(mine, gy_fp(hdr))))
		return true;
	if (gy_comm_rank_of(comm, peer->rank) >= 0)	/* others cannot fail it */
		comm_mismatch(comm, peer, hdr, mine);
	return false;
}

/* ---- failure ---- */

/* It is not the peer who was declared dead. */
static int comm_err_of_peers(const struct gyre_comm *comm)
{
	const int err = atomic_load_explicit(&comm->err, memory_order_relaxed);

	return err == -ESTALE ? -ECONNRESET : err;
}

void gy_comm_tell(struct gyre_comm *comm, struct gy_peer *peer)
{
	struct gy_hdr hdr = {
		.kind = GY_MSG_ABORT,
		.comm = comm->id,
		.arg = (uint32_t)-comm_err_of_peers(comm),
		.len = (uint32_t)strlen(comm->why),
	};
	const int rank = gy_comm_rank_of(comm, peer->rank);

	if (rank < 0 || comm->told[rank])
		return;
	if (gy_peer_msg(&comm->ctx->engine, peer, &hdr, comm->why) != -EAGAIN)
		comm->told[rank] = true;
}

void gy_comm_tell_again(struct gyre_comm *comm, struct gy_peer *peer)
{
	const int rank = gy_comm_rank_of(comm, peer->rank);

	if (rank < 0)
		return;
	comm->told[rank] = false;
	gy_comm_tell(comm, peer);
}

void gy_comm_tell_all(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;
	int i;

	for (i = 0; i < comm->size; i++) {
		struct gy_peer *peer = e->peers[comm->ranks[i]];

		if (peer && i != comm->rank && peer->state == GY_PEER_UP)
			gy_comm_tell(comm, peer);
	}
}

/*
 * What it has lent is its user's when its runs have ended.  A peer that is stopped, or that there
 * is no room to tell, sees that when it has read it.
 */
static gy_cold void comm_recall(const struct gyre_comm *comm)
{
	struct gy_nic *const *nics = comm->ctx->nics;
	int i;

	for (i = 0; gy_transports[i]; i++)
		if (nics[i] && nics[i]->recalls)
			gy_recall(nics[i]->recalls, comm->id, comm_err_of_peers(comm),
				  comm->why);
}

static void comm_drop_parked(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos, *after;
	int i;

	for (i = 0; i < comm->size; i++) {
		struct gy_peer *peer = e->peers[comm->ranks[i]];

		if (!peer)
			continue;
		gy_list_for_each_safe(pos, after, &peer->parked) {
			struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

			if (p->hdr.comm != comm->id)
				continue;
			gy_list_del(&p->link);
			gy_unpark(e, p);
		}
	}
	gy_comm_drop_unmatched(comm);
}

static gy_cold void comm_fail(struct gyre_comm *comm, int err, const char *why)
{
	struct gy_engine *e = &comm->ctx->engine;

	snprintf(comm->why, sizeof(comm->why), "%s", why);
	/* Pairs with gyre_comm_status: text before error. */
	atomic_store_explicit(&comm->err, err, memory_order_release);
	if (!e->leaving)
		gy_err("communicator %u failed: %s", comm->id, comm->why);
	comm_recall(comm);
	gy_comm_tell_all(comm);
	gy_comm_stop(comm, err);
}

void gy_comm_stop(struct gyre_comm *comm, int err)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos;

	while ((pos = gy_list_first(&comm->runs)))
		gy_run_end(e, gy_list_entry(pos, struct gy_run, comm_link), err);
	gy_p2p_fail(comm, err);
	comm_drop_parked(comm);
	gy_ports_wake(e);
}

void gy_comm_fail(struct gyre_comm *comm, int err, const char *fmt, ...)
{
	char why[TEXT_MAX];
	va_list ap;

	if (atomic_load_explicit(&comm->err, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	comm_fail(comm, err, why);
}

void gy_comm_was_here(struct gy_engine *e, uint32_t id)
{
	gy_control_forget_comm(e, id);
	e->destroyed[e->ndestroyed++ % GY_DESTROYED] = id;
}

bool gy_comm_was_destroyed(const struct gy_engine *e, uint32_t id)
{
	unsigned i;

	for (i = 0; i < e->ndestroyed && i < GY_DESTROYED; i++)
		if (e->destroyed[i] == id)
			return true;
	return false;
}

int gy_comm_refuse(struct gy_engine *e, uint32_t id, struct gy_peer *peer, int err,
		   const char *what)
{
	char why[TEXT_MAX];
	struct gy_hdr hdr = { .kind = GY_MSG_ABORT, .comm = id, .arg = (uint32_t)-err };

	snprintf(why, sizeof(why), "rank %d of the world %s", e->ctx->rank, what);
	hdr.len = (uint32_t)strlen(why);
	return gy_peer_msg(e, peer, &hdr, why);
}

void gy_comm_aborted(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr,
		     const void *body)
{
	const int rank = gy_comm_rank_of(comm, peer->rank);
	const int len = (int)gy_min(hdr->len, TEXT_MAX - 1);
	char why[TEXT_MAX];
	int i;

	if (rank < 0)
		return;
	comm->told[rank] = true;	/* it knows */
	if (atomic_load_explicit(&comm->err, memory_order_relaxed))
		return;
	memcpy(why, body, len);
	why[len] = 0;
	for (i = 0; i < len; i++)	/* it came over the wire and goes to logs */
		if ((unsigned char)why[i] < ' ')
			why[i] = '?';
	comm_fail(comm, hdr->arg && hdr->arg < 4096 ? -(int)hdr->arg : -EPROTO, why);
}

/* ---- public ---- */

int gyre_comm_rank(const struct gyre_comm *comm)
{
	if (!comm)
		gy_err("gyre_comm_rank: comm is NULL");
	return comm ? comm->rank : -EINVAL;
}

int gyre_comm_size(const struct gyre_comm *comm)
{
	if (!comm)
		gy_err("gyre_comm_size: comm is NULL");
	return comm ? comm->size : -EINVAL;
}

int gyre_comm_status(const struct gyre_comm *comm, char *buf, size_t len)
{
	const int err = comm ? atomic_load_explicit(&comm->err, memory_order_acquire) : -EINVAL;

	if (buf && len)
		snprintf(buf, len, "%s", !comm ? "comm is NULL" : err ? comm->why : "");
	return err;
}

/* Whether peers wait for calls of this rank on comm that have not come. */
static bool comm_is_called(const struct gyre_comm *comm)
{
	const struct gy_engine *e = &comm->ctx->engine;
	const struct gy_list *pos;
	int i;

	gy_list_for_each(pos, &comm->unexpected)
		if (gy_list_entry(pos, struct gy_parked, link)->hdr.kind != GY_MSG_EAGER)
			return true;
	for (i = 0; i < comm->size; i++) {
		const struct gy_peer *peer = e->peers[comm->ranks[i]];

		if (!peer)
			continue;
		gy_list_for_each(pos, &peer->parked) {
			const struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

			if (p->hdr.comm == comm->id && p->hdr.kind != GY_MSG_RELEASE)
				return true;
		}
	}
	return false;
}

void gyre_comm_destroy(struct gyre_comm *comm)
{
	struct gy_engine *e;

	if (!comm || comm == comm->ctx->engine.world)
		return;
	e = &comm->ctx->engine;
	gy_engine_enter(e);
	if (!gy_list_empty(&comm->runs) || !gy_list_empty(&comm->posted) ||
	    !gy_list_empty(&comm->self))
		gy_comm_fail(comm, -ECANCELED,
			     "rank %d destroyed the communicator with operations active",
			     comm->rank);
	else if (comm_is_called(comm))
		gy_comm_fail(comm, -EPROTO, "rank %d has destroyed the communicator", comm->rank);
	gy_comm_was_here(e, comm->id);
	comm_retire(comm);
	gy_engine_leave(e);
}

struct split {
	int32_t color, key;
	uint32_t id;
};

/* The members of our color, ordered by (key, rank), into ranks (world ranks); returns how many. */
static int split_members(const struct gyre_comm *comm, const struct split *all, int *ranks,
			 int *rankp)
{
	const struct split *own = &all[comm->rank];
	int i, j, n = 0, place;

	for (i = 0; i < comm->size; i++) {
		if (all[i].color != own->color)
			continue;
		place = 0;
		for (j = 0; j < comm->size; j++)
			place += all[j].color == own->color &&
				 (all[j].key < all[i].key || (all[j].key == all[i].key && j < i));
		ranks[place] = comm->ranks[i];
		if (i == comm->rank)
			*rankp = place;
		n++;
	}
	return n;
}

uint32_t gy_comm_name(struct gyre_context *ctx)
{
	struct gy_engine *e = &ctx->engine;
	const uint64_t id = e->next_comm * (uint64_t)ctx->nranks + (uint64_t)ctx->rank;

	if (id > UINT32_MAX)
		return 0;	/* the world's */
	e->next_comm++;
	return (uint32_t)id;
}

/* This rank takes no part in an exchange that others wait for. */
static gy_cold void split_fail(struct gyre_comm *comm, int err)
{
	struct gy_engine *e = &comm->ctx->engine;

	gy_engine_enter(e);
	gy_comm_fail(comm, err, "rank %d cannot make a communicator: %s", comm->rank,
		     gyre_strerror(err));
	gy_engine_leave(e);
}

/* Nor will it have what others may have already: who calls on it is told. */
static gy_cold void split_abandon(struct gyre_comm *comm, uint32_t id, int err)
{
	struct gy_engine *e = &comm->ctx->engine;

	split_fail(comm, err);
	gy_engine_enter(e);
	gy_comm_was_here(e, id);
	gy_engine_leave(e);
}

/*
 * Every rank's colour, key and name into all.  Twice: who has seen the second end knows that all
 * have seen the first, so no rank has the new communicator while another, for which the first has
 * failed, has never heard of it.
 */
static int split_exchange(struct gyre_comm *comm, struct split *own, struct split *all)
{
	uint32_t id;
	int err;

	if (comm->rank == 0) {
		gy_engine_enter(&comm->ctx->engine);
		own->id = gy_comm_name(comm->ctx);
		gy_engine_leave(&comm->ctx->engine);
	}
	err = gyre_allgather(own, all, sizeof(*own), GYRE_UINT8, comm);
	if (err) {
		split_fail(comm, err);
		return err;
	}
	id = all[0].id;
	if (!id) {
		gy_err("gyre_comm_split: rank 0 of comm has named as many communicators as it can");
		return -ENOSPC;
	}
	err = gyre_allgather(own, all, sizeof(*own), GYRE_UINT8, comm);
	if (err)
		split_abandon(comm, id, err);
	return err;
}

/*
 * Whether all ranks have what they need: before the exchange, since after it the others would have
 * a communicator that lacks a member.  A rank that has no memory even for this call fails comm, or
 * the others would wait for its next one.
 */
static int split_agree(struct gyre_comm *comm, int mine)
{
	int32_t own = mine, worst = 0;
	int err;

	err = gyre_allreduce(&own, &worst, 1, GYRE_INT32, GYRE_MIN, comm);
	if (err)
		split_fail(comm, err);
	return err ? err : worst;
}

/* mine: NULL: there was no memory for it. */
static int split_make(struct gyre_comm *comm, struct split *own, struct gyre_comm *mine)
{
	struct split *all = gy_alloc_array(comm->size, sizeof(*all));
	int *ranks = gy_alloc_array(comm->size, sizeof(*ranks));
	struct gy_engine *e = &comm->ctx->engine;
	int rank = 0, size, err;

	err = split_agree(comm, mine && all && ranks ? 0 : -ENOMEM);
	if (!err)
		err = split_exchange(comm, own, all);
	if (!err && own->color >= 0) {
		size = split_members(comm, all, ranks, &rank);
		gy_engine_enter(e);
		err = gy_comm_open(mine, all[0].id, ranks, size, rank);
		gy_engine_leave(e);
	}
	gy_free(ranks);
	gy_free(all);
	return err;
}

int gyre_comm_split(struct gyre_comm *comm, int color, int key, struct gyre_comm **newp)
{
	struct split own = { .color = color, .key = key };
	struct gyre_comm *mine;
	struct gy_engine *e;
	int err;

	if (!comm || !newp || color < -1) {
		gy_err("gyre_comm_split: %s", !comm   ? "comm is NULL"
					      : !newp ? "newp is NULL"
						      : "color must be -1 or at least 0");
		return -EINVAL;
	}
	e = &comm->ctx->engine;
	gy_engine_enter(e);
	mine = gy_comm_alloc(comm->ctx, comm->size);
	gy_engine_leave(e);
	err = split_make(comm, &own, mine);
	if (!err)
		*newp = color >= 0 ? mine : NULL;
	if (mine && (err || color < 0)) {
		gy_engine_enter(e);
		gy_comm_free(mine);
		gy_engine_leave(e);
	}
	return err;
}
