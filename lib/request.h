/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_REQUEST_H
#define GY_REQUEST_H
/*
 * Requests inside: a call's arguments and its run.  Cached by the engine when free.
 * Locking: driver; run.state is atomic and may be read by anyone.
 */
#include <gyre/coll.h>
#include <gyre/p2p.h>
#include "lib/comm.h"

enum gy_request_kind { GY_REQ_COLL, GY_REQ_SEND, GY_REQ_RECV };

struct gyre_request {
	struct gy_list link;		/* struct gyre_comm.posted or .self, or the free list */
	struct gy_list all_link;	/* struct gy_engine.requests */
	struct gy_run run;
	struct gy_engine *engine;
	struct gyre_comm *comm;		/* NULL: it was destroyed */
	struct gy_call_key {
		struct gyre_comm *comm;
		size_t count;
		uint64_t call;		/* gy_call_word */
	} bound;			/* the collective that run is bound to; comm NULL: none */
	bool line;			/* and can go by its line */
	uint8_t kind;			/* enum gy_request_kind */
	bool persistent;
	bool active;			/* started, and not yet reported complete */
	bool awaited;			/* a thread sleeps on it */
	enum gy_coll coll;
	const void *in;
	void *out;
	size_t count;
	enum gyre_type type;
	enum gyre_op op;
	/* point-to-point: rank of the other side, or GYRE_ANY_SOURCE */
	int root;
	int tag;
	struct gyre_status status;
};

static inline uint64_t gy_call_word(enum gy_coll coll, enum gyre_type type, enum gyre_op op,
				    int root, bool in_place)
{
	return (uint64_t)(uint32_t)root << 32 | (uint64_t)in_place << 24 | (uint64_t)coll << 16 |
	       (uint64_t)(uint8_t)type << 8 | (uint8_t)op;
}

static inline bool gy_call_equal(const struct gy_call_key *a, const struct gy_call_key *b)
{
	return a->comm == b->comm && a->count == b->count && a->call == b->call;
}

struct gyre_request *gy_request_get(struct gy_engine *e);	/* NULL: no memory */
void gy_request_put(struct gy_engine *e, struct gyre_request *req);
void gy_requests_free(struct gy_engine *e);

/* Starts req, whose arguments are valid.  wait: nobody does anything before it is complete. */
int gy_coll_start(struct gy_engine *e, struct gyre_request *req, bool wait);
int gy_p2p_start(struct gy_engine *e, struct gyre_request *req);

/*
 * Waits until it is DONE.  Only from here on can a receive be late: it may be posted long before.
 */
void gy_request_await(struct gy_engine *e, struct gyre_request *req);

/* Completes a request without a run of its own having done it (one rank, to oneself, errors). */
void gy_request_done(struct gy_engine *e, struct gyre_request *req, int err);
#endif
