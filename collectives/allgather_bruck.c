/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allgather_bruck.c - what a rank has doubles with each step, for any number of ranks.
 * Cost: ceil(log2 p) steps, p-1 blocks in and out of each rank.  Each step is one message: blocks
 * that wrap round the end of OUT are one range, so nothing is rotated at the end.
 *
 * p = 5, rank 3: mine -> 2, copy it; receive 4 from 4; 3 4 -> 1; receive 0 1 from 0; 3 -> 4;
 * receive 2 from 2
 */
#include "lib/coll.h"
#include "lib/util.h"

static int bruck_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank;
	int have;

	gy_plan_window(pl, a->in_place ? 2 : 3);
	for (have = 1; have < p; have *= 2) {
		const int n = have < p - have ? have : p - have;
		const int to = gy_mod(me - have, p), from = gy_mod(me + have, p);
		struct gy_range mine = { .first = me, .count = n, .stride = 1, .modulo = p };
		struct gy_range theirs = { .first = from, .count = n, .stride = 1, .modulo = p };

		gy_send(pl, to, have == 1 ? gy_in(0) : gy_blocks(GY_OUT, mine));
		if (have == 1 && !a->in_place)
			gy_copy(pl, gy_in(0), gy_out(me));
		gy_recv(pl, from, gy_blocks(GY_OUT, theirs));
	}
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allgather_bruck = {
	.name = "bruck",
	.coll = GY_ALLGATHER,
	.plan = bruck_plan,
};
