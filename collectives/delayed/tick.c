/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/tick.c - what a caller's tick does: merges, triggers, posts.
 *
 * Cost: a tick that neither posts nor merges takes the token twice and looks at the network once.
 * A post is one pass over x, base and the slot, a merge one over the slot, anchor, base and x; both
 * without the token.  FRESH: a tick between a post and the start of its round is a post too, with
 * DELTA and a copy.
 * Failure: what is due and not committed stays so, with the communicator's error, until
 * gyre_delayed_rebind; x is as it was.
 */
#include <errno.h>
#include <math.h>

#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"
#include "lib/log.h"

/* ---- when a round is merged ---- */

enum due {
	DUE_LATER,
	DUE_NOW,
	DUE_WAIT
};

/* AGREED: the tick beyond which this rank must know, or it could run past what others agree on. */
static uint64_t due_agreed_limit(const struct gyre_delayed *d, const struct gy_round *r)
{
	const uint64_t by_post = gy_delayed_is_led(d) ? GY_NO_TICK
						      : r->post_tick + d->attr.max_delay;
	const uint64_t by_done = r->state == GY_ROUND_DONE ? r->done_tick + d->attr.margin
							   : GY_NO_TICK;

	return gy_min(by_post, by_done);
}

/* When the oldest round in flight, r, is to be merged: now, or when it is committed, or later. */
static enum due due_when(const struct gyre_delayed *d, const struct gy_round *r)
{
	const bool committed = r->state == GY_ROUND_COMMITTED;

	if (d->attr.apply == GYRE_APPLY_ARRIVAL) {
		if (committed)
			return DUE_NOW;
		return d->attr.max_delay && d->tick >= r->post_tick + d->attr.max_delay ? DUE_WAIT
											: DUE_LATER;
	}
	if (r->apply_tick != GY_NO_TICK)
		return d->tick < r->apply_tick ? DUE_LATER : committed ? DUE_NOW : DUE_WAIT;
	return d->tick >= due_agreed_limit(d, r) ? DUE_WAIT : DUE_LATER;
}

static enum due due_now(const struct gyre_delayed *d)
{
	return gy_rounds_inflight(d) ? due_when(d, gy_round_of(d, d->applied + 1)) : DUE_LATER;
}

static bool due_is_settled(const struct gyre_delayed *d)
{
	return due_now(d) != DUE_WAIT;
}

/* Waits if it must.  1: the oldest round is to be merged; 0: none is; -errno. */
static int due_await(struct gyre_delayed *d, uint64_t *blocked_ns)
{
	struct gy_engine *e = &d->ctx->engine;
	int err = 0;

	gy_engine_enter(e);
	if (due_now(d) == DUE_WAIT)
		err = gy_delayed_wait(d, due_is_settled, blocked_ns);
	if (!err)
		err = due_now(d) == DUE_NOW;
	gy_engine_exit(e);
	return err;
}

/* ---- merging ---- */

/* Of what this rank has in the round, or will have got from it.  FRESH: one round has some. */
static uint32_t merge_staleness(const struct gyre_delayed *d, const struct gy_round *r)
{
	const bool fresh = r->contributes && d->attr.flags & GYRE_DELAYED_FRESH;

	return (uint32_t)(d->tick - (fresh ? d->taken : r->post_tick));
}

static void merge_describe(const struct gyre_delayed *d, const struct gy_round *r,
			   struct gyre_round *out)
{
	*out = (struct gyre_round){
		.round = r->number,
		.avg = d->avg ? d->avg : r->red,
		.own = r->contributes ? r->own : d->zeros,
		.count = d->attr.count,
		.type = d->attr.type,
		.weight = r->weight,
		.weight_sum = r->sums[0],
		.staleness = merge_staleness(d, r),
	};
}

static struct gy_merge_apply merge_of(const struct gyre_delayed *d, const struct gy_round *r)
{
	const bool by_steps = d->attr.flags & GYRE_DELAYED_BY_STEPS;

	return (struct gy_merge_apply){
		.n = d->attr.count,
		.type = d->attr.type,
		.wire = d->attr.wire,
		.merge = GYRE_MERGE_NONE,
		.red = r->red,
		.weight_sum = r->sums[0],
		.factor = by_steps && r->sums[0] > 0 ? r->sums[1] / r->sums[0] : 1,
	};
}

/* The average, into avg. */
static void merge_mean(const struct gyre_delayed *d, const struct gy_round *r, void *avg)
{
	struct gy_merge_apply m = merge_of(d, r);

	m.avg = avg;
	gy_merge_apply(&m);
}

