/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun_rank.c - a rank for test_gyrerun.sh, which uses nothing but the public functions.
 *
 *	gyrerun_rank N	makes N contexts, one after the other; in each a sum over all ranks
 */
#include <gyre/gyre.h>

#include <stdio.h>
#include <stdlib.h>

static int rank_sum(void)
{
	struct gyre_context *ctx;
	struct gyre_comm *world;
	int64_t in, out = 0, n;
	int err;

	err = gyre_context_create(NULL, &ctx);
	if (err) {
		fprintf(stderr, "create: %s\n", gyre_strerror(err));
		return 1;
	}
	world = gyre_context_world(ctx);
	n = gyre_comm_size(world);
	in = gyre_comm_rank(world) + 1;
	err = gyre_allreduce(&in, &out, 1, GYRE_INT64, GYRE_SUM, world);
	gyre_context_destroy(ctx);
	if (err || out != n * (n + 1) / 2) {
		fprintf(stderr, "sum: %s, %lld\n", gyre_strerror(err), (long long)out);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int i, n = argc > 1 ? atoi(argv[1]) : 1;

	for (i = 0; i < n; i++)
		if (rank_sum())
			return 1;
	printf("summed\n");
	return 0;
}
