/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The plan builder: takes a planner's moves, checks them, numbers streams and resolves scopes.
 *
 * Errors are sticky: the first one ends the building, later calls do nothing, gy_plan_finish
 * returns it.  -EINVAL here is always a planner's mistake, so that nothing is logged: the checker
 * shows it long before a user could.
 */
#include <errno.h>
#include "lib/alloc.h"
#include "lib/plan_priv.h"
#include "lib/util.h"

#define BUILD_MAX_BLOCKS (1u << 24)	/* keeps block numbers far from overflow */

static void build_fail(struct gy_plan *pl, int err)
{
	if (!pl->builder->err)
		pl->builder->err = err;
}

struct gy_plan *gy_plan_create(int rank, int nranks, bool in_place, uint32_t alias)
{
	struct gy_plan *pl = gy_alloc(sizeof(*pl));
	struct gy_builder *b;

	if (!pl)
		return NULL;
	b = pl->builder = gy_alloc(sizeof(*b));
	if (!b)
		goto destroy;
	b->sent = gy_alloc_array(nranks, sizeof(*b->sent));
	b->received = gy_alloc_array(nranks, sizeof(*b->received));
	if (!b->sent || !b->received)
		goto destroy;
	b->in_place = in_place;
	b->alias = alias;
	pl->rank = rank;
	pl->nranks = nranks;
	pl->nblocks = nranks;
	pl->min_window = 1;
	return pl;

destroy:
	gy_plan_destroy(pl);
	return NULL;
}

static void build_free(struct gy_plan *pl)
{
	struct gy_builder *b = pl->builder;

	if (!b)
		return;
	gy_free(b->sent);
	gy_free(b->received);
	gy_free(b);
	pl->builder = NULL;
}

void gy_plan_destroy(struct gy_plan *pl)
{
	if (!pl)
		return;
	build_free(pl);
	gy_free(pl->moves);
	gy_free(pl->ends);
	gy_free(pl->deps);
	gy_free(pl);
}

/* Gives back what doubling has taken too much; a failure leaves the larger array. */
static void *build_trim(void *array, size_t n, size_t size)
{
	void *trimmed = gy_realloc_array(array, n, size);

	return trimmed ? trimmed : array;
}

int gy_plan_finish(struct gy_plan *pl)
{
	int err = pl->builder->err;

	if (!err && pl->builder->depth)
		err = -EINVAL;
	if (!err)
		err = gy_plan_derive(pl);
	if (err)
		return err;
	pl->moves = build_trim(pl->moves, pl->nmoves, sizeof(*pl->moves));
	pl->ends = build_trim(pl->ends, pl->nends, sizeof(*pl->ends));
	pl->deps = build_trim(pl->deps, pl->ndeps, sizeof(*pl->deps));
	build_free(pl);
	return 0;
}

int gy_plan_error(const struct gy_plan *pl)
{
	return pl->builder->err;
}

void gy_plan_blocks(struct gy_plan *pl, uint32_t nblocks)
{
	struct gy_builder *b = pl->builder;

	if (b->depth)
		b->scopes[b->depth - 1].nblocks = nblocks;
	else if (!nblocks || nblocks > BUILD_MAX_BLOCKS || pl->nmoves)
		build_fail(pl, -EINVAL);
	else
		pl->nblocks = nblocks;
}

void gy_plan_window(struct gy_plan *pl, uint32_t n)
{
	if (n > pl->min_window)
		pl->min_window = n;
}

void gy_scope_push(struct gy_plan *pl, const int *ranks, int nranks, const uint32_t *map)
{
	struct gy_builder *b = pl->builder;

	if (b->err)
		return;
	if (b->depth == GY_MAX_SCOPES) {
		build_fail(pl, -EINVAL);
		return;
	}
	b->scopes[b->depth++] = (struct gy_scope){
		.ranks = ranks, .nranks = nranks, .map = map, .nblocks = nranks,
	};
}

void gy_scope_pop(struct gy_plan *pl)
{
	struct gy_builder *b = pl->builder;

	if (b->err)
		return;
	if (!b->depth)
		build_fail(pl, -EINVAL);
	else
		b->depth--;
}

/* What peer p of the innermost scope is to the plan, or -1. */
static int build_peer(const struct gy_plan *pl, int p)
{
	const struct gy_builder *b = pl->builder;
	unsigned d;

	for (d = b->depth; d > 0; d--) {
		const struct gy_scope *scope = &b->scopes[d - 1];

		if (p < 0 || p >= scope->nranks)
			return -1;
		p = scope->ranks[p];
	}
	return p < 0 || p >= pl->nranks || p == pl->rank ? -1 : p;
}

/* What a block of the innermost scope is to the plan, or UINT32_MAX. */
static uint32_t build_block(const struct gy_plan *pl, enum gy_space space, uint32_t block)
{
	const struct gy_builder *b = pl->builder;
	unsigned d;

	for (d = b->depth; d > 0; d--) {
		const struct gy_scope *scope = &b->scopes[d - 1];
		const uint32_t around = d > 1 ? b->scopes[d - 2].nblocks : pl->nblocks;
		const uint32_t n = scope->nblocks, i = n ? block % n : 0;

		if (!n || (space != GY_SCRATCH && block >= n))
			return UINT32_MAX;
		block = block / n * around + (scope->map ? scope->map[i] : i);
	}
	return block;
}

/* Whether r is, block by block, what `from` means in the innermost scope. */
static bool build_same_blocks(const struct gy_plan *pl, enum gy_space space,
			      const struct gy_range *from, const struct gy_range *r)
{
	uint32_t i;

	for (i = 0; i < r->count; i++)
		if (build_block(pl, space, gy_range_block(from, i)) != gy_range_block(r, i))
			return false;
	return true;
}

