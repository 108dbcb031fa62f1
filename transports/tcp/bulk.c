/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bulk.c - grains on lanes 1 and up.
 *
 * Out: grains wait in one queue for each peer; a lane that has written its grain takes the next, so
 * the quickest carries most.  TCP_NOTSENT_LOWAT keeps a lane from taking what it cannot send soon.
 * In: header, then the bytes straight to where the engine wants them, and with the last of them the
 * next header.  Wire format: header, hdr.len bytes, no padding. Cost: no copy but the kernel's; one
 * sendmsg for a grain that the socket has room for.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/alloc.h"
#include "transports/tcp/tcp.h"

#define BULK_BURST (1024 * 1024)	/* bytes read from a lane before others get their turn */

/* ---- out ---- */

static size_t bulk_total(const struct gy_grain *g)
{
	return sizeof(g->hdr) + g->hdr.len;
}

/* The grain of the lane is written. */
static void bulk_written(struct tcp_lane *lane)
{
	struct tcp_ep *te = lane->ep;

	if (lane->own) {
		gy_free(lane->own);
		lane->own = NULL;
	} else {
		gy_list_add_tail(&te->done, &lane->out->link);
		to_tcp_nic(te->base.nic)->ndone++;
	}
	lane->out = NULL;
}

/* Writes as much of the lane's grain as goes.  false: no room, or broken. */
static bool bulk_write(struct tcp_lane *lane)
{
	struct gy_grain *g = lane->out;
	const size_t head = g->done < sizeof(g->hdr) ? sizeof(g->hdr) - g->done : 0;
	const size_t body = g->done - (sizeof(g->hdr) - head);
	const struct iovec iov[2] = {
		{ (char *)&g->hdr + g->done, head },
		{ (char *)g->src + body, g->hdr.len - body },
	};
	const struct msghdr m = { .msg_iov = (struct iovec *)(head ? iov : iov + 1),
				  .msg_iovlen = head ? 2 : 1 };
	ssize_t n = sendmsg(lane->pfd.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		lane->broken = errno != EAGAIN && errno != EINTR && errno != ENOBUFS &&
			       errno != ENOMEM;
		return false;
	}
	g->done += (size_t)n;
	return g->done == bulk_total(g);
}

/* Works on the lane's grain, then on those in the queue, until there is no room. */
void tcp_bulk_send(struct tcp_lane *lane)
{
	struct tcp_ep *te = lane->ep;

	while (!lane->broken) {
		if (!lane->out && !gy_list_empty(&te->queue)) {
			lane->out = gy_list_entry(gy_list_pop(&te->queue), struct gy_grain, link);
			te->nqueued--;
		}
		if (!lane->out || !bulk_write(lane))
			break;
		bulk_written(lane);
	}
	tcp_want_out(lane, lane->out && !lane->broken);
}

static struct tcp_lane *bulk_idle_lane(struct tcp_ep *te)
{
	unsigned i;

	for (i = 1; i < te->nlanes; i++)
		if (te->lanes[i].pfd.fd >= 0 && !te->lanes[i].out && !te->lanes[i].broken)
			return &te->lanes[i];
	return NULL;
}

/* One grain waits for each lane, so that a lane need not wait for the engine. */
int tcp_bulk(struct gy_ep *ep, struct gy_grain *g)
{
	struct tcp_ep *te = to_tcp(ep);
	struct tcp_lane *lane;

	if (te->state != TCP_UP)
		return -ENOTCONN;
	lane = bulk_idle_lane(te);
	if (!lane && (te->nopen < 2 || te->nqueued >= te->nopen - 1)) {
		te->bulk_full = true;
		return -EAGAIN;
	}
	g->done = 0;
	gy_list_add_tail(&te->queue, &g->link);
	te->nqueued++;
	if (lane)
		tcp_bulk_send(lane);
	return 0;
}

/*
 * Makes the upcalls for what has been written; not out of tcp_bulk, where the engine does not
 * expect them.  How many.
 */
