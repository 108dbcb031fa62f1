/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dependencies of a plan, derived from the blocks that its moves read and write.
 *
 * One pass in program order.  Each block of memory knows the move that wrote it last and the moves
 * that have read it since; a move that touches the block gives one edge per hazard:
 *
 *	read after write	after the writer
 *	write after read	after each reader since the last write
 *	write after write	after the writer; readers since then imply it, but for FREE
 *
 * The edges of a move, sorted, become runs of positions: one gy_dep each.
 * Cost: O(touches) and a sort of each move's edges.
 */
#include <errno.h>
#include <stdlib.h>
#include "lib/alloc.h"
#include "lib/plan_priv.h"
#include "lib/util.h"

#define DEPS_NONE UINT32_MAX

/* Where a move's out streams take their bytes from while they are on their way. */
enum deps_source { DEPS_SLOTS, DEPS_INPUT, DEPS_OUTPUT };

struct deps_block {
	uint32_t writer, writer_at;	/* move and position; DEPS_NONE: not written */
	uint32_t readers;		/* list in deps.reads */
};

struct deps_read {
	uint32_t move, at, next;
};

struct deps_edge {
	uint32_t move, at, from;
	uint8_t kind;
};

struct deps {
	struct gy_plan *pl;
	struct deps_block *blocks;
	struct deps_read *reads;	/* pool; free ones linked from free_reads */
	uint32_t nreads, reads_cap, free_reads;
	struct deps_edge *edges;	/* of the move in hand */
	uint32_t nedges, edges_cap;
	uint32_t deps_cap;
	uint8_t *source;		/* enum deps_source by move */
};

