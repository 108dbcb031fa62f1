/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/tick.c - what a caller's tick does, in which order; triggers.
 *
 * Cost: a tick that neither posts nor merges takes the token twice and looks at the network once.
 * Failure: what is due and not committed stays so, with the communicator's error, until
 * gyre_delayed_rebind; x is as it was.
 */
#include <errno.h>
#include <math.h>

#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "lib/log.h"

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

/*
 * Changes that wait have come by gyre_delayed_set, after which there is no switch.  Counted from
 * the last trigger, not from the last post: the trigger may have been passed over on some ranks.
 */
void gy_delayed_switch(struct gyre_delayed *d)
{
	const uint64_t trigger = d->next - d->attr.period;

	gy_assert(!d->switched && !d->nchanges);
	d->switched = true;
	d->nsets++;
	d->attr.period = d->attr.switch_period;
	d->next = gy_max(trigger + d->attr.period, d->tick);
}

/* ---- triggers ---- */

static bool trigger_is_due(const struct gyre_delayed *d)
{
	switch (d->attr.trigger) {
	case GYRE_TRIGGER_PERIOD:
		return d->tick >= d->next;
	case GYRE_TRIGGER_READY_ALL:
	case GYRE_TRIGGER_QUORUM:
		return !gy_rounds_inflight(d) &&
		       gy_ticks_since(d, d->last_post) >= d->attr.min_steps;
	default:
		return false;
	}
}

static int tick_post(struct gyre_delayed *d, double weight, struct gyre_tick *t)
{
	struct gy_engine *e = &d->ctx->engine;
	struct gy_round *r = NULL, *again = NULL;
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
	if (due)
		r = gy_delayed_slot(d, &err);
	else if (!err)
		again = gy_delayed_reopen(d, weight);
	gy_engine_leave(e);
	if (again)
		return gy_delayed_post_again(d, again, weight);
	return r ? gy_delayed_fill(d, r, NULL, weight, false) : err;
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
		err = gy_delayed_merge_due(d, t);
	if (err == -ETIMEDOUT)
		return err;
	failed = tick_post(d, weight, t);
	if (!err)
		err = failed;
	if (err)
		return err;
	return d->attr.delay == 0 || tick_posts_first(d) ? gy_delayed_merge_due(d, t) : 0;
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
	if (!d->switched && d->tick > d->attr.switch_tick)
		gy_delayed_switch(d);
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
	d->uncounted = err == -ETIMEDOUT && d->taken <= d->tick;
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
	struct gy_round *r;

	if (err)
		return err;
	gy_delayed_begin(d);
	if (weight > 0)
		d->weight = weight;
	gy_engine_enter(&d->ctx->engine);
	r = gy_delayed_slot(d, &err);
	gy_engine_leave(&d->ctx->engine);
	if (r)
		err = gy_delayed_fill(d, r, v, weight, false);
	if (!err && d->attr.delay == 0)
		err = gy_delayed_merge_due(d, &t);
	d->stats.blocked_ns += t.blocked_ns;
	return err;
}
