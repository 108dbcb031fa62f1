/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * straight.c - the straight-line executor, for small messages: moves in program order, one grain
 * and one eager message each, the caller waiting.
 *
 * Needs no open moves, streams or dependencies: program order is one of the orders that they allow.
 * The run is compiled into a line (line.c).  At a move that needs more (a peer not connected, no
 * allowance, a message that is not eager) the run goes on in the general executor from that move.
 * Budget: an 8-byte allreduce of two ranks is at most 400 instructions from the call to its return,
 * not counting polls that find nothing.
 * Locking: driver; lets the token go while it sleeps.
 */
#include <errno.h>
#include <string.h>

#include "lib/comm.h"
#include "lib/context.h"
#include "lib/fpenv.h"
#include "lib/line.h"
#include "lib/peer.h"

#define LOOK_AROUND 64	/* polls of the awaited peer between looks at everything else */

static bool straight_running(const struct gy_run *run)
{
	return atomic_load_explicit(&run->state, memory_order_relaxed) == GY_RUN_RUNNING;
}

static inline void *straight_at(const struct gy_run *run, uint8_t space, uint64_t off)
{
	return (char *)run->mem[space] + off;
}

static inline void straight_hdr(struct gy_run *run, const struct gy_line_step *step)
{
	_Static_assert(offsetof(struct gy_hdr, len) == offsetof(struct gy_hdr, stream) + 4,
		       "one word");
	memcpy(&run->hdr.stream, &step->word, sizeof(step->word));
}

static gy_cold struct gy_parked *straight_find(const struct gy_run *run,
					       const struct gy_line_step *step)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &step->peer->parked) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->hdr.seq == run->hdr.seq && p->hdr.stream == (uint32_t)step->word &&
		    p->hdr.comm == run->hdr.comm && p->hdr.coll != GY_P2P)
			return p;
	}
	return NULL;
}

/* Takes a message out of the parked.  False: the general executor can use it, or the run ends. */
static gy_cold bool straight_take(struct gy_engine *e, struct gy_run *run,
				  const struct gy_line_step *step, struct gy_parked *p,
				  struct gy_expect *x)
{
	if (p->hdr.kind != GY_MSG_EAGER || p->hdr.len != step->len ||
	    !gy_comm_check(run->comm, step->peer, &p->hdr))
		return false;
	gy_expect_use(x, p->body, step->len);
	gy_list_del(&p->link);
	gy_park_free(e, p);
	return true;
}

/* The WAITs of a move before step are not its own any more: the general executor finds them. */
static gy_cold void straight_give_back(struct gy_engine *e, struct gy_run *run,
				       const struct gy_line_step *step)
{
	const struct gy_line_step *w = step;
	struct gy_parked *p;

	while (!w->first) {
		w--;
		if (!straight_running(run)) {
			gy_peer_consumed(e, w->peer, w->len);
			continue;
		}
		straight_hdr(run, w);
		p = gy_park(e, w->peer, &run->hdr, straight_at(run, w->space, w->off));
		if (p) {
			gy_list_add_tail(&w->peer->parked, &p->link);
			continue;
		}
		gy_peer_consumed(e, w->peer, w->len);
		gy_comm_fail(run->comm, -ENOMEM, "no memory to run a collective");
	}
}

/* The messages of a move are there, and used up before anything else happens: its last WAIT. */
static inline void straight_use(struct gy_engine *e, const struct gy_line_step *step)
{
	unsigned i;

	if (gy_likely(step->waits == 1)) {
		gy_peer_consumed(e, step->peer, step->len);
		return;
	}
	for (i = 0; i < step->waits; i++)
		gy_peer_consumed(e, step[-(int)i].peer, step->len);
}

/* Polls that found nothing since something came, and in all. */
struct straight_idle {
	unsigned idle, looks;
};

/* A poll has not brought the message.  False: it is not to be waited for here. */
static __attribute__((noinline)) bool straight_idle(struct gy_engine *e, struct gy_run *run,
						    struct gy_peer *peer, int did,
						    struct straight_idle *w)
{
	peer->expect = NULL;
	run->waits_for = peer;
	if (did)
		w->idle = 0;
	else if (gy_unlikely(!straight_running(run) || peer->left))
		return false;
	else if (++w->looks % LOOK_AROUND || !gy_engine_progress(e))
		gy_engine_wait_step(e, &w->idle);
	return straight_running(run);
}

/*
 * Waits for the message of an in-stream, which is used where it comes, or is among the parked.
 * False: the run has ended, or goes on in the general executor.
 */
static inline bool straight_await(struct gy_engine *e, struct gy_run *run,
				  const struct gy_line_step *step, struct gy_expect *x)
{
	struct gy_peer *peer = step->peer;
	struct straight_idle w = { 0 };
	struct gy_parked *p;
	int did;

	for (;;) {
		if (gy_unlikely(peer->parked_bytes)) {
			p = straight_find(run, step);
			if (p)
				return straight_take(e, run, step, p, x);
		}
		if (gy_unlikely(peer->state != GY_PEER_UP))
			return false;
		straight_hdr(run, step);
		peer->expect = x;
		did = peer->ep->ops->poll(peer->ep);
		if (gy_likely(!peer->expect))
			return true;
		if (!straight_idle(e, run, peer, did, &w))
			return false;
	}
}

