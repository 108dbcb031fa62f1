/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_ADDRS_H
#define GY_ADDRS_H
/*
 * IP addresses: those of this machine, as text, as sockaddr.  MT-Safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Wire format (gy_wire_addr): no padding. */
struct gy_ip {
	uint8_t family;		/* 4 or 6 */
	uint8_t bytes[16];	/* network order; IPv4: the first four */
};

#define GY_IP_TEXT 56		/* room for "[address]:port" */

/*
 * The addresses of the interfaces that are up, without link-local ones (they mean nothing on
 * another host); the loopback's only when there is no other.  filter as GYRE_TCP_INTERFACES: a
 * list of interface names and networks ("eth0,10.0.0.0/8"), after ^ those not to use; "" and NULL:
 * all.
 * How many, at most max; -EINVAL: bad filter (logged); -EADDRNOTAVAIL: none is left; -errno.
 */
int gy_ips_local(const char *filter, struct gy_ip *ips, int max);

/* Length of what was written to sa, or 0 for another family than 4 and 6. */
socklen_t gy_ip_sockaddr(const struct gy_ip *ip, uint16_t port, struct sockaddr_storage *sa);

/* "10.0.0.1:4711", "[fd00::2]:4711"; text holds GY_IP_TEXT. */
void gy_ip_text(const struct gy_ip *ip, uint16_t port, char *text);

/*
 * Splits "host:port" or "[host]:port", of which text has len characters.  0, or -EINVAL: no port,
 * or one of them does not fit.
 */
int gy_host_port(const char *text, size_t len, char *host, size_t host_size, char *port,
		 size_t port_size);
#endif
