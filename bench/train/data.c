/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/data.c - Fashion-MNIST: load, shuffle, batch. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/train/data.h"
#include "bench/train/idx.h"
#include "bench/train/rng.h"

#define DATA_MAX_SIDE 1024

static int data_explain(int err, const char *path, struct why *why)
{
	if (err == -ENOENT)
		return why_set(why, err,
			       "%s is missing\n  On Debian: apt install dataset-fashion-mnist\n"
			       "  Elsewhere: give the folder of the four .gz files as --data DIR",
			       path);
	if (err == -EBADMSG)
		return why_set(why, err, "%s is damaged, or not what its name says", path);
	return why_set(why, err, "%s: %s", path, strerror(-err));
}

static int data_read(const char *dir, const char *file, int ndims, size_t limit, struct idx *idx,
		     struct why *why)
{
	char path[PATH_MAX];
	int err;

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return data_explain(-ENAMETOOLONG, "--data", why);
	err = idx_read(path, limit ? limit : SIZE_MAX, idx);
	if (!err && idx->ndims != ndims) {
		idx_fini(idx);
		err = -EBADMSG;
	}
	return err ? data_explain(err, path, why) : 0;
}

/* The bound keeps the size of an image, with all channels of any layer, within an int. */
static int data_check_set(const struct idx *images, const struct idx *labels)
{
	uint32_t i;

	if (images->dims[1] > DATA_MAX_SIDE || images->dims[2] > DATA_MAX_SIDE)
		return -EBADMSG;
	if (labels->dims[0] != images->dims[0])
		return -EBADMSG;
	for (i = 0; i < labels->dims[0]; i++)
		if (labels->bytes[i] >= DATA_CLASSES)
			return -EBADMSG;
	return 0;
}

static int data_load_set(const char *dir, const char *set, size_t limit, struct dataset *out,
			 struct shape *shape, struct why *why)
{
	char file[64];
	struct idx images, labels;
	int err;

	snprintf(file, sizeof(file), "%s-images-idx3-ubyte.gz", set);
	err = data_read(dir, file, 3, limit, &images, why);
	if (err)
		return err;
	snprintf(file, sizeof(file), "%s-labels-idx1-ubyte.gz", set);
	err = data_read(dir, file, 1, limit, &labels, why);
	if (err)
		goto fini_images;
	err = data_check_set(&images, &labels);
	if (err) {
		why_set(why, err, "%s: labels and images of the %s set do not fit together", dir,
			set);
		goto fini_labels;
	}
	*out = (struct dataset){ images.dims[0], images.bytes, labels.bytes };
	*shape = (struct shape){ images.dims[1], images.dims[2], 1 };
	return 0;

fini_labels:
	idx_fini(&labels);
fini_images:
	idx_fini(&images);
	return err;
}

static void data_measure(struct data *data)
{
	const size_t len = data->train.count * shape_len(data->shape);
	uint64_t sum = 0, squares = 0; /* exact, so the same on every machine */
	double mean, variance;
	size_t i;

	for (i = 0; i < len; i++) {
		sum += data->train.images[i];
		squares += (uint64_t)data->train.images[i] * data->train.images[i];
	}
	mean = (double)sum / len;
	variance = (double)squares / len - mean * mean;
	data->mean = mean;
	data->scale = variance > 0 ? 1 / sqrt(variance) : 1;
}

static void data_free_set(struct dataset *set)
{
	struct idx images = { .bytes = set->images }, labels = { .bytes = set->labels };

	idx_fini(&images);
	idx_fini(&labels);
	set->images = set->labels = NULL;
}

int data_load(const char *dir, size_t limit, struct data *data, struct why *why)
{
	struct data got = { 0 };
	struct shape test_shape;
	int err;

	err = data_load_set(dir, "train", limit, &got.train, &got.shape, why);
	if (err)
		return err;
	err = data_load_set(dir, "t10k", limit, &got.test, &test_shape, why);
	if (err)
		goto free_train;
	if (memcmp(&test_shape, &got.shape, sizeof(test_shape)) != 0) {
		err = why_set(why, -EBADMSG, "%s: training and test images differ in size", dir);
		goto free_test;
	}
	data_measure(&got);
	*data = got;
	return 0;

free_test:
	data_free_set(&got.test);
free_train:
	data_free_set(&got.train);
	return err;
}

void data_fini(struct data *data)
{
	data_free_set(&data->train);
	data_free_set(&data->test);
}

void data_shuffle(uint32_t *order, size_t count, uint64_t seed, int epoch)
{
	struct rng rng;
	uint32_t i, j, swap;

	rng_init(&rng, seed, epoch + 1); /* stream 0 draws the initial weights */
	for (i = 0; i < count; i++)
		order[i] = i;
	for (i = count; i > 1; i--) {
		j = rng_below(&rng, i);
		swap = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swap;
	}
}

void data_batch(const struct data *data, const struct dataset *set, const uint32_t *pick, int n,
		float *x, uint8_t *labels)
{
	const size_t len = shape_len(data->shape);
	const uint8_t *image;
	size_t k;
	int i;

	for (i = 0; i < n; i++, x += len) {
		image = set->images + pick[i] * len;
		for (k = 0; k < len; k++)
			x[k] = (image[k] - data->mean) * data->scale;
		labels[i] = set->labels[pick[i]];
	}
}
