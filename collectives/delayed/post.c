/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/post.c - taking what a rank contributes to a round.
 *
 * Cost: one pass over x, base and the slot, without the token.  FRESH: a tick between a post and
 * the start of its round is a post too, with DELTA and a copy.
 */
#include <errno.h>
#include <string.h>

#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"

/* By value: a round is not worth the sign of a zero. */
bool gy_delayed_has_rest(const struct gyre_delayed *d)
{
	const float *x = d->x, *b = d->base;
	const double *dx = d->x, *db = d->base;
	size_t i;

	for (i = 0; i < d->attr.count; i++)
		if (d->attr.type == GYRE_F32 ? x[i] != b[i] : dx[i] != db[i])
			return true;
	return false;
}

static uint64_t post_steps(const struct gyre_delayed *d)
{
	return gy_ticks_since(d, d->taken) + d->uncounted;
}

/* False: it is not finite, and base is as it was. */
static bool post_take(struct gyre_delayed *d, struct gy_round *r, const void *v, bool filter)
{
	const bool check = d->attr.flags & GYRE_DELAYED_CHECK_FINITE;
	const bool again = r->contributes; /* FRESH: in the place of what it had */
	/* what a filter has left, or what was done without a tick, counts as a step */
	const uint64_t steps = gy_max(post_steps(d), UINT64_C(1));
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
	r->weights[0] = r->weight;
	r->weights[1] = r->weight * (double)steps;
	r->in_place = scale != 1 || d->attr.wire != d->attr.type;
	if (r->in_place)
		p.red = r->red;
	if (filter || (check && p.b))
		gy_merge_progress(p.type, p.own, p.x, p.b, p.n);
	if (filter) {
		d->attr.filter(d->attr.filter_arg, p.own, p.n, r->number);
		p.x = NULL;
	}
	if (check && !gy_merge_finite(p.type, p.b ? p.own : p.x, p.n)) {
		r->contributes = false;
		return false;
	}
	gy_merge_post(&p);
	if (!again)
		d->stats.bytes += d->attr.count * gyre_type_size(d->attr.wire);
	return true;
}

/* Without the token: the round is FILLING.  False: what it was to contribute is not finite. */
static bool post_fill(struct gyre_delayed *d, struct gy_round *r, const void *v, double weight,
		      bool last)
{
	const uint64_t start = gy_delayed_now(d);
	bool finite = true;

	/* divided by its steps, no step is nothing; but there is no later round for a rest */
	if (d->attr.flags & GYRE_DELAYED_BY_STEPS && !post_steps(d) &&
	    !(last && gy_delayed_has_rest(d)))
		weight = 0;
	/* the last round of a drain may have none: with MODEL it still needs each rank's x */
	if (d->attr.flags & GYRE_DELAYED_WEIGHT_STEPS)
		weight *= (double)gy_max(post_steps(d), UINT64_C(1));
	r->weight = weight;
	if (weight > 0)
		finite = post_take(d, r, v, d->attr.filter && !last);
	d->stats.abstained -= r->abstains;
	r->abstains = weight <= 0;
	d->stats.abstained += r->abstains;
	d->stats.merge_ns += gy_delayed_now(d) - start;
	return finite;
}

struct gy_round *gy_delayed_slot(struct gyre_delayed *d, int *err)
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
	if (r->contributes) {
		d->taken = d->tick;
		d->uncounted = false;
	}
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

int gy_delayed_fill(struct gyre_delayed *d, struct gy_round *r, const void *v, double weight,
		    bool last)
{
	return post_finish(d, r, post_fill(d, r, v, weight, last));
}

struct gy_round *gy_delayed_reopen(struct gyre_delayed *d, double weight)
{
	struct gy_round *r = gy_round_of(d, d->posted);

	/* with another in flight, base is not the anchor; one that is to start, others wait for */
	if (!(d->attr.flags & GYRE_DELAYED_FRESH) || weight <= 0 || gy_rounds_inflight(d) != 1 ||
	    d->posted <= d->start || r->state != GY_ROUND_POSTED || d->taken == d->tick)
		return NULL;
	r->state = GY_ROUND_FILLING;
	d->taken = r->taken_before;
	return r;
}

int gy_delayed_post_again(struct gyre_delayed *d, struct gy_round *r, double weight)
{
	if (d->base && r->contributes) /* nothing else is in flight */
		gy_merge_unpost(d->attr.type, d->base, d->anchor, d->inflight, 0, d->attr.count);
	return post_finish(d, r, post_fill(d, r, NULL, weight, false));
}