int tcp_bulk_done(struct tcp_ep *te)
{
	struct gy_list *l;
	int n = 0;

	tcp_enter(te);
	while (!te->closed && (l = gy_list_pop(&te->done))) {
		to_tcp_nic(te->base.nic)->ndone--;
		n++;
		gy_sent(&te->base, gy_list_entry(l, struct gy_grain, link));
	}
	if (!te->closed && te->bulk_full && te->state == TCP_UP &&
	    (bulk_idle_lane(te) || te->nqueued + 1 < te->nopen)) {
		te->bulk_full = false;
		n++;
		gy_ep_room(&te->base);
	}
	tcp_leave(te);
	return n;
}

/* ---- in ---- */

/* All bytes of the grain are here; the next header moves up. */
static void bulk_arrived(struct tcp_lane *lane)
{
	const struct gy_hdr hdr = lane->hdr;
	const void *dst = lane->dst;

	lane->hdr = lane->next;
	lane->hdr_got = lane->next_got;
	lane->next_got = 0;
	lane->got = 0;
	lane->dst = NULL;
	if (!dst)
		return;
	if (!tcp_is_shaped(lane->ep))
		gy_arrived(&lane->ep->base, &hdr);
	else if (tcp_shape_hold_grain(lane, &hdr, dst))
		tcp_down(lane->ep, -ENOMEM, "there is no memory for what it sent");
}

/* Header complete: asks where the bytes go.  Upcalls made. */
static int bulk_begin(struct tcp_lane *lane)
{
	struct tcp_ep *te = lane->ep;
	void *dst = NULL;
	int n = 0;

	while (lane->hdr_got == sizeof(lane->hdr) && te->state == TCP_UP) {
		n++;
		if (gy_place(&te->base, &lane->hdr, &dst)) {
			tcp_down(te, -EPROTO, "it sent a grain that was not asked for");
			return n;
		}
		lane->dst = dst;
		if (lane->hdr.len)
			return n;
		bulk_arrived(lane);
	}
	return n;
}

/* Where the next bytes belong: how many pieces. */
static unsigned bulk_iov(struct tcp_lane *lane, struct iovec iov[2])
{
	const size_t left = lane->hdr.len - lane->got;

	if (lane->hdr_got < sizeof(lane->hdr)) {
		iov[0].iov_base = (char *)&lane->hdr + lane->hdr_got;
		iov[0].iov_len = sizeof(lane->hdr) - lane->hdr_got;
		return 1;
	}
	if (!lane->dst && left > TCP_SCRATCH) {
		iov[0].iov_base = to_tcp_nic(lane->ep->base.nic)->scratch;
		iov[0].iov_len = TCP_SCRATCH;
		return 1;
	}
	iov[0].iov_base = lane->dst ? lane->dst + lane->got
				    : to_tcp_nic(lane->ep->base.nic)->scratch;
	iov[0].iov_len = left;
	iov[1].iov_base = &lane->next;
	iov[1].iov_len = sizeof(lane->next);
	return 2;
}

/* n bytes have come to where bulk_iov said.  Upcalls made. */
static int bulk_took(struct tcp_lane *lane, size_t n)
{
	size_t part;

	if (lane->hdr_got < sizeof(lane->hdr)) {
		lane->hdr_got += n;
		return bulk_begin(lane);
	}
	part = gy_min(n, lane->hdr.len - lane->got);
	lane->got += part;
	lane->next_got = n - part;
	if (lane->got < lane->hdr.len)
		return 0;
	bulk_arrived(lane);
	return 1 + bulk_begin(lane);
}

/* Shaped: no more than there is room for.  How many pieces are left. */
static gy_cold unsigned bulk_limit(struct tcp_lane *lane, struct iovec iov[2], unsigned niov)
{
	const size_t room = tcp_shape_room(lane);

	if (room == 0)
		return 0;
	if (iov[0].iov_len <= room)
		return niov;
	iov[0].iov_len = room;
	return 1;
}

