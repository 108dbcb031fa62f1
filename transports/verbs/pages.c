/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pages.c - memory near the device, for slabs of the pool and gyre_mem_alloc where no other
 * transport makes memory that peers can map.
 *
 * Huge pages, if the system gives them on advice: the device has fewer addresses to translate, and
 * fewer pages are pinned.  On the NUMA node of the device, if there is room: what it reads and
 * writes does not cross to another socket.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/verbs/verbs.h"

#define PAGES_HUGE ((size_t)2 << 20)

struct verbs_pages {
	struct gy_list link;		/* verbs_nic.pages */
	void *ptr;
	size_t len;
};

/* A node without room is no error, nor is a kernel that knows of none. */
static void pages_bind(struct verbs_nic *nic, void *ptr, size_t len)
{
	int err;

	if (nic->node < 0)
		return;
	err = gy_topology_bind(&nic->base.ctx->topology, ptr, len, nic->node);
	if (err)
		gy_dbg("memory cannot be bound to NUMA node %d: %s", nic->node,
		       gyre_strerror(err));
}

/* Where a huge page can begin. */
static void *pages_map(size_t len)
{
	const size_t more = len >= PAGES_HUGE ? PAGES_HUGE : 0;
	char *mem =
		mmap(NULL, len + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t skip;

	if (mem == MAP_FAILED || !more)
		return mem;
	skip = -(uintptr_t)mem % PAGES_HUGE;
	if (skip)
		munmap(mem, skip);
	if (more - skip)
		munmap(mem + skip + len, more - skip);
	madvise(mem + skip, len, MADV_HUGEPAGE);
	return mem + skip;
}

int verbs_pages_alloc(struct gy_nic *base, size_t want, void **ptrp)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (want + page - 1) & ~(page - 1);
	struct verbs_nic *nic = to_verbs_nic(base);
	struct verbs_pages *p;
	int err;

	if (len < want || len > SIZE_MAX - PAGES_HUGE)
		return -ENOMEM;
	p = gy_alloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->len = len;
	p->ptr = pages_map(p->len);
	if (p->ptr == MAP_FAILED) {
		err = -errno;
		gy_free(p);
		return err;
	}
	pages_bind(nic, p->ptr, p->len);
	gy_list_add_tail(&nic->pages, &p->link);
	*ptrp = p->ptr;
	return 0;
}

int verbs_pages_free(struct gy_nic *base, void *ptr)
{
	struct verbs_nic *nic = to_verbs_nic(base);
	struct gy_list *pos;

	gy_list_for_each(pos, &nic->pages) {
		struct verbs_pages *p = gy_list_entry(pos, struct verbs_pages, link);

		if (p->ptr != ptr)
			continue;
		munmap(p->ptr, p->len);
		gy_list_del(&p->link);
		gy_free(p);
		return 0;
	}
	return -EINVAL;
}
