/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_topology.c - what the library asks of the machine, on machines that are only described:
 * HWLOC_SYNTHETIC and HWLOC_XMLFILE; HWLOC_THISSYSTEM=1 where this thread's place counts.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <hwloc.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/context.h"
#include "lib/topology.h"
#include "tests/unit/inproc.h"

static struct gy_topology topology;

static void machine(const char *synthetic, bool this_system)
{
	gy_topology_fini(&topology);
	unsetenv("HWLOC_XMLFILE");
	setenv("HWLOC_SYNTHETIC", synthetic, 1);
	setenv("HWLOC_THISSYSTEM", this_system ? "1" : "0", 1);
}

static void machine_here(void)
{
	gy_topology_fini(&topology);
	unsetenv("HWLOC_XMLFILE");
	unsetenv("HWLOC_SYNTHETIC");
	unsetenv("HWLOC_THISSYSTEM");
}

static int leave(void **state)
{
	machine_here();
	return 0;
}

static void check_procs(unsigned count, unsigned first, unsigned last)
{
	const struct gy_procs procs = gy_topology_procs(&topology);

	assert_int_equal(procs.count, count);
	assert_int_equal(procs.first, first);
	assert_int_equal(procs.last, last);
}

/* ---- processors ---- */

static void test_procs(void **state)
{
	machine("pack:2 core:4 pu:2", false);
	check_procs(16, 0, 15);
	check_procs(16, 0, 15);
	machine("pu:1", false);
	check_procs(1, 0, 0);
	machine_here();
	assert_true(gy_topology_procs(&topology).count >= 1);
}

static void test_xml(void **state)
{
	char path[] = "/tmp/gy-topology.XXXXXX";
	const int fd = mkstemp(path);
	hwloc_topology_t other;

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(hwloc_topology_init(&other), 0);
	assert_int_equal(hwloc_topology_set_synthetic(other, "pack:3 node:1 core:5 pu:1"), 0);
	assert_int_equal(hwloc_topology_load(other), 0);
	assert_int_equal(hwloc_topology_export_xml(other, path, 0), 0);
	hwloc_topology_destroy(other);
	machine_here();
	setenv("HWLOC_XMLFILE", path, 1);
	check_procs(15, 0, 14);
	unlink(path);
}

/* This thread on one processor, by its number in Linux; false: it may not run there. */
static bool run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

/* Linux counts cores first; here the two processors of a core are neighbours. */
static void test_binding(void **state)
{
	cpu_set_t all;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	if (!CPU_ISSET(0, &all) || !CPU_ISSET(1, &all))
		skip();
	machine("core:2 pu:2(indexes=0,2,1,3)", true);
	assert_true(run_on(0));
	check_procs(1, 0, 0);
	assert_true(run_on(1));
	check_procs(1, 2, 2);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	machine("core:2 pu:2(indexes=0,1,2,3)", true);
	assert_true(run_on(1));
	check_procs(1, 1, 1);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void test_meet(void **state)
{
	static const struct {
		struct gy_procs a, b;
		bool meet;
	} cases[] = {
		{ { 1, 0, 0 }, { 1, 0, 0 }, true },   { { 1, 0, 0 }, { 1, 1, 1 }, false },
		{ { 2, 0, 1 }, { 2, 2, 3 }, false },  { { 4, 0, 3 }, { 1, 3, 3 }, true },
		{ { 16, 0, 15 }, { 1, 7, 7 }, true }, { { 0, 0, 0 }, { 1, 7, 7 }, true },
	};
	unsigned i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(gy_procs_meet(&cases[i].a, &cases[i].b), cases[i].meet);
		assert_int_equal(gy_procs_meet(&cases[i].b, &cases[i].a), cases[i].meet);
	}
}

/* ---- nodes ---- */

