/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.c - other ranks: choosing a transport for each, connections coming up and being lost, and
 * leaving in good order.
 *
 * A rank that leaves says BYE and waits, for a bounded time, until each peer has said that it needs
 * nothing more from it (BYE_ACK): its last messages are then known to be where they belong.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/agree.h"
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"

#define LEAVE_NS (2 * 1000 * 1000 * 1000ull)

/* From position i on. */
static int peer_next_transport(const struct gyre_context *ctx, int rank, int i)
{
	const struct gy_job_entry *job = &ctx->job[rank];

	for (; gy_transports[i]; i++) {
		if (ctx->nics[i] && job->blob[i].len &&
		    !gy_transports[i]->reach(ctx->nics[i], rank, job->blob[i].bytes,
					     job->blob[i].len))
			return i;
	}
	return -1;
}

int gy_peer_transport(const struct gyre_context *ctx, int rank)
{
	return peer_next_transport(ctx, rank, 0);
}

int gy_peer_get(struct gyre_context *ctx, int rank, struct gy_peer **peerp)
{
	struct gy_engine *e = &ctx->engine;
	struct gy_peer *peer = e->peers[rank];
	int i, err;

	*peerp = peer;
	if (peer)
		return 0;
	i = gy_peer_transport(ctx, rank);
	if (i < 0) {
		gy_err("no transport joins rank %d to rank %d (GYRE_TRANSPORT restricts "
		       "the choice)",
		       ctx->rank, rank);
		return -EHOSTUNREACH;
	}
	peer = gy_alloc(sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	peer->ctx = ctx;
	peer->rank = rank;
	gy_list_init(&peer->streams);
	gy_list_init(&peer->parked);
	err = gy_transports[i]->ep_open(ctx->nics[i], peer, &peer->ep);
	if (err) {
		gy_err("cannot make an endpoint to rank %d by %s: %s", rank, gy_transports[i]->name,
		       gyre_strerror(err));
		gy_free(peer);
		return err;
	}
	*peerp = e->peers[rank] = peer;
	return 0;
}

int gy_peer_connect(struct gy_peer *peer)
{
	int err;

	if (peer->state == GY_PEER_LOST)
		return peer->err;
	if (peer->left)
		return -ECONNRESET;
	if (peer->state != GY_PEER_IDLE)
		return 0;
	peer->state = GY_PEER_CONNECTING;
	err = peer->ep->ops->connect(peer->ep);
	if (err == -ENOMEM) {		/* there may be some later; the peer is not lost for it */
		peer->state = GY_PEER_IDLE;
	} else if (err) {
		peer->state = GY_PEER_LOST;
		peer->err = err;
	}
	return err;
}

static void peer_is_gone(struct gyre_comm *comm, const struct gy_peer *peer, int err,
			 const char *why)
{
	const int rank = gy_comm_rank_of(comm, peer->rank);

	if (peer->left)
		gy_comm_fail(comm, -ECONNRESET,
			     "rank %d has left (gyre_context_destroy), and is needed", rank);
	else
		gy_comm_fail(comm, err, "rank %d is lost: %s", rank, why);
}

int gy_peer_need(struct gy_peer *peer, struct gyre_comm *comm)
{
	const int err = gy_peer_connect(peer);

	if (err == -ENOMEM && peer->state != GY_PEER_LOST)
		gy_comm_fail(comm, err, "no memory for a connection to rank %d",
			     gy_comm_rank_of(comm, peer->rank));
	else if (err)
		peer_is_gone(comm, peer, err, gyre_strerror(err));
	return err;
}

static void peer_mark_dirty(struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &peer->streams)
		gy_list_entry(pos, struct gy_stream, peer_link)->run->dirty = true;
	gy_ports_wake(&peer->ctx->engine);
}

/*
 * An endpoint that is not up gives way to one of the next transport, or of that name (NULL: of
 * any) among the next.
 */
