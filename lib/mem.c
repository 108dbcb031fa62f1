/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - memory that transports are told of: gyre_mem_alloc's, from the first transport that makes
 * some which peers can map, else ordinary pages; and the user's own.  Kept in a list.
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

int gy_mem_register(struct gyre_context *ctx, void *ptr, size_t len)
{
	int i, err;

	for (i = 0; i < GY_MAX_TRANSPORTS; i++) {
		if (!ctx->nics[i])
			continue;
		err = ctx->nics[i]->ops->mem_register(ctx->nics[i], ptr, len);
		if (err)
			goto undo;
	}
	return 0;

undo:
	while (i-- > 0)
		if (ctx->nics[i])
			ctx->nics[i]->ops->mem_unregister(ctx->nics[i], ptr, len);
	return err;
}

void gy_mem_unregister(struct gyre_context *ctx, void *ptr, size_t len)
{
	int i;

	for (i = 0; i < GY_MAX_TRANSPORTS; i++)
		if (ctx->nics[i])
			ctx->nics[i]->ops->mem_unregister(ctx->nics[i], ptr, len);
}

/* The memory of ctx that is of that kind and begins at ptr, or NULL. */
static struct gy_mem *mem_find(struct gyre_context *ctx, const void *ptr, bool users)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &ctx->engine.mems) {
		struct gy_mem *m = gy_list_entry(pos, struct gy_mem, link);

		if (m->ptr == ptr && m->users == users)
			return m;
	}
	return NULL;
}

static bool mem_overlaps(const struct gyre_context *ctx, const char *ptr, size_t len)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &ctx->engine.mems) {
		const struct gy_mem *m = gy_list_entry(pos, struct gy_mem, link);
		const char *p = m->ptr;

		if (ptr < p + m->len && p < ptr + len)
			return true;
	}
	return false;
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
	if (!err) {
		m->registered = !gy_mem_register(ctx, m->ptr, len);
		gy_list_add_tail(&ctx->engine.mems, &m->link);
	}
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
	struct gy_mem *m;

	if (!ctx) {
		gy_err("gyre_mem_free: ctx is NULL");
		return -EINVAL;
	}
	if (!ptr)
		return 0;
	gy_engine_enter(&ctx->engine);
	m = mem_find(ctx, ptr, false);
	if (m) {
		gy_list_del(&m->link);
		if (m->registered)
			gy_mem_unregister(ctx, m->ptr, m->len);
		gy_mem_put(m->nic, m->ptr, m->len);
		gy_free(m);
	}
	gy_engine_leave(&ctx->engine);
	if (!m)
		gy_err("gyre_mem_free: ptr is not from gyre_mem_alloc of this context");
	return m ? 0 : -EINVAL;
}

int gyre_mem_register(struct gyre_context *ctx, void *ptr, size_t len)
{
	struct gy_mem *m;
	int err;

	if (!ctx || !ptr || !len || len > UINTPTR_MAX - (uintptr_t)ptr) {
		gy_err("gyre_mem_register: %s", !ctx   ? "ctx is NULL"
						: !ptr ? "ptr is NULL"
						: !len ? "len is 0"
						       : "len is too large");
		return -EINVAL;
	}
	m = gy_alloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = (struct gy_mem){ .users = true, .registered = true, .ptr = ptr, .len = len };
	gy_engine_enter(&ctx->engine);
	err = mem_overlaps(ctx, ptr, len) ? -EEXIST : gy_mem_register(ctx, ptr, len);
	if (!err)
		gy_list_add_tail(&ctx->engine.mems, &m->link);
	gy_engine_leave(&ctx->engine);
	if (err) {
		gy_err("gyre_mem_register: ptr and len: %s",
		       err == -EEXIST ? "overlaps memory that this context knows already"
				      : gyre_strerror(err));
		gy_free(m);
	}
	return err;
}

int gyre_mem_unregister(struct gyre_context *ctx, void *ptr)
{
	struct gy_mem *m;

	if (!ctx) {
		gy_err("gyre_mem_unregister: ctx is NULL");
		return -EINVAL;
	}
	if (!ptr)
		return 0;
	gy_engine_enter(&ctx->engine);
	m = mem_find(ctx, ptr, true);
	if (m) {
		gy_list_del(&m->link);
		gy_mem_unregister(ctx, m->ptr, m->len);
		gy_free(m);
	}
	gy_engine_leave(&ctx->engine);
	if (!m)
		gy_err("gyre_mem_unregister: ptr is not from gyre_mem_register of this context");
	return m ? 0 : -EINVAL;
}
