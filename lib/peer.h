/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_PEER_H
#define GY_PEER_H
/*
 * What a context keeps about one other rank, from the first time that a plan or a message names it.
 * Locking: driver only.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "lib/engine.h"

enum gy_peer_state {
	GY_PEER_IDLE,		/* no connection asked for */
	GY_PEER_CONNECTING,
	GY_PEER_UP,
	GY_PEER_LOST,		/* for good: err says why */
};

/* What a straight line waits for, and what becomes of it as soon as it has come. */
struct gy_expect {
	const struct gy_hdr *hdr;	/* the message's, up to its offset */
	void *to;			/* where the body goes, */
	gy_reduce_fn *reduce;		/* NULL: as it is; else summed: */
	const void *in[2];		/* inputs, */
	unsigned body;			/* of which it is this one, */
	size_t n;			/* elements */
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
	uint64_t unfit_ns;	/* since then its endpoint is to give way, when there is memory */
	struct gy_ep *ep;
	/*
	 * GY_CAP_WRITE: grains that have a place for it to write, and are not written, whether it
	 * has been told or not; some stream could not grant more
	 */
	unsigned granted;
	bool grants_blocked;
	/* By a straight line, or NULL.  It counts as consumed when the line says so. */
	struct gy_expect *expect;
	struct gy_list streams;	/* open streams to and from this peer: struct gy_stream.peer_link */
	struct gy_list parked;	/* messages that came before their operation: struct gy_parked */
	size_t parked_bytes;	/* memory of these, and of those that others keep of it */
	/* bytes; the difference is bounded by the allowance */
	uint32_t eager_sent, eager_acked;
	/* bytes consumed of the peer's; what it knows of that */
	uint32_t eager_used, eager_told;
};

/* Eager bytes that a peer parks for us at most. */
#define GY_ALLOWANCE (48 * 1024)

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

/* How much of ours it says to have consumed. */
static inline void gy_peer_credited(struct gy_peer *peer, uint32_t credit)
{
	const uint32_t more = credit - peer->eager_acked;
	struct gy_list *pos;

	/* None, or, where it is more than we have sent, nonsense. */
	if (gy_unlikely(more - 1 >= peer->eager_sent - peer->eager_acked))
		return;
	peer->eager_acked = credit;
	gy_list_for_each(pos, &peer->streams)
		gy_list_entry(pos, struct gy_stream, peer_link)->run->dirty = true;
}

static inline void gy_expect_use(struct gy_expect *x, const void *body, uint32_t len)
{
	if (x->reduce) {
		x->in[x->body] = body;
		x->reduce(x->to, x->in, 2, x->n);
	} else if (gy_likely(len == 8)) {
		memcpy(x->to, body, 8);	/* two instructions instead of a call */
	} else if (len) {
		memcpy(x->to, body, len);
	}
}

/*
 * The first thing that is done with a message: takes it if it is what a straight line looks for,
 * fingerprint included.  False: nothing has happened.  Inlined where messages come in.
 */
static inline bool gy_peer_take(struct gy_peer *peer, const struct gy_hdr *hdr, const void *body)
{
	struct gy_expect *x = peer->expect;

	if (!x || memcmp(hdr, x->hdr, offsetof(struct gy_hdr, off)) != 0)
		return false;
	peer->expect = NULL;
	gy_peer_credited(peer, hdr->credit);
	gy_expect_use(x, body, hdr->len);
	return true;
}

/* Small-lane message with our credit; counts eager bytes.  -EAGAIN, -errno. */
static inline int gy_peer_msg(struct gy_engine *e, struct gy_peer *peer, struct gy_hdr *hdr,
			      const void *body)
{
	int err;

	if (gy_unlikely(peer->state != GY_PEER_UP))
		return peer->state == GY_PEER_LOST ? peer->err : -EAGAIN;
	hdr->credit = peer->eager_used;
	err = peer->ep->ops->msg(peer->ep, hdr, body);
	if (gy_unlikely(err)) {
		peer->blocked |= err == -EAGAIN;
		return err;
	}
	peer->eager_told = hdr->credit;
	if (hdr->kind == GY_MSG_EAGER)
		peer->eager_sent += gy_eager_cost(hdr->len);
	e->stats.messages++;
	return 0;
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
