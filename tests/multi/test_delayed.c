/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed.c - delayed collectives with real processes over each transport: x by closed forms
 * after every tick, two handles at once, a straggler, what the methods promise (delayed_oracles.c),
 * and ranks that are killed (delayed_killed.c).
 *
 *	test_delayed [TRANSPORT [WORK [SEED]]]
 *
 * TRANSPORT: only over that one, verbs too where there is a device; WORK: only that; SEED: of the
 * first of those that are drawn, printed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/long.h"
#include "tests/multi/delayed_work.h"

#define DRAWN 6 /* seeds for each work that draws, and transport */
#define DRAWN_LONG 100

double delayed_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Rounds alternate between two buffers: who is in the next but one has seen all leave this one. */
static int rank_allgather(void *arg, const void *in, void *out, size_t len)
{
	const struct rank *rank = arg;
	struct shared *sh = rank->shared;
	const unsigned n = atomic_load(&sh->come[rank->me]);
	const double end = delayed_seconds() + LIMIT_S;
	int r;

	if (len > GATHER_MAX)
		return -EMSGSIZE;
	memcpy(sh->gather[n % 2][rank->me], in, len);
	atomic_store(&sh->come[rank->me], n + 1);
	for (r = 0; r < RANKS; r++) {
		while (atomic_load(&sh->come[r]) <= n) {
			if (delayed_seconds() > end)
				return -ETIMEDOUT;
			sched_yield();
		}
		memcpy((char *)out + (size_t)r * len, sh->gather[n % 2][r], len);
	}
	return 0;
}

uint64_t delayed_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

float delayed_update(int rank, unsigned i)
{
	return (float)(12 * ((int)((unsigned)rank * 3 + i) % 7 - 3));
}

float delayed_mean_update(int but, unsigned i)
{
	float sum = 0;
	int r, n = 0;

	for (r = 0; r < RANKS; r++) {
		sum += r == but ? 0 : delayed_update(r, i);
		n += r != but;
	}
	return sum / (float)n;
}

void delayed_step(float *x, int rank)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += delayed_update(rank, i);
}

void delayed_compute(double s)
{
	const char *slow = getenv("GY_TEST_SLOWDOWN");
	const double end = delayed_seconds() + s * (slow ? atof(slow) : 1);

	while (delayed_seconds() < end)
		sched_yield();
}

int delayed_until_merged(struct rank *rank, struct gyre_delayed *d, double s, unsigned ticks,
			 uint64_t *log, unsigned *np)
{
	uint64_t merged = 0;
	struct gyre_tick t;
	int err = 0;

	for (*np = 0; !err && merged < 2 && *np < ticks * DELAYED_BATCHES;) {
		delayed_compute(s);
		delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, &t);
		if (log)
			log[*np] = t.applied << 32 | t.posted;
		if (err || ++*np % ticks)
			continue;
		merged = t.applied;
		err = gyre_allreduce(GYRE_IN_PLACE, &merged, 1, GYRE_UINT64, GYRE_MIN,
				     rank->world);
	}
	return err ? err : merged < 2 ? -ETIME : 0;
}

struct gyre_delayed_attr delayed_attr(uint32_t delay, uint32_t period)
{
	struct gyre_delayed_attr a;

	gyre_delayed_attr_init(&a);
	a.count = COUNT;
	a.delay = delay;
	a.period = period;
	return a;
}

int delayed_expect(const struct rank *rank, const char *what, unsigned i, double x, double want)
{
	if (x == want)
		return 0;
	fprintf(stderr, "rank %d, %s, element %u: %g, not %g\n", rank->me, what, i, x, want);
	return -EBADMSG;
}

int delayed_check(const struct rank *rank, const float *x, unsigned n, unsigned merged)
{
	char what[32];
	unsigned i;
	int err = 0;

	snprintf(what, sizeof(what), "tick %u", n);
	for (i = 0; i < COUNT && !err; i++)
		err = delayed_expect(rank, what, i, x[i],
				     (float)merged * delayed_mean_update(-1, i) +
					     (float)(n - merged) * delayed_update(rank->me, i));
	return err;
}

