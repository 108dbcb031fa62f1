/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COLLECTIVES_FOLD_H
#define COLLECTIVES_FOLD_H
/*
 * Folding nranks ranks to a power of two, the core, for algorithms that halve and double.
 *
 * The ranks 0, 2, 4 ... of the first `extras` pairs are extras: each gives its vector to its upper
 * neighbour, which adds it on the left and acts for both.  Core ranks keep the order of ranks, so
 * that "lower core rank left" gives sums in rank order.  nranks = 5: 0 is folded into 1, the core
 * is 1 2 3 4; nranks = 7: 0 into 1, 2 into 3, 4 into 5, the core is 1 3 5 6.
 */
#include "lib/coll.h"

struct fold {
	int core;	/* size, a power of two */
	int extras;
	bool extra;	/* this rank is one: its neighbour above acts for it */
	bool acts;	/* this rank acts for its neighbour below too */
	int me;		/* this rank in the core; not for an extra */
};

static inline struct fold fold_ranks(const struct gy_coll_args *a)
{
	struct fold f = { .core = 1 };

	while (f.core <= a->nranks / 2)
		f.core *= 2;
	f.extras = a->nranks - f.core;
	if (a->rank < 2 * f.extras) {
		f.extra = a->rank % 2 == 0;
		f.acts = !f.extra;
		f.me = a->rank / 2;
	} else {
		f.me = a->rank - f.extras;
	}
	return f;
}

/* The rank of core rank c. */
static inline int fold_rank(const struct fold *f, int c)
{
	return c < f->extras ? 2 * c + 1 : c + f->extras;
}
#endif
