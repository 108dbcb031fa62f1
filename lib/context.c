/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * context.c - joining a job and leaving it.
 *
 * The ranks exchange two blobs.  First: which node, which version and settings, and rank 0's job
 * key;
 * from it each knows whether all are on one node, and refuses ranks that do not fit.  Then
 * listeners and
 * transports open, and their addresses are exchanged.  No connection is made here.
 */
#include "lib/context.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/boot.h"
#include "lib/comm.h"
#include "lib/log.h"
#include "lib/peer.h"

#define WIRE_VERSION 3

struct first_blob {
	uint32_t version;
	int32_t rank;
	uint64_t node[2];
	uint8_t key[16];
	char settings[480];	/* "name=value name=value": those that change the wire */
};

/* How the ranks of this job talk before there are connections. */
struct gather {
	int (*fn)(void *arg, const void *in, void *out, size_t len);
	void *arg;
	struct gy_boot *boot;	/* NULL: the caller's own */
};

/* A caller's own function may not keep to -errno. */
static int gather_all(const struct gather *g, const void *in, void *out, size_t len)
{
	const int err = g->fn(g->arg, in, out, len);

	if (err > 0)
		gy_err("gyre_context_create: attr->allgather returned %d, neither 0 nor -errno",
		       err);
	return err > 0 ? -EPROTO : err;
}

static int gather_alone(void *arg, const void *in, void *out, size_t len)
{
	memcpy(out, in, len);
	return 0;
}

static int hex_key(const char *hex, uint8_t key[16])
{
	unsigned i, byte;

	for (i = 0; i < 16; i++) {
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		key[i] = (uint8_t)byte;
	}
	return hex[32] ? -EINVAL : 0;
}

static int context_attr(struct gyre_context *ctx, const struct gyre_context_attr *attr)
{
	struct gy_config *cfg = &ctx->cfg;

	ctx->rank = cfg->rank < 0 ? 0 : cfg->rank;
	ctx->nranks = cfg->size < 0 ? 1 : cfg->size;
	if (attr && attr->size < sizeof(*attr)) {
		gy_err("gyre_context_create: attr->size is %zu, must be "
		       "sizeof(struct gyre_context_attr)",
		       attr->size);
		return -EINVAL;
	}
	if (attr && (unsigned)attr->progress > GYRE_PROGRESS_MANUAL) {
		gy_err("gyre_context_create: attr->progress is not an enum gyre_progress");
		return -EINVAL;
	}
	if (attr && attr->allgather) {
		ctx->rank = attr->rank;
		ctx->nranks = attr->nranks;
	}
	if (ctx->nranks < 1 || ctx->nranks > UINT16_MAX || ctx->rank < 0 ||
	    ctx->rank >= ctx->nranks) {
		gy_err("gyre_context_create: rank %d of %d: need 0 <= rank < nranks <= %d",
		       ctx->rank, ctx->nranks, UINT16_MAX);
		return -EINVAL;
	}
	if (attr && attr->transport &&
	    gy_config_set(cfg, "transport", attr->transport, GY_CONFIG_DEFAULT, "attr->transport"))
		return -EINVAL;
	if (attr && attr->progress != GYRE_PROGRESS_DEFAULT)
		cfg->progress = attr->progress == GYRE_PROGRESS_MANUAL ? GY_CONFIG_PROGRESS_MANUAL
								       : GY_CONFIG_PROGRESS_THREAD;
	return 0;
}

static int gather_open(struct gyre_context *ctx, const struct gyre_context_attr *attr,
		       struct gather *g)
{
	const struct gy_config *cfg = &ctx->cfg;
	const bool have_key = cfg->job_key[0] != 0;
	unsigned i;
	int err;

	*g = (struct gather){ .fn = gather_alone };
	if (have_key) {
		err = hex_key(cfg->job_key, ctx->job_key);
		if (err) {
			gy_err("GYRE_JOB_KEY: must be 32 hexadecimal digits");
			return err;
		}
	} else {
		for (i = 0; i < 2; i++) {
			const uint64_t r = ctx->sys->ops->random(ctx->sys);

			memcpy(ctx->job_key + 8 * i, &r, 8);
		}
	}
	if (attr && attr->allgather) {
		g->fn = attr->allgather;
		g->arg = attr->allgather_arg;
		return 0;
	}
	if (ctx->nranks == 1)
		return 0;
	if (!cfg->root[0]) {
		gy_err("GYRE_ROOT is not set: start the program by gyrerun, or set it to "
		       "host:port of rank 0");
		return -EINVAL;
	}
	err = gy_boot_join(cfg->root, ctx->rank, ctx->nranks, ctx->rank == 0, ctx->job_key,
			   have_key, cfg->boot_timeout_ms, &g->boot);
	g->fn = gy_boot_allgather;
	g->arg = g->boot;
	return err;
}

