/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_POLL_H
#define GY_POLL_H
/*
 * A context's poll set: one epoll descriptor and a doorbell (eventfd) that ends a wait.
 * add, mod, del: driver only (or before the context is shared).  ring: any thread.
 */
#include <stdint.h>
#include <sys/epoll.h>

struct gy_poll {
	int epfd;
	int doorbell;	/* eventfd; also handed to shm peers, who ring it to wake us */
	int nready;	/* > 0 while dispatch runs */
	struct epoll_event ready[32];
};

struct gy_poll_fd {
	int fd;
	/*
	 * Level-triggered; events as of epoll (EPOLLIN ...).  May del any member, itself included.
	 */
	void (*ready)(struct gy_poll_fd *pfd, uint32_t events);
};

int gy_poll_open(struct gy_poll *p);
void gy_poll_close(struct gy_poll *p);
int gy_poll_add(struct gy_poll *p, struct gy_poll_fd *pfd, uint32_t events);
int gy_poll_mod(struct gy_poll *p, struct gy_poll_fd *pfd, uint32_t events);
void gy_poll_del(struct gy_poll *p, struct gy_poll_fd *pfd);

/* Without waiting: calls ready of what is ready.  Returns how many. */
int gy_poll_dispatch(struct gy_poll *p);

/*
 * Sleeps until something is ready, the doorbell rings (it is then silenced), or the timeout ends.
 *  Calls nothing.
 */
void gy_poll_sleep(struct gy_poll *p, int timeout_ms);

void gy_poll_ring(struct gy_poll *p);
#endif
