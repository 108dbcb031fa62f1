/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * meet.c - two endpoints find a pair of addresses by which their devices reach each other.
 *
 *	lower rank				higher rank
 *	HELLO			<------->	HELLO		ports and their GIDs
 *	OFFER(try)		-------->	makes QPs, connects them
 *	connects its own	<--------	ANSWER(try)
 *	READY(try), pings	-------->	pings
 *	PINGED(try)		<------->	PINGED(try)
 *
 * Before it makes its QPs each side looks for the route to the other's address (route.c).
 * A ping is an empty message; the peer's device acknowledges it, whatever its process does.  A side
 * is up when its own ping and the peer's have been.  When one fails (FAILED), or the QPs cannot be
 * connected, the lower rank goes on with the next pair; with none left the pair of ranks is unfit
 * for verbs.  Pairs are of one kind (RoCE version, address family); near ones come first.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "lib/peer.h"
#include "transports/verbs/verbs.h"

#define MEET_PING_DIVISOR 8	/* of the host timeout: for a ping */

static void meet_offer(struct verbs_ep *ve);

/* ---- pairs of addresses ---- */

enum verbs_family verbs_gid_family(const uint8_t raw[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (!memcmp(raw, mapped, sizeof(mapped)))
		return VERBS_IPV4;
	return raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80 ? VERBS_LINK_LOCAL : VERBS_IPV6;
}

static int meet_common_bits(const uint8_t *a, const uint8_t *b)
{
	int i;

	for (i = 0; i < 128; i++)
		if ((a[i / 8] ^ b[i / 8]) & 0x80 >> i % 8)
			break;
	return i;
}

/* < 0: these do not go together. */
static int meet_score(const struct verbs_gid *a, const struct verbs_gid *b)
{
	const enum verbs_family f = verbs_gid_family(a->raw);

	if (a->type != b->type ||
	    (a->type == IBV_GID_TYPE_ROCE_V2 && f != verbs_gid_family(b->raw)))
		return -1;
	return (a->type == IBV_GID_TYPE_ROCE_V2) * 1000 + (int)f * 200 +
	       meet_common_bits(a->raw, b->raw);
}

static int meet_pair_score(const struct verbs_ep *ve, unsigned mine, unsigned theirs)
{
	return meet_score(&verbs_ep_nic(ve)->blob.gids[mine], &ve->peer.gids[theirs]);
}

/* Puts a pair in its place; the worst falls out when there are too many. */
static void meet_add_try(struct verbs_ep *ve, unsigned mine, unsigned theirs)
{
	const int score = meet_pair_score(ve, mine, theirs);
	unsigned i = ve->ntries;

	if (score < 0)
		return;
	while (i > 0 && meet_pair_score(ve, ve->tries[i - 1].mine, ve->tries[i - 1].theirs) < score)
		i--;
	if (i == VERBS_MAX_TRIES)
		return;
	if (ve->ntries < VERBS_MAX_TRIES)
		ve->ntries++;
	memmove(&ve->tries[i + 1], &ve->tries[i],
		(ve->ntries - i - 1) * sizeof(ve->tries[0]));
	ve->tries[i].mine = (uint8_t)mine;
	ve->tries[i].theirs = (uint8_t)theirs;
}

/* ---- tries ---- */

static void meet_end_try(struct verbs_ep *ve)
{
	unsigned i;

	for (i = 0; i <= ve->nqps; i++)
		verbs_qp_destroy(&ve->qps[i]);
	ve->pinging = ve->pinged = ve->peer_pinged = false;
	verbs_small_init(ve);
}

static int meet_make_qps(struct verbs_ep *ve)
{
	unsigned i;
	int err = 0;

	meet_end_try(ve);
	for (i = 0; i <= ve->nqps && !err; i++)
		err = verbs_qp_create(&ve->qps[i]);
	return err;
}

static int meet_connect_qps(struct verbs_ep *ve, const struct verbs_note *note)
{
	unsigned i;
	int err = 0;

	ve->ring_addr = note->addr;
	ve->ring_rkey = note->rkey;
	for (i = 0; i <= ve->nqps && !err; i++)
		err = verbs_qp_connect(&ve->qps[i], note->qp[i].qpn, note->qp[i].psn);
	return err;
}

/* What the peer needs to know of our QPs of this try. */
static void meet_say_qps(struct verbs_ep *ve, enum verbs_note_kind kind)
{
	struct verbs_note note = {
		.kind = kind,
		.gid = ve->gid,
		.your_gid = ve->peer_gid,
		.number = ve->try,
		.nqps = ve->nqps,
		.addr = (uintptr_t)ve->mem,
		.rkey = ve->mr->rkey,
	};
	unsigned i;

	for (i = 0; i <= ve->nqps; i++) {
		note.qp[i].qpn = ve->qps[i].qp->qp_num;
		note.qp[i].psn = ve->qps[i].psn;
	}
	verbs_note_send(ve, &note);
}

static void meet_say(struct verbs_ep *ve, enum verbs_note_kind kind, int status)
{
	struct verbs_note note = { .kind = kind, .number = ve->try, .status = status };

	verbs_note_send(ve, &note);
}

static void meet_give_up(struct verbs_ep *ve, const char *why)
{
	meet_say(ve, VERBS_UNFIT, 0);
	verbs_unfit(ve, why);
}

/* This try has failed; why: for the one who wants to know. */
static void meet_failed(struct verbs_ep *ve, const char *why)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	char mine[INET6_ADDRSTRLEN], theirs[INET6_ADDRSTRLEN], text[sizeof(ve->why)];

	snprintf(text, sizeof(text), "%s does not reach %s: %s",
		 verbs_gid_text(nic->blob.gids[ve->gid].raw, mine),
		 verbs_gid_text(ve->peer.gids[ve->peer_gid].raw, theirs), why);
	gy_info("rank %d by verbs: %s", ve->base.peer->rank, text);
	meet_end_try(ve);
	if (!ve->lower) {
		meet_say(ve, VERBS_FAILED, 0);
		return;
	}
	if (++ve->try < ve->ntries)
		meet_offer(ve);
	else
		meet_give_up(ve, text);
}

