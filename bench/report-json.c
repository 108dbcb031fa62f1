/* SPDX-License-Identifier: BSD-3-Clause */
/* One JSON object per line and size; the keys are described in gyre-bench(1). */
#include <stdio.h>

#include <jansson.h>

#include "bench/proto.h"

bool report_can_json(void)
{
	return true;
}

void report_json(const struct proto_job *job, const struct proto_case *c,
		 const struct report_stats *st)
{
	json_t *row = json_pack("{s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:s, s:s, "
				"s:s}",
				"system", job->system, "bench", c->bench->name, "ranks",
				job->nranks, "bytes", (json_int_t)c->bytes, "p50_us", st->p50,
				"p99_us", st->p99, "avg_us", st->avg, "min_us", st->min, "max_us",
				st->max, "busbw_GBps", st->busbw, "iterations", st->n, "algorithm",
				c->algorithm, "transport", c->transport, "options", job->options);

	if (!row || json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)))
		fprintf(stderr, "%s: cannot write JSON\n", job->system);
	putchar('\n');
	fflush(stdout);
	json_decref(row);
}
