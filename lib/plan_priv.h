/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_PLAN_PRIV_H
#define GY_PLAN_PRIV_H
/* What plan_build.c and plan_deps.c share, and nobody else. */
#include "lib/plan.h"

struct gy_scope {
	const int *ranks;
	const uint32_t *map;	/* NULL: blocks keep their numbers */
	int nranks;
	uint32_t nblocks;
};

/* A plan while it is built. */
struct gy_builder {
	int err;			/* the first one */
	bool in_place;
	uint32_t alias;			/* in place: IN block b is OUT block b + alias */
	uint32_t moves_cap, ends_cap;
	unsigned depth;
	struct gy_scope scopes[GY_MAX_SCOPES];
	uint32_t *sent, *received;	/* streams so far, by peer */
};

/* plan_deps.c: fills in pl->deps and each move's dep and ndeps.  0, -ENOMEM or -EINVAL. */
int gy_plan_derive(struct gy_plan *pl);
#endif
