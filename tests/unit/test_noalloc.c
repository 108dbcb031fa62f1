/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_noalloc.c - a repeated operation allocates nothing: every collective and messages, blocking,
 * nonblocking and persistent, in place and not, from one element to what goes in many grains, over
 * shm and tcp with a thread for each rank, and in the simulator.
 *
 * Counted are the library's own calls (lib/alloc.h), every call of malloc and its like in the
 * process, whoever makes it, and the library's calls of mmap.  An operation is repeated in windows.
 * How many messages have to be kept at a time depends on how far one rank gets ahead of another:
 * within a window, in which it cannot get further than the window is long, each new record makes
 * pools grow once.  So a window now and then may allocate, but before long there must be several in
 * a row that do not, together long enough that an allocation at every 30th call would show.
 *
 *	test_noalloc [--seed S] [--transport shm|tcp|sim] [--verbose]
 */
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/alloc.h"
#include "lib/registry.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/heap_count.h"
#include "tests/unit/inproc.h"
#include "transports/sim/nic.h"
#include "transports/sim/sim.h"

#define BATCH 3			/* requests active at a time */
#define MAX_RANKS 8
#define CLEAN 5			/* windows in a row that must be clean */
#define WINDOWS 100		/* at most, until they are */
#define BUF_BYTES (512 << 10)

enum what { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, BARRIER, MESSAGE, WHATS };
enum how { BLOCKING, NONBLOCKING, PERSISTENT, HOWS };

static const char *const what_names[] = {
	"allreduce", "reduce_scatter", "allgather", "broadcast", "barrier", "message",
};
static const char *const how_names[] = { "blocking", "nonblocking", "persistent" };

/* What is repeated. */
struct spec {
	enum what what;
	enum how how;
	bool in_place;
	size_t bytes;		/* of the vector of all ranks */
};

struct round {
	const char *name;
	int nranks;
	bool gyre_mem;
	enum what only;		/* WHATS: all */
	unsigned long reps;	/* of a window, for small operations */
	uint64_t seed;
	/* rank 0 writes, the others read after the next meeting */
	struct heap_count before;
	bool clean;
	unsigned worst;
	_Atomic int arrivals;	/* in the simulator */
};

/* A rank of a round. */
struct seat {
	struct round *round;
	int rank;
	struct gyre_context *ctx;
	struct gyre_comm *comm;
	void (*meet)(struct seat *seat);
	void *arg;
	int met;
	char *in, *out;
	struct gyre_request *req[2 * BATCH];
	unsigned nreqs;
};

static bool verbose;

/* ---- the simulator's own ---- */

static atomic_ulong parcels;

struct sim_parcel *__real_sim_parcel_new(struct sim_ep *to, enum sim_kind kind, size_t len);
struct sim_parcel *__wrap_sim_parcel_new(struct sim_ep *to, enum sim_kind kind, size_t len);

/* What is on its way lies in the kernel elsewhere. */
struct sim_parcel *__wrap_sim_parcel_new(struct sim_ep *to, enum sim_kind kind, size_t len)
{
	atomic_fetch_add_explicit(&parcels, 1, memory_order_relaxed);
	return __real_sim_parcel_new(to, kind, len);
}

static struct heap_count count_now(void)
{
	struct heap_count c = heap_count_now();

	c.own -= atomic_load(&parcels);
	c.heap -= atomic_load(&parcels);
	return c;
}

/* ---- operations ---- */

/* Begins operation i of a batch: started, or, persistent, only made.  Blocking: all of it. */
static int seat_collective(struct seat *s, const struct spec *spec, unsigned i)
{
	const size_t n = spec->bytes / 8, each = n / (size_t)s->round->nranks;
	struct gyre_request **req = &s->req[s->nreqs];
	const void *in = spec->in_place ? GYRE_IN_PLACE : s->in + i * BUF_BYTES;
	void *out = s->out + i * BUF_BYTES;
	struct gyre_comm *c = s->comm;
	int err = -EINVAL;

	if (spec->how != BLOCKING)
		s->nreqs++;
	switch (spec->what * HOWS + spec->how) {
#define THREE(what, fn, ...)                                                  \
	case what * HOWS + BLOCKING:                                          \
		err = gyre_##fn(__VA_ARGS__);                                 \
		break;                                                        \
	case what * HOWS + NONBLOCKING:                                       \
		err = gyre_i##fn(__VA_ARGS__, req);                           \
		break;                                                        \
	case what * HOWS + PERSISTENT:                                        \
		err = gyre_##fn##_init(__VA_ARGS__, req);                     \
		break
		THREE(ALLREDUCE, allreduce, in, out, n, GYRE_INT64, GYRE_SUM, c);
		THREE(REDUCE_SCATTER, reduce_scatter, in, out, each, GYRE_INT64, GYRE_SUM, c);
		THREE(ALLGATHER, allgather, in, out, each, GYRE_INT64, c);
		THREE(BROADCAST, broadcast, out, n, GYRE_INT64, 0, c);
		THREE(BARRIER, barrier, c);
#undef THREE
	}
	return err;
}

