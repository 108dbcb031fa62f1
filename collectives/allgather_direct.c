/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allgather_direct.c - every rank sends its block to all others.
 * Cost: one latency; p-1 blocks in and out of each rank.
 * Window: the one send to all ends when the last peer has its block, so all receives are open.
 *
 * p = 4, rank 1: mine -> 2, 3, 0, copy it; receive block 0 from 0, 3 from 3, 2 from 2
 */
#include "collectives/fan.h"

static int direct_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank;
	const struct gy_end mine = gy_in(0);
	struct gy_end out[GY_MAX_ENDS];
	uint16_t nout;
	int i;

	gy_plan_window(pl, a->in_place ? p : p + 1);
	nout = fan_out(out, a);
	gy_move(pl, &mine, 1, out, nout);
	if (!a->in_place)
		gy_copy(pl, mine, gy_out(me));
	for (i = 1; i < p; i++) /* who is i behind sends here i-th */
		gy_recv(pl, gy_mod(me - i, p), gy_out(gy_mod(me - i, p)));
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allgather_direct = {
	.name = "direct",
	.coll = GY_ALLGATHER,
	.max_ranks = GY_MAX_ENDS,
	.plan = direct_plan,
};
