/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * poll.c - a context's epoll set and its doorbell.
 * Locking: add, mod, del and dispatch on the driver; sleep by the one poller (engine.h); ring by
 * anyone.
 */
#include "lib/poll.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/util.h"

int gy_poll_open(struct gy_poll *p)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	int err;

	*p = (struct gy_poll){ .epfd = -1, .doorbell = -1 };
	p->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epfd < 0)
		return -errno;
	p->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->doorbell < 0 || epoll_ctl(p->epfd, EPOLL_CTL_ADD, p->doorbell, &ev)) {
		err = -errno;
		gy_poll_close(p);
		return err;
	}
	return 0;
}

void gy_poll_close(struct gy_poll *p)
{
	if (p->doorbell >= 0)
		close(p->doorbell);
	if (p->epfd >= 0)
		close(p->epfd);
	p->epfd = p->doorbell = -1;
}

int gy_poll_add(struct gy_poll *p, struct gy_poll_fd *pfd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = pfd };

	return epoll_ctl(p->epfd, EPOLL_CTL_ADD, pfd->fd, &ev) ? -errno : 0;
}

int gy_poll_mod(struct gy_poll *p, struct gy_poll_fd *pfd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = pfd };

	return epoll_ctl(p->epfd, EPOLL_CTL_MOD, pfd->fd, &ev) ? -errno : 0;
}

void gy_poll_del(struct gy_poll *p, struct gy_poll_fd *pfd)
{
	int i;

	epoll_ctl(p->epfd, EPOLL_CTL_DEL, pfd->fd, NULL);
	for (i = 0; i < p->nready; i++)		/* a dispatch that runs must not call it any more */
		if (p->ready[i].data.ptr == pfd)
			p->ready[i].data.ptr = NULL;
}

static void poll_silence(struct gy_poll *p)
{
	uint64_t n;

	while (read(p->doorbell, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

int gy_poll_dispatch(struct gy_poll *p)
{
	struct gy_poll_fd *pfd;
	int n, i, called = 0;

	n = epoll_wait(p->epfd, p->ready, GY_ARRAY_SIZE(p->ready), 0);
	if (n <= 0)
		return 0;
	p->nready = n;
	for (i = 0; i < n; i++) {
		pfd = p->ready[i].data.ptr;
		if (!pfd)
			continue;
		pfd->ready(pfd, p->ready[i].events);
		called++;
	}
	p->nready = 0;
	/* a doorbell that rings is no work; it is the sleeper's to silence */
	return called;
}

void gy_poll_sleep(struct gy_poll *p, int timeout_ms)
{
	struct epoll_event ev;

	if (epoll_wait(p->epfd, &ev, 1, timeout_ms) == 1 && !ev.data.ptr)
		poll_silence(p);
}

void gy_poll_ring(struct gy_poll *p)
{
	const uint64_t one = 1;

	while (write(p->doorbell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
