/* SPDX-License-Identifier: BSD-3-Clause */
/* In the place of gyre-info-verbs.c where gyre is built without libibverbs. */
#include "tools/gyre-info.h"

void gi_verbs_read(struct gi_rdma *rdma)
{
	rdma->library = false;
}
