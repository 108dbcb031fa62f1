/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun_host.c - ranks on other machines.
 *
 * For each host, "ssh HOST gyrerun --node" runs.  Its stdin carries what to run, as strings each
 * ended by a zero byte, the last one empty; then frames: type, value, length (16 bits,
 * little-endian), bytes.  So the job key is on no command line.  Its stdout and stderr are those of
 * the ranks there, in whole lines, after one on stderr that says that it runs.  When its stdin
 * ends, for whatever reason, it ends its ranks.
 */
#define _GNU_SOURCE
#include "tools/gyrerun.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOST_GREETING "gyrerun-node 1"
#define HOST_TEXT_MAX (4 << 20)		/* bytes of a job's description */
#define HOST_READ 4096

extern char **environ;

/* ---- bytes to a child ---- */

static void host_queue(struct gr_child *c, const void *data, size_t len)
{
	if (c->in < 0 || len == 0)
		return;
	c->queue = realloc(c->queue, c->queued + len);
	if (!c->queue)
		tool_die("out of memory");
	memcpy(c->queue + c->queued, data, len);
	c->queued += len;
}

static void host_close(struct gr_child *c)
{
	close(c->in);
	c->in = -1;
	c->closing = false;
	free(c->queue);
	c->queue = NULL;
	c->queued = 0;
}

void gr_child_flush(struct gr_child *c)
{
	ssize_t n = 0;
	size_t done = 0;

	while (c->in >= 0 && done < c->queued) {
		n = write(c->in, c->queue + done, c->queued - done);
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		host_close(c);		/* it reads no more */
		return;
	}
	if (c->in < 0)
		return;
	c->queued -= done;
	if (done)
		memmove(c->queue, c->queue + done, c->queued);
	if (c->closing && c->queued == 0)
		host_close(c);
}

void gr_frame_send(struct gr_child *c, enum gr_frame type, int value, const void *data, size_t len)
{
	const unsigned char head[4] = { (unsigned char)type, (unsigned char)value,
					(unsigned char)(len & 255), (unsigned char)(len >> 8) };

	host_queue(c, head, sizeof(head));
	host_queue(c, data, len);
	gr_child_flush(c);
}

void gr_child_feed(struct gr_child *c, const void *data, size_t len)
{
	if (c->node) {
		gr_frame_send(c, GR_FRAME_DATA, 0, data, len);
		return;
	}
	host_queue(c, data, len);
	gr_child_flush(c);
}

void gr_child_feed_end(struct gr_child *c)
{
	if (c->in < 0)
		return;
	if (c->node && !c->ended) {
		gr_frame_send(c, GR_FRAME_CLOSE, 0, NULL, 0);
		return;
	}
	c->closing = true;		/* a rank: what is queued first */
	if (c->ended || c->queued == 0)
		host_close(c);
}

/* ---- starting a node ---- */

static void host_text(struct gr_child *c, const char *fmt, ...)
{
	char text[8192], *big = text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if ((size_t)n >= sizeof(text)) {
		va_start(ap, fmt);
		if (vasprintf(&big, fmt, ap) < 0)
			tool_die("out of memory");
		va_end(ap);
	}
	host_queue(c, big, (size_t)n + 1);
	if (big != text)
		free(big);
}

/* The settings of the library that are set here hold there too. */
static void host_describe_environment(const struct gr_job *job, struct gr_child *c)
{
	char **e;
	int i;

	for (e = environ; *e; e++)
		if (strncmp(*e, "GYRE_", 5) == 0)
			host_text(c, "env=%s", *e);
	for (i = 0; i < job->nenv; i++)
		host_text(c, "env=%s", job->env[i]);
}

static void host_describe(const struct gr_job *job, struct gr_child *c, int first, int count)
{
	char *cwd = getcwd(NULL, 0);
	char **arg;

	host_text(c, HOST_GREETING);
	host_text(c, "size=%d", job->nranks);
	host_text(c, "first=%d", first);
	host_text(c, "count=%d", count);
	host_text(c, "bind=%d", (int)job->bind);
	host_text(c, "tag=%d", (int)job->tag);
	host_text(c, "grace=%d", job->grace_ms);
	host_text(c, "root=%s", job->root);
	host_text(c, "key=%s", job->key);
	host_text(c, "cwd=%s", cwd ? cwd : "/");
	host_describe_environment(job, c);
	for (arg = job->argv; *arg; arg++)
		host_text(c, "arg=%s", *arg);
	host_queue(c, "", 1);
	free(cwd);
}

/* 'text' with every ' as '\'' for the remote shell. */
static char *host_quote(const char *text)
{
	char *quoted = tool_alloc(4 * strlen(text) + 3), *q = quoted;

	*q++ = '\'';
	for (; *text; text++) {
		if (*text == '\'')
			q = stpcpy(q, "'\\''");
		else
			*q++ = *text;
	}
	*q = '\'';
	return quoted;
}

struct host_command {
	char **argv;	/* "ssh", "-p", "22", host, "'/usr/bin/gyrerun' --node" */
	char *words, *remote;	/* what argv points into */
	char *text;		/* "ssh -p 22 host '/usr/bin/gyrerun'" */
};

