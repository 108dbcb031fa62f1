/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_DELAYED_H
#define GYRE_DELAYED_H
/*
 * Delayed collectives: averages that are folded in some steps after they were started, while
 * everybody goes on.
 *
 * A handle watches over a vector x of this rank, a model.  The caller says tick after each update
 * of it.  Now and then, when the trigger says so, a round is posted: what this rank has to
 * contribute is copied and averaged over all ranks in the background.  Some ticks later its result
 * is merged into x, inside tick, on the caller's thread.  Nothing else touches x.
 *
 * A round is POSTED (copied), STARTED (its reduction runs), DONE here, COMMITTED (done on every
 * rank), and APPLIED; or ABORTED.  Every surviving rank applies a round or none does, in the order
 * of rounds, and what an aborted round had taken is not lost: it is in the next one.
 *
 * With base b, what x was when progress was last taken, and anchor A, the model that all ranks
 * agree on:
 *
 *	post	s = x - b; b = x;    w and w s go into the round			(DELTA)
 *	apply	avg = sum of w_j s_j / sum of w_j;  A moves by avg;
 *		b' = A + what is still under way;  x = b' + (x - b);  b = b'	(ADD_DIFF)
 *
 * One thread at a time calls with a handle; different handles may be used by different threads.
 * Handles, not ticks, are collective: ranks may tick at their own pace.
 */
#include <gyre/comm.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct gyre_delayed;

/* What a rank contributes. */
enum gyre_payload {
	GYRE_PAYLOAD_DELTA,	/* its progress since it last contributed, x - b */
	GYRE_PAYLOAD_MODEL,	/* x; one round at a time: delay <= period */
	GYRE_PAYLOAD_RAW,	/* a vector of the caller's: gyre_delayed_post and _result */
};

/* When a round is posted.  None ever makes the caller wait for the round to start. */
enum gyre_trigger {
	GYRE_TRIGGER_PERIOD,	/* at ticks phase + k period, k = 1, 2 ... */
	/* each rank min_steps ticks after its last; started when all ranks have */
	GYRE_TRIGGER_READY_ALL,
	/*
	 * likewise, but started grace_ms after quorum ranks have: others take part with weight 0,
	 * also while they compute; DELTA or RAW, AGREED or ARRIVAL
	 */
	GYRE_TRIGGER_QUORUM,
	/* by gyre_delayed_post, on all ranks alike; with AGREED, at the same tick */
	GYRE_TRIGGER_MANUAL,
};

/* When the result of a round is merged. */
enum gyre_apply {
	GYRE_APPLY_FIXED,	/* delay ticks after it was posted; waits for it then */
	/*
	 * at the same tick on all ranks, chosen when it is done everywhere, and max_delay ticks
	 * after it was posted at the latest: waits for it then
	 */
	GYRE_APPLY_AGREED,
	/*
	 * at this rank's first tick after it is committed; waits max_delay ticks after the post,
	 * unless another rank is in set or drain
	 */
	GYRE_APPLY_ARRIVAL,
};

/* What happens to x. */
enum gyre_merge {
	GYRE_MERGE_ADD_DIFF,	/* own progress since the post is kept */
	/*
	 * x becomes the anchor, and what is in no round is dropped; with delay == period the next
	 * post first takes the progress
	 */
	GYRE_MERGE_OVERWRITE,
	GYRE_MERGE_INTERPOLATE,	/* x = (1 - alpha) anchor + alpha x */
	GYRE_MERGE_NONE,	/* handed back by gyre_delayed_result: with RAW, and only then */
};

enum gyre_commit {
	GYRE_COMMIT_ALL,	/* a round is applied when it is known to be done on every rank */
	GYRE_COMMIT_NONE,	/* when it is done here: saves a message each way; see rebind */
};

enum gyre_drain {
	GYRE_DRAIN_APPLY,
	GYRE_DRAIN_ABORT
};

