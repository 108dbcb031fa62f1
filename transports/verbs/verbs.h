/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_VERBS_H
#define GY_VERBS_H
/*
 * verbs: reliable connected queue pairs (QPs) of InfiniBand, RoCE or soft-RoCE.  To each peer one
 * control connection (TCP, lib/wire.h), one QP for small messages, and cfg.verbs_qps for grains.
 *
 *	nic.c	the device of a context, sleeping, asynchronous events
 *	port.c	which device and port	mem.c	registered memory
 *	pages.c	memory near the device
 *	ep.c	an endpoint's life	cq.c	completions: the one place that looks at them
 *	note.c	what is said on the control connection
 *	meet.c	finding a pair of addresses that works	route.c	the way between them
 *	qp.c	queue pairs		reset.c	revoke: new QPs for grains
 *	small.c	messages		bulk.c	grains
 *
 * All receives are posted in advance: as many small messages as fit into the ring, as many grains
 * as may be granted (gy_ep.write_max).  So "receiver not ready" never happens in good order.
 * Locking: all of it runs on the driver.
 */
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/context.h"
#include "lib/list.h"
#include "lib/transport.h"

#define VERBS_UNIT 64			/* the ring is counted in these, bytes */
#define VERBS_RING_UNITS 384
#define VERBS_RING_BYTES (VERBS_RING_UNITS * VERBS_UNIT)
#define VERBS_GRANTS 255		/* write_max */
#define VERBS_REFILL 32			/* receives posted at a time */
/* A ping, and each quarter of the ring that the peer has consumed. */
#define VERBS_CREDITS 8
#define VERBS_SMALL_RQ (VERBS_RING_UNITS + VERBS_CREDITS + VERBS_REFILL)
#define VERBS_SMALL_SQ 256
#define VERBS_BULK_RQ (VERBS_GRANTS + VERBS_REFILL)
#define VERBS_BULK_SQ 64
#define VERBS_BULK_BYTES (4u << 20)	/* under way on one QP */
#define VERBS_SIGNAL 16			/* one completion for so many sends */
#define VERBS_QUIET 20000	/* looks that find nothing before all are signalled */
#define VERBS_INLINE 256		/* asked for; the device may give less */
#define VERBS_MAX_QPS 7
#define VERBS_MAX_GIDS 16
#define VERBS_MAX_TRIES 8		/* pairs of addresses */
#define VERBS_HOPS 64
#define VERBS_PEERS 8			/* room is made at first for so many */

#define VERBS_NS_PER_MS 1000000ull

extern const struct gy_transport_ops gy_verbs_ops;

/* ---- addresses ---- */

struct verbs_gid {
	uint8_t raw[16];
	uint8_t type;			/* enum ibv_gid_type */
	uint8_t zero[3];
};

/* A port as its peers need to know it. */
struct verbs_blob {
	uint8_t version;
	uint8_t link_layer;
	uint8_t mtu;			/* enum ibv_mtu */
	uint8_t ngids;
	uint16_t lid;
	uint8_t zero[2];
	struct verbs_gid gids[VERBS_MAX_GIDS];
};

_Static_assert(sizeof(struct verbs_blob) <= GY_BLOB_MAX, "fits");

/* ---- what small messages tell beside the engine's ---- */

/*
 * How many grains have come by each QP, modulo 256, in this epoch (modulo 256): what has come from
 * a slot needs no completion.  A message may be old when it is read, but what was sent by then had
 * been granted, so the count is behind by VERBS_GRANTS at most.
 */
struct verbs_came {
	uint8_t epoch, by[VERBS_MAX_QPS];
};

/* Before the body of each. */
struct verbs_head {
	struct gy_hdr hdr;
	struct verbs_came came;
};

_Static_assert(VERBS_GRANTS < 256, "how far a count is behind follows from its low 8 bits");

/* ---- control messages ---- */

#define VERBS_NOTES 8			/* room is made at first for so many */

