/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_engine_stress.c - wake-ups and the hand-over of the driver's token, with real threads.
 *
 * Two contexts of this process are joined by shm or tcp; some threads use each, every thread with a
 * communicator of its own and with messages of its own tag on the one that all share, with and
 * without the progress thread.  The world under the contexts (lib/sys.h) is the real one, but for
 * three things: few yields yield, so that who waits for one that is late sleeps; before and after
 * each sleep, ring and notification a thread gives the processor away now and then, where one that
 * is too late would show; and once all are connected sleeps have no timeouts to speak of.  So a
 * wake-up that is lost is a call that takes longer than the bound, not 20 ms that nobody notices.
 * In a debug build lib/engine.c asserts that nobody goes to sleep with runnable work.
 *
 *	test_engine_stress [--ops N] [--seed S] [--threads N]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/context.h"
#include "tests/long.h"
#include "tests/unit/inproc.h"

#define RANKS 2
#define MAX_THREADS 8
#define MEDIUM 3000		/* elements: more than one eager message, less than a grain */
#define BOUND_S 6.0
#define LOST_NS (4 * 6000000000ull)	/* what a sleep lasts at most, once all are connected */

#define LATE_S 40e-6		/* longer than others yield before they sleep */
#define LATEST_S 2e-3		/* on a busy machine they take longer */
#define QUIET_MS 30
#define QUIET_WAITS 100		/* the progress threads nap, for 20 ms each time */

/* ---- a world of late sleepers ---- */

struct stress_sys {
	struct gy_sys base;
	struct gyre_context *_Atomic ctx[RANKS];	/* once connected */
	atomic_ulong sleeps, words, rings, notices;
};

static _Thread_local uint64_t dice;

static struct stress_sys *to_stress(struct gy_sys *sys)
{
	return gy_container_of(sys, struct stress_sys, base);
}

static unsigned long stress_waits(const struct stress_sys *s)
{
	return atomic_load(&s->sleeps) + atomic_load(&s->words);
}

static bool one_in(unsigned n)
{
	return inproc_random(&dice) % n == 0;
}

static void maybe_yield(void)
{
	if (one_in(4))
		sched_yield();
}

static const struct gy_sys_ops *world(void)
{
	return gy_sys_posix.ops;
}

static uint64_t stress_now_ns(struct gy_sys *sys)
{
	return world()->now_ns(&gy_sys_posix);
}

static uint64_t stress_random(struct gy_sys *sys)
{
	return world()->random(&gy_sys_posix);
}

static void stress_yield(struct gy_sys *sys)
{
	if (one_in(16))
		sched_yield();
}

static void stress_sleep(struct gy_sys *sys, struct gyre_context *ctx, uint64_t timeout_ns)
{
	struct stress_sys *s = to_stress(sys);

	atomic_fetch_add_explicit(&s->sleeps, 1, memory_order_relaxed);
	maybe_yield();
	if (atomic_load(&s->ctx[ctx->rank]))
		timeout_ns = LOST_NS;
	world()->sleep(&gy_sys_posix, ctx, timeout_ns);
	maybe_yield();
}

static void stress_wake(struct gy_sys *sys, struct gyre_context *ctx)
{
	atomic_fetch_add_explicit(&to_stress(sys)->rings, 1, memory_order_relaxed);
	maybe_yield();
	world()->wake(&gy_sys_posix, ctx);
	maybe_yield();
}

/* The nap of a progress thread is no wait for anything: it keeps its length. */
static void stress_wait_word(struct gy_sys *sys, _Atomic uint32_t *word, uint32_t value,
			     uint64_t timeout_ns)
{
	struct stress_sys *s = to_stress(sys);
	int i;

	atomic_fetch_add_explicit(&s->words, 1, memory_order_relaxed);
	for (i = 0; i < RANKS; i++) {
		struct gyre_context *ctx = atomic_load(&s->ctx[i]);

		if (ctx && (word == &ctx->engine.bell || word == &ctx->engine.news))
			timeout_ns = LOST_NS;
	}
	maybe_yield();
	world()->wait_word(&gy_sys_posix, word, value, timeout_ns);
	maybe_yield();
}

static void stress_notify_word(struct gy_sys *sys, _Atomic uint32_t *word)
{
	atomic_fetch_add_explicit(&to_stress(sys)->notices, 1, memory_order_relaxed);
	maybe_yield();
	world()->notify_word(&gy_sys_posix, word);
	maybe_yield();
}

static void stress_node(struct gy_sys *sys, uint64_t id[2])
{
	world()->node(&gy_sys_posix, id);
}

static int stress_spawn(struct gy_sys *sys, void (*fn)(void *), void *arg,
			struct gy_thread **threadp)
{
	return world()->spawn(&gy_sys_posix, fn, arg, threadp);
}

