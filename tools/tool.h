/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TOOLS_TOOL_H
#define GY_TOOLS_TOOL_H
/*
 * What the programs here have in common: numbers on the command line, messages, ends.
 */
#include <stddef.h>

/* Each program says who it is. */
struct tool {
	const char *name, *usage;
	int status;		/* when it fails itself */
};

extern const struct tool tool;

/* "NAME: ..." to standard error, in one write; the end. */
void tool_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* The same for a command line that is wrong: with the usage. */
void tool_bad(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* What getopt has complained of: the usage. */
void tool_misused(void) __attribute__((noreturn));
void tool_help(void) __attribute__((noreturn));

/* text as a number within bounds, or tool_bad: "WHAT needs ..." */
int tool_int(const char *text, const char *what, int min, int max);
double tool_number(const char *text, const char *what, double min, double max);

void *tool_alloc(size_t size);	/* zeroed, or the end */
#endif
