/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config.c - the table of settings, and how they are read.
 * A default is written as a user would write it and goes through the same parser, so that the
 * table is all there is.
 * Locking: none; the table is const.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "lib/config.h"
#include "lib/config_value.h"
#include "lib/log.h"
#include "lib/transport.h"

#define CONFIG_PREFIX "GYRE_"
#define CONFIG_TEXT 800		/* a message about a setting, or a name as the user wrote it */
#define CONFIG_DAY_MS (24 * 3600 * 1000)
#define CONFIG_MAX_SCALE 1000

static const char *const config_transports[] = { "auto", "shm", "verbs", "tcp", "sim", NULL };
static const char *const config_progresses[] = { "thread", "manual", NULL };
static const char *const config_autos[] = { "auto", "on", "off", NULL };
static const char *const config_levels[] = { "error", "warn", "info", "debug", NULL };

/* Offset of a field, and a warning when the field is not of the type that its kind writes. */
#define CONFIG_FIELD(field, type) \
	(offsetof(struct gy_config, field) + \
	 0 * sizeof(&((struct gy_config *)0)->field == (type *)0))

#define CONFIG_BOOL(field, def_, doc_, flags_) \
	{ .name = #field, .kind = GY_CONFIG_KIND_BOOL, .offset = CONFIG_FIELD(field, bool), \
	  .def = def_, .max = 1, .doc = doc_, .flags = flags_ }
#define CONFIG_INT(field, def_, min_, max_, doc_, flags_) \
	{ .name = #field, .kind = GY_CONFIG_KIND_INT, .offset = CONFIG_FIELD(field, int), \
	  .def = def_, .min = min_, .max = max_, .doc = doc_, .flags = flags_ }
#define CONFIG_SIZE(field, def_, min_, max_, doc_, flags_) \
	{ .name = #field, .kind = GY_CONFIG_KIND_SIZE, .offset = CONFIG_FIELD(field, size_t), \
	  .def = def_, .min = min_, .max = max_, .doc = doc_, .flags = flags_ }
#define CONFIG_ENUM(field, def_, words_, doc_, flags_) \
	{ .name = #field, .kind = GY_CONFIG_KIND_ENUM, .offset = CONFIG_FIELD(field, int), \
	  .def = def_, .words = words_, .doc = doc_, .flags = flags_ }
#define CONFIG_STRING(field, def_, doc_, flags_) \
	{ .name = #field, .kind = GY_CONFIG_KIND_STRING, \
	  .offset = offsetof(struct gy_config, field), \
	  .max = sizeof(((struct gy_config *)0)->field) - 1, .def = def_, .doc = doc_, \
	  .flags = flags_ }

static const struct gy_config_entry config_table[] = {
	CONFIG_INT(rank, "-1", -1, INT_MAX, "this process's rank; -1: not given", 0),
	CONFIG_INT(size, "-1", -1, INT_MAX, "number of ranks of the job; -1: not given", 0),
	CONFIG_STRING(root, "", "host:port where the ranks of the job meet", 0),
	CONFIG_STRING(job_key, "", "128-bit key of the job, 32 hex digits", GY_CONFIG_SECRET),
	CONFIG_ENUM(transport, "auto", config_transports,
		    "transports that may be used; auto: shm on a node, else verbs, else tcp", 0),
	CONFIG_ENUM(progress, "thread", config_progresses,
		    "who moves data while no call does: a library thread, or nobody", 0),
	CONFIG_INT(boot_timeout_ms, "60000", 1, INT_MAX, "time for all ranks to join", 0),
	CONFIG_INT(stall_timeout_ms, "600000", 0, INT_MAX,
		   "a live rank that is this late is an error; 0: never", 0),
	CONFIG_INT(late_warn_ms, "10000", 0, INT_MAX,
		   "log who waits for whom after this time; 0: never", 0),
	CONFIG_INT(host_timeout_ms, "10000", 100, CONFIG_DAY_MS,
		   "a host that is silent so long, or 7/8 of it, has vanished", 0),
	CONFIG_INT(time_scale, "1", 1, CONFIG_MAX_SCALE,
		   "multiplies the four limits of time before, and fixed ones: for slow machines",
		   0),
	CONFIG_INT(spin_us, "-1", -1, 1000000,
		   "how long a wait spins before it sleeps; -1: automatic", 0),
	CONFIG_SIZE(eager_bytes, "8k", 0, GY_BODY_MAX,
		    "what a message may send before it is asked for", GY_CONFIG_WIRE),
	CONFIG_SIZE(grain_bytes, "0", 0, 1 << 30,
		    "unit of pipelining; 0: automatic", GY_CONFIG_WIRE),
	CONFIG_SIZE(pool_bytes, "16m", 1 << 20, 1LL << 40, "memory for slots, per rank", 0),
	CONFIG_INT(tcp_streams, "2", 1, 16, "bulk TCP connections for each peer", GY_CONFIG_WIRE),
	CONFIG_STRING(tcp_interfaces, "",
		      "interfaces or networks (10.0.0.0/8) to use; after ^: not to use", 0),
	CONFIG_STRING(tcp_shape, "",
		      "makes TCP slower, as a network far away: rtt=80ms,rate=40mbit,...",
		      GY_CONFIG_WIRE),
	CONFIG_STRING(verbs_device, "",
		      "RDMA device to use, such as mlx5_0 or mlx5_0:2 (port 2); else the quickest",
		      0),
	CONFIG_INT(verbs_qps, "2", 1, 7, "queue pairs for large messages to each peer",
		   GY_CONFIG_WIRE),
	CONFIG_ENUM(cma, "off", config_autos,
		    "read ordinary memory of ranks on the node by process_vm_readv (auto: if it "
		    "works) instead of through slots that stay in cache",
		    0),
	CONFIG_BOOL(mapped, "1", "ranks on the node map each other's gyre_mem_alloc memory", 0),
	CONFIG_STRING(algorithm, "",
		      "override, such as allreduce=ring,broadcast=chain", GY_CONFIG_WIRE),
	CONFIG_ENUM(log, "warn", config_levels, "messages up to this level go to stderr", 0),
};

