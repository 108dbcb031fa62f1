/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reduce_scatter_direct.c - each rank reduces its block straight from all others.
 * Cost: one latency, p-1 blocks in and out of each rank; sums in rank order.
 * Window: the reduction needs the sends of all ranks to be under way.
 *
 * p = 4, rank 1: block 2 -> 2, 3 -> 3, 0 -> 0; keep (0 + mine + 2 + 3) of block 1
 */
#include "collectives/fan.h"

static int direct_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank;
	const struct gy_end out = gy_out(0);
	struct gy_end in[GY_MAX_ENDS];
	uint16_t nin;
	int i;

	gy_plan_window(pl, p);
	for (i = 1; i < p; i++)
		gy_send(pl, gy_mod(me + i, p), gy_in(gy_mod(me + i, p)));
	nin = fan_in(in, a, gy_in(me));
	gy_move(pl, in, nin, &out, 1);
	gy_final(pl);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_reduce_scatter_direct = {
	.name = "direct",
	.coll = GY_REDUCE_SCATTER,
	.max_ranks = GY_MAX_ENDS,
	.plan = direct_plan,
};
