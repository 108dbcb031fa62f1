/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/report.c - progress for people, JSON and a plot for everything else.
 * In place: what comes after a line of progress goes up and takes its place; whole lines, because
 * gyrerun passes on nothing less.  Plain: a line of progress comes only when nothing else was
 * printed for a while. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/train/clock.h"
#include "bench/train/plot.h"
#include "bench/train/report.h"

#define REPORT_LINE_S 0.1   /* between two updates of the line in place */
#define REPORT_PLAIN_S 10.0 /* of silence before a line of progress */

struct report {
	const struct options *opt;
	int nranks, steps;
	FILE *text, *json, *plot;
	bool in_place;
	bool standing;	    /* the last line is one of progress, to be replaced */
	double start, last; /* of the run; of the last thing printed */
	struct report_epoch *epochs;
	int nepochs;
};

static bool report_json_on_stdout(const struct options *opt)
{
	return opt->json && strcmp(opt->json, "-") == 0;
}

static FILE *report_text(const struct options *opt)
{
	return report_json_on_stdout(opt) ? stderr : stdout;
}

bool report_in_place(const struct options *opt)
{
	if (strcmp(opt->progress, "auto") == 0)
		return isatty(fileno(report_text(opt)));
	return strcmp(opt->progress, "line") == 0;
}

static FILE *report_open(const char *path, struct why *why)
{
	FILE *file = fopen(path, "w");

	if (!file)
		why_set(why, -errno, "%s: %s", path, strerror(errno));
	return file;
}

int report_create(const struct options *opt, int nranks, int steps, struct report **reportp,
		  struct why *why)
{
	struct report *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	*r = (struct report){
		.opt = opt,
		.nranks = nranks,
		.steps = steps,
		.text = report_text(opt),
		.in_place = report_in_place(opt),
	};
	r->epochs = calloc(opt->epochs, sizeof(*r->epochs));
	if (!r->epochs)
		goto destroy;
	if (opt->json) {
		r->json = report_json_on_stdout(opt) ? stdout : report_open(opt->json, why);
		if (!r->json)
			goto destroy;
	}
	if (opt->plot) {
		r->plot = report_open(opt->plot, why);
		if (!r->plot)
			goto destroy;
	}
	r->start = r->last = clock_seconds();
	*reportp = r;
	return 0;

destroy:
	report_destroy(r);
	return -EIO;
}

void report_destroy(struct report *r)
{
	if (!r)
		return;
	if (r->json && r->json != stdout)
		fclose(r->json);
	if (r->plot)
		fclose(r->plot);
	free(r->epochs);
	free(r);
}

void report_start(struct report *r, size_t nparams, size_t ntrain, size_t ntest)
{
	if (!r)
		return;
	fprintf(r->text,
		"%s with %zu parameters, %d rank%s x %d images a step, %zu images to learn, "
		"%zu to test\n",
		r->opt->model, nparams, r->nranks, r->nranks == 1 ? "" : "s", r->opt->batch, ntrain,
		ntest);
	fflush(r->text);
}

/* "1:02:03", "2:03"; size of text: 16. */
static void report_duration(double seconds, char *text, size_t len)
{
	const long s = lround(seconds);

	if (s >= 3600)
		snprintf(text, len, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(text, len, "%ld:%02ld", s / 60, s % 60);
}

static void report_eta(const struct report *r, double steps_done, char *text, size_t len)
{
	const double elapsed = clock_seconds() - r->start;
	const double total = (double)r->steps * r->opt->epochs;

	report_duration(elapsed * (total - steps_done) / steps_done, text, len);
}

/* Before each line of text. */
static void report_next_line(struct report *r, bool progress)
{
	if (r->standing)
		fputs("\033[A\033[K", r->text);
	r->standing = progress && r->in_place;
	r->last = clock_seconds();
}

void report_step(struct report *r, int number, int step, double loss)
{
	const double now = clock_seconds();
	double done;
	char eta[32];

	if (!r || now - r->last < (r->in_place ? REPORT_LINE_S : REPORT_PLAIN_S))
		return;
	done = (double)r->steps * (number - 1) + step + 1;
	report_eta(r, done, eta, sizeof(eta));
	report_next_line(r, true);
	fprintf(r->text, "epoch %2d/%d  %3d %%  loss %.4f  %.0f images/s  %s to go\n", number,
		r->opt->epochs, 100 * (step + 1) / r->steps, loss,
		done * r->nranks * r->opt->batch / (now - r->start), eta);
	fflush(r->text);
}

static void report_json(const struct report *r, const struct report_epoch *e)
{
	json_t *line = json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:i, s:i}",
				 "epoch", e->number, "loss", e->loss, "accuracy", e->accuracy,
				 "seconds", e->seconds, "images_per_s", e->images_per_s,
				 "compute_ms", e->compute_ms, "exposed_ms", e->exposed_ms,
				 "lr", e->lr, "model", r->opt->model, "ranks", r->nranks,
				 "batch", r->opt->batch);

	json_dumpf(line, r->json, JSON_REAL_PRECISION(9));
	fputc('\n', r->json);
	fflush(r->json);
	json_decref(line);
}

void report_epoch(struct report *r, const struct report_epoch *e)
{
	char eta[32];

	if (!r)
		return;
	r->epochs[r->nepochs++] = *e;
	report_eta(r, (double)r->steps * e->number, eta, sizeof(eta));
	report_next_line(r, false);
	fprintf(r->text,
		"epoch %2d/%d  loss %.4f  test %5.2f %%  %.0f images/s  "
		"step %.1f ms + %.1f ms waiting  %s to go\n",
		e->number, r->opt->epochs, e->loss, 100 * e->accuracy, e->images_per_s,
		e->compute_ms, e->exposed_ms, eta);
	fflush(r->text);
	if (r->json)
		report_json(r, e);
}

int report_finish(struct report *r)
{
	const struct report_epoch *last;
	char title[128], took[32];

	if (!r)
		return 0;
	last = &r->epochs[r->nepochs - 1];
	report_duration(clock_seconds() - r->start, took, sizeof(took));
	fprintf(r->text, "%.2f %% of the test images recognised after %d epoch%s, %s\n",
		100 * last->accuracy, r->nepochs, r->nepochs == 1 ? "" : "s", took);
	if (r->plot) {
		snprintf(title, sizeof(title), "gyre-train: %s, %d rank%s x %d images",
			 r->opt->model, r->nranks, r->nranks == 1 ? "" : "s", r->opt->batch);
		plot_write(r->plot, title, r->epochs, r->nepochs);
	}
	if (fflush(r->text) || (r->plot && fflush(r->plot)) || (r->json && ferror(r->json)))
		return -EIO;
	return 0;
}