static int peer_change(struct gy_peer *peer, const char *transport)
{
	struct gyre_context *ctx = peer->ctx;
	struct gy_ep *old = peer->ep, *ep;
	int i = 0, err;

	while (gy_transports[i] != old->ops)
		i++;
	do
		i = peer_next_transport(ctx, peer->rank, i + 1);
	while (i >= 0 && transport && strcmp(gy_transports[i]->name, transport));
	if (i < 0)
		return -EHOSTUNREACH;
	err = gy_transports[i]->ep_open(ctx->nics[i], peer, &ep);
	if (err)
		return err;
	if (peer->state == GY_PEER_CONNECTING)
		err = ep->ops->connect(ep);
	if (err) {
		ep->ops->ep_close(ep, false);
		return err;
	}
	peer->ep = ep;
	peer->unfit_ns = 0;
	old->ops->ep_close(old, false);
	return 0;
}

/* For memory, as long as for a host. */
static gy_cold bool peer_may_wait(struct gy_peer *peer)
{
	const struct gyre_context *ctx = peer->ctx;

	if (!peer->unfit_ns)
		peer->unfit_ns = ctx->engine.now_ns;
	return ctx->engine.now_ns - peer->unfit_ns <= ctx->cfg.host_timeout_ms * 1000000ull;
}

gy_cold void gy_ep_unfit(struct gy_ep *ep, const char *why)
{
	struct gy_peer *peer = ep->peer;
	const char *name = ep->ops->name;
	int err;

	gy_assert(gy_driver_held(&ep->nic->ctx->engine));
	if (peer->state == GY_PEER_LOST)
		return;
	err = peer_change(peer, NULL);
	if (err == -ENOMEM && peer_may_wait(peer))
		return;			/* again at the next tick */
	if (err) {
		peer->unfit_ns = 0;
		gy_ep_down(peer->ep, err, why);
		return;
	}
	gy_log(peer->ctx->unfit ? GY_LOG_INFO : GY_LOG_WARN,
	       "rank %d cannot be joined by %s, and is by %s: %s", peer->rank, name,
	       peer->ep->ops->name, why);
	peer->ctx->unfit = true;
	peer_mark_dirty(peer);
}

int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp)
{
	struct gy_peer *peer;
	int err = gy_peer_get(ctx, rank, &peer);

	if (!err && peer->state == GY_PEER_LOST)
		err = -ESTALE;
	/* It has found that a transport which we still think of does not join us. */
	if (!err && strcmp(peer->ep->ops->name, transport))
		err = peer->state == GY_PEER_UP ? -ESTALE : peer_change(peer, transport);
	if (err)
		return err == -ENOMEM ? err : -ESTALE;
	*epp = peer->ep;
	return 0;
}

void gy_ep_up(struct gy_ep *ep)
{
	struct gy_peer *peer = ep->peer;

	gy_assert(gy_driver_held(&ep->nic->ctx->engine));
	if (peer->state == GY_PEER_LOST)
		return;
	peer->state = GY_PEER_UP;
	if (ep->caps & GY_CAP_BULK && !(ep->caps & GY_CAP_WRITE))
		peer->ctx->engine.fd_data = true;
	peer_mark_dirty(peer);
	gy_dbg("connected to rank %d by %s", peer->rank, ep->ops->name);
}

void gy_ep_room(struct gy_ep *ep)
{
	ep->peer->blocked = ep->peer->bulk_blocked = false;
	peer_mark_dirty(ep->peer);
	gy_engine_notify(&ep->peer->ctx->engine);	/* a straight line may wait for it */
}

/* Every communicator that needs this rank fails. */
static void peer_lost_comms(struct gy_peer *peer, int err, const char *why)
{
	struct gy_engine *e = &peer->ctx->engine;
	struct gy_list *pos;

	gy_list_for_each(pos, &e->comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);
		const int rank = gy_comm_rank_of(comm, peer->rank);

		if (rank >= 0)
			gy_comm_fail(comm, err, "rank %d is lost: %s", rank, why);
	}
}

/* A stream that waits for this peer, or NULL. */
static struct gy_stream *peer_needed_by(const struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &peer->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, peer_link);

		if (!gy_stream_has_all(s))
			return s;
	}
	return NULL;
}

