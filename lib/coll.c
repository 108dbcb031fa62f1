/* SPDX-License-Identifier: BSD-3-Clause */
/* What is common to the planners of a collective; see coll.h. */
#include "lib/coll.h"

const char *gy_coll_name(enum gy_coll coll)
{
	static const char *const names[GY_NCOLLS] = {
		[GY_ALLREDUCE] = "allreduce",
		[GY_REDUCE_SCATTER] = "reduce_scatter",
		[GY_ALLGATHER] = "allgather",
		[GY_BROADCAST] = "broadcast",
		[GY_BARRIER] = "barrier",
	};

	return (unsigned)coll < GY_NCOLLS ? names[coll] : NULL;
}

uint32_t gy_coll_alias(enum gy_coll coll, const struct gy_coll_args *a)
{
	return coll == GY_ALLGATHER ? a->rank : 0;
}
