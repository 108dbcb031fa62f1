/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-doctor.c - what is wrong with this machine or its settings, one line for each problem,
 * with the command that puts it right.  A note is what costs speed, or is as it may be meant.
 *
 * What a job needs is reckoned for as many ranks on this machine as -n says, else for one for each
 * processor that this process may use, which is what people start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/types.h>
#include "lib/util.h"
#include "tools/gyre-info.h"

#define DOCTOR_LOCKED (4 * 1024 * 1024)		/* registered beside the pool, at least */
#define DOCTOR_PEER_LOCKED (64 * 1024)		/* registered for each peer, at most */
#define DOCTOR_PEER_SHM (24 * 1024)		/* an inbox for each peer on the node */
#define DOCTOR_FILES 32				/* of a process, before there are peers */
#define DOCTOR_PEER_FILES 2			/* for each peer, beside its bulk connections */
#define MIB (1024LL * 1024)

/* ---- findings ---- */

__attribute__((format(printf, 4, 0))) static void doctor_add(struct gi_findings *found,
							     bool problem, const char *area,
							     const char *fmt, va_list ap)
{
	struct gi_finding *f;

	found->list = gi_grow(found->list, found->n, sizeof(*found->list));
	f = &found->list[found->n++];
	found->nproblems += problem;
	f->problem = problem;
	f->area = area;
	f->fix = gi_format("%s", "");
	if (vasprintf(&f->text, fmt, ap) < 0)
		tool_die("out of memory");
}

void gi_problem(struct gi_findings *found, const char *area, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	doctor_add(found, true, area, fmt, ap);
	va_end(ap);
}

void gi_note(struct gi_findings *found, const char *area, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	doctor_add(found, false, area, fmt, ap);
	va_end(ap);
}

void gi_fix(struct gi_findings *found, const char *fmt, ...)
{
	struct gi_finding *f = &found->list[found->n - 1];
	va_list ap;

	free(f->fix);
	va_start(ap, fmt);
	if (vasprintf(&f->fix, fmt, ap) < 0)
		tool_die("out of memory");
	va_end(ap);
}

void gi_findings_free(struct gi_findings *found)
{
	while (found->n > 0) {
		found->n--;
		free(found->list[found->n].text);
		free(found->list[found->n].fix);
	}
	free(found->list);
}

/* ---- transports and network ---- */

static void doctor_transports(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_settings *set = &info->settings;
	size_t i, open = 0;

	for (i = 0; i < set->ntransports; i++) {
		const struct gi_transport *t = &set->transports[i];
		const char *why = t->why[0] ? t->why : gyre_strerror(t->err);

		open += !t->err && t->wanted;
		if (!t->err || !t->wanted || t->simulated)
			continue;
		if (set->cfg.transport != GY_CONFIG_TRANSPORT_AUTO) {
			gi_problem(found, "transport",
				   "GYRE_TRANSPORT asks for %s, which does not open: %s", t->name,
				   why);
			gi_fix(found, "unset GYRE_TRANSPORT");
		} else if (strcmp(t->name, "verbs") != 0) {
			gi_problem(found, "transport", "%s does not open: %s", t->name, why);
		}
	}
	if (!open && set->cfg.transport == GY_CONFIG_TRANSPORT_SIM) {
		gi_problem(found, "transport",
			   "GYRE_TRANSPORT=sim works in the library's tests only");
		gi_fix(found, "unset GYRE_TRANSPORT");
	}
}

static void doctor_network(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_net *net = &info->net;
	const char *filter = info->settings.cfg.tcp_interfaces, *down = NULL;
	size_t i, a;
	bool beyond = false;

	for (i = 0; i < net->n; i++) {
		const struct gi_interface *f = &net->interfaces[i];

		if (!f->loopback && !f->up && !down)
			down = f->name;
		for (a = 0; a < f->n; a++)
			beyond |= f->addresses[a].used && !f->loopback;
	}
	if (net->err && filter[0]) {
		gi_problem(found, "network", "%s", net->why);
		gi_fix(found, "unset GYRE_TCP_INTERFACES");
	} else if (net->err) {
		gi_problem(found, "network", "no interface has an address: %s", net->why);
		gi_fix(found, "sudo ip link set dev %s up", down ? down : "lo");
	} else if (!beyond) {
		gi_note(found, "network",
			"no address but the loopback's is used: jobs stay on this machine");
		if (down)
			gi_fix(found, "sudo ip link set dev %s up", down);
	}
}

/* ---- limits ---- */

