/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_multi.c - the property suite (suite.h) with real processes: forks the ranks of a round,
 * which meet through an allgather in shared memory or at GYRE_ROOT, and watches them.
 *
 *	test_multi [--transport shm|tcp|auto] [--ranks 1-9] [--seconds 8] [--seed S]
 *		   [--rounds N] [--cases N] [--bytes N] [--limit SECONDS]
 *
 * Without --transport: each in turn.  A round that fails, or does not end within the limit, is
 * printed with what each rank did and how to run it again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/long.h"
#include "tests/multi/suite.h"

#define MAX_RANKS 64
#define GATHER_MAX 8192
#define DOING 200

/* What the ranks of a round and their parent share. */
struct shared {
	_Atomic uint32_t arrivals;
	_Atomic unsigned come[MAX_RANKS];	/* allgathers so far */
	uint8_t gather[2][MAX_RANKS][GATHER_MAX];
	char doing[MAX_RANKS][DOING];
	char why[MAX_RANKS][400];
	unsigned at_case[MAX_RANKS];
};

struct round {
	const char *transport;
	uint64_t seed;
	int nranks;
	unsigned cases;
	size_t max_bytes;
	double limit;
	bool manual;
	struct shared *shared;
};

/* How a rank is found. */
struct seat {
	struct round *round;
	int rank;
};

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- a rank ---- */

/* Rounds alternate between two buffers: who is in the next but one has seen all leave this one. */
static int seat_allgather(void *arg, const void *in, void *out, size_t len)
{
	const struct seat *seat = arg;
	struct shared *sh = seat->round->shared;
	const unsigned n = atomic_load(&sh->come[seat->rank]);
	const double end = seconds() + seat->round->limit;
	int r;

	if (len > GATHER_MAX)
		return -EMSGSIZE;
	memcpy(sh->gather[n % 2][seat->rank], in, len);
	atomic_store(&sh->come[seat->rank], n + 1);
	for (r = 0; r < seat->round->nranks; r++) {
		while (atomic_load(&sh->come[r]) <= n) {
			if (seconds() > end)
				return -ETIMEDOUT;
			sched_yield();
		}
		memcpy((char *)out + (size_t)r * len, sh->gather[n % 2][r], len);
	}
	return 0;
}

static void seat_pass(void *arg, unsigned how)
{
	const double end = seconds() + how * 0.5e-6;

	sched_yield();
	while (how && seconds() < end)
		;
}

struct thread {
	pthread_t id;
	int (*fn)(void *);
	void *arg;
	int rc;
};

static void *seat_thread(void *arg)
{
	struct thread *t = arg;

	t->rc = t->fn(t->arg);
	return NULL;
}

static int seat_parallel(void *arg, unsigned n, int (*fn)(void *), void **args)
{
	struct thread t[SUITE_MAX_THREADS];
	unsigned i, started;
	int failed = 0;

	for (started = 0; started < n; started++) {
		t[started] = (struct thread){ .fn = fn, .arg = args[started] };
		failed |= pthread_create(&t[started].id, NULL, seat_thread, &t[started]) != 0;
		if (failed)
			break;
	}
	for (i = 0; i < started; i++) {
		pthread_join(t[i].id, NULL);
		failed |= t[i].rc;
	}
	return failed;
}

static void seat_set(void *arg, const char *name, const char *value)
{
	struct round *round = arg;
	char variable[64] = "GYRE_";
	size_t i;

	for (i = 0; name[i]; i++)
		variable[5 + i] =
			(char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 'a' + 'A' : name[i]);
	variable[5 + i] = 0;
	setenv(variable, value, 1);
	round->manual |= !strcmp(name, "progress") && !strcmp(value, "manual");
}

static void seat_number(const char *name, int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	setenv(name, text, 1);
}

static int seat_context(struct seat *seat, struct gyre_context **ctxp, const char *root)
{
	struct round *round = seat->round;
	struct gyre_context_attr attr = { .size = sizeof(attr), .transport = round->transport };

	suite_settings(round->seed, round->nranks, seat_set, round);
	seat_number("GYRE_STALL_TIMEOUT_MS", (int)(round->limit * 800));
	if (root) {
		seat_number("GYRE_RANK", seat->rank);
		seat_number("GYRE_SIZE", round->nranks);
		setenv("GYRE_ROOT", root, 1);
	} else {
		attr.rank = seat->rank;
		attr.nranks = round->nranks;
		attr.allgather = seat_allgather;
		attr.allgather_arg = seat;
	}
	return gyre_context_create(&attr, ctxp);
}

