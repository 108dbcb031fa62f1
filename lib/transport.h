/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TRANSPORT_H
#define GY_TRANSPORT_H
/*
 * Transports: how bytes get from one rank to another.
 *
 * A context opens each transport once (a nic).  For each peer that plans or messages name, the
 * first transport that reaches it gives an endpoint (ep).  An endpoint has two ways for data:
 *
 *   small lane	messages of a header and up to gy_body_max bytes, reliable, in order.  Eager data
 *		and all protocol between engines (grant, lend, release, abort ...) go here, so
 *		control never queues behind bulk.
 *   bulk	GY_CAP_BULK: grains sent from memory, into memory that the receiving engine names
 *		(place); lanes carry them in any order.  GY_CAP_WRITE beside it: the receiver's
 *		grant names the memory (expose), the sender's device writes there, and the
 *		receiver hears of it (gy_written).
 *		GY_CAP_LEND: the sender describes memory, the receiver reads it where it is: mapped,
 *		or by a pull.
 *
 * An endpoint has BULK or LEND at least.  Which one a stream uses is the engine's
 * choice (lib/stream.c).
 *
 * Threads: every op but open is called by the driver, i.e. with the engine's token held, by one
 * thread at a time; so are all upcalls.  No op blocks.  Upcalls are made only from poll, progress,
 * a poll_fd's ready, wire's accepted, and (gy_sent) revoke: never from inside msg, bulk or connect.
 *
 * Failure: when an endpoint breaks, the transport stops using it and says gy_ep_down once; later
 * ops on it give -ENOTCONN.  Its memory lives until ep_close.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/list.h"
#include "lib/util.h"

struct gyre_context;
struct gy_peer;
struct gy_ep;

#define GY_BODY_MAX 8192	/* largest body of a small-lane message, bytes */
/*
 * The largest that an endpoint with GY_CAP_LEND takes: where memory cannot be lent, a body of this
 * size is cheaper than a slot.
 */
#define GY_BODY_LONG (2 * GY_BODY_MAX)
#define GY_BLOB_MAX 512		/* largest address blob of a transport, bytes */

/*
 * Header of every message and grain.  Little-endian on the wire, as it is in memory (x86, arm64).
 */
struct gy_hdr {
	uint8_t kind;		/* enum gy_msg_kind */
	uint8_t coll;		/* fingerprint of the call: enum gy_coll, */
	uint8_t type, op;	/* its type and operator, */
	uint8_t algo;		/* position in gy_algos, */
	uint8_t grain_log2;	/* log2 of the grain in bytes, */
	uint16_t root;		/* and root */
	uint32_t comm;		/* communicator id */
	uint32_t seq;		/* number of the call on it; point-to-point: of the message a->b */
	uint64_t count;		/* fingerprint: elements, as the caller gave them */
	uint32_t stream;	/* which stream of the call; point-to-point: the tag */
	uint32_t len;		/* bytes that follow: body or grain */
	uint64_t off;		/* position in the stream, elements */
	uint32_t credit;	/* eager bytes that this side has consumed so far, modulo 2^32 */
	uint32_t arg;		/* by kind */
};

_Static_assert(sizeof(struct gy_hdr) == 48, "wire format");

/* Names memory of a rank to its peers: only the transport that made it understands it. */
struct gy_remote {
	uint64_t w[3];
};

/*
 * Recalls: memory that was lent and has not been released is its owner's again when the
 * communicator fails that it was lent for.  The peer may be stopped meanwhile, with no room for a
 * message to it, and read the memory at any later time; so it looks for itself, after reading,
 * whether that was lent still.  A transport with GY_CAP_LEND gives each nic a struct gy_recalls, 0
 * at first, in memory that its peers can read for as long as they have an endpoint to it, also when
 * the nic is closed and its process has ended; the rest is done here.
 *
 *	owner					reader
 *	says LEND, with count as it is		reads the memory
 *	...					fence, acquire
 *	log[count % GY_RECALLS] = which, why	count, relaxed: still what LEND had said?
 *	count += 1, release
 *	fence, release
 *	the memory is its user's again
 *
 * A reader that has got any byte of what was written after the recall sees count changed, by the
 * pair of fences; while count is the same, all that it has read is what was lent.  When it has
 * changed, the log says for which communicators, as long as that is fewer than GY_RECALLS
 * recalls ago: the release of count pairs with an acquire load of it before the log is read; the
 * entry that may be overwritten meanwhile is of GY_RECALLS before, and is not counted on.
 * What the reader's user is told is the same, whether this or a message says it first.
 */
