/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_DELAYED_H
#define GY_DELAYED_H
/*
 * Delayed collectives inside: handles, rounds, and what is said about them.
 *
 * A handle has two communicators of its own.  Rounds run on one, in the order of their numbers:
 * two sums each, of the payload and of the weights.  On the other are the handle's collective calls
 * and nothing else.  A port (lib/control.h) carries what rounds need beside that, between the
 * leader, rank 0, and the others:
 *
 *	READY round		to the leader: READY_ALL and QUORUM: what this rank has is posted
 *	START round		from it: rounds up to this one run now
 *	DONE round, tick	to it: rounds up to this one have run here, at that tick the last
 *	COMMIT round, tick	from it: all have; AGREED: merged at that tick
 *	CALL number		to and from it: a rank is in that collective call of the handle
 *
 * All follow from numbers that are kept here (done, against said_done ...), so what finds no room
 * is said at the next pump.  Rounds in flight are (applied, posted], round k in slot k % nrounds.
 *
 * Locking: driver, but for what is the caller's: the pass over memory of a FILLING round and of a
 * COMMITTED one is made without the token.
 *
 *   attr.c    create.c  memory, the end	round.c    states; round_say.c  the port
 *   tick.c    triggers; post.c, apply.c	collect.c  set, drain; rebind.c	turn.c
 *   merge.c   passes over memory		save.c     adapt.c  presets.c
 */
#include <gyre/delayed.h>
#include "lib/context.h"
#include "lib/control.h"
#include "lib/request.h"

#define GY_NO_TICK UINT64_MAX
#define GY_DELAYED_CHANGES 8 /* of the schedule that have not taken effect yet */
#define GY_DELAYED_RING_MAX 4096

enum gy_round_state {
	GY_ROUND_FREE,
	GY_ROUND_FILLING,	/* the caller's thread copies what it contributes */
	GY_ROUND_POSTED,
	GY_ROUND_STARTED,
	GY_ROUND_DONE,	/* here */
	GY_ROUND_COMMITTED,
};

struct gy_round {
	uint64_t number;
	enum gy_round_state state;
	bool contributes;	/* own was taken from here; else this rank sends zeros */
	bool in_place;		/* what is sent is in red, not in own */
	bool averaged;		/* red holds the average */
	bool abstains;		/* posted, with weight 0 */
	unsigned nstarted;	/* of its two requests */
	uint64_t post_tick;
	uint64_t apply_tick;	/* FIXED, AGREED; GY_NO_TICK: not known yet */
	uint64_t done_tick;	/* when it was DONE here */
	/* What the handle had before it was posted: struct gyre_delayed.taken, last_post. */
	uint64_t taken_before, post_before;
	double weight;
	double weights[2], sums[2];	/* w, w x steps: of this rank, of all */
	void *own;			/* of type: what this rank contributes */
	void *red;			/* of wire: the sum */
	struct gyre_request *payload, *sum;
	uint64_t started_ns, done_ns, committed_ns;
	uint64_t sum_ns;	/* ADAPT: when the sum of weights was there; 0: not yet */
	/* Leader: ranks that have said DONE, and the latest tick of theirs. */
	unsigned ndone;
	uint64_t done_max;
};

/* What the leader knows of a rank, and has told it: numbers of rounds. */
struct gy_delayed_member {
	uint64_t ready, done;
	uint64_t early; /* READY of the next epoch: this rank has left a drain first */
	uint64_t told_start, told_commit, told_call;
};

/* From round on: struct gyre_delayed.attr.delay and .period. */
struct gy_delayed_change {
	uint64_t round;
	uint64_t not_before;	/* tick of its trigger, PERIOD */
	uint32_t delay, period;
};

/* A collective call with the handle, for messages. */
struct gy_delayed_call {
	const char *name;
	const char *args[3];	/* those that must be equal: struct gy_delayed_standing.call */
};

/* Where a rank is: what ranks tell each other in the handle's collective calls. */
struct gy_delayed_standing {
	uint64_t call[3];	/* arguments, that must be equal */
	uint64_t begun;		/* the last round that this rank has begun, or knows of */
	uint64_t posted;
	uint64_t done, committed, applied, model_round;
	uint64_t tick, next;
	uint64_t nsets;
	struct gy_delayed_change changes[GY_DELAYED_CHANGES];
	uint64_t switched;
	uint32_t nchanges;
	uint32_t delay, period;
	int32_t err;
	char why[160];	/* with err */
};

struct gyre_delayed {
	struct gyre_delayed_attr attr;	/* delay and period are those in force */
	struct gyre_context *ctx;
	struct gyre_comm *comm;		/* rounds */
	struct gyre_comm *calls;	/* collective calls of the handle */
	struct gy_port port;		/* on comm */
	bool counted;			/* as outstanding, with the engine */
	bool frozen;			/* leader: no round is to be started now */
	bool parted;			/* leader: none is to be committed any more */
	uint32_t epoch;			/* of READY messages: drains so far */

