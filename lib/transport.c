/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport.c - recalls, and what a transport puts into slots that it has no use for; see
 * transport.h.
 */
#include "lib/transport.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void gy_recall(struct gy_recalls *r, uint32_t comm, int err, const char *why)
{
	const uint32_t n = atomic_load_explicit(&r->count, memory_order_relaxed);
	uint64_t text[GY_RECALL_TEXT / 8] = { 0 };
	unsigned i;

	memcpy(text, why, strnlen(why, sizeof(text) - 1));
	for (i = 0; i < GY_RECALL_TEXT / 8; i++)
		atomic_store_explicit(&r->why[n % GY_RECALL_TEXTS][i], text[i],
				      memory_order_relaxed);
	atomic_store_explicit(&r->log[n % GY_RECALLS], (uint64_t)comm << 32 | (uint32_t)-err,
			      memory_order_relaxed);
	atomic_store_explicit(&r->count, n + 1, memory_order_release);
	/* Pairs with gy_none_recalled: the count, then whatever its user does with the memory. */
	atomic_thread_fence(memory_order_release);
}

/* The text of recall number n, or something general. */
static void recall_text(const struct gy_recalls *r, uint32_t n, char why[GY_RECALL_TEXT])
{
	uint64_t text[GY_RECALL_TEXT / 8];
	unsigned i;

	for (i = 0; i < GY_RECALL_TEXT / 8; i++)
		text[i] = atomic_load_explicit(&r->why[n % GY_RECALL_TEXTS][i],
					       memory_order_relaxed);
	memcpy(why, text, sizeof(text));
	why[GY_RECALL_TEXT - 1] = 0;
	atomic_thread_fence(memory_order_acquire);	/* the text, then whether it was that */
	if (atomic_load_explicit(&r->count, memory_order_relaxed) - n > GY_RECALL_TEXTS - 1)
		strcpy(why, "memory that was lent has been recalled");
}

int gy_recalled(const struct gy_recalls *r, uint32_t comm, uint32_t *count,
		char why[GY_RECALL_TEXT])
{
	const uint32_t begin = *count;
	const uint32_t end = atomic_load_explicit(&r->count, memory_order_acquire);
	uint32_t i, which = begin;
	int err = 0;

	for (i = begin; i != end && end - begin < GY_RECALLS; i++) {
		const uint64_t entry =
			atomic_load_explicit(&r->log[i % GY_RECALLS], memory_order_relaxed);

		if (entry >> 32 != comm)
			continue;
		err = entry & 4095 ? -(int)(entry & 4095) : -EPROTO;
		which = i;
	}
	atomic_thread_fence(memory_order_acquire);	/* entries, then how many by now */
	if (atomic_load_explicit(&r->count, memory_order_relaxed) - begin >= GY_RECALLS)
		err = -ECANCELED;
	if (err)
		recall_text(r, which, why);
	else
		*count = end;
	return err;
}

int gy_no_bulk(struct gy_ep *ep, struct gy_grain *grain)
{
	return -EOPNOTSUPP;
}

int gy_no_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote)
{
	return -EOPNOTSUPP;
}

int gy_no_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote)
{
	return -EOPNOTSUPP;
}

int gy_no_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
	      const void **ptrp)
{
	return -EOPNOTSUPP;
}

int gy_no_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst, size_t len)
{
	return -EOPNOTSUPP;
}

int gy_no_accepted(struct gy_ep *ep, unsigned lane, int fd)
{
	close(fd);
	return 0;
}

void gy_no_revoke(struct gy_ep *ep, const void *ptr, size_t len)
{
}

int gy_no_arm(struct gy_nic *nic)
{
	return 0;
}

void gy_no_disarm(struct gy_nic *nic)
{
}

int gy_no_mem_alloc(struct gy_nic *nic, size_t len, void **ptrp)
{
	return -EOPNOTSUPP;
}

int gy_no_mem_free(struct gy_nic *nic, void *ptr)
{
	return -EINVAL;
}

int gy_no_mem_register(struct gy_nic *nic, void *ptr, size_t len)
{
	return 0;
}

void gy_no_mem_unregister(struct gy_nic *nic, void *ptr, size_t len)
{
}
