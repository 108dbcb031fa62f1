/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/logs.c - JSON logs written, and read again for a plot. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/logs.h"
#include "bench/train/methods.h"
#include "bench/train/plot.h"

#define LOGS_LABEL 256

struct logs_run {
	char label[LOGS_LABEL];
	struct point *points;
	int npoints;
};

static void logs_write(FILE *file, json_t *line)
{
	json_dumpf(line, file, JSON_REAL_PRECISION(9));
	fputc('\n', file);
	fflush(file);
	json_decref(line);
}

void logs_label(const struct options *opt, int nranks, char *label, size_t len)
{
	const struct methods_row *row = methods_find(opt->method);
	char delay[32] = "", period[32] = "", changes[32] = "", parts[32] = "";
	char slow[128] = "", shards[64] = "";

	if (row->takes & METHODS_DELAY)
		snprintf(delay, sizeof(delay), ", delay %d", opt->delay);
	if (row->takes & METHODS_PERIOD)
		snprintf(period, sizeof(period), ", period %d", opt->period);
	if (opt->adapt || opt->replay)
		snprintf(changes, sizeof(changes), ", then %s",
			 opt->adapt ? "adapted" : "replayed");
	if (opt->fragments > 1)
		snprintf(parts, sizeof(parts), ", %d fragments", opt->fragments);
	if (opt->straggler)
		snprintf(slow, sizeof(slow), ", straggler %s", opt->straggler);
	if (strcmp(opt->shards, "iid") != 0)
		snprintf(shards, sizeof(shards), ", %s shards", opt->shards);
	snprintf(label, len, "%s%s%s%s%s, %s, %d rank%s x %d images%s%s", opt->method, delay,
		 period, changes, parts, opt->model, nranks, nranks == 1 ? "" : "s", opt->batch,
		 slow, shards);
}

void logs_start(FILE *file, const struct options *opt, int nranks, size_t nparams, double epoch)
{
	char label[LOGS_LABEL];

	logs_label(opt, nranks, label, sizeof(label));
	logs_write(file,
		   json_pack("{s:{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:s, s:f, s:f, s:s, "
			     "s:f, s:f, s:b, s:f, s:s, s:f, s:i, s:i, s:I, s:f, s:i, s:s, s:s, "
			     "s:i}}",
			     "run", "label", label, "method", opt->method, "model", opt->model,
			     "ranks", nranks, "batch", opt->batch, "delay", opt->delay, "period",
			     opt->period, "outer_lr", opt->outer_lr, "outer_momentum",
			     opt->outer_momentum, "weights", opt->weights, "step_time_ms",
			     opt->step_time, "payload", opt->payload, "straggler",
			     opt->straggler ? opt->straggler : "", "lr", opt->lr, "momentum",
			     opt->momentum, "nesterov", opt->nesterov, "weight_decay",
			     opt->weight_decay, "shards", opt->shards, "alpha", opt->alpha,
			     "epochs", opt->epochs, "seed", opt->seed, "parameters",
			     (json_int_t)nparams, "from_epoch", epoch, "fragments", opt->fragments,
			     "adapt", opt->adapt ? opt->adapt : "", "replay",
			     opt->replay ? opt->replay : "", "settle", opt->settle));
}

/* The numbers of a test, under their names in the log. */
static const struct {
	const char *name;
	size_t offset;
} logs_numbers[] = {
	{ "epoch", offsetof(struct point, epoch) },
	{ "time", offsetof(struct point, time) },
	{ "loss", offsetof(struct point, loss) },
	{ "accuracy", offsetof(struct point, accuracy) },
	{ "seconds", offsetof(struct point, seconds) },
	{ "images_per_s", offsetof(struct point, images_per_s) },
	{ "steps_per_s", offsetof(struct point, steps_per_s) },
	{ "compute_ms", offsetof(struct point, compute_ms) },
	{ "exposed_ms", offsetof(struct point, exposed_ms) },
	{ "blocked_ms", offsetof(struct point, blocked_ms) },
	{ "megabytes", offsetof(struct point, megabytes) },
	{ "lr", offsetof(struct point, lr) },
};

#define LOGS_NUMBERS (sizeof(logs_numbers) / sizeof(*logs_numbers))

static double *logs_number(struct point *p, size_t i)
{
	return (void *)((char *)p + logs_numbers[i].offset);
}

