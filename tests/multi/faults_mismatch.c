/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_mismatch.c - each pair of calls that do not match, on 2 to 5 ranks, at any distance in
 * time, also where a rank has already returned: within a second of the last of the two calls, every
 * rank's pending or next call ends in -EPROTO and names both.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "tests/multi/faults.h"
#include "transports/sim/sim.h"

#define LIMIT_NS FAULTS_S

struct mismatch {
	uint64_t seed;
	int nranks, odd;		/* rank odd calls b, the others a */
	const struct faults_call *a, *b;
	unsigned before;		/* calls that match before it */
	bool manual;			/* ranks drive in their calls only, so they keep calling */
	uint64_t last_ns;		/* when the last rank called */
	unsigned over;
	char why[300];
};

static struct faults_buf bufs[FAULTS_MAX_RANKS];

static int mismatch_fail(struct mismatch *m, int rank, const char *what, int err, const char *text)
{
	snprintf(m->why, sizeof(m->why), "rank %d: %s: %s: %s", rank, what, gyre_strerror(err),
		 text);
	return -EBADMSG;
}

/* Calls until one fails: the first is what it is, the next ones match. */
static int mismatch_calls(struct gy_sim_rank *rank, struct mismatch *m, struct gyre_comm *comm,
			  const struct faults_call *call)
{
	static const struct faults_call next = { BARRIER, GYRE_UINT8, 0, 0, 0 };
	const struct gy_sim_world *w = gy_sim_world(rank);
	const int me = gy_sim_rank_id(rank);
	uint64_t start = gy_sim_now(w), due;
	int err;

	m->last_ns = start;
	for (;;) {
		err = faults_do(call, &bufs[me], comm);
		due = (start > m->last_ns ? start : m->last_ns) + LIMIT_NS;
		if (err)
			break;
		if (start > m->last_ns + LIMIT_NS)
			return mismatch_fail(m, me, "not noticed", 0, "");
		/* Where only calls drive, no rank may keep the others waiting for its next one. */
		gy_sim_sleep(rank,
			     gy_sim_random(rank) % (m->manual ? FAULTS_S / 20 : 2 * FAULTS_S));
		start = gy_sim_now(w);
		call = &next;
	}
	if (gy_sim_now(w) > due)
		return mismatch_fail(m, me, "late", err, "");
	return err;
}

static int mismatch_check(struct mismatch *m, int me, struct gyre_comm *comm, int err)
{
	char text[256], a[100], b[100];

	gyre_comm_status(comm, text, sizeof(text));
	faults_text(m->a, a, sizeof(a));
	faults_text(m->b, b, sizeof(b));
	if (err != -EPROTO)
		return mismatch_fail(m, me, "not -EPROTO", err, text);
	if (!strstr(text, a) || !strstr(text, b))
		return mismatch_fail(m, me, "does not name both calls", err, text);
	if (gyre_barrier(comm) != -EPROTO)
		return mismatch_fail(m, me, "the error does not stay", err, text);
	return 0;
}

static int mismatch_rank(struct gy_sim_rank *rank, void *arg)
{
	struct mismatch *m = arg;
	const int me = gy_sim_rank_id(rank);
	struct gyre_context *ctx;
	struct gyre_comm *world;
	struct gy_config cfg;
	unsigned i;
	int err;

	gy_config_init(&cfg);
	cfg.progress = m->manual ? GY_CONFIG_PROGRESS_MANUAL : GY_CONFIG_PROGRESS_THREAD;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return mismatch_fail(m, me, "context", err, "");
	world = gyre_context_world(ctx);
	for (i = 0; i < m->before && !err; i++)
		err = faults_do(&faults_calls[(m->seed + i) % FAULTS_NCALLS], &bufs[me], world);
	/* Others may have gone on already to the calls that do not match. */
	if (err && err != -EPROTO)
		return mismatch_fail(m, me, "a call that matches", err, "");
	if (!err) {
		gy_sim_sleep(rank,
			     gy_sim_random(rank) % (me == m->odd ? 3 * FAULTS_S / 2 : 100000));
		err = mismatch_calls(rank, m, world, me == m->odd ? m->b : m->a);
	}
	if (!m->why[0])
		mismatch_check(m, me, world, err);
	/* Who left first would be missed by those that it has not talked to. */
	for (m->over++; m->over < (unsigned)m->nranks && !m->why[0];) {
		gyre_progress(ctx);
		gy_sim_sleep(rank, FAULTS_S / 100);
	}
	gyre_context_destroy(ctx);
	return m->why[0] ? -EBADMSG : 0;
}

static int mismatch_run(uint64_t seed)
{
	const unsigned a = (unsigned)(seed / FAULTS_NCALLS % FAULTS_NCALLS);
	const unsigned b = (unsigned)(seed % FAULTS_NCALLS);
	uint64_t rng = seed;
	struct mismatch m = { .seed = seed, .a = &faults_calls[a], .b = &faults_calls[b] };
	struct gy_sim_attr attr;
	char *log;
	int err;

	if (a == b)
		return 0;
	m.nranks = 2 + (int)(faults_next(&rng) % 4);
	m.odd = (int)(faults_next(&rng) % (uint64_t)m.nranks);
	m.before = (unsigned)(faults_next(&rng) % 3);
	m.manual = faults_next(&rng) % 3 == 0;
	gy_sim_attr_init(&attr, m.nranks, seed);
	attr.random_links = faults_next(&rng) % 2;
	attr.deadline_ns = 30 * FAULTS_S;
	attr.max_events = 5000000;
	faults_capture();
	err = gy_sim_run(&attr, mismatch_rank, &m);
	log = faults_captured();
	if (err || gy_alloc_live()) {
		printf("%s: %s; %ld blocks left\n%s", gyre_strerror(err), m.why, gy_alloc_live(),
		       log);
		printf("%d ranks, call %u, on rank %d %u%s; again: test_faults "
		       "--seed %llu --count 1 mismatch\n",
		       m.nranks, a, m.odd, b, m.manual ? ", manual" : "", (unsigned long long)seed);
		err = -EBADMSG;
	}
	free(log);
	return err != 0;
}

int faults_mismatch(uint64_t seed, unsigned count)
{
	const unsigned pairs = FAULTS_NCALLS * FAULTS_NCALLS;
	unsigned i, failed = 0;

	if (!count)
		count = pairs * (test_is_long() ? 50 : 1);
	for (i = 0; i < count && failed < 5; i++)
		failed += mismatch_run(seed + i);
	return failed != 0;
}
