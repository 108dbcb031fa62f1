/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * agree_say.c - what members say to each other for an agreement, and what they hear; see agree.c.
 * Locking: driver.
 */
#include "lib/agree_priv.h"

#include <errno.h>

#include "lib/peer.h"

#define BALLOT_BITS 48
#define WHAT_BITS 4

#define FENCED "it has declared this rank dead"

static uint64_t agree_off(enum gy_agree_kind kind, enum gy_agree_what what, uint64_t ballot)
{
	return (uint64_t)kind << (BALLOT_BITS + WHAT_BITS) | (uint64_t)what << BALLOT_BITS | ballot;
}

static enum gy_agree_kind agree_kind(const struct gy_hdr *hdr)
{
	return (enum gy_agree_kind)(hdr->off >> (BALLOT_BITS + WHAT_BITS));
}

/* ---- saying ---- */

int gy_agree_say(struct gy_agree *a, int rank, enum gy_agree_kind kind, uint64_t ballot,
		 const struct gy_agree_value *v)
{
	struct gy_hdr hdr = {
		.seq = v->seq,
		.off = agree_off(kind, v->what, ballot),
		.count = v->flags,
		.stream = v->id,
		.len = v->failed ? a->set_len : 0,
	};
	int err;

	err = gy_port_send(&a->comm->agree_port, rank, &hdr, v->failed);
	if (err && err != -EAGAIN) {
		a->members[rank].unreachable = true;
		gy_ports_wake(&a->comm->ctx->engine);	/* look again */
	}
	return err;
}

int gy_agree_refuse(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	struct gy_hdr quit = {
		.kind = GY_MSG_CONTROL,
		.comm = hdr->comm,
		.arg = GY_AGREE_PORT,
		.seq = hdr->seq,
		.off = agree_off(GY_AGREE_QUIT, GY_AGREE_FLAGS, 0),
	};
	const enum gy_agree_kind kind = agree_kind(hdr);

	if (kind != GY_AGREE_JOIN && kind != GY_AGREE_ASK)
		return 0;
	return gy_peer_msg(e, peer, &quit, NULL);
}

/* Who is being connected to may think that it is already. */
static bool agree_is_near(const struct gy_peer *peer)
{
	return peer && (peer->state == GY_PEER_UP || peer->state == GY_PEER_CONNECTING);
}

void gy_agree_owe(struct gy_agree *a, bool *what)
{
	*what = a->owes = true;
}

/*
 * A member that is dead by decision, or, when this rank is, any: after this neither hears of the
 * other.  That it is dead it hears apart from the decision, which may be of a communicator that it
 * has not yet.
 */
static void agree_fence(struct gy_agree *a, int rank)
{
	struct gy_engine *e = &a->comm->ctx->engine;
	struct gy_hdr hdr = { .kind = GY_MSG_FENCE };
	const bool self = a->err == -ESTALE;
	struct gy_peer *peer = gy_agree_peer(a, rank);
	int err = 0;

	if (!self && agree_is_near(peer) && gy_peer_msg(e, peer, &hdr, NULL) == -EAGAIN)
		return;
	if (!peer && !self)
		err = gy_peer_get(a->comm->ctx, a->comm->ranks[rank], &peer);
	if (err == -ENOMEM)
		return;			/* again at the next tick */
	a->members[rank].fence = false;
	if (!peer)
		return;
	gy_peer_drop(peer, self ? -ESTALE : -ECONNRESET,
		     self ? FENCED : "the survivors have agreed that it is dead");
}

void gy_agree_fenced(struct gy_engine *e, struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_peer_drop(peer, -ESTALE, FENCED);
	gy_list_for_each(pos, &e->comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (comm->agree->inside && gy_comm_rank_of(comm, peer->rank) >= 0)
			gy_agree_leave(comm->agree, -ESTALE);
	}
}

void gy_agree_pay(struct gy_agree *a)
{
	const struct gy_agree_value quit = { .seq = a->seq, .flags = (uint64_t)-a->err };
	int r;

	a->owes = false;
	for (r = 0; r < a->comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];
		const bool near = agree_is_near(gy_agree_peer(a, r));

		if (m->owe_decision)
			m->owe_decision = near && gy_agree_say(a, r, GY_AGREE_DECIDE, 0,
							       &a->decision) == -EAGAIN;
		if (m->owe_quit)
			m->owe_quit = near &&
				      gy_agree_say(a, r, GY_AGREE_QUIT, 0, &quit) == -EAGAIN;
		if (m->fence && !m->owe_decision)
			agree_fence(a, r);
		a->owes |= m->owe_decision || m->owe_quit || m->fence;
	}
}

bool gy_agree_has_told(const struct gy_engine *e, const struct gy_peer *peer)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &e->ports) {
		const struct gyre_comm *comm = gy_list_entry(pos, struct gy_port, link)->comm;
		const struct gy_agree *a = comm->agree;
		int rank;

		if (!a->owes)
			continue;
		rank = gy_comm_rank_of(comm, peer->rank);
		if (rank >= 0 && (a->members[rank].owe_decision || a->members[rank].owe_quit))
			return false;
	}
	return true;
}

/* ---- messages ---- */