void logs_point(FILE *file, const struct options *opt, int nranks, const struct point *point)
{
	json_t *line = json_object();
	struct point p = *point;
	size_t i;

	for (i = 0; i < LOGS_NUMBERS; i++)
		json_object_set_new(line, logs_numbers[i].name, json_real(*logs_number(&p, i)));
	json_object_set_new(line, "method", json_string(opt->method));
	json_object_set_new(line, "model", json_string(opt->model));
	json_object_set_new(line, "ranks", json_integer(nranks));
	json_object_set_new(line, "batch", json_integer(opt->batch));
	logs_write(file, line);
}

void logs_schedule(FILE *file, const struct schedule_entry *entry)
{
	logs_write(file, json_pack("{s:{s:I, s:I, s:I}}", "schedule", "round",
				   (json_int_t)entry->round, "delay", (json_int_t)entry->delay,
				   "period", (json_int_t)entry->period));
}

static json_t *logs_real_if(bool known, double value)
{
	return known ? json_real(value) : json_null();
}

void logs_end(FILE *file, const struct report_end *end)
{
	char crc[16];

	snprintf(crc, sizeof(crc), "%08x", end->crc);
	logs_write(file,
		   json_pack("{s:{s:f, s:f, s:f, s:o, s:o, s:o, s:f, s:s}}", "end", "accuracy",
			     end->accuracy, "epochs", end->epoch, "time", end->time, "steps_per_s",
			     logs_real_if(end->has_rates, end->steps_per_s), "blocked_share",
			     logs_real_if(end->has_rates, end->blocked_share), "until_s",
			     logs_real_if(end->until >= 0, end->until), "megabytes",
			     end->megabytes, "crc", crc));
}

/* ---- reading ---- */

struct logs_file {
	const char *path;
	FILE *file;
	char *text; /* the line */
	size_t size;
	int number;	    /* of the line */
	const char *wanted; /* what the reader wants of the file, for advice */
};

static int logs_open(struct logs_file *f, const char *path, const char *wanted, struct why *why)
{
	*f = (struct logs_file){ .path = path, .file = fopen(path, "r"), .wanted = wanted };
	return f->file ? 0 : why_set(why, -errno, "%s: %s", path, strerror(errno));
}

static void logs_close(struct logs_file *f)
{
	free(f->text);
	fclose(f->file);
}

/*
 * The next line's object, for the caller to release; NULL at the end.  A line that is none, such as
 * the last of a run that was killed, is an error: what it would have said is missing.
 */
static int logs_next(struct logs_file *f, json_t **linep, struct why *why)
{
	json_error_t error = { .column = 1 };
	json_t *line;
	ssize_t len;

	*linep = NULL;
	do {
		errno = 0;
		len = getline(&f->text, &f->size, f->file);
		if (len < 0 && feof(f->file))
			return 0;
		if (len < 0)
			return why_set(why, -EIO, "%s: %s", f->path, strerror(errno));
		f->number++;
	} while (strspn(f->text, " \t\r\n") == (size_t)len);
	line = json_loadb(f->text, (size_t)len, 0, &error);
	if (json_is_object(line)) {
		*linep = line;
		return 0;
	}
	json_decref(line);
	return why_set(why, -EBADMSG,
		       "%s: line %d is not a JSON object, from column %d on; put it right, or take "
		       "it out if it was not %s",
		       f->path, f->number, error.column, f->wanted);
}

