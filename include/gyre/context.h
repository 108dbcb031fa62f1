/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_CONTEXT_H
#define GYRE_CONTEXT_H
/*
 * A context is one rank's share of a job: its listeners, connections, memory pool, engine and
 * (unless asked otherwise) progress thread.  A process may hold several; they are independent.
 */
#include <gyre/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

enum gyre_progress {
	GYRE_PROGRESS_DEFAULT,	/* GYRE_PROGRESS from the environment, else thread */
	GYRE_PROGRESS_THREAD,	/* a library thread moves data while no call of the user does */
	GYRE_PROGRESS_MANUAL	/* data move only inside gyre calls */
};

/*
 * Zero-initialise, set size = sizeof(struct gyre_context_attr), then what differs.
 * Without an allgather callback, rank and nranks come from GYRE_RANK and GYRE_SIZE and the ranks
 * meet at GYRE_ROOT (gyrerun sets all three); a process with none of them is a job of one rank.
 */
struct gyre_context_attr {
	size_t size;
	int rank;		/* with allgather: 0 <= rank < nranks; else ignored */
	int nranks;		/* with allgather: >= 1; else ignored */
	/*
	 * Blocking exchange of len bytes from each rank, rank order, into out (nranks * len bytes).
	 * Called only inside gyre_context_create, by the calling thread.  Returns 0 or -errno.
	 */
	int (*allgather)(void *arg, const void *in, void *out, size_t len);
	void *allgather_arg;
	/* "auto", "shm", "verbs", "tcp"; NULL: GYRE_TRANSPORT, else auto */
	const char *transport;
	enum gyre_progress progress;
};

/*
 * Joins the job.  Collective over all ranks; blocks until every rank has called it or the
 * bootstrap timeout (GYRE_BOOT_TIMEOUT_MS) is over.  attr may be NULL; it is read only during the
 * call.  On success *ctxp is owned by the caller, who frees it by gyre_context_destroy.
 * MT-Safe.  Errors: -EINVAL, -ENOMEM, -ETIMEDOUT, -ECONNREFUSED, -EACCES (job key), -EPROTO
 * (versions or settings of ranks do not fit), -EHOSTUNREACH (a pair that no transport joins).
 */
int gyre_context_create(const struct gyre_context_attr *attr, struct gyre_context **ctxp);

/*
 * Local.  Requests that are not complete are cancelled: their memory is the caller's again when
 * this returns.  Peers see this rank leave.  All communicators of the context are destroyed with
 * it.  NULL is fine.  MT-Unsafe: no other call on the context may run.
 */
void gyre_context_destroy(struct gyre_context *ctx);

/* The communicator of all ranks.  Owned by the context.  MT-Safe. */
struct gyre_comm *gyre_context_world(struct gyre_context *ctx);

/* Moves data without waiting; for GYRE_PROGRESS_MANUAL.  0 or -errno.  MT-Safe. */
int gyre_progress(struct gyre_context *ctx);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
