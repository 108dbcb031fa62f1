/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_COMM_H
#define GY_COMM_H
/*
 * Communicators inside.
 *
 *   comm.c	membership, plans, calls that match	comm_end.c   failure, and destruction
 *   split.c	new ones out of old			shrink.c     and of what is left of one
 *
 * Locking: driver, but for what gyre_comm_rank, _size and _status read.
 */
#include <gyre/comm.h>
#include <gyre/request.h>
#include "lib/control.h"
#include "lib/engine.h"
#include "lib/select.h"

#define GY_HISTORY 64

struct gy_agree;

/* What two ranks' calls must agree in. */
struct gy_comm_fp {
	uint64_t call;		/* struct gy_hdr's first 8 bytes without kind */
	uint64_t count;
};

struct gy_cached_plan {
	struct gy_cached_plan *next;
	const struct gy_coll_algo *algo;
	int root;
	bool in_place;
	struct gy_plan *plan;
};

struct gyre_comm {
	struct gy_list link;		/* struct gy_engine.comms, coming or past */
	struct gyre_context *ctx;
	uint32_t id;
	int rank, size;
	int *ranks;			/* world rank of each */
	uint32_t seq;			/* of the next collective */
	uint32_t next_port;		/* number of the next port: control.h */
	struct gy_port agree_port;	/* agree.h */
	struct gy_agree *agree;
	bool retired;			/* destroyed by its user; kept for that port, and told */
	struct gy_list runs;		/* that are RUNNING, oldest first */
	struct gy_select select;
	/* by collective: of the last small blocking call, kept for the next; or NULL */
	struct gyre_request *last[GY_NCOLLS];
	struct gy_cached_plan *plans;	/* most recently used first */
	struct gy_comm_fp history[GY_HISTORY];	/* of finished collectives, by seq */

	/* receives that wait for a message: struct gyre_request.link */
	struct gy_list posted;
	/* first messages that wait for a receive: struct gy_parked */
	struct gy_list unexpected;
	/* sends to this rank that wait for a receive: struct gyre_request.link */
	struct gy_list self;
	/* first messages that overtook an earlier one: struct gy_parked */
	struct gy_list early;
	uint32_t *sent, *received;	/* point-to-point messages so far, by rank here */

	bool *told;			/* by rank here: knows that it has failed */
	bool untold;			/* there was no room to tell some who are connected */
	_Atomic int err;		/* 0 or why it failed; why[] is written before, release */
	char why[256];
};

int gy_comm_create(struct gyre_context *ctx, uint32_t id, const int *ranks, int size, int rank,
		   struct gyre_comm **commp);
/* In two steps: with room for that many ranks; open then takes no more memory. */
struct gyre_comm *gy_comm_alloc(struct gyre_context *ctx, int size);
int gy_comm_open(struct gyre_comm *comm, uint32_t id, const int *ranks, int size, int rank);
/*
 * A name for a new communicator: by the rank that gives it, and that rank's count of them.  So no
 * two in the job share one, whatever the order in which threads make them.  0: none is left.
 */
uint32_t gy_comm_name(struct gyre_context *ctx);
void gy_comm_free(struct gyre_comm *comm);
/* Messages that no receive has taken: while their peers exist. */
void gy_comm_drop_unmatched(struct gyre_comm *comm);
struct gyre_comm *gy_comm_find_in(const struct gy_list *comms, uint32_t id);
static inline struct gyre_comm *gy_comm_find(struct gy_engine *e, uint32_t id)
{
	return gy_comm_find_in(&e->comms, id);
}
int gy_comm_rank_of(const struct gyre_comm *comm, int world_rank);	/* -1: not a member */

/*
 * It will be opened here by that name, or freed.  Other members may have theirs first: until then
 * what they send on it waits.
 */
void gy_comm_expect(struct gyre_comm *comm, uint32_t id);
/*
 * An expected one that is not opened, since the one has failed that it comes from, and is the
 * library's now: who has it, and calls on it, hears why.
 */
void gy_comm_abandon(struct gyre_comm *comm, const struct gyre_comm *from);
/*
 * Whether one of this id, which is not here, may be opened here yet.  Exact but while a shrink goes
 * on: other members may have its decision, and the name in it, before this rank.
 */
bool gy_comm_may_come(const struct gy_engine *e, uint32_t id);
/*
 * Tells a peer that its call on a communicator which is not here fails, since this rank `what`.  0,
 * or -errno when it could not be told.
 */
int gy_comm_refuse(struct gy_engine *e, uint32_t id, struct gy_peer *peer, int err,
		   const char *what);
/*
 * A message for one that is not here and will not be: its sender is told, if it waits; the cause,
 * too, when it had failed.
 */
void gy_comm_refuse_gone(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr);

