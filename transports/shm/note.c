/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * note.c - the control connection of a pair: notes of one size, some with descriptors.
 *
 * The kernel never joins bytes that came with descriptors to others, and no more than the rest of
 * one note is read at a time, so descriptors belong to the note that they arrive in.  What the
 * socket will not take at once (its buffer is full; too many descriptors of this user are on their
 * way) is queued, and until that has gone no message goes either: a lend must not overtake its
 * segment. Failure: the end of the connection, or anything that we would not send, fails the
 * endpoint.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "transports/shm/shm.h"

/* Room for descriptors in a control message. */
union note_cmsg {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(SHM_NOTE_FDS * sizeof(int))];
};

/* ---- sending ---- */

/* 0, -EAGAIN, or -errno of a connection that is broken. */
static int note_write(int sock, struct shm_note *note, const int *fds, unsigned nfds)
{
	union note_cmsg c = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = note, .iov_len = sizeof(*note) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;
	ssize_t n;

	if (nfds) {
		m.msg_control = c.bytes;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n == sizeof(*note))
		return 0;
	if (n >= 0)
		return -EPIPE; /* a part of so little: never seen, and not to be mended */
	if (errno == EWOULDBLOCK || errno == ETOOMANYREFS || errno == ENOBUFS)
		return -EAGAIN;
	return -errno;
}

static int note_enqueue(struct shm_ep *ep, const struct shm_note *note, const int *fds,
			unsigned nfds)
{
	struct shm_queued *q = gy_alloc(sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->note = *note;
	q->nfds = nfds;
	if (nfds)
		memcpy(q->fds, fds, nfds * sizeof(int));
	if (gy_list_empty(&ep->queue))
		gy_poll_mod(&ep->base.nic->ctx->poll, &ep->sock, EPOLLIN | EPOLLOUT);
	gy_list_add_tail(&ep->queue, &q->link);
	shm_tx_shut(&ep->tx);
	return 0;
}

int shm_note_send(struct shm_ep *ep, struct shm_note *note, const int *fds, unsigned nfds)
{
	int err = -EAGAIN;

	note->magic = SHM_MAGIC;
	if (gy_list_empty(&ep->queue))
		err = note_write(ep->sock.fd, note, fds, nfds);
	if (err == -EAGAIN)
		return note_enqueue(ep, note, fds, nfds);
	return 0;	/* a broken connection says so to shm_note_ready */
}

static void note_flush(struct shm_ep *ep)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &ep->queue) {
		struct shm_queued *q = gy_list_entry(pos, struct shm_queued, link);

		if (note_write(ep->sock.fd, &q->note, q->fds, q->nfds) == -EAGAIN)
			return;
		gy_list_del(&q->link);
		gy_free(q);
	}
	gy_poll_mod(&ep->base.nic->ctx->poll, &ep->sock, EPOLLIN);
}

void shm_note_forget(struct shm_ep *ep, uint64_t id)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &ep->queue) {
		struct shm_queued *q = gy_list_entry(pos, struct shm_queued, link);

		if (id && q->note.id != id)
			continue;
		gy_list_del(&q->link);
		gy_free(q);
	}
}

int shm_note_hello(struct shm_ep *ep)
{
	struct shm_nic *nic = shm_ep_nic(ep);
	struct shm_note note = {
		.kind = SHM_HELLO,
		.len = nic->ring_bytes,
		.secret_addr = (uintptr_t)&nic->secret,
		.secret = nic->secret,
	};
	const int fds[SHM_NOTE_FDS] = { ep->mine.fd, nic->page_fd, nic->base.ctx->poll.doorbell };

	return shm_note_send(ep, &note, fds, SHM_NOTE_FDS);
}

/* ---- receiving ---- */

void shm_note_close_fds(struct shm_ep *ep)
{
	unsigned i;

	for (i = 0; i < ep->in_nfds; i++)
		close(ep->in_fds[i]);
	ep->in_nfds = 0;
}

/* Takes the descriptors of a message: into in_fds as far as they fit.  -EPROTO: they do not. */
static int note_take_fds(struct shm_ep *ep, struct msghdr *m)
{
	int err = m->msg_flags & MSG_CTRUNC ? -EPROTO : 0, fd;
	struct cmsghdr *cm;
	size_t i, n;

	for (cm = CMSG_FIRSTHDR(m); cm; cm = CMSG_NXTHDR(m, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			if (ep->in_nfds < SHM_NOTE_FDS) {
				ep->in_fds[ep->in_nfds++] = fd;
			} else {
				close(fd);
				err = -EPROTO;
			}
		}
	}
	return err;
}

