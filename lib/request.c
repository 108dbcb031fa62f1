/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c - requests: the cache, and the public test, wait, start and free.
 * Locking: each function takes the token where it touches the engine; test reads an atomic first.
 */
#include "lib/request.h"

#include <errno.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"

struct gyre_request *gy_request_get(struct gy_engine *e)
{
	struct gyre_request *req = e->free_requests;

	if (gy_likely(req != NULL)) {
		e->free_requests = (struct gyre_request *)req->link.next;
		gy_list_init(&req->link);
		return req;
	}
	req = gy_alloc(sizeof(*req));
	if (!req)
		return NULL;
	req->engine = e;
	gy_list_init(&req->link);
	gy_list_init(&req->run.link);
	gy_list_init(&req->run.comm_link);
	gy_list_add_tail(&e->requests, &req->all_link);
	return req;
}

void gy_request_put(struct gy_engine *e, struct gyre_request *req)
{
	req->active = false;
	req->run.owned = false;
	atomic_store_explicit(&req->run.state, GY_RUN_IDLE, memory_order_relaxed);
	req->link.next = (struct gy_list *)e->free_requests;
	e->free_requests = req;
}

void gy_requests_free(struct gy_engine *e)
{
	struct gy_list *pos;

	while ((pos = gy_list_pop(&e->requests))) {
		struct gyre_request *req = gy_list_entry(pos, struct gyre_request, all_link);

		gy_run_fini(&req->run);
		gy_free(req);
	}
}

void gy_request_done(struct gy_engine *e, struct gyre_request *req, int err)
{
	req->run.err = err;
	if (req->run.owned)
		gy_ports_wake(e);
	/* Pairs with the acquire loads of test and wait. */
	atomic_store_explicit(&req->run.state, GY_RUN_DONE, memory_order_release);
	gy_engine_notify(e);
}

void gy_request_await(struct gy_engine *e, struct gyre_request *req)
{
	if (gy_unlikely(!req->run.plan)) {
		req->run.moved_ns = e->now_ns;
		req->awaited = true;
	}
	gy_engine_wait(e, &req->run);
	req->awaited = false;
}

/* Reports a complete request to its user: frees it, or makes it inactive.  Token held. */
static int request_finish(struct gyre_request **reqp, struct gyre_status *status)
{
	struct gyre_request *req = *reqp;
	const int err = req->run.err;

	if (status)
		*status = req->status;
	req->active = false;
	if (!req->persistent) {
		*reqp = NULL;
		gy_request_put(req->engine, req);
	}
	return err;
}

static bool request_is_done(struct gyre_request *req)
{
	return atomic_load_explicit(&req->run.state, memory_order_acquire) == GY_RUN_DONE;
}

int gyre_request_start(struct gyre_request *req)
{
	struct gy_engine *e;
	int err;

	if (!req || !req->persistent || req->active || !req->comm) {
		gy_err("gyre_request_start: %s",
		       !req		  ? "req is NULL"
		       : req->active	  ? "req is active: wait for it first"
		       : !req->persistent ? "req is not persistent: only gyre_..._init makes such"
					  : "req: its communicator was destroyed; free it");
		return -EINVAL;
	}
	e = req->engine;
	gy_engine_enter(e);
	err = req->kind == GY_REQ_COLL ? gy_coll_start(e, req, false) : gy_p2p_start(e, req);
	gy_engine_exit(e);
	return err;
}

int gyre_request_test(struct gyre_request **reqp, int *done, struct gyre_status *status)
{
	struct gyre_request *req;
	struct gy_engine *e;
	int err = 0;

	if (!reqp || !done) {
		gy_err("gyre_request_test: %s is NULL", reqp ? "done" : "req");
		return -EINVAL;
	}
	req = *reqp;
	*done = 1;
	if (!req || !req->active)
		return 0;
	e = req->engine;
	gy_engine_enter(e);
	if (!request_is_done(req))
		gy_engine_progress(e);
	if (request_is_done(req))
		err = request_finish(reqp, status);
	else
		*done = 0;
	gy_engine_leave(e);
	return err;
}

int gyre_request_wait(struct gyre_request **reqp, struct gyre_status *status)
{
	struct gyre_request *req;
	struct gy_engine *e;
	int err;

	if (!reqp) {
		gy_err("gyre_request_wait: req is NULL");
		return -EINVAL;
	}
	req = *reqp;
	if (!req || !req->active)
		return 0;
	e = req->engine;
	gy_engine_enter(e);
	gy_request_await(e, req);
	err = request_finish(reqp, status);
	gy_engine_exit(e);
	return err;
}

int gyre_request_waitall(size_t n, struct gyre_request **reqs, struct gyre_status *statuses)
{
	int err = 0, one;
	size_t i;

	if (n && !reqs) {
		gy_err("gyre_request_waitall: reqs is NULL");
		return -EINVAL;
	}
	for (i = 0; i < n; i++) {
		one = gyre_request_wait(&reqs[i], statuses ? &statuses[i] : NULL);
		if (!err)
			err = one;
	}
	return err;
}

int gyre_request_free(struct gyre_request *req)
{
	struct gy_engine *e;

	if (!req)
		return 0;
	if (req->active || !req->persistent) {
		gy_err("gyre_request_free: req is %s",
		       req->active ? "active: wait for it first"
				   : "not persistent: test and wait free it");
		return req->active ? -EBUSY : -EINVAL;
	}
	e = req->engine;
	gy_engine_enter(e);
	req->persistent = false;
	gy_request_put(e, req);
	gy_engine_leave(e);
	return 0;
}
