/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-wan.c - runs a command in each site of a wide-area network on this machine, or in one of
 * them; enters a site of one that runs.
 */
#define _GNU_SOURCE
#include "tools/gyre-wan.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAN_GRACE_NS 2000000000U /* from SIGTERM to SIGKILL */
#define WAN_SETTINGS 16

struct wan_run {
	struct gw_net net;
	const char *from; /* the one site where the command runs; NULL: each */
	bool stats, json, ending;
	int epoll, signals, status, running;
	uint64_t kill_ns;
	sigset_t old_mask;
};

enum {
	WAN_RATE = 256,
	WAN_LOSS,
	WAN_JITTER,
	WAN_QUEUE,
	WAN_SCALE,
	WAN_SEED,
	WAN_MTU,
	WAN_STATS,
	WAN_JSON,
	WAN_FROM
};

static const struct option wan_long[] = {
	{ "rate", required_argument, NULL, WAN_RATE },
	{ "loss", required_argument, NULL, WAN_LOSS },
	{ "jitter", required_argument, NULL, WAN_JITTER },
	{ "queue", required_argument, NULL, WAN_QUEUE },
	{ "delay-scale", required_argument, NULL, WAN_SCALE },
	{ "seed", required_argument, NULL, WAN_SEED },
	{ "mtu", required_argument, NULL, WAN_MTU },
	{ "from", required_argument, NULL, WAN_FROM },
	{ "stats", no_argument, NULL, WAN_STATS },
	{ "json", no_argument, NULL, WAN_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

const struct tool tool = {
	.name = "gyre-wan",
	.status = GW_EXIT_SELF,
	.usage = "usage: gyre-wan [option]... [--] COMMAND [argument]...\n"
		 "       gyre-wan exec SITE [--] COMMAND [argument]...\n"
		 "       gyre-wan ssh [option]... SITE COMMAND...\n"
		 "  -f FILE           topology\n"
		 "      --from SITE   run the command once, there; else once in each site\n"
		 "      --rate R, --loss P, --jitter T, --queue BYTES  of all links\n"
		 "      --delay-scale X  all delays times X\n"
		 "      --seed N      of loss and jitter (1)\n"
		 "      --mtu N       1280 to 65535 (9000)\n"
		 "      --stats, --json  counters of each link at the end\n"
		 "  -h, --help; -V, --version\n",
};

static void wan_exec(char **argv)
{
	execvp(argv[0], argv);
	fprintf(stderr, "gyre-wan: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* gyre-wan exec SITE -- COMMAND */
static void wan_enter(char **argv)
{
	if (!argv[0])
		tool_die("exec needs a site and a command");
	gw_site_join(argv[0]);
	argv++;
	if (argv[0] && strcmp(argv[0], "--") == 0)
		argv++;
	if (!argv[0])
		tool_die("exec needs a command");
	wan_exec(argv);
}

/* As ssh: options of ssh mean nothing here; the words of the command are one line for a shell. */
static void wan_ssh(char **argv)
{
	const char *site;
	static char sh[] = "sh", dash_c[] = "-c";
	char *line, *shell[] = { sh, dash_c, NULL, NULL };
	size_t len = 1;

	for (; argv[0] && argv[0][0] == '-'; argv++) {
		if (strchr("bcDEeFIiJLlmOopQRSWw", argv[0][1]) && argv[0][1] && !argv[0][2] &&
		    argv[1])
			argv++;
	}
	site = argv[0];
	if (!site || !argv[1])
		tool_die("ssh needs a site and a command");
	for (int i = 1; argv[i]; i++)
		len += strlen(argv[i]) + 1;
	line = tool_alloc(len);
	for (int i = 1; argv[i]; i++) {
		strcat(line, argv[i]);
		strcat(line, " ");
	}
	gw_site_join(site);
	shell[2] = line;
	wan_exec(shell);
}

/* Settings of the command line go over those of the file, for all links. */
static void wan_override(struct gw_net *net, char *const *settings, int n, double scale)
{
	for (int i = 0; i < net->n; i++) {
		for (int j = 0; j < net->n; j++) {
			for (int k = 0; k < n; k++)
				gw_topo_set(&net->link[i][j], settings[k], "command line");
			net->link[i][j].delay_ns *= scale;
		}
	}
}

static void wan_setting(char **settings, int *n, const char *name, const char *value)
{
	if (*n == WAN_SETTINGS)
		tool_bad("too many options");
	if (asprintf(&settings[(*n)++], "%s=%s", name, value) < 0)
		tool_die("no memory");
}

/*
 * The four sites that come with the program: in the build tree or the sources around it, or where
 * they are installed.
 */
static void wan_read_default(struct gw_net *net)
{
	static const char *const places[] = {
		"wan", "../../tools/wan", "../tools/wan", "../share/gyre/wan", GYRE_WAN_DIR,
	};
	char self[PATH_MAX], path[2 * PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	while (len > 0 && self[len - 1] != '/')
		len--;
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		snprintf(path, sizeof(path), "%.*s%s/four-regions.topo",
			 places[i][0] == '/' || len < 0 ? 0 : (int)len, self, places[i]);
		if (access(path, R_OK) == 0) {
			gw_topo_read(net, path);
			return;
		}
	}
	tool_die("there is no %s: name a topology by -f FILE, such as "
		 "tools/wan/four-regions.topo of the sources",
		 path);
}

static void wan_options(struct wan_run *run, int argc, char **argv)
{
	const char *file = getenv("WAN_TOPOLOGY");
	char *settings[WAN_SETTINGS];
	double scale = 1;
	int c, at, n = 0;

	run->net.seed = 1;
	run->net.mtu = 9000;
	while ((c = getopt_long(argc, argv, "+f:hV", wan_long, &at)) != -1) {
		switch (c) {
		case 'f':
			file = optarg;
			break;
		case WAN_RATE:
		case WAN_LOSS:
		case WAN_JITTER:
		case WAN_QUEUE:
			wan_setting(settings, &n, wan_long[at].name, optarg);
			break;
		case WAN_SCALE:
			scale = tool_number(optarg, "--delay-scale", 0, 100);
			break;
		case WAN_SEED:
			run->net.seed = (uint64_t)tool_number(optarg, "--seed", 0, 1e15);
			break;
		case WAN_MTU:
			run->net.mtu = (int)tool_number(optarg, "--mtu", 1280, 65535);
			break;
		case WAN_FROM:
			run->from = optarg;
			break;
		case WAN_JSON:
			run->json = true; /* fall through */
		case WAN_STATS:
			run->stats = true;
			break;
		case 'h':
			tool_help();
		case 'V':
			puts("gyre-wan " PACKAGE_VERSION);
			exit(0);
		default:
			tool_misused();
		}
	}
	if (file)
		gw_topo_read(&run->net, file);
	else
		wan_read_default(&run->net);
	wan_override(&run->net, settings, n, scale);
	for (int i = 0; i < n; i++)
		free(settings[i]);
	if (run->from && gw_topo_find(&run->net, run->from) < 0)
		tool_die("--from: there is no site '%s'", run->from);
	if (optind == argc)
		tool_bad("a command is missing");
}

static void wan_watch(struct wan_run *run, int fd, int what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = what };

	if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		tool_die("epoll_ctl: %s", strerror(errno));
}

static void wan_setup(struct wan_run *run)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1 };
	sigset_t set;

	gw_sites_make(&run->net);
	gw_relay_init(&run->net);
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaddset(&set, caught[i]);
	sigprocmask(SIG_BLOCK, &set, &run->old_mask);
	run->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	run->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (run->signals < 0 || run->epoll < 0)
		tool_die("signalfd, epoll: %s", strerror(errno));
	wan_watch(run, run->signals, -1);
	for (int i = 0; i < run->net.n; i++)
		wan_watch(run, run->net.site[i].tun, i);
	prctl(PR_SET_TIMERSLACK, 1);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* whom the command leaves behind is ours to end */
}

static void wan_start(struct wan_run *run, char **argv)
{
	const pid_t self = getpid();

	for (int i = 0; i < run->net.n; i++) {
		struct gw_site *site = &run->net.site[i];

		if (run->from && strcmp(run->from, site->name) != 0)
			continue;
		site->child = fork();
		if (site->child < 0)
			tool_die("fork: %s", strerror(errno));
		if (site->child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != self)
				_exit(GW_EXIT_SELF);
			prctl(PR_SET_TIMERSLACK, 0);
			gw_site_enter(&run->net, i);
			sigprocmask(SIG_SETMASK, &run->old_mask, NULL);
			wan_exec(argv);
		}
		run->running++;
	}
}

