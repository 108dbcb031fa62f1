/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - registered memory: pool slabs and what the user registers, in a table by address.
 * Cost: finding is one compare when it is the region of the last time, else a binary search.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/verbs/verbs.h"

#define MEM_NEED (4u << 20)	/* the smallest pool, two slabs: with less TCP is better */
#define MEM_PEER (320u << 10)	/* ring and queues of a connected peer */
#define MEM_STEPS 16
#define MEM_ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_RELAXED_ORDERING)

/* Once.  then: what follows from it. */
static gy_cold void mem_warn(struct verbs_nic *nic, size_t len, int err, const char *then)
{
	struct rlimit lim = { 0, 0 };

	if (nic->warned)
		return;
	nic->warned = true;
	getrlimit(RLIMIT_MEMLOCK, &lim);
	gy_warn("cannot register %zu KiB of memory with %s: %s%s; the limit of locked memory is "
		"%llu KiB.  To lift it: \"* - memlock unlimited\" in /etc/security/limits.conf; "
		"\"LimitMEMLOCK=infinity\" in the [Service] section of a systemd unit (of slurmd, "
		"say); \"docker run --ulimit memlock=-1\".",
		len >> 10, nic->dev->device->name, gyre_strerror(err), then,
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
		mem_warn(nic, len, err, "");
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

/* ---- what may be locked ---- */

/* The kernel pins a region whole or not at all, and counts what other libraries have pinned. */
static int mem_try(struct verbs_nic *nic, size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;
	int err = 0;

	if (mem == MAP_FAILED)
		return -errno;
	mr = mem_reg(nic, mem, len);
	if (mr)
		ibv_dereg_mr(mr);
	else
		err = -errno;
	munmap(mem, len);
	return err;
}

/*
 * The soft limit goes as high as it may.  Where that is less than what is needed, a process with
 * privileges still has none, so it is tried: the pool shrinks to what can be registered.
 * -EOPNOTSUPP: that is too little.
 */
static int mem_fit_limit(struct verbs_nic *nic)
{
	struct gy_config *cfg = &nic->base.ctx->cfg;
	const size_t peers = gy_min((size_t)gy_max((size_t)nic->base.ctx->nranks, 2) - 1,
				    VERBS_PEERS);
	const size_t others = peers * MEM_PEER, want = cfg->pool_bytes;
	const size_t step = gy_max(want / MEM_STEPS, 1u << 20);
	struct rlimit lim;
	size_t fits = want;
	char then[64];
	int err;

	if (getrlimit(RLIMIT_MEMLOCK, &lim))
		return 0;
	if (lim.rlim_cur != lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &lim);
	}
	if (lim.rlim_cur >= want + others)
		return 0;
	while ((err = mem_try(nic, fits + others)) && fits >= MEM_NEED + step)
		fits -= step;
	if (err) {
		mem_warn(nic, fits + others, err, ": verbs are not used");
		return -EOPNOTSUPP;
	}
	if (fits < want) {
		snprintf(then, sizeof(then), ": %zu KiB for slots instead of %zu", fits >> 10,
			 want >> 10);
		mem_warn(nic, want + others, -ENOMEM, then);
		cfg->pool_bytes = fits;
	}
	return 0;
}

int verbs_mem_open(struct verbs_nic *nic)
{
	return mem_fit_limit(nic);
}

void verbs_mem_close(struct verbs_nic *nic)
{
	gy_assert(nic->nmems == 0);
	gy_free(nic->mems);
}
