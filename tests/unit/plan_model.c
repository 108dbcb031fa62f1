/* SPDX-License-Identifier: BSD-3-Clause */
/* The checker's executor: one random possible grain after the other; see plan_check.h. */
#include "tests/unit/plan_model.h"

#define MODEL_CHOICES 12	/* moves among which the one of highest priority goes first */

static void model_queue(struct model *s, uint32_t rank, uint32_t m)
{
	struct model_move *sm = &s->ranks[rank].moves[m];

	if (!sm->open || sm->complete || sm->queued)
		return;
	sm->queued = true;
	s->ready[s->nready++] = (struct model_work){ .rank = rank, .move = m };
}

static void model_queue_after(struct model *s, uint32_t rank, const struct model_move *sm)
{
	uint32_t i;

	for (i = 0; i < sm->nafter; i++)
		model_queue(s, rank, sm->after[i]);
}

/* The stream of a move's end, inputs first, or NULL for memory. */
static struct model_stream *model_stream(const struct model_rank *r, const struct model_move *sm,
					 uint32_t end)
{
	return r->stream[sm->move->end + end];
}

/* Whether grain g of a computed move has left it on all streams. */
static bool model_left(const struct model_rank *r, const struct model_move *sm, uint32_t g)
{
	uint32_t i;

	for (i = 0; i < sm->move->nout; i++) {
		const struct model_stream *st = model_stream(r, sm, sm->move->nin + i);

		if (st && st->state[g] != MODEL_CONSUMED)
			return false;
	}
	return true;
}

static void model_completed(struct model *s, uint32_t rank, uint32_t m);

/* Opens what the window has room for. */
static void model_open(struct model *s, uint32_t rank)
{
	struct model_rank *r = &s->ranks[rank];

	while (r->base < r->plan->nmoves && r->moves[r->base].complete)
		r->base++;
	while (r->next < r->plan->nmoves && r->next - r->base < r->window) {
		const uint32_t m = r->next++;

		r->moves[m].open = true;
		model_queue(s, rank, m);
	}
}

/* Completes a move when all of it is computed and has left. */
static void model_completed(struct model *s, uint32_t rank, uint32_t m)
{
	struct model_rank *r = &s->ranks[rank];
	struct model_move *sm = &r->moves[m];
	uint32_t i;

	if (!sm->open || sm->complete || sm->ncomputed < sm->ngrains)
		return;
	for (i = 0; i < sm->move->nout && !s->mode->sequential; i++) {
		const struct model_stream *st = model_stream(r, sm, sm->move->nin + i);

		if (st && st->consumed < sm->ngrains)
			return;
	}
	sm->complete = true;
	model_queue_after(s, rank, sm);
	if (m == r->base)
		model_open(s, rank);
}

