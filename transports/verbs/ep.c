/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ep.c - an endpoint: connecting, coming up, going down, closing.
 *
 * The control connection tells whether the peer lives: its kernel answers, whatever the process
 * does.  When it ends, what the device has received is still delivered, then the endpoint is down.
 * Before gy_ep_down, or before ep_close returns, its QPs for grains are destroyed: nobody can write
 * here.  The small one of an endpoint that is closed stays until its last messages, which may say
 * why, are in the peer's memory: it leaves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "lib/net.h"
#include "lib/peer.h"
#include "transports/verbs/verbs.h"

#define EP_LEAVE_NS (1000 * 1000 * 1000ull)

void verbs_later(struct verbs_ep *ve)
{
	if (gy_list_empty(&ve->work) && !ve->closed)
		gy_list_add_tail(&verbs_ep_nic(ve)->work, &ve->work);
}

/* A QP that "had failed before" is no reason when there is a better one. */
gy_cold void verbs_doom(struct verbs_ep *ve, int err, const char *fmt, ...)
{
	va_list ap;

	if (ve->state == VERBS_DOWN || (ve->doom && ve->doom != -ECONNABORTED))
		return;
	ve->doom = err;
	va_start(ap, fmt);
	vsnprintf(ve->why, sizeof(ve->why), fmt, ap);
	va_end(ap);
	verbs_later(ve);
}

/* ---- going ---- */

/* All but its small QP.  Grains stay where they are until the engine revokes them. */
static void ep_mute(struct verbs_ep *ve)
{
	struct gyre_context *ctx = ve->base.nic->ctx;
	unsigned i;

	gy_list_del(&ve->work);
	gy_wire_cancel(ctx->wire, &ve->base);
	verbs_route_cancel(ve);
	for (i = 1; i <= ve->nqps; i++)
		verbs_qp_destroy(&ve->qps[i]);
	if (ve->sock.fd >= 0)
		gy_poll_del(&ctx->poll, &ve->sock);
}

static void ep_end(struct verbs_ep *ve)
{
	ve->state = VERBS_DOWN;
	verbs_qp_destroy(&ve->qps[0]);
	if (ve->sock.fd >= 0) {
		close(ve->sock.fd);
		ve->sock.fd = -1;
		verbs_ep_nic(ve)->cq_used -= verbs_qp_entries(ve->nqps);
	}
	verbs_timer_look(verbs_ep_nic(ve));
}

static void ep_stop(struct verbs_ep *ve)
{
	ep_mute(ve);
	ep_end(ve);
}

static void ep_free(struct verbs_ep *ve)
{
	gy_list_del(&ve->link);
	verbs_small_close(ve);
	gy_free(ve->notes);
	gy_free(ve->revoked);
	gy_free(ve);
}

gy_cold void verbs_left(struct verbs_ep *ve)
{
	if (ve->state == VERBS_DOWN)
		ep_free(ve);
}

void verbs_unfit(struct verbs_ep *ve, const char *why)
{
	char copy[sizeof(ve->why)];

	snprintf(copy, sizeof(copy), "%s", why);
	verbs_enter(ve);
	ep_stop(ve);
	gy_ep_unfit(&ve->base, copy);
	verbs_leave(ve);
}

/* Whether the peer has gone; what it says does not matter any more. */
static bool ep_is_alone(struct verbs_ep *ve)
{
	ssize_t n;

	do
		n = recv(ve->sock.fd, &ve->in, sizeof(ve->in), MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || (errno != EAGAIN && errno != EINTR);
}

/* Whether all that was said is in the peer's memory, or never will be. */
static bool ep_has_left(struct verbs_ep *ve)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);

	if (!ve->asked)		/* the last message may have no completion */
		ve->asked = !verbs_small_credit(ve, true);
	return ve->qps[0].acked == ve->qps[0].sent || ve->doom || nic->failed ||
	       verbs_now(nic) >= ve->leave_ns || ep_is_alone(ve);
}

