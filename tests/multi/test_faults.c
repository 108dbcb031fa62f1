/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_faults.c [--seed S] [--count N] [mismatch|kill|late|request|proc|recall]... - misuse and
 * faults; see faults.h.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/multi/faults.h"

static const struct {
	const char *name;
	int (*run)(uint64_t seed, unsigned count);
} parts[] = {
	{ "mismatch", faults_mismatch },
	{ "kill", faults_kill },
	{ "late", faults_late },
	{ "request", faults_request },
	{ "proc", faults_proc },
	{ "recall", faults_recall },
};

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' }, { "count", 1, NULL, 'n' }, { NULL, 0, NULL, 0 },
	};
	uint64_t seed = test_is_long() ? (uint64_t)time(NULL) : 1;
	int opt, i, failed = 0;
	unsigned count = 0;
	double start;
	size_t part;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			count = (unsigned)atoi(optarg);
		else
			return 2;
	}
	for (part = 0; part < sizeof(parts) / sizeof(parts[0]); part++) {
		for (i = optind; i < argc && strcmp(argv[i], parts[part].name); i++)
			;
		if (optind < argc && i == argc)
			continue;
		printf("%s, seed %llu\n", parts[part].name, (unsigned long long)seed);
		start = seconds();
		if (parts[part].run(seed, count))
			failed = 1;
		printf("%s: %s, %.1f s\n", parts[part].name, failed ? "FAILED" : "passed",
		       seconds() - start);
	}
	return failed;
}
