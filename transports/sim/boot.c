/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot.c - contexts of simulated ranks, and the allgather by which they meet.
 */
#include <errno.h>
#include <string.h>
#include <gyre/context.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

struct sim_context {
	struct gy_list link;		/* struct gy_sim_rank.made */
	struct gyre_context *ctx;
};

/* One round of all ranks. */
struct sim_gather {
	struct gy_list link;		/* struct gy_sim_world.gathers */
	unsigned seq;
	int come, left;
	size_t len;
	uint8_t data[];
};

static struct sim_gather *boot_gather(struct gy_sim_world *w, unsigned seq, size_t len)
{
	struct sim_gather *g;
	struct gy_list *pos;

	gy_list_for_each(pos, &w->gathers) {
		g = gy_list_entry(pos, struct sim_gather, link);
		if (g->seq == seq)
			return g;
	}
	g = gy_alloc(sizeof(*g) + (size_t)w->attr.nranks * len);
	if (!g)
		return NULL;
	g->seq = seq;
	g->len = len;
	gy_list_add_tail(&w->gathers, &g->link);
	return g;
}

/* Whether somebody who has not come yet never will. */
static bool boot_hopeless(const struct gy_sim_world *w, const struct sim_gather *g)
{
	int i;

	for (i = 0; i < w->attr.nranks; i++) {
		if (w->ranks[i].gone && w->ranks[i].gathers <= g->seq)
			return true;
	}
	return false;
}

static void boot_wake(struct gy_sim_world *w, const struct sim_gather *g)
{
	struct gy_list *pos;
	int i;

	for (i = 0; i < w->attr.nranks; i++) {
		gy_list_for_each(pos, &w->ranks[i].threads) {
			struct gy_thread *t = gy_list_entry(pos, struct gy_thread, link);

			if (t->wait == SIM_GATHER && t->what == g)
				sim_thread_wake(t);
		}
	}
}

static int boot_allgather(void *arg, const void *in, void *out, size_t len)
{
	struct gy_sim_rank *rank = arg;
	struct gy_sim_world *w = rank->world;
	const int nranks = w->attr.nranks;
	struct sim_gather *g = boot_gather(w, rank->gathers, len);

	if (!g)
		return -ENOMEM;
	if (g->len != len)
		return -EPROTO;
	rank->gathers++;
	memcpy(g->data + (size_t)rank->id * len, in, len);
	if (++g->come == nranks)
		boot_wake(w, g);
	while (g->come < nranks) {
		if (boot_hopeless(w, g))
			return -ECONNRESET;
		sim_block(w, SIM_GATHER, g, SIM_NEVER);
	}
	memcpy(out, g->data, (size_t)nranks * len);
	if (++g->left == nranks) {
		gy_list_del(&g->link);
		gy_free(g);
	}
	return 0;
}

void sim_gathers_fail(struct gy_sim_world *w)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &w->gathers)
		boot_wake(w, gy_list_entry(pos, struct sim_gather, link));
}

void sim_gathers_free(struct gy_sim_world *w)
{
	while (!gy_list_empty(&w->gathers))
		gy_free(gy_list_entry(gy_list_pop(&w->gathers), struct sim_gather, link));
}

/* Nothing is computed, and one table of the job is enough for all ranks. */
static void boot_slim(struct gy_sim_world *w, struct gyre_context *ctx)
{
	ctx->engine.kernels = &gy_kernels_none;
	if (w->job)
		gy_free(ctx->job);
	else
		w->job = ctx->job;
	ctx->job = w->job;
}

int gy_sim_context(struct gy_sim_rank *rank, const struct gy_config *cfg,
		   struct gyre_context **ctxp)
{
	struct gyre_context_attr attr = {
		.size = sizeof(attr),
		.rank = rank->id,
		.nranks = rank->world->attr.nranks,
		.allgather = boot_allgather,
		.allgather_arg = rank,
		.transport = "sim",
	};
	struct sim_context *made = gy_alloc(sizeof(*made));
	struct gy_config own;
	int err;

	if (!made)
		return -ENOMEM;
	gy_assert_always(!rank->world->attr.no_data || !rank->contexts);
	if (!cfg) {
		gy_config_init(&own);
		cfg = &own;
	}
	rank->contexts++;
	err = gy_context_create(&attr, &rank->sys, rank, cfg, &made->ctx);
	if (err) {
		gy_free(made);
		return err;
	}
	if (rank->world->attr.no_data)
		boot_slim(rank->world, made->ctx);
	gy_list_add_tail(&rank->made, &made->link);
	*ctxp = made->ctx;
	return 0;
}

void sim_context_forget(struct gy_sim_rank *rank, const struct gyre_context *ctx)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &rank->made) {
		struct sim_context *made = gy_list_entry(pos, struct sim_context, link);

		if (made->ctx == ctx) {
			gy_list_del(pos);
			gy_free(made);
		}
	}
}

void sim_contexts_abandon(struct gy_sim_rank *rank)
{
	struct sim_context *made;
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->nics) {
		struct sim_nic *nic = gy_list_entry(pos, struct sim_nic, link);

		nic->base.recalls = &nic->unsaid;
	}
	while (!gy_list_empty(&rank->made)) {
		made = gy_list_entry(gy_list_pop(&rank->made), struct sim_context, link);
		gy_context_abandon(made->ctx);
		gy_free(made);
	}
}
