/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/round.c - rounds: starting, ending, taking back, and waiting for them.
 *
 * Rounds start in the order of their numbers on every rank, so their requests match.  They are DONE
 * and COMMITTED in that order too, whichever ends first.
 * Cost: two sums; nothing is allocated.
 * Failure: a round that fails, fails the communicator; what was not committed then waits for
 * gyre_delayed_rebind.
 * Locking: driver.
 */
#include <errno.h>

#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"

/* ---- requests ---- */

struct gy_round *gy_round_take(struct gyre_delayed *d)
{
	struct gy_round *r = gy_round_of(d, ++d->posted);

	gy_assert(r->state == GY_ROUND_FREE && gy_rounds_inflight(d) <= d->nrounds);
	r->number = d->posted;
	r->state = GY_ROUND_FILLING;
	r->contributes = r->in_place = r->averaged = r->abstains = false;
	r->nstarted = 0;
	r->post_tick = d->tick;
	r->apply_tick = GY_NO_TICK;
	r->done_tick = 0;
	r->taken_before = d->taken;
	r->post_before = d->last_post;
	r->weight = r->weights[0] = r->weights[1] = 0;
	r->ndone = 0;
	r->done_max = 0;
	if (d->attr.apply == GYRE_APPLY_FIXED) {
		r->apply_tick = gy_max(d->tick + d->attr.delay, d->last_apply);
		d->last_apply = r->apply_tick;
	}
	return r;
}

static int round_start_request(struct gyre_delayed *d, struct gyre_request *req)
{
	req->comm = d->comm;
	req->kind = GY_REQ_COLL;
	req->coll = GY_ALLREDUCE;
	req->op = GYRE_SUM;
	req->root = 0;
	req->status = (struct gyre_status){ .source = -1, .tag = -1, .count = req->count };
	req->persistent = true;
	req->run.owned = true;
	return gy_coll_start(&d->ctx->engine, req, false);
}

/* What is left to start of its two requests. */
static int round_start(struct gyre_delayed *d, struct gy_round *r)
{
	int err;

	err = gy_adapt_start(d, r->number);
	if (err)
		return err;
	if (r->nstarted == 0) {	/* ahead of the payload, not behind it in the same queues */
		r->sum->in = r->weights;
		r->sum->out = r->sums;
		r->sum->count = 2;
		r->sum->type = GYRE_F64;
		err = round_start_request(d, r->sum);
		if (err)
			return err;
		r->nstarted = 1;
	}
	r->payload->in = !r->contributes ? d->zeros : r->in_place ? GYRE_IN_PLACE : r->own;
	r->payload->out = r->red;
	r->payload->count = d->attr.count;
	r->payload->type = d->attr.wire;
	err = round_start_request(d, r->payload);
	if (err)
		return err;
	r->nstarted = 2;
	r->state = GY_ROUND_STARTED;
	r->started_ns = gy_delayed_now(d);
	r->sum_ns = 0;
	return 0;
}

struct gy_round *gy_round_join(struct gyre_delayed *d)
{
	struct gy_round *r;

	if (gy_rounds_inflight(d) == d->nrounds)
		return NULL;
	r = gy_round_take(d);
	r->state = GY_ROUND_POSTED;
	return r;
}

void gy_rounds_start(struct gyre_delayed *d)
{
	while (d->started < d->start) {
		const uint64_t k = d->started + 1;
		struct gy_round *r = gy_round_of(d, k);
		int err;

		if (k > d->posted) {
			if (!gy_delayed_is_led(d))
				break;
			r = gy_round_join(d);
		}
		if (!r || r->state != GY_ROUND_POSTED)
			break;
		err = round_start(d, r);
		if (err == -EAGAIN)
			break;
		if (err) {
			gy_comm_fail(d->comm, err, "rank %d cannot start round %llu: %s",
				     d->comm->rank, (unsigned long long)k, gyre_strerror(err));
			break;
		}
		d->started = k;
	}
}

static bool request_is_over(const struct gyre_request *req)
{
	return atomic_load_explicit(&req->run.state, memory_order_acquire) == GY_RUN_DONE;
}

