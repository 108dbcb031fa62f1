/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/presets.c - attributes of published methods.  gyre_dts_attr(3) says where
 * each is from.
 *
 * Where a round is merged in the call that posts it, a commit would cost a message each way in
 * every round, and no time hides it: these methods begin with COMMIT_NONE.
 */
#include <errno.h>
#include <string.h>
#include <gyre/delayed.h>
#include "lib/log.h"

/* What all begin with; call: who asks. */
static int preset_begin(struct gyre_delayed_attr *attr, const char *call)
{
	if (!attr) {
		gy_err("%s: attr is NULL", call);
		return -EINVAL;
	}
	memset(attr, 0, sizeof(*attr));
	attr->size = sizeof(*attr);
	attr->type = GYRE_F32;
	attr->wire = GYRE_F32;
	attr->payload = GYRE_PAYLOAD_DELTA;
	attr->trigger = GYRE_TRIGGER_PERIOD;
	attr->apply = GYRE_APPLY_FIXED;
	attr->merge = GYRE_MERGE_ADD_DIFF;
	attr->commit = GYRE_COMMIT_ALL;
	attr->period = 1;
	attr->adapt_max_delay = 20;	/* as far as DGA was tried */
	attr->adapt_max_period = 64;
	attr->adapt_window = 8;
	return 0;
}

int gyre_delayed_attr_init(struct gyre_delayed_attr *attr)
{
	return preset_begin(attr, "gyre_delayed_attr_init");
}

/* What is posted every period ticks and merged delay ticks later. */
static int preset_period(struct gyre_delayed_attr *attr, const char *call, uint32_t delay,
			 uint32_t period)
{
	int err = preset_begin(attr, call);

	if (err)
		return err;
	attr->delay = delay;
	attr->period = period;
	attr->commit = delay ? GYRE_COMMIT_ALL : GYRE_COMMIT_NONE;
	return 0;
}

static void preset_outer(struct gyre_delayed_attr *attr, double lr, double momentum, int nesterov)
{
	attr->outer_lr = lr;
	attr->outer_momentum = momentum;
	attr->outer_nesterov = nesterov;
}

int gyre_dts_attr(struct gyre_delayed_attr *attr, uint32_t delay, uint32_t period)
{
	return preset_period(attr, "gyre_dts_attr", delay, period);
}

int gyre_lasgd_attr(struct gyre_delayed_attr *attr, uint32_t min_steps)
{
	int err = preset_begin(attr, "gyre_lasgd_attr");

	if (err)
		return err;
	attr->payload = GYRE_PAYLOAD_MODEL;
	attr->trigger = GYRE_TRIGGER_READY_ALL;
	attr->apply = GYRE_APPLY_ARRIVAL;
	attr->min_steps = min_steps;
	attr->flags = GYRE_DELAYED_FRESH;
	return 0;
}

int gyre_local_sgd_attr(struct gyre_delayed_attr *attr, uint32_t period)
{
	int err = preset_period(attr, "gyre_local_sgd_attr", 0, period);

	if (err)
		return err;
	attr->payload = GYRE_PAYLOAD_MODEL;
	return 0;
}

int gyre_postlocal_sgd_attr(struct gyre_delayed_attr *attr, uint32_t period, uint32_t switch_tick)
{
	int err = preset_period(attr, "gyre_postlocal_sgd_attr", 0, switch_tick ? 1 : period);

	if (err)
		return err;
	attr->payload = GYRE_PAYLOAD_MODEL;
	attr->switch_tick = switch_tick;
	attr->switch_period = switch_tick ? period : 0;
	return 0;
}

int gyre_cocod_attr(struct gyre_delayed_attr *attr, uint32_t period)
{
	int err = preset_period(attr, "gyre_cocod_attr", period, period);

	if (err)
		return err;
	attr->payload = GYRE_PAYLOAD_MODEL;
	return 0;
}

int gyre_slowmo_attr(struct gyre_delayed_attr *attr, uint32_t period, double lr, double momentum)
{
	int err = preset_period(attr, "gyre_slowmo_attr", 0, period);

	if (err)
		return err;
	preset_outer(attr, lr, momentum, 0);
	attr->merge = GYRE_MERGE_OVERWRITE;
	return 0;
}

int gyre_diloco_attr(struct gyre_delayed_attr *attr, uint32_t period, double lr, double momentum,
		     int asynchronous)
{
	int err = preset_period(attr, "gyre_diloco_attr", asynchronous ? period : 0, period);

	if (err)
		return err;
	preset_outer(attr, lr, momentum, 1);
	attr->merge = GYRE_MERGE_OVERWRITE;
	return 0;
}

int gyre_streaming_diloco_attr(struct gyre_delayed_attr *attr, uint32_t period, uint32_t delay,
			       uint32_t fragment, uint32_t n, double lr, double momentum,
			       double alpha)
{
	int err = preset_period(attr, "gyre_streaming_diloco_attr", delay, period);

	if (err)
		return err;
	preset_outer(attr, lr, momentum, 1);
	attr->merge = GYRE_MERGE_INTERPOLATE;
	attr->alpha = alpha;
	attr->phase = n ? (uint32_t)((uint64_t)fragment * period / n) : 0;
	return 0;
}
