/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_kill.c - a rank dies after the n-th event of a small job in the simulator, for every n.
 *
 * Each other rank's pending or next call ends within a second in an error that names the dead rank;
 * then its buffers are its own again, it can leave, and nothing is left on the heap.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "tests/multi/faults.h"
#include "transports/sim/sim.h"

#define STEPS 6

struct kill {
	uint64_t seed;
	int nranks, victim;
	uint64_t event;			/* 0: nobody dies */
	bool leaves;			/* after the calls ranks leave, whatever happened */
	bool manual;
	int joined;			/* ranks that have their context */
	/* when all had: of what dies before, only the stack knows */
	uint64_t first;
	struct faults_buf *bufs[FAULTS_MAX_RANKS];
	unsigned over;
	char why[300];
};

static int kill_fail(struct kill *k, int rank, const char *what, int err, const char *text)
{
	if (!k->why[0])
		snprintf(k->why, sizeof(k->why), "rank %d: %s: %s: %s", rank, what,
			 gyre_strerror(err), text);
	return -EBADMSG;
}

/* err has come: its time, its text, and that memory is nobody else's any more. */
static void kill_check(struct gy_sim_rank *rank, struct kill *k, struct gyre_comm *world, int err)
{
	const int me = gy_sim_rank_id(rank);
	char text[256], name[20];

	gyre_comm_status(world, text, sizeof(text));
	snprintf(name, sizeof(name), "rank %d", k->victim);
	if (!k->event)
		kill_fail(k, me, "an error although nobody died", err, text);
	if (gy_sim_now(gy_sim_world(rank)) > 12 * FAULTS_S / 10)
		kill_fail(k, me, "late", err, text);
	if (err == -EBADMSG)
		kill_fail(k, me, "wrong result", err, text);
	else if (err != -ECONNRESET && err != -ECONNREFUSED)
		kill_fail(k, me, "another error", err, text);
	if (!strstr(text, name))
		kill_fail(k, me, "does not name the dead rank", err, text);
	if (gyre_barrier(world) != err)
		kill_fail(k, me, "the error does not stay", err, text);
}

static int kill_calls(struct gy_sim_rank *rank, struct kill *k, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	struct faults_buf *buf = k->bufs[gy_sim_rank_id(rank)];
	const struct gy_sim_world *w = gy_sim_world(rank);
	unsigned step;
	int err = 0;

	for (step = 0; step < STEPS && !err; step++)
		err = faults_step(k->seed + step, buf, world);
	while (!err && !k->leaves && gy_sim_now(w) < 2 * FAULTS_S) {
		gy_sim_sleep(rank, gy_sim_random(rank) % 300000000);
		err = gyre_barrier(world);
	}
	if (gy_sim_rank_id(rank) != k->victim) {
		free(buf);
		k->bufs[gy_sim_rank_id(rank)] = NULL;
	}
	if (err)
		kill_check(rank, k, world, err);
	return err;
}

static int kill_rank(struct gy_sim_rank *rank, void *arg)
{
	struct kill *k = arg;
	const int me = gy_sim_rank_id(rank);
	struct gyre_context *ctx;
	struct gy_config cfg;
	int err;

	if (k->event)
		gy_sim_kill_at_event(gy_sim_world(rank), k->victim, k->event);
	gy_config_init(&cfg);
	cfg.progress = k->manual ? GY_CONFIG_PROGRESS_MANUAL : GY_CONFIG_PROGRESS_THREAD;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return kill_fail(k, me, "context", err, "");
	if (++k->joined == k->nranks)
		k->first = gy_sim_events(gy_sim_world(rank));
	err = kill_calls(rank, k, ctx);
	if (!err && !k->leaves)
		return kill_fail(k, me, "not noticed", 0, "");
	/* Who left first would be missed by those that it has not talked to. */
	for (k->over++; err && k->over + 1 < (unsigned)k->nranks;) {
		gyre_progress(ctx);
		gy_sim_sleep(rank, FAULTS_S / 1000);
		if (gy_sim_now(gy_sim_world(rank)) > 3 * FAULTS_S)
			return kill_fail(k, me, "others do not end", err, "");
	}
	gyre_context_destroy(ctx);
	return 0;
}

/* One job of this seed; *first and *events: from which to how many there were. */
static int kill_run(uint64_t seed, uint64_t event, uint64_t *first, uint64_t *events)
{
	struct kill k = { .seed = seed, .event = event };
	struct gy_sim_stats stats;
	struct gy_sim_attr attr;
	const long live = gy_alloc_live();
	uint64_t rng = seed;
	int i, err;

	k.nranks = 2 + (int)(faults_next(&rng) % 4);
	k.victim = (int)(faults_next(&rng) % (uint64_t)k.nranks);
	k.manual = faults_next(&rng) % 3 == 0;
	k.leaves = !event || event % 5 == 0;
	gy_sim_attr_init(&attr, k.nranks, seed);
	attr.random_links = faults_next(&rng) % 2;
	attr.deadline_ns = 30 * FAULTS_S;
	attr.max_events = 2000000;
	attr.stats = &stats;
	for (i = 0; i < k.nranks; i++)
		k.bufs[i] = calloc(1, sizeof(*k.bufs[i]));
	err = gy_sim_run(&attr, kill_rank, &k);
	for (i = 0; i < k.nranks; i++)
		free(k.bufs[i]);
	*first = k.first;
	*events = stats.events;
	if (err || k.why[0] || gy_alloc_live() != live) {
		printf("%s: %s; %ld blocks left; %d ranks, rank %d dies at event %llu%s%s\n",
		       gyre_strerror(err), k.why, gy_alloc_live() - live, k.nranks, k.victim,
		       (unsigned long long)event, k.manual ? ", manual" : "",
		       k.leaves ? ", ranks leave" : "");
		return 1;
	}
	return 0;
}

/* A job, then with a death at every event of it, or at so many of them. */
static int kill_job(uint64_t seed, unsigned deaths)
{
	uint64_t first, events, event, none, step;
	char *log;
	int failed;

	if (kill_run(seed, 0, &first, &events))
		return 1;
	step = events > first + deaths ? (events - first) / deaths : 1;
	for (event = first + 1 + seed % step; event < events; event += step) {
		faults_capture();
		failed = kill_run(seed, event, &none, &none);
		log = faults_captured();
		if (failed)
			printf("%sagain: test_faults --seed %llu --count 1 kill\n", log,
			       (unsigned long long)seed);
		free(log);
		if (failed)
			return 1;
	}
	return 0;
}

int faults_kill(uint64_t seed, unsigned count)
{
	const unsigned deaths = test_is_long() || count ? 5000 : 100;
	unsigned i, failed = 0;

	if (!count)
		count = test_is_long() ? 40 : 8;
	for (i = 0; i < count && failed < 5; i++)
		failed += kill_job(seed + i, deaths);
	return failed != 0;
}
