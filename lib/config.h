/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_CONFIG_H
#define GY_CONFIG_H
/*
 * Settings.  One table (config.c) is the source of GYRE_* variables, of the keys in the file that
 * GYRE_CONFIG names, of gyre-info -c and of gyre-env(7).  A setting is one field here, named as its
 * key, and one line there.
 *
 * Order: default, then file, then environment.  struct gy_config owns nothing: copy it at will.
 */
#include <stdbool.h>
#include <stddef.h>

enum gy_config_transport {
	GY_CONFIG_TRANSPORT_AUTO,
	GY_CONFIG_TRANSPORT_SHM,
	GY_CONFIG_TRANSPORT_VERBS,
	GY_CONFIG_TRANSPORT_TCP,
	GY_CONFIG_TRANSPORT_SIM
};

enum gy_config_progress {
	GY_CONFIG_PROGRESS_THREAD,
	GY_CONFIG_PROGRESS_MANUAL
};

enum gy_config_auto {
	GY_CONFIG_AUTO,
	GY_CONFIG_ON,
	GY_CONFIG_OFF
};

enum gy_config_source {
	GY_CONFIG_DEFAULT,
	GY_CONFIG_FILE,
	GY_CONFIG_ENVIRONMENT
};

#define GY_CONFIG_MAX_SETTINGS 40

struct gy_config {
	int rank;
	int size;
	char root[256];
	char job_key[33];
	int transport;		/* enum gy_config_transport */
	int progress;		/* enum gy_config_progress */
	int boot_timeout_ms;
	int stall_timeout_ms;	/* 0: off */
	int late_warn_ms;	/* 0: off */
	int host_timeout_ms;
	int time_scale;		/* the limits above have been multiplied by it */
	int spin_us;		/* -1: automatic */
	size_t eager_bytes;
	size_t grain_bytes;	/* 0: automatic */
	size_t pool_bytes;
	int tcp_streams;
	char tcp_interfaces[512];
	char tcp_shape[128];
	char verbs_device[64];
	int verbs_qps;
	int cma;		/* enum gy_config_auto */
	bool mapped;
	char algorithm[512];
	int log;		/* enum gy_log_level */
	/* enum gy_config_source, by position in the table */
	unsigned char source[GY_CONFIG_MAX_SETTINGS];
};

enum gy_config_kind {
	GY_CONFIG_KIND_BOOL,	/* 0 or 1; off, on, no, yes, false, true */
	GY_CONFIG_KIND_INT,
	GY_CONFIG_KIND_SIZE,	/* bytes; suffix k, m or g: powers of 1024 */
	GY_CONFIG_KIND_ENUM,	/* one of words */
	GY_CONFIG_KIND_STRING
};

#define GY_CONFIG_WIRE 1	/* changes the wire: all ranks of a communicator must agree */
#define GY_CONFIG_SECRET 2	/* never shown */

struct gy_config_entry {
	const char *name;	/* key in the file; GYRE_NAME in the environment */
	const char *def;	/* default, as one would write it */
	const char *const *words;	/* enum: value i is words[i], ends with NULL; else NULL */
	const char *doc;
	long long min, max;	/* int, size: value; string: length */
	size_t offset;
	enum gy_config_kind kind;
	int flags;
};

/* Defaults only. */
void gy_config_init(struct gy_config *cfg);

/*
 * Defaults, file, environment; the setting of log takes effect (log.h).  0, or -EINVAL for a bad
 * value or line (logged with the name, the value and what is allowed), or -errno for a file that
 * cannot be read; *cfg is then not to be used.  An unknown name is only warned of.  Reads the
 * environment: not while another thread changes it.
 */
int gy_config_load(struct gy_config *cfg);

/*
 * The same without a log line, and log as it was: report hears of each setting found, and of what
 * is wrong; it goes on after that.  where is "GYRE_RANK" or "file:3".  0 or the first error.
 */
struct gy_config_report {
	void *arg;
	void (*set)(void *arg, size_t i, const char *where);	/* entry i was taken from there */
	/* name as the user wrote it, and the nearest that exists, so written too; "": none is */
	void (*unknown)(void *arg, const char *where, const char *name, const char *near);
	void (*invalid)(void *arg, const char *where, const char *text);
};
int gy_config_load_report(struct gy_config *cfg, const struct gy_config_report *report);

/* One setting from text; where ("GYRE_RANK", "file:3") is what messages call it.  0 or -EINVAL. */
int gy_config_set(struct gy_config *cfg, const char *name, const char *value,
		  enum gy_config_source source, const char *where);

/* For gyre-info and for agreement: entry i, or NULL after the last; its value as text. */
const struct gy_config_entry *gy_config_entry(size_t i);
void gy_config_value(const struct gy_config *cfg, size_t i, char *buf, size_t len);
const char *gy_config_source_name(const struct gy_config *cfg, size_t i);

#endif