static int merge_outer(struct gyre_delayed *d, struct gy_round *r)
{
	struct gyre_round round;

	merge_describe(d, r, &round);
	if (!r->averaged)
		merge_mean(d, r, (void *)round.avg);
	r->averaged = !d->avg;	/* an error may bring it here again */
	return d->attr.outer(d->attr.outer_arg, &round, d->anchor);
}

static int merge_round(struct gyre_delayed *d, struct gy_round *r, enum gyre_merge merge,
		       unsigned ninflight)
{
	struct gy_merge_apply m = merge_of(d, r);
	int err;

	if (d->attr.outer) {
		err = merge_outer(d, r);
		if (err)
			return err;
		m.red = NULL;
	}
	m.merge = merge;
	m.anchor = d->anchor;
	m.b = d->base;
	m.own = r->own;
	/* OVERWRITE: x is the anchor; what is under way comes back with its average */
	m.ninflight = merge == GYRE_MERGE_OVERWRITE ? 0 : ninflight;
	m.inflight = d->inflight;
	m.x = d->x;
	m.alpha = d->attr.alpha;
	m.outer_lr = d->attr.outer_lr;
	m.outer_momentum = d->attr.outer_momentum;
	m.outer_nesterov = d->attr.outer_nesterov;
	m.velocity = d->velocity;
	gy_merge_apply(&m);
	return 0;
}

static gy_cold int merge_fail(struct gyre_delayed *d, const struct gy_round *r, int err)
{
	struct gy_engine *e = &d->ctx->engine;

	gy_engine_enter(e);
	gy_comm_fail(d->comm, err, "outer of rank %d returned %d in round %llu", d->comm->rank, err,
		     (unsigned long long)r->number);
	gy_engine_leave(e);
	return err;
}

int gy_delayed_merge(struct gyre_delayed *d, enum gyre_merge merge)
{
	struct gy_round *r = gy_round_of(d, d->applied + 1);
	struct gy_engine *e = &d->ctx->engine;
	const uint64_t start = gy_delayed_now(d);
	unsigned ninflight;
	int err;

	gy_engine_enter(e);	/* QUORUM: the driver may join a round at any time */
	gy_assert(r->state == GY_ROUND_COMMITTED);
	ninflight = gy_rounds_inflight_own(d, r->number);
	gy_engine_leave(e);
	if (r->sums[0] > 0 && !r->ignored) {
		err = merge_round(d, r, merge, ninflight);
		if (err)
			return merge_fail(d, r, err < 0 ? err : -EPROTO);
	}
	gy_engine_enter(e);
	if (r->sums[0] > 0) {
		d->model_known = true;
		d->model_sum = r->sums[0];
	}
	d->stats.max_staleness = (uint32_t)gy_max(d->stats.max_staleness, merge_staleness(d, r));
	d->stats.merge_ns += gy_delayed_now(d) - start;
	d->stats.applied++;
	gy_adapt_note(d, r);
	r->state = GY_ROUND_FREE;
	d->applied++;
	gy_rounds_pump(d);	/* a round may have waited for the slot */
	gy_engine_exit(e);
	return 0;
}

/* All that is due, in order. */
static int tick_merge(struct gyre_delayed *d, struct gyre_tick *t)
{
	int err;

	if (d->attr.merge == GYRE_MERGE_NONE)
		return 0;
	while ((err = due_await(d, &t->blocked_ns)) > 0) {
		const struct gy_round *r = gy_round_of(d, d->applied + 1);
		const uint32_t staleness = merge_staleness(d, r);

		err = gy_delayed_merge(d, d->attr.merge);
		if (err)
			break;
		t->napplied++;
		t->staleness = (uint32_t)gy_max(t->staleness, staleness);
	}
	return err;
}

/* ---- posting ---- */

/* MODEL, and this rank abstains: it comes to the average from the model that all had before. */
static void post_model_again(struct gyre_delayed *d, struct gy_round *r)
{
	struct gy_merge_apply m = merge_of(d, r);

	r->ignored = !d->model_known;
	if (r->ignored || d->model_sum == 0)
		return;
	m.weight_sum = d->model_sum;
	m.factor = 1;
	m.avg = r->own;
	gy_merge_apply(&m);
	d->model_sum = 0;
}

