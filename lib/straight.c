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
	LINE_ROOM,	/* all sends of the move that begins here can go now */
	LINE_SEND,	/* memory to a peer */
	LINE_WAIT,	/* a peer's message into memory */
	LINE_REDUCE,	/* two inputs into memory, by the kernel alone */
	LINE_COMPUTE,	/* any number, copies, a division */
};

/* Memory: off bytes from run->mem[space]. */
struct line_place {
	uint8_t space;
	uint64_t off;
};

struct line_step {
	uint8_t what;		/* enum line_what */
	uint8_t space;		/* SEND, WAIT, REDUCE, COMPUTE: of memory: off bytes into it */
	uint8_t nin;		/* COMPUTE: inputs; REDUCE: 2 */
	uint8_t sends;		/* ROOM: of the move */
	uint8_t waits;		/* the last WAIT of a move: all of the move; else 0 */
	bool first;		/* SEND: of its move: it looks for room itself; WAIT: of its move */
	bool final;		/* COMPUTE: divides */
	uint32_t move;		/* of the plan */
	uint32_t len;		/* bytes of the move */
	uint32_t n;		/* elements */
	uint64_t word;		/* SEND, WAIT: header's stream and len, as they lie there */
	uint64_t off;
	struct gy_peer *peer;
	const struct line_place *inputs;	/* REDUCE, COMPUTE */
};

/*
 * What has no memory in the plan (messages, what is only sent) lies in scratch, behind the plan's.
 */
struct gy_line {
	struct line_step *end;		/* of steps */
	uint32_t ninputs;
	uint64_t land, landed;	/* where in scratch that begins, and how much there is so far */
	struct line_step steps[GY_LINE_ENDS];
	struct line_place inputs[GY_LINE_ENDS];
};

/* ---- compiling ---- */

/* Where a memory end lies.  Pieces that do not follow each other are the general executor's. */
static int line_place(const struct gy_run *run, const struct gy_end *end, struct line_place *p)
{
	uint64_t contig;
	char *ptr = gy_run_at(run, end, 0, &contig);

	p->space = end->space;
	p->off = (uint64_t)(ptr - (char *)run->mem[end->space]);
	return contig == gy_run_len(run, end) ? 0 : -EOPNOTSUPP;
}

static struct line_place line_land(struct gy_line *line, uint64_t bytes)
{
	const struct line_place p = { .space = GY_SCRATCH, .off = line->land + line->landed };

	line->landed += gy_align_up(bytes, GY_CACHELINE);
	return p;
}

static struct line_step *line_add(struct gy_line *line, enum line_what what, uint32_t move,
				  struct line_place at, uint64_t n, uint64_t es)
{
	struct line_step *step = line->end++;

	*step = (struct line_step){ .what = what, .space = at.space, .move = move, .off = at.off };
	step->n = (uint32_t)n;
	step->len = (uint32_t)(n * es);
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

/* A move while it is compiled. */
struct line_move {
	const struct gy_move *mv;
	uint32_t index;
	const struct gy_end *in, *out;
	const struct gy_end *mem_out;	/* or NULL */
	uint64_t n;			/* elements */
	unsigned sends;
	bool divides;
	struct line_place result;
	const struct line_place *inputs;
};

static void line_look(const struct gy_run *run, struct line_move *m, uint32_t index)
{
	const struct gy_move *mv = &run->plan->moves[index];
	const struct gy_end *end = run->plan->ends + mv->end;
	unsigned i;

	*m = (struct line_move){ .mv = mv, .index = index, .in = end, .out = end + mv->nin };
	m->divides = mv->flags & GY_MOVE_FINAL && run->divide;
	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space != GY_STREAM)
			m->n = gy_run_len(run, &end[i]);
		if (i >= mv->nin && end[i].space == GY_STREAM)
			m->sends++;
		else if (i >= mv->nin)
			m->mem_out = &end[i];
	}
}

/* Where the inputs and the result lie.  A single message comes to the result's place. */
static int line_compile_places(const struct gy_run *run, struct gy_line *line, struct line_move *m)
{
	struct line_place *in = line->inputs + line->ninputs;
	const bool computes = m->mv->nin > 1 || m->divides;
	unsigned i;
	int err;

	m->inputs = in;
	line->ninputs += m->mv->nin;
	if (m->mem_out) {
		err = line_place(run, m->mem_out, &m->result);
		if (err)
			return err;
	} else if (computes) {
		m->result = line_land(line, m->n * run->es);
	}
	for (i = 0; i < m->mv->nin; i++) {
		if (m->in[i].space != GY_STREAM) {
			err = line_place(run, &m->in[i], &in[i]);
			if (err)
				return err;
		} else if (m->mem_out && !computes) {
			in[i] = m->result;
		} else {
			in[i] = line_land(line, m->n * run->es);
		}
	}
	if (!m->mem_out && !computes)
		m->result = in[0];
	return 0;
}

