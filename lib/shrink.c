/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shrink.c - gyre_comm_agree and gyre_comm_shrink: waiting for an agreement, who is late, and the
 * communicator of those who are left.
 * Locking: the public calls take the token, the rest is the driver's.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/agree.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"

#define LATE_NAMES 8	/* ranks that a message names at most */

struct late_text {
	char text[16 * LATE_NAMES];
	size_t len;
	unsigned n;
};

static void late_name(void *arg, int rank)
{
	struct late_text *t = arg;

	if (t->n++ >= LATE_NAMES)
		return;
	t->len += (size_t)snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s%d",
				   t->len ? ", " : "", rank);
}

static void shrink_report(const struct gy_agree *a, uint64_t idle_ns, const char *end)
{
	struct late_text t = { .n = 0 };

	gy_agree_each_late(a, late_name, &t);
	gy_warn("rank %d waits for rank %s%s in gyre_comm_%s, agreement %u, for %.1f s%s",
		a->comm->rank, t.text, t.n > LATE_NAMES ? " and others" : "",
		a->what == GY_AGREE_SHRINK ? "shrink" : "agree", a->seq, (double)idle_ns / 1e9,
		end);
}

void gy_agree_tick(struct gyre_comm *comm)
{
	const struct gy_config *cfg = &comm->ctx->cfg;
	struct gy_agree *a = comm->agree;
	uint64_t idle;

	if (!a->inside)
		return;
	idle = comm->ctx->engine.now_ns - a->moved_ns;
	if (cfg->late_warn_ms > 0 && idle > cfg->late_warn_ms * 1000000ull &&
	    a->warned_ns != a->moved_ns) {
		a->warned_ns = a->moved_ns;
		shrink_report(a, idle, " so far");
	}
	if (cfg->stall_timeout_ms > 0 && idle > cfg->stall_timeout_ms * 1000000ull) {
		shrink_report(a, idle, ", GYRE_STALL_TIMEOUT_MS, and gives up");
		gy_agree_leave(a, -ETIMEDOUT);
	}
}

/* The token is held before and after.  spare: freed by whoever ends the context meanwhile. */
static int shrink_agree(struct gyre_comm *comm, enum gy_agree_what what, uint64_t flags,
			struct gyre_comm *spare)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_agree *a = comm->agree;
	unsigned idle = 0;

	if (a->err || a->inside)
		return a->err ? a->err : -EBUSY;
	if (atomic_load_explicit(&comm->err, memory_order_relaxed) == -ESTALE)
		return -ESTALE;
	a->spare = spare;
	gy_agree_enter(a, what, flags);
	while (a->inside)
		if (gy_engine_progress(e))
			idle = 0;
		else
			gy_engine_wait_step(e, &idle);
	a->spare = NULL;
	return a->result;
}

int gyre_comm_agree(struct gyre_comm *comm, uint64_t *flags)
{
	struct gy_engine *e;
	int err;

	if (!comm || !flags) {
		gy_err("gyre_comm_agree: %s is NULL", comm ? "flags" : "comm");
		return -EINVAL;
	}
	e = &comm->ctx->engine;
	gy_engine_enter(e);
	err = shrink_agree(comm, GY_AGREE_FLAGS, *flags, NULL);
	if (!err || err == -EOWNERDEAD)
		*flags = comm->agree->decision.flags;
	gy_engine_exit(e);
	return err;
}

/* mine becomes the communicator of those who are not dead. */
static int shrink_open(const struct gyre_comm *comm, struct gyre_comm *mine)
{
	const struct gy_agree_value *v = &comm->agree->decision;
	int r, n = 0, rank = 0;

	if (!v->id) {
		gy_err("gyre_comm_shrink: a rank has named as many communicators as it can");
		return -ENOSPC;
	}
	for (r = 0; r < comm->size; r++) {
		if (gy_set_has(v->failed, r))
			continue;
		if (r == comm->rank)
			rank = n;
		mine->ranks[n++] = comm->ranks[r];
	}
	return gy_comm_open(mine, v->id, mine->ranks, n, rank);
}

int gyre_comm_shrink(struct gyre_comm *comm, struct gyre_comm **newp)
{
	struct gyre_comm *mine;
	struct gy_engine *e;
	int err;

	if (!comm || !newp) {
		gy_err("gyre_comm_shrink: %s is NULL", comm ? "newp" : "comm");
		return -EINVAL;
	}
	e = &comm->ctx->engine;
	gy_engine_enter(e);
	mine = gy_comm_alloc(comm->ctx, comm->size);
	/* Who has no memory for it says so, and nobody makes it. */
	err = shrink_agree(comm, GY_AGREE_SHRINK, mine ? UINT64_MAX : 0, mine);
	if (!err || err == -EOWNERDEAD) {
		err = comm->agree->decision.flags ? shrink_open(comm, mine) : -ENOMEM;
	}
	if (!err)
		*newp = mine;
	else if (mine)
		gy_comm_free(mine);
	gy_engine_exit(e);
	return err;
}
