/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TOPOLOGY_H
#define GY_TOPOLOGY_H
/*
 * This machine, as hwloc sees it: what the library decides by.  A topology is loaded when the first
 * question needs it, which takes some milliseconds; loading is MT-Unsafe, and a context asks first
 * while it is created.  Where hwloc finds nothing, answers are "not known".
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hwloc_topology;

struct gy_topology {		/* zeroed: not loaded */
	struct hwloc_topology *loaded;
	bool failed;
};

/*
 * Processors that a thread may run on: how many, and the first and the last of them, counted so
 * that those of a core, a cache, a package are neighbours.  All 0: not known.
 */
struct gy_procs {
	uint16_t count, first, last;
};

void gy_topology_fini(struct gy_topology *t);

struct gy_procs gy_topology_procs(struct gy_topology *t);
/* Whether threads of the one and of the other may have to share processors. */
bool gy_procs_meet(const struct gy_procs *a, const struct gy_procs *b);

/* The NUMA node that a device is at, by its folder in sysfs; -1: at none, or not known. */
int gy_topology_device_node(struct gy_topology *t, const char *device);
/* Whether the calling thread runs there now. */
bool gy_topology_at_node(struct gy_topology *t, int node);
/* New pages of this range come from that node while it has room: 0 or -errno. */
int gy_topology_bind(struct gy_topology *t, void *ptr, size_t len, int node);
#endif