enum gyre_delayed_flags {
	/*
	 * Ranks that took more steps do not count for more: progress is divided by the ticks that
	 * it took, the average multiplied by the weighted mean of these (FedNova, arXiv
	 * 2007.07481).
	 */
	GYRE_DELAYED_BY_STEPS = 1,
	/* A contribution with NaN or infinity fails the handle, -EDOM, naming rank and round. */
	GYRE_DELAYED_CHECK_FINITE = 2,
	/* Chooses delay and period from measured times: see gyre_delayed_create(3). */
	GYRE_DELAYED_ADAPT = 4,
	/*
	 * READY_ALL, QUORUM: as long as its round has not started, a contribution is taken anew at
	 * each tick with a weight above 0, so that it is not old when the last rank is ready; also
	 * where the tick that posted had weight 0.  A copy, and a call of filter, per such tick.
	 */
	GYRE_DELAYED_FRESH = 8,
	/* A weight is multiplied by the ticks that the contribution took, at least 1. */
	GYRE_DELAYED_WEIGHT_STEPS = 16,
	/*
	 * READY_ALL: of the handles of a context with this flag, one round runs at a time.  For
	 * handles that have parts of one model: each part is then averaged as often as with one
	 * handle for all, and its average is as much younger.
	 */
	GYRE_DELAYED_IN_TURN = 32,
};

/* A round's result, valid until the next call with the handle. */
struct gyre_round {
	uint64_t round;		/* 1, 2 ... */
	const void *avg;	/* weighted mean of what the ranks contributed */
	const void *own;	/* what this rank did */
	size_t count;
	enum gyre_type type;
	double weight;		/* this rank's */
	double weight_sum;	/* 0: nobody contributed; avg is all zeros */
	uint32_t staleness;	/* ticks of this rank since its contribution was taken */
};

struct gyre_delayed_attr {
	size_t size;		/* sizeof(struct gyre_delayed_attr) */
	size_t count;		/* elements of x */
	enum gyre_type type;	/* of x: GYRE_F32 or GYRE_F64 */
	enum gyre_type wire;	/* of what is sent: type; with f32 GYRE_BF16, GYRE_F16 too */
	enum gyre_payload payload;
	enum gyre_trigger trigger;
	enum gyre_apply apply;
	enum gyre_merge merge;
	enum gyre_commit commit;
	unsigned flags;			/* enum gyre_delayed_flags */
	uint32_t delay;			/* ticks; 0: merged in the call that posts, which waits */
	uint32_t period, phase;		/* PERIOD: ticks */
	/* PERIOD: after tick switch_tick the period is switch_period; 0, 0: it stays */
	uint32_t switch_tick, switch_period;
	uint32_t min_steps;		/* READY_ALL, QUORUM: ticks */
	uint32_t quorum, grace_ms;	/* QUORUM: ranks, milliseconds */
	uint32_t max_delay;		/* AGREED, ARRIVAL: ticks; ARRIVAL: 0 is no limit */
	uint32_t margin;		/* AGREED: ticks that a commit may take to get around */
	uint32_t ring;			/* rounds in flight; 0: as many as delay and period need */
	uint32_t timeout_ms;		/* of any waiting in a call; 0: the stall timeout alone */
	double alpha;			/* INTERPOLATE */
	/*
	 * DELTA: how the anchor moves, an optimizer over rounds.  With outer_lr 0: by avg.  Else,
	 * with velocity v and g = -avg: v = outer_momentum v + g; the anchor moves by -outer_lr v,
	 * with outer_nesterov by -outer_lr (g + outer_momentum v).  Or by outer, which changes
	 * anchor as it likes, the same on all ranks; its error fails the handle.
	 */
	double outer_lr, outer_momentum;
	int outer_nesterov;
	int (*outer)(void *arg, const struct gyre_round *round, void *anchor);
	void *outer_arg;
	/*
	 * DELTA: may shrink a contribution s (rounding, top-k) before it is sent: what is left out
	 * stays with x, and is contributed later.  With FRESH, of several calls for one round the
	 * last counts.
	 */
	void (*filter)(void *arg, void *s, size_t count, uint64_t round);
	void *filter_arg;
	/* ADAPT: bounds for what it chooses; window: rounds between decisions */
	uint32_t adapt_max_delay, adapt_max_period, adapt_window;
};