#define GY_RECALLS 256
#define GY_RECALL_TEXTS 4
#define GY_RECALL_TEXT 256	/* bytes, with the 0 */

struct gy_recalls {
	_Atomic uint32_t count;		/* so far, modulo 2^32; only the owner's driver writes */
	_Atomic uint64_t log[GY_RECALLS];	/* the last: communicator << 32 | errno */
	_Atomic uint64_t why[GY_RECALL_TEXTS][GY_RECALL_TEXT / 8];	/* of the very last */
};

/* A grain on its way out: owned by the engine, lent to the transport from bulk() to gy_sent(). */
struct gy_grain {
	struct gy_list link;	/* the transport's while it has the grain */
	struct gy_hdr hdr;	/* hdr.len bytes from src */
	const void *src;
	size_t done;		/* the transport's: bytes of hdr + src written */
	/* GY_CAP_WRITE: goes to to_off bytes into to, and is announced there as ticket */
	struct gy_remote to;
	size_t to_off;
	uint32_t ticket;
	/*
	 * So many of the stream follow, at least, and gy_sent may wait for theirs; but not when
	 * gy_nic.pressed says that they cannot follow before.
	 */
	unsigned more;
	/*
	 * src is a slot, registered for good, so it is enough that the peer has the grain; with
	 * more, gy_sent is due when a message that the peer sent after that is delivered.
	 */
	bool pooled;
	struct gy_stream *stream;	/* the engine's */
};

enum gy_cap {
	GY_CAP_BULK = 1,
	GY_CAP_LEND = 2,
	GY_CAP_WRITE = 4,	/* only with BULK */
};

struct gy_nic {
	const struct gy_transport_ops *ops;
	struct gyre_context *ctx;
	struct gy_recalls *recalls;	/* GY_CAP_LEND: of this rank; set by open.  Else NULL */
	/*
	 * Set by the engine: a stream has its window under way, and sends no more before its
	 * oldest grain has ended.  Cleared by a transport that lets gy_sent wait (gy_grain.more).
	 */
	bool pressed;
};

struct gy_ep {
	const struct gy_transport_ops *ops;
	struct gy_nic *nic;
	struct gy_peer *peer;	/* the engine's side of it */
	unsigned caps;		/* enum gy_cap; set by ep_open, final when up */
	unsigned write_max;	/* GY_CAP_WRITE: grains that may be granted and not yet written */
	const struct gy_recalls *recalls;	/* GY_CAP_LEND: the peer's; from up to ep_close */
};

static inline uint32_t gy_body_max(const struct gy_ep *ep)
{
	return ep->caps & GY_CAP_LEND ? GY_BODY_LONG : GY_BODY_MAX;
}

struct gy_transport_ops {
	const char *name;
	/* joins ranks of one node, by lending: selection prefers fewer steps over fewer bytes */
	bool near;
	/* a device writes grains into the peer's memory: selection takes smaller ones */
	bool writes;

	/*
	 * Once per context, before any peer is known; may be called by any thread.  -EOPNOTSUPP:
	 * not on this machine (auto goes on without it).  Adds its descriptors to ctx's poll set.
	 */
	int (*open)(struct gyre_context *ctx, struct gy_nic **nicp);
	void (*close)(struct gy_nic *nic);	/* after every ep_close */

	/* Writes this rank's address blob; all blobs are exchanged at start.  Bytes or -errno. */
	int (*describe)(struct gy_nic *nic, void *blob, size_t size);

	/*
	 * Whether this nic can join that rank, by its blob alone: 0 or -EHOSTUNREACH.  Symmetric.
	 */
	int (*reach)(struct gy_nic *nic, int rank, const void *blob, size_t len);

