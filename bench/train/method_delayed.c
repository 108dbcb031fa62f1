/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method_delayed.c - the methods that are delayed collectives (gyre/delayed.h), which
 * differ in attributes alone.  Gradients stay with their rank; what is averaged is the progress of
 * params, or params, padding and all.  A handle for each fragment of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/delayed.h>

#include "bench/train/clock.h"
#include "bench/train/method.h"

#define DELAYED_ADAPT_RING 8 /* rounds in flight, or more where the run begins with more */

struct method_of_delayed {
	struct method base;
	struct gyre_delayed **handles;
	uint64_t *rounds; /* of each, the last that was posted */
	int nhandles;
	uint64_t replayed; /* round from which the last change that was replayed holds */
};

static struct method_of_delayed *to_delayed(struct method *m)
{
	return (struct method_of_delayed *)m;
}

static void delayed_attr_dts(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_dts_attr(attr, opt->delay, opt->period);
	if (!opt->adapt && !opt->replay)
		return;
	/* The ring decides which rounds are left out, so it is the same in a replay. */
	attr->ring = (uint32_t)((opt->delay + opt->period - 1) / opt->period);
	attr->ring = attr->ring < DELAYED_ADAPT_RING ? DELAYED_ADAPT_RING : attr->ring;
	attr->commit = GYRE_COMMIT_ALL;
	if (!opt->adapt)
		return;
	attr->flags |= GYRE_DELAYED_ADAPT;
	attr->adapt_max_delay = (uint32_t)opt->adapt_delay;
	attr->adapt_max_period = (uint32_t)opt->adapt_period;
}

static void delayed_attr_dts_overwrite(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_dts_attr(attr, opt->delay, opt->period);
	attr->merge = GYRE_MERGE_OVERWRITE;
}

static void delayed_attr_lasgd(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_lasgd_attr(attr, opt->period);
	attr->max_delay = opt->delay;
	if (opt->fragments > 1)
		attr->flags |= GYRE_DELAYED_IN_TURN;
	if (strcmp(opt->weights, "steps") == 0)
		attr->flags |= GYRE_DELAYED_WEIGHT_STEPS;
}

static void delayed_attr_local(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_local_sgd_attr(attr, opt->period);
}

static void delayed_attr_cocod(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_cocod_attr(attr, opt->period);
}

static void delayed_attr_slowmo(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_slowmo_attr(attr, opt->period, opt->outer_lr, opt->outer_momentum);
}

static void delayed_attr_diloco(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_diloco_attr(attr, opt->period, opt->outer_lr, opt->outer_momentum, 0);
}

static void delayed_attr_async_diloco(struct gyre_delayed_attr *attr, const struct options *opt)
{
	gyre_diloco_attr(attr, opt->period, opt->outer_lr, opt->outer_momentum, 1);
}

static const struct {
	const char *name;
	void (*fill)(struct gyre_delayed_attr *attr, const struct options *opt);
} delayed_methods[] = {
	{ "dts", delayed_attr_dts },
	{ "dts-overwrite", delayed_attr_dts_overwrite },
	{ "lasgd", delayed_attr_lasgd },
	{ "local", delayed_attr_local },
	{ "cocod", delayed_attr_cocod },
	{ "slowmo", delayed_attr_slowmo },
	{ "diloco", delayed_attr_diloco },
	{ "async-diloco", delayed_attr_async_diloco },
};

static void delayed_attr(struct gyre_delayed_attr *attr, const struct method *m)
{
	const struct options *opt = m->env.opt;
	size_t i;

	gyre_delayed_attr_init(attr);
	if (m->row->takes & METHODS_SWITCH) /* the one that needs to know how long an epoch is */
		gyre_postlocal_sgd_attr(attr, opt->period,
					(uint32_t)(opt->switch_epoch * m->env.steps));
	for (i = 0; i < sizeof(delayed_methods) / sizeof(*delayed_methods); i++)
		if (strcmp(delayed_methods[i].name, opt->method) == 0)
			delayed_methods[i].fill(attr, opt);
}

/* Elements before that fragment. */
static size_t delayed_first(const struct method *m, int fragment)
{
	const size_t n = m->env.nparams + m->env.npadding, parts = (size_t)m->env.opt->fragments;

	return n / parts * (size_t)fragment + n % parts * (size_t)fragment / parts;
}

static size_t delayed_count(const struct method *m, int fragment)
{
	return delayed_first(m, fragment + 1) - delayed_first(m, fragment);
}

static void delayed_close(struct method *m)
{
	struct method_of_delayed *d = to_delayed(m);

	while (d->nhandles)
		gyre_delayed_destroy(d->handles[--d->nhandles]);
	free(d->handles);
	free(d->rounds);
	free(m->grads);
}

