/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_proc.c - real processes: one dies in the middle of a stream of calls, is stopped, or makes
 * another call than the rest; after a death the others may go on without it.
 *
 * The ranks are forked and meet over socket pairs, so that nothing ends them but the fault.  Their
 * parent, one process for each job, kills, stops, and measures: time is from before the fault to
 * after a rank's call has returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/multi/faults.h"

#define MS 1000000ull
#define STEPS_LEFT 6		/* calls of those who are left */
#define AT_ONCE 2		/* jobs, which wait more than they compute */
/* Times GY_TEST_SLOWDOWN: */
#define RANK_S 30		/* a rank that hangs is ended by SIGALRM */
#define FAULT_NS FAULTS_S	/* from a death, or the last call, to the error of the others */
#define STALL_MS 1500		/* the timeout; it counts while ranks connect, too */
#define STALL_NS (2 * FAULTS_S)	/* from the stop to the error */

enum fault { DIES, STOPS, STALLS, MISMATCH, GOES_ON, NFAULTS };

static const char *const fault_names[] = { "dies", "is stopped", "is stopped for good",
					   "makes another call", "dies, and others go on" };

struct rank_state {
	_Atomic uint64_t ready_ns;	/* when it had made its first calls */
	uint64_t end_ns;		/* when its call had failed */
	int err;
	char text[256];
	char wrong[200];		/* what went wrong; empty: nothing */
};

struct job {
	uint64_t seed;
	enum fault fault;
	const char *transport;
	int nranks, victim;
	bool manual;
	const struct faults_call *a, *b;	/* MISMATCH */
	uint64_t fault_ns, bound_ns;
	int pair[FAULTS_MAX_RANKS][2];	/* of each rank and rank 0, by rank */
	pid_t pid[FAULTS_MAX_RANKS];
	struct shared {
		_Atomic int over;	/* ranks whose call has failed */
		_Atomic int go_on;	/* the parent: a stopped rank runs again, streams may end */
		struct rank_state rank[FAULTS_MAX_RANKS];
	} * shared;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void pause_ns(uint64_t ns)
{
	const struct timespec ts = { .tv_sec = (time_t)(ns / FAULTS_S),
				     .tv_nsec = (long)(ns % FAULTS_S) };

	nanosleep(&ts, NULL);
}

/* ---- a rank ---- */

static int proc_transfer(int fd, void *buf, size_t len, bool out)
{
	char *at = buf;
	ssize_t n;

	for (; len; len -= (size_t)n, at += n) {
		n = out ? send(fd, at, len, MSG_NOSIGNAL) : recv(fd, at, len, 0);
		if (n <= 0)
			return -ECONNRESET;
	}
	return 0;
}

struct proc_gather {
	const struct job *job;
	int rank;
};

/* By way of rank 0. */
static int proc_allgather(void *arg, const void *in, void *out, size_t len)
{
	const struct proc_gather *g = arg;
	const struct job *job = g->job;
	const size_t all = len * (size_t)job->nranks;
	int r, err = 0;

	if (g->rank)
		err = proc_transfer(job->pair[g->rank][1], (void *)in, len, true);
	else
		memcpy(out, in, len);
	for (r = 1; r < job->nranks && !g->rank && !err; r++)
		err = proc_transfer(job->pair[r][0], (char *)out + (size_t)r * len, len, false);
	for (r = 1; r < job->nranks && !g->rank && !err; r++)
		err = proc_transfer(job->pair[r][0], out, all, true);
	if (g->rank && !err)
		err = proc_transfer(job->pair[g->rank][1], out, all, false);
	return err;
}

static void proc_wrong(struct rank_state *state, const char *what, int err)
{
	snprintf(state->wrong, sizeof(state->wrong), "%s: %s", what, gyre_strerror(err));
}

/* Steps until one fails, or until all is over. */
static int proc_stream(const struct job *job, int rank, struct faults_buf *buf,
		       struct gyre_comm *world)
{
	struct rank_state *state = &job->shared->rank[rank];
	uint64_t step;
	int go_on = 0, err = 0;

