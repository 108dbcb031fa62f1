/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/options.c - the command line: one table gives parser, limits and help. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/data.h"
#include "bench/train/methods.h"
#include "bench/train/options.h"
#include "bench/train/pace.h"

enum option_kind { OPTION_INT, OPTION_REAL, OPTION_TEXT, OPTION_CHOICE, OPTION_FLAG };

struct option_desc {
	const char *name;
	char letter; /* 0: only the long form */
	enum option_kind kind;
	size_t offset;	 /* of the field of struct options */
	const char *arg; /* in the help; of a choice, what may be chosen, divided by | */
	double min, max; /* of numbers */
	const char *help;
};

#define OPTION_MOST 1000000 /* of delay and period */
#define AT(field) offsetof(struct options, field)

static const struct option_desc option_table[] = {
	{ "ranks", 'n', OPTION_INT, AT(ranks), "N", 1, 4096,
	  "start N ranks on this machine" },
	{ "model", 0, OPTION_CHOICE, AT(model), "mlp|cnn", 0, 0,
	  "network to train" },
	{ "epochs", 0, OPTION_INT, AT(epochs), "N", 1, 100000,
	  "passes over the training images" },
	{ "batch", 0, OPTION_INT, AT(batch), "N", 1, 65536,
	  "images per rank and step" },
	{ "lr", 0, OPTION_REAL, AT(lr), "X", 1e-12, 1e6,
	  "learning rate" },
	{ "momentum", 0, OPTION_REAL, AT(momentum), "X", 0, 1,
	  "momentum" },
	{ "nesterov", 0, OPTION_FLAG, AT(nesterov), NULL, 0, 0,
	  "Nesterov's form of momentum" },
	{ "weight-decay", 0, OPTION_REAL, AT(weight_decay), "X", 0, 1,
	  "weight decay" },
	{ "lr-schedule", 0, OPTION_CHOICE, AT(schedule), "constant|step|cosine", 0, 0,
	  "course of the learning rate" },
	{ "warmup", 0, OPTION_REAL, AT(warmup), "X", 0, 1e5,
	  "epochs of linear rise before it" },
	{ "seed", 0, OPTION_INT, AT(seed), "N", 0, 2147483647,
	  "seed of weights and shuffling" },
	{ "data", 0, OPTION_TEXT, AT(data), "DIR", 0, 0,
	  "folder of the four IDX files" },
	{ "limit", 0, OPTION_INT, AT(limit), "N", 0, 2147483647,
	  "use only the first N images of each set" },
	{ "bucket-kib", 0, OPTION_INT, AT(bucket_kib), "N", 1, 1048576,
	  "gradient bytes per allreduce, in KiB" },
	{ "shards", 0, OPTION_CHOICE, AT(shards), "iid|sorted|dirichlet", 0, 0,
	  "how images are shared out over ranks" },
	{ "alpha", 0, OPTION_REAL, AT(alpha), "X", 1e-3, 1e6,
	  "of dirichlet: the smaller, the less even" },
	{ "method", 0, OPTION_TEXT, AT(method), "NAME", 0, 0,
	  "how ranks work together, see below [sync]" },
	{ "delay", 0, OPTION_INT, AT(delay), "N", 0, OPTION_MOST,
	  "steps after which an exchange is due" },
	{ "period", 0, OPTION_INT, AT(period), "N", 1, OPTION_MOST,
	  "steps between two exchanges" },
	{ "adapt", 0, OPTION_TEXT, AT(adapt), "DELAY:PERIOD", 0, 0,
	  "choose both by measuring, up to these" },
	{ "replay", 0, OPTION_TEXT, AT(replay), "FILE", 0, 0,
	  "take them from the log of a run with --adapt" },
	{ "fragments", 0, OPTION_INT, AT(fragments), "N", 1, 1024,
	  "parts of the model, exchanged in turn" },
	{ "weights", 0, OPTION_CHOICE, AT(weights), "equal|steps", 0, 0,
	  "what counts a rank's share of an average" },
	{ "switch", 0, OPTION_REAL, AT(switch_epoch), "X", 0, 1e5,
	  "epoch at which postlocal becomes local" },
	{ "outer-lr", 0, OPTION_REAL, AT(outer_lr), "X", 0, 1e6,
	  "learning rate over exchanges" },
	{ "outer-momentum", 0, OPTION_REAL, AT(outer_momentum), "X", 0, 1,
	  "momentum over exchanges" },
	{ "step-time", 0, OPTION_REAL, AT(step_time), "MS", 0, 1e6,
	  "pad steps to so many milliseconds" },
	{ "payload", 0, OPTION_REAL, AT(payload), "BYTES", 0, 1e10,
	  "what is exchanged beside the model" },
	{ "straggler", 0, OPTION_TEXT, AT(straggler), "RANK:FACTOR", 0, 0,
	  "a slow rank; or random:P:FACTOR, all now and then" },
	{ "wan", 0, OPTION_TEXT, AT(wan), "SETTINGS", 0, 0,
	  "a slow network: rtt=80ms,rate=40mbit,loss=0.1%" },
	{ "evals", 0, OPTION_INT, AT(evals), "N", 1, 10000,
	  "tests in an epoch" },
	{ "settle", 0, OPTION_INT, AT(settle), "N", 0, 2147483647,
	  "steps that the rates at the end leave out" },
	{ "until", 0, OPTION_REAL, AT(until), "X", 0, 1,
	  "stop when so much of the test is right" },
	{ "checkpoint", 0, OPTION_TEXT, AT(checkpoint), "FILE", 0, 0,
	  "after each test, save the run to FILE.*" },
	{ "resume", 0, OPTION_FLAG, AT(resume), NULL, 0, 0,
	  "go on from --checkpoint" },
	{ "json", 0, OPTION_TEXT, AT(json), "FILE", 0, 0,
	  "one JSON object per test; - is stdout" },
	{ "plot", 0, OPTION_TEXT, AT(plot), "FILE", 0, 0,
	  "accuracy, loss and times as SVG" },
	{ "progress", 0, OPTION_CHOICE, AT(progress), "auto|line|plain", 0, 0,
	  "a line rewritten in place, or plain lines" },
	{ "help", 'h', OPTION_FLAG, AT(help), NULL, 0, 0,
	  "this text" },
	{ "version", 'V', OPTION_FLAG, AT(version), NULL, 0, 0,
	  "the version" },
};

