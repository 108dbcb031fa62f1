/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TCP_H
#define GY_TCP_H
/*
 * tcp: one small lane and cfg.tcp_streams bulk lanes to each peer, each a TCP connection.
 *
 *	ep.c	nic, endpoints, connections coming and going	small.c	messages on lane 0
 *	bulk.c	grains on the other lanes			watch.c	hosts that vanish
 *	shape.c	slower than it is, when asked for
 *
 * Locking: all of it runs on the driver.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/list.h"
#include "lib/poll.h"
#include "lib/transport.h"
#include "transports/tcp/shape.h"

#define TCP_BUF (16 * 1024)	/* of the small lane, each way; holds the largest message */
/* A kernel answers probes of a shut window every 500 ms at most (tcp_invalid_ratelimit). */
#define TCP_WATCH_MIN_NS (2000ull * 1000 * 1000)
/* Fits behind the part of a message that waits for its rest. */
#define TCP_SMALL_TAKE (TCP_BUF - sizeof(struct gy_hdr) - GY_BODY_MAX)
#define TCP_SCRATCH (64 * 1024)	/* where bytes go that nobody wants */

extern const struct gy_transport_ops gy_tcp_ops;

enum tcp_state { TCP_IDLE, TCP_DIALLING, TCP_UP, TCP_DOWN };

struct tcp_lane {
	struct gy_poll_fd pfd;	/* fd -1: not connected */
	struct tcp_ep *ep;
	bool want_out;		/* EPOLLOUT is asked for */
	bool ended;		/* nothing more comes in */
	bool broken;		/* nothing more goes out */
	uint64_t stuck_ns;	/* since when nothing has been acknowledged; 0: it is */

	/* Bulk lanes.  Out: */
	struct gy_grain *out;	/* partly written, or NULL */
	struct gy_grain *own;	/* out is this copy of a grain that was revoked */
	/* In: a header, its bytes, and as much of the next header as came with them. */
	struct gy_hdr hdr, next;
	size_t hdr_got, next_got;
	char *dst;		/* NULL: thrown away */
	size_t got;		/* of hdr.len */

	/* shape.c: what has come and is not due yet; when the last of it is. */
	struct gy_list late;
	uint64_t due_ns;
	int end_err;		/* its end has come too, by this; 0: it has not */
	bool paused;		/* nothing is read for now */
	bool hurried;		/* and never again */
};

struct tcp_ep {
	struct gy_ep base;
	struct gy_list link;	/* tcp_nic.eps */
	enum tcp_state state;
	unsigned nlanes, nopen,
		nended; /* lanes: all there may be; connected so far; of these ended */
	unsigned depth;		/* frames on the stack that need it after an upcall */
	bool closed;		/* to be freed when the last of them returns */
	bool receiving;		/* so that an upcall that polls does not receive inside a receive */
	int err;		/* of the first lane that ended */
	uint64_t quiet_ns;	/* a lane has ended, and nothing has come since */

	/* Small lane. */
	char *rx, *tx;		/* TCP_BUF each; bytes [0, rx_len); bytes [tx_off, tx_len) */
	size_t rx_len, tx_off, tx_len;
	bool msg_full;		/* -EAGAIN was said */

	/* Bulk. */
	struct gy_list queue;	/* grains that no lane has taken */
	struct gy_list done;	/* grains whose gy_sent is due */
	struct tcp_link in;	/* shape.c */
	unsigned nqueued;
	bool bulk_full;
	struct tcp_lane lanes[];
};

struct tcp_nic {
	struct gy_nic base;
	struct gy_list eps;
	unsigned ndone;		/* grains in done lists */
	unsigned nup;
	struct gy_poll_fd timer;
	uint64_t host_timeout_ns, looked_ns;
	char *scratch;

	struct tcp_shape shape;
	struct gy_poll_fd shape_timer;	/* fd -1: not shaped */
	uint64_t wake_ns;	/* when it rings */
};

static inline struct tcp_ep *to_tcp(struct gy_ep *ep)
{
	return gy_container_of(ep, struct tcp_ep, base);
}

static inline struct tcp_nic *to_tcp_nic(struct gy_nic *nic)
{
	return gy_container_of(nic, struct tcp_nic, base);
}

static inline bool tcp_is_shaped(const struct tcp_ep *te)
{
	return gy_unlikely(to_tcp_nic(te->base.nic)->shape.on);
}

/* ---- ep.c ---- */
uint64_t tcp_now(const struct tcp_ep *te);
/*
 * Around what goes on after an upcall, which may close the endpoint: it is freed by the last leave.
 */
void tcp_enter(struct tcp_ep *te);
void tcp_leave(struct tcp_ep *te);
/* Asks for EPOLLOUT, or no longer. */
void tcp_want_out(struct tcp_lane *lane, bool want);
void tcp_set_events(struct tcp_lane *lane);
/*
 * A lane has come to its end.  The endpoint goes down when all have: what the peer sent on the
 * others before it went is still to be read.  gone: when a shaped one's end is due.
 */
void tcp_lane_ended(struct tcp_lane *lane, int err);
void tcp_lane_gone(struct tcp_lane *lane, int err);
/* The endpoint is of no more use. */
void tcp_down(struct tcp_ep *te, int err, const char *why);
int tcp_end_error(ssize_t n);	/* of a read that gave n <= 0: -errno, or 0 for "not now" */

/* ---- small.c ---- */
int tcp_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
void tcp_small_flush(struct tcp_ep *te);
int tcp_small_recv(struct tcp_ep *te);
/* Delivers from bytes, TCP_SMALL_TAKE at most.  How many messages. */
int tcp_small_take(struct tcp_ep *te, const void *bytes, size_t n);

/* ---- bulk.c ---- */
int tcp_bulk(struct gy_ep *ep, struct gy_grain *g);
void tcp_bulk_send(struct tcp_lane *lane);
int tcp_bulk_recv(struct tcp_lane *lane);
int tcp_bulk_done(struct tcp_ep *te);
void tcp_revoke(struct gy_ep *ep, const void *ptr, size_t len);

/* ---- watch.c ---- */
int tcp_watch_open(struct tcp_nic *nic);
void tcp_watch_close(struct tcp_nic *nic);
void tcp_watch(struct tcp_nic *nic, bool on);
#endif
