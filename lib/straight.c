/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * straight.c - the straight-line executor, for small messages: moves in program order, one grain
 * and one eager message each, the caller waiting.
 *
 * Needs no open moves, streams or dependencies: program order is one of the orders that they allow.
 * A run is compiled once into a line, its plan with peers and offsets filled in; a request that is
 * used again for the same call keeps its line.  At a move that needs more (a peer not connected, no
 * allowance, a message that is not eager) the run goes on in the general executor from that move.
 * Budget: an 8-byte allreduce of two ranks is at most 400 instructions from the call to its return,
 * not counting polls that find nothing.
 * Locking: driver; lets the token go while it sleeps.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/fpenv.h"
#include "lib/peer.h"

#define LOOK_AROUND 64	/* polls of the awaited peer between looks at everything else */

enum line_what {
	LINE_SEND,	/* memory to a peer */
	/* a peer's message into a place of the line's own: input `place` of the next reduce */
	LINE_WAIT,
	LINE_REDUCE,	/* inputs into memory, or into the bounce buffer */
	LINE_MOVED,	/* the end of a move: what was waited for is used up */
};

struct line_step {
	uint8_t what;		/* enum line_what */
	uint8_t space;		/* SEND, REDUCE: memory, or LINE_BOUNCE */
	uint8_t nin;		/* REDUCE: inputs */
	bool final;		/* REDUCE: divides */
	/* WAIT: the only one of its move, so the bounce buffer can take it */
	bool alone;
	uint16_t place;		/* WAIT: which input; REDUCE: first of inputs[] */
	uint32_t move;		/* of the plan */
	uint32_t len;		/* bytes of the move */
	uint32_t n;		/* elements */
	uint64_t word;		/* SEND, WAIT: header's stream and len */
	uint64_t off;		/* in space */
	struct gy_peer *peer;
};

#define LINE_BOUNCE 7
#define LINE_STREAM 6

struct line_input {
	uint8_t space;		/* LINE_STREAM: what the WAIT of that place got */
	uint64_t off;
};

struct gy_line {
	uint32_t nsteps, ninputs;
	struct line_step steps[GY_LINE_ENDS];
	struct line_input inputs[GY_LINE_ENDS];
};

/* ---- compiling ---- */

struct line_place {
	uint8_t space;
	uint64_t off, len;
};

/* Where a memory end lies.  Pieces that do not follow each other are the general executor's. */
static int line_place(const struct gy_run *run, const struct gy_end *end, struct line_place *p)
{
	char *ptr = gy_run_at(run, end, 0, &p->len);

	p->space = end->space;
	p->off = (uint64_t)(ptr - (char *)run->mem[end->space]);
	return p->len == gy_run_len(run, end) ? 0 : -EOPNOTSUPP;
}

static struct line_step *line_add(struct gy_line *line, enum line_what what, uint32_t move)
{
	struct line_step *step = &line->steps[line->nsteps++];

	*step = (struct line_step){ .what = what, .move = move };
	return step;
}

static int line_add_stream(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			   enum line_what what, uint32_t move, const struct gy_end *end,
			   uint32_t len)
{
	struct line_step *step = line_add(line, what, move);

	step->peer = e->peers[gy_run_world_rank(run, end)];
	step->len = len;
	step->word = end->stream | (uint64_t)len << 32;		/* as they lie in struct gy_hdr */
	return step->peer ? 0 : -ENOTCONN;
}

