/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * agree.c - the members of a communicator agree on flags, on who is dead, and on a name.
 *
 * Paxos, once per agreement; agreements of a communicator are numbered.  A quorum is a majority of
 * the members, or exactly half of them with rank 0: any two meet.  The leader is, for each rank,
 * the lowest that it counts on, that is, whose connection is not lost, and who has not left or
 * given up.
 *
 *	JOIN	   to the leader: I take part, with these flags, and suspect these; I promise not to
 *		   accept a lower ballot.  Before it HAVE: what I have accepted
 *	ASK	   of the leader, to all that it counts on: join, in this ballot
 *	PROPOSE    of the leader, when all of them have joined: the value that was accepted last; if
 *		   there is none: and of the flags, those it does not count on, a new name
 *	ACCEPT	   to the leader.  By a quorum of those the value is decided
 *	DECIDE	   to all; also to who asks later, to who is excluded, of those who know
 *	QUIT	   I take part no more; if the leader says so for want of a quorum, nobody can
 *	ACCUSE	   to the leader: this one, who takes me for the leader, suspects you
 *
 * and, apart from agreements, FENCE to those who are excluded: I hear you no more.
 *
 * A leader that learns of suspicions among those that it counts on (edges) asks again, in the next
 * ballot: a rank that is dead will not join that, and is soon known to be dead.  If all do, their
 * connections are cut: it drops the one with the most edges, until there are none.
 *
 * Nobody who is not excluded is two agreements behind, as a decision needs all others to have
 * joined; so the last decision is enough to remember, and messages matter that are of the present
 * agreement or the next.  One who is excluded hears that from any later decision.
 *
 * All that is said follows from state: pump says it, again when there is room.  Locking: driver.
 */
#include "lib/agree.h"

#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"

enum agree_kind {
	AGREE_JOIN = 1,		/* body: the sender's set of those gone */
	AGREE_ASK,
	AGREE_HAVE,		/* body, as of the next two: the value's set of those dead */
	AGREE_PROPOSE,
	AGREE_DECIDE,
	AGREE_ACCEPT,
	AGREE_QUIT,		/* flags: errno */
	AGREE_ACCUSE,		/* id: who */
};

/* A ballot is round << RANK_BITS | rank of its leader; hdr.off: kind, what, ballot. */
#define RANK_BITS 16
#define BALLOT_BITS 48
#define WHAT_BITS 4

#define FENCED "it has declared this rank dead"

static int agree_owner(uint64_t ballot)
{
	return (int)(ballot & ((1 << RANK_BITS) - 1));
}

/* The first of that rank's that is not below ballot. */
static uint64_t agree_ballot_of(int rank, uint64_t ballot)
{
	const uint64_t round = UINT64_C(1) << RANK_BITS;
	uint64_t b = (ballot < round ? round : ballot & -round) | (uint64_t)rank;

	return b < ballot ? b + round : b;
}

static bool agree_is_quorum(const struct gy_agree *a, int n, bool lowest)
{
	return 2 * n > a->comm->size || (2 * n == a->comm->size && lowest);
}

static struct gy_peer *agree_peer(const struct gy_agree *a, int rank)
{
	return a->comm->ctx->engine.peers[a->comm->ranks[rank]];
}

/* ---- state ---- */

struct gy_agree *gy_agree_get(struct gyre_comm *comm)
{
	const uint32_t len = ((uint32_t)comm->size + 7) / 8;
	struct gy_agree *a = comm->agree;
	uint8_t *sets;

	if (a)
		return a;
	a = gy_alloc(sizeof(*a));
	if (!a)
		return NULL;
	a->members = gy_alloc_array((size_t)comm->size, sizeof(*a->members));
	sets = gy_alloc_array(6, len);
	if (!a->members || !sets) {
		gy_free(sets);
		gy_free(a->members);
		gy_free(a);
		return NULL;
	}
	a->comm = comm;
	a->set_len = len;
	a->gone = sets;
	a->accepted.failed = sets + len;
	a->proposal.failed = sets + 2 * (size_t)len;
	a->have[0].failed = sets + 3 * (size_t)len;
	a->have[1].failed = sets + 4 * (size_t)len;
	a->decision.failed = sets + 5 * (size_t)len;
	comm->agree = a;
	return a;
}