enum verbs_note_kind {
	VERBS_HELLO,	/* blob */
	VERBS_OFFER,	/* the lower rank: let us try this pair of GIDs; my QPs */
	VERBS_ANSWER,	/* to OFFER: mine; or status: cannot */
	VERBS_READY,	/* my QPs of this try, or epoch, take what comes */
	VERBS_PINGED,	/* my ping of this try has been acknowledged by your device */
	VERBS_FAILED,	/* this try has failed for me */
	VERBS_UNFIT,	/* none is left: another transport, please */
	VERBS_REVOKE,	/* addr, len, gen: what was exposed there before gen, do not write */
	VERBS_RESET,	/* my QPs for grains are gone: how much had come, and new ones */
};

/* Little-endian on the wire, as in memory. */
struct verbs_note {
	uint8_t version;
	uint8_t kind;			/* enum verbs_note_kind */
	uint8_t gid, your_gid;		/* positions in the blobs */
	uint32_t number;		/* of the try or epoch */
	int32_t status;			/* 0 or -errno */
	uint32_t nqps;			/* for grains */
	uint64_t addr, len;		/* the small ring; what is revoked */
	uint32_t rkey;
	uint32_t gen;
	struct {
		uint32_t qpn, psn;
		uint32_t got;		/* grains that came by the QP before it */
	} qp[1 + VERBS_MAX_QPS];
	struct verbs_blob blob;
};

/* ---- queue pairs ---- */

struct verbs_ep;

struct verbs_qp {
	struct verbs_ep *ep;
	struct ibv_qp *qp;		/* NULL: none */
	unsigned index;			/* 0: small */
	uint32_t key;			/* slot and generation, as in a wr_id */
	uint32_t psn;			/* our first */
	uint32_t peer_qpn;
	/* Counts of requests: posted, known to have ended, up to the last that is signalled. */
	uint32_t sent, acked, signalled;
	unsigned at_device, due;	/* receives posted, and to be posted */
	/* Grains. */
	uint32_t out_count, got;	/* in this epoch: sent, received */
	size_t bytes;			/* under way */
	size_t silent_bytes;		/* posted since the last that is signalled */
	struct gy_list out;		/* grains, oldest first */
	/* verbs_nic.silent: its last request is not signalled */
	struct gy_list silent;
	/* verbs_nic.tails: a completion is to be asked for, when there is nothing else to do */
	struct gy_list tail;
};

struct verbs_slot {
	struct verbs_qp *qp;		/* NULL: free */
	uint16_t gen;
};

/* What the peer does not want written any more. */
struct verbs_range {
	uint64_t addr, len;
	uint32_t gen;
};

enum verbs_state {
	VERBS_IDLE,
	VERBS_DIALLING,
	VERBS_MEETING,
	VERBS_UP,
	VERBS_LEAVING,		/* closed; its last messages are under way */
	VERBS_DOWN,
};

/* The QPs for grains. */
enum verbs_bulk {
	VERBS_BULK_READY,
	VERBS_BULK_RESET,		/* ours are new; the peer has not said which its are */
	VERBS_BULK_WAIT,		/* connected; the peer has not said that it is */
};

struct verbs_ep {
	struct gy_ep base;
	struct gy_list link;		/* verbs_nic.eps, or leaving */
	struct gy_list work;		/* verbs_nic.work: upcalls are due */
	enum verbs_state state;
	unsigned depth;			/* frames on the stack that need it after an upcall */
	bool closed;			/* to be freed when the last of them returns, and it left */
	bool asked;			/* leaving: for a completion of its last message */
	uint64_t leave_ns;		/* leaving: until then at most */
	int doom;			/* -errno: to go down when what has come is delivered */
	char why[400];

	/* Control connection. */
	struct gy_poll_fd sock;
	struct verbs_note in;
	size_t in_got;
	char *notes;			/* not yet written */
	size_t notes_len, notes_size;
	bool want_out;

