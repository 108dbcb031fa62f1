/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_COMM_H
#define GYRE_COMM_H
/*
 * Communicators: ordered groups of ranks.  All ranks of a communicator call its collectives in
 * the same order.  After a failure in flight a communicator stays failed: every later call on it
 * returns the same error, and gyre_comm_status says why.
 */
#include <gyre/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* This process's rank in comm, and the number of ranks.  MT-Safe. */
int gyre_comm_rank(const struct gyre_comm *comm);
int gyre_comm_size(const struct gyre_comm *comm);

/*
 * Collective, blocking.  Ranks that give the same color >= 0 come into one new communicator,
 * ordered by (key, rank in comm); color -1 gives *newp = NULL.  The new communicator is the
 * caller's; free it by gyre_comm_destroy.  MT-Safe.  Errors: -EINVAL, -ENOMEM (of any rank, on
 * all), -ENOSPC (after 2^32 / ranks splits of one rank 0), the failure of comm.
 */
int gyre_comm_split(struct gyre_comm *comm, int color, int key, struct gyre_comm **newp);

/*
 * Collective, blocking; also on a communicator that has failed.  The members that are left agree:
 * *flags becomes the bitwise and of the flags of all that took part, the same on all, and who is
 * dead is the same for all.  0: nobody is, but those of whom an earlier agreement or shrink has
 * told; -EOWNERDEAD: some are, and *flags is set all the same.  Only one call of agree and shrink
 * at a time on a communicator, by all members in the same order.  MT-Safe.  Errors, of which
 * *flags stays as it was: -EINVAL, -EBUSY (this rank has not taken part), -EPROTO (some called
 * gyre_comm_shrink); and for good, for this rank: -ENETUNREACH (no majority of the members is left,
 * nor half of them with rank 0), -ESTALE (the others have agreed that this rank is dead),
 * -ETIMEDOUT (a rank has not called for GYRE_STALL_TIMEOUT_MS).
 */
int gyre_comm_agree(struct gyre_comm *comm, uint64_t *flags);

/*
 * Likewise, and *newp is a communicator of the members that are left, in the same order, which
 * works; it is the caller's, as comm still is.  Errors: as gyre_comm_agree, but -EOWNERDEAD; and on
 * all ranks -ENOSPC and -ENOMEM, as gyre_comm_split.
 */
int gyre_comm_shrink(struct gyre_comm *comm, struct gyre_comm **newp);

/*
 * Local.  Operations that are still active on comm end with -ECANCELED, and those of ranks that
 * wait for this one there with that or -EPROTO.  Requests that are left, persistent ones too, can
 * still be waited for and must be freed, but not started.  NULL is fine; the world is left to its
 * context.
 */
void gyre_comm_destroy(struct gyre_comm *comm);

/*
 * 0 while comm works, else its sticky -errno; the cause as text (ranks, calls, system message)
 * goes to buf, at most len bytes with the final 0.  Never blocks.  MT-Safe.
 */
int gyre_comm_status(const struct gyre_comm *comm, char *buf, size_t len);

/*
 * How the collective coll ("allreduce", "reduce_scatter", "allgather", "broadcast", "barrier", or
 * "send" for a message) would run with bytes of data, the in or out argument, whichever is larger:
 * "algorithm=ring transport=shm", several transports as "shm+tcp".  For people: later versions
 * append words.  The text goes to buf, at most len bytes with the final 0.  Local.  MT-Safe.
 * Errors: -EINVAL (no such collective).
 */
int gyre_comm_describe(struct gyre_comm *comm, const char *coll, size_t bytes, char *buf,
		       size_t len);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