	void *x, *base, *anchor;	/* base, anchor: DELTA */
	void *velocity;			/* or NULL: outer_lr 0 */
	void *zeros;			/* as large as x; never written */
	void *avg;			/* where red cannot hold it in its own type; or NULL */
	/*
	 * MODEL: the model merged last, that of round model_round, or the first one.  By it a rank
	 * that abstains is corrected, and one that has missed the round after a failure.
	 */
	void *model;
	uint64_t model_round;
	struct gy_round *rounds;
	unsigned nrounds;
	const void **inflight;	/* room for merging */

	uint64_t tick;
	uint64_t start;						/* rounds up to this one may run */
	uint64_t posted, started, done, committed, applied;	/* rounds, the last of each */
	uint64_t said_ready, said_done, said_call;
	uint64_t called, calls_over; /* collective calls: one that some rank is in; that all were */
	uint64_t last_post;		/* tick */
	uint64_t taken; /* tick up to which progress is in a round, or gone (OVERWRITE) */
	uint64_t next;			/* PERIOD: tick of the next trigger */
	bool switched;			/* switch_tick is behind, or overruled, or not given */
	uint64_t last_apply;		/* apply tick of the last round that has one */
	double weight;			/* the last that was not 0 */
	bool uncounted; /* x has the step of a tick that timed out, and is in no round */
	uint64_t drained; /* tick of the last drain */
	struct gy_round *handed;	/* RAW: its result is with the caller; or NULL */

	struct gy_delayed_change changes[GY_DELAYED_CHANGES];	/* in the order of rounds */
	unsigned nchanges;
	uint64_t nsets;	/* changes so far */

	struct gy_delayed_standing *standings;	/* room for those of all ranks */
	int maxranks;				/* that there is room for */

	/* Leader. */
	struct gy_delayed_member *members;	/* by rank in comm; not used elsewhere */
	uint64_t *commit_ticks;			/* AGREED: of round k at k % nrounds */
	uint64_t grace_ends;			/* QUORUM, of round start + 1; 0: no quorum yet */
	uint64_t turn;				/* IN_TURN: number of the last one it had */
	bool queued;				/* its next round is ready, and waits for a turn */

	struct gy_adapt *adapt;			/* or NULL: no GYRE_DELAYED_ADAPT */
	struct gyre_delayed_stats stats;	/* of what is counted nowhere else */
};

static inline struct gy_round *gy_round_of(const struct gyre_delayed *d, uint64_t number)
{
	return &d->rounds[number % d->nrounds];
}

static inline unsigned gy_rounds_inflight(const struct gyre_delayed *d)
{
	return (unsigned)(d->posted - d->applied);
}

/*
 * Ticks since that one.  A tick that times out after it has posted does not count, so what it has
 * posted may be of a tick that is still to come: 0.
 */
static inline uint64_t gy_ticks_since(const struct gyre_delayed *d, uint64_t tick)
{
	return d->tick > tick ? d->tick - tick : 0;
}

/* Rounds begin when the leader says so. */
static inline bool gy_delayed_is_led(const struct gyre_delayed *d)
{
	return d->attr.trigger == GYRE_TRIGGER_READY_ALL || d->attr.trigger == GYRE_TRIGGER_QUORUM;
}

/* A rank waits in a tick, and others need not come to where it is: ticks are each rank's own. */
static inline bool gy_delayed_is_bound(const struct gyre_delayed *d)
{
	return d->attr.apply == GYRE_APPLY_ARRIVAL && d->attr.max_delay;
}

static inline int gy_delayed_status(const struct gyre_delayed *d)
{
	const int err = atomic_load_explicit(&d->comm->err, memory_order_relaxed);

	return err ? err : atomic_load_explicit(&d->calls->err, memory_order_relaxed);
}

static inline uint64_t gy_delayed_now(const struct gyre_delayed *d)
{
	return d->ctx->sys->ops->now_ns(d->ctx->sys);
}

/* ---- attr.c ---- */
/* Rounds in flight that attributes need; 0: they do not say. */
uint64_t gy_delayed_ring(const struct gyre_delayed_attr *attr);
/*
 * Whether attr is right for that many ranks: 0, or -EINVAL with the field and values that are wrong
 * in why.
 */
int gy_delayed_check(const struct gyre_delayed_attr *attr, int nranks, char *why, size_t len);

