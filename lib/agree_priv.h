/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_AGREE_PRIV_H
#define GY_AGREE_PRIV_H
/*
 * What the files of the protocol share: agree.c, whose head says how it goes, and
 *
 *   agree_role.c	the leader, and those who follow	agree_say.c   messages, out and in
 */
#include "lib/agree.h"
#include "lib/comm.h"
#include "lib/context.h"

enum gy_agree_kind {
	GY_AGREE_JOIN = 1,		/* body: the sender's set of those gone */
	GY_AGREE_ASK,
	GY_AGREE_HAVE,		/* body, as of the next two: the value's set of those dead */
	GY_AGREE_PROPOSE,
	GY_AGREE_DECIDE,
	GY_AGREE_ACCEPT,
	GY_AGREE_QUIT,		/* flags: errno */
	GY_AGREE_ACCUSE,		/* id: who */
};

/* A ballot is round << GY_AGREE_RANK_BITS | rank of its leader; 0: none. */
#define GY_AGREE_RANK_BITS 16

static inline int gy_agree_owner(uint64_t ballot)
{
	return (int)(ballot & ((1 << GY_AGREE_RANK_BITS) - 1));
}

static inline struct gy_peer *gy_agree_peer(const struct gy_agree *a, int rank)
{
	return a->comm->ctx->engine.peers[a->comm->ranks[rank]];
}

/* ---- agree.c ---- */
void gy_agree_copy(const struct gy_agree *a, struct gy_agree_value *to,
		   const struct gy_agree_value *from);
/* Whether that rank is not counted on, by now. */
bool gy_agree_is_gone(const struct gy_agree *a, int rank);
/* v, which another rank has told us of (-1: this one has decided it), is it. */
void gy_agree_decide(struct gy_agree *a, const struct gy_agree_value *v, int from);

/* ---- agree_role.c ---- */
/* One step; whether there may be another. */
bool gy_agree_lead(struct gy_agree *a);
void gy_agree_follow(struct gy_agree *a);
/* Says the ACCEPT that is due. */
void gy_agree_say_vote(struct gy_agree *a);

/* ---- agree_say.c ---- */
/* 0, -EAGAIN, or it is unreachable. */
int gy_agree_say(struct gy_agree *a, int rank, enum gy_agree_kind kind, uint64_t ballot,
		 const struct gy_agree_value *v);
/* One of what pay says: it will be said. */
void gy_agree_owe(struct gy_agree *a, bool *what);
void gy_agree_pay(struct gy_agree *a);
int gy_agree_message(struct gy_port *port, int rank, const struct gy_hdr *hdr, const void *body);
#endif