#define OPTION_COUNT ((int)(sizeof(option_table) / sizeof(*option_table)))

static const struct options option_defaults = {
	.model = "cnn",
	.epochs = 6,
	.batch = 32,
	.lr = 0.1,
	.momentum = 0.9,
	.weight_decay = 5e-4,
	.warmup = 0.5,
	.schedule = "cosine",
	.seed = 1,
	.bucket_kib = 256,
	.progress = "auto",
	.data = DATA_DIR,
	.shards = "iid",
	.alpha = 0.5,
	.method = "sync",
	.delay = -1,
	.period = -1,
	.switch_epoch = -1,
	.outer_lr = -1,
	.outer_momentum = -1,
	.evals = 1,
};

static void option_set_number(const struct option_desc *d, double value, void *field)
{
	if (d->kind == OPTION_INT)
		*(int *)field = (int)value;
	else
		*(double *)field = value;
}

static int option_number(const struct option_desc *d, const char *text, void *field)
{
	char *end;
	const double value = strtod(text, &end);

	/* A NaN is in no range. */
	if (end == text || *end || !(value >= d->min && value <= d->max) ||
	    (d->kind == OPTION_INT && value != floor(value)))
		return -EINVAL;
	option_set_number(d, value, field);
	return 0;
}

static int option_choice(const struct option_desc *d, const char *text, const char **field)
{
	const size_t len = strlen(text);
	const char *at = d->arg;

	while (strncmp(at, text, len) != 0 || (at[len] && at[len] != '|')) {
		at = strchr(at, '|');
		if (!at)
			return -EINVAL;
		at++;
	}
	*field = text;
	return 0;
}

static int option_set(const struct option_desc *d, const char *text, struct options *opt)
{
	void *field = (char *)opt + d->offset;

	switch (d->kind) {
	case OPTION_INT:
	case OPTION_REAL:
		return option_number(d, text, field);
	case OPTION_CHOICE:
		return option_choice(d, text, field);
	case OPTION_TEXT:
		*(const char **)field = text;
		return 0;
	default:
		*(bool *)field = true;
		return 0;
	}
}

static int option_refuse(const struct option_desc *d, const char *text, bool speak)
{
	if (!speak)
		return -EINVAL;
	fprintf(stderr, "gyre-train: --%s %s: ", d->name, text);
	if (d->kind == OPTION_CHOICE)
		fprintf(stderr, "give one of %s\n", d->arg);
	else
		fprintf(stderr, "give %s from %.10g to %.10g\n",
			d->kind == OPTION_INT ? "a whole number" : "a number", d->min, d->max);
	return -EINVAL;
}