_Static_assert(GY_ARRAY_SIZE(config_table) <= GY_CONFIG_MAX_SETTINGS,
	       "GY_CONFIG_MAX_SETTINGS is too small");

const struct gy_config_entry *gy_config_entry(size_t i)
{
	return i < GY_ARRAY_SIZE(config_table) ? &config_table[i] : NULL;
}

static void *config_field(struct gy_config *cfg, const struct gy_config_entry *e)
{
	return (char *)cfg + e->offset;
}

/* Entry of a name in any case, or NULL. */
static const struct gy_config_entry *config_find(const char *name)
{
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(config_table); i++) {
		if (strcasecmp(name, config_table[i].name) == 0)
			return &config_table[i];
	}
	return NULL;
}

void gy_config_init(struct gy_config *cfg)
{
	size_t i;
	int err;

	memset(cfg, 0, sizeof(*cfg));
	for (i = 0; i < GY_ARRAY_SIZE(config_table); i++) {
		err = gy_config_parse(&config_table[i], config_table[i].def,
				      config_field(cfg, &config_table[i]));
		gy_assert(err == 0);
		(void)err;
	}
}

/* ---- the report that goes to the log ---- */

static void config_log_set(void *arg, size_t i, const char *where)
{
}

static gy_cold void config_log_unknown(void *arg, const char *where, const char *name,
				       const char *near)
{
	if (*near)
		gy_warn("%s: unknown setting %s; did you mean %s?", where, name, near);
	else
		gy_warn("%s: unknown setting %s; gyre-env(7) lists all", where, name);
}

static gy_cold void config_log_invalid(void *arg, const char *where, const char *text)
{
	gy_err("%s%s", where, text);
}

static const struct gy_config_report config_logged = {
	.set = config_log_set,
	.unknown = config_log_unknown,
	.invalid = config_log_invalid,
};

/* ---- one setting ---- */

/* text continues where: ": message" or " = value ...". */
__attribute__((format(printf, 3, 4))) static gy_cold void
config_invalid(const struct gy_config_report *report, const char *where, const char *fmt, ...)
{
	char text[CONFIG_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report->invalid(report->arg, where, text);
}

static int config_set_entry(struct gy_config *cfg, const struct gy_config_entry *e,
			    const char *value, enum gy_config_source source, const char *where,
			    const struct gy_config_report *report)
{
	char allowed[128];
	int err;

	err = gy_config_parse(e, value, config_field(cfg, e));
	if (err) {
		gy_config_allowed(e, allowed, sizeof(allowed));
		config_invalid(report, where, " = \"%s\" is not valid for %s: allowed is %s",
			       e->flags & GY_CONFIG_SECRET ? "..." : value, e->name, allowed);
		return err;
	}
	cfg->source[e - config_table] = (unsigned char)source;
	report->set(report->arg, (size_t)(e - config_table), where);
	return 0;
}

int gy_config_set(struct gy_config *cfg, const char *name, const char *value,
		  enum gy_config_source source, const char *where)
{
	const struct gy_config_entry *e = config_find(name);

	if (!e) {
		gy_err("%s: there is no setting %s", where, name);
		return -EINVAL;
	}
	return config_set_entry(cfg, e, value, source, where, &config_logged);
}

/* prefix and name make up what the user wrote; suggests the nearest that exists. */
static gy_cold void config_unknown(const struct gy_config_report *report, const char *where,
				   const char *prefix, const char *name)
{
	char near[GY_CONFIG_NAME_MAX + 1] = "", wrote[CONFIG_TEXT], meant[64] = "";
	size_t i, distance, best = SIZE_MAX;

	for (i = 0; i < GY_ARRAY_SIZE(config_table); i++) {
		distance = gy_config_distance(name, config_table[i].name);
		if (distance < best) {
			best = distance;
			snprintf(near, sizeof(near), "%s", config_table[i].name);
		}
	}
	for (i = 0; *prefix && near[i]; i++)
		near[i] = (char)toupper((unsigned char)near[i]);
	snprintf(wrote, sizeof(wrote), "%s%s", prefix, name);
	if (best <= 3)
		snprintf(meant, sizeof(meant), "%s%s", prefix, near);
	report->unknown(report->arg, where, wrote, meant);
}

/* ---- file and environment ---- */

/* Cuts blanks at both ends; returns the new start. */
static char *config_trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = 0;
	return s;
}

