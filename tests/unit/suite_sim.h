/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SUITE_SIM_H
#define GY_SUITE_SIM_H
/*
 * The property suite (tests/multi/suite.h) on ranks of the simulator: its settings, and how its
 * ranks let time pass and run threads.
 */
#include <stdbool.h>
#include "lib/config.h"

struct suite_sim {
	struct gy_config cfg;
	bool manual; /* progress=manual is among the settings */
};

/* suite_set_fn; arg: struct suite_sim. */
void suite_sim_set(void *arg, const char *name, const char *value);

/* struct suite_env.pass and .parallel; arg: struct gy_sim_rank. */
void suite_sim_pass(void *arg, unsigned how);
int suite_sim_parallel(void *arg, unsigned n, int (*fn)(void *), void **args);
#endif
