/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/rebind.c - a handle moves to another communicator: after a failure, or with
 * what is in flight taken back.
 *
 * All ranks say where they are, and come to the same verdict from it.
 * Failure: as if it had not been called, unless a rank is lost meanwhile: it can be called again.
 */
#include <errno.h>
#include <string.h>

#include <gyre/coll.h>
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"
#include "lib/alloc.h"
#include "lib/log.h"

/* What is to become of rounds. */
struct verdict {
	uint64_t keep; /* rounds up to this one are merged by all */
	int furthest; /* COMMIT_NONE: whose anchor, or model, all take; -1: nobody's */
	uint64_t known; /* AGREED: the last whose tick all know */
	uint64_t tick; /* the largest */
};

static uint64_t least_done(const struct gy_delayed_standing *all, int n)
{
	uint64_t done = all[0].done;
	int r;

	for (r = 1; r < n; r++)
		done = gy_min(done, all[r].done);
	return done;
}

static uint64_t least_committed(const struct gy_delayed_standing *all, int n)
{
	uint64_t committed = all[0].committed;
	int r;

	for (r = 1; r < n; r++)
		committed = gy_min(committed, all[r].committed);
	return committed;
}

/* abort: rounds that nobody has merged are not. */
static int verdict_reach(const struct gyre_delayed *d, int n, bool abort, struct verdict *v)
{
	const struct gy_delayed_standing *all = d->standings;
	const uint64_t applied = GY_STANDING_MOST(all, n, applied), done = least_done(all, n);
	const bool said = d->attr.commit == GYRE_COMMIT_ALL || d->attr.apply == GYRE_APPLY_AGREED;
	int r;

	*v = (struct verdict){
		.keep = abort  ? applied
			: said ? GY_STANDING_MOST(all, n, committed)
			       : gy_max(done, applied),
		.furthest = -1,
		.known = least_committed(all, n),
		.tick = GY_STANDING_MOST(all, n, tick),
	};
	if (v->keep <= done)
		return 0;
	if (said) {
		gy_err("round %llu is committed, and not done on all ranks",
		       (unsigned long long)v->keep);
		return -EPROTO;
	}
	for (r = n - 1; r >= 0; r--)
		if (all[r].applied == applied)
			v->furthest = r;
	return 0;
}

/* Of the rank that is furthest: the anchor and what moves it, or the model; into *vectorsp. */
static int anchor_fetch(struct gyre_delayed *d, const struct verdict *v, struct gyre_comm *calls,
			void **vectorsp)
{
	const size_t n = d->attr.count, bytes = n * gyre_type_size(d->attr.type);
	const size_t nvectors = d->velocity ? 2 : 1;
	void *vectors;
	int err;

	/* a round to which nobody has contributed leaves the model as it was */
	if (v->furthest < 0 || (d->model && d->standings[v->furthest].model_round != v->keep))
		return 0;
	vectors = gy_alloc_array(nvectors, bytes);
	if (!vectors) {
		gy_engine_enter(&d->ctx->engine);
		gy_comm_fail(calls, -ENOMEM, "rank %d has no memory for an anchor", calls->rank);
		gy_engine_leave(&d->ctx->engine);
		return -ENOMEM;
	}
	memcpy(vectors, d->anchor ? d->anchor : d->model, bytes);
	if (d->velocity)
		memcpy((char *)vectors + bytes, d->velocity, bytes);
	err = gyre_broadcast(vectors, n * nvectors, d->attr.type, v->furthest, calls);
	if (err)
		gy_free(vectors);
	else
		*vectorsp = vectors;
	return err;
}

/* MODEL, whose one round others have merged: what it has made of theirs. */
static void model_merge(struct gyre_delayed *d, const struct gy_round *r, const void *model)
{
	struct gy_merge_apply m = {
		.n = d->attr.count,
		.type = d->attr.type,
		.wire = d->attr.type,
		.merge = d->attr.merge,
		.red = model,
		.weight_sum = 1,
		.factor = 1,
		.own = r->contributes ? r->own : d->model,
		.x = d->x,
		.alpha = d->attr.alpha,
	};

	gy_merge_apply(&m);
}

static void model_take(struct gyre_delayed *d, uint64_t keep, const void *model)
{
	if (!model || d->applied == keep)
		return;
	model_merge(d, gy_round_of(d, keep), model);
	memcpy(d->model, model, d->attr.count * gyre_type_size(d->attr.type));
	d->model_round = keep;
}

