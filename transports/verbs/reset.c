/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reset.c - revoke: memory that the device must not touch any more, though the peer lives.
 *
 * The QPs for grains are ended, which stops the device in both directions, and replaced:
 *
 *	A revokes: its QPs end; REVOKE and RESET(epoch) --------> B ends its QPs, too, connects new
 *	A connects its new QPs                 <-------- RESET(epoch), READY     ones to A's
 *	READY                                  -------->
 *
 * RESET tells how many grains had come by each of the old QPs.  As a QP keeps order, the sender
 * knows from it which of its grains have arrived, and sends the others again: each arrives once.
 * Both may begin at the same time: each takes the other's RESET for the answer.  Nobody sends
 * before the other's READY of the epoch, so a REVOKE that is said in the meantime comes in time.
 *
 * What is exposed carries a generation, which each revoke advances.  The sender keeps what has been
 * revoked: a grant from before then may still wait in its engine.  Ranges that are equal are kept
 * once, so the list is bounded by the memory that there is.
 */
#include <errno.h>

#include "lib/alloc.h"
#include "transports/verbs/verbs.h"

#define RESET_FLUSH_MS 500	/* a device that takes longer to end a QP is broken */

static bool reset_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + alen;
}

/* ---- what the peer has revoked ---- */

bool verbs_is_revoked(const struct verbs_ep *ve, const struct gy_grain *g)
{
	const uint32_t gen = (uint32_t)(g->to.w[2] >> 32);
	const struct verbs_range *r;
	unsigned i;

	if (gy_likely((int32_t)(gen - ve->revoked_gen) >= 0))
		return false;
	for (i = 0; i < ve->nrevoked; i++) {
		r = &ve->revoked[i];
		if ((int32_t)(gen - r->gen) < 0 &&
		    reset_overlap(g->to.w[0] + g->to_off, g->hdr.len, r->addr, r->len))
			return true;
	}
	return false;
}

static void reset_note_revoke(struct verbs_ep *ve, const struct verbs_note *note)
{
	const struct verbs_range r = { note->addr, note->len, note->gen };
	struct verbs_range *p;
	unsigned i;

	ve->revoked_gen = r.gen;
	for (i = 0; i < ve->nrevoked; i++) {
		p = &ve->revoked[i];
		if (r.addr <= p->addr && p->addr + p->len <= r.addr + r.len) {
			*p = r;
			return;
		}
	}
	if (ve->nrevoked == ve->revoked_size) {
		p = gy_realloc_array(ve->revoked, ve->revoked_size + 64, sizeof(*p));
		if (!p) {
			verbs_doom(ve, -ENOMEM, "no memory");
			return;
		}
		ve->revoked = p;
		ve->revoked_size += 64;
	}
	ve->revoked[ve->nrevoked++] = r;
}

/* ---- ending and replacing the QPs ---- */

static bool reset_flushed(const struct verbs_ep *ve)
{
	unsigned i;

	for (i = 1; i <= ve->nqps; i++)
		if (ve->qps[i].at_device)
			return false;
	return true;
}

/*
 * In error a QP gives its receives back, in order after those that grains have used: then it is
 * known exactly what has come.
 */
static void reset_end(struct verbs_ep *ve)
{
	struct verbs_nic *nic = verbs_ep_nic(ve);
	const uint64_t end = verbs_now(nic) + RESET_FLUSH_MS * VERBS_NS_PER_MS *
						      (uint64_t)nic->base.ctx->cfg.time_scale;
	unsigned i;

	for (i = 1; i <= ve->nqps; i++)
		verbs_qp_error(&ve->qps[i]);
	for (;;) {
		if (verbs_cq_fill(nic) < 0)
			break;
		verbs_cq_take_bulk(ve);
		if (reset_flushed(ve) || verbs_now(nic) > end)
			break;
		nic->base.ctx->sys->ops->yield(nic->base.ctx->sys);
	}
	if (!reset_flushed(ve))
		verbs_doom(ve, -EIO, "the device does not end a queue pair");
	for (i = 1; i <= ve->nqps; i++)
		verbs_qp_destroy(&ve->qps[i]);
}

/* Ends our QPs, makes new ones and tells the peer. */
static void reset_begin(struct verbs_ep *ve, uint32_t epoch)
{
	struct verbs_note note = { .kind = VERBS_RESET, .number = epoch };
	unsigned i;
	int err = 0;

	reset_end(ve);
	for (i = 1; i <= ve->nqps && !ve->doom && !err; i++) {
		note.qp[i].got = ve->qps[i].got;
		err = verbs_qp_create(&ve->qps[i]);
		if (err)
			break;
		note.qp[i].qpn = ve->qps[i].qp->qp_num;
		note.qp[i].psn = ve->qps[i].psn;
	}
	if (err)
		verbs_doom(ve, err, "a queue pair cannot be made: %s", gyre_strerror(err));
	if (ve->doom)
		return;
	ve->epoch = epoch;
	ve->came = (struct verbs_came){ .epoch = (uint8_t)epoch };
	ve->bulk = VERBS_BULK_RESET;
	ve->peer_ready = false;
	verbs_note_send(ve, &note);
}

