/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * barrier_dissemination.c - messages of no bytes to ranks 1, 2, 4 ... ahead.
 * Cost: ceil(log2 p) latencies, for any p.
 * Each round "adds" what it hears to the empty block of the round before and sends that on, so
 * that the dependencies are those of a sum: who has the last one has heard of all.  Rounds
 * alternate between two blocks, as those of recursive doubling do.
 *
 * p = 5, rank 0: -> 1; from 4, -> 2; from 3, -> 4; from 1
 */
#include "lib/coll.h"
#include "lib/util.h"

static int dissemination_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, me = a->rank;
	struct gy_end heard = gy_out(0), next = gy_out(1);
	int dist;

	gy_plan_blocks(pl, 2);
	gy_plan_window(pl, 2);
	gy_send(pl, gy_mod(me + 1, p), heard);
	for (dist = 1; dist < p; dist *= 2) {
		const struct gy_end was = heard;

		if (dist < p - dist)
			gy_recv_reduce_keep_send(pl, gy_mod(me - dist, p), was, next,
						 gy_mod(me + 2 * dist, p));
		else
			gy_recv_reduce(pl, gy_mod(me - dist, p), was, next);
		heard = next;
		next = was;
	}
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_barrier_dissemination = {
	.name = "dissemination",
	.coll = GY_BARRIER,
	.plan = dissemination_plan,
};
