/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.c - slots: grain-sized pieces of memory that peers can reach, leased to streams.
 *
 * Slabs are made when first needed, up to the pool's size, and kept.  Memory comes from the first
 * transport that makes memory which peers can map, else from the system.  A stream that holds no
 * slot and must go on gets one even beyond that size: else operations that started in different
 * orders on different ranks could hold what the others wait for.  Those are few: of collectives,
 * only the oldest of each communicator (gy_run_needs).
 * Locking: driver.
 */
#include <errno.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"

#define SLAB_BYTES (2 * 1024 * 1024)

struct slab {
	struct gy_list link;
	struct gy_nic *nic;	/* see gy_mem_get */
	void *mem;
	size_t len;
	struct gy_slot slots[];
};

static gy_cold int pool_grow(struct gy_pool *pool, bool needed)
{
	const size_t room = pool->nslots < pool->max_slots ? pool->max_slots - pool->nslots : 0;
	size_t n = gy_min(gy_max(SLAB_BYTES / pool->slot_size, 1), room), i;
	struct slab *slab;
	int err;

	if (!n && needed)
		n = 1;
	if (!n)
		return -ENOSPC;
	slab = gy_alloc(sizeof(*slab) + n * sizeof(slab->slots[0]));
	if (!slab)
		return -ENOMEM;
	slab->len = n * pool->slot_size;
	err = gy_mem_get(pool->ctx, slab->len, &slab->nic, &slab->mem);
	if (!err) {
		err = gy_mem_register(pool->ctx, slab->mem, slab->len);
		if (err)
			gy_mem_put(slab->nic, slab->mem, slab->len);
	}
	if (err) {
		gy_free(slab);
		return err;
	}
	for (i = n; i-- > 0;) {
		slab->slots[i].mem = (char *)slab->mem + i * pool->slot_size;
		slab->slots[i].next = pool->free;
		pool->free = &slab->slots[i];
	}
	gy_list_add_tail(&pool->slabs, &slab->link);
	pool->nslots += n;
	pool->nfree += n;
	return 0;
}

int gy_pool_init(struct gy_pool *pool, struct gyre_context *ctx, size_t slot_size, size_t bytes)
{
	*pool = (struct gy_pool){ .ctx = ctx, .slot_size = slot_size };
	gy_list_init(&pool->slabs);
	pool->max_slots = gy_max(bytes / slot_size, 2 * GY_STREAM_SLOTS);
	return 0;
}

void gy_pool_fini(struct gy_pool *pool)
{
	struct gy_list *pos, *after;

	gy_assert(pool->nfree == pool->nslots);
	gy_list_for_each_safe(pos, after, &pool->slabs) {
		struct slab *slab = gy_list_entry(pos, struct slab, link);

		gy_mem_unregister(pool->ctx, slab->mem, slab->len);
		gy_mem_put(slab->nic, slab->mem, slab->len);
		gy_free(slab);
	}
}

struct gy_slot *gy_slot_get(struct gy_pool *pool, bool needed)
{
	struct gy_slot *slot;

	/* Growth that fails (memory, /dev/shm) leaves what there is: it only gets slower. */
	if (!pool->nfree)
		pool_grow(pool, needed);
	/* What is beyond the pool's size is for those that need it, or it would go on growing. */
	if (!pool->nfree || (!needed && pool->nslots - pool->nfree >= pool->max_slots)) {
		pool->starved = true;
		return NULL;
	}
	slot = pool->free;
	pool->free = slot->next;
	pool->nfree--;
	slot->users = 0;
	return slot;
}

void gy_slot_put(struct gy_pool *pool, struct gy_slot *slot)
{
	gy_assert(!slot->users);
	slot->next = pool->free;
	pool->free = slot;
	pool->nfree++;
	if (gy_unlikely(pool->starved)) {
		pool->starved = false;
		gy_engine_mark_all(&pool->ctx->engine);
	}
}
