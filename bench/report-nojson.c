/* SPDX-License-Identifier: BSD-3-Clause */
/* In the place of report-json.c where jansson is not installed: --json is refused. */
#include "bench/proto.h"

bool report_can_json(void)
{
	return false;
}

void report_json(const struct proto_job *job, const struct proto_case *c,
		 const struct report_stats *st)
{
	(void)job;
	(void)c;
	(void)st;
}
