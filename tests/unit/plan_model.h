/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_PLAN_MODEL_H
#define TESTS_PLAN_MODEL_H
/* The parts of the checker: plan_layout.c lays out, plan_model.c executes, plan_check.c judges. */
#include "tests/unit/plan_check.h"

struct model_value {
	uint64_t sum;		/* of random leaves: says which inputs are in, each once */
	uint64_t tree;		/* hash of the expression */
	uint32_t finals;	/* final moves on the way */
	bool valid;
};

struct model_stream {
	uint32_t src, smove;	/* who sends, in which move */
	uint32_t dst, dmove;
	const struct gy_end *memory;	/* sent out of this; NULL: through slot */
	struct model_value *slot;
	uint8_t *state;		/* by grain: enum model_grain */
	uint32_t consumed;	/* grains */
	bool full;		/* the slot holds a grain */
	bool sent, received;	/* the two sides have been seen */
};

enum model_grain { MODEL_NOT_YET, MODEL_OFFERED, MODEL_CONSUMED };

struct model_move {
	const struct gy_move *move;
	uint32_t npos, ngrains;
	uint32_t *off;		/* npos + 1: where positions begin, elements */
	uint8_t *computed;	/* by grain */
	uint32_t ncomputed, first_left;	/* grains; the first not computed */
	uint32_t *after;	/* later moves that depend on this one, some more than once */
	uint32_t nafter;
	uint32_t priority;
	bool open, complete, queued;
	bool slotted;		/* has an out stream through a slot: grains in order */
	bool sends;		/* nothing to compute: memory to streams */
};

struct model_rank {
	const struct gy_plan *plan;
	struct model_move *moves;
	struct model_stream **stream;	/* by end; NULL: memory */
	struct model_value *mem[3];	/* by enum gy_space */
	uint32_t nblocks[3];	/* that exist */
	uint32_t base, next, window;
};

struct model_work {
	uint32_t rank, move;
};

struct model {
	const struct plan_set *set;
	const struct plan_mode *mode;
	uint32_t nblocks;	/* of the grid */
	uint32_t *len, *off;	/* of its blocks, elements */
	struct model_rank *ranks;
	struct model_stream *streams;
	struct model_work *ready;	/* moves that may be able to do something */
	uint32_t nready;
	uint64_t random;
	struct model_value *sums;	/* of each element: what all inputs make in rank order */
	struct model_arena *arena;
	char why[256];		/* the first thing that is wrong */
};

/* plan_check.c */
void *model_alloc(struct model *s, size_t n, size_t size);	/* zeroed; lives as long as s */
__attribute__((format(printf, 2, 3))) void model_fail(struct model *s, const char *fmt, ...);
struct model_value model_leaf(const struct model *s, int rank, uint64_t id);

/* plan_layout.c: block lengths, memory with its inputs, streams, dependents. */
void model_layout(struct model *s);

/* plan_model.c: runs everything to the end, or until something is wrong. */
void model_run(struct model *s);

static inline uint64_t model_mix(uint64_t a, uint64_t b)
{
	uint64_t x = a * 0x9e3779b97f4a7c15u + (b ^ 0x632be59bd9b4e019u);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline struct model_value model_reduce(const struct model *s, struct model_value a,
					      struct model_value b)
{
	a.tree = model_mix(a.tree, b.tree);
	if (s->set->algo->coll == GY_BARRIER) {
		a.sum |= b.sum;		/* hearing twice of a rank does no harm */
		a.tree = 0;
	} else {
		a.sum += b.sum;
	}
	a.finals += b.finals;
	return a;
}

/* Where the block at a position of a memory end begins in its array; *len: its length. */
static inline uint32_t model_block(const struct model *s, const struct gy_end *e, uint32_t pos,
				   uint32_t *len)
{
	const uint32_t block = gy_range_block(&e->range, pos), i = block % s->nblocks;

	*len = s->len[i];
	return block / s->nblocks * s->off[s->nblocks] + s->off[i];
}

#endif
