/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_TOOLS_GYRE_WAN_H
#define GY_TOOLS_GYRE_WAN_H
/*
 * gyre-wan: a wide-area network on one machine.
 *
 *   gyre-wan.c		options, children, signals
 *   gyre-wan-topo.c	the topology file
 *   gyre-wan-site.c	a network namespace and a TUN device per site; how a process enters one
 *   gyre-wan-relay.c	carries packets from site to site: rate, queue, loss, delay
 *
 * One thread.  What fails at the start ends the program with a message.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include "tools/tool.h"

#define GW_MAX_SITES 16
#define GW_NAME 32
#define GW_EXIT_SELF 125
#define GW_EXIT_SKIP 77

struct gw_site {
	char name[GW_NAME];
	char addr[24]; /* 10.N.0.1, N from 1 */
	int netns, tun; /* fds */
	pid_t child; /* 0: none, or it has ended */
};

struct gw_counters {
	uint64_t packets, bytes; /* delivered */
	uint64_t lost, queue_drops; /* by the topology's loss; by a full queue */
	uint64_t write_drops; /* the receiving device did not take it */
};

struct gw_link {
	bool set;
	double delay_ns, jitter_ns, loss;
	double rate; /* bytes/s; 0: no limit */
	double queue; /* bytes; 0: rate x round trip, at least 256 KiB */

	uint64_t random;
	double busy_ns; /* when the sender has sent all that it has */
	uint64_t due_ns; /* of the last packet: nothing overtakes */
	char *ring; /* struct relay_packet, packet, ... */
	size_t size, head, tail; /* positions count on and on; size is a power of 2 */
	struct gw_counters count;
};

struct gw_net {
	int n, mtu;
	uint64_t seed;
	struct gw_site site[GW_MAX_SITES];
	struct gw_link link[GW_MAX_SITES][GW_MAX_SITES]; /* [from][to] */
};

/* ---- topology ---- */

void gw_topo_read(struct gw_net *net, const char *path);
/* "rate=1gbit", as in the file, into one link; tool_die if it cannot be: where says whence it is */
void gw_topo_set(struct gw_link *link, const char *setting, const char *where);
int gw_topo_find(const struct gw_net *net, const char *site); /* -1: none */

/* ---- sites ---- */

void gw_sites_make(struct gw_net *net);
/* In a child: moves it into the site, and tells it so in its environment. */
void gw_site_enter(const struct gw_net *net, int site);
/* In a process below a running gyre-wan: the same, by the environment. */
void gw_site_join(const char *site);

/* ---- relay ---- */

void gw_relay_init(struct gw_net *net);
void gw_relay_read(struct gw_net *net, int site);
/* Delivers what is due; when the next is, UINT64_MAX: nothing is under way. */
uint64_t gw_relay_deliver(struct gw_net *net);
uint64_t gw_now_ns(void);
void gw_relay_print(const struct gw_net *net, FILE *to, bool json);

#endif