/* Replaces a range of the innermost scope by what it is to the plan. */
static int build_resolve(const struct gy_plan *pl, enum gy_space space, struct gy_range *r)
{
	struct gy_range to = { .count = r->count, .stride = 1 };
	uint32_t second;

	if (!pl->builder->depth)
		return 0;
	to.first = build_block(pl, space, gy_range_block(r, 0));
	if (to.first == UINT32_MAX)
		return -EINVAL;
	if (r->count > 1) {
		second = build_block(pl, space, gy_range_block(r, 1));
		to.stride = second - to.first;
		if (second < to.first) {
			to.stride += pl->nblocks;
			to.modulo = pl->nblocks;
		}
	}
	if (!build_same_blocks(pl, space, r, &to)) {
		to.modulo = pl->nblocks;
		if (!build_same_blocks(pl, space, r, &to))
			return -EINVAL;
	}
	*r = to;
	return 0;
}

static uint32_t build_gcd(uint32_t a, uint32_t b)
{
	while (b) {
		const uint32_t r = a % b;

		a = b;
		b = r;
	}
	return a;
}

/* Checks that a range lies in its memory and names no block twice. */
static int build_check_range(struct gy_plan *pl, enum gy_space space, const struct gy_range *r)
{
	const struct gy_builder *b = pl->builder;
	uint64_t limit = pl->nblocks, last;

	if (r->count > 1 && !r->stride)
		return -EINVAL;
	if (r->modulo && r->count > r->modulo / build_gcd(r->stride, r->modulo))
		return -EINVAL;
	last = r->first + (uint64_t)(r->count - 1) * r->stride;
	if (r->modulo && last >= r->modulo)
		last = r->modulo -
		       1; /* may be more than its last block: a wrap has no business elsewhere */
	if (space == GY_SCRATCH)
		limit = BUILD_MAX_BLOCKS;
	else if (space == GY_IN && b->in_place)
		limit = pl->nblocks > b->alias ? pl->nblocks - b->alias : 0;
	if (last >= limit)
		return -EINVAL;
	if (space == GY_SCRATCH && last / pl->nblocks >= pl->nscratch)
		pl->nscratch = last / pl->nblocks + 1;
	return 0;
}

/* Resolves and checks one end.  *lenp: length of the move's memory ends so far, 0 = none. */
static int build_end(struct gy_plan *pl, struct gy_end *e, bool out, uint32_t *lenp)
{
	struct gy_builder *b = pl->builder;
	int err;

	if (e->space == GY_STREAM) {
		e->peer = build_peer(pl, e->peer);
		if (e->peer < 0)
			return -EINVAL;
		e->stream = out ? b->sent[e->peer]++ : b->received[e->peer]++;
		return 0;
	}
	if (e->space > GY_STREAM || (out && e->space == GY_IN))
		return -EINVAL;
	if (!e->range.count || e->range.count > BUILD_MAX_BLOCKS)
		return -EINVAL;
	err = build_resolve(pl, e->space, &e->range);
	if (!err)
		err = build_check_range(pl, e->space, &e->range);
	if (err)
		return err;
	if (*lenp && *lenp != e->range.count)
		return -EINVAL;
	*lenp = e->range.count;
	return 0;
}

/* Room for n more of what array has `used` of. */
static int build_grow(void **array, uint32_t *cap, uint32_t used, uint32_t n, size_t size)
{
	uint32_t want = *cap ? *cap : 16;
	void *grown;

	if (*cap - used >= n)
		return 0;
	while (want - used < n)
		want *= 2;
	grown = gy_realloc_array(*array, want, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = want;
	return 0;
}

static int build_ends(struct gy_plan *pl, const struct gy_end *ends, uint32_t n, bool out,
		      uint32_t *lenp)
{
	unsigned memories = 0;
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct gy_end *e = &pl->ends[pl->nends + i];
		int err;

		*e = ends[i];
		err = build_end(pl, e, out, lenp);
		if (err)
			return err;
		memories += e->space != GY_STREAM;
	}
	pl->nends += n;
	return out && memories > 1 ? -EINVAL : 0;
}

void gy_move(struct gy_plan *pl, const struct gy_end *in, uint16_t nin,
	     const struct gy_end *out, uint16_t nout)
{
	struct gy_builder *b = pl->builder;
	const uint32_t first = pl->nends;
	uint32_t len = 0;
	int err;

	if (b->err)
		return;
	err = nin && nin <= GY_MAX_ENDS && nout ? 0 : -EINVAL;
	if (!err)
		err = build_grow((void **)&pl->moves, &b->moves_cap, pl->nmoves, 1,
				 sizeof(*pl->moves));
	if (!err)
		err = build_grow((void **)&pl->ends, &b->ends_cap, pl->nends, (uint32_t)nin + nout,
				 sizeof(*pl->ends));
	if (!err)
		err = build_ends(pl, in, nin, false, &len);
	if (!err)
		err = build_ends(pl, out, nout, true, &len);
	if (!err && !len)
		err = -EINVAL;	/* without a memory end nothing says how long it is */
	if (err) {
		build_fail(pl, err);
		return;
	}
	if (nin > pl->max_inputs)
		pl->max_inputs = nin;
	pl->moves[pl->nmoves++] = (struct gy_move){ .end = first, .nin = nin, .nout = nout };
}

void gy_final(struct gy_plan *pl)
{
	if (pl->builder->err)
		return;
	if (!pl->nmoves || pl->moves[pl->nmoves - 1].nin < 2)
		build_fail(pl, -EINVAL);	/* only a move that reduces can complete a sum */
	else
		pl->moves[pl->nmoves - 1].flags |= GY_MOVE_FINAL;
}
