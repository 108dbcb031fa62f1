/* SPDX-License-Identifier: BSD-3-Clause */
/* The checker's layout: lengths of blocks, memory with its inputs, streams; see plan_check.h. */
#include "tests/unit/plan_model.h"

static void layout_sizes(struct model *s)
{
	const enum gy_coll coll = s->set->algo->coll;
	enum plan_sizes sizes = s->mode->sizes;
	uint32_t b, n = s->nblocks, total, q;

	s->len = model_alloc(s, n, sizeof(*s->len));
	s->off = model_alloc(s, n + 1, sizeof(*s->off));
	if (coll == GY_REDUCE_SCATTER || coll == GY_ALLGATHER)
		sizes = PLAN_EQUAL;
	total = plan_random(&s->random) % (n * s->mode->unit + 1);
	q = (total + n - 1) / n;
	for (b = 0; b < n; b++) {
		if (coll == GY_BARRIER)
			s->len[b] = 1;	/* the model's message; the engine's has no bytes */
		else if (sizes == PLAN_EQUAL)
			s->len[b] = s->mode->unit;
		else if (sizes == PLAN_RANDOM)
			s->len[b] = plan_random(&s->random) % (s->mode->unit + 1);
		else
			s->len[b] = b * q >= total ? 0 : total - b * q < q ? total - b * q : q;
		s->off[b + 1] = s->off[b] + s->len[b];
	}
}

static void layout_memory(struct model *s, int rank)
{
	const enum gy_coll coll = s->set->algo->coll;
	struct model_rank *r = &s->ranks[rank];
	const uint32_t n = s->nblocks, total = s->off[n];
	struct model_value *in;
	uint32_t i, first = 0, count = total;

	r->nblocks[GY_IN] = coll == GY_BROADCAST || coll == GY_BARRIER ? 0
			    : coll == GY_ALLGATHER		       ? 1
								       : n;
	r->nblocks[GY_OUT] = coll == GY_REDUCE_SCATTER && !s->set->in_place ? 1 : n;
	r->nblocks[GY_SCRATCH] = r->plan->nscratch * n;
	r->mem[GY_OUT] = model_alloc(s, total, sizeof(**r->mem));
	r->mem[GY_SCRATCH] = model_alloc(s, (size_t)r->plan->nscratch * total, sizeof(**r->mem));
	if (coll == GY_ALLGATHER) {
		first = s->off[rank];
		count = s->len[rank];
	} else if (coll == GY_BROADCAST && rank != s->set->root) {
		count = 0;
	} else if (coll == GY_BARRIER) {
		count = 1;	/* it has heard of itself */
	}
	if (s->set->in_place)	/* block 0 of IN; for allgather its only one */
		r->mem[GY_IN] = r->mem[GY_OUT] + first;
	else
		r->mem[GY_IN] = model_alloc(s, total, sizeof(**r->mem));
	in = r->nblocks[GY_IN] ? r->mem[GY_IN] : r->mem[GY_OUT];
	for (i = 0; i < count; i++)
		in[i] = model_leaf(s, rank, first + i);
}

/* In one run of three all moves are alike, else some ranks are late with everything. */
static uint32_t layout_priority(struct model *s, uint32_t rank)
{
	const uint32_t kind = s->mode->seed % 3, random = plan_random(&s->random) >> 34;
	const uint64_t of_rank = model_mix(s->mode->seed, rank);

	if (kind == 0)
		return random;
	if (kind == 1)
		return (of_rank % 4 == 0 ? 0 : 1u << 30) + random;
	return (of_rank % 4 << 30) + random;
}

