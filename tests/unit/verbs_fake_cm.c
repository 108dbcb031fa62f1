/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_fake_cm.c - librdmacm of verbs_fake.h: resolves any address in two steps, which succeed or
 * fail as the test says.
 */
#include <rdma/rdma_cma.h>

#include "tests/unit/verbs_fake_priv.h"

#define DEV_CM 128

static struct rdma_cm_event dev_cm[DEV_CM];	/* those that wait; without id: nobody's */
static unsigned dev_ncm;

void dev_cm_reset(void)
{
	dev_ncm = 0;
}

struct rdma_event_channel *rdma_create_event_channel(void)
{
	DEV_LOCKED;
	struct rdma_event_channel *ch;

	if (vf.no_cm)
		return NULL;
	ch = calloc(1, sizeof(*ch));
	ch->fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	vf.others++;
	return ch;
}

void rdma_destroy_event_channel(struct rdma_event_channel *ch)
{
	DEV_LOCKED;

	close(ch->fd);
	free(ch);
	vf.others--;
}

int rdma_create_id(struct rdma_event_channel *ch, struct rdma_cm_id **idp, void *arg,
		   enum rdma_port_space ps)
{
	DEV_LOCKED;

	*idp = calloc(1, sizeof(**idp));
	(*idp)->channel = ch;
	(*idp)->context = arg;
	(*idp)->port_num = 1;
	(*idp)->verbs = &dev_context(0)->v.context;
	vf.others++;
	return 0;
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	DEV_LOCKED;
	unsigned i;

	for (i = 0; i < dev_ncm; i++)
		if (dev_cm[i].id == id)
			dev_cm[i].id = NULL;
	free(id->route.path_rec);
	free(id);
	vf.others--;
	return 0;
}

/* Each step succeeds, or fails when vf.cm_fails says so. */
static int dev_cm_step(struct rdma_cm_id *id, enum rdma_cm_event_type good,
		       enum rdma_cm_event_type bad)
{
	DEV_LOCKED;

	need(dev_ncm < DEV_CM);
	dev_cm[dev_ncm++] = (struct rdma_cm_event){ .id = id,
						    .event = dev_due(&vf.cm_fails) ? bad : good };
	need(eventfd_write(id->channel->fd, 1) == 0);
	return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms)
{
	need(from->sa_family == to->sa_family && ms > 0);
	return dev_cm_step(id, RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_ERROR);
}

int rdma_resolve_route(struct rdma_cm_id *id, int ms)
{
	struct ibv_sa_path_rec *path = calloc(1, sizeof(*path));

	path->sl = 3;
	path->traffic_class = 96;
	path->mtu = IBV_MTU_512;
	path->hop_limit = 1;
	id->route.path_rec = path;
	id->route.num_paths = 1;
	return dev_cm_step(id, RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_ERROR);
}

int rdma_get_cm_event(struct rdma_event_channel *ch, struct rdma_cm_event **ep)
{
	static _Thread_local struct rdma_cm_event e; /* until the next call; ranks may be threads */
	DEV_LOCKED;
	eventfd_t n;
	unsigned i;

	for (i = 0; i < dev_ncm; i++) {
		e = dev_cm[i];
		if (!e.id || e.id->channel != ch)
			continue;
		dev_cm[i] = dev_cm[--dev_ncm];
		*ep = &e;
		return 0;
	}
	while (eventfd_read(ch->fd, &n) == 0)
		;
	return -1;
}

int rdma_ack_cm_event(struct rdma_cm_event *e)
{
	return 0;
}

const char *rdma_event_str(enum rdma_cm_event_type type)
{
	return "an event";
}
