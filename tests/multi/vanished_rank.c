/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vanished_rank.c - a rank of test_vanished.sh: says "begun" when it has heard of the other,
 * and is in calls until one fails.
 *
 *	vanished_rank busy	sums of a MiB, one after the other
 *	vanished_rank idle	waits for a message that nobody sends
 */
#include <stdio.h>
#include <string.h>
#include <gyre/gyre.h>

#define COUNT (1 << 18)

static float vanished_in[COUNT], vanished_out[COUNT];

int main(int argc, char **argv)
{
	const int busy = argc > 1 && !strcmp(argv[1], "busy");
	struct gyre_context *ctx;
	struct gyre_comm *world;
	int other, err;

	err = gyre_context_create(NULL, &ctx);
	if (err) {
		fprintf(stderr, "create: %s\n", gyre_strerror(err));
		return 1;
	}
	world = gyre_context_world(ctx);
	other = !gyre_comm_rank(world);
	err = gyre_barrier(world);
	if (!err) {
		printf("begun\n");
		fflush(stdout);
	}
	while (!err && busy)
		err = gyre_allreduce(vanished_in, vanished_out, COUNT, GYRE_F32, GYRE_SUM, world);
	if (!err)
		err = gyre_recv(vanished_in, 1, GYRE_F32, other, 1, world, NULL);
	printf("ended: %s\n", gyre_strerror(err));
	fflush(stdout);
	gyre_context_destroy(ctx);
	return 0;
}
