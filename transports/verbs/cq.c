/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cq.c - completions.  One completion queue takes all QPs' of the device; only this file looks at
 * it, and at each completion's status.
 *
 * Completions are taken into an array and handled one by one.  An upcall may end a QP or need to
 * know what has come by it (reset.c): it looks at those that wait in the array.
 */
#include <arpa/inet.h>
#include <errno.h>

#include "lib/alloc.h"
#include "transports/verbs/verbs.h"

#define CQ_BATCH 16
#define CQ_ROUNDS 4		/* batches before others get their turn */
#define CQ_TAKEN (VERBS_IS_RECV - 1)	/* wr_id of a completion that waits no more: no QP's */

/* ---- errors ---- */

static const char *cq_causes(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
		return "its host is gone, a link or switch port is down, or packets do not pass "
		       "(MTU, address, routing, firewall)";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return "it had posted no receive, which is an error of this library";
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_OP_ERR:
	case IBV_WC_REM_ABORT_ERR:
		return "memory there was unregistered while it was in use, or its queue pair "
		       "failed";
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_ACCESS_ERR:
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_MW_BIND_ERR:
		return "memory here was unregistered or unmapped while it was in use";
	case IBV_WC_LOC_QP_OP_ERR:
		return "the link, the address or the route to it is gone here";
	case IBV_WC_FATAL_ERR:
	case IBV_WC_GENERAL_ERR:
		return "the device failed; the kernel's log may say why";
	case IBV_WC_WR_FLUSH_ERR:
		return "the queue pair had failed before";
	default:
		return "the device or its driver failed";
	}
}

static int cq_errno(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
		return -ETIMEDOUT;
	case IBV_WC_WR_FLUSH_ERR:
		return -ECONNABORTED;
	default:
		return -EIO;
	}
}

/*
 * The queue pair is of no more use.  When the peer has ended it in good order, or has ended itself,
 * the control connection knows.
 */
static gy_cold void cq_failed(struct verbs_qp *q, struct ibv_wc wc)
{
	struct verbs_ep *ve = q->ep;
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	char mine[INET6_ADDRSTRLEN], theirs[INET6_ADDRSTRLEN];
	const uint32_t key = q->key;

	if (ve->state == VERBS_LEAVING) {
		ve->doom = cq_errno(wc.status);
		return;
	}
	if (ve->state == VERBS_MEETING) {
		if (wc.status != IBV_WC_WR_FLUSH_ERR && ve->pinging)
			verbs_meet_pinged(ve, false, ibv_wc_status_str(wc.status));
		return;
	}
	verbs_enter(ve);
	verbs_note_recv(ve);
	if (ve->state == VERBS_UP && !ve->closed && q->qp && q->key == key)
		verbs_doom(ve, cq_errno(wc.status),
			   "queue pair %u at %s to %u at %s failed: %s (vendor's code 0x%x): %s",
			   q->qp->qp_num, verbs_gid_text(nic->blob.gids[ve->gid].raw, mine),
			   q->peer_qpn, verbs_gid_text(ve->peer.gids[ve->peer_gid].raw, theirs),
			   ibv_wc_status_str(wc.status), wc.vendor_err, cq_causes(wc.status));
	verbs_leave(ve);
}

/* ---- handling ---- */

static int cq_grain(struct verbs_qp *q, uint32_t ticket)
{
	struct verbs_ep *ve = q->ep;

	verbs_grain_came(q);
	if (++q->due >= VERBS_REFILL && verbs_qp_refill(q))
		verbs_doom(ve, -EIO, "a receive cannot be posted");
	if (gy_unlikely(ve->state != VERBS_UP)) {
		verbs_doom(ve, -EPROTO, "it sent a grain before its time");
		return 0;
	}
	gy_written(&ve->base, ticket);
	return 1;
}

static int cq_recv(struct verbs_qp *q, const struct ibv_wc *wc)
{
	struct verbs_ep *ve = q->ep;
	int n;

	if (gy_unlikely(ve->closed))
		return 0;
	if (gy_unlikely(wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM)) {
		verbs_doom(ve, -EPROTO, "it sent what is no write");
		return 0;
	}
	verbs_enter(ve);
	n = q->index ? cq_grain(q, be32toh(wc->imm_data))
		     : verbs_small_came(ve, be32toh(wc->imm_data));
	verbs_leave(ve);
	return n;
}

static void cq_sent(struct verbs_qp *q, uint32_t number)
{
	struct verbs_ep *ve = q->ep;

	if (q->index) {
		verbs_bulk_acked(q, number);
		verbs_bulk_again(ve);
		return;
	}
	q->acked = number;
	if (gy_unlikely(ve->state == VERBS_MEETING))
		verbs_meet_pinged(ve, true, NULL);
	else if (verbs_small_room(ve))
		verbs_later(ve);
}