/* No room: again, until there is.  False: it is not to be waited for here. */
static gy_cold bool straight_send_slow(struct gy_engine *e, struct gy_run *run,
				       const struct gy_line_step *step, const void *body)
{
	unsigned idle = 0;

	if (step->first && step->peer->state != GY_PEER_UP)
		return false;
	run->waits_for = step->peer;
	while (straight_running(run) && gy_peer_msg(e, step->peer, &run->hdr, body) == -EAGAIN)
		if (!gy_engine_progress(e))
			gy_engine_wait_step(e, &idle);
	return true;
}

static inline bool straight_send(struct gy_engine *e, struct gy_run *run,
				 const struct gy_line_step *step, const void *body)
{
	struct gy_peer *peer = step->peer;

	if (gy_unlikely(!gy_peer_allows(peer, step->len)) && step->first)
		return false;
	straight_hdr(run, step);
	return gy_likely(!gy_peer_msg(e, peer, &run->hdr, body)) ||
	       straight_send_slow(e, run, step, body);
}

/* A long body is not to be sent: it can be read where it lies, or the peer takes none. */
static gy_cold bool straight_lends(const struct gy_run *run, const struct gy_line_step *step)
{
	struct gy_ep *ep = step->peer->ep;
	struct gy_remote remote;

	return !(ep->caps & GY_CAP_LEND) ||
	       ep->ops->lend(ep, straight_at(run, step->space, step->off), step->len, &remote) !=
		       -EOPNOTSUPP;
}

/* Whether a move's sends can all go now: it is done whole by one executor. */
static inline bool straight_can_send(const struct gy_engine *e, const struct gy_run *run,
				     const struct gy_line_step *step)
{
	unsigned n = step->sends;

	while (n) {
		step++;
		if (step->what != GY_LINE_SEND)
			continue;
		if (gy_unlikely(step->peer->state != GY_PEER_UP ||
				!gy_peer_allows(step->peer, step->len) ||
				(step->len > e->eager_bytes && straight_lends(run, step))))
			return false;
		n--;
	}
	return true;
}

static void straight_compute(struct gy_engine *e, struct gy_run *run,
			     const struct gy_line_step *step, void *dst)
{
	const void *ptr[GY_MAX_INPUTS];
	unsigned i;

	for (i = 0; i < step->nin; i++)
		ptr[i] = straight_at(run, step->inputs[i].space, step->inputs[i].off);
	gy_run_compute(e, run, dst, ptr, step->nin, step->n, step->final);
}

static inline void straight_fold(const struct gy_run *run, const struct gy_line_step *step,
				 struct gy_expect *x)
{
	x->in[step->body ^ 1] = straight_at(run, step->inputs->space, step->inputs->off);
	x->body = step->body;
	x->n = step->n;
}

/* False: it has not come, and is not to be waited for here. */
static inline bool straight_wait(struct gy_engine *e, struct gy_run *run,
				 const struct gy_line_step *step, void *to)
{
	struct gy_expect x;

	x.hdr = &run->hdr;
	x.to = to;
	x.reduce = step->what == GY_LINE_FOLD ? run->reduce : NULL;
	if (gy_likely(x.reduce))
		straight_fold(run, step, &x);
	if (gy_unlikely(!straight_await(e, run, step, &x))) {
		straight_give_back(e, run, step);
		return false;
	}
	if (gy_likely(x.reduce)) {
		e->stats.bytes_reduced += step->len;
		gy_peer_consumed(e, step->peer, step->len);
	} else {
		straight_use(e, step);
	}
	return true;
}

/* False: the line ends here, before this step's move, whose messages are not used yet. */
static inline bool straight_step(struct gy_engine *e, struct gy_run *run,
				 const struct gy_line_step *step)
{
	void *at = straight_at(run, step->space, step->off);

	if (step->what == GY_LINE_SEND) {
		return straight_send(e, run, step, at);
	} else if (step->what >= GY_LINE_WAIT) {
		return straight_wait(e, run, step, at);
	} else if (step->what == GY_LINE_COMPUTE) {
		straight_compute(e, run, step, at);
	} else if (gy_unlikely(!straight_can_send(e, run, step))) {
		return false;
	}
	return true;
}

/* From this move on it is the general executor's. */
static gy_cold void straight_go_on(struct gy_engine *e, struct gy_run *run, uint32_t move)
{
	int err;

	if (!straight_running(run))
		return;
	err = gy_run_prepare(run, run->plan);
	if (err) {
		gy_comm_fail(run->comm, err, "no memory to run a collective");
		return;
	}
	run->base = run->next = move;
	gy_run_start(e, run);
}

/* In the default floating-point environment: sums are made where messages come in. */
static void straight_run(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_line_step *step = run->line->steps, *end = run->line->end;

	gy_assert(gy_driver_held(e) && step < end && !run->owned);
	run->straight = true;
	run->moved_ns = e->now_ns;
	do {
		if (gy_unlikely(!straight_step(e, run, step))) {
			straight_go_on(e, run, step->move);
			return;
		}
	} while (++step < end);
	if (gy_unlikely(!straight_running(run)))
		return;
	gy_comm_remember(run);
	gy_run_over(e, run, 0);
}

static gy_cold void straight_run_in_default(struct gy_engine *e, struct gy_run *run)
{
	fenv_t caller;

	fegetenv(&caller);
	fesetenv(FE_DFL_ENV);
	straight_run(e, run);
	fesetenv(&caller);
}

void gy_straight_run(struct gy_engine *e, struct gy_run *run)
{
	if (gy_likely(gy_fpenv_is_default()))
		straight_run(e, run);
	else
		straight_run_in_default(e, run);
}
