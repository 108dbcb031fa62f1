/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Forked ranks; see local.h.  A rank waits by looking at flags; when there are more ranks than
 * cores it gives the processor away after a few looks, else only now and then.
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
#include <unistd.h>

#include "bench/flag.h"
#include "bench/local.h"

#define LOCAL_SPINS 200000	/* a core each */
#define LOCAL_SPINS_CROWDED 20
#define LOCAL_MAX_PIECE 256

struct local_rank {
	_Alignas(64) struct local_flag arrived;
	double values[LOCAL_MAX_PIECE];
};

struct local_shared {
	struct local_rank ranks[1];	/* nranks of them */
};

void local_relax(const struct local_team *team, int *looks)
{
	if (++*looks >= team->spins) {
		*looks = 0;
		sched_yield();
		return;
	}
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

void local_barrier(struct local_team *team)
{
	struct local_rank *ranks = team->shared->ranks;
	int r;

	team->barriers++;
	local_flag_set(&ranks[team->rank].arrived, team->barriers);
	for (r = 0; r < team->nranks; r++)
		local_flag_wait(team, &ranks[r].arrived, team->barriers);
}

void local_max(struct local_team *team, double *v, int n)
{
	struct local_rank *ranks = team->shared->ranks;
	int i, r, at, len;

	for (at = 0; at < n; at += len) {
		len = n - at < LOCAL_MAX_PIECE ? n - at : LOCAL_MAX_PIECE;
		memcpy(ranks[team->rank].values, v + at, len * sizeof(*v));
		local_barrier(team);
		for (r = 0; r < team->nranks; r++)
			for (i = 0; i < len; i++)
				if (ranks[r].values[i] > v[at + i])
					v[at + i] = ranks[r].values[i];
		local_barrier(team);	/* all have read before the next piece */
	}
}

void *local_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The rank-th processor that this process may use. */
static void local_bind(int rank)
{
	cpu_set_t all, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || rank-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			perror("cannot bind to a core");
		return;
	}
}

static int local_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

static void local_kill(const pid_t *pids, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
}

/* Waits for all; after the first failure the others are killed, as they would wait for it. */
static int local_reap(pid_t *pids, int n)
{
	int i, left, status, result = 0;
	pid_t pid;

	for (left = n; left > 0; left--) {
		pid = wait(&status);
		if (pid < 0)
			return -errno;
		for (i = 0; i < n; i++)
			if (pids[i] == pid)
				pids[i] = 0;
		if (result || !status)
			continue;
		if (WIFSIGNALED(status))
			fprintf(stderr, "a rank ended: %s\n", strsignal(WTERMSIG(status)));
		result = WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
		local_kill(pids, n);
	}
	return result;
}

static pid_t local_fork(struct local_team *team, bool bind,
			int (*fn)(struct local_team *team, void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (bind)
		local_bind(team->rank);
	exit(fn(team, arg));
}

int local_run(int nranks, bool bind, int (*fn)(struct local_team *team, void *arg), void *arg)
{
	bool crowded = nranks > local_cores();
	struct local_team team = {
		.nranks = nranks,
		.spins = crowded ? LOCAL_SPINS_CROWDED : LOCAL_SPINS,
		.shared = local_map(nranks * sizeof(struct local_rank)),
	};
	pid_t *pids = calloc(nranks, sizeof(*pids));
	int n, err = 0;

	if (!team.shared || !pids) {
		free(pids);
		return -ENOMEM;
	}
	for (n = 0; n < nranks; n++) {
		team.rank = n;
		pids[n] = local_fork(&team, bind && !crowded, fn, arg);
		if (pids[n] < 0) {
			err = -errno;
			break;
		}
	}
	if (err)
		local_kill(pids, n);
	else
		err = local_reap(pids, nranks);
	free(pids);
	return err;
}
