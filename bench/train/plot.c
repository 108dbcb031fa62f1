/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/plot.c - three panels of curves and one of bars, the runs' names below.  Legible on
 * light and dark ground. */
#include <math.h>
#include <stdbool.h>

#include "bench/train/plot.h"

enum {
	PLOT_WIDTH = 900,
	PLOT_WIDE = 360, /* of a panel */
	PLOT_HIGH = 190,
	PLOT_LEFT = 60,
	PLOT_NEXT_LEFT = 516,
	PLOT_TOP = 70,
	PLOT_NEXT_TOP = 330,
	PLOT_NAMES = 576, /* top of the list of runs */
	PLOT_NAME = 18,
	PLOT_TICKS = 5
};

struct plot_axis {
	double min, step;
	int nsteps;
};

struct plot_panel {
	const char *title, *below;
	double (*x)(const struct point *p);
	double (*y)(const struct point *p);
	int left, top;
};

static double plot_time(const struct point *p)
{
	return p->time;
}

static double plot_epoch(const struct point *p)
{
	return p->epoch;
}

static double plot_loss(const struct point *p)
{
	return p->loss;
}

static double plot_accuracy(const struct point *p)
{
	return 100 * p->accuracy;
}

static const struct plot_panel plot_panels[] = {
	{ "test accuracy, %", "seconds", plot_time, plot_accuracy, PLOT_LEFT, PLOT_TOP },
	{ "test accuracy, %", "epochs", plot_epoch, plot_accuracy, PLOT_NEXT_LEFT, PLOT_TOP },
	{ "training loss", "epochs", plot_epoch, plot_loss, PLOT_LEFT, PLOT_NEXT_TOP },
};

/* In the upper row alone. */
static const struct plot_panel plot_panels_of_epochs[] = {
	{ "test accuracy, %", "epochs", plot_epoch, plot_accuracy, PLOT_LEFT, PLOT_TOP },
	{ "training loss", "epochs", plot_epoch, plot_loss, PLOT_NEXT_LEFT, PLOT_TOP },
};

static const char *plot_colour(int run)
{
	static const char *const colours[] = { "#2a6fbb", "#c2571a", "#3a923a", "#b83a4b",
					       "#8465b0", "#8a6d3b", "#d05fa8", "#1a9e9e" };

	return colours[run % (sizeof(colours) / sizeof(*colours))];
}

/* At most PLOT_TICKS steps of 1, 2 or 5 times a power of ten, from a multiple of the step. */
static struct plot_axis plot_fit(double min, double max)
{
	static const double units[] = { 1, 2, 5, 10 };
	const double span = max - min > 1e-9 ? max - min : 1e-9;
	const double power = pow(10, floor(log10(span / PLOT_TICKS)));
	struct plot_axis axis = { 0 };
	int i;

	for (i = 0; i < 4; i++) {
		axis.step = units[i] * power;
		axis.min = floor(min / axis.step) * axis.step;
		axis.nsteps = (int)ceil((max - axis.min) / axis.step - 1e-9);
		if (axis.nsteps <= PLOT_TICKS)
			break;
	}
	if (axis.nsteps < 1)
		axis.nsteps = 1;
	return axis;
}

static struct plot_axis plot_fit_runs(const struct plot_run *runs, int nruns,
				      double (*value)(const struct point *p))
{
	double min = INFINITY, max = -INFINITY;
	int r, i;

	for (r = 0; r < nruns; r++) {
		for (i = 0; i < runs[r].npoints; i++) {
			min = fmin(min, value(&runs[r].points[i]));
			max = fmax(max, value(&runs[r].points[i]));
		}
	}
	return plot_fit(min, max);
}

/* Share of the axis, 0 .. 1. */
static double plot_at(struct plot_axis axis, double value)
{
	return (value - axis.min) / (axis.step * axis.nsteps);
}

static void plot_title(FILE *f, int left, int top, const char *title)
{
	fprintf(f, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", left, top - 12,
		title);
}

static void plot_lines_across(FILE *f, int left, int top, struct plot_axis axis)
{
	double y;
	int i;

	for (i = 0; i <= axis.nsteps; i++) {
		y = top + PLOT_HIGH * (1 - (double)i / axis.nsteps);
		fprintf(f, "<path d=\"M%d %.1fh%d\" stroke=\"#8884\"/>\n", left, y, PLOT_WIDE);
		fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", left - 8,
			y + 4, axis.min + i * axis.step);
	}
}

static void plot_numbers_below(FILE *f, const struct plot_panel *p, struct plot_axis axis)
{
	int i;

	for (i = 0; i <= axis.nsteps; i++)
		fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
			p->left + (double)PLOT_WIDE * i / axis.nsteps, p->top + PLOT_HIGH + 18,
			axis.min + i * axis.step);
	fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", p->left + PLOT_WIDE,
		p->top + PLOT_HIGH + 34, p->below);
}

static void plot_curve(FILE *f, const struct plot_panel *p, const struct plot_run *run,
		       const char *colour, struct plot_axis across, struct plot_axis up)
{
	double x, y;
	int i;

	fprintf(f, "<g fill=\"%s\" stroke=\"%s\">\n", colour, colour);
	fputs("<polyline fill=\"none\" stroke-width=\"2\" points=\"", f);
	for (i = 0; i < run->npoints; i++)
		fprintf(f, "%.1f,%.1f ",
			p->left + PLOT_WIDE * plot_at(across, p->x(&run->points[i])),
			p->top + PLOT_HIGH * (1 - plot_at(up, p->y(&run->points[i]))));
	fputs("\"/>\n", f);
	for (i = 0; i < run->npoints; i++) {
		x = p->x(&run->points[i]);
		y = p->y(&run->points[i]);
		fprintf(f,
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>%.4g, %.4g</title>"
			"</circle>\n",
			p->left + PLOT_WIDE * plot_at(across, x),
			p->top + PLOT_HIGH * (1 - plot_at(up, y)), x, y);
	}
	fputs("</g>\n", f);
}

