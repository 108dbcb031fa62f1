/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ep.c - one peer: the small lane, and its life until the peer's process ends.
 * Budget: msg of 8 bytes and the poll that takes it for a straight line are 110 instructions
 * together, and move one cache line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/peer.h"
#include "transports/shm/shm.h"

/* ---- small lane ---- */

/* The peer sleeps: rings, unless that has been done since it went to sleep. */
static gy_cold void ep_ring_bell(struct shm_ep *ep, uint32_t sleep)
{
	const uint64_t one = 1;

	if (ep->rung == sleep)
		return;
	ep->rung = sleep;
	while (write(ep->bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;		/* -EAGAIN: it rings already */
}

/* After something was published; see struct shm_page for the pair. */
static inline void ep_wake(struct shm_ep *ep)
{
	const uint32_t sleep = atomic_load_explicit(&ep->peer_page->sleep, memory_order_seq_cst);

	if (gy_unlikely(sleep & 1))
		ep_ring_bell(ep, sleep);
}

/* The room that we knew of is used up.  0: there is enough again. */
static gy_cold int ep_find_room(struct shm_ep *ep, uint32_t n)
{
	if (ep->state != SHM_UP)
		return -ENOTCONN;
	if (gy_list_empty(&ep->queue)) {
		if (shm_tx_look(&ep->tx)) {
			shm_ep_break(ep, -EPROTO);
			return -ENOTCONN;
		}
		if (shm_tx_fits(&ep->tx, n))
			return 0;
	}
	ep->blocked = true;
	return -EAGAIN;
}

bool shm_ep_has_room(struct shm_ep *ep)
{
	return ep->blocked && !ep_find_room(ep, SHM_RECORD_MAX);
}

static __attribute__((noinline)) int ep_msg_any(struct shm_ep *ep, const struct gy_hdr *hdr,
						const void *body)
{
	const uint32_t n = shm_record_lines(hdr->len);
	int err;

	gy_assert(hdr->len <= GY_BODY_LONG);
	if (gy_unlikely(!shm_tx_fits(&ep->tx, n))) {
		err = ep_find_room(ep, n);
		if (err)
			return err;
	}
	shm_tx_put(&ep->tx, hdr, body, hdr->len);
	ep_wake(ep);
	return 0;
}

/* The body that fills a line, without a call. */
int shm_ep_msg(struct gy_ep *base, const struct gy_hdr *hdr, const void *body)
{
	struct shm_ep *ep = to_shm_ep(base);
	const uint32_t len = sizeof(ep->tx.next->body);

	if (gy_unlikely(hdr->len != len || !shm_tx_fits(&ep->tx, 1)))
		return ep_msg_any(ep, hdr, body);
	shm_tx_put(&ep->tx, hdr, body, len);
	ep_wake(ep);
	return 0;
}

/* Nothing to deliver. */
static gy_cold int ep_poll_rest(struct shm_ep *ep, int err)
{
	if (err) {
		shm_ep_fail(ep, err, "wrote garbage into its ring");
		return 1;
	}
	if (!shm_ep_has_room(ep))
		return 0;
	ep->blocked = false;
	gy_ep_room(&ep->base);
	return 1;
}

/*
 * One record at a time: to look for a second would wait for its cache line before the first is
 * used.
 */
int shm_ep_poll(struct gy_ep *base)
{
	struct shm_ep *ep = to_shm_ep(base);
	struct gy_hdr hdr;
	const void *body;
	const int got = shm_rx_get(&ep->rx, &hdr, &body);

	if (got <= 0)
		return got || ep->blocked ? ep_poll_rest(ep, got) : 0;
	if (gy_unlikely(!gy_peer_take(base->peer, &hdr, body)))
		gy_deliver(base, &hdr, body);
	if (gy_unlikely(shm_rx_done(&ep->rx)))
		ep_wake(ep);
	return 1;
}

/* ---- life ---- */

/* Room in the list of those that are up, where an endpoint comes when memory may be short. */
static int ep_reserve(struct shm_nic *nic)
{
	struct shm_ep **up;

	if (nic->neps < nic->up_size)
		return 0;
	up = gy_realloc_array(nic->up, nic->up_size + 16, sizeof(*up));
	if (!up)
		return -ENOMEM;
	nic->up = up;
	nic->up_size += 16;
	return 0;
}

int shm_ep_open(struct gy_nic *base, struct gy_peer *peer, struct gy_ep **epp)
{
	struct shm_nic *nic = to_shm_nic(base);
	struct shm_ep *ep;

	if (ep_reserve(nic))
		return -ENOMEM;
	ep = gy_alloc(sizeof(*ep));
	if (!ep)
		return -ENOMEM;
	nic->neps++;
	ep->base =
		(struct gy_ep){ .ops = base->ops, .nic = base, .peer = peer, .caps = GY_CAP_LEND };
	ep->rx.next = &nic->empty;	/* poll finds nothing, msg no room */
	ep->rx.end = &nic->empty + 1;
	ep->rx.lines = 4;
	ep->rx.word = SHM_FULL;
	ep->bell = ep->sock.fd = ep->mine.fd = ep->theirs.fd = -1;
	ep->sock.ready = shm_note_ready;
	gy_list_init(&ep->queue);
	gy_list_init(&ep->link);
	*epp = &ep->base;
	return 0;
}

int shm_ep_connect(struct gy_ep *base)
{
	struct shm_ep *ep = to_shm_ep(base);
	int err;

	if (ep->state != SHM_IDLE)
		return 0;
	err = gy_wire_dial(base->nic->ctx->wire, base, GY_WIRE_UNIX, 0);
	if (!err && ep->state == SHM_IDLE)
		ep->state = SHM_DIALLING;
	return err;
}

static int ep_meet(struct shm_ep *ep)
{
	struct ucred cred = { .pid = 0 };
	socklen_t len = sizeof(cred);
	int err;

	/* The peer's process as this pid namespace sees it; 0: it does not. */
	if (!getsockopt(ep->sock.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		ep->pid = cred.pid;
	err = shm_inbox_create(shm_ep_nic(ep), &ep->mine);
	if (err)
		return err;
	return shm_note_hello(ep);
}

int shm_ep_accepted(struct gy_ep *base, unsigned lane, int fd)
{
	struct shm_ep *ep = to_shm_ep(base);
	const enum shm_state before = ep->state;
	int err;

	if (lane || ep->state > SHM_DIALLING) {
		close(fd);
		return 0;
	}
	ep->state = SHM_MEETING;
	ep->sock.fd = fd;
	err = gy_poll_add(&base->nic->ctx->poll, &ep->sock, EPOLLIN);
	if (err == -ENOMEM) {
		ep->state = before;
		ep->sock.fd = -1;
		return err;
	}
	if (!err)
		err = ep_meet(ep);
	if (err)
		shm_ep_fail(ep, err, "cannot set up shared memory");
	return 0;
}

void shm_ep_up(struct shm_ep *ep)
{
	struct shm_nic *nic = shm_ep_nic(ep);
	const uint32_t lines = (uint32_t)(nic->ring_bytes / GY_CACHELINE);

	ep->index = nic->nup;
	nic->up[nic->nup++] = ep;
	close(ep->mine.fd);
	ep->mine.fd = -1;
	shm_tx_init(&ep->tx, ep->theirs.mem, shm_inbox_lines(nic, &ep->theirs), lines);
	shm_rx_init(&ep->rx, ep->mine.mem, shm_inbox_lines(nic, &ep->mine), lines);
	ep->state = SHM_UP;
	gy_ep_up(&ep->base);
}

/* From any state to DOWN; what is mapped stays. */
static void ep_stop(struct shm_ep *ep)
{
	struct shm_nic *nic = shm_ep_nic(ep);

	if (ep->state == SHM_UP) {
		nic->up[ep->index] = nic->up[--nic->nup];
		nic->up[ep->index]->index = ep->index;
	}
	ep->state = SHM_DOWN;
	ep->blocked = false;
	shm_tx_shut(&ep->tx);
	ep->rx.next = &nic->empty;
	shm_note_forget(ep, 0);
	shm_note_close_fds(ep);
	if (ep->sock.fd >= 0) {
		gy_poll_del(&nic->base.ctx->poll, &ep->sock);
		close(ep->sock.fd);
		ep->sock.fd = -1;
	}
}

void shm_ep_fail(struct shm_ep *ep, int err, const char *why)
{
	ep_stop(ep);
	gy_ep_down(&ep->base, err, why);
}

void shm_ep_break(struct shm_ep *ep, int err)
{
	ep->broken = err;
	shm_tx_shut(&ep->tx);
	shutdown(ep->sock.fd, SHUT_RDWR);
}

/*
 * Nothing is left to drain: a message that was accepted lies in the peer's ring, and the peer
 * empties that when it sees the connection end.
 */
void shm_ep_close(struct gy_ep *base, bool drain)
{
	struct shm_ep *ep = to_shm_ep(base);
	struct shm_nic *nic = shm_ep_nic(ep);
	unsigned i;
	int rank = base->peer->rank;

	if (base->nic->ctx->wire)
		gy_wire_cancel(base->nic->ctx->wire, base);
	ep_stop(ep);
	nic->neps--;
	for (i = 0; i < nic->nsegs; i++)
		nic->segs[i].told[rank / 64] &= ~((uint64_t)1 << (rank % 64));
	gy_list_add_tail(&nic->dead, &ep->link);
}

void shm_ep_free(struct shm_ep *ep)
{
	gy_list_del(&ep->link);
	shm_mem_unmap_all(ep);
	shm_inbox_fini(&ep->mine);
	shm_inbox_fini(&ep->theirs);
	if (ep->peer_page)
		munmap((void *)ep->peer_page, shm_ep_nic(ep)->page_bytes);
	if (ep->bell >= 0)
		close(ep->bell);
	gy_free(ep);
}
