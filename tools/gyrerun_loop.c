/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun_loop.c - one poll loop: children's output, our stdin, signals, ends.
 *
 * The first child that fails decides the exit status and ends the others: SIGTERM, and SIGKILL
 * after the grace.  Signals that ask us to end are passed on; the second one ends the job.
 */
#define _GNU_SOURCE
#include "tools/gyrerun.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOP_DRAIN_MS 1000	/* for output, after all children have ended */
#define LOOP_NODE_MS 3000	/* beyond the grace, for a node's gyrerun to end */
#define LOOP_STDIN_FULL (64 * 1024)	/* bytes that wait for rank 0 to read them */
#define LOOP_NODE_STDIN_FULL (4 * 1024 * 1024)

static const int loop_signals[] = { SIGINT,  SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT,
				    SIGTSTP, SIGCHLD };
#define LOOP_NSIGNALS (sizeof(loop_signals) / sizeof(loop_signals[0]))

static sigset_t loop_old_mask;

void gr_loop_init(struct gr_job *job)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < LOOP_NSIGNALS; i++)
		sigaddset(&set, loop_signals[i]);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD,
	       SIG_DFL); /* ignored, as some parents leave it, there is nothing to wait for */
	sigprocmask(SIG_BLOCK, &set, &loop_old_mask);
	job->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (job->sigfd < 0)
		tool_die("signalfd: %s", strerror(errno));
	gr_out_init(&job->out, STDOUT_FILENO);
	gr_out_init(&job->err, STDERR_FILENO);
}

void gr_loop_child_signals(void)
{
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &loop_old_mask, NULL);
}

/* ---- ends ---- */

static void loop_signal_child(struct gr_child *c, int sig)
{
	if (c->ended)
		return;
	if (!c->node)
		kill(-c->pid, sig);
	else if (sig == SIGKILL)
		kill(c->pid, SIGKILL);
	else
		gr_frame_send(c, GR_FRAME_SIGNAL, sig, NULL, 0);
}

void gr_job_signal(struct gr_job *job, int sig)
{
	int i;

	for (i = 0; i < job->nchildren; i++)
		loop_signal_child(&job->child[i], sig);
}

void gr_job_end(struct gr_job *job, int status)
{
	int i;

	if (!job->status)
		job->status = status;
	if (job->ending)
		return;
	job->ending = true;
	for (i = 0; i < job->nchildren; i++) {
		if (job->child[i].node && !job->child[i].ended) {
			gr_frame_send(&job->child[i], GR_FRAME_END, 0, NULL, 0);
		} else {
			loop_signal_child(&job->child[i], SIGTERM);
			loop_signal_child(&job->child[i], SIGCONT);	/* a stopped one too */
		}
	}
	job->kill_ms = gr_now_ms() + job->grace_ms;
	if (job->nchildren && job->child[0].node)
		job->kill_ms += LOOP_NODE_MS;
}

static void loop_say_end(struct gr_job *job, const struct gr_child *c, int wstatus)
{
	const int sig = WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0;
	char host[65] = "?";

	gethostname(host, sizeof(host) - 1);
	if (gr_node_is_mute(c))
		gr_say(&job->err,
		       "%s: no gyrerun began there: '%s --node' ended with %s %d.  "
		       "What does this say?  %s --version",
		       c->name, c->command, sig ? "signal" : "status",
		       sig ? sig : WEXITSTATUS(wstatus), c->command);
	else if (c->node)
		gr_say(&job->err, "lost %s (its gyrerun or ssh ended with status %d)", c->name,
		       sig ? 128 + sig : WEXITSTATUS(wstatus));
	else if (sig)
		gr_say(&job->err, "%s (pid %d on %s) died of signal %d (%s%s)", c->name,
		       (int)c->pid, host, sig, strsignal(sig),
		       WCOREDUMP(wstatus) ? ", core dumped" : "");
	else
		gr_say(&job->err, "%s (pid %d on %s) ended with status %d", c->name, (int)c->pid,
		       host, WEXITSTATUS(wstatus));
}

