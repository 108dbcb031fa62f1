/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - registered memory: pool slabs and what the user registers, in a table by address.
 * Cost: finding is one compare when it is the region of the last time, else a binary search.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/verbs/verbs.h"

#define MEM_NEED (4u << 20)	/* two slabs of the pool, and rings: with less TCP is better */
#define MEM_ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_RELAXED_ORDERING)

static gy_cold void mem_warn(struct verbs_nic *nic, size_t len, int err)
{
	struct rlimit lim = { 0, 0 };

	if (nic->warned)
		return;
	nic->warned = true;
	getrlimit(RLIMIT_MEMLOCK, &lim);
	gy_warn("cannot register %zu KiB of memory with %s: %s; the limit of locked memory is "
		"%llu KiB.  To lift it: \"* - memlock unlimited\" in /etc/security/limits.conf; "
		"\"LimitMEMLOCK=infinity\" in the [Service] section of a systemd unit (of slurmd, "
		"say); \"docker run --ulimit memlock=-1\".",
		len >> 10, nic->dev->device->name, gyre_strerror(err),
		(unsigned long long)lim.rlim_cur >> 10);
}

static struct ibv_mr *mem_reg(struct verbs_nic *nic, void *ptr, size_t len)
{
	return ibv_reg_mr(nic->pd, ptr, len, MEM_ACCESS);
}

/* Position of the first region that begins after addr. */
static unsigned mem_after(const struct verbs_nic *nic, uintptr_t addr)
{
	unsigned low = 0, high = nic->nmems, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (nic->mems[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void mem_sum_up(struct verbs_nic *nic, unsigned from)
{
	unsigned i;

	nic->last_mem = 0;
	for (i = from; i < nic->nmems; i++)
		nic->mems[i].max_end = i ? gy_max(nic->mems[i].end, nic->mems[i - 1].max_end)
					 : nic->mems[i].end;
}

int verbs_mem_register(struct gy_nic *base, void *ptr, size_t len)
{
	struct verbs_nic *nic = to_verbs_nic(base);
	const uintptr_t addr = (uintptr_t)ptr;
	struct verbs_mem *mems;
	struct ibv_mr *mr;
	unsigned i;
	int err;

	if (nic->nmems == nic->mems_size) {
		mems = gy_realloc_array(nic->mems, nic->mems_size + 32, sizeof(*mems));
		if (!mems)
			return -ENOMEM;
		nic->mems = mems;
		nic->mems_size += 32;
	}
	mr = mem_reg(nic, ptr, len);
	if (!mr) {
		err = -errno;
		mem_warn(nic, len, err);
		return err;
	}
	i = mem_after(nic, addr);
	memmove(&nic->mems[i + 1], &nic->mems[i], (nic->nmems - i) * sizeof(nic->mems[0]));
	nic->mems[i] = (struct verbs_mem){ .addr = addr, .end = addr + len, .mr = mr };
	nic->nmems++;
	mem_sum_up(nic, i);
	return 0;
}

void verbs_mem_unregister(struct gy_nic *base, void *ptr, size_t len)
{
	struct verbs_nic *nic = to_verbs_nic(base);
	const uintptr_t addr = (uintptr_t)ptr;
	unsigned i = mem_after(nic, addr);

	while (i > 0 && nic->mems[i - 1].addr == addr && nic->mems[i - 1].end != addr + len)
		i--;
	if (i == 0 || nic->mems[i - 1].addr != addr)
		return;		/* it could not be registered */
	i--;
	ibv_dereg_mr(nic->mems[i].mr);
	nic->nmems--;
	memmove(&nic->mems[i], &nic->mems[i + 1], (nic->nmems - i) * sizeof(nic->mems[0]));
	mem_sum_up(nic, i);
}

struct ibv_mr *verbs_mem_find(struct verbs_nic *nic, const void *ptr, size_t len)
{
	const uintptr_t addr = (uintptr_t)ptr, end = addr + len;
	unsigned i = nic->last_mem;

	if (gy_likely(i < nic->nmems && nic->mems[i].addr <= addr && end <= nic->mems[i].end))
		return nic->mems[i].mr;
	for (i = mem_after(nic, addr); i > 0 && nic->mems[i - 1].max_end >= end; i--) {
		if (nic->mems[i - 1].end < end)
			continue;
		nic->last_mem = i - 1;
		return nic->mems[i - 1].mr;
	}
	return NULL;
}

/* The soft limit goes as high as it may.  -EOPNOTSUPP: that is too little. */
static int mem_raise_limit(struct verbs_nic *nic)
{
	struct rlimit lim;
	struct ibv_mr *mr;
	void *mem;
	int err = 0;

	if (getrlimit(RLIMIT_MEMLOCK, &lim))
		return 0;
	if (lim.rlim_cur != lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &lim);
	}
	if (lim.rlim_cur >= nic->base.ctx->cfg.pool_bytes + MEM_NEED)
		return 0;
	/* A privileged process has no limit: try. */
	mem = mmap(NULL, MEM_NEED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return -errno;
	mr = mem_reg(nic, mem, MEM_NEED);
	if (mr) {
		ibv_dereg_mr(mr);
	} else {
		mem_warn(nic, MEM_NEED, -errno);
		err = -EOPNOTSUPP;
	}
	munmap(mem, MEM_NEED);
	return err;
}

int verbs_mem_open(struct verbs_nic *nic)
{
	return mem_raise_limit(nic);
}

void verbs_mem_close(struct verbs_nic *nic)
{
	gy_assert(nic->nmems == 0);
	gy_free(nic->mems);
}