/* A line that has a test's numbers; others only tell the name. */
static int logs_take_line(struct logs_run *run, json_t *line)
{
	const char *label =
		json_string_value(json_object_get(json_object_get(line, "run"), "label"));
	struct point p = { 0 }, *more;
	size_t i;

	if (label)
		snprintf(run->label, sizeof(run->label), "%s", label);
	if (!json_is_number(json_object_get(line, "accuracy")))
		return 0;
	for (i = 0; i < LOGS_NUMBERS; i++)
		*logs_number(&p, i) =
			json_number_value(json_object_get(line, logs_numbers[i].name));
	more = realloc(run->points, (run->npoints + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	run->points = more;
	run->points[run->npoints++] = p;
	return 0;
}

static int logs_read(const char *path, struct logs_run *run)
{
	struct why why = { "out of memory" };
	struct logs_file f;
	json_t *line;
	int err;

	err = logs_open(&f, path, "a test", &why);
	if (err)
		goto say;
	snprintf(run->label, sizeof(run->label), "%s", path);
	err = logs_next(&f, &line, &why);
	while (!err && line) {
		err = logs_take_line(run, line);
		json_decref(line);
		if (!err)
			err = logs_next(&f, &line, &why);
	}
	logs_close(&f);
	if (!err && !run->npoints)
		err = why_set(&why, -EBADMSG, "%s: no tests of a run in it", path);
say:
	if (err)
		fprintf(stderr, "gyre-train: %s\n", why.text);
	return err;
}

/* The schedule's beginning is by these. */
static int logs_check_start(const json_t *run, const char *path, const struct options *opt,
			    int nranks, struct why *why)
{
	const char *method = json_string_value(json_object_get(run, "method"));
	const json_int_t ranks = json_integer_value(json_object_get(run, "ranks"));
	const json_int_t delay = json_integer_value(json_object_get(run, "delay"));
	const json_int_t period = json_integer_value(json_object_get(run, "period"));

	if (method && !strcmp(method, opt->method) && ranks == nranks && delay == opt->delay &&
	    period == opt->period)
		return 0;
	return why_set(why, -EINVAL,
		       "--replay %s: that run began with --method %s --delay %" JSON_INTEGER_FORMAT
		       " --period %" JSON_INTEGER_FORMAT " on %" JSON_INTEGER_FORMAT " ranks",
		       path, method ? method : "?", delay, period, ranks);
}

static int logs_take_schedule(const json_t *line, struct schedule *schedule)
{
	json_int_t round, delay, period;
	struct schedule_entry entry;

	if (json_unpack((json_t *)line, "{s:I, s:I, s:I}", "round", &round, "delay", &delay,
			"period", &period) ||
	    round < 1 || delay < 0 || delay > UINT32_MAX || period < 1 || period > UINT32_MAX)
		return -EBADMSG;
	entry = (struct schedule_entry){ (uint64_t)round, (uint32_t)delay, (uint32_t)period };
	return schedule_add(schedule, &entry);
}

int logs_read_schedule(const char *path, const struct options *opt, int nranks,
		       struct schedule *schedule, struct why *why)
{
	struct logs_file f;
	bool started = false;
	json_t *line, *part;
	int err = logs_open(&f, path, "a \"run\" or a \"schedule\"", why);

	if (err)
		return err;
	err = logs_next(&f, &line, why);
	while (!err && line) {
		part = json_object_get(line, "run");
		if (part)
			err = logs_check_start(part, path, opt, nranks, why);
		started = started || part;
		part = json_object_get(line, "schedule");
		if (!err && part && logs_take_schedule(part, schedule))
			err = why_set(why, -EBADMSG,
				      "--replay %s: line %d: no schedule can be like this", path,
				      f.number);
		json_decref(line);
		if (!err)
			err = logs_next(&f, &line, why);
	}
	logs_close(&f);
	if (!err && !(started && schedule->count))
		err = why_set(why, -EBADMSG, "--replay %s: not the log of a run with --adapt",
			      path);
	return err;
}

static int logs_draw(const char *out, const struct logs_run *logs, int nruns, bool only_epochs)
{
	struct plot_run *runs = calloc(nruns, sizeof(*runs));
	FILE *file;
	int i, failed;

	if (!runs)
		return -ENOMEM;
	for (i = 0; i < nruns; i++)
		runs[i] = (struct plot_run){ logs[i].label, logs[i].points, logs[i].npoints };
	file = fopen(out, "w");
	if (file)
		plot_write(file, "gyre-train", runs, nruns, only_epochs);
	free(runs);
	failed = !file || fclose(file);
	if (failed)
		fprintf(stderr, "gyre-train: %s: %s\n", out, strerror(errno));
	return failed ? -EIO : 0;
}

int logs_plot(int argc, char **argv)
{
	struct logs_run *logs = calloc(argc, sizeof(*logs));
	const char *out = NULL;
	int err = logs ? 0 : -ENOMEM, nruns = 0, got, i;
	bool only_epochs = false;

	while ((got = getopt(argc, argv, "eo:")) == 'o' || got == 'e') {
		if (got == 'o')
			out = optarg;
		else
			only_epochs = true;
	}
	if (got != -1 || !out || optind == argc) {
		fprintf(stderr, "usage: gyre-train plot [-e] FILE.json ... -o FILE.svg\n");
		free(logs);
		return 2;
	}
	for (i = optind; !err && i < argc; i++)
		err = logs_read(argv[i], &logs[nruns++]);
	if (!err)
		err = logs_draw(out, logs, nruns, only_epochs);
	for (i = 0; i < nruns; i++)
		free(logs[i].points);
	free(logs);
	return err ? 1 : 0;
}