static int seat_main(struct seat *seat, const char *root)
{
	struct round *round = seat->round;
	struct shared *sh = round->shared;
	struct suite_env env = {
		.rank = seat->rank,
		.nranks = round->nranks,
		.max_bytes = round->max_bytes,
		.pass = seat_pass,
		.parallel = seat_parallel,
		.arg = seat,
		.arrivals = &sh->arrivals,
		.doing = sh->doing[seat->rank],
		.doing_size = DOING,
	};
	struct suite_heap heap = { .first = { NULL } };
	unsigned i;
	int err;

	env.heap = &heap;
	snprintf(env.doing, DOING, "making a context");
	err = seat_context(seat, &env.ctx, root);
	if (err) {
		snprintf(sh->why[seat->rank], sizeof(sh->why[0]), "%s", gyre_strerror(err));
		return 1;
	}
	env.manual = round->manual;
	for (i = 0; i < round->cases; i++) {
		sh->at_case[seat->rank] = i;
		if (suite_case(&env, suite_case_seed(round->seed, i))) {
			memcpy(sh->why[seat->rank], env.why, sizeof(env.why));
			return 1;
		}
	}
	snprintf(env.doing, DOING, "leaving");
	gyre_context_destroy(env.ctx);
	suite_heap_free(&heap);
	snprintf(env.doing, DOING, "over");
	return 0;
}

/* ---- their parent ---- */

/* A port that was free a moment ago. */
static int round_root(char *text, size_t len)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	err = bind(fd, (struct sockaddr *)&addr, size) ||
			      getsockname(fd, (struct sockaddr *)&addr, &size)
		      ? -errno
		      : 0;
	close(fd);
	snprintf(text, len, "127.0.0.1:%d", ntohs(addr.sin_port));
	return err;
}

static pid_t round_fork(struct round *round, int rank, const char *root)
{
	struct seat seat = { .round = round, .rank = rank };
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	exit(seat_main(&seat, root));
}

static void round_report(const struct round *round, const int *status)
{
	int r;

	for (r = 0; r < round->nranks; r++) {
		printf("  rank %d: case %u: %s", r, round->shared->at_case[r],
		       round->shared->doing[r]);
		if (round->shared->why[r][0])
			printf(": %s", round->shared->why[r]);
		if (status[r] >= 0 && WIFSIGNALED(status[r]))
			printf(": killed by signal %d", WTERMSIG(status[r]));
		else if (status[r] > 0)
			printf(": exit status %d", WEXITSTATUS(status[r]));
		printf("\n");
	}
	printf("again: test_multi --transport %s --ranks %d --seed %llu --rounds 1 --cases %u "
	       "--bytes %zu\n",
	       round->transport, round->nranks, (unsigned long long)round->seed, round->cases,
	       round->max_bytes);
}

/* Waits until all have ended, one has failed, or the time is over; then ends the rest. */
static int round_watch(const struct round *round, const pid_t *pid, int *status)
{
	const double end = seconds() + round->limit;
	struct pollfd fds[MAX_RANKS];
	int r, left = round->nranks, failed = 0;

	for (r = 0; r < round->nranks; r++) {
		fds[r] = (struct pollfd){ .fd = (int)syscall(SYS_pidfd_open, pid[r], 0),
					  .events = POLLIN };
		status[r] = -1;
	}
	while (left && !failed) {
		const double rest = end - seconds();

		if (rest <= 0 || poll(fds, (nfds_t)round->nranks, (int)(rest * 1000) + 1) < 0) {
			printf("HANGS, after %.0f s:\n", round->limit);
			failed = 1;
		}
		for (r = 0; r < round->nranks; r++) {
			if (fds[r].fd < 0 || !(fds[r].revents & POLLIN))
				continue;
			waitpid(pid[r], &status[r], 0);
			close(fds[r].fd);
			fds[r].fd = -1;
			left--;
			failed |= status[r] != 0;
		}
	}
	/* The others notice by themselves: a moment for their own reports, then no more. */
	if (failed && left)
		poll(NULL, 0, 1500);
	for (r = 0; r < round->nranks; r++) {
		if (fds[r].fd < 0)
			continue;
		kill(pid[r], SIGKILL);
		waitpid(pid[r], &status[r], 0);
		close(fds[r].fd);
	}
	return failed;
}

