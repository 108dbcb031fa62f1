/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allreduce_ring.c - reduce-scatter round a ring, then allgather.
 * Cost: 2(p-1) steps of n/p bytes: bandwidth-optimal, latency O(p), pipelined by grains.
 * All ranks get bitwise-equal results: each block is summed on one path and then copied.
 * Window: a partial sum lives in streams only, from the rank that starts it to the one that keeps
 * it, p - 1 moves later.
 *
 * p = 4, rank 0: block 0 -> 1; (3 + mine) -> 1; (2 + mine) -> 1; (1 + mine) is complete:
 * keep, -> 1; keep and forward 0, 3; keep 2
 */
#include "lib/coll.h"
#include "lib/util.h"

static int ring_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank, next = gy_mod(me + 1, p), prev = gy_mod(me - 1, p);
	int s;

	gy_plan_window(pl, p);
	gy_send(pl, next, gy_in(me));
	for (s = 1; s < p - 1; s++) /* receive, add mine, send on: one pass over memory */
		gy_recv_reduce_send(pl, prev, gy_in(gy_mod(me - s, p)), next);
	gy_recv_reduce_keep_send(pl, prev, gy_in(next), gy_out(next), next);
	gy_final(pl);
	for (s = 0; s < p - 2; s++)
		gy_recv_keep_send(pl, prev, gy_out(gy_mod(me - s, p)), next);
	gy_recv(pl, prev, gy_out(gy_mod(me + 2, p)));
	return gy_plan_error(pl); /* the builder keeps the first error */
}

const struct gy_coll_algo gy_allreduce_ring = {
	.name = "ring",
	.coll = GY_ALLREDUCE,
	.plan = ring_plan,
};
