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
	LINE_WAIT,	/* a peer's message */
	LINE_REDUCE,	/* inputs into memory */
};

/* Where memory begins: by enum gy_space; the bounce buffer; what the WAIT of a move's input got. */
enum line_base { LINE_BOUNCE = GY_STREAM, LINE_GOT, LINE_BASES = LINE_GOT + GY_MAX_INPUTS };

struct line_step {
	uint8_t what;		/* enum line_what */
	uint8_t base;		/* SEND, WAIT, REDUCE: of memory: enum line_base */
	uint8_t nin;		/* REDUCE: inputs */
	uint8_t sends;		/* the first of a move: its SENDs */
	bool last;		/* of its move: what was waited for is used up */
	bool final;		/* REDUCE: divides */
	bool alone;		/* WAIT: the only one of its move: the bounce buffer can take it */
	uint16_t inputs;	/* REDUCE: first of line.inputs[] */
	uint32_t move;		/* of the plan */
	uint32_t len;		/* bytes of the move */
	uint32_t n;		/* elements */
	uint64_t word;		/* SEND, WAIT: header's stream and len, as they lie there */
	uint64_t off;		/* from base */
	struct gy_peer *peer;
};

struct line_place {
	uint8_t base;		/* enum line_base */
	uint64_t off;
};

struct gy_line {
	uint32_t nsteps, ninputs;
	struct line_step steps[GY_LINE_ENDS];
	struct line_place inputs[GY_LINE_ENDS + 1];	/* read by twos */
};

/* ---- compiling ---- */

/* Where a memory end lies.  Pieces that do not follow each other are the general executor's. */
static int line_place(const struct gy_run *run, const struct gy_end *end, struct line_place *p,
		      uint64_t *len)
{
	char *ptr = gy_run_at(run, end, 0, len);

	p->base = end->space;
	p->off = (uint64_t)(ptr - (char *)run->mem[end->space]);
	return *len == gy_run_len(run, end) ? 0 : -EOPNOTSUPP;
}

/* The ends of a move: its inputs into line, its result, its length. */
static int line_compile_ends(const struct gy_run *run, struct gy_line *line,
			     const struct gy_move *mv, struct line_place *result, uint64_t *len)
{
	const struct gy_end *end = run->plan->ends + mv->end;
	struct line_place at;
	unsigned i;
	int err;

	*len = 0;
	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space == GY_STREAM) {
			at = (struct line_place){ .base = (uint8_t)(LINE_GOT + i) };
		} else {
			err = line_place(run, &end[i], &at, len);
			if (err)
				return err;
		}
		if (i < mv->nin)
			line->inputs[line->ninputs++] = at;
		else if (end[i].space != GY_STREAM)
			*result = at;
	}
	return 0;
}

static struct line_step *line_add(struct gy_line *line, enum line_what what, uint32_t move,
				  struct line_place at, uint64_t len, uint64_t es)
{
	struct line_step *step = &line->steps[line->nsteps++];

	*step = (struct line_step){ .what = what, .base = at.base, .move = move, .off = at.off };
	step->n = (uint32_t)len;
	step->len = (uint32_t)(len * es);
	return step;
}

static int line_name_stream(struct gy_engine *e, const struct gy_run *run, struct line_step *step,
			    const struct gy_end *end)
{
	const struct gy_hdr hdr = { .stream = end->stream, .len = step->len };

	memcpy(&step->word, &hdr.stream, sizeof(step->word));
	step->peer = e->peers[gy_run_world_rank(run, end)];
	return step->peer ? 0 : -ENOTCONN;
}

static int line_compile_move(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			     uint32_t m)
{
	const struct gy_move *mv = &run->plan->moves[m];
	const struct gy_end *end = run->plan->ends + mv->end;
	struct line_place result = { .base = LINE_BOUNCE };
	const uint32_t input = line->ninputs, first = line->nsteps;
	unsigned i, waits = 0, sends = 0;
	struct line_step *step;
	uint64_t len;
	int err;

	err = line_compile_ends(run, line, mv, &result, &len);
	for (i = 0; i < mv->nin && !err; i++) {
		if (end[i].space != GY_STREAM)
			continue;
		step = line_add(line, LINE_WAIT, m, line->inputs[input + i], len, run->es);
		err = line_name_stream(e, run, step, &end[i]);
		waits++;
	}
	if (mv->nin > 1 || result.base != LINE_BOUNCE) {
		step = line_add(line, LINE_REDUCE, m, result, len, run->es);
		step->inputs = (uint16_t)input;
		step->nin = (uint8_t)mv->nin;
		step->final = mv->flags & GY_MOVE_FINAL;
	} else if (mv->nin) {
		result = line->inputs[input];	/* sent out of its only input */
	}
	/* While a send waits for room, another call may use the buffer that the next would read. */
	if (!err && result.base >= LINE_BOUNCE && mv->nout > 1)
		err = -EOPNOTSUPP;
	for (i = mv->nin; i < (unsigned)mv->nin + mv->nout && !err; i++) {
		if (end[i].space != GY_STREAM)
			continue;
		step = line_add(line, LINE_SEND, m, result, len, run->es);
		err = line_name_stream(e, run, step, &end[i]);
		sends++;
	}
	if (line->nsteps > first) {
		line->steps[first].sends = (uint8_t)sends;
		line->steps[first].alone = waits == 1;
		line->steps[line->nsteps - 1].last = true;
	}
	return err;
}

