/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allreduce_direct.c - each rank reduces one block straight from all others, then all gather.
 * Cost: two latencies; each rank sends and receives 2(p-1)/p n bytes.  Each input is
 * read once, each result written once: the least that shared memory can do.
 * Results are bitwise equal: each block is summed once, in rank order, and copied.
 * Window: the reduction needs the sends of all ranks to be under way, so p - 1 sends and itself.
 *
 * p = 4, rank 1: block 2 -> 2, 3 -> 3, 0 -> 0; (0 + mine + 2 + 3) of block 1: keep, -> 2, 3, 0;
 * receive block 0 from 0, 3 from 3, 2 from 2
 */
#include "collectives/fan.h"

static int direct_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank;
	struct gy_end in[GY_MAX_ENDS], out[GY_MAX_ENDS];
	uint16_t nin, nout;
	int i;

	gy_plan_window(pl, p);
	for (i = 1; i < p; i++)
		gy_send(pl, gy_mod(me + i, p), gy_in(gy_mod(me + i, p)));
	nin = fan_in(in, a, gy_in(me));
	out[0] = gy_out(me);
	nout = 1 + fan_out(out + 1, a);
	gy_move(pl, in, nin, out, nout);
	gy_final(pl);
	for (i = 1; i < p; i++) /* who is i behind sends here i-th */
		gy_recv(pl, gy_mod(me - i, p), gy_out(gy_mod(me - i, p)));
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allreduce_direct = {
	.name = "direct",
	.coll = GY_ALLREDUCE,
	.max_ranks = GY_MAX_ENDS,
	.plan = direct_plan,
};