/* Fails it for good: logs, ends its runs and posted receives, tells the other members. */
void gy_comm_fail(struct gyre_comm *comm, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The part of it that ends runs and receives: again, for a driver that was killed before that. */
void gy_comm_stop(struct gyre_comm *comm, int err);
/* As said by peer in an ABORT, or by its recall. */
void gy_comm_aborted(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr,
		     const void *body);
/* Tells one peer, or all that are connected, that the communicator has failed; once each. */
void gy_comm_tell(struct gyre_comm *comm, struct gy_peer *peer);
void gy_comm_tell_all(struct gyre_comm *comm);
/* One that waits: what it was told came before it had the communicator. */
void gy_comm_tell_again(struct gyre_comm *comm, struct gy_peer *peer);

int gy_comm_plan(struct gyre_comm *comm, const struct gy_coll_algo *algo, int root, bool in_place,
		 const struct gy_plan **planp);

/* The active run of a collective, or NULL. */
struct gy_run *gy_comm_run(struct gyre_comm *comm, uint32_t seq);

static inline struct gy_comm_fp gy_fp(const struct gy_hdr *hdr)
{
	struct gy_comm_fp fp = { .count = hdr->count };

	__builtin_memcpy(&fp.call, hdr, sizeof(fp.call));
	fp.call >>= 8;		/* kind */
	return fp;
}

static inline bool gy_fp_equal(struct gy_comm_fp a, struct gy_comm_fp b)
{
	return a.call == b.call && a.count == b.count;
}

/* A collective has succeeded: later messages of it are compared with this. */
static inline void gy_comm_remember(const struct gy_run *run)
{
	run->comm->history[run->hdr.seq % GY_HISTORY] = gy_fp(&run->hdr);
}

/* The end of a run that has nothing open, and that no port waits for: see gy_run_end. */
static inline void gy_run_over(struct gy_engine *e, struct gy_run *run, int err)
{
	gy_list_del(&run->comm_link);
	gy_engine_count(e, -1);
	run->err = err;
	/* Pairs with the acquire load of whoever tests or waits: results before state. */
	atomic_store_explicit(&run->state, GY_RUN_DONE, memory_order_release);
	gy_engine_notify(e);
}

/*
 * Compares a message's fingerprint with this rank's call of that number, running or finished: on a
 * difference fails the communicator with -EPROTO, naming both, and returns false.
 */
bool gy_comm_check(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr);

/* "allreduce(count 4, f32, sum, ring)" */
void gy_call_text(const struct gy_hdr *hdr, char *buf, size_t len);

/* ---- split.c ---- */
/* What a rank gives to a split. */
struct gy_split {
	int32_t color, key;
	uint32_t id;		/* of rank 0: the name */
	int32_t rank;		/* where they are sorted */
};
/*
 * all[i] is of rank i of n.  Those of me's colour, in the order of (key, rank), to ranks; returns
 * how many, and where me is.  O(n log n); what is in all afterwards is of no use.
 */
int gy_split_members(struct gy_split *all, int n, int me, int *ranks, int *placep);

/* ---- p2p.c ---- */
/* A first message (EAGER, LEND or RTS at off 0) of a point-to-point message has come. */
void gy_p2p_arrived(struct gyre_comm *comm, struct gy_peer *peer, const struct gy_hdr *hdr,
		    const void *body);
static inline bool gy_p2p_is_first(const struct gy_hdr *hdr)
{
	return hdr->coll == GY_P2P && !hdr->off &&
	       (hdr->kind == GY_MSG_EAGER || hdr->kind == GY_MSG_LEND || hdr->kind == GY_MSG_RTS);
}
/* Takes those that came before the communicator was here. */
void gy_p2p_opened(struct gyre_comm *comm);
/* Whether the message that hdr goes on with has been received or refused, when no stream has it. */
bool gy_p2p_is_over(const struct gyre_comm *comm, const struct gy_peer *peer,
		    const struct gy_hdr *hdr);
/* Which message a WAIT is for; and whether it was received or sent here, on a past communicator. */
void gy_p2p_ask(const struct gy_run *run, struct gy_hdr *hdr);
bool gy_p2p_has_done(const struct gyre_comm *past, const struct gy_peer *peer,
		     const struct gy_hdr *hdr);
/* Tells senders what was refused when there was no room to say so; and whether that peer knows. */
void gy_p2p_release_dropped(struct gy_engine *e);
bool gy_p2p_has_told(struct gy_engine *e, const struct gy_peer *peer);
void gy_p2p_fail(struct gyre_comm *comm, int err);
/* A rank has said that it leaves, or was never there: no message of its will come any more. */
void gy_p2p_left(struct gyre_comm *comm, const struct gy_peer *peer);
void gy_p2p_tick(struct gyre_comm *comm);
#endif
