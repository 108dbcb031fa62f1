/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net.c - stream sockets: listen, accept, dial, tune, exact reads.
 * Locking: none, no state.
 */
#define _GNU_SOURCE
#include "lib/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "lib/util.h"

#define NET_FLAGS (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
#define NET_BACKLOG 4096	/* the kernel cuts it to somaxconn; late ranks' peers wait there */

static int net_listen_on(const struct sockaddr *sa, socklen_t len, int v6only)
{
	const int fd = socket(sa->sa_family, NET_FLAGS, 0), one = 1;
	int err;

	if (fd < 0)
		return -errno;
	if (sa->sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)))
		goto fail;
	if (bind(fd, sa, len) || listen(fd, NET_BACKLOG))
		goto fail;
	return fd;

fail:
	err = -errno;
	close(fd);
	return err;
}

int gy_net_listen(const struct sockaddr *sa, socklen_t len)
{
	return net_listen_on(sa, len, 1);
}

/* First by IPv6 (any: IPv4 calls come in there too), then by IPv4 where there is no IPv6. */
int gy_net_listen_any(uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_port = htons(port),
				    .sin6_addr = IN6ADDR_ANY_INIT };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_ANY) };
	int fd = net_listen_on((struct sockaddr *)&in6, sizeof(in6), 0);

	return fd >= 0 ? fd : net_listen_on((struct sockaddr *)&in, sizeof(in), 0);
}

int gy_net_listen_loopback(uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_port = htons(port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = net_listen_on((struct sockaddr *)&in, sizeof(in), 0);

	return fd >= 0 ? fd : net_listen_on((struct sockaddr *)&in6, sizeof(in6), 1);
}

int gy_net_port(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		return -errno;
	return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
					      : ((struct sockaddr_in *)&sa)->sin_port);
}

int gy_net_accept(int listener)
{
	int fd;

	/* Errors of a connection that died in the queue are not the listener's: accept(2). */
	do {
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
	return fd < 0 ? -errno : fd;
}

int gy_net_dial(const struct sockaddr *sa, socklen_t len)
{
	const int fd = socket(sa->sa_family, NET_FLAGS, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (connect(fd, sa, len) == 0 || errno == EINPROGRESS || errno == EINTR)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int gy_net_connected(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
		return -errno;
	return -err;
}

void gy_net_tune(int fd, int timeout_ms, bool user_timeout)
{
	/*
	 * A host may fall silent at any time of the idle second or seconds before a probe, so these
	 * are few, and the probes are most of the timeout.
	 */
	const int one = 1, total = (int)gy_max((size_t)timeout_ms / 1000, 4);
	const int interval = (int)gy_max((size_t)total / 10, 1);
	const int probes = (total - 1) / interval, idle = total - probes * interval;
	const unsigned limit = user_timeout ? (unsigned)timeout_ms : 0;

	/* All of them are improvements only: a unix socket, or an old kernel, does without. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof(limit));
}

int gy_net_read(int fd, void *buf, size_t want, size_t *got)
{
	ssize_t n;

	while (*got < want) {
		n = recv(fd, (char *)buf + *got, want - *got, MSG_DONTWAIT);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		*got += (size_t)n;
	}
	return 1;
}

int gy_net_say(int fd, const void *buf, size_t len)
{
	ssize_t n;

	do {
		n = send(fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -ENOBUFS;
}