static void agree_copy(const struct gy_agree *a, struct gy_agree_value *to,
		       const struct gy_agree_value *from)
{
	uint8_t *failed = to->failed;

	memcpy(failed, from->failed, a->set_len);
	*to = *from;
	to->failed = failed;
}

/* While it has something to do somebody must drive. */
static void agree_count(struct gy_agree *a)
{
	const bool busy = a->inside || a->owes;

	if (busy != a->counted)
		gy_engine_count(&a->comm->ctx->engine, busy ? 1 : -1);
	a->counted = busy;
}

static bool agree_is_gone(const struct gy_agree *a, int rank)
{
	const struct gy_agree_member *m = &a->members[rank];
	const struct gy_peer *peer;

	if (rank == a->comm->rank)
		return false;
	if (m->dead || m->quit || m->unreachable || m->dropped)
		return true;
	peer = agree_peer(a, rank);
	return peer && (peer->state == GY_PEER_LOST || peer->left);
}

static void agree_look(struct gy_agree *a)
{
	int r;

	memset(a->gone, 0, a->set_len);
	a->ngone = 0;
	a->leader = -1;
	for (r = 0; r < a->comm->size; r++) {
		if (agree_is_gone(a, r)) {
			gy_set_add(a->gone, r);
			a->ngone++;
		} else if (a->leader < 0) {
			a->leader = r;
		}
	}
}

/* ---- saying ---- */

static int agree_say(struct gy_agree *a, int rank, enum agree_kind kind, uint64_t ballot,
		     const struct gy_agree_value *v)
{
	struct gy_hdr hdr = {
		.seq = v->seq,
		.off = (uint64_t)kind << (BALLOT_BITS + WHAT_BITS) |
		       (uint64_t)v->what << BALLOT_BITS | ballot,
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

/* Two messages: where there is room for one only, each has its turn. */
static int agree_say_join(struct gy_agree *a, int rank, uint64_t ballot)
{
	const struct gy_agree_value v = {
		.seq = a->seq, .what = a->what, .flags = a->flags, .failed = a->gone,
	};
	int err = 0;

	if (a->accepted.ballot && (a->shown != a->accepted.ballot || a->shown_to != rank))
		err = agree_say(a, rank, AGREE_HAVE, a->accepted.ballot, &a->accepted);
	if (err)
		return err;
	a->shown_to = rank;
	a->shown = a->accepted.ballot;
	err = agree_say(a, rank, AGREE_JOIN, ballot, &v);
	if (err)
		return err;
	a->joined_to = rank;
	a->joined = ballot;
	return 0;
}

/* Who is being connected to may think that it is already. */
static bool agree_is_near(const struct gy_peer *peer)
{
	return peer && (peer->state == GY_PEER_UP || peer->state == GY_PEER_CONNECTING);
}

static void agree_owe(struct gy_agree *a, bool *what)
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
	struct gy_peer *peer = agree_peer(a, rank);

	if (!self && agree_is_near(peer) && gy_peer_msg(e, peer, &hdr, NULL) == -EAGAIN)
		return;
	a->members[rank].fence = false;
	if (!peer && (self || gy_peer_get(a->comm->ctx, a->comm->ranks[rank], &peer)))
		return;
	gy_peer_expel(peer, self ? -ESTALE : -ECONNRESET,
		      self ? FENCED : "the survivors have agreed that it is dead");
}

void gy_agree_fenced(struct gy_engine *e, struct gy_peer *peer)
{
	struct gy_list *pos;

	gy_peer_expel(peer, -ESTALE, FENCED);
	gy_list_for_each(pos, &e->comms) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (comm->agree && comm->agree->inside && gy_comm_rank_of(comm, peer->rank) >= 0)
			gy_agree_leave(comm->agree, -ESTALE);
	}
}

static void agree_pay(struct gy_agree *a)
{
	const struct gy_agree_value quit = { .seq = a->seq, .flags = (uint64_t)-a->err };
	int r;

	a->owes = false;
	for (r = 0; r < a->comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];
		const bool near = agree_is_near(agree_peer(a, r));

		if (m->owe_decision)
			m->owe_decision = near &&
					  agree_say(a, r, AGREE_DECIDE, 0, &a->decision) == -EAGAIN;
		if (m->owe_quit)
			m->owe_quit = near && agree_say(a, r, AGREE_QUIT, 0, &quit) == -EAGAIN;
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

		if (!a || !a->owes)
			continue;
		rank = gy_comm_rank_of(comm, peer->rank);
		if (rank >= 0 && (a->members[rank].owe_decision || a->members[rank].owe_quit))
			return false;
	}
	return true;
}

