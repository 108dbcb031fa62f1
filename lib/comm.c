/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * comm.c - communicators: membership, names, cached plans, and agreement of calls.
 * Locking: driver, but for what gyre_comm_rank, _size and _status read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gyre/coll.h>
#include "lib/agree.h"
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"

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
	comm->ranks = gy_alloc_array(size, sizeof(*comm->ranks));
	comm->sent = gy_alloc_array(size, sizeof(*comm->sent));
	comm->received = gy_alloc_array(size, sizeof(*comm->received));
	comm->told = gy_alloc_array(size, sizeof(*comm->told));
	comm->agree = gy_agree_create(comm, size);
	if (comm->ranks && comm->sent && comm->received && comm->told && comm->agree)
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
	gy_list_del(&comm->link);
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

uint32_t gy_comm_name(struct gyre_context *ctx)
{
	struct gy_engine *e = &ctx->engine;
	const uint64_t id = e->next_comm * (uint64_t)ctx->nranks + (uint64_t)ctx->rank;

	if (id > UINT32_MAX)
		return 0;	/* the world's */
	e->next_comm++;
	return (uint32_t)id;
}

struct gyre_comm *gy_comm_find_in(const struct gy_list *comms, uint32_t id)
{
	struct gy_list *pos;

	gy_list_for_each(pos, comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (comm->id == id)
			return comm;
	}
	return NULL;
}

void gy_comm_expect(struct gyre_comm *comm, uint32_t id)
{
	comm->id = id;
	gy_list_add_tail(&comm->ctx->engine.coming, &comm->link);
}

bool gy_comm_may_come(const struct gy_engine *e, uint32_t id)
{
	const struct gy_list *pos;

	if (gy_comm_find_in(&e->coming, id))
		return true;
	gy_list_for_each(pos, &e->comms)
		if (gy_agree_may_name(gy_list_entry(pos, struct gyre_comm, link)->agree))
			return !gy_comm_find_in(&e->past, id);
	return false;
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