	/*
	 * An endpoint to peer, not connected.  connect starts to connect it (again: nothing); it
	 * ends in one gy_ep_up or gy_ep_down, in bounded time, without help of the peer's user
	 * code.  The peer may connect first: see wire.h, `accepted`.  ep_close frees at any time,
	 * also inside an upcall for the endpoint, and does not block; with `drain` it, or the nic's
	 * close, first tries, for a bounded time and without waiting for user code, to get queued
	 * small messages out.  GY_CAP_WRITE: so it does without, while somebody drives.
	 */
	int (*ep_open)(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp);
	int (*connect)(struct gy_ep *ep);
	/*
	 * wire.h; fd < 0: why a lane but 0 cannot be had.  0: fd is the transport's, whatever comes
	 * of it.  -ENOMEM: nothing has happened; the wire has fd and tries again later.
	 */
	int (*accepted)(struct gy_ep *ep, unsigned lane, int fd);
	void (*ep_close)(struct gy_ep *ep, bool drain);

	/*
	 * Queues one small message; copies both parts; hdr->len <= gy_body_max is the body's
	 * length.  Wakes the peer if it sleeps.  -EAGAIN: no room now; gy_ep_room is called when
	 * there is again.
	 */
	int (*msg)(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);

	/*
	 * GY_CAP_BULK: sends a grain.  Memory must stay until gy_sent.  -EAGAIN: as for msg.
	 * -EOPNOTSUPP: not out of this memory (then the engine copies it to a pool slot, which
	 * always can be sent: the pool is registered, see mem_register).
	 */
	int (*bulk)(struct gy_ep *ep, struct gy_grain *grain);

	/*
	 * GY_CAP_WRITE: describes len bytes at ptr so that this peer can write grains into them.
	 * -EOPNOTSUPP: not this memory (then the engine names pool slots, which always can be).
	 */
	int (*expose)(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote);

	/*
	 * GY_CAP_LEND: describes len bytes at ptr so that this peer can read them.
	 * -EOPNOTSUPP: this memory cannot be lent to this peer (then the engine lends a pool slot,
	 * which always can: pool memory comes from mem_alloc).
	 */
	int (*lend)(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);

	/*
	 * GY_CAP_LEND: *ptrp = where the lent len bytes, off bytes into remote, can be read in
	 * place.  -EOPNOTSUPP: they cannot be mapped, use pull.
	 */
	int (*map)(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		   const void **ptrp);
	/* GY_CAP_LEND: copies them to dst, before it returns. */
	int (*pull)(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		    size_t len);

	/*
	 * After this the transport does not touch [ptr, ptr + len) any more: grains out of it are
	 * copied or dropped, and gy_sent has been said for each before revoke returns; what would
	 * arrive there is thrown away.  A peer that it is lent to may still read it, and sees then
	 * that it has been recalled.  Cold.
	 *
	 * GY_CAP_WRITE: called only while this peer may write there, or a grain out of there is
	 * with the transport.  Other grains, in both directions, still arrive, once each.  The
	 * peer may hold grants for this memory for as long as it likes: what it sends by them never
	 * lands, nothing is heard of it there, and gy_sent is said to it as ever.
	 */
	void (*revoke)(struct gy_ep *ep, const void *ptr, size_t len);

	/*
	 * Looks for work on one endpoint, or all, and makes the upcalls.  Returns the number of
	 * upcalls.  Not called inside an upcall.
	 */
	int (*poll)(struct gy_ep *ep);
	int (*progress)(struct gy_nic *nic);

	/*
	 * Before the driver sleeps on the poll set: from now on arriving work wakes it.  1: work is
	 * there already, do not sleep.  disarm after waking: each sleep has its own arm.
	 */
	int (*arm)(struct gy_nic *nic);
	void (*disarm)(struct gy_nic *nic);