int tcp_bulk_recv(struct tcp_lane *lane)
{
	struct tcp_ep *te = lane->ep;
	size_t asked, budget = BULK_BURST;
	struct iovec iov[2];
	struct msghdr m = { .msg_iov = iov };
	int upcalls = 0;
	ssize_t n;

	if (te->receiving || lane->ended || lane->paused)
		return 0;
	te->receiving = true;
	tcp_enter(te);
	do {
		m.msg_iovlen = bulk_iov(lane, iov);
		if (tcp_is_shaped(te))
			m.msg_iovlen = bulk_limit(lane, iov, (unsigned)m.msg_iovlen);
		if (m.msg_iovlen == 0)
			break;
		asked = iov[0].iov_len + (m.msg_iovlen == 2 ? iov[1].iov_len : 0);
		n = recvmsg(lane->pfd.fd, &m, MSG_DONTWAIT);
		if (n <= 0) {
			if (tcp_end_error(n))
				tcp_lane_ended(lane, tcp_end_error(n));
			break;
		}
		te->quiet_ns = 0;
		if (tcp_is_shaped(te))
			tcp_shape_took(lane, (size_t)n);
		upcalls += bulk_took(lane, (size_t)n);
		budget -= gy_min(budget, (size_t)n);
	} while ((size_t)n == asked && budget && te->state == TCP_UP && !te->closed);
	te->receiving = false;
	tcp_leave(te);
	return upcalls;
}

/* ---- revoke ---- */

static bool bulk_overlaps(const void *a, size_t alen, const void *b, size_t blen)
{
	return (uintptr_t)a < (uintptr_t)b + blen && (uintptr_t)b < (uintptr_t)a + alen;
}

/*
 * The part of a grain that has not gone out is copied: the lane's byte stream must go on as its
 * header promised.  When that cannot be, the connection is cut, and events see the end of it.
 */
static void bulk_disown(struct tcp_lane *lane)
{
	struct gy_grain *g = lane->out, *own;
	const size_t body = g->done > sizeof(g->hdr) ? g->done - sizeof(g->hdr) : 0;

	own = gy_alloc(sizeof(*own) + g->hdr.len);
	if (own) {
		own->hdr = g->hdr;
		own->done = g->done;
		own->src = own + 1;
		memcpy((char *)(own + 1) + body, (const char *)g->src + body, g->hdr.len - body);
	}
	if (!own) {
		lane->broken = true;
		shutdown(lane->pfd.fd, SHUT_RDWR);
	}
	lane->out = lane->own = own;
	gy_sent(&lane->ep->base, g);
}

static void bulk_revoke_list(struct tcp_ep *te, struct gy_list *list, unsigned *count,
			     const void *ptr, size_t len)
{
	struct gy_list *pos, *after;
	struct gy_grain *g;

	gy_list_for_each_safe(pos, after, list) {
		g = gy_list_entry(pos, struct gy_grain, link);
		if (!bulk_overlaps(g->src, g->hdr.len, ptr, len))
			continue;
		gy_list_del(pos);
		--*count;
		gy_sent(&te->base, g);
	}
}

static void bulk_revoke_lane(struct tcp_lane *lane, const void *ptr, size_t len)
{
	struct gy_grain *g = lane->out;

	if (lane->dst && bulk_overlaps(lane->dst, lane->hdr.len, ptr, len))
		lane->dst = NULL;
	if (!g || lane->own || !bulk_overlaps(g->src, g->hdr.len, ptr, len))
		return;
	if (g->done && !lane->broken) {
		bulk_disown(lane);
		return;
	}
	lane->out = NULL;
	gy_sent(&lane->ep->base, g);
}

void tcp_revoke(struct gy_ep *ep, const void *ptr, size_t len)
{
	struct tcp_ep *te = to_tcp(ep);
	unsigned i;

	tcp_enter(te);
	bulk_revoke_list(te, &te->done, &to_tcp_nic(ep->nic)->ndone, ptr, len);
	bulk_revoke_list(te, &te->queue, &te->nqueued, ptr, len);
	if (tcp_is_shaped(te))
		tcp_shape_revoke(te, ptr, len);
	for (i = 1; i < te->nlanes; i++)
		bulk_revoke_lane(&te->lanes[i], ptr, len);
	tcp_leave(te);
}