/* ---- first exchange ---- */

static void settings_text(const struct gy_config *cfg, char *buf, size_t len)
{
	const struct gy_config_entry *entry;
	size_t i, used = 0;
	char value[256];

	buf[0] = 0;
	for (i = 0; (entry = gy_config_entry(i)); i++) {
		if (!(entry->flags & GY_CONFIG_WIRE) || used >= len)
			continue;
		gy_config_value(cfg, i, value, sizeof(value));
		used += (size_t)snprintf(buf + used, len - used, "%s=%s ", entry->name, value);
	}
}

static int blob_check(const struct first_blob *all, int rank)
{
	const struct first_blob *b = &all[rank];

	if (b->version != all[0].version || b->rank != rank) {
		gy_err("rank %d speaks version %u of the protocol and calls itself rank %d; "
		       "rank 0 speaks version %u",
		       rank, b->version, b->rank, all[0].version);
		return -EPROTO;
	}
	if (strncmp(b->settings, all[0].settings, sizeof(b->settings))) {
		gy_err("settings differ: rank 0 has %.*s; rank %d has %.*s",
		       (int)sizeof(b->settings), all[0].settings, rank, (int)sizeof(b->settings),
		       b->settings);
		return -EPROTO;
	}
	return 0;
}

/* *here: how many ranks are on this node. */
static int exchange_first(struct gyre_context *ctx, const struct gather *g, int *here)
{
	struct first_blob own = { .version = WIRE_VERSION, .rank = ctx->rank }, *all;
	int i, err;

	all = gy_alloc_array(ctx->nranks, sizeof(*all));
	if (!all)
		return -ENOMEM;
	ctx->sys->ops->node(ctx->sys, own.node);
	memcpy(own.key, ctx->job_key, sizeof(own.key));
	settings_text(&ctx->cfg, own.settings, sizeof(own.settings));
	err = gather_all(g, &own, all, sizeof(own));
	*here = 0;
	for (i = 0; i < ctx->nranks && !err; i++) {
		err = blob_check(all, i);
		*here += !memcmp(all[i].node, own.node, sizeof(own.node));
	}
	if (!err)
		memcpy(ctx->job_key, all[0].key, sizeof(ctx->job_key));
	gy_free(all);
	return err;
}

/* ---- transports and addresses ---- */

static const char *const transport_names[] = {
	[GY_CONFIG_TRANSPORT_AUTO] = "auto",
	[GY_CONFIG_TRANSPORT_SHM] = "shm",
	[GY_CONFIG_TRANSPORT_VERBS] = "verbs",
	[GY_CONFIG_TRANSPORT_TCP] = "tcp",
	[GY_CONFIG_TRANSPORT_SIM] = "sim",
};

static bool transport_wanted(const struct gyre_context *ctx, const char *name)
{
	const int t = ctx->cfg.transport;

	if (ctx->sim)
		return !strcmp(name, "sim");
	return t == GY_CONFIG_TRANSPORT_AUTO || !strcmp(name, transport_names[t]);
}

static int transports_open(struct gyre_context *ctx, struct gy_job_entry *own)
{
	int i, n, err, opened = 0;

	for (i = 0; gy_transports[i]; i++) {
		const struct gy_transport_ops *ops = gy_transports[i];

		if (!transport_wanted(ctx, ops->name))
			continue;
		err = ops->open(ctx, &ctx->nics[i]);
		if (err == -EOPNOTSUPP && ctx->cfg.transport == GY_CONFIG_TRANSPORT_AUTO)
			continue;
		if (err) {
			gy_err("transport %s cannot be opened: %s", ops->name, gyre_strerror(err));
			return err;
		}
		n = ops->describe(ctx->nics[i], own->blob[i].bytes, sizeof(own->blob[i].bytes));
		if (n < 0)
			return n;
		own->blob[i].len = (uint16_t)n;
		opened++;
	}
	if (opened || ctx->nranks == 1)
		return 0;
	gy_err("no transport works here (GYRE_TRANSPORT restricts the choice)");
	return -EOPNOTSUPP;
}