/* To the next rank, from the one before. */
static int seat_message(struct seat *s, const struct spec *spec, unsigned i)
{
	const int n = s->round->nranks, to = (s->rank + 1) % n, from = (s->rank + n - 1) % n;
	void *in = s->in + i * BUF_BYTES, *out = s->out + i * BUF_BYTES;
	const size_t count = spec->bytes / 8;
	struct gyre_request **req = &s->req[s->nreqs];
	const int tag = (int)i;
	int err;

	if (spec->how == BLOCKING)
		return gyre_sendrecv(in, count, GYRE_INT64, to, tag, out, count, GYRE_INT64, from,
				     tag, s->comm, NULL);
	s->nreqs += 2;
	if (spec->how == NONBLOCKING) {
		err = gyre_irecv(out, count, GYRE_INT64, from, tag, s->comm, &req[0]);
		return err ? err : gyre_isend(in, count, GYRE_INT64, to, tag, s->comm, &req[1]);
	}
	err = gyre_recv_init(out, count, GYRE_INT64, from, tag, s->comm, &req[0]);
	return err ? err : gyre_send_init(in, count, GYRE_INT64, to, tag, s->comm, &req[1]);
}

static int seat_begin(struct seat *s, const struct spec *spec)
{
	unsigned i;
	int err = 0;

	s->nreqs = 0;
	for (i = 0; i < (spec->how == BLOCKING ? 1 : BATCH) && !err; i++)
		err = spec->what == MESSAGE ? seat_message(s, spec, i)
					    : seat_collective(s, spec, i);
	return err;
}

/* One repetition. */
static int seat_repeat(struct seat *s, const struct spec *spec)
{
	unsigned i;
	int err = 0;

	if (spec->how != PERSISTENT)
		err = seat_begin(s, spec);
	for (i = 0; spec->how == PERSISTENT && i < s->nreqs && !err; i++)
		err = gyre_request_start(s->req[i]);
	if (!err && spec->how != BLOCKING)
		err = gyre_request_waitall(s->nreqs, s->req, NULL);
	return err;
}

/* ---- windows ---- */

static unsigned long spec_reps(const struct round *round, const struct spec *spec)
{
	const unsigned long reps = spec->bytes > 100000 ? round->reps / 8
				   : spec->bytes > 2000 ? round->reps / 2
							: round->reps;

	return reps < 4 ? 4 : reps;
}

static int seat_window(struct seat *s, const struct spec *spec)
{
	const unsigned long reps = spec_reps(s->round, spec);
	struct round *round = s->round;
	struct heap_count now;
	unsigned long i;
	int err = 0;

	s->meet(s);
	if (s->rank == 0)
		round->before = count_now();
	s->meet(s);
	for (i = 0; i < reps && !err; i++)
		err = seat_repeat(s, spec);
	s->meet(s);
	if (s->rank == 0) {
		now = count_now();
		round->clean = heap_count_equal(&round->before, &now);
	}
	s->meet(s);
	return err;
}

static int seat_complain(const struct seat *s, const struct spec *spec, int err)
{
	const struct heap_count now = count_now(), *before = &s->round->before;

	printf("FAILED: %s, rank %d of %d: %s %s%s, %zu bytes: ", s->round->name, s->rank,
	       s->round->nranks, how_names[spec->how], what_names[spec->what],
	       spec->in_place ? " in place" : "", spec->bytes);
	if (err)
		printf("%s\n", gyre_strerror(err));
	else
		printf("still allocates: %ld calls of gy_alloc, %ld of malloc, %ld of mmap in the "
		       "last %lu\n",
		       (long)(now.own - before->own), (long)(now.heap - before->heap),
		       (long)(now.map - before->map), spec_reps(s->round, spec));
	return err ? err : -ENOMEM;
}

