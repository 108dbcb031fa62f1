/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_NET_H
#define GY_NET_H
/*
 * Sockets as this library wants them: nonblocking, close-on-exec, SIGPIPE-free, errors as -errno.
 * MT-Safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A listening stream socket, or -errno. */
int gy_net_listen(const struct sockaddr *sa, socklen_t len);
/* On every address of this machine, IPv6 and IPv4 as far as there are. */
int gy_net_listen_any(uint16_t port);
/* On the loopback only. */
int gy_net_listen_loopback(uint16_t port);
/* The port that a TCP socket is bound to, or -errno. */
int gy_net_port(int fd);

/* The next connection, or -errno; -EAGAIN: none. */
int gy_net_accept(int listener);

/* A socket that connects, or -errno.  Once it is writable, gy_net_connected says how that went. */
int gy_net_dial(const struct sockaddr *sa, socklen_t len);
int gy_net_connected(int fd);

/*
 * TCP: no Nagle delay; the kernel gives up on a host that has been silent for 0.9 of timeout_ms to
 * all of it, in whole seconds and at least 4: by keepalive, and by TCP_USER_TIMEOUT when
 * user_timeout.  The latter also ends a connection whose peer lives but does not read for that
 * long, so it is not for data connections.
 */
void gy_net_tune(int fd, int timeout_ms, bool user_timeout);

/* Reads up to want bytes in all: 1 they are there, 0 not yet, -errno (-ECONNRESET at the end). */
int gy_net_read(int fd, void *buf, size_t want, size_t *got);
/* A short message on a socket with room: all of it, or -errno. */
int gy_net_say(int fd, const void *buf, size_t len);
#endif
