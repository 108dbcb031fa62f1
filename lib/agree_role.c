/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * agree_role.c - the leader of an agreement, and those who follow it; see agree.c.
 * Locking: driver.
 */
#include "lib/agree_priv.h"

#include <errno.h>
#include <string.h>

#include "lib/log.h"

/* The first of that rank's that is not below ballot. */
static uint64_t agree_ballot_of(int rank, uint64_t ballot)
{
	const uint64_t round = UINT64_C(1) << GY_AGREE_RANK_BITS;
	uint64_t b = (ballot < round ? round : ballot & -round) | (uint64_t)rank;

	return b < ballot ? b + round : b;
}

static bool agree_is_quorum(const struct gy_agree *a, int n, bool lowest)
{
	return 2 * n > a->comm->size || (2 * n == a->comm->size && lowest);
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
		gy_agree_copy(a, &a->proposal, last);
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
	gy_agree_copy(a, &a->accepted, &a->proposal);
}

/* Says what a member should know; returns whether nothing more is expected of it. */
static bool agree_lead_member(struct gy_agree *a, int rank)
{
	const struct gy_agree_value ask = { .seq = a->seq };
	struct gy_agree_member *m = &a->members[rank];

	if (m->asked != a->ballot && !gy_agree_say(a, rank, GY_AGREE_ASK, a->ballot, &ask))
		m->asked = a->ballot;
	if (!a->proposing)
		return m->join_seq == a->seq && m->join == a->ballot;
	if (m->proposed != a->ballot &&
	    !gy_agree_say(a, rank, GY_AGREE_PROPOSE, a->ballot, &a->proposal))
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
bool gy_agree_lead(struct gy_agree *a)
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
		gy_agree_decide(a, &a->proposal, -1);
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

/* Two messages: where there is room for one only, each has its turn. */
static int agree_say_join(struct gy_agree *a, int rank, uint64_t ballot)
{
	const struct gy_agree_value v = {
		.seq = a->seq, .what = a->what, .flags = a->flags, .failed = a->gone,
	};
	int err = 0;

	if (a->accepted.ballot && (a->shown != a->accepted.ballot || a->shown_to != rank))
		err = gy_agree_say(a, rank, GY_AGREE_HAVE, a->accepted.ballot, &a->accepted);
	if (err)
		return err;
	a->shown_to = rank;
	a->shown = a->accepted.ballot;
	err = gy_agree_say(a, rank, GY_AGREE_JOIN, ballot, &v);
	if (err)
		return err;
	a->joined_to = rank;
	a->joined = ballot;
	return 0;
}

void gy_agree_follow(struct gy_agree *a)
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
			m->accused = !gy_agree_say(a, a->leader, GY_AGREE_ACCUSE, 0, &who);
	}
}

void gy_agree_say_vote(struct gy_agree *a)
{
	const struct gy_agree_value v = { .seq = a->seq };
	const int to = gy_agree_owner(a->vote);

	if (gy_set_has(a->gone, to) || gy_agree_say(a, to, GY_AGREE_ACCEPT, a->vote, &v) != -EAGAIN)
		a->vote = 0;
}
