/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_NIC_H
#define GY_SIM_NIC_H
/*
 * The transport's own objects.  A parcel is anything on its way to an endpoint: it flies until its
 * event fires, has then arrived, and is handed over when the receiver polls.
 */
#include "lib/list.h"
#include "lib/transport.h"
#include "transports/sim/heap.h"
#include "transports/sim/sim.h"

#define SIM_MAX_LANES 8

struct gy_sim_rank;
struct gy_sim_world;

struct sim_nic {
	struct gy_nic base;
	struct gy_sim_rank *rank;
	struct gy_list link;		/* struct gy_sim_rank.nics */
	unsigned ordinal;		/* which of the rank's contexts: nics of one ordinal join */
	bool armed;
	unsigned closes;		/* endpoints closed so far: an upcall may close them */
	struct gy_list eps;		/* struct sim_ep.link */
	struct gy_list busy;		/* struct sim_ep.busy_link: something has arrived */
	struct gy_list calls;		/* arrived SIM_CONNECT */
	struct gy_list mems;		/* struct sim_mem */
	struct gy_list regions;		/* struct sim_region: what mem_register told of */
	uint64_t reduced, copied;	/* bytes that were charged */
	struct gy_recalls unsaid;	/* of a process that has ended: no peer sees them */
};

enum sim_ep_state { SIM_EP_IDLE, SIM_EP_DIALING, SIM_EP_UP, SIM_EP_DOWN };

struct sim_ep {
	struct gy_ep base;
	struct gy_list link, busy_link;
	struct gy_sim_link how;
	int peer;
	enum sim_ep_state state;
	bool broken;			/* what is sent now goes nowhere */
	bool doomed;			/* down is under way, or has been */
	bool want_room;
	struct sim_ep *other;		/* the peer's end; NULL: not joined, or gone */
	struct sim_parcel *dial;	/* SIM_CONNECT, until the peer has answered */
	struct sim_parcel *room, *down;	/* one of each, made in advance */
	struct gy_list flying, arrived;	/* to us */
	uint64_t lends;			/* and exposures so far, by us */
	struct gy_list revoked;		/* struct sim_revoked: of those */
	struct gy_list exposures;	/* struct sim_exposure: what the peer may write */
	unsigned writes_in;		/* SIM_WRITE to us, not yet handed over */
	struct gy_list grains;		/* SIM_SENT: grains that are with us, by own */
	unsigned msgs_out, grains_out;	/* from us, not yet handed over */
	uint64_t floor;			/* nothing reaches the peer before */
	uint64_t small_at;		/* when the last small message arrives there */
	uint64_t small_idle;		/* exact: the link, for small messages */
	uint64_t lane_free[SIM_MAX_LANES], lane_at[SIM_MAX_LANES];
};

enum sim_kind {
	SIM_CONNECT,			/* to a nic: may I; from: who asks */
	SIM_ACCEPT,
	SIM_MSG,
	SIM_GRAIN,			/* first flies to the moment at which it is read, then on */
	SIM_REST,			/* a grain whose header has been placed: its bytes */
	SIM_WRITE,			/* as SIM_GRAIN; lands before it arrives */
	SIM_SENT,			/* to the sender of a grain: gy_sent */
	SIM_ROOM,
	SIM_DOWN,
};

struct sim_parcel {
	struct gy_list link;		/* flying, arrived or calls */
	struct gy_list own;		/* SIM_SENT: struct sim_ep.grains */
	struct sim_event ev;
	struct gy_sim_world *world;
	enum sim_kind kind;
	struct sim_ep *to, *from;	/* from: SIM_CONNECT only */
	struct gy_hdr hdr;
	struct gy_grain *grain;		/* SIM_SENT; a grain until it is read */
	struct sim_parcel *pair;	/* a grain and its SIM_SENT, until it is read */
	uint64_t at;			/* a grain: when it arrives; SIM_SENT: when it is due */
	bool held;			/* SIM_SENT: does not fly yet: gy_grain.more */
	uint64_t sum;			/* SIM_SENT: of what was read; 0: nothing was */
	void *dst;			/* SIM_REST, SIM_WRITE */
	uint64_t id;			/* SIM_WRITE: of the exposure */
	size_t landed;			/* SIM_WRITE: bytes */
	uint32_t ticket;		/* SIM_WRITE */
	int err;			/* SIM_DOWN */
	const char *why;
	uint8_t body[];
};

static inline struct sim_nic *to_sim_nic(struct gy_nic *nic)
{
	return gy_container_of(nic, struct sim_nic, base);
}

static inline struct sim_ep *to_sim_ep(struct gy_ep *ep)
{
	return gy_container_of(ep, struct sim_ep, base);
}

static inline struct sim_nic *sim_ep_nic(const struct sim_ep *ep)
{
	return to_sim_nic(ep->base.nic);
}

