/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_WIRE_PRIV_H
#define GY_WIRE_PRIV_H
/*
 * What wire.c (listeners, acceptor's side), wire_dial.c (dialler's side) and wire_offer.c (the end
 * of both) share.
 */
#include "lib/addrs.h"
#include "lib/context.h"
#include "lib/hello.h"
#include "lib/list.h"
#include "lib/poll.h"
#include "lib/wire.h"

#define WIRE_IPS 18		/* addresses of a rank; what fits into gy_wire_addr */
#define WIRE_NS_PER_MS 1000000ull
#define WIRE_NO_MEMORY "there is no memory for a connection to it"

/* What gy_wire_addr holds. */
struct wire_blob {
	uint8_t version;
	uint8_t nips;
	uint16_t port;
	uint8_t loopback;	/* the addresses mean something on this node only */
	uint8_t zero[3];
	uint8_t node[24];	/* machine and network namespace */
	char name[24];		/* of the abstract unix socket, zero-terminated; "": none */
	struct gy_ip ips[WIRE_IPS];
} __attribute__((may_alias));

_Static_assert(sizeof(struct wire_blob) <= sizeof(struct gy_wire_addr), "blob fits");

enum wire_state {
	WIRE_CONNECTING,
	WIRE_CHALLENGE,
	WIRE_VERDICT, /* dialler: waits for ... */
	WIRE_HELLO,
	WIRE_PROOF, /* acceptor */
};

/* A connection until its transport has it. */
struct wire_conn {
	struct gy_poll_fd pfd;
	struct gy_list link;	/* gy_wire.fresh, .greeted, .offers or wire_dial.conns */
	struct gy_wire *w;
	struct wire_dial *dial;	/* NULL: accepted */
	enum wire_state state;
	enum gy_wire_kind kind;
	struct gy_ep *ep;	/* offered to it */
	uint64_t deadline_ns;	/* acceptor; of offers */
	uint64_t again_ns;	/* next offer */
	size_t got;		/* bytes of the message that it waits for */
	struct gy_hello hello;
	struct gy_challenge challenge;
	struct gy_proof proof;
	struct gy_verdict verdict;
};

/* Attempts to connect one lane of an endpoint. */
struct wire_dial {
	struct gy_list link;	/* gy_wire.dials */
	struct gy_wire *w;
	struct gy_ep *ep;
	enum gy_wire_kind kind;
	unsigned lane;
	struct gy_list conns;
	bool committed;		/* our proof has gone out on the one that is left */
	unsigned next;		/* next address to try in this round */
	unsigned refused;	/* of this round: addresses where nobody of ours listens */
	unsigned drops;		/* connections that ended during the hello */
	unsigned rounds;	/* in a row that nobody listened anywhere */
	unsigned backoff_ms;
	uint64_t next_ns;	/* when to try the next */
	uint64_t deadline_ns;	/* to have a connection; the hello on it may take longer */
	int err;		/* of the last attempt that failed */
	bool no_memory;		/* the peer has said that it has none */
};

struct wire_listener {
	struct gy_poll_fd pfd;
	struct gy_wire *w;
	enum gy_wire_kind kind;
	bool paused;		/* descriptors are short */
};

struct gy_wire {
	struct gyre_context *ctx;
	struct wire_listener tcp, unx;
	struct wire_blob self;
	struct gy_list fresh;	/* accepted, nothing valid heard; oldest first */
	struct gy_list greeted;	/* accepted, hello of this job heard, not proved; oldest first */
	unsigned nunproved;	/* in both */
	struct gy_list dials;
	struct gy_list offers;	/* proved, and there was no memory for it; next due first */
	uint64_t rejected;
};

static inline uint64_t wire_host_timeout_ns(const struct gy_wire *w)
{
	return (uint64_t)w->ctx->cfg.host_timeout_ms * WIRE_NS_PER_MS;
}

/* ---- wire.c ---- */
uint64_t wire_now(const struct gy_wire *w);
void wire_conn_free(struct wire_conn *c);

/* ---- wire_dial.c ---- */
struct wire_dial *wire_dial_find(struct gy_wire *w, const struct gy_ep *ep, unsigned lane);
void wire_dial_free(struct wire_dial *d);
/* true: the dial has ended and is freed, with an upcall. */
bool wire_dial_step(struct wire_dial *d, uint64_t now_ns);
uint64_t wire_dial_due(const struct wire_dial *d);

/* ---- wire_offer.c ---- */
/* Its hello is done: it goes to ep, now or later.  The dial of this lane, if any, has ended. */
void wire_offer(struct wire_conn *c, struct gy_ep *ep);
bool wire_is_offered(const struct gy_wire *w, const struct gy_ep *ep, unsigned lane);
/* Offers again what is due; when the next is. */
uint64_t wire_tick_offers(struct gy_wire *w, uint64_t now_ns);
void wire_drop_offers(struct gy_wire *w, const struct gy_ep *ep);	/* NULL: all */
/* The upcall for a lane that cannot be had. */
void wire_lose(struct gy_ep *ep, unsigned lane, int err, const char *why);
#endif