void gy_round_commit(struct gyre_delayed *d, uint64_t k, uint64_t apply_tick)
{
	struct gy_round *r = gy_round_of(d, k);

	gy_assert(r->number == k && r->state == GY_ROUND_DONE && k == d->committed + 1);
	r->state = GY_ROUND_COMMITTED;
	r->committed_ns = gy_delayed_now(d);
	if (d->attr.apply == GYRE_APPLY_AGREED)
		d->last_apply = r->apply_tick = apply_tick;
	d->committed = k;
	gy_engine_notify(&d->ctx->engine);
}

void gy_rounds_note_done(struct gyre_delayed *d)
{
	while (d->done < d->started) {
		struct gy_round *r = gy_round_of(d, d->done + 1);

		if (!request_is_over(r->payload) || !request_is_over(r->sum) ||
		    r->payload->run.err || r->sum->run.err)
			break;
		r->payload->active = r->sum->active = false;
		r->state = GY_ROUND_DONE;
		r->done_tick = d->tick;
		r->done_ns = gy_delayed_now(d);
		d->done++;
		gy_turn_end(d);
		if (!gy_round_is_said(d))
			gy_round_commit(d, d->done, 0);
	}
}

/* ---- taking back ---- */

static void round_take_back(struct gyre_delayed *d, struct gy_round *r)
{
	/* x was overwritten after this had been taken from it: see gy_delayed_merge */
	if (r->contributes && d->base && d->attr.merge == GYRE_MERGE_OVERWRITE)
		gyre_merge_add_diff(d->base, d->zeros, r->own, d->attr.count, d->attr.type);
	d->taken = r->taken_before;
	d->last_post = r->post_before;
	d->stats.aborted++;
	r->payload->active = r->sum->active = false;
	r->state = GY_ROUND_FREE;
}

unsigned gy_rounds_inflight_own(struct gyre_delayed *d, uint64_t after)
{
	unsigned n = 0;
	uint64_t k;

	for (k = after + 1; k <= d->posted; k++)
		if (gy_round_of(d, k)->contributes)
			d->inflight[n++] = gy_round_of(d, k)->own;
	return n;
}

void gy_rounds_abort(struct gyre_delayed *d, uint64_t last)
{
	unsigned n;

	for (; d->posted > last; d->posted--)
		round_take_back(d, gy_round_of(d, d->posted));
	if (d->base && d->attr.merge != GYRE_MERGE_OVERWRITE) {
		n = gy_rounds_inflight_own(d, d->applied);
		gy_merge_unpost(d->attr.type, d->base, d->anchor, d->inflight, n, d->attr.count);
	}
	d->started = gy_min(d->started, d->posted);
	d->done = gy_min(d->done, d->posted);
	d->committed = gy_min(d->committed, d->posted);
}

/* ---- waiting ---- */

int gy_delayed_wait(struct gyre_delayed *d, bool (*until)(const struct gyre_delayed *d),
		    uint64_t *blocked_ns)
{
	const struct gy_config *cfg = &d->ctx->cfg;
	const uint64_t ms = d->attr.timeout_ms ? d->attr.timeout_ms
					       : (uint64_t)cfg->stall_timeout_ms;
	const uint64_t start = gy_delayed_now(d);
	struct gy_engine *e = &d->ctx->engine;
	uint64_t since = start;
	unsigned idle = 0;
	int err = 0;

	while (!until(d) && !(err = gy_delayed_status(d))) {
		if (gy_engine_progress(e)) {
			idle = 0;
			if (!d->attr.timeout_ms) /* else it bounds the whole wait */
				since = gy_delayed_now(d);
		}
		if (ms && gy_delayed_now(d) - since > ms * UINT64_C(1000000)) {
			err = -ETIMEDOUT;
			break;
		}
		if (!until(d))
			gy_engine_wait_step(e, &idle);
	}
	if (err == -ETIMEDOUT && !d->attr.timeout_ms)
		gy_comm_fail(d->comm, err,
			     "round %llu is not committed on rank %d: nothing "
			     "moved for GYRE_STALL_TIMEOUT_MS",
			     (unsigned long long)d->committed + 1, d->comm->rank);
	*blocked_ns += gy_delayed_now(d) - start;
	return err;
}
