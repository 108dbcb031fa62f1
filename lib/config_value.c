/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config_value.c - one setting from text and to text.
 */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "lib/config_value.h"
#include "lib/util.h"

static int value_word(const char *const *words, const char *text)
{
	int i;

	for (i = 0; words[i]; i++) {
		if (strcasecmp(words[i], text) == 0)
			return i;
	}
	return -EINVAL;
}

static int value_parse_bool(const char *text, bool *value)
{
	static const char *const words[] = { "0", "1", "off", "on", "no", "yes", "false", "true",
					     NULL };
	int i = value_word(words, text);

	if (i < 0)
		return i;
	*value = i % 2;
	return 0;
}

/* A decimal number between min and max; size: with a suffix. */
static int value_parse_number(const struct gy_config_entry *e, const char *text, long long *value)
{
	static const char suffixes[] = "kmg";
	const char *suffix;
	char *end;
	int i;

	if (!isdigit((unsigned char)text[0]) && text[0] != '-')
		return -EINVAL;		/* strtoll would skip blanks */
	errno = 0;
	*value = strtoll(text, &end, 10);
	if (errno || end == text)
		return -EINVAL;
	suffix = *end ? strchr(suffixes, tolower((unsigned char)*end)) : NULL;
	if (suffix && e->kind == GY_CONFIG_KIND_SIZE) {
		for (i = 0; i <= suffix - suffixes; i++) {
			if (__builtin_mul_overflow(*value, 1024, value))
				return -EINVAL;
		}
		end++;
	}
	return *end || *value < e->min || *value > e->max ? -EINVAL : 0;
}

int gy_config_parse(const struct gy_config_entry *e, const char *text, void *field)
{
	long long number;
	int err;

	switch (e->kind) {
	case GY_CONFIG_KIND_BOOL:
		return value_parse_bool(text, field);
	case GY_CONFIG_KIND_ENUM:
		err = value_word(e->words, text);
		if (err < 0)
			return err;
		*(int *)field = err;
		return 0;
	case GY_CONFIG_KIND_STRING:
		if (strlen(text) > (size_t)e->max)
			return -EINVAL;
		memset(field, 0, (size_t)e->max + 1);
		memcpy(field, text, strlen(text));
		return 0;
	case GY_CONFIG_KIND_INT:
	case GY_CONFIG_KIND_SIZE:
		break;
	}
	err = value_parse_number(e, text, &number);
	if (err)
		return err;
	if (e->kind == GY_CONFIG_KIND_INT)
		*(int *)field = (int)number;
	else
		*(size_t *)field = (size_t)number;
	return 0;
}

void gy_config_format(const struct gy_config_entry *e, const void *field, char *buf, size_t len)
{
	switch (e->kind) {
	case GY_CONFIG_KIND_BOOL:
		snprintf(buf, len, "%d", *(const bool *)field);
		break;
	case GY_CONFIG_KIND_INT:
		snprintf(buf, len, "%d", *(const int *)field);
		break;
	case GY_CONFIG_KIND_SIZE:
		snprintf(buf, len, "%zu", *(const size_t *)field);
		break;
	case GY_CONFIG_KIND_ENUM:
		snprintf(buf, len, "%s", e->words[*(const int *)field]);
		break;
	case GY_CONFIG_KIND_STRING:
		if (e->flags & GY_CONFIG_SECRET && *(const char *)field)
			field = "...";
		snprintf(buf, len, "%s", (const char *)field);
		break;
	}
}

void gy_config_allowed(const struct gy_config_entry *e, char *buf, size_t len)
{
	size_t i, used = 0;

	switch (e->kind) {
	case GY_CONFIG_KIND_BOOL:
		snprintf(buf, len, "0 or 1");
		break;
	case GY_CONFIG_KIND_INT:
		snprintf(buf, len, "a number, %lld to %lld", e->min, e->max);
		break;
	case GY_CONFIG_KIND_SIZE:
		snprintf(buf, len, "bytes, %lld to %lld, suffix k, m or g", e->min, e->max);
		break;
	case GY_CONFIG_KIND_STRING:
		snprintf(buf, len, "at most %lld characters", e->max);
		break;
	case GY_CONFIG_KIND_ENUM:
		buf[0] = 0;
		for (i = 0; e->words[i] && used < len; i++)
			used += (size_t)snprintf(buf + used, len - used, "%s%s", i ? ", " : "",
						 e->words[i]);
		break;
	}
}

size_t gy_config_distance(const char *a, const char *b)
{
	size_t row[GY_CONFIG_NAME_MAX + 1], la = strlen(a), lb = strlen(b), i, j, diagonal, above;

	if (la > GY_CONFIG_NAME_MAX || lb > GY_CONFIG_NAME_MAX)
		return SIZE_MAX;
	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		diagonal = row[0];
		row[0] = i;
		for (j = 1; j <= lb; j++) {
			above = row[j];
			diagonal += tolower((unsigned char)a[i - 1]) !=
				    tolower((unsigned char)b[j - 1]);
			row[j] = gy_min(diagonal, gy_min(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[lb];
}
