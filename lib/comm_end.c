/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * comm_end.c - communicators fail, and are destroyed.
 *
 * A communicator fails once and for good: what it has lent is recalled (transport.h), its runs end,
 * and every member that we are connected to is told, who tells others in turn; whoever there is no
 * room to tell, or who talks to us on it later, is told then, also when it has been destroyed here
 * meanwhile: the last GY_PAST are kept, and those that some who are connected have yet to hear of.
 * How many these can be is bounded by how many there were at a time: who does not hear, takes no
 * part in making new ones.
 * Locking: driver, but for the public call, which takes the token.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/agree.h"
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/request.h"

#define TEXT_MAX 256

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
	if (gy_peer_msg(&comm->ctx->engine, peer, &hdr, comm->why) == -EAGAIN)
		comm->untold = true;
	else
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

	comm->untold = false;
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

int gy_comm_refuse(struct gy_engine *e, uint32_t id, struct gy_peer *peer, int err,
		   const char *what)
{
	char why[TEXT_MAX];
	struct gy_hdr hdr = { .kind = GY_MSG_ABORT, .comm = id, .arg = (uint32_t)-err };

	snprintf(why, sizeof(why), "rank %d of the world %s", e->ctx->rank, what);
	hdr.len = (uint32_t)strlen(why);
	return gy_peer_msg(e, peer, &hdr, why);
}

/*
 * Whether this rank has done its part of what the peer says that it waits for: that comes to it.
 * Or its part of a message of which more comes, since the receive did not take it.
 */
static bool comm_has_done(const struct gyre_comm *past, const struct gy_peer *peer,
			  const struct gy_hdr *hdr)
{
	const uint32_t age = past->seq - hdr->seq;

	if (hdr->coll == GY_P2P)
		return gy_p2p_has_done(past, peer, hdr);
	return (int32_t)age > 0 &&
	       (age > GY_HISTORY || gy_fp_equal(past->history[hdr->seq % GY_HISTORY], gy_fp(hdr)));
}

void gy_comm_refuse_gone(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	struct gyre_comm *past = gy_comm_find_in(&e->past, hdr->comm);

	if (hdr->kind == GY_MSG_RELEASE)
		return;
	if (past && atomic_load_explicit(&past->err, memory_order_relaxed))
		gy_comm_tell_again(past, peer);
	else if (past && (hdr->kind == GY_MSG_WAIT || hdr->coll == GY_P2P) &&
		 comm_has_done(past, peer, hdr))
		return;
	else	/* no room to tell it: its next probe finds out */
		gy_comm_refuse(e, hdr->comm, peer, -EPROTO, "has destroyed the communicator");
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

/* ---- destroyed ---- */

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
}

void gy_comm_free(struct gyre_comm *comm)
{
	comm_strip(comm);
	gy_agree_destroy(comm->agree);
	gy_free(comm->sent);
	gy_free(comm->received);
	gy_free(comm->told);
	gy_free(comm->ranks);
	gy_free(comm);
}

/* Other ranks may still ask what was agreed on in it, or why it failed. */
static void comm_retire(struct gyre_comm *comm)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos, *before;
	unsigned n = 0;

	comm_strip(comm);
	comm->retired = true;
	gy_list_add_tail(&e->past, &comm->link);
	for (pos = e->past.prev; pos != &e->past; pos = before) {	/* newest first */
		struct gyre_comm *past = gy_list_entry(pos, struct gyre_comm, link);

		before = pos->prev;
		if (++n > GY_PAST && !past->untold && !past->agree->owes)
			gy_comm_free(past);
	}
}

void gy_comm_abandon(struct gyre_comm *comm, const struct gyre_comm *from)
{
	comm->rank = from->rank;
	comm->size = from->size;	/* its members are among them */
	memcpy(comm->ranks, from->ranks, (size_t)from->size * sizeof(*from->ranks));
	snprintf(comm->why, sizeof(comm->why),
		 "rank %d of the world has not made it, since what it comes from failed: %s",
		 comm->ctx->rank, from->why);
	atomic_store_explicit(&comm->err,
			      atomic_load_explicit(&from->err, memory_order_relaxed),
			      memory_order_relaxed);
	comm_retire(comm);
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
	comm_retire(comm);
	gy_engine_leave(e);
}
