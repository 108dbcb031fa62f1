/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_WIRE_H
#define GY_WIRE_H
/*
 * Connections between the ranks of one job: listeners, dialling, the authenticated hello.
 * tcp and shm endpoints get their sockets here; a socket that they are handed is connected,
 * nonblocking, close-on-exec, and its peer has proved the job key.  A TCP one has no Nagle delay,
 * keepalive, and TCP_USER_TIMEOUT, which the transport may take off (gy_net_tune).
 *
 * Each rank listens on one TCP port (loopback only when all ranks are on one node) and on one
 * abstract unix socket.  The dialler says who it is, for which transport and lane, and both sides
 * prove the 128-bit job key by HMAC-SHA256 over fresh nonces.  Hellos are length-limited, versioned
 * and have a deadline; the number of unproved connections is bounded.  Garbage is closed and
 * counted.
 *
 * Locking: driver only, but for gy_wire_open and gy_wire_close.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gyre_context;
struct gy_wire;
struct gy_ep;

enum gy_wire_kind { GY_WIRE_UNIX, GY_WIRE_TCP };

/* This rank's share of the job's address table; all ranks' are exchanged at start.  Fixed size. */
struct gy_wire_addr {
	_Alignas(8) uint8_t bytes[384];
};

/*
 * Opens the listeners and registers them in ctx's poll set.  all_local: every rank is on this node.
 * Fills addr with what others need: ports and every usable local address (filtered by
 * GYRE_TCP_INTERFACES), unix name.
 */
int gy_wire_open(struct gyre_context *ctx, bool all_local, struct gy_wire **wirep,
		 struct gy_wire_addr *addr);

/*
 * Whether an address table entry can be dialled by this kind from here, by its contents: 0 or
 * -EHOSTUNREACH.
 */
int gy_wire_reach(const struct gy_wire *w, enum gy_wire_kind kind, const struct gy_wire_addr *addr);

void gy_wire_close(struct gy_wire *w);

/*
 * Starts to connect lane (0 = small lane or control connection) of ep to its peer, whose addresses
 * are all tried, staggered, within the host timeout; a rank that is late, stopped or computing
 * still connects. Ends in ops->accepted(ep, lane, fd), on both sides, or in gy_ep_down(ep), for
 * lane 0, else ops->accepted(ep, lane, -errno), so that the transport takes all lanes down; never
 * inside this call.  Want of memory on either side is not the end: it is tried again, and is
 * -ENOMEM when there has been none for a host timeout.  Both ranks may dial lane 0 at once: one
 * connection results (the lower rank's).  Other lanes are dialled by the lower rank only.  -errno:
 * nothing was started.  When a peer's hello arrives for a rank that has no endpoint yet, it is made
 * by gy_peer_ep.
 */
int gy_wire_dial(struct gy_wire *w, struct gy_ep *ep, enum gy_wire_kind kind, unsigned lane);

/*
 * Starts what is due (the next address, another try) and ends what is overdue.  The driver calls it
 * about every 50 ms, and after the milliseconds that it returned: until the next thing is due; -1:
 * nothing is.
 */
int gy_wire_tick(struct gy_wire *w, uint64_t now_ns);

/* Forgets all dials of ep, which is being closed. */
void gy_wire_cancel(struct gy_wire *w, struct gy_ep *ep);

/*
 * The endpoint that joins us to rank by the transport of that name (made, not connected, if there
 * was none).  0; -ENOMEM: not now; -ESTALE: our choice for the pair is another transport, or the
 * rank has been lost.  In lib/peer.c.
 */
int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp);
#endif