static int seat_spec(struct seat *s, const struct spec *spec)
{
	struct round *round = s->round;
	unsigned w, i, clean = 0;
	int err = 0;

	if (spec->how == PERSISTENT)
		err = seat_begin(s, spec);
	for (w = 0; w < WINDOWS && clean < CLEAN && !err; w++) {
		err = seat_window(s, spec);
		clean = round->clean ? clean + 1 : 0;
	}
	if (err || clean < CLEAN)
		return seat_complain(s, spec, err);
	if (s->rank == 0 && w - CLEAN > round->worst)
		round->worst = w - CLEAN;
	for (i = 0; spec->how == PERSISTENT && i < s->nreqs; i++)
		gyre_request_free(s->req[i]);
	return 0;
}

static bool spec_exists(const struct round *round, const struct spec *spec)
{
	if (round->only != WHATS && round->only != spec->what)
		return false;
	if (spec->what == BARRIER)
		return !spec->in_place && spec->bytes == 8;
	if (spec->bytes / 8 < (size_t)round->nranks &&
	    (spec->what == REDUCE_SCATTER || spec->what == ALLGATHER))
		return false;
	return !spec->in_place || spec->what < BROADCAST;
}

/*
 * Without GY_TEST_LONG=1 what can be in place is so with every other of form and size, which of
 * them the seed says.
 */
static bool spec_is_drawn(const struct round *round, const struct spec *spec, unsigned size)
{
	return test_is_long() || spec->what >= BROADCAST ||
	       spec->in_place == (spec->what + spec->how + size + round->seed) % 2;
}

static int seat_specs(struct seat *s)
{
	static const size_t bytes[] = { 8, 1024, 24 << 10, 400 << 10 };
	struct spec spec = { .in_place = false };
	unsigned i, size;
	int err = 0;

	for (i = 0; i < WHATS * HOWS * 2 * GY_ARRAY_SIZE(bytes) && !err; i++) {
		spec.what = (enum what)(i % WHATS);
		spec.how = (enum how)(i / WHATS % HOWS);
		spec.in_place = i / WHATS / HOWS % 2;
		size = i / WHATS / HOWS / 2;
		spec.bytes = bytes[size];
		if (spec_exists(s->round, &spec) && spec_is_drawn(s->round, &spec, size))
			err = seat_spec(s, &spec);
	}
	return err;
}

static int seat_run(struct seat *s)
{
	void *mem = NULL;
	int err = 0;

	s->comm = gyre_context_world(s->ctx);
	if (s->round->gyre_mem)
		err = gyre_mem_alloc(s->ctx, 2 * (size_t)BATCH * BUF_BYTES, &mem);
	else
		mem = gy_alloc(2 * (size_t)BATCH * BUF_BYTES);
	if (err || !mem)
		return err ? err : -ENOMEM;
	s->in = mem;
	s->out = s->in + (size_t)BATCH * BUF_BYTES;
	err = seat_specs(s);
	if (s->round->gyre_mem)
		gyre_mem_free(s->ctx, mem);
	else
		gy_free(mem);
	return err;
}

static int round_report(const struct round *round, int err)
{
	if (verbose || err)
		printf("%s, %d ranks, %s memory: %s after %u windows at most\n", round->name,
		       round->nranks, round->gyre_mem ? "gyre" : "heap",
		       err ? gyre_strerror(err) : "nothing is allocated", round->worst);
	return err;
}

/* ---- threads ---- */

static void thread_meet(struct seat *s)
{
	inproc_meet(((struct inproc_rank *)s->arg)->job);
}

static int thread_main(struct inproc_rank *r, void *arg)
{
	struct seat s = { .round = arg,
			  .rank = r->rank,
			  .ctx = r->ctx,
			  .meet = thread_meet,
			  .arg = r };
	const int err = seat_run(&s);

	if (err)
		exit(1);	/* the others would wait */
	return 0;
}

static int thread_round(const char *transport, uint64_t seed, int nranks, bool gyre_mem)
{
	static struct inproc job;
	struct round round = {
		.name = transport,
		.nranks = nranks,
		.gyre_mem = gyre_mem,
		.only = WHATS,
		.reps = test_times(12, 64),
		.seed = seed,
	};

	inproc_init(&job, nranks, transport);
	inproc_set(&job, "progress", gyre_mem ? "thread" : "manual");
	return round_report(&round, inproc_run(&job, thread_main, &round));
}