static int exchange_second(struct gyre_context *ctx, const struct gather *g, int here)
{
	struct gy_job_entry *own = gy_alloc(sizeof(*own));
	int i, err = 0;

	if (!own)
		return -ENOMEM;
	ctx->sys->ops->node(ctx->sys, own->node);
	if (!ctx->sim && ctx->cfg.spin_us < 0 && here > 1)
		own->procs = gy_topology_procs(&ctx->topology);
	if (!ctx->sim && ctx->nranks > 1)
		err = gy_wire_open(ctx, here == ctx->nranks, &ctx->wire, &own->addr);
	if (!err)
		err = transports_open(ctx, own);
	/*
	 * A rank that failed must still take part, or the others would wait: it says so by node
	 * 0.
	 */
	if (err)
		memset(own, 0, sizeof(*own));
	i = gather_all(g, own, ctx->job, sizeof(*own));
	gy_free(own);
	if (err || i)
		return err ? err : i;
	for (i = 0; i < ctx->nranks; i++) {
		if (!ctx->job[i].node[0]) {
			gy_err("rank %d could not open its transports; its own messages say why",
			       i);
			return -ECONNREFUSED;
		}
		if (i != ctx->rank && gy_peer_transport(ctx, i) < 0) {
			gy_err("no transport joins rank %d and rank %d (GYRE_TRANSPORT=%s)",
			       ctx->rank, i, transport_names[ctx->cfg.transport]);
			return -EHOSTUNREACH;
		}
	}
	return 0;
}

/* ---- create and destroy ---- */

/* Polls before a waiter yields: none when this rank has to share its processors with others. */
static uint32_t context_spin(const struct gyre_context *ctx)
{
	const struct gy_job_entry *own = &ctx->job[ctx->rank];
	int i, sharers = 0;

	if (ctx->sim)
		return 0;
	if (ctx->cfg.spin_us >= 0)
		return (uint32_t)ctx->cfg.spin_us * 20;
	for (i = 0; i < ctx->nranks; i++)
		sharers += !memcmp(ctx->job[i].node, own->node, sizeof(own->node)) &&
			   gy_procs_meet(&ctx->job[i].procs, &own->procs);
	return sharers > 1 && sharers > own->procs.count ? 0 : 2000;
}

static int context_world(struct gyre_context *ctx)
{
	int *ranks = gy_alloc_array(ctx->nranks, sizeof(*ranks));
	int i, err;

	if (!ranks)
		return -ENOMEM;
	for (i = 0; i < ctx->nranks; i++)
		ranks[i] = i;
	err = gy_comm_create(ctx, 0, ranks, ctx->nranks, ctx->rank, &ctx->engine.world);
	gy_free(ranks);
	return err;
}

/* Who is joined by what, as far as is known before there are connections. */
static void context_say(const struct gyre_context *ctx)
{
	char text[160] = "";
	size_t used = 0;
	int t, i, n;

	for (t = 0; gy_transports[t] && used < sizeof(text); t++) {
		n = 0;
		for (i = 0; i < ctx->nranks; i++)
			n += i != ctx->rank && gy_peer_transport(ctx, i) == t;
		if (n)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %d by %s",
						 used ? "," : ":", n, gy_transports[t]->name);
	}
	gy_info("%d rank%s%s", ctx->nranks, ctx->nranks == 1 ? "" : "s", text);
}

static void context_free(struct gyre_context *ctx, bool drain)
{
	struct gy_engine *e = &ctx->engine;
	struct gy_list *pos;
	unsigned i;

	gy_engine_stop(e);
	if (e->ctx) {
		gy_engine_enter(e);
		e->leaving = true;
		if (!drain)
			gy_peers_abandon(e);
		gy_list_for_each(pos, &e->comms) {
			struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

			if (!gy_list_empty(&comm->runs) || !gy_list_empty(&comm->posted))
				gy_comm_fail(comm, -ECANCELED,
					     "rank %d left with operations active", comm->rank);
			if (!drain)
				gy_comm_stop(comm, -ECANCELED);	/* killed while it failed */
		}
		gy_peers_close(e, drain);
		while ((pos = gy_list_first(&e->comms)))
			gy_comm_free(gy_list_entry(pos, struct gyre_comm, link));
		while ((pos = gy_list_first(&e->past)))
			gy_comm_free(gy_list_entry(pos, struct gyre_comm, link));
		while ((pos = gy_list_first(&e->coming)))
			gy_comm_free(gy_list_entry(pos, struct gyre_comm, link));
		gy_engine_leave(e);
		gy_engine_fini(e);
	}
	for (i = 0; i < GY_MAX_TRANSPORTS; i++)
		if (ctx->nics[i])
			ctx->nics[i]->ops->close(ctx->nics[i]);
	if (ctx->wire)
		gy_wire_close(ctx->wire);
	gy_poll_close(&ctx->poll);
	gy_topology_fini(&ctx->topology);
	gy_free(ctx->job);
	gy_free(ctx);
}