/* ---- round.c ---- */
/* A free slot becomes round d->posted + 1. */
struct gy_round *gy_round_take(struct gyre_delayed *d);
/* For a round that has begun elsewhere, with nothing of this rank.  NULL: no slot. */
struct gy_round *gy_round_join(struct gyre_delayed *d);
/* Up to d->start, as far as they are posted, or may be joined, and there is room. */
void gy_rounds_start(struct gyre_delayed *d);
/* Those that are over; also after the communicator has failed: what has ended before counts. */
void gy_rounds_note_done(struct gyre_delayed *d);
/* Round k, the next.  apply_tick: AGREED: where it is merged. */
void gy_round_commit(struct gyre_delayed *d, uint64_t k, uint64_t apply_tick);
/* Commits are said: COMMIT_NONE needs none, but a tick that all agree in does. */
static inline bool gy_round_is_said(const struct gyre_delayed *d)
{
	return d->attr.commit == GYRE_COMMIT_ALL || d->attr.apply == GYRE_APPLY_AGREED;
}
/* Contributions of rounds after that one, oldest first, into d->inflight.  Returns how many. */
unsigned gy_rounds_inflight_own(struct gyre_delayed *d, uint64_t after);
/*
 * Rounds after `last` are taken back: base is as if they had never been posted.  Between close and
 * open only.
 */
void gy_rounds_abort(struct gyre_delayed *d, uint64_t last);
/*
 * Token held.  Drives until the predicate holds: 0, the error of the communicator, -ETIMEDOUT.
 * *blocked_ns grows by what it took.
 */
int gy_delayed_wait(struct gyre_delayed *d, bool (*until)(const struct gyre_delayed *d),
		    uint64_t *blocked_ns);

/* ---- round_say.c ---- */
extern const struct gy_port_ops gy_round_port_ops;	/* of the ports of handles */
/* Opens the port on d->comm; the next round to start there is d->committed + 1. */
void gy_rounds_open(struct gyre_delayed *d);
/* Closes it and destroys d->comm; nothing reaches the memory of rounds any more. */
void gy_rounds_close(struct gyre_delayed *d);
/* Starts, says and commits what can be. */
void gy_rounds_pump(struct gyre_delayed *d);

/* ---- turn.c ---- */
/* Leader: whether the handle's next round, which is ready, may start; else it is queued. */
bool gy_turn_has_come(struct gyre_delayed *d);
/* A round has ended, or none is to be waited for: others look again. */
void gy_turn_end(struct gyre_delayed *d);

/* ---- post.c ---- */
/* DELTA: x has progress that this rank has contributed to no round. */
bool gy_delayed_has_rest(const struct gyre_delayed *d);
/*
 * A round to post: it is FILLING, and fill follows.  NULL: *err says why, -EAGAIN: no slot is free,
 * or -errno: the communicator has failed.  Token held, since what calls for a round (none is in
 * flight) is over when the driver joins one.
 */
struct gy_round *gy_delayed_slot(struct gyre_delayed *d, int *err);
/* v: RAW's contribution, else NULL; last: without filter, the last of a drain. */
int gy_delayed_fill(struct gyre_delayed *d, struct gy_round *r, const void *v, double weight,
		    bool last);
/*
 * FRESH: the round that waits for others, if it has nothing from here, or what is older than this
 * tick.  It is then FILLING, as if nothing had been taken for it: post_again follows.  NULL: there
 * is none.  Token held.
 */
struct gy_round *gy_delayed_reopen(struct gyre_delayed *d, double weight);
int gy_delayed_post_again(struct gyre_delayed *d, struct gy_round *r, double weight);

/* ---- apply.c ---- */
/* Merges the oldest round in flight, which is COMMITTED, by that rule.  0, or outer's error. */
int gy_delayed_merge(struct gyre_delayed *d, enum gyre_merge merge);
/* All that is due, in order; waits where it must. */
int gy_delayed_merge_due(struct gyre_delayed *d, struct gyre_tick *t);

/* ---- collect.c ---- */
/* Everybody's standing, with the arguments or the error in own, into d->standings. */
int gy_standing_gather(struct gyre_delayed *d, const struct gy_delayed_call *call,
		       struct gy_delayed_standing *own, struct gyre_comm *comm);
uint64_t gy_standing_most(const struct gy_delayed_standing *all, int n, size_t off);
#define GY_STANDING_MOST(all, n, field) \
	gy_standing_most(all, n, offsetof(struct gy_delayed_standing, field))
/* x and base come to where merge says, the anchor being there already. */
void gy_delayed_rebase(struct gyre_delayed *d, enum gyre_merge merge);
/* d->frozen or d->parted. */
void gy_delayed_freeze(struct gyre_delayed *d, bool *flag, bool value);

/* ---- rebind.c ---- */
/* Goes on in a communicator of parent's ranks; abort: rounds that nobody has merged are not. */
int gy_delayed_move(struct gyre_delayed *d, const struct gy_delayed_call *call, bool abort,
		    struct gyre_comm *parent);

/* ---- tick.c ---- */
/* Before each call: a result that was handed out is over. */
void gy_delayed_begin(struct gyre_delayed *d);
/* From that round on; rounds before it have been posted here or will be.  Token held. */
void gy_delayed_change(struct gyre_delayed *d, const struct gy_delayed_change *change);
/* Puts changes in force that are due for round d->posted + 1.  Token held. */
void gy_delayed_changes_take(struct gyre_delayed *d);
/* The period becomes switch_period, counted from the last trigger.  Token held. */
void gy_delayed_switch(struct gyre_delayed *d);
#endif
