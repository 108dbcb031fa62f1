/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qp.c - queue pairs: made, connected, filled with receives, ended.
 *
 * Completions name their QP by a slot and its generation, so that those of a QP that has been
 * destroyed meanwhile are nobody's.
 *
 * Each QP has receives of its own, all that its peer may use: a queue that many share (SRQ) would
 * have to hold the same sum, or a peer could find none.  They carry no memory.  For each peer, with
 * 2 QPs for grains, they are 998 entries: on mlx5 24 KiB, and 31 KiB in an SRQ, whose entries are
 * twice as long; its send queues take 160 KiB, completions 86, its ring 48 of registered memory.
 * Refills are 32 at a time either way.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "transports/verbs/verbs.h"

#define QP_RETRIES 6		/* 7 means for ever on some devices */
#define QP_RNR_RETRIES 3
#define QP_RNR_TIMER 14		/* 1 ms */
#define QP_MIN_TIMEOUT 10	/* 4 ms */
#define QP_PSN_MASK 0xffffffu

unsigned verbs_qp_entries(unsigned nqps)
{
	return VERBS_SMALL_RQ + VERBS_SMALL_SQ + nqps * (VERBS_BULK_RQ + VERBS_BULK_SQ);
}

static int qp_take_slot(struct verbs_nic *nic, struct verbs_qp *q)
{
	struct verbs_slot *slots;
	unsigned i;

	for (i = 0; i < nic->nslots && nic->slots[i].qp; i++)
		;
	if (i == 1u << VERBS_SLOT_BITS)
		return -ENOSPC;
	if (i == nic->nslots) {
		slots = gy_realloc_array(nic->slots, nic->nslots + 64, sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		memset(slots + nic->nslots, 0, 64 * sizeof(*slots));
		nic->slots = slots;
		nic->nslots += 64;
	}
	nic->slots[i].qp = q;
	nic->slots[i].gen = (nic->slots[i].gen + 1) & VERBS_GEN_MASK;
	q->key = (uint32_t)nic->slots[i].gen << VERBS_SLOT_BITS | i;
	return 0;
}

static void qp_leave_slot(struct verbs_nic *nic, struct verbs_qp *q)
{
	nic->slots[q->key & ((1u << VERBS_SLOT_BITS) - 1)].qp = NULL;
}

static int qp_init(struct verbs_nic *nic, struct verbs_qp *q)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = nic->port,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	int err =
		ibv_modify_qp(q->qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);

	return -err;
}

/* A device that has less room for inline data says so, or takes it as an error. */
static struct ibv_qp *qp_make(struct verbs_nic *nic, struct verbs_qp *q)
{
	struct ibv_qp_init_attr attr;
	struct ibv_qp *qp = NULL;
	unsigned want = q->index ? 0 : VERBS_INLINE;

	for (;;) {
		attr = (struct ibv_qp_init_attr){
			.send_cq = nic->cq,
			.recv_cq = nic->cq,
			.qp_type = IBV_QPT_RC,
			.cap.max_send_wr = q->index ? VERBS_BULK_SQ : VERBS_SMALL_SQ,
			.cap.max_recv_wr = q->index ? VERBS_BULK_RQ : VERBS_SMALL_RQ,
			.cap.max_send_sge = q->index ? 1 : 2,
			.cap.max_recv_sge = 1,
			.cap.max_inline_data = want,
		};
		qp = ibv_create_qp(nic->pd, &attr);
		if (qp || !want)
			break;
		want /= 2;
	}
	if (qp && !q->index)
		q->ep->inline_max = attr.cap.max_inline_data;
	return qp;
}

int verbs_qp_create(struct verbs_qp *q)
{
	struct verbs_nic *nic = verbs_ep_nic(q->ep);
	int err = qp_take_slot(nic, q);

	if (err)
		return err;
	q->qp = qp_make(nic, q);
	if (!q->qp) {
		err = -errno;
		goto leave_slot;
	}
	q->psn = (uint32_t)nic->base.ctx->sys->ops->random(nic->base.ctx->sys) & QP_PSN_MASK;
	q->sent = q->acked = q->signalled = 0;
	q->out_count = q->got = 0;
	q->silent_bytes = 0;
	q->at_device = 0;
	q->due = q->index ? VERBS_BULK_RQ : VERBS_SMALL_RQ;
	err = qp_init(nic, q);
	if (!err)
		err = verbs_qp_refill(q);
	if (!err)
		return 0;
	ibv_destroy_qp(q->qp);
	q->qp = NULL;
leave_slot:
	qp_leave_slot(nic, q);
	return err;
}