/* ---- ends ---- */

static void agree_end(struct gy_agree *a, int result)
{
	a->inside = false;
	a->result = result;
	gy_engine_notify(&a->comm->ctx->engine);
}

void gy_agree_leave(struct gy_agree *a, int err)
{
	int r;

	a->err = err;
	for (r = 0; r < a->comm->size; r++)
		if (r != a->comm->rank)
			agree_owe(a, &a->members[r].owe_quit);
	gy_ports_wake(&a->comm->ctx->engine);
	agree_end(a, err);
}

/* Others have agreed that this rank is dead: they hear no more of it than what they agreed on. */
static void agree_excluded(struct gy_agree *a)
{
	struct gyre_comm *comm = a->comm;
	int r;

	a->err = -ESTALE;
	gy_comm_fail(comm, -ESTALE, "rank %d was declared dead by the others", comm->rank);
	for (r = 0; r < comm->size; r++) {
		if (r == comm->rank)
			continue;
		agree_owe(a, &a->members[r].owe_decision);
		a->members[r].fence = !gy_set_has(a->decision.failed, r);
	}
	agree_end(a, -ESTALE);
}

static void agree_bury(struct gy_agree *a, int rank)
{
	struct gy_agree_member *m = &a->members[rank];
	const struct gy_peer *peer = agree_peer(a, rank);

	if (m->dead)
		return;
	m->dead = a->fresh = true;
	gy_warn("communicator %u: rank %d is agreed to be dead", a->comm->id, rank);
	/* One that has left, or given up, knows that it is not of those that go on. */
	m->fence = !m->quit && !(peer && peer->left);
	agree_owe(a, &m->owe_decision);
}

/* v, which another rank has told us of (-1: this one has decided it), is it. */
static void agree_decide(struct gy_agree *a, const struct gy_agree_value *v, int from)
{
	const struct gyre_comm *comm = a->comm;
	int r;

	a->seq = v->seq;
	agree_copy(a, &a->decision, v);
	gy_ports_wake(&comm->ctx->engine);
	if (gy_set_has(v->failed, comm->rank)) {
		agree_excluded(a);
		return;
	}
	a->fresh = false;
	for (r = 0; r < comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];

		if (gy_set_has(v->failed, r))
			agree_bury(a, r);
		if (r == comm->rank || r == from)
			continue;
		/* Those who wait for us do not all know another who tells them. */
		if (from < 0 || m->join_seq == v->seq || m->ask_seq == v->seq)
			agree_owe(a, &m->owe_decision);
	}
	agree_end(a, v->what == GY_AGREE_MIXED ? -EPROTO : a->fresh ? -EOWNERDEAD : 0);
}

/* ---- the leader ---- */

/* Begins a ballot, not below least. */
static void agree_begin(struct gy_agree *a, uint64_t least)
{
	const int size = a->comm->size;
	int r;

	a->ballot = agree_ballot_of(a->comm->rank, gy_max(least, a->promised));
	a->promised = a->ballot;
	a->proposing = false;
	a->gone_at_start = a->ngone;
	for (r = 0; r < size; r++)
		a->members[r].edges = 0;
}

static void agree_begin_again(struct gy_agree *a, bool confirming)
{
	int r;

	for (r = 0; r < a->comm->size; r++)
		a->members[r].had_edges = confirming && a->members[r].edges;
	a->confirming = confirming;
	a->edges[a->seq % 2] = false;
	agree_begin(a, a->ballot + 1);
}

/* All have joined, and some suspect each other.  Those who did so before as well are alive. */
static void agree_settle_edges(struct gy_agree *a)
{
	int r, worst = -1;

	for (r = a->comm->rank + 1; r < a->comm->size && a->confirming; r++) {
		const struct gy_agree_member *m = &a->members[r];

		if (!gy_set_has(a->gone, r) && m->had_edges && m->edges &&
		    (worst < 0 || m->edges >= a->members[worst].edges))
			worst = r;
	}
	if (worst >= 0) {
		gy_warn("communicator %u: ranks cannot reach each other: rank %d is dropped",
			a->comm->id, worst);
		a->members[worst].dropped = true;
	}
	agree_begin_again(a, worst < 0);
}

