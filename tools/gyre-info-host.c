/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-host.c - what the system allows this process: processors, memory, locking, descriptors,
 * shared memory, reading other processes' memory.
 *
 * All from files, but for what only a try can tell (memfd_create, process_vm_readv), which under
 * another root is taken from files too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gyre/types.h>
#include "lib/util.h"
#include "tools/gyre-info.h"

#define HOST_CAP_IPC_LOCK 14
#define HOST_CAP_SYS_PTRACE 19
#define HOST_CGROUP "/sys/fs/cgroup"

/* The text after key at the start of a line of what a file holds, or NULL. */
static const char *host_line(const char *text, const char *key)
{
	const size_t len = strlen(key);
	const char *p;

	for (p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (strncmp(p, key, len) == 0)
			return p + len + strspn(p + len, " \t");
	return NULL;
}

static long long host_number(const char *text)
{
	if (!text)
		return GI_UNKNOWN;
	return strncmp(text, "unlimited", 9) == 0 ? GI_UNLIMITED : strtoll(text, NULL, 10);
}

static struct gi_limit host_limit(const char *limits, const char *name)
{
	const char *soft = host_line(limits, name);

	return (struct gi_limit){
		.soft = host_number(soft),
		.hard = soft ? host_number(soft + strcspn(soft, " ") +
					   strspn(soft + strcspn(soft, " "), " "))
			     : GI_UNKNOWN,
	};
}

/* Capabilities count for the kernel's own limits only where root is the machine's root. */
static void host_capabilities(struct gi_host *host, const char *status)
{
	const char *text = host_line(status, "CapEff:");
	unsigned long long caps = text ? strtoull(text, NULL, 16) : 0, inside, outside, count;
	char map[256];

	if (gi_read(map, sizeof(map), "/proc/self/uid_map") &&
	    sscanf(map, "%llu %llu %llu", &inside, &outside, &count) == 3 &&
	    (inside || outside || count < UINT32_MAX))
		return;
	host->locks_freely = caps >> HOST_CAP_IPC_LOCK & 1;
	host->traces_freely = caps >> HOST_CAP_SYS_PTRACE & 1;
}

static void host_process(struct gi_host *host)
{
	char text[8192], list[1024];
	const char *allowed;

	gi_read(text, sizeof(text), "/proc/self/limits");
	host->memlock = host_limit(text, "Max locked memory");
	host->nofile = host_limit(text, "Max open files");
	gi_read(text, sizeof(text), "/proc/self/status");
	host_capabilities(host, text);
	gi_read(list, sizeof(list), "/sys/devices/system/cpu/online");
	host->cpus = gi_count_list(list);
	allowed = host_line(text, "Cpus_allowed_list:");
	host->cpus_allowed = allowed ? gi_count_list(allowed) : host->cpus;
}

static void host_memory(struct gi_host *host)
{
	char text[8192], *p;
	long long kib;

	gi_read(text, sizeof(text), "/proc/meminfo");
	kib = host_number(host_line(text, "MemTotal:"));
	host->memory = kib == GI_UNKNOWN ? kib : kib * 1024;
	kib = host_number(host_line(text, "MemAvailable:"));
	host->memory_free = kib == GI_UNKNOWN ? kib : kib * 1024;
	kib = host_number(host_line(text, "Hugepagesize:"));
	host->huge_size = kib == GI_UNKNOWN ? kib : kib * 1024;
	host->huge_total = host_number(host_line(text, "HugePages_Total:"));
	host->huge_free = host_number(host_line(text, "HugePages_Free:"));
	/* "always [madvise] never" */
	if (gi_read(text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/enabled") &&
	    (p = strchr(text, '[')))
		snprintf(host->thp, sizeof(host->thp), "%.*s", (int)strcspn(p + 1, "]"), p + 1);
	if (gi_read(text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/shmem_enabled") &&
	    (p = strchr(text, '[')))
		snprintf(host->thp_shm, sizeof(host->thp_shm), "%.*s", (int)strcspn(p + 1, "]"),
			 p + 1);
}

/* ---- control groups ---- */

/*
 * The group's path under one controller: "0::/user.slice" for the second version (controller ""),
 * "4:memory:/docker/1234" for the first.
 */
static bool host_cgroup_path(const char *controller, char *path, size_t size)
{
	char text[4096], *line, *save = NULL, *names, *where;

	if (!gi_read(text, sizeof(text), "/proc/self/cgroup"))
		return false;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		names = strchr(line, ':');
		where = names ? strchr(names + 1, ':') : NULL;
		if (!where)
			continue;
		*where++ = 0;
		names++;
		if (strcmp(names, controller) != 0 && (!*controller || !strstr(names, controller)))
			continue;
		snprintf(path, size, "%s", where);
		return true;
	}
	return false;
}

static long long host_cpu_quota(const char *dir)
{
	long long quota, period;
	char text[64];

	if (gi_read(text, sizeof(text), "%s/cpu.max", dir)) {
		if (sscanf(text, "%lld %lld", &quota, &period) != 2)
			return GI_UNLIMITED;
	} else {
		quota = gi_read_int("%s/cpu.cfs_quota_us", dir);
		period = gi_read_int("%s/cpu.cfs_period_us", dir);
	}
	return quota > 0 && period > 0 ? quota * 1000 / period : GI_UNLIMITED;
}

static long long host_memory_limit(const char *dir)
{
	long long n = gi_read_int("%s/memory.max", dir);

	if (n == GI_UNKNOWN)
		n = gi_read_int("%s/memory.limit_in_bytes", dir);
	/* The first version says "none" by a number near the largest. */
	return n == GI_UNKNOWN || n >= INT64_MAX / 2 ? GI_UNLIMITED : n;
}

/* The least of what the group and those above it allow. */
static long long host_cgroup(const char *controller, long long (*limit)(const char *dir))
{
	char mount[64], path[PATH_MAX - 512], dir[PATH_MAX];
	long long least = GI_UNLIMITED, n;

	snprintf(mount, sizeof(mount), HOST_CGROUP "%s%s", *controller ? "/" : "", controller);
	if (!host_cgroup_path(controller, path, sizeof(path)))
		return least;
	for (;;) {
		snprintf(dir, sizeof(dir), "%s%s", mount, strcmp(path, "/") ? path : "");
		n = limit(dir);
		least = n < least ? n : least;
		if (!path[0] || !strcmp(path, "/"))
			return least;
		*strrchr(path, '/') = 0;
	}
}

static void host_groups(struct gi_host *host)
{
	const long long v1 = host_cgroup("memory", host_memory_limit);
	const long long v2 = host_cgroup("", host_memory_limit);
	const long long cpu1 = host_cgroup("cpu", host_cpu_quota);
	const long long cpu2 = host_cgroup("", host_cpu_quota);

	host->memory_limit = v1 < v2 ? v1 : v2;
	host->cpu_quota_m = cpu1 < cpu2 ? cpu1 : cpu2;
}

/* ---- shared memory ---- */

static void host_shm(struct gi_host *host)
{
	struct statvfs fs;
	int fd;

	host->shm_size = host->shm_free = GI_UNKNOWN;
	if (statvfs(gi_path("/dev/shm"), &fs) == 0) {
		host->shm_size = (long long)(fs.f_blocks * fs.f_frsize);
		host->shm_free = (long long)(fs.f_bavail * fs.f_frsize);
	}
	if (!gi_root_is_here()) {
		/* 2: only with flags that the library does not give */
		host->memfd = gi_read_int("/proc/sys/vm/memfd_noexec") != 2;
		return;
	}
	fd = memfd_create("gyre-info", MFD_CLOEXEC);
	host->memfd = fd >= 0;
	if (fd >= 0)
		close(fd);
}

/*
 * As ranks do it: a process reads one of its user that is not its child.  Where cma is on, ranks
 * allow that first.
 */
static int host_try_cma(void)
{
	uint64_t secret = 0x67797265, found = 0;
	struct iovec local = { &found, sizeof(found) }, remote = { &secret, sizeof(secret) };
	const pid_t parent = getpid();
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(process_vm_readv(parent, &local, 1, &remote, 1, 0) < 0 ? errno & 0xff : 0);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static void host_cma(struct gi_host *host)
{
	const long long yama = gi_read_int("/proc/sys/kernel/yama/ptrace_scope");

	host->yama = (int)yama;
	if (gi_root_is_here())
		host->cma = host_try_cma();
	else
		host->cma = yama == 3 || (yama > 0 && !host->traces_freely) ? -EPERM : 0;
}

void gi_host_read(struct gi_host *host)
{
	gi_read(host->name, sizeof(host->name), "/proc/sys/kernel/hostname");
	gi_read(host->kernel, sizeof(host->kernel), "/proc/sys/kernel/osrelease");
	host_process(host);
	host_memory(host);
	host_groups(host);
	host_shm(host);
	host_cma(host);
	if (access(gi_path("/.dockerenv"), F_OK) == 0)
		host->container = "docker";
	else if (access(gi_path("/run/.containerenv"), F_OK) == 0)
		host->container = "podman";
	host->slurm = getenv("SLURM_JOB_ID");
}

/* ---- showing ---- */

void gi_host_show(const struct gi_host *host, struct gi_doc *doc)
{
	gi_doc_section(doc, "system", "System");
	gi_doc_field(doc, "gyre", "gyre", gi_str(gyre_version()));
	gi_doc_field(doc, "host", "Host", gi_str(host->name));
	gi_doc_field(doc, "kernel", "Linux", gi_str(host->kernel));
	gi_doc_field(doc, "container", "Container", gi_str(host->container));
	gi_doc_field(doc, "cpus", "Processors", host->cpus ? gi_int(host->cpus) : gi_none());
	gi_doc_field(doc, "cpus_allowed", "Processors for this process",
		     host->cpus_allowed ? gi_int(host->cpus_allowed) : gi_none());
	gi_doc_field(doc, "cpu_quota", "Processors' worth of time",
		     host->cpu_quota_m == GI_UNLIMITED
			     ? gi_text("unlimited")
			     : gi_text("%.2f", (double)host->cpu_quota_m / 1000));
	gi_doc_field(doc, "memory", "Memory", gi_size(host->memory));
	gi_doc_field(doc, "memory_available", "Memory available", gi_size(host->memory_free));
	gi_doc_field(doc, "memory_limit", "Memory for this control group",
		     gi_size(host->memory_limit));
	gi_doc_field(doc, "huge_page", "Huge page", gi_size(host->huge_size));
	gi_doc_field(doc, "huge_pages", "Huge pages", gi_int(host->huge_total));
	gi_doc_field(doc, "huge_pages_free", "Huge pages free", gi_int(host->huge_free));
	gi_doc_field(doc, "transparent_huge_pages", "Transparent huge pages", gi_str(host->thp));
	gi_doc_field(doc, "transparent_huge_shm", "The same for shared memory",
		     gi_str(host->thp_shm));
}

static struct gi_value host_cma_value(const struct gi_host *host)
{
	return host->cma ? gi_text("fails: %s", strerror(-host->cma)) : gi_text("works");
}

void gi_limits_show(const struct gi_host *host, struct gi_doc *doc)
{
	static const char *const scopes[] = { "0, no restriction", "1, children only",
					      "2, CAP_SYS_PTRACE only", "3, never" };

	gi_doc_section(doc, "limits", "Limits");
	gi_doc_field(doc, "memlock_soft", "Locked memory", gi_size(host->memlock.soft));
	gi_doc_field(doc, "memlock_hard", "Locked memory, hard limit", gi_size(host->memlock.hard));
	gi_doc_field(doc, "cap_ipc_lock", "Exempt from it (CAP_IPC_LOCK)",
		     gi_bool(host->locks_freely));
	gi_doc_field(doc, "nofile_soft", "Open files", gi_int(host->nofile.soft));
	gi_doc_field(doc, "nofile_hard", "Open files, hard limit", gi_int(host->nofile.hard));
	gi_doc_field(doc, "memfd", "Shared memory without /dev/shm (memfd)", gi_bool(host->memfd));
	gi_doc_field(doc, "shm_size", "/dev/shm", gi_size(host->shm_size));
	gi_doc_field(doc, "shm_free", "/dev/shm free", gi_size(host->shm_free));
	gi_doc_field(doc, "process_vm_readv", "Reading other ranks (process_vm_readv)",
		     host_cma_value(host));
	gi_doc_field(doc, "ptrace_scope", "Yama ptrace_scope",
		     host->yama >= 0 && host->yama < (int)GY_ARRAY_SIZE(scopes)
			     ? gi_str(scopes[host->yama])
			     : gi_text("no such module"));
}
