/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun_rank.c - starts ranks on this machine: pipes, environment, binding, and the guard.
 *
 * Each rank leads a process group of its own, so that a signal reaches all that it has started.
 * Three things keep them from outliving gyrerun: the loop ends them; the kernel kills the ranks
 * when gyrerun dies (PR_SET_PDEATHSIG); and the guard, a process that holds a pipe from gyrerun,
 * then kills their groups.
 */
#define _GNU_SOURCE
#include "tools/gyrerun.h"

#include <errno.h>
#include <fcntl.h>
#include <hwloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ---- guard ---- */

static int guard_fd = -1;	/* to the guard; positive: add this group, negative: remove it */

static void guard_main(int fd)
{
	pid_t *pgids = NULL, rec;
	size_t n = 0, i;

	while (read(fd, &rec, sizeof(rec)) == sizeof(rec)) {
		if (rec > 0) {
			pgids = realloc(pgids, (n + 1) * sizeof(*pgids));
			if (!pgids)
				_exit(1);
			pgids[n++] = rec;
			continue;
		}
		for (i = 0; i < n; i++)
			if (pgids[i] == -rec)
				pgids[i] = pgids[--n];
	}
	for (i = 0; i < n; i++)
		kill(-pgids[i], SIGKILL);
	_exit(0);
}

void gr_guard_start(void)
{
	sigset_t all;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		tool_die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		tool_die("fork: %s", strerror(errno));
	if (pid == 0) {
		sigfillset(&all);	/* what ends gyrerun must not end it too */
		sigprocmask(SIG_SETMASK, &all, NULL);
		setpgid(0, 0);
		close(fds[1]);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		guard_main(fds[0]);
	}
	close(fds[0]);
	guard_fd = fds[1];
}

static void guard_tell(pid_t rec)
{
	if (write(guard_fd, &rec, sizeof(rec)) < 0)
		return;			/* killed by somebody: the ranks' death signal is left */
}

void gr_guard_add(pid_t pgid)
{
	guard_tell(pgid);
}

void gr_guard_remove(pid_t pgid)
{
	guard_tell(-pgid);
}

/* ---- binding ---- */

static hwloc_topology_t rank_topology;
static int rank_ncores;		/* 0: do not bind */

/* Cores that we may use, of which a rank each gets one, in order. */
static hwloc_obj_t rank_core(hwloc_const_bitmap_t allowed, int i)
{
	hwloc_obj_t core = NULL;

	while ((core = hwloc_get_next_obj_by_type(rank_topology, HWLOC_OBJ_CORE, core)))
		if (hwloc_bitmap_intersects(core->cpuset, allowed) && i-- == 0)
			return core;
	return NULL;
}

static void rank_bind_init(const struct gr_job *job)
{
	hwloc_bitmap_t allowed;
	int n = 0;

	if (job->bind == GR_BIND_NONE)
		return;
	if (hwloc_topology_init(&rank_topology) || hwloc_topology_load(rank_topology))
		tool_die("cannot read the topology of this machine");
	allowed = hwloc_bitmap_alloc();
	if (allowed && hwloc_get_cpubind(rank_topology, allowed, HWLOC_CPUBIND_PROCESS) == 0)
		while (rank_core(allowed, n))
			n++;
	hwloc_bitmap_free(allowed);
	if (job->bind == GR_BIND_CORE || n >= job->count)
		rank_ncores = n;
}

/* In the child.  Best effort: a rank that cannot be bound runs all the same. */
static void rank_bind(int i)
{
	hwloc_bitmap_t set;
	hwloc_obj_t core;

	if (!rank_ncores)
		return;
	set = hwloc_bitmap_alloc();
	if (!set || hwloc_get_cpubind(rank_topology, set, HWLOC_CPUBIND_PROCESS))
		return;
	core = rank_core(set, i % rank_ncores);
	if (!core)
		return;
	hwloc_bitmap_and(set, set, core->cpuset);
	hwloc_set_cpubind(rank_topology, set, HWLOC_CPUBIND_PROCESS);
}

