/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/collect.c - what all ranks of a handle do together: say where they are,
 * change the schedule, drain; rebind.c goes on after a failure.
 *
 * Each begins with an allgather of where the ranks are; from there on each decides for itself, and
 * all alike; a drain asks once more, when all rounds are merged.
 * Failure: of set, as if it had not been called; of drain, on all ranks, rounds stay in flight.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gyre/coll.h>
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"
#include "lib/log.h"

uint64_t gy_standing_most(const struct gy_delayed_standing *all, int n, size_t off)
{
	uint64_t value = 0, at;
	int r;

	for (r = 0; r < n; r++) {
		memcpy(&at, (const char *)&all[r] + off, sizeof(at));
		value = gy_max(value, at);
	}
	return value;
}

static void standing_of(const struct gyre_delayed *d, struct gy_delayed_standing *own)
{
	own->begun = gy_delayed_is_led(d) ? d->start : d->posted;
	own->posted = d->posted;
	own->done = d->done;
	own->committed = d->committed;
	own->applied = d->applied;
	own->model_round = d->model_round;
	own->tick = d->tick;
	own->next = d->next;
	own->nsets = d->nsets;
	own->switched = d->switched;
	own->nchanges = d->nchanges;
	own->delay = d->attr.delay;
	own->period = d->attr.period;
	memcpy(own->changes, d->changes, sizeof(own->changes));
}

/* Whether a rank has an error, or other arguments than rank 0. */
static int standing_judge(const struct gy_delayed_call *call, const struct gy_delayed_standing *all,
			  int n)
{
	int r, i;

	for (r = 0; r < n; r++) {
		if (!all[r].err)
			continue;
		gy_err("%s: %s on rank %d", call->name, all[r].why, r);
		return all[r].err;
	}
	for (r = 1; r < n; r++) {
		for (i = 0; i < 3; i++) {
			if (all[r].call[i] == all[0].call[i])
				continue;
			gy_err("%s: %s is %llu on rank 0, and %llu on rank %d", call->name,
			       call->args[i], (unsigned long long)all[0].call[i],
			       (unsigned long long)all[r].call[i], r);
			return -EINVAL;
		}
	}
	return 0;
}

int gy_standing_gather(struct gyre_delayed *d, const struct gy_delayed_call *call,
		       struct gy_delayed_standing *own, struct gyre_comm *comm)
{
	struct gy_engine *e = &d->ctx->engine;
	int err;

	gy_engine_enter(e);
	d->called = gy_max(d->called, d->calls_over + 1);
	gy_rounds_pump(d);
	standing_of(d, own);
	gy_engine_exit(e);
	err = gyre_allgather(own, d->standings, sizeof(*own), GYRE_UINT8, comm);
	if (err)
		return err;
	gy_engine_enter(e);
	d->calls_over++;
	gy_engine_leave(e);
	return standing_judge(call, d->standings, comm->size);
}

/* ---- set ---- */

static const struct gy_delayed_call set_call = {
	.name = "gyre_delayed_set",
	.args = { "delay", "period", "from_round" },
};

int gyre_delayed_set(struct gyre_delayed *d, uint32_t delay, uint32_t period, uint64_t from_round,
		     uint64_t *round)
{
	struct gy_delayed_standing own = { .call = { delay, period, from_round } };
	struct gy_delayed_change change = { .delay = delay, .period = period };
	struct gyre_delayed_attr attr;
	int err;

	if (!d) {
		gy_err("gyre_delayed_set: d is NULL");
		return -EINVAL;
	}
	gy_delayed_begin(d);
	attr = d->attr;
	attr.delay = delay;
	attr.period = period;
	attr.ring = d->nrounds;
	attr.switch_tick = attr.switch_period = 0;
	own.err = gy_delayed_check(&attr, d->comm->size, own.why, sizeof(own.why));
	if (!own.err && d->nchanges == GY_DELAYED_CHANGES) {
		own.err = -EBUSY;
		snprintf(own.why, sizeof(own.why), "%d changes have not taken effect yet",
			 GY_DELAYED_CHANGES);
	}
	err = gy_standing_gather(d, &set_call, &own, d->calls);
	if (err)
		return err;
	change.round =
		gy_max(from_round, GY_STANDING_MOST(d->standings, d->calls->size, posted) + 1);
	change.not_before = GY_STANDING_MOST(d->standings, d->calls->size, tick) + 1;
	gy_engine_enter(&d->ctx->engine);
	d->switched = true;
	gy_delayed_change(d, &change);
	gy_engine_leave(&d->ctx->engine);
	if (round)
		*round = change.round;
	return 0;
}

