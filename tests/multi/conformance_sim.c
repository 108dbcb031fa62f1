/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_sim.c - ranks as coroutines of the simulator, in one process: a world for each seed,
 * whose links have what the case needs, of latency, lanes, room and loss as the seed says.
 */
#include "tests/multi/conformance.h"

#include <errno.h>
#include <string.h>
#include <gyre/context.h>
#include <gyre/types.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/sim/sim.h"

#define SIM_STOP_NS 200000000	/* longer than anything that takes a rank for dead may wait */
#define SIM_HASTE 50		/* ranks do as much in a fiftieth of the time */

static struct {
	const struct conf_transport *tp;
	const struct conf_case *test;
	struct conf_shared *shared;
	struct conf ranks[CONF_RANKS];	/* outlive a rank that is killed */
} sim;

/* ---- what ranks are ---- */

static uint64_t sim_now_ns(struct conf *c)
{
	return gy_sim_now(gy_sim_world(c->ctx.sim));
}

static void sim_compute(struct conf *c, uint64_t ns)
{
	gy_sim_sleep(c->ctx.sim, ns);
}

static void sim_die(struct conf *c, uint64_t after_ns)
{
	const uint64_t at = sim_now_ns(c) + after_ns / SIM_HASTE;

	atomic_store(&c->shared->died_ns, at);
	gy_sim_kill(gy_sim_world(c->ctx.sim), c->rank, at);
	if (!after_ns)
		sim_compute(c, 1);	/* it is over before that */
}

static void sim_stop(struct conf *c)
{
	const uint64_t now = sim_now_ns(c);

	gy_sim_stall(gy_sim_world(c->ctx.sim), c->rank, now, now + SIM_STOP_NS);
	sim_compute(c, 1);
}

static const struct conf_ranks sim_ranks = {
	.now_ns = sim_now_ns,
	.compute = sim_compute,
	.die = sim_die,
	.stop = sim_stop,
};

/* ---- the simulator's idea of a context ---- */

int gy_context_create(const struct gyre_context_attr *attr, struct gy_sys *sys, void *rank,
		      const struct gy_config *cfg, struct gyre_context **ctxp)
{
	struct conf *c = &sim.ranks[attr->rank];

	*c = (struct conf){ .ranks = &sim_ranks };
	c->ctx.sys = sys;
	c->ctx.sim = rank;
	*ctxp = &c->ctx;
	return conf_open(c, sim.tp, sim.test, sim.shared, attr->rank);
}

void gy_context_abandon(struct gyre_context *ctx)
{
	conf_close(gy_container_of(ctx, struct conf, ctx), true);
}

/* ---- a world ---- */

static bool sim_suits(const struct conf_case *test, unsigned caps)
{
	const unsigned have = (caps & GY_SIM_BULK ? GY_CAP_BULK : 0) |
			      (caps & GY_SIM_LEND ? GY_CAP_LEND : 0) |
			      (caps & GY_SIM_WRITE ? GY_CAP_WRITE : 0);

	if (test->copies && caps & (GY_SIM_MAP | GY_SIM_MAP_HEAP))
		return false;
	return !(test->caps & ~have) && !(test->without & have);
}

/* All pairs have the same: a rank looks at the capabilities of one. */
static void sim_link(void *arg, int a, int b, struct gy_sim_link *link)
{
	static const unsigned caps[] = {
		GY_SIM_BULK,
		GY_SIM_BULK | GY_SIM_WRITE,
		GY_SIM_LEND | GY_SIM_MAP,
		GY_SIM_LEND | GY_SIM_LEND_HEAP,
		GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP | GY_SIM_MAP_HEAP,
		GY_SIM_BULK | GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP,
		GY_SIM_BULK | GY_SIM_LEND,
	};
	uint64_t seed = sim.shared->seed;
	unsigned i = (unsigned)(conf_random(&seed) % GY_ARRAY_SIZE(caps));

	while (!sim_suits(sim.test, caps[i]))
		i = (i + 1) % GY_ARRAY_SIZE(caps);
	link->caps = caps[i];
	if (conf_random(&seed) % 4 == 0)
		link->loss_ppm = 50000;
}

static int sim_rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct gyre_context *ctx;
	const int err = gy_sim_context(rank, NULL, &ctx);

	if (err)
		return err;
	sim.test->run(&sim.ranks[ctx->rank]);
	conf_close(&sim.ranks[ctx->rank], false);
	return 0;
}

int conf_run_sim(const struct conf_transport *tp, const struct conf_case *test,
		 struct conf_shared *shared)
{
	struct gy_sim_attr attr;
	int err;

	gy_log_set_level(GY_LOG_ERROR);
	sim.tp = tp;
	sim.test = test;
	sim.shared = shared;
	gy_sim_attr_init(&attr, test->nranks, shared->seed);
	attr.random_links = shared->seed % 4;
	attr.link_of = sim_link;
	err = gy_sim_run(&attr, sim_rank_main, NULL);
	if (err)
		fprintf(stderr, "%s: %s\n", test->name, gyre_strerror(err));
	CHECK(err || gy_alloc_live() == 0);
	return err ? 1 : 0;
}