/* 1: ep->in is a whole note; 0: not yet; -errno: no more will come. */
static int note_recv(struct shm_ep *ep)
{
	union note_cmsg c;
	struct iovec iov;
	struct msghdr m;
	ssize_t n;
	int err;

	while (ep->in_have < sizeof(ep->in)) {
		iov.iov_base = (char *)&ep->in + ep->in_have;
		iov.iov_len = sizeof(ep->in) - ep->in_have;
		m = (struct msghdr){ .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = c.bytes,
				     .msg_controllen = sizeof(c.bytes) };
		n = recvmsg(ep->sock.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EWOULDBLOCK ? 0 : -errno;
		err = note_take_fds(ep, &m);
		if (err)
			return err;
		if (!n)
			return -ECONNRESET;
		ep->in_have += (size_t)n;
	}
	ep->in_have = 0;
	return 1;
}

static int note_on_hello(struct shm_ep *ep)
{
	struct shm_nic *nic = shm_ep_nic(ep);
	struct shm_note verdict = { .kind = SHM_VERDICT };
	void *page;
	int err;

	if (ep->state != SHM_MEETING || ep->in_nfds != SHM_NOTE_FDS ||
	    ep->in.len != nic->ring_bytes)
		return -EPROTO;
	err = shm_inbox_map(nic, ep->in_fds[0], &ep->theirs);
	if (err)
		return err;
	err = shm_file_map(ep->in_fds[1], nic->page_bytes, PROT_READ, &page);
	if (err)
		return err;
	ep->peer_page = page;
	ep->base.recalls = &ep->peer_page->recalls;
	ep->bell = ep->in_fds[2];
	ep->in_nfds = 2;		/* the bell is kept */
	ep->reads_peer = shm_mem_probe(ep, ep->in.secret_addr, ep->in.secret);
	verdict.can_read = ep->reads_peer;
	ep->state = SHM_JUDGING;
	return shm_note_send(ep, &verdict, NULL, 0);
}

static int note_on_verdict(struct shm_ep *ep)
{
	if (ep->state != SHM_JUDGING)
		return -EPROTO;
	ep->peer_reads = ep->in.can_read && ep->reads_peer;	/* both or none: ranks agree */
	shm_ep_up(ep);
	return 0;
}

static int note_handle(struct shm_ep *ep)
{
	if (ep->in.magic != SHM_MAGIC)
		return -EPROTO;
	switch (ep->in.kind) {
	case SHM_HELLO:
		return note_on_hello(ep);
	case SHM_VERDICT:
		return note_on_verdict(ep);
	case SHM_SEGMENT:
		if (ep->state != SHM_UP || ep->in_nfds != 1)
			return -EPROTO;
		return shm_mem_add(ep, ep->in.id, ep->in.len, ep->in_fds[0]);
	case SHM_FREE:
		shm_mem_gone(ep, ep->in.id);
		return 0;
	}
	return -EPROTO;
}

int shm_note_read(struct shm_ep *ep)
{
	int err = ep->broken;

	while (!err && ep->state != SHM_DOWN) {	/* an upcall (up) may close the endpoint */
		err = note_recv(ep);
		if (!err)
			return 0;
		if (err > 0)
			err = note_handle(ep);
		shm_note_close_fds(ep);
	}
	return err;
}

static gy_cold void note_ended(struct shm_ep *ep, int err)
{
	unsigned left;

	if (err == -EPROTO) {
		shm_ep_fail(ep, err, "sent what no peer of this version sends");
		return;
	}
	/* What was written before the end counts; a ring holds no more than this many. */
	for (left = ep->rx.lines; left > 0 && ep->state == SHM_UP; left--)
		if (!shm_ep_poll(&ep->base))
			break;
	if (ep->state == SHM_DOWN)
		return;
	if (err == -ECONNRESET || err == -EPIPE)
		shm_ep_fail(ep, -ECONNRESET, "closed its control connection (process ended)");
	else
		shm_ep_fail(ep, err, "control connection failed");
}

void shm_note_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct shm_ep *ep = gy_container_of(pfd, struct shm_ep, sock);
	int err = shm_note_read(ep);

	if (err)
		note_ended(ep, err);
	else if (events & EPOLLOUT && ep->state != SHM_DOWN)
		note_flush(ep);
}
