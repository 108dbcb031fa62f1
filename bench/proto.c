/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The measuring protocol: options, the list of benchmarks, and the loop over sizes; see proto.h.
 *
 * The ranks must run an operation equally often, so every count that depends on a clock goes
 * through ops->max first; an error of one rank does as well, or the others would wait for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/proto.h"

/* A size runs for about so long, and never more or less often than this. */
#define PROTO_BUDGET_US 200000.0
#define PROTO_MAX_RUNS 5000
#define PROTO_MIN_RUNS 10
#define PROTO_PROBE_RUNS 4

const char proto_help[] =
	"  -m, --message-size [MIN:]MAX  sizes in bytes, doubling; K, M and G are powers of 1024;\n"
	"                                \"MIN:\" goes up to 16M\n"
	"  -s, --sizes LIST              these sizes: 8,16K,1M\n"
	"  -i, --iterations N            timed runs per size (default: about 0.2 s worth)\n"
	"  -x, --warmup N                untimed runs per size\n"
	"  -f, --full                    also minimum, maximum, runs, algorithm, transport\n"
	"  -c, --validation              check the result of each run, not only before timing\n"
	"  -J, --json                    one JSON object per line and size\n";

static double proto_bus_allreduce(size_t bytes, int nranks)
{
	return 2.0 * (nranks - 1) / nranks * bytes;
}

static double proto_bus_reduce_scatter(size_t bytes, int nranks)
{
	return (double)(nranks - 1) / nranks * bytes;
}

/* The size is what one rank contributes. */
static double proto_bus_allgather(size_t bytes, int nranks)
{
	return (double)(nranks - 1) * bytes;
}

static double proto_bus_plain(size_t bytes, int nranks)
{
	(void)nranks;
	return bytes;
}

static const struct proto_bench proto_benches[] = {
	{ .name = "allreduce", .bus_bytes = proto_bus_allreduce },
	{ .name = "reduce_scatter", .bus_bytes = proto_bus_reduce_scatter, .shared = true },
	{ .name = "allgather", .bus_bytes = proto_bus_allgather },
	{ .name = "bcast", .bus_bytes = proto_bus_plain },
	{ .name = "barrier" },
	{ .name = "latency", .bus_bytes = proto_bus_plain, .free_running = true },
	{ .name = "bw", .bus_bytes = proto_bus_plain, .free_running = true },
	/* gyre-limits */
	{ .name = "memcpy", .bus_bytes = proto_bus_plain },
	{ .name = "sum", .bus_bytes = proto_bus_plain },
	{ .name = "mapped", .bus_bytes = proto_bus_allreduce },
	{ .name = "push", .bus_bytes = proto_bus_allreduce },
	{ .name = "cma", .bus_bytes = proto_bus_allreduce },
	{ .name = "staged", .bus_bytes = proto_bus_allreduce },
};

const struct proto_bench *proto_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(proto_benches) / sizeof(proto_benches[0]); i++)
		if (!strcmp(proto_benches[i].name, name))
			return &proto_benches[i];
	return NULL;
}

double proto_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec * 1e-3;
}

void proto_options_init(struct proto_options *opt)
{
	memset(opt, 0, sizeof(*opt));
	opt->warmup = -1;
}

void proto_options_fini(struct proto_options *opt)
{
	free(opt->sizes);
	opt->sizes = NULL;
}

/* "8 to 1024G (K, M and G: powers of 1024)", or plain numbers. */
static void proto_range(char *text, size_t len, size_t min, size_t max)
{
	if (max % (1 << 30))
		snprintf(text, len, "%zu to %zu", min, max);
	else
		snprintf(text, len, "%zu to %zuG (K, M and G: powers of 1024)", min, max >> 30);
}

int proto_number(const char *what, const char *text, size_t min, size_t max, size_t *valuep)
{
	static const char units[] = "KMG";
	unsigned long long v;
	char *end, range[80];
	const char *unit;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		goto bad;
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit) {
		int shift = 10 * (int)(unit - units + 1);

		if (v > (~0ULL >> shift))
			goto bad;
		v <<= shift;
		end++;
	}
	if (*end || v < min || v > max)
		goto bad;
	*valuep = v;
	return 0;
bad:
	proto_range(range, sizeof(range), min, max);
	fprintf(stderr, "%s: %s: '%s' is no whole number from %s\n",
		program_invocation_short_name, what, text, range);
	return -EINVAL;
}

static int proto_add_size(struct proto_options *opt, size_t bytes)
{
	size_t *sizes = realloc(opt->sizes, (opt->nsizes + 1) * sizeof(*sizes));

	if (!sizes)
		return -ENOMEM;
	opt->sizes = sizes;
	sizes[opt->nsizes++] = bytes;
	return 0;
}