/* Where limits of a session come from depends on who starts the ranks. */
static void doctor_fix_limit(const struct gi_host *host, struct gi_findings *found,
			     const char *name, const char *systemd, const char *value)
{
	if (host->container)
		gi_fix(found, "%s run --ulimit %s=%s ...", host->container, name,
		       strcmp(value, "unlimited") ? value : "-1");
	else if (host->slurm)
		gi_fix(found,
		       "sudo mkdir -p /etc/systemd/system/slurmd.service.d && "
		       "printf '[Service]\\nLimit%s=%s\\n' | "
		       "sudo tee /etc/systemd/system/slurmd.service.d/gyre-%s.conf && "
		       "sudo systemctl daemon-reload && sudo systemctl restart slurmd",
		       systemd, strcmp(value, "unlimited") ? value : "infinity", name);
	else
		gi_fix(found,
		       "printf '* - %s %s\\nroot - %s %s\\n' | "
		       "sudo tee /etc/security/limits.d/gyre-%s.conf  # then log in again",
		       name, value, name, value, name);
}

static void doctor_memlock(const struct gi_info *info, int ranks, struct gi_findings *found)
{
	const struct gi_host *host = &info->host;
	const size_t peers = (size_t)(ranks - 1) * DOCTOR_PEER_LOCKED;
	const long long need =
		(long long)(info->settings.cfg.pool_bytes + gy_max(DOCTOR_LOCKED, peers));
	char has[32], needs[32];

	/* The library raises its soft limit to the hard one. */
	if (!info->rdma.n || host->locks_freely || host->memlock.hard == GI_UNKNOWN ||
	    host->memlock.hard >= need)
		return;
	gi_size_text(host->memlock.hard, has, sizeof(has));
	gi_size_text(need, needs, sizeof(needs));
	gi_problem(found, "memlock",
		   "%s may be locked, but each rank takes %s for RDMA, with %d on this machine",
		   has, needs, ranks);
	doctor_fix_limit(host, found, "memlock", "MEMLOCK", "unlimited");
}

static void doctor_files(const struct gi_info *info, int ranks, struct gi_findings *found)
{
	const struct gi_limit *nofile = &info->host.nofile;
	const long long need =
		DOCTOR_FILES +
		(long long)(ranks - 1) * (DOCTOR_PEER_FILES + info->settings.cfg.tcp_streams);
	char value[32];

	if (nofile->soft == GI_UNKNOWN || nofile->soft >= need)
		return;
	gi_problem(found, "nofile",
		   "a process may have %lld files open, but each of %d ranks may need %lld",
		   nofile->soft, ranks, need);
	if (nofile->hard >= need) {
		gi_fix(found, "ulimit -n %lld", need);
		return;
	}
	snprintf(value, sizeof(value), "%lld", need + need / 2);
	doctor_fix_limit(&info->host, found, "nofile", "NOFILE", value);
}

static void doctor_shm(const struct gi_info *info, int ranks, struct gi_findings *found)
{
	const struct gi_host *host = &info->host;
	const long long need = (long long)ranks * ((long long)info->settings.cfg.pool_bytes +
						   (long long)(ranks - 1) * DOCTOR_PEER_SHM);
	long long mib;
	char has[32], needs[32];

	if (host->memfd || host->shm_free >= need)
		return;
	gi_size_text(host->shm_free == GI_UNKNOWN ? 0 : host->shm_free, has, sizeof(has));
	gi_size_text(need, needs, sizeof(needs));
	gi_problem(found, "shm",
		   "memfd_create is not allowed here, and /dev/shm has %s free, "
		   "but %d ranks share %s",
		   has, ranks, needs);
	mib = need / MIB + 64 +
	      (host->shm_size > host->shm_free ? (host->shm_size - host->shm_free) / MIB : 0);
	if (host->container)
		gi_fix(found, "%s run --shm-size=%lldm ...", host->container, mib);
	else if (host->shm_size == GI_UNKNOWN)
		gi_fix(found,
		       "sudo mkdir -p /dev/shm && sudo mount -t tmpfs -o size=%lldm tmpfs "
		       "/dev/shm",
		       mib);
	else
		gi_fix(found, "sudo mount -o remount,size=%lldm /dev/shm", mib);
}

/* Every pool full, and as much again for the program. */
static void doctor_memory(const struct gi_info *info, int ranks, struct gi_findings *found)
{
	const struct gi_host *host = &info->host;
	const long long pool = (long long)info->settings.cfg.pool_bytes, need = ranks * pool;
	const bool group = host->memory_limit != GI_UNLIMITED &&
			   (host->memory == GI_UNKNOWN || host->memory_limit < host->memory);
	const long long limit = group ? host->memory_limit : host->memory;
	char has[32], needs[32];

	if (limit == GI_UNKNOWN || need <= limit / 2)
		return;
	gi_size_text(limit, has, sizeof(has));
	gi_size_text(need, needs, sizeof(needs));
	gi_problem(found, "memory", "pools of %d ranks take up to %s, and %s %s", ranks, needs,
		   group ? "this control group may use only" : "this machine has only", has);
	if (limit / 4 / ranks >= MIB)
		gi_fix(found, "export GYRE_POOL_BYTES=%lldm", limit / 4 / ranks / MIB);
	else
		gi_fix(found, "gyrerun -n %zu ...", gy_max((size_t)(limit / 4 / MIB), 1));
}

