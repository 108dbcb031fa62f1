/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shape_text.c - the setting tcp_shape: words as in the topologies of gyre-wan(1), with commas
 * between them.  Numbers have a decimal point whatever the locale.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/util.h"
#include "transports/tcp/shape.h"

#define SHAPE_WORD 40

struct shape_unit {
	const char *name;
	double factor;
};

/* to ns */
static const struct shape_unit shape_times[] = {
	{ "", 1e6 }, { "ms", 1e6 }, { "us", 1e3 }, { "s", 1e9 }, { NULL, 0 },
};

/* to bytes per second */
static const struct shape_unit shape_rates[] = {
	{ "", 1 / 8.0 },     { "bit", 1 / 8.0 },  { "kbit", 1e3 / 8 },
	{ "mbit", 1e6 / 8 }, { "gbit", 1e9 / 8 }, { NULL, 0 },
};

static const struct shape_unit shape_shares[] = { { "", 1 }, { "%", 0.01 }, { NULL, 0 } };

static const struct shape_word {
	const char *name;
	const struct shape_unit *units;
	double max;
	const char *allowed;
} shape_words[] = {
	{ "rtt", shape_times, 200e9, "a time, such as 80ms (us, ms or s), up to 200s" },
	{ "delay", shape_times, 100e9, "a time, such as 40ms (us, ms or s), up to 100s" },
	{ "rate", shape_rates, 1e11,
	  "bits per second, such as 40mbit (bit, kbit, mbit or gbit), 1kbit to 800gbit; "
	  "0: no limit" },
	{ "loss", shape_shares, 1, "a share, such as 0.001 or 0.1%, up to 1" },
	{ "jitter", shape_times, 100e9, "a time, such as 2ms (us, ms or s), up to 100s" },
};

enum { SHAPE_RTT, SHAPE_DELAY, SHAPE_RATE, SHAPE_LOSS, SHAPE_JITTER };

/* Digits with a point among them at most; returns where they end, or NULL. */
static const char *shape_digits(const char *text, double *value)
{
	double scale = 1;
	bool point = false, any = false;

	for (*value = 0; isdigit((unsigned char)*text) || (*text == '.' && !point); text++) {
		if (*text == '.') {
			point = true;
			continue;
		}
		any = true;
		*value = *value * 10 + (*text - '0');
		scale *= point ? 10 : 1;
	}
	*value /= scale;
	return any ? text : NULL;
}

static bool shape_number(const char *text, const struct shape_unit *unit, double *value)
{
	const char *end = shape_digits(text, value);

	for (; end && unit->name; unit++) {
		if (strcasecmp(end, unit->name) == 0) {
			*value *= unit->factor;
			return true;
		}
	}
	return false;
}

static void shape_set(struct tcp_shape *shape, size_t what, double v)
{
	switch (what) {
	case SHAPE_RTT:
		shape->delay_ns = (uint64_t)(v / 2);
		break;
	case SHAPE_DELAY:
		shape->delay_ns = (uint64_t)v;
		break;
	case SHAPE_RATE:
		shape->ns_per_byte = v > 0 ? 1e9 / v : 0;
		break;
	case SHAPE_LOSS:
		shape->loss = v;
		break;
	default:
		shape->jitter_ns = (uint64_t)v;
	}
}

static int shape_word(const char *word, struct tcp_shape *shape, char *why, size_t len)
{
	const size_t n = strcspn(word, "=");
	const struct shape_word *w;
	double v = 0;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(shape_words); i++)
		if (strlen(shape_words[i].name) == n &&
		    strncasecmp(word, shape_words[i].name, n) == 0)
			break;
	if (i == GY_ARRAY_SIZE(shape_words) || !word[n]) {
		snprintf(why, len,
			 "'%s' is none of rtt=TIME, delay=TIME, rate=RATE, loss=SHARE, "
			 "jitter=TIME",
			 word);
		return -EINVAL;
	}
	w = &shape_words[i];
	if (!shape_number(word + n + 1, w->units, &v) || v > w->max ||
	    (i == SHAPE_RATE && v > 0 && v < 125)) {
		snprintf(why, len, "'%s': %s is %s", word, w->name, w->allowed);
		return -EINVAL;
	}
	shape_set(shape, i, v);
	return 0;
}

int tcp_shape_parse(const char *text, struct tcp_shape *shape, char *why, size_t len)
{
	struct tcp_shape got = { .on = *text != 0 };
	char word[SHAPE_WORD];
	size_t n;
	int err;

	for (; *text; text += n) {
		n = strcspn(text, ",");
		snprintf(word, sizeof(word), "%.*s", (int)gy_min(n, sizeof(word)), text);
		err = shape_word(word, &got, why, len);
		if (err)
			return err;
		n += text[n] == ',' && text[n + 1];
	}
	*shape = got;
	return 0;
}
