/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-settings.c - what the library would do here: its settings and where they come from,
 * the algorithms it would choose, the transports it could open.  All asked of the library itself.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/context.h"
#include "lib/log.h"
#include "lib/registry.h"
#include "lib/select.h"
#include "lib/transport.h"
#include "lib/util.h"
#include "tools/gyre-info.h"

/* ---- what the library says ---- */

static char *settings_log;
static size_t settings_log_size;

/* Of several messages the first is the cause of the others. */
static void settings_hook(enum gy_log_level level, const char *text)
{
	if (!settings_log[0])
		snprintf(settings_log, settings_log_size, "%s", text);
}

void gi_log_to(char *buf, size_t size)
{
	settings_log = buf;
	settings_log_size = size;
	if (buf)
		buf[0] = 0;
	gy_log_set_hook(buf ? settings_hook : NULL);
	gy_log_set_level(buf ? GY_LOG_INFO : GY_LOG_WARN);
}

/* ---- settings ---- */

static void settings_set(void *arg, size_t i, const char *where)
{
	struct gi_settings *set = arg;

	free(set->from[i]);
	set->from[i] = gi_format("%s", where);
}

static struct gi_mistake *settings_mistake(struct gi_settings *set, const char *where)
{
	struct gi_mistake *m;

	set->mistakes = gi_grow(set->mistakes, set->nmistakes, sizeof(*set->mistakes));
	m = &set->mistakes[set->nmistakes++];
	m->where = gi_format("%s", where);
	return m;
}

static void settings_unknown(void *arg, const char *where, const char *name, const char *near)
{
	struct gi_mistake *m = settings_mistake(arg, where);

	m->name = gi_format("%s", name);
	m->near = gi_format("%s", near);
}

static void settings_invalid(void *arg, const char *where, const char *text)
{
	settings_mistake(arg, where)->text = gi_format("%s%s", where, text);
}

static void settings_transports(struct gi_settings *set)
{
	const struct gy_config_entry *entry;
	struct gyre_context *ctx;
	size_t i;

	for (i = 0; gy_transports[i]; i++) {
		struct gi_transport *t;
		struct gy_config cfg = set->cfg;

		set->transports = gi_grow(set->transports, i, sizeof(*set->transports));
		set->ntransports = i + 1;
		t = &set->transports[i];
		t->name = gy_transports[i]->name;
		t->simulated = strcmp(t->name, "sim") == 0;
		t->wanted = cfg.transport == GY_CONFIG_TRANSPORT_AUTO;
		for (size_t e = 0; !t->wanted && (entry = gy_config_entry(e)); e++)
			if (strcmp(entry->name, "transport") == 0)
				t->wanted = strcmp(entry->words[cfg.transport], t->name) == 0;
		/* A job of one rank, with this transport only, whatever else is wrong. */
		cfg.rank = cfg.size = -1;
		cfg.job_key[0] = cfg.algorithm[0] = 0;
		gi_log_to(t->why, sizeof(t->why));
		t->err = gy_config_set(&cfg, "transport", t->name, GY_CONFIG_DEFAULT, "gyre-info");
		if (!t->err)
			t->err = gy_context_create(NULL, &gy_sys_posix, NULL, &cfg, &ctx);
		if (!t->err)
			gyre_context_destroy(ctx);
		gi_log_to(NULL, 0);
	}
}

void gi_settings_read(struct gi_settings *set)
{
	const struct gy_config_report report = {
		.arg = set,
		.set = settings_set,
		.unknown = settings_unknown,
		.invalid = settings_invalid,
	};
	struct gy_select sel;

	gy_config_load_report(&set->cfg, &report);
	gi_log_to(set->algorithm_why, sizeof(set->algorithm_why));
	if (gy_select_init(&sel, &set->cfg, 2, GY_FAR) == 0)
		set->algorithm_why[0] = 0;
	gi_log_to(NULL, 0);
	settings_transports(set);
}

void gi_settings_free(struct gi_settings *set)
{
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(set->from); i++)
		free(set->from[i]);
	for (i = 0; i < set->nmistakes; i++) {
		free(set->mistakes[i].where);
		free(set->mistakes[i].name);
		free(set->mistakes[i].near);
		free(set->mistakes[i].text);
	}
	free(set->mistakes);
	free(set->transports);
}

void gi_settings_show(const struct gi_settings *set, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "name", "Setting" },
		{ "value", "Value" },
		{ "source", "From" },
		{ "where", NULL },
		{ "default", NULL },
		{ "agreed", NULL },
		{ "description", NULL },
	};
	const struct gy_config_entry *entry;
	char name[64], value[600];
	size_t i, c;

	gi_doc_section(doc, "settings", "Settings");
	gi_doc_table(doc, "settings", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; (entry = gy_config_entry(i)); i++) {
		snprintf(name, sizeof(name), "GYRE_%s", entry->name);
		for (c = 0; name[c]; c++)
			name[c] = (char)toupper((unsigned char)name[c]);
		gy_config_value(&set->cfg, i, value, sizeof(value));
		gi_doc_cell(doc, gi_str(name));
		gi_doc_cell(doc, gi_text("%s", value[0] ? value : "-"));
		gi_doc_cell(doc, set->cfg.source[i] == GY_CONFIG_FILE
					 ? gi_str(set->from[i])
					 : gi_str(gy_config_source_name(&set->cfg, i)));
		gi_doc_cell(doc, gi_str(set->from[i]));
		gi_doc_cell(doc, gi_text("%s", entry->def));
		gi_doc_cell(doc, gi_bool(entry->flags & GY_CONFIG_WIRE));
		gi_doc_cell(doc, gi_str(entry->doc));
	}
}

