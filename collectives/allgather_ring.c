/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allgather_ring.c - blocks go round a ring.
 * Cost: p-1 steps of one block: bandwidth-optimal, latency O(p), pipelined by grains.
 *
 * p = 4, rank 0: block 0 -> 1, copy it; keep and forward 3, 2; keep 1
 */
#include "lib/coll.h"
#include "lib/util.h"

static int ring_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank, next = gy_mod(me + 1, p), prev = gy_mod(me - 1, p);
	int s;

	gy_plan_window(pl, a->in_place ? 2 : 3);
	gy_send(pl, next, gy_in(0));
	if (!a->in_place)
		gy_copy(pl, gy_in(0), gy_out(me));
	for (s = 1; s < p - 1; s++)
		gy_recv_keep_send(pl, prev, gy_out(gy_mod(me - s, p)), next);
	gy_recv(pl, prev, gy_out(next));
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allgather_ring = {
	.name = "ring",
	.coll = GY_ALLGATHER,
	.plan = ring_plan,
};