/* Who suspects whom among those that are counted on. */
static void agree_note_edges(struct gy_agree *a, int rank, const struct gy_hdr *hdr,
			     const uint8_t *suspects)
{
	struct gy_agree_member *m = &a->members[rank];
	const bool counts = hdr->seq == a->seq && m->join == a->ballot;
	int r;

	for (r = 0; r < a->comm->size; r++) {
		if (!gy_set_has(suspects, r) || gy_agree_is_gone(a, r))
			continue;
		a->edges[hdr->seq % 2] = true;
		if (counts) {
			m->edges++;
			a->members[r].edges++;
		}
	}
}

static int agree_joined(struct gy_agree *a, int rank, const struct gy_hdr *hdr, uint64_t ballot,
			enum gy_agree_what what, const uint8_t *suspects)
{
	struct gy_agree_member *m = &a->members[rank];

	if (gy_agree_owner(ballot) != a->comm->rank)
		return -EPROTO;
	m->join = ballot;
	m->join_seq = hdr->seq;
	m->flags = hdr->count;
	m->what = what;
	agree_note_edges(a, rank, hdr, suspects);
	return 0;
}

static int agree_asked(struct gy_agree *a, int rank, uint32_t seq, uint64_t ballot)
{
	struct gy_agree_member *m = &a->members[rank];

	if (gy_agree_owner(ballot) != rank)
		return -EPROTO;
	m->ask = ballot;
	m->ask_seq = seq;
	return 0;
}

static void agree_note_have(struct gy_agree *a, const struct gy_agree_value *v)
{
	struct gy_agree_value *have = &a->have[v->seq % 2];

	if (have->seq != v->seq || have->ballot < v->ballot)
		gy_agree_copy(a, have, v);
}

static int agree_proposed(struct gy_agree *a, int rank, const struct gy_agree_value *v)
{
	if (gy_agree_owner(v->ballot) != rank)
		return -EPROTO;
	if (!a->inside || v->seq != a->seq || v->ballot < a->promised)
		return 0;
	gy_agree_copy(a, &a->accepted, v);
	a->promised = a->vote = v->ballot;
	return 0;
}

static void agree_decided(struct gy_agree *a, int rank, const struct gy_agree_value *v)
{
	if (v->seq <= a->decision.seq || a->err || a->comm->retired)
		return;
	if (gy_set_has(v->failed, a->comm->rank) || (a->inside && v->seq == a->seq))
		gy_agree_decide(a, v, rank);
}

static void agree_quit(struct gy_agree *a, int rank, const struct gy_hdr *hdr)
{
	a->members[rank].quit = true;
	if (a->inside && hdr->seq == a->seq && hdr->count == ENETUNREACH && a->joined &&
	    rank == a->joined_to)
		gy_agree_leave(a, -ENETUNREACH);
}

/* A message of an agreement that this rank does not, or no more, take part in. */
static bool agree_answer(struct gy_agree *a, int rank, uint32_t seq, enum gy_agree_kind kind)
{
	struct gy_agree_member *m = &a->members[rank];
	const bool waits = kind == GY_AGREE_JOIN || kind == GY_AGREE_ASK;

	if (seq <= a->decision.seq) {
		if (waits)
			gy_agree_owe(a, &m->owe_decision);
	} else if (a->err || a->comm->retired) {
		if (waits)
			gy_agree_owe(a, &m->owe_quit);
	} else {
		return seq > a->seq + 1;	/* this rank, or that, will hear it is excluded */
	}
	return true;
}

int gy_agree_message(struct gy_port *port, int rank, const struct gy_hdr *hdr, const void *body)
{
	const enum gy_agree_kind kind = agree_kind(hdr);
	const uint64_t ballot = hdr->off & ((UINT64_C(1) << BALLOT_BITS) - 1);
	struct gy_agree *a = port->comm->agree;
	const struct gy_agree_value v = {
		.ballot = ballot,
		.seq = hdr->seq,
		.what = (enum gy_agree_what)(hdr->off >> BALLOT_BITS & ((1 << WHAT_BITS) - 1)),
		.flags = hdr->count,
		.id = hdr->stream,
		.failed = (uint8_t *)body,
	};
	const bool has_set = kind == GY_AGREE_JOIN || kind == GY_AGREE_HAVE ||
			     kind == GY_AGREE_PROPOSE || kind == GY_AGREE_DECIDE;

	if (rank == port->comm->rank || hdr->len != (has_set ? a->set_len : 0) ||
	    v.what > GY_AGREE_MIXED)
		return -EPROTO;
	a->moved_ns = port->comm->ctx->engine.now_ns;
	if (kind == GY_AGREE_DECIDE)
		agree_decided(a, rank, &v);
	else if (kind == GY_AGREE_QUIT)
		agree_quit(a, rank, hdr);
	else if (agree_answer(a, rank, v.seq, kind))
		return 0;
	else if (kind == GY_AGREE_JOIN)
		return agree_joined(a, rank, hdr, ballot, v.what, body);
	else if (kind == GY_AGREE_ASK)
		return agree_asked(a, rank, v.seq, ballot);
	else if (kind == GY_AGREE_HAVE)
		agree_note_have(a, &v);
	else if (kind == GY_AGREE_PROPOSE)
		return agree_proposed(a, rank, &v);
	else if (kind == GY_AGREE_ACCEPT && v.seq == a->seq)
		a->members[rank].accept = ballot;
	else if (kind == GY_AGREE_ACCUSE && v.id < (uint32_t)port->comm->size)
		a->members[v.id].dropped |= a->inside && v.seq == a->seq;
	return 0;
}