	/* Finding addresses. */
	struct verbs_blob peer;
	bool greeted, lower;
	struct {
		uint8_t mine, theirs;
	} tries[VERBS_MAX_TRIES];
	unsigned ntries, try;
	uint8_t gid, peer_gid;		/* of the try that runs */
	struct verbs_note offer;	/* the higher rank: of it */
	struct rdma_cm_id *cm_id;	/* while its route is looked for */
	struct {
		uint8_t sl, traffic_class, mtu;
		uint32_t flow_label;
	} route;
	bool pinging, pinged, peer_pinged, try_failed;
	uint64_t ping_ns;		/* since when */

	/* Small lane: ring that the peer writes, then a copy of what we write into its. */
	struct ibv_mr *mr;
	char *mem;
	uint64_t ring_addr;		/* the peer's */
	uint32_t ring_rkey;
	unsigned inline_max;
	uint32_t head, told;		/* units consumed; the peer knows of */
	uint32_t tail, tail_acked;	/* units written; known to be consumed */
	uint32_t want_units;		/* -EAGAIN was said to a message of so many */

	/* Grains. */
	enum verbs_bulk bulk;
	uint32_t epoch;
	unsigned nqps;
	bool bulk_full;			/* -EAGAIN was said */
	bool peer_ready;
	struct verbs_came came, went;	/* here; of ours, as the peer has said */
	struct gy_list again;		/* to be sent in the new epoch */
	struct gy_list done;		/* gy_sent is due */
	uint32_t gen;			/* of what is exposed now */
	struct verbs_range *revoked;	/* by the peer */
	unsigned nrevoked, revoked_size;
	uint32_t revoked_gen;		/* newest */
	uint32_t late[VERBS_GRANTS];	/* gy_written is due */
	unsigned nlate;
	struct verbs_qp qps[];		/* 1 + nqps */
};

/* ---- nic ---- */

struct verbs_mem {
	uintptr_t addr, end;
	uintptr_t max_end;		/* of this and all before */
	struct ibv_mr *mr;
};

struct verbs_nic {
	struct gy_nic base;
	struct ibv_context *dev;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	unsigned cq_size, cq_used;	/* entries; what the QPs there are can need */
	unsigned max_cqe;
	struct gy_poll_fd events, async, timer, cm;
	struct rdma_event_channel *cm_channel;	/* NULL: none */
	unsigned nevents;		/* not acknowledged */
	bool timing;
	uint64_t port_down_ns;		/* since when; 0: it is up */
	bool failed;			/* the device */

	uint8_t port;
	int node;			/* NUMA node of the device; -1: not known */
	struct verbs_blob blob;
	uint8_t gid_index[VERBS_MAX_GIDS];	/* of blob.gids in the device's table */

	struct gy_list eps, leaving, work, silent, tails;
	unsigned idle;			/* looks since there was something, or a grain was sent */
	struct verbs_slot *slots;
	unsigned nslots;

	/* Completions that have been taken and not handled: [wc_head, wc_tail) */
	struct ibv_wc *wc;
	unsigned wc_head, wc_tail, wc_size;
	bool handling;

	struct verbs_mem *mems;		/* by address */
	unsigned nmems, mems_size, last_mem;
	struct gy_list pages;		/* from verbs_pages_alloc */
	bool warned;			/* of memlock */
};

static inline struct verbs_ep *to_verbs(struct gy_ep *ep)
{
	return gy_container_of(ep, struct verbs_ep, base);
}

static inline struct verbs_nic *to_verbs_nic(struct gy_nic *nic)
{
	return gy_container_of(nic, struct verbs_nic, base);
}

static inline struct verbs_nic *verbs_ep_nic(const struct verbs_ep *ve)
{
	return to_verbs_nic(ve->base.nic);
}

/* ---- nic.c ---- */
uint64_t verbs_now(const struct verbs_nic *nic);
/* Ticks while endpoints meet or the port is down. */
void verbs_timer(struct verbs_nic *nic, bool on);
/* ... and there is nothing left for which it was needed. */
void verbs_timer_look(struct verbs_nic *nic);

