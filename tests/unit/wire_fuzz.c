/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_fuzz.c - wrapped upcalls of the simulated transport.
 *
 * A transport promises little about what it hands over: the length of a message fits its body, a
 * grain is placed before it has arrived, and writes land only where the peer may write.  All else
 * may be a lie, and here it is.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/engine.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "tests/unit/wire_fuzz.h"
#include "transports/sim/nic.h"

#define KEPT 32
#define FLOOD_BYTES (80u << 20)
#define LENDS (1 << 16)

void __real_gy_written(struct gy_ep *ep, uint32_t ticket);
void __wrap_gy_written(struct gy_ep *ep, uint32_t ticket);
void __real_gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
int __real_gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp);
int __real_sim_ep_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);
int __real_sim_ep_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		      const void **ptrp);
int __real_sim_ep_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		       size_t len);
void __wrap_gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
int __wrap_gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp);
int __wrap_sim_ep_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);
int __wrap_sim_ep_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		      const void **ptrp);
int __wrap_sim_ep_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		       size_t len);
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...);

/* A message whose body has its own block of exactly its size, so that reads beyond it are seen. */
struct msg {
	struct gy_ep *ep;
	struct gy_hdr hdr;
	uint8_t *body;
};

static struct msg kept[KEPT];		/* to be replayed */
static struct msg held;			/* overtaken by the next */
static struct gy_remote lends[LENDS];	/* memory that was really lent */
static unsigned nlends;
static const struct gy_peer *giver;	/* of the upcall that is being made */

static struct msg msg_copy(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct msg m = { .ep = ep, .hdr = *hdr, .body = malloc(hdr->len) };

	if (hdr->len)
		memcpy(m.body, body, hdr->len);
	return m;
}

static void msg_drop(struct msg *m)
{
	free(m->body);
	*m = (struct msg){ 0 };
}

/* An endpoint makes no upcalls when one of them has closed it: its sender was expelled. */
static void msg_give(const struct msg *m)
{
	if (giver->ep == m->ep)
		__real_gy_deliver(m->ep, &m->hdr, m->body);
}

static void msg_resize(struct msg *m, uint32_t len)
{
	uint8_t *body = malloc(len);
	uint32_t i;

	for (i = 0; i < len; i++)
		body[i] = i < m->hdr.len ? m->body[i] : (uint8_t)fuzz_below(256);
	free(m->body);
	m->body = body;
	m->hdr.len = len;
}

void fuzz_begin(enum fuzz_mode mode, uint64_t seed)
{
	fuzz.mode = mode;
	fuzz.rng = seed ^ UINT64_C(0xd1342543de82ef95);
	fuzz.rate = 1ull << (2 + fuzz_below(7));
	fuzz.lie_at = mode == FUZZ_FLOOD ? 0 : fuzz_below(1ull << (2 + fuzz_below(8)));
	fuzz.seen = 0;
	fuzz.fault = NULL;
	nlends = 0;
}

void fuzz_end(void)
{
	unsigned i;

	for (i = 0; i < KEPT; i++)
		msg_drop(&kept[i]);
	msg_drop(&held);
}

/* ---- lies ---- */

/* Another value of a field of so many bytes: a bit, a step, an edge. */
static void lie_bytes(void *field, size_t size)
{
	static const uint64_t edges[] = { 0, 1, UINT32_MAX, UINT64_MAX, INT64_MAX, INT32_MAX };
	uint64_t v = 0;

	memcpy(&v, field, size);
	switch (fuzz_below(4)) {
	case 0:
		v ^= 1ull << fuzz_below(size * 8);
		break;
	case 1:
		v++;
		break;
	case 2:
		v--;
		break;
	default:
		v = edges[fuzz_below(GY_ARRAY_SIZE(edges))];
	}
	memcpy(field, &v, size);
}

static void lie_hdr(struct gy_hdr *hdr)
{
	switch (fuzz_below(11)) {
	case 0:
		hdr->kind = (uint8_t)fuzz_below(14);
		break;
	case 1:
		hdr->kind ^= (uint8_t)(1u << fuzz_below(8));
		break;
	case 2:
		lie_bytes((uint8_t *)hdr + 1 + fuzz_below(5), 1);	/* coll to grain_log2 */
		break;
	case 3:
		lie_bytes(&hdr->root, sizeof(hdr->root));
		break;
	case 4:
		lie_bytes(&hdr->comm, sizeof(hdr->comm));
		break;
	case 5:
		lie_bytes(&hdr->seq, sizeof(hdr->seq));
		break;
	case 6:
		lie_bytes(&hdr->count, sizeof(hdr->count));
		break;
	case 7:
		lie_bytes(&hdr->stream, sizeof(hdr->stream));
		break;
	case 8:
		lie_bytes(&hdr->off, sizeof(hdr->off));
		break;
	case 9:
		lie_bytes(&hdr->credit, sizeof(hdr->credit));
		break;
	default:
		lie_bytes(&hdr->arg, sizeof(hdr->arg));
	}
}

static void lie_body(struct msg *m)
{
	if (!m->hdr.len || fuzz_below(2))
		msg_resize(m, (uint32_t)fuzz_below(fuzz_below(2) ? 64 : GY_BODY_MAX + 1));
	else
		lie_bytes(m->body + fuzz_below(m->hdr.len), 1);
}

static void lie_invent(struct gy_ep *ep, const struct gy_hdr *like)
{
	static const uint8_t zeros[GY_BODY_MAX];
	struct gy_hdr hdr = *like;
	struct msg m;
	unsigned i;

	hdr.len = (uint32_t)fuzz_below(fuzz_below(2) ? 80 : GY_BODY_MAX + 1);
	m = msg_copy(ep, &hdr, zeros);
	for (i = 0; i < hdr.len; i++)
		m.body[i] = (uint8_t)fuzz_below(256);
	for (i = (unsigned)fuzz_below(8); i; i--)
		lie_hdr(&m.hdr);
	msg_give(&m);
	msg_drop(&m);
}