/* ---- drain ---- */

static bool drain_is_committed(const struct gyre_delayed *d)
{
	return gy_round_of(d, d->applied + 1)->state == GY_ROUND_COMMITTED;
}

static bool drain_has_committed_all(const struct gyre_delayed *d)
{
	return d->committed == d->posted;
}

/*
 * Rounds up to last have begun somewhere, so they run everywhere; what was posted for one that the
 * leader has not started is taken back.
 */
static void drain_settle(struct gyre_delayed *d, uint64_t last)
{
	struct gy_engine *e = &d->ctx->engine;
	int i;

	gy_engine_enter(e);
	if (!d->switched && GY_STANDING_MOST(d->standings, d->calls->size, switched))
		gy_delayed_switch(d);
	d->epoch++;
	d->grace_ends = 0;
	if (gy_delayed_is_led(d)) {
		if (d->posted > last)
			gy_rounds_abort(d, last);
		d->said_ready = gy_min(d->said_ready, last);
		for (i = 0; i < d->comm->size; i++) {
			struct gy_delayed_member *m = &d->members[i];

			m->ready = m->early == last + 1 ? m->early : gy_min(m->ready, last);
			m->early = 0;
		}
		d->start = last;
	}
	gy_rounds_pump(d);
	gy_engine_exit(e);
}

/*
 * Others have posted more rounds, as this rank's ring was full or it has fewer ticks: it takes part
 * with what it has done, else those few would count for all in the averages.
 */
static int drain_post(struct gyre_delayed *d, uint64_t last)
{
	struct gy_engine *e = &d->ctx->engine;
	struct gy_round *r;
	int err = 0;

	while (!err && d->posted < last) {
		gy_engine_enter(e);
		r = gy_delayed_slot(d, &err);
		gy_engine_leave(e);
		if (r)
			err = gy_delayed_fill(d, r, NULL, d->weight, false);
	}
	return err == -EAGAIN ? 0 : err;
}

/* Rounds that have begun without this rank (QUORUM), or need the caller's contribution (RAW). */
static void drain_join(struct gyre_delayed *d, uint64_t last)
{
	struct gy_engine *e = &d->ctx->engine;

	gy_engine_enter(e);
	while (d->posted < last && gy_round_join(d))
		;
	gy_rounds_pump(d);
	gy_engine_exit(e);
}

static int drain_wait(struct gyre_delayed *d, bool (*until)(const struct gyre_delayed *d))
{
	struct gy_engine *e = &d->ctx->engine;
	int err;

	gy_engine_enter(e);
	err = gy_delayed_wait(d, until, &d->stats.blocked_ns);
	gy_engine_exit(e);
	return err;
}

static int drain_apply(struct gyre_delayed *d, uint64_t last)
{
	int err = 0;

	if (d->attr.payload == GYRE_PAYLOAD_RAW) { /* results are the caller's to take */
		drain_join(d, last);
		return drain_wait(d, drain_has_committed_all);
	}
	while (d->applied < last) {
		if (gy_delayed_is_led(d))
			drain_join(d, last);
		else
			err = drain_post(d, last);
		if (!err)
			err = drain_wait(d, drain_is_committed);
		if (!err)
			err = gy_delayed_merge(d, d->attr.merge);
		if (err)
			return err;
	}
	return 0;
}

void gy_delayed_rebase(struct gyre_delayed *d, enum gyre_merge merge)
{
	const struct gy_merge_apply m = {
		.n = d->attr.count,
		.type = d->attr.type,
		.wire = d->attr.wire,
		.merge = merge,
		.factor = 1,
		.anchor = d->anchor,
		.b = d->base,
		.inflight = d->inflight,
		.x = d->x,
	};

	if (d->anchor)
		gy_merge_apply(&m);
}

/*
 * The round that all begin by themselves: who were told would begin too early.  The slot is taken
 * under the same token, else the driver may join the round without this rank's progress.
 */
static struct gy_round *drain_slot(struct gyre_delayed *d, int *err)
{
	struct gy_engine *e = &d->ctx->engine;
	struct gy_round *r;
	int i;

	gy_engine_enter(e);
	r = gy_delayed_slot(d, err);
	if (r && gy_delayed_is_led(d)) {
		d->start = d->posted;
		for (i = 0; i < d->comm->size; i++)
			d->members[i].told_start = d->start;
	}
	gy_engine_leave(e);
	return r;
}