static int line_compile_move(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			     uint32_t m)
{
	const struct gy_move *mv = &run->plan->moves[m];
	const struct gy_end *end = run->plan->ends + mv->end;
	struct line_place at = { .space = LINE_BOUNCE }, result = at;
	const uint32_t first = line->ninputs;
	struct line_step *step;
	unsigned i, waits = 0;
	int err;

	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space == GY_STREAM) {
			waits += i < mv->nin;
		} else {
			err = line_place(run, &end[i], &at);
			if (err)
				return err;
		}
		if (i < mv->nin)
			line->inputs[line->ninputs++] = (struct line_input){
				.space = end[i].space == GY_STREAM ? LINE_STREAM : at.space,
				.off = at.off,
			};
		else if (end[i].space != GY_STREAM)
			result = at;
	}
	for (i = 0; i < mv->nin; i++) {
		if (end[i].space != GY_STREAM)
			continue;
		err = line_add_stream(e, run, line, LINE_WAIT, m, &end[i],
				      (uint32_t)(at.len * run->es));
		if (err)
			return err;
		line->steps[line->nsteps - 1].place = (uint16_t)i;
		line->steps[line->nsteps - 1].alone = waits == 1;
	}
	if (mv->nin > 1 || result.space != LINE_BOUNCE) {
		step = line_add(line, LINE_REDUCE, m);
		step->space = result.space;
		step->off = result.space == LINE_BOUNCE ? 0 : result.off;
		step->place = (uint16_t)first;
		step->nin = (uint8_t)mv->nin;
		step->n = (uint32_t)at.len;
		step->len = (uint32_t)(at.len * run->es);
		step->final = mv->flags & GY_MOVE_FINAL;
	} else {
		result = at;		/* sent out of its only input */
	}
	for (i = mv->nin; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space != GY_STREAM)
			continue;
		err = line_add_stream(e, run, line, LINE_SEND, m, &end[i],
				      (uint32_t)(at.len * run->es));
		if (err)
			return err;
		line->steps[line->nsteps - 1].space = result.space;
		line->steps[line->nsteps - 1].off = result.off;
	}
	if (waits > 1)
		line_add(line, LINE_MOVED, m);
	return 0;
}

int gy_straight_prepare(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_plan *plan = run->plan;
	uint32_t m;
	int err;

	/* At most one step for each end, and two more for each move. */
	if (plan->nends + 2 * plan->nmoves > GY_LINE_ENDS || plan->nscratch ||
	    plan->max_inputs > GY_MAX_INPUTS)
		return -EOPNOTSUPP;
	if (!run->line)
		run->line = gy_alloc(sizeof(*run->line));
	if (!run->line)
		return -ENOMEM;
	run->line->nsteps = run->line->ninputs = 0;
	for (m = 0; m < plan->nmoves; m++) {
		err = line_compile_move(e, run, run->line, m);
		if (err)
			return err;
	}
	return 0;
}

/* ---- running ---- */

static bool straight_running(const struct gy_run *run)
{
	return atomic_load_explicit(&run->state, memory_order_relaxed) == GY_RUN_RUNNING;
}

static struct gy_parked *straight_find(const struct gy_run *run, const struct line_step *step)
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

static void straight_hdr(struct gy_run *run, const struct line_step *step)
{
	run->hdr.kind = GY_MSG_EAGER;
	run->hdr.stream = (uint32_t)step->word;
	run->hdr.len = step->len;
}

/*
 * The message of an in-stream, parked, or, when it comes while we look for it, in the bounce
 * buffer.  NULL: the run has ended, or goes on in the general executor.
 */
static const void *straight_await(struct gy_engine *e, struct gy_run *run,
				  const struct line_step *step, struct gy_parked **pp)
{
	struct gy_peer *peer = step->peer;
	unsigned idle = 0, looks = 0;
	int did;

	*pp = NULL;
	for (;;) {
		if (gy_unlikely(!gy_list_empty(&peer->parked)) &&
		    (*pp = straight_find(run, step))) {
			if ((*pp)->hdr.kind != GY_MSG_EAGER || (*pp)->hdr.len != step->len ||
			    !gy_comm_check(run->comm, peer, &(*pp)->hdr))
				return NULL;
			return (*pp)->body;
		}
		if (gy_unlikely(!straight_running(run) || peer->state != GY_PEER_UP || peer->left))
			return NULL;
		if (gy_likely(step->alone)) {
			straight_hdr(run, step);
			e->expect_from = peer;
			e->expect = &run->hdr;
		}
		did = peer->ep->ops->poll(peer->ep);
		if (gy_likely(step->alone && !e->expect_from))
			return e->bounce;
		e->expect_from = NULL;
		run->waits_for = peer;
		if (did)
			idle = 0;
		else if (++looks % LOOK_AROUND || !gy_engine_progress(e))
			gy_engine_wait_step(e, &idle);
	}
}