/* Room for one more of what array has n of. */
static int deps_grow(void **array, uint32_t *cap, uint32_t n, size_t size)
{
	void *grown;

	if (n < *cap)
		return 0;
	grown = gy_realloc_array(*array, *cap ? *cap * 2 : 64, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = *cap ? *cap * 2 : 64;
	return 0;
}

static struct deps_block *deps_at(struct deps *d, const struct gy_end *e, uint32_t i)
{
	const struct gy_builder *b = d->pl->builder;
	const uint32_t block = gy_range_block(&e->range, i), n = d->pl->nblocks;

	if (e->space == GY_OUT)
		return &d->blocks[block];
	if (e->space == GY_SCRATCH)
		return &d->blocks[2 * n + block];
	return &d->blocks[b->in_place ? block + b->alias : n + block];
}

static int deps_edge(struct deps *d, uint32_t move, uint32_t at, uint32_t from, bool sent_from)
{
	int err = deps_grow((void **)&d->edges, &d->edges_cap, d->nedges, sizeof(*d->edges));

	if (!err)
		d->edges[d->nedges++] = (struct deps_edge){
			.move = move,
			.at = at,
			.from = from,
			.kind = sent_from ? GY_DEP_FREE : GY_DEP_DONE,
		};
	return err;
}

static int deps_input(struct deps *d, const struct gy_end *e)
{
	uint32_t i;

	for (i = 0; i < e->range.count; i++) {
		const struct deps_block *block = deps_at(d, e, i);
		int err = 0;

		if (block->writer != DEPS_NONE)
			err = deps_edge(d, block->writer, i, block->writer_at, false);
		if (err)
			return err;
	}
	return 0;
}

/* Hazards of move m writing its i-th block; it becomes the block's writer. */
static int deps_write(struct deps *d, uint32_t m, uint32_t i, struct deps_block *block)
{
	int err = 0;

	if (block->writer != DEPS_NONE) {
		const bool sent_from = d->source[block->writer] == DEPS_OUTPUT;

		if (sent_from || block->readers == DEPS_NONE)
			err = deps_edge(d, block->writer, i, block->writer_at, sent_from);
	}
	while (!err && block->readers != DEPS_NONE) {
		const uint32_t r = block->readers;
		struct deps_read *read = &d->reads[r];

		err = deps_edge(d, read->move, i, read->at, d->source[read->move] == DEPS_INPUT);
		block->readers = read->next;
		read->next = d->free_reads;
		d->free_reads = r;
	}
	block->writer = m;
	block->writer_at = i;
	return err;
}

/* Notes that move m reads block at position i. */
static int deps_read(struct deps *d, uint32_t m, uint32_t i, struct deps_block *block)
{
	uint32_t r = d->free_reads;
	int err;

	if (block->writer == m)		/* elementwise in place; any other order has no meaning */
		return block->writer_at == i ? 0 : -EINVAL;
	if (r != DEPS_NONE) {
		d->free_reads = d->reads[r].next;
	} else {
		err = deps_grow((void **)&d->reads, &d->reads_cap, d->nreads, sizeof(*d->reads));
		if (err)
			return err;
		r = d->nreads++;
	}
	d->reads[r] = (struct deps_read){ .move = m, .at = i, .next = block->readers };
	block->readers = r;
	return 0;
}

static int deps_by_source(const void *va, const void *vb)
{
	const struct deps_edge *a = va, *b = vb;
	const uint32_t da = a->from - a->at, db = b->from - b->at;

	if (a->move != b->move)
		return a->move < b->move ? -1 : 1;
	if (da != db)
		return da < db ? -1 : 1;
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	return b->kind - a->kind;	/* FREE first: it covers DONE */
}

/* Turns the edges of move m into its deps. */
static int deps_merge(struct deps *d, uint32_t m)
{
	struct gy_plan *pl = d->pl;
	struct gy_move *move = &pl->moves[m];
	uint32_t i;

	move->dep = pl->ndeps;
	if (d->nedges > 1)
		qsort(d->edges, d->nedges, sizeof(*d->edges), deps_by_source);
	for (i = 0; i < d->nedges; i++) {
		const struct deps_edge *e = &d->edges[i];
		struct gy_dep *last = move->ndeps ? &pl->deps[pl->ndeps - 1] : NULL;
		int err;

		if (i && e->move == e[-1].move && e->at == e[-1].at && e->from == e[-1].from)
			continue;
		if (last && last->move == e->move && last->kind == e->kind &&
		    last->at + last->n == e->at && last->from + last->n == e->from) {
			last->n++;
			continue;
		}
		err = deps_grow((void **)&pl->deps, &d->deps_cap, pl->ndeps, sizeof(*pl->deps));
		if (err)
			return err;
		pl->deps[pl->ndeps++] = (struct gy_dep){
			.move = e->move, .at = e->at, .from = e->from, .n = 1, .kind = e->kind,
		};
		move->ndeps++;
	}
	return 0;
}

static int deps_move(struct deps *d, uint32_t m)
{
	const struct gy_move *move = &d->pl->moves[m];
	const struct gy_end *in = &d->pl->ends[move->end], *out = in + move->nin, *memory = NULL;
	uint32_t e, i;
	int err = 0;

	d->nedges = 0;
	for (e = 0; e < move->nin && !err; e++)
		if (in[e].space != GY_STREAM)
			err = deps_input(d, &in[e]);
	for (e = 0; e < move->nout; e++)
		if (out[e].space != GY_STREAM)
			memory = &out[e];
	for (i = 0; memory && i < memory->range.count && !err; i++)
		err = deps_write(d, m, i, deps_at(d, memory, i));
	for (e = 0; e < move->nin; e++)
		for (i = 0; in[e].space != GY_STREAM && i < in[e].range.count && !err; i++)
			err = deps_read(d, m, i, deps_at(d, &in[e], i));
	if (memory)
		d->source[m] = move->nout > 1 ? DEPS_OUTPUT : DEPS_SLOTS;
	else
		d->source[m] = move->nin == 1 ? DEPS_INPUT : DEPS_SLOTS;
	return err ? err : deps_merge(d, m);
}

int gy_plan_derive(struct gy_plan *pl)
{
	const uint32_t nblocks = (2 + pl->nscratch) * pl->nblocks;
	struct deps d = { .pl = pl, .free_reads = DEPS_NONE };
	uint32_t i;
	int err = 0;

	d.blocks = gy_alloc_array(nblocks, sizeof(*d.blocks));
	d.source = gy_alloc_array(pl->nmoves, sizeof(*d.source));
	if (!d.blocks || !d.source)
		err = -ENOMEM;
	for (i = 0; i < nblocks && !err; i++)
		d.blocks[i] = (struct deps_block){ .writer = DEPS_NONE, .readers = DEPS_NONE };
	for (i = 0; i < pl->nmoves && !err; i++)
		err = deps_move(&d, i);
	gy_free(d.blocks);
	gy_free(d.reads);
	gy_free(d.edges);
	gy_free(d.source);
	return err;
}
