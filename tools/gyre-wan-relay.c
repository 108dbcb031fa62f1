/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-wan-relay.c - carries packets from site to site.
 *
 * A packet that comes out of a site's TUN device goes by its destination address to a link.  The
 * link is a sender that takes len/rate per packet, before it a queue with tail drop, behind it a
 * FIFO delay line.  When a packet leaves the line is known when it enters, so queue and line are
 * one ring of bytes per link, made at the start: no allocation per packet, one copy.
 */
#define _GNU_SOURCE
#include "tools/gyre-wan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RELAY_BATCH 64
#define RELAY_BURST_NS 1e6 /* the rate holds over more than this: the relay may be scheduled late */
#define RELAY_MIN_QUEUE 262144.0
#define RELAY_UNLIMITED 67108864.0 /* bytes under way on a link without a rate */

struct relay_packet {
	uint64_t due_ns;
	uint32_t len; /* 0: nothing more before the ring's end */
	uint32_t room; /* to the next one */
};

uint64_t gw_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* splitmix64, to [0, 1) */
static double relay_random(struct gw_link *link)
{
	uint64_t x = link->random += 0x9e3779b97f4a7c15U;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
	return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static void relay_link_init(struct gw_net *net, int from, int to)
{
	struct gw_link *link = &net->link[from][to], *back = &net->link[to][from];
	double need = RELAY_UNLIMITED;

	link->random = net->seed * 1000003U + (uint64_t)(from * GW_MAX_SITES + to);
	if (link->rate > 0) {
		if (link->queue == 0) {
			link->queue = link->rate * (link->delay_ns + back->delay_ns) / 1e9;
			if (link->queue < RELAY_MIN_QUEUE)
				link->queue = RELAY_MIN_QUEUE;
		}
		need = link->queue + link->rate * (link->delay_ns + link->jitter_ns) / 1e9;
	}
	/* twice: a header for each of many small packets, and what is lost at the ring's end */
	for (link->size = 1 << 20; (double)link->size < 2 * need;)
		link->size *= 2;
	link->ring = mmap(NULL, link->size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (link->ring == MAP_FAILED)
		tool_die("no memory for the link from %s to %s: %zu bytes", net->site[from].name,
			 net->site[to].name, link->size);
}

void gw_relay_init(struct gw_net *net)
{
	for (int i = 0; i < net->n; i++) {
		for (int j = 0; j < net->n; j++) {
			if (i != j)
				relay_link_init(net, i, j);
		}
	}
}

/* Room for a packet, in one piece; NULL: the ring is full */
static struct relay_packet *relay_room(struct gw_link *link, size_t len)
{
	size_t room = (sizeof(struct relay_packet) + len + 15) & ~(size_t)15;
	size_t at = link->tail & (link->size - 1), skip = 0;
	struct relay_packet *p = (void *)(link->ring + at);

	if (at + room > link->size)
		skip = link->size - at;
	if (link->tail + skip + room - link->head > link->size)
		return NULL;
	if (skip) {
		*p = (struct relay_packet){ .room = (uint32_t)skip };
		link->tail += skip;
		p = (void *)link->ring;
	}
	p->len = (uint32_t)len;
	p->room = (uint32_t)room;
	link->tail += room;
	return p;
}

static void relay_send(struct gw_link *link, const char *data, size_t len, uint64_t now)
{
	double t = (double)now, busy = link->busy_ns, leave = t;
	struct relay_packet *p;
	uint64_t due;

	if (link->loss > 0 && relay_random(link) < link->loss) {
		link->count.lost++;
		return;
	}
	if (link->rate > 0) {
		if (busy < t - RELAY_BURST_NS)
			busy = t - RELAY_BURST_NS;
		busy += (double)len * 1e9 / link->rate;
		if ((busy - t) * link->rate / 1e9 > link->queue + (double)len) {
			link->count.queue_drops++;
			return;
		}
		if (busy > t)
			leave = busy;
	}
	p = relay_room(link, len);
	if (!p) {
		link->count.queue_drops++;
		return;
	}
	link->busy_ns = busy;
	if (link->jitter_ns > 0)
		leave += relay_random(link) * link->jitter_ns;
	due = (uint64_t)(leave + link->delay_ns);
	if (due < link->due_ns)
		due = link->due_ns;
	link->due_ns = due;
	p->due_ns = due;
	memcpy(p + 1, data, len);
}

void gw_relay_read(struct gw_net *net, int site)
{
	static char buf[65536];
	uint64_t now = gw_now_ns();

	for (int i = 0; i < RELAY_BATCH; i++) {
		ssize_t len = read(net->site[site].tun, buf, sizeof(buf));
		uint32_t to;

		if (len < 0)
			return;
		if (len < 20 || (buf[0] & 0xf0) != 0x40)
			continue; /* IPv6's neighbour discovery and the like */
		memcpy(&to, buf + 16, sizeof(to));
		to = ntohl(to);
		if (to >> 24 != 10 || (to >> 16 & 255) - 1 >= (uint32_t)net->n)
			continue;
		to = (to >> 16 & 255) - 1;
		if (to != (uint32_t)site)
			relay_send(&net->link[site][to], buf, (size_t)len, now);
	}
}

static void relay_flush(struct gw_link *link, int tun, uint64_t now)
{
	while (link->head != link->tail) {
		struct relay_packet *p = (void *)(link->ring + (link->head & (link->size - 1)));

		if (p->len) {
			if (p->due_ns > now)
				return;
			if (write(tun, p + 1, p->len) == (ssize_t)p->len) {
				link->count.packets++;
				link->count.bytes += p->len;
			} else {
				link->count.write_drops++;
			}
		}
		link->head += p->room;
	}
}

uint64_t gw_relay_deliver(struct gw_net *net)
{
	uint64_t next = UINT64_MAX, now = gw_now_ns();

	for (int i = 0; i < net->n; i++) {
		for (int j = 0; j < net->n; j++) {
			struct gw_link *link = &net->link[i][j];
			const struct relay_packet *p;

			if (i == j || link->head == link->tail)
				continue;
			relay_flush(link, net->site[j].tun, now);
			if (link->head == link->tail)
				continue;
			p = (void *)(link->ring + (link->head & (link->size - 1)));
			if (p->due_ns < next)
				next = p->due_ns;
		}
	}
	return next;
}

static void relay_print_link(const struct gw_counters *c, const char *from, const char *to_site,
			     FILE *to, bool json)
{
	const unsigned long long packets = c->packets, bytes = c->bytes, lost = c->lost;
	const unsigned long long queue = c->queue_drops, write = c->write_drops;

	if (json)
		fprintf(to,
			"{\"from\":\"%s\",\"to\":\"%s\",\"packets\":%llu,\"bytes\":%llu,"
			"\"lost\":%llu,\"queue_drops\":%llu,\"write_drops\":%llu}\n",
			from, to_site, packets, bytes, lost, queue, write);
	else
		fprintf(to, "%-12s %-12s %12llu %16llu %10llu %12llu %12llu\n", from, to_site,
			packets, bytes, lost, queue, write);
}

void gw_relay_print(const struct gw_net *net, FILE *to, bool json)
{
	if (!json)
		fprintf(to, "%-12s %-12s %12s %16s %10s %12s %12s\n", "from", "to", "packets",
			"bytes", "lost", "queue-drops", "write-drops");
	for (int i = 0; i < net->n; i++) {
		for (int j = 0; j < net->n; j++) {
			if (i != j)
				relay_print_link(&net->link[i][j].count, net->site[i].name,
						 net->site[j].name, to, json);
		}
	}
	fflush(to);
}
