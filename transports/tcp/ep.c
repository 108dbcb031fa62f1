/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ep.c - the nic and its endpoints: connections coming, events, going down, closing.
 *
 * Lane 0 makes the endpoint; then the lower rank dials the bulk lanes.  Failure: when a lane ends,
 * what has come on the others is still taken (a peer may send its last grain and leave), then the
 * endpoint is down.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/net.h"
#include "lib/peer.h"
#include "transports/tcp/tcp.h"

#define EP_BLOB_VERSION 1
#define EP_DRAIN_NS (1000 * 1000 * 1000ull)
#define EP_NODE_SNDBUF (128 * 1024)	/* to a rank on this machine */
#define EP_GRAIN (256 * 1024)	/* a usual grain, where none is configured */

uint64_t tcp_now(const struct tcp_ep *te)
{
	struct gy_sys *sys = te->base.nic->ctx->sys;

	return sys->ops->now_ns(sys);
}

int tcp_end_error(ssize_t n)
{
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

void tcp_want_out(struct tcp_lane *lane, bool want)
{
	if (lane->want_out == want || lane->ended)
		return;
	lane->want_out = want;
	tcp_set_events(lane);
}

void tcp_set_events(struct tcp_lane *lane)
{
	gy_poll_mod(&lane->ep->base.nic->ctx->poll, &lane->pfd,
		    (lane->paused ? 0 : EPOLLIN) | (lane->want_out ? EPOLLOUT : 0));
}

/* ---- going ---- */

static void ep_close_lane(struct tcp_lane *lane)
{
	if (lane->pfd.fd < 0)
		return;
	if (!lane->ended)
		gy_poll_del(&lane->ep->base.nic->ctx->poll, &lane->pfd);
	lane->ended = lane->broken = true;
	close(lane->pfd.fd);
	lane->pfd.fd = -1;
}

/* Grains stay where they are until the engine revokes them. */
static void ep_stop(struct tcp_ep *te)
{
	struct tcp_nic *nic = to_tcp_nic(te->base.nic);
	unsigned i;

	if (te->state == TCP_UP && --nic->nup == 0)
		tcp_watch(nic, false);
	te->state = TCP_DOWN;
	gy_wire_cancel(te->base.nic->ctx->wire, &te->base);
	for (i = 0; i < te->nlanes; i++)
		ep_close_lane(&te->lanes[i]);
	tcp_shape_drop(te);
}

void tcp_down(struct tcp_ep *te, int err, const char *why)
{
	if (te->state == TCP_DOWN)
		return;
	ep_stop(te);
	gy_ep_down(&te->base, err, why);
}

void tcp_lane_ended(struct tcp_lane *lane, int err)
{
	gy_poll_del(&lane->ep->base.nic->ctx->poll, &lane->pfd);
	lane->ended = lane->broken = true;
	if (!tcp_is_shaped(lane->ep) || !tcp_shape_end(lane, err))
		tcp_lane_gone(lane, err);
}

void tcp_lane_gone(struct tcp_lane *lane, int err)
{
	struct tcp_ep *te = lane->ep;

	if (te->nended++ == 0)
		te->err = err;
	if (err == -ETIMEDOUT)		/* nothing more will come on the others either */
		tcp_down(te, err, "its host vanished");
	else if (te->nended == te->nopen)
		tcp_down(te, te->err, "its process ended or closed the connection");
}

static void ep_free(struct tcp_ep *te)
{
	unsigned i;

	for (i = 0; i < te->nlanes; i++)
		gy_free(te->lanes[i].own);
	while (gy_list_pop(&te->done))
		to_tcp_nic(te->base.nic)->ndone--;
	gy_list_del(&te->link);
	gy_free(te->rx);
	gy_free(te->tx);
	gy_free(te);
}

void tcp_enter(struct tcp_ep *te)
{
	te->depth++;
}

void tcp_leave(struct tcp_ep *te)
{
	if (--te->depth == 0 && te->closed)
		ep_free(te);
}

/*
 * What came and was not read would turn the close into a reset, which kills what is on its way out.
 */
static void ep_discard(struct tcp_ep *te, struct tcp_lane *lane)
{
	struct tcp_nic *nic = to_tcp_nic(te->base.nic);

	while (recv(lane->pfd.fd, nic->scratch, TCP_SCRATCH, MSG_DONTWAIT) > 0)
		;
}

/* Gets queued messages to the peer's kernel, in bounded time. */
static void ep_drain(struct tcp_ep *te)
{
	struct tcp_lane *lane = &te->lanes[0];
	struct pollfd pfd = { .fd = lane->pfd.fd };
	const uint64_t end = tcp_now(te) + EP_DRAIN_NS;
	int unsent = 0;

	te->msg_full = false;
	while (te->tx_off < te->tx_len && !lane->broken && tcp_now(te) < end) {
		tcp_small_flush(te);
		pfd.events = POLLOUT;
		if (te->tx_off < te->tx_len)
			poll(&pfd, 1, 10);
	}
	shutdown(lane->pfd.fd, SHUT_WR);
	while (tcp_now(te) < end) {
		ep_discard(te, lane);
		if (ioctl(lane->pfd.fd, SIOCOUTQ, &unsent) || unsent == 0)
			break;
		pfd.events = POLLIN;
		poll(&pfd, 1, 1);
	}
}

static void tcp_ep_close(struct gy_ep *ep, bool drain)
{
	struct tcp_ep *te = to_tcp(ep);
	unsigned i;

	if (drain && te->state == TCP_UP)
		ep_drain(te);
	for (i = 1; drain && i < te->nlanes; i++)
		if (te->lanes[i].pfd.fd >= 0)
			ep_discard(te, &te->lanes[i]);
	ep_stop(te);
	te->closed = true;
	if (!te->depth)
		ep_free(te);
}

/* ---- coming ---- */

static void ep_lane_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct tcp_lane *lane = gy_container_of(pfd, struct tcp_lane, pfd);
	struct tcp_ep *te = lane->ep;
	const bool small = lane == &te->lanes[0], in = events & ~(uint32_t)EPOLLOUT;

	tcp_enter(te);
	if (events & (EPOLLHUP | EPOLLERR) && tcp_is_shaped(te))
		tcp_shape_hurry(lane);
	if (events & EPOLLOUT && small)
		tcp_small_flush(te);
	else if (events & EPOLLOUT)
		tcp_bulk_send(lane);
	if (in && !te->closed && small)
		tcp_small_recv(te);
	else if (in && !te->closed)
		tcp_bulk_recv(lane);
	if (!te->closed)
		tcp_bulk_done(te);
	tcp_leave(te);
}

