/* SPDX-License-Identifier: BSD-3-Clause */
/* The checker's executor: one random possible grain after the other; see plan_check.h. */
#include "tests/unit/plan_sim.h"

#define SIM_CHOICES 12	/* moves among which the one of highest priority goes first */

static void sim_queue(struct sim *s, uint32_t rank, uint32_t m)
{
	struct sim_move *sm = &s->ranks[rank].moves[m];

	if (!sm->open || sm->complete || sm->queued)
		return;
	sm->queued = true;
	s->ready[s->nready++] = (struct sim_work){ .rank = rank, .move = m };
}

static void sim_queue_after(struct sim *s, uint32_t rank, const struct sim_move *sm)
{
	uint32_t i;

	for (i = 0; i < sm->nafter; i++)
		sim_queue(s, rank, sm->after[i]);
}

/* The stream of a move's end, inputs first, or NULL for memory. */
static struct sim_stream *sim_stream(const struct sim_rank *r, const struct sim_move *sm,
				     uint32_t end)
{
	return r->stream[sm->move->end + end];
}

/* Whether grain g of a computed move has left it on all streams. */
static bool sim_left(const struct sim_rank *r, const struct sim_move *sm, uint32_t g)
{
	uint32_t i;

	for (i = 0; i < sm->move->nout; i++) {
		const struct sim_stream *st = sim_stream(r, sm, sm->move->nin + i);

		if (st && st->state[g] != SIM_CONSUMED)
			return false;
	}
	return true;
}

static void sim_completed(struct sim *s, uint32_t rank, uint32_t m);

/* Opens what the window has room for. */
static void sim_open(struct sim *s, uint32_t rank)
{
	struct sim_rank *r = &s->ranks[rank];

	while (r->base < r->plan->nmoves && r->moves[r->base].complete)
		r->base++;
	while (r->next < r->plan->nmoves && r->next - r->base < r->window) {
		const uint32_t m = r->next++;

		r->moves[m].open = true;
		sim_queue(s, rank, m);
	}
}

/* Completes a move when all of it is computed and has left. */
static void sim_completed(struct sim *s, uint32_t rank, uint32_t m)
{
	struct sim_rank *r = &s->ranks[rank];
	struct sim_move *sm = &r->moves[m];
	uint32_t i;

	if (!sm->open || sm->complete || sm->ncomputed < sm->ngrains)
		return;
	for (i = 0; i < sm->move->nout && !s->mode->sequential; i++) {
		const struct sim_stream *st = sim_stream(r, sm, sm->move->nin + i);

		if (st && st->consumed < sm->ngrains)
			return;
	}
	sm->complete = true;
	sim_queue_after(s, rank, sm);
	if (m == r->base)
		sim_open(s, rank);
}

/* The position of an element in a move's sequence. */
static uint32_t sim_position(const struct sim_move *sm, uint32_t elem)
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

static bool sim_empty(const struct sim_move *sm)
{
	return sm->off[sm->npos] == 0;
}

static uint32_t sim_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t sim_max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Whether what elements [from, to) of the position need of an earlier move has happened. */
static bool sim_dep_met(const struct sim *s, const struct sim_rank *r, const struct gy_dep *dep,
			uint32_t from, uint32_t to)
{
	const struct sim_move *src = &r->moves[dep->move];
	uint32_t g;

	for (g = from / s->mode->grain; g <= (to - 1) / s->mode->grain; g++)
		if (!src->computed[g] || (dep->kind == GY_DEP_FREE && !sim_left(r, src, g)))
			return false;
	return true;
}

/* An empty move goes after moves that are over; what depends on an empty one is after all of it. */
static bool sim_deps_met_whole(const struct sim_rank *r, const struct sim_move *sm)
{
	uint32_t i;

	for (i = 0; i < sm->move->ndeps; i++) {
		const struct gy_dep *dep = &r->plan->deps[sm->move->dep + i];
		const struct sim_move *src = &r->moves[dep->move];

		if (sim_empty(src) ? !src->computed[0] : sim_empty(sm) && !src->complete)
			return false;
	}
	return true;
}