static void stress_join(struct gy_sys *sys, struct gy_thread *thread)
{
	world()->join(&gy_sys_posix, thread);
}

static const struct gy_sys_ops stress_ops = {
	.now_ns = stress_now_ns,
	.random = stress_random,
	.yield = stress_yield,
	.sleep = stress_sleep,
	.wake = stress_wake,
	.wait_word = stress_wait_word,
	.notify_word = stress_notify_word,
	.node = stress_node,
	.spawn = stress_spawn,
	.join = stress_join,
};

/* ---- a round ---- */

struct round;

/* A thread of a rank; its like in the other rank makes the same calls. */
struct worker {
	struct round *round;
	struct inproc_rank *rank;
	pthread_t id;
	unsigned number;
	struct gyre_comm *comm;
	struct gyre_request *again;	/* persistent: sum -> total */
	uint64_t shared, own;		/* dice that both sides throw alike; this side's */
	int64_t sum, total;
	int64_t big[MEDIUM], bigs[MEDIUM];
	_Atomic double since;		/* when its operation began; 0: none is active */
	double slowest;
};

struct round {
	const char *transport, *progress;
	unsigned nthreads;
	unsigned long ops;		/* of each thread */
	uint64_t seed;
	struct stress_sys sys;
	struct inproc job;
	_Atomic bool over;
	struct worker workers[RANKS][MAX_THREADS];
};

static int worker_complain(const struct worker *w, unsigned long op, const char *what)
{
	printf("FAILED: rank %d, thread %u, operation %lu: %s\n", w->rank->rank, w->number, op,
	       what);
	exit(1);		/* others wait for what will not come */
}

static int worker_complete(struct worker *w, struct gyre_request **req)
{
	int done = 0, err;

	if (inproc_random(&w->own) % 2)
		return gyre_request_wait(req, NULL);
	do {
		err = gyre_request_test(req, &done, NULL);
		maybe_yield();
	} while (!done && !err);
	return err;
}

static int worker_allreduce(struct worker *w, bool nonblocking)
{
	struct gyre_request *req;
	int err;

	if (!nonblocking)
		return gyre_allreduce(&w->sum, &w->total, 1, GYRE_INT64, GYRE_SUM, w->comm);
	err = gyre_iallreduce(&w->sum, &w->total, 1, GYRE_INT64, GYRE_SUM, w->comm, &req);
	return err ? err : worker_complete(w, &req);
}

/* The total of two messages: one's own, and the other's. */
static int worker_messages(struct worker *w, bool nonblocking)
{
	struct gyre_comm *all = gyre_context_world(w->rank->ctx);
	const int other = !w->rank->rank, tag = 100 + (int)w->number;
	struct gyre_request *req[2];
	int64_t got = 0;
	int err;

	if (nonblocking) {
		err = gyre_irecv(&got, 1, GYRE_INT64, other, tag, all, &req[0]);
		if (!err)
			err = gyre_isend(&w->sum, 1, GYRE_INT64, other, tag, all, &req[1]);
		if (!err)
			err = gyre_request_waitall(2, req, NULL);
	} else {
		err = gyre_sendrecv(&w->sum, 1, GYRE_INT64, other, tag, &got, 1, GYRE_INT64, other,
				    tag, all, NULL);
	}
	w->total = w->sum + got;
	return err;
}

static int worker_medium(struct worker *w)
{
	int err;

	w->big[0] = w->big[MEDIUM - 1] = w->sum;
	err = gyre_allreduce(w->big, w->bigs, MEDIUM, GYRE_INT64, GYRE_SUM, w->comm);
	w->total = w->bigs[0] == w->bigs[MEDIUM - 1] ? w->bigs[0] : -1;
	return err;
}

/* From the rank that the dice name; its total is twice what it has, plus what the other differs. */
static int worker_broadcast(struct worker *w, int root, int64_t difference)
{
	int64_t buf = w->rank->rank == root ? w->sum : -1;
	const int err = gyre_broadcast(&buf, 1, GYRE_INT64, root, w->comm);

	w->total = 2 * buf + (root ? -difference : difference);
	return err;
}

static int worker_again(struct worker *w)
{
	const int err = gyre_request_start(w->again);

	return err ? err : worker_complete(w, &w->again);
}

/* One operation, whose total is that of both ranks' sums. */
static int worker_op(struct worker *w, int64_t difference)
{
	const uint64_t what = inproc_random(&w->shared);

	switch (what % 16) {
	case 0:
	case 1:
		w->total = 2 * w->sum + (w->rank->rank ? -difference : difference);
		return gyre_barrier(w->comm);
	case 2:
		return worker_medium(w);
	case 3:
	case 4:
		return worker_messages(w, false);
	case 5:
	case 6:
		return worker_messages(w, true);
	case 7:
	case 8:
		return worker_broadcast(w, what >> 32 & 1, difference);
	case 9:
	case 10:
		return worker_again(w);
	case 11:
	case 12:
	case 13:
		return worker_allreduce(w, true);
	default:
		return worker_allreduce(w, false);
	}
}

