/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-net.c - interfaces and their addresses.  Which of them gyre uses is asked of the
 * library, with the settings in force.  Addresses are always those of this process's network
 * namespace; what is in /sys comes from the root.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/addrs.h"
#include "lib/util.h"
#include "tools/gyre-info.h"

#define NET_MAX_IPS 256

/* Where the address of a sockaddr begins and how long it is; 0: neither IPv4 nor IPv6. */
static size_t net_bytes(const struct sockaddr *sa, const uint8_t **bytesp)
{
	if (!sa || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return 0;
	if (sa->sa_family == AF_INET) {
		*bytesp = (const uint8_t *)&((const struct sockaddr_in *)sa)->sin_addr;
		return 4;
	}
	*bytesp = ((const struct sockaddr_in6 *)sa)->sin6_addr.s6_addr;
	return 16;
}

static int net_prefix(const struct sockaddr *mask)
{
	const uint8_t *bytes;
	size_t n = net_bytes(mask, &bytes), i;
	int bits = 0;

	for (i = 0; i < n; i++)
		bits += __builtin_popcount(bytes[i]);
	return bits;
}

static struct gi_interface *net_interface(struct gi_net *net, const struct ifaddrs *ifa)
{
	struct gi_interface *i;
	size_t n;

	for (n = 0; n < net->n; n++)
		if (strcmp(net->interfaces[n].name, ifa->ifa_name) == 0)
			return &net->interfaces[n];
	net->interfaces = gi_grow(net->interfaces, net->n, sizeof(*net->interfaces));
	i = &net->interfaces[net->n++];
	snprintf(i->name, sizeof(i->name), "%s", ifa->ifa_name);
	i->up = ifa->ifa_flags & IFF_UP;
	i->loopback = ifa->ifa_flags & IFF_LOOPBACK;
	gi_read(i->state, sizeof(i->state), "/sys/class/net/%s/operstate", i->name);
	gi_link(i->driver, sizeof(i->driver), "/sys/class/net/%s/device/driver", i->name);
	i->mtu = gi_read_int("/sys/class/net/%s/mtu", i->name);
	i->speed = gi_read_int("/sys/class/net/%s/speed", i->name);
	i->numa = gi_read_int("/sys/class/net/%s/device/numa_node", i->name);
	return i;
}

static void net_address(struct gi_interface *i, const struct ifaddrs *ifa, const struct gy_ip *ips,
			int nips)
{
	const uint8_t *bytes;
	const size_t len = net_bytes(ifa->ifa_addr, &bytes);
	struct gi_address *a;
	int n;

	if (!len)
		return;
	i->addresses = gi_grow(i->addresses, i->n, sizeof(*i->addresses));
	a = &i->addresses[i->n++];
	inet_ntop(ifa->ifa_addr->sa_family, bytes, a->text, sizeof(a->text));
	a->bits = net_prefix(ifa->ifa_netmask);
	for (n = 0; n < nips; n++)
		a->used |= ips[n].family == (len == 4 ? 4 : 6) &&
			   memcmp(ips[n].bytes, bytes, len) == 0;
}

void gi_net_read(struct gi_net *net, const struct gy_config *cfg)
{
	struct gy_ip ips[NET_MAX_IPS];
	struct ifaddrs *list, *ifa;
	int n;

	gi_log_to(net->why, sizeof(net->why));
	n = gy_ips_local(cfg->tcp_interfaces, ips, NET_MAX_IPS);
	gi_log_to(NULL, 0);
	net->err = n < 0 ? n : 0;
	if (getifaddrs(&list)) {
		net->err = -errno;
		snprintf(net->why, sizeof(net->why), "getifaddrs: %s", strerror(errno));
		return;
	}
	for (ifa = list; ifa; ifa = ifa->ifa_next)
		net_address(net_interface(net, ifa), ifa, ips, n);
	freeifaddrs(list);
}

void gi_net_free(struct gi_net *net)
{
	size_t i;

	for (i = 0; i < net->n; i++)
		free(net->interfaces[i].addresses);
	free(net->interfaces);
}

void gi_net_show(const struct gi_net *net, struct gi_doc *doc)
{
	static const struct gi_column interfaces[] = {
		{ "name", "Interface" },
		{ "state", "State" },
		{ "mtu", "MTU" },
		{ "speed_mbps", "Mb/s" },
		{ "numa_node", "NUMA" },
		{ "driver", "Driver" },
	};
	static const struct gi_column addresses[] = {
		{ "interface", "Address of" },
		{ "address", "Address" },
		{ "prefix", "Prefix" },
		{ "used", "Used by gyre" },
	};
	size_t i, a;

	gi_doc_section(doc, "network", "Network");
	gi_doc_table(doc, "interfaces", interfaces, GY_ARRAY_SIZE(interfaces));
	for (i = 0; i < net->n; i++) {
		const struct gi_interface *f = &net->interfaces[i];

		gi_doc_cell(doc, gi_str(f->name));
		gi_doc_cell(doc, gi_str(f->up ? f->state : "off"));
		gi_doc_cell(doc, gi_int(f->mtu));
		gi_doc_cell(doc, f->speed > 0 ? gi_int(f->speed) : gi_none());
		gi_doc_cell(doc, gi_int(f->numa));
		gi_doc_cell(doc, gi_str(f->driver));
	}
	gi_doc_table(doc, "addresses", addresses, GY_ARRAY_SIZE(addresses));
	for (i = 0; i < net->n; i++) {
		for (a = 0; a < net->interfaces[i].n; a++) {
			const struct gi_address *address = &net->interfaces[i].addresses[a];

			gi_doc_cell(doc, gi_str(net->interfaces[i].name));
			gi_doc_cell(doc, gi_str(address->text));
			gi_doc_cell(doc, gi_int(address->bits));
			gi_doc_cell(doc, gi_bool(address->used));
		}
	}
}
