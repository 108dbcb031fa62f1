/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allreduce_flat.c - every rank sends its vector to all and sums all of them itself.
 * Cost: one latency; (p-1) n bytes in and out of each rank: for tiny messages.
 * Results are bitwise equal: every rank sums in rank order.
 * In place the vector is sent out of scratch: the sum would else wait until all peers have read the
 * input that it overwrites, as theirs would.
 *
 * p = 4, rank 1: mine -> 2, 3, 0; keep (0 + mine + 2 + 3)
 */
#include "collectives/fan.h"

static int flat_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	struct gy_end in[GY_MAX_ENDS], out[GY_MAX_ENDS];
	const struct gy_end mine = gy_in(0), sum = gy_out(0);
	uint16_t nin, nout = 0;

	gy_plan_blocks(pl, 1);
	gy_plan_window(pl, 2);
	if (a->in_place)
		out[nout++] = gy_scratch(0);
	nout += fan_out(out + nout, a);
	gy_move(pl, &mine, 1, out, nout);
	nin = fan_in(in, a, mine);
	gy_move(pl, in, nin, &sum, 1);
	gy_final(pl);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allreduce_flat = {
	.name = "flat",
	.coll = GY_ALLREDUCE,
	.flags = GY_ALGO_SMALL,
	.max_ranks = GY_MAX_ENDS,
	.plan = flat_plan,
};
