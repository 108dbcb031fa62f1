/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-doctor-settings.c - settings that the library refuses or does not know, and those with
 * which no job comes about.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "lib/addrs.h"
#include "tools/gyre-info.h"

/* A line of a file: its name is so many characters of where, its number follows the colon. */
static int settings_file(const char *where)
{
	const char *colon = strrchr(where, ':');

	return strchr(where, '/') && colon ? (int)(colon - where) : 0;
}

/* What the shell takes as a variable's name, and nobody could mistake for more. */
static bool settings_is_word(const char *name)
{
	while (isalnum((unsigned char)*name) || *name == '_')
		name++;
	return !*name;
}

static void settings_unknown(const struct gi_mistake *m, struct gi_findings *found)
{
	const int file = settings_file(m->where);

	if (!m->near[0]) {
		gi_problem(found, "settings", "%s: %s is no setting; gyre-env(7) lists all",
			   m->where, m->name);
		if (file)
			gi_fix(found, "sed -i '%ss/^/# /' '%.*s'", m->where + file + 1, file,
			       m->where);
		else if (settings_is_word(m->name))
			gi_fix(found, "unset %s", m->name);
		return;
	}
	gi_problem(found, "settings", "%s: %s is no setting; the nearest is %s", m->where, m->name,
		   m->near);
	if (file)
		gi_fix(found, "sed -i '%ss/^[^=]*/%s /' '%.*s'", m->where + file + 1, m->near,
		       file, m->where);
	else if (settings_is_word(m->name))
		gi_fix(found, "export %s=\"$%s\"; unset %s", m->near, m->name, m->name);
}

static void settings_invalid(const struct gi_mistake *m, struct gi_findings *found)
{
	const int file = settings_file(m->where);

	gi_problem(found, "settings", "%s", m->text);
	if (file)
		gi_fix(found, "sed -i '%ss/^/# /' '%.*s'", m->where + file + 1, file, m->where);
	else
		gi_fix(found, "unset %s", m->where);
}

static void settings_job(const struct gi_info *info, struct gi_findings *found)
{
	const struct gy_config *cfg = &info->settings.cfg;
	char host[sizeof(cfg->root)], port[16];
	const char *item;
	size_t len;

	if (cfg->size >= 0 && cfg->rank >= cfg->size) {
		gi_problem(found, "settings",
			   "GYRE_RANK is %d, but GYRE_SIZE %d: ranks start from 0", cfg->rank,
			   cfg->size);
		gi_fix(found, "unset GYRE_RANK GYRE_SIZE");
	}
	if (cfg->size > 1 && !cfg->root[0]) {
		gi_problem(found, "settings",
			   "GYRE_SIZE is %d, but GYRE_ROOT does not say where ranks meet",
			   cfg->size);
		gi_fix(found, "export GYRE_ROOT=HOST:PORT  # of rank 0; or start it by gyrerun");
	}
	for (item = cfg->root; *item; item += len + (item[len] == ',')) {
		len = strcspn(item, ",");
		if (gy_host_port(item, len, host, sizeof(host), port, sizeof(port)) == 0)
			continue;
		gi_problem(found, "settings", "GYRE_ROOT: \"%.*s\" is not host:port", (int)len,
			   item);
		gi_fix(found, "export GYRE_ROOT=HOST:PORT  # of rank 0; or start it by gyrerun");
	}
}

void gi_doctor_settings(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_settings *set = &info->settings;
	const char *key = set->cfg.job_key;
	size_t i;

	for (i = 0; i < set->nmistakes; i++) {
		if (set->mistakes[i].text)
			settings_invalid(&set->mistakes[i], found);
		else
			settings_unknown(&set->mistakes[i], found);
	}
	if (set->algorithm_why[0]) {
		gi_problem(found, "settings", "%s", set->algorithm_why);
		gi_fix(found, "unset GYRE_ALGORITHM");
	}
	for (i = 0; isxdigit((unsigned char)key[i]); i++)
		;
	if (key[0] && (key[i] || i != 32)) {
		gi_problem(found, "settings", "GYRE_JOB_KEY is not 32 hexadecimal digits");
		gi_fix(found, "export GYRE_JOB_KEY=$(openssl rand -hex 16)");
	}
	settings_job(info, found);
}
