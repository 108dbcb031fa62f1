/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_late.c - ranks that are late, stopped, or leave in good order, in the simulator.
 *
 * A late rank is reported and waited for; beyond the stall timeout those who wait for it fail, and
 * say who waits for whom.  A rank that has left is an error for those who need it, and for nobody
 * else.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "tests/multi/faults.h"
#include "transports/sim/sim.h"

#define MS 1000000ull

/* What the others do with the rank in question: faults_calls, then these. */
enum {
	RECV = FAULTS_NCALLS,
	RECV_ANY,
	SEND,			/* small */
	SEND_LARGE,
	SENDRECV,
	NWHAT
};

enum how { STOPPED, BUSY, STALLS, LEFT, LEAVES };

static const char *const hows[] = { "is stopped", "computes", "is stopped for good", "has left",
				    "leaves meanwhile" };

struct late {
	uint64_t seed;
	int nranks, victim;
	enum how how;
	unsigned what;
	bool manual;
	unsigned over;
	char why[300];
};

static struct faults_buf bufs[FAULTS_MAX_RANKS];

static int late_fail(struct late *l, int rank, const char *what, int err, const char *text)
{
	if (!l->why[0])
		snprintf(l->why, sizeof(l->why), "rank %d: %s: %s: %s", rank, what,
			 gyre_strerror(err), text);
	return -EBADMSG;
}

/*
 * The call of a rank; point-to-point: what all others do with the victim, and it with each of them.
 */
static int late_call(const struct late *l, int me, struct gyre_comm *comm)
{
	struct faults_buf *buf = &bufs[me];
	const unsigned n = l->what == SEND_LARGE ? 30000 : 8;
	int i, err = 0, one;

	if (l->what < FAULTS_NCALLS)
		return faults_do(&faults_calls[l->what], buf, comm);
	for (i = 0; i < l->nranks; i++) {
		if ((me == l->victim) == (i == l->victim))
			continue;
		if (l->what == SENDRECV)
			one = gyre_sendrecv(buf->in, n, GYRE_F32, i, 1, buf->out, n, GYRE_F32, i, 1,
					    comm, NULL);
		else if ((l->what == RECV || l->what == RECV_ANY) == (me == l->victim))
			one = gyre_send(buf->in, n, GYRE_F32, i, 1, comm);
		else
			one = gyre_recv(buf->out, n, GYRE_F32,
					l->what == RECV_ANY ? GYRE_ANY_SOURCE : i, 1, comm, NULL);
		if (!err)
			err = one;
	}
	return err;
}

/* Whether nobody can return from it before the victim has come. */
static bool late_all_wait(const struct late *l)
{
	if (l->what >= FAULTS_NCALLS)
		return l->what != SEND;
	return faults_calls[l->what].coll != BROADCAST || faults_calls[l->what].root == l->victim;
}

static void late_check(const struct late *l, struct gy_sim_rank *rank, struct gyre_comm *world,
		       int err, uint64_t took)
{
	struct late *to = (struct late *)l;
	const int me = gy_sim_rank_id(rank);
	char text[256], name[40];
	int status;

	status = gyre_comm_status(world, text, sizeof(text));
	snprintf(name, sizeof(name), "rank %d", l->victim);
	if (l->how == STOPPED || l->how == BUSY) {
		if (err || status)
			late_fail(to, me, "a late rank is no error", err, text);
		return;
	}
	if (!err) {
		if (late_all_wait(l))
			late_fail(to, me, "no error", err, text);
		return;
	}
	if (err != status)
		late_fail(to, me, "not the communicator's error", err, text);
	if (l->how == STALLS && (err != -ETIMEDOUT || !strstr(text, " waits for rank ")))
		late_fail(to, me, "not who waits for whom", err, text);
	if (l->how == STALLS && (took < 490 * MS || took > 1000 * MS))
		late_fail(to, me, "not after half a second", err, text);
	if (l->how >= LEFT && (err != -ECONNRESET || !strstr(text, name)))
		late_fail(to, me, "not who has left", err, text);
	if (l->how >= LEFT && took > 2500 * MS)
		late_fail(to, me, "late", err, text);
}

