/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * none.c - stands for verbs in a library that was configured without: ranks of differently
 * configured libraries number their transports alike.
 */
#include <errno.h>

#include "lib/context.h"
#include "lib/log.h"
#include "lib/transport.h"

extern const struct gy_transport_ops gy_verbs_ops;

static int none_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	if (ctx->cfg.transport == GY_CONFIG_TRANSPORT_VERBS)
		gy_err("this library was built without verbs (configure --with-verbs)");
	return -EOPNOTSUPP;
}

const struct gy_transport_ops gy_verbs_ops = {
	.name = "verbs",
	.open = none_open,
	.accepted = gy_no_accepted,
	.bulk = gy_no_bulk,
	.expose = gy_no_expose,
	.lend = gy_no_lend,
	.map = gy_no_map,
	.pull = gy_no_pull,
	.revoke = gy_no_revoke,
	.arm = gy_no_arm,
	.disarm = gy_no_disarm,
	.mem_alloc = gy_no_mem_alloc,
	.mem_free = gy_no_mem_free,
	.mem_register = gy_no_mem_register,
	.mem_unregister = gy_no_mem_unregister,
};