/* What a tick did. */
struct gyre_tick {
	uint64_t tick;			/* this one: 1, 2 ... */
	uint64_t posted, applied;	/* rounds, the last by this tick; 0: none */
	unsigned napplied, nskipped;	/* rounds merged; triggers passed over: ring full */
	unsigned inflight;		/* rounds after this tick */
	uint32_t staleness;		/* largest of the rounds merged, ticks */
	uint64_t blocked_ns;		/* waited inside this tick */
};

struct gyre_delayed_stats {
	/* rounds: posted here; applied, also some that began without this rank (QUORUM) */
	uint64_t ticks, posted, applied, skipped, aborted, abstained;
	uint64_t committed;		/* last round known to be committed */
	uint64_t blocked_ns, merge_ns;	/* on the caller's thread: waiting; copying and merging */
	uint64_t bytes;			/* of payload contributed */
	uint32_t max_staleness;
	uint32_t delay, period;	/* in force for the next round */
};

/*
 * Attributes: the defaults (DELTA, PERIOD 1, FIXED, delay 0, ADD_DIFF, COMMIT_ALL, f32), or those
 * of a method; count and whatever else differs is the caller's to set after.  0; -EINVAL: attr is
 * NULL.  MT-Safe.
 */
int gyre_delayed_attr_init(struct gyre_delayed_attr *attr);
/* Delayed and temporally sparse updates, also DGA: average of period updates, delay later. */
int gyre_dts_attr(struct gyre_delayed_attr *attr, uint32_t delay, uint32_t period);
/* Locally asynchronous SGD: models averaged when all have done min_steps, merged on arrival. */
int gyre_lasgd_attr(struct gyre_delayed_attr *attr, uint32_t min_steps);
int gyre_local_sgd_attr(struct gyre_delayed_attr *attr, uint32_t period);
/* Averages in each step up to tick switch_tick, and from there on every period steps. */
int gyre_postlocal_sgd_attr(struct gyre_delayed_attr *attr, uint32_t period, uint32_t switch_tick);
int gyre_cocod_attr(struct gyre_delayed_attr *attr, uint32_t period);
int gyre_slowmo_attr(struct gyre_delayed_attr *attr, uint32_t period, double lr, double momentum);
/* asynchronous: the result is merged one period later. */
int gyre_diloco_attr(struct gyre_delayed_attr *attr, uint32_t period, double lr, double momentum,
		     int asynchronous);
/* One fragment of n of streaming DiLoCo: a handle for each, fragment = 0 .. n - 1. */
int gyre_streaming_diloco_attr(struct gyre_delayed_attr *attr, uint32_t period, uint32_t delay,
			       uint32_t fragment, uint32_t n, double lr, double momentum,
			       double alpha);

/*
 * Collective, blocking.  x is the caller's and must stay until destroy; all ranks' x should be
 * equal (DELTA: rank 0's is taken as the anchor and written to all).  x is NULL for RAW.  MT-Safe
 * for different comms.
 * Errors, on all ranks alike: -EINVAL (a field is wrong or differs between ranks; the log names it
 * and the values), -ENOMEM, the failure of comm.
 */
int gyre_delayed_create(const struct gyre_delayed_attr *attr, void *x, struct gyre_comm *comm,
			struct gyre_delayed **dp);

/*
 * After each update of x: merges what is due, in the order of rounds, then posts if the trigger
 * says so.  weight >= 0 counts the contribution if one is posted; 0: none, progress stays for the
 * next.  info may be NULL.  Errors: -EINVAL; -ETIMEDOUT: a round that is due was not committed in
 * timeout_ms: nothing has changed, call again to go on waiting; the failure of the communicator:
 * rounds committed before are still merged at their ticks, nothing is posted until
 * gyre_delayed_rebind; this tick counts.
 */
int gyre_delayed_tick(struct gyre_delayed *d, double weight, struct gyre_tick *info);

