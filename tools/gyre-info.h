/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TOOLS_GYRE_INFO_H
#define GY_TOOLS_GYRE_INFO_H
/*
 * gyre-info: what this machine has for gyre, and what is wrong with it.
 *
 *   gyre-info.c		options; which sections
 *   gyre-info-file.c		files under the root that --root names
 *   gyre-info-doc.c		the document: sections of fields and tables; prints it as text
 *   gyre-info-json.c		prints it as JSON (gyre-info-nojson.c: without jansson)
 *   gyre-info-rdma.c		RDMA devices, ports and GIDs, from sysfs
 *   gyre-info-verbs.c		what only libibverbs knows of them (gyre-info-noverbs.c: nothing)
 *   gyre-info-host.c		limits, memory, processors, control groups, CMA
 *   gyre-info-net.c		interfaces and addresses, and which of them gyre uses
 *   gyre-info-settings.c	settings, algorithms, transports
 *   gyre-info-topo.c		the topology, by hwloc
 *   gyre-info-doctor.c		what is wrong in all of that, and how to put it right
 *   gyre-info-doctor-rdma.c	the same for RDMA devices,
 *   gyre-info-doctor-settings.c	and for settings
 *
 * The facts are read once, into struct gi_info; then they are shown, or judged, or both.  One
 * thread; memory that is short ends the program.
 */
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/config.h"
#include "tools/tool.h"

#define GI_UNKNOWN (-1LL)
#define GI_UNLIMITED INT64_MAX
#define GI_MAX_RANKS 65535

/* array has n items of that size; returns it with room for one more, zeroed. */
void *gi_grow(void *array, size_t n, size_t size);
__attribute__((format(printf, 1, 2))) char *gi_format(const char *fmt, ...);	/* free() it */

/* ---- files: paths are as on the machine, "/proc/meminfo" ---- */

void gi_root_set(const char *dir);	/* "": this machine */
bool gi_root_is_here(void);

/* path below the root, in a buffer of its own until the next call */
__attribute__((format(printf, 1, 2))) const char *gi_path(const char *fmt, ...);

/* The beginning of a file without blanks at its end; false, and "", when it cannot be read. */
__attribute__((format(printf, 3, 4))) bool gi_read(char *buf, size_t size, const char *fmt, ...);
/* A number; "max" is GI_UNLIMITED; GI_UNKNOWN when there is none. */
__attribute__((format(printf, 1, 2))) long long gi_read_int(const char *fmt, ...);
/* Names in a directory, sorted as people count; *namesp by gi_names_free.  How many. */
__attribute__((format(printf, 2, 3))) size_t gi_names(char ***namesp, const char *fmt, ...);
void gi_names_free(char **names, size_t n);
/* The last part of what a link points to. */
__attribute__((format(printf, 3, 4))) bool gi_link(char *buf, size_t size, const char *fmt, ...);
/* How many numbers a list such as "0-3,8" names. */
int gi_count_list(const char *list);

/* ---- document ---- */

enum gi_kind {
	GI_NONE,	/* not known: "-", null */
	GI_TEXT,
	GI_INT,
	GI_SIZE,	/* bytes: "16 MiB", 16777216; GI_UNLIMITED is "unlimited", -1 */
	GI_BOOL		/* "yes", true */
};

struct gi_value {
	enum gi_kind kind;
	long long n;
	char *text;
};

struct gi_value gi_none(void);
__attribute__((format(printf, 1, 2))) struct gi_value gi_text(const char *fmt, ...);
struct gi_value gi_str(const char *text);	/* NULL, "": not known */
struct gi_value gi_int(long long n);		/* GI_UNKNOWN: not known */
struct gi_value gi_size(long long bytes);	/* likewise */
struct gi_value gi_bool(bool yes);

struct gi_column {
	const char *key;	/* in JSON; NULL: not there */
	const char *head;	/* in text; likewise */
};

struct gi_item {
	const char *key;
	const char *label;		/* of a field, in text */
	struct gi_value value;		/* of a field */
	const struct gi_column *columns;	/* of a table; NULL: a field */
	size_t ncolumns, ncells;
	struct gi_value *cells;
};

struct gi_section {
	const char *key, *title;
	struct gi_item *items;
	size_t n;
};

struct gi_doc {
	struct gi_section *sections;
	size_t n;
};

void gi_doc_section(struct gi_doc *doc, const char *key, const char *title);
void gi_doc_field(struct gi_doc *doc, const char *key, const char *label, struct gi_value value);
void gi_doc_table(struct gi_doc *doc, const char *key, const struct gi_column *columns,
		  size_t ncolumns);
void gi_doc_cell(struct gi_doc *doc, struct gi_value value);	/* of the last table, row by row */
void gi_doc_free(struct gi_doc *doc);
void gi_doc_print(const struct gi_doc *doc);

bool gi_json_can(void);
void gi_json_print(const struct gi_doc *doc);

/* A size as people write it: "16 MiB". */
void gi_size_text(long long bytes, char *buf, size_t len);

/* ---- RDMA ---- */

struct gi_gid {
	int index;
	uint8_t raw[16];
	char type[24];		/* "IB", "RoCE v1", "RoCE v2" */
	char netdev[IFNAMSIZ];
	char text[INET6_ADDRSTRLEN];	/* an IPv4 address as such */
};

struct gi_port {
	int number;
	bool ethernet;
	char link_layer[24], state[24], physical[24], rate[40], netdev[IFNAMSIZ];
	long long lid, sm_lid;
	long long active_mtu, max_mtu;	/* bytes */
	struct gi_gid *gids;
	size_t ngids;
};

struct gi_device {
	char name[64], driver[64], type[24], firmware[64], board[64], guid[32], uverbs[32];
	long long numa;
	bool node;		/* /dev/infiniband/uverbs... is there */
	bool opens;		/* and may be opened */
	struct gi_port *ports;
	size_t nports;
};

