/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TCP_SHAPE_H
#define GY_TCP_SHAPE_H
/*
 * Makes a link between two ranks as slow as one far away, for measuring without such a network:
 * setting tcp_shape.  See shape.c for the model.
 *
 * All of it is done where data come in: each endpoint has a link from its peer to here.  Bytes
 * take their turn on it when they are read, and reading pauses while it has a queue, so that the
 * sender finds its sockets full.  The engine hears of them when they are due.  Off, it costs a
 * branch where a lane is read.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/transport.h"

struct tcp_ep;
struct tcp_lane;
struct tcp_nic;

/* What the setting says. */
struct tcp_shape {
	bool on;
	uint64_t delay_ns, jitter_ns;	/* one way */
	uint64_t queue_ns;		/* reading pauses at this much of a queue */
	double ns_per_byte;		/* 0: no limit */
	double loss;			/* probability for a packet */
};

/* From a peer to here. */
struct tcp_link {
	uint64_t free_ns;	/* when it has passed on all that was read so far */
	uint64_t seed;		/* of loss and jitter */
	size_t held;		/* bytes of messages that are not due yet */
	unsigned turn;		/* which lane is read first after a pause */
};

/* "rtt=80ms,rate=40mbit"; "": off.  0, or -EINVAL with the reason in why. */
int tcp_shape_parse(const char *text, struct tcp_shape *shape, char *why, size_t len);

int tcp_shape_open(struct tcp_nic *nic);
void tcp_shape_close(struct tcp_nic *nic);

/* Makes the upcalls that are due, of one endpoint or all; goes on reading.  How many. */
int tcp_shape_poll(struct tcp_ep *te);
int tcp_shape_run(struct tcp_nic *nic);

/* How much may be read now; 0: the lane is paused until there is room. */
size_t tcp_shape_room(struct tcp_lane *lane);
/* n bytes have been read. */
void tcp_shape_took(struct tcp_lane *lane, size_t n);
/* What was read last is due later: bytes of the small lane, or a grain that is in its place. */
int tcp_shape_hold(struct tcp_lane *lane, const void *bytes, size_t n);
int tcp_shape_hold_grain(struct tcp_lane *lane, const struct gy_hdr *hdr, const void *dst);
/* So is the end of the lane; false: it is to be told at once. */
bool tcp_shape_end(struct tcp_lane *lane, int err);
/* The peer is gone: no pauses any more, as the descriptor stays ready. */
void tcp_shape_hurry(struct tcp_lane *lane);

/* Grains that were to be told of in this memory are not. */
void tcp_shape_revoke(struct tcp_ep *te, const void *ptr, size_t len);
/* Nothing more is told. */
void tcp_shape_drop(struct tcp_ep *te);
/* Something is still to come of what the peer has sent. */
bool tcp_shape_is_late(const struct tcp_ep *te);
#endif
