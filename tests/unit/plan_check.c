/* SPDX-License-Identifier: BSD-3-Clause */
/* The checker: sets of plans, and judgement of results; see plan_check.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/plan_model.h"

#define MODEL_CHUNK (1u << 20)

struct model_arena {
	struct model_arena *next;
	size_t used, size;
	_Alignas(16) char mem[];
};

void *model_alloc(struct model *s, size_t n, size_t size)
{
	const size_t want = (n * size + 15) & ~(size_t)15;
	struct model_arena *a = s->arena;
	void *ptr;

	if (!a || a->size - a->used < want) {
		const size_t room = want > MODEL_CHUNK ? want : MODEL_CHUNK;

		a = calloc(1, sizeof(*a) + room);
		if (!a)
			abort();
		a->size = room;
		a->next = s->arena;
		s->arena = a;
	}
	ptr = a->mem + a->used;
	a->used += want;
	return ptr;
}

static void check_free(struct model *s)
{
	while (s->arena) {
		struct model_arena *a = s->arena;

		s->arena = a->next;
		free(a);
	}
}

void model_fail(struct model *s, const char *fmt, ...)
{
	va_list ap;

	if (s->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
}

uint64_t plan_random(uint64_t *state)
{
	return model_mix(++*state, 0);
}

int plan_set_init(struct plan_set *set, const struct gy_coll_algo *algo, int nranks, int root,
		  bool in_place)
{
	int r, err = 0;

	*set = (struct plan_set){
		.algo = algo, .nranks = nranks, .root = root, .in_place = in_place,
	};
	set->plans = calloc(nranks, sizeof(*set->plans));
	if (!set->plans)
		return -ENOMEM;
	for (r = 0; r < nranks && !err; r++) {
		const struct gy_coll_args a = {
			.rank = r, .nranks = nranks, .root = root, .in_place = in_place,
		};

		set->plans[r] = gy_plan_create(r, nranks, in_place, gy_coll_alias(algo->coll, &a));
		err = set->plans[r] ? algo->plan(set->plans[r], &a) : -ENOMEM;
		if (!err)
			err = gy_plan_finish(set->plans[r]);
	}
	if (err)
		plan_set_fini(set);
	return err;
}

void plan_set_fini(struct plan_set *set)
{
	int r;

	for (r = 0; r < set->nranks; r++)
		gy_plan_destroy(set->plans[r]);
	free(set->plans);
}

/* The input of a rank for element id of the vector. */
struct model_value model_leaf(const struct model *s, int rank, uint64_t id)
{
	const uint64_t h = model_mix(model_mix(s->mode->seed, rank + 1), id);

	if (s->set->algo->coll == GY_BARRIER)
		return (struct model_value){ .sum = 1ull << rank, .valid = true };
	return (struct model_value){ .sum = h, .tree = h, .valid = true };
}

/* What element id should be of all inputs. */
static struct model_value check_sum(const struct model *s, uint64_t id)
{
	struct model_value sum = model_leaf(s, 0, id);
	int r;

	for (r = 1; r < s->set->nranks; r++)
		sum = model_reduce(s, sum, model_leaf(s, r, id));
	sum.finals = s->set->algo->coll != GY_BARRIER;
	return sum;
}

static void check_sums(struct model *s)
{
	uint32_t i, total = s->off[s->nblocks];

	s->sums = model_alloc(s, total, sizeof(*s->sums));
	for (i = 0; i < total; i++)
		s->sums[i] = check_sum(s, i);
}

/* What element id should be: the input of one rank, or (rank < 0) the sum of all in rank order. */
static struct model_value check_wanted(const struct model *s, int rank, uint64_t id)
{
	return rank < 0 ? s->sums[id] : model_leaf(s, rank, id);
}

/* n elements of a rank's memory should be elements id, id + 1 ... */
static void check_elements(struct model *s, int rank, const struct model_value *mem, uint32_t n,
			   uint64_t id, int of)
{
	const bool same_tree = of >= 0 || s->mode->rank_order;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct model_value want = check_wanted(s, of, id + i);

		if (!mem[i].valid)
			model_fail(s, "rank %d: element %u of the result is missing", rank, i);
		else if (mem[i].sum != want.sum || (same_tree && mem[i].tree != want.tree))
			model_fail(s, "rank %d: element %u of the result is wrong", rank, i);
		else if (mem[i].finals != want.finals)
			model_fail(s, "rank %d: element %u has passed %u final moves", rank, i,
				   mem[i].finals);
	}
}

/* Bitwise equal results: all ranks have evaluated the same tree. */
static void check_trees(struct model *s)
{
	const struct model_value *first = s->ranks[0].mem[GY_OUT];
	uint32_t i;
	int r;

	for (r = 1; r < s->set->nranks; r++)
		for (i = 0; i < s->off[s->nblocks]; i++)
			if (s->ranks[r].mem[GY_OUT][i].tree != first[i].tree)
				model_fail(s, "ranks 0 and %d: element %u is summed differently", r,
					   i);
}

static void check_result(struct model *s, int rank)
{
	const struct model_rank *r = &s->ranks[rank];
	const struct model_value *out = r->mem[GY_OUT];
	uint32_t total = s->off[s->nblocks];
	int q;

	switch (s->set->algo->coll) {
	case GY_ALLREDUCE:
		check_elements(s, rank, out, total, 0, -1);
		break;
	case GY_REDUCE_SCATTER:
		check_elements(s, rank, out, s->len[rank], s->off[rank], -1);
		break;
	case GY_ALLGATHER:
		for (q = 0; q < s->set->nranks; q++)
			check_elements(s, rank, out + s->off[q], s->len[q], s->off[q], q);
		break;
	case GY_BROADCAST:
		check_elements(s, rank, out, total, 0, s->set->root);
		break;
	default:	/* barrier: some block has heard of all */
		while (total-- > 1 && out->sum != check_wanted(s, -1, 0).sum)
			out++;
		check_elements(s, rank, out, 1, 0, -1);
	}
}

const char *plan_check(const struct plan_set *set, const struct plan_mode *mode)
{
	static char why[sizeof(((struct model *)0)->why)];
	struct model s = { .set = set, .mode = mode, .random = mode->seed };
	int r;

	model_layout(&s);
	if (!s.why[0])
		model_run(&s);
	check_sums(&s);
	for (r = 0; r < set->nranks && !s.why[0]; r++)
		check_result(&s, r);
	if (!s.why[0] && set->algo->coll == GY_ALLREDUCE)
		check_trees(&s);
	memcpy(why, s.why, sizeof(why));
	check_free(&s);
	return why[0] ? why : NULL;
}
