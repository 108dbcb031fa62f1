/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allreduce_halving_doubling.c - reduce-scatter by recursive halving, allgather by doubling
 * (Rabenseifner).
 * Cost: 2 log2(p) steps, 2(p-1)/p n bytes; when p is not a power of two, two more steps of n bytes
 * for the ranks that are folded (fold.h).  No scratch: sums lie in OUT.
 * Results are bitwise equal: each block is summed on one rank, lower ranks left, and copied.
 *
 * p = 5, the core is 1 2 3 4 = a b c d (0 is folded into 1), blocks 0..3, rank 2 = b:
 * 2 3 -> d; 0 1 = (mine + from d); 0 -> a; 1 = (from a + mine) -> a;
 * receive 0; 0 1 -> d; receive 2 3
 */
#include "collectives/fold.h"

static struct gy_end halving_range(enum gy_space space, uint32_t first, uint32_t count)
{
	return gy_blocks(space, (struct gy_range){ .first = first, .count = count, .stride = 1 });
}

/* Halves the range of blocks until one is left, complete, and on its way to the last partner. */
static void halving_reduce(struct gy_plan *pl, const struct fold *f)
{
	enum gy_space sum = f->acts ? GY_OUT : GY_IN;	/* nothing summed yet: the input itself */
	uint32_t low = 0, half;

	for (half = f->core / 2; half; half /= 2) {
		const bool upper = f->me & half;
		const int partner = fold_rank(f, f->me ^ half);
		const uint32_t mine = upper ? low + half : low, theirs = upper ? low : low + half;
		const struct gy_end own = halving_range(sum, mine, half), from = gy_from(partner);

		gy_send(pl, partner, halving_range(sum, theirs, half));
		gy_move(pl, (struct gy_end[]){ upper ? from : own, upper ? own : from }, 2,
			(struct gy_end[]){ halving_range(GY_OUT, mine, half), gy_to(partner) },
			half == 1 ? 2 : 1);
		sum = GY_OUT;
		low = mine;
	}
	gy_final(pl);
}

static void halving_gather(struct gy_plan *pl, const struct fold *f)
{
	int n;

	for (n = 1; n < f->core; n *= 2) {
		const int partner = fold_rank(f, f->me ^ n);
		const uint32_t mine = f->me & ~(n - 1);

		if (n > 1)
			gy_send(pl, partner, halving_range(GY_OUT, mine, n));
		gy_recv(pl, partner, halving_range(GY_OUT, mine ^ n, n));
	}
}

static int halving_plan(struct gy_plan *pl, const struct gy_coll_args *a)
{
	const struct fold f = fold_ranks(a);
	const struct gy_end in = halving_range(GY_IN, 0, f.core);
	const struct gy_end out = halving_range(GY_OUT, 0, f.core);

	gy_plan_blocks(pl, f.core);
	gy_plan_window(pl, 2);
	if (f.extra) {
		gy_send(pl, a->rank + 1, in);
		gy_recv(pl, a->rank + 1, out);
		return gy_plan_error(pl);
	}
	if (f.acts)
		gy_recv_reduce(pl, a->rank - 1, in, out);
	halving_reduce(pl, &f);
	halving_gather(pl, &f);
	if (f.acts)
		gy_send(pl, a->rank - 1, out);
	return gy_plan_error(pl);
}

const struct gy_coll_algo gy_allreduce_halving_doubling = {
	.name = "halving_doubling",
	.coll = GY_ALLREDUCE,
	.plan = halving_plan,
};
