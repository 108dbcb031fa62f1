/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c - runs: opening moves, what they may touch when, and closing them.
 *
 * A move advances over its elements, front to back: `ok` of them are free of hazards, `done` are
 * computed (run_compute.c); its streams advance on their own (stream.c).
 * Cost: a pump looks at each open move's dependencies; moves open at a time are bounded by the
 * window.
 * Locking: driver.
 */
#include <errno.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"

#define RUN_BUDGET 4	/* grains computed in one pump, before transports are looked at again */

int gy_run_scratch(struct gy_run *run, const struct gy_plan *plan, size_t at_least)
{
	const size_t size = gy_max(plan->nscratch * run->total * run->es, at_least);

	if (run->scratch_size < size) {
		gy_free(run->scratch);
		run->scratch_size = 0;
		run->scratch = gy_alloc_aligned(GY_CACHELINE, size);
		if (!run->scratch)
			return -ENOMEM;
		run->scratch_size = size;
	}
	run->mem[GY_SCRATCH] = run->scratch;
	return 0;
}

int gy_run_prepare(struct gy_run *run, const struct gy_plan *plan)
{
	uint32_t window = plan->min_window > GY_WINDOW ? plan->min_window : GY_WINDOW;
	uint32_t i;

	if (window > plan->nmoves)
		window = plan->nmoves;
	if (run->ops_size < window) {
		gy_free(run->ops);
		run->ops_size = 0;
		run->ops = gy_alloc_array(window, sizeof(*run->ops));
		if (!run->ops)
			return -ENOMEM;
		run->ops_size = window;
		for (i = 0; i < window; i++)
			gy_list_init(&run->ops[i].streams);
	}
	if (gy_run_scratch(run, plan, 0))
		return -ENOMEM;
	run->plan = plan;
	run->window = window;
	run->base = run->next = 0;
	return 0;
}

void gy_run_fini(struct gy_run *run)
{
	gy_free(run->ops);
	gy_free(run->line);
	gy_free(run->scratch);
}

/* ---- blocks and addresses ---- */

static uint32_t run_block(const struct gy_range *r, uint32_t pos)
{
	const uint32_t b = r->first + pos * r->stride;

	return r->modulo ? b % r->modulo : b;
}

/* Where block b of a space begins, and how long it is, in elements. */
static uint64_t run_block_off(const struct gy_run *run, uint8_t space, uint32_t b, uint64_t *len)
{
	const uint32_t n = run->plan->nblocks, set = space == GY_SCRATCH ? b / n : 0;
	const uint32_t i = space == GY_SCRATCH ? b % n : b;

	*len = gy_run_block_len(run, i);
	return set * run->total + (i * run->q < run->total ? i * run->q : run->total);
}

/* Elements in the first pos blocks of an end. */
static uint64_t run_pos(const struct gy_run *run, const struct gy_end *end, uint32_t pos)
{
	uint64_t sum = 0, len;
	uint32_t i;

	for (i = 0; i < pos; i++) {
		run_block_off(run, end->space, run_block(&end->range, i), &len);
		sum += len;
	}
	return sum;
}

uint64_t gy_run_len(const struct gy_run *run, const struct gy_end *end)
{
	return run_pos(run, end, end->range.count);
}

void *gy_run_at(const struct gy_run *run, const struct gy_end *end, uint64_t elem, uint64_t *contig)
{
	uint64_t off = 0, len = 0, start, more;
	uint32_t i;

	for (i = 0; i < end->range.count; i++) {
		off = run_block_off(run, end->space, run_block(&end->range, i), &len);
		if (elem < len)
			break;
		if (i + 1 < end->range.count)
			elem -= len;
	}
	start = off + elem;
	len -= elem;
	for (i++; i < end->range.count; i++) {		/* neighbours that follow in memory */
		if (run_block_off(run, end->space, run_block(&end->range, i), &more) != start + len)
			break;
		len += more;
	}
	*contig = len;
	return (char *)run->mem[end->space] + start * run->es;
}

