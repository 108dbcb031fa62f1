/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_RNG_H
#define TRAIN_RNG_H
/*
 * A small seeded source of random numbers (splitmix64).  Integers and exact arithmetic only, so
 * that every machine draws the same numbers from the same seed.
 */
#include <stdint.h>

struct rng {
	uint64_t state;
};

/* stream: independent sequences of one seed. */
void rng_init(struct rng *rng, uint64_t seed, uint64_t stream);

uint64_t rng_next(struct rng *rng);

/* Uniform in 0 .. n - 1. */
uint32_t rng_below(struct rng *rng, uint32_t n);

/* Uniform in [-limit, limit). */
float rng_uniform(struct rng *rng, float limit);

#endif