static const struct option_desc *option_find(int letter)
{
	int i;

	for (i = 0; i < OPTION_COUNT; i++)
		if (option_table[i].letter == letter)
			return &option_table[i];
	return NULL;
}

/* getopt_long gives 256 + index for a long option and the letter for a short one. */
static int option_next(int argc, char **argv, const struct option_desc **descp)
{
	struct option longs[OPTION_COUNT + 1] = { 0 };
	int i, got;

	for (i = 0; i < OPTION_COUNT; i++)
		longs[i] = (struct option){
			.name = option_table[i].name,
			.has_arg = option_table[i].kind != OPTION_FLAG,
			.val = 256 + i,
		};
	got = getopt_long(argc, argv, "n:hV", longs, NULL);
	*descp = got >= 256 ? &option_table[got - 256] : option_find(got);
	return got;
}

static int options_adapt(struct options *opt, struct why *why)
{
	int len = 0;

	if (!opt->adapt)
		return 0;
	if (opt->replay)
		return why_set(why, -EINVAL, "--adapt chooses what --replay repeats: give one");
	sscanf(opt->adapt, "%7d:%7d%n", &opt->adapt_delay, &opt->adapt_period, &len);
	if (!len || opt->adapt[len] || opt->adapt_delay < 1 || opt->adapt_delay > OPTION_MOST ||
	    opt->adapt_period < 1 || opt->adapt_period > OPTION_MOST)
		return why_set(why, -EINVAL,
			       "--adapt %s: give DELAY:PERIOD, whole numbers from 1 to %d",
			       opt->adapt, OPTION_MOST);
	return 0;
}

/* What no single option shows. */
static int options_check(struct options *opt, struct why *why)
{
	struct pace pace;
	int err;

	if (opt->warmup >= opt->epochs)
		return why_set(why, -EINVAL, "--warmup must be less than --epochs");
	if (opt->resume && !opt->checkpoint)
		return why_set(why, -EINVAL, "--resume needs --checkpoint");
	if (pace_init(&pace, opt->straggler, 0, 0, 0, why))
		return -EINVAL;
	err = methods_settle(opt, why);
	if (!err)
		err = options_adapt(opt, why);
	if (!err && !strcmp(opt->method, "postlocal") && opt->switch_epoch >= opt->epochs)
		return why_set(why, -EINVAL, "--switch must be less than --epochs");
	return err;
}

int options_parse(int argc, char **argv, bool speak, struct options *opt)
{
	const struct option_desc *d;
	struct why why;
	int got;

	*opt = option_defaults;
	opterr = speak;
	while ((got = option_next(argc, argv, &d)) != -1) {
		if (got == '?')
			return -EINVAL;
		if (option_set(d, optarg, opt))
			return option_refuse(d, optarg, speak);
	}
	if (optind < argc) {
		if (speak)
			fprintf(stderr, "gyre-train: no such argument: %s\n", argv[optind]);
		return -EINVAL;
	}
	if (options_check(opt, &why)) {
		if (speak)
			fprintf(stderr, "gyre-train: %s\n", why.text);
		return -EINVAL;
	}
	return 0;
}

static void option_show_default(const struct option_desc *d)
{
	const void *field = (const char *)&option_defaults + d->offset;

	if (d->kind == OPTION_INT && *(const int *)field > 0)
		printf(" [%d]", *(const int *)field);
	else if (d->kind == OPTION_REAL && *(const double *)field >= 0)
		printf(" [%g]", *(const double *)field);
	else if (d->kind == OPTION_CHOICE && *(const char *const *)field)
		printf(" [%s]", *(const char *const *)field);
}

void options_usage(void)
{
	const struct option_desc *d;
	char left[64], letter[8];

	printf("usage: gyre-train [options]\n"
	       "Trains a network on Fashion-MNIST, the images shared out over the ranks of a job.\n"
	       "As many ranks as -n says, or as gyrerun started; else one.\n\n");
	for (d = option_table; d < option_table + OPTION_COUNT; d++) {
		snprintf(letter, sizeof(letter), d->letter ? "-%c," : "   ", d->letter);
		snprintf(left, sizeof(left), "%s --%s %s", letter, d->name, d->arg ? d->arg : "");
		printf("  %-38s %s", left, d->help);
		option_show_default(d);
		putchar('\n');
	}
	methods_usage();
	printf("\ngyre-train plot [-e] FILE.json ... -o FILE.svg\n"
	       "  one picture of several runs, from what --json has written; -e: over epochs\n");
}