struct gi_rdma {
	struct gi_device *devices;
	size_t n;
	bool rdma_cm;		/* /dev/infiniband/rdma_cm may be opened */
	bool library;		/* gyre was built with libibverbs */
	int library_devices;	/* that it finds; -1: not asked */
};

void gi_rdma_read(struct gi_rdma *rdma);
void gi_rdma_free(struct gi_rdma *rdma);
void gi_rdma_show(const struct gi_rdma *rdma, struct gi_doc *doc);
bool gi_port_active(const struct gi_port *port);
/* RoCE v2 by an address of IP that other hosts can use, which is what connections need. */
bool gi_gid_is_roce2(const struct gi_gid *gid);
bool gi_gid_is_link_local(const struct gi_gid *gid);
/* Fills in what sysfs lacks: MTU; which devices the library can use. */
void gi_verbs_read(struct gi_rdma *rdma);

/* ---- host ---- */

struct gi_limit {
	long long soft, hard;
};

struct gi_host {
	char name[256], kernel[256];
	int cpus, cpus_allowed;		/* online; of them for this process */
	long long cpu_quota_m;		/* control group: thousandths of a processor */
	struct gi_limit memlock, nofile;
	bool locks_freely;		/* CAP_IPC_LOCK: memlock does not bind */
	bool traces_freely;		/* CAP_SYS_PTRACE */
	long long memory, memory_free, memory_limit;	/* limit: of the control group */
	long long shm_size, shm_free;	/* /dev/shm */
	bool memfd;			/* memory without a name, which /dev/shm does not bound */
	long long huge_size, huge_total, huge_free;
	char thp[32], thp_shm[32];
	int yama;			/* ptrace_scope; -1: no such module */
	int cma;			/* process_vm_readv between ranks: 0 or -errno */
	const char *container;		/* "docker", "podman"; NULL: none */
	bool slurm;			/* in a job of Slurm */
};

void gi_host_read(struct gi_host *host);
void gi_host_show(const struct gi_host *host, struct gi_doc *doc);
void gi_limits_show(const struct gi_host *host, struct gi_doc *doc);

/* ---- network ---- */

struct gi_address {
	char text[INET6_ADDRSTRLEN];
	int bits;
	bool used;		/* gyre connects to and from it */
};

struct gi_interface {
	char name[IFNAMSIZ], state[24], driver[64];
	bool up, loopback;
	long long mtu, speed, numa;	/* speed: Mb/s */
	struct gi_address *addresses;
	size_t n;
};

struct gi_net {
	struct gi_interface *interfaces;
	size_t n;
	int err;		/* -errno when no address is usable */
	char why[512];		/* what the library says of that */
};

void gi_net_read(struct gi_net *net, const struct gy_config *cfg);
void gi_net_free(struct gi_net *net);
void gi_net_show(const struct gi_net *net, struct gi_doc *doc);

/* ---- settings, algorithms, transports ---- */

struct gi_mistake {
	char *where, *name, *near;	/* unknown: near is "" when nothing is like it */
	char *text;			/* not valid: what the library says; else NULL */
};

struct gi_transport {
	const char *name;
	bool wanted;		/* by GYRE_TRANSPORT */
	bool simulated;		/* works in the library's tests only */
	int err;		/* of opening it: 0 or -errno */
	char why[512];
};

struct gi_settings {
	struct gy_config cfg;
	char *from[GY_CONFIG_MAX_SETTINGS];	/* NULL: the default */
	struct gi_mistake *mistakes;
	size_t nmistakes;
	char algorithm_why[512];	/* what is wrong with GYRE_ALGORITHM; "": nothing */
	struct gi_transport *transports;
	size_t ntransports;
};

void gi_settings_read(struct gi_settings *set);
void gi_settings_free(struct gi_settings *set);
void gi_settings_show(const struct gi_settings *set, struct gi_doc *doc);
void gi_transports_show(const struct gi_settings *set, struct gi_doc *doc);
/* For one number of ranks, or (0) all, those that choose alike in one row. */
void gi_algorithms_show(const struct gi_settings *set, int ranks, struct gi_doc *doc);

/* The first message of the library from now on goes to buf, none to stderr; NULL: as before. */
void gi_log_to(char *buf, size_t size);

/* ---- all of it ---- */

struct gi_info {
	int ranks;		/* on this machine, asked for by -n; 0: not said */
	struct gi_host host;
	struct gi_rdma rdma;
	struct gi_net net;
	struct gi_settings settings;
};

void gi_topology_show(const struct gi_info *info, struct gi_doc *doc);

/* ---- doctor ---- */

struct gi_finding {
	bool problem;		/* else a note, which does not count */
	const char *area;
	char *text, *fix;	/* a command; "" where there is none */
};

struct gi_findings {
	struct gi_finding *list;
	size_t n, nproblems;
};

void gi_doctor(const struct gi_info *info, struct gi_findings *found);
void gi_doctor_settings(const struct gi_info *info, struct gi_findings *found);
void gi_doctor_rdma(const struct gi_info *info, struct gi_findings *found);
void gi_findings_free(struct gi_findings *found);
void gi_findings_print(const struct gi_findings *found);
void gi_findings_show(const struct gi_findings *found, struct gi_doc *doc);

/* The next finding; text, then its fix by gi_fix. */
__attribute__((format(printf, 3, 4))) void gi_problem(struct gi_findings *found, const char *area,
						      const char *fmt, ...);
__attribute__((format(printf, 3, 4))) void gi_note(struct gi_findings *found, const char *area,
						   const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void gi_fix(struct gi_findings *found, const char *fmt, ...);

#endif