int gy_run_world_rank(const struct gy_run *run, const struct gy_end *end)
{
	return run->peer >= 0 ? run->peer : run->comm->ranks[end->peer];
}

/* ---- dependencies ---- */

/* How far an earlier move is, for this kind of dependency; UINT64_MAX: over. */
static uint64_t run_progress_of(const struct gy_run *run, const struct gy_dep *dep,
				const struct gy_op **opp)
{
	struct gy_op *op = &run->ops[dep->move % run->window];
	const struct gy_list *pos;
	uint64_t upto;

	*opp = op;
	if (dep->move < run->base || !op->open || op->index != dep->move)
		return UINT64_MAX;
	if (!op->len)
		return op->computed ? UINT64_MAX : 0;
	upto = op->done;
	if (dep->kind == GY_DEP_FREE) {
		gy_list_for_each(pos, &op->streams) {
			const struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

			if (s->out && s->freed < upto)
				upto = s->freed;
		}
	}
	return upto;
}

/* Up to which of its elements a move may go now. */
static void run_update_ok(const struct gy_run *run, struct gy_op *op)
{
	const struct gy_dep *dep = run->plan->deps + op->move->dep, *end = dep + op->move->ndeps;
	uint64_t ok = op->len, upto, at, from, n;
	const struct gy_op *before;
	bool ready = true;

	for (; dep < end; dep++) {
		upto = run_progress_of(run, dep, &before);
		if (upto == UINT64_MAX)
			continue;
		if (!op->len || !before->len) {	/* no elements to compare: all of it, or none */
			ready = false;
			ok = 0;
			break;
		}
		from = run_pos(run, before->shape, dep->from);
		n = run_pos(run, before->shape, dep->from + dep->n) - from;
		if (upto >= from + n)
			continue;
		at = run_pos(run, op->shape, dep->at);
		if (upto > from)
			at += upto - from;
		if (at < ok)
			ok = at;
	}
	op->ok = ok;
	op->ready = ready && ok == op->len;
}

/* ---- opening and closing moves ---- */

static int run_op_open(struct gy_engine *e, struct gy_run *run)
{
	struct gy_op *op = &run->ops[run->next % run->window];
	const struct gy_move *mv = &run->plan->moves[run->next];
	const struct gy_end *end = run->plan->ends + mv->end;
	uint64_t contig;
	unsigned i;
	int err;

	op->move = mv;
	op->index = run->next;
	op->shape = op->source = op->mem_out = NULL;
	op->ok = op->done = 0;
	op->ready = op->computed = false;
	op->nout = 0;
	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space == GY_STREAM) {
			op->nout += i >= mv->nin;
			continue;
		}
		if (!op->shape)
			op->shape = &end[i];
		if (i >= mv->nin)
			op->mem_out = &end[i];
	}
	op->pure_send = mv->nin == 1 && end[0].space != GY_STREAM && !op->mem_out &&
			!(mv->flags & GY_MOVE_FINAL);
	op->source = op->pure_send ? &end[0] : op->mem_out;
	op->len = gy_run_len(run, op->shape);
	if (op->source) {
		op->at = gy_run_at(run, op->source, 0, &contig);
		op->whole = contig >= op->len;
	}
	op->open = true;
	run->next++;
	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space != GY_STREAM)
			continue;
		err = gy_stream_open(e, run, op, &end[i], i >= mv->nin, i);
		if (err)
			return err;
	}
	return 0;
}

