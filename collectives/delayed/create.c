/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/create.c - handles: attributes that are equal on all ranks, memory, and the
 * end.
 *
 * Memory, in vectors of count elements: base, anchor, and velocity with outer_lr (DELTA); model
 * (MODEL); avg, where it is needed; for each round own, and red of the wire's type; zeros, of which
 * nothing is ever written.
 * Failure: every rank learns of what is wrong on any, before a communicator is made.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gyre/coll.h>
#include <gyre/mem.h>
#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "lib/alloc.h"
#include "lib/log.h"

#define WHY_MAX 160

/* ---- agreement ---- */

enum field_kind {
	FIELD_SIZE,
	FIELD_INT,
	FIELD_DOUBLE,
	FIELD_GIVEN
};

#define FIELD(name, kind) \
	{ \
#name, kind, offsetof(struct gyre_delayed_attr, name) \
	}

/* What must be equal on all ranks; of functions, whether they are given. */
static const struct field {
	const char *name;
	enum field_kind kind;
	size_t off;
} fields[] = {
	FIELD(size, FIELD_SIZE),
	FIELD(count, FIELD_SIZE),
	FIELD(type, FIELD_INT),
	FIELD(wire, FIELD_INT),
	FIELD(payload, FIELD_INT),
	FIELD(trigger, FIELD_INT),
	FIELD(apply, FIELD_INT),
	FIELD(merge, FIELD_INT),
	FIELD(commit, FIELD_INT),
	FIELD(flags, FIELD_INT),
	FIELD(delay, FIELD_INT),
	FIELD(period, FIELD_INT),
	FIELD(phase, FIELD_INT),
	FIELD(switch_tick, FIELD_INT),
	FIELD(switch_period, FIELD_INT),
	FIELD(min_steps, FIELD_INT),
	FIELD(quorum, FIELD_INT),
	FIELD(grace_ms, FIELD_INT),
	FIELD(max_delay, FIELD_INT),
	FIELD(margin, FIELD_INT),
	FIELD(ring, FIELD_INT),
	FIELD(timeout_ms, FIELD_INT),
	FIELD(alpha, FIELD_DOUBLE),
	FIELD(outer_lr, FIELD_DOUBLE),
	FIELD(outer_momentum, FIELD_DOUBLE),
	FIELD(outer_nesterov, FIELD_INT),
	FIELD(outer, FIELD_GIVEN),
	FIELD(filter, FIELD_GIVEN),
	FIELD(adapt_max_delay, FIELD_INT),
	FIELD(adapt_max_period, FIELD_INT),
	FIELD(adapt_window, FIELD_INT),
};

/* A rank's part in the agreement. */
struct said {
	int32_t err;
	char why[WHY_MAX]; /* with err */
	uint64_t value[GY_ARRAY_SIZE(fields)];
};

static uint64_t field_value(const struct field *f, const struct gyre_delayed_attr *a)
{
	const char *at = (const char *)a + f->off;
	uint64_t value = 0;
	int (*given)(void);

	switch (f->kind) {
	case FIELD_GIVEN:
		memcpy(&given, at, sizeof(given));
		return given != NULL;
	case FIELD_INT:
		memcpy(&value, at, sizeof(int));
		return value;
	default:
		memcpy(&value, at, sizeof(value));
		return value;
	}
}

static void field_text(const struct field *f, uint64_t value, char *buf, size_t len)
{
	double number;

	if (f->kind == FIELD_DOUBLE) {
		memcpy(&number, &value, sizeof(number));
		snprintf(buf, len, "%.17g", number);
	} else if (f->kind == FIELD_GIVEN) {
		snprintf(buf, len, "%s", value ? "given" : "NULL");
	} else {
		snprintf(buf, len, "%llu", (unsigned long long)value);
	}
}

static gy_cold int said_refuse(const struct said *all, int rank)
{
	gy_err("gyre_delayed_create: %s on rank %d", all[rank].why, rank);
	return all[rank].err;
}

static gy_cold int said_differs(const struct said *all, int rank, const struct field *f)
{
	const size_t i = (size_t)(f - fields);
	char first[32], other[32];

	field_text(f, all[0].value[i], first, sizeof(first));
	field_text(f, all[rank].value[i], other, sizeof(other));
	gy_err("gyre_delayed_create: %s is %s on rank 0, and %s on rank %d", f->name, first, other,
	       rank);
	return -EINVAL;
}

/* The same answer on all ranks: what is wrong on the first that has an error, or differs. */
static int said_judge(const struct said *all, int n)
{
	size_t i;
	int r;

	for (r = 0; r < n; r++)
		if (all[r].err == -EINVAL)
			return said_refuse(all, r);
	for (i = 0; i < GY_ARRAY_SIZE(fields); i++)
		for (r = 1; r < n; r++)
			if (all[r].value[i] != all[0].value[i])
				return said_differs(all, r, &fields[i]);
	for (r = 0; r < n; r++)
		if (all[r].err)
			return said_refuse(all, r);
	return 0;
}

