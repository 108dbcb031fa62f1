/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_conformance.c [TRANSPORT [CASE]] - runs the suite of conformance.h over each transport.
 *
 * Each case forks its ranks; in the simulator, one process with all of them, and again for each of
 * many seeds.  A rank that fails, or a case that takes too long, ends the case; the others still
 * run.
 */
#define _GNU_SOURCE
#include "tests/multi/conformance.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"

#define CASE_S 60		/* times GY_TEST_SLOWDOWN; waits inside have their own limit */
#define LONG_CASE_S 400
#define SIM_SEEDS 12		/* of each case */
#define LONG_SIM_SEEDS 120
#define EXIT_UNSUPPORTED 77

extern const struct gy_transport_ops gy_shm_ops, gy_verbs_ops, gy_tcp_ops, gy_sim_ops;

/* Shaped: a network far away, with packets lost. */
static const struct conf_transport transports[] = {
	{ "shm", &gy_shm_ops, "", false },
	{ "verbs", &gy_verbs_ops, "", false },
	{ "tcp", &gy_tcp_ops, "", false },
	{ "shaped", &gy_tcp_ops, "rtt=1ms,rate=1gbit,loss=0.01%,jitter=200us", false },
	{ "sim", &gy_sim_ops, "", true },
};

static const struct conf_case cases[] = {
	{ .name = "connect, lower rank", .nranks = 2, .run = conf_connect_first },
	{ .name = "connect, higher rank", .nranks = 2, .run = conf_connect_second },
	{ .name = "connect, both", .nranks = 2, .run = conf_connect_both, .rounds = 10 },
	{ .name = "order", .nranks = 2, .run = conf_order },
	{ .name = "order of three", .nranks = 3, .run = conf_order_three },
	{ .name = "room", .nranks = 2, .run = conf_room },
	{ .name = "wake", .nranks = 2, .run = conf_wake },
	{ .name = "wake in a stream", .nranks = 2, .run = conf_wake_stream },
	{ .name = "bulk",
	  .nranks = 2,
	  .caps = GY_CAP_BULK,
	  .without = GY_CAP_WRITE,
	  .run = conf_bulk },
	{ .name = "bulk refused",
	  .nranks = 2,
	  .caps = GY_CAP_BULK,
	  .without = GY_CAP_WRITE,
	  .run = conf_bulk_refused },
	{ .name = "revoke, sender",
	  .nranks = 2,
	  .caps = GY_CAP_BULK,
	  .without = GY_CAP_WRITE,
	  .run = conf_revoke_out },
	{ .name = "revoke, receiver",
	  .nranks = 2,
	  .caps = GY_CAP_BULK,
	  .without = GY_CAP_WRITE,
	  .run = conf_revoke_in },
	{ .name = "write", .nranks = 2, .caps = GY_CAP_WRITE, .run = conf_write },
	{ .name = "write, refused", .nranks = 2, .caps = GY_CAP_WRITE, .run = conf_write_refused },
	{ .name = "write, revoked",
	  .nranks = 2,
	  .caps = GY_CAP_WRITE,
	  .run = conf_write_revoked,
	  .rounds = 2 },
	{ .name = "write, revoked by one",
	  .nranks = 2,
	  .caps = GY_CAP_WRITE,
	  .run = conf_write_revoked_by_one },
	{ .name = "write, kill",
	  .nranks = 3,
	  .caps = GY_CAP_WRITE,
	  .run = conf_write_kill,
	  .victim = 3,
	  .rounds = 4 },
	{ .name = "lend", .nranks = 2, .caps = GY_CAP_LEND, .run = conf_lend },
	{ .name = "lend, copied",
	  .nranks = 2,
	  .caps = GY_CAP_LEND,
	  .run = conf_lend,
	  .copies = true },
	{ .name = "lend, recalled", .nranks = 2, .caps = GY_CAP_LEND, .run = conf_lend_recalled },
	{ .name = "drain", .nranks = 2, .run = conf_drain },
	{ .name = "last words", .nranks = 2, .caps = GY_CAP_WRITE, .run = conf_last_words },
	{ .name = "leave", .nranks = 2, .run = conf_leave },
	{ .name = "kill", .nranks = 3, .run = conf_kill, .victim = 3, .rounds = 8 },
	{ .name = "stop", .nranks = 2, .run = conf_stop, .stops = true },
	{ .name = "garbage", .nranks = 2, .run = conf_garbage, .listens = true },
};