static void meet_offer(struct verbs_ep *ve)
{
	ve->gid = ve->tries[ve->try].mine;
	ve->peer_gid = ve->tries[ve->try].theirs;
	verbs_route_start(ve);
}

/* The lower rank offers its QPs, the higher answers with its own. */
void verbs_meet_routed(struct verbs_ep *ve)
{
	int err = meet_make_qps(ve);

	if (ve->lower && err) {
		meet_give_up(ve, gyre_strerror(err));
		return;
	}
	if (ve->lower) {
		meet_say_qps(ve, VERBS_OFFER);
		return;
	}
	if (!err)
		err = meet_connect_qps(ve, &ve->offer);
	if (!err) {
		meet_say_qps(ve, VERBS_ANSWER);
		return;
	}
	meet_end_try(ve);
	meet_say(ve, VERBS_ANSWER, err);
}

static void meet_ping(struct verbs_ep *ve)
{
	if (verbs_small_credit(ve, true))
		return;			/* the endpoint goes down */
	ve->pinging = true;
	ve->ping_ns = verbs_now(verbs_ep_nic(ve));
	verbs_timer(verbs_ep_nic(ve), true);
}

void verbs_meet_pinged(struct verbs_ep *ve, bool ok, const char *why)
{
	if (!ve->pinging)
		return;
	ve->pinging = false;
	if (!ok) {
		meet_failed(ve, why);
		return;
	}
	ve->pinged = true;
	meet_say(ve, VERBS_PINGED, 0);
	if (ve->peer_pinged)
		verbs_come_up(ve);
}

