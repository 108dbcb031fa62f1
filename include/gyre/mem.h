/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_MEM_H
#define GYRE_MEM_H
/*
 * Memory that peers can reach without a copy: mapped by ranks of the same node, registered with
 * RDMA devices.  Ordinary memory works with every call; this is the fast path.
 */
#include <gyre/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/*
 * len bytes, zeroed, page aligned, into *ptrp.  Local; peers map it when an operation first uses
 * it.  Owned by the caller; free by gyre_mem_free before the context is destroyed.  MT-Safe.
 * Errors: -EINVAL (len 0), -ENOMEM, -ENOSPC (/dev/shm is full), -EMFILE.
 */
int gyre_mem_alloc(struct gyre_context *ctx, size_t len, void **ptrp);

/* No operation may be using it.  NULL is fine.  -EINVAL for memory that is not of ctx.  MT-Safe. */
int gyre_mem_free(struct gyre_context *ctx, void *ptr);

/*
 * Tells ctx of memory that the caller has already, [ptr, ptr + len): registered with RDMA devices,
 * which then send from it and write to it without a copy.  (Ranks of the same node still copy: only
 * gyre_mem_alloc's can be mapped.)  Local.  The memory stays the caller's, and must stay mapped
 * until gyre_mem_unregister, or the end of the context.  Without such a device nothing happens.
 * MT-Safe.  Errors: -EINVAL, -EEXIST (overlaps memory that ctx knows), -ENOMEM (also: beyond
 * RLIMIT_MEMLOCK; the log says what to do), -EFAULT (not mapped).
 */
int gyre_mem_register(struct gyre_context *ctx, void *ptr, size_t len);

/* No operation may be using it.  NULL is fine.  -EINVAL: not registered at ptr.  MT-Safe. */
int gyre_mem_unregister(struct gyre_context *ctx, void *ptr);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