/*
 * It left in good order, or may have before we knew it: only operations that need it fail.
 */
static void peer_left_comms(struct gy_peer *peer, int err, const char *why)
{
	struct gy_engine *e = &peer->ctx->engine;
	struct gy_list *pos;
	struct gy_stream *s;

	while ((s = peer_needed_by(peer)))
		peer_is_gone(s->run->comm, peer, err, why);
	gy_list_for_each(pos, &e->comms)
		gy_p2p_left(gy_list_entry(pos, struct gyre_comm, link), peer);
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	struct gy_peer *peer = ep->peer;
	const bool orderly = peer->left || peer->state == GY_PEER_CONNECTING;

	gy_assert(gy_driver_held(&ep->nic->ctx->engine));
	if (peer->state == GY_PEER_LOST)
		return;
	peer->state = GY_PEER_LOST;
	peer->err = err;
	if (ep->nic->ctx->engine.leaving)
		return;
	if (orderly && err != -EPROTO)
		peer_left_comms(peer, err, why);
	else
		peer_lost_comms(peer, err, why);
	gy_ports_wake(&peer->ctx->engine);
	gy_engine_notify(&peer->ctx->engine);	/* a straight line may wait for it */
}

/*
 * A lost peer's connection, which its transport still has, ends, so that the peer learns of it at
 * once.  What still looks at the endpoint finds one that never comes up.  It may not read, so
 * nothing waits for it to have what it was told.
 */
static void peer_hang_up(struct gy_peer *peer)
{
	struct gy_ep *old = peer->ep;

	peer->hangs_up = old->ops->ep_open(old->nic, peer, &peer->ep) != 0;
	if (!peer->hangs_up)		/* else there is no memory: at the next tick */
		old->ops->ep_close(old, false);
}

/* Told first: it may be waiting for us, and once lost it hears nothing more from us. */
gy_cold void gy_peer_drop(struct gy_peer *peer, int err, const char *why)
{
	if (!peer->ctx->engine.leaving)
		peer_lost_comms(peer, err, why);
	gy_ep_down(peer->ep, err, why);
}

gy_cold void gy_peer_expel(struct gy_peer *peer, int err, const char *why)
{
	const bool up = peer->state == GY_PEER_UP;

	gy_peer_drop(peer, err, why);
	if (up && !peer->ctx->engine.leaving)
		peer_hang_up(peer);
}

/* ---- leaving ---- */

static void peer_say(struct gy_engine *e, struct gy_peer *peer, enum gy_msg_kind kind, bool *said)
{
	struct gy_hdr hdr = { .kind = kind };

	if (!*said && gy_peer_msg(e, peer, &hdr, NULL) != -EAGAIN)
		*said = true;
}

/* A peer that leaves may go when nothing that is open here waits for its data. */
static void peer_answer_bye(struct gy_engine *e, struct gy_peer *peer)
{
	if (peer->left && !peer_needed_by(peer))
		peer_say(e, peer, GY_MSG_BYE_ACK, &peer->said_ack);
}

/*
 * A stream that expects a first message, or that its own be taken: after BYE neither happens any
 * more.  Or NULL.
 */
static struct gy_stream *peer_awaited_by(const struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &peer->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, peer_link);

		if (!s->out && s->mode == GY_BY_OPEN)
			return s;
		/* Grains may have arrived before the transport says that they are sent. */
		if (s->out && !s->finished && !(s->mode == GY_BY_GRANT && s->sent == s->len))
			return s;
	}
	return NULL;
}

void gy_peer_bye(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	struct gy_stream *s;
	struct gy_list *pos;

	if (hdr->kind == GY_MSG_BYE_ACK) {
		peer->acked = true;
		return;
	}
	peer->left = true;
	while (!e->leaving && (s = peer_awaited_by(peer)))
		peer_is_gone(s->run->comm, peer, -ECONNRESET, "");
	gy_list_for_each(pos, &e->comms)
		gy_p2p_left(gy_list_entry(pos, struct gyre_comm, link), peer);
	peer_answer_bye(e, peer);
	gy_engine_notify(e);		/* a straight line may wait for it */
}