/* "key = value", "# comment" or nothing.  Returns 0 or -EINVAL, reported. */
static int config_line(struct gy_config *cfg, char *line, const char *where,
		       const struct gy_config_report *report)
{
	const struct gy_config_entry *e;
	char *key = config_trim(line), *value;

	if (*key == 0 || *key == '#')
		return 0;
	value = strchr(key, '=');
	if (!value) {
		config_invalid(report, where, ": expected key = value, found \"%s\"", key);
		return -EINVAL;
	}
	*value++ = 0;
	key = config_trim(key);
	e = config_find(key);
	if (!e) {
		config_unknown(report, where, "", key);
		return 0;
	}
	return config_set_entry(cfg, e, config_trim(value), GY_CONFIG_FILE, where, report);
}

static int config_load_file(struct gy_config *cfg, const char *path,
			    const struct gy_config_report *report)
{
	char line[1024], where[300];
	FILE *file = fopen(path, "re");
	int err = 0, e, number = 0;

	if (!file) {
		err = -errno;
		config_invalid(report, "GYRE_CONFIG", ": cannot open %s: %s", path,
			       strerrordesc_np(-err));
		return err;
	}
	while (fgets(line, sizeof(line), file)) {
		snprintf(where, sizeof(where), "%s:%d", path, ++number);
		if (strlen(line) == sizeof(line) - 1 && line[sizeof(line) - 2] != '\n') {
			config_invalid(report, where, ": line is longer than %zu bytes",
				       sizeof(line) - 2);
			err = err ? err : -EINVAL;
			break;
		}
		e = config_line(cfg, line, where, report);
		err = err ? err : e;
	}
	if (ferror(file)) {
		config_invalid(report, "GYRE_CONFIG", ": cannot read %s", path);
		err = err ? err : -EIO;
	}
	fclose(file);
	return err;
}

/* variable is "GYRE_NAME=value"; others are no concern of ours. */
static int config_load_variable(struct gy_config *cfg, const char *variable,
				const struct gy_config_report *report)
{
	const char *equals = strchr(variable, '=');
	const struct gy_config_entry *e;
	char where[GY_CONFIG_NAME_MAX + sizeof(CONFIG_PREFIX)];

	if (strncmp(variable, CONFIG_PREFIX, strlen(CONFIG_PREFIX)) != 0 || !equals)
		return 0;
	if (strncmp(variable, "GYRE_CONFIG=", strlen("GYRE_CONFIG=")) == 0)
		return 0;
	snprintf(where, sizeof(where), "%.*s",
		 (int)gy_min((size_t)(equals - variable), sizeof(where)), variable);
	e = config_find(where + strlen(CONFIG_PREFIX));
	if (!e) {
		config_unknown(report, "environment", CONFIG_PREFIX,
			       where + strlen(CONFIG_PREFIX));
		return 0;
	}
	return config_set_entry(cfg, e, equals + 1, GY_CONFIG_ENVIRONMENT, where, report);
}

int gy_config_load_report(struct gy_config *cfg, const struct gy_config_report *report)
{
	const char *path = getenv("GYRE_CONFIG");
	char **variable;
	int err, e;

	gy_config_init(cfg);
	err = path && *path ? config_load_file(cfg, path, report) : 0;
	for (variable = environ; variable && *variable; variable++) {
		e = config_load_variable(cfg, *variable, report);
		err = err ? err : e;
	}
	return err;
}

static void config_scale(int *ms, int factor)
{
	*ms = *ms > INT_MAX / factor ? INT_MAX : *ms * factor;
}

int gy_config_load(struct gy_config *cfg)
{
	int err = gy_config_load_report(cfg, &config_logged);

	if (err)
		return err;
	config_scale(&cfg->boot_timeout_ms, cfg->time_scale);
	config_scale(&cfg->stall_timeout_ms, cfg->time_scale);
	config_scale(&cfg->late_warn_ms, cfg->time_scale);
	config_scale(&cfg->host_timeout_ms, cfg->time_scale);
	gy_log_set_level((enum gy_log_level)cfg->log);
	return 0;
}

void gy_config_value(const struct gy_config *cfg, size_t i, char *buf, size_t len)
{
	const struct gy_config_entry *e = &config_table[i];

	gy_config_format(e, (const char *)cfg + e->offset, buf, len);
}

const char *gy_config_source_name(const struct gy_config *cfg, size_t i)
{
	static const char *const names[] = { "default", "file", "environment" };

	return names[cfg->source[i]];
}
