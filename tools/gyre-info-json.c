/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-json.c - the document as one JSON object: a member for each section, in it one for each
 * field, and for each table an array of objects.
 */
#include <stdio.h>

#include <jansson.h>

#include "tools/gyre-info.h"

bool gi_json_can(void)
{
	return true;
}

static json_t *json_value(const struct gi_value *v)
{
	switch (v->kind) {
	case GI_TEXT:
		/* What comes from files and the environment need not be UTF-8. */
		return json_string(v->text) ?: json_string("?");
	case GI_INT:
		return json_integer(v->n);
	case GI_SIZE:
		return json_integer(v->n == GI_UNLIMITED ? -1 : v->n);
	case GI_BOOL:
		return json_boolean(v->n);
	case GI_NONE:
		break;
	}
	return json_null();
}

static json_t *json_table(const struct gi_item *table)
{
	json_t *rows = json_array(), *row = NULL;
	size_t i, c;

	for (i = 0; i < table->ncells; i++) {
		c = i % table->ncolumns;
		if (c == 0) {
			row = json_object();
			if (json_array_append_new(rows, row))
				tool_die("out of memory");
		}
		if (!table->columns[c].key)
			continue;
		if (json_object_set_new(row, table->columns[c].key, json_value(&table->cells[i])))
			tool_die("out of memory");
	}
	return rows;
}

void gi_json_print(const struct gi_doc *doc)
{
	json_t *top = json_object(), *section;
	size_t s, i;

	for (s = 0; s < doc->n; s++) {
		section = json_object();
		if (json_object_set_new(top, doc->sections[s].key, section))
			tool_die("out of memory");
		for (i = 0; i < doc->sections[s].n; i++) {
			const struct gi_item *item = &doc->sections[s].items[i];

			if (json_object_set_new(section, item->key,
						item->columns ? json_table(item)
							      : json_value(&item->value)))
				tool_die("out of memory");
		}
	}
	if (json_dumpf(top, stdout, JSON_INDENT(2)))
		tool_die("cannot write JSON");
	putchar('\n');
	json_decref(top);
}