static int line_compile_waits(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			      const struct line_move *m)
{
	struct line_step *step = NULL;
	uint8_t waits = 0;
	unsigned i;
	int err;

	for (i = 0; i < m->mv->nin; i++) {
		if (m->in[i].space != GY_STREAM)
			continue;
		step = line_add(line, LINE_WAIT, m->index, m->inputs[i], m->n, run->es);
		step->first = !waits++;
		err = line_name_stream(e, run, step, &m->in[i]);
		if (err)
			return err;
	}
	if (step)
		step->waits = waits;
	return 0;
}

static void line_compile_reduce(const struct gy_run *run, struct gy_line *line,
				const struct line_move *m)
{
	const bool alone = m->mv->nin == 1;
	struct line_step *step;

	if (alone && !m->divides && (!m->mem_out || m->in[0].space == GY_STREAM))
		return;		/* it is there already */
	step = line_add(line, m->mv->nin != 2 || m->divides ? LINE_COMPUTE : LINE_REDUCE, m->index,
			m->result, m->n, run->es);
	step->nin = (uint8_t)m->mv->nin;
	step->final = m->mv->flags & GY_MOVE_FINAL;
	step->inputs = m->inputs;
}

static int line_compile_move(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			     uint32_t index)
{
	const struct line_step *first = line->end;
	struct line_step *step;
	struct line_move m;
	unsigned i;
	int err;

	line_look(run, &m, index);
	err = line_compile_places(run, line, &m);
	if (err)
		return err;
	if (m.sends && (m.sends > 1 || m.mv->nin > 1 || m.mem_out || m.in[0].space == GY_STREAM)) {
		step = line_add(line, LINE_ROOM, index, m.result, m.n, run->es);
		step->sends = (uint8_t)m.sends;
	}
	err = line_compile_waits(e, run, line, &m);
	if (err)
		return err;
	line_compile_reduce(run, line, &m);
	for (i = 0; i < m.mv->nout; i++) {
		if (m.out[i].space != GY_STREAM)
			continue;
		step = line_add(line, LINE_SEND, index, m.result, m.n, run->es);
		step->first = step == first;
		err = line_name_stream(e, run, step, &m.out[i]);
		if (err)
			return err;
	}
	return 0;
}

int gy_straight_prepare(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_plan *plan = run->plan;
	struct gy_line *line = run->line;
	uint32_t m;
	int err;

	/* At most one step for each end, and one more for each move. */
	if (plan->nends + plan->nmoves > GY_LINE_ENDS || plan->max_inputs > GY_MAX_INPUTS)
		return -EOPNOTSUPP;
	if (!line)
		line = run->line = gy_alloc(sizeof(*line));
	if (!line || gy_run_scratch(run, plan, 0))
		return -ENOMEM;
	line->end = line->steps;
	line->ninputs = 0;
	line->landed = 0;
	line->land = gy_align_up(plan->nscratch * run->total * run->es, GY_CACHELINE);
	for (m = 0; m < plan->nmoves; m++) {
		err = line_compile_move(e, run, line, m);
		if (err)
			return err;
	}
	run->hdr.kind = GY_MSG_EAGER;
	return gy_run_scratch(run, plan, line->land + line->landed);
}

/* ---- running ---- */

static bool straight_running(const struct gy_run *run)
{
	return atomic_load_explicit(&run->state, memory_order_relaxed) == GY_RUN_RUNNING;
}

static inline void *straight_at(const struct gy_run *run, uint8_t space, uint64_t off)
{
	return (char *)run->mem[space] + off;
}

static inline void straight_hdr(struct gy_run *run, const struct line_step *step)
{
	_Static_assert(offsetof(struct gy_hdr, len) == offsetof(struct gy_hdr, stream) + 4,
		       "one word");
	memcpy(&run->hdr.stream, &step->word, sizeof(step->word));
}

static gy_cold struct gy_parked *straight_find(const struct gy_run *run,
					       const struct line_step *step)
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
				  const struct line_step *step, struct gy_parked *p, void *to)
{
	if (p->hdr.kind != GY_MSG_EAGER || p->hdr.len != step->len ||
	    !gy_comm_check(run->comm, step->peer, &p->hdr))
		return false;
	if (step->len)
		memcpy(to, p->body, step->len);
	gy_list_del(&p->link);
	gy_park_free(e, p);
	return true;
}

