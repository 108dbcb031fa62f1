/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nic.c - shared memory of one context: whom it reaches, looking at all rings, sleeping.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/shm/shm.h"

#define NIC_RECORDS 8		/* of one peer, before the next one's turn */

static int nic_fill_blob(struct shm_nic *nic)
{
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	struct shm_blob *blob = &nic->blob;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, blob->boot_id, sizeof(blob->boot_id) - 1);
	close(fd);
	if (n < 32)
		return -EIO;
	if (stat("/proc/self/ns/net", &st))
		return -errno;
	blob->magic = SHM_MAGIC;
	blob->page_bytes = (uint32_t)nic->page_bytes;
	blob->net_dev = st.st_dev;
	blob->net_ino = st.st_ino;
	return 0;
}

static int nic_describe(struct gy_nic *base, void *out, size_t size)
{
	const struct shm_blob *blob = &to_shm_nic(base)->blob;

	if (size < sizeof(*blob))
		return -ENOBUFS;
	memcpy(out, blob, sizeof(*blob));
	return (int)sizeof(*blob);
}

static int nic_reach(struct gy_nic *base, int rank, const void *theirs, size_t len)
{
	const struct shm_blob *blob = &to_shm_nic(base)->blob;

	return len != sizeof(*blob) || memcmp(theirs, blob, len) ? -EHOSTUNREACH : 0;
}

static int nic_page_create(struct shm_nic *nic)
{
	void *mem;
	int err;

	err = shm_file_create(nic->page_bytes, &nic->page_fd);
	if (err)
		return err;
	err = shm_file_back(nic->page_fd, nic->page_bytes);
	if (!err)
		err = shm_file_map(nic->page_fd, nic->page_bytes, PROT_READ | PROT_WRITE, &mem);
	if (err) {
		close(nic->page_fd);
		return err;
	}
	nic->page = mem;
	nic->base.recalls = &nic->page->recalls;
	return 0;
}

static int nic_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	struct shm_nic *nic = gy_alloc(sizeof(*nic));
	int err;

	if (!nic)
		return -ENOMEM;
	nic->base = (struct gy_nic){ .ops = &gy_shm_ops, .ctx = ctx };
	nic->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	nic->ring_bytes = gy_align_up(SHM_RING_BYTES, nic->page_bytes);
	nic->secret = ctx->sys->ops->random(ctx->sys);
	gy_list_init(&nic->dead);
	err = nic_fill_blob(nic);
	if (!err)
		err = nic_page_create(nic);
	if (err) {
		gy_info("no shared memory: %s", strerror(-err));
		gy_free(nic);
		return err == -ENOMEM ? err : -EOPNOTSUPP;
	}
	/*
	 * Where the Yama module restricts it, this process must allow its peers to read its memory.
	 */
	if (ctx->cfg.cma == GY_CONFIG_ON)
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	*nicp = &nic->base;
	return 0;
}

/* Endpoints that were closed since the last time. */
static void nic_bury(struct shm_nic *nic)
{
	struct gy_list *link;

	while ((link = gy_list_first(&nic->dead)))
		shm_ep_free(gy_list_entry(link, struct shm_ep, link));
}

static void nic_close(struct gy_nic *base)
{
	struct shm_nic *nic = to_shm_nic(base);

	nic_bury(nic);
	gy_assert(!nic->nup);
	shm_mem_fini(nic);
	munmap(nic->page, nic->page_bytes);
	close(nic->page_fd);
	gy_free(nic->up);
	gy_free(nic);
}

static int nic_progress(struct gy_nic *base)
{
	struct shm_nic *nic = to_shm_nic(base);
	int did = 0, k;
	unsigned i;

	if (gy_unlikely(!gy_list_empty(&nic->dead)))
		nic_bury(nic);
	/* Backwards: an endpoint that goes down inside is replaced by one that has had its turn. */
	for (i = nic->nup; i-- > 0;) {
		struct gy_ep *ep = &nic->up[i]->base;

		for (k = 0; k < NIC_RECORDS && shm_ep_poll(ep); k++)
			did++;
		if (gy_unlikely(i > nic->nup))
			i = nic->nup;
	}
	return did;
}

static void nic_disarm(struct gy_nic *base)
{
	struct shm_page *page = to_shm_nic(base)->page;
	const uint32_t sleep = atomic_load_explicit(&page->sleep, memory_order_relaxed);

	if (sleep & 1)
		atomic_store_explicit(&page->sleep, sleep + 1, memory_order_relaxed);
}

static int nic_arm(struct gy_nic *base)
{
	struct shm_nic *nic = to_shm_nic(base);
	const uint32_t sleep = atomic_load_explicit(&nic->page->sleep, memory_order_relaxed);
	unsigned i;

	/*
	 * The next odd number, also when one is there: a peer that has rung for that will not
	 * again.
	 */
	atomic_store_explicit(&nic->page->sleep, (sleep + 1) | 1, memory_order_seq_cst);
	for (i = 0; i < nic->nup; i++) {
		if (shm_rx_any(&nic->up[i]->rx) || shm_ep_has_room(nic->up[i])) {
			nic_disarm(base);
			return 1;
		}
	}
	return 0;
}

const struct gy_transport_ops gy_shm_ops = {
	.name = "shm",
	.near = true,
	.open = nic_open,
	.close = nic_close,
	.describe = nic_describe,
	.reach = nic_reach,
	.ep_open = shm_ep_open,
	.connect = shm_ep_connect,
	.accepted = shm_ep_accepted,
	.ep_close = shm_ep_close,
	.msg = shm_ep_msg,
	.bulk = gy_no_bulk,
	.expose = gy_no_expose,
	.lend = shm_mem_lend,
	.map = shm_mem_map,
	.pull = shm_mem_pull,
	.revoke = gy_no_revoke,	/* what it is given it copies before it returns */
	.poll = shm_ep_poll,
	.progress = nic_progress,
	.arm = nic_arm,
	.disarm = nic_disarm,
	.mem_alloc = shm_mem_alloc,
	.mem_free = shm_mem_free,
	.mem_register = gy_no_mem_register,
	.mem_unregister = gy_no_mem_unregister,
};
