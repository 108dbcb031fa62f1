/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SELECT_H
#define GY_SELECT_H
/*
 * Selection: which algorithm and grain for a call.  One table (select.c), reduced once per
 * communicator to a few thresholds per collective; the same on all ranks, since it depends only on
 * what all of them know.
 */
#include <gyre/types.h>
#include "lib/coll.h"

struct gy_config;

#define GY_SELECT_MAX 8		/* thresholds per collective */

enum gy_where {
	GY_NEAR,	/* all ranks are on one node and lend memory to each other */
	GY_WRITTEN,	/* all have a device that writes to the others: grains cost little */
	GY_FAR,		/* all else */
};

struct gy_choice {
	const struct gy_coll_algo *algo;
	uint8_t algo_id;	/* position in gy_algos */
	uint8_t grain_log2;	/* bytes */
};

struct gy_select {
	struct gy_select_row {
		uint64_t max_bytes;
		struct gy_choice choice;
	} rows[GY_NCOLLS][GY_SELECT_MAX];	/* by rising max_bytes; the last is UINT64_MAX */
};

/*
 * cfg->algorithm: "allreduce=ring,broadcast=chain" overrides; an algorithm for small vectors only
 * (GY_ALGO_SMALL), or for fewer ranks (max_ranks), leaves the rest to the table.  -EINVAL: unknown
 * name, with a log line that lists the known ones.
 */
int gy_select_init(struct gy_select *sel, const struct gy_config *cfg, int nranks,
		   enum gy_where where);

/* bytes: of the whole vector, see gy_coll_bytes. */
static inline const struct gy_choice *gy_select(const struct gy_select *sel, enum gy_coll coll,
						uint64_t bytes)
{
	const struct gy_select_row *row = sel->rows[coll];

	while (bytes > row->max_bytes)
		row++;
	return &row->choice;
}

/* The longest vector that one rank holds in a call: what thresholds compare. */
static inline uint64_t gy_coll_bytes(enum gy_coll coll, uint64_t count, int nranks, size_t es)
{
	return count * es *
	       (coll == GY_REDUCE_SCATTER || coll == GY_ALLGATHER ? (unsigned)nranks : 1);
}

/* The largest grain, bytes: the size of slots. */
size_t gy_grain_max(const struct gy_config *cfg);
#endif
