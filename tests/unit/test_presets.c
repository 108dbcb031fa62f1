/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_presets.c - attributes of the methods, field by field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <gyre/delayed.h>
#include "lib/util.h"

/* What all have. */
#define PRESET_COMMON \
	.size = sizeof(struct gyre_delayed_attr), .type = GYRE_F32, .wire = GYRE_F32, \
	.adapt_max_delay = 20, .adapt_max_period = 64, .adapt_window = 8

static void preset_init(struct gyre_delayed_attr *a)
{
	gyre_delayed_attr_init(a);
}

static void preset_dts(struct gyre_delayed_attr *a)
{
	gyre_dts_attr(a, 6, 4);
}

static void preset_dts_sparse(struct gyre_delayed_attr *a)
{
	gyre_dts_attr(a, 0, 16);
}

static void preset_lasgd(struct gyre_delayed_attr *a)
{
	gyre_lasgd_attr(a, 5);
}

static void preset_local_sgd(struct gyre_delayed_attr *a)
{
	gyre_local_sgd_attr(a, 8);
}

static void preset_postlocal_sgd(struct gyre_delayed_attr *a)
{
	gyre_postlocal_sgd_attr(a, 8, 1000);
}

static void preset_postlocal_at_once(struct gyre_delayed_attr *a)
{
	gyre_postlocal_sgd_attr(a, 8, 0);
}

static void preset_cocod(struct gyre_delayed_attr *a)
{
	gyre_cocod_attr(a, 8);
}

static void preset_slowmo(struct gyre_delayed_attr *a)
{
	gyre_slowmo_attr(a, 12, 1, 0.5);
}

static void preset_diloco(struct gyre_delayed_attr *a)
{
	gyre_diloco_attr(a, 500, 0.7, 0.9, 0);
}

static void preset_async_diloco(struct gyre_delayed_attr *a)
{
	gyre_diloco_attr(a, 500, 0.7, 0.9, 1);
}

static void preset_streaming(struct gyre_delayed_attr *a)
{
	gyre_streaming_diloco_attr(a, 100, 5, 2, 3, 0.4, 0.9, 0.5);
}

static void preset_streaming_first(struct gyre_delayed_attr *a)
{
	gyre_streaming_diloco_attr(a, UINT32_MAX, 5, 3, 4, 0.4, 0.9, 0.5);
}

static const struct preset {
	const char *name;
	void (*fill)(struct gyre_delayed_attr *a);
	struct gyre_delayed_attr should;
} presets[] = {
	{ "init", preset_init, { PRESET_COMMON, .period = 1 } },
	{ "dts", preset_dts, { PRESET_COMMON, .delay = 6, .period = 4 } },
	{ "dts, sparse alone",
	  preset_dts_sparse,
	  { PRESET_COMMON, .period = 16, .commit = GYRE_COMMIT_NONE } },
	{ "lasgd",
	  preset_lasgd,
	  { PRESET_COMMON, .payload = GYRE_PAYLOAD_MODEL, .trigger = GYRE_TRIGGER_READY_ALL,
	    .apply = GYRE_APPLY_ARRIVAL, .flags = GYRE_DELAYED_FRESH, .period = 1,
	    .min_steps = 5 } },
	{ "local sgd",
	  preset_local_sgd,
	  { PRESET_COMMON, .payload = GYRE_PAYLOAD_MODEL, .period = 8,
	    .commit = GYRE_COMMIT_NONE } },
	{ "post-local sgd",
	  preset_postlocal_sgd,
	  { PRESET_COMMON, .payload = GYRE_PAYLOAD_MODEL, .period = 1, .switch_tick = 1000,
	    .switch_period = 8, .commit = GYRE_COMMIT_NONE } },
	{ "post-local sgd, local at once",
	  preset_postlocal_at_once,
	  { PRESET_COMMON, .payload = GYRE_PAYLOAD_MODEL, .period = 8,
	    .commit = GYRE_COMMIT_NONE } },
	{ "cocod",
	  preset_cocod,
	  { PRESET_COMMON, .payload = GYRE_PAYLOAD_MODEL, .delay = 8, .period = 8 } },
	{ "slowmo",
	  preset_slowmo,
	  { PRESET_COMMON, .merge = GYRE_MERGE_OVERWRITE, .period = 12,
	    .commit = GYRE_COMMIT_NONE, .outer_lr = 1, .outer_momentum = 0.5 } },
	{ "diloco",
	  preset_diloco,
	  { PRESET_COMMON, .merge = GYRE_MERGE_OVERWRITE, .period = 500,
	    .commit = GYRE_COMMIT_NONE, .outer_lr = 0.7, .outer_momentum = 0.9,
	    .outer_nesterov = 1 } },
	{ "diloco, asynchronous",
	  preset_async_diloco,
	  { PRESET_COMMON, .merge = GYRE_MERGE_OVERWRITE, .delay = 500, .period = 500,
	    .outer_lr = 0.7, .outer_momentum = 0.9, .outer_nesterov = 1 } },
	{ "streaming diloco",
	  preset_streaming,
	  { PRESET_COMMON, .merge = GYRE_MERGE_INTERPOLATE, .delay = 5, .period = 100, .phase = 66,
	    .outer_lr = 0.4, .outer_momentum = 0.9, .outer_nesterov = 1, .alpha = 0.5 } },
	{ "streaming diloco, a long period",
	  preset_streaming_first,
	  { PRESET_COMMON, .merge = GYRE_MERGE_INTERPOLATE, .delay = 5, .period = UINT32_MAX,
	    .phase = 3221225471, .outer_lr = 0.4, .outer_momentum = 0.9, .outer_nesterov = 1,
	    .alpha = 0.5 } },
};

/* Numbers of the same kind follow each other, so that what differs has a name. */
static void preset_compare(const struct preset *p, const struct gyre_delayed_attr *is)
{
	const struct gyre_delayed_attr *const should = &p->should;
#define SAME(field) \
	if (is->field != should->field) \
		fail_msg("%s: " #field " %g, not %g", p->name, (double)is->field, \
			 (double)should->field)

	SAME(size);
	SAME(count);
	SAME(type);
	SAME(wire);
	SAME(payload);
	SAME(trigger);
	SAME(apply);
	SAME(merge);
	SAME(commit);
	SAME(flags);
	SAME(delay);
	SAME(period);
	SAME(phase);
	SAME(switch_tick);
	SAME(switch_period);
	SAME(min_steps);
	SAME(quorum);
	SAME(grace_ms);
	SAME(max_delay);
	SAME(margin);
	SAME(ring);
	SAME(timeout_ms);
	SAME(alpha);
	SAME(outer_lr);
	SAME(outer_momentum);
	SAME(outer_nesterov);
	SAME(adapt_max_delay);
	SAME(adapt_max_period);
	SAME(adapt_window);
#undef SAME
	assert_true(!is->outer && !is->outer_arg && !is->filter && !is->filter_arg);
}

static void test_presets(void **state)
{
	struct gyre_delayed_attr a;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(presets); i++) {
		memset(&a, 0xa5, sizeof(a));
		presets[i].fill(&a);
		preset_compare(&presets[i], &a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_presets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
