/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_COLL_H
#define GYRE_COLL_H
/*
 * Collectives.  Counts are elements of type, per rank as said at each; any count, 0 included, and
 * any number of ranks.  All ranks of the communicator make the same calls in the same order with
 * the same count, type, op and root; calls that do not match end in -EPROTO on every rank, naming
 * both.  Each comes in three forms:
 *
 *   gyre_X(..., comm)		blocking: result and buffers are the caller's on return
 *   gyre_iX(..., comm, &req)	nonblocking: buffers are lent until req completes
 *   gyre_X_init(..., comm, &req)	persistent: nothing starts; gyre_request_start starts it, as
 *				often as wanted; buffers are lent while it is active
 *
 * Return 0 or -errno.  -EINVAL: a bad argument, named in the log; nothing has started.  -EAGAIN
 * (nonblocking): too many operations outstanding, nothing has started.  -ENOMEM.  -EPROTO: ranks'
 * calls do not match.  -ECONNRESET: a rank died, -ETIMEDOUT: a host vanished or a rank stalled
 * (gyre_comm_status names it); the communicator has failed and out is undefined.
 * MT-Safe; calls on one communicator from several threads need an order of the caller's making.
 */
#include <gyre/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* As the in argument: the input lies in out, see each collective. */
#define GYRE_IN_PLACE ((const void *)-1)

/*
 * out[i] = in_0[i] op in_1[i] op ... over all ranks, on every rank, bitwise equal everywhere.
 * in, out: count elements each; in may be GYRE_IN_PLACE (then out holds the input), else the two
 * must not overlap.
 */
int gyre_allreduce(const void *in, void *out, size_t count, enum gyre_type type,
		   enum gyre_op op, struct gyre_comm *comm);
int gyre_iallreduce(const void *in, void *out, size_t count, enum gyre_type type,
		    enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_allreduce_init(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp);

/*
 * Block r of the reduced vector goes to rank r.  in: nranks * count elements; out: count elements.
 * With GYRE_IN_PLACE out holds the nranks * count input elements, and the result is its first
 * count; the rest is undefined afterwards.
 */
int gyre_reduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			enum gyre_op op, struct gyre_comm *comm);
int gyre_ireduce_scatter(const void *in, void *out, size_t count, enum gyre_type type,
			 enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_reduce_scatter_init(const void *in, void *out, size_t count, enum gyre_type type,
			     enum gyre_op op, struct gyre_comm *comm, struct gyre_request **reqp);

/*
 * Every rank gets every rank's count elements, in rank order.  in: count elements; out: nranks *
 * count.  With GYRE_IN_PLACE a rank's own block already lies at out + rank * count elements.
 */
int gyre_allgather(const void *in, void *out, size_t count, enum gyre_type type,
		   struct gyre_comm *comm);
int gyre_iallgather(const void *in, void *out, size_t count, enum gyre_type type,
		    struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_allgather_init(const void *in, void *out, size_t count, enum gyre_type type,
			struct gyre_comm *comm, struct gyre_request **reqp);

/* buf of rank root, count elements, goes to buf of every rank. */
int gyre_broadcast(void *buf, size_t count, enum gyre_type type, int root,
		   struct gyre_comm *comm);
int gyre_ibroadcast(void *buf, size_t count, enum gyre_type type, int root,
		    struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_broadcast_init(void *buf, size_t count, enum gyre_type type, int root,
			struct gyre_comm *comm, struct gyre_request **reqp);

/* Returns on no rank before every rank has called it. */
int gyre_barrier(struct gyre_comm *comm);
int gyre_ibarrier(struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_barrier_init(struct gyre_comm *comm, struct gyre_request **reqp);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
