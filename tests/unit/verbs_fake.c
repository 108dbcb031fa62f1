/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_fake.c - see verbs_fake.h.  Its functions take the place of those of the shared library.
 */
#define _GNU_SOURCE
#include "tests/unit/verbs_fake.h"

#include <errno.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/net_fake.h"

#undef ibv_query_port
#undef ibv_reg_mr

#define DEV_CONTEXTS 4
#define DEV_QPS 100000
#define DEV_MRS 256
#define DEV_EVENTS 16
#define DEV_GIDS 2
#define DEV_INLINE 512

#define need(x) \
	do { \
		if (!(x)) \
			fail_msg("verbs_fake.c:%d: %s", __LINE__, #x); \
	} while (0)

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

struct dev_context {
	struct verbs_context v;		/* ibv_context is its last member */
	struct ibv_async_event events[DEV_EVENTS];
	unsigned nevents;
	bool open;
};

struct verbs_fake vf;

/* Ranks may be threads: everything that others see is done under one lock, which is recursive. */
static pthread_mutex_t dev_mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static pthread_mutex_t *dev_lock(void)
{
	pthread_mutex_lock(&dev_mutex);
	return &dev_mutex;
}

static void dev_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

/* To the end of the function. */
#define DEV_LOCKED \
	__attribute__((cleanup(dev_unlock), unused)) pthread_mutex_t *locked = dev_lock()

static struct ibv_device dev_devices[] = { { .name = "fake0" }, { .name = "fake1" } };
static struct ibv_device *dev_list[] = { &dev_devices[0], &dev_devices[1], NULL };
static struct dev_context dev_contexts[DEV_CONTEXTS];
static struct dev_qp *dev_qps[DEV_QPS];	/* by number - 1; a number is used once */
static unsigned dev_nqps;
static struct ibv_mr *dev_mrs[DEV_MRS];	/* by key - 1 */
static struct rdma_cm_event dev_cm[DEV_EVENTS];	/* those that wait; without id: nobody's */
static unsigned dev_ncm;

static struct dev_context *to_context(struct ibv_context *ctx)
{
	return gy_container_of(gy_container_of(ctx, struct verbs_context, context),
			       struct dev_context, v);
}

/* The small lane gathers a header and a body. */
static bool dev_is_bulk(const struct dev_qp *qp)
{
	return qp->cap.max_send_sge == 1;
}

static bool dev_due(int *countdown)
{
	return *countdown > 0 && --*countdown == 0;
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

static const struct ibv_mr *dev_mr(uint32_t key, uint64_t addr, uint64_t len)
{
	const struct ibv_mr *mr = key && key <= DEV_MRS ? dev_mrs[key - 1] : NULL;

	if (!mr || addr < (uintptr_t)mr->addr || addr + len > (uintptr_t)mr->addr + mr->length)
		return NULL;
	return mr;
}

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

/* ---- device ---- */

void verbs_fake_reset(void)
{
	unsigned i;

	need(!vf.mrs && !vf.qps && !vf.cqs && !vf.others);
	for (i = 0; i < DEV_CONTEXTS; i++)
		need(!dev_contexts[i].open);
	dev_nqps = dev_ncm = 0;
	for (i = 0; i < GY_ARRAY_SIZE(dev_devices); i++)
		verbs_fake_near(i, NULL);
	vf = (struct verbs_fake){ .inline_max = 256 };
}

void verbs_fake_near(unsigned device, const char *cpus)
{
	char *dir = dev_devices[device].ibdev_path, path[IBV_SYSFS_PATH_MAX + 32];
	FILE *file;

	if (*dir) {
		snprintf(path, sizeof(path), "%s/device/local_cpus", dir);
		unlink(path);
		*strrchr(path, '/') = 0;
		rmdir(path);
		rmdir(dir);
		*dir = 0;
	}
	if (!cpus)
		return;
	strcpy(dir, "/tmp/gy-verbs-fake.XXXXXX");
	need(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/device", dir);
	need(mkdir(path, 0700) == 0);
	strcat(path, "/local_cpus");
	file = fopen(path, "w");
	need(file && fputs(cpus, file) >= 0 && fclose(file) == 0);
}

void verbs_fake_event(enum ibv_event_type type)
{
	struct dev_context *c;
	unsigned i;

	for (i = 0; i < DEV_CONTEXTS; i++) {
		c = &dev_contexts[i];
		if (!c->open)
			continue;
		c->events[c->nevents].event_type = type;
		c->events[c->nevents++].element.port_num = 1;
		need(eventfd_write(c->v.context.async_fd, 1) == 0);
	}
}

void verbs_fake_break_qp(unsigned context, bool bulk)
{
	struct dev_context *c = &dev_contexts[context];
	unsigned i;

	for (i = 0; i < dev_nqps; i++) {
		if (!dev_qps[i] || dev_qps[i]->base.context != &c->v.context ||
		    bulk != dev_is_bulk(dev_qps[i]))
			continue;
		c->events[c->nevents].event_type = IBV_EVENT_QP_FATAL;
		c->events[c->nevents++].element.qp = &dev_qps[i]->base;
		need(eventfd_write(c->v.context.async_fd, 1) == 0);
		dev_error(dev_qps[i]);
		return;
	}
	fail_msg("there is no such queue pair");
}

struct ibv_device **ibv_get_device_list(int *n)
{
	dev_list[1] = vf.two ? &dev_devices[1] : NULL;
	*n = vf.none ? 0 : 1 + vf.two;
	return vf.none ? dev_list + 2 : dev_list;
}

void ibv_free_device_list(struct ibv_device **list)
{
}

int ibv_fork_init(void)
{
	return 0;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	DEV_LOCKED;
	struct dev_context *c = dev_contexts;
	struct ibv_context *ctx;

	while (c->open)
		c++;
	need(c < dev_contexts + DEV_CONTEXTS);
	memset(c, 0, sizeof(*c));
	c->open = true;
	ctx = &c->v.context;
	ctx->device = device;
	ctx->ops.poll_cq = dev_poll_cq;
	ctx->ops.req_notify_cq = dev_req_notify;
	ctx->ops.post_send = dev_post_send;
	ctx->ops.post_recv = dev_post_recv;
	ctx->async_fd = eventfd(0, EFD_CLOEXEC);
	return ctx;
}

int ibv_close_device(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(ctx);

	close(ctx->async_fd);
	c->open = false;
	return 0;
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->phys_port_cnt = 1;
	attr->max_cqe = 1 << 20;
	return 0;
}

int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *compat)
{
	struct ibv_port_attr *attr = (struct ibv_port_attr *)compat;

	need(port == 1);
	attr->state = IBV_PORT_ACTIVE;
	attr->active_mtu = IBV_MTU_1024;
	attr->gid_tbl_len = DEV_GIDS;
	attr->active_width = 1;
	attr->active_speed = 1;
	attr->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t i, struct ibv_gid_entry *e,
		      uint32_t flags, size_t size)
{
	memset(e, 0, size);
	e->gid_type = IBV_GID_TYPE_ROCE_V2;
	if (i == 0 && !vf.mapped_only) {
		e->gid.raw[0] = 0xfe;
		e->gid.raw[1] = 0x80;
	} else {
		e->gid.raw[10] = e->gid.raw[11] = 0xff;
		e->gid.raw[12] = 10;
		e->gid.raw[14] = (uint8_t)i;
	}
	e->gid.raw[15] = (uint8_t)(1 + to_context(ctx) - dev_contexts);
	return 0;
}

const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	static char text[32];

	snprintf(text, sizeof(text), "status %d", (int)status);
	return text;
}

const char *ibv_event_type_str(enum ibv_event_type type)
{
	return "an event";
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *e)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(ctx);
	eventfd_t n;

	if (!c->nevents)
		return -1;
	*e = c->events[--c->nevents];
	if (!c->nevents)
		need(eventfd_read(ctx->async_fd, &n) == 0);
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *e)
{
}