	for (step = 0; !err; step++) {
		err = faults_step(job->seed + step, buf, world);
		if (step == 3)
			atomic_store(&state->ready_ns, now_ns());
		/* All ranks must agree on the last step: rank 0 says. */
		if (!err && job->fault == STOPS && step % 4 == 3) {
			go_on = atomic_load(&job->shared->go_on);
			err = gyre_broadcast(&go_on, 1, GYRE_INT32, 0, world);
			if (go_on)
				break;
		}
	}
	return err;
}

static int proc_mismatch(const struct job *job, int rank, struct faults_buf *buf,
			 struct gyre_comm *world)
{
	struct rank_state *state = &job->shared->rank[rank];
	uint64_t rng = job->seed + (uint64_t)rank;
	int err;

	pause_ns(faults_next(&rng) % (30 * MS));
	atomic_store(&state->ready_ns, now_ns());
	err = faults_do(rank == job->victim ? job->b : job->a, buf, world);
	while (!err) {
		pause_ns(faults_next(&rng) % (20 * MS));
		err = gyre_barrier(world);
	}
	return err;
}

/* What proc_go_on gives to gyre_comm_agree. */
static uint64_t proc_flags(const struct job *job, int rank)
{
	uint64_t rng = job->seed * FAULTS_MAX_RANKS + (uint64_t)rank;

	return faults_next(&rng) | faults_next(&rng);
}

/* In the communicator of those who are left: calls, and an agreement that nobody has died. */
static int proc_steps(const struct job *job, struct faults_buf *buf, struct gyre_comm *left)
{
	uint64_t flags = 1;
	int err = 0, step;

	for (step = 0; step < STEPS_LEFT && !err && gyre_comm_size(left) > 1; step++)
		err = faults_step(job->seed + step, buf, left);
	return err ? err : gyre_comm_agree(left, &flags);
}

/* The victim has died: the others agree on that, shrink, and go on.  What went wrong, or NULL. */
static const char *proc_go_on(const struct job *job, int rank, struct faults_buf *buf,
			      struct gyre_comm *world, int *errp)
{
	uint64_t flags = proc_flags(job, rank), all = UINT64_MAX;
	struct gyre_comm *left;
	int r;

	for (r = 0; r < job->nranks; r++)
		if (r != job->victim)
			all &= proc_flags(job, r);
	*errp = gyre_comm_agree(world, &flags);
	if (job->nranks == 2 && job->victim == 0)	/* half, without rank 0 */
		return *errp == -ENETUNREACH ? NULL : "agree without a majority";
	if (*errp != -EOWNERDEAD || flags != all)
		return "agree";
	*errp = gyre_comm_shrink(world, &left);
	if (*errp)
		return "shrink";
	if (gyre_comm_size(left) != job->nranks - 1 ||
	    gyre_comm_rank(left) != rank - (rank > job->victim))
		return "size or rank in what is left";
	*errp = proc_steps(job, buf, left);
	gyre_comm_destroy(left);
	return *errp ? "a call in what is left" : NULL;
}

static void proc_rank(const struct job *job, int rank)
{
	struct rank_state *state = &job->shared->rank[rank];
	struct proc_gather gather = { job, rank };
	struct gyre_context_attr attr = {
		.size = sizeof(attr), .rank = rank, .nranks = job->nranks,
		.allgather = proc_allgather,
		.allgather_arg = &gather, .transport = job->transport,
		.progress = job->manual ? GYRE_PROGRESS_MANUAL : GYRE_PROGRESS_THREAD,
	};
	struct faults_buf *buf = calloc(1, sizeof(*buf));
	struct gyre_context *ctx;
	struct gyre_comm *world;
	const char *wrong = NULL;
	int err, later;

	err = gyre_context_create(&attr, &ctx);
	if (err) {
		proc_wrong(state, "context", err);
		exit(1);
	}
	world = gyre_context_world(ctx);
	err = job->fault == MISMATCH ? proc_mismatch(job, rank, buf, world)
				     : proc_stream(job, rank, buf, world);
	state->end_ns = now_ns();
	memset(buf, 0xa5, sizeof(*buf));	/* it is ours again: who reads it now is wrong */
	state->err = err;
	gyre_comm_status(world, state->text, sizeof(state->text));
	if (err && gyre_barrier(world) != err)
		proc_wrong(state, "the error does not stay", err);
	if (err && job->fault == GOES_ON)
		wrong = proc_go_on(job, rank, buf, world, &later);
	if (wrong)
		proc_wrong(state, wrong, later);
	free(buf);
	/* Who left first would be missed by those that it has not talked to. */
	for (atomic_fetch_add(&job->shared->over, 1);
	     err && job->fault != GOES_ON && !atomic_load(&job->shared->go_on);) {
		gyre_progress(ctx);
		pause_ns(MS);
	}
	gyre_context_destroy(ctx);
	exit(0);
}

/* ---- the parent ---- */

static void job_fork(struct job *job)
{
	int r, i;

	for (r = 1; r < job->nranks; r++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, job->pair[r]))
			abort();
	fflush(stdout);
	for (r = 0; r < job->nranks; r++) {
		job->pid[r] = fork();
		if (job->pid[r] < 0)
			abort();
		if (job->pid[r])
			continue;
		alarm((unsigned)(RANK_S * faults_slowdown()));
		/* ends that are not ours would hide a death */
		for (i = 1; i < job->nranks; i++)
			close(job->pair[i][i == r ? 0 : r ? 0 : 1]);
		proc_rank(job, r);
	}
	for (r = 1; r < job->nranks; r++) {
		close(job->pair[r][0]);
		close(job->pair[r][1]);
	}
}

