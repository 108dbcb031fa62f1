/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allreduce_recursive_doubling.c - exchange whole vectors with ranks 1, 2, 4 ... away.
 * Cost: log2(p) steps of n bytes, two more when p is not a power of two (fold.h).
 * Results are bitwise equal: all ranks evaluate the same tree, lower rank left.
 *
 * The running sum moves between OUT and scratch: a sum that is being sent to a partner is not
 * overwritten by the next one, or partners would wait for each other to have read it.
 *
 * p = 5, the core is 1 2 3 4 (0 is folded into 1), rank 2:
 * mine -> 1; (from 1 + mine): keep in OUT, -> 4; done: OUT = (OUT + from 4)
 */
#include "collectives/fold.h"

/* Where the sum before step k of `steps` lies: the last one in OUT. */
static struct gy_end doubling_sum(int k, int steps)
{
	return (steps - k) % 2 ? gy_scratch(0) : gy_out(0);
}

/* The first move: the sum before step 0, sent to the first partner. */
static void doubling_begin(struct gy_plan *pl, const struct gy_coll_args *a, const struct fold *f,
			   int steps, int partner)
{
	const struct gy_end sum = doubling_sum(0, steps), mine = gy_in(0);

	if (f->acts)
		gy_recv_reduce_keep_send(pl, a->rank - 1, mine, sum, partner);
	else if (a->in_place && sum.space != GY_OUT)
		gy_move(pl, &mine, 1, (struct gy_end[]){ sum, gy_to(partner) }, 2);
	else
		gy_send(pl, partner, mine);
}

static int doubling_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const struct fold f = fold_ranks(a);
	int k, steps = 0;

	gy_plan_blocks(pl, 1);
	gy_plan_window(pl, 2);
	if (f.extra) {
		gy_send(pl, a->rank + 1, gy_in(0));
		gy_recv(pl, a->rank + 1, gy_out(0));
		return gy_plan_error(pl);
	}
	while (1 << steps < f.core)
		steps++;
	doubling_begin(pl, a, &f, steps, fold_rank(&f, f.me ^ 1));
	for (k = 0; k < steps; k++) {
		const int partner = f.me ^ 1 << k;
		const bool unchanged = k == 0 && !f.acts && !a->in_place;
		const struct gy_end sum = unchanged ? gy_in(0) : doubling_sum(k, steps);
		const struct gy_end theirs = gy_from(fold_rank(&f, partner));
		struct gy_end in[2], out[2] = { doubling_sum(k + 1, steps) };
		uint16_t nout = 1;

		in[0] = partner < f.me ? theirs : sum;
		in[1] = partner < f.me ? sum : theirs;
		if (k + 1 < steps)
			out[nout++] = gy_to(fold_rank(&f, f.me ^ 2 << k));
		else if (f.acts)
			out[nout++] = gy_to(a->rank - 1);
		gy_move(pl, in, 2, out, nout);
	}
	gy_final(pl);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allreduce_recursive_doubling = {
	.name = "recursive_doubling",
	.coll = GY_ALLREDUCE,
	.flags = GY_ALGO_SMALL,
	.plan = doubling_plan,
};
