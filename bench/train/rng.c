/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/rng.c - splitmix64 (Steele, Lea, Flood 2014). */
#include "bench/train/rng.h"

uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void rng_init(struct rng *rng, uint64_t seed, uint64_t stream)
{
	struct rng mix = { .state = stream };

	rng->state = seed ^ rng_next(&mix);
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
	return ((rng_next(rng) >> 32) * n) >> 32;
}

float rng_uniform(struct rng *rng, float limit)
{
	const float unit = (rng_next(rng) >> 40) * 0x1p-23f; /* [0, 2) */

	return (unit - 1.0f) * limit;
}
