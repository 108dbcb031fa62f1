/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_fake_queue.c - queue pairs and completion queues of verbs_fake.h: what is posted, how it
 * moves, and what comes of it.
 */
#define _GNU_SOURCE
#include "tests/unit/verbs_fake_priv.h"

#define DEV_QPS 100000
#define DEV_INLINE 512

struct dev_cq {
	struct ibv_cq base;
	struct ibv_wc *wc;
	unsigned head, tail, size;
	bool armed;
};

struct dev_wr {
	struct ibv_send_wr wr;
	struct ibv_sge sge[2];
	char inlined[DEV_INLINE];
};

struct dev_qp {
	struct ibv_qp base;
	struct ibv_qp_cap cap;
	enum ibv_qp_state state;
	struct ibv_qp_attr attr;	/* of its address */
	uint64_t *recv;			/* wr_ids */
	unsigned nrecv;
	struct dev_wr *send;
	unsigned nsend;
	unsigned unreported;		/* requests whose place in the queue is not yet free */
};

static struct dev_qp *dev_qps[DEV_QPS];	/* by number - 1; a number is used once */
static unsigned dev_nqps;

/* The small lane gathers a header and a body. */
static bool dev_is_bulk(const struct dev_qp *qp)
{
	return qp->cap.max_send_sge == 1;
}

/* ---- completions ---- */

static void dev_complete(struct dev_qp *qp, struct ibv_cq *base, const struct ibv_wc *wc)
{
	struct dev_cq *cq = gy_container_of(base, struct dev_cq, base);
	const bool recv = wc->wr_id & 0x80000000u;

	need(cq->tail - cq->head < cq->size);	/* real devices lose it, and may not say so */
	cq->wc[cq->tail++ % cq->size] = *wc;
	*(recv ? &vf.recv_completions : &vf.send_completions) += 1;
	if (dev_is_bulk(qp))
		*(recv ? &vf.bulk_recv_completions : &vf.bulk_send_completions) += 1;
	if (cq->armed) {
		cq->armed = false;
		need(eventfd_write(cq->base.channel->fd, 1) == 0);
	}
}

static void dev_complete_recv(struct dev_qp *qp, enum ibv_wc_status status, uint32_t imm)
{
	struct ibv_wc wc = { .wr_id = qp->recv[0], .status = status, .qp_num = qp->base.qp_num };

	if (!status) {
		wc.opcode = IBV_WC_RECV_RDMA_WITH_IMM;
		wc.wc_flags = IBV_WC_WITH_IMM;
		wc.imm_data = imm;
	}
	memmove(qp->recv, qp->recv + 1, --qp->nrecv * sizeof(qp->recv[0]));
	dev_complete(qp, qp->base.recv_cq, &wc);
}

static void dev_pop_send(struct dev_qp *qp, enum ibv_wc_status status)
{
	const struct ibv_send_wr *wr = &qp->send[0].wr;
	const struct ibv_wc wc = { .wr_id = wr->wr_id,
				   .status = status,
				   .opcode = IBV_WC_RDMA_WRITE,
				   .qp_num = qp->base.qp_num };

	if (status || wr->send_flags & IBV_SEND_SIGNALED) {
		dev_complete(qp, qp->base.send_cq, &wc);
		qp->unreported = qp->nsend - 1;
	}
	memmove(qp->send, qp->send + 1, --qp->nsend * sizeof(qp->send[0]));
}

static void dev_error(struct dev_qp *qp)
{
	qp->state = IBV_QPS_ERR;
	while (qp->nsend)
		dev_pop_send(qp, IBV_WC_WR_FLUSH_ERR);
	while (qp->nrecv)
		dev_complete_recv(qp, IBV_WC_WR_FLUSH_ERR, 0);
}

static void dev_fail_send(struct dev_qp *qp, enum ibv_wc_status status)
{
	dev_pop_send(qp, status);
	dev_error(qp);
}

/* ---- moving bytes ---- */

static bool dev_is_deaf(const struct dev_qp *from, const struct dev_qp *to)
{
	return vf.deaf[from->attr.ah_attr.grh.sgid_index][to->attr.ah_attr.grh.sgid_index];
}

static void dev_write(const struct dev_wr *w)
{
	uint64_t to = w->wr.wr.rdma.remote_addr, len = 0;
	int i;

	for (i = 0; i < w->wr.num_sge; i++)
		len += w->sge[i].length;
	need(dev_mr(w->wr.wr.rdma.rkey, to, len));
	if (w->wr.send_flags & IBV_SEND_INLINE) {
		memcpy((void *)(uintptr_t)to, w->inlined, len);
		return;
	}
	for (i = 0; i < w->wr.num_sge; i++) {
		need(dev_mr(w->sge[i].lkey, w->sge[i].addr, w->sge[i].length));
		memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)w->sge[i].addr,
		       w->sge[i].length);
		to += w->sge[i].length;
	}
}

