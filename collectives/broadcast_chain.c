/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * broadcast_chain.c - from rank to rank, pipelined by grains.
 * Cost: n bytes in and out of each rank: bandwidth-optimal for long vectors; latency p-1 grains.
 *
 * p = 4, root 2: 2 -> 3 -> 0 -> 1
 */
#include "lib/coll.h"
#include "lib/util.h"

static int chain_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank, next = gy_mod(me + 1, p), prev = gy_mod(me - 1, p);

	gy_plan_blocks(pl, 1);
	if (me == a->root)
		gy_send(pl, next, gy_out(0));
	else if (next == a->root)
		gy_recv(pl, prev, gy_out(0));
	else
		gy_recv_keep_send(pl, prev, gy_out(0), next);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_broadcast_chain = {
	.name = "chain",
	.coll = GY_BROADCAST,
	.plan = chain_plan,
};
