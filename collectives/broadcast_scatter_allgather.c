/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * broadcast_scatter_allgather.c - the root gives each rank one block, which the rank passes on to
 * all others as it comes.
 * Cost: two latencies; n bytes out of the root, n into and (p-2)/(p-1) n out of each other rank.
 * Window: a rank's own block leaves it only as others take it, so all its receives are open.
 *
 * p = 4, root 0, blocks 0..2: 0: 0 -> 1, 1 -> 2, 2 -> 3; 1: keep 0, -> 2, 3; receive 2 from 3,
 * 1 from 2
 */
#include "lib/coll.h"
#include "lib/util.h"

static int scatter_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const int p = a->nranks, n = p - 1, v = gy_mod(a->rank - a->root, p), b = v - 1;
	const struct gy_end in = gy_from(a->root);
	struct gy_end out[GY_MAX_ENDS];
	uint16_t nout = 0;
	int i;

	gy_plan_blocks(pl, n);
	if (!v) {
		for (i = 0; i < n; i++)
			gy_send(pl, gy_mod(a->root + 1 + i, p), gy_out(i));
		return gy_plan_error(pl);
	}
	gy_plan_window(pl, n);
	out[nout++] = gy_out(b);
	for (i = 1; i < n; i++)
		out[nout++] = gy_to(gy_mod(a->root + 1 + gy_mod(b + i, n), p));
	gy_move(pl, &in, 1, out, nout);
	for (i = 1; i < n; i++)
		gy_recv(pl, gy_mod(a->root + 1 + gy_mod(b - i, n), p), gy_out(gy_mod(b - i, n)));
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_broadcast_scatter_allgather = {
	.name = "scatter_allgather",
	.coll = GY_BROADCAST,
	.max_ranks = GY_MAX_ENDS,
	.plan = scatter_plan,
};
