/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nic.c - the device of a context: opening it, whom it reaches, looking for work, sleeping, and
 * what the device says by itself.
 *
 * Sleeping: the completion channel is in the poll set; arm asks for an event of the next completion
 * and looks once more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/verbs/verbs.h"

#define NIC_WC 64		/* completions that wait; grows */
#define NIC_EVENTS 64		/* acknowledged together: it takes a lock */
#define NIC_TICK_NS (100 * 1000 * 1000l)

uint64_t verbs_now(const struct verbs_nic *nic)
{
	struct gy_sys *sys = nic->base.ctx->sys;

	return sys->ops->now_ns(sys);
}

/* ---- time ---- */

void verbs_timer(struct verbs_nic *nic, bool on)
{
	const struct itimerspec t = { .it_interval.tv_nsec = on ? NIC_TICK_NS : 0,
				      .it_value.tv_nsec = on ? NIC_TICK_NS : 0 };

	if (nic->timing == on)
		return;
	nic->timing = on;
	timerfd_settime(nic->timer.fd, 0, &t, NULL);
}

void verbs_timer_look(struct verbs_nic *nic)
{
	struct gy_list *pos;

	if (!nic->timing || nic->port_down_ns)
		return;
	gy_list_for_each(pos, &nic->eps)
		if (gy_list_entry(pos, struct verbs_ep, link)->state == VERBS_MEETING)
			return;
	verbs_timer(nic, false);
}

/* All endpoints go down. */
static gy_cold void nic_doom(struct verbs_nic *nic, int err, const char *why)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &nic->eps) {
		struct verbs_ep *ve = gy_list_entry(pos, struct verbs_ep, link);

		if (ve->state >= VERBS_MEETING)
			verbs_doom(ve, err, "%s port %u here: %s", nic->dev->device->name,
				   nic->port, why);
	}
}

static void nic_tick(struct gy_poll_fd *pfd, uint32_t events)
{
	struct verbs_nic *nic = gy_container_of(pfd, struct verbs_nic, timer);
	const uint64_t now = verbs_now(nic);
	const uint64_t limit = (uint64_t)nic->base.ctx->cfg.host_timeout_ms * VERBS_NS_PER_MS / 2;
	struct gy_list *pos, *after;
	uint64_t ticks;

	if (read(pfd->fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	if (nic->port_down_ns && now - nic->port_down_ns > limit)
		nic_doom(nic, -ENETDOWN, "its link is down");
	/* A tick closes at most the endpoint itself. */
	gy_list_for_each_safe(pos, after, &nic->eps)
		verbs_meet_tick(gy_list_entry(pos, struct verbs_ep, link), now);
	verbs_timer_look(nic);
}

/* ---- what the device says ---- */

static void nic_qp_event(struct verbs_nic *nic, const struct ibv_qp *qp, const char *what)
{
	unsigned i;

	for (i = 0; i < nic->nslots; i++)
		if (nic->slots[i].qp && nic->slots[i].qp->qp == qp)
			verbs_doom(nic->slots[i].qp->ep, -ECONNABORTED, "queue pair %u: %s",
				   qp->qp_num, what);
}

static void nic_event(struct verbs_nic *nic, const struct ibv_async_event *e)
{
	const char *what = ibv_event_type_str(e->event_type);

	switch (e->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		nic_qp_event(nic, e->element.qp, what);
		break;
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_DEVICE_FATAL:
		nic->failed = true;
		nic_doom(nic, -EIO, what);
		break;
	case IBV_EVENT_PORT_ERR:
		if (e->element.port_num != nic->port || nic->port_down_ns)
			break;
		nic->port_down_ns = verbs_now(nic);
		verbs_timer(nic, true);
		gy_warn("%s port %u: the link went down", nic->dev->device->name, nic->port);
		break;
	case IBV_EVENT_PORT_ACTIVE:
		if (e->element.port_num == nic->port)
			nic->port_down_ns = 0;
		break;
	default:
		gy_dbg("%s: %s", nic->dev->device->name, what);
	}
}

static void nic_async_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct verbs_nic *nic = gy_container_of(pfd, struct verbs_nic, async);
	struct ibv_async_event e;

	while (!ibv_get_async_event(nic->dev, &e)) {
		nic_event(nic, &e);
		ibv_ack_async_event(&e);
	}
}

/* ---- work ---- */

static int nic_progress(struct gy_nic *base)
{
	struct verbs_nic *nic = to_verbs_nic(base);
	int n = verbs_cq_poll(nic);

	if (gy_unlikely(!gy_list_empty(&nic->work)))
		n += verbs_work(nic);
	if (n) {
		nic->idle = 0;
		return n;
	}
	/* Who waits for a slot may wait for one that the device has long done with. */
	if (gy_unlikely(++nic->idle == VERBS_QUIET || base->ctx->engine.pool.starved))
		verbs_bulk_await(nic);
	else if (gy_unlikely(base->pressed))
		verbs_bulk_pressed(nic);
	if (gy_unlikely(!gy_list_empty(&nic->tails)))
		verbs_bulk_tails(nic);
	if (gy_unlikely(!gy_list_empty(&nic->leaving)))
		verbs_leaving(nic);
	return 0;
}

/* One completion queue for all: there is no cheaper way to look at one endpoint. */
static int nic_poll(struct gy_ep *ep)
{
	return nic_progress(ep->nic);
}

static void nic_events_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct verbs_nic *nic = gy_container_of(pfd, struct verbs_nic, events);
	struct ibv_cq *cq;
	void *arg;

	while (!ibv_get_cq_event(nic->channel, &cq, &arg)) {
		if (++nic->nevents < NIC_EVENTS)
			continue;
		ibv_ack_cq_events(nic->cq, nic->nevents);
		nic->nevents = 0;
	}
}

