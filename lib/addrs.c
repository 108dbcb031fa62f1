/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addrs.c - IP addresses of this machine and how they are written.
 * Locking: none, no state.
 */
#define _GNU_SOURCE
#include "lib/addrs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"

#define ADDRS_ITEM_MAX 64	/* characters of an item of a filter */

static int addrs_width(const struct gy_ip *ip)
{
	return ip->family == 4 ? 4 : 16;
}

static bool addrs_from_sockaddr(const struct sockaddr *sa, struct gy_ip *ip)
{
	memset(ip, 0, sizeof(*ip));
	if (sa && sa->sa_family == AF_INET) {
		ip->family = 4;
		memcpy(ip->bytes, &((const struct sockaddr_in *)sa)->sin_addr, 4);
		return true;
	}
	if (sa && sa->sa_family == AF_INET6) {
		ip->family = 6;
		memcpy(ip->bytes, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
		return true;
	}
	return false;
}

static bool addrs_link_local(const struct gy_ip *ip)
{
	return ip->family == 4 ? ip->bytes[0] == 169 && ip->bytes[1] == 254
			       : ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

static bool addrs_in_net(const struct gy_ip *ip, const struct gy_ip *net, unsigned bits)
{
	const unsigned whole = bits / 8, rest = bits % 8;

	if (ip->family != net->family || memcmp(ip->bytes, net->bytes, whole))
		return false;
	return rest == 0 || ((ip->bytes[whole] ^ net->bytes[whole]) >> (8 - rest)) == 0;
}

/* "10.0.0.0/8", "10.1.2.3": 0; -EINVAL for what is neither. */
static int addrs_parse_net(const char *item, struct gy_ip *net, unsigned *bits)
{
	char text[ADDRS_ITEM_MAX], *slash, *end;
	unsigned long n;

	snprintf(text, sizeof(text), "%s", item);
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	memset(net, 0, sizeof(*net));
	net->family = strchr(text, ':') ? 6 : 4;
	if (inet_pton(net->family == 6 ? AF_INET6 : AF_INET, text, net->bytes) != 1)
		return -EINVAL;
	*bits = 8u * (unsigned)addrs_width(net);
	if (!slash)
		return 0;
	n = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end || n > *bits)
		return -EINVAL;
	*bits = (unsigned)n;
	return 0;
}

/* One item of a filter: 1 it names this address, 0 it does not, -EINVAL. */
static int addrs_item_names(const char *item, const char *ifname, const struct gy_ip *ip)
{
	struct gy_ip net;
	unsigned bits;

	if (!strpbrk(item, "./:"))
		return strcmp(item, ifname) == 0;
	if (addrs_parse_net(item, &net, &bits))
		return strcmp(item, ifname) == 0 ? 1 : strpbrk(item, "/:") ? -EINVAL : 0;
	return addrs_in_net(ip, &net, bits);	/* eth0.100 is a name with a dot */
}

/* Whether the filter lets this address through: 1, 0, -EINVAL. */
static int addrs_wanted(const char *filter, const char *ifname, const struct gy_ip *ip)
{
	const bool but = filter[0] == '^';
	const char *p = filter + but;
	char item[ADDRS_ITEM_MAX];
	bool named = false;
	size_t n;
	int r;

	if (!filter[0])
		return 1;
	for (; *p; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		if (n == 0 || n >= sizeof(item))
			return -EINVAL;
		memcpy(item, p, n);
		item[n] = '\0';
		r = addrs_item_names(item, ifname, ip);
		if (r < 0)
			return r;
		named |= r;
	}
	return named != but;
}

static int addrs_collect(const struct ifaddrs *list, const char *filter, bool loopback,
			 struct gy_ip *ips, int max)
{
	const struct ifaddrs *ifa;
	struct gy_ip ip;
	int n = 0, wanted;

	for (ifa = list; ifa && n < max; ifa = ifa->ifa_next) {
		if (!(ifa->ifa_flags & IFF_UP) || !(ifa->ifa_flags & IFF_LOOPBACK) == loopback ||
		    !addrs_from_sockaddr(ifa->ifa_addr, &ip) || addrs_link_local(&ip))
			continue;
		wanted = addrs_wanted(filter, ifa->ifa_name, &ip);
		if (wanted < 0)
			return wanted;
		if (wanted)
			ips[n++] = ip;
	}
	return n;
}

static bool addrs_is_usable(const struct ifaddrs *ifa)
{
	struct gy_ip ip;

	return ifa->ifa_flags & IFF_UP && addrs_from_sockaddr(ifa->ifa_addr, &ip) &&
	       !addrs_link_local(&ip);
}

/* "eth0, lo": the interfaces that have an address to use, each once. */
static void addrs_names(const struct ifaddrs *list, char *text, size_t size)
{
	const struct ifaddrs *ifa, *before;
	size_t len = 0;

	text[0] = '\0';
	for (ifa = list; ifa && len < size; ifa = ifa->ifa_next) {
		if (!addrs_is_usable(ifa))
			continue;
		for (before = list; before != ifa; before = before->ifa_next)
			if (addrs_is_usable(before) && !strcmp(before->ifa_name, ifa->ifa_name))
				break;
		if (before == ifa)
			len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "",
						ifa->ifa_name);
	}
	if (!text[0])
		snprintf(text, size, "none");
}

int gy_ips_local(const char *filter, struct gy_ip *ips, int max)
{
	struct ifaddrs *list;
	char names[200];
	int n;

	if (!filter)
		filter = "";
	if (getifaddrs(&list))
		return -errno;
	n = addrs_collect(list, filter, false, ips, max);
	if (n == 0)
		n = addrs_collect(list, filter, true, ips, max);
	if (n == 0)
		addrs_names(list, names, sizeof(names));
	freeifaddrs(list);
	if (n == -EINVAL)
		gy_err("GYRE_TCP_INTERFACES: \"%s\" is not a list of interfaces and networks",
		       filter);
	if (n == 0)
		gy_err("no usable address of this machine is left (GYRE_TCP_INTERFACES \"%s\"; "
		       "interfaces with an address: %s)",
		       filter, names);
	return n ? n : -EADDRNOTAVAIL;
}

socklen_t gy_ip_sockaddr(const struct gy_ip *ip, uint16_t port, struct sockaddr_storage *sa)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;
	struct sockaddr_in *in = (struct sockaddr_in *)sa;

	memset(sa, 0, sizeof(*sa));
	if (ip->family == 4) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, ip->bytes, 4);
		return sizeof(*in);
	}
	if (ip->family == 6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, ip->bytes, 16);
		return sizeof(*in6);
	}
	return 0;
}

void gy_ip_text(const struct gy_ip *ip, uint16_t port, char *text)
{
	char host[INET6_ADDRSTRLEN] = "?";

	inet_ntop(ip->family == 6 ? AF_INET6 : AF_INET, ip->bytes, host, sizeof(host));
	snprintf(text, GY_IP_TEXT, ip->family == 6 ? "[%s]:%u" : "%s:%u", host, port);
}

static int addrs_copy(char *dst, size_t size, const char *src, size_t len)
{
	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return 0;
}

int gy_host_port(const char *text, size_t len, char *host, size_t host_size, char *port,
		 size_t port_size)
{
	const char *colon = memrchr(text, ':', len);
	size_t host_len;
	int err;

	if (!colon)
		return -EINVAL;
	err = addrs_copy(port, port_size, colon + 1, len - (size_t)(colon + 1 - text));
	if (err)
		return err;
	host_len = (size_t)(colon - text);
	if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		host_len -= 2;
	}
	return addrs_copy(host, host_size, text, host_len);
}
