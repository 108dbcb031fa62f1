/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topology.c - processors, and NUMA nodes of devices, by hwloc.
 *
 * Devices are left out, as hwloc does where nobody asks for them; so is the discovery by x86's own
 * instructions, with which hwloc refines what Linux says: it moves this thread over all processors.
 * Cores and caches stay, which give processors their order.
 */
#include "lib/topology.h"

#include <errno.h>
#include <hwloc.h>
#include <hwloc/linux.h>
#include <limits.h>
#include <stdio.h>

#include "lib/log.h"

static hwloc_topology_t topology_get(struct gy_topology *t)
{
	hwloc_topology_t topology;

	if (t->loaded || t->failed)
		return t->loaded;
	t->failed = true;
	if (hwloc_topology_init(&topology)) {
		gy_warn("hwloc cannot be used: what is shared on this machine is not known");
		return NULL;
	}
	/* Processors have the same numbers in every container of the machine. */
	hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
	if (hwloc_topology_load(topology)) {
		gy_warn("hwloc cannot read the topology of this machine");
		hwloc_topology_destroy(topology);
		return NULL;
	}
	t->loaded = topology;
	t->failed = false;
	return topology;
}

void gy_topology_fini(struct gy_topology *t)
{
	if (t->loaded)
		hwloc_topology_destroy(t->loaded);
	*t = (struct gy_topology){ .loaded = NULL };
}

struct gy_procs gy_topology_procs(struct gy_topology *t)
{
	const hwloc_topology_t topology = topology_get(t);
	hwloc_bitmap_t set = topology ? hwloc_bitmap_alloc() : NULL;
	struct gy_procs procs = { 0 };
	hwloc_obj_t pu = NULL;

	if (set && !hwloc_get_cpubind(topology, set, HWLOC_CPUBIND_THREAD)) {
		while ((pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu))) {
			if (pu->logical_index > UINT16_MAX ||
			    !hwloc_bitmap_isset(set, pu->os_index))
				continue;
			if (!procs.count++)
				procs.first = (uint16_t)pu->logical_index;
			procs.last = (uint16_t)pu->logical_index;
		}
	}
	hwloc_bitmap_free(set);
	return procs;
}

bool gy_procs_meet(const struct gy_procs *a, const struct gy_procs *b)
{
	return !a->count || !b->count || (a->first <= b->last && b->first <= a->last);
}

int gy_topology_device_node(struct gy_topology *t, const char *device)
{
	hwloc_bitmap_t cpus = hwloc_bitmap_alloc(), nodes = hwloc_bitmap_alloc();
	hwloc_topology_t topology;
	char path[PATH_MAX];
	int node = -1;

	snprintf(path, sizeof(path), "%s/device/local_cpus", device);
	if (cpus && nodes && !hwloc_linux_read_path_as_cpumask(path, cpus)) {
		topology = topology_get(t);
		if (topology) {
			hwloc_bitmap_and(cpus, cpus, hwloc_topology_get_topology_cpuset(topology));
			hwloc_cpuset_to_nodeset(topology, cpus, nodes);
		}
		if (hwloc_bitmap_weight(nodes) == 1)
			node = hwloc_bitmap_first(nodes);
	}
	hwloc_bitmap_free(cpus);
	hwloc_bitmap_free(nodes);
	return node;
}

bool gy_topology_at_node(struct gy_topology *t, int node)
{
	const hwloc_topology_t topology = node >= 0 ? topology_get(t) : NULL;
	hwloc_bitmap_t here = topology ? hwloc_bitmap_alloc() : NULL;
	hwloc_obj_t obj;
	bool at = false;

	if (here && !hwloc_get_last_cpu_location(topology, here, HWLOC_CPUBIND_THREAD)) {
		obj = hwloc_get_numanode_obj_by_os_index(topology, (unsigned)node);
		at = obj && hwloc_bitmap_isincluded(here, obj->cpuset);
	}
	hwloc_bitmap_free(here);
	return at;
}

int gy_topology_bind(struct gy_topology *t, void *ptr, size_t len, int node)
{
	const hwloc_topology_t topology = topology_get(t);
	hwloc_bitmap_t nodes = topology ? hwloc_bitmap_alloc() : NULL;
	int err = nodes ? 0 : -ENOTSUP;

	if (nodes && (hwloc_bitmap_only(nodes, (unsigned)node) ||
		      hwloc_set_area_membind(topology, ptr, len, nodes, HWLOC_MEMBIND_BIND,
					     HWLOC_MEMBIND_BYNODESET)))
		err = -errno;
	hwloc_bitmap_free(nodes);
	return err;
}
