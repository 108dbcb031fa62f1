/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/launch.c - finds gyrerun and hands over to it.
 * gyrerun lies beside an installed program; in a build tree it is ../tools/gyrerun of the program,
 * which libtool in turn may have put into a folder .libs. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/train/launch.h"

static const char *const launch_places[] = { "gyrerun", "../tools/gyrerun", "../../tools/gyrerun" };

/* The first of the places relative to this program, else the name alone, for PATH. */
static void launch_find(const char *self, char *path, size_t len)
{
	const int dir_len = strrchr(self, '/') - self;
	size_t i;

	for (i = 0; i < sizeof(launch_places) / sizeof(*launch_places); i++) {
		snprintf(path, len, "%.*s/%s", dir_len, self, launch_places[i]);
		if (access(path, X_OK) == 0)
			return;
	}
	snprintf(path, len, "gyrerun");
}

static int launch_exec(char *gyrerun, int nranks, char *self, char **argv)
{
	char option[] = "-n", count[16];
	char **args;
	size_t argc = 0;
	int err;

	while (argv[argc])
		argc++;
	args = calloc(argc + 4, sizeof(*args));
	if (!args)
		return -ENOMEM;
	snprintf(count, sizeof(count), "%d", nranks);
	args[0] = gyrerun;
	args[1] = option;
	args[2] = count;
	args[3] = self;
	memcpy(args + 4, argv + 1, (argc - 1) * sizeof(*args));
	execvp(gyrerun, args);
	err = -errno;
	free(args);
	return err;
}

int launch_ranks(int nranks, char **argv)
{
	char self[PATH_MAX], gyrerun[PATH_MAX + 32];
	const ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int err;

	if (len < 0)
		return -errno;
	self[len] = 0;
	launch_find(self, gyrerun, sizeof(gyrerun));
	err = launch_exec(gyrerun, nranks, self, argv);
	fprintf(stderr,
		"%s: cannot run gyrerun: %s\n"
		"  -n N needs it, beside this program or in PATH.\n",
		strrchr(self, '/') + 1, strerror(-err));
	return err;
}
