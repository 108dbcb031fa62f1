/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_FLAG_H
#define BENCH_FLAG_H
/*
 * How forked ranks wait for each other: counters in shared memory.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "bench/local.h"

/* A word that one rank writes and others watch; what is written before it is seen with it.  Wants
 * a cache line to itself, or shared only with what the same rank writes. */
struct local_flag {
	_Atomic uint64_t value;
};

/* Until the flag has reached value.  Pairs with local_flag_set. */
static inline void local_flag_wait(const struct local_team *team, struct local_flag *flag,
				   uint64_t value)
{
	int looks = 0;

	while (atomic_load_explicit(&flag->value, memory_order_acquire) < value)
		local_relax(team, &looks);
}

static inline void local_flag_set(struct local_flag *flag, uint64_t value)
{
	atomic_store_explicit(&flag->value, value, memory_order_release);
}

#endif