/* No room: again, until there is.  What runs meanwhile may use the bounce buffer. */
static gy_cold void straight_send_slow(struct gy_engine *e, struct gy_run *run,
				       const struct line_step *step, const void *body)
{
	uint8_t copy[GY_BODY_MAX];
	unsigned idle = 0;

	if (step->len)
		memcpy(copy, body, step->len);
	run->waits_for = step->peer;
	while (straight_running(run) && gy_peer_msg(e, step->peer, &run->hdr, copy) == -EAGAIN)
		if (!gy_engine_progress(e))
			gy_engine_wait_step(e, &idle);
}

static inline void straight_send(struct gy_engine *e, struct gy_run *run,
				 const struct line_step *step)
{
	const void *body = step->space == LINE_BOUNCE ? e->bounce
						      : (char *)run->mem[step->space] + step->off;

	straight_hdr(run, step);
	if (gy_unlikely(gy_peer_msg(e, step->peer, &run->hdr, body)))
		straight_send_slow(e, run, step, body);
}

static void straight_reduce(struct gy_engine *e, struct gy_run *run, const struct line_step *step,
			    const void *const *got)
{
	const struct line_input *in = &run->line->inputs[step->place];
	const void *ptr[GY_MAX_INPUTS];
	void *dst = step->space == LINE_BOUNCE ? e->bounce
					       : (char *)run->mem[step->space] + step->off;
	unsigned i;

	for (i = 0; i < step->nin; i++)
		ptr[i] = in[i].space == LINE_STREAM ? got[i]
						    : (char *)run->mem[in[i].space] + in[i].off;
	if (gy_likely(step->nin > 1 && !(step->final && run->divide) && gy_fpenv_is_default()))
		run->reduce(dst, ptr, step->nin, step->n);
	else
		gy_run_compute(e, run, dst, ptr, step->nin, step->n, step->final);
}

/* Whether a move's sends can all go now: it is done whole by one executor. */
static bool straight_can_send(const struct gy_line *line, uint32_t i)
{
	const uint32_t move = line->steps[i].move;

	for (; i < line->nsteps && line->steps[i].move == move; i++) {
		const struct line_step *step = &line->steps[i];

		if (step->what == LINE_SEND &&
		    (step->peer->state != GY_PEER_UP || !gy_peer_allows(step->peer, step->len)))
			return false;
	}
	return true;
}

/*
 * Runs from the first step.  Returns the move at which the general executor must go on, or nmoves.
 */
static uint32_t straight_steps(struct gy_engine *e, struct gy_run *run)
{
	struct gy_parked *parked[GY_MAX_INPUTS], *one = NULL;
	const struct gy_line *line = run->line;
	const void *got[GY_MAX_INPUTS];
	uint32_t i, move = UINT32_MAX;
	unsigned n = 0;

	for (i = 0; i < line->nsteps; i++) {
		const struct line_step *step = &line->steps[i];

		if (step->move != move) {
			if (gy_unlikely(!straight_can_send(line, i)))
				return step->move;
			move = step->move;
			n = 0;
		}
		switch (step->what) {
		case LINE_WAIT:
			got[step->place] = straight_await(e, run, step, &one);
			if (gy_unlikely(!got[step->place]))
				return move;
			if (gy_unlikely(one != NULL))
				parked[n++] = one;
			break;
		case LINE_REDUCE:
			straight_reduce(e, run, step, got);
			break;
		case LINE_SEND:
			straight_send(e, run, step);
			break;
		}
		if (gy_unlikely(n) && (step->what == LINE_MOVED || step->what == LINE_REDUCE)) {
			while (n) {
				gy_list_del(&parked[--n]->link);
				gy_unpark(e, parked[n]);
			}
		}
	}
	return run->plan->nmoves;
}

void gy_straight_run(struct gy_engine *e, struct gy_run *run)
{
	uint32_t m;
	int err;

	gy_assert(gy_driver_held(e));
	run->straight = true;
	run->moved_ns = e->now_ns;
	m = straight_steps(e, run);
	if (gy_unlikely(!straight_running(run)))
		return;
	if (gy_likely(m == run->plan->nmoves)) {
		gy_run_end(e, run, 0);
		return;
	}
	err = gy_run_prepare(run, run->plan);
	if (err) {
		gy_comm_fail(run->comm, err, "no memory to run a collective");
		return;
	}
	run->base = run->next = m;
	gy_run_start(e, run);
}