/* ---- transports ---- */

void gi_transports_show(const struct gi_settings *set, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "name", "Transport" },
		{ "opens", "Opens here" },
		{ "wanted", "Allowed" },
		{ "error", "Why not" },
	};
	size_t i;

	gi_doc_section(doc, "transports", "Transports");
	gi_doc_table(doc, "transports", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; i < set->ntransports; i++) {
		const struct gi_transport *t = &set->transports[i];

		gi_doc_cell(doc, gi_str(t->name));
		gi_doc_cell(doc, gi_bool(!t->err));
		gi_doc_cell(doc, gi_bool(t->wanted && !t->simulated));
		gi_doc_cell(doc, !t->err	? gi_none()
				 : t->simulated ? gi_text("for the library's own tests")
				 : t->why[0]	? gi_str(t->why)
						: gi_str(gyre_strerror(t->err)));
	}
}

/* ---- algorithms ---- */

static bool algorithms_equal(const struct gy_select *a, const struct gy_select *b, int coll)
{
	const struct gy_select_row *x = a->rows[coll], *y = b->rows[coll];

	for (;; x++, y++) {
		if (x->max_bytes != y->max_bytes || x->choice.algo != y->choice.algo ||
		    x->choice.grain_log2 != y->choice.grain_log2)
			return false;
		if (x->max_bytes == UINT64_MAX)
			return true;
	}
}

static void algorithms_init(struct gy_select *sel, const struct gy_config *cfg, int nranks,
			    enum gy_where where)
{
	struct gy_config plain = *cfg;

	if (gy_select_init(sel, &plain, nranks, where) == 0)
		return;
	plain.algorithm[0] = 0;		/* not valid; the doctor says so */
	gy_select_init(sel, &plain, nranks, where);
}

/*
 * The last number of ranks that chooses as `from` does.  Steps that double, then halve: the table
 * has bounds, not holes.
 */
static int algorithms_last(const struct gy_config *cfg, int coll, int from, enum gy_where where)
{
	struct gy_select first, sel;
	int step = 1, last = from;
	bool growing = true;

	algorithms_init(&first, cfg, from, where);
	while (step) {
		bool same = last + step <= GI_MAX_RANKS;

		if (same) {
			algorithms_init(&sel, cfg, last + step, where);
			same = algorithms_equal(&first, &sel, coll);
		}
		if (same)
			last += step;
		growing &= same;
		step = growing ? step * 2 : step / 2;
	}
	return last;
}

static void algorithms_rows(const struct gy_config *cfg, int coll, int from, int last,
			    enum gy_where where, struct gi_doc *doc)
{
	static const char *const places[] = {
		[GY_NEAR] = "node", [GY_WRITTEN] = "rdma", [GY_FAR] = "network"
	};
	const struct gy_select_row *row;
	struct gy_select sel;

	algorithms_init(&sel, cfg, from, where);
	for (row = sel.rows[coll];; row++) {
		gi_doc_cell(doc, gi_str(gy_coll_name((enum gy_coll)coll)));
		gi_doc_cell(doc, gi_str(places[where]));
		gi_doc_cell(doc, last == GI_MAX_RANKS ? gi_text("%d and more", from)
				 : from == last	      ? gi_text("%d", from)
						      : gi_text("%d to %d", from, last));
		gi_doc_cell(doc, gi_int(from));
		gi_doc_cell(doc, gi_int(last));
		gi_doc_cell(doc, gi_size(row->max_bytes == UINT64_MAX ? GI_UNLIMITED
								      : (long long)row->max_bytes));
		gi_doc_cell(doc, gi_str(row->choice.algo->name));
		gi_doc_cell(doc, gi_size(1LL << row->choice.grain_log2));
		if (row->max_bytes == UINT64_MAX)
			return;
	}
}

void gi_algorithms_show(const struct gi_settings *set, int ranks, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "collective", "Collective" },
		{ "where", "Ranks on" },
		{ NULL, "Ranks" },
		{ "min_ranks", NULL },
		{ "max_ranks", NULL },
		{ "max_bytes", "Up to" },
		{ "algorithm", "Algorithm" },
		{ "grain_bytes", "Grain" },
	};
	enum gy_where where;
	int coll, from, last;

	gi_doc_section(doc, "algorithms", "Algorithms");
	gi_doc_table(doc, "algorithms", columns, GY_ARRAY_SIZE(columns));
	for (coll = 0; coll < GY_NCOLLS; coll++) {
		for (where = GY_NEAR; where <= GY_FAR; where++) {
			if (ranks) {
				algorithms_rows(&set->cfg, coll, ranks, ranks, where, doc);
				continue;
			}
			for (from = 2; from <= GI_MAX_RANKS; from = last + 1) {
				last = algorithms_last(&set->cfg, coll, from, where);
				algorithms_rows(&set->cfg, coll, from, last, where, doc);
			}
		}
	}
}
