/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H
/*
 * Labelled images: loading, the order in which an epoch visits them, and batches.
 * Images stay bytes in memory; a batch is normalised by the mean and the standard deviation of
 * the training images.
 */
#include <stddef.h>
#include <stdint.h>

#include "bench/train/shape.h"
#include "bench/train/why.h"

#define DATA_DIR "/usr/share/datasets/fashion-mnist"
#define DATA_CLASSES 10

struct dataset {
	size_t count;
	uint8_t *images; /* count * shape_len(shape) */
	uint8_t *labels;
};

struct data {
	struct shape shape;
	struct dataset train, test;
	float mean, scale;
};

/*
 * Reads the four files of dir, at most limit images of each set (0: all).  Free by data_fini.
 * On error the reason goes to why.
 */
int data_load(const char *dir, size_t limit, struct data *data, struct why *why);

void data_fini(struct data *data);

/* order = 0 .. count - 1, shuffled; the same for the same seed and epoch on every machine. */
void data_shuffle(uint32_t *order, size_t count, uint64_t seed, int epoch);

/* Images pick[0 .. n) of set, normalised, to x, and their labels to labels. */
void data_batch(const struct data *data, const struct dataset *set, const uint32_t *pick, int n,
		float *x, uint8_t *labels);

#endif
