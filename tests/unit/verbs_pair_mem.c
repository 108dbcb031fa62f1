/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair_mem.c - memory: pages near the device, registering, the limit of locked memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "tests/unit/verbs_pair.h"

/* As the kernel writes a set of processors: that of this thread. */
static const char *cpus_here(char cpus[512])
{
	unsigned cpu;
	size_t len;

	assert_int_equal(getcpu(&cpu, NULL), 0);
	assert_true(cpu < 1024);
	len = (size_t)snprintf(cpus, 512, "%x", 1u << cpu % 32);
	for (; cpu >= 32; cpu -= 32)
		len += (size_t)snprintf(cpus + len, 512 - len, ",00000000");
	return cpus;
}

/* Huge pages and the NUMA node of the device, as far as this kernel knows of them. */
void test_pages(void **state)
{
	int policy = -1;
	char cpus[512];
	void *mem;

	verbs_fake_near(0, cpus_here(cpus));
	connect_ranks();
	assert_int_equal(gy_verbs_ops.mem_alloc(ranks[0].nic, (4 << 20) + 1, &mem), 0);
	assert_int_equal((uintptr_t)mem % (2 << 20), 0);
	assert_true(!((char *)mem)[0] && !((char *)mem)[4 << 20]);
	if (!syscall(SYS_get_mempolicy, &policy, NULL, 0, mem, MPOL_F_ADDR))
		assert_true(policy == MPOL_PREFERRED || policy == MPOL_PREFERRED_MANY);
	assert_int_equal(gy_verbs_ops.mem_free(ranks[0].nic, (char *)mem + 1), -EINVAL);
	assert_int_equal(gy_verbs_ops.mem_free(ranks[0].nic, mem), 0);
	assert_int_equal(gy_verbs_ops.mem_alloc(ranks[0].nic, 1, &mem), 0);
	assert_int_equal(gy_verbs_ops.mem_free(ranks[0].nic, mem), 0);
	assert_int_equal(gy_verbs_ops.mem_alloc(ranks[0].nic, SIZE_MAX, &mem), -ENOMEM);
	assert_int_equal(gy_verbs_ops.mem_alloc(ranks[0].nic, SIZE_MAX / 2, &mem), -ENOMEM);
	close_ranks();
}

/* Of ports that are equally quick, the one on this thread's node. */
void test_near_port(void **state)
{
	char cpus[512];
	unsigned i;

	for (i = 0; i < 3; i++) {
		cpus_here(cpus);
		verbs_fake_near(0, i == 1 ? "0" : cpus);
		verbs_fake_near(1, i == 1 ? cpus : NULL);
		vf.two = true;
		connect_ranks();
		assert_string_equal(to_verbs_nic(ranks[0].nic)->dev->device->name,
				    i == 1 ? "fake1" : "fake0");
		close_ranks();
	}
}

static char warned[600];
static unsigned nwarned;

void test_memlock(void **state)
{
	struct gy_remote remote;
	char *mem = calloc(1, SLOT);
	int i;

	assert_non_null(mem);
	connect_ranks();
	nwarned = 0;
	for (i = 0; i < 2; i++) {
		vf.fail_reg = 1;
		assert_int_equal(gy_verbs_ops.mem_register(ranks[0].nic, mem, SLOT), -ENOMEM);
		gy_verbs_ops.mem_unregister(ranks[0].nic, mem, SLOT);
	}
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "limits.conf"));
	assert_non_null(strstr(warned, "LimitMEMLOCK=infinity"));
	assert_non_null(strstr(warned, "--ulimit memlock=-1"));
	assert_int_equal(gy_verbs_ops.expose(peer_of(0)->base.ep, mem, 1, &remote), -EOPNOTSUPP);
	free(mem);
	close_ranks();
}

/* ---- the limit of locked memory ---- */

static rlim_t locked_soft = RLIM_INFINITY, locked_hard = RLIM_INFINITY;

int __wrap_getrlimit(int resource, struct rlimit *lim);
int __wrap_getrlimit(int resource, struct rlimit *lim)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	*lim = (struct rlimit){ locked_soft, locked_hard };
	return 0;
}

int __wrap_setrlimit(int resource, const struct rlimit *lim);
int __wrap_setrlimit(int resource, const struct rlimit *lim)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	assert_true(lim->rlim_cur <= locked_hard && lim->rlim_max == locked_hard);
	locked_soft = lim->rlim_cur;
	return 0;
}

/* A context with this limit: what the pool may have then; 0: verbs are of no use. */
static size_t pool_with(rlim_t soft, rlim_t hard, size_t lock_limit)
{
	struct gyre_context ctx = { .nranks = 2 };
	struct gy_nic *nic;
	int err;

	gy_config_init(&ctx.cfg);
	ctx.cfg.transport = GY_CONFIG_TRANSPORT_VERBS;
	locked_soft = soft;
	locked_hard = hard;
	vf.lock_limit = lock_limit;
	nwarned = 0;
	assert_int_equal(gy_poll_open(&ctx.poll), 0);
	err = gy_verbs_ops.open(&ctx, &nic);
	if (!err)
		gy_verbs_ops.close(nic);
	gy_poll_close(&ctx.poll);
	vf.lock_limit = 0;
	assert_true(!err || err == -EOPNOTSUPP);
	assert_int_equal(gy_alloc_live(), 0);
	return err ? 0 : ctx.cfg.pool_bytes;
}

void test_pool_shrinks(void **state)
{
	const size_t mib = 1 << 20, all = 16 * mib;
	size_t got;

	assert_int_equal(pool_with(8 * mib, RLIM_INFINITY, 0), all);
	assert_true(locked_soft == RLIM_INFINITY);
	assert_int_equal(pool_with(8 * mib, 32 * mib, 32 * mib), all);
	assert_int_equal(pool_with(8 * mib, 8 * mib, 0), all);	/* it has privileges */
	assert_int_equal(nwarned, 0);

	got = pool_with(8 * mib, 8 * mib, 8 * mib);
	assert_in_range(got, 6 * mib, 8 * mib - 1);
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "KiB for slots instead of 16384"));
	assert_non_null(strstr(warned, "limits.conf"));
	assert_in_range(pool_with(5 * mib, 5 * mib, 5 * mib), 4 * mib, 5 * mib - 1);

	assert_int_equal(pool_with(4 * mib, 4 * mib, 4 * mib), 0);
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "verbs are not used"));
	assert_non_null(strstr(warned, "--ulimit memlock=-1"));
	locked_soft = locked_hard = RLIM_INFINITY;
	verbs_fake_reset();
}

void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...);
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > GY_LOG_WARN)
		return;
	nwarned++;
	va_start(ap, fmt);
	vsnprintf(warned, sizeof(warned), fmt, ap);
	va_end(ap);
}