/*
 * How much a bulk lane may take in advance.  On one machine nothing is gained by more than keeps
 * the other side busy, and much is lost when what is under way outgrows the caches: autotuned
 * buffers cost up to twice the processor time.
 */
static void ep_tune_bulk(const struct tcp_ep *te, int fd)
{
	const struct gyre_context *ctx = te->base.nic->ctx;
	const int lowat = 2 * (int)(ctx->cfg.grain_bytes ? ctx->cfg.grain_bytes : EP_GRAIN);
	const int here = EP_NODE_SNDBUF;

	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
	if (!gy_wire_reach(ctx->wire, GY_WIRE_UNIX, &ctx->job[te->base.peer->rank].addr))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &here, sizeof(here));
}

/* A socket becomes a lane.  On an error it is still the caller's. */
static int ep_add_lane(struct tcp_ep *te, unsigned index, int fd)
{
	const struct gyre_context *ctx = te->base.nic->ctx;
	struct tcp_lane *lane = &te->lanes[index];
	int err;

	gy_net_tune(fd, ctx->cfg.host_timeout_ms, false);	/* watch.c says why */
	if (index > 0)
		ep_tune_bulk(te, fd);
	lane->pfd.fd = fd;
	err = gy_poll_add(&te->base.nic->ctx->poll, &lane->pfd, EPOLLIN);
	if (err) {
		lane->pfd.fd = -1;
		return err;
	}
	te->nopen++;
	return 0;
}