/* Those who stay need nobody else for this. */
static int late_rest(const struct late *l, int me, struct gyre_comm *world)
{
	int next = (me + 1) % l->nranks, prev = (me + l->nranks - 1) % l->nranks;

	next = next == l->victim ? (next + 1) % l->nranks : next;
	prev = prev == l->victim ? (prev + l->nranks - 1) % l->nranks : prev;
	return gyre_sendrecv(bufs[me].in, 30000, GYRE_F32, next, 2, bufs[me].out, 30000, GYRE_F32,
			     prev, 2, world, NULL);
}

static int late_victim(struct gy_sim_rank *rank, struct late *l, struct gyre_context *ctx)
{
	struct gy_sim_world *w = gy_sim_world(rank);
	const int me = gy_sim_rank_id(rank);
	const uint64_t now = gy_sim_now(w);
	int err;

	if (l->how == LEFT || l->how == LEAVES) {
		if (l->how == LEAVES)
			gy_sim_sleep(rank, gy_sim_random(rank) % (50 * MS));
		gyre_context_destroy(ctx);
		l->over++;
		return 0;
	}
	if (l->how == BUSY)
		gy_sim_sleep(rank, 3000 * MS);
	else
		gy_sim_stall(w, me, now, now + (l->how == STALLS ? 5000 : 3000) * MS);
	gy_sim_sleep(rank, 1000);
	err = late_call(l, me, gyre_context_world(ctx));
	if (l->how != STALLS && err)
		late_fail(l, me, "the late rank's call", err, "");
	/* It may have missed the end of the others' calls, but not of the communicator. */
	while (!err && l->how == STALLS && gy_sim_now(w) < now + 8000 * MS && late_all_wait(l)) {
		gy_sim_sleep(rank, 100 * MS);
		err = gyre_barrier(gyre_context_world(ctx));
	}
	if (l->how == STALLS && late_all_wait(l) && err != -ETIMEDOUT)
		late_fail(l, me, "the stalled rank's call", err, "");
	return 0;
}

static void late_other(struct gy_sim_rank *rank, struct late *l, struct gyre_context *ctx)
{
	struct gyre_comm *world = gyre_context_world(ctx);
	const int me = gy_sim_rank_id(rank);
	const struct gy_sim_world *w = gy_sim_world(rank);
	uint64_t start;
	int err = 0;

	if (l->how == LEFT) {
		gy_sim_sleep(rank, gy_sim_random(rank) % (20 * MS));
		if (l->nranks > 2)
			err = late_rest(l, me, world);
		if (err)
			late_fail(l, me, "those who stay", err, "");
		gy_sim_sleep(rank, 3000 * MS);
	}
	start = gy_sim_now(w);
	err = late_call(l, me, world);
	late_check(l, rank, world, err, gy_sim_now(w) - start);
}

static int late_rank(struct gy_sim_rank *rank, void *arg)
{
	struct late *l = arg;
	const int me = gy_sim_rank_id(rank);
	struct gyre_context *ctx;
	struct gyre_comm *world;
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.progress = l->manual ? GY_CONFIG_PROGRESS_MANUAL : GY_CONFIG_PROGRESS_THREAD;
	cfg.late_warn_ms = 100;
	cfg.stall_timeout_ms = l->how == STALLS ? 500 : 0;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return late_fail(l, me, "context", err, "");
	world = gyre_context_world(ctx);
	err = l->seed % 2 ? gyre_barrier(world) : 0;
	if (err)
		return late_fail(l, me, "the call before", err, "");
	if (me == l->victim)
		late_victim(rank, l, ctx);
	else
		late_other(rank, l, ctx);
	if (me == l->victim && l->how >= LEFT)
		return l->why[0] ? -EBADMSG : 0;
	for (l->over++; l->over < (unsigned)l->nranks && !l->why[0];) {
		gyre_progress(ctx);
		gy_sim_sleep(rank, 10 * MS);
	}
	gyre_context_destroy(ctx);
	return l->why[0] ? -EBADMSG : 0;
}

