/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reduce_scatter_ring.c - partial sums go once round a ring.
 * Cost: p-1 steps of one block: bandwidth-optimal, latency O(p), pipelined by grains; no scratch.
 * Window: partial sums live in streams only, so all p moves of the plan are open.
 *
 * p = 4, rank 0: block 3 -> 1; (2 + mine) -> 1; (1 + mine) -> 1; keep (0 + mine)
 */
#include "lib/coll.h"
#include "lib/util.h"

static int ring_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank, next = gy_mod(me + 1, p), prev = gy_mod(me - 1, p);
	int s;

	gy_plan_window(pl, p);
	gy_send(pl, next, gy_in(prev));
	for (s = 2; s < p; s++)
		gy_recv_reduce_send(pl, prev, gy_in(gy_mod(me - s, p)), next);
	gy_recv_reduce(pl, prev, gy_in(me), gy_out(0));
	gy_final(pl);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_reduce_scatter_ring = {
	.name = "ring",
	.coll = GY_REDUCE_SCATTER,
	.plan = ring_plan,
};
