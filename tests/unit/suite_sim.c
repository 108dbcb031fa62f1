/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/suite_sim.h"

#include <stdlib.h>
#include <string.h>

#include "transports/sim/sim.h"

void suite_sim_set(void *arg, const char *name, const char *value)
{
	struct suite_sim *s = arg;

	if (gy_config_set(&s->cfg, name, value, GY_CONFIG_FILE, "suite"))
		abort();
	s->manual |= !strcmp(name, "progress") && !strcmp(value, "manual");
}

void suite_sim_pass(void *arg, unsigned how)
{
	struct gy_sim_rank *rank = arg;

	gy_sim_sleep(rank, how ? gy_sim_random(rank) % (how * 1000ull) : 2000);
}

struct sim_threads {
	int (*fn)(void *);
	void **args;
	unsigned next, over;
	int failed;
};

static int sim_thread(struct gy_sim_rank *rank, void *arg)
{
	struct sim_threads *t = arg;

	t->failed |= t->fn(t->args[t->next++]);
	t->over++;
	return 0;
}

int suite_sim_parallel(void *arg, unsigned n, int (*fn)(void *), void **args)
{
	struct gy_sim_rank *rank = arg;
	struct sim_threads t = { .fn = fn, .args = args };
	unsigned i;

	for (i = 0; i < n; i++) {
		if (gy_sim_spawn(rank, sim_thread, &t))
			return -1;
	}
	while (t.over < n)
		gy_sim_sleep(rank, 5000);
	return t.failed;
}
