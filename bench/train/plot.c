/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/plot.c - two panels over one axis of epochs.  Legible on light and dark ground. */
#include <math.h>

#include "bench/train/plot.h"

enum {
	PLOT_WIDTH = 640,
	PLOT_HEIGHT = 480,
	PLOT_LEFT = 60,
	PLOT_RIGHT = 616,
	PLOT_FIRST_TOP = 64, /* of the upper panel */
	PLOT_NEXT_TOP = 268,
	PLOT_PANEL = 164, /* height of one */
	PLOT_TICKS = 5
};

struct plot_axis {
	double min, step;
	int nsteps;
};

struct plot_panel {
	const char *title, *format; /* of the numbers at the axis */
	const char *colour;
	double (*value)(const struct report_epoch *epoch);
	int top;
};

static double plot_loss(const struct report_epoch *e)
{
	return e->loss;
}

static double plot_accuracy(const struct report_epoch *e)
{
	return 100 * e->accuracy;
}

static const struct plot_panel plot_panels[] = {
	{ "training loss", "%.3g", "#c2571a", plot_loss, PLOT_FIRST_TOP },
	{ "test accuracy, %", "%.4g", "#2a6fbb", plot_accuracy, PLOT_NEXT_TOP },
};

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

static double plot_x(int index, int count)
{
	return count == 1 ? (PLOT_LEFT + PLOT_RIGHT) / 2.0
			  : PLOT_LEFT + (double)(PLOT_RIGHT - PLOT_LEFT) * index / (count - 1);
}

static double plot_y(const struct plot_panel *p, struct plot_axis axis, double value)
{
	return p->top + PLOT_PANEL * (1 - (value - axis.min) / (axis.step * axis.nsteps));
}

static void plot_grid(FILE *f, const struct plot_panel *p, struct plot_axis axis)
{
	double value, y;
	int i;

	fprintf(f, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\" fill=\"%s\">%s</text>\n",
		PLOT_LEFT, p->top - 10, p->colour, p->title);
	for (i = 0; i <= axis.nsteps; i++) {
		value = axis.min + i * axis.step;
		y = plot_y(p, axis, value);
		fprintf(f, "<path d=\"M%d %.1fH%d\" stroke=\"#8884\"/>\n",
			PLOT_LEFT, y, PLOT_RIGHT);
		fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", PLOT_LEFT - 8, y + 4);
		fprintf(f, p->format, value);
		fputs("</text>\n", f);
	}
}

static void plot_curve(FILE *f, const struct plot_panel *p, const struct report_epoch *epochs,
		       int count)
{
	double min = p->value(epochs), max = min;
	struct plot_axis axis;
	int i;

	for (i = 1; i < count; i++) {
		min = fmin(min, p->value(&epochs[i]));
		max = fmax(max, p->value(&epochs[i]));
	}
	axis = plot_fit(min, max);
	plot_grid(f, p, axis);
	fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", p->colour);
	for (i = 0; i < count; i++)
		fprintf(f, "%.1f,%.1f ", plot_x(i, count), plot_y(p, axis, p->value(&epochs[i])));
	fputs("\"/>\n", f);
	for (i = 0; i < count; i++)
		fprintf(f,
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\">"
			"<title>epoch %d: %.4g</title></circle>\n",
			plot_x(i, count), plot_y(p, axis, p->value(&epochs[i])), p->colour,
			epochs[i].number, p->value(&epochs[i]));
}

static void plot_epochs(FILE *f, const struct report_epoch *epochs, int count)
{
	const int every = (count + 9) / 10;
	int i;

	for (i = 0; i < count; i += every)
		fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n",
			plot_x(i, count), PLOT_NEXT_TOP + PLOT_PANEL + 18, epochs[i].number);
	fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">epoch</text>\n", PLOT_RIGHT,
		PLOT_NEXT_TOP + PLOT_PANEL + 36);
}

void plot_write(FILE *f, const char *title, const struct report_epoch *epochs, int count)
{
	size_t i;

	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"font-family=\"sans-serif\" font-size=\"12\" fill=\"#888\">\n",
		PLOT_WIDTH, PLOT_HEIGHT, PLOT_WIDTH);
	fprintf(f, "<text x=\"%d\" y=\"28\" font-size=\"15\">%s</text>\n", PLOT_LEFT, title);
	for (i = 0; i < sizeof(plot_panels) / sizeof(*plot_panels); i++)
		plot_curve(f, &plot_panels[i], epochs, count);
	plot_epochs(f, epochs, count);
	fputs("</svg>\n", f);
}
