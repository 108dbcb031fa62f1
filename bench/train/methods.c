/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/methods.c - the methods' names, defaults, and the options that they take. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/train/methods.h"
#include "bench/train/options.h"

static const struct methods_row methods_table[] = {
	{ "sync", "gradients averaged in each step", .period = 1 },
	{ "dts", "the progress of period steps, corrected delay steps later",
	  METHODS_DELAY | METHODS_PERIOD | METHODS_ADAPT, .delay = 4, .period = 4 },
	{ "dts-overwrite", "likewise without correction: the late mean replaces the model",
	  METHODS_DELAY | METHODS_PERIOD, .delay = 2, .period = 4 },
	{ "lasgd", "models averaged when all have done period steps; nobody waits",
	  METHODS_DELAY | METHODS_PERIOD | METHODS_WEIGHTS | METHODS_FRAGMENTS,
	  .period = 1, .own_pace = true },
	{ "local", "models averaged every period steps",
	  METHODS_PERIOD, .period = 8 },
	{ "postlocal", "models averaged in each step, from --switch on every period steps",
	  METHODS_PERIOD | METHODS_SWITCH, .period = 8 },
	{ "cocod", "models averaged during the next period steps",
	  METHODS_PERIOD, .period = 8 },
	{ "slowmo", "every period steps a step of momentum with the ranks' mean progress",
	  METHODS_PERIOD | METHODS_OUTER, .period = 8, .outer_lr = 1, .outer_momentum = 0.5 },
	{ "diloco", "likewise, by Nesterov's momentum",
	  METHODS_PERIOD | METHODS_OUTER, .period = 32, .outer_lr = 0.7, .outer_momentum = 0.9 },
	{ "async-diloco", "likewise, exchanged during the next period steps",
	  METHODS_PERIOD | METHODS_OUTER, .period = 32, .outer_lr = 0.7, .outer_momentum = 0.9 },
	{ "sgp", "half of the model to one neighbour (stochastic gradient push)",
	  METHODS_DELAY | METHODS_PERIOD, .period = 1 },
	{ "adpsgd", "averages of random pairs in the background",
	  METHODS_PERIOD, .period = 1, .own_pace = true },
};

#define METHODS_COUNT (sizeof(methods_table) / sizeof(*methods_table))

const struct methods_row *methods_find(const char *name)
{
	size_t i;

	for (i = 0; i < METHODS_COUNT; i++)
		if (strcmp(methods_table[i].name, name) == 0)
			return &methods_table[i];
	return NULL;
}

static int methods_refuse(const struct methods_row *row, const char *option, struct why *why)
{
	return why_set(why, -EINVAL, "--method %s has no use for --%s", row->name, option);
}

static int methods_unknown(const char *name, struct why *why)
{
	char known[256] = "";
	size_t i, n = 0;

	for (i = 0; i < METHODS_COUNT && n < sizeof(known); i++)
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? "|" : "",
				      methods_table[i].name);
	return why_set(why, -EINVAL, "--method %s: give one of %s", name, known);
}

/* A number below 0 was not given. */
int methods_settle(struct options *opt, struct why *why)
{
	const struct methods_row *row = methods_find(opt->method);

	if (!row)
		return methods_unknown(opt->method, why);
	if (opt->delay >= 0 && !(row->takes & METHODS_DELAY))
		return methods_refuse(row, "delay", why);
	if (opt->period >= 0 && !(row->takes & METHODS_PERIOD))
		return methods_refuse(row, "period", why);
	if (opt->outer_lr >= 0 && !(row->takes & METHODS_OUTER))
		return methods_refuse(row, "outer-lr", why);
	if (opt->outer_momentum >= 0 && !(row->takes & METHODS_OUTER))
		return methods_refuse(row, "outer-momentum", why);
	if (opt->switch_epoch >= 0 && !(row->takes & METHODS_SWITCH))
		return methods_refuse(row, "switch", why);
	if (opt->weights && !(row->takes & METHODS_WEIGHTS))
		return methods_refuse(row, "weights", why);
	if (opt->fragments && !(row->takes & METHODS_FRAGMENTS))
		return methods_refuse(row, "fragments", why);
	if (opt->adapt && !(row->takes & METHODS_ADAPT))
		return methods_refuse(row, "adapt", why);
	if (opt->replay && !(row->takes & METHODS_ADAPT))
		return methods_refuse(row, "replay", why);
	opt->delay = opt->delay < 0 ? row->delay : opt->delay;
	opt->period = opt->period < 0 ? row->period : opt->period;
	opt->outer_lr = opt->outer_lr < 0 ? row->outer_lr : opt->outer_lr;
	opt->outer_momentum = opt->outer_momentum < 0 ? row->outer_momentum : opt->outer_momentum;
	opt->switch_epoch = opt->switch_epoch < 0 ? opt->epochs / 2.0 : opt->switch_epoch;
	opt->fragments = opt->fragments ? opt->fragments : 1;
	opt->weights = opt->weights ? opt->weights : "equal";
	return 0;
}

void methods_usage(void)
{
	size_t i;

	printf("\nmethods:\n");
	for (i = 0; i < METHODS_COUNT; i++)
		printf("  %-14s %s\n", methods_table[i].name, methods_table[i].about);
}