static void loop_child_ended(struct gr_job *job, struct gr_child *c, int wstatus)
{
	int status = WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
	bool mute;

	if (gr_node_is_mute(c)) {	/* it may have spoken a moment ago */
		gr_stream_drain(&c->out);
		gr_stream_drain(&c->err);
	}
	mute = gr_node_is_mute(c);
	if (mute && !status)
		status = GR_EXIT_SELF;	/* of something that has not run the ranks */
	c->ended = true;
	job->nrunning--;
	gr_child_feed_end(c);
	if (!c->node) {
		kill(-c->pid, SIGKILL);	/* what it has left behind in its group */
		gr_guard_remove(c->pid);
	}
	if (status && !job->ending) {
		/* 255: of ssh itself; a node's gyrerun has said on its own what has happened */
		if (!c->node || mute || WIFSIGNALED(wstatus) || status == 255)
			loop_say_end(job, c, wstatus);
		gr_job_end(job, status);
	}
	if (job->nrunning == 0)
		job->drain_ms = gr_now_ms() + LOOP_DRAIN_MS;
}

static void loop_reap(struct gr_job *job)
{
	int wstatus, i;
	pid_t pid;

	while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0)
		for (i = 0; i < job->nchildren; i++)
			if (job->child[i].pid == pid && !job->child[i].ended)
				loop_child_ended(job, &job->child[i], wstatus);
}

static void loop_on_signal(struct gr_job *job, int sig)
{
	switch (sig) {
	case SIGCHLD:
		loop_reap(job);
		break;
	case SIGTSTP:
		gr_job_signal(job, SIGTSTP);
		raise(SIGSTOP);
		break;
	case SIGINT:
	case SIGTERM:
	case SIGHUP:
	case SIGQUIT:
		if (job->nsignals++ == 0)
			gr_job_signal(job, sig);
		else
			gr_job_end(job, 128 + sig);
		break;
	default:
		gr_job_signal(job, sig);
	}
}

/* ---- stdin ---- */

/* Not while we are a background job of a terminal: reading would stop us. */
static bool loop_in_background(const struct gr_job *job)
{
	const pid_t fg = job->is_node ? -1 : tcgetpgrp(job->in);

	return fg >= 0 && fg != getpgrp();
}

static bool loop_stdin_wanted(const struct gr_job *job)
{
	const struct gr_child *to = job->stdin_to;

	if (job->in < 0 || loop_in_background(job))
		return false;
	if (job->is_node)		/* signals come here too */
		return !to || to->queued < LOOP_NODE_STDIN_FULL;
	return to && to->in >= 0 && to->queued < LOOP_STDIN_FULL;
}

static void loop_stdin_end(struct gr_job *job)
{
	job->in = -1;
	if (job->is_node) {
		/* The other gyrerun, or the network, is gone. */
		if (job->nrunning)
			gr_job_end(job, GR_EXIT_SELF);
	} else if (job->stdin_to) {
		gr_child_feed_end(job->stdin_to);
	}
}

/* is_node: takes whole frames out of what has come. */
static void loop_on_frames(struct gr_job *job)
{
	const unsigned char *f = (const unsigned char *)job->frame;
	size_t len;

	while (job->frame_len >= 4) {
		len = f[2] | (size_t)f[3] << 8;
		if (job->frame_len < 4 + len)
			return;
		if (f[0] == GR_FRAME_SIGNAL)
			gr_job_signal(job, f[1]);
		else if (f[0] == GR_FRAME_END)
			gr_job_end(job, GR_EXIT_SELF);
		else if (f[0] == GR_FRAME_DATA && job->stdin_to)
			gr_child_feed(job->stdin_to, f + 4, len);
		else if (f[0] == GR_FRAME_CLOSE && job->stdin_to)
			gr_child_feed_end(job->stdin_to);
		job->frame_len -= 4 + len;
		memmove(job->frame, job->frame + 4 + len, job->frame_len);
	}
}

static void loop_on_stdin(struct gr_job *job)
{
	char buf[16384];
	ssize_t n;

	if (job->is_node) {
		n = read(job->in, job->frame + job->frame_len, sizeof(job->frame) - job->frame_len);
		if (n > 0) {
			job->frame_len += (size_t)n;
			loop_on_frames(job);
		}
	} else {
		n = read(job->in, buf, sizeof(buf));
		if (n > 0)
			gr_child_feed(job->stdin_to, buf, (size_t)n);
	}
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		loop_stdin_end(job);
}

/* ---- loop ---- */

