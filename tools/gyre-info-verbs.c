/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-verbs.c - what only libibverbs knows: the MTU of ports, and which devices it has a
 * driver for.
 */
#include <string.h>

#include <infiniband/verbs.h>

#include "tools/gyre-info.h"

static long long verbs_mtu(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128LL << mtu : GI_UNKNOWN;
}

static void verbs_device_read(struct ibv_context *ctx, struct gi_device *dev)
{
	struct ibv_port_attr attr;
	size_t i;

	for (i = 0; i < dev->nports; i++) {
		if (ibv_query_port(ctx, (uint8_t)dev->ports[i].number, &attr))
			continue;
		dev->ports[i].active_mtu = verbs_mtu(attr.active_mtu);
		dev->ports[i].max_mtu = verbs_mtu(attr.max_mtu);
	}
}

void gi_verbs_read(struct gi_rdma *rdma)
{
	struct ibv_device **list;
	struct ibv_context *ctx;
	size_t i;
	int n, d;

	rdma->library = true;
	if (!gi_root_is_here() || !rdma->n)
		return;
	list = ibv_get_device_list(&n);
	rdma->library_devices = list ? n : 0;
	for (d = 0; list && d < n; d++) {
		for (i = 0; i < rdma->n; i++) {
			if (strcmp(rdma->devices[i].name, ibv_get_device_name(list[d])) != 0)
				continue;
			ctx = ibv_open_device(list[d]);
			rdma->devices[i].opens = ctx;
			if (ctx) {
				verbs_device_read(ctx, &rdma->devices[i]);
				ibv_close_device(ctx);
			}
		}
	}
	if (list)
		ibv_free_device_list(list);
}