/* False: it is not finite, and base is as it was. */
static bool post_take(struct gyre_delayed *d, struct gy_round *r, const void *v, bool filter)
{
	const bool check = d->attr.flags & GYRE_DELAYED_CHECK_FINITE;
	const uint64_t steps = d->tick - d->taken;
	const double scale = d->attr.flags & GYRE_DELAYED_BY_STEPS ? r->weight / (double)steps
								   : r->weight;
	struct gy_merge_post p = {
		.n = d->attr.count,
		.type = d->attr.type,
		.wire = d->attr.wire,
		.x = v ? v : d->x,
		.b = d->base,
		.own = r->own,
		.scale = scale,
	};

	r->contributes = true;
	d->residue |= d->base && (filter || d->attr.wire != d->attr.type);
	r->weights[0] = r->weight;
	r->weights[1] = r->weight * (double)steps;
	r->in_place = scale != 1 || d->attr.wire != d->attr.type;
	if (r->in_place)
		p.red = r->red;
	if (filter || (check && p.b)) {
		gy_merge_progress(p.type, p.own, p.x, p.b, p.n);
		if (filter)
			d->attr.filter(d->attr.filter_arg, p.own, p.n, r->number);
		p.x = NULL;
	}
	if (check && !gy_merge_finite(p.type, p.x ? p.x : p.own, p.n)) {
		r->contributes = false;
		return false;
	}
	gy_merge_post(&p);
	if (r->post_tick == d->tick)	/* else FRESH: it is in the place of another */
		d->stats.bytes += d->attr.count * gyre_type_size(d->attr.wire);
	return true;
}

/* Without the token: the round is FILLING.  False: what it was to contribute is not finite. */
static bool post_fill(struct gyre_delayed *d, struct gy_round *r, const void *v, double weight,
		      bool last)
{
	const uint64_t start = gy_delayed_now(d);
	bool finite = true;

	/* divided by its steps, no step is nothing */
	if (d->attr.flags & GYRE_DELAYED_BY_STEPS && d->tick == d->taken)
		weight = 0;
	/* the last round of a drain may have none: with MODEL it still needs each rank's x */
	if (d->attr.flags & GYRE_DELAYED_WEIGHT_STEPS)
		weight *= (double)gy_max(d->tick - d->taken, UINT64_C(1));
	r->weight = weight;
	if (weight > 0)
		finite = post_take(d, r, v, d->attr.filter && !last);
	else if (d->attr.payload == GYRE_PAYLOAD_MODEL)
		post_model_again(d, r);
	d->stats.abstained += weight <= 0;
	d->stats.merge_ns += gy_delayed_now(d) - start;
	return finite;
}

static struct gy_round *post_slot(struct gyre_delayed *d, int *err)
{
	*err = gy_delayed_status(d);
	if (!*err && gy_rounds_inflight(d) == d->nrounds)
		*err = -EAGAIN;
	if (*err)
		return NULL;
	d->stats.posted++;
	return gy_round_take(d);
}

/* The round is FILLING, and filled; finite: with what may be sent. */
static int post_finish(struct gyre_delayed *d, struct gy_round *r, bool finite)
{
	struct gy_engine *e = &d->ctx->engine;

	gy_engine_enter(e);
	if (r->contributes)
		d->taken = d->tick;
	d->last_post = r->post_tick;
	r->state = GY_ROUND_POSTED;
	if (!finite)
		gy_comm_fail(d->comm, -EDOM,
			     "rank %d's contribution to round %llu has NaN or infinity",
			     d->comm->rank, (unsigned long long)r->number);
	gy_delayed_changes_take(d);
	gy_rounds_pump(d);
	gy_engine_exit(e);
	return finite ? 0 : -EDOM;
}

int gy_delayed_post(struct gyre_delayed *d, const void *v, double weight, bool last)
{
	struct gy_engine *e = &d->ctx->engine;
	struct gy_round *r;
	int err;

	gy_engine_enter(e);
	r = post_slot(d, &err);
	gy_engine_leave(e);
	if (!r)
		return err;
	return post_finish(d, r, post_fill(d, r, v, weight, last));
}

/*
 * FRESH: the round that waits for others, if what it has from here is older than this tick.  It is
 * then FILLING, as if nothing had been taken for it.  NULL: there is none.  Token held.
 */
static struct gy_round *post_reopen(struct gyre_delayed *d, double weight)
{
	struct gy_round *r = gy_round_of(d, d->posted);