/* What the value is when no other can have been decided. */
static void agree_compose(struct gy_agree *a)
{
	struct gy_agree_value *v = &a->proposal;
	int r;

	v->seq = a->seq;
	v->what = a->what;
	v->flags = a->flags;
	v->id = a->what == GY_AGREE_SHRINK ? gy_comm_name(a->comm->ctx) : 0;
	memcpy(v->failed, a->gone, a->set_len);
	for (r = 0; r < a->comm->size; r++) {
		const struct gy_agree_member *m = &a->members[r];

		if (r == a->comm->rank || gy_set_has(a->gone, r))
			continue;
		v->flags &= m->flags;
		if (m->what != a->what)
			v->what = GY_AGREE_MIXED;
	}
}

/* All that are counted on have joined the ballot. */
static void agree_propose(struct gy_agree *a)
{
	const struct gy_agree_value *last = &a->have[a->seq % 2];

	if (last->seq != a->seq || last->ballot < a->accepted.ballot)
		last = &a->accepted;
	if (!agree_is_quorum(a, a->comm->size - a->ngone, !gy_set_has(a->gone, 0))) {
		gy_err("communicator %u: %d of %d ranks are left: too few to go on", a->comm->id,
		       a->comm->size - a->ngone, a->comm->size);
		gy_agree_leave(a, -ENETUNREACH);
	} else if (last->ballot >= a->ballot) {
		agree_begin(a, last->ballot);
	} else if (last->ballot) {
		agree_copy(a, &a->proposal, last);
		a->proposing = true;
	} else if (a->edges[a->seq % 2]) {
		agree_settle_edges(a);
	} else {
		agree_compose(a);
		a->proposing = true;
	}
	if (!a->proposing)
		return;
	a->proposal.ballot = a->ballot;
	agree_copy(a, &a->accepted, &a->proposal);
}

/* Says what a member should know; returns whether nothing more is expected of it. */
static bool agree_lead_member(struct gy_agree *a, int rank)
{
	const struct gy_agree_value ask = { .seq = a->seq };
	struct gy_agree_member *m = &a->members[rank];

	if (m->asked != a->ballot && !agree_say(a, rank, AGREE_ASK, a->ballot, &ask))
		m->asked = a->ballot;
	if (!a->proposing)
		return m->join_seq == a->seq && m->join == a->ballot;
	if (m->proposed != a->ballot && !agree_say(a, rank, AGREE_PROPOSE, a->ballot, &a->proposal))
		m->proposed = a->ballot;
	return m->accept == a->ballot;
}

static bool agree_is_accepted(const struct gy_agree *a)
{
	const bool lowest = !a->comm->rank || a->members[0].accept == a->ballot;
	int r, n = 1;

	for (r = 0; r < a->comm->size; r++)
		n += r != a->comm->rank && a->members[r].accept == a->ballot;
	return agree_is_quorum(a, n, lowest);
}

/* The ballot that this rank has to be in: that of a member who has promised a higher one. */
static uint64_t agree_least(const struct gy_agree *a)
{
	uint64_t least = gy_max(a->promised, a->ballot);
	int r;

	for (r = 0; r < a->comm->size; r++) {
		const struct gy_agree_member *m = &a->members[r];

		if (m->join_seq == a->seq && !gy_set_has(a->gone, r))
			least = gy_max(least, m->join);
	}
	return least;
}

/* One step; whether there may be another. */
static bool agree_lead(struct gy_agree *a)
{
	const uint64_t least = agree_least(a);
	bool all = true;
	int r;

	if (!a->ballot || least > a->ballot)
		agree_begin(a, least);
	else if (a->edges[a->seq % 2] && !a->proposing && a->ngone != a->gone_at_start)
		agree_begin_again(a, false);
	for (r = 0; r < a->comm->size; r++)
		if (r != a->comm->rank && !gy_set_has(a->gone, r))
			all &= agree_lead_member(a, r);
	if (a->proposing && agree_is_accepted(a)) {
		agree_decide(a, &a->proposal, -1);
	} else if (all && a->proposing) {
		gy_err("communicator %u: too few ranks are left to agree", a->comm->id);
		gy_agree_leave(a, -ENETUNREACH);
	} else if (all) {
		agree_propose(a);
	} else {
		return false;
	}
	return a->inside;
}

