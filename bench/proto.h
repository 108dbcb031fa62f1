/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_PROTO_H
#define BENCH_PROTO_H
/*
 * The measuring protocol, once for every system that is measured: gyre-bench, gyre-limits and the
 * programs in peers/ fill in struct proto_ops and call proto_sweep.  For each size
 *
 *   the operation runs and its result is checked, with each of two sets of buffers;
 *   it runs untimed to warm up, and, unless both numbers are given, so that all ranks agree how
 *   often it will run;
 *   each timed run follows a barrier and takes the next set of buffers;
 *   the time of a run is that of its slowest rank, found after the last one.
 *
 * A size that is no whole number of elements is lowered to one, or left out if there is none; when
 * nothing is left to run, that is PROTO_USAGE.
 *
 * proto.c drives, report.c prints.  Functions return 0 or -errno unless they say otherwise.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exit status of every program that uses this. */
enum proto_exit {
	PROTO_OK,
	PROTO_WRONG,	/* a result was wrong */
	PROTO_USAGE,
	PROTO_FAILED	/* could not start, or an operation failed */
};

/* Buffers rotate over so many sets; one reused set would flatter the caches. */
#define PROTO_SETS 2

/* The largest size when nobody says. */
#define PROTO_MAX_SIZE ((size_t)16 << 20)

struct proto_options {
	size_t *sizes;	/* bytes, ascending as given; owned */
	int nsizes;
	bool chosen;	/* by the user, who is told what becomes of each */
	int iterations;	/* 0: what fits the time budget */
	int warmup;	/* -1: a tenth of the iterations, but some */
	bool full;	/* more columns */
	bool validate;	/* check after each timed run too */
	bool json;
};

/* What the size of a benchmark means and how its bus bandwidth counts. */
struct proto_bench {
	const char *name;
	double (*bus_bytes)(size_t bytes, int nranks);	/* NULL: it moves no data */
	bool free_running;		/* no barrier before a run: the two sides pace each other */
	bool shared;			/* a size has the same part for each rank */
};

/* One benchmark at one size; its job fills in what is below the line. */
struct proto_case {
	const struct proto_bench *bench;
	size_t bytes;	/* as asked for; prepare lowers it to what it can do */
	/* -- */
	double per_run;	/* operations in one run; its time is divided by it */
	char algorithm[32];
	char transport[16];
};

struct proto_job;

/* Every call is made by all ranks, in the same order. */
struct proto_ops {
	/* Buffers for c->bytes, filled.  -ERANGE: nothing to run at this size. */
	int (*prepare)(struct proto_job *job, struct proto_case *c);
	int (*run)(struct proto_job *job, int set);
	/* -EBADMSG, and a line on stderr, when the last run of this set left a wrong result.
	 * Spoils the result, so that the next check cannot pass on an old one. */
	int (*check)(struct proto_job *job, int set);
	void (*release)(struct proto_job *job);
	int (*barrier)(struct proto_job *job);
	/* v[i] = the largest v[i] of all ranks. */
	int (*max)(struct proto_job *job, double *v, int n);
};

/* Embedded in the state of one rank. */
struct proto_job {
	const struct proto_ops *ops;
	const char *system;	/* "gyre", "openmpi", ...: in the output */
	const char *options;	/* what else tells this run apart, for the output: "mem=heap" */
	const char *element;	/* what a size is a whole number of: "f32"; may be NULL */
	int rank;
	int nranks;
};

/* Options that all programs share; see proto_help. */
#define PROTO_SHORT "m:s:i:x:fcJ"
#define PROTO_LONG \
	{ "message-size", required_argument, NULL, 'm' }, \
	{ "sizes", required_argument, NULL, 's' }, \
	{ "iterations", required_argument, NULL, 'i' }, \
	{ "warmup", required_argument, NULL, 'x' }, \
	{ "full", no_argument, NULL, 'f' }, \
	{ "validation", no_argument, NULL, 'c' }, \
	{ "json", no_argument, NULL, 'J' }

extern const char proto_help[];

void proto_options_init(struct proto_options *opt);
void proto_options_fini(struct proto_options *opt);
/* Takes the option c of PROTO_SHORT.  -EINVAL, and a line on stderr, for a bad value. */
int proto_option(struct proto_options *opt, int c, const char *arg);
/* Sizes from min to max, doubling, unless the user chose.  -ENOMEM. */
int proto_default_sizes(struct proto_options *opt, size_t min, size_t max);
/* A whole number in [min, max], with K, M or G of 1024; -EINVAL and a line on stderr otherwise. */
int proto_number(const char *what, const char *text, size_t min, size_t max, size_t *valuep);

/* The benchmark of that name, or NULL. */
const struct proto_bench *proto_find(const char *name);

/* Runs the benchmark at each size and prints on rank 0.  Returns enum proto_exit. */
int proto_sweep(struct proto_job *job, const struct proto_bench *bench,
		const struct proto_options *opt);

/* Microseconds of a monotonic clock. */
double proto_now_us(void);

/* report.c: the heading, and one line from the n times in us (which it sorts). */
void report_head(const struct proto_job *job, const struct proto_bench *bench,
		 const struct proto_options *opt);
void report_row(const struct proto_job *job, const struct proto_case *c,
		const struct proto_options *opt, double *us, int n);

/* What report_row found, for report_json. */
struct report_stats {
	double avg, min, max, p50, p99;
	double busbw;	/* GB/s, NCCL's definition, from p50 */
	int n;
};

/* report-json.c, or report-nojson.c where jansson is not installed: that says so and is 0. */
bool report_can_json(void);
void report_json(const struct proto_job *job, const struct proto_case *c,
		 const struct report_stats *st);

#ifdef __cplusplus
}
#endif
#endif