/* After an upcall the array of completions may be elsewhere. */
static int cq_handle(struct verbs_nic *nic, const struct ibv_wc *wc)
{
	const uint32_t key = (uint32_t)wc->wr_id;
	struct verbs_qp *q = verbs_qp_find(nic, key);

	if (gy_unlikely(!q))
		return 0;
	if (key & VERBS_IS_RECV)
		q->at_device--;
	if (gy_unlikely(wc->status != IBV_WC_SUCCESS)) {
		cq_failed(q, *wc);
		return 0;
	}
	if (key & VERBS_IS_RECV)
		return cq_recv(q, wc);
	cq_sent(q, (uint32_t)(wc->wr_id >> 32));
	return 0;
}

/* ---- taking ---- */

static gy_cold void cq_broken(struct verbs_nic *nic)
{
	struct gy_list *pos;

	nic->failed = true;
	gy_list_for_each(pos, &nic->eps)
		verbs_doom(gy_list_entry(pos, struct verbs_ep, link), -EIO,
			   "the completion queue of %s failed", nic->dev->device->name);
}

/* Up to n more: how many. */
static int cq_take(struct verbs_nic *nic, unsigned n)
{
	int got = nic->failed ? 0 : ibv_poll_cq(nic->cq, (int)n, nic->wc + nic->wc_tail);

	if (gy_unlikely(got < 0)) {
		cq_broken(nic);
		return 0;
	}
	nic->wc_tail += (unsigned)got;
	return got;
}

int verbs_cq_poll(struct verbs_nic *nic)
{
	unsigned round = 0;
	bool more = true;
	int n = 0;

	gy_assert(!nic->handling);
	nic->handling = true;
	for (;;) {
		if (nic->wc_head == nic->wc_tail) {
			nic->wc_head = nic->wc_tail = 0;
			if (!more || round++ == CQ_ROUNDS)
				break;
			more = cq_take(nic, CQ_BATCH) == CQ_BATCH;
			if (nic->wc_tail == 0)
				break;
		}
		n += cq_handle(nic, &nic->wc[nic->wc_head++]);
	}
	nic->handling = false;
	return n;
}

gy_cold int verbs_cq_fill(struct verbs_nic *nic)
{
	struct ibv_wc *wc;

	do {
		if (nic->wc_tail + CQ_BATCH <= nic->wc_size)
			continue;
		wc = gy_realloc_array(nic->wc, nic->wc_size * 2, sizeof(*wc));
		if (!wc)
			return -ENOMEM;
		nic->wc = wc;
		nic->wc_size *= 2;
	} while (cq_take(nic, CQ_BATCH));
	return nic->wc_head < nic->wc_tail;
}

static void cq_take_one(struct verbs_qp *q, const struct ibv_wc *wc)
{
	struct verbs_ep *ve = q->ep;
	const bool recv = (uint32_t)wc->wr_id & VERBS_IS_RECV;

	q->at_device -= recv;
	if (wc->status != IBV_WC_SUCCESS)
		return;
	if (!recv) {
		verbs_bulk_acked(q, (uint32_t)(wc->wr_id >> 32));
	} else if (ve->nlate == VERBS_GRANTS) {
		verbs_doom(ve, -EPROTO, "it sent more grains than were granted");
	} else {
		verbs_grain_came(q);
		ve->late[ve->nlate++] = be32toh(wc->imm_data);
	}
}

gy_cold void verbs_cq_take_bulk(struct verbs_ep *ve)
{
	struct verbs_nic *nic = verbs_ep_nic(ve);
	struct verbs_qp *q;
	unsigned i;

	for (i = nic->wc_head; i < nic->wc_tail; i++) {
		q = verbs_qp_find(nic, (uint32_t)nic->wc[i].wr_id);
		if (!q || q->ep != ve || !q->index)
			continue;
		cq_take_one(q, &nic->wc[i]);
		nic->wc[i].wr_id = CQ_TAKEN;
	}
	verbs_later(ve);
}

/* ---- size ---- */

int verbs_cq_reserve(struct verbs_nic *nic, unsigned entries)
{
	const unsigned need = nic->cq_used + entries;
	unsigned size;
	int err;

	if (need > nic->max_cqe)
		return -ENOSPC;
	if (need > nic->cq_size) {
		size = (unsigned)gy_min(gy_max(need, 2 * (size_t)nic->cq_size), nic->max_cqe);
		err = ibv_resize_cq(nic->cq, (int)size);
		if (err)
			return -err;
		nic->cq_size = size;
	}
	nic->cq_used = need;
	return 0;
}