static int nic_arm(struct gy_nic *base)
{
	struct verbs_nic *nic = to_verbs_nic(base);

	verbs_bulk_await(nic);
	verbs_bulk_tails(nic);
	if (nic->failed || ibv_req_notify_cq(nic->cq, 0))
		return !gy_list_empty(&nic->work);
	return verbs_cq_fill(nic) != 0 || !gy_list_empty(&nic->work);
}

/* ---- open and close ---- */

static void nic_close_fd(struct verbs_nic *nic, struct gy_poll_fd *pfd, bool ours)
{
	if (pfd->fd < 0)
		return;
	gy_poll_del(&nic->base.ctx->poll, pfd);
	if (ours)
		close(pfd->fd);
	pfd->fd = -1;
}

static void nic_close(struct gy_nic *base)
{
	struct verbs_nic *nic = to_verbs_nic(base);

	gy_assert(gy_list_empty(&nic->eps) && gy_list_empty(&nic->pages));
	while (verbs_leaving(nic)) {
		verbs_cq_poll(nic);
		base->ctx->sys->ops->yield(base->ctx->sys);
	}
	nic_close_fd(nic, &nic->timer, true);
	nic_close_fd(nic, &nic->events, false);
	nic_close_fd(nic, &nic->async, false);
	nic_close_fd(nic, &nic->cm, false);
	verbs_route_close(nic);
	if (nic->nevents)
		ibv_ack_cq_events(nic->cq, nic->nevents);
	if (nic->cq)
		ibv_destroy_cq(nic->cq);
	if (nic->channel)
		ibv_destroy_comp_channel(nic->channel);
	verbs_mem_close(nic);
	if (nic->pd)
		ibv_dealloc_pd(nic->pd);
	if (nic->dev)
		ibv_close_device(nic->dev);
	gy_free(nic->slots);
	gy_free(nic->wc);
	gy_free(nic);
}

static int nic_watch(struct verbs_nic *nic, struct gy_poll_fd *pfd, int fd)
{
	const int flags = fcntl(fd, F_GETFL);
	int err;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	pfd->fd = fd;
	err = gy_poll_add(&nic->base.ctx->poll, pfd, EPOLLIN);
	if (err)
		pfd->fd = -1;
	return err;
}

static int nic_open_timer(struct verbs_nic *nic)
{
	const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int err;

	if (fd < 0)
		return -errno;
	err = nic_watch(nic, &nic->timer, fd);
	if (err)
		close(fd);
	return err;
}

static int nic_open_queue(struct verbs_nic *nic)
{
	const struct gyre_context *ctx = nic->base.ctx;
	const size_t peers = gy_min((size_t)gy_max((size_t)ctx->nranks, 2) - 1, VERBS_PEERS);
	const size_t entries = peers * verbs_qp_entries((unsigned)ctx->cfg.verbs_qps);
	int err;

	nic->cq_size = (unsigned)gy_min(entries, nic->max_cqe);
	nic->channel = ibv_create_comp_channel(nic->dev);
	if (!nic->channel)
		return -errno;
	nic->cq = ibv_create_cq(nic->dev, (int)nic->cq_size, NULL, nic->channel, 0);
	if (!nic->cq)
		return -errno;
	err = nic_watch(nic, &nic->events, nic->channel->fd);
	if (!err)
		err = nic_watch(nic, &nic->async, nic->dev->async_fd);
	return err;
}

