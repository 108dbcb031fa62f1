/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/round_say.c - what is said about rounds, and who decides that one begins or
 * is committed: the port of a handle, with the leader at one end and the others at the other.
 *
 * Cost: COMMIT_ALL a message to the leader and one from it, per rank and round; READY_ALL and
 * QUORUM two more.  Nothing is allocated.
 * Locking: driver.
 */
#include <errno.h>

#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"

#define TELL_NS (2 * 1000 * 1000 * 1000ull)

enum round_message {
	ROUND_READY = 1,
	ROUND_START,
	ROUND_DONE,
	ROUND_COMMIT,
	ROUND_CALL
};

static bool round_is_leader(const struct gyre_delayed *d)
{
	return d->comm->rank == 0;
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
		gy_round_commit(d, k, d->commit_ticks[k % d->nrounds]);
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
	while (gy_round_is_said(d) && m->told_commit < d->committed) {
		const uint64_t k = m->told_commit + 1;

		if (round_say(d, rank, ROUND_COMMIT, k, d->commit_ticks[k % d->nrounds]))
			return false;
		m->told_commit = k;
	}
	if (gy_delayed_is_bound(d) && m->told_call < d->called) {
		if (round_say(d, rank, ROUND_CALL, d->called, 0))
			return false;
		m->told_call = d->called;
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
	while (gy_round_is_said(d) && d->said_done < d->done) {
		const uint64_t k = d->said_done + 1;

		if (round_say(d, 0, ROUND_DONE, k, gy_round_of(d, k)->done_tick))
			return false;
		d->said_done = k;
	}
	if (gy_delayed_is_bound(d) && d->said_call < d->called) {
		if (round_say(d, 0, ROUND_CALL, d->called, 0))
			return false;
		d->said_call = d->called;
	}
	return true;
}

/* ---- the port ---- */

/* Who has ended a call that this rank is still in may be in the next one, and no further. */
static int hear_call(struct gyre_delayed *d, uint64_t call)
{
	if (call > d->calls_over + 2)
		return -EPROTO;
	d->called = gy_max(d->called, call);
	return 0;
}

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
		if (!gy_round_is_said(d) || hdr->off != m->done + 1 || hdr->off > d->started)
			return -EPROTO;
		leader_note_done(d, rank, hdr->off, hdr->count);
		return 0;
	case ROUND_CALL:
		m->told_call = gy_max(m->told_call, hdr->off);
		return hear_call(d, hdr->off);
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
		gy_round_commit(d, hdr->off, hdr->count);
		return 0;
	case ROUND_CALL:
		d->said_call = gy_max(d->said_call, hdr->off);
		return hear_call(d, hdr->off);
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
	gy_rounds_note_done(d);
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
	gy_rounds_start(d);
	gy_rounds_note_done(d);	/* one rank: at once */
	if (round_is_leader(d) && gy_round_is_said(d)) {
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
	d->said_call = d->called = d->calls_over = 0;
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