/* Of the one handle whose schedule changes. */
static void delayed_look_at_schedule(struct method_of_delayed *d)
{
	const struct options *opt = d->base.env.opt;
	struct schedule_entry *now = &d->base.schedule;
	struct gyre_delayed_stats stats;

	if (!opt->adapt && !opt->replay)
		return;
	gyre_delayed_stats(d->handles[0], &stats);
	if (stats.delay != now->delay || stats.period != now->period)
		*now = (struct schedule_entry){ d->rounds[0] + 1, stats.delay, stats.period };
}

static int delayed_open(struct method *m)
{
	const struct options *opt = m->env.opt;
	struct method_of_delayed *d = to_delayed(m);
	struct gyre_delayed_attr attr;
	int err;

	delayed_attr(&attr, m);
	m->grads = calloc(m->env.nparams + 1, sizeof(*m->grads));
	d->handles = calloc((size_t)opt->fragments, sizeof(*d->handles));
	d->rounds = calloc((size_t)opt->fragments, sizeof(*d->rounds));
	err = method_agree(m, m->grads && d->handles && d->rounds ? 0 : -ENOMEM);
	while (!err && d->nhandles < opt->fragments) {
		attr.count = delayed_count(m, d->nhandles);
		err = gyre_delayed_create(&attr, m->env.params + delayed_first(m, d->nhandles),
					  m->env.job->comm, &d->handles[d->nhandles]);
		d->nhandles += !err;
	}
	if (err)
		delayed_close(m);
	else
		delayed_look_at_schedule(d);
	return err;
}

/*
 * One change at a time: the next is given when that before it is in force, after the same tick on
 * all ranks, since with PERIOD and FIXED all have posted the same rounds then.
 */
static int delayed_replay(struct method_of_delayed *d)
{
	const struct schedule_entry *e;
	uint64_t round;
	int err;

	if (!d->base.env.replay || d->replayed > d->rounds[0] + 1)
		return 0;
	e = schedule_after(d->base.env.replay,
			   d->replayed > d->rounds[0] ? d->replayed : d->rounds[0]);
	if (!e)
		return 0;
	d->replayed = e->round;
	err = gyre_delayed_set(d->handles[0], e->delay, e->period, e->round, &round);
	return err ? err : round == e->round ? 0 : -EPROTO;
}

static int delayed_tick_one(struct method_of_delayed *d, int i)
{
	struct gyre_tick tick = { 0 };
	int err = gyre_delayed_tick(d->handles[i], 1, &tick);

	if (tick.posted > d->rounds[i]) {
		d->rounds[i] = tick.posted;
		d->base.bytes += delayed_count(&d->base, i) * sizeof(float);
		delayed_look_at_schedule(d);
	}
	d->base.blocked += 1e-9 * tick.blocked_ns;
	return err;
}

static int delayed_tick(struct method *m)
{
	const double start = clock_seconds();
	struct method_of_delayed *d = to_delayed(m);
	int err = delayed_replay(d), i;

	for (i = 0; !err && i < d->nhandles; i++)
		err = delayed_tick_one(d, i);
	m->exposed += clock_seconds() - start;
	return err;
}

static int delayed_finish(struct method *m)
{
	struct method_of_delayed *d = to_delayed(m);
	int err = 0, i;

	for (i = 0; !err && i < d->nhandles; i++)
		err = gyre_delayed_drain(d->handles[i], GYRE_DRAIN_APPLY);
	return err;
}

static int delayed_save(struct method *m, method_write_fn write, void *arg)
{
	struct method_of_delayed *d = to_delayed(m);
	int err, i;

	err = write(arg, d->rounds, (size_t)d->nhandles * sizeof(*d->rounds));
	for (i = 0; !err && i < d->nhandles; i++)
		err = gyre_delayed_save(d->handles[i], write, arg);
	return err;
}

static int delayed_load(struct method *m, method_read_fn read, void *arg)
{
	struct method_of_delayed *d = to_delayed(m);
	int err, i;

	err = read(arg, d->rounds, (size_t)d->nhandles * sizeof(*d->rounds));
	err = method_agree(m, err);
	for (i = 0; !err && i < d->nhandles; i++)
		err = gyre_delayed_load(d->handles[i], read, arg);
	d->base.schedule = (struct schedule_entry){ 0 };
	if (!err)
		delayed_look_at_schedule(d);
	return err;
}

const struct method_ops method_delayed = {
	.size = sizeof(struct method_of_delayed),
	.open = delayed_open,
	.ready = method_no_ready,
	.reduce = method_nothing,
	.tick = delayed_tick,
	.pause = method_nothing,
	.resume = method_no_resume,
	.finish = delayed_finish,
	.save = delayed_save,
	.load = delayed_load,
	.close = delayed_close,
};
