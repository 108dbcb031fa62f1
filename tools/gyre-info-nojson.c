/* SPDX-License-Identifier: BSD-3-Clause */
/* In the place of gyre-info-json.c where jansson is not installed: --json is refused. */
#include "tools/gyre-info.h"

bool gi_json_can(void)
{
	return false;
}

void gi_json_print(const struct gi_doc *doc)
{
	(void)doc;
}