/* The node of a device next to these processors, as the kernel writes a set of them. */
static int device_node(const char *cpus)
{
	char dir[64] = "/tmp/gy-topology.XXXXXX", path[96];
	FILE *file;
	int node;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/device", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	strcat(path, "/local_cpus");
	if (cpus) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_true(fputs(cpus, file) >= 0);
		assert_int_equal(fclose(file), 0);
	}
	node = gy_topology_device_node(&topology, dir);
	unlink(path);
	*strrchr(path, '/') = 0;
	rmdir(path);
	rmdir(dir);
	return node;
}

static void test_device(void **state)
{
	machine("node:2 core:2 pu:1", false);
	assert_int_equal(device_node(NULL), -1);
	assert_null(topology.loaded);
	assert_int_equal(device_node("00000003\n"), 0);
	assert_int_equal(device_node("0000000c\n"), 1);
	assert_int_equal(device_node("00000000,00000008\n"), 1);
	assert_int_equal(device_node("0000000f\n"), -1);
	assert_int_equal(device_node("00000000\n"), -1);
	assert_int_equal(device_node("000000f0\n"), -1);
	machine("node:1 core:4 pu:1", false);
	assert_int_equal(device_node("0000000f\n"), 0);
}

static void test_at_node(void **state)
{
	cpu_set_t all;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	if (!CPU_ISSET(0, &all) || !CPU_ISSET(1, &all))
		skip();
	machine("node:2 core:1 pu:1", true);
	assert_true(run_on(1));
	assert_true(gy_topology_at_node(&topology, 1));
	assert_false(gy_topology_at_node(&topology, 0));
	assert_false(gy_topology_at_node(&topology, -1));
	assert_false(gy_topology_at_node(&topology, 7));
	assert_true(run_on(0));
	assert_true(gy_topology_at_node(&topology, 0));
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void test_bind(void **state)
{
	const size_t len = 1 << 20;
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int policy = -1, err;

	assert_true(mem != MAP_FAILED);
	machine_here();
	assert_true(gy_topology_bind(&topology, mem, len, 1000) < 0);
	err = gy_topology_bind(&topology, mem, len, 0);
	if (!err && !syscall(SYS_get_mempolicy, &policy, NULL, 0, mem, MPOL_F_ADDR))
		assert_true(policy == MPOL_PREFERRED || policy == MPOL_PREFERRED_MANY);
	((char *)mem)[len - 1] = 1;
	munmap(mem, len);
	machine("node:2 core:2 pu:1", false);
	assert_int_equal(gy_topology_bind(&topology, mem, len, 1), 0);	/* not bound anywhere */
}

/* ---- ranks ---- */

static int spin_main(struct inproc_rank *r, void *arg)
{
	return (int)r->ctx->engine.spin == *(const int *)arg ? 0 : -ERANGE;
}

static int spin_run(int nranks, const char *spin_us, int spin)
{
	static struct inproc job;

	inproc_init(&job, nranks, "shm");
	inproc_set(&job, "spin_us", spin_us);
	return inproc_run(&job, spin_main, &spin);
}

/* Ranks poll for a while only where each has a processor of its own. */
static void test_spin(void **state)
{
	machine("pu:4", false);
	assert_int_equal(spin_run(1, "-1", 2000), 0);
	assert_int_equal(spin_run(4, "-1", 2000), 0);
	assert_int_equal(spin_run(5, "-1", 0), 0);
	assert_int_equal(spin_run(5, "10", 200), 0);
	machine("pu:1", false);
	assert_int_equal(spin_run(1, "-1", 2000), 0);
	assert_int_equal(spin_run(2, "-1", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_procs, leave),
		cmocka_unit_test_teardown(test_xml, leave),
		cmocka_unit_test_teardown(test_binding, leave),
		cmocka_unit_test(test_meet),
		cmocka_unit_test_teardown(test_device, leave),
		cmocka_unit_test_teardown(test_at_node, leave),
		cmocka_unit_test_teardown(test_bind, leave),
		cmocka_unit_test_teardown(test_spin, leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