/* ---- the others ---- */

static void agree_follow(struct gy_agree *a)
{
	const struct gy_agree_member *leader = &a->members[a->leader];
	uint64_t ballot = agree_ballot_of(a->leader, a->promised);
	int r;

	if (leader->ask_seq == a->seq)
		ballot = gy_max(ballot, leader->ask);
	if (a->joined_to != a->leader || a->joined != ballot) {
		a->promised = ballot;
		if (agree_say_join(a, a->leader, ballot))
			return;
	}
	for (r = 0; r < a->comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];
		const struct gy_agree_value who = { .seq = a->seq, .id = (uint32_t)r };

		if (m->join_seq == a->seq && !m->accused && r != a->leader)
			m->accused = !agree_say(a, a->leader, AGREE_ACCUSE, 0, &who);
	}
}

static void agree_say_vote(struct gy_agree *a)
{
	const struct gy_agree_value v = { .seq = a->seq };
	const int to = agree_owner(a->vote);

	if (gy_set_has(a->gone, to) || agree_say(a, to, AGREE_ACCEPT, a->vote, &v) != -EAGAIN)
		a->vote = 0;
}

static void agree_pump(struct gy_port *port)
{
	struct gy_agree *a = port->comm->agree;
	bool more = true;

	if (!a)
		return;
	while (a->inside && more) {
		agree_look(a);
		if (a->vote)
			agree_say_vote(a);
		more = a->leader == a->comm->rank && agree_lead(a);
		if (a->leader != a->comm->rank)
			agree_follow(a);
	}
	if (a->owes)
		agree_pay(a);
	agree_count(a);
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
		if (!gy_set_has(suspects, r) || agree_is_gone(a, r))
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

	if (agree_owner(ballot) != a->comm->rank)
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

	if (agree_owner(ballot) != rank)
		return -EPROTO;
	m->ask = ballot;
	m->ask_seq = seq;
	return 0;
}

static void agree_note_have(struct gy_agree *a, const struct gy_agree_value *v)
{
	struct gy_agree_value *have = &a->have[v->seq % 2];

	if (have->seq != v->seq || have->ballot < v->ballot)
		agree_copy(a, have, v);
}

static int agree_proposed(struct gy_agree *a, int rank, const struct gy_agree_value *v)
{
	if (agree_owner(v->ballot) != rank)
		return -EPROTO;
	if (!a->inside || v->seq != a->seq || v->ballot < a->promised)
		return 0;
	agree_copy(a, &a->accepted, v);
	a->promised = a->vote = v->ballot;
	return 0;
}

static void agree_decided(struct gy_agree *a, int rank, const struct gy_agree_value *v)
{
	const bool excluded = gy_set_has(v->failed, a->comm->rank);

	if (v->seq <= a->decision.seq)
		return;
	if (a->err || a->comm->retired) {
		/* The others may think that this rank has what they have made. */
		if (v->what == GY_AGREE_SHRINK && !excluded)
			gy_comm_was_here(&a->comm->ctx->engine, v->id);
	} else if (excluded || (a->inside && v->seq == a->seq)) {
		agree_decide(a, v, rank);
	}
}

static void agree_quit(struct gy_agree *a, int rank, const struct gy_hdr *hdr)
{
	a->members[rank].quit = true;
	if (a->inside && hdr->seq == a->seq && hdr->count == ENETUNREACH && a->joined &&
	    rank == a->joined_to)
		gy_agree_leave(a, -ENETUNREACH);
}

/* A message of an agreement that this rank does not, or no more, take part in. */
static bool agree_answer(struct gy_agree *a, int rank, uint32_t seq, enum agree_kind kind)
{
	struct gy_agree_member *m = &a->members[rank];
	const bool waits = kind == AGREE_JOIN || kind == AGREE_ASK;

	if (seq <= a->decision.seq) {
		if (waits)
			agree_owe(a, &m->owe_decision);
	} else if (a->err || a->comm->retired) {
		if (waits)
			agree_owe(a, &m->owe_quit);
	} else {
		return seq > a->seq + 1;	/* this rank, or that, will hear it is excluded */
	}
	return true;
}

