/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_delayed.c - delayed collectives with real processes over each transport: x by closed forms
 * after every tick, two handles at once, a straggler, and a rank that is killed.
 *
 *	test_delayed [TRANSPORT]	over that one only; verbs, where there is a device
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <gyre/gyre.h>

#define RANKS 4
#define COUNT 60000
#define GATHER_MAX 8192
#define LIMIT_S 60			/* of one case */

/* What the ranks and their parent share. */
struct shared {
	_Atomic unsigned come[RANKS];	/* allgathers so far */
	uint8_t gather[2][RANKS][GATHER_MAX];
	float x[RANKS][COUNT];
	struct gyre_delayed_stats stats[RANKS];
};

struct rank {
	struct shared *shared;
	int me;
	struct gyre_context *ctx;
	struct gyre_comm *world;
	float *x;
};

static double seconds(void)
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
	const double end = seconds() + LIMIT_S;
	int r;

	if (len > GATHER_MAX)
		return -EMSGSIZE;
	memcpy(sh->gather[n % 2][rank->me], in, len);
	atomic_store(&sh->come[rank->me], n + 1);
	for (r = 0; r < RANKS; r++) {
		while (atomic_load(&sh->come[r]) <= n) {
			if (seconds() > end)
				return -ETIMEDOUT;
			sched_yield();
		}
		memcpy((char *)out + (size_t)r * len, sh->gather[n % 2][r], len);
	}
	return 0;
}

/* Multiples of all that ranks may be divided by. */
static float update(int rank, unsigned i)
{
	return (float)(12 * ((int)((unsigned)rank * 3 + i) % 7 - 3));
}

static float mean_update(int but, unsigned i)
{
	float sum = 0;
	int r, n = 0;

	for (r = 0; r < RANKS; r++) {
		sum += r == but ? 0 : update(r, i);
		n += r != but;
	}
	return sum / (float)n;
}

static void step(float *x, int rank)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += update(rank, i);
}

/* Computes for about so long; longer where exchanges take longer, too (GY_TEST_SLOWDOWN). */
static void compute(double s)
{
	const char *slow = getenv("GY_TEST_SLOWDOWN");
	const double end = seconds() + s * (slow ? atof(slow) : 1);

	while (seconds() < end)
		sched_yield();
}

static struct gyre_delayed_attr attr_of(uint32_t delay, uint32_t period)
{
	struct gyre_delayed_attr a;

	gyre_delayed_attr_init(&a);
	a.count = COUNT;
	a.delay = delay;
	a.period = period;
	return a;
}

static int check(const struct rank *rank, const float *x, unsigned n, unsigned merged)
{
	unsigned i;

	for (i = 0; i < COUNT; i++) {
		const float want = (float)merged * mean_update(-1, i) +
				   (float)(n - merged) * update(rank->me, i);

		if (x[i] == want)
			continue;
		fprintf(stderr, "rank %d, tick %u, element %u: %g, not %g\n", rank->me, n, i,
			(double)x[i], (double)want);
		return -EBADMSG;
	}
	return 0;
}

/* ---- what ranks do ---- */

