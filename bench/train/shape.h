/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_SHAPE_H
#define TRAIN_SHAPE_H
/* The shape of one sample: h rows of w pixels of c channels, channels adjacent in memory. */
#include <stddef.h>

struct shape {
	int h, w, c;
};

static inline size_t shape_len(struct shape s)
{
	return (size_t)s.h * s.w * s.c;
}

#endif