static void doctor_processors(const struct gi_info *info, int ranks, struct gi_findings *found)
{
	const struct gi_host *host = &info->host;
	const long long quota = host->cpu_quota_m == GI_UNLIMITED ? host->cpus_allowed * 1000LL
								  : host->cpu_quota_m;
	const int usable = (int)gy_max(1, (size_t)(quota / 1000));

	/* With more ranks than the machine has processors the library does not spin by itself. */
	if (ranks <= usable || ranks > host->cpus || info->settings.cfg.spin_us == 0)
		return;
	gi_problem(found, "cpu",
		   "%d ranks spin as if each had a processor; %s allows %.2f of %d", ranks,
		   quota < host->cpus_allowed * 1000LL ? "the control group" : "the binding",
		   (double)gy_min((size_t)quota, (size_t)host->cpus_allowed * 1000) / 1000,
		   host->cpus);
	if (info->ranks)
		gi_fix(found, "export GYRE_SPIN_US=0");
	else
		gi_fix(found, "gyrerun -n %d ...", usable);
}

/* ---- reading other processes' memory ---- */

static void doctor_cma(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_host *host = &info->host;
	const int cma = info->settings.cfg.cma;

	if (!host->cma || cma == GY_CONFIG_OFF)
		return;
	if (cma == GY_CONFIG_ON && host->yama == 1)
		return;			/* ranks allow it themselves */
	if (host->yama == 1)
		gi_problem(found, "cma",
			   "kernel.yama.ptrace_scope = 1 keeps ranks from reading each other's "
			   "memory; GYRE_CMA=auto goes without it");
	else if (host->yama > 1)
		gi_problem(found, "cma",
			   "kernel.yama.ptrace_scope = %d keeps ranks from reading each other's "
			   "memory",
			   host->yama);
	else
		gi_problem(found, "cma",
			   "ranks cannot read each other's memory: process_vm_readv: %s",
			   strerror(-host->cma));
	if (host->yama == 1)
		gi_fix(found, "export GYRE_CMA=on");
	else if (host->yama == 2)
		gi_fix(found, "sudo sysctl -w kernel.yama.ptrace_scope=0");
	else if (host->yama != 3 && host->container)
		gi_fix(found, "%s run --cap-add=SYS_PTRACE ...", host->container);
	else
		gi_fix(found, "export GYRE_CMA=off");	/* 3 stays until the next boot */
}

/* ---- all ---- */

void gi_doctor(const struct gi_info *info, struct gi_findings *found)
{
	const int ranks = info->ranks			? info->ranks
			  : info->host.cpus_allowed > 0 ? info->host.cpus_allowed
							: 1;

	gi_doctor_settings(info, found);
	doctor_transports(info, found);
	doctor_memlock(info, ranks, found);
	gi_doctor_rdma(info, found);
	doctor_network(info, found);
	doctor_files(info, ranks, found);
	doctor_shm(info, ranks, found);
	doctor_memory(info, ranks, found);
	doctor_processors(info, ranks, found);
	doctor_cma(info, found);
}

void gi_findings_print(const struct gi_findings *found)
{
	size_t i;

	for (i = 0; i < found->n; i++) {
		const struct gi_finding *f = &found->list[i];

		printf("%s: %s: %s%s%s\n", f->problem ? "problem" : "note", f->area, f->text,
		       f->fix[0] ? "; fix: " : "", f->fix);
	}
	if (!found->nproblems)
		printf("no problems\n");
}

void gi_findings_show(const struct gi_findings *found, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "problem", "Problem" },
		{ "area", "Area" },
		{ "text", "What" },
		{ "fix", "Fix" },
	};
	size_t i;

	gi_doc_section(doc, "doctor", "Problems");
	gi_doc_field(doc, "problems", "Problems", gi_int((long long)found->nproblems));
	gi_doc_table(doc, "findings", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; i < found->n; i++) {
		gi_doc_cell(doc, gi_bool(found->list[i].problem));
		gi_doc_cell(doc, gi_str(found->list[i].area));
		gi_doc_cell(doc, gi_str(found->list[i].text));
		gi_doc_cell(doc, gi_str(found->list[i].fix));
	}
}