/* Offsets of a move's positions; its memory ends must agree on them. */
static void layout_move(struct model *s, uint32_t rank, uint32_t m)
{
	struct model_rank *r = &s->ranks[rank];
	struct model_move *sm = &r->moves[m];
	const struct gy_end *e = r->plan->ends + r->plan->moves[m].end;
	uint32_t i, pos, len;

	sm->move = &r->plan->moves[m];
	for (i = 0; i < (uint32_t)sm->move->nin + sm->move->nout; i++) {
		if (e[i].space == GY_STREAM)
			continue;
		if (!sm->off) {
			sm->npos = e[i].range.count;
			sm->off = model_alloc(s, sm->npos + 1, sizeof(*sm->off));
		}
		for (pos = 0; pos < sm->npos; pos++) {
			if (gy_range_block(&e[i].range, pos) >= r->nblocks[e[i].space]) {
				model_fail(s, "rank %u move %u: there is no such block", rank, m);
				return;
			}
			model_block(s, &e[i], pos, &len);
			if (sm->off[pos + 1] && sm->off[pos + 1] != sm->off[pos] + len)
				model_fail(s, "rank %u move %u: blocks of unequal length", rank, m);
			sm->off[pos + 1] = sm->off[pos] + len;
		}
	}
	sm->ngrains = (sm->off[sm->npos] + s->mode->grain - 1) / s->mode->grain;
	if (!sm->ngrains)
		sm->ngrains = 1;
	sm->computed = model_alloc(s, sm->ngrains, 1);
	sm->priority = layout_priority(s, rank);
}

/* Where the streams of each pair of ranks begin: begin[src * p + dst]. */
static void layout_count(struct model *s, uint32_t *begin)
{
	const uint32_t p = s->set->nranks;
	uint32_t r, i;

	for (r = 0; r < p; r++) {
		const struct gy_plan *pl = s->ranks[r].plan;
		uint32_t m;

		for (m = 0; m < pl->nmoves; m++)
			for (i = 0; i < pl->moves[m].nout; i++) {
				const struct gy_end *e =
					&pl->ends[pl->moves[m].end + pl->moves[m].nin + i];

				if (e->space == GY_STREAM)
					begin[r * p + e->peer + 1]++;
			}
	}
	for (i = 0; i < p * p; i++)
		begin[i + 1] += begin[i];
}

/* Enters one side of a stream. */
static void layout_stream(struct model *s, const uint32_t *begin, uint32_t rank, uint32_t m,
			  uint32_t end, bool out)
{
	struct model_rank *r = &s->ranks[rank];
	const struct gy_end *e = &r->plan->ends[end];
	const uint32_t p = s->set->nranks, pair = out ? rank * p + e->peer : e->peer * p + rank;
	struct model_stream *st = &s->streams[begin[pair] + e->stream];

	if (e->stream >= begin[pair + 1] - begin[pair] || (out ? st->sent : st->received)) {
		model_fail(s, "rank %u move %u: stream %u of %d does not fit", rank, m, e->stream,
			   e->peer);
		return;
	}
	r->stream[end] = st;
	if (out) {
		st->sent = true;
		st->src = rank;
		st->smove = m;
	} else {
		st->received = true;
		st->dst = rank;
		st->dmove = m;
	}
}

/* Where the streams of a move get their bytes from. */
static void layout_sources(struct model *s, struct model_rank *r, struct model_move *sm)
{
	const struct gy_end *in = r->plan->ends + sm->move->end, *out = in + sm->move->nin;
	const struct gy_end *memory = sm->move->nin == 1 && in->space != GY_STREAM ? in : NULL;
	uint32_t i, total = sm->off[sm->npos];

	for (i = 0; i < sm->move->nout; i++)
		if (out[i].space != GY_STREAM)
			memory = &out[i];
	sm->sends = memory == in;
	for (i = 0; i < sm->move->nout; i++) {
		struct model_stream *st = r->stream[sm->move->end + sm->move->nin + i];

		if (!st)
			continue;
		st->state = model_alloc(s, sm->ngrains, 1);
		st->memory = s->mode->sequential ? NULL : memory;
		if (st->memory)
			continue;
		sm->slotted = true;
		st->slot = model_alloc(s, total < s->mode->grain ? total : s->mode->grain,
				       sizeof(*st->slot));
	}
}

