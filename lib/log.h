/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_LOG_H
#define GY_LOG_H
/*
 * Messages for the user, on stderr, each one write(2) of one line:
 *
 *	gyre[3] warn: rank 1 has not called allreduce for 10 s
 *
 * Log once, where an error is first decided, with rank, peer and the system's text.  Nothing on
 * the data path logs.  MT-Safe; errno is kept.
 */
#include "lib/util.h"

enum gy_log_level {
	GY_LOG_ERROR,
	GY_LOG_WARN,
	GY_LOG_INFO,
	GY_LOG_DEBUG
};

/* Control characters in the text (a peer may have sent it) are shown as '?'. */
gy_cold void gy_log(enum gy_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define gy_err(...) gy_log(GY_LOG_ERROR, __VA_ARGS__)
#define gy_warn(...) gy_log(GY_LOG_WARN, __VA_ARGS__)
#define gy_info(...) gy_log(GY_LOG_INFO, __VA_ARGS__)
#define gy_dbg(...) gy_log(GY_LOG_DEBUG, __VA_ARGS__)

/* Drops lines above this level.  Until it is set: GYRE_LOG from the environment, else warn. */
gy_cold void gy_log_set_level(enum gy_log_level level);

/* The rank in the prefix, for the whole process; -1 (as at start): none. */
gy_cold void gy_log_set_rank(int rank);

/*
 * From now on messages go to hook, without prefix, and not to stderr; NULL: to stderr again.  For a
 * program that shows them in its own way; the hook is called by any thread, and must not log.
 */
gy_cold void gy_log_set_hook(void (*hook)(enum gy_log_level level, const char *text));

#endif
