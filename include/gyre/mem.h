/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_MEM_H
#define GYRE_MEM_H
/*
 * Memory that peers can reach without a copy: mapped by ranks of the same node.  Ordinary memory
 * works with every call; this is the fast path.
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

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