/* ---- what ranks do ---- */

/* Two handles of different periods, ticked in another order on each rank. */
static int work_constant(struct rank *rank)
{
	struct gyre_delayed_attr a[2] = { delayed_attr(3, 1), delayed_attr(2, 3) };
	struct gyre_delayed *d[2] = { NULL, NULL };
	float *x[2] = { rank->x, calloc(COUNT, sizeof(float)) };
	unsigned n, k, i;
	int err = x[1] ? 0 : -ENOMEM;

	a[1].commit = GYRE_COMMIT_NONE;
	for (i = 0; i < 2 && !err; i++)
		err = gyre_delayed_create(&a[i], x[i], rank->world, &d[i]);
	for (n = 1; n <= 25 && !err; n++) {
		for (k = 0; k < 2 && !err; k++) {
			i = (k + n + (unsigned)rank->me) % 2;
			delayed_step(x[i], rank->me);
			err = gyre_delayed_tick(d[i], 1, NULL);
			if (!err)
				err = delayed_check(rank, x[i], n,
						    n < a[i].delay
							    ? 0
							    : (n - a[i].delay) / a[i].period *
								      a[i].period);
		}
	}
	for (i = 0; i < 2 && !err; i++)
		err = gyre_delayed_drain(d[i], GYRE_DRAIN_APPLY);
	if (!err && memcmp(x[0], x[1], COUNT * sizeof(float)))
		err = -EBADMSG;
	gyre_delayed_destroy(d[1]);
	gyre_delayed_destroy(d[0]);
	free(x[1]);
	return err;
}

/* Rank 0 is slow; nobody waits for it. */
static int work_led(struct rank *rank, const struct gyre_delayed_attr *a)
{
	struct gyre_delayed_stats *const st = &rank->shared->stats[rank->me];
	struct gyre_delayed *d = NULL;
	unsigned n;
	int err;

	err = gyre_delayed_create(a, rank->x, rank->world, &d);
	if (!err)
		err = delayed_until_merged(rank, d, rank->me ? 2e-3 : 8e-3, rank->me ? 100 : 25,
					   NULL, &n);
	if (!err)
		err = gyre_delayed_stats(d, st);
	if (!err && st->blocked_ns) {
		fprintf(stderr, "rank %d: waited for %llu ns\n", rank->me,
			(unsigned long long)st->blocked_ns);
		err = -EBADMSG;
	}
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

static int work_ready(struct rank *rank)
{
	struct gyre_delayed_attr a;

	gyre_lasgd_attr(&a, 3);
	a.count = COUNT;
	return work_led(rank, &a);
}

static int work_quorum(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(0, 0);

	a.trigger = GYRE_TRIGGER_QUORUM;
	a.apply = GYRE_APPLY_ARRIVAL;
	a.min_steps = 3;
	a.quorum = 2;
	a.grace_ms = 1;
	return work_led(rank, &a);
}

static int work_agreed(struct rank *rank)
{
	struct gyre_delayed_attr a = delayed_attr(0, 2);
	struct gyre_delayed *d = NULL;
	struct gyre_tick t;
	uint64_t log[60] = { 0 }, other[60];
	unsigned n;
	int err;

	a.apply = GYRE_APPLY_AGREED;
	a.margin = 2;
	a.max_delay = 12;
	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 0; n < 60 && !err; n++) {
		delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, &t);
		log[n] = t.applied << 32 | t.posted;
	}
	memcpy(other, log, sizeof(log));
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err)
		err = gyre_broadcast(other, 60, GYRE_UINT64, 0, rank->world);
	if (!err && memcmp(other, log, sizeof(log)))
		err = -EBADMSG;
	gyre_delayed_destroy(d);
	return err;
}

/* ---- running them ---- */

