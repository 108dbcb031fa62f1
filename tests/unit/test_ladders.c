/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ladders.c - memory that is short: the first allocation of a piece of work fails, then in
 * another run the second, and so on until the work is done without reaching the one that would
 * fail.  In the simulator, where the same seed gives the same run.  Without GY_TEST_LONG=1 some
 * rungs are left out.
 *
 * The work is the first call of each kind: collectives, messages, requests, splitting, agreeing,
 * memory, and making a context.
 *
 * Each failure is one of two things.  Either the call returns -ENOMEM on the
 * rank that was short and nothing has started: then the same call works when it is made again,
 * while the others wait in theirs.  Or the communicator has failed: then every rank's pending or
 * next call returns its error, soon, and its text says that memory was short, or which rank could
 * not be connected to for that.  Nothing is leaked.
 *
 *	test_ladders [--seed S] [--seeds N] [--stride N] [--only NAME] [--verbose]
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gyre/gyre.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/inproc.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 4
#define MAX_ALL 32768		/* elements of a vector of all ranks */
#define MAX_RUNGS 5000
#define LATE_LOOKS 30		/* after so many, messages have arrived */
#define SOON_NS 1000000000ull	/* virtual */

struct ladder;

/* A rank of one run. */
struct seat {
	struct ladder *ladder;
	struct gy_sim_rank *sim;
	int rank, met;
	struct gyre_context *ctx;
	struct gyre_comm *world;
	int64_t *in, *out;
	bool tried;		/* a call has failed and is made again */
};

struct work {
	const char *name;
	int (*run)(struct seat *s);
	bool sized;		/* depends on the count */
};

struct ladder {
	const struct work *work;
	size_t count;			/* of a rank */
	int nranks;
	unsigned caps;
	bool manual;
	uint64_t seed;
	/* of one run */
	long rung, before, used;
	int arrivals, failed;
	bool wrong;
	uint64_t start_ns;
	int64_t in[MAX_RANKS][MAX_ALL], out[MAX_RANKS][MAX_ALL];
};

static bool verbose;
static unsigned stride;		/* a step is up to so many rungs */
static unsigned long runs, said;