int gy_straight_prepare(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_plan *plan = run->plan;
	uint32_t m;
	int err;

	/* At most one step for each end, and one more for each move. */
	if (plan->nends + plan->nmoves > GY_LINE_ENDS || plan->max_inputs > GY_MAX_INPUTS)
		return -EOPNOTSUPP;
	if (!run->line)
		run->line = gy_alloc(sizeof(*run->line));
	if (!run->line || gy_run_scratch(run, plan))
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

static inline void straight_hdr(struct gy_run *run, const struct line_step *step)
{
	_Static_assert(offsetof(struct gy_hdr, len) == offsetof(struct gy_hdr, stream) + 4,
		       "one word");
	memcpy(&run->hdr.stream, &step->word, sizeof(step->word));
}

/*
 * The message of an in-stream, parked, or, when it comes while we look for it, in the bounce
 * buffer.  NULL: the run has ended, or goes on in the general executor.
 */
static void *straight_await(struct gy_engine *e, struct gy_run *run,
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
				 const struct line_step *step, const void *body)
{
	straight_hdr(run, step);
	if (gy_unlikely(gy_peer_msg(e, step->peer, &run->hdr, body)))
		straight_send_slow(e, run, step, body);
}

static inline void straight_reduce(struct gy_engine *e, struct gy_run *run,
				   const struct line_step *step, char *const *base)
{
	const struct line_place *in = &run->line->inputs[step->inputs];
	const void *ptr[GY_MAX_INPUTS];
	void *dst = base[step->base] + step->off;
	unsigned i;

	ptr[0] = base[in[0].base] + in[0].off;
	ptr[1] = base[in[1].base] + in[1].off;	/* of the next step, if there is one input */
	for (i = 2; i < step->nin; i++)
		ptr[i] = base[in[i].base] + in[i].off;
	if (gy_likely(step->nin > 1 && !(step->final && run->divide) && gy_fpenv_is_default())) {
		run->reduce(dst, ptr, step->nin, step->n);
		e->stats.bytes_reduced += (uint64_t)(step->nin - 1) * step->len;
	} else {
		gy_run_compute(e, run, dst, ptr, step->nin, step->n, step->final);
	}
}

/* Whether a move's sends can all go now: it is done whole by one executor.  step: its first. */
static inline bool straight_can_send(const struct line_step *step)
{
	unsigned n = step->sends;

	for (; n; step++) {
		if (step->what != LINE_SEND)
			continue;
		if (gy_unlikely(step->peer->state != GY_PEER_UP ||
				!gy_peer_allows(step->peer, step->len)))
			return false;
		n--;
	}
	return true;
}

static gy_cold void straight_unpark(struct gy_engine *e, struct gy_parked **parked, unsigned n)
{
	while (n) {
		gy_list_del(&parked[--n]->link);
		gy_unpark(e, parked[n]);
	}
}

/*
 * Runs from the first step.  Returns the move at which the general executor must go on, or nmoves.
 */
static uint32_t straight_steps(struct gy_engine *e, struct gy_run *run)
{
	struct gy_parked *parked[GY_MAX_INPUTS], *one = NULL;
	const struct gy_line *line = run->line;
	const struct line_step *step = line->steps, *end = step + line->nsteps;
	char *base[LINE_BASES];
	unsigned n = 0;

	base[GY_IN] = run->mem[GY_IN];
	base[GY_OUT] = run->mem[GY_OUT];
	base[GY_SCRATCH] = run->scratch;
	base[LINE_BOUNCE] = e->bounce;
	run->hdr.kind = GY_MSG_EAGER;
	for (; step < end; step++) {
		if (step->sends && gy_unlikely(!straight_can_send(step)))
			return step->move;
		if (step->what == LINE_SEND) {
			straight_send(e, run, step, base[step->base] + step->off);
		} else if (step->what == LINE_WAIT) {
			base[step->base] = straight_await(e, run, step, &one);
			if (gy_unlikely(!base[step->base]))
				return step->move;
			if (gy_unlikely(one != NULL))
				parked[n++] = one;
		} else {
			straight_reduce(e, run, step, base);
		}
		/* Used up; unless the run has ended in a send, and its messages with it. */
		if (gy_unlikely(n) && (step->last || step->what == LINE_REDUCE)) {
			if (straight_running(run))
				straight_unpark(e, parked, n);
			n = 0;
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
