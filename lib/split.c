/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * split.c - gyre_comm_split: who comes into which new communicator, and that all ranks have it or
 * none.
 * Locking: the public call takes the token.
 */
#include <errno.h>
#include <stdlib.h>

#include <gyre/coll.h>
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"

static int split_order(const void *a, const void *b)
{
	const struct gy_split *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

int gy_split_members(struct gy_split *all, int n, int me, int *ranks, int *placep)
{
	const int32_t color = all[me].color;
	int i, members = 0;

	for (i = 0; i < n; i++) {
		if (all[i].color != color)
			continue;
		all[members] = all[i];
		all[members++].rank = i;
	}
	qsort(all, (size_t)members, sizeof(*all), split_order);
	for (i = 0; i < members; i++) {
		ranks[i] = all[i].rank;
		if (ranks[i] == me)
			*placep = i;
	}
	return members;
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

/* From here on others may have it; this rank opens it, or says to who calls on it why not. */
static void split_expect(struct gyre_comm *mine, uint32_t id)
{
	struct gy_engine *e = &mine->ctx->engine;

	gy_engine_enter(e);
	gy_comm_expect(mine, id);
	gy_engine_leave(e);
}

/*
 * Every rank's colour, key and name into all.  Twice: who has seen the second end knows that all
 * have seen the first, so no rank has the new communicator while another, for which the first has
 * failed, has never heard of it.
 */
static int split_exchange(struct gyre_comm *comm, struct gy_split *own, struct gy_split *all,
			  struct gyre_comm *mine)
{
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
	if (!all[0].id) {
		gy_err("gyre_comm_split: rank 0 of comm has named as many communicators as it can");
		return -ENOSPC;
	}
	if (own->color >= 0)
		split_expect(mine, all[0].id);
	err = gyre_allgather(own, all, sizeof(*own), GYRE_UINT8, comm);
	if (err)
		split_fail(comm, err);
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

/* After the exchange. */
static int split_open(const struct gyre_comm *comm, struct gy_split *all, int *ranks,
		      struct gyre_comm *mine)
{
	struct gy_engine *e = &comm->ctx->engine;
	int i, n, err, place = 0;

	n = gy_split_members(all, comm->size, comm->rank, ranks, &place);
	for (i = 0; i < n; i++)
		ranks[i] = comm->ranks[ranks[i]];
	gy_engine_enter(e);
	err = gy_comm_open(mine, mine->id, ranks, n, place);
	gy_engine_leave(e);
	return err;
}

/* mine: NULL: there was no memory for it. */
static int split_make(struct gyre_comm *comm, struct gy_split *own, struct gyre_comm *mine)
{
	struct gy_split *all = gy_alloc_array(comm->size, sizeof(*all));
	int *ranks = gy_alloc_array(comm->size, sizeof(*ranks));
	int err;

	err = split_agree(comm, mine && all && ranks ? 0 : -ENOMEM);
	if (!err)
		err = split_exchange(comm, own, all, mine);
	if (!err && own->color >= 0)
		err = split_open(comm, all, ranks, mine);
	gy_free(ranks);
	gy_free(all);
	return err;
}

/* mine is not to be. */
static void split_drop(const struct gyre_comm *comm, struct gyre_comm *mine)
{
	struct gy_engine *e = &comm->ctx->engine;

	gy_engine_enter(e);
	if (mine->id && atomic_load_explicit(&comm->err, memory_order_relaxed))
		gy_comm_abandon(mine, comm);
	else
		gy_comm_free(mine);
	gy_engine_leave(e);
}

int gyre_comm_split(struct gyre_comm *comm, int color, int key, struct gyre_comm **newp)
{
	struct gy_split own = { .color = color, .key = key };
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
	if (mine && (err || color < 0))
		split_drop(comm, mine);
	return err;
}