/* Across from zero, up as far as the values go. */
static void plot_panel(FILE *f, const struct plot_panel *p, const struct plot_run *runs, int nruns)
{
	struct plot_axis across = plot_fit_runs(runs, nruns, p->x);
	const struct plot_axis up = plot_fit_runs(runs, nruns, p->y);
	int r;

	across = plot_fit(0, across.min + across.step * across.nsteps);
	plot_title(f, p->left, p->top, p->title);
	plot_lines_across(f, p->left, p->top, up);
	plot_numbers_below(f, p, across);
	for (r = 0; r < nruns; r++)
		plot_curve(f, p, &runs[r], plot_colour(r), across, up);
}

/* Means over a run: own work, waiting, and what else was not hidden. */
static void plot_split(const struct plot_run *run, double parts[3])
{
	int i;

	parts[0] = parts[1] = parts[2] = 0;
	for (i = 0; i < run->npoints; i++) {
		parts[0] += run->points[i].compute_ms / run->npoints;
		parts[1] += run->points[i].blocked_ms / run->npoints;
		parts[2] += fmax(0, run->points[i].exposed_ms - run->points[i].blocked_ms) /
			    run->npoints;
	}
}

static void plot_bar(FILE *f, int run, double x, double wide, struct plot_axis axis,
		     const double parts[3])
{
	static const char *const names[3] = { "compute", "blocked", "other exposed communication" };
	static const char *const opacity[3] = { "1", "0.45", "0.2" };
	double sum = 0, y, high;
	int i;

	for (i = 0; i < 3; i++) {
		sum += parts[i];
		high = PLOT_HIGH * plot_at(axis, parts[i]);
		y = PLOT_NEXT_TOP + PLOT_HIGH * (1 - plot_at(axis, sum));
		fprintf(f,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" "
			"fill-opacity=\"%s\" stroke=\"%s\"><title>%s: %.4g ms</title></rect>\n",
			x, y, wide, high, plot_colour(run), opacity[i], plot_colour(run), names[i],
			parts[i]);
	}
}

static void plot_bars(FILE *f, const struct plot_run *runs, int nruns)
{
	const double pitch = (double)PLOT_WIDE / nruns;
	struct plot_axis axis;
	double parts[3], most = 0;
	int r;

	for (r = 0; r < nruns; r++) {
		plot_split(&runs[r], parts);
		most = fmax(most, parts[0] + parts[1] + parts[2]);
	}
	axis = plot_fit(0, most);
	plot_title(f, PLOT_NEXT_LEFT, PLOT_NEXT_TOP, "time of a step, ms");
	plot_lines_across(f, PLOT_NEXT_LEFT, PLOT_NEXT_TOP, axis);
	for (r = 0; r < nruns; r++) {
		plot_split(&runs[r], parts);
		plot_bar(f, r, PLOT_NEXT_LEFT + pitch * (r + 0.2), pitch * 0.6, axis, parts);
	}
	fprintf(f,
		"<text x=\"%d\" y=\"%d\" text-anchor=\"end\">full: compute, medium: blocked, "
		"light: other exposed communication</text>\n",
		PLOT_NEXT_LEFT + PLOT_WIDE, PLOT_NEXT_TOP + PLOT_HIGH + 18);
}

/* Text from outside: what means something to XML is left out. */
static void plot_text(FILE *f, const char *text)
{
	for (; *text; text++)
		if (*text != '<' && *text != '&' && (unsigned char)*text >= ' ')
			fputc(*text, f);
}

static void plot_end(FILE *f, const struct point *last, bool only_epochs)
{
	if (only_epochs)
		fprintf(f, ": %.2f %% after %.4g epochs</text>\n", 100 * last->accuracy,
			last->epoch);
	else
		fprintf(f, ": %.2f %% after %.1f s</text>\n", 100 * last->accuracy, last->time);
}

static void plot_names(FILE *f, int top, const struct plot_run *runs, int nruns, bool only_epochs)
{
	int r, y;

	for (r = 0; r < nruns; r++) {
		y = top + PLOT_NAME * r;
		fprintf(f,
			"<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"4\" fill=\"%s\"/>"
			"<text x=\"%d\" y=\"%d\">",
			PLOT_LEFT, y, plot_colour(r), PLOT_LEFT + 22, y + 6);
		plot_text(f, runs[r].label);
		plot_end(f, &runs[r].points[runs[r].npoints - 1], only_epochs);
	}
}

void plot_write(FILE *f, const char *title, const struct plot_run *runs, int nruns,
		bool only_epochs)
{
	const struct plot_panel *const panels = only_epochs ? plot_panels_of_epochs : plot_panels;
	const int npanels = only_epochs ? 2 : 3;
	const int names = only_epochs ? PLOT_NAMES - PLOT_NEXT_TOP + PLOT_TOP : PLOT_NAMES;
	int i;

	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"font-family=\"sans-serif\" font-size=\"12\" fill=\"#888\">\n",
		PLOT_WIDTH, names + PLOT_NAME * nruns, PLOT_WIDTH);
	fprintf(f, "<text x=\"%d\" y=\"30\" font-size=\"15\">", PLOT_LEFT);
	plot_text(f, title);
	fputs("</text>\n", f);
	for (i = 0; i < npanels; i++)
		plot_panel(f, &panels[i], runs, nruns);
	if (!only_epochs)
		plot_bars(f, runs, nruns);
	plot_names(f, names, runs, nruns, only_epochs);
	fputs("</svg>\n", f);
}