/* Both sides of a stream must be of one shape. */
static void layout_compare(struct model *s, const struct model_stream *st)
{
	const struct model_move *a, *b;
	uint32_t i;

	if (!st->sent || !st->received) {
		model_fail(s, "rank %u move %u: nobody takes the stream", st->src, st->smove);
		return;
	}
	a = &s->ranks[st->src].moves[st->smove];
	b = &s->ranks[st->dst].moves[st->dmove];
	for (i = 0; i < a->npos && a->npos == b->npos && a->off[i] == b->off[i];)
		i++;
	if (a->npos != b->npos || a->off[i] != b->off[i])
		model_fail(s, "rank %u move %u and rank %u move %u: a stream of two lengths",
			   st->src, st->smove, st->dst, st->dmove);
}

static void layout_streams(struct model *s)
{
	const uint32_t p = s->set->nranks;
	uint32_t *begin = model_alloc(s, (size_t)p * p + 1, sizeof(*begin));
	uint32_t r, m, i;

	layout_count(s, begin);
	s->streams = model_alloc(s, begin[p * p], sizeof(*s->streams));
	for (r = 0; r < p; r++) {
		struct model_rank *sr = &s->ranks[r];
		const struct gy_plan *pl = sr->plan;

		sr->stream = model_alloc(s, pl->nends, sizeof(*sr->stream));
		for (m = 0; m < pl->nmoves; m++) {
			const struct gy_move *move = &pl->moves[m];

			for (i = 0; i < (uint32_t)move->nin + move->nout; i++)
				if (pl->ends[move->end + i].space == GY_STREAM)
					layout_stream(s, begin, r, m, move->end + i,
						      i >= move->nin);
			layout_sources(s, sr, &sr->moves[m]);
		}
	}
	for (i = 0; i < begin[p * p]; i++)
		layout_compare(s, &s->streams[i]);
}

/* Turns deps round: who may go on when a move has. */
static void layout_after(struct model *s, struct model_rank *r)
{
	const struct gy_plan *pl = r->plan;
	uint32_t m, i;

	for (i = 0; i < pl->ndeps; i++)
		r->moves[pl->deps[i].move].nafter++;
	for (m = 0; m < pl->nmoves; m++) {
		r->moves[m].after = model_alloc(s, r->moves[m].nafter, sizeof(uint32_t));
		r->moves[m].nafter = 0;
	}
	for (m = 0; m < pl->nmoves; m++)
		for (i = 0; i < pl->moves[m].ndeps; i++) {
			struct model_move *sm = &r->moves[pl->deps[pl->moves[m].dep + i].move];

			sm->after[sm->nafter++] = m;
		}
}

static uint32_t layout_window(const struct model *s, const struct gy_plan *pl)
{
	const int window = s->mode->window, min = pl->min_window;

	if (s->mode->sequential)
		return 1;
	if (window > 0)
		return window > min ? window : min;
	return min + window > 1 ? min + window : 1;
}

void model_layout(struct model *s)
{
	const uint32_t p = s->set->nranks;
	uint32_t r, m, nmoves = 0;

	s->nblocks = s->set->plans[0]->nblocks;
	s->ranks = model_alloc(s, p, sizeof(*s->ranks));
	layout_sizes(s);
	for (r = 0; r < p; r++) {
		struct model_rank *sr = &s->ranks[r];

		sr->plan = s->set->plans[r];
		if (sr->plan->nblocks != s->nblocks)
			model_fail(s, "rank %u has another grid than rank 0", r);
		sr->window = layout_window(s, sr->plan);
		sr->moves = model_alloc(s, sr->plan->nmoves, sizeof(*sr->moves));
		layout_memory(s, r);
		for (m = 0; m < sr->plan->nmoves; m++)
			layout_move(s, r, m);
		layout_after(s, sr);
		nmoves += sr->plan->nmoves;
	}
	s->ready = model_alloc(s, nmoves, sizeof(*s->ready));
	if (!s->why[0])
		layout_streams(s);
}