/* Grains of the old QPs: those that had come are done, the others are sent again. */
static void reset_sort(struct verbs_ep *ve, const struct verbs_note *note)
{
	struct gy_grain *g;
	struct verbs_qp *q;
	unsigned i;

	for (i = ve->nqps; i >= 1; i--) {
		q = &ve->qps[i];
		q->bytes = 0;
		while (!gy_list_empty(&q->out)) {
			g = gy_list_entry(q->out.prev, struct gy_grain, link);
			gy_list_del(&g->link);
			if ((int32_t)((uint32_t)g->done - note->qp[i].got) < 0)
				gy_list_add_head(&ve->done, &g->link);
			else
				gy_list_add_head(&ve->again, &g->link);
		}
	}
	verbs_later(ve);
}

static void reset_may_send(struct verbs_ep *ve)
{
	if (ve->bulk != VERBS_BULK_WAIT || !ve->peer_ready)
		return;
	ve->bulk = VERBS_BULK_READY;
	verbs_bulk_again(ve);
	if (verbs_bulk_room(ve))
		verbs_later(ve);
}

/* The peer's RESET of our epoch. */
static void reset_connect(struct verbs_ep *ve, const struct verbs_note *note)
{
	struct verbs_note ready = { .kind = VERBS_READY, .number = ve->epoch };
	unsigned i;
	int err = 0;

	reset_sort(ve, note);
	for (i = 1; i <= ve->nqps && !err; i++)
		err = verbs_qp_connect(&ve->qps[i], note->qp[i].qpn, note->qp[i].psn);
	if (err) {
		verbs_doom(ve, err, "a queue pair cannot be connected: %s", gyre_strerror(err));
		return;
	}
	ve->bulk = VERBS_BULK_WAIT;
	verbs_note_send(ve, &ready);
	reset_may_send(ve);
}

void verbs_reset_note(struct verbs_ep *ve, const struct verbs_note *note)
{
	switch (note->kind) {
	case VERBS_REVOKE:
		reset_note_revoke(ve, note);
		break;
	case VERBS_READY:
		if (note->number != ve->epoch)
			break;		/* overtaken by a new reset of ours */
		ve->peer_ready = true;
		reset_may_send(ve);
		break;
	default:
		if (note->number == ve->epoch + 1 && ve->bulk != VERBS_BULK_RESET)
			reset_begin(ve, note->number);
		else if (note->number != ve->epoch || ve->bulk != VERBS_BULK_RESET)
			verbs_doom(ve, -EPROTO, "it replaces queue pairs out of turn");
		if (!ve->doom)
			reset_connect(ve, note);
	}
}

/* ---- revoke ---- */

/* Grains out of there are dropped; whether any was with the device. */
static bool reset_drop(struct verbs_ep *ve, struct gy_list *list, const void *ptr, size_t len)
{
	struct gy_list *pos, *after;
	struct gy_grain *g;
	bool any = false;

	gy_list_for_each_safe(pos, after, list) {
		g = gy_list_entry(pos, struct gy_grain, link);
		if (!reset_overlap((uintptr_t)g->src, g->hdr.len, (uintptr_t)ptr, len))
			continue;
		gy_list_del(pos);
		any = true;
		gy_sent(&ve->base, g);
	}
	return any;
}

/*
 * While the new QPs of a reset are not connected nobody can write; and before the peer has our
 * READY it hears of what we revoke.
 */
void verbs_revoke(struct gy_ep *ep, const void *ptr, size_t len)
{
	struct verbs_ep *ve = to_verbs(ep);
	struct verbs_note note = { .kind = VERBS_REVOKE, .addr = (uintptr_t)ptr, .len = len };
	unsigned i;

	verbs_enter(ve);
	if (ve->state == VERBS_UP && !ve->doom) {
		note.gen = ++ve->gen;
		verbs_note_send(ve, &note);
		if (ve->bulk != VERBS_BULK_RESET)
			reset_begin(ve, ve->epoch + 1);
	}
	/* Without an agreement about what has come there will be no other grain, either. */
	if (ve->state == VERBS_UP && ve->doom)
		for (i = 0; i <= ve->nqps; i++)
			verbs_qp_destroy(&ve->qps[i]);
	for (i = 1; i <= ve->nqps; i++)
		reset_drop(ve, &ve->qps[i].out, ptr, len);
	reset_drop(ve, &ve->again, ptr, len);
	reset_drop(ve, &ve->done, ptr, len);
	verbs_leave(ve);
}
