/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * small.c - messages: written into a ring in the peer's memory.
 *
 * A record is the header, how many grains have come, and the body, rounded up to VERBS_UNIT; one
 * that would not fit at the ring's end begins at its front.  It is one write with immediate data,
 * which carry the length of the record in units and how many units this side has consumed so far,
 * modulo 2^16.  A length of 0 is no record: it tells that number only.
 * Cost: one request, inline up to what the device takes, else copied once; one completion for the
 * receiver, 1/16 for the sender.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "transports/verbs/verbs.h"

#define SMALL_MEM (2 * VERBS_RING_BYTES)	/* the ring, then the copy of the peer's */
#define SMALL_TELL (VERBS_RING_UNITS / 4)	/* units consumed that the peer hears of at once */

static uint32_t small_units(uint32_t len)
{
	return (uint32_t)((sizeof(struct verbs_head) + len + VERBS_UNIT - 1) / VERBS_UNIT);
}

/* Units to skip at the ring's end so that a record of n is in one piece. */
static uint32_t small_skip(uint32_t at, uint32_t n)
{
	const uint32_t off = at % VERBS_RING_UNITS;

	return off + n > VERBS_RING_UNITS ? VERBS_RING_UNITS - off : 0;
}

int verbs_small_open(struct verbs_ep *ve)
{
	struct verbs_nic *nic = verbs_ep_nic(ve);
	void *mem =
		mmap(NULL, SMALL_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (mem == MAP_FAILED)
		return -errno;
	madvise(mem, SMALL_MEM, MADV_DONTFORK);
	ve->mr = ibv_reg_mr(nic->pd, mem, SMALL_MEM,
			    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
				    IBV_ACCESS_RELAXED_ORDERING);
	if (!ve->mr) {
		err = -errno;
		munmap(mem, SMALL_MEM);
		return err;
	}
	ve->mem = mem;
	return 0;
}

void verbs_small_close(struct verbs_ep *ve)
{
	if (!ve->mem)
		return;
	ibv_dereg_mr(ve->mr);
	munmap(ve->mem, SMALL_MEM);
	ve->mem = NULL;
}

void verbs_small_init(struct verbs_ep *ve)
{
	ve->head = ve->told = ve->tail = ve->tail_acked = 0;
}

/* ---- out ---- */

static bool small_fits(const struct verbs_ep *ve, uint32_t units)
{
	const uint32_t used = ve->tail - ve->tail_acked;

	return used + small_skip(ve->tail, units) + units <= VERBS_RING_UNITS &&
	       ve->qps[0].sent - ve->qps[0].acked < VERBS_SMALL_SQ;
}

bool verbs_small_room(const struct verbs_ep *ve)
{
	return ve->want_units && small_fits(ve, ve->want_units);
}

/* One write of what sge names to unit `at` of the ring. */
static int small_post(struct verbs_ep *ve, struct ibv_sge *sge, int nsge, uint32_t at,
		      uint32_t units, unsigned flags)
{
	struct verbs_qp *q = &ve->qps[0];
	const bool signal = flags & IBV_SEND_SIGNALED || q->sent + 1 - q->signalled >= VERBS_SIGNAL;
	struct ibv_send_wr *bad, wr = {
		.wr_id = verbs_send_id(q, signal),
		.sg_list = sge,
		.num_sge = nsge,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = flags | (signal ? IBV_SEND_SIGNALED : 0),
		.imm_data = htobe32(units << 16 | (ve->head & 0xffff)),
		.wr.rdma.remote_addr = ve->ring_addr + (uint64_t)at * VERBS_UNIT,
		.wr.rdma.rkey = ve->ring_rkey,
	};
	int err = ibv_post_send(q->qp, &wr, &bad);

	if (gy_unlikely(err)) {
		verbs_doom(ve, -err, "a message cannot be posted: %s", gyre_strerror(-err));
		return -ENOTCONN;
	}
	ve->told = ve->head;
	return 0;
}

/* Where the record begins in the ring, and so in our copy of it. */
static uint32_t small_claim(struct verbs_ep *ve, uint32_t units)
{
	const uint32_t at = (ve->tail + small_skip(ve->tail, units)) % VERBS_RING_UNITS;

	ve->tail += small_skip(ve->tail, units) + units;
	return at;
}

int verbs_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct verbs_ep *ve = to_verbs(ep);
	const struct verbs_head head = { .hdr = *hdr, .came = ve->came };
	const uint32_t units = small_units(hdr->len), len = (uint32_t)sizeof(head) + hdr->len;
	struct ibv_sge sge[2];
	uint32_t at;
	char *copy;

	gy_assert(hdr->len <= GY_BODY_MAX);
	if (gy_unlikely(ve->state != VERBS_UP || ve->doom))
		return -ENOTCONN;
	if (gy_unlikely(!small_fits(ve, units))) {
		ve->want_units = (uint32_t)gy_max(units, ve->want_units);
		return -EAGAIN;
	}
	at = small_claim(ve, units);
	if (len <= ve->inline_max) {
		sge[0] = (struct ibv_sge){ .addr = (uintptr_t)&head, .length = sizeof(head) };
		sge[1] = (struct ibv_sge){ .addr = (uintptr_t)body, .length = hdr->len };
		return small_post(ve, sge, hdr->len ? 2 : 1, at, units, IBV_SEND_INLINE);
	}
	copy = ve->mem + VERBS_RING_BYTES + (size_t)at * VERBS_UNIT;
	memcpy(copy, &head, sizeof(head));
	if (hdr->len)
		memcpy(copy + sizeof(head), body, hdr->len);
	sge[0] = (struct ibv_sge){ (uintptr_t)copy, len, ve->mr->lkey };
	return small_post(ve, sge, 1, at, units, 0);
}