	/*
	 * Memory that all peers of this transport can map; zeroed, page aligned.  mem_free may find
	 * peers still having it mapped: what they read there is lost, but they can go on reading.
	 */
	int (*mem_alloc)(struct gy_nic *nic, size_t len, void **ptrp);
	int (*mem_free)(struct gy_nic *nic, void *ptr);	/* -EINVAL: not from mem_alloc */

	/*
	 * Memory that this transport may be given to send from or expose: pool slabs and the
	 * user's, whichever transport made it; none overlaps another.  An error (device, memlock)
	 * is not fatal: expose and bulk say -EOPNOTSUPP of it then; of pool memory mem_register has
	 * logged what to do.
	 */
	int (*mem_register)(struct gy_nic *nic, void *ptr, size_t len);
	void (*mem_unregister)(struct gy_nic *nic, void *ptr, size_t len);
};

/* What was lent for that communicator, which has failed with err, is recalled; why: in words. */
void gy_recall(struct gy_recalls *r, uint32_t comm, int err, const char *why);

/* Recalls of this rank so far; driver. */
static inline uint32_t gy_recalls_made(const struct gy_nic *nic)
{
	return atomic_load_explicit(&nic->recalls->count, memory_order_relaxed);
}

/* Hot.  After reading what was lent when that many had been: none has been recalled since. */
static inline bool gy_none_recalled(const struct gy_recalls *r, uint32_t count)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&r->count, memory_order_relaxed) == count;
}

/*
 * When some have: why that of comm was recalled, as -errno and in words; 0: it was not, and *count
 * is as of now.  When so many others have come since that the log does not tell, it counts as
 * recalled, by -ECANCELED.
 */
gy_cold int gy_recalled(const struct gy_recalls *r, uint32_t comm, uint32_t *count,
			char why[GY_RECALL_TEXT]);

/* For slots that a transport has no use for: they fail by -EOPNOTSUPP, or do nothing. */
int gy_no_bulk(struct gy_ep *ep, struct gy_grain *grain);
int gy_no_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);
int gy_no_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
	      const void **ptrp);
int gy_no_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst, size_t len);
int gy_no_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote);
int gy_no_accepted(struct gy_ep *ep, unsigned lane, int fd);
void gy_no_revoke(struct gy_ep *ep, const void *ptr, size_t len);
int gy_no_arm(struct gy_nic *nic);
void gy_no_disarm(struct gy_nic *nic);
int gy_no_mem_alloc(struct gy_nic *nic, size_t len, void **ptrp);
int gy_no_mem_free(struct gy_nic *nic, void *ptr);
int gy_no_mem_register(struct gy_nic *nic, void *ptr, size_t len);
void gy_no_mem_unregister(struct gy_nic *nic, void *ptr, size_t len);

/* ---- upcalls: what a transport tells the engine (lib/stream.c, lib/peer.c) ---- */

/* The endpoint works from now on; or it never will, or no longer does: err, and why in words. */
void gy_ep_up(struct gy_ep *ep);
void gy_ep_down(struct gy_ep *ep, int err, const char *why);

/*
 * A connecting endpoint finds that this pair cannot go by its transport: the engine closes it and
 * takes the next one that reaches the peer.  Both sides say so, or the other is told by the new
 * transport's hello.  With none left it is gy_ep_down.
 */
void gy_ep_unfit(struct gy_ep *ep, const char *why);

/* There is room again after -EAGAIN. */
void gy_ep_room(struct gy_ep *ep);

/*
 * A small message came.  hdr and body are valid during the call only; body is aligned to 8 bytes.
 * hdr has been checked for length only.
 */
void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);

/*
 * The header of a grain came: *dstp = where its hdr->len bytes go, NULL = throw them away (the
 * operation has ended meanwhile; nothing more is heard of it).  -EPROTO: no such grain was granted;
 * the transport takes the endpoint down.  After the bytes are there, gy_arrived.
 */
int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp);
void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr);

/* GY_CAP_WRITE: the grain that was granted under this ticket is in its place. */
void gy_written(struct gy_ep *ep, uint32_t ticket);

/* The grain's memory may be reused. */
void gy_sent(struct gy_ep *ep, struct gy_grain *grain);
#endif