/* This rank has not merged rounds that are in the anchor of others: it takes that. */
static void anchor_take(struct gyre_delayed *d, uint64_t keep, const void *vectors)
{
	const size_t bytes = d->attr.count * gyre_type_size(d->attr.type);

	if (!d->anchor)
		model_take(d, keep, vectors);
	for (; d->applied < keep; d->stats.applied++)
		gy_round_of(d, ++d->applied)->state = GY_ROUND_FREE;
	if (!d->anchor)
		return;
	memcpy(d->anchor, vectors, bytes);
	if (d->velocity)
		memcpy(d->velocity, (const char *)vectors + bytes, bytes);
	gy_delayed_rebase(d, GYRE_MERGE_ADD_DIFF);
}

static void keep_rounds(struct gyre_delayed *d, const struct verdict *v)
{
	uint64_t k;

	d->last_apply = 0;
	for (k = d->applied + 1; k <= v->keep; k++) {
		struct gy_round *r = gy_round_of(d, k);

		r->state = GY_ROUND_COMMITTED;
		/* whatever some may have heard; who has merged the one before is beyond its tick */
		if (d->attr.apply == GYRE_APPLY_AGREED && k > v->known)
			r->apply_tick = gy_max(d->last_apply, v->tick + 1);
		d->last_apply = r->apply_tick;
	}
	d->posted = d->started = d->done = d->committed = v->keep;
}

/* The schedule of the rank that has heard of most changes. */
static void schedule_take(struct gyre_delayed *d, int n, const struct verdict *v)
{
	const struct gy_delayed_standing *s = &d->standings[0];
	int r;

	for (r = 1; r < n; r++)
		if (d->standings[r].nsets > s->nsets)
			s = &d->standings[r];
	d->nsets = s->nsets;
	d->nchanges = s->nchanges;
	d->switched = s->switched;
	d->attr.delay = s->delay;
	d->attr.period = s->period;
	memcpy(d->changes, s->changes, sizeof(d->changes));
	gy_delayed_changes_take(d);
	d->next = v->tick + d->attr.period;
}

/* Cannot fail: all ranks do the same. */
static void handle_move(struct gyre_delayed *d, const struct verdict *v, struct gyre_comm *calls,
			struct gyre_comm *comm, const void *vectors)
{
	gy_rounds_close(d);
	gyre_comm_destroy(d->calls);
	d->calls = calls;
	d->comm = comm;
	gy_rounds_abort(d, v->keep);
	if (v->furthest >= 0)
		anchor_take(d, v->keep, vectors);
	keep_rounds(d, v);
	schedule_take(d, comm->size, v);
	d->start = gy_delayed_is_led(d) ? v->keep : GY_NO_TICK;
	d->frozen = d->parted = false;
	d->drained = d->tick;
	d->epoch = 0;
	gy_rounds_open(d);
}

int gy_delayed_move(struct gyre_delayed *d, const struct gy_delayed_call *call, bool abort,
		    struct gyre_comm *parent)
{
	struct gy_delayed_standing own = { .call = { abort } };
	struct gyre_comm *calls = NULL, *comm = NULL;
	void *vectors = NULL;
	struct verdict v;
	int err;

	err = gyre_comm_split(parent, 0, 0, &calls);
	if (!err)
		err = gyre_comm_split(calls, 0, 0, &comm);
	if (err)
		goto destroy_comms;
	gy_delayed_freeze(d, &d->parted, true);
	err = gy_standing_gather(d, call, &own, calls);
	if (!err)
		err = verdict_reach(d, calls->size, abort, &v);
	if (!err)
		err = anchor_fetch(d, &v, calls, &vectors);
	if (err)
		goto destroy_comms;
	handle_move(d, &v, calls, comm, vectors);
	gy_free(vectors);
	return 0;

destroy_comms:
	/* Refused, by all alike: the handle goes on as it was.  Else some may have moved. */
	if (d->parted && !gyre_comm_status(calls, NULL, 0))
		gy_delayed_freeze(d, &d->parted, false);
	gyre_comm_destroy(comm);
	gyre_comm_destroy(calls);
	return err;
}

int gyre_delayed_rebind(struct gyre_delayed *d, struct gyre_comm *comm)
{
	static const struct gy_delayed_call call = { .name = "gyre_delayed_rebind" };
	const char *what = !d	   ? "d is NULL"
			   : !comm ? "comm is NULL"
			   : comm->ctx != d->ctx || comm->size > d->maxranks
				   ? "comm is not of ranks that have the handle"
				   : NULL;

	if (what) {
		gy_err("gyre_delayed_rebind: %s", what);
		return -EINVAL;
	}
	gy_delayed_begin(d);
	return gy_delayed_move(d, &call, false, comm);
}
