/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-wan-topo.c - the topology file: lines of site, default, link and oneway.
 */
#include "tools/gyre-wan.h"

#include <errno.h>
#include <math.h>
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

bool gw_topo_set(struct gw_link *link, const char *setting)
{
	double v;

	if (strncmp(setting, "rtt=", 4) == 0 && topo_number(setting + 4, topo_time, &v) &&
	    v <= 2e11)
		link->delay_ns = v / 2;
	else if (strncmp(setting, "delay=", 6) == 0 && topo_number(setting + 6, topo_time, &v) &&
		 v <= 1e11)
		link->delay_ns = v;
	else if (strncmp(setting, "jitter=", 7) == 0 && topo_number(setting + 7, topo_time, &v) &&
		 v <= 1e11)
		link->jitter_ns = v;
	else if (strncmp(setting, "rate=", 5) == 0 && topo_number(setting + 5, topo_rate, &v) &&
		 (v == 0 || v >= 125) && v <= 1e11)
		link->rate = v;
	else if (strncmp(setting, "queue=", 6) == 0 && topo_number(setting + 6, topo_bytes, &v) &&
		 v <= 1e9)
		link->queue = v;
	else if (strncmp(setting, "loss=", 5) == 0 && topo_number(setting + 5, topo_share, &v) &&
		 v <= 1)
		link->loss = v;
	else
		return false;
	return true;
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

static void topo_settings(struct gw_link *link, char **words, const char *where)
{
	const char *word;

	while ((word = strtok_r(NULL, " \t\r\n", words))) {
		if (!gw_topo_set(link, word))
			tool_die("%s: '%s' is not a setting with a value that can be", where, word);
	}
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
	topo_settings(&link, words, where);
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
		topo_settings(base, &words, where);
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
