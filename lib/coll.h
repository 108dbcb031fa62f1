/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_COLL_H
#define GY_COLL_H
/*
 * Collectives and their algorithms: the contract between planners (collectives/) and the library.
 */
#include "lib/plan.h"

/* The kinds of operation.  Values are part of the wire format (fingerprint). */
enum gy_coll {
	GY_ALLREDUCE,
	GY_REDUCE_SCATTER,
	GY_ALLGATHER,
	GY_BROADCAST,
	GY_BARRIER,
	GY_NCOLLS,
	GY_P2P = 0x40,	/* a point-to-point message; no planner */
};

/*
 * What the memory looks like to a planner, n = nblocks of the grid:
 *
 *			IN		OUT		in place: IN[b] is
 *   allreduce		n blocks	n blocks	OUT[b]
 *   reduce_scatter	n blocks	1 block		OUT[b]; OUT has n, OUT[0] is the result
 *   allgather		1 block		n blocks	IN[0] = OUT[rank]
 *   broadcast		-		n blocks	(always: every rank's buffer is OUT)
 *   barrier		-		n empty blocks
 *
 * allreduce and broadcast split count elements evenly over whatever grid the planner asks for;
 * for reduce_scatter and allgather the grid is nranks blocks of count elements each.
 */
struct gy_coll_args {
	int rank, nranks;
	int root;
	bool in_place;
};

enum gy_algo_flags {
	/*
	 * Sends whole vectors or needs SCRATCH: scratch memory and streams grow with count, so it
	 * is chosen only up to GY_SMALL_COLL bytes.
	 */
	GY_ALGO_SMALL = 1,
};

#define GY_SMALL_COLL (256 * 1024)

struct gy_coll_algo {
	const char *name;		/* "ring": as GYRE_ALGORITHM, bench and tests say it */
	enum gy_coll coll;
	unsigned flags;			/* enum gy_algo_flags */
	int max_ranks;			/* not for more ranks; 0: any number */
	/* Pure: same arguments, same moves.  nranks >= 2.  0 or -errno (-ENOMEM). */
	int (*plan)(struct gy_plan *pl, const struct gy_coll_args *a);
};

/* Names: "allreduce", ...; NULL when unknown. */
const char *gy_coll_name(enum gy_coll coll);

/*
 * The grid that a collective needs (nblocks is the planner's choice, see above) and the aliasing of
 * IN onto OUT in place: gives gy_plan_create's alias for these arguments.
 */
uint32_t gy_coll_alias(enum gy_coll coll, const struct gy_coll_args *a);
#endif