	if (!(d->attr.flags & GYRE_DELAYED_FRESH) || weight <= 0 || !gy_rounds_inflight(d) ||
	    r->state != GY_ROUND_POSTED || r->nstarted || !r->contributes || d->taken == d->tick)
		return NULL;
	gy_assert(gy_rounds_inflight(d) == 1);
	r->state = GY_ROUND_FILLING;
	d->taken = r->taken_before;
	return r;
}

static int post_again(struct gyre_delayed *d, struct gy_round *r, double weight)
{
	if (d->base)	/* nothing else is in flight */
		gy_merge_unpost(d->attr.type, d->base, d->anchor, d->inflight, 0, d->attr.count);
	return post_finish(d, r, post_fill(d, r, NULL, weight, false));
}

/* ---- the schedule ---- */

void gy_delayed_changes_take(struct gyre_delayed *d)
{
	const struct gy_delayed_change *c = &d->changes[0];
	unsigned i;

	while (d->nchanges && c->round <= d->posted + 1) {
		d->attr.delay = c->delay;
		d->attr.period = c->period;
		d->next = gy_max(d->last_post + c->period, c->not_before);
		d->nchanges--;
		for (i = 0; i < d->nchanges; i++)
			d->changes[i] = d->changes[i + 1];
	}
}

void gy_delayed_change(struct gyre_delayed *d, const struct gy_delayed_change *change)
{
	while (d->nchanges && d->changes[d->nchanges - 1].round >= change->round)
		d->nchanges--;
	gy_assert(d->nchanges < GY_DELAYED_CHANGES);
	d->changes[d->nchanges++] = *change;
	d->nsets++;
	gy_delayed_changes_take(d);
}

/* ---- triggers ---- */

static bool trigger_is_due(const struct gyre_delayed *d)
{
	switch (d->attr.trigger) {
	case GYRE_TRIGGER_PERIOD:
		return d->tick >= d->next;
	case GYRE_TRIGGER_READY_ALL:
	case GYRE_TRIGGER_QUORUM:
		return !gy_rounds_inflight(d) && d->tick - d->last_post >= d->attr.min_steps;
	default:
		return false;
	}
}

static int tick_post(struct gyre_delayed *d, double weight, struct gyre_tick *t)
{
	struct gy_engine *e = &d->ctx->engine;
	struct gy_round *again = NULL;
	bool due;
	int err;

	if (d->adapt && trigger_is_due(d) && gy_rounds_inflight(d) < d->nrounds) {
		err = gy_adapt_turn(d, &t->blocked_ns);
		if (err)
			return err;
	}
	gy_engine_enter(e);
	err = gy_delayed_status(d);
	due = !err && trigger_is_due(d);
	if (due && d->attr.trigger == GYRE_TRIGGER_PERIOD) {
		d->next += d->attr.period;
		if (gy_rounds_inflight(d) == d->nrounds) {
			due = false;
			t->nskipped++;
			d->stats.skipped++;
		}
	}
	if (!err && !due)
		again = post_reopen(d, weight);
	gy_engine_leave(e);
	if (again)
		return post_again(d, again, weight);
	if (!due)
		return err;
	err = gy_delayed_post(d, NULL, weight, false);
	if (err == -EAGAIN && gy_delayed_is_led(d))	/* QUORUM: the round began without us */
		return 0;
	return err;
}

/*
 * Asynchronous DiLoCo: at the tick where x is overwritten, the next round begins, and has what was
 * done up to here.
 */
static bool tick_posts_first(const struct gyre_delayed *d)
{
	return d->attr.merge == GYRE_MERGE_OVERWRITE && d->attr.delay == d->attr.period &&
	       d->attr.trigger == GYRE_TRIGGER_PERIOD && d->attr.apply == GYRE_APPLY_FIXED;
}

static int tick_work(struct gyre_delayed *d, double weight, struct gyre_tick *t)
{
	int err = 0, failed;

	if (!tick_posts_first(d))
		err = tick_merge(d, t);
	if (err == -ETIMEDOUT)
		return err;
	failed = tick_post(d, weight, t);
	if (!err)
		err = failed;
	if (err)
		return err;
	return d->attr.delay == 0 || tick_posts_first(d) ? tick_merge(d, t) : 0;
}

static bool weight_is_right(double weight)
{
	return isfinite(weight) && weight >= 0;
}

void gy_delayed_begin(struct gyre_delayed *d)
{
	struct gy_engine *e = &d->ctx->engine;

	if (!d->handed)
		return;
	gy_engine_enter(e);
	d->handed->state = GY_ROUND_FREE;
	d->handed = NULL;
	d->applied++;
	d->stats.applied++;
	gy_rounds_pump(d);
	gy_engine_exit(e);
}