/* All of it or, on an error, nothing. */
static int ep_come_up(struct tcp_ep *te, int fd)
{
	struct gyre_context *ctx = te->base.nic->ctx;
	struct tcp_nic *nic = to_tcp_nic(te->base.nic);
	unsigned i;
	int err;

	te->rx = gy_alloc_aligned(GY_CACHELINE, TCP_BUF);
	te->tx = gy_alloc(TCP_BUF);
	err = te->rx && te->tx ? 0 : -ENOMEM;
	for (i = 1; !err && ctx->rank < te->base.peer->rank && i < te->nlanes; i++)
		err = gy_wire_dial(ctx->wire, &te->base, GY_WIRE_TCP, i);
	if (!err)
		err = ep_add_lane(te, 0, fd);
	if (err) {
		gy_wire_cancel(ctx->wire, &te->base);
		gy_free(te->rx);
		gy_free(te->tx);
		te->rx = te->tx = NULL;
		return err;
	}
	te->state = TCP_UP;
	if (nic->nup++ == 0)
		tcp_watch(nic, true);
	gy_ep_up(&te->base);
	return 0;
}

static int tcp_accepted(struct gy_ep *ep, unsigned lane, int fd)
{
	struct tcp_ep *te = to_tcp(ep);
	int err;

	if (fd < 0) {
		tcp_enter(te);
		if (te->state == TCP_UP)
			tcp_small_recv(te);	/* the peer may have said why */
		if (!te->closed)
			tcp_down(te, fd, "a connection for bulk data to it cannot be made");
		tcp_leave(te);
		return 0;
	}
	if (te->state == TCP_DOWN || lane >= te->nlanes || te->lanes[lane].pfd.fd >= 0 ||
	    (lane > 0) != (te->state == TCP_UP)) {
		close(fd);
		return 0;
	}
	err = lane == 0 ? ep_come_up(te, fd) : ep_add_lane(te, lane, fd);
	if (err == -ENOMEM)
		return err;
	if (err) {
		close(fd);
		tcp_down(te, err, "a connection to it cannot be set up here");
	} else if (lane > 0) {
		tcp_bulk_done(te);	/* there is room now */
	}
	return 0;
}

static int tcp_connect(struct gy_ep *ep)
{
	struct tcp_ep *te = to_tcp(ep);
	int err;

	if (te->state != TCP_IDLE)
		return 0;
	err = gy_wire_dial(ep->nic->ctx->wire, ep, GY_WIRE_TCP, 0);
	if (!err)
		te->state = TCP_DIALLING;
	return err;
}

static int tcp_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp)
{
	const unsigned nlanes = 1 + (unsigned)nic->ctx->cfg.tcp_streams;
	struct tcp_ep *te = gy_alloc(sizeof(*te) + nlanes * sizeof(te->lanes[0]));
	unsigned i;

	if (!te)
		return -ENOMEM;
	te->base = (struct gy_ep){ .ops = &gy_tcp_ops,
				   .nic = nic,
				   .peer = peer,
				   .caps = GY_CAP_BULK };
	te->nlanes = nlanes;
	te->in.seed = (uint64_t)peer->rank << 32 | (uint32_t)nic->ctx->rank;
	gy_list_init(&te->queue);
	gy_list_init(&te->done);
	for (i = 0; i < nlanes; i++) {
		te->lanes[i].ep = te;
		gy_list_init(&te->lanes[i].late);
		te->lanes[i].pfd = (struct gy_poll_fd){ .fd = -1, .ready = ep_lane_ready };
	}
	gy_list_add_tail(&to_tcp_nic(nic)->eps, &te->link);
	*epp = &te->base;
	return 0;
}

/* ---- polling ---- */

/* Lane 0 is asked outright, for the latency; the others when bytes of a grain are under way. */
static int tcp_poll(struct gy_ep *ep)
{
	struct tcp_ep *te = to_tcp(ep);
	unsigned i;
	int n;

	if (te->state != TCP_UP)
		return 0;
	tcp_enter(te);
	n = tcp_is_shaped(te) ? tcp_shape_poll(te) : 0;
	n += tcp_small_recv(te);
	for (i = 1; te->state == TCP_UP && !te->closed && i < te->nlanes; i++)
		if (te->lanes[i].hdr_got)
			n += tcp_bulk_recv(&te->lanes[i]);
	if (!te->closed && !gy_list_empty(&te->done))
		n += tcp_bulk_done(te);
	tcp_leave(te);
	return n;
}

