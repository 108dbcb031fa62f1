/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/attr.c - which attributes are right, and how many rounds in flight they need.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "collectives/delayed/delayed.h"

static __attribute__((format(printf, 3, 4))) int wrong(char *why, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int check_kinds(const struct gyre_delayed_attr *a, char *why, size_t len)
{
	if (!a->count || a->count > SIZE_MAX / 64 / UINT16_MAX)
		return wrong(why, len, "count is %zu", a->count);
	if (a->type != GYRE_F32 && a->type != GYRE_F64)
		return wrong(why, len, "type is %d, and must be f32 or f64", (int)a->type);
	if (a->wire != a->type &&
	    (a->type != GYRE_F32 || (a->wire != GYRE_BF16 && a->wire != GYRE_F16)))
		return wrong(why, len, "wire is %d, and must be type (%s), or bf16 or f16 with f32",
			     (int)a->wire, gyre_type_name(a->type));
	if ((unsigned)a->payload > GYRE_PAYLOAD_RAW)
		return wrong(why, len, "payload is %d", (int)a->payload);
	if ((unsigned)a->trigger > GYRE_TRIGGER_MANUAL)
		return wrong(why, len, "trigger is %d", (int)a->trigger);
	if ((unsigned)a->apply > GYRE_APPLY_ARRIVAL)
		return wrong(why, len, "apply is %d", (int)a->apply);
	if ((unsigned)a->merge > GYRE_MERGE_NONE)
		return wrong(why, len, "merge is %d", (int)a->merge);
	if ((unsigned)a->commit > GYRE_COMMIT_NONE)
		return wrong(why, len, "commit is %d", (int)a->commit);
	if (a->flags & ~63u)
		return wrong(why, len, "flags is %#x", a->flags);
	return 0;
}

static int check_payload(const struct gyre_delayed_attr *a, char *why, size_t len)
{
	const bool raw = a->payload == GYRE_PAYLOAD_RAW, model = a->payload == GYRE_PAYLOAD_MODEL;
	const bool outer = a->outer || a->outer_lr != 0;

	if (raw != (a->merge == GYRE_MERGE_NONE))
		return wrong(why, len, "merge NONE belongs to payload RAW: merge %d, payload %d",
			     (int)a->merge, (int)a->payload);
	if (raw && a->trigger != GYRE_TRIGGER_MANUAL)
		return wrong(why, len, "payload RAW needs trigger MANUAL: trigger %d",
			     (int)a->trigger);
	if (a->payload != GYRE_PAYLOAD_DELTA &&
	    (outer || a->filter || a->flags & GYRE_DELAYED_BY_STEPS))
		return wrong(why, len, "%s needs payload DELTA: payload %d",
			     outer	 ? "outer, outer_lr"
			     : a->filter ? "filter"
					 : "BY_STEPS",
			     (int)a->payload);
	if (a->outer && a->outer_lr != 0)
		return wrong(why, len, "outer and outer_lr %g: only one of them", a->outer_lr);
	if (!isfinite(a->outer_lr) || a->outer_lr < 0 || !isfinite(a->outer_momentum))
		return wrong(why, len, "outer_lr is %g, outer_momentum %g", a->outer_lr,
			     a->outer_momentum);
	if (a->merge == GYRE_MERGE_INTERPOLATE && !(a->alpha >= 0 && a->alpha <= 1))
		return wrong(why, len, "alpha is %g, and must be 0 to 1", a->alpha);
	if (model && a->trigger == GYRE_TRIGGER_QUORUM)
		return wrong(why, len, "trigger QUORUM needs payload DELTA: payload %d",
			     (int)a->payload);
	if (model && a->ring > 1)
		return wrong(why, len, "payload MODEL has one round in flight: ring %u", a->ring);
	return 0;
}

static int check_period(const struct gyre_delayed_attr *a, char *why, size_t len)
{
	const bool fixed = a->apply == GYRE_APPLY_FIXED;

	if (a->trigger != GYRE_TRIGGER_PERIOD)
		return 0;
	if (!a->period)
		return wrong(why, len, "period is 0");
	if (fixed && a->payload == GYRE_PAYLOAD_MODEL && a->delay > a->period)
		return wrong(why, len, "payload MODEL needs delay <= period: delay %u, period %u",
			     a->delay, a->period);
	if (fixed && a->payload == GYRE_PAYLOAD_MODEL && a->merge == GYRE_MERGE_OVERWRITE &&
	    a->delay == a->period)
		return wrong(why, len,
			     "MODEL with OVERWRITE needs delay < period: delay %u, period %u",
			     a->delay, a->period);
	if (fixed && a->delay > a->period &&
	    (a->merge == GYRE_MERGE_OVERWRITE || a->merge == GYRE_MERGE_INTERPOLATE))
		return wrong(why, len, "merge %s needs delay <= period: delay %u, period %u",
			     a->merge == GYRE_MERGE_OVERWRITE ? "OVERWRITE" : "INTERPOLATE",
			     a->delay, a->period);
	return 0;
}

static int check_switch(const struct gyre_delayed_attr *a, char *why, size_t len)
{
	struct gyre_delayed_attr after = *a;
	char text[100];

	if (!a->switch_tick && !a->switch_period)
		return 0;
	if (!a->switch_period)
		return wrong(why, len, "switch_period is 0: switch_tick %u", a->switch_tick);
	if (!a->switch_tick)
		return wrong(why, len, "switch_tick is 0: switch_period %u", a->switch_period);
	if (a->trigger != GYRE_TRIGGER_PERIOD)
		return wrong(why, len, "switch_tick needs trigger PERIOD: trigger %d",
			     (int)a->trigger);
	if (a->flags & GYRE_DELAYED_ADAPT)
		return wrong(why, len, "ADAPT chooses the period itself: switch_tick %u",
			     a->switch_tick);
	after.period = a->switch_period;
	if (!check_period(&after, text, sizeof(text)))
		return 0;
	return wrong(why, len, "switch_period: %s", text);
}

static int check_trigger(const struct gyre_delayed_attr *a, int nranks, char *why, size_t len)
{
	const bool led = a->trigger == GYRE_TRIGGER_READY_ALL || a->trigger == GYRE_TRIGGER_QUORUM;

	if (led && !a->min_steps)
		return wrong(why, len, "min_steps is 0");
	if (a->trigger == GYRE_TRIGGER_QUORUM && (!a->quorum || a->quorum > (unsigned)nranks))
		return wrong(why, len, "quorum is %u, and must be 1 to %d", a->quorum, nranks);
	if (a->trigger == GYRE_TRIGGER_QUORUM && a->apply == GYRE_APPLY_FIXED)
		return wrong(why, len, "trigger QUORUM needs apply AGREED or ARRIVAL: apply %d",
			     (int)a->apply);
	if (a->apply == GYRE_APPLY_AGREED && !a->margin)
		return wrong(why, len, "apply AGREED needs a margin: margin 0");
	if (a->apply == GYRE_APPLY_AGREED && !led && a->max_delay < a->margin)
		return wrong(why, len, "apply AGREED needs max_delay >= margin: %u, %u",
			     a->max_delay, a->margin);
	if (a->flags & GYRE_DELAYED_ADAPT &&
	    (a->trigger != GYRE_TRIGGER_PERIOD || a->apply != GYRE_APPLY_FIXED ||
	     a->payload != GYRE_PAYLOAD_DELTA || a->merge != GYRE_MERGE_ADD_DIFF))
		return wrong(why, len,
			     "ADAPT needs PERIOD, FIXED, DELTA and ADD_DIFF: trigger %d, "
			     "apply %d, payload %d, merge %d",
			     (int)a->trigger, (int)a->apply, (int)a->payload, (int)a->merge);
	if (a->flags & GYRE_DELAYED_FRESH && !led)
		return wrong(why, len, "FRESH needs trigger READY_ALL or QUORUM: trigger %d",
			     (int)a->trigger);
	if (a->flags & GYRE_DELAYED_IN_TURN && a->trigger != GYRE_TRIGGER_READY_ALL)
		return wrong(why, len, "IN_TURN needs trigger READY_ALL: trigger %d",
			     (int)a->trigger);
	if (a->flags & GYRE_DELAYED_ADAPT &&
	    (!a->adapt_max_delay || !a->adapt_max_period || !a->adapt_window))
		return wrong(why, len,
			     "ADAPT: adapt_max_delay %u, adapt_max_period %u, "
			     "adapt_window %u: none may be 0",
			     a->adapt_max_delay, a->adapt_max_period, a->adapt_window);
	return 0;
}

static uint64_t ring_ticks(uint64_t ticks, uint64_t period)
{
	return ticks ? (ticks + period - 1) / period : 1;
}

static uint64_t ring_of(const struct gyre_delayed_attr *a, uint64_t period)
{
	if (a->payload == GYRE_PAYLOAD_MODEL || a->trigger == GYRE_TRIGGER_READY_ALL)
		return 1;
	if (a->trigger == GYRE_TRIGGER_QUORUM) /* one to be merged, one that others begin */
		return 2;
	if (a->apply == GYRE_APPLY_AGREED)
		return ring_ticks(a->max_delay, period);
	if (a->apply == GYRE_APPLY_ARRIVAL)
		return ring_ticks(a->max_delay ? a->max_delay : a->delay, period);
	/* OVERWRITE: the next one is posted before the oldest is merged */
	return ring_ticks(a->delay, period) +
	       (a->merge == GYRE_MERGE_OVERWRITE && a->delay && a->delay % period == 0);
}

uint64_t gy_delayed_ring(const struct gyre_delayed_attr *a)
{
	if (a->trigger != GYRE_TRIGGER_PERIOD)
		return ring_of(a, 1);
	return gy_max(ring_of(a, a->period), a->switch_tick ? ring_of(a, a->switch_period) : 0);
}

static int check_ring(const struct gyre_delayed_attr *a, char *why, size_t len)
{
	const uint64_t need = gy_delayed_ring(a);
	const uint32_t period = a->switch_tick ? (uint32_t)gy_min(a->period, a->switch_period)
					       : a->period;

	if (a->ring > GY_DELAYED_RING_MAX || need > GY_DELAYED_RING_MAX)
		return wrong(why, len, "ring is %u, %llu are needed, and %d is the most", a->ring,
			     (unsigned long long)need, GY_DELAYED_RING_MAX);
	if (a->ring && a->ring < need && a->apply == GYRE_APPLY_FIXED)
		return wrong(why, len, "ring is %u: delay %u and period %u need %llu", a->ring,
			     a->delay, period, (unsigned long long)need);
	return 0;
}

int gy_delayed_check(const struct gyre_delayed_attr *a, int nranks, char *why, size_t len)
{
	int err;

	if (a->size != sizeof(*a))
		return wrong(why, len, "size is %zu, and must be %zu", a->size, sizeof(*a));
	err = check_kinds(a, why, len);
	if (!err)
		err = check_payload(a, why, len);
	if (!err)
		err = check_period(a, why, len);
	if (!err)
		err = check_switch(a, why, len);
	if (!err)
		err = check_trigger(a, nranks, why, len);
	if (!err)
		err = check_ring(a, why, len);
	return err;
}