/* Nobody reads thousands of failures; that there is something to read counts. */
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
{
	va_list ap;

	said++;
	if (!verbose)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static void ladder_failed(const struct ladder *l)
{
	printf("FAILED: %s of %zu, %d ranks, capabilities %u, progress %s, seed %llu, allocation "
	       "%ld: ",
	       l->work->name, l->count, l->nranks, l->caps, l->manual ? "manual" : "thread",
	       (unsigned long long)l->seed, l->rung);
}

/* ---- a rank ---- */

static void seat_complain(struct seat *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void seat_complain(struct seat *s, const char *fmt, ...)
{
	va_list ap;

	ladder_failed(s->ladder);
	printf("rank %d: ", s->rank);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	s->ladder->wrong = true;
}

/* All ranks; who drives by hand goes on with that. */
static void seat_meet(struct seat *s)
{
	const int all = ++s->met * s->ladder->nranks;

	s->ladder->arrivals++;
	while (s->ladder->arrivals < all) {
		gy_sim_sleep(s->sim, 1000);
		if (s->ladder->manual)
			gyre_progress(s->ctx);
	}
}

/* Whether a call has failed without a trace, and is to be made again. */
static bool seat_again(struct seat *s, const struct gyre_comm *comm, int err)
{
	if (err != -ENOMEM || s->tried || gyre_comm_status(comm, NULL, 0))
		return false;
	s->tried = true;
	return true;
}

/*
 * Whether an error is one that a communicator's failure for want of memory explains.  Who has none
 * for a connection refuses it, and is lost to who called, and may be declared dead for that; who
 * has heard of a failure destroys a new communicator, perhaps before others have it.
 */
static bool seat_explains(struct seat *s, const struct gyre_comm *comm, int err)
{
	char why[300];
	const int status = gyre_comm_status(comm, why, sizeof(why));

	if (!status)
		seat_complain(s, "%s, and the communicator works", gyre_strerror(err));
	else if (status != err)
		seat_complain(s, "%s, and the communicator says %s: %s", gyre_strerror(err),
			      gyre_strerror(status), why);
	else if (!(err == -ENOMEM && strstr(why, "memory")) &&
		 !(err == -ECONNRESET && strstr(why, "is lost")) &&
		 !(err == -ESTALE && strstr(why, "declared dead")) &&
		 !(err == -EPROTO && comm != s->world && strstr(why, "has destroyed")))
		seat_complain(s, "%s, because: %s", gyre_strerror(err), why);
	else
		return true;
	return false;
}

/* ---- what a rank has, and what it should get ---- */

static int64_t value(int rank, size_t i)
{
	return 1000 * (int64_t)rank + (int64_t)(i % 1000);
}

static int64_t value_of_all(const struct seat *s, size_t i)
{
	int64_t sum = 0;
	int r;

	for (r = 0; r < s->ladder->nranks; r++)
		sum += value(r, i);
	return sum;
}

static void seat_fill(struct seat *s, int64_t *buf, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		buf[i] = value(s->rank, i);
}

/* got: n elements, from number first on, of one rank's vector or (rank -1) of all ranks' sum. */
static int seat_check(struct seat *s, const int64_t *got, int rank, size_t first, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const int64_t want = rank < 0 ? value_of_all(s, first + i) : value(rank, first + i);

		if (got[i] == want)
			continue;
		seat_complain(s, "element %zu is %lld, not %lld", first + i, (long long)got[i],
			      (long long)want);
		return -EBADMSG;
	}
	return 0;
}

/* ---- work ---- */

/* From in, or in place, to out. */
static int seat_allreduce(struct seat *s, const void *in, int64_t *out)
{
	const size_t n = s->ladder->count;
	int err;

	do
		err = gyre_allreduce(in, out, n, GYRE_INT64, GYRE_SUM, s->world);
	while (seat_again(s, s->world, err));
	return err ? err : seat_check(s, out, -1, 0, n);
}

static int run_allreduce(struct seat *s)
{
	return seat_allreduce(s, s->in, s->out);
}

static int run_allreduce_in_place(struct seat *s)
{
	return seat_allreduce(s, GYRE_IN_PLACE, s->in);
}

static int run_iallreduce(struct seat *s)
{
	const size_t n = s->ladder->count;
	struct gyre_request *req = NULL;
	int err;

	do
		err = gyre_iallreduce(s->in, s->out, n, GYRE_INT64, GYRE_SUM, s->world, &req);
	while (seat_again(s, s->world, err));
	if (!err)
		err = gyre_request_wait(&req, NULL);
	return err ? err : seat_check(s, s->out, -1, 0, n);
}

/* A persistent one, once. */
static int seat_start(struct seat *s, struct gyre_request *req)
{
	int err;

	do
		err = gyre_request_start(req);
	while (seat_again(s, s->world, err));
	return err ? err : gyre_request_wait(&req, NULL);
}

static int run_allreduce_init(struct seat *s)
{
	const size_t n = s->ladder->count;
	struct gyre_request *req = NULL;
	int err, i;

	do
		err = gyre_allreduce_init(s->in, s->out, n, GYRE_INT64, GYRE_SUM, s->world, &req);
	while (seat_again(s, s->world, err));
	for (i = 0; i < 2 && !err; i++)
		err = seat_start(s, req);
	gyre_request_free(req);
	return err ? err : seat_check(s, s->out, -1, 0, n);
}

static int run_reduce_scatter(struct seat *s)
{
	const size_t n = s->ladder->count;
	int err;

	do
		err = gyre_reduce_scatter(s->in, s->out, n, GYRE_INT64, GYRE_SUM, s->world);
	while (seat_again(s, s->world, err));
	return err ? err : seat_check(s, s->out, -1, (size_t)s->rank * n, n);
}

static int run_allgather(struct seat *s)
{
	const size_t n = s->ladder->count;
	int err, r;

	do
		err = gyre_allgather(s->in, s->out, n, GYRE_INT64, s->world);
	while (seat_again(s, s->world, err));
	for (r = 0; r < s->ladder->nranks && !err; r++)
		err = seat_check(s, s->out + (size_t)r * n, r, 0, n);
	return err;
}

static int run_broadcast(struct seat *s)
{
	const int root = s->ladder->nranks - 1;
	const size_t n = s->ladder->count;
	int err;

	do
		err = gyre_broadcast(s->in, n, GYRE_INT64, root, s->world);
	while (seat_again(s, s->world, err));
	return err ? err : seat_check(s, s->in, root, 0, n);
}

static int run_barrier(struct seat *s)
{
	int err;

	do
		err = gyre_barrier(s->world);
	while (seat_again(s, s->world, err));
	return err;
}

/* To the next, from the one before; some find their message there. */
static int run_sendrecv(struct seat *s)
{
	const int nranks = s->ladder->nranks, to = (s->rank + 1) % nranks;
	const int from = (s->rank + nranks - 1) % nranks;
	const size_t n = s->ladder->count;
	int err, i;

	for (i = 0; i < LATE_LOOKS && s->rank % 2; i++) {
		gy_sim_sleep(s->sim, 10000);
		gyre_progress(s->ctx);
	}
	do
		err = gyre_sendrecv(s->in, n, GYRE_INT64, to, 7, s->out, n, GYRE_INT64, from, 7,
				    s->world, NULL);
	while (seat_again(s, s->world, err));
	return err ? err : seat_check(s, s->out, from, 0, n);
}

/* The other way round, several at once; what has not been started is not waited for. */
static int run_isend(struct seat *s)
{
	const int nranks = s->ladder->nranks, to = (s->rank + nranks - 1) % nranks;
	const int from = (s->rank + 1) % nranks;
	const size_t n = s->ladder->count / 2;
	struct gyre_request *req[4] = { NULL };
	int err = 0, waited, i;

	for (i = 0; i < 2 && !err; i++) {
		do
			err = gyre_isend(s->in + (size_t)i * n, n, GYRE_INT64, to, i, s->world,
					 &req[i]);
		while (seat_again(s, s->world, err));
	}
	for (i = 0; i < 2 && !err; i++) {
		do
			err = gyre_irecv(s->out + (size_t)i * n, n, GYRE_INT64, from, i, s->world,
					 &req[2 + i]);
		while (seat_again(s, s->world, err));
	}
	waited = gyre_request_waitall(4, req, NULL);
	if (!err)
		err = waited;
	return err ? err : seat_check(s, s->out, from, 0, 2 * n);
}

static int run_send_init(struct seat *s)
{
	const bool sends = s->rank % 2 == 0;
	const int other = sends ? s->rank + 1 : s->rank - 1;
	const size_t n = s->ladder->count;
	struct gyre_request *req = NULL;
	int err;

	if (other == s->ladder->nranks)
		return 0;
	do
		err = sends ? gyre_send_init(s->in, n, GYRE_INT64, other, 1, s->world, &req)
			    : gyre_recv_init(s->out, n, GYRE_INT64, other, 1, s->world, &req);
	while (seat_again(s, s->world, err));
	if (err)
		return err;
	err = seat_start(s, req);
	gyre_request_free(req);
	return err || sends ? err : seat_check(s, s->out, other, 0, n);
}

/* A sum in a new communicator, which may fail alone, and its end; the world's error. */
static int seat_sum(struct seat *s, struct gyre_comm *comm)
{
	int64_t one = 1, sum = 0;
	int err;

	do
		err = gyre_allreduce(&one, &sum, 1, GYRE_INT64, GYRE_SUM, comm);
	while (seat_again(s, comm, err));
	if (!err && sum != gyre_comm_size(comm))
		seat_complain(s, "the sum is %lld", (long long)sum);
	if (err && seat_explains(s, comm, err))
		err = gyre_comm_status(s->world, NULL, 0);
	gyre_comm_destroy(comm);
	return err;
}

static int run_split(struct seat *s)
{
	struct gyre_comm *some = NULL;
	int err;

	do {
		err = gyre_comm_split(s->world, s->rank % 2, -s->rank, &some);
		seat_meet(s);		/* who is short of memory lets nobody wait */
	} while (seat_again(s, s->world, err));
	return err ? err : seat_sum(s, some);
}

/*
 * An agreement takes no memory but for connections: a rank that has none for one is as good as
 * lost to the other, and the agreement says so.
 */
static int run_agree(struct seat *s)
{
	const uint64_t all = UINT64_MAX << (s->ladder->nranks - 1);
	uint64_t flags = UINT64_MAX << s->rank;
	const int err = gyre_comm_agree(s->world, &flags);

	if (!err && flags != all)
		seat_complain(s, "the flags are %llx", (unsigned long long)flags);
	return err ? gyre_comm_status(s->world, NULL, 0) : 0;
}

/* Who is short of memory for the new communicator lets nobody have it. */
static int run_shrink(struct seat *s)
{
	struct gyre_comm *left = NULL;
	int err;

	do
		err = gyre_comm_shrink(s->world, &left);
	while (seat_again(s, s->world, err));
	return err ? gyre_comm_status(s->world, NULL, 0) : seat_sum(s, left);
}

static int run_mem_alloc(struct seat *s)
{
	const size_t n = s->ladder->count;
	void *mem = NULL;
	int err;

	do
		err = gyre_mem_alloc(s->ctx, n * sizeof(*s->in), &mem);
	while (seat_again(s, s->world, err));
	if (err)
		return err;
	seat_fill(s, mem, n);
	err = seat_allreduce(s, mem, s->out);
	gyre_mem_free(s->ctx, mem);
	return err;
}

static const struct work works[] = {
	{ "allreduce", run_allreduce, true },
	{ "allreduce_in_place", run_allreduce_in_place, true },
	{ "iallreduce", run_iallreduce, true },
	{ "allreduce_init", run_allreduce_init, true },
	{ "reduce_scatter", run_reduce_scatter, true },
	{ "allgather", run_allgather, true },
	{ "broadcast", run_broadcast, true },
	{ "barrier", run_barrier, false },
	{ "sendrecv", run_sendrecv, true },
	{ "isend", run_isend, true },
	{ "send_init", run_send_init, true },
	{ "split", run_split, false },
	{ "mem_alloc", run_mem_alloc, true },
	{ "context", NULL, false },
	{ "agree", run_agree, false },
	{ "shrink", run_shrink, false },
};

/* ---- one run ---- */

static void rank_arm(struct seat *s)
{
	struct ladder *l = s->ladder;

	seat_meet(s);
	if (s->rank)
		return;
	l->before = gy_alloc_count();
	l->start_ns = gy_sim_now(gy_sim_world(s->sim));
	gy_alloc_fail_at(l->rung);
}

static void rank_disarm(struct seat *s)
{
	struct ladder *l = s->ladder;

	seat_meet(s);
	if (!s->rank) {
		gy_alloc_fail_at(0);
		l->used = gy_alloc_count() - l->before;
	}
	if (gy_sim_now(gy_sim_world(s->sim)) > l->start_ns + SOON_NS)
		seat_complain(s, "it took %.1f s",
			      (double)(gy_sim_now(gy_sim_world(s->sim)) - l->start_ns) * 1e-9);
	seat_meet(s);
}

/* All that memory may be short for; then the next call, which tells what the first may not. */
static void rank_work(struct seat *s)
{
	struct ladder *l = s->ladder;
	int err, next;

	rank_arm(s);
	err = l->work->run(s);
	rank_disarm(s);
	if (err && err != -EBADMSG)
		seat_explains(s, s->world, err);
	next = gyre_barrier(s->world);
	if (err && !next)
		seat_complain(s, "%s, and then a call works", gyre_strerror(err));
	if (next && (!err || next != err))
		seat_explains(s, s->world, next);
	l->failed += next != 0;
	if (gy_sim_now(gy_sim_world(s->sim)) > l->start_ns + 2 * SOON_NS)
		seat_complain(s, "the next call took long");
	seat_meet(s);
	if (l->failed % l->nranks)
		seat_complain(s, "the communicator has failed on %d ranks only", l->failed);
}

/*
 * Who cannot make a context leaves; the others cannot either, or find that it is gone when they
 * first need it.
 */
static int rank_context(struct seat *s, const struct gy_config *cfg)
{
	struct gy_sim_world *w = gy_sim_world(s->sim);
	struct ladder *l = s->ladder;
	char why[300] = "";
	int err;

	if (!s->rank && !l->before) {
		l->before = gy_alloc_count();
		gy_alloc_fail_at(l->rung);
	}
	err = gy_sim_context(s->sim, cfg, &s->ctx);
	l->used = gy_alloc_count() - l->before;
	if (!err) {
		s->world = gyre_context_world(s->ctx);
		do
			err = gyre_barrier(s->world);
		while (seat_again(s, s->world, err));
		gyre_comm_status(s->world, why, sizeof(why));
		if (err && !strstr(why, "rank") && !strstr(why, "memory"))
			seat_complain(s, "%s, because: %s", gyre_strerror(err), why);
		gyre_context_destroy(s->ctx);
	}
	l->failed += err != 0;
	if (err && err != -ENOMEM && err != -ECONNRESET && err != -ECONNREFUSED)
		seat_complain(s, "%s", gyre_strerror(err));
	if (gy_sim_now(w) > SOON_NS)
		seat_complain(s, "it took %.1f s", (double)gy_sim_now(w) * 1e-9);
	return 0;
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct ladder *l = arg;
	struct seat s = { .ladder = l, .sim = rank, .rank = gy_sim_rank_id(rank) };
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.progress = l->manual ? GY_CONFIG_PROGRESS_MANUAL : GY_CONFIG_PROGRESS_THREAD;
	cfg.stall_timeout_ms = 3000;
	if (!l->work->run)
		return rank_context(&s, &cfg);
	s.in = l->in[s.rank];
	s.out = l->out[s.rank];
	seat_fill(&s, s.in, MAX_ALL);
	err = gy_sim_context(rank, &cfg, &s.ctx);
	if (err)
		return err;
	s.world = gyre_context_world(s.ctx);
	rank_work(&s);
	gyre_context_destroy(s.ctx);
	return 0;
}

/* 1: the work was done without reaching the allocation that would have failed; 0; -errno. */
static int ladder_step(struct ladder *l, long rung)
{
	const unsigned long before = said;
	struct gy_sim_attr attr;
	int err;

	l->rung = rung;
	l->arrivals = l->failed = 0;
	l->before = l->used = 0;
	l->wrong = false;
	gy_sim_attr_init(&attr, l->nranks, l->seed);
	attr.link.caps = l->caps;
	attr.deadline_ns = 20 * SOON_NS;
	err = gy_sim_run(&attr, rank_main, l);
	gy_alloc_fail_at(0);
	runs++;
	if (l->wrong)
		return -EBADMSG;
	if (err || gy_alloc_live()) {
		ladder_failed(l);
		printf("%s, %ld blocks are left\n", gyre_strerror(err), gy_alloc_live());
		return err ? err : -ENOTEMPTY;
	}
	if (l->failed && l->work->run && said == before) {
		ladder_failed(l);
		printf("nothing in the log\n");
		return -EBADMSG;
	}
	return l->used < rung;
}

static int ladder_climb(struct ladder *l)
{
	uint64_t dice = l->seed;
	long rung;
	int rc = 0;

	for (rung = 1; rung < MAX_RUNGS && !rc; rung += 1 + (long)(inproc_random(&dice) % stride))
		rc = ladder_step(l, rung);
	if (rc > 0 && l->failed) {
		printf("FAILED: %s fails with memory enough\n", l->work->name);
		return -EBADMSG;
	}
	if (verbose)
		printf("%s of %zu: up to %ld\n", l->work->name, l->count, l->rung);
	return rc > 0 ? 0 : rc ? rc : -ELOOP;
}

static int ladders_run(uint64_t seed, const char *only)
{
	static const unsigned caps[] = {
		GY_SIM_BULK,
		GY_SIM_LEND | GY_SIM_MAP,
		GY_SIM_BULK | GY_SIM_LEND | GY_SIM_LEND_HEAP,
		GY_SIM_BULK | GY_SIM_WRITE,
	};
	static const size_t counts[] = { 2, 400, MAX_ALL / MAX_RANKS };
	static struct ladder l;
	unsigned i, k;
	int err = 0;

	for (i = 0; i < GY_ARRAY_SIZE(works) && !err; i++) {
		if (only && strcmp(only, works[i].name))
			continue;
		for (k = 0; k < (works[i].sized ? GY_ARRAY_SIZE(counts) : 1) && !err; k++) {
			l.work = &works[i];
			l.count = counts[k];
			l.seed = seed + 100 * i + k;
			l.nranks = 2 + (int)(l.seed * 7 % 3);
			l.caps = caps[(l.seed + k) % GY_ARRAY_SIZE(caps)];
			l.manual = (l.seed + i) % 3 == 0;
			err = ladder_climb(&l);
		}
	}
	return err;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },
		{ "seeds", 1, NULL, 'n' },
		{ "stride", 1, NULL, 'i' },
		{ "only", 1, NULL, 'o' },
		{ "verbose", 0, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t seed = 1, nseeds = test_times(1, 2), i;
	const char *only = NULL;
	int opt, err = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	stride = test_times(9, 1);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			nseeds = strtoull(optarg, NULL, 0);
		else if (opt == 'i')
			stride = (unsigned)atoi(optarg);
		else if (opt == 'o')
			only = optarg;
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	if (!stride)
		return 2;
	for (i = 0; i < nseeds && !err; i++)
		err = ladders_run(seed + i, only);
	printf("%s: %lu runs, seeds from %llu\n", err ? "FAILED" : "passed", runs,
	       (unsigned long long)seed);
	return err != 0;
}
