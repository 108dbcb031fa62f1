/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - gyre_mem_alloc: memory from the first transport that makes some which peers can map, else
 * ordinary pages, kept in a list so that mem_free knows them.
 * Locking: takes the token.
 */
#include <gyre/mem.h>

#include <errno.h>
#include <sys/mman.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"

int gy_mem_get(struct gyre_context *ctx, size_t len, struct gy_nic **nicp, void **ptrp)
{
	unsigned i;
	int err;

	for (i = 0; i < GY_MAX_TRANSPORTS; i++) {
		if (!ctx->nics[i])
			continue;
		err = ctx->nics[i]->ops->mem_alloc(ctx->nics[i], len, ptrp);
		if (err == -EOPNOTSUPP)
			continue;
		*nicp = ctx->nics[i];
		return err;
	}
	*nicp = NULL;
	*ptrp = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return *ptrp == MAP_FAILED ? -errno : 0;
}

void gy_mem_put(struct gy_nic *nic, void *ptr, size_t len)
{
	if (nic)
		nic->ops->mem_free(nic, ptr);
	else
		munmap(ptr, len);
}

int gyre_mem_alloc(struct gyre_context *ctx, size_t len, void **ptrp)
{
	struct gy_mem *m;
	int err;

	if (!ctx || !len || !ptrp) {
		gy_err("gyre_mem_alloc: %s", !ctx   ? "ctx is NULL"
					     : !len ? "len is 0"
						    : "ptrp is NULL");
		return -EINVAL;
	}
	m = gy_alloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->len = len;
	gy_engine_enter(&ctx->engine);
	err = gy_mem_get(ctx, len, &m->nic, &m->ptr);
	if (!err)
		gy_list_add_tail(&ctx->engine.mems, &m->link);
	gy_engine_leave(&ctx->engine);
	if (err) {
		gy_err("gyre_mem_alloc: %zu bytes: %s", len, gyre_strerror(err));
		gy_free(m);
		return err;
	}
	*ptrp = m->ptr;
	return 0;
}

int gyre_mem_free(struct gyre_context *ctx, void *ptr)
{
	struct gy_list *pos;
	int err = -EINVAL;

	if (!ctx) {
		gy_err("gyre_mem_free: ctx is NULL");
		return -EINVAL;
	}
	if (!ptr)
		return 0;
	gy_engine_enter(&ctx->engine);
	gy_list_for_each(pos, &ctx->engine.mems) {
		struct gy_mem *m = gy_list_entry(pos, struct gy_mem, link);

		if (m->ptr != ptr)
			continue;
		gy_list_del(&m->link);
		gy_mem_put(m->nic, m->ptr, m->len);
		gy_free(m);
		err = 0;
		break;
	}
	gy_engine_leave(&ctx->engine);
	if (err)
		gy_err("gyre_mem_free: ptr is not from gyre_mem_alloc of this context");
	return err;
}