/* Signals our children; whether there are any.  Theirs become ours when they end. */
static bool wan_signal_children(int sig)
{
	char path[64];
	FILE *f;
	int pid;
	bool any = false;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1) {
		kill(pid, sig);
		any = true;
	}
	if (f)
		fclose(f);
	return any;
}

static void wan_end(struct wan_run *run, int status)
{
	if (run->ending)
		return;
	run->ending = true;
	run->status = status;
	run->kill_ns = gw_now_ns() + WAN_GRACE_NS;
	wan_signal_children(SIGTERM);
}

static void wan_reap(struct wan_run *run)
{
	int wstatus, status;
	pid_t pid;

	while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
		status = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
		for (int i = 0; i < run->net.n; i++) {
			struct gw_site *site = &run->net.site[i];

			if (site->child != pid)
				continue;
			site->child = 0;
			run->running--;
			if (status && !run->ending) {
				fprintf(stderr,
					"gyre-wan: the command at %s ended with status %d\n",
					site->name, status);
				wan_end(run, status);
			}
		}
	}
}

static void wan_signals(struct wan_run *run)
{
	struct signalfd_siginfo info;

	while (read(run->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			wan_reap(run);
		else if (info.ssi_signo == SIGUSR1)
			gw_relay_print(&run->net, stderr, run->json);
		else
			wan_end(run, 128 + (int)info.ssi_signo);
	}
}

static void wan_wait(const struct wan_run *run, uint64_t next, struct epoll_event *events, int *np)
{
	struct timespec left = { 0 };
	const uint64_t now = gw_now_ns();

	if (run->ending && run->kill_ns < next)
		next = run->kill_ns;
	if (next > now) {
		left.tv_sec = (time_t)((next - now) / 1000000000U);
		left.tv_nsec = (long)((next - now) % 1000000000U);
	}
	*np = epoll_pwait2(run->epoll, events, GW_MAX_SITES + 1, next == UINT64_MAX ? NULL : &left,
			   NULL);
}

static void wan_loop(struct wan_run *run)
{
	struct epoll_event events[GW_MAX_SITES + 1];
	int n;

	while (run->running > 0 && !(run->ending && gw_now_ns() >= run->kill_ns)) {
		wan_wait(run, gw_relay_deliver(&run->net), events, &n);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd < 0)
				wan_signals(run);
			else
				gw_relay_read(&run->net, events[i].data.fd);
		}
	}
	/* What is left is killed; each time its children become ours. */
	while (wan_signal_children(SIGKILL))
		while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
			;
}

int main(int argc, char **argv)
{
	static struct wan_run run;

	if (argc > 1 && strcmp(argv[1], "exec") == 0)
		wan_enter(argv + 2);
	if (argc > 1 && strcmp(argv[1], "ssh") == 0)
		wan_ssh(argv + 2);
	wan_options(&run, argc, argv);
	wan_setup(&run);
	wan_start(&run, argv + optind);
	wan_loop(&run);
	if (run.stats)
		gw_relay_print(&run.net, stderr, run.json);
	return run.status;
}
