/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-topo.c - the topology in short, by hwloc: packages, NUMA nodes, shared caches with
 * their cores, and where network and RDMA devices are.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hwloc.h>

#include "lib/util.h"
#include "tools/gyre-info.h"

/* What is shown of an object of its own; cores and what is in them are only counted. */
static bool topo_is_shown(hwloc_obj_t obj)
{
	switch (obj->type) {
	case HWLOC_OBJ_MACHINE:
	case HWLOC_OBJ_PACKAGE:
	case HWLOC_OBJ_DIE:
	case HWLOC_OBJ_NUMANODE:
	case HWLOC_OBJ_L3CACHE:
	case HWLOC_OBJ_GROUP:
		return true;
	case HWLOC_OBJ_OS_DEVICE:
		return obj->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK ||
		       obj->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
	default:
		return false;
	}
}

static int topo_count(hwloc_topology_t topology, hwloc_obj_t obj, hwloc_obj_type_t type)
{
	return obj->cpuset ? hwloc_get_nbobjs_inside_cpuset_by_type(topology, obj->cpuset, type)
			   : 0;
}

static long long topo_bytes(hwloc_obj_t obj)
{
	if (obj->type == HWLOC_OBJ_NUMANODE)
		return (long long)obj->attr->numanode.local_memory;
	if (obj->type == HWLOC_OBJ_L3CACHE)
		return (long long)obj->attr->cache.size;
	return obj->total_memory ? (long long)obj->total_memory : GI_UNKNOWN;
}

static void topo_row(hwloc_topology_t topology, hwloc_obj_t obj, int depth, struct gi_doc *doc)
{
	const int cores = topo_count(topology, obj, HWLOC_OBJ_CORE);
	const int pus = topo_count(topology, obj, HWLOC_OBJ_PU);
	const bool numbered = obj->os_index != HWLOC_UNKNOWN_INDEX;
	char type[64];

	hwloc_obj_type_snprintf(type, sizeof(type), obj, 0);
	gi_doc_cell(doc, obj->name  ? gi_text("%*s%s %s", 2 * depth, "", type, obj->name)
			 : numbered ? gi_text("%*s%s %u", 2 * depth, "", type, obj->os_index)
				    : gi_text("%*s%s", 2 * depth, "", type));
	gi_doc_cell(doc, gi_int(depth));
	gi_doc_cell(doc, gi_str(type));
	gi_doc_cell(doc, numbered ? gi_int(obj->os_index) : gi_none());
	gi_doc_cell(doc, gi_str(obj->name));
	gi_doc_cell(doc, gi_size(topo_bytes(obj)));
	gi_doc_cell(doc, obj->cpuset ? gi_int(cores) : gi_none());
	gi_doc_cell(doc, obj->cpuset ? gi_int(pus) : gi_none());
}

static void topo_walk(hwloc_topology_t topology, hwloc_obj_t obj, int depth, struct gi_doc *doc)
{
	hwloc_obj_t child;

	if (topo_is_shown(obj))
		topo_row(topology, obj, depth++, doc);
	for (child = obj->memory_first_child; child; child = child->next_sibling)
		topo_walk(topology, child, depth, doc);
	for (child = obj->first_child; child; child = child->next_sibling)
		topo_walk(topology, child, depth, doc);
	for (child = obj->io_first_child; child; child = child->next_sibling)
		topo_walk(topology, child, depth, doc);
}

void gi_topology_show(const struct gi_info *info, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ NULL, "Object" },
		{ "depth", NULL },
		{ "type", NULL },
		{ "index", NULL },
		{ "name", NULL },
		{ "bytes", "Size" },
		{ "cores", "Cores" },
		{ "threads", "Threads" },
	};
	hwloc_topology_t topology;

	gi_doc_section(doc, "topology", "Topology");
	gi_doc_table(doc, "objects", columns, GY_ARRAY_SIZE(columns));
	if (!gi_root_is_here() && setenv("HWLOC_FSROOT", gi_path("/"), 1))
		tool_die("out of memory");
	/* Nothing of theirs is shown, and they take seconds to start. */
	if (setenv("HWLOC_COMPONENTS", "-opencl,-cuda,-nvml,-rsmi,-levelzero,-gl", 0))
		tool_die("out of memory");
	if (hwloc_topology_init(&topology))
		tool_die("cannot read the topology of this machine");
	hwloc_topology_set_type_filter(topology, HWLOC_OBJ_OS_DEVICE,
				       HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	if (hwloc_topology_load(topology) == 0)
		topo_walk(topology, hwloc_get_root_obj(topology), 0, doc);
	hwloc_topology_destroy(topology);
}
