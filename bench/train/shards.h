/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_SHARDS_H
#define TRAIN_SHARDS_H
/*
 * Which images a rank learns from, and in which order: a function of seed, rank and step alone.
 *
 *	iid		all images are shuffled in each epoch and dealt out, a batch to each rank;
 *			step s gives the ranks together what it gives one rank of a larger batch
 *	sorted		the images in order of their labels, cut into one piece per rank, for good
 *	dirichlet	of each label, the ranks have shares drawn from a Dirichlet distribution,
 *			for good; the smaller alpha, the more unequal (Hsu, Qi, Brown 2019)
 */
#include "bench/train/data.h"

struct shards;

struct shards_spec {
	const char *kind; /* "iid", "sorted" or "dirichlet" */
	double alpha;
	uint64_t seed;
	int rank, nranks, batch;
};

/*
 * set must live as long as the shards.  -ENOMEM; -EINVAL: no shards in which each rank has a
 * batch, with the reason in why.
 */
int shards_create(const struct shards_spec *spec, const struct dataset *set,
		  struct shards **shardsp, struct why *why);
void shards_destroy(struct shards *shards);

/* Steps in which the ranks together go once through as many images as there are. */
int shards_steps(const struct shards *shards);

/* This rank's images of its step: batch of them, until the next call. */
const uint32_t *shards_pick(struct shards *shards, uint64_t step);

#endif
