/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-doc.c - the document: sections of fields and tables, so that text and JSON say the
 * same.  As text a section has a heading, its fields two aligned columns, and tables have columns
 * as wide as what is in them, numbers to the right.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "tools/gyre-info.h"

#define DOC_COLUMNS 16

void *gi_grow(void *array, size_t n, size_t size)
{
	array = reallocarray(array, n + 1, size);
	if (!array)
		tool_die("out of memory");
	memset((char *)array + n * size, 0, size);
	return array;
}

char *gi_format(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		tool_die("out of memory");
	va_end(ap);
	return text;
}

/* ---- values ---- */

struct gi_value gi_none(void)
{
	return (struct gi_value){ .kind = GI_NONE };
}

struct gi_value gi_text(const char *fmt, ...)
{
	struct gi_value v = { .kind = GI_TEXT };
	va_list ap;
	char *p;

	va_start(ap, fmt);
	if (vasprintf(&v.text, fmt, ap) < 0)
		tool_die("out of memory");
	va_end(ap);
	for (p = v.text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';	/* what is in a file must not steer a terminal */
	return v;
}

struct gi_value gi_str(const char *text)
{
	return text && *text ? gi_text("%s", text) : gi_none();
}

struct gi_value gi_int(long long n)
{
	return (struct gi_value){ .kind = n == GI_UNKNOWN ? GI_NONE : GI_INT, .n = n };
}

struct gi_value gi_size(long long bytes)
{
	return (struct gi_value){ .kind = bytes == GI_UNKNOWN ? GI_NONE : GI_SIZE, .n = bytes };
}

struct gi_value gi_bool(bool yes)
{
	return (struct gi_value){ .kind = GI_BOOL, .n = yes };
}

void gi_size_text(long long bytes, char *buf, size_t len)
{
	static const char units[] = "KMGTPE";
	double n = (double)bytes;
	int unit = -1;

	if (bytes == GI_UNLIMITED) {
		snprintf(buf, len, "unlimited");
		return;
	}
	while (n >= 1024 && units[unit + 1]) {
		n /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(buf, len, "%lld B", bytes);
	else
		snprintf(buf, len, "%.*f %ciB", n == (double)(long long)n || n >= 100 ? 0 : 1, n,
			 units[unit]);
}

static void doc_value_text(const struct gi_value *v, char *buf, size_t len)
{
	switch (v->kind) {
	case GI_NONE:
		snprintf(buf, len, "-");
		break;
	case GI_TEXT:
		snprintf(buf, len, "%s", v->text);
		break;
	case GI_INT:
		snprintf(buf, len, "%lld", v->n);
		break;
	case GI_SIZE:
		gi_size_text(v->n, buf, len);
		break;
	case GI_BOOL:
		snprintf(buf, len, "%s", v->n ? "yes" : "no");
		break;
	}
}

/* ---- building ---- */

void gi_doc_section(struct gi_doc *doc, const char *key, const char *title)
{
	doc->sections = gi_grow(doc->sections, doc->n, sizeof(*doc->sections));
	doc->sections[doc->n++] = (struct gi_section){ .key = key, .title = title };
}

static struct gi_item *doc_item(struct gi_doc *doc)
{
	struct gi_section *s = &doc->sections[doc->n - 1];

	s->items = gi_grow(s->items, s->n, sizeof(*s->items));
	return &s->items[s->n++];
}

void gi_doc_field(struct gi_doc *doc, const char *key, const char *label, struct gi_value value)
{
	*doc_item(doc) = (struct gi_item){ .key = key, .label = label, .value = value };
}

void gi_doc_table(struct gi_doc *doc, const char *key, const struct gi_column *columns,
		  size_t ncolumns)
{
	gy_assert_always(ncolumns <= DOC_COLUMNS);
	*doc_item(doc) = (struct gi_item){
		.key = key,
		.columns = columns,
		.ncolumns = ncolumns,
	};
}

void gi_doc_cell(struct gi_doc *doc, struct gi_value value)
{
	struct gi_section *s = &doc->sections[doc->n - 1];
	struct gi_item *table = &s->items[s->n - 1];

	table->cells = gi_grow(table->cells, table->ncells, sizeof(*table->cells));
	table->cells[table->ncells++] = value;
}

void gi_doc_free(struct gi_doc *doc)
{
	size_t s, i, c;

	for (s = 0; s < doc->n; s++) {
		for (i = 0; i < doc->sections[s].n; i++) {
			struct gi_item *item = &doc->sections[s].items[i];

			for (c = 0; c < item->ncells; c++)
				free(item->cells[c].text);
			free(item->cells);
			free(item->value.text);
		}
		free(doc->sections[s].items);
	}
	free(doc->sections);
	*doc = (struct gi_doc){ .n = 0 };
}

/* ---- as text ---- */

static void doc_print_cell(const char *text, int width, bool right, bool last)
{
	if (right)
		printf("  %*s", width, text);
	else if (last)
		printf("  %s", text);
	else
		printf("  %-*s", width, text);
}

static void doc_print_row(const struct gi_item *table, const struct gi_value *row,
			  const int *widths, const bool *right)
{
	char text[1024];
	size_t c, last = 0;

	for (c = 0; c < table->ncolumns; c++)
		if (table->columns[c].head)
			last = c;
	for (c = 0; c <= last; c++) {
		if (!table->columns[c].head)
			continue;
		if (row)
			doc_value_text(&row[c], text, sizeof(text));
		else
			snprintf(text, sizeof(text), "%s", table->columns[c].head);
		doc_print_cell(text, widths[c], right[c], c == last);
	}
	putchar('\n');
}

static void doc_print_table(const struct gi_item *table, bool first)
{
	bool right[DOC_COLUMNS] = { false };
	int widths[DOC_COLUMNS] = { 0 };
	char text[1024];
	size_t i, c;

	if (!table->ncells)
		return;
	if (!first)
		putchar('\n');
	for (c = 0; c < table->ncolumns; c++)
		widths[c] = table->columns[c].head ? (int)strlen(table->columns[c].head) : 0;
	for (i = 0; i < table->ncells; i++) {
		c = i % table->ncolumns;
		doc_value_text(&table->cells[i], text, sizeof(text));
		widths[c] = (int)gy_max((size_t)widths[c], strlen(text));
		right[c] |= table->cells[i].kind == GI_INT || table->cells[i].kind == GI_SIZE;
	}
	doc_print_row(table, NULL, widths, right);
	for (i = 0; i < table->ncells; i += table->ncolumns)
		doc_print_row(table, &table->cells[i], widths, right);
}

void gi_doc_print(const struct gi_doc *doc)
{
	char text[1024];
	size_t s, i;

	for (s = 0; s < doc->n; s++) {
		const struct gi_section *section = &doc->sections[s];
		int width = 0;

		for (i = 0; i < section->n; i++)
			if (!section->items[i].columns)
				width = (int)gy_max((size_t)width, strlen(section->items[i].label));
		printf("%s%s\n", s ? "\n" : "", section->title);
		for (i = 0; i < section->n; i++) {
			if (section->items[i].columns) {
				doc_print_table(&section->items[i], i == 0);
				continue;
			}
			doc_value_text(&section->items[i].value, text, sizeof(text));
			printf("  %-*s  %s\n", width, section->items[i].label, text);
		}
	}
}