static int proto_double_sizes(struct proto_options *opt, size_t min, size_t max)
{
	size_t bytes;
	int err = 0;

	for (bytes = min; !err && bytes <= max; bytes *= 2) {
		err = proto_add_size(opt, bytes);
		if (bytes > max / 2)
			break;
	}
	return err;
}

int proto_default_sizes(struct proto_options *opt, size_t min, size_t max)
{
	return opt->nsizes ? 0 : proto_double_sizes(opt, min, max);
}

/* "MAX", "MIN:MAX", or "MIN:" up to the default */
static int proto_size_range(struct proto_options *opt, char *text)
{
	char *colon = strchr(text, ':');
	size_t min = 1, max = PROTO_MAX_SIZE;
	int err = 0;

	if (colon) {
		*colon = '\0';
		err = proto_number("-m", text, 1, (size_t)1 << 40, &min);
	}
	if (!err && (!colon || colon[1] || min > max))
		err = proto_number("-m", colon ? colon + 1 : text, min, (size_t)1 << 40, &max);
	return err ? err : proto_double_sizes(opt, min, max);
}

static int proto_size_list(struct proto_options *opt, char *text)
{
	char *save, *word;
	size_t bytes;
	int err = 0;

	for (word = strtok_r(text, ",", &save); !err && word; word = strtok_r(NULL, ",", &save)) {
		err = proto_number("-s", word, 1, (size_t)1 << 40, &bytes);
		if (!err)
			err = proto_add_size(opt, bytes);
	}
	return err || opt->nsizes ? err : proto_number("-s", "", 1, (size_t)1 << 40, &bytes);
}

static int proto_sizes(struct proto_options *opt, int c, const char *arg)
{
	char *text = strdup(arg);
	int err;

	if (!text)
		return -ENOMEM;
	opt->nsizes = 0;
	opt->chosen = true;
	err = c == 'm' ? proto_size_range(opt, text) : proto_size_list(opt, text);
	free(text);
	return err;
}

int proto_option(struct proto_options *opt, int c, const char *arg)
{
	size_t v;
	int err = 0;

	switch (c) {
	case 'm':
	case 's':
		return proto_sizes(opt, c, arg);
	case 'i':
		err = proto_number("-i", arg, 1, 10000000, &v);
		if (!err)
			opt->iterations = v;
		return err;
	case 'x':
		err = proto_number("-x", arg, 0, 10000000, &v);
		if (!err)
			opt->warmup = v;
		return err;
	case 'f':
		opt->full = true;
		return 0;
	case 'c':
		opt->validate = true;
		return 0;
	case 'J':
		if (!report_can_json()) {
			fprintf(stderr, "%s: --json: built without jansson\n",
				program_invocation_short_name);
			return -EINVAL;
		}
		opt->json = true;
		return 0;
	}
	return -EINVAL;
}

/* The worst of all ranks' results, on every rank: a wrong result is the mildest. */
static int proto_agree(struct proto_job *job, int result)
{
	double v = !result ? 0 : result == -EBADMSG ? 1 : 1 - result;
	int err = job->ops->max(job, &v, 1);

	if (err)
		return err;
	return v == 0 ? 0 : v == 1 ? -EBADMSG : 1 - (int)v;
}

/* One run; the time it took here goes to *us. */
static int proto_run_once(struct proto_job *job, const struct proto_case *c, int set, double *us)
{
	double start;
	int err = 0;

	if (!c->bench->free_running)
		err = job->ops->barrier(job);
	if (err)
		return err;
	start = proto_now_us();
	err = job->ops->run(job, set);
	*us = (proto_now_us() - start) / c->per_run;
	return err;
}

static int proto_check_all(struct proto_job *job, const struct proto_case *c)
{
	int set, err, wrong = 0;
	double us;

	for (set = 0; set < PROTO_SETS; set++) {
		err = proto_run_once(job, c, set, &us);
		if (err)
			return err;
		if (job->ops->check(job, set))
			wrong = -EBADMSG;
	}
	return proto_agree(job, wrong);
}

/* How often to run: about as often as the budget allows, the same on all ranks. */
static int proto_plan_runs(struct proto_job *job, const struct proto_case *c,
			   const struct proto_options *opt, int *warmup, int *runs)
{
	double us, start = 0, each;
	int i, err = 0;

	if (opt->iterations && opt->warmup >= 0) { /* nothing to find out; a run may take seconds */
		*runs = opt->iterations;
		*warmup = opt->warmup;
		return 0;
	}
	for (i = 0; !err && i < PROTO_PROBE_RUNS; i++) {
		if (i == PROTO_PROBE_RUNS / 2)
			start = proto_now_us();
		err = proto_run_once(job, c, i % PROTO_SETS, &us);
	}
	each = (proto_now_us() - start) / (PROTO_PROBE_RUNS - PROTO_PROBE_RUNS / 2);
	if (!err)
		err = job->ops->max(job, &each, 1);
	if (err)
		return err;

	*runs = opt->iterations;
	if (!*runs) {
		double fit = PROTO_BUDGET_US / (each > 0 ? each : 1);

		*runs = fit > PROTO_MAX_RUNS ? PROTO_MAX_RUNS : (int)fit;
		if (*runs < PROTO_MIN_RUNS)
			*runs = PROTO_MIN_RUNS;
	}
	*warmup = opt->warmup >= 0 ? opt->warmup : *runs / 10;
	return 0;
}

