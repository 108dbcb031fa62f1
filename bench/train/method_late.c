/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method_late.c - dts-overwrite with a delay above the period.
 * Several rounds are in flight when one is merged.  The library overwrites a model only where there
 * is one at a time, so rounds are posted here by hand, and handed back:
 *
 *	every period steps	s = x - b, b = x, s is sent
 *	delay steps later	the anchor moves by the mean; x = b = anchor
 *
 * What is done between a post and the next merge is lost; what is in flight is in x when it comes.
 * A step that posts and merges posts first, and loses nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/delayed.h>

#include "bench/train/clock.h"
#include "bench/train/method.h"

struct method_of_late {
	struct method base;
	struct gyre_delayed *handle;
	float *anchor; /* what all ranks agree on */
	float *from;   /* params when progress was last sent or overwritten */
	float *sent;
	uint64_t ticks, merged; /* steps, rounds */
	uint64_t blocked_ns; /* so far, by the library's count */
};

static struct method_of_late *to_late(struct method *m)
{
	return (struct method_of_late *)m;
}

static size_t late_count(const struct method_of_late *l)
{
	return l->base.env.nparams + l->base.env.npadding;
}

static void late_close(struct method *m)
{
	struct method_of_late *l = to_late(m);

	gyre_delayed_destroy(l->handle);
	free(l->sent);
	free(l->from);
	free(l->anchor);
	free(m->grads);
}

/*
 * In flight: as many as are posted in a delay, and one more, since a step posts before it merges.
 * The handle does not know of delay and period; when a round is due is counted here.
 */
static int late_create(struct method_of_late *l)
{
	const struct options *opt = l->base.env.opt;
	struct gyre_delayed_attr attr;

	gyre_delayed_attr_init(&attr);
	attr.count = late_count(l);
	attr.payload = GYRE_PAYLOAD_RAW;
	attr.trigger = GYRE_TRIGGER_MANUAL;
	attr.merge = GYRE_MERGE_NONE;
	attr.apply = GYRE_APPLY_ARRIVAL;
	attr.ring = (uint32_t)((opt->delay + opt->period - 1) / opt->period + 1);
	return gyre_delayed_create(&attr, NULL, l->base.env.job->comm, &l->handle);
}

static int late_open(struct method *m)
{
	struct method_of_late *l = to_late(m);
	const size_t n = late_count(l);
	int err;

	m->grads = calloc(m->env.nparams + 1, sizeof(*m->grads));
	l->anchor = calloc(n, sizeof(*l->anchor));
	l->from = calloc(n, sizeof(*l->from));
	l->sent = calloc(n, sizeof(*l->sent));
	err = method_agree(m, m->grads && l->anchor && l->from && l->sent ? 0 : -ENOMEM);
	if (!err)
		err = late_create(l);
	if (err) {
		late_close(m);
		return err;
	}
	memcpy(l->anchor, m->env.params, n * sizeof(*l->anchor));
	memcpy(l->from, m->env.params, n * sizeof(*l->from));
	return 0;
}

static int late_post(struct method_of_late *l)
{
	const size_t n = late_count(l);
	size_t i;

	for (i = 0; i < n; i++)
		l->sent[i] = l->base.env.params[i] - l->from[i];
	memcpy(l->from, l->base.env.params, n * sizeof(*l->from));
	l->base.bytes += n * sizeof(float);
	return gyre_delayed_post(l->handle, l->sent, 1);
}

/* The oldest round, which may have to be waited for.  -ENODATA: there is none. */
static int late_merge(struct method_of_late *l)
{
	const size_t n = late_count(l);
	struct gyre_round round;
	size_t i;
	int err = gyre_delayed_result(l->handle, 1, &round);

	if (err)
		return err;
	for (i = 0; i < n; i++)
		l->anchor[i] += ((const float *)round.avg)[i];
	memcpy(l->base.env.params, l->anchor, n * sizeof(*l->anchor));
	memcpy(l->from, l->anchor, n * sizeof(*l->from));
	l->merged++;
	return 0;
}

static bool late_is_due(const struct method_of_late *l)
{
	const struct options *opt = l->base.env.opt;

	return (l->merged + 1) * (uint64_t)opt->period + (uint64_t)opt->delay <= l->ticks;
}

static void late_count_blocked(struct method_of_late *l)
{
	struct gyre_delayed_stats stats;

	gyre_delayed_stats(l->handle, &stats);
	l->base.blocked += 1e-9 * (double)(stats.blocked_ns - l->blocked_ns);
	l->blocked_ns = stats.blocked_ns;
}

static int late_tick(struct method *m)
{
	const double start = clock_seconds();
	struct method_of_late *l = to_late(m);
	int err = gyre_delayed_tick(l->handle, 1, NULL);

	if (!err && ++l->ticks % (uint64_t)m->env.opt->period == 0)
		err = late_post(l);
	while (!err && late_is_due(l))
		err = late_merge(l);
	late_count_blocked(l);
	m->exposed += clock_seconds() - start;
	return err;
}

/* What has not been sent too: then everything that the ranks have not lost is in the anchor. */
static int late_finish(struct method *m)
{
	struct method_of_late *l = to_late(m);
	int err = late_post(l);

	while (!err)
		err = late_merge(l);
	return err == -ENODATA ? 0 : err;
}

static int late_save(struct method *m, method_write_fn write, void *arg)
{
	struct method_of_late *l = to_late(m);
	const size_t size = late_count(l) * sizeof(float);
	int err = write(arg, &l->ticks, sizeof(l->ticks));

	if (!err)
		err = write(arg, &l->merged, sizeof(l->merged));
	if (!err)
		err = write(arg, l->anchor, size);
	if (!err)
		err = write(arg, l->from, size);
	return err ? err : gyre_delayed_save(l->handle, write, arg);
}

static int late_load(struct method *m, method_read_fn read, void *arg)
{
	struct method_of_late *l = to_late(m);
	const size_t size = late_count(l) * sizeof(float);
	const double blocked = m->blocked;
	int err = read(arg, &l->ticks, sizeof(l->ticks));

	if (!err)
		err = read(arg, &l->merged, sizeof(l->merged));
	if (!err)
		err = read(arg, l->anchor, size);
	if (!err)
		err = read(arg, l->from, size);
	err = method_agree(m, err);
	if (!err)
		err = gyre_delayed_load(l->handle, read, arg);
	late_count_blocked(l);
	m->blocked = blocked;
	return err;
}

const struct method_ops method_late = {
	.size = sizeof(struct method_of_late),
	.open = late_open,
	.ready = method_no_ready,
	.reduce = method_nothing,
	.tick = late_tick,
	.pause = method_nothing,
	.resume = method_no_resume,
	.finish = late_finish,
	.save = late_save,
	.load = late_load,
	.close = late_close,
};