static int round_run(struct round *round)
{
	const bool by_root = round->seed % 3 == 0;
	pid_t pid[MAX_RANKS];
	int status[MAX_RANKS], r, failed;
	char root[64];

	round->shared = mmap(NULL, sizeof(*round->shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (round->shared == MAP_FAILED || (by_root && round_root(root, sizeof(root)))) {
		printf("cannot prepare a round: %s\n", strerror(errno));
		return 1;
	}
	for (r = 0; r < round->nranks; r++)
		pid[r] = round_fork(round, r, by_root ? root : NULL);
	failed = round_watch(round, pid, status);
	if (failed) {
		printf("FAILED:\n");
		round_report(round, status);
	}
	munmap(round->shared, sizeof(*round->shared));
	return failed;
}

struct options {
	const char *transport;
	int min_ranks, max_ranks;
	double seconds, limit;
	uint64_t seed, rounds;
	unsigned cases;
	size_t bytes;
};

static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option options[] = {
		{ "transport", 1, NULL, 't' }, { "ranks", 1, NULL, 'r' },
		{ "seconds", 1, NULL, 'd' },   { "seed", 1, NULL, 's' },
		{ "rounds", 1, NULL, 'n' },    { "cases", 1, NULL, 'c' },
		{ "bytes", 1, NULL, 'b' },     { "limit", 1, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 't':
			o->transport = optarg;
			break;
		case 'r':
			if (sscanf(optarg, "%d-%d", &o->min_ranks, &o->max_ranks) < 2)
				o->max_ranks = o->min_ranks;
			break;
		case 'd':
			o->seconds = atof(optarg);
			break;
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			o->rounds = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			o->cases = (unsigned)atoi(optarg);
			break;
		case 'b':
			o->bytes = strtoull(optarg, NULL, 0);
			break;
		case 'l':
			o->limit = atof(optarg);
			break;
		default:
			return -EINVAL;
		}
	}
	return optind < argc || o->min_ranks < 1 || o->max_ranks > MAX_RANKS ||
			       o->max_ranks < o->min_ranks
		       ? -EINVAL
		       : 0;
}

int main(int argc, char **argv)
{
	static const char *const transports[] = { "shm", "tcp", "auto" };
	const char *slow = getenv("GY_TEST_SLOWDOWN");
	struct options o = {
		.min_ranks = 1, .max_ranks = 9, .rounds = UINT64_MAX, .cases = 8, .limit = 40,
		.seconds = test_times(3, 40),
	};
	const double start = seconds();
	uint64_t i;
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (slow)
		o.limit *= atof(slow);
	if (getrandom(&o.seed, sizeof(o.seed), 0) < 0)
		o.seed = 1;
	o.seed >>= 32;
	if (options_parse(argc, argv, &o)) {
		fprintf(stderr, "usage: see the head of tests/multi/test_multi.c\n");
		return 2;
	}
	for (i = 0;
	     i < o.rounds && !failed && (o.rounds != UINT64_MAX || seconds() - start < o.seconds);
	     i++) {
		struct round round = {
			.seed = o.seed + i,
			.cases = o.cases,
			.limit = o.limit,
			.transport = o.transport ? o.transport : transports[i % 3],
		};

		round.nranks = o.min_ranks + (int)((round.seed * 0x9e3779b9u >> 16) %
						   (uint64_t)(o.max_ranks - o.min_ranks + 1));
		round.max_bytes = o.bytes ? o.bytes : round.seed % 8 == 1 ? 8 << 20 : 256 << 10;
		failed = round_run(&round);
	}
	printf("%s: %llu rounds from seed %llu\n", failed ? "FAILED" : "passed",
	       (unsigned long long)i, (unsigned long long)o.seed);
	return failed;
}
