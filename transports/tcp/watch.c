/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c - notices hosts that vanish while data are under way to them.
 *
 * Keepalive tells of an idle connection, but not while bytes wait to be acknowledged; and
 * TCP_USER_TIMEOUT, which would, also kills the connection of a peer that is only stopped: its
 * receive window stays shut, though its kernel answers.  So: a lane whose bytes, or whose probes
 * of a shut window, nobody has acknowledged for the host timeout is dead.
 * Cost: a timer while any endpoint is up; eight getsockopts for each lane in a host timeout.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/context.h"
#include "transports/tcp/tcp.h"

#define WATCH_TICK_NS (100 * 1000 * 1000ull)
#define WATCH_QUIET_NS (500 * 1000 * 1000ull)	/* a lane has ended: for the others to end too */

/* 0, or since when the lane has been stuck. */
static uint64_t watch_lane(const struct tcp_lane *lane, uint64_t now_ns)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);
	uint64_t heard_ns;

	if (getsockopt(lane->pfd.fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ||
	    (ti.tcpi_unacked == 0 && ti.tcpi_probes == 0))
		return 0;
	heard_ns = (uint64_t)ti.tcpi_last_ack_recv * 1000000;
	heard_ns = heard_ns < now_ns ? now_ns - heard_ns : 0;
	if (!lane->stuck_ns || heard_ns > lane->stuck_ns)
		return now_ns;
	return lane->stuck_ns;
}

static bool watch_is_gone(struct tcp_ep *te, uint64_t now_ns, uint64_t timeout_ns)
{
	struct tcp_lane *lane;
	unsigned i;

	for (i = 0; i < te->nlanes; i++) {
		lane = &te->lanes[i];
		if (lane->pfd.fd < 0 || lane->ended)
			continue;
		lane->stuck_ns = watch_lane(lane, now_ns);
		if (lane->stuck_ns && now_ns - lane->stuck_ns >= timeout_ns)
			return true;
	}
	return false;
}

/* true: the endpoint has gone down, and others may have been closed meanwhile. */
static bool watch_ep(struct tcp_nic *nic, struct tcp_ep *te, uint64_t now_ns, bool look)
{
	if (te->state != TCP_UP)
		return false;
	if (te->nended) {
		if (!te->quiet_ns || tcp_shape_is_late(te))
			te->quiet_ns = now_ns;
		if (now_ns - te->quiet_ns < WATCH_QUIET_NS)
			return false;
		tcp_down(te, te->err, "a connection to it ended");
		return true;
	}
	/* What is noticed an eighth late is due an eighth early. */
	if (!look || !watch_is_gone(te, now_ns, nic->host_timeout_ns / 8 * 7))
		return false;
	tcp_down(te, -ETIMEDOUT, "its host vanished");
	return true;
}

static void watch_tick(struct gy_poll_fd *pfd, uint32_t events)
{
	struct tcp_nic *nic = gy_container_of(pfd, struct tcp_nic, timer);
	struct gy_sys *sys = nic->base.ctx->sys;
	const uint64_t now_ns = sys->ops->now_ns(sys);
	const bool look = now_ns - nic->looked_ns >= nic->host_timeout_ns / 8;
	struct gy_list *pos;
	uint64_t ticks;

	if (read(pfd->fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	if (look)
		nic->looked_ns = now_ns;
again:
	gy_list_for_each(pos, &nic->eps)
		if (watch_ep(nic, gy_list_entry(pos, struct tcp_ep, link), now_ns, look))
			goto again;
}

int tcp_watch_open(struct tcp_nic *nic)
{
	int err;

	nic->timer.ready = watch_tick;
	nic->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (nic->timer.fd < 0)
		return -errno;
	err = gy_poll_add(&nic->base.ctx->poll, &nic->timer, EPOLLIN);
	if (err) {
		close(nic->timer.fd);
		nic->timer.fd = -1;
	}
	return err;
}

void tcp_watch_close(struct tcp_nic *nic)
{
	if (nic->timer.fd < 0)
		return;
	gy_poll_del(&nic->base.ctx->poll, &nic->timer);
	close(nic->timer.fd);
}

void tcp_watch(struct tcp_nic *nic, bool on)
{
	const long tick = on ? (long)WATCH_TICK_NS : 0;
	const struct itimerspec t = { .it_interval.tv_nsec = tick, .it_value.tv_nsec = tick };

	timerfd_settime(nic->timer.fd, 0, &t, NULL);
}