/* One more round, which nobody waits for later: all that has not been contributed. */
static int drain_last(struct gyre_delayed *d)
{
	struct gy_round *r;
	int err;

	r = drain_slot(d, &err);
	if (r)
		err = gy_delayed_fill(d, r, NULL, d->weight, true);
	if (!err)
		err = drain_wait(d, drain_is_committed);
	if (!err)
		err = gy_delayed_merge(d, GYRE_MERGE_OVERWRITE);
	if (!err && gy_round_of(d, d->applied)->sums[0] <= 0)
		gy_delayed_rebase(d, GYRE_MERGE_OVERWRITE);
	return err;
}

/*
 * Whether some rank has progress that is in no round: asked when all rounds are merged, since a
 * rank may have contributed to those of others just now, or have been overwritten.  MODEL has no
 * anchor that all could come to without a round.  A rank that has failed says so here, or the
 * others would wait for it.
 */
static int drain_ask(struct gyre_delayed *d, int failed, bool *rest)
{
	uint32_t mine, all = 0;
	int err;

	mine = failed ? 1 - failed : !d->anchor || gy_delayed_has_rest(d);
	err = gyre_allreduce(&mine, &all, 1, GYRE_UINT32, GYRE_MAX, d->calls);
	*rest = all;
	if (failed || err)
		return failed ? failed : err;
	return all > 1 ? 1 - (int)all : 0;
}

/* All rounds are merged, or failed: x becomes that of all. */
static int drain_unite(struct gyre_delayed *d, int failed)
{
	bool rest;
	int err = drain_ask(d, failed, &rest);

	if (!err && rest) /* an optimizer over rounds moves on in an empty one, too */
		err = drain_last(d);
	else if (!err)
		gy_delayed_rebase(d, GYRE_MERGE_OVERWRITE);
	if (!err)
		d->uncounted = false;
	return err;
}

static int drain_rounds(struct gyre_delayed *d)
{
	const unsigned nchanges = d->nchanges;
	const uint64_t last_post = d->last_post;
	const int n = d->calls->size;
	uint64_t next, tick, last;
	int failed, err;

	next = GY_STANDING_MOST(d->standings, n, next);
	tick = GY_STANDING_MOST(d->standings, n, tick);
	last = GY_STANDING_MOST(d->standings, n, begun);
	drain_settle(d, last);
	failed = drain_apply(d, last);
	if (d->attr.payload == GYRE_PAYLOAD_RAW)
		return failed;
	err = drain_unite(d, failed);
	if (failed)
		return err;
	if (!gy_delayed_is_led(d))
		d->last_post = last_post;
	d->next = d->nchanges == nchanges ? next : tick + d->attr.period;
	return err;
}

void gy_delayed_freeze(struct gyre_delayed *d, bool *flag, bool value)
{
	gy_engine_enter(&d->ctx->engine);
	*flag = value;
	gy_turn_end(d);
	gy_rounds_pump(d);
	gy_engine_exit(&d->ctx->engine);
}

static const struct gy_delayed_call drain_call = {
	.name = "gyre_delayed_drain",
	.args = { "how" },
};

static int drain_merge_all(struct gyre_delayed *d)
{
	struct gy_delayed_standing own = { .call = { GYRE_DRAIN_APPLY } };
	int err;

	gy_delayed_freeze(d, &d->frozen, true);
	err = gy_standing_gather(d, &drain_call, &own, d->calls);
	if (!err)
		err = drain_rounds(d);
	if (!err)
		d->drained = d->tick;
	gy_delayed_freeze(d, &d->frozen, false);
	return err;
}

/* Ranks that apply are told so, before they or these have called anything else. */
static int drain_abort(struct gyre_delayed *d)
{
	struct gy_delayed_standing own = { .call = { GYRE_DRAIN_ABORT } };
	int err = gy_standing_gather(d, &drain_call, &own, d->calls);

	return err ? err : gy_delayed_move(d, &drain_call, true, d->calls);
}

int gyre_delayed_drain(struct gyre_delayed *d, enum gyre_drain how)
{
	if (!d || (unsigned)how > GYRE_DRAIN_ABORT) {
		gy_err("gyre_delayed_drain: %s", d ? "how is not an enum gyre_drain" : "d is NULL");
		return -EINVAL;
	}
	gy_delayed_begin(d);
	return how == GYRE_DRAIN_APPLY ? drain_merge_all(d) : drain_abort(d);
}