/* Parked messages of calls that this rank has made differently, or will never make. */
static void peer_check_parked(struct gy_engine *e, struct gy_peer *peer)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &peer->parked) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);
		struct gyre_comm *comm = gy_comm_find(e, p->hdr.comm);

		if (comm && p->hdr.coll != GY_P2P && !gy_comm_check(comm, peer, &p->hdr))
			return;		/* comm has failed, and dropped others too */
		if (comm || gy_comm_may_come(e, p->hdr.comm))
			continue;
		gy_comm_refuse_gone(e, peer, &p->hdr);
		gy_list_del(&p->link);
		gy_unpark(e, p);
	}
}

void gy_peers_tick(struct gy_engine *e)
{
	int i;

	for (i = 0; i < e->ctx->nranks; i++) {
		struct gy_peer *peer = e->peers[i];

		if (peer && peer->hangs_up)
			peer_hang_up(peer);
		if (peer && peer->unfit_ns)
			gy_ep_unfit(peer->ep, "memory is short for another way to it");
		if (!peer || peer->state != GY_PEER_UP)
			continue;
		gy_peer_credit(e, peer);
		peer_answer_bye(e, peer);
		peer_check_parked(e, peer);
	}
}

/* Whether it knows what has failed of these: else it would take our leaving for the cause. */
static bool peer_was_told(const struct gy_list *comms, struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_list_for_each(pos, comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);
		const int rank = gy_comm_rank_of(comm, peer->rank);

		if (rank < 0 || !atomic_load_explicit(&comm->err, memory_order_relaxed))
			continue;
		gy_comm_tell(comm, peer);
		if (!comm->told[rank])
			return false;
	}
	return true;
}

static bool peers_still_needed(struct gy_engine *e)
{
	bool needed = false;
	int i;

	for (i = 0; i < e->ctx->nranks; i++) {
		struct gy_peer *peer = e->peers[i];

		if (!peer || peer->state != GY_PEER_UP)
			continue;
		if (peer_was_told(&e->comms, peer) && peer_was_told(&e->past, peer) &&
		    gy_agree_has_told(e, peer) && gy_p2p_has_told(e, peer))
			peer_say(e, peer, GY_MSG_BYE, &peer->said_bye);
		peer_answer_bye(e, peer);
		needed |= !peer->acked;
	}
	return needed;
}

void gy_peers_abandon(struct gy_engine *e)
{
	int i;

	for (i = 0; i < e->ctx->nranks; i++)
		if (e->peers[i])
			e->peers[i]->state = GY_PEER_LOST;
}

void gy_peers_close(struct gy_engine *e, bool drain)
{
	struct gy_sys *sys = e->ctx->sys;
	const uint64_t end = sys->ops->now_ns(sys) + LEAVE_NS * (uint64_t)e->ctx->cfg.time_scale;
	struct gy_list *pos;
	unsigned idle = 0;
	int i;

	e->leaving = true;
	while (drain && peers_still_needed(e) && sys->ops->now_ns(sys) < end)
		if (gy_engine_progress(e))
			idle = 0;
		else
			gy_engine_wait_step(e, &idle);
	gy_list_for_each(pos, &e->comms)
		gy_comm_drop_unmatched(gy_list_entry(pos, struct gyre_comm, link));
	while ((pos = gy_list_pop(&e->dropped)))
		gy_unpark(e, gy_list_entry(pos, struct gy_parked, link));
	for (i = 0; i < e->ctx->nranks; i++) {
		struct gy_peer *peer = e->peers[i];

		if (!peer)
			continue;
		peer->state = GY_PEER_LOST;
		peer->ep->ops->ep_close(peer->ep, drain);
		gy_control_forget_peer(e, peer);
		while ((pos = gy_list_pop(&peer->parked)))
			gy_unpark(e, gy_list_entry(pos, struct gy_parked, link));
		e->peers[i] = NULL;
		gy_free(peer);
	}
}