static int late_run(uint64_t seed)
{
	struct late l = { .seed = seed };
	const long live = gy_alloc_live();
	struct gy_sim_attr attr;
	uint64_t rng = seed;
	char *log, name[40];
	bool said;
	int err;

	l.what = (unsigned)(seed % NWHAT);
	l.how = (enum how)(seed / NWHAT % (LEAVES + 1));
	l.nranks = 2 + (int)(faults_next(&rng) % 3);
	if (l.what == RECV_ANY && l.how >= LEFT)
		l.nranks = 2;		/* one of the others could still send */
	l.victim = (int)(faults_next(&rng) % (uint64_t)l.nranks);
	l.manual = faults_next(&rng) % 3 == 0;
	gy_sim_attr_init(&attr, l.nranks, seed);
	attr.random_links = faults_next(&rng) % 2;
	attr.deadline_ns = 30 * FAULTS_S;
	attr.max_events = 2000000;
	faults_capture();
	err = gy_sim_run(&attr, late_rank, &l);
	log = faults_captured();
	snprintf(name, sizeof(name), " waits for rank %s%d", l.what == RECV_ANY ? "any" : "",
		 l.victim);
	name[l.what == RECV_ANY ? strlen(" waits for rank any") : strlen(name)] = 0;
	said = strstr(log, name) || l.how >= LEFT || !late_all_wait(&l);
	if (err || l.why[0] || gy_alloc_live() != live || !said) {
		printf("%s: %s; %ld blocks left\n%s", gyre_strerror(err), l.why,
		       gy_alloc_live() - live, log);
		printf("%d ranks, rank %d %s, call %u%s; again: test_faults "
		       "--seed %llu --count 1 late\n",
		       l.nranks, l.victim, hows[l.how], l.what, l.manual ? ", manual" : "",
		       (unsigned long long)seed);
		err = -EBADMSG;
	}
	free(log);
	return err != 0;
}

/* A blocking send to oneself, which nothing can take, is late like any other. */
static int late_self_rank(struct gy_sim_rank *rank, void *arg)
{
	const struct gy_sim_world *w = gy_sim_world(rank);
	struct late *l = arg;
	const int me = gy_sim_rank_id(rank);
	struct gyre_context *ctx;
	struct gy_config cfg;
	uint64_t start;
	int err;

	gy_config_init(&cfg);
	cfg.stall_timeout_ms = 500;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return late_fail(l, me, "context", err, "");
	start = gy_sim_now(w);
	l->how = STALLS;
	l->what = SEND_LARGE;
	l->victim = me;
	err = gyre_send(bufs[me].in, 8, GYRE_F32, me, 1, gyre_context_world(ctx));
	late_check(l, rank, gyre_context_world(ctx), err, gy_sim_now(w) - start);
	gyre_context_destroy(ctx);
	return l->why[0] ? -EBADMSG : 0;
}

static int late_self(uint64_t seed)
{
	struct late l = { .seed = seed };
	struct gy_sim_attr attr;
	int err;

	gy_sim_attr_init(&attr, 1, seed);
	attr.deadline_ns = 30 * FAULTS_S;
	faults_capture();
	err = gy_sim_run(&attr, late_self_rank, &l);
	free(faults_captured());
	if (err)
		printf("a send to oneself: %s; %s\n", gyre_strerror(err), l.why);
	return err != 0;
}

int faults_late(uint64_t seed, unsigned count)
{
	unsigned i, failed = (unsigned)late_self(seed);

	if (!count)
		count = NWHAT * (LEAVES + 1) * (test_is_long() ? 30 : 2);
	for (i = 0; i < count && failed < 5; i++)
		failed += late_run(seed + i);
	return failed != 0;
}