static inline bool sim_overlap(const void *a, size_t alen, const void *b, size_t blen)
{
	const char *x = a, *y = b;

	return x < y + blen && y < x + alen;
}

/* ---- parcel.c ---- */
struct sim_parcel *sim_parcel_new(struct sim_ep *to, enum sim_kind kind, size_t len);
void sim_parcel_free(struct sim_parcel *p);		/* wherever it is; NULL is fine */
void sim_parcel_fly(struct sim_parcel *p, uint64_t at);
void sim_parcel_arrive(struct sim_parcel *p);
/* Takes an arrived parcel out of its lists; it is the caller's. */
void sim_parcel_take(struct sim_parcel *p);
/* Takes the bytes of a grain from its source. */
void sim_parcel_read(struct sim_parcel *grain);
size_t sim_body_len(const struct sim_ep *to, size_t len);	/* none without data */
uint64_t sim_sum(const void *ptr, size_t len);

/* ---- ep.c ---- */
int sim_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp);
int sim_ep_connect(struct gy_ep *ep);
void sim_ep_close(struct gy_ep *ep, bool drain);
/* Hand-over of what has arrived, by poll; frees it. */
void sim_ep_called(struct sim_nic *nic, struct sim_parcel *p);
void sim_ep_deliver(struct sim_ep *ep, struct sim_parcel *p);
void sim_ep_doom(struct sim_ep *ep, uint64_t at, int err, const char *why);
void sim_ep_break(struct sim_ep *ep);
void sim_ep_refuse(struct sim_ep *caller);
/* When the loss of its connection is noticed. */
uint64_t sim_ep_notice(const struct sim_ep *ep);

/* ---- send.c ---- */
int sim_ep_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
int sim_ep_bulk(struct gy_ep *ep, struct gy_grain *grain);
void sim_ep_revoke(struct gy_ep *ep, const void *ptr, size_t len);
bool sim_ep_sends(struct sim_ep *ep, const void *ptr, size_t len);	/* a grain out of there */
void sim_ep_freed(struct sim_ep *from);			/* room may have come */
void sim_nic_pressed(struct sim_nic *nic);		/* gy_nic.pressed, if so */

/* ---- nic.c ---- */
struct sim_nic *sim_nic_of(struct gy_sim_world *w, int rank, unsigned ordinal);	/* or NULL */
void sim_nic_arrived(struct sim_nic *nic);		/* rings, when armed */

/* ---- mem.c ---- */
int sim_mem_alloc(struct gy_nic *nic, size_t len, void **ptrp);
int sim_mem_free(struct gy_nic *nic, void *ptr);
void sim_mems_bury(struct sim_nic *nic);
int sim_ep_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);
int sim_ep_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
	       const void **ptrp);
int sim_ep_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		size_t len);
/* What ep has lent of that is void from now on. */
void sim_lend_revoke(struct sim_ep *ep, const void *ptr, size_t len);
void sim_revoked_free(struct sim_ep *ep);
/* Whether owner has revoked any of it since it was lent or exposed under that number. */
bool sim_is_revoked(const struct sim_ep *owner, const void *ptr, size_t len, uint64_t number);

/* ---- cost.c ---- */
/* Charges what the engine has done.  Returns when the rank is done with it: now or later. */
uint64_t sim_cost_now(struct sim_nic *nic);
void sim_cost_pay(struct sim_nic *nic);		/* waits until then */
/* exact: when a message or grain of ep arrives, delay after its bytes left; *left: the last one. */
uint64_t sim_cost_msg(struct sim_ep *ep, size_t len, uint64_t delay);
void sim_cost_pull(const struct sim_ep *ep, size_t len);	/* a pull is a copy */
uint64_t sim_cost_grain(struct sim_ep *ep, size_t len, uint64_t delay, uint64_t *left);

/* ---- write.c ---- */
int sim_mem_register(struct gy_nic *nic, void *ptr, size_t len);
void sim_mem_unregister(struct gy_nic *nic, void *ptr, size_t len);
bool sim_is_registered(const struct sim_nic *nic, const void *ptr, size_t len, bool whole);
void sim_regions_free(struct sim_nic *nic);
int sim_ep_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote);
void sim_exposures_free(struct sim_ep *ep);
/* A grain of owner's peer; *pp NULL: it goes nowhere.  0 or -ENOMEM. */
int sim_write_new(struct sim_ep *owner, const struct gy_grain *g, struct sim_parcel **pp);
void sim_write_land(struct sim_parcel *p, size_t from, size_t to);

/* ---- boot.c ---- */
void sim_context_forget(struct gy_sim_rank *rank, const struct gyre_context *ctx);

extern const struct gy_transport_ops gy_sim_ops;
#endif