static bool sim_deps_met(const struct sim *s, const struct sim_rank *r, const struct sim_move *sm,
			 uint32_t from, uint32_t to)
{
	const uint32_t first = sim_position(sm, from);
	const uint32_t last = from < to ? sim_position(sm, to - 1) : 0;
	uint32_t i, pos;

	if (s->mode->sequential)
		return true;
	if (!sim_deps_met_whole(r, sm))
		return false;
	for (i = 0; i < sm->move->ndeps && from < to; i++) {
		const struct gy_dep *dep = &r->plan->deps[sm->move->dep + i];
		const uint32_t end = sim_min(dep->at + dep->n, last + 1);
		const struct sim_move *src = &r->moves[dep->move];

		if (src->complete)
			continue;
		for (pos = sim_max(dep->at, first); pos < end; pos++) {
			const uint32_t a = sim_max(sm->off[pos], from);
			const uint32_t b = sim_min(sm->off[pos + 1], to);
			const uint32_t there = src->off[dep->from + pos - dep->at];

			if (a < b && !sim_dep_met(s, r, dep, there + a - sm->off[pos],
						  there + b - sm->off[pos]))
				return false;
		}
	}
	return true;
}

/* Whether inputs have come and slots are empty. */
static bool sim_streams_ready(const struct sim_rank *r, const struct sim_move *sm, uint32_t g)
{
	uint32_t i;

	for (i = 0; i < (uint32_t)sm->move->nin + sm->move->nout; i++) {
		const struct sim_stream *st = sim_stream(r, sm, i);

		if (st && (i < sm->move->nin ? st->state[g] != SIM_OFFERED : st->full))
			return false;
	}
	return true;
}

struct sim_value sim_reduce(const struct sim *s, struct sim_value a, struct sim_value b)
{
	a.tree = sim_mix(a.tree, b.tree);
	if (s->set->algo->coll == GY_BARRIER) {
		a.sum |= b.sum;		/* hearing twice of a rank does no harm */
		a.tree = 0;
	} else {
		a.sum += b.sum;
	}
	a.finals += b.finals;
	return a;
}

/* Element elem, at position pos, of one input, as it is now. */
static struct sim_value sim_read(const struct sim *s, const struct sim_rank *r,
				 const struct sim_move *sm, uint32_t end, uint32_t pos,
				 uint32_t elem)
{
	const struct gy_end *e = &r->plan->ends[sm->move->end + end];
	const struct sim_stream *st = sim_stream(r, sm, end);
	uint32_t len, at;

	if (st && !st->memory)
		return st->slot[elem % s->mode->grain];
	if (st) {
		r = &s->ranks[st->src];
		e = st->memory;
	}
	at = sim_block(s, e, pos, &len);
	return r->mem[e->space][at + elem - sm->off[pos]];
}

static struct sim_value sim_element(struct sim *s, const struct sim_rank *r,
				    const struct sim_move *sm, uint32_t pos, uint32_t elem)
{
	struct sim_value v = sim_read(s, r, sm, 0, pos, elem), next;
	bool valid = v.valid;
	uint32_t i;

	for (i = 1; i < sm->move->nin; i++) {
		next = sim_read(s, r, sm, i, pos, elem);
		valid &= next.valid;
		v = sim_reduce(s, v, next);
	}
	if (!valid)
		sim_fail(s, "rank %d move %u reads what has not been written", r->plan->rank,
			 (uint32_t)(sm - r->moves));
	if (sm->move->nin > 1 && v.finals)
		sim_fail(s, "rank %d move %u adds to what is final", r->plan->rank,
			 (uint32_t)(sm - r->moves));
	v.finals += sm->move->flags & GY_MOVE_FINAL;
	return v;
}