/* Until somebody sleeps, if that is soon. */
static void worker_be_late(const struct worker *w)
{
	const struct stress_sys *s = &w->round->sys;
	const double start = inproc_seconds();
	const unsigned long before = stress_waits(s);
	double late;

	do {
		sched_yield();
		late = inproc_seconds() - start;
	} while (late < (stress_waits(s) == before ? LATEST_S : LATE_S) * inproc_slowdown());
}

static void worker_run(struct worker *w, unsigned long ops)
{
	double start, took;
	unsigned long i;
	int64_t a, d;
	int err;

	for (i = 0; i < ops; i++) {
		a = (int64_t)(inproc_random(&w->shared) >> 8);
		d = (int64_t)(inproc_random(&w->shared) >> 40);
		w->sum = w->rank->rank ? a + d : a;
		w->total = -1;
		if (inproc_random(&w->own) % 4 == 0)
			worker_be_late(w);
		start = inproc_seconds();
		atomic_store(&w->since, start);
		err = worker_op(w, d);
		atomic_store(&w->since, 0);
		took = inproc_seconds() - start;
		if (took > w->slowest)
			w->slowest = took;
		if (err)
			worker_complain(w, i, gyre_strerror(err));
		if (w->total != 2 * a + d)
			worker_complain(w, i, "the result is wrong");
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	dice = w->own ^ 0x64696365;
	worker_run(w, w->round->ops);
	return NULL;
}

/* ---- quiet ---- */

static void *worker_await(void *arg)
{
	struct worker *w = arg;
	struct gyre_comm *all = gyre_context_world(w->rank->ctx);
	int err;

	err = gyre_recv(&w->total, 1, GYRE_INT64, 1, (int)w->number, all, NULL);
	if (err)
		worker_complain(w, 0, gyre_strerror(err));
	return NULL;
}

/* Threads that have nothing to do but wait must not keep each other awake. */
static int quiet_run(struct worker *w, const struct round *round)
{
	struct gyre_comm *all = gyre_context_world(w->rank->ctx);
	unsigned long before, waits;
	unsigned i;
	int err;

	if (w->rank->rank == 0) {
		for (i = 0; i < round->nthreads; i++)
			if (pthread_create(&w[i].id, NULL, worker_await, &w[i]))
				abort();
		for (i = 0; i < round->nthreads; i++)
			pthread_join(w[i].id, NULL);
		return 0;
	}
	poll(NULL, 0, QUIET_MS);
	before = stress_waits(&round->sys);
	poll(NULL, 0, QUIET_MS);
	waits = stress_waits(&round->sys) - before;
	printf("  quiet: %lu waits in %d ms\n", waits, QUIET_MS);
	for (i = 0, err = 0; i < round->nthreads && !err; i++)
		err = gyre_send(&w->sum, 1, GYRE_INT64, 0, (int)i, all);
	return err ? err : waits > QUIET_WAITS ? -EBUSY : 0;
}

static int worker_init(struct worker *w, struct round *round, struct inproc_rank *r, unsigned i)
{
	int err;

	w->round = round;
	w->rank = r;
	w->number = i;
	w->shared = round->seed * MAX_THREADS + i;
	w->own = round->seed * 1000 + 10 * i + (uint64_t)r->rank;
	err = gyre_comm_split(gyre_context_world(r->ctx), 0, r->rank, &w->comm);
	if (err)
		return err;
	err = gyre_allreduce_init(&w->sum, &w->total, 1, GYRE_INT64, GYRE_SUM, w->comm, &w->again);
	if (!err)
		worker_run(w, 20);		/* connects; timeouts are as ever */
	return err;
}

static int rank_main(struct inproc_rank *r, void *arg)
{
	struct round *round = arg;
	struct worker *w = round->workers[r->rank];
	unsigned i;
	int err = 0;

	dice = round->seed + (uint64_t)r->rank;
	for (i = 0; i < round->nthreads && !err; i++)
		err = worker_init(&w[i], round, r, i);
	if (err) {
		printf("rank %d: %s\n", r->rank, gyre_strerror(err));
		exit(1);
	}
	atomic_store(&round->sys.ctx[r->rank], r->ctx);
	for (i = 0; i < round->nthreads; i++)
		if (pthread_create(&w[i].id, NULL, worker_main, &w[i]))
			abort();
	for (i = 0; i < round->nthreads; i++)
		pthread_join(w[i].id, NULL);
	if (round->nthreads > 1)
		err = quiet_run(w, round);
	atomic_store(&round->sys.ctx[r->rank], NULL);
	for (i = 0; i < round->nthreads; i++) {
		gyre_request_free(w[i].again);
		gyre_comm_destroy(w[i].comm);
		if (w[i].slowest > w[0].slowest)
			w[0].slowest = w[i].slowest;
	}
	printf("  rank %d: slowest operation %.1f ms\n", r->rank, w[0].slowest * 1e3);
	return err;
}

/* ---- the watch ---- */

static void watch_describe(const struct round *round, int rank)
{
	const struct worker *w = round->workers[rank];
	const struct gy_engine *e = &w[0].rank->ctx->engine;
	const double now = inproc_seconds();
	unsigned i;

	printf("  rank %d: token %u, wanted %u, waiting %u, poller %u, nap %u, armed %d, runs %u\n",
	       rank, atomic_load(&e->token), atomic_load(&e->wanted), atomic_load(&e->waiting),
	       atomic_load(&e->poller), atomic_load(&e->nap), e->armed,
	       atomic_load(&e->nruns));
	for (i = 0; i < round->nthreads; i++) {
		const double since = atomic_load(&w[i].since);

		printf("    thread %u: %s %.3f s\n", i,
		       since ? "in an operation for" : "not in one", since ? now - since : 0);
	}
}

/* Ends the program when an operation takes longer than the bound; what it reads may change. */
static void *watch_main(void *arg)
{
	const double bound = BOUND_S * inproc_slowdown();
	struct round *round = arg;
	unsigned i;
	int r;

	while (!atomic_load(&round->over)) {
		poll(NULL, 0, 20);
		for (i = 0; i < RANKS * round->nthreads; i++) {
			const double since =
				atomic_load(&round->workers[i % RANKS][i / RANKS].since);

			if (!since || inproc_seconds() - since < bound)
				continue;
			printf("FAILED: an operation takes more than %.0f s: a wake-up is lost\n",
			       bound);
			for (r = 0; r < RANKS; r++)
				watch_describe(round, r);
			abort();
		}
	}
	return NULL;
}

static int round_run(struct round *round)
{
	const double start = inproc_seconds();
	struct stress_sys *s = &round->sys;
	unsigned long waits;
	pthread_t watch;
	int err;

	s->base.ops = &stress_ops;
	inproc_init(&round->job, RANKS, round->transport);
	inproc_set(&round->job, "progress", round->progress);
	inproc_set(&round->job, "spin_us", "0");
	round->job.sys = &s->base;
	if (pthread_create(&watch, NULL, watch_main, round))
		abort();
	err = inproc_run(&round->job, rank_main, round);
	atomic_store(&round->over, true);
	pthread_join(watch, NULL);
	waits = stress_waits(s);
	printf("%s, progress %s: %u threads a rank, %lu operations each, %.1f s; %lu sleeps, %lu "
	       "waits, %lu rings, %lu notices\n",
	       round->transport, round->progress, round->nthreads, round->ops,
	       inproc_seconds() - start, atomic_load(&s->sleeps), atomic_load(&s->words),
	       atomic_load(&s->rings), atomic_load(&s->notices));
	if (!err && waits < round->ops * round->nthreads / 8) {
		printf("FAILED: hardly anybody slept\n");
		err = -ENODATA;
	}
	return err;
}

/* Each transport, with and without progress threads, with one thread a rank and with several. */
static int rounds_run(unsigned long ops, uint64_t seed, unsigned threads)
{
	static struct round round;
	unsigned i;
	int err = 0;

	for (i = 0; i < 8 && !err; i++) {
		memset(&round, 0, sizeof(round));
		round.transport = i & 1 ? "tcp" : "shm";
		round.progress = i & 2 ? "manual" : "thread";
		round.nthreads = i & 4 ? threads : 1;
		round.ops = ops / 8 / round.nthreads;
		round.seed = seed + i;
		err = round_run(&round);
	}
	return err;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ops", 1, NULL, 'o' },
		{ "seed", 1, NULL, 's' },
		{ "threads", 1, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned long ops = test_times(16000, 1000000);
	uint64_t seed = (uint64_t)(inproc_seconds() * 1e6);
	unsigned threads = 4;
	int opt, err;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'o')
			ops = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			threads = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (threads < 1 || threads > MAX_THREADS)
		return 2;
	printf("seed %llu; asserts of the library: %s\n", (unsigned long long)seed,
	       GY_DEBUG ? "on" : "off");
	err = rounds_run(ops, seed, threads);
	printf("%s\n", err ? gyre_strerror(err) : "passed");
	return err != 0;
}
