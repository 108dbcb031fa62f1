/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bulk.c - grains: written by the device from registered memory into what the peer has exposed.
 *
 * A grain is one write with immediate data: the ticket of its grant.  The QP with the fewest bytes
 * under way takes the next.  A completion is asked for when the engine waits for it, and at the
 * latest for every 16th, or half of what a QP takes; what is in slots needs none, a message of the
 * peer says how far it has come.  Grains of the same stream that went by other QPs, without a
 * completion, get one by an empty write when nothing else happens; all others when that has lasted
 * for a while, or at once when the engine has no slots left to go on with, or a stream has its
 * window under way.
 * Cost: one request; one completion for the receiver, 1/16 for the sender; no copy.
 */
#include <errno.h>

#include "lib/log.h"
#include "transports/verbs/verbs.h"

/* A grain's number on its QP among requests, and among grains, in the transport's own field. */
_Static_assert(sizeof(size_t) == 8, "two numbers fit into gy_grain.done");

/* ---- memory of ours ---- */

int verbs_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote)
{
	const struct verbs_ep *ve = to_verbs(ep);
	const struct ibv_mr *mr;

	if (ve->state == VERBS_DOWN || ve->doom)
		return -ENOTCONN;
	mr = verbs_mem_find(verbs_ep_nic(ve), ptr, len);
	if (!mr)
		return -EOPNOTSUPP;
	remote->w[0] = (uintptr_t)ptr;
	remote->w[1] = len;
	remote->w[2] = (uint64_t)ve->gen << 32 | mr->rkey;
	return 0;
}

/* ---- out ---- */

static bool bulk_is_full(const struct verbs_qp *q)
{
	return q->sent - q->acked >= VERBS_BULK_SQ;
}

static bool bulk_has_room(const struct verbs_qp *q)
{
	return !bulk_is_full(q) && q->bytes < VERBS_BULK_BYTES;
}

bool verbs_bulk_room(const struct verbs_ep *ve)
{
	unsigned i;

	if (!ve->bulk_full || ve->state != VERBS_UP || ve->bulk != VERBS_BULK_READY ||
	    !gy_list_empty(&ve->again))
		return false;
	for (i = 1; i <= ve->nqps; i++)
		if (bulk_has_room(&ve->qps[i]))
			return true;
	return false;
}

/* Whether requests are under way of which no completion will tell. */
static bool bulk_is_silent(const struct verbs_qp *q)
{
	return q->qp && q->sent != q->signalled && !gy_list_empty(&q->out);
}

static struct verbs_qp *bulk_choose(struct verbs_ep *ve, const struct gy_grain *g)
{
	struct verbs_qp *best = NULL, *q;
	unsigned i;

	for (i = 1; i <= ve->nqps; i++) {
		q = &ve->qps[i];
		if (!bulk_has_room(q))
			continue;
		if (g->more < ve->nqps && bulk_is_silent(q))
			return q;	/* its completion tells of those before it, too */
		if (!best || q->bytes < best->bytes)
			best = q;
	}
	return best;
}

static void bulk_await(struct verbs_qp *q)
{
	if (bulk_is_silent(q) && gy_list_empty(&q->tail))
		gy_list_add_tail(&verbs_ep_nic(q->ep)->tails, &q->tail);
}

void verbs_bulk_await(struct verbs_nic *nic)
{
	struct gy_list *link;

	while ((link = gy_list_pop(&nic->silent)))
		bulk_await(gy_list_entry(link, struct verbs_qp, silent));
}

/* Grains of a stream go by several QPs: its oldest may be on one that has none signalled. */
void verbs_bulk_pressed(struct verbs_nic *nic)
{
	struct gy_list *pos, *after;

	nic->base.pressed = false;
	gy_list_for_each_safe(pos, after, &nic->silent) {
		struct verbs_qp *q = gy_list_entry(pos, struct verbs_qp, silent);

		if (q->acked == q->signalled) {
			gy_list_del(pos);
			bulk_await(q);
		} else {
			nic->base.pressed = true;	/* what ends now may not be the oldest */
		}
	}
}

/* So often that a queue pair which is full has a completion on its way. */
static bool bulk_wants_signal(const struct verbs_qp *q, const struct gy_grain *g)
{
	const unsigned nqps = q->ep->nqps;
	const unsigned every = g->pooled ? VERBS_BULK_SQ / 2
					 : (unsigned)gy_min(VERBS_SIGNAL, GY_STREAM_GRAINS / nqps);

	return g->more < nqps || !gy_list_empty(&q->tail) || q->sent + 1 - q->signalled >= every ||
	       q->silent_bytes + g->hdr.len >= VERBS_BULK_BYTES / 2;
}

static void bulk_posted(struct verbs_qp *q, struct gy_grain *g, bool signal)
{
	struct verbs_nic *nic = verbs_ep_nic(q->ep);
	unsigned i;

	if (signal) {
		gy_list_del(&q->tail);
		gy_list_del(&q->silent);
	} else {
		q->silent_bytes += g->hdr.len;
		if (gy_list_empty(&q->silent))
			gy_list_add_tail(&nic->silent, &q->silent);
	}
	g->done = (uint64_t)q->sent << 32 | q->out_count++;
	q->bytes += g->hdr.len;
	gy_list_add_tail(&q->out, &g->link);
	nic->idle = 0;
	/* Those before the last may have gone by other QPs. */
	for (i = 1; !g->more && i <= q->ep->nqps; i++)
		bulk_await(&q->ep->qps[i]);
}

