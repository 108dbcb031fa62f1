/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port.c - which device and port: the quickest active one, of several the one on this thread's NUMA
 * node, or what cfg.verbs_device names.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "transports/verbs/verbs.h"

#define PORT_BLOB_VERSION 1

struct port_choice {
	struct ibv_context *dev;
	uint8_t port;
	struct ibv_port_attr attr;
	unsigned speed;
	int node;
	bool near;		/* this thread runs on that node */
};

/* Lanes times their speed, in units of 0.5 Gbit/s. */
static unsigned port_speed(const struct ibv_port_attr *attr)
{
	static const unsigned speeds[] = { 5, 10, 20, 20, 28, 50, 100, 200 };
	unsigned lanes, i = 0;

	switch (attr->active_width) {
	case 1:
		lanes = 1;
		break;
	case 2:
		lanes = 4;
		break;
	case 4:
		lanes = 8;
		break;
	case 8:
		lanes = 12;
		break;
	default:
		lanes = 2;
	}
	while (i + 1 < GY_ARRAY_SIZE(speeds) && attr->active_speed >> (i + 1))
		i++;
	return lanes * speeds[i];
}

static bool port_is_better(const struct port_choice *c, const struct port_choice *best)
{
	if (!best->dev || c->speed != best->speed)
		return !best->dev || c->speed > best->speed;
	return c->near && !best->near;
}

/* name, or name:port */
static bool port_wanted(const struct gyre_context *ctx, const char *name, uint8_t port)
{
	const char *want = ctx->cfg.verbs_device, *colon = strchr(want, ':');
	const size_t len = colon ? (size_t)(colon - want) : strlen(want);

	if (!*want)
		return true;
	return strlen(name) == len && !strncmp(name, want, len) &&
	       (!colon || atoi(colon + 1) == port);
}

/* The GIDs by which this port may be addressed: how many. */
static unsigned port_gids(struct verbs_nic *nic, struct ibv_context *dev, uint8_t port,
			  const struct ibv_port_attr *attr)
{
	static const uint8_t zero[16];
	struct ibv_gid_entry e;
	unsigned n = 0;
	int i;

	for (i = 0; i < attr->gid_tbl_len && n < VERBS_MAX_GIDS; i++) {
		if (ibv_query_gid_ex(dev, port, (uint32_t)i, &e, 0) ||
		    !memcmp(e.gid.raw, zero, sizeof(zero)))
			continue;
		memcpy(nic->blob.gids[n].raw, e.gid.raw, 16);
		nic->blob.gids[n].type = (uint8_t)e.gid_type;
		nic->gid_index[n++] = (uint8_t)i;
		if (attr->link_layer == IBV_LINK_LAYER_INFINIBAND)
			break;		/* the others are aliases */
	}
	return n;
}

static void port_look(struct verbs_nic *nic, struct ibv_context *dev, struct port_choice *best)
{
	struct gy_topology *topology = &nic->base.ctx->topology;
	struct port_choice c = {
		.dev = dev, .node = gy_topology_device_node(topology, dev->device->ibdev_path)
	};
	struct ibv_device_attr dattr;
	unsigned p;

	if (ibv_query_device(dev, &dattr))
		return;
	c.near = gy_topology_at_node(topology, c.node);
	for (p = 1; p <= dattr.phys_port_cnt; p++) {
		c.port = (uint8_t)p;
		if (!port_wanted(nic->base.ctx, dev->device->name, c.port) ||
		    ibv_query_port(dev, c.port, &c.attr) || c.attr.state != IBV_PORT_ACTIVE)
			continue;
		c.speed = port_speed(&c.attr);
		if (!port_is_better(&c, best) || !port_gids(nic, dev, c.port, &c.attr))
			continue;
		nic->max_cqe = (unsigned)dattr.max_cqe;
		*best = c;
	}
}

static void port_take(struct verbs_nic *nic, const struct port_choice *c)
{
	nic->dev = c->dev;
	nic->port = c->port;
	nic->node = c->node;
	nic->blob.version = PORT_BLOB_VERSION;
	nic->blob.link_layer = c->attr.link_layer == IBV_LINK_LAYER_INFINIBAND
				       ? IBV_LINK_LAYER_INFINIBAND
				       : IBV_LINK_LAYER_ETHERNET;
	nic->blob.mtu = (uint8_t)c->attr.active_mtu;
	nic->blob.lid = c->attr.lid;
	/* Another port may have been looked at since. */
	nic->blob.ngids = (uint8_t)port_gids(nic, c->dev, c->port, &c->attr);
}

static gy_cold void port_none(const struct verbs_nic *nic, int ndevs)
{
	const struct gyre_context *ctx = nic->base.ctx;

	if (ctx->cfg.transport != GY_CONFIG_TRANSPORT_VERBS && !*ctx->cfg.verbs_device)
		return;
	if (*ctx->cfg.verbs_device)
		gy_err("verbs: %s is not a device with an active port (GYRE_VERBS_DEVICE)",
		       ctx->cfg.verbs_device);
	else if (ndevs)
		gy_err("verbs: none of %d devices can be used: no active port, or no access to "
		       "/dev/infiniband/uverbs*",
		       ndevs);
	else
		gy_err("verbs: there is no RDMA device; \"rdma link add rxe0 type rxe netdev "
		       "eth0\" makes one of a network interface");
}

int verbs_port_open(struct verbs_nic *nic)
{
	struct port_choice best = { .dev = NULL };
	struct ibv_context *dev, *old;
	struct ibv_device **list;
	int n = 0, i;

	list = ibv_get_device_list(&n);
	for (i = 0; list && i < n; i++) {
		if (!port_wanted(nic->base.ctx, list[i]->name, 0) &&
		    !strchr(nic->base.ctx->cfg.verbs_device, ':'))
			continue;
		dev = ibv_open_device(list[i]);
		if (!dev)
			continue;
		old = best.dev;
		port_look(nic, dev, &best);
		if (best.dev != dev)
			ibv_close_device(dev);
		else if (old)
			ibv_close_device(old);
	}
	if (list)
		ibv_free_device_list(list);
	if (!best.dev) {
		port_none(nic, n);
		return -EOPNOTSUPP;
	}
	port_take(nic, &best);
	return 0;
}
