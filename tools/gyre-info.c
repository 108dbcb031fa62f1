/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info.c - what this machine has for gyre: options, and which sections are shown.
 */
#include "tools/gyre-info.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gyre/types.h>
#include "lib/util.h"

#define INFO_EXIT_USAGE 2

enum info_section {
	INFO_SYSTEM,
	INFO_TRANSPORTS,
	INFO_RDMA,
	INFO_NETWORK,
	INFO_LIMITS,
	INFO_TOPOLOGY,
	INFO_SETTINGS,
	INFO_ALGORITHMS,
	INFO_NSECTIONS
};

struct info_options {
	unsigned sections;	/* a bit for each of enum info_section; 0: all */
	int ranks;
	bool json, doctor;
};

enum { INFO_DOCTOR = 256, INFO_JSON, INFO_ROOT };

static const struct option info_long[] = {
	{ "system", no_argument, NULL, 's' },
	{ "transports", no_argument, NULL, 't' },
	{ "devices", no_argument, NULL, 'd' },
	{ "interfaces", no_argument, NULL, 'i' },
	{ "limits", no_argument, NULL, 'l' },
	{ "topology", no_argument, NULL, 'T' },
	{ "config", no_argument, NULL, 'c' },
	{ "algorithms", no_argument, NULL, 'a' },
	{ "ranks", required_argument, NULL, 'n' },
	{ "doctor", no_argument, NULL, INFO_DOCTOR },
	{ "json", no_argument, NULL, INFO_JSON },
	{ "root", required_argument, NULL, INFO_ROOT },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static const char info_letters[INFO_NSECTIONS] = { 's', 't', 'd', 'i', 'l', 'T', 'c', 'a' };

const struct tool tool = {
	.name = "gyre-info",
	.status = INFO_EXIT_USAGE,
	.usage = "usage: gyre-info [option]...\n"
		 "What this machine has for gyre; without options, all of it.\n"
		 "  -s, --system        processors and memory\n"
		 "  -t, --transports    which there are, and which work here\n"
		 "  -d, --devices       RDMA devices, ports and GIDs\n"
		 "  -i, --interfaces    network interfaces and addresses\n"
		 "  -l, --limits        locked memory, open files, shared memory\n"
		 "  -T, --topology      packages, NUMA nodes, caches, and where devices are\n"
		 "  -c, --config        every setting, its value, and where that comes from\n"
		 "  -a, --algorithms    which algorithm is chosen when\n"
		 "  -n, --ranks N       for N ranks: algorithms; needs, for --doctor\n"
		 "      --doctor        only what is wrong, and how to put it right;\n"
		 "                      status 1 when something is\n"
		 "      --json          as a JSON object\n"
		 "      --root DIR      files of /sys, /proc and /dev from under DIR\n"
		 "  -h, --help; -V, --version\n",
};

static void info_option(struct info_options *o, int c)
{
	const char *letter = memchr(info_letters, c, sizeof(info_letters));

	if (letter) {
		o->sections |= 1u << (letter - info_letters);
		return;
	}
	switch (c) {
	case 'n':
		o->ranks = tool_int(optarg, "--ranks", 2, GI_MAX_RANKS);
		break;
	case INFO_DOCTOR:
		o->doctor = true;
		break;
	case INFO_JSON:
		if (!gi_json_can())
			tool_bad("--json: built without jansson");
		o->json = true;
		break;
	case INFO_ROOT:
		gi_root_set(optarg);
		if (access(gi_path("/"), X_OK))
			tool_die("--root: %s: %s", optarg, strerror(errno));
		break;
	case 'h':
		tool_help();
	case 'V':
		printf("gyre-info (gyre) %s\n", gyre_version());
		exit(0);
	default:
		tool_misused();
	}
}

static void info_show(const struct gi_info *info, enum info_section section, struct gi_doc *doc)
{
	switch (section) {
	case INFO_SYSTEM:
		gi_host_show(&info->host, doc);
		break;
	case INFO_TRANSPORTS:
		gi_transports_show(&info->settings, doc);
		break;
	case INFO_RDMA:
		gi_rdma_show(&info->rdma, doc);
		break;
	case INFO_NETWORK:
		gi_net_show(&info->net, doc);
		break;
	case INFO_LIMITS:
		gi_limits_show(&info->host, doc);
		break;
	case INFO_TOPOLOGY:
		gi_topology_show(info, doc);
		break;
	case INFO_SETTINGS:
		gi_settings_show(&info->settings, doc);
		break;
	case INFO_ALGORITHMS:
		gi_algorithms_show(&info->settings, info->ranks, doc);
		break;
	case INFO_NSECTIONS:
		break;
	}
}

/* Sections as text or JSON, or the doctor's findings as either; all, as JSON, has both. */
static void info_print(const struct gi_info *info, const struct info_options *o,
		       const struct gi_findings *found)
{
	const bool all = !o->sections && !o->doctor;
	struct gi_doc doc = { .n = 0 };
	unsigned i;

	for (i = 0; i < INFO_NSECTIONS; i++)
		if (all || o->sections & 1u << i)
			info_show(info, (enum info_section)i, &doc);
	if (o->json && (all || o->doctor))
		gi_findings_show(found, &doc);
	if (o->json)
		gi_json_print(&doc);
	else
		gi_doc_print(&doc);
	gi_doc_free(&doc);
	if (o->json)
		return;
	if (o->doctor)
		gi_findings_print(found);
	else if (all && found->nproblems)
		printf("\n%zu problem%s: gyre-info --doctor says what they are\n",
		       found->nproblems, found->nproblems == 1 ? "" : "s");
}

int main(int argc, char **argv)
{
	struct info_options o = { .sections = 0 };
	struct gi_findings found = { .n = 0 };
	struct gi_info info;
	int c, status;

	memset(&info, 0, sizeof(info));
	while ((c = getopt_long(argc, argv, "stdilTcan:hV", info_long, NULL)) != -1)
		info_option(&o, c);
	if (optind < argc)
		tool_bad("takes no arguments");
	if (o.doctor && o.sections && !o.json)
		tool_bad("--doctor stands alone");
	info.ranks = o.ranks;
	gi_settings_read(&info.settings);
	gi_host_read(&info.host);
	gi_rdma_read(&info.rdma);
	gi_net_read(&info.net, &info.settings.cfg);
	gi_doctor(&info, &found);
	info_print(&info, &o, &found);
	status = o.doctor && found.nproblems;
	gi_findings_free(&found);
	gi_net_free(&info.net);
	gi_rdma_free(&info.rdma);
	gi_settings_free(&info.settings);
	if (fflush(stdout) || ferror(stdout))
		tool_die("cannot write: %s", strerror(errno));
	return status;
}