/*
 * Two ranks and three, memory of either kind: without GY_TEST_LONG=1 two of these four, which of
 * them the seed says.
 */
static int thread_rounds(const char *transport, uint64_t seed)
{
	unsigned i;
	int err = 0;

	for (i = 0; i < 4 && !err; i++) {
		const bool three = i & 1, gyre_mem = i & 2;

		if (test_is_long() || (three == gyre_mem) == seed % 2)
			err = thread_round(transport, seed / 2 + i, 2 + three, gyre_mem);
	}
	return err;
}

/* ---- the simulator ---- */

static void sim_meet(struct seat *s)
{
	const int all = ++s->met * s->round->nranks;

	atomic_fetch_add(&s->round->arrivals, 1);
	while (atomic_load(&s->round->arrivals) < all)
		gy_sim_sleep(s->arg, 1000);
}

struct sim_round {
	struct round base;
	struct gy_config cfg;
};

static int sim_main(struct gy_sim_rank *rank, void *arg)
{
	struct sim_round *r = arg;
	struct seat s = { .round = &r->base,
			  .rank = gy_sim_rank_id(rank),
			  .meet = sim_meet,
			  .arg = rank };
	int err = gy_sim_context(rank, &r->cfg, &s.ctx);

	if (!err)
		err = seat_run(&s);
	gyre_context_destroy(s.ctx);
	return err;
}

static int sim_round(int nranks, unsigned caps, uint64_t seed, enum what only,
		     const char *algorithm)
{
	struct sim_round r = { .base = { .name = "sim", .nranks = nranks, .only = only } };
	struct gy_sim_attr attr;
	char text[64];

	r.base.gyre_mem = seed % 2;
	r.base.reps = test_times(8, 16);
	r.base.seed = seed;
	gy_config_init(&r.cfg);
	if (algorithm) {
		snprintf(text, sizeof(text), "%s=%s", what_names[only], algorithm);
		if (gy_config_set(&r.cfg, "algorithm", text, GY_CONFIG_FILE, "the test"))
			return -EINVAL;
		r.base.name = algorithm;
	}
	gy_sim_attr_init(&attr, nranks, seed);
	attr.link.caps = caps;
	return round_report(&r.base, gy_sim_run(&attr, sim_main, &r));
}

static int sim_rounds(uint64_t seed)
{
	static const unsigned caps[] = { GY_SIM_BULK, GY_SIM_LEND | GY_SIM_MAP,
					 GY_SIM_BULK | GY_SIM_LEND | GY_SIM_LEND_HEAP };
	const int nranks = 2 + (int)(seed % 4);
	unsigned i;
	int err = 0;

	for (i = 0; i < GY_ARRAY_SIZE(caps) && !err; i++)
		err = sim_round(nranks, caps[i], seed + i, WHATS, NULL);
	for (i = 0; test_is_long() && gy_algos[i] && !err; i++)
		err = sim_round(nranks, caps[i % GY_ARRAY_SIZE(caps)], seed + i,
				(enum what)gy_algos[i]->coll, gy_algos[i]->name);
	return err;
}

/* Who counts nothing finds nothing. */
static int count_works(void)
{
	const struct heap_count before = heap_count_now();
	void *volatile heap = malloc(100), *volatile own = gy_alloc(100);
	const struct heap_count now = heap_count_now();

	free(heap);
	gy_free(own);
	return now.heap - before.heap == 2 && now.own - before.own == 1 ? 0 : -ENOTSUP;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },
		{ "transport", 1, NULL, 't' },
		{ "verbose", 0, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t seed = (uint64_t)(inproc_seconds() * 1e6);
	const char *only = NULL;
	int opt, err = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			only = optarg;
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	heap_count_open();
	printf("seed %llu\n", (unsigned long long)seed);
	err = count_works();
	if (!err && (!only || !strcmp(only, "sim")))
		err = sim_rounds(seed);
	if (!err && (!only || !strcmp(only, "shm")))
		err = thread_rounds("shm", seed);
	if (!err && (!only || !strcmp(only, "tcp")))
		err = thread_rounds("tcp", seed);
	printf("%s\n", err ? "FAILED" : "passed");
	return err != 0;
}
