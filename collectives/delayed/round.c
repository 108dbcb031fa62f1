/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/round.c - rounds: starting, ending, and what is said about them.
 *
 * Rounds start in the order of their numbers on every rank, so their requests match.  They are DONE
 * and COMMITTED in that order too, whichever ends first.
 * Cost beside the two sums: COMMIT_ALL a message to the leader and one from it, per rank and round;
 * READY_ALL and QUORUM two more.  Nothing is allocated.
 * Failure: a round that fails, fails the communicator; what was not committed then waits for
 * gyre_delayed_rebind.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"

#define TELL_NS (2 * 1000 * 1000 * 1000ull)

enum round_message {
	ROUND_READY = 1,
	ROUND_START,
	ROUND_DONE,
	ROUND_COMMIT
};

/* Commits are said: COMMIT_NONE needs none, but a tick that all agree in does. */
static bool round_is_said(const struct gyre_delayed *d)
{
	return d->attr.commit == GYRE_COMMIT_ALL || d->attr.apply == GYRE_APPLY_AGREED;
}

static bool round_is_leader(const struct gyre_delayed *d)
{
	return d->comm->rank == 0;
}

/* ---- requests ---- */

struct gy_round *gy_round_take(struct gyre_delayed *d)
{
	struct gy_round *r = gy_round_of(d, ++d->posted);

	gy_assert(r->state == GY_ROUND_FREE && gy_rounds_inflight(d) <= d->nrounds);
	r->number = d->posted;
	r->state = GY_ROUND_FILLING;
	r->contributes = r->in_place = r->ignored = r->averaged = r->abstains = false;
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
	r->ignored = d->attr.payload == GYRE_PAYLOAD_MODEL;
	r->state = GY_ROUND_POSTED;
	return r;
}

static void rounds_start(struct gyre_delayed *d)
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

static void round_commit(struct gyre_delayed *d, uint64_t k, uint64_t apply_tick)
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

/* Also after the communicator has failed: what has run to its end before counts. */
static void rounds_note_done(struct gyre_delayed *d)
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
		if (!round_is_said(d))
			round_commit(d, d->done, 0);
	}
}

/* ---- the leader ---- */

static void leader_note_done(struct gyre_delayed *d, int rank, uint64_t upto, uint64_t tick)
{
	struct gy_delayed_member *m = &d->members[rank];

	while (m->done < upto) {
		struct gy_round *r = gy_round_of(d, ++m->done);

		r->ndone++;
		r->done_max = gy_max(r->done_max, tick);
	}
}

/* AGREED: where all merge round r; not before the one before it, and never behind any rank. */
static uint64_t leader_apply_tick(const struct gyre_delayed *d, const struct gy_round *r)
{
	uint64_t at = r->done_max + d->attr.margin;

	if (!gy_delayed_is_led(d))
		at = gy_min(at, r->post_tick + d->attr.max_delay);
	return gy_max(d->last_apply, at);
}

static void leader_commit(struct gyre_delayed *d)
{
	while (!d->parted && d->committed < d->done) {
		const uint64_t k = d->committed + 1;
		const struct gy_round *r = gy_round_of(d, k);

		if (r->ndone < (unsigned)d->comm->size)
			break;
		if (d->attr.apply == GYRE_APPLY_AGREED)
			d->commit_ticks[k % d->nrounds] = leader_apply_tick(d, r);
		round_commit(d, k, d->commit_ticks[k % d->nrounds]);
	}
}

static unsigned leader_count_ready(const struct gyre_delayed *d, uint64_t k)
{
	unsigned n = 0;
	int i;

	for (i = 0; i < d->comm->size; i++)
		n += d->members[i].ready >= k;
	return n;
}

/* READY_ALL, QUORUM: enough ranks have posted the next round, and none is left to be started. */
static bool leader_is_ready(struct gyre_delayed *d)
{
	const unsigned size = (unsigned)d->comm->size;
	unsigned n;

	if (d->frozen || d->started < d->start)
		return false;
	n = leader_count_ready(d, d->start + 1);
	if (n == size)
		return true;
	if (d->attr.trigger != GYRE_TRIGGER_QUORUM || n < d->attr.quorum)
		return false;
	if (!d->grace_ends)
		d->grace_ends = gy_delayed_now(d) + d->attr.grace_ms * UINT64_C(1000000);
	return gy_delayed_now(d) >= d->grace_ends;
}

