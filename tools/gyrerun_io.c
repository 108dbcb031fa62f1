/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun_io.c - lines of children in, whole lines out; and gyrerun's own messages.
 * Our stdout is not made nonblocking, as others may share it: poll says when PIPE_BUF bytes fit.
 */
#define _GNU_SOURCE
#include "tools/gyrerun.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t gr_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void gr_out_init(struct gr_out *o, int fd)
{
	struct stat st;

	memset(o, 0, sizeof(*o));
	o->fd = fd;
	o->file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void io_append(struct gr_out *o, const char *data, size_t len)
{
	if (o->broken || len == 0)
		return;
	if (o->len + len > o->size) {
		o->size = 2 * (o->len + len);
		o->buf = realloc(o->buf, o->size);
		if (!o->buf)
			tool_die("out of memory");
	}
	memcpy(o->buf + o->len, data, len);
	o->len += len;
}

void gr_out_flush(struct gr_out *o)
{
	struct pollfd pfd = { .fd = o->fd, .events = POLLOUT };
	size_t done = 0, n;
	ssize_t w;

	while (done < o->len) {
		n = o->len - done;
		if (!o->file) {
			n = n < PIPE_BUF ? n : PIPE_BUF;
			if (poll(&pfd, 1, 0) <= 0)
				break;
		}
		w = write(o->fd, o->buf + done, n);
		if (w < 0 && (errno == EINTR || errno == EAGAIN))
			break;
		if (w < 0) {
			o->broken = errno;
			o->len = 0;
			return;
		}
		done += (size_t)w;
	}
	if (done)
		memmove(o->buf, o->buf + done, o->len - done);
	o->len -= done;
}

void gr_stream_init(struct gr_stream *s, int fd, struct gr_out *to, const char *tag)
{
	s->fd = fd;
	s->to = to;
	snprintf(s->tag, sizeof(s->tag), "%s", tag);
	s->line = tool_alloc(GR_LINE_MAX);
	s->len = 0;
}

static void io_emit(struct gr_stream *s, const char *data, size_t len)
{
	io_append(s->to, s->tag, strlen(s->tag));
	io_append(s->to, data, len);
}

static bool io_is_hello(struct gr_stream *s, const char *line, size_t len)
{
	const size_t n = s->hello ? strlen(s->hello) : 0;

	if (!n || len < n || memcmp(line, s->hello, n) || len > n + strspn(line + n, "\r\n"))
		return false;
	s->hello = NULL;
	return true;
}

/* Passes on whole lines; a carriage return ends one too, so that progress lines show at once. */
static void io_emit_lines(struct gr_stream *s)
{
	size_t start = 0, i;

	for (i = 0; i < s->len; i++) {
		if (s->line[i] != '\n' && s->line[i] != '\r')
			continue;
		if (s->line[i] == '\r' && i + 1 < s->len && s->line[i + 1] == '\n')
			continue;
		if (!io_is_hello(s, s->line + start, i + 1 - start))
			io_emit(s, s->line + start, i + 1 - start);
		start = i + 1;
	}
	if (start == 0 && s->len == GR_LINE_MAX) {	/* too long to keep together */
		io_emit(s, s->line, s->len);
		start = s->len;
	}
	memmove(s->line, s->line + start, s->len - start);
	s->len -= start;
}

static void io_stream_end(struct gr_stream *s)
{
	if (s->len) {
		io_emit(s, s->line, s->len);
		if (s->tag[0])
			io_append(s->to, "\n", 1);
	}
	close(s->fd);
	s->fd = -1;
	free(s->line);
	s->line = NULL;
	s->len = 0;
}

void gr_stream_read(struct gr_stream *s)
{
	const ssize_t n = read(s->fd, s->line + s->len, GR_LINE_MAX - s->len);

	if (n > 0) {
		s->len += (size_t)n;
		io_emit_lines(s);
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		io_stream_end(s);
	}
}

void gr_stream_drain(struct gr_stream *s)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLIN };

	for (; s->fd >= 0 && poll(&pfd, 1, 0) > 0; pfd.fd = s->fd)
		gr_stream_read(s);
}

static void io_vsay(struct gr_out *to, const char *fmt, va_list ap)
{
	char line[1024];
	int n;

	n = snprintf(line, sizeof(line), "gyrerun: ");
	vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	strcat(line, "\n");
	if (to)
		io_append(to, line, strlen(line));
	else if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;			/* there is nowhere to report it to */
}

void gr_say(struct gr_out *to, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	io_vsay(to, fmt, ap);
	va_end(ap);
}