static int loop_timeout(struct gr_job *job)
{
	const int64_t now = gr_now_ms();
	int64_t next = INT64_MAX;

	if (job->end_ms && now >= job->end_ms && !job->ending) {
		gr_say(&job->err, "time is over (--timeout)");
		gr_job_end(job, GR_EXIT_TIMEOUT);
	}
	if (job->ending && !job->killed && now >= job->kill_ms) {
		job->killed = true;
		gr_job_signal(job, SIGKILL);
	}
	if (job->end_ms && !job->ending)
		next = job->end_ms;
	if (job->ending && !job->killed && job->kill_ms < next)
		next = job->kill_ms;
	if (job->nrunning == 0 && job->drain_ms < next)
		next = job->drain_ms;
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : next - now > 1000000 ? 1000000 : (int)(next - now);
}

static bool loop_done(struct gr_job *job)
{
	const bool late = job->nrunning == 0 && gr_now_ms() >= job->drain_ms;
	int i;

	if (job->nrunning)
		return false;
	for (i = 0; i < job->nchildren; i++)
		if (!late && (job->child[i].out.fd >= 0 || job->child[i].err.fd >= 0))
			return false;
	return job->out.len == 0 && job->err.len == 0;
}

static int loop_add(struct pollfd *pfds, int n, int fd, short events)
{
	pfds[n] = (struct pollfd){ .fd = events ? fd : -1, .events = events };
	return n + 1;
}

/* Fixed places: signals, stdin, stdout, stderr; then three for each child. */
static int loop_fill(const struct gr_job *job, struct pollfd *pfds)
{
	const short out = job->out.len < GR_OUT_FULL ? POLLIN : 0;
	const short err = job->err.len < GR_OUT_FULL ? POLLIN : 0;
	int n = 0, i;

	n = loop_add(pfds, n, job->sigfd, POLLIN);
	/* A node learns of the end of its stdin even while it does not read it. */
	pfds[n].fd = loop_stdin_wanted(job) || job->is_node ? job->in : -1;
	pfds[n++].events = loop_stdin_wanted(job) ? POLLIN : 0;
	n = loop_add(pfds, n, job->out.fd, job->out.len ? POLLOUT : 0);
	n = loop_add(pfds, n, job->err.fd, job->err.len ? POLLOUT : 0);
	for (i = 0; i < job->nchildren; i++) {
		n = loop_add(pfds, n, job->child[i].out.fd, out);
		n = loop_add(pfds, n, job->child[i].err.fd, err);
		n = loop_add(pfds, n, job->child[i].in, job->child[i].queued ? POLLOUT : 0);
	}
	return n;
}

/* Output that nobody reads ends us as SIGPIPE would have done; a full disk, with a message. */
static void loop_on_broken(struct gr_job *job)
{
	if (job->out.broken == EPIPE) {
		gr_job_end(job, 128 + SIGPIPE);
		return;
	}
	if (!job->ending)
		gr_say(&job->err, "cannot write the output of ranks: %s",
		       strerror(job->out.broken));
	gr_job_end(job, GR_EXIT_SELF);
}

static void loop_on_events(struct gr_job *job, const struct pollfd *pfds)
{
	struct signalfd_siginfo si;
	struct gr_child *c;
	int i;

	for (i = 0; i < job->nchildren; i++) {
		c = &job->child[i];
		if (pfds[4 + 3 * i].revents)
			gr_stream_read(&c->out);
		if (pfds[5 + 3 * i].revents)
			gr_stream_read(&c->err);
		if (pfds[6 + 3 * i].revents)
			gr_child_flush(c);
	}
	if (pfds[1].revents)
		loop_on_stdin(job);
	if (pfds[0].revents)
		while (read(job->sigfd, &si, sizeof(si)) == sizeof(si))
			loop_on_signal(job, (int)si.ssi_signo);
	gr_out_flush(&job->out);
	gr_out_flush(&job->err);
	if (job->out.broken)
		loop_on_broken(job);
}

int gr_loop_run(struct gr_job *job)
{
	struct pollfd *pfds = tool_alloc((4 + 3 * (size_t)job->nchildren) * sizeof(*pfds));
	int n, timeout_ms;

	if (job->timeout_ms)
		job->end_ms = gr_now_ms() + job->timeout_ms;
	if (job->nrunning == 0)
		job->drain_ms = gr_now_ms() + LOOP_DRAIN_MS;
	if (job->is_node)		/* what came right behind the description */
		loop_on_frames(job);
	for (;;) {
		timeout_ms = loop_timeout(job);
		if (loop_done(job))
			break;
		n = loop_fill(job, pfds);
		if (poll(pfds, (nfds_t)n, timeout_ms) < 0 && errno != EINTR)
			tool_die("poll: %s", strerror(errno));
		loop_on_events(job, pfds);
	}
	free(pfds);
	return job->status;
}