static void tick_count(struct gyre_delayed *d, int change)
{
	gy_engine_enter(&d->ctx->engine);
	d->tick += (uint64_t)change;
	gy_engine_leave(&d->ctx->engine);
}

int gyre_delayed_tick(struct gyre_delayed *d, double weight, struct gyre_tick *info)
{
	struct gyre_tick t = { .tick = 0 };
	int err;

	if (!d || !weight_is_right(weight)) {
		gy_err("gyre_delayed_tick: %s",
		       d ? "weight must be finite and at least 0" : "d is NULL");
		return -EINVAL;
	}
	gy_delayed_begin(d);
	tick_count(d, 1);
	if (weight > 0)
		d->weight = weight;
	err = tick_work(d, weight, &t);
	t.tick = d->tick;
	if (err == -ETIMEDOUT)
		tick_count(d, -1);
	gy_engine_enter(&d->ctx->engine);
	gy_engine_progress(&d->ctx->engine);
	d->stats.blocked_ns += t.blocked_ns;
	t.applied = d->applied;
	t.inflight = gy_rounds_inflight(d);
	t.posted = d->posted;
	gy_engine_exit(&d->ctx->engine);
	if (info)
		*info = t;
	return err;
}

/* ---- by hand ---- */

static int post_check(const struct gyre_delayed *d, const void *v, double weight)
{
	const char *what = !d ? "d is NULL"
			   : d->attr.trigger != GYRE_TRIGGER_MANUAL
				   ? "the handle's trigger is not MANUAL"
			   : !weight_is_right(weight) ? "weight must be finite and at least 0"
			   : d->attr.payload != GYRE_PAYLOAD_RAW && v
				   ? "v must be NULL: the handle's payload is not RAW"
			   : d->attr.payload == GYRE_PAYLOAD_RAW && !v && weight > 0 ? "v is NULL"
										     : NULL;

	if (!what)
		return 0;
	gy_err("gyre_delayed_post: %s", what);
	return -EINVAL;
}

int gyre_delayed_post(struct gyre_delayed *d, const void *v, double weight)
{
	struct gyre_tick t = { .tick = 0 };
	int err = post_check(d, v, weight);

	if (err)
		return err;
	gy_delayed_begin(d);
	if (weight > 0)
		d->weight = weight;
	err = gy_delayed_post(d, v, weight, false);
	if (!err && d->attr.delay == 0)
		err = tick_merge(d, &t);
	d->stats.blocked_ns += t.blocked_ns;
	return err;
}

static bool result_is_committed(const struct gyre_delayed *d)
{
	return gy_round_of(d, d->applied + 1)->state == GY_ROUND_COMMITTED;
}

/* 0: the oldest round can be taken.  Token held. */
static int result_await(struct gyre_delayed *d, bool wait, uint64_t *blocked_ns)
{
	const struct gy_round *r = gy_round_of(d, d->applied + 1);

	if (!gy_rounds_inflight(d))
		return -ENODATA;
	if (!result_is_committed(d))
		gy_engine_progress(&d->ctx->engine);
	if (r->apply_tick != GY_NO_TICK && d->tick < r->apply_tick)
		return -EAGAIN;	/* a tick will bring it, no waiting does */
	if (result_is_committed(d))
		return 0;
	return wait		      ? gy_delayed_wait(d, result_is_committed, blocked_ns)
	       : gy_delayed_status(d) ? gy_delayed_status(d)
				      : -EAGAIN;
}

int gyre_delayed_result(struct gyre_delayed *d, int wait, struct gyre_round *result)
{
	uint64_t blocked_ns = 0;
	struct gy_round *r;
	int err;

	if (!d || !result || d->attr.payload != GYRE_PAYLOAD_RAW) {
		gy_err("gyre_delayed_result: %s", !d	    ? "d is NULL"
						  : !result ? "result is NULL"
							    : "the handle's payload is not RAW");
		return -EINVAL;
	}
	gy_delayed_begin(d);
	gy_engine_enter(&d->ctx->engine);
	err = result_await(d, wait, &blocked_ns);
	d->stats.blocked_ns += blocked_ns;
	gy_engine_exit(&d->ctx->engine);
	if (err)
		return err;
	r = gy_round_of(d, d->applied + 1);
	merge_describe(d, r, result);
	merge_mean(d, r, (void *)result->avg);
	d->handed = r;
	return 0;
}