static int agree_message(struct gy_port *port, int rank, const struct gy_hdr *hdr, const void *body)
{
	const enum agree_kind kind = (enum agree_kind)(hdr->off >> (BALLOT_BITS + WHAT_BITS));
	const uint64_t ballot = hdr->off & ((UINT64_C(1) << BALLOT_BITS) - 1);
	struct gy_agree *a = gy_agree_get(port->comm);
	const struct gy_agree_value v = {
		.ballot = ballot,
		.seq = hdr->seq,
		.what = (enum gy_agree_what)(hdr->off >> BALLOT_BITS & ((1 << WHAT_BITS) - 1)),
		.flags = hdr->count,
		.id = hdr->stream,
		.failed = (uint8_t *)body,
	};
	const bool has_set = kind == AGREE_JOIN || kind == AGREE_HAVE || kind == AGREE_PROPOSE ||
			     kind == AGREE_DECIDE;

	if (!a)
		return -ENOMEM;
	if (rank == port->comm->rank || hdr->len != (has_set ? a->set_len : 0) ||
	    v.what > GY_AGREE_MIXED)
		return -EPROTO;
	a->moved_ns = port->comm->ctx->engine.now_ns;
	if (kind == AGREE_DECIDE)
		agree_decided(a, rank, &v);
	else if (kind == AGREE_QUIT)
		agree_quit(a, rank, hdr);
	else if (agree_answer(a, rank, v.seq, kind))
		return 0;
	else if (kind == AGREE_JOIN)
		return agree_joined(a, rank, hdr, ballot, v.what, body);
	else if (kind == AGREE_ASK)
		return agree_asked(a, rank, v.seq, ballot);
	else if (kind == AGREE_HAVE)
		agree_note_have(a, &v);
	else if (kind == AGREE_PROPOSE)
		return agree_proposed(a, rank, &v);
	else if (kind == AGREE_ACCEPT && v.seq == a->seq)
		a->members[rank].accept = ballot;
	else if (kind == AGREE_ACCUSE && v.id < (uint32_t)port->comm->size)
		a->members[v.id].dropped |= a->inside && v.seq == a->seq;
	return 0;
}

static const struct gy_port_ops agree_ops = {
	.message = agree_message,
	.pump = agree_pump,
};

/* ---- for others ---- */

void gy_agree_open(struct gyre_comm *comm)
{
	gy_port_open(&comm->agree_port, comm, &agree_ops);
}

void gy_agree_close(struct gyre_comm *comm)
{
	struct gy_agree *a = comm->agree;

	gy_port_close(&comm->agree_port);
	if (!a)
		return;
	a->inside = a->owes = false;
	agree_count(a);
	if (a->spare)
		gy_comm_free(a->spare);
	gy_free(a->gone);
	gy_free(a->members);
	gy_free(a);
	comm->agree = NULL;
}

void gy_agree_enter(struct gy_agree *a, enum gy_agree_what what, uint64_t flags)
{
	struct gy_engine *e = &a->comm->ctx->engine;
	int r;

	a->seq++;
	a->inside = true;
	a->what = what;
	a->flags = flags;
	a->promised = a->vote = a->joined = a->ballot = 0;
	a->accepted.ballot = a->shown = 0;
	a->proposing = a->confirming = a->edges[(a->seq + 1) % 2] = false;
	a->moved_ns = a->warned_ns = e->now_ns;
	for (r = 0; r < a->comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];

		m->accept = m->asked = m->proposed = 0;
		m->accused = m->dropped = m->had_edges = false;
	}
	agree_count(a);
	gy_ports_wake(e);
}

void gy_agree_each_late(const struct gy_agree *a, void (*fn)(void *arg, int rank), void *arg)
{
	int r;

	if (a->leader != a->comm->rank) {
		fn(arg, a->leader);
		return;
	}
	for (r = 0; r < a->comm->size; r++) {
		const struct gy_agree_member *m = &a->members[r];

		if (r != a->comm->rank && !gy_set_has(a->gone, r) &&
		    (a->proposing ? m->accept != a->ballot
				  : m->join_seq != a->seq || m->join != a->ballot))
			fn(arg, r);
	}
}