static void host_command_init(struct host_command *c, const char *ssh, const char *host,
			      const char *self)
{
	char *quoted = host_quote(self), *save = NULL, *w;
	int n = 0;

	c->words = strdup(ssh);
	c->argv = tool_alloc((strlen(ssh) + 4) * sizeof(*c->argv));
	if (!c->words || asprintf(&c->remote, "%s --node", quoted) < 0 ||
	    asprintf(&c->text, "%s %s %s", ssh, host, quoted) < 0)
		tool_die("out of memory");
	free(quoted);
	for (w = strtok_r(c->words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		c->argv[n++] = w;
	if (n == 0)
		tool_die("--ssh needs a command");
	c->argv[n++] = (char *)host;
	c->argv[n++] = c->remote;
}

static void host_command_fini(struct host_command *c)
{
	free(c->argv);
	free(c->words);
	free(c->remote);
}

static void host_child(char **argv, const int in[2], const int out[2], const int err[2])
{
	if (dup2(in[0], STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0 ||
	    dup2(err[1], STDERR_FILENO) < 0)
		_exit(GR_EXIT_SELF);
	gr_loop_child_signals();
	/*
	 * In our process group, so that ssh can ask for a password; the terminal's keys are for us.
	 */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	execvp(argv[0], argv);
	gr_say(NULL, "cannot run '%s': %s", argv[0], strerror(errno));
	_exit(GR_EXIT_NOT_FOUND);
}

static void host_start(struct gr_job *job, struct gr_child *c, char **argv)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		tool_die("pipe: %s", strerror(errno));
	c->pid = fork();
	if (c->pid < 0)
		tool_die("fork: %s", strerror(errno));
	if (c->pid == 0)
		host_child(argv, in, out, err);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c->node = true;
	c->in = in[1];
	fcntl(c->in, F_SETFL, O_NONBLOCK);
	gr_stream_init(&c->out, out[0], &job->out, "");
	gr_stream_init(&c->err, err[0], &job->err, "");
	c->out.hello = c->err.hello = HOST_GREETING;	/* ssh -t joins the two */
	job->nchildren++;
	job->nrunning++;
}

int gr_hosts_start(struct gr_job *job, char *const *hosts, int nhosts, const char *ssh)
{
	char self[4096];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	struct host_command command;
	int i, first = 0, count;

	if (n < 0)
		tool_die("/proc/self/exe: %s", strerror(errno));
	self[n] = '\0';
	job->child = tool_alloc((size_t)nhosts * sizeof(*job->child));
	for (i = 0; i < nhosts; i++) {
		count = job->nranks / nhosts + (i < job->nranks % nhosts);
		if (count == 0)
			break;
		snprintf(job->child[i].name, sizeof(job->child[i].name), "host %s", hosts[i]);
		host_command_init(&command, ssh, hosts[i], self);
		host_start(job, &job->child[i], command.argv);
		job->child[i].command = command.text;
		host_command_fini(&command);
		host_describe(job, &job->child[i], first, count);
		gr_child_flush(&job->child[i]);
		first += count;
	}
	job->stdin_to = &job->child[0];
	return 0;
}

bool gr_node_is_mute(const struct gr_child *c)
{
	return c->node && c->out.hello && c->err.hello;
}

/* ---- being a node ---- */

/* Up to the empty string; what has come beyond it belongs to the frames. */
static char *host_read_text(struct gr_job *job)
{
	char *text = tool_alloc(HOST_TEXT_MAX + HOST_READ);
	size_t len = 0, end = 0;
	ssize_t n;

	while (len < HOST_TEXT_MAX) {
		n = read(STDIN_FILENO, text + len, HOST_READ);
		if (n <= 0)
			tool_die("the description of the job on stdin ends early");
		for (len += (size_t)n; end + 1 < len; end++) {
			if (text[end] || text[end + 1])
				continue;
			job->frame_len = len - end - 2;
			memcpy(job->frame, text + end + 2, job->frame_len);
			return text;
		}
	}
	tool_die("the description of the job is too long");
}

static void host_append(char ***list, int *n, char *value)
{
	*list = realloc(*list, ((size_t)*n + 2) * sizeof(**list));
	if (!*list)
		tool_die("out of memory");
	(*list)[(*n)++] = value;
	(*list)[*n] = NULL;
}

static void host_take(struct gr_job *job, char *item, int *nargs)
{
	char *value = strchr(item, '=');

	if (!value)
		tool_die("cannot understand '%s' in the description of the job", item);
	*value++ = '\0';
	if (strcmp(item, "size") == 0)
		job->nranks = atoi(value);
	else if (strcmp(item, "first") == 0)
		job->first = atoi(value);
	else if (strcmp(item, "count") == 0)
		job->count = atoi(value);
	else if (strcmp(item, "bind") == 0)
		job->bind = (enum gr_bind)atoi(value);
	else if (strcmp(item, "tag") == 0)
		job->tag = atoi(value);
	else if (strcmp(item, "grace") == 0)
		job->grace_ms = atoi(value);
	else if (strcmp(item, "root") == 0)
		snprintf(job->root, sizeof(job->root), "%s", value);
	else if (strcmp(item, "key") == 0)
		snprintf(job->key, sizeof(job->key), "%s", value);
	else if (strcmp(item, "cwd") == 0 && chdir(value))
		gr_say(NULL, "cannot go to %s here: %s", value, strerror(errno));
	else if (strcmp(item, "env") == 0)
		host_append(&job->env, &job->nenv, value);
	else if (strcmp(item, "arg") == 0)
		host_append(&job->argv, nargs, value);
}

void gr_node_read(struct gr_job *job)
{
	size_t len;
	int nargs = 0;
	char *text;

	if (write(STDERR_FILENO, HOST_GREETING "\n", sizeof(HOST_GREETING)) < 0)
		tool_die("nobody listens");
	text = host_read_text(job);
	len = strlen(text);
	if (strcmp(text, HOST_GREETING))
		tool_die("the gyrerun that calls is of another version");
	for (text += len + 1; *text; text += len + 1) {
		len = strlen(text);
		host_take(job, text, &nargs);
	}
	if (job->nranks < 1 || job->count < 1 || job->first < 0 ||
	    job->first + job->count > job->nranks || nargs == 0)
		tool_die("the description of the job makes no sense");
}