/* All but what needs the other ranks. */
static int context_alloc(struct gy_sys *sys, void *sim, const struct gy_config *cfg,
			 const struct gyre_context_attr *attr, struct gyre_context **ctxp)
{
	struct gyre_context *ctx = gy_alloc_aligned(_Alignof(struct gyre_context), sizeof(*ctx));
	int err = 0;

	if (!ctx)
		return -ENOMEM;
	ctx->sys = sys;
	ctx->sim = sim;
	ctx->poll = (struct gy_poll){ .epfd = -1, .doorbell = -1 };
	if (cfg)
		ctx->cfg = *cfg;
	else
		err = gy_config_load(&ctx->cfg);
	if (!err)
		err = context_attr(ctx, attr);
	if (!err && !sim)
		err = gy_poll_open(&ctx->poll);
	if (!err) {
		ctx->job = gy_alloc_array(ctx->nranks, sizeof(*ctx->job));
		err = ctx->job ? 0 : -ENOMEM;
	}
	if (err) {
		context_free(ctx, false);
		return err;
	}
	*ctxp = ctx;
	return 0;
}

int gy_context_create(const struct gyre_context_attr *attr, struct gy_sys *sys, void *sim,
		      const struct gy_config *cfg, struct gyre_context **ctxp)
{
	struct gyre_context *ctx;
	struct gather g = { .boot = NULL };
	int here, err;

	if (!ctxp) {
		gy_err("gyre_context_create: ctxp is NULL");
		return -EINVAL;
	}
	err = context_alloc(sys, sim, cfg, attr, &ctx);
	if (err)
		return err;
	if (!sim)
		gy_log_set_rank(ctx->rank);
	err = gather_open(ctx, attr, &g);
	if (!err)
		err = exchange_first(ctx, &g, &here);
	if (!err)
		err = gy_engine_init(&ctx->engine, ctx);
	if (!err)
		err = exchange_second(ctx, &g, here);
	if (g.boot)
		gy_boot_leave(g.boot);
	if (!err)
		err = context_world(ctx);
	if (!err) {
		ctx->engine.spin = context_spin(ctx);
		if (ctx->cfg.progress == GY_CONFIG_PROGRESS_THREAD && ctx->nranks > 1)
			err = gy_engine_start_thread(&ctx->engine);
	}
	if (err) {
		context_free(ctx, false);
		return err;
	}
	context_say(ctx);
	*ctxp = ctx;
	return 0;
}

int gyre_context_create(const struct gyre_context_attr *attr, struct gyre_context **ctxp)
{
	return gy_context_create(attr, &gy_sys_posix, NULL, NULL, ctxp);
}

void gyre_context_destroy(struct gyre_context *ctx)
{
	if (ctx)
		context_free(ctx, true);
}

void gy_context_abandon(struct gyre_context *ctx)
{
	/* The simulator has dropped all its threads. */
	ctx->engine.thread = NULL;
	atomic_store(&ctx->engine.poller, GY_POLLER_NONE);
	atomic_store(&ctx->engine.token, 0);
	context_free(ctx, false);
}

struct gyre_comm *gyre_context_world(struct gyre_context *ctx)
{
	return ctx ? ctx->engine.world : NULL;
}

int gyre_progress(struct gyre_context *ctx)
{
	struct gy_engine *e;

	if (!ctx) {
		gy_err("gyre_progress: ctx is NULL");
		return -EINVAL;
	}
	e = &ctx->engine;
	gy_engine_enter(e);
	gy_engine_progress(e);
	gy_engine_leave(e);
	return 0;
}
