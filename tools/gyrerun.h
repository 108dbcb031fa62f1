/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRERUN_H
#define GYRERUN_H
/*
 * gyrerun: starts the ranks of a job and stays with them.
 *
 *	gyrerun.c	options; who runs where
 *	gyrerun_loop.c	event loop: output, signals, ends
 *	gyrerun_rank.c	starts a rank on this machine
 *	gyrerun_host.c	starts gyrerun --node on another machine through ssh, and is it there
 *	gyrerun_io.c	lines in, lines out
 *
 * A job's children are its ranks, or, with --hosts, one gyrerun --node for each host, whose
 * children are the ranks there.  One thread, but for the rendezvous.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "tools/tool.h"

/* Exit statuses of gyrerun itself, as timeout(1) and env(1) have them. */
enum {
	GR_EXIT_TIMEOUT = 124,
	GR_EXIT_SELF = 125,
	GR_EXIT_EXEC = 126,
	GR_EXIT_NOT_FOUND = 127,
};

enum gr_bind { GR_BIND_AUTO, GR_BIND_CORE, GR_BIND_NONE };

/* ---- gyrerun_io.c ---- */

/* Bytes on their way to our stdout or stderr. */
struct gr_out {
	int fd;
	bool file;		/* a plain file never blocks */
	int broken;		/* the errno of a write that failed: no more are tried */
	char *buf;
	size_t len, size;
};

/* Output of a child: cut into lines, so that those of different children never mix. */
struct gr_stream {
	int fd;			/* -1: ended */
	struct gr_out *to;
	char tag[16];		/* before each line */
	char *line;		/* GR_LINE_MAX bytes */
	size_t len;
	const char *hello;	/* a line that is not passed on; NULL: it has come, or need not */
};

#define GR_LINE_MAX (64 * 1024)
#define GR_ROOT_MAX 256		/* as long as GYRE_ROOT may be, with its zero byte */
#define GR_OUT_FULL (256 * 1024)	/* children wait until there is less */

void gr_out_init(struct gr_out *o, int fd);
void gr_out_flush(struct gr_out *o);	/* what can be written without blocking */
void gr_stream_init(struct gr_stream *s, int fd, struct gr_out *to, const char *tag);
void gr_stream_read(struct gr_stream *s);	/* once; closes itself at the end */
void gr_stream_drain(struct gr_stream *s);	/* what has come by now */

/* "gyrerun: ..." as a line of its own.  To stderr, when to is NULL at once. */
void gr_say(struct gr_out *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int64_t gr_now_ms(void);

/* ---- gyrerun_loop.c ---- */

struct gr_child {
	pid_t pid;
	bool ended;
	bool node;		/* a gyrerun --node; else a rank, leader of its process group */
	char name[80];		/* "rank 3", "host b" */
	char *command;		/* of a node: "ssh b /usr/bin/gyrerun" */
	int in;			/* its stdin, nonblocking; -1: none, or closed */
	bool closing;		/* in is to be closed when the queue is empty */
	char *queue;		/* bytes for it */
	size_t queued;
	struct gr_stream out, err;
};

struct gr_job {
	/* What to run. */
	int nranks;		/* of the whole job */
	int first, count;	/* those of this node */
	char **argv;
	char **env;		/* "NAME=VALUE" for ranks, NULL-terminated */
	int nenv;
	char root[GR_ROOT_MAX];	/* GYRE_ROOT */
	char key[33];		/* GYRE_JOB_KEY */
	enum gr_bind bind;
	bool tag;
	int grace_ms, timeout_ms;	/* timeout 0: none */
	bool is_node;		/* we are gyrerun --node: stdin is the other gyrerun */

	/* How it goes. */
	struct gr_child *child;
	int nchildren, nrunning;
	struct gr_child *stdin_to;	/* who has rank 0's stdin, or NULL */
	struct gr_out out, err;
	bool ending, killed;
	int status;		/* of the first failure */
	int64_t kill_ms, end_ms;	/* when to kill; when the time is over; 0: never */
	int64_t drain_ms;	/* when to stop waiting for output, once all have ended */
	int nsignals;		/* that asked us to end */
	int sigfd;
	int in;			/* our stdin; -1: closed */
	char frame[4 + 65536];	/* is_node: what has come of a frame */
	size_t frame_len;
};

/* Blocks the signals that the loop takes; before children are started. */
void gr_loop_init(struct gr_job *job);
/* For children: undoes it. */
void gr_loop_child_signals(void);
/* Until all children have ended.  Returns the exit status. */
int gr_loop_run(struct gr_job *job);
/* Ends all children; status is the job's unless there is one already. */
void gr_job_end(struct gr_job *job, int status);
void gr_job_signal(struct gr_job *job, int sig);

/* ---- gyrerun_rank.c ---- */

/* Starts ranks first..first+count-1 here.  0, or the exit status (said why). */
int gr_ranks_start(struct gr_job *job);
/* Process groups that must not outlive us, whatever ends us. */
void gr_guard_start(void);
void gr_guard_add(pid_t pgid);
void gr_guard_remove(pid_t pgid);

/* ---- gyrerun_host.c ---- */

enum gr_frame {
	GR_FRAME_DATA = 'D',
	GR_FRAME_CLOSE = 'C',
	GR_FRAME_SIGNAL = 'S',
	GR_FRAME_END = 'E',
};

int gr_hosts_start(struct gr_job *job, char *const *hosts, int nhosts, const char *ssh);
/* A frame to a node's gyrerun. */
void gr_frame_send(struct gr_child *c, enum gr_frame type, int value, const void *data, size_t len);
/*
 * Bytes for rank 0's stdin, and its end, for a child that is rank 0 or has it; flush: as much as
 * goes now.
 */
void gr_child_feed(struct gr_child *c, const void *data, size_t len);
void gr_child_feed_end(struct gr_child *c);
void gr_child_flush(struct gr_child *c);
/* Whether its gyrerun --node has never spoken: something in between has failed. */
bool gr_node_is_mute(const struct gr_child *c);
/* is_node: reads what the job is from stdin. */
void gr_node_read(struct gr_job *job);
#endif
