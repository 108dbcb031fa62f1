/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_AGREE_H
#define GY_AGREE_H
/*
 * Agreement among the members of a communicator, also of one that has failed: what gyre_comm_agree
 * and gyre_comm_shrink stand on.  Each communicator has a port for it, its first, from when it is
 * opened until long after its user has destroyed it, since slower ranks may still ask.
 *
 *   agree.c, agree_role.c, agree_say.c	the protocol
 *   shrink.c				waiting for it, who is late, the public calls
 *
 * Locking: driver.
 */
#include <stdbool.h>
#include <stdint.h>

struct gy_engine;
struct gy_hdr;
struct gy_peer;
struct gyre_comm;

enum gy_agree_what { GY_AGREE_FLAGS, GY_AGREE_SHRINK, GY_AGREE_MIXED };

struct gy_agree_value {
	uint64_t ballot;	/* in which it was proposed; 0: there is none */
	uint32_t seq;		/* of the agreement */
	enum gy_agree_what what;	/* MIXED: calls do not match */
	uint64_t flags;
	uint32_t id;		/* SHRINK: of the communicator to come; 0: no more names */
	uint8_t *failed;	/* set of members: a bit for each rank */
};

/* What one rank keeps of another. */
struct gy_agree_member {
	/* Of it; seq: in which agreement.  Ballots are 0 before the first. */
	uint64_t join, ask, accept, flags;
	uint32_t join_seq, ask_seq;
	enum gy_agree_what what;
	/* Said to it, in this agreement. */
	uint64_t asked, proposed;
	bool accused;
	/* It is not counted on: for good, */
	bool dead;		/* by a decision */
	bool quit;		/* it has said that it gave up */
	bool unreachable;
	/* or in this agreement */
	bool dropped;
	/* Suspicions, with it at one end, of this ballot among those who are counted on. */
	unsigned edges;
	bool had_edges;		/* in the ballot before */
	/* Still to be said, and done then. */
	bool owe_decision, owe_quit;
	bool fence;
};

struct gy_agree {
	struct gyre_comm *comm;
	struct gy_agree_member *members;
	uint32_t set_len;	/* bytes */
	uint8_t *gone;		/* set: who is not counted on, as of the last look */
	int ngone;
	int leader;		/* lowest of the others */
	int err;		/* why this rank takes part no more */

	uint32_t seq;		/* of the last that this rank has entered */
	bool inside;		/* and waits for */
	enum gy_agree_what what;
	uint64_t flags;
	int result;		/* when it is over */
	bool fresh;		/* with dead members that the one before had not */

	uint64_t promised;
	uint64_t vote;		/* ACCEPT of that ballot is to be said */
	int joined_to;		/* who knows that we take part, */
	uint64_t joined;	/* and in which ballot; 0: nobody */
	int shown_to;		/* who knows what we have accepted, */
	uint64_t shown;		/* in which ballot; 0: nobody */

	uint64_t ballot;	/* as the leader; 0: not begun */
	bool proposing;
	bool confirming;	/* edges of the ballot before are asked for again */
	bool edges[2];		/* some JOIN of agreement s had edges: at s % 2 */
	int gone_at_start;

	struct gy_agree_value accepted, proposal;
	struct gy_agree_value have[2];	/* latest accepted by others: of agreement s at s % 2 */
	struct gy_agree_value decision;	/* the last */

	struct gyre_comm *spare;	/* what the caller would lose if it was killed */
	bool owes, counted;
	uint64_t moved_ns, warned_ns;
};

static inline bool gy_set_has(const uint8_t *set, int i)
{
	return set[i / 8] >> i % 8 & 1;
}

static inline void gy_set_add(uint8_t *set, int i)
{
	set[i / 8] |= (uint8_t)(1 << i % 8);
}

/* ---- agree.c, agree_say.c ---- */
#define GY_AGREE_PORT 0		/* number of its port */

/*
 * What comm, of so many members at most, needs for it: all memory beforehand, since who has none
 * when the others agree would let them wait.  NULL: no memory.
 */
struct gy_agree *gy_agree_create(struct gyre_comm *comm, int size);
void gy_agree_destroy(struct gy_agree *a);	/* NULL is fine */
void gy_agree_open(struct gyre_comm *comm);	/* comm has its members now */
/* Enters the next agreement; pumps do the rest, until it is not inside any more. */
void gy_agree_enter(struct gy_agree *a, enum gy_agree_what what, uint64_t flags);
/* Takes part no more, and says so. */
void gy_agree_leave(struct gy_agree *a, int err);
/* Whom this rank waits for: calls fn for each. */
void gy_agree_each_late(const struct gy_agree *a, void (*fn)(void *arg, int rank), void *arg);
/* It may have been decided that a communicator is made, by a name that is not known here yet. */
static inline bool gy_agree_may_name(const struct gy_agree *a)
{
	return a->inside && a->what == GY_AGREE_SHRINK;
}
/*
 * That peer waits for a word of this rank in a communicator that is gone here: it hears that
 * there is none.  0, -EAGAIN, or it is unreachable.
 */
int gy_agree_refuse(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr);
/* That peer has said FENCE. */
void gy_agree_fenced(struct gy_engine *e, struct gy_peer *peer);
/* Nothing of an agreement is to be said to that peer: it may be left. */
bool gy_agree_has_told(const struct gy_engine *e, const struct gy_peer *peer);

/* ---- shrink.c ---- */
void gy_agree_tick(struct gyre_comm *comm);
#endif
