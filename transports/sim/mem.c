/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - memory that can be lent: described by its address, for all is one process.
 * Memory of mem_alloc lives until the world ends, since peers may still have it mapped.  A process
 * that is dead can be read no more, but what is mapped of it stays.  A pull of what its owner has
 * revoked meanwhile gives 0xa5, whatever its user has done with it since.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/alloc.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

struct sim_mem {
	struct gy_list link;		/* struct sim_nic.mems, then struct gy_sim_world.graves */
	void *ptr;
	size_t len;
};

/* Lends and exposures before the `before`th, in this range, are void. */
struct sim_revoked {
	struct gy_list link;		/* struct sim_ep.revoked */
	const void *ptr;
	size_t len;
	uint64_t before;
};

/* struct gy_remote.w; id: 2 * number + of the pool */
enum mem_remote { MEM_PTR, MEM_LEN, MEM_ID };

int sim_mem_alloc(struct gy_nic *base, size_t len, void **ptrp)
{
	struct sim_mem *mem = gy_alloc(sizeof(*mem));

	if (!mem)
		return -ENOMEM;
	mem->ptr = mmap(NULL, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem->ptr == MAP_FAILED) {
		gy_free(mem);
		return -ENOMEM;
	}
	mem->len = len;
	gy_list_add_tail(&to_sim_nic(base)->mems, &mem->link);
	*ptrp = mem->ptr;
	return 0;
}

static struct sim_mem *mem_find(struct sim_nic *nic, const void *ptr, size_t len)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &nic->mems) {
		struct sim_mem *mem = gy_list_entry(pos, struct sim_mem, link);
		const char *start = mem->ptr, *at = ptr;

		if (at >= start && at + len <= start + mem->len)
			return mem;
	}
	return NULL;
}

int sim_mem_free(struct gy_nic *base, void *ptr)
{
	struct sim_nic *nic = to_sim_nic(base);
	struct sim_mem *mem = mem_find(nic, ptr, 0);

	if (!mem || mem->ptr != ptr)
		return -EINVAL;
	if (sim_is_registered(nic, mem->ptr, mem->len, false)) {
		sim_complain(nic->rank->world, "rank %d frees memory that is registered",
			     nic->rank->id);
		sim_fail(nic->rank->world, -EBUSY);
	}
	gy_list_del(&mem->link);
	gy_list_add_tail(&nic->rank->world->graves, &mem->link);
	return 0;
}

void sim_mems_bury(struct sim_nic *nic)
{
	struct gy_list *link;

	while ((link = gy_list_pop(&nic->mems)))
		gy_list_add_tail(&nic->rank->world->graves, link);
}

void sim_graves_free(struct gy_sim_world *w)
{
	while (!gy_list_empty(&w->graves)) {
		struct sim_mem *mem = gy_list_entry(gy_list_pop(&w->graves), struct sim_mem, link);

		munmap(mem->ptr, mem->len);
		gy_free(mem);
	}
}

int sim_ep_lend(struct gy_ep *base, const void *ptr, size_t len, struct gy_remote *remote)
{
	struct sim_ep *ep = to_sim_ep(base);
	const bool pool = mem_find(sim_ep_nic(ep), ptr, len) != NULL;

	if (ep->state != SIM_EP_UP)
		return -ENOTCONN;
	if (!(ep->how.caps & GY_SIM_LEND) || (!pool && !(ep->how.caps & GY_SIM_LEND_HEAP)))
		return -EOPNOTSUPP;
	remote->w[MEM_PTR] = (uintptr_t)ptr;
	remote->w[MEM_LEN] = len;
	remote->w[MEM_ID] = 2 * ep->lends++ + pool;
	return 0;
}

void sim_lend_revoke(struct sim_ep *ep, const void *ptr, size_t len)
{
	struct gy_sim_world *w = sim_ep_nic(ep)->rank->world;
	struct sim_revoked *r;

	if (!ep->lends)
		return;
	r = gy_alloc(sizeof(*r));
	if (!r) {
		sim_fail(w, -ENOMEM);
		return;
	}
	*r = (struct sim_revoked){ .ptr = ptr, .len = len, .before = ep->lends };
	gy_list_add_tail(&ep->revoked, &r->link);
}

void sim_revoked_free(struct sim_ep *ep)
{
	while (!gy_list_empty(&ep->revoked))
		gy_free(gy_list_entry(gy_list_pop(&ep->revoked), struct sim_revoked, link));
}

bool sim_is_revoked(const struct sim_ep *owner, const void *ptr, size_t len, uint64_t number)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &owner->revoked) {
		const struct sim_revoked *r = gy_list_entry(pos, struct sim_revoked, link);

		if (number < r->before && sim_overlap(ptr, len, r->ptr, r->len))
			return true;
	}
	return false;
}

/* Whether the memory can still be read; *is_void: it is not what was lent. */
static bool mem_is_there(const struct sim_ep *ep, const struct gy_remote *remote, bool *is_void)
{
	const struct sim_ep *owner = ep->other;

	*is_void = false;
	if (!owner || sim_ep_nic(ep)->rank->world->ranks[ep->peer].gone)
		return false;
	*is_void = sim_is_revoked(owner, (const void *)(uintptr_t)remote->w[MEM_PTR],
				  remote->w[MEM_LEN], remote->w[MEM_ID] / 2);
	return true;
}

static int mem_check(const struct sim_ep *ep, const struct gy_remote *remote, size_t off,
		     size_t len)
{
	if (ep->state != SIM_EP_UP)
		return -ENOTCONN;
	return off > remote->w[MEM_LEN] || len > remote->w[MEM_LEN] - off ? -EINVAL : 0;
}

int sim_ep_map(struct gy_ep *base, const struct gy_remote *remote, size_t off, size_t len,
	       const void **ptrp)
{
	const struct sim_ep *ep = to_sim_ep(base);
	const bool pool = remote->w[MEM_ID] % 2;
	const unsigned need = pool ? GY_SIM_MAP : GY_SIM_MAP_HEAP;
	int err = mem_check(ep, remote, off, len);
	bool is_void;

	if (err)
		return err;
	if (!(ep->how.caps & need))
		return -EOPNOTSUPP;
	if (!pool && !mem_is_there(ep, remote, &is_void))
		return -ECONNRESET;
	if (!pool && is_void)
		return -EOPNOTSUPP;	/* a pull shows what is there now */
	*ptrp = (const char *)(uintptr_t)remote->w[MEM_PTR] + off;
	return 0;
}

int sim_ep_pull(struct gy_ep *base, const struct gy_remote *remote, size_t off, void *dst,
		size_t len)
{
	const struct sim_ep *ep = to_sim_ep(base);
	int err = mem_check(ep, remote, off, len);
	bool is_void;

	if (err)
		return err;
	if (!mem_is_there(ep, remote, &is_void))
		return -ECONNRESET;
	sim_cost_pull(ep, len);
	if (sim_ep_nic(ep)->rank->world->attr.no_data)
		return 0;
	if (is_void)
		memset(dst, 0xa5, len);
	else
		memcpy(dst, (const char *)(uintptr_t)remote->w[MEM_PTR] + off, len);
	return 0;
}