/* ---- ranks as processes ---- */

static uint64_t clock_ns(void)
{
	return gy_sys_posix.ops->now_ns(&gy_sys_posix);
}

static uint64_t proc_now_ns(struct conf *c)
{
	return clock_ns();
}

static void proc_compute(struct conf *c, uint64_t ns)
{
	const uint64_t end = clock_ns() + ns;

	while (clock_ns() < end)
		sched_yield();
}

static struct conf_shared *victims;	/* for the signal handler */

static void proc_killed(int sig)
{
	atomic_store(&victims->died_ns, clock_ns());
	raise(SIGKILL);
}

static void proc_die(struct conf *c, uint64_t after_ns)
{
	const struct itimerval timer = {
		.it_value.tv_sec = (time_t)(after_ns / 1000000000),
		.it_value.tv_usec = (suseconds_t)(after_ns % 1000000000 / 1000),
	};

	victims = c->shared;
	if (!after_ns)
		proc_killed(0);
	CHECK(signal(SIGALRM, proc_killed) != SIG_ERR);
	CHECK(!setitimer(ITIMER_REAL, &timer, NULL));
}

static void proc_stop(struct conf *c)
{
	raise(SIGSTOP);
}

static const struct conf_ranks proc_ranks = {
	.now_ns = proc_now_ns,
	.compute = proc_compute,
	.die = proc_die,
	.stop = proc_stop,
};

static void run_rank(const struct conf_transport *tp, const struct conf_case *test,
		     struct conf_shared *shared, int rank)
{
	static struct conf c = { .ctx.sys = &gy_sys_posix, .ranks = &proc_ranks };
	int err;

	gy_log_set_rank(rank);
	gy_log_set_level(GY_LOG_ERROR);
	err = conf_open(&c, tp, test, shared, rank);
	if (err == -EOPNOTSUPP)
		exit(EXIT_UNSUPPORTED);
	CHECK(!err);
	test->run(&c);
	conf_close(&c, false);
	CHECK(gy_alloc_live() == 0);
	exit(0);
}

/* ---- running them ---- */

/* How a rank ended: 0 as it should, EXIT_UNSUPPORTED, or 1. */
static int judge(const struct conf_case *test, int rank, int status)
{
	if (rank + 1 == test->victim)
		return !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_UNSUPPORTED)
		return EXIT_UNSUPPORTED;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	fprintf(stderr, "%s: rank %d: %s %d\n", test->name, rank,
		WIFEXITED(status) ? "exit status" : "signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return 1;
}

static void pause_ms(long ms)
{
	const struct timespec ts = { .tv_nsec = ms * 1000000 };

	nanosleep(&ts, NULL);
}

/* Takes in what has become of a rank; true when it has ended. */
static bool look_at(const struct conf_case *test, pid_t pid, int *status)
{
	if (waitpid(pid, status, WNOHANG | WUNTRACED) != pid)
		return false;
	if (!WIFSTOPPED(*status))
		return true;
	if (test->stops) {
		pause_ms(200);		/* longer than anything that takes it for dead may wait */
		kill(pid, SIGCONT);
	}
	return false;
}

static int wait_ranks(const struct conf_case *test, pid_t *pids, int left)
{
	const uint64_t limit = (test_is_long() ? LONG_CASE_S : CASE_S) * conf_slowdown();
	const uint64_t end = clock_ns() + limit * 1000000000ull;
	int worst = 0, rank, status, rc;

	while (left > 0) {
		for (rank = 0; rank < test->nranks; rank++) {
			if (!pids[rank] || !look_at(test, pids[rank], &status))
				continue;
			pids[rank] = 0;
			left--;
			rc = judge(test, rank, status);
			/* The first that cannot decides: the others are killed. */
			if (worst != EXIT_UNSUPPORTED)
				worst = rc > worst || rc == 1 ? rc : worst;
		}
		if (worst == 0 && clock_ns() > end) {
			fprintf(stderr, "%s: takes too long\n", test->name);
			worst = 1;
		}
		if (worst) {
			for (rank = 0; rank < test->nranks; rank++)
				if (pids[rank])
					kill(pids[rank], SIGKILL);
		}
		pause_ms(1);
	}
	return worst;
}