/* ---- messages ---- */

static void give_again(struct msg *m)
{
	const struct msg *old = &kept[fuzz_below(KEPT)];

	msg_give(m);
	if (fuzz_below(2))
		msg_give(m);
	else if (old->ep == m->ep)
		msg_give(old);
}

/* RELEASE says that memory may change: that it is wrong cannot be seen by anybody. */
static void give_lie(struct msg *m)
{
	const struct gy_hdr true_hdr = m->hdr;

	if (m->hdr.kind != GY_MSG_RELEASE)
		lie_hdr(&m->hdr);
	if (m->hdr.kind == GY_MSG_RELEASE)
		m->hdr = true_hdr;
	msg_give(m);
}

static void give_havoc(struct msg *m)
{
	switch (fuzz_below(8)) {
	case 0:
		break;			/* lost */
	case 1:
		if (!held.ep) {
			held = *m;
			*m = (struct msg){ 0 };
		}
		break;
	case 2:
		give_again(m);
		break;
	case 3:
		lie_body(m);
		msg_give(m);
		break;
	case 4:
		lie_invent(m->ep, &m->hdr);
		msg_give(m);
		break;
	case 5:
		lie_hdr(&m->hdr);
		lie_hdr(&m->hdr);
		msg_give(m);
		break;
	default:
		lie_hdr(&m->hdr);
		msg_give(m);
	}
}

/* More than is ever parked, for calls that nobody has made yet. */
static void give_flood(struct msg *m)
{
	const uint32_t seq = m->hdr.seq;
	unsigned i;

	msg_resize(m, GY_BODY_MAX);
	m->hdr.kind = GY_MSG_LEND;
	m->hdr.comm = 0;
	for (i = 0; i < FLOOD_BYTES / GY_BODY_MAX; i++) {
		m->hdr.seq = seq + 1000 + i;
		msg_give(m);
	}
}

static bool fuzz_now(void)
{
	fuzz.messages++;
	if (fuzz.mode == FUZZ_NONE)
		return false;
	if (fuzz.mode >= FUZZ_LIE && fuzz.mode != FUZZ_HAVOC ? fuzz.seen++ != fuzz.lie_at
							     : fuzz_below(fuzz.rate) != 0)
		return false;
	fuzz.changes++;
	return true;
}

void __wrap_gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct msg m = msg_copy(ep, hdr, body), *keep = &kept[fuzz_below(KEPT)];

	giver = ep->peer;
	if (!fuzz_now())
		msg_give(&m);
	else if (fuzz.mode == FUZZ_DOUBLES)
		give_again(&m);
	else if (fuzz.mode == FUZZ_LIE)
		give_lie(&m);
	else if (fuzz.mode == FUZZ_FLOOD)
		give_flood(&m);
	else
		give_havoc(&m);
	if (held.ep == ep && m.ep) {
		msg_give(&held);
		msg_drop(&held);
	}
	if (m.ep) {
		msg_drop(keep);
		*keep = m;
	}
}

/* ---- grains ---- */

/* As a transport with lanes does it: header by header, from different lanes. */
int __wrap_gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	struct gy_hdr *own = (struct gy_hdr *)hdr;	/* the parcel's: gy_arrived gets it too */
	const struct gy_hdr true_hdr = *hdr;
	void *again;
	int err;

	if (!fuzz_now())
		return __real_gy_place(ep, hdr, dstp);
	if (fuzz.mode != FUZZ_DOUBLES)
		lie_hdr(own);
	err = __real_gy_place(ep, hdr, dstp);
	if (err)
		return err;
	if (own->len > true_hdr.len)
		*dstp = NULL;		/* so many bytes did not come */
	if (fuzz.mode == FUZZ_LIE || !*dstp)
		return 0;
	err = __real_gy_place(ep, hdr, &again);
	if (!err && again)
		fuzz.fault = "one place was given to two grains";
	return err;
}

void __wrap_gy_written(struct gy_ep *ep, uint32_t ticket)
{
	giver = ep->peer;
	if (!fuzz_now()) {
		__real_gy_written(ep, ticket);
		return;
	}
	if (fuzz.mode == FUZZ_DOUBLES)
		__real_gy_written(ep, ticket);
	else
		lie_bytes(&ticket, sizeof(ticket));
	if (giver->ep == ep)
		__real_gy_written(ep, ticket);
}

/* ---- lent memory ---- */

int __wrap_sim_ep_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote)
{
	const int err = __real_sim_ep_lend(ep, ptr, len, remote);

	if (!err && nlends < LENDS)
		lends[nlends++] = *remote;
	return err ? err : nlends < LENDS ? 0 : -ENOMEM;
}

static bool lent(const struct gy_remote *remote)
{
	unsigned i;

	for (i = nlends; i-- > 0;)
		if (!memcmp(&lends[i], remote, sizeof(*remote)))
			return true;
	return false;
}

int __wrap_sim_ep_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		      const void **ptrp)
{
	return lent(remote) ? __real_sim_ep_map(ep, remote, off, len, ptrp) : -EPROTO;
}

int __wrap_sim_ep_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		       size_t len)
{
	return lent(remote) ? __real_sim_ep_pull(ep, remote, off, dst, len) : -EPROTO;
}

/* ---- the log ---- */

/* Lies are complained of by the thousand; the texts are made all the same. */
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (getenv("GYRE_LOG"))
		fprintf(stderr, "%s\n", text);
}