/* Whether the next request is the one that the test wants to fail. */
static bool dev_shall_fail(const struct dev_qp *qp)
{
	return vf.fail && vf.fail_bulk == dev_is_bulk(qp);
}

/* The oldest request of a queue pair: false, it stays. */
static bool dev_move(struct dev_qp *qp)
{
	struct dev_wr *w = &qp->send[0];
	struct dev_qp *to;
	enum ibv_wc_status fail = vf.fail;

	if (!qp->nsend || qp->state != IBV_QPS_RTS)
		return false;
	need(qp->attr.dest_qp_num && qp->attr.dest_qp_num <= dev_nqps);
	to = dev_qps[qp->attr.dest_qp_num - 1];
	if (dev_shall_fail(qp) && !(vf.fail_recv && !to)) {
		vf.fail = IBV_WC_SUCCESS;
		if (vf.fail_recv) {
			dev_complete_recv(to, fail, 0);
			dev_error(to);
		}
		dev_fail_send(qp, vf.fail_recv ? IBV_WC_REM_OP_ERR : fail);
		return true;
	}
	if (!to || to->state < IBV_QPS_RTR || to->state == IBV_QPS_ERR || dev_is_deaf(qp, to)) {
		if (vf.lost || (to && to->state != IBV_QPS_ERR && !dev_is_deaf(qp, to)))
			return false;	/* goes on trying */
		dev_fail_send(qp, IBV_WC_RETRY_EXC_ERR);
		return true;
	}
	dev_write(w);
	if (w->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		need(to->nrecv);		/* else: receiver not ready */
		dev_complete_recv(to, IBV_WC_SUCCESS, w->wr.imm_data);
	}
	dev_pop_send(qp, IBV_WC_SUCCESS);
	return true;
}

unsigned verbs_fake_move(unsigned n, uint64_t *seed)
{
	DEV_LOCKED;
	unsigned moved = 0, i, start, tries;

	while (moved < n) {
		start = dev_nqps ? (unsigned)(fake_random(seed) % dev_nqps) : 0;
		for (tries = 0; tries < dev_nqps; tries++) {
			i = (start + tries) % dev_nqps;
			if (dev_qps[i] && dev_move(dev_qps[i]))
				break;
		}
		if (tries == dev_nqps)
			break;
		moved++;
	}
	return moved;
}

/* ---- data path ---- */

static void dev_take_inline(struct dev_wr *w)
{
	unsigned used = 0;
	int i;

	vf.inlined++;
	for (i = 0; i < w->wr.num_sge; i++) {
		need(used + w->sge[i].length <= DEV_INLINE);
		memcpy(w->inlined + used, (void *)(uintptr_t)w->sge[i].addr, w->sge[i].length);
		used += w->sge[i].length;
	}
}

static int dev_post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	DEV_LOCKED;
	struct dev_qp *qp = gy_container_of(base, struct dev_qp, base);
	struct dev_wr *w;

	*bad = wr;
	need(!wr->next && wr->num_sge <= (int)qp->cap.max_send_sge);
	need(qp->state == IBV_QPS_RTS || qp->state == IBV_QPS_ERR);
	if (dev_due(&vf.fail_post_send))
		return ENOMEM;
	need(qp->unreported < qp->cap.max_send_wr);
	w = &qp->send[qp->nsend++];
	qp->unreported++;
	*w = (struct dev_wr){ .wr = *wr };
	if (wr->num_sge)
		memcpy(w->sge, wr->sg_list, (size_t)wr->num_sge * sizeof(w->sge[0]));
	if (wr->send_flags & IBV_SEND_INLINE)
		dev_take_inline(w);
	vf.sends++;
	vf.empty_writes += wr->opcode == IBV_WR_RDMA_WRITE;
	vf.grains += dev_is_bulk(qp) && wr->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	if (qp->state == IBV_QPS_ERR)
		dev_error(qp);
	while (!vf.hold && dev_move(qp))
		;
	return 0;
}

static int dev_post_recv(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	DEV_LOCKED;
	struct dev_qp *qp = gy_container_of(base, struct dev_qp, base);

	for (; wr; wr = wr->next) {
		*bad = wr;
		if (dev_due(&vf.fail_post_recv))
			return ENOMEM;	/* those before it are posted */
		need(qp->nrecv < qp->cap.max_recv_wr && wr->num_sge == 0);
		qp->recv[qp->nrecv++] = wr->wr_id;
	}
	if (qp->state == IBV_QPS_ERR)
		dev_error(qp);
	return 0;
}

static int dev_poll_cq(struct ibv_cq *base, int n, struct ibv_wc *wc)
{
	DEV_LOCKED;
	struct dev_cq *cq = gy_container_of(base, struct dev_cq, base);
	int i;

	if (vf.fail_poll)
		return -1;
	for (i = 0; i < n && cq->head != cq->tail; i++)
		wc[i] = cq->wc[cq->head++ % cq->size];
	return i;
}

