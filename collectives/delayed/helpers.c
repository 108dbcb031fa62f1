/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/helpers.c - what a program may use of the methods without a handle.
 */
#include <errno.h>
#include <math.h>
#include "collectives/delayed/merge.h"
#include "lib/log.h"

int gyre_merge_add_diff(void *x, const void *avg, const void *own, size_t count,
			enum gyre_type type)
{
	const struct gy_merge_apply p = {
		.n = count,
		.type = type,
		.wire = type,
		.merge = GYRE_MERGE_ADD_DIFF,
		.red = avg,
		.weight_sum = 1,
		.factor = 1,
		.own = own,
		.x = x,
	};

	const char *what = type != GYRE_F32 && type != GYRE_F64 ? "type is not f32 or f64"
			   : !count				? NULL
			   : !x					? "x is NULL"
			   : !avg				? "avg is NULL"
			   : !own				? "own is NULL"
								: NULL;

	if (what) {
		gy_err("gyre_merge_add_diff: %s", what);
		return -EINVAL;
	}
	if (count)
		gy_merge_apply(&p);
	return 0;
}

int gyre_momentum_gain(double beta, uint32_t delay, double *velocity_gain, double *x_gain)
{
	const double steps = (double)delay + 1;
	const char *what = !velocity_gain ? "velocity_gain is NULL"
			   : !x_gain	  ? "x_gain is NULL"
					  : NULL;

	if (what) {
		gy_err("gyre_momentum_gain: %s", what);
		return -EINVAL;
	}
	if (!(beta >= 0 && beta <= 1)) {
		gy_err("gyre_momentum_gain: beta is %g, and must be 0 to 1", beta);
		return -EINVAL;
	}
	*velocity_gain = pow(beta, delay);
	*x_gain = beta == 1 ? steps : (1 - pow(beta, steps)) / (1 - beta);
	return 0;
}
