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
#include "lib/agree_priv.h"

#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "lib/peer.h"

/* ---- state ---- */

struct gy_agree *gy_agree_create(struct gyre_comm *comm, int size)
{
	const uint32_t len = ((uint32_t)size + 7) / 8;
	struct gy_agree *a;
	uint8_t *sets;

	a = gy_alloc(sizeof(*a));
	if (!a)
		return NULL;
	a->members = gy_alloc_array((size_t)size, sizeof(*a->members));
	sets = gy_alloc_array(6, len);
	if (!a->members || !sets) {
		gy_free(sets);
		gy_free(a->members);
		gy_free(a);
		return NULL;
	}
	a->comm = comm;
	a->gone = sets;
	a->accepted.failed = sets + len;
	a->proposal.failed = sets + 2 * (size_t)len;
	a->have[0].failed = sets + 3 * (size_t)len;
	a->have[1].failed = sets + 4 * (size_t)len;
	a->decision.failed = sets + 5 * (size_t)len;
	return a;
}

void gy_agree_copy(const struct gy_agree *a, struct gy_agree_value *to,
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

bool gy_agree_is_gone(const struct gy_agree *a, int rank)
{
	const struct gy_agree_member *m = &a->members[rank];
	const struct gy_peer *peer;

	if (rank == a->comm->rank)
		return false;
	if (m->dead || m->quit || m->dropped)
		return true;
	peer = gy_agree_peer(a, rank);
	if (!peer)	/* where this rank can make no connection, that one still may */
		return m->unreachable;
	return peer->state == GY_PEER_LOST || peer->left;
}

static void agree_look(struct gy_agree *a)
{
	int r;

	memset(a->gone, 0, a->set_len);
	a->ngone = 0;
	a->leader = -1;
	for (r = 0; r < a->comm->size; r++) {
		if (gy_agree_is_gone(a, r)) {
			gy_set_add(a->gone, r);
			a->ngone++;
		} else if (a->leader < 0) {
			a->leader = r;
		}
	}
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
			gy_agree_owe(a, &a->members[r].owe_quit);
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
		gy_agree_owe(a, &a->members[r].owe_decision);
		a->members[r].fence = !gy_set_has(a->decision.failed, r);
	}
	agree_end(a, -ESTALE);
}

static void agree_bury(struct gy_agree *a, int rank)
{
	struct gy_agree_member *m = &a->members[rank];
	const struct gy_peer *peer = gy_agree_peer(a, rank);

	if (m->dead)
		return;
	m->dead = a->fresh = true;
	gy_warn("communicator %u: rank %d is agreed to be dead", a->comm->id, rank);
	/* One that has left, or given up, knows that it is not of those that go on. */
	m->fence = !m->quit && !(peer && peer->left);
	gy_agree_owe(a, &m->owe_decision);
}

/* v, which another rank has told us of (-1: this one has decided it), is it. */
void gy_agree_decide(struct gy_agree *a, const struct gy_agree_value *v, int from)
{
	const struct gyre_comm *comm = a->comm;
	int r;

	a->seq = v->seq;
	gy_agree_copy(a, &a->decision, v);
	gy_ports_wake(&comm->ctx->engine);
	if (gy_set_has(v->failed, comm->rank)) {
		agree_excluded(a);
		return;
	}
	if (a->spare && v->what == GY_AGREE_SHRINK && v->id && v->flags)
		gy_comm_expect(a->spare, v->id);
	a->fresh = false;
	for (r = 0; r < comm->size; r++) {
		struct gy_agree_member *m = &a->members[r];

		if (gy_set_has(v->failed, r))
			agree_bury(a, r);
		if (r == comm->rank || r == from)
			continue;
		/* Those who wait for us do not all know another who tells them. */
		if (from < 0 || m->join_seq == v->seq || m->ask_seq == v->seq)
			gy_agree_owe(a, &m->owe_decision);
	}
	agree_end(a, v->what == GY_AGREE_MIXED ? -EPROTO : a->fresh ? -EOWNERDEAD : 0);
}

/* ---- the port ---- */

static void agree_pump(struct gy_port *port)
{
	struct gy_agree *a = port->comm->agree;
	bool more = true;

	while (a->inside && more) {
		agree_look(a);
		if (a->vote)
			gy_agree_say_vote(a);
		more = a->leader == a->comm->rank && gy_agree_lead(a);
		if (a->leader != a->comm->rank)
			gy_agree_follow(a);
	}
	if (a->owes)
		gy_agree_pay(a);
	agree_count(a);
}

static const struct gy_port_ops agree_ops = {
	.message = gy_agree_message,
	.pump = agree_pump,
};

/* ---- for others ---- */

void gy_agree_open(struct gyre_comm *comm)
{
	comm->agree->set_len = ((uint32_t)comm->size + 7) / 8;
	gy_port_open(&comm->agree_port, comm, &agree_ops);
	gy_assert(comm->agree_port.number == GY_AGREE_PORT);
}

void gy_agree_destroy(struct gy_agree *a)
{
	if (!a)
		return;
	gy_port_close(&a->comm->agree_port);
	a->inside = a->owes = false;
	agree_count(a);
	if (a->spare)
		gy_comm_free(a->spare);
	gy_free(a->gone);
	gy_free(a->members);
	gy_free(a);
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
