/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/report.c - progress for people, JSON and a plot for everything else.
 * In place: what comes after a line of progress goes up and takes its place; whole lines, because
 * gyrerun passes on nothing less.  Plain: a line of progress comes only when nothing else was
 * printed for a while. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/train/clock.h"
#include "bench/train/logs.h"
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
	double from;	    /* epoch at the start */
	struct point *points;
	int npoints;
	struct schedule_entry schedule; /* the last */
	int nchanges;			/* of it */
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

static FILE *report_open(const char *path, const char *mode, struct why *why)
{
	FILE *file = fopen(path, mode);

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
	r->points = calloc((size_t)opt->epochs * opt->evals, sizeof(*r->points));
	if (!r->points)
		goto destroy;
	if (opt->json) {
		r->json = report_json_on_stdout(opt)
				  ? stdout
				  : report_open(opt->json, opt->resume ? "a" : "w", why);
		if (!r->json)
			goto destroy;
	}
	if (opt->plot) {
		r->plot = report_open(opt->plot, "w", why);
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
	free(r->points);
	free(r);
}

void report_start(struct report *r, size_t nparams, size_t ntrain, size_t ntest, double epoch)
{
	if (!r)
		return;
	r->from = epoch;
	fprintf(r->text,
		"%s with %zu parameters, %d rank%s x %d images a step, %zu images to learn, "
		"%zu to test\n",
		r->opt->model, nparams, r->nranks, r->nranks == 1 ? "" : "s", r->opt->batch, ntrain,
		ntest);
	fflush(r->text);
	if (r->json)
		logs_start(r->json, r->opt, r->nranks, nparams, epoch);
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

static void report_eta(const struct report *r, double epoch, char *text, size_t len)
{
	const double elapsed = clock_seconds() - r->start;

	report_duration(elapsed * fmax(0, r->opt->epochs - epoch) / (epoch - r->from), text, len);
}

/* Before each line of text. */
static void report_next_line(struct report *r, bool progress)
{
	if (r->standing)
		fputs("\033[A\033[K", r->text);
	r->standing = progress && r->in_place;
	r->last = clock_seconds();
}

void report_step(struct report *r, double epoch, double loss)
{
	const double now = clock_seconds();
	double per_s;
	char eta[32];

	if (!r || epoch <= r->from ||
	    now - r->last < (r->in_place ? REPORT_LINE_S : REPORT_PLAIN_S))
		return;
	report_eta(r, epoch, eta, sizeof(eta));
	report_next_line(r, true);
	per_s = (epoch - r->from) * r->steps * r->nranks * r->opt->batch / (now - r->start);
	fprintf(r->text, "epoch %5.2f/%d  loss %.4f  %.0f images/s  %s to go\n", epoch,
		r->opt->epochs, loss, per_s, eta);
	fflush(r->text);
}

void report_schedule(struct report *r, const struct schedule_entry *now)
{
	const struct schedule_entry was = r ? r->schedule : *now;

	if (!r || now->round == was.round)
		return;
	r->schedule = *now;
	if (r->json)
		logs_schedule(r->json, now);
	if (!was.round) /* what the run begins with */
		return;
	r->nchanges++;
	report_next_line(r, false);
	fprintf(r->text, "from round %llu on: delay %u, was %u; period %u, was %u\n",
		(unsigned long long)now->round, now->delay, was.delay, now->period, was.period);
	fflush(r->text);
}

void report_point(struct report *r, const struct point *p)
{
	char eta[32];

	if (!r)
		return;
	r->points[r->npoints++] = *p;
	report_eta(r, p->epoch, eta, sizeof(eta));
	report_next_line(r, false);
	fprintf(r->text,
		"epoch %*.*f/%d  loss %.4f  test %5.2f %%  %.0f images/s  "
		"step %.1f ms + %.1f ms exchanging  %s to go\n",
		r->opt->evals > 1 ? 5 : 2, r->opt->evals > 1 ? 2 : 0, p->epoch, r->opt->epochs,
		p->loss, 100 * p->accuracy, p->images_per_s, p->compute_ms, p->exposed_ms, eta);
	fflush(r->text);
	if (r->json)
		logs_point(r->json, r->opt, r->nranks, p);
}

static void report_plot(const struct report *r)
{
	struct plot_run run = { .points = r->points, .npoints = r->npoints };
	char label[256];

	logs_label(r->opt, r->nranks, label, sizeof(label));
	run.label = label;
	plot_write(r->plot, "gyre-train", &run, 1, false);
}

static void report_rates(const struct report *r, const struct report_end *end)
{
	if (!end->has_rates)
		fprintf(r->text,
			"--settle %d: no rates, as rank %d took only %lld steps; choose a smaller "
			"--settle or a longer run\n",
			r->opt->settle, end->slowest, (long long)end->fewest_steps);
	else if (strcmp(r->opt->method, "sync") != 0)
		fprintf(r->text, "%s: %.1f steps/s, %.1f %% of the time blocked, %.1f MB sent\n",
			r->opt->method, end->steps_per_s, 100 * end->blocked_share,
			end->megabytes);
}

static void report_result(const struct report *r, const struct report_end *end)
{
	char took[32];

	report_duration(clock_seconds() - r->start, took, sizeof(took));
	fprintf(r->text, "%.2f %% of the test images recognised after %.4g epoch%s, %s\n",
		100 * end->accuracy, end->epoch, end->epoch == 1 ? "" : "s", took);
	report_rates(r, end);
	if (r->schedule.round)
		fprintf(r->text, "delay %u, period %u at the end, after %d change%s\n",
			r->schedule.delay, r->schedule.period, r->nchanges,
			r->nchanges == 1 ? "" : "s");
	if (r->opt->until > 0 && end->until < 0)
		fprintf(r->text, "%.4g %% was not reached\n", 100 * r->opt->until);
	else if (r->opt->until > 0)
		fprintf(r->text, "%.4g %% after %.2f s\n", 100 * r->opt->until, end->until);
}

/* Errors of earlier writes count, too; their errno is lost by now. */
static int report_check(FILE *f, const char *name)
{
	if (!f || (fflush(f) == 0 && !ferror(f)))
		return 0;
	fprintf(stderr, "gyre-train: %s could not be written\n", name);
	return -EIO;
}

int report_finish(struct report *r, const struct report_end *end)
{
	int err[3];

	if (!r)
		return 0;
	report_result(r, end);
	if (r->json)
		logs_end(r->json, end);
	if (r->plot && r->npoints)
		report_plot(r);
	err[0] = report_check(r->text, r->text == stdout ? "standard output" : "standard error");
	err[1] = report_check(r->plot, r->opt->plot);
	err[2] = report_check(r->json, r->json == stdout ? "standard output" : r->opt->json);
	return err[0] ? err[0] : err[1] ? err[1] : err[2];
}