/* Computes elements [from, to): memory and slots. */
static void sim_compute(struct sim *s, const struct sim_rank *r, const struct sim_move *sm,
			uint32_t from, uint32_t to)
{
	const struct gy_end *out = r->plan->ends + sm->move->end + sm->move->nin;
	uint32_t elem, i, len, pos = sim_position(sm, from);

	for (elem = from; elem < to; elem++) {
		struct sim_value v;

		while (sm->off[pos + 1] <= elem)
			pos++;
		v = sim_element(s, r, sm, pos, elem);
		for (i = 0; i < sm->move->nout; i++) {
			const struct sim_stream *st = sim_stream(r, sm, sm->move->nin + i);

			if (!st)
				r->mem[out[i].space]
				      [sim_block(s, &out[i], pos, &len) + elem - sm->off[pos]] = v;
			else if (!st->memory)
				st->slot[elem % s->mode->grain] = v;
		}
	}
}

/* After grain g: inputs are consumed, outputs offered, and others may go on. */
static void sim_tell(struct sim *s, uint32_t rank, struct sim_move *sm, uint32_t g)
{
	const struct sim_rank *r = &s->ranks[rank];
	uint32_t i;

	for (i = 0; i < (uint32_t)sm->move->nin + sm->move->nout; i++) {
		struct sim_stream *st = sim_stream(r, sm, i);

		if (!st)
			continue;
		if (i >= sm->move->nin) {
			st->state[g] = SIM_OFFERED;
			st->full = !st->memory;
			sim_queue(s, st->dst, st->dmove);
			continue;
		}
		st->state[g] = SIM_CONSUMED;
		st->consumed++;
		st->full = false;
		sim_queue(s, st->src, st->smove);
		sim_queue_after(s, st->src, &s->ranks[st->src].moves[st->smove]);
		sim_completed(s, st->src, st->smove);
	}
	sim_queue_after(s, rank, sm);
}

/* Runs grain g of a move if it can. */
static bool sim_grain(struct sim *s, uint32_t rank, uint32_t m, uint32_t g)
{
	const struct sim_rank *r = &s->ranks[rank];
	struct sim_move *sm = &r->moves[m];
	const uint32_t from = g * s->mode->grain;
	const uint32_t to = sim_min(from + s->mode->grain, sm->off[sm->npos]);

	if (sm->computed[g] || !sim_streams_ready(r, sm, g) || !sim_deps_met(s, r, sm, from, to))
		return false;
	if (!sm->sends || s->mode->sequential)
		sim_compute(s, r, sm, from, to);
	sm->computed[g] = 1;
	sm->ncomputed++;
	sim_tell(s, rank, sm, g);
	sim_completed(s, rank, m);
	return true;
}

/* Runs some grain of a move. */
static bool sim_move(struct sim *s, uint32_t rank, uint32_t m)
{
	struct sim_move *sm = &s->ranks[rank].moves[m];
	uint32_t i, left, start = 0;

	while (sm->first_left < sm->ngrains && sm->computed[sm->first_left])
		sm->first_left++;
	left = sm->ngrains - sm->first_left;
	if (!left)
		return false;
	if (s->mode->in_order || sm->slotted)
		return sim_grain(s, rank, m, sm->first_left);
	start = plan_random(&s->random) % left;
	for (i = 0; i < left; i++)
		if (sim_grain(s, rank, m, sm->first_left + (start + i) % left))
			return true;
	return false;
}

/* Takes out of the queue the move of highest priority among some. */
static struct sim_work sim_choose(struct sim *s)
{
	const uint32_t n = sim_min(s->nready, SIM_CHOICES);
	const uint32_t start = plan_random(&s->random) % s->nready;
	uint32_t i, best = start, best_priority = 0;
	struct sim_work w;

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

void sim_run(struct sim *s)
{
	int r;

	for (r = 0; r < s->set->nranks; r++)
		sim_open(s, r);
	while (s->nready && !s->why[0]) {
		const struct sim_work w = sim_choose(s);

		if (sim_move(s, w.rank, w.move))
			sim_queue(s, w.rank, w.move);
	}
	for (r = 0; r < s->set->nranks; r++)
		if (s->ranks[r].base < s->ranks[r].plan->nmoves)
			sim_fail(s, "deadlock: rank %d is stuck in move %u", r, s->ranks[r].base);
}