/* Until n ranks are so far, or none of them can come that far any more. */
static void job_wait_ready(const struct job *job)
{
	const uint64_t end = now_ns() + RANK_S * faults_slowdown() * FAULTS_S;
	int r, n = 0;

	while (n < job->nranks && now_ns() < end) {
		for (n = 0, r = 0; r < job->nranks; r++)
			n += atomic_load(&job->shared->rank[r].ready_ns) ||
			     job->shared->rank[r].wrong[0];
		pause_ns(MS / 5);
	}
}

static void job_wait_over(const struct job *job, int n)
{
	const uint64_t end = now_ns() + RANK_S * faults_slowdown() * FAULTS_S;

	while (atomic_load(&job->shared->over) < n && now_ns() < end)
		pause_ns(MS / 5);
}

static bool job_kills(const struct job *job)
{
	return job->fault == DIES || job->fault == GOES_ON;
}

static void job_fault(struct job *job)
{
	uint64_t rng = job->seed;
	int r;

	job_wait_ready(job);
	if (job->fault == MISMATCH) {
		for (r = 0; r < job->nranks; r++)
			if (job->shared->rank[r].ready_ns > job->fault_ns)
				job->fault_ns = job->shared->rank[r].ready_ns;
		job_wait_over(job, job->nranks);
		return;
	}
	pause_ns(faults_next(&rng) % (5 * MS));
	job->fault_ns = now_ns();
	kill(job->pid[job->victim], job_kills(job) ? SIGKILL : SIGSTOP);
	if (job->fault == STOPS)
		pause_ns(400 * MS);
	else
		job_wait_over(job, job->nranks - 1);
	if (!job_kills(job))
		kill(job->pid[job->victim], SIGCONT);
	if (job->fault == STALLS)
		job_wait_over(job, job->nranks);
}

static int job_wrong(const struct job *job, int rank, const char *what)
{
	const struct rank_state *state = &job->shared->rank[rank];

	printf("rank %d: %s; %s; after %.3f s: %s: %s\n", rank, what, state->wrong,
	       state->end_ns ? (double)(int64_t)(state->end_ns - job->fault_ns) * 1e-9 : 0.0,
	       gyre_strerror(state->err), state->text);
	return 1;
}

