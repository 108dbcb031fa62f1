/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite_split.c - communicators of parts, used together with the whole.
 */
#include <errno.h>

#include "tests/multi/suite_priv.h"

#define SPLIT_MAX_RANKS 64

struct split {
	int color[SPLIT_MAX_RANKS], key[SPLIT_MAX_RANKS];
	int rank, size;			/* where this rank should be */
};

static void split_draw(const struct suite_env *env, struct suite_rng *rng, struct split *s)
{
	const uint64_t colors = 1 + suite_below(rng, 3);
	int r;

	for (r = 0; r < env->nranks; r++) {
		s->color[r] = suite_one_in(rng, 8) ? -1 : (int)suite_below(rng, colors) * 3;
		s->key[r] = (int)suite_below(rng, 5) - 2;
	}
	for (r = 0; r < env->nranks; r++) {
		if (s->color[r] != s->color[env->rank])
			continue;
		s->size++;
		s->rank += s->key[r] < s->key[env->rank] ||
			   (r < env->rank && s->key[r] == s->key[env->rank]);
	}
}

/* One on the part and one on the whole, in this order of starts, completed in any. */
static int split_both(struct suite_env *env, struct suite_rng *own, struct suite_coll c[2])
{
	const unsigned first = (unsigned)suite_below(own, 2);
	unsigned i, k;
	int err;

	for (i = 0; i < 2; i++) {
		c[i].form = SUITE_NONBLOCKING;
		if (!c[i].comm)
			continue;
		if (suite_coll_open(env, &c[i], own) || suite_coll_start(env, &c[i], 0))
			return -1;
	}
	for (i = 0; i < 2; i++) {
		k = (first + i) % 2;
		if (!c[k].comm)
			continue;
		err = suite_complete(env, own, &c[k].req, NULL);
		if (err)
			return suite_fail(env, "completing %s: %s", suite_coll_name(c[k].coll),
					  gyre_strerror(err));
		if (suite_coll_check(env, &c[k], 0))
			return -1;
	}
	for (i = 0; i < 2; i++) {
		if (c[i].comm && suite_coll_agree(env, &c[i]))
			return -1;
		if (c[i].comm)
			suite_coll_close(env, &c[i]);
	}
	return 0;
}

int suite_run_split(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct gyre_comm *world = gyre_context_world(env->ctx), *part = NULL;
	struct suite_rng own = suite_own_rng(env, seed), parts;
	const unsigned rounds = 1 + (unsigned)suite_below(rng, 3);
	struct suite_coll c[2] = { { .comm = NULL } };
	struct split s = { .size = 0 };
	unsigned round;
	int err;

	if (env->nranks > SPLIT_MAX_RANKS)
		return 0;
	split_draw(env, rng, &s);
	suite_doing(env, "split: color %d key %d", s.color[env->rank], s.key[env->rank]);
	err = gyre_comm_split(world, s.color[env->rank], s.key[env->rank], &part);
	if (err)
		return suite_fail(env, "split: %s", gyre_strerror(err));
	if ((s.color[env->rank] < 0) != !part)
		return suite_fail(env, "split: color %d gives %s communicator", s.color[env->rank],
				  part ? "a" : "no");
	if (part && (gyre_comm_rank(part) != s.rank || gyre_comm_size(part) != s.size))
		return suite_fail(env, "split: rank %d of %d instead of %d of %d",
				  gyre_comm_rank(part), gyre_comm_size(part), s.rank, s.size);
	for (round = 0; round < rounds; round++) {
		/* Each part draws its own; the whole the same as the others. */
		parts.state = seed + (uint64_t)(s.color[env->rank] + 2) * 1000 + round;
		if (part)
			suite_coll_draw(env, &parts, &c[0], part);
		suite_coll_draw(env, rng, &c[1], world);
		if (split_both(env, &own, c))
			return -1;
	}
	gyre_comm_destroy(part);
	return 0;
}