/* Works on one open move.  1: did something; the move may be closed afterwards. */
static int run_op_step(struct gy_engine *e, struct gy_run *run, struct gy_op *op)
{
	bool finished = true;
	struct gy_list *pos, *after;
	int did, err;

	if (!op->ready && !op->computed)
		run_update_ok(run, op);
	did = op->computed ? 0 : gy_op_compute(e, run, op);
	if (did < 0)
		return did;
	gy_list_for_each_safe(pos, after, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		err = gy_stream_pump(e, s);
		if (err)
			return err;
		finished &= s->finished;
	}
	if (!op->computed || !finished)
		return did;
	while (!gy_list_empty(&op->streams))
		gy_stream_close(e, gy_list_entry(op->streams.next, struct gy_stream, op_link),
				false);
	op->open = false;
	while (run->base < run->next && !run->ops[run->base % run->window].open)
		run->base++;
	return 1;
}

static int run_pass(struct gy_engine *e, struct gy_run *run)
{
	int did = 0, err;
	uint32_t m;

	while (run->next < run->plan->nmoves && run->next - run->base < run->window) {
		err = run_op_open(e, run);
		if (err)
			return err;
	}
	for (m = run->base; m < run->next; m++) {
		struct gy_op *op = &run->ops[m % run->window];

		if (m < run->base || !op->open || op->index != m)
			continue;
		err = run_op_step(e, run, op);
		if (err < 0)
			return err;
		did |= err;
	}
	return did;
}

void gy_run_pump(struct gy_engine *e, struct gy_run *run)
{
	int budget = RUN_BUDGET, did;

	gy_assert(gy_driver_held(e));
	if (atomic_load_explicit(&run->state, memory_order_relaxed) != GY_RUN_RUNNING)
		return;
	run->dirty = false;
	do {
		did = run_pass(e, run);
	} while (did > 0 && --budget && run->base < run->plan->nmoves);
	if (atomic_load_explicit(&run->state, memory_order_relaxed) != GY_RUN_RUNNING)
		return;		/* an upcall inside ended it */
	if (did < 0)
		gy_comm_fail(run->comm, did, "moving data failed: %s", gyre_strerror(did));
	else if (run->base == run->plan->nmoves)
		gy_run_end(e, run, 0);
	else if (did)
		run->dirty = true;
}

void gy_run_start(struct gy_engine *e, struct gy_run *run)
{
	run->straight = false;
	run->moved_ns = e->now_ns;
	gy_list_add_tail(&e->runs, &run->link);
	gy_run_pump(e, run);
}

static void run_close_moves(struct gy_engine *e, struct gy_run *run)
{
	uint32_t m;

	for (m = run->base; m < run->next; m++) {
		struct gy_op *op = &run->ops[m % run->window];

		while (!gy_list_empty(&op->streams))
			gy_stream_close(
				e, gy_list_entry(op->streams.next, struct gy_stream, op_link),
				true);
		op->open = false;
	}
}

/* A straight line takes no slots. */
static bool run_is_large(const struct gy_run *run)
{
	return run->hdr.coll != GY_P2P && !run->straight;
}

bool gy_run_is_oldest(const struct gy_run *run)
{
	const struct gy_list *pos = run->comm_link.prev;

	if (run->hdr.coll == GY_P2P)
		return true;
	while (pos != &run->comm->runs &&
	       !run_is_large(gy_list_entry(pos, struct gy_run, comm_link)))
		pos = pos->prev;
	return pos == &run->comm->runs;
}

/* What waits for slots or grants may have more of them when it is the oldest. */
static void run_wake_next(const struct gy_run *run)
{
	struct gy_list *pos = run->comm_link.next;

	for (; pos != &run->comm->runs; pos = pos->next) {
		struct gy_run *next = gy_list_entry(pos, struct gy_run, comm_link);

		if (!run_is_large(next))
			continue;
		next->dirty = true;
		return;
	}
}

void gy_run_end(struct gy_engine *e, struct gy_run *run, int err)
{
	gy_assert(gy_driver_held(e));
	if (!run->straight) {
		run_close_moves(e, run);
		run_wake_next(run);
		gy_list_del(&run->link);
	}
	if (run->owned)
		gy_ports_wake(e);
	if (!err && run->hdr.coll != GY_P2P)
		gy_comm_remember(run);
	gy_run_over(e, run, err);
}
