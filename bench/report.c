/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Prints what was measured: columns as users of the OSU benchmarks know them, plus percentiles and
 * the bus bandwidth, or one JSON object per line.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/proto.h"

static int report_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report_reduce(struct report_stats *st, double *us, int n)
{
	int i;

	memset(st, 0, sizeof(*st));
	qsort(us, n, sizeof(*us), report_compare);
	for (i = 0; i < n; i++)
		st->avg += us[i] / n;
	st->n = n;
	st->min = us[0];
	st->max = us[n - 1];
	st->p50 = (us[(n - 1) / 2] + us[n / 2]) / 2;
	st->p99 = us[(int)ceil(0.99 * n) - 1];
}

void report_head(const struct proto_job *job, const struct proto_bench *bench,
		 const struct proto_options *opt)
{
	if (opt->json)
		return;
	printf("# %s %s, %d rank%s%s%s\n", job->system, bench->name, job->nranks,
	       job->nranks == 1 ? "" : "s", job->options[0] ? ", " : "", job->options);
	printf("# %-10s", "Size");
	printf("%16s", "Avg Latency(us)");
	if (opt->full)
		printf("%16s%16s", "Min Latency(us)", "Max Latency(us)");
	printf("%12s%12s", "p50(us)", "p99(us)");
	if (bench->bus_bytes)
		printf("%14s", "busbw(GB/s)");
	if (opt->full)
		printf("%12s", "Iterations");
	if (opt->validate)
		printf("%12s", "Validation");
	if (opt->full)
		printf("  %-20s %s", "Algorithm", "Transport");
	putchar('\n');
	fflush(stdout);
}

static void report_text(const struct proto_case *c, const struct proto_options *opt,
			const struct report_stats *st)
{
	printf("%-12zu%16.2f", c->bytes, st->avg);
	if (opt->full)
		printf("%16.2f%16.2f", st->min, st->max);
	printf("%12.2f%12.2f", st->p50, st->p99);
	if (c->bench->bus_bytes)
		printf("%14.3f", st->busbw);
	if (opt->full)
		printf("%12d", st->n);
	if (opt->validate)
		printf("%12s", "Pass");
	if (opt->full)
		printf("  %-20s %s", c->algorithm, c->transport);
	putchar('\n');
	fflush(stdout);
}

void report_row(const struct proto_job *job, const struct proto_case *c,
		const struct proto_options *opt, double *us, int n)
{
	struct report_stats st;

	report_reduce(&st, us, n);
	if (c->bench->bus_bytes && st.p50 > 0)
		st.busbw = c->bench->bus_bytes(c->bytes, job->nranks) / st.p50 * 1e-3;
	if (opt->json)
		report_json(job, c, &st);
	else
		report_text(c, opt, &st);
}