int verbs_small_credit(struct verbs_ep *ve, bool signal)
{
	if (ve->qps[0].sent - ve->qps[0].acked >= VERBS_SMALL_SQ)
		return -EAGAIN;
	return small_post(ve, NULL, 0, 0, 0, signal ? IBV_SEND_SIGNALED : 0);
}

/* ---- in ---- */

static gy_cold int small_bad(struct verbs_ep *ve, const char *what)
{
	verbs_doom(ve, -EPROTO, "%s", what);
	return 0;
}

static int small_deliver(struct verbs_ep *ve, uint32_t units)
{
	const uint32_t skip = small_skip(ve->head, units);
	const uint32_t at = (ve->head + skip) % VERBS_RING_UNITS;
	const char *record = ve->mem + (size_t)at * VERBS_UNIT;
	struct verbs_head head;

	memcpy(&head, record, sizeof(head));
	if (gy_unlikely(head.hdr.len > GY_BODY_MAX || small_units(head.hdr.len) != units))
		return small_bad(ve, "it sent a message that is not as long as announced");
	if (ve->state == VERBS_MEETING && ve->pinged)
		verbs_come_up(ve);	/* it is up, so it has heard that we are content */
	if (ve->state != VERBS_UP)
		return small_bad(ve, "it sent a message before its time");
	if (memcmp(&head.came, &ve->went, sizeof(head.came)))
		verbs_bulk_went(ve, &head.came);
	if (!ve->closed)
		gy_deliver(&ve->base, &head.hdr, record + sizeof(head));
	ve->head += skip + units;
	return 1;
}

int verbs_small_came(struct verbs_ep *ve, uint32_t imm)
{
	const uint32_t units = imm >> 16;
	const uint32_t freed = (uint16_t)(imm - ve->tail_acked);
	int n = 0;

	if (gy_unlikely(freed > ve->tail - ve->tail_acked))
		return small_bad(ve, "it consumed more messages than were sent");
	ve->tail_acked += freed;
	if (units)
		n = small_deliver(ve, units);
	if (ve->closed || ve->doom || !ve->qps[0].qp)
		return n;
	if (++ve->qps[0].due >= VERBS_REFILL && verbs_qp_refill(&ve->qps[0]))
		verbs_doom(ve, -EIO, "a receive cannot be posted");
	else if (ve->head - ve->told >= SMALL_TELL)
		verbs_small_credit(ve, false);
	if (verbs_small_room(ve))
		verbs_later(ve);
	return n;
}