bool verbs_leaving(struct verbs_nic *nic)
{
	struct gy_list *pos, *after;
	struct verbs_ep *ve;

	gy_list_for_each_safe(pos, after, &nic->leaving) {
		ve = gy_list_entry(pos, struct verbs_ep, link);
		gy_assert(!ve->depth);
		if (!ep_has_left(ve))
			continue;
		ep_end(ve);
		ep_free(ve);
	}
	return !gy_list_empty(&nic->leaving);
}

static void ep_leave(struct verbs_ep *ve)
{
	struct verbs_nic *nic = verbs_ep_nic(ve);

	ep_mute(ve);
	ve->state = VERBS_LEAVING;
	ve->leave_ns = verbs_now(nic) + EP_LEAVE_NS * (uint64_t)nic->base.ctx->cfg.time_scale;
	gy_list_del(&ve->link);
	gy_list_add_tail(&nic->leaving, &ve->link);
}

/* To drain or not: nobody waits for it before the nic is closed. */
void verbs_ep_close(struct gy_ep *ep, bool drain)
{
	struct verbs_ep *ve = to_verbs(ep);

	ve->closed = true;
	if (ve->state == VERBS_UP && !ve->doom && ve->qps[0].acked != ve->qps[0].sent) {
		ep_leave(ve);
		return;
	}
	ep_stop(ve);
	if (!ve->depth)
		ep_free(ve);
}

/* ---- upcalls that are due ---- */

static int ep_down(struct verbs_ep *ve)
{
	const int waits = verbs_cq_fill(verbs_ep_nic(ve));

	if (waits > 0) {		/* some of it may be its */
		verbs_later(ve);
		return 1;
	}
	ep_stop(ve);
	gy_ep_down(&ve->base, ve->doom == -ECONNABORTED ? -EIO : ve->doom, ve->why);
	return 1;
}

static int ep_written(struct verbs_ep *ve)
{
	uint32_t ticket;
	int n = 0;

	while (ve->nlate && !ve->closed) {
		ticket = ve->late[0];
		memmove(ve->late, ve->late + 1, --ve->nlate * sizeof(ve->late[0]));
		gy_written(&ve->base, ticket);
		n++;
	}
	return n;
}

static int ep_work(struct verbs_ep *ve)
{
	int n = ep_written(ve);
	struct gy_list *l;

	while (!ve->closed && (l = gy_list_pop(&ve->done))) {
		gy_sent(&ve->base, gy_list_entry(l, struct gy_grain, link));
		n++;
	}
	if (!ve->closed && ve->doom && ve->state != VERBS_DOWN)
		return n + ep_down(ve);
	if (!ve->closed && (verbs_small_room(ve) || verbs_bulk_room(ve))) {
		ve->want_units = 0;
		ve->bulk_full = false;
		gy_ep_room(&ve->base);
		n++;
	}
	return n;
}

int verbs_work(struct verbs_nic *nic)
{
	struct verbs_ep *ve;
	struct gy_list now;
	int n = 0;

	/* What becomes due meanwhile is for the next time. */
	gy_list_insert(&now, nic->work.prev, &nic->work);
	gy_list_del(&nic->work);
	while (!gy_list_empty(&now)) {
		ve = gy_list_entry(gy_list_pop(&now), struct verbs_ep, work);
		verbs_enter(ve);
		n += ep_work(ve);
		verbs_leave(ve);
	}
	return n;
}

/* ---- coming ---- */