/* Two handles of different periods, ticked in another order on each rank. */
static int work_constant(struct rank *rank)
{
	struct gyre_delayed_attr a[2] = { attr_of(3, 1), attr_of(2, 3) };
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
			step(x[i], rank->me);
			err = gyre_delayed_tick(d[i], 1, NULL);
			if (!err)
				err = check(rank, x[i], n,
					    n < a[i].delay
						    ? 0
						    : (n - a[i].delay) / a[i].period * a[i].period);
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
	const unsigned ticks = rank->me ? 100 : 25;
	struct gyre_delayed *d = NULL;
	unsigned n;
	int err;

	err = gyre_delayed_create(a, rank->x, rank->world, &d);
	for (n = 1; n <= ticks && !err; n++) {
		compute(rank->me ? 2e-3 : 8e-3);
		step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	if (!err)
		err = gyre_delayed_stats(d, &rank->shared->stats[rank->me]);
	if (!err &&
	    (rank->shared->stats[rank->me].blocked_ns || rank->shared->stats[rank->me].applied < 2))
		err = -EBADMSG;
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
	struct gyre_delayed_attr a = attr_of(0, 0);

	a.trigger = GYRE_TRIGGER_QUORUM;
	a.apply = GYRE_APPLY_ARRIVAL;
	a.min_steps = 3;
	a.quorum = 2;
	a.grace_ms = 1;
	return work_led(rank, &a);
}

static int work_agreed(struct rank *rank)
{
	struct gyre_delayed_attr a = attr_of(0, 2);
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
		step(rank->x, rank->me);
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

#define VICTIM 0		/* the leader of rounds */

/* A rank dies between two ticks, with rounds in flight; the others go on and lose nothing. */
static int work_killed(struct rank *rank)
{
	const struct gyre_delayed_attr a = attr_of(3, 1);
	const unsigned last = 8 + (unsigned)getppid() % 8;
	struct gyre_delayed_stats st;
	struct gyre_delayed *d = NULL;
	struct gyre_comm *left = NULL;
	unsigned n, i, shared;
	int err;

	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 1; n <= 40 && !err; n++) {
		if (rank->me == VICTIM && n == last)
			raise(SIGKILL);
		compute(1e-3);
		step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	n--;
	if (!err)
		return -EBADMSG;
	err = gyre_comm_shrink(rank->world, &left);
	if (!err)
		err = gyre_delayed_rebind(d, left);
	if (!err)
		err = gyre_delayed_stats(d, &st);
	shared = (unsigned)st.committed;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	/* what the victim shared counts; of the others, all: they may have done unequal steps */
	if (!err)
		err = gyre_allgather(&n, rank->shared->gather[0][rank->me], 1, GYRE_UINT32, left);
	for (i = 0; i < COUNT && !err; i++) {
		const uint32_t *ticks = (const uint32_t *)rank->shared->gather[0][rank->me];
		float want = (float)shared * mean_update(-1, i);
		int r;

		for (r = 1; r < RANKS; r++)
			want += (float)(ticks[r - 1] - shared) * update(r, i) / (RANKS - 1);
		if (rank->x[i] != want) {
			fprintf(stderr, "rank %d, %u shared, element %u: %g, not %g\n", rank->me,
				shared, i, (double)rank->x[i], (double)want);
			err = -EBADMSG;
		}
	}
	gyre_delayed_destroy(d);
	gyre_comm_destroy(left);
	return err;
}

/* ---- running them ---- */

struct work {
	const char *name;
	int (*fn)(struct rank *rank);
	bool kills;
};

static const struct work works[] = {
	{ "constant", work_constant, false }, { "ready", work_ready, false },
	{ "quorum", work_quorum, false },     { "agreed", work_agreed, false },
	{ "killed", work_killed, true },
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

static bool rank_has_ended_well(const struct work *work, int r, int status)
{
	if (work->kills && r == VICTIM)
		return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static int work_run(const char *transport, const struct work *work)
{
	struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[RANKS];
	int r, status, bad = 0;

	if (sh == MAP_FAILED)
		return 1;
	fflush(stdout);
	for (r = 0; r < RANKS; r++) {
		struct rank rank = { .shared = sh, .me = r };

		pids[r] = fork();
		if (pids[r] < 0)
			return 1;	/* those that run end by themselves */
		if (!pids[r])
			_exit(rank_run(&rank, transport, work) != 0);
	}
	for (r = 0; r < RANKS; r++)
		bad |= waitpid(pids[r], &status, 0) != pids[r] ||
		       !rank_has_ended_well(work, r, status);
	for (r = work->kills ? 2 : 1; r < RANKS; r++)
		bad |= memcmp(sh->x[r], sh->x[r - 1], sizeof(sh->x[r])) != 0;
	printf("%s, %s: %s\n", transport, work->name, bad ? "failed" : "passed");
	munmap(sh, sizeof(*sh));
	return bad;
}

int main(int argc, char **argv)
{
	static const char *const both[] = { "shm", "tcp" };
	const char *const *transports = argc < 2 ? both : (const char *const *)argv + 1;
	const size_t ntransports = argc < 2 ? 2 : 1;
	size_t t, i;
	int bad = 0;

	setenv("GYRE_LOG", "error", 0);
	for (t = 0; t < ntransports; t++)
		for (i = 0; i < sizeof(works) / sizeof(works[0]); i++)
			bad |= work_run(transports[t], &works[i]);
	return bad;
}
