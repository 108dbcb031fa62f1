/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tool.c - what the programs here have in common.
 */
#include "tools/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void tool_say(const char *fmt, va_list ap)
{
	char line[1024];
	const int n = snprintf(line, sizeof(line), "%s: ", tool.name);

	vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	strcat(line, "\n");
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;		/* there is nowhere to report it to */
}

void tool_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tool_say(fmt, ap);
	va_end(ap);
	exit(tool.status);
}

void tool_bad(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tool_say(fmt, ap);
	va_end(ap);
	tool_misused();
}

void tool_misused(void)
{
	fputs(tool.usage, stderr);
	exit(tool.status);
}

void tool_help(void)
{
	fputs(tool.usage, stdout);
	exit(fflush(stdout) ? tool.status : 0);
}

int tool_int(const char *text, const char *what, int min, int max)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (end == text || *end || errno || n < min || n > max)
		tool_bad("%s needs a number from %d to %d, not '%s'", what, min, max, text);
	return (int)n;
}

double tool_number(const char *text, const char *what, double min, double max)
{
	char *end;
	const double v = strtod(text, &end);

	if (end == text || *end || !(v >= min && v <= max))
		tool_bad("%s needs a number from %g to %g, not '%s'", what, min, max, text);
	return v;
}

void *tool_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		tool_die("out of memory");
	return p;
}