static const struct work works[] = {
	{ .name = "constant", .fn = work_constant },
	{ .name = "ready", .fn = work_ready },
	{ .name = "quorum", .fn = work_quorum },
	{ .name = "agreed", .fn = work_agreed },
	{ .name = NULL },
};

static int rank_run(struct rank *rank, const char *transport, const struct work *work)
{
	const struct gyre_context_attr attr = {
		.size = sizeof(attr),
		.transport = transport,
		.rank = rank->me,
		.nranks = RANKS,
		.allgather = rank_allgather,
		.allgather_arg = rank,
	};
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LIMIT_S);
	if (work->shape)
		setenv("GYRE_TCP_SHAPE", work->shape, 1);
	rank->x = rank->shared->x[rank->me];
	err = gyre_context_create(&attr, &rank->ctx);
	if (err)
		return err;
	rank->world = gyre_context_world(rank->ctx);
	err = work->fn(rank);
	gyre_context_destroy(rank->ctx);
	if (err)
		fprintf(stderr, "%s, %s: rank %d: %s\n", transport, work->name, rank->me,
			gyre_strerror(err));
	return err;
}

static bool rank_has_ended_well(int victim, int r, int status)
{
	if (r == victim)
		return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static int work_run(const char *transport, const struct work *work, uint64_t seed)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const int victim = work->victim ? work->victim(seed) : -1, first = victim == 0;
	pid_t pids[RANKS];
	int r, status, bad = 0;

	if (sh == MAP_FAILED)
		return 1;
	fflush(stdout);
	for (r = 0; r < RANKS; r++) {
		struct rank rank = { .shared = sh, .me = r, .seed = seed };

		pids[r] = fork();
		if (pids[r] < 0)
			return 1; /* those that run end by themselves */
		if (!pids[r])
			_exit(rank_run(&rank, transport, work) != 0);
	}
	for (r = 0; r < RANKS; r++)
		bad |= waitpid(pids[r], &status, 0) != pids[r] ||
		       !rank_has_ended_well(victim, r, status);
	for (r = 0; r < RANKS; r++)
		bad |= !work->parts && r != victim &&
		       memcmp(sh->x[r], sh->x[first], sizeof(sh->x[r]));
	if (bad || !work->draws)
		printf("%s, %s, seed %llu: %s\n", transport, work->name, (unsigned long long)seed,
		       bad ? "failed" : "passed");
	munmap(sh, sizeof(*sh));
	return bad;
}

/* Of those with a shape only the ones over TCP. */
static int works_run(const struct work *work, const char *transport, const char *only,
		     uint64_t seed)
{
	unsigned times, i;
	int bad = 0;

	for (; work->name; work++) {
		if ((only && strcmp(only, work->name)) ||
		    (work->shape && strcmp(transport, "tcp") != 0))
			continue;
		times = work->draws ? test_times(DRAWN, DRAWN_LONG) : 1;
		for (i = 0; i < times && !bad; i++)
			bad |= work_run(transport, work, seed + i);
		if (work->draws && !bad)
			printf("%s, %s: %u passed\n", transport, work->name, times);
	}
	return bad;
}

int main(int argc, char **argv)
{
	static const char *const both[] = { "shm", "tcp" };
	const char *const *transports = argc < 2 ? both : (const char *const *)argv + 1;
	const size_t ntransports = argc < 2 ? 2 : 1;
	const char *only = argc > 2 ? argv[2] : NULL;
	uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : (uint64_t)(delayed_seconds() * 1e6);
	size_t t;
	int bad = 0;

	setenv("GYRE_LOG", "error", 0);
	printf("seed %llu\n", (unsigned long long)seed);
	for (t = 0; t < ntransports; t++) {
		bad |= works_run(works, transports[t], only, seed);
		bad |= works_run(delayed_oracles, transports[t], only, seed);
		bad |= works_run(delayed_killed, transports[t], only, seed);
	}
	return bad;
}
