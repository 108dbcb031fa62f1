/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/apply.c - when a round is merged, and merging; results that are handed out.
 *
 * Cost: a merge is one pass over the slot, anchor, base and x, without the token.
 */
#include <errno.h>

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

/* Whether some rank is in a collective call, of any handle here: it posts no rounds meanwhile. */
static bool due_is_called(const struct gyre_delayed *d)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &d->ctx->engine.ports) {
		const struct gy_port *port = gy_list_entry(pos, struct gy_port, link);
		const struct gyre_delayed *other;

		if (port->ops != &gy_round_port_ops)
			continue;
		other = gy_container_of(port, struct gyre_delayed, port);
		if (other->called > other->calls_over)
			return true;
	}
	return false;
}

/* When the oldest round in flight, r, is to be merged: now, or when it is committed, or later. */
static enum due due_when(const struct gyre_delayed *d, const struct gy_round *r)
{
	const bool committed = r->state == GY_ROUND_COMMITTED;

	if (d->attr.apply == GYRE_APPLY_ARRIVAL) {
		if (committed)
			return DUE_NOW;
		/* a rank that is in a call waits for this one there: it may have posted less */
		if (!gy_delayed_is_bound(d) || due_is_called(d))
			return DUE_LATER;
		return d->tick >= r->post_tick + d->attr.max_delay ? DUE_WAIT : DUE_LATER;
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

	return (uint32_t)gy_ticks_since(d, fresh ? d->taken : r->post_tick);
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

/* What the average of a round is made of; nothing is to be merged by it yet. */
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
	r->averaged = !d->avg; /* an error may bring it here again */
	return d->attr.outer(d->attr.outer_arg, &round, d->anchor);
}

/*
 * MODEL: x is corrected from what this rank has contributed, or from the model that it had, in
 * whose place the average comes.
 */
static void merge_model(struct gyre_delayed *d, struct gy_round *r, struct gy_merge_apply *m)
{
	void *const was = r->contributes ? r->own : d->model;

	m->own = m->avg = was;
	gy_merge_apply(m);
	if (r->contributes)
		r->own = d->model;
	d->model = was;
	d->model_round = r->number;
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
	/* OVERWRITE: x is the anchor; what is under way comes back with its average */
	m.ninflight = merge == GYRE_MERGE_OVERWRITE ? 0 : ninflight;
	m.inflight = d->inflight;
	m.x = d->x;
	m.alpha = d->attr.alpha;
	m.outer_lr = d->attr.outer_lr;
	m.outer_momentum = d->attr.outer_momentum;
	m.outer_nesterov = d->attr.outer_nesterov;
	m.velocity = d->velocity;
	if (d->model)
		merge_model(d, r, &m);
	else
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

	gy_engine_enter(e); /* QUORUM: the driver may join a round at any time */
	gy_assert(r->state == GY_ROUND_COMMITTED);
	ninflight = gy_rounds_inflight_own(d, r->number);
	gy_engine_leave(e);
	if (r->sums[0] > 0) {
		err = merge_round(d, r, merge, ninflight);
		if (err)
			return merge_fail(d, r, err < 0 ? err : -EPROTO);
	}
	gy_engine_enter(e);
	d->stats.max_staleness = (uint32_t)gy_max(d->stats.max_staleness, merge_staleness(d, r));
	if (merge == GYRE_MERGE_OVERWRITE && r->sums[0] > 0)
		d->taken = d->tick; /* progress up to here is in a round, or gone */
	d->stats.merge_ns += gy_delayed_now(d) - start;
	d->stats.applied++;
	gy_adapt_note(d, r);
	r->state = GY_ROUND_FREE;
	d->applied++;
	gy_rounds_pump(d); /* a round may have waited for the slot */
	gy_engine_exit(e);
	return 0;
}

int gy_delayed_merge_due(struct gyre_delayed *d, struct gyre_tick *t)
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

/* ---- results ---- */

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
		return -EAGAIN; /* a tick will bring it, no waiting does */
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