/* ---- port.c ---- */
/* Opens the best port's device; -EOPNOTSUPP: none. */
int verbs_port_open(struct verbs_nic *nic);

/* ---- cq.c ---- */
int verbs_cq_reserve(struct verbs_nic *nic, unsigned entries);
/* Handles what has come, up to a limit: upcalls made. */
int verbs_cq_poll(struct verbs_nic *nic);
/* Takes what the device has, without upcalls.  Whether there is anything to handle; -errno. */
int verbs_cq_fill(struct verbs_nic *nic);
/* Takes the completions of its QPs for grains out of those that wait. */
void verbs_cq_take_bulk(struct verbs_ep *ve);

static inline void verbs_grain_came(struct verbs_qp *q)
{
	q->ep->came.by[q->index - 1] = (uint8_t)++q->got;
}

/* ---- ep.c ---- */
int verbs_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp);
int verbs_connect(struct gy_ep *ep);
int verbs_accepted(struct gy_ep *ep, unsigned lane, int fd);
void verbs_ep_close(struct gy_ep *ep, bool drain);
/* Ends those that leave, as far as they have left: whether any is still leaving. */
bool verbs_leaving(struct verbs_nic *nic);
/* It has been closed in an upcall, and the last frame that needs it returns. */
gy_cold void verbs_left(struct verbs_ep *ve);
static inline void verbs_enter(struct verbs_ep *ve)
{
	ve->depth++;
}
static inline void verbs_leave(struct verbs_ep *ve)
{
	if (gy_unlikely(--ve->depth == 0 && ve->closed))
		verbs_left(ve);
}
/* Goes down when what has come is delivered; may be called anywhere.  The first reason counts. */
void verbs_doom(struct verbs_ep *ve, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Upcalls are due for it. */
void verbs_later(struct verbs_ep *ve);
/* Makes them: how many. */
int verbs_work(struct verbs_nic *nic);
void verbs_come_up(struct verbs_ep *ve);
void verbs_unfit(struct verbs_ep *ve, const char *why);

/* ---- note.c ---- */
void verbs_note_send(struct verbs_ep *ve, struct verbs_note *note);
/* Reads what there is, and acts on it. */
void verbs_note_recv(struct verbs_ep *ve);
void verbs_note_flush(struct verbs_ep *ve);

/* ---- meet.c ---- */
enum verbs_family { VERBS_LINK_LOCAL, VERBS_IPV6, VERBS_IPV4 };

enum verbs_family verbs_gid_family(const uint8_t raw[16]);
/* An address as text; buf: INET6_ADDRSTRLEN. */
const char *verbs_gid_text(const uint8_t raw[16], char *buf);
/* err: why this side has already failed, or 0. */
void verbs_meet(struct verbs_ep *ve, int err);
void verbs_meet_note(struct verbs_ep *ve, const struct verbs_note *note);
/* The route of this try is known, as far as it ever will be. */
void verbs_meet_routed(struct verbs_ep *ve);
/* The ping has ended: by an acknowledgement, or by an error. */
void verbs_meet_pinged(struct verbs_ep *ve, bool ok, const char *why);
/* Ends a try that has taken too long. */
void verbs_meet_tick(struct verbs_ep *ve, uint64_t now_ns);

/* ---- route.c ---- */
void verbs_route_open(struct verbs_nic *nic);
void verbs_route_close(struct verbs_nic *nic);
void verbs_route_ready(struct gy_poll_fd *pfd, uint32_t events);
/* Looks for the way between the two addresses of this try; ends in verbs_meet_routed. */
void verbs_route_start(struct verbs_ep *ve);
void verbs_route_cancel(struct verbs_ep *ve);

/* ---- qp.c ---- */
int verbs_qp_create(struct verbs_qp *q);
/* After this the device does nothing for it. */
void verbs_qp_destroy(struct verbs_qp *q);
void verbs_qp_error(struct verbs_qp *q);
/* Takes and sends from now on; our and the peer's addresses are ve->gid and ve->peer_gid. */
int verbs_qp_connect(struct verbs_qp *q, uint32_t qpn, uint32_t psn);
int verbs_qp_refill(struct verbs_qp *q);
/* Completion entries that an endpoint's QPs need. */
unsigned verbs_qp_entries(unsigned nqps);

/* A key: position of the QP's slot, generation of that, and whether it is of a receive. */
#define VERBS_SLOT_BITS 16
#define VERBS_GEN_MASK 0x7fffu
#define VERBS_IS_RECV 0x80000000u

static inline struct verbs_qp *verbs_qp_find(const struct verbs_nic *nic, uint32_t key)
{
	const uint32_t i = key & ((1u << VERBS_SLOT_BITS) - 1);
	struct verbs_qp *q = i < nic->nslots ? nic->slots[i].qp : NULL;

	return q && q->key == (key & ~VERBS_IS_RECV) ? q : NULL;
}

/* wr_id: a receive's is its QP's key; a send's has its number, from 1 on, above it. */

static inline uint64_t verbs_recv_id(const struct verbs_qp *q)
{
	return q->key | VERBS_IS_RECV;
}

/* Of the next request: numbers it.  signal: asks for a completion. */
static inline uint64_t verbs_send_id(struct verbs_qp *q, bool signal)
{
	q->sent++;
	if (signal) {
		q->signalled = q->sent;
		q->silent_bytes = 0;
	}
	return (uint64_t)q->sent << 32 | q->key;
}

/* ---- small.c ---- */
int verbs_small_open(struct verbs_ep *ve);
void verbs_small_close(struct verbs_ep *ve);
void verbs_small_init(struct verbs_ep *ve);	/* for new QPs */
int verbs_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
/* An empty message: tells the peer how much we have consumed.  Signalled when asked for. */
int verbs_small_credit(struct verbs_ep *ve, bool signal);
int verbs_small_came(struct verbs_ep *ve, uint32_t imm);
bool verbs_small_room(const struct verbs_ep *ve);

/* ---- bulk.c ---- */
int verbs_bulk(struct gy_ep *ep, struct gy_grain *g);
int verbs_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote);
/* Requests up to number have ended: their grains go to the done list. */
void verbs_bulk_acked(struct verbs_qp *q, uint32_t number);
/* So do those out of slots that the peer says it has. */
void verbs_bulk_went(struct verbs_ep *ve, const struct verbs_came *went);
bool verbs_bulk_room(const struct verbs_ep *ve);
/* Sends what waits for a new epoch. */
void verbs_bulk_again(struct verbs_ep *ve);
/* A completion is to be asked for of all that was sent without one. */
void verbs_bulk_await(struct verbs_nic *nic);
/* Or of those of which none is on its way (gy_nic.pressed). */
void verbs_bulk_pressed(struct verbs_nic *nic);
/* Asks for them; of a full queue pair later. */
void verbs_bulk_tails(struct verbs_nic *nic);

/* ---- reset.c ---- */
void verbs_revoke(struct gy_ep *ep, const void *ptr, size_t len);
void verbs_reset_note(struct verbs_ep *ve, const struct verbs_note *note);
/* Whether the peer has revoked where this grain would go. */
bool verbs_is_revoked(const struct verbs_ep *ve, const struct gy_grain *g);

/* ---- pages.c ---- */
int verbs_pages_alloc(struct gy_nic *nic, size_t len, void **ptrp);
int verbs_pages_free(struct gy_nic *nic, void *ptr);

/* ---- mem.c ---- */
int verbs_mem_open(struct verbs_nic *nic);
void verbs_mem_close(struct verbs_nic *nic);
int verbs_mem_register(struct gy_nic *nic, void *ptr, size_t len);
void verbs_mem_unregister(struct gy_nic *nic, void *ptr, size_t len);
/* The registration that holds all of it, or NULL. */
struct ibv_mr *verbs_mem_find(struct verbs_nic *nic, const void *ptr, size_t len);
#endif