static int bulk_post(struct verbs_qp *q, struct gy_grain *g, uint32_t lkey)
{
	const bool signal = bulk_wants_signal(q, g);
	struct ibv_sge sge = { (uintptr_t)g->src, g->hdr.len, lkey };
	struct ibv_send_wr *bad, wr = {
		.wr_id = verbs_send_id(q, signal),
		.sg_list = &sge,
		.num_sge = g->hdr.len ? 1 : 0,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = signal ? IBV_SEND_SIGNALED : 0,
		.imm_data = htobe32(g->ticket),
		.wr.rdma.remote_addr = g->to.w[0] + g->to_off,
		.wr.rdma.rkey = (uint32_t)g->to.w[2],
	};
	int err = ibv_post_send(q->qp, &wr, &bad);

	if (gy_unlikely(err)) {
		verbs_doom(q->ep, -err, "a grain cannot be posted: %s", gyre_strerror(-err));
		return -ENOTCONN;
	}
	bulk_posted(q, g, signal);
	return 0;
}

int verbs_bulk(struct gy_ep *ep, struct gy_grain *g)
{
	struct verbs_ep *ve = to_verbs(ep);
	struct verbs_qp *q;
	const struct ibv_mr *mr;

	if (gy_unlikely(ve->state != VERBS_UP || ve->doom))
		return -ENOTCONN;
	if (gy_unlikely(g->to_off + g->hdr.len > g->to.w[1]))
		return -EINVAL;
	mr = verbs_mem_find(verbs_ep_nic(ve), g->src, g->hdr.len);
	if (!mr)
		return -EOPNOTSUPP;
	if (gy_unlikely(verbs_is_revoked(ve, g))) {
		gy_list_add_tail(&ve->done, &g->link);
		verbs_later(ve);
		return 0;
	}
	q = ve->bulk == VERBS_BULK_READY && gy_list_empty(&ve->again) ? bulk_choose(ve, g) : NULL;
	if (!q) {
		ve->bulk_full = true;
		return -EAGAIN;
	}
	return bulk_post(q, g, mr->lkey);
}

void verbs_bulk_again(struct verbs_ep *ve)
{
	const struct ibv_mr *mr;
	struct verbs_qp *q;
	struct gy_grain *g;

	while (!ve->doom && ve->bulk == VERBS_BULK_READY && !gy_list_empty(&ve->again)) {
		g = gy_list_entry(ve->again.next, struct gy_grain, link);
		q = bulk_choose(ve, g);
		if (!q)
			return;
		gy_list_del(&g->link);
		mr = verbs_mem_find(verbs_ep_nic(ve), g->src, g->hdr.len);
		gy_assert(mr);		/* it was there when the grain was first sent */
		if (verbs_is_revoked(ve, g) || !mr)
			gy_list_add_tail(&ve->done, &g->link);
		else if (bulk_post(q, g, mr->lkey))
			gy_list_add_head(&ve->again, &g->link);
		else	/* none may be signalled, and streams wait as they did */
			verbs_ep_nic(ve)->base.pressed = true;
	}
	if (!gy_list_empty(&ve->done) || verbs_bulk_room(ve))
		verbs_later(ve);
}

static void bulk_ended(struct verbs_qp *q, struct gy_grain *g)
{
	gy_list_del(&g->link);
	q->bytes -= g->hdr.len;
	gy_list_add_tail(&q->ep->done, &g->link);
}

void verbs_bulk_acked(struct verbs_qp *q, uint32_t number)
{
	struct gy_grain *g;

	q->acked = number;
	while (!gy_list_empty(&q->out)) {
		g = gy_list_entry(q->out.next, struct gy_grain, link);
		if ((int32_t)((uint32_t)(g->done >> 32) - number) > 0)
			break;
		bulk_ended(q, g);
	}
}

/* Of those from this one on, 1 to all; a count from before it is ahead by more, modulo 256. */
static bool bulk_has_come(const struct verbs_qp *q, const struct gy_grain *g, uint8_t come)
{
	const uint8_t n = (uint8_t)(come - (uint8_t)g->done);

	return n && n <= q->out_count - (uint32_t)g->done;
}

/* The device may read a slot again, if an acknowledgement was lost: the peer drops what it has. */
void verbs_bulk_went(struct verbs_ep *ve, const struct verbs_came *went)
{
	struct gy_list *pos, *after;
	struct gy_grain *g;
	unsigned i;

	if (went->epoch != (uint8_t)ve->epoch || ve->bulk != VERBS_BULK_READY)
		return;		/* of QPs that are no more */
	for (i = 1; i <= ve->nqps; i++) {
		gy_list_for_each_safe(pos, after, &ve->qps[i].out) {
			g = gy_list_entry(pos, struct gy_grain, link);
			if (!bulk_has_come(&ve->qps[i], g, went->by[i - 1]))
				break;
			if (g->pooled)
				bulk_ended(&ve->qps[i], g);
		}
	}
	ve->went = *went;
	verbs_bulk_again(ve);
}

void verbs_bulk_tails(struct verbs_nic *nic)
{
	struct gy_list *pos, *after;
	struct verbs_qp *q;
	struct ibv_send_wr wr, *bad;
	int err;

	gy_list_for_each_safe(pos, after, &nic->tails) {
		q = gy_list_entry(pos, struct verbs_qp, tail);
		if (bulk_is_full(q))	/* a completion is on its way */
			continue;
		gy_list_del(pos);
		if (!bulk_is_silent(q) || q->ep->doom)
			continue;
		wr = (struct ibv_send_wr){
			.wr_id = verbs_send_id(q, true),
			.opcode = IBV_WR_RDMA_WRITE,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.rdma.remote_addr = q->ep->ring_addr,
			.wr.rdma.rkey = q->ep->ring_rkey,
		};
		err = ibv_post_send(q->qp, &wr, &bad);
		if (err)
			verbs_doom(q->ep, -err, "a write cannot be posted: %s",
				   gyre_strerror(-err));
	}
}