static void leader_decide(struct gyre_delayed *d)
{
	if (!leader_is_ready(d)) {
		d->queued = false;
		return;
	}
	if (!gy_turn_has_come(d))
		return;
	d->grace_ends = 0;
	d->start++;
}

static int round_say(struct gyre_delayed *d, int rank, enum round_message what, uint64_t k,
		     uint64_t tick)
{
	struct gy_hdr hdr = { .stream = what, .off = k, .count = tick, .seq = d->epoch };

	return gy_port_send(&d->port, rank, &hdr, NULL);
}

static bool leader_tell(struct gyre_delayed *d, int rank)
{
	struct gy_delayed_member *m = &d->members[rank];

	while (gy_delayed_is_led(d) && m->told_start < d->start) {
		if (round_say(d, rank, ROUND_START, m->told_start + 1, 0))
			return false;
		m->told_start++;
	}
	while (round_is_said(d) && m->told_commit < d->committed) {
		const uint64_t k = m->told_commit + 1;

		if (round_say(d, rank, ROUND_COMMIT, k, d->commit_ticks[k % d->nrounds]))
			return false;
		m->told_commit = k;
	}
	return true;
}

/* True: everybody knows all that there is to know. */
static bool leader_tell_all(struct gyre_delayed *d)
{
	bool all = true;
	int i;

	for (i = 1; i < d->comm->size; i++)
		all &= leader_tell(d, i);
	return all;
}

/* ---- the others ---- */

static bool member_tell(struct gyre_delayed *d)
{
	const struct gy_round *r = gy_round_of(d, d->posted);

	if (gy_delayed_is_led(d) && d->said_ready < d->posted && d->start < d->posted &&
	    r->state == GY_ROUND_POSTED) {
		if (round_say(d, 0, ROUND_READY, d->posted, 0))
			return false;
		d->said_ready = d->posted;
	}
	while (round_is_said(d) && d->said_done < d->done) {
		const uint64_t k = d->said_done + 1;

		if (round_say(d, 0, ROUND_DONE, k, gy_round_of(d, k)->done_tick))
			return false;
		d->said_done = k;
	}
	return true;
}

/* ---- the port ---- */

static int leader_hear(struct gyre_delayed *d, int rank, const struct gy_hdr *hdr)
{
	struct gy_delayed_member *m = &d->members[rank];

	switch (hdr->stream) {
	case ROUND_READY:
		if (hdr->seq == d->epoch && hdr->off == d->start + 1)
			m->ready = hdr->off;
		else if (hdr->seq == d->epoch + 1)
			m->early = hdr->off;
		return 0;
	case ROUND_DONE: /* it has run with this rank, so it has started here */
		if (!round_is_said(d) || hdr->off != m->done + 1 || hdr->off > d->started)
			return -EPROTO;
		leader_note_done(d, rank, hdr->off, hdr->count);
		return 0;
	default:
		return -EPROTO;
	}
}

static int member_hear(struct gyre_delayed *d, const struct gy_hdr *hdr)
{
	switch (hdr->stream) {
	case ROUND_START:
		if (!gy_delayed_is_led(d))
			return -EPROTO;
		d->start = gy_max(d->start, hdr->off);
		return 0;
	case ROUND_COMMIT: /* all have said DONE, this rank too */
		if (hdr->off != d->committed + 1 || hdr->off > d->said_done)
			return -EPROTO;
		round_commit(d, hdr->off, hdr->count);
		return 0;
	default:
		return -EPROTO;
	}
}

static int round_message(struct gy_port *port, int rank, const struct gy_hdr *hdr, const void *body)
{
	struct gyre_delayed *d = gy_container_of(port, struct gyre_delayed, port);

	if (round_is_leader(d))
		return rank == 0 ? -EPROTO : leader_hear(d, rank, hdr);
	return rank == 0 ? member_hear(d, hdr) : -EPROTO;
}

