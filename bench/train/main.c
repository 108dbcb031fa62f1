/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/main.c - gyre-train: what the command line asks for.
 * Exit status: 0, 1 when the run failed, 2 when the command line is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/types.h>
#include "bench/train/launch.h"
#include "bench/train/logs.h"
#include "bench/train/options.h"
#include "bench/train/report.h"
#include "bench/train/train.h"

/*
 * gyrerun stands between its ranks and the terminal, so they are told that there is one.  Returns
 * only on error.
 */
static int main_launch(const struct options *opt, int argc, char **argv)
{
	char option[] = "--progress", value[] = "line";
	char **args = calloc(argc + 3, sizeof(*args));

	if (!args)
		return 1;
	memcpy(args, argv, argc * sizeof(*args));
	if (report_in_place(opt)) {
		args[argc] = option;
		args[argc + 1] = value;
	}
	launch_ranks(opt->ranks, args);
	free(args);
	return 1;
}

/* The library shapes its TCP connections; ranks that are started inherit the settings. */
static int main_set_wan(const char *settings)
{
	if (!setenv("GYRE_TCP_SHAPE", settings, 1) && !setenv("GYRE_TRANSPORT", "tcp", 1))
		return 0;
	perror("gyre-train: --wan");
	return -1;
}

int main(int argc, char **argv)
{
	const char *rank = getenv("GYRE_RANK");
	const bool speak = !rank || strcmp(rank, "0") == 0; /* one of a job's ranks is enough */
	struct options opt;

	if (argc > 1 && strcmp(argv[1], "plot") == 0)
		return logs_plot(argc - 1, argv + 1);
	if (options_parse(argc, argv, speak, &opt))
		return 2;
	if (opt.help) {
		if (speak)
			options_usage();
		return 0;
	}
	if (opt.version) {
		printf("gyre-train (gyre) %s\n", gyre_version());
		return 0;
	}
	if (opt.wan && main_set_wan(opt.wan))
		return 1;
	if (opt.ranks && !rank)
		return main_launch(&opt, argc, argv);
	return train_run(&opt) ? 1 : 0;
}
