/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * small.c - messages on lane 0.
 *
 * Wire format: header, body, zeros up to a multiple of 8, so that headers and bodies are aligned
 * in the buffer and can be delivered in place.
 * Cost: a message is one sendmsg, while the peer keeps up; one recv brings all that have come.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "transports/tcp/tcp.h"

#define SMALL_ALIGN 8
#define SMALL_ROUNDS 4		/* full buffers read in a row, before others get their turn */

_Static_assert(sizeof(struct gy_hdr) % SMALL_ALIGN == 0, "headers stay aligned");
_Static_assert(TCP_BUF >= sizeof(struct gy_hdr) + GY_BODY_MAX, "a message fits");

static size_t small_size(const struct gy_hdr *hdr)
{
	return sizeof(*hdr) + gy_align_up(hdr->len, SMALL_ALIGN);
}

/* ---- out ---- */

/* Bytes sent, 0 when there is no room; on a broken lane the read side tells when it is over. */
static size_t small_send(struct tcp_lane *lane, const struct iovec *iov, size_t niov)
{
	const struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov };
	ssize_t n = sendmsg(lane->pfd.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (gy_likely(n >= 0))
		return (size_t)n;
	if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM)
		lane->broken = true;
	return 0;
}

static void small_queue(struct tcp_ep *te, const struct iovec *iov, size_t niov, size_t skip)
{
	size_t i, n;

	for (i = 0; i < niov; i++) {
		n = gy_min(skip, iov[i].iov_len);
		skip -= n;
		memcpy(te->tx + te->tx_len, (const char *)iov[i].iov_base + n, iov[i].iov_len - n);
		te->tx_len += iov[i].iov_len - n;
	}
}

int tcp_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	static const char zeros[SMALL_ALIGN];
	struct tcp_ep *te = to_tcp(ep);
	struct tcp_lane *lane = &te->lanes[0];
	const size_t total = small_size(hdr), pad = total - sizeof(*hdr) - hdr->len;
	const struct iovec iov[3] = {
		{ (void *)hdr, sizeof(*hdr) },
		{ (void *)body, hdr->len },
		{ (void *)zeros, pad },
	};
	const size_t niov = hdr->len == 0 ? 1 : pad == 0 ? 2 : 3;
	size_t n = 0;

	gy_assert(hdr->len <= GY_BODY_MAX);
	if (gy_unlikely(te->state != TCP_UP || lane->broken))
		return -ENOTCONN;
	if (te->tx_len - te->tx_off + total > TCP_BUF) {
		te->msg_full = true;
		return -EAGAIN;
	}
	if (te->tx_len == 0) {
		n = small_send(lane, iov, niov);
		if (gy_likely(n == total))
			return 0;
		if (lane->broken)
			return -ENOTCONN;
		tcp_want_out(lane, true);
	}
	if (te->tx_len + total - n > TCP_BUF) {
		te->tx_len -= te->tx_off;
		memmove(te->tx, te->tx + te->tx_off, te->tx_len);
		te->tx_off = 0;
	}
	small_queue(te, iov, niov, n);
	return 0;
}

void tcp_small_flush(struct tcp_ep *te)
{
	struct tcp_lane *lane = &te->lanes[0];
	const struct iovec iov = { te->tx + te->tx_off, te->tx_len - te->tx_off };

	if (iov.iov_len && !lane->broken)
		te->tx_off += small_send(lane, &iov, 1);
	if (te->tx_off < te->tx_len && !lane->broken)
		return;
	te->tx_off = te->tx_len = 0;
	tcp_want_out(lane, false);
	if (te->msg_full && !lane->broken) {
		te->msg_full = false;
		gy_ep_room(&te->base);
	}
}

/* ---- in ---- */

/* Delivers the whole messages in the buffer and keeps the rest at its front.  How many. */
static int small_deliver(struct tcp_ep *te)
{
	const struct gy_hdr *hdr;
	size_t off = 0;
	int n = 0;

	while (te->state == TCP_UP && te->rx_len - off >= sizeof(*hdr)) {
		hdr = (const struct gy_hdr *)(te->rx + off);
		if (gy_unlikely(hdr->len > GY_BODY_MAX)) {
			tcp_down(te, -EPROTO, "it sent a message that is too long");
			return n + 1;
		}
		if (te->rx_len - off < small_size(hdr))
			break;
		off += small_size(hdr);
		n++;
		gy_deliver(&te->base, hdr, hdr + 1);
		if (te->closed)
			return n;
	}
	te->rx_len -= off;
	if (off && te->rx_len)
		memmove(te->rx, te->rx + off, te->rx_len);
	return n;
}

int tcp_small_take(struct tcp_ep *te, const void *bytes, size_t n)
{
	memcpy(te->rx + te->rx_len, bytes, n);
	te->rx_len += n;
	return small_deliver(te);
}

/* Shaped: what comes is set aside until it is due. */
static gy_cold void small_hold(struct tcp_ep *te)
{
	struct tcp_lane *lane = &te->lanes[0];
	void *scratch = to_tcp_nic(te->base.nic)->scratch;
	size_t room;
	ssize_t n;

	do {
		room = gy_min(tcp_shape_room(lane), TCP_SMALL_TAKE);
		if (room == 0)
			return;
		n = recv(lane->pfd.fd, scratch, room, MSG_DONTWAIT);
		if (n <= 0) {
			if (tcp_end_error(n))
				tcp_lane_ended(lane, tcp_end_error(n));
			return;
		}
		te->quiet_ns = 0;
		tcp_shape_took(lane, (size_t)n);
		if (tcp_shape_hold(lane, scratch, (size_t)n)) {
			tcp_down(te, -ENOMEM, "there is no memory for what it sent");
			return;
		}
	} while ((size_t)n == room);
}

int tcp_small_recv(struct tcp_ep *te)
{
	struct tcp_lane *lane = &te->lanes[0];
	int delivered = 0, round = 0;
	size_t room;
	ssize_t n;

	if (te->receiving || lane->ended || lane->paused)
		return 0;
	te->receiving = true;
	tcp_enter(te);
	if (tcp_is_shaped(te)) {
		small_hold(te);
		goto out;
	}
	do {
		room = TCP_BUF - te->rx_len;
		n = recv(lane->pfd.fd, te->rx + te->rx_len, room, MSG_DONTWAIT);
		if (n <= 0) {
			if (tcp_end_error(n))
				tcp_lane_ended(lane, tcp_end_error(n));
			break;
		}
		te->rx_len += (size_t)n;
		te->quiet_ns = 0;
		delivered += small_deliver(te);
	} while ((size_t)n == room && te->state == TCP_UP && ++round < SMALL_ROUNDS);
out:
	te->receiving = false;
	tcp_leave(te);
	return delivered;
}