void verbs_meet_tick(struct verbs_ep *ve, uint64_t now_ns)
{
	const uint64_t limit = (uint64_t)ve->base.nic->ctx->cfg.host_timeout_ms * VERBS_NS_PER_MS /
			       MEET_PING_DIVISOR;

	if (ve->state != VERBS_MEETING || !ve->pinging || now_ns - ve->ping_ns < limit)
		return;
	verbs_enter(ve);
	verbs_meet_pinged(ve, false, "nothing comes back");
	verbs_leave(ve);
}

/* ---- what the peer says ---- */

static void meet_hello(struct verbs_ep *ve, const struct verbs_note *note)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	unsigned i, j;

	if (ve->greeted || note->blob.ngids > VERBS_MAX_GIDS) {
		verbs_doom(ve, -EPROTO, "its addresses make no sense");
		return;
	}
	ve->greeted = true;
	ve->peer = note->blob;
	if (!ve->lower)
		return;
	for (i = 0; i < nic->blob.ngids; i++)
		for (j = 0; j < ve->peer.ngids; j++)
			meet_add_try(ve, i, j);
	if (ve->ntries)
		meet_offer(ve);
	else
		meet_give_up(ve, "there are no addresses that go together");
}

static void meet_on_offer(struct verbs_ep *ve, const struct verbs_note *note)
{
	if (ve->lower || !ve->greeted || note->gid >= ve->peer.ngids ||
	    note->your_gid >= verbs_ep_nic(ve)->blob.ngids || note->nqps != ve->nqps) {
		verbs_doom(ve, -EPROTO, "its offer makes no sense");
		return;
	}
	meet_end_try(ve);
	ve->offer = *note;
	ve->try = note->number;
	ve->gid = note->your_gid;
	ve->peer_gid = note->gid;
	verbs_route_start(ve);
}

static void meet_on_answer(struct verbs_ep *ve, const struct verbs_note *note)
{
	int err = note->status;

	if (!ve->lower || note->number != ve->try || !ve->qps[0].qp || ve->pinging || ve->pinged) {
		verbs_doom(ve, -EPROTO, "its answer makes no sense");
		return;
	}
	if (!err)
		err = meet_connect_qps(ve, note);
	if (err) {
		meet_failed(ve, gyre_strerror(err < 0 ? err : -EPROTO));
		return;
	}
	meet_say(ve, VERBS_READY, 0);
	meet_ping(ve);
}

void verbs_meet_note(struct verbs_ep *ve, const struct verbs_note *note)
{
	/* What belongs to a try that is over is no news, but for an offer. */
	const bool now = note->number == ve->try && ve->qps[0].qp;

	switch (note->kind) {
	case VERBS_HELLO:
		meet_hello(ve, note);
		break;
	case VERBS_OFFER:
		meet_on_offer(ve, note);
		break;
	case VERBS_ANSWER:
		meet_on_answer(ve, note);
		break;
	case VERBS_READY:
		if (now && !ve->pinging && !ve->pinged)
			meet_ping(ve);
		break;
	case VERBS_PINGED:
		ve->peer_pinged |= now;
		if (now && ve->pinged)
			verbs_come_up(ve);
		break;
	case VERBS_FAILED:
		if (now && ve->lower)
			meet_failed(ve, "the peer says so");
		break;
	default:
		verbs_unfit(ve, "the peer finds no way by verbs");
	}
}

void verbs_meet(struct verbs_ep *ve, int err)
{
	struct verbs_note note = { .kind = VERBS_HELLO, .blob = verbs_ep_nic(ve)->blob };

	verbs_enter(ve);
	if (err)
		meet_give_up(ve, gyre_strerror(err));
	else
		verbs_note_send(ve, &note);
	verbs_leave(ve);
}

const char *verbs_gid_text(const uint8_t raw[16], char *buf)
{
	const bool mapped = verbs_gid_family(raw) == VERBS_IPV4;

	if (!inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? raw + 12 : raw, buf,
		       INET6_ADDRSTRLEN))
		buf[0] = '\0';
	return buf;
}