/* The position of an element in a move's sequence. */
static uint32_t model_position(const struct model_move *sm, uint32_t elem)
{
	uint32_t low = 0, high = sm->npos;

	while (high - low > 1) {
		const uint32_t mid = low + (high - low) / 2;

		if (sm->off[mid] <= elem)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static bool model_empty(const struct model_move *sm)
{
	return sm->off[sm->npos] == 0;
}

static uint32_t model_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t model_max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Whether what elements [from, to) of the position need of an earlier move has happened. */
static bool model_dep_met(const struct model *s, const struct model_rank *r,
			  const struct gy_dep *dep, uint32_t from, uint32_t to)
{
	const struct model_move *src = &r->moves[dep->move];
	uint32_t g;

	for (g = from / s->mode->grain; g <= (to - 1) / s->mode->grain; g++)
		if (!src->computed[g] || (dep->kind == GY_DEP_FREE && !model_left(r, src, g)))
			return false;
	return true;
}

/* An empty move goes after moves that are over; what depends on an empty one is after all of it. */
static bool model_deps_met_whole(const struct model_rank *r, const struct model_move *sm)
{
	uint32_t i;

	for (i = 0; i < sm->move->ndeps; i++) {
		const struct gy_dep *dep = &r->plan->deps[sm->move->dep + i];
		const struct model_move *src = &r->moves[dep->move];

		if (model_empty(src) ? !src->computed[0] : model_empty(sm) && !src->complete)
			return false;
	}
	return true;
}

static bool model_deps_met(const struct model *s, const struct model_rank *r,
			   const struct model_move *sm, uint32_t from, uint32_t to)
{
	const uint32_t first = model_position(sm, from);
	const uint32_t last = from < to ? model_position(sm, to - 1) : 0;
	uint32_t i, pos;

	if (s->mode->sequential)
		return true;
	if (!model_deps_met_whole(r, sm))
		return false;
	for (i = 0; i < sm->move->ndeps && from < to; i++) {
		const struct gy_dep *dep = &r->plan->deps[sm->move->dep + i];
		const uint32_t end = model_min(dep->at + dep->n, last + 1);
		const struct model_move *src = &r->moves[dep->move];

		if (src->complete)
			continue;
		for (pos = model_max(dep->at, first); pos < end; pos++) {
			const uint32_t a = model_max(sm->off[pos], from);
			const uint32_t b = model_min(sm->off[pos + 1], to);
			const uint32_t there = src->off[dep->from + pos - dep->at];

			if (a < b && !model_dep_met(s, r, dep, there + a - sm->off[pos],
						    there + b - sm->off[pos]))
				return false;
		}
	}
	return true;
}

/* Whether inputs have come and slots are empty. */
static bool model_streams_ready(const struct model_rank *r, const struct model_move *sm, uint32_t g)
{
	uint32_t i;

	for (i = 0; i < (uint32_t)sm->move->nin + sm->move->nout; i++) {
		const struct model_stream *st = model_stream(r, sm, i);

		if (st && (i < sm->move->nin ? st->state[g] != MODEL_OFFERED : st->full))
			return false;
	}
	return true;
}

/* Element elem, at position pos, of one input, as it is now. */
static struct model_value model_read(const struct model *s, const struct model_rank *r,
				     const struct model_move *sm, uint32_t end, uint32_t pos,
				     uint32_t elem)
{
	const struct gy_end *e = &r->plan->ends[sm->move->end + end];
	const struct model_stream *st = model_stream(r, sm, end);
	uint32_t len, at;

	if (st && !st->memory)
		return st->slot[elem % s->mode->grain];
	if (st) {
		r = &s->ranks[st->src];
		e = st->memory;
	}
	at = model_block(s, e, pos, &len);
	return r->mem[e->space][at + elem - sm->off[pos]];
}

static struct model_value model_element(struct model *s, const struct model_rank *r,
					const struct model_move *sm, uint32_t pos, uint32_t elem)
{
	struct model_value v = model_read(s, r, sm, 0, pos, elem), next;
	bool valid = v.valid;
	uint32_t i;

	for (i = 1; i < sm->move->nin; i++) {
		next = model_read(s, r, sm, i, pos, elem);
		valid &= next.valid;
		v = model_reduce(s, v, next);
	}
	if (!valid)
		model_fail(s, "rank %d move %u reads what has not been written", r->plan->rank,
			   (uint32_t)(sm - r->moves));
	if (sm->move->nin > 1 && v.finals)
		model_fail(s, "rank %d move %u adds to what is final", r->plan->rank,
			   (uint32_t)(sm - r->moves));
	v.finals += sm->move->flags & GY_MOVE_FINAL;
	return v;
}

/* Computes elements [from, to): memory and slots. */
static void model_compute(struct model *s, const struct model_rank *r, const struct model_move *sm,
			  uint32_t from, uint32_t to)
{
	const struct gy_end *out = r->plan->ends + sm->move->end + sm->move->nin;
	uint32_t elem, i, len, pos = model_position(sm, from);

	for (elem = from; elem < to; elem++) {
		struct model_value v;

		while (sm->off[pos + 1] <= elem)
			pos++;
		v = model_element(s, r, sm, pos, elem);
		for (i = 0; i < sm->move->nout; i++) {
			const struct model_stream *st = model_stream(r, sm, sm->move->nin + i);

			if (!st)
				r->mem[out[i].space][model_block(s, &out[i], pos, &len) + elem -
						     sm->off[pos]] = v;
			else if (!st->memory)
				st->slot[elem % s->mode->grain] = v;
		}
	}
}

/* After grain g: inputs are consumed, outputs offered, and others may go on. */
static void model_tell(struct model *s, uint32_t rank, struct model_move *sm, uint32_t g)
{
	const struct model_rank *r = &s->ranks[rank];
	uint32_t i;

	for (i = 0; i < (uint32_t)sm->move->nin + sm->move->nout; i++) {
		struct model_stream *st = model_stream(r, sm, i);

		if (!st)
			continue;
		if (i >= sm->move->nin) {
			st->state[g] = MODEL_OFFERED;
			st->full = !st->memory;
			model_queue(s, st->dst, st->dmove);
			continue;
		}
		st->state[g] = MODEL_CONSUMED;
		st->consumed++;
		st->full = false;
		model_queue(s, st->src, st->smove);
		model_queue_after(s, st->src, &s->ranks[st->src].moves[st->smove]);
		model_completed(s, st->src, st->smove);
	}
	model_queue_after(s, rank, sm);
}

/* Runs grain g of a move if it can. */
static bool model_grain(struct model *s, uint32_t rank, uint32_t m, uint32_t g)
{
	const struct model_rank *r = &s->ranks[rank];
	struct model_move *sm = &r->moves[m];
	const uint32_t from = g * s->mode->grain;
	const uint32_t to = model_min(from + s->mode->grain, sm->off[sm->npos]);

	if (sm->computed[g] || !model_streams_ready(r, sm, g) ||
	    !model_deps_met(s, r, sm, from, to))
		return false;
	if (!sm->sends || s->mode->sequential)
		model_compute(s, r, sm, from, to);
	sm->computed[g] = 1;
	sm->ncomputed++;
	model_tell(s, rank, sm, g);
	model_completed(s, rank, m);
	return true;
}

/* Runs some grain of a move. */
static bool model_move(struct model *s, uint32_t rank, uint32_t m)
{
	struct model_move *sm = &s->ranks[rank].moves[m];
	uint32_t i, left, start = 0;

	while (sm->first_left < sm->ngrains && sm->computed[sm->first_left])
		sm->first_left++;
	left = sm->ngrains - sm->first_left;
	if (!left)
		return false;
	if (s->mode->in_order || sm->slotted)
		return model_grain(s, rank, m, sm->first_left);
	start = plan_random(&s->random) % left;
	for (i = 0; i < left; i++)
		if (model_grain(s, rank, m, sm->first_left + (start + i) % left))
			return true;
	return false;
}

/* Takes out of the queue the move of highest priority among some. */
static struct model_work model_choose(struct model *s)
{
	const uint32_t n = model_min(s->nready, MODEL_CHOICES);
	const uint32_t start = plan_random(&s->random) % s->nready;
	uint32_t i, best = start, best_priority = 0;
	struct model_work w;

	for (i = 0; i < n; i++) {
		const uint32_t at = (start + i) % s->nready;
		const uint32_t priority =
			s->ranks[s->ready[at].rank].moves[s->ready[at].move].priority;

		if (priority >= best_priority) {
			best = at;
			best_priority = priority;
		}
	}
	w = s->ready[best];
	s->ready[best] = s->ready[--s->nready];
	s->ranks[w.rank].moves[w.move].queued = false;
	return w;
}

void model_run(struct model *s)
{
	int r;

	for (r = 0; r < s->set->nranks; r++)
		model_open(s, r);
	while (s->nready && !s->why[0]) {
		const struct model_work w = model_choose(s);

		if (model_move(s, w.rank, w.move))
			model_queue(s, w.rank, w.move);
	}
	for (r = 0; r < s->set->nranks; r++)
		if (s->ranks[r].base < s->ranks[r].plan->nmoves)
			model_fail(s, "deadlock: rank %d is stuck in move %u", r, s->ranks[r].base);
}