/* What a rank's call must have ended in. */
static int job_check_rank(const struct job *job, int rank, int status)
{
	const struct rank_state *state = &job->shared->rank[rank];
	char name[100], other[100] = "";
	int want = -ECONNRESET;

	snprintf(name, sizeof(name), "rank %d", job->victim);
	if (job_kills(job) && rank == job->victim)
		return WIFSIGNALED(status) ? 0 : job_wrong(job, rank, "was not killed");
	if (!WIFEXITED(status) || WEXITSTATUS(status) || state->wrong[0])
		return job_wrong(job, rank,
				 WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit status");
	if (job->fault == STOPS)
		return state->err ? job_wrong(job, rank, "being stopped is no error") : 0;
	if (job->fault == STALLS) {
		want = -ETIMEDOUT;
		snprintf(name, sizeof(name), " waits for rank ");
	} else if (job->fault == MISMATCH) {
		want = -EPROTO;
		faults_text(job->a, name, sizeof(name));
		faults_text(job->b, other, sizeof(other));
	}
	if (state->err != want && !(job_kills(job) && state->err == -ECONNREFUSED))
		return job_wrong(job, rank, "another error");
	if (!strstr(state->text, name) || !strstr(state->text, other))
		return job_wrong(job, rank, "does not name the cause");
	if (rank != job->victim && state->end_ns > job->fault_ns + job->bound_ns)
		return job_wrong(job, rank, "late");
	return 0;
}

static int job_check(const struct job *job, const char *log)
{
	int r, status, failed = 0;

	for (r = 0; r < job->nranks; r++) {
		while (waitpid(job->pid[r], &status, 0) < 0)
			if (errno != EINTR)
				abort();
		failed |= job_check_rank(job, r, status);
	}
	if ((job->fault == STOPS || job->fault == STALLS) && !strstr(log, " waits for rank ")) {
		printf("nobody said that he waits\n");
		failed = 1;
	}
	return failed;
}

static int job_run(uint64_t seed)
{
	static const char *const transports[] = { "shm", "tcp", "auto" };
	struct job job = { .seed = seed };
	uint64_t rng = seed, i;
	char *log, stall[24];
	int failed;

	job.fault = (enum fault)(seed % NFAULTS);
	job.transport = transports[seed / NFAULTS % 3];
	job.bound_ns = (job.fault == STALLS ? STALL_NS : FAULT_NS) * faults_slowdown();
	job.nranks = 2 + (int)(faults_next(&rng) % 4);
	if (seed % 10 == 5)		/* DIES */
		job.nranks = FAULTS_MAX_RANKS;
	job.victim = (int)(faults_next(&rng) % (uint64_t)job.nranks);
	job.manual = faults_next(&rng) % 4 == 0;
	i = faults_next(&rng) % FAULTS_NCALLS;
	job.a = &faults_calls[i];
	job.b = &faults_calls[(i + 1 + faults_next(&rng) % (FAULTS_NCALLS - 1)) % FAULTS_NCALLS];
	job.shared = mmap(NULL, sizeof(*job.shared), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job.shared == MAP_FAILED)
		abort();
	setenv("GYRE_LATE_WARN_MS", "100", 1);
	snprintf(stall, sizeof(stall), "%llu",
		 (unsigned long long)(job.fault == STALLS ? STALL_MS * faults_slowdown() : 60000));
	setenv("GYRE_STALL_TIMEOUT_MS", stall, 1);
	setenv("GYRE_CMA", faults_next(&rng) % 2 ? "on" : "off", 1);
	faults_capture();
	job_fork(&job);
	job_fault(&job);
	atomic_store(&job.shared->go_on, 1);
	log = faults_captured();
	failed = job_check(&job, log);
	if (failed)
		printf("%s%d ranks over %s%s, rank %d %s; again: test_faults "
		       "--seed %llu --count 1 proc\n",
		       log, job.nranks, job.transport, job.manual ? ", manual" : "", job.victim,
		       fault_names[job.fault], (unsigned long long)seed);
	free(log);
	munmap(job.shared, sizeof(*job.shared));
	return failed;
}

/* One of the jobs has ended: whether it failed. */
static unsigned job_reap(void)
{
	int status;

	while (wait(&status) < 0)
		if (errno != EINTR)
			abort();
	return status != 0;
}

int faults_proc(uint64_t seed, unsigned count)
{
	unsigned i, running = 0, failed = 0;
	pid_t pid;

	if (!count)
		count = test_is_long() ? 120 : 15;
	for (i = 0; i < count && failed < 5; i++) {
		if (running == AT_ONCE)
			failed += job_reap();
		else
			running++;
		fflush(stdout);
		pid = fork();
		if (pid < 0)
			abort();
		if (!pid)
			exit(job_run(seed + i));
	}
	for (; running; running--)
		failed += job_reap();
	return failed != 0;
}
