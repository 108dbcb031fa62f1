/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_REQUEST_H
#define GYRE_REQUEST_H
/*
 * Requests.  A nonblocking call (gyre_i...) gives a request that has started; an _init call gives
 * a persistent one that gyre_request_start starts, again and again.  A started request completes
 * exactly once: success, -errno, or -ECANCELED.  Buffers must live, and must not be touched,
 * until then.
 */
#include <gyre/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Of a completed receive: who sent, with which tag, how many elements. */
struct gyre_status {
	int source;
	int tag;
	size_t count;
};

/*
 * Starts a persistent request that is not active.  Nonblocking.  MT-Safe for different requests.
 * Errors: -EINVAL (not persistent, or active), -EAGAIN (too many operations outstanding: complete
 * one first), the failure of its communicator.  After an error nothing has started.
 */
int gyre_request_start(struct gyre_request *req);

/*
 * Nonblocking.  *done = 1 and the operation's result when it is complete, *done = 0 and 0 when
 * not.  A complete nonblocking request is freed and *req set to NULL; a persistent one becomes
 * inactive.  A NULL or inactive request is complete.  status may be NULL.
 * MT-Safe for different requests.
 */
int gyre_request_test(struct gyre_request **req, int *done, struct gyre_status *status);

/* As test, but blocks until complete.  Drives communication meanwhile. */
int gyre_request_wait(struct gyre_request **req, struct gyre_status *status);

/*
 * Waits for all n; reqs[i] and statuses[i] (statuses may be NULL) as for wait.  Returns 0 or the
 * error of the first (lowest i) that failed; all are complete either way.
 */
int gyre_request_waitall(size_t n, struct gyre_request **reqs, struct gyre_status *statuses);

/* Frees a persistent request that is not active: -EBUSY while it is.  NULL is fine. */
int gyre_request_free(struct gyre_request *req);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