/* Sockets are in the poll set, which the engine looks at. */
static int tcp_progress(struct gy_nic *base)
{
	struct tcp_nic *nic = to_tcp_nic(base);
	struct gy_list *pos;
	int n = gy_unlikely(nic->shape.on) ? tcp_shape_run(nic) : 0;

	if (gy_likely(nic->ndone == 0))
		return n;
again:
	gy_list_for_each(pos, &nic->eps) {
		struct tcp_ep *te = gy_list_entry(pos, struct tcp_ep, link);

		if (gy_list_empty(&te->done))
			continue;
		n += tcp_bulk_done(te);
		goto again;		/* an upcall may have closed any of them */
	}
	return n;
}

/* What is ready in the poll set wakes anyway. */
static int tcp_arm(struct gy_nic *nic)
{
	return to_tcp_nic(nic)->ndone != 0;
}

/* ---- nic ---- */

static void tcp_close(struct gy_nic *base)
{
	struct tcp_nic *nic = to_tcp_nic(base);

	gy_assert(gy_list_empty(&nic->eps));
	tcp_shape_close(nic);
	tcp_watch_close(nic);
	gy_free(nic->scratch);
	gy_free(nic);
}

static int tcp_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	struct tcp_nic *nic;
	int err = -ENOMEM;

	if (ctx->sim)
		return -EOPNOTSUPP;
	nic = gy_alloc(sizeof(*nic));
	if (!nic)
		return -ENOMEM;
	nic->base = (struct gy_nic){ .ops = &gy_tcp_ops, .ctx = ctx };
	nic->host_timeout_ns = gy_max((size_t)ctx->cfg.host_timeout_ms * 1000000, TCP_WATCH_MIN_NS);
	nic->timer.fd = nic->shape_timer.fd = -1;
	gy_list_init(&nic->eps);
	nic->scratch = gy_alloc(TCP_SCRATCH);
	if (nic->scratch)
		err = tcp_watch_open(nic);
	if (!err)
		err = tcp_shape_open(nic);
	if (err) {
		tcp_close(&nic->base);
		return err;
	}
	*nicp = &nic->base;
	return 0;
}

/* The addresses are in the job's table (wire.h): this only says that we are here. */
static int tcp_describe(struct gy_nic *nic, void *blob, size_t size)
{
	if (size < 1)
		return -EINVAL;
	*(uint8_t *)blob = EP_BLOB_VERSION;
	return 1;
}

static int tcp_reach(struct gy_nic *nic, int rank, const void *blob, size_t len)
{
	struct gyre_context *ctx = nic->ctx;

	if (len != 1 || *(const uint8_t *)blob != EP_BLOB_VERSION)
		return -EHOSTUNREACH;
	return gy_wire_reach(ctx->wire, GY_WIRE_TCP, &ctx->job[rank].addr);
}

const struct gy_transport_ops gy_tcp_ops = {
	.name = "tcp",
	.open = tcp_open,
	.close = tcp_close,
	.describe = tcp_describe,
	.reach = tcp_reach,
	.ep_open = tcp_ep_open,
	.connect = tcp_connect,
	.accepted = tcp_accepted,
	.ep_close = tcp_ep_close,
	.msg = tcp_msg,
	.bulk = tcp_bulk,
	.expose = gy_no_expose,
	.lend = gy_no_lend,
	.map = gy_no_map,
	.pull = gy_no_pull,
	.revoke = tcp_revoke,
	.poll = tcp_poll,
	.progress = tcp_progress,
	.arm = tcp_arm,
	.disarm = gy_no_disarm,
	.mem_alloc = gy_no_mem_alloc,
	.mem_free = gy_no_mem_free,
	.mem_register = gy_no_mem_register,
	.mem_unregister = gy_no_mem_unregister,
};