void verbs_come_up(struct verbs_ep *ve)
{
	const struct verbs_nic *nic = verbs_ep_nic(ve);
	char mine[INET6_ADDRSTRLEN], theirs[INET6_ADDRSTRLEN];

	ve->state = VERBS_UP;
	ve->bulk = VERBS_BULK_READY;
	gy_info("rank %d by verbs: %s port %u, %s to %s, MTU %u", ve->base.peer->rank,
		nic->dev->device->name, nic->port,
		verbs_gid_text(nic->blob.gids[ve->gid].raw, mine),
		verbs_gid_text(ve->peer.gids[ve->peer_gid].raw, theirs),
		128u << ve->route.mtu);
	verbs_timer_look(verbs_ep_nic(ve));
	gy_ep_up(&ve->base);
}

static void ep_sock_ready(struct gy_poll_fd *pfd, uint32_t events)
{
	struct verbs_ep *ve = gy_container_of(pfd, struct verbs_ep, sock);

	if (events & EPOLLOUT)
		verbs_note_flush(ve);
	if (events & ~(uint32_t)EPOLLOUT)
		verbs_note_recv(ve);
}

int verbs_accepted(struct gy_ep *ep, unsigned lane, int fd)
{
	struct verbs_ep *ve = to_verbs(ep);
	struct verbs_nic *nic = verbs_ep_nic(ve);
	int err;

	if (lane || ve->state > VERBS_DIALLING) {
		close(fd);
		return 0;
	}
	ve->sock.fd = fd;
	err = gy_poll_add(&ep->nic->ctx->poll, &ve->sock, EPOLLIN);
	if (err) {
		ve->sock.fd = -1;
		if (err == -ENOMEM)
			return err;
		close(fd);
		verbs_doom(ve, err, "its control connection cannot be watched");
		return 0;
	}
	gy_net_tune(fd, ep->nic->ctx->cfg.host_timeout_ms, true);
	ve->state = VERBS_MEETING;
	err = verbs_cq_reserve(nic, verbs_qp_entries(ve->nqps));
	if (err)
		nic->cq_used += verbs_qp_entries(ve->nqps);	/* given back by ep_stop */
	else
		err = verbs_small_open(ve);
	verbs_meet(ve, err);
	return 0;
}

int verbs_connect(struct gy_ep *ep)
{
	struct verbs_ep *ve = to_verbs(ep);
	int err;

	if (ve->state != VERBS_IDLE)
		return 0;
	err = gy_wire_dial(ep->nic->ctx->wire, ep, GY_WIRE_TCP, 0);
	if (!err && ve->state == VERBS_IDLE)
		ve->state = VERBS_DIALLING;
	return err;
}

int verbs_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp)
{
	const unsigned nqps = (unsigned)nic->ctx->cfg.verbs_qps;
	struct verbs_ep *ve = gy_alloc(sizeof(*ve) + (1 + nqps) * sizeof(ve->qps[0]));
	unsigned i;

	if (!ve)
		return -ENOMEM;
	ve->notes_size = VERBS_NOTES * sizeof(struct verbs_note);
	ve->notes = gy_alloc(ve->notes_size);
	if (!ve->notes) {
		gy_free(ve);
		return -ENOMEM;
	}
	ve->base = (struct gy_ep){ .ops = &gy_verbs_ops,
				   .nic = nic,
				   .peer = peer,
				   .caps = GY_CAP_BULK | GY_CAP_WRITE,
				   .write_max = VERBS_GRANTS };
	ve->nqps = nqps;
	ve->lower = nic->ctx->rank < peer->rank;
	ve->sock = (struct gy_poll_fd){ .fd = -1, .ready = ep_sock_ready };
	gy_list_init(&ve->work);
	gy_list_init(&ve->again);
	gy_list_init(&ve->done);
	for (i = 0; i <= nqps; i++) {
		ve->qps[i].ep = ve;
		ve->qps[i].index = i;
		gy_list_init(&ve->qps[i].out);
		gy_list_init(&ve->qps[i].silent);
		gy_list_init(&ve->qps[i].tail);
	}
	gy_list_add_tail(&to_verbs_nic(nic)->eps, &ve->link);
	*epp = &ve->base;
	return 0;
}
