/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_POINT_H
#define TRAIN_POINT_H
/* What is known of a run at one of its tests. */

struct point {
	double epoch;	       /* passes over the images, of all ranks together */
	double time;	       /* seconds of training so far, without tests */
	double loss, accuracy; /* means over all ranks: of the steps since the last test, 0 .. 1 */
	double lr;	       /* of the last step */
	double seconds;	       /* of these steps */
	double images_per_s, steps_per_s; /* of all ranks */
	/*
	 * Per step, mean over ranks: own work, padding too; communication that was not hidden
	 * behind it; the part of this that was spent waiting.
	 */
	double compute_ms, exposed_ms, blocked_ms;
	double megabytes; /* that a rank gave away, mean over ranks, so far */
};

#endif