static int create_agree(struct said *own, struct gyre_comm *comm)
{
	const int n = gyre_comm_size(comm);
	struct said *all = gy_alloc_array((size_t)n, sizeof(*all));
	int err;

	if (!all) { /* or the others would wait */
		gy_engine_enter(&comm->ctx->engine);
		gy_comm_fail(comm, -ENOMEM, "rank %d has no memory for a delayed collective",
			     comm->rank);
		gy_engine_leave(&comm->ctx->engine);
		return -ENOMEM;
	}
	err = gyre_allgather(own, all, sizeof(*own), GYRE_UINT8, comm);
	if (!err)
		err = said_judge(all, n);
	gy_free(all);
	return err;
}

/* ---- memory ---- */

static int vector_get(struct gyre_delayed *d, enum gyre_type type, void **ptrp)
{
	return gyre_mem_alloc(d->ctx, d->attr.count * gyre_type_size(type), ptrp);
}

static int rounds_get(struct gyre_delayed *d)
{
	struct gy_engine *e = &d->ctx->engine;
	unsigned i;
	int err;

	for (i = 0; i < d->nrounds; i++) {
		struct gy_round *r = &d->rounds[i];

		gy_engine_enter(e);
		r->payload = gy_request_get(e);
		r->sum = gy_request_get(e);
		gy_engine_leave(e);
		if (!r->payload || !r->sum)
			return -ENOMEM;
		err = vector_get(d, d->attr.type, &r->own);
		if (!err)
			err = vector_get(d, d->attr.wire, &r->red);
		if (err)
			return err;
	}
	return 0;
}

static int vectors_get(struct gyre_delayed *d)
{
	const struct gyre_delayed_attr *a = &d->attr;
	int err = 0;

	if (a->payload == GYRE_PAYLOAD_DELTA) {
		err = vector_get(d, a->type, &d->base);
		if (!err)
			err = vector_get(d, a->type, &d->anchor);
		if (!err && a->outer_lr != 0)
			err = vector_get(d, a->type, &d->velocity);
	}
	if (!err && a->payload == GYRE_PAYLOAD_MODEL)
		err = vector_get(d, a->type, &d->model);
	if (!err && a->wire != a->type && (a->outer || a->payload == GYRE_PAYLOAD_RAW))
		err = vector_get(d, a->type, &d->avg);
	return err;
}

static int create_memory(struct gyre_delayed *d, int nranks)
{
	int err;

	d->nrounds = (unsigned)(d->attr.ring ? d->attr.ring : gy_delayed_ring(&d->attr));
	d->rounds = gy_alloc_array(d->nrounds, sizeof(*d->rounds));
	d->inflight = gy_alloc_array(d->nrounds, sizeof(*d->inflight));
	d->commit_ticks = gy_alloc_array(d->nrounds, sizeof(*d->commit_ticks));
	d->maxranks = nranks;
	d->members = gy_alloc_array((size_t)nranks, sizeof(*d->members));
	d->standings = gy_alloc_array((size_t)nranks, sizeof(*d->standings));
	if (!d->rounds || !d->inflight || !d->commit_ticks || !d->members || !d->standings) {
		gy_free(d->rounds);
		d->rounds = NULL;
		return -ENOMEM;
	}
	err = vector_get(d, d->attr.type, &d->zeros);
	if (!err)
		err = vectors_get(d);
	if (!err)
		err = rounds_get(d);
	return err ? err : gy_adapt_create(d);
}

static void request_drop(struct gyre_delayed *d, struct gyre_request *req)
{
	struct gy_engine *e = &d->ctx->engine;

	if (!req)
		return;
	gy_engine_enter(e);
	req->persistent = false;
	gy_request_put(e, req);
	gy_engine_leave(e);
}

static void delayed_free(struct gyre_delayed *d)
{
	unsigned i;

	for (i = 0; d->rounds && i < d->nrounds; i++) {
		request_drop(d, d->rounds[i].payload);
		request_drop(d, d->rounds[i].sum);
		gyre_mem_free(d->ctx, d->rounds[i].own);
		gyre_mem_free(d->ctx, d->rounds[i].red);
	}
	gy_adapt_destroy(d);
	gyre_mem_free(d->ctx, d->base);
	gyre_mem_free(d->ctx, d->anchor);
	gyre_mem_free(d->ctx, d->velocity);
	gyre_mem_free(d->ctx, d->model);
	gyre_mem_free(d->ctx, d->avg);
	gyre_mem_free(d->ctx, d->zeros);
	gy_free(d->standings);
	gy_free(d->members);
	gy_free(d->commit_ticks);
	gy_free(d->inflight);
	gy_free(d->rounds);
	gy_free(d);
}

/* ---- create ---- */