static int dev_req_notify(struct ibv_cq *base, int solicited_only)
{
	DEV_LOCKED;

	gy_container_of(base, struct dev_cq, base)->armed = true;
	return 0;
}

void dev_queues_open(struct ibv_context *ctx)
{
	ctx->ops.poll_cq = dev_poll_cq;
	ctx->ops.req_notify_cq = dev_req_notify;
	ctx->ops.post_send = dev_post_send;
	ctx->ops.post_recv = dev_post_recv;
}

void dev_queues_reset(void)
{
	dev_nqps = 0;
}

void verbs_fake_break_qp(unsigned context, bool bulk, enum ibv_event_type type)
{
	struct dev_context *c = dev_context(context);
	unsigned i;

	for (i = 0; i < dev_nqps; i++) {
		if (!dev_qps[i] || dev_qps[i]->base.context != &c->v.context ||
		    bulk != dev_is_bulk(dev_qps[i]))
			continue;
		c->events[c->nevents].event_type = type;
		c->events[c->nevents++].element.qp = &dev_qps[i]->base;
		need(eventfd_write(c->v.context.async_fd, 1) == 0);
		dev_error(dev_qps[i]);
		return;
	}
	fail_msg("there is no such queue pair");
}

/* ---- objects ---- */

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *arg,
			     struct ibv_comp_channel *ch, int vector)
{
	DEV_LOCKED;
	struct dev_cq *cq = calloc(1, sizeof(*cq));

	cq->base = (struct ibv_cq){ .context = ctx, .channel = ch, .cqe = cqe };
	cq->size = (unsigned)cqe;
	cq->wc = calloc(cq->size, sizeof(*cq->wc));
	vf.cqs++;
	return &cq->base;
}

int ibv_resize_cq(struct ibv_cq *base, int cqe)
{
	DEV_LOCKED;
	struct dev_cq *cq = gy_container_of(base, struct dev_cq, base);
	struct ibv_wc *wc = calloc((size_t)cqe, sizeof(*wc));
	unsigned i;

	for (i = 0; cq->head != cq->tail; i++)
		wc[i] = cq->wc[cq->head++ % cq->size];
	free(cq->wc);
	cq->wc = wc;
	cq->head = 0;
	cq->tail = i;
	cq->size = (unsigned)cqe;
	vf.resized++;
	return 0;
}

int ibv_destroy_cq(struct ibv_cq *base)
{
	DEV_LOCKED;
	struct dev_cq *cq = gy_container_of(base, struct dev_cq, base);

	free(cq->wc);
	free(cq);
	vf.cqs--;
	return 0;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	DEV_LOCKED;
	struct dev_qp *qp;

	if (attr->cap.max_inline_data > vf.inline_max || dev_due(&vf.fail_qp)) {
		errno = EINVAL;
		return NULL;
	}
	need(dev_nqps < DEV_QPS && attr->qp_type == IBV_QPT_RC && !attr->sq_sig_all);
	qp = calloc(1, sizeof(*qp));
	qp->base = (struct ibv_qp){ .context = pd->context,
				    .pd = pd,
				    .send_cq = attr->send_cq,
				    .recv_cq = attr->recv_cq,
				    .qp_num = dev_nqps + 1 };
	qp->cap = attr->cap;
	qp->recv = calloc(attr->cap.max_recv_wr, sizeof(*qp->recv));
	qp->send = calloc(attr->cap.max_send_wr, sizeof(*qp->send));
	dev_qps[dev_nqps++] = qp;
	vf.qps++;
	return &qp->base;
}

int ibv_modify_qp(struct ibv_qp *base, struct ibv_qp_attr *attr, int mask)
{
	DEV_LOCKED;
	struct dev_qp *qp = gy_container_of(base, struct dev_qp, base);

	need(mask & IBV_QP_STATE);
	if (attr->qp_state == IBV_QPS_ERR) {
		dev_error(qp);
		return 0;
	}
	if (dev_due(&vf.fail_modify))
		return EINVAL;
	need(attr->qp_state == qp->state + 1);
	qp->state = attr->qp_state;
	if (qp->state == IBV_QPS_RTR) {
		need(attr->path_mtu == (attr->ah_attr.sl ? IBV_MTU_512 : IBV_MTU_1024) &&
		     attr->ah_attr.grh.traffic_class == attr->ah_attr.sl * 32 &&
		     attr->ah_attr.is_global && attr->ah_attr.grh.hop_limit == 64);
		qp->attr = *attr;
	}
	if (qp->state == IBV_QPS_RTS)
		need(attr->retry_cnt <= 6 && attr->timeout);
	return 0;
}

int ibv_destroy_qp(struct ibv_qp *base)
{
	DEV_LOCKED;
	struct dev_qp *qp = gy_container_of(base, struct dev_qp, base);

	dev_qps[base->qp_num - 1] = NULL;
	free(qp->recv);
	free(qp->send);
	free(qp);
	vf.qps--;
	return 0;
}