/* The WAITs of a move before step are not its own any more: the general executor finds them. */
static gy_cold void straight_give_back(struct gy_engine *e, struct gy_run *run,
				       const struct line_step *step)
{
	const struct line_step *w = step;
	struct gy_parked *p;

	while (!w->first) {
		w--;
		if (!straight_running(run)) {
			gy_peer_consumed(e, w->peer, w->len);
			continue;
		}
		straight_hdr(run, w);
		p = gy_park(e, w->peer, &run->hdr, straight_at(run, w->space, w->off));
		if (p)
			gy_list_add_tail(&w->peer->parked, &p->link);
		else
			gy_comm_fail(run->comm, -ENOMEM, "no memory to run a collective");
	}
}

/* The messages of a move are there, and used up before anything else happens: its last WAIT. */
static inline void straight_use(struct gy_engine *e, const struct line_step *step)
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
struct line_idle {
	unsigned idle, looks;
};

/* A poll has not brought the message.  False: it is not to be waited for here. */
static __attribute__((noinline)) bool straight_idle(struct gy_engine *e, struct gy_run *run,
						    struct gy_peer *peer, int did,
						    struct line_idle *w)
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
 * Waits for the message of an in-stream, which comes to its place, or is among the parked.  False:
 * the run has ended, or goes on in the general executor.
 */
static inline bool straight_await(struct gy_engine *e, struct gy_run *run,
				  const struct line_step *step, void *to)
{
	struct gy_peer *peer = step->peer;
	struct line_idle w = { 0 };
	struct gy_parked *p;
	int did;

	for (;;) {
		if (gy_unlikely(peer->parked_bytes)) {
			p = straight_find(run, step);
			if (p)
				return straight_take(e, run, step, p, to);
		}
		if (gy_unlikely(peer->state != GY_PEER_UP))
			return false;
		straight_hdr(run, step);
		peer->expect = &run->hdr;
		peer->expect_to = to;
		did = peer->ep->ops->poll(peer->ep);
		if (gy_likely(!peer->expect))
			return true;
		if (!straight_idle(e, run, peer, did, &w))
			return false;
	}
}

/* No room: again, until there is.  False: it is not to be waited for here. */
static gy_cold bool straight_send_slow(struct gy_engine *e, struct gy_run *run,
				       const struct line_step *step, const void *body)
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
				 const struct line_step *step, const void *body)
{
	struct gy_peer *peer = step->peer;

	if (gy_unlikely(!gy_peer_allows(peer, step->len)) && step->first)
		return false;
	straight_hdr(run, step);
	return gy_likely(!gy_peer_msg(e, peer, &run->hdr, body)) ||
	       straight_send_slow(e, run, step, body);
}

/* Whether a move's sends can all go now: it is done whole by one executor. */
static inline bool straight_can_send(const struct line_step *step)
{
	unsigned n = step->sends;

	while (n) {
		step++;
		if (step->what != LINE_SEND)
			continue;
		if (gy_unlikely(step->peer->state != GY_PEER_UP ||
				!gy_peer_allows(step->peer, step->len)))
			return false;
		n--;
	}
	return true;
}

static void straight_compute(struct gy_engine *e, struct gy_run *run, const struct line_step *step,
			     void *dst)
{
	const void *ptr[GY_MAX_INPUTS];
	unsigned i;

	for (i = 0; i < step->nin; i++)
		ptr[i] = straight_at(run, step->inputs[i].space, step->inputs[i].off);
	gy_run_compute(e, run, dst, ptr, step->nin, step->n, step->final);
}

static inline void straight_reduce(struct gy_engine *e, struct gy_run *run,
				   const struct line_step *step, void *dst)
{
	const struct line_place *in = step->inputs;
	const void *ptr[2];

	if (gy_unlikely(!gy_fpenv_is_default())) {
		straight_compute(e, run, step, dst);
		return;
	}
	ptr[0] = straight_at(run, in[0].space, in[0].off);
	ptr[1] = straight_at(run, in[1].space, in[1].off);
	run->reduce(dst, ptr, 2, step->n);
	e->stats.bytes_reduced += step->len;
}

/* False: the line ends here, before this step's move, whose messages are not used yet. */
static inline bool straight_step(struct gy_engine *e, struct gy_run *run,
				 const struct line_step *step)
{
	void *at = straight_at(run, step->space, step->off);

	if (step->what == LINE_SEND) {
		return straight_send(e, run, step, at);
	} else if (step->what == LINE_WAIT) {
		if (gy_unlikely(!straight_await(e, run, step, at))) {
			straight_give_back(e, run, step);
			return false;
		}
		straight_use(e, step);
	} else if (step->what == LINE_REDUCE) {
		straight_reduce(e, run, step, at);
	} else if (step->what == LINE_COMPUTE) {
		straight_compute(e, run, step, at);
	} else if (gy_unlikely(!straight_can_send(step))) {
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

void gy_straight_run(struct gy_engine *e, struct gy_run *run)
{
	const struct line_step *step = run->line->steps, *end = run->line->end;

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