static int run_round(const struct conf_transport *tp, const struct conf_case *test, uint64_t seed)
{
	const size_t len = sizeof(struct conf_shared);
	struct conf_shared *shared;
	const int nprocs = tp->sim ? 1 : test->nranks;
	pid_t pids[CONF_RANKS] = { 0 };
	int rank, rc;

	shared = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	shared->seed = seed;
	conf_fill(shared->key, sizeof(shared->key), seed);
	fflush(stdout);
	for (rank = 0; rank < nprocs; rank++) {
		pids[rank] = fork();
		CHECK(pids[rank] >= 0);
		if (!pids[rank] && tp->sim)
			exit(conf_run_sim(tp, test, shared));
		if (!pids[rank])
			run_rank(tp, test, shared, rank);
	}
	rc = wait_ranks(test, pids, nprocs);
	munmap(shared, len);
	return rc;
}

static unsigned rounds_of(const struct conf_transport *tp, const struct conf_case *test)
{
	if (tp->sim)
		return test_times(SIM_SEEDS, LONG_SIM_SEEDS) / (unsigned)conf_slowdown();
	/* Each waits for a network far away. */
	return *tp->tcp_shape ? test->rounds / test_times(2, 1) : test->rounds;
}

static int run_case(const struct conf_transport *tp, const struct conf_case *test, uint64_t seed)
{
	const uint64_t begin = clock_ns();
	unsigned round = 0;
	int rc;

	do
		rc = run_round(tp, test, conf_random(&seed));
	while (!rc && ++round < rounds_of(tp, test));
	printf("%s %s: %s (%.2f s)\n", tp->name, test->name,
	       rc == 1 ? "FAILED"
	       : rc    ? "not on this machine"
		       : "ok",
	       (double)(clock_ns() - begin) / 1e9);
	fflush(stdout);
	return rc;
}

/* Bits of a transport that every rank would find in its endpoints. */
static unsigned caps_of(const struct gy_transport_ops *ops)
{
	return (ops->bulk == gy_no_bulk ? 0 : GY_CAP_BULK) |
	       (ops->lend == gy_no_lend ? 0 : GY_CAP_LEND) |
	       (ops->expose == gy_no_expose ? 0 : GY_CAP_WRITE);
}

/* Why a case cannot be run, or NULL. */
static const char *unfit(const struct conf_transport *tp, const struct conf_case *test)
{
	const unsigned caps = caps_of(tp->ops), lacks = test->caps & ~caps;

	if (tp->sim)		/* its links have them or not, as the case needs it */
		return test->listens ? "nobody listens" : NULL;
	if (test->without & caps)
		return "grains are written";
	return lacks & GY_CAP_WRITE  ? "nothing is written"
	       : lacks & GY_CAP_LEND ? "nothing is lent"
	       : lacks		     ? "nothing is sent in bulk"
				     : NULL;
}

static uint64_t choose_seed(void)
{
	const char *given = getenv("GY_TEST_SEED");
	uint64_t seed = 1;

	if (given)
		return strtoull(given, NULL, 0);
	return getrandom(&seed, sizeof(seed), 0) == sizeof(seed) ? seed : 1;
}

int main(int argc, char **argv)
{
	const uint64_t seed = choose_seed();
	unsigned t, i, failed = 0, ran = 0;
	const char *why;
	int rc;

	printf("GY_TEST_SEED=0x%llx\n", (unsigned long long)seed);
	for (t = 0; t < GY_ARRAY_SIZE(transports); t++) {
		if (argc > 1 && strcmp(argv[1], transports[t].name))
			continue;
		for (i = 0; i < GY_ARRAY_SIZE(cases); i++) {
			if (argc > 2 && strcmp(argv[2], cases[i].name))
				continue;
			why = unfit(&transports[t], &cases[i]);
			if (why) {
				printf("%s %s: skipped, %s\n", transports[t].name, cases[i].name,
				       why);
				continue;
			}
			rc = run_case(&transports[t], &cases[i], seed + i);
			if (rc == 1)
				printf("again: GY_TEST_SEED=0x%llx%s test_conformance %s '%s'\n",
				       (unsigned long long)seed,
				       test_is_long() ? " GY_TEST_LONG=1" : "",
				       transports[t].name, cases[i].name);
			failed += rc == 1;
			ran += rc == 0;
			if (rc == EXIT_UNSUPPORTED)
				break;
		}
	}
	return failed ? 1 : ran ? 0 : EXIT_UNSUPPORTED;
}
