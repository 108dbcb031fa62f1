/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COLLECTIVES_FAN_H
#define COLLECTIVES_FAN_H
/* Ends for moves that read from all peers or send to all. */
#include "lib/coll.h"
#include "lib/util.h"

/* Fills in[] with a stream from each rank, in rank order, and own at this rank's place. */
static inline uint16_t fan_in(struct gy_end *in, const struct gy_coll_args *a, struct gy_end own)
{
	int r;

	for (r = 0; r < a->nranks; r++)
		in[r] = r == a->rank ? own : gy_from(r);
	return a->nranks;
}

/* Fills out[] with a stream to each other rank, the next one first: none is everybody's first. */
static inline uint16_t fan_out(struct gy_end *out, const struct gy_coll_args *a)
{
	int i;

	for (i = 1; i < a->nranks; i++)
		out[i - 1] = gy_to(gy_mod(a->rank + i, a->nranks));
	return a->nranks - 1;
}
#endif