void verbs_qp_destroy(struct verbs_qp *q)
{
	if (!q->qp)
		return;
	ibv_destroy_qp(q->qp);
	q->qp = NULL;
	gy_list_del(&q->tail);
	gy_list_del(&q->silent);
	qp_leave_slot(verbs_ep_nic(q->ep), q);
}

void verbs_qp_error(struct verbs_qp *q)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

	if (q->qp)
		ibv_modify_qp(q->qp, &attr, IBV_QP_STATE);
}

static void qp_address(const struct verbs_ep *ve, struct ibv_ah_attr *ah)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	const uint8_t *theirs = ve->peer.gids[ve->peer_gid].raw;

	*ah = (struct ibv_ah_attr){ .dlid = ve->peer.lid,
				    .port_num = nic->port,
				    .sl = ve->route.sl };
	/* InfiniBand needs it between subnets only. */
	ah->is_global = nic->blob.link_layer == IBV_LINK_LAYER_ETHERNET ||
			memcmp(theirs, nic->blob.gids[ve->gid].raw, 8);
	if (!ah->is_global)
		return;
	memcpy(ah->grh.dgid.raw, theirs, 16);
	ah->grh.sgid_index = nic->gid_index[ve->gid];
	ah->grh.hop_limit = VERBS_HOPS;
	ah->grh.traffic_class = ve->route.traffic_class;
	ah->grh.flow_label = ve->route.flow_label;
}

/*
 * An unanswered request is given up after (retries + 1) * 4.096 us * 2^timeout: half the time after
 * which a silent host counts as gone.
 */
static uint8_t qp_timeout(const struct verbs_nic *nic)
{
	const uint64_t limit = (uint64_t)nic->base.ctx->cfg.host_timeout_ms * VERBS_NS_PER_MS / 2;
	uint8_t t = QP_MIN_TIMEOUT;

	while (t < 31 && (QP_RETRIES + 1) * (4096ull << (t + 1)) <= limit)
		t++;
	return t;
}

int verbs_qp_connect(struct verbs_qp *q, uint32_t qpn, uint32_t psn)
{
	const struct verbs_nic *nic = verbs_ep_nic(q->ep);
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = (enum ibv_mtu)q->ep->route.mtu,
		.dest_qp_num = qpn,
		.rq_psn = psn & QP_PSN_MASK,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = QP_RNR_TIMER,
	};
	int err;

	q->peer_qpn = qpn;
	qp_address(q->ep, &attr.ah_attr);
	err = ibv_modify_qp(q->qp, &attr,
			    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				    IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				    IBV_QP_MIN_RNR_TIMER);
	if (err)
		return -err;
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS,
		.timeout = qp_timeout(nic),
		.retry_cnt = QP_RETRIES,
		.rnr_retry = QP_RNR_RETRIES,
		.sq_psn = q->psn,
		.max_rd_atomic = 1,
	};
	err = ibv_modify_qp(q->qp, &attr,
			    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				    IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	return -err;
}

/* Receives carry no memory: all data are written, and only the notice takes one. */
int verbs_qp_refill(struct verbs_qp *q)
{
	struct ibv_recv_wr wr[VERBS_REFILL], *bad;
	unsigned i, n;
	int err;

	while (q->due) {
		n = (unsigned)gy_min(q->due, VERBS_REFILL);
		for (i = 0; i < n; i++)
			wr[i] = (struct ibv_recv_wr){ .wr_id = verbs_recv_id(q),
						      .next = i + 1 < n ? &wr[i + 1] : NULL };
		err = ibv_post_recv(q->qp, wr, &bad);
		if (err)
			return -err;
		q->due -= n;
		q->at_device += n;
	}
	return 0;
}
