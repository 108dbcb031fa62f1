/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * deliver.c - a small message has come: to whom it goes.
 *
 * To the straight line that waits for it, to the stream, message queue or port that it names, or it
 * is parked until its call is made here; what breaks the protocol expels its sender.
 * Locking: driver.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/agree.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"

/* Memory for parked messages of a peer: honest ones need far less. */
#define PARK_MAX (64 * 1024 * 1024)

/* A message that nothing is done with. */
static void deliver_drop(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	if (hdr->kind == GY_MSG_EAGER)
		gy_peer_consumed(e, peer, hdr->len);
}

/*
 * There is no memory to keep a message until its call.  Who makes that call on a communicator that
 * this rank is still to make is told too.
 */
static gy_cold void deliver_unkept(struct gy_engine *e, struct gyre_comm *comm,
				   struct gy_peer *peer, const struct gy_hdr *hdr)
{
	deliver_drop(e, peer, hdr);
	if (comm) {
		gy_comm_fail(comm, -ENOMEM, "no memory for a message of rank %d",
			     gy_comm_rank_of(comm, peer->rank));
		return;
	}
	gy_err("no memory for a message of rank %d of the world", peer->rank);
	if (gy_comm_refuse(e, hdr->comm, peer, -ENOMEM, "has no memory for a message"))
		gy_peer_expel(peer, -ENOMEM, "it sent a message that there is no memory for");
}

/* The thread of a straight line takes its messages itself; it may sleep while another drives. */
static void deliver_tell_line(struct gy_engine *e, struct gyre_comm *comm,
			      const struct gy_hdr *hdr)
{
	const struct gy_run *run = comm ? gy_comm_run(comm, hdr->seq) : NULL;

	if (run && run->straight)
		gy_engine_notify(e);
}

/* Messages that belong to a stream of a communicator that works. */
static void deliver_stream(struct gy_engine *e, struct gyre_comm *comm, struct gy_ep *ep,
			   const struct gy_hdr *hdr, const void *body)
{
	struct gy_peer *peer = ep->peer;
	struct gy_stream *s;
	struct gy_parked *p;
	int err;

	if (gy_unlikely(!hdr->kind || hdr->kind > GY_MSG_RELEASE)) {
		gy_stream_bad_message(peer);
		return;
	}
	if (comm && hdr->coll != GY_P2P && !gy_comm_check(comm, peer, hdr)) {
		deliver_drop(e, peer, hdr);
		return;
	}
	s = gy_stream_find(peer, hdr);
	if (s) {
		err = gy_stream_take(e, s, hdr, body, NULL);
		if (err == -EPROTO)
			gy_stream_bad_message(peer);
		else if (err)
			gy_comm_fail(comm, err, "no memory for a message of rank %d",
				     gy_comm_rank_of(comm, peer->rank));
		return;
	}
	if (gy_unlikely(peer->parked_bytes > PARK_MAX)) {
		gy_peer_expel(peer, -EPROTO, "it sent too many messages that belong to no call");
		return;
	}
	if (comm && gy_p2p_is_first(hdr)) {
		gy_p2p_arrived(comm, peer, hdr, body);
		return;
	}
	if (comm && hdr->coll == GY_P2P && hdr->kind == GY_MSG_LEND &&
	    gy_p2p_is_over(comm, peer, hdr))
		return;		/* it was refused */
	p = gy_park(e, peer, hdr, body);
	if (!p) {
		deliver_unkept(e, comm, peer, hdr);
		return;
	}
	gy_list_add_tail(&peer->parked, &p->link);
	deliver_tell_line(e, comm, hdr);
}

/* All but what the straight line looks for. */
static void deliver_other(struct gy_engine *e, struct gy_ep *ep, const struct gy_hdr *hdr,
			  const void *body)
{
	struct gy_peer *peer = ep->peer;
	struct gyre_comm *comm;

	if (hdr->kind == GY_MSG_CREDIT)
		return;
	if (hdr->kind == GY_MSG_BYE || hdr->kind == GY_MSG_BYE_ACK) {
		gy_peer_bye(e, peer, hdr);
		return;
	}
	if (hdr->kind == GY_MSG_CONTROL) {
		gy_control_deliver(e, peer, hdr, body);
		return;
	}
	if (hdr->kind == GY_MSG_FENCE) {
		gy_agree_fenced(e, peer);
		return;
	}
	comm = gy_comm_find(e, hdr->comm);
	if (hdr->kind == GY_MSG_ABORT) {
		if (comm)
			gy_comm_aborted(comm, peer, hdr, body);
		return;
	}
	if (comm ? atomic_load_explicit(&comm->err, memory_order_relaxed) != 0
		 : !gy_comm_may_come(e, hdr->comm)) {
		if (comm && hdr->kind == GY_MSG_WAIT)
			gy_comm_tell_again(comm, peer);
		else if (comm)
			gy_comm_tell(comm, peer);
		else
			gy_comm_refuse_gone(e, peer, hdr);
		deliver_drop(e, peer, hdr);
		return;
	}
	if (hdr->kind == GY_MSG_WAIT) {
		if (comm && hdr->coll != GY_P2P)
			gy_comm_check(comm, peer, hdr);
		return;
	}
	deliver_stream(e, comm, ep, hdr, body);
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct gy_engine *e = &ep->nic->ctx->engine;
	struct gy_peer *peer = ep->peer;

	gy_assert(gy_driver_held(e));
	if (gy_unlikely(peer->state == GY_PEER_LOST) || gy_peer_take(peer, hdr, body))
		return;
	gy_peer_credited(peer, hdr->credit);
	deliver_other(e, ep, hdr, body);
}