/* The progress thread looks after what nobody waits for. */
static void rounds_count(struct gyre_delayed *d, bool wanted)
{
	if (d->counted == wanted)
		return;
	gy_engine_count(&d->ctx->engine, wanted ? 1 : -1);
	d->counted = wanted;
}

void gy_rounds_pump(struct gyre_delayed *d)
{
	bool said;

	gy_assert(gy_driver_held(&d->ctx->engine));
	gy_adapt_watch(d);
	rounds_note_done(d);
	if (gy_delayed_status(d)) {
		rounds_count(d, false);
		gy_engine_notify(&d->ctx->engine);
		return;
	}
	if (round_is_leader(d) && gy_delayed_is_led(d)) {
		const struct gy_round *r = gy_round_of(d, d->posted);

		if (d->posted > d->start && r->state == GY_ROUND_POSTED)
			d->members[0].ready = d->posted;
		leader_decide(d);
	}
	rounds_start(d);
	rounds_note_done(d);	/* one rank: at once */
	if (round_is_leader(d) && round_is_said(d)) {
		leader_note_done(d, 0, d->done, d->done ? gy_round_of(d, d->done)->done_tick : 0);
		leader_commit(d);
	}
	said = round_is_leader(d) ? leader_tell_all(d) : member_tell(d);
	rounds_count(d, gy_delayed_is_led(d) || !said || d->committed < d->posted);
}

static void round_pump(struct gy_port *port)
{
	gy_rounds_pump(gy_container_of(port, struct gyre_delayed, port));
}

const struct gy_port_ops gy_round_port_ops = { .message = round_message, .pump = round_pump };

void gy_rounds_open(struct gyre_delayed *d)
{
	struct gy_engine *e = &d->ctx->engine;
	int i;

	d->said_ready = d->said_done = d->committed;
	d->grace_ends = 0;
	d->queued = false;
	for (i = 0; i < d->comm->size; i++)
		d->members[i] = (struct gy_delayed_member){
			.ready = d->committed,
			.done = d->committed,
			.told_start = d->committed,
			.told_commit = d->committed,
		};
	gy_engine_enter(e);
	gy_adapt_reset(d);
	gy_port_open(&d->port, d->comm, &gy_round_port_ops);
	gy_rounds_pump(d);
	gy_engine_exit(e);
}

static bool rounds_are_told(struct gyre_delayed *d)
{
	return round_is_leader(d) ? leader_tell_all(d) : member_tell(d);
}

/* Others wait for what this rank has still to say: tries for a while. */
static void rounds_tell_rest(struct gyre_delayed *d)
{
	struct gy_engine *e = &d->ctx->engine;
	const uint64_t end = gy_delayed_now(d) + TELL_NS * (uint64_t)d->ctx->cfg.time_scale;
	unsigned idle = 0;

	while (!gy_delayed_status(d) && !rounds_are_told(d)) {
		if (gy_delayed_now(d) > end) {
			gy_comm_fail(d->comm, -ETIMEDOUT,
				     "rank %d ends a delayed collective and cannot say so",
				     d->comm->rank);
			return;
		}
		if (!gy_engine_progress(e))
			gy_engine_wait_step(e, &idle);
	}
}

void gy_rounds_close(struct gyre_delayed *d)
{
	struct gy_engine *e = &d->ctx->engine;

	gy_engine_enter(e);
	rounds_tell_rest(d);
	if (d->committed < d->started && !gy_delayed_status(d))
		gy_comm_fail(d->comm, -ECANCELED,
			     "rank %d aborted round %llu of a delayed collective", d->comm->rank,
			     (unsigned long long)d->committed + 1);
	gy_port_close(&d->port);
	gy_turn_end(d);
	rounds_count(d, false);
	gy_engine_leave(e);
	gyre_comm_destroy(d->comm);	/* ends what runs: the memory of rounds is ours again */
	d->comm = NULL;
}

/* ---- taking back ---- */

static void round_take_back(struct gyre_delayed *d, struct gy_round *r)
{
	/* x was overwritten after this had been taken from it: see gy_delayed_merge */
	if (r->contributes && d->base && d->attr.merge == GYRE_MERGE_OVERWRITE)
		gyre_merge_add_diff(d->base, d->zeros, r->own, d->attr.count, d->attr.type);
	if (r->contributes)
		d->model_known = false;
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