/* What this rank can say alone: its attributes are right, and it has the memory. */
static void create_local(struct gyre_delayed *d, const struct gyre_delayed_attr *attr, void *x,
			 const struct gyre_comm *comm, struct said *own)
{
	size_t i;

	if (!attr) {
		own->err = -EINVAL;
		snprintf(own->why, sizeof(own->why), "attr is NULL");
		return;
	}
	for (i = 0; i < GY_ARRAY_SIZE(fields); i++)
		if (i == 0 || attr->size == sizeof(*attr))
			own->value[i] = field_value(&fields[i], attr);
	own->err = gy_delayed_check(attr, comm->size, own->why, sizeof(own->why));
	if (own->err)
		return;
	if (!x != (attr->payload == GYRE_PAYLOAD_RAW)) {
		own->err = -EINVAL;
		snprintf(own->why, sizeof(own->why), "x is %s: payload %d", x ? "not NULL" : "NULL",
			 (int)attr->payload);
		return;
	}
	d->attr = *attr;
	d->x = x;
	own->err = create_memory(d, comm->size);
	if (own->err)
		snprintf(own->why, sizeof(own->why), "no memory for %u rounds of %zu elements: %s",
			 d->nrounds, attr->count, gyre_strerror(own->err));
}

static int create_comms(struct gyre_delayed *d, struct gyre_comm *comm)
{
	int err = gyre_comm_split(comm, 0, 0, &d->calls);

	return err ? err : gyre_comm_split(d->calls, 0, 0, &d->comm);
}

/* The model that all begin with. */
static int create_model(struct gyre_delayed *d)
{
	const size_t bytes = d->attr.count * gyre_type_size(d->attr.type);
	int err;

	if (d->attr.payload == GYRE_PAYLOAD_DELTA) {
		err = gyre_broadcast(d->x, d->attr.count, d->attr.type, 0, d->calls);
		if (err)
			return err;
		memcpy(d->base, d->x, bytes);
		memcpy(d->anchor, d->x, bytes);
	} else if (d->attr.payload == GYRE_PAYLOAD_MODEL) {
		memcpy(d->model, d->x, bytes);
	}
	return 0;
}

static void create_counts(struct gyre_delayed *d)
{
	d->weight = 1;
	d->last_post = d->attr.trigger == GYRE_TRIGGER_PERIOD ? d->attr.phase : 0;
	d->next = (uint64_t)d->attr.phase + d->attr.period;
	d->start = gy_delayed_is_led(d) ? 0 : GY_NO_TICK;
	d->switched = !d->attr.switch_tick;
}

int gyre_delayed_create(const struct gyre_delayed_attr *attr, void *x, struct gyre_comm *comm,
			struct gyre_delayed **dp)
{
	struct said own = { .err = 0 };
	struct gyre_delayed *d;
	int err;

	if (!comm || !dp) {
		gy_err("gyre_delayed_create: %s is NULL", comm ? "dp" : "comm");
		return -EINVAL;
	}
	d = gy_alloc(sizeof(*d));
	if (d) {
		d->ctx = comm->ctx;
		create_local(d, attr, x, comm, &own);
	} else {
		own.err = -ENOMEM;
		snprintf(own.why, sizeof(own.why), "no memory");
	}
	err = create_agree(&own, comm);
	if (!d)
		return -ENOMEM;
	if (!err)
		err = create_comms(d, comm);
	if (!err)
		err = create_model(d);
	if (err)
		goto destroy_comms;
	create_counts(d);
	gy_rounds_open(d);
	*dp = d;
	return 0;

destroy_comms:
	gyre_comm_destroy(d->comm);
	gyre_comm_destroy(d->calls);
	delayed_free(d);
	return err;
}

/* ---- the rest of a handle's life ---- */

void gyre_delayed_destroy(struct gyre_delayed *d)
{
	struct gy_engine *e;

	if (!d)
		return;
	e = &d->ctx->engine;
	gy_engine_enter(e);
	gy_rounds_pump(d);
	/* Others would wait for its rounds for ever. */
	if (gy_delayed_is_led(d) && d->drained != d->tick && !gy_delayed_status(d))
		gy_comm_fail(d->comm, -ECANCELED,
			     "rank %d has destroyed its delayed collective without a drain",
			     d->comm->rank);
	gy_engine_leave(e);
	gy_rounds_close(d);
	gyre_comm_destroy(d->calls);
	delayed_free(d);
}

int gyre_delayed_stats(const struct gyre_delayed *d, struct gyre_delayed_stats *stats)
{
	struct gy_engine *e;

	if (!d || !stats) {
		gy_err("gyre_delayed_stats: %s is NULL", d ? "stats" : "d");
		return -EINVAL;
	}
	e = &d->ctx->engine;
	gy_engine_enter(e);
	*stats = d->stats;
	stats->ticks = d->tick;
	stats->committed = d->committed;
	stats->delay = d->attr.delay;
	stats->period = d->attr.period;
	gy_engine_leave(e);
	return 0;
}