/*
 * MANUAL: posts a round; v is the contribution (RAW), or NULL: as by payload from x.  v may be
 * reused on return.  Every rank must post as many.  -EAGAIN: ring rounds are in flight.  With delay
 * 0 merged here; -ETIMEDOUT: it is posted, and is merged by a later tick.
 */
int gyre_delayed_post(struct gyre_delayed *d, const void *v, double weight);

/*
 * RAW: takes the oldest round that is due (by FIXED: delay ticks after the post; else: committed).
 * wait: waits for it, at most timeout_ms.  -EAGAIN: none is; -ENODATA: none is in flight.
 */
int gyre_delayed_result(struct gyre_delayed *d, int wait, struct gyre_round *result);

/*
 * Collective, blocking: from the first round on that no rank has posted, and not before
 * from_round, these hold; *round (may be NULL) says which that is.  PERIOD: counted from the post
 * before it, and not before the tick after this call's.  Apply ticks stay in the order of rounds.
 * A switch of the period (switch_tick) that has not taken place yet does not any more.
 * Where a rank may have to wait in a tick for another (FIXED, AGREED), all call this, and drain,
 * after the same tick.  Errors: -EINVAL (as for create), -EBUSY (8 changes have not taken effect
 * yet).
 */
int gyre_delayed_set(struct gyre_delayed *d, uint32_t delay, uint32_t period, uint64_t from_round,
		     uint64_t *round);

/*
 * Collective, blocking.  APPLY: merges all that is in flight now, those that only others have
 * posted by PERIOD or MANUAL with what this rank has done since, and then, by a last round where
 * some rank has any (MODEL: always), all progress that has not been contributed, without filter;
 * both weighted as by the last tick of a weight above 0, or 1 where there was none: x is the same
 * on all ranks, to the bit.  ABORT: what no rank has merged is taken back, what some have is merged
 * at its tick; x is not touched.
 */
int gyre_delayed_drain(struct gyre_delayed *d, enum gyre_drain how);

/*
 * Collective over comm, which holds the survivors of the handle's communicator (gyre_comm_shrink),
 * or is it again: goes on there.  Rounds that some survivor knows to be committed are applied by
 * all, later ones aborted.  Triggers by PERIOD go on one period after the largest tick of any.
 * COMMIT_NONE: a rank may have applied a round that others have not: these take its anchor, or
 * with MODEL merge its average, in this call.
 */
int gyre_delayed_rebind(struct gyre_delayed *d, struct gyre_comm *comm);

/* Local.  -EINVAL: d or stats is NULL. */
int gyre_delayed_stats(const struct gyre_delayed *d, struct gyre_delayed_stats *stats);

/*
 * Local: all that a rank needs to go on where it is, rounds in flight included, by calls of write,
 * whose error ends it.  Save on all ranks when no call with the handle runs on any; x is saved by
 * the caller.
 */
int gyre_delayed_save(struct gyre_delayed *d, int (*write)(void *arg, const void *buf, size_t len),
		      void *arg);
/*
 * Collective: into a handle that was just created with the same attributes, x being as it was.
 * Rounds that were in flight start again.  -EPROTO: not what save has written for such a handle.
 */
int gyre_delayed_load(struct gyre_delayed *d, int (*read)(void *arg, void *buf, size_t len),
		      void *arg);

/* Local.  Rounds in flight are aborted, here and so on all ranks; x is as it is.  NULL is fine. */
void gyre_delayed_destroy(struct gyre_delayed *d);

/*
 * x += avg - own, for results of RAW rounds.  Local.  -EINVAL: type is not f32 or f64; a pointer is
 * NULL, and count is not 0.
 */
int gyre_merge_add_diff(void *x, const void *avg, const void *own, size_t count,
			enum gyre_type type);

/*
 * What a correction e of the gradient that comes delay steps late amounts to under heavy ball with
 * momentum beta and constant learning rate lr: velocity += *velocity_gain e, x -= lr *x_gain e.
 * -EINVAL: beta is not 0 to 1, or a pointer is NULL; nothing is written.
 */
int gyre_momentum_gain(double beta, uint32_t delay, double *velocity_gain, double *x_gain);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
