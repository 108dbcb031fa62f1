/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * broadcast_binomial.c - down a binomial tree.
 * Cost: ceil(log2 p) latencies; the root sends n bytes that often.
 * Counted from the root, the parent of v is v without its lowest bit; the child with the largest
 * subtree comes first.
 *
 * p = 5, root 0: 0 -> 4, 2, 1; 2 -> 3.
 */
#include "lib/coll.h"
#include "lib/util.h"

static int binomial_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, v = gy_mod(a->rank - a->root, p);
	struct gy_end in = gy_out(0), out[33];
	uint16_t nout = 0;
	int low = v & -v, bit;

	gy_plan_blocks(pl, 1);
	if (v) {
		in = gy_from(gy_mod((v & (v - 1)) + a->root, p));
		out[nout++] = gy_out(0);
	} else {
		for (low = 1; low < p;)
			low *= 2;
	}
	for (bit = low / 2; bit; bit /= 2)
		if (v + bit < p)
			out[nout++] = gy_to(gy_mod(v + bit + a->root, p));
	gy_move(pl, &in, 1, out, nout);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_broadcast_binomial = {
	.name = "binomial",
	.coll = GY_BROADCAST,
	.plan = binomial_plan,
};
