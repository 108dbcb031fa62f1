/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-wan-topo.c - the topology file: lines of site, default, link and oneway.
 */
#include "tools/gyre-wan.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct topo_unit {
	const char *name;
	double factor;
};

static const struct topo_unit topo_time[] = {
	{ "", 1e6 }, { "ms", 1e6 }, { "us", 1e3 }, { "s", 1e9 }, { NULL, 0 },
};

/* to bytes per second */
static const struct topo_unit topo_rate[] = {
	{ "bit", 1 / 8.0 },  { "kbit", 1e3 / 8 }, { "mbit", 1e6 / 8 },
	{ "gbit", 1e9 / 8 }, { "", 1 / 8.0 },	  { NULL, 0 },
};

static const struct topo_unit topo_bytes[] = {
	{ "", 1 },
	{ "k", 1024 },
	{ "m", 1048576 },
	{ NULL, 0 },
};

static const struct topo_unit topo_share[] = { { "", 1 }, { "%", 0.01 }, { NULL, 0 } };

static bool topo_number(const char *text, const struct topo_unit *units, double *valuep)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || !isfinite(v) || v < 0)
		return false;
	for (; units->name; units++) {
		if (strcasecmp(end, units->name) == 0) {
			*valuep = v * units->factor;
			return true;
		}
	}
	return false;
}

static const struct topo_setting {
	const char *name, *form;
	const struct topo_unit *units;
	double min, max; /* besides 0 */
	double factor;
	size_t at; /* in struct gw_link */
} topo_settings[] = {
	{ "rtt=", "80ms, or us, s", topo_time, 0, 2e11, .5, offsetof(struct gw_link, delay_ns) },
	{ "delay=", "40ms, or us, s", topo_time, 0, 1e11, 1, offsetof(struct gw_link, delay_ns) },
	{ "jitter=", "2ms, or us, s", topo_time, 0, 1e11, 1, offsetof(struct gw_link, jitter_ns) },
	{ "rate=", "100mbit, or bit, kbit, gbit, from 1kbit to 800gbit; 0: no limit", topo_rate,
	  125, 1e11, 1, offsetof(struct gw_link, rate) },
	{ "queue=", "bytes, such as 256k or 4m, at most 1e9", topo_bytes, 0, 1e9, 1,
	  offsetof(struct gw_link, queue) },
	{ "loss=", "0.1%, or a number from 0 to 1", topo_share, 0, 1, 1,
	  offsetof(struct gw_link, loss) },
};

static const struct topo_setting *topo_setting_find(const char *setting)
{
	for (size_t i = 0; i < sizeof(topo_settings) / sizeof(*topo_settings); i++) {
		if (!strncmp(setting, topo_settings[i].name, strlen(topo_settings[i].name)))
			return &topo_settings[i];
	}
	return NULL;
}

void gw_topo_set(struct gw_link *link, const char *setting, const char *where)
{
	const struct topo_setting *s = topo_setting_find(setting);
	double v;

	if (!s)
		tool_die("%s: '%s' is none of rtt=, delay=, jitter=, rate=, queue=, loss=", where,
			 setting);
	if (!topo_number(setting + strlen(s->name), s->units, &v) || v > s->max ||
	    (v != 0 && v < s->min))
		tool_die("%s: '%s': %.*s is given as %s", where, setting, (int)strlen(s->name) - 1,
			 s->name, s->form);
	v *= s->factor;
	memcpy((char *)link + s->at, &v, sizeof(v));
}

int gw_topo_find(const struct gw_net *net, const char *site)
{
	for (int i = 0; i < net->n; i++) {
		if (strcmp(net->site[i].name, site) == 0)
			return i;
	}
	return -1;
}

static void topo_site(struct gw_net *net, const char *name, const char *where)
{
	const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
	struct gw_site *site = &net->site[net->n];

	if (!name || strlen(name) >= GW_NAME || name[strspn(name, ok)] || name[0] == '-')
		tool_die("%s: a site's name has up to %d letters, digits and '-'", where,
			 GW_NAME - 1);
	if (gw_topo_find(net, name) >= 0)
		tool_die("%s: site %s is there twice", where, name);
	if (net->n == GW_MAX_SITES)
		tool_die("%s: more than %d sites", where, GW_MAX_SITES);
	snprintf(site->name, sizeof(site->name), "%s", name);
	net->n++;
	snprintf(site->addr, sizeof(site->addr), "10.%d.0.1", net->n);
}

static void topo_read_settings(struct gw_link *link, char **words, const char *where)
{
	const char *word;

	while ((word = strtok_r(NULL, " \t\r\n", words)))
		gw_topo_set(link, word, where);
}

static int topo_end(const struct gw_net *net, char **words, const char *where)
{
	const char *name = strtok_r(NULL, " \t\r\n", words);
	int i = name ? gw_topo_find(net, name) : -1;

	if (i < 0)
		tool_die("%s: '%s' is not a site", where, name ? name : "");
	return i;
}

static void topo_link(struct gw_net *net, const struct gw_link *base, char **words, bool both,
		      const char *where)
{
	int from = topo_end(net, words, where), to = topo_end(net, words, where);
	struct gw_link link = *base;

	if (from == to)
		tool_die("%s: a link from a site to itself", where);
	topo_read_settings(&link, words, where);
	link.set = true;
	net->link[from][to] = link;
	if (both)
		net->link[to][from] = link;
}

static void topo_line(struct gw_net *net, struct gw_link *base, char *line, const char *where)
{
	char *words = NULL;
	const char *word;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, " \t\r\n", &words);
	if (!word)
		return;
	if (strcmp(word, "site") == 0) {
		topo_site(net, strtok_r(NULL, " \t\r\n", &words), where);
	} else if (strcmp(word, "default") == 0) {
		topo_read_settings(base, &words, where);
	} else if (strcmp(word, "link") == 0 || strcmp(word, "oneway") == 0) {
		topo_link(net, base, &words, word[0] == 'l', where);
	} else {
		tool_die("%s: '%s' is none of site, default, link, oneway", where, word);
	}
}

void gw_topo_read(struct gw_net *net, const char *path)
{
	struct gw_link base = { 0 };
	char line[1024], where[1100];
	FILE *f = fopen(path, "re");

	if (!f)
		tool_die("%s: %s", path, strerror(errno));
	for (int i = 1; fgets(line, sizeof(line), f); i++) {
		snprintf(where, sizeof(where), "%s:%d", path, i);
		topo_line(net, &base, line, where);
	}
	fclose(f);
	if (net->n < 2)
		tool_die("%s: fewer than two sites", path);
	for (int i = 0; i < net->n; i++) {
		for (int j = 0; j < net->n; j++) {
			if (i != j && !net->link[i][j].set)
				tool_die("%s: no link from %s to %s", path, net->site[i].name,
					 net->site[j].name);
		}
	}
}