static int proto_time(struct proto_job *job, const struct proto_case *c,
		      const struct proto_options *opt, double *us, int warmup, int runs)
{
	int i, err, wrong = 0;

	for (i = 0; i < warmup; i++) {
		err = proto_run_once(job, c, i % PROTO_SETS, us);
		if (err)
			return err;
	}
	for (i = 0; i < runs; i++) {
		err = proto_run_once(job, c, i % PROTO_SETS, &us[i]);
		if (err)
			return err;
		if (opt->validate && job->ops->check(job, i % PROTO_SETS))
			wrong = -EBADMSG;
	}
	err = job->ops->max(job, us, runs);
	if (err)
		return err;
	return opt->validate ? proto_agree(job, wrong) : 0;
}

static int proto_measure(struct proto_job *job, const struct proto_case *c,
			 const struct proto_options *opt)
{
	int err, warmup = 0, runs = 0;
	double *us;

	err = proto_check_all(job, c);
	if (!err)
		err = proto_plan_runs(job, c, opt, &warmup, &runs);
	if (err)
		return err;
	us = malloc(runs * sizeof(*us));
	err = proto_agree(job, us ? 0 : -ENOMEM);
	if (!err)
		err = proto_time(job, c, opt, us, warmup, runs);
	if (!err && job->rank == 0)
		report_row(job, c, opt, us, runs);
	free(us);
	return err;
}

/* A size that was asked for, and is not what is measured; measured: 0: nothing is. */
static void proto_note(const struct proto_job *job, const struct proto_bench *bench, size_t bytes,
		       size_t measured)
{
	char ranks[48] = "", what[48] = "skipped";

	if (job->rank || bytes == measured)
		return;
	if (bench->shared)
		snprintf(ranks, sizeof(ranks), " for each of %d ranks", job->nranks);
	if (measured)
		snprintf(what, sizeof(what), "%zu measured", measured);
	fprintf(stderr, "%s %s: %zu bytes are no whole number of %s%s; %s\n", job->system,
		bench->name, bytes, job->element ? job->element : "elements", ranks, what);
}

/* *nmeasured counts what there is to run. */
static int proto_size(struct proto_job *job, const struct proto_bench *bench,
		      const struct proto_options *opt, size_t bytes, int *nmeasured)
{
	struct proto_case c = { .bench = bench, .bytes = bytes, .per_run = 1 };
	int err, ready;

	ready = job->ops->prepare(job, &c);
	if (opt->chosen && (!ready || ready == -ERANGE))
		proto_note(job, bench, bytes, ready ? 0 : c.bytes);
	if (ready == -ERANGE)
		return 0;
	++*nmeasured;
	err = proto_agree(job, ready);
	if (!err)
		err = proto_measure(job, &c, opt);
	if (!ready)
		job->ops->release(job);
	return err;
}

/* Rows that have not come out are no success.  Their errno is lost by now. */
static int proto_written(const struct proto_job *job)
{
	if (!ferror(stdout))
		return PROTO_OK;
	fprintf(stderr, "%s: results cannot be written\n", job->system);
	return PROTO_FAILED;
}

int proto_sweep(struct proto_job *job, const struct proto_bench *bench,
		const struct proto_options *opt)
{
	int i, err = 0, nmeasured = 0, nsizes = bench->bus_bytes ? opt->nsizes : 1;
	size_t bytes = 0;

	if (job->rank == 0)
		report_head(job, bench, opt);
	for (i = 0; !err && i < nsizes; i++) {
		bytes = bench->bus_bytes ? opt->sizes[i] : 0;
		err = proto_size(job, bench, opt, bytes, &nmeasured);
	}
	if (!err && !nmeasured) {
		err = job->ops->barrier(job); /* a rank that leaves first ends rank 0's message */
		return err ? PROTO_FAILED : PROTO_USAGE;
	}
	if (!err)
		return job->rank == 0 ? proto_written(job) : PROTO_OK;
	if (job->rank == 0)
		fprintf(stderr, "%s %s of %zu bytes: %s\n", job->system, bench->name, bytes,
			err == -EBADMSG ? "wrong result" : strerror(-err));
	return err == -EBADMSG ? PROTO_WRONG : PROTO_FAILED;
}