/* ---- starting ---- */

struct rank_pipes {
	int in[2], out[2], err[2], failed[2];	/* failed: errno of exec; closed by its success */
};

static void rank_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC))
		tool_die("pipes of ranks: %s%s", strerror(errno),
			 errno == EMFILE ? "; ulimit -n shows how many may be open" : "");
}

static void rank_setenv(const char *name, const char *value)
{
	if (setenv(name, value, 1))
		tool_die("out of memory");
}

static void rank_environment(const struct gr_job *job, int rank)
{
	char text[16];
	int i;

	for (i = 0; i < job->nenv; i++)
		if (putenv(job->env[i]))
			tool_die("out of memory");
	snprintf(text, sizeof(text), "%d", rank);
	rank_setenv("GYRE_RANK", text);
	snprintf(text, sizeof(text), "%d", job->nranks);
	rank_setenv("GYRE_SIZE", text);
	rank_setenv("GYRE_ROOT", job->root);
	rank_setenv("GYRE_JOB_KEY", job->key);
}

static void rank_child(const struct gr_job *job, int i, const struct rank_pipes *p, pid_t parent)
{
	const int in = p->in[0] >= 0 ? p->in[0] : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int err;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(GR_EXIT_SELF);	/* it died before we asked */
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(p->out[1], STDOUT_FILENO) >= 0 &&
	    dup2(p->err[1], STDERR_FILENO) >= 0) {
		rank_bind(i);
		rank_environment(job, job->first + i);
		gr_loop_child_signals();
		execvp(job->argv[0], job->argv);
	}
	err = errno;
	if (write(p->failed[1], &err, sizeof(err)) < 0)
		_exit(GR_EXIT_SELF);
	_exit(GR_EXIT_EXEC);
}

/* Waits for the exec: 0 or its errno. */
static int rank_exec_result(int fd)
{
	int err = 0;
	ssize_t n;

	do {
		n = read(fd, &err, sizeof(err));
	} while (n < 0 && errno == EINTR);
	return n == sizeof(err) ? err : 0;
}

static int rank_start(struct gr_job *job, int i)
{
	struct gr_child *c = &job->child[i];
	struct rank_pipes p = { .in = { -1, -1 } };
	const pid_t parent = getpid();
	char tag[16] = "";
	int err;

	if (job->first + i == 0)
		rank_pipe(p.in);
	rank_pipe(p.out);
	rank_pipe(p.err);
	rank_pipe(p.failed);
	c->pid = fork();
	if (c->pid < 0)
		tool_die("fork: %s", strerror(errno));
	if (c->pid == 0)
		rank_child(job, i, &p, parent);
	setpgid(c->pid, c->pid);	/* whoever comes first */
	gr_guard_add(c->pid);
	close(p.out[1]);
	close(p.err[1]);
	close(p.failed[1]);
	if (p.in[0] >= 0)
		close(p.in[0]);
	snprintf(c->name, sizeof(c->name), "rank %d", job->first + i);
	if (job->tag)
		snprintf(tag, sizeof(tag), "[%d] ", job->first + i);
	c->in = p.in[1];
	if (c->in >= 0) {
		fcntl(c->in, F_SETFL, O_NONBLOCK);
		job->stdin_to = c;
	}
	gr_stream_init(&c->out, p.out[0], &job->out, tag);
	gr_stream_init(&c->err, p.err[0], &job->err, tag);
	job->nchildren++;
	job->nrunning++;
	err = rank_exec_result(p.failed[0]);
	close(p.failed[0]);
	return err;
}

int gr_ranks_start(struct gr_job *job)
{
	int i, err;

	job->child = tool_alloc((size_t)job->count * sizeof(*job->child));
	rank_bind_init(job);
	for (i = 0; i < job->count; i++) {
		err = rank_start(job, i);
		if (err) {
			gr_say(&job->err, "cannot run '%s': %s", job->argv[0], strerror(err));
			return err == ENOENT ? GR_EXIT_NOT_FOUND : GR_EXIT_EXEC;
		}
	}
	return 0;
}
