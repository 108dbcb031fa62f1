/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_PEER_H
#define GY_PEER_H
/*
 * What a context keeps about one other rank, from the first time that a plan or a message names it.
 * Locking: driver only.
 */
#include <stdbool.h>
#include <stdint.h>
#include "lib/list.h"
#include "lib/transport.h"
#include "lib/util.h"

struct gy_engine;
struct gy_ep;
struct gyre_comm;
struct gyre_context;

enum gy_peer_state {
	GY_PEER_IDLE,		/* no connection asked for */
	GY_PEER_CONNECTING,
	GY_PEER_UP,
	GY_PEER_LOST,		/* for good: err says why */
};

struct gy_peer {
	struct gyre_context *ctx;
	int rank;		/* in the world */
	enum gy_peer_state state;
	int err;		/* GY_PEER_LOST: -errno */
	bool blocked;		/* the small lane said -EAGAIN; until gy_ep_room */
	bool bulk_blocked;
	bool left;		/* it said BYE */
	bool said_bye, said_ack, acked;
	bool hangs_up;		/* its connection is still to be ended */
	struct gy_ep *ep;
	/*
	 * GY_CAP_WRITE: grains that have a place for it to write, and are not written, whether it
	 * has been told or not; some stream could not grant more
	 */
	unsigned granted;
	bool grants_blocked;
	struct gy_list streams;	/* open streams to and from this peer: struct gy_stream.peer_link */
	struct gy_list parked;	/* messages that came before their operation: struct gy_parked */
	size_t parked_bytes;	/* memory of these, and of those that communicators keep of it */
	/* bytes; the difference is bounded by the allowance */
	uint32_t eager_sent, eager_acked;
	/* bytes consumed of the peer's; what it knows of that */
	uint32_t eager_used, eager_told;
};

/* Eager bytes that a peer parks for us at most. */
#define GY_ALLOWANCE (32 * 1024)

/* What an eager message counts in the allowance: parked headers cost memory too. */
static inline uint32_t gy_eager_cost(uint32_t len)
{
	return len + sizeof(struct gy_hdr);
}

static inline bool gy_peer_allows(const struct gy_peer *peer, uint32_t len)
{
	return peer->eager_sent - peer->eager_acked + gy_eager_cost(len) <= GY_ALLOWANCE;
}

/* Gives credit by a message of its own when much is owed. */
void gy_peer_credit_slow(struct gy_engine *e, struct gy_peer *peer);
static inline void gy_peer_credit(struct gy_engine *e, struct gy_peer *peer)
{
	if (gy_unlikely(peer->eager_used - peer->eager_told > GY_ALLOWANCE / 2))
		gy_peer_credit_slow(e, peer);
}

/* An eager body has been used up. */
static inline void gy_peer_consumed(struct gy_engine *e, struct gy_peer *peer, uint32_t len)
{
	peer->eager_used += gy_eager_cost(len);
	gy_peer_credit(e, peer);
}

/*
 * The peer for a world rank (made when needed), not connected.  -ENOMEM, -EHOSTUNREACH (no
 * transport reaches it), -errno of a transport that cannot make an endpoint.
 */
int gy_peer_get(struct gyre_context *ctx, int rank, struct gy_peer **peerp);

/* Position in gy_transports of the one that joins us to that rank; -1: none does. */
int gy_peer_transport(const struct gyre_context *ctx, int rank);

/*
 * It breaks the protocol, or there is no memory for what it says: every communicator that it is in
 * fails, itself is told as far as there is room, it is lost, and its connection ends.
 */
void gy_peer_expel(struct gy_peer *peer, int err, const char *why);
/* As expel, of one that has been told what it is to know: the connection stays, unheard. */
void gy_peer_drop(struct gy_peer *peer, int err, const char *why);

/* Starts to connect, when IDLE.  0, or the peer's error. */
int gy_peer_connect(struct gy_peer *peer);

/* As connect, for an operation of comm: an error has failed comm, and named the rank. */
int gy_peer_need(struct gy_peer *peer, struct gyre_comm *comm);

/* Nothing more is said to any peer. */
void gy_peers_abandon(struct gy_engine *e);
#endif
