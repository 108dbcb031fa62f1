/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyrerun.c - starts a job: options, its key, its rendezvous, where its ranks run.
 */
#define _GNU_SOURCE
#include "tools/gyrerun.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <gyre/types.h>
#include "lib/addrs.h"
#include "lib/boot.h"
#include "lib/log.h"

#define RUN_MAX_RANKS 65536
#define RUN_MAX_IPS 8

struct run_options {
	char *hosts;
	const char *ssh, *root_addr;
	bool node;
};

enum { RUN_SSH = 256, RUN_ROOT_ADDR, RUN_BIND, RUN_TIMEOUT, RUN_GRACE, RUN_NODE };

static const struct option run_long[] = {
	{ "hosts", required_argument, NULL, 'H' },
	{ "tag-output", no_argument, NULL, 'l' },
	{ "ssh", required_argument, NULL, RUN_SSH },
	{ "root-addr", required_argument, NULL, RUN_ROOT_ADDR },
	{ "bind", required_argument, NULL, RUN_BIND },
	{ "timeout", required_argument, NULL, RUN_TIMEOUT },
	{ "grace", required_argument, NULL, RUN_GRACE },
	{ "node", no_argument, NULL, RUN_NODE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

const struct tool tool = {
	.name = "gyrerun",
	.status = GR_EXIT_SELF,
	.usage = "usage: gyrerun -n RANKS [option]... PROGRAM [argument]...\n"
		 "  -n RANKS            how many ranks\n"
		 "  -H, --hosts A,B     on these machines, through ssh; else all on this one\n"
		 "  -l, --tag-output    rank before each line of output\n"
		 "  -x NAME[=VALUE]     environment variable for the ranks\n"
		 "      --bind core|none  a core for each rank; default: when there are enough\n"
		 "      --timeout SEC   end the job after that time\n"
		 "      --grace SEC     from SIGTERM to SIGKILL when the job ends (2)\n"
		 "      --ssh COMMAND   instead of ssh\n"
		 "      --root-addr ADDR  address of this machine that other hosts can reach\n"
		 "  -h, --help; -V, --version\n",
};

static int run_seconds(const char *text, const char *what)
{
	return (int)(tool_number(text, what, 0, 1e6) * 1000 + 0.5);
}

static enum gr_bind run_bind(const char *text)
{
	if (strcmp(text, "core") == 0)
		return GR_BIND_CORE;
	if (strcmp(text, "none") == 0)
		return GR_BIND_NONE;
	tool_bad("--bind takes core or none, not '%s'", text);
}

static void run_add_env(struct gr_job *job, char *arg)
{
	const char *value = getenv(arg);

	if (!strchr(arg, '=')) {
		if (!value)
			return;			/* unset here, unset there */
		if (asprintf(&arg, "%s=%s", arg, value) < 0)
			tool_die("out of memory");
	}
	job->env = realloc(job->env, ((size_t)job->nenv + 2) * sizeof(*job->env));
	if (!job->env)
		tool_die("out of memory");
	job->env[job->nenv++] = arg;
	job->env[job->nenv] = NULL;
}

static void run_option(struct gr_job *job, struct run_options *o, int c)
{
	switch (c) {
	case 'n':
		job->nranks = tool_int(optarg, "-n", 1, RUN_MAX_RANKS);
		break;
	case 'H':
		o->hosts = optarg;
		break;
	case 'l':
		job->tag = true;
		break;
	case 'x':
		run_add_env(job, optarg);
		break;
	case RUN_SSH:
		o->ssh = optarg;
		break;
	case RUN_ROOT_ADDR:
		o->root_addr = optarg;
		break;
	case RUN_BIND:
		job->bind = run_bind(optarg);
		break;
	case RUN_TIMEOUT:
		job->timeout_ms = run_seconds(optarg, "--timeout (seconds)");
		break;
	case RUN_GRACE:
		job->grace_ms = run_seconds(optarg, "--grace (seconds)");
		break;
	case RUN_NODE:
		o->node = true;
		break;
	case 'h':
		tool_help();
	case 'V':
		printf("gyrerun (gyre) %s\n", gyre_version());
		exit(0);
	default:
		tool_misused();
	}
}

static void run_parse(struct gr_job *job, struct run_options *o, int argc, char **argv)
{
	int c;

	*o = (struct run_options){ .ssh = "ssh" };
	while ((c = getopt_long(argc, argv, "+n:H:lx:hV", run_long, NULL)) != -1)
		run_option(job, o, c);
	if (o->node)
		return;
	if (!job->nranks)
		tool_bad("how many ranks? (-n)");
	if (optind == argc)
		tool_bad("which program?");
	job->argv = argv + optind;
	job->count = job->nranks;
}

static int run_split_hosts(char *text, char ***hostsp)
{
	char **hosts = tool_alloc((strlen(text) + 1) * sizeof(*hosts)), *save = NULL, *h;
	int n = 0;

	for (h = strtok_r(text, ",", &save); h; h = strtok_r(NULL, ",", &save))
		hosts[n++] = h;
	if (n == 0)
		tool_bad("--hosts needs names");
	*hostsp = hosts;
	return n;
}

static void run_make_key(struct gr_job *job, uint8_t key[16])
{
	int i;

	while (getrandom(key, 16, 0) != 16)
		;
	for (i = 0; i < 16; i++)
		snprintf(job->key + 2 * i, 3, "%02x", key[i]);
}

/* Every address that other hosts may reach us by: ranks try them all. */
static void run_root_everywhere(struct gr_job *job, const char *port)
{
	struct gy_ip ips[RUN_MAX_IPS];
	char text[GY_IP_TEXT];
	int n = gy_ips_local(getenv("GYRE_TCP_INTERFACES"), ips, RUN_MAX_IPS), i;

	if (n < 0)
		tool_die("no address for other hosts: %s", gyre_strerror(n));
	for (i = 0; i < n; i++) {
		gy_ip_text(&ips[i], (uint16_t)atoi(port), text);
		if (strlen(job->root) + strlen(text) + 2 > GR_ROOT_MAX)
			break;
		if (i > 0)
			strcat(job->root, ",");
		strcat(job->root, text);
	}
}

static struct gy_boot_server *run_open_rendezvous(struct gr_job *job, const struct run_options *o)
{
	char addr[GR_ROOT_MAX + 8], text[GR_ROOT_MAX];
	struct gy_boot_server *s;
	uint8_t key[16];
	int err;

	run_make_key(job, key);
	if (!o->hosts)
		snprintf(addr, sizeof(addr), "127.0.0.1:0");
	else if (!o->root_addr)
		snprintf(addr, sizeof(addr), "*:0");
	else
		snprintf(addr, sizeof(addr), strchr(o->root_addr, ':') ? "[%s]:0" : "%s:0",
			 o->root_addr);
	err = gy_boot_server_open(addr, job->nranks, key, &s, text, sizeof(text));
	if (err)
		tool_die("cannot serve the job at %s: %s", addr, gyre_strerror(err));
	if (o->hosts && !o->root_addr)
		run_root_everywhere(job, strrchr(text, ':') + 1);
	else
		snprintf(job->root, sizeof(job->root), "%s", text);
	return s;
}

/* A job may make contexts more than once: one generation of ranks after the other. */
static void *run_serve(void *arg)
{
	struct gy_boot_server *s = arg;

	while (gy_boot_server_run(s, -1) != -ECANCELED)
		;
	return NULL;
}

static int run_job(struct gr_job *job, const struct run_options *o)
{
	struct gy_boot_server *s = run_open_rendezvous(job, o);
	pthread_t thread;
	char **hosts;
	int n, err;

	if (o->hosts) {
		n = run_split_hosts(o->hosts, &hosts);
		err = gr_hosts_start(job, hosts, n, o->ssh);
		free(hosts);
	} else {
		err = gr_ranks_start(job);
	}
	if (err)
		gr_job_end(job, err);
	/* Only now: what a fork copies must not hold a lock of another thread. */
	if (pthread_create(&thread, NULL, run_serve, s))
		tool_die("cannot start a thread");
	err = gr_loop_run(job);
	gy_boot_server_stop(s);
	pthread_join(thread, NULL);
	gy_boot_server_close(s);
	return err;
}

static int run_node(struct gr_job *job)
{
	int err;

	job->is_node = true;
	gr_node_read(job);
	err = gr_ranks_start(job);
	if (err)
		gr_job_end(job, err);
	return gr_loop_run(job);
}

int main(int argc, char **argv)
{
	static struct gr_job job = { .grace_ms = 2000, .in = STDIN_FILENO };
	struct run_options o;

	run_parse(&job, &o, argc, argv);
	gr_loop_init(&job);
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* what ranks leave behind is reaped here */
	gr_guard_start();
	return o.node ? run_node(&job) : run_job(&job, &o);
}