/* ---- addresses, by librdmacm ---- */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	DEV_LOCKED;
	struct rdma_event_channel *ch;

	if (vf.no_cm)
		return NULL;
	ch = calloc(1, sizeof(*ch));
	ch->fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	vf.others++;
	return ch;
}

void rdma_destroy_event_channel(struct rdma_event_channel *ch)
{
	DEV_LOCKED;

	close(ch->fd);
	free(ch);
	vf.others--;
}

int rdma_create_id(struct rdma_event_channel *ch, struct rdma_cm_id **idp, void *arg,
		   enum rdma_port_space ps)
{
	DEV_LOCKED;

	*idp = calloc(1, sizeof(**idp));
	(*idp)->channel = ch;
	(*idp)->context = arg;
	(*idp)->port_num = 1;
	(*idp)->verbs = &dev_contexts[0].v.context;
	vf.others++;
	return 0;
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	DEV_LOCKED;
	unsigned i;

	for (i = 0; i < dev_ncm; i++)
		if (dev_cm[i].id == id)
			dev_cm[i].id = NULL;
	free(id->route.path_rec);
	free(id);
	vf.others--;
	return 0;
}

/* Each step succeeds, or fails when vf.cm_fails says so. */
static int dev_cm_step(struct rdma_cm_id *id, enum rdma_cm_event_type good,
		       enum rdma_cm_event_type bad)
{
	DEV_LOCKED;

