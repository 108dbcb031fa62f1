/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * route.c - what librdmacm knows of the way to a peer: service level, traffic class, flow label,
 * packet size of the path.  It resolves the peer's address as sockets do (routing table, neighbour
 * cache, on InfiniBand the subnet administrator), without connecting: rdma_connect would need the
 * peer's process in time.
 *
 * Where it cannot be asked (no /dev/infiniband/rdma_cm, addresses that are no IP) or has no answer,
 * the port's own values do; the ping decides.
 */
#include <errno.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <string.h>

#include "lib/log.h"
#include "lib/peer.h"
#include "transports/verbs/verbs.h"

#define ROUTE_DIVISOR 8		/* of the host timeout: for each of two steps */

static int route_timeout_ms(const struct verbs_ep *ve)
{
	return ve->base.nic->ctx->cfg.host_timeout_ms / ROUTE_DIVISOR;
}

/* false: no IP address. */
static bool route_sockaddr(const struct verbs_gid *gid, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	switch (verbs_gid_family(gid->raw)) {
	case VERBS_IPV4:
		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, gid->raw + 12, 4);
		return true;
	case VERBS_IPV6:
		in6->sin6_family = AF_INET6;
		memcpy(&in6->sin6_addr, gid->raw, 16);
		return true;
	default:
		return false;
	}
}

void verbs_route_cancel(struct verbs_ep *ve)
{
	if (ve->cm_id)
		rdma_destroy_id(ve->cm_id);
	ve->cm_id = NULL;
}

static void route_take(struct verbs_ep *ve, const struct rdma_cm_id *id)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	const struct ibv_sa_path_rec *path = id->route.path_rec;

	if (!id->verbs || strcmp(id->verbs->device->name, nic->dev->device->name) ||
	    id->port_num != nic->port || id->route.num_paths < 1)
		return;
	ve->route.sl = path->sl;
	ve->route.traffic_class = path->traffic_class;
	ve->route.flow_label = be32toh(path->flow_label) & 0xfffff;
	if (path->mtu >= IBV_MTU_256 && path->mtu <= IBV_MTU_4096)
		ve->route.mtu = path->mtu;
	gy_dbg("rank %d by verbs: service level %u, traffic class %u, MTU %u",
	       ve->base.peer->rank, ve->route.sl, ve->route.traffic_class, 128u << ve->route.mtu);
}

static void route_event(struct rdma_cm_id *id, enum rdma_cm_event_type type)
{
	struct verbs_ep *ve = id->context;

	if (ve->cm_id != id)
		return;
	if (type == RDMA_CM_EVENT_ADDR_RESOLVED && !rdma_resolve_route(id, route_timeout_ms(ve)))
		return;
	if (type == RDMA_CM_EVENT_ROUTE_RESOLVED)
		route_take(ve, id);
	else
		gy_info("rank %d by verbs: no route found (%s)", ve->base.peer->rank,
			rdma_event_str(type));
	verbs_route_cancel(ve);
	verbs_enter(ve);
	verbs_meet_routed(ve);
	verbs_leave(ve);
}

void verbs_route_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct verbs_nic *nic = gy_container_of(pfd, struct verbs_nic, cm);
	enum rdma_cm_event_type type;
	struct rdma_cm_event *e;
	struct rdma_cm_id *id;

	while (!rdma_get_cm_event(nic->cm_channel, &e)) {
		type = e->event;
		id = e->id;
		rdma_ack_cm_event(e);
		route_event(id, type);
	}
}

void verbs_route_start(struct verbs_ep *ve)
{
	struct verbs_nic *nic = verbs_ep_nic(ve);
	struct sockaddr_storage from, to;

	verbs_route_cancel(ve);
	memset(&ve->route, 0, sizeof(ve->route));
	ve->route.mtu = (uint8_t)gy_min(nic->blob.mtu, ve->peer.mtu);
	if (nic->cm_channel && route_sockaddr(&nic->blob.gids[ve->gid], &from) &&
	    route_sockaddr(&ve->peer.gids[ve->peer_gid], &to) &&
	    !rdma_create_id(nic->cm_channel, &ve->cm_id, ve, RDMA_PS_TCP)) {
		if (!rdma_resolve_addr(ve->cm_id, (struct sockaddr *)&from,
				       (struct sockaddr *)&to, route_timeout_ms(ve)))
			return;
		verbs_route_cancel(ve);
	}
	verbs_meet_routed(ve);
}

void verbs_route_open(struct verbs_nic *nic)
{
	nic->cm_channel = rdma_create_event_channel();
}

void verbs_route_close(struct verbs_nic *nic)
{
	if (nic->cm_channel)
		rdma_destroy_event_channel(nic->cm_channel);
}
