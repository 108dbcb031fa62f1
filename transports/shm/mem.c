/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - memory that peers read.
 *
 * Memory from mem_alloc is a segment: a shared file, whose descriptor a peer gets before the first
 * lend that names it, and which it maps whole, read-only.  All other memory is read by
 * process_vm_readv, where the probe says that this works.  With GYRE_MAPPED=0 peers still have
 * segments mapped, since pool slots must be within reach, but only pull reads them.
 *
 * gy_remote: w[0] = id of the segment, 0: none; w[1] = offset in it, or address; w[2] = bytes lent.
 *
 * Whoever frees a segment has ended all operations on it; but after a failure the peer may hear of
 * that later than of the end of the segment.  So its mapping is not removed but replaced by zero
 * pages, and the range is kept until SHM_STALE others have gone too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "transports/shm/shm.h"

#define MEM_HUGE (2 * 1024 * 1024)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23	/* Linux 5.14 */
#endif

/* ---- our segments ---- */

/* The position of the first segment that begins after p. */
static unsigned mem_after(const struct shm_nic *nic, const char *p)
{
	unsigned lo = 0, hi = nic->nsegs;

	while (lo < hi) {
		const unsigned mid = (lo + hi) / 2;

		if (nic->segs[mid].base > p)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The segment that holds all of [p, p + len), or NULL. */
static struct shm_seg *mem_find(const struct shm_nic *nic, const char *p, size_t len)
{
	const unsigned i = mem_after(nic, p);
	struct shm_seg *seg;

	if (!i)
		return NULL;
	seg = &nic->segs[i - 1];
	return (size_t)(p - seg->base) < seg->len && len <= seg->len - (size_t)(p - seg->base)
		       ? seg
		       : NULL;
}

/*
 * Gives every page its memory now: where there is none left that is an error here and not SIGBUS
 * later. By way of the mapping, so that the hint for huge pages counts.
 */
static int mem_back(void *mem, size_t len, int fd)
{
	if (len >= MEM_HUGE)
		madvise(mem, len, MADV_HUGEPAGE);
	while (madvise(mem, len, MADV_POPULATE_WRITE)) {
		switch (errno) {
		case EINTR:
		case EAGAIN:
			continue;
		case EFAULT:		/* an access would have raised SIGBUS */
			return -ENOSPC;
		case EINVAL:		/* an older kernel */
			return shm_file_back(fd, len);
		default:
			return -errno;
		}
	}
	return 0;
}

static int mem_make(struct shm_nic *nic, size_t len, struct shm_seg *seg)
{
	const size_t words = ((size_t)nic->base.ctx->nranks + 63) / 64;
	void *mem;
	int err;

	*seg = (struct shm_seg){ .len = len };
	seg->told = gy_alloc_array(words, sizeof(*seg->told));
	if (!seg->told)
		return -ENOMEM;
	err = shm_file_create(len, &seg->fd);
	if (err)
		goto free_told;
	err = shm_file_map(seg->fd, len, PROT_READ | PROT_WRITE, &mem);
	if (err)
		goto close_file;
	err = mem_back(mem, len, seg->fd);
	if (err)
		goto unmap;
	seg->base = mem;
	return 0;

unmap:
	munmap(mem, len);
close_file:
	close(seg->fd);
free_told:
	gy_free(seg->told);
	return err;
}

static void mem_unmake(struct shm_seg *seg)
{
	munmap(seg->base, seg->len);
	close(seg->fd);
	gy_free(seg->told);
}

int shm_mem_alloc(struct gy_nic *base, size_t want, void **ptrp)
{
	struct shm_nic *nic = to_shm_nic(base);
	const size_t len = gy_align_up(want, nic->page_bytes);
	struct shm_seg seg, *segs;
	unsigned at;
	int err;

	if (!want || len < want)
		return want ? -ENOMEM : -EINVAL;
	if (nic->nsegs == nic->segs_size) {
		segs = gy_realloc_array(nic->segs, nic->segs_size + 16, sizeof(*segs));
		if (!segs)
			return -ENOMEM;
		nic->segs = segs;
		nic->segs_size += 16;
	}
	err = mem_make(nic, len, &seg);
	if (err)
		return err;
	seg.id = ++nic->last_id;
	at = mem_after(nic, seg.base);
	memmove(nic->segs + at + 1, nic->segs + at, (nic->nsegs - at) * sizeof(seg));
	nic->segs[at] = seg;
	nic->nsegs++;
	*ptrp = seg.base;
	return 0;
}

int shm_mem_free(struct gy_nic *base, void *ptr)
{
	struct shm_nic *nic = to_shm_nic(base);
	struct shm_note note = { .kind = SHM_FREE };
	struct shm_seg *seg = mem_find(nic, ptr, 0);
	unsigned i, rank;

	if (!seg || seg->base != ptr)
		return -EINVAL;
	note.id = seg->id;
	for (i = 0; i < nic->nup; i++) {
		rank = (unsigned)nic->up[i]->base.peer->rank;
		if (!(seg->told[rank / 64] >> (rank % 64) & 1))
			continue;
		shm_note_forget(nic->up[i], seg->id);
		shm_note_send(nic->up[i], &note, NULL, 0); /* no memory: it keeps its mapping */
	}
	mem_unmake(seg);
	i = (unsigned)(seg - nic->segs);
	memmove(seg, seg + 1, (nic->nsegs - i - 1) * sizeof(*seg));
	nic->nsegs--;
	return 0;
}

/* First lend of this segment to this peer. */
static gy_cold int mem_tell(struct shm_ep *ep, struct shm_seg *seg, unsigned rank)
{
	struct shm_note note = { .kind = SHM_SEGMENT, .id = seg->id, .len = seg->len };
	int err = shm_note_send(ep, &note, &seg->fd, 1);

	if (!err)
		seg->told[rank / 64] |= (uint64_t)1 << (rank % 64);
	return err;
}

int shm_mem_lend(struct gy_ep *base, const void *ptr, size_t len, struct gy_remote *remote)
{
	struct shm_ep *ep = to_shm_ep(base);
	const unsigned rank = (unsigned)base->peer->rank;
	struct shm_seg *seg = mem_find(shm_ep_nic(ep), ptr, len);
	int err;

	if (gy_unlikely(ep->state != SHM_UP))
		return -ENOTCONN;
	if (!seg) {
		if (!ep->peer_reads)
			return -EOPNOTSUPP;
		*remote = (struct gy_remote){ { 0, (uintptr_t)ptr, len } };
		return 0;
	}
	if (gy_unlikely(!(seg->told[rank / 64] >> (rank % 64) & 1))) {
		err = mem_tell(ep, seg, rank);
		if (err)
			return err;
	}
	*remote = (struct gy_remote){ { seg->id, (uint64_t)((const char *)ptr - seg->base), len } };
	return 0;
}

/* ---- peers' memory ---- */

/* The position of the first mapping with at least this id. */
static unsigned mem_map_at(const struct shm_ep *ep, uint64_t id)
{
	unsigned lo = 0, hi = ep->nmaps;

	while (lo < hi) {
		const unsigned mid = (lo + hi) / 2;

		if (ep->maps[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct shm_map *mem_map_find(struct shm_ep *ep, uint64_t id)
{
	if (gy_likely(ep->last_map < ep->nmaps && ep->maps[ep->last_map].id == id))
		return &ep->maps[ep->last_map];
	ep->last_map = mem_map_at(ep, id);
	if (ep->last_map < ep->nmaps && ep->maps[ep->last_map].id == id)
		return &ep->maps[ep->last_map];
	return NULL;
}

int shm_mem_add(struct shm_ep *ep, uint64_t id, size_t len, int fd)
{
	struct shm_map *maps;
	unsigned at;
	void *mem;
	int err;

	if (!id || mem_map_find(ep, id))
		return -EPROTO;
	if (ep->nmaps == ep->maps_size) {
		maps = gy_realloc_array(ep->maps, ep->maps_size + 8, sizeof(*maps));
		if (!maps)
			return -ENOMEM;
		ep->maps = maps;
		ep->maps_size += 8;
	}
	err = shm_file_map(fd, len, PROT_READ, &mem);
	if (err)
		return err;
	at = mem_map_at(ep, id);
	memmove(ep->maps + at + 1, ep->maps + at, (ep->nmaps - at) * sizeof(*ep->maps));
	ep->maps[at] = (struct shm_map){ .id = id, .base = mem, .len = len };
	ep->nmaps++;
	return 0;
}

void shm_mem_gone(struct shm_ep *ep, uint64_t id)
{
	struct shm_nic *nic = shm_ep_nic(ep);
	struct shm_map *map = mem_map_find(ep, id);
	struct shm_range *stale = &nic->stale[nic->stale_next];

	if (!map)
		return;
	if (stale->base)
		munmap(stale->base, stale->len);
	*stale = (struct shm_range){ .base = map->base, .len = map->len };
	nic->stale_next = (nic->stale_next + 1) % SHM_STALE;
	mmap(map->base, map->len, PROT_READ,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	memmove(map, map + 1, (size_t)(ep->maps + ep->nmaps - map - 1) * sizeof(*map));
	ep->nmaps--;
}

void shm_mem_unmap_all(struct shm_ep *ep)
{
	unsigned i;

	for (i = 0; i < ep->nmaps; i++)
		munmap(ep->maps[i].base, ep->maps[i].len);
	gy_free(ep->maps);
	ep->maps = NULL;
	ep->nmaps = 0;
}

void shm_mem_fini(struct shm_nic *nic)
{
	unsigned i;

	for (i = 0; i < nic->nsegs; i++)
		mem_unmake(&nic->segs[i]);
	gy_free(nic->segs);
	for (i = 0; i < SHM_STALE; i++)
		if (nic->stale[i].base)
			munmap(nic->stale[i].base, nic->stale[i].len);
}

/* Where len bytes, off bytes into a segment that was lent, are mapped here. */
static int mem_locate(struct shm_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		      const char **ptrp)
{
	const uint64_t begin = remote->w[1], lent = remote->w[2];
	struct shm_map *map = mem_map_find(ep, remote->w[0]);
	int err;

	if (gy_unlikely(!map)) {
		err = shm_note_read(ep);	/* it was sent before the lend */
		if (err) {
			shm_ep_break(ep, err);
			return -ENOTCONN;
		}
		map = mem_map_find(ep, remote->w[0]);
	}
	if (gy_unlikely(!map || begin > map->len || lent > map->len - begin || off > lent ||
			len > lent - off))
		return -EPROTO;
	*ptrp = map->base + begin + off;
	return 0;
}

int shm_mem_map(struct gy_ep *base, const struct gy_remote *remote, size_t off, size_t len,
		const void **ptrp)
{
	struct shm_ep *ep = to_shm_ep(base);
	const char *ptr;
	int err;

	if (gy_unlikely(ep->state != SHM_UP))
		return -ENOTCONN;
	if (!remote->w[0] || !base->nic->ctx->cfg.mapped)
		return -EOPNOTSUPP;
	err = mem_locate(ep, remote, off, len, &ptr);
	if (!err)
		*ptrp = ptr;
	return err;
}

static int mem_read_process(pid_t pid, uint64_t addr, void *dst, size_t len)
{
	struct iovec local = { .iov_base = dst, .iov_len = len };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)addr, .iov_len = len };
	ssize_t n;

	while (local.iov_len) {
		n = process_vm_readv(pid, &local, 1, &remote, 1, 0);
		if (n <= 0 && (!n || errno == EFAULT))
			return -EFAULT;
		if (n < 0)
			return errno == ESRCH ? -ECONNRESET : -errno;
		local.iov_base = (char *)local.iov_base + n;
		remote.iov_base = (char *)remote.iov_base + n;
		local.iov_len -= (size_t)n;
		remote.iov_len = local.iov_len;
	}
	return 0;
}

int shm_mem_pull(struct gy_ep *base, const struct gy_remote *remote, size_t off, void *dst,
		 size_t len)
{
	struct shm_ep *ep = to_shm_ep(base);
	const char *ptr;
	int err;

	if (gy_unlikely(ep->state != SHM_UP))
		return -ENOTCONN;
	if (!remote->w[0]) {
		if (gy_unlikely(off > remote->w[2] || len > remote->w[2] - off))
			return -EPROTO;
		return mem_read_process(ep->pid, remote->w[1] + off, dst, len);
	}
	err = mem_locate(ep, remote, off, len, &ptr);
	if (!err)
		memcpy(dst, ptr, len);
	return err;
}

bool shm_mem_probe(struct shm_ep *ep, uint64_t addr, uint64_t secret)
{
	const int cma = ep->base.nic->ctx->cfg.cma;
	uint64_t found = 0;
	int err = -ESRCH;

	if (cma == GY_CONFIG_OFF)
		return false;
	if (ep->pid > 0)
		err = mem_read_process(ep->pid, addr, &found, sizeof(found));
	if (!err && found == secret)
		return true;
	if (cma == GY_CONFIG_ON)
		gy_warn("cannot read memory of rank %d (process_vm_readv: %s); copying instead",
			ep->base.peer->rank, err ? strerror(-err) : "another process answers");
	return false;
}