	need(dev_ncm < DEV_EVENTS);
	dev_cm[dev_ncm++] = (struct rdma_cm_event){ .id = id,
						    .event = dev_due(&vf.cm_fails) ? bad : good };
	need(eventfd_write(id->channel->fd, 1) == 0);
	return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms)
{
	need(from->sa_family == to->sa_family && ms > 0);
	return dev_cm_step(id, RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_ERROR);
}

int rdma_resolve_route(struct rdma_cm_id *id, int ms)
{
	struct ibv_sa_path_rec *path = calloc(1, sizeof(*path));

	path->sl = 3;
	path->traffic_class = 96;
	path->mtu = IBV_MTU_512;
	path->hop_limit = 1;
	id->route.path_rec = path;
	id->route.num_paths = 1;
	return dev_cm_step(id, RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_ERROR);
}

int rdma_get_cm_event(struct rdma_event_channel *ch, struct rdma_cm_event **ep)
{
	DEV_LOCKED;

	static struct rdma_cm_event e;
	eventfd_t n;
	unsigned i;

	for (i = 0; i < dev_ncm; i++) {
		e = dev_cm[i];
		if (!e.id || e.id->channel != ch)
			continue;
		dev_cm[i] = dev_cm[--dev_ncm];
		*ep = &e;
		return 0;
	}
	while (eventfd_read(ch->fd, &n) == 0)
		;
	return -1;
}

int rdma_ack_cm_event(struct rdma_cm_event *e)
{
	return 0;
}

const char *rdma_event_str(enum rdma_cm_event_type type)
{
	return "an event";
}

/* ---- objects ---- */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	pd->context = ctx;
	vf.others++;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	DEV_LOCKED;

	vf.others--;
	free(pd);
	return 0;
}

static size_t dev_locked(const struct ibv_context *ctx)
{
	size_t sum = 0;
	unsigned i;

	for (i = 0; i < DEV_MRS; i++)
		sum += dev_mrs[i] && dev_mrs[i]->context == ctx ? dev_mrs[i]->length : 0;
	return sum;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	DEV_LOCKED;
	struct ibv_mr *mr;
	uint32_t i = 0;

	need(access & IBV_ACCESS_REMOTE_WRITE && access & IBV_ACCESS_LOCAL_WRITE);
	if (dev_due(&vf.fail_reg) ||
	    (vf.lock_limit && dev_locked(pd->context) + length > vf.lock_limit)) {
		errno = ENOMEM;
		return NULL;
	}
	while (dev_mrs[i])
		i++;
	need(i < DEV_MRS);
	mr = calloc(1, sizeof(*mr));
	*mr = (struct ibv_mr){ .context = pd->context, .pd = pd, .addr = addr, .length = length };
	mr->lkey = mr->rkey = i + 1;
	dev_mrs[i] = mr;
	vf.mrs++;
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	DEV_LOCKED;

	dev_mrs[mr->lkey - 1] = NULL;
	free(mr);
	vf.mrs--;
	return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct ibv_comp_channel *ch = calloc(1, sizeof(*ch));

	ch->context = ctx;
	ch->fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	vf.others++;
	return ch;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ch)
{
	DEV_LOCKED;

	close(ch->fd);
	free(ch);
	vf.others--;
	return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ch, struct ibv_cq **cq, void **arg)
{
	eventfd_t n;

	*cq = NULL;
	*arg = NULL;
	return eventfd_read(ch->fd, &n);
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n)
{
}

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
