/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c - one line per message to stderr.
 * Locking: process-wide atomics (level, rank, hook), independent of each other, so relaxed.
 * Failure: a line that cannot be written is lost; a long one is cut and ends in "...".
 */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "lib/log.h"

#define LOG_LINE_MAX 1024
#define LOG_LEVEL_UNSET -1

static const char *const log_names[] = {
	[GY_LOG_ERROR] = "error",
	[GY_LOG_WARN] = "warn",
	[GY_LOG_INFO] = "info",
	[GY_LOG_DEBUG] = "debug",
};

static atomic_int log_level = LOG_LEVEL_UNSET;
static atomic_int log_rank = -1;
static void (*_Atomic log_hook)(enum gy_log_level level, const char *text);

void gy_log_set_level(enum gy_log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void gy_log_set_rank(int rank)
{
	atomic_store_explicit(&log_rank, rank, memory_order_relaxed);
}

void gy_log_set_hook(void (*hook)(enum gy_log_level level, const char *text))
{
	atomic_store_explicit(&log_hook, hook, memory_order_relaxed);
}

/* A bad value counts as unset here: gy_config_load, which reads it too, complains. */
static gy_cold int log_level_from_environment(void)
{
	const char *text = getenv("GYRE_LOG");
	int unset = LOG_LEVEL_UNSET, level = GY_LOG_WARN;
	size_t i;

	for (i = 0; text && i < GY_ARRAY_SIZE(log_names); i++) {
		if (strcasecmp(text, log_names[i]) == 0)
			level = (int)i;
	}
	if (!atomic_compare_exchange_strong_explicit(&log_level, &unset, level,
						     memory_order_relaxed, memory_order_relaxed))
		level = unset;		/* another thread has set it meanwhile */
	return level;
}

static bool log_wanted(enum gy_log_level level)
{
	int limit = atomic_load_explicit(&log_level, memory_order_relaxed);

	if (limit == LOG_LEVEL_UNSET)
		limit = log_level_from_environment();
	return (int)level <= limit;
}

static size_t log_prefix(char *line, size_t size, enum gy_log_level level)
{
	int rank = atomic_load_explicit(&log_rank, memory_order_relaxed);
	int n;

	if (rank < 0)
		n = snprintf(line, size, "gyre %s: ", log_names[level]);
	else
		n = snprintf(line, size, "gyre[%d] %s: ", rank, log_names[level]);
	return (size_t)n;
}

void gy_log(enum gy_log_level level, const char *fmt, ...)
{
	void (*const hook)(enum gy_log_level level, const char *text) =
		atomic_load_explicit(&log_hook, memory_order_relaxed);
	char line[LOG_LINE_MAX];
	int saved = errno, n;
	size_t len, i;
	va_list ap;

	if (!log_wanted(level))
		return;
	len = hook ? 0 : log_prefix(line, sizeof(line), level);
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if (len + (size_t)n < sizeof(line)) {
		len += (size_t)n;
	} else {
		len = sizeof(line) - 1;
		memcpy(line + len - 3, "...", 3);
	}
	for (i = 0; i < len; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len] = hook ? '\0' : '\n';
	if (hook) {
		hook(level, line);
	} else if (write(STDERR_FILENO, line, len + 1) < 0) {
		/* There is nowhere to report it to. */
	}
	errno = saved;
}