static int nic_set_up(struct verbs_nic *nic)
{
	int err;

	/* A child of fork must not take pages away from the device; older kernels need this. */
	ibv_fork_init();
	err = verbs_port_open(nic);
	if (err)
		return err;
	nic->pd = ibv_alloc_pd(nic->dev);
	if (!nic->pd)
		return -errno;
	err = verbs_mem_open(nic);
	if (!err)
		err = nic_open_queue(nic);
	if (!err)
		err = nic_open_timer(nic);
	if (err)
		return err;
	verbs_route_open(nic);
	return nic->cm_channel ? nic_watch(nic, &nic->cm, nic->cm_channel->fd) : 0;
}

static int nic_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	struct verbs_nic *nic;
	int err;

	if (ctx->sim || (ctx->nranks == 1 && ctx->cfg.transport == GY_CONFIG_TRANSPORT_AUTO))
		return -EOPNOTSUPP;
	nic = gy_alloc(sizeof(*nic));
	if (!nic)
		return -ENOMEM;
	nic->base = (struct gy_nic){ .ops = &gy_verbs_ops, .ctx = ctx };
	nic->events = (struct gy_poll_fd){ .fd = -1, .ready = nic_events_ready };
	nic->async = (struct gy_poll_fd){ .fd = -1, .ready = nic_async_ready };
	nic->timer = (struct gy_poll_fd){ .fd = -1, .ready = nic_tick };
	nic->cm = (struct gy_poll_fd){ .fd = -1, .ready = verbs_route_ready };
	gy_list_init(&nic->eps);
	gy_list_init(&nic->leaving);
	gy_list_init(&nic->work);
	gy_list_init(&nic->silent);
	gy_list_init(&nic->tails);
	gy_list_init(&nic->pages);
	nic->wc_size = NIC_WC;
	nic->wc = gy_alloc_array(nic->wc_size, sizeof(*nic->wc));
	err = nic->wc ? nic_set_up(nic) : -ENOMEM;
	if (err) {
		if (err != -EOPNOTSUPP)
			gy_info("verbs: %s cannot be used: %s",
				nic->dev ? nic->dev->device->name : "the device",
				gyre_strerror(err));
		nic_close(&nic->base);
		return err == -ENOMEM ? err : -EOPNOTSUPP;
	}
	*nicp = &nic->base;
	return 0;
}

static int nic_describe(struct gy_nic *base, void *blob, size_t size)
{
	const struct verbs_nic *nic = to_verbs_nic(base);

	if (size < sizeof(nic->blob))
		return -ENOBUFS;
	memcpy(blob, &nic->blob, sizeof(nic->blob));
	return (int)sizeof(nic->blob);
}

/* Whether packets pass is seen when they connect. */
static int nic_reach(struct gy_nic *base, int rank, const void *blob, size_t len)
{
	const struct verbs_nic *nic = to_verbs_nic(base);
	struct gyre_context *ctx = base->ctx;
	struct verbs_blob theirs;

	if (len != sizeof(theirs))
		return -EHOSTUNREACH;
	memcpy(&theirs, blob, len);
	if (theirs.version != nic->blob.version || theirs.link_layer != nic->blob.link_layer)
		return -EHOSTUNREACH;
	return gy_wire_reach(ctx->wire, GY_WIRE_TCP, &ctx->job[rank].addr);
}

const struct gy_transport_ops gy_verbs_ops = {
	.name = "verbs",
	.writes = true,
	.open = nic_open,
	.close = nic_close,
	.describe = nic_describe,
	.reach = nic_reach,
	.ep_open = verbs_ep_open,
	.connect = verbs_connect,
	.accepted = verbs_accepted,
	.ep_close = verbs_ep_close,
	.msg = verbs_msg,
	.bulk = verbs_bulk,
	.expose = verbs_expose,
	.lend = gy_no_lend,
	.map = gy_no_map,
	.pull = gy_no_pull,
	.revoke = verbs_revoke,
	.poll = nic_poll,
	.progress = nic_progress,
	.arm = nic_arm,
	.disarm = gy_no_disarm,
	.mem_alloc = verbs_pages_alloc,
	.mem_free = verbs_pages_free,
	.mem_register = verbs_mem_register,
	.mem_unregister = verbs_mem_unregister,
};
