/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shape.c - a link that is slow: rate, delay, jitter, loss.
 *
 * The model.  All lanes from a peer share one link.  What is read waits until the link has passed
 * on what was read before, takes its time at the rate (of whole packets: 52 bytes for each 1448),
 * then the delay and some jitter, and is due.  A packet is lost with the given probability: all
 * behind it in its lane waits for it to be sent again, a round trip on bulk lanes (others follow
 * it, so that the sender learns of the loss at once), a round trip and 200 ms on the small lane
 * (the sender finds out by its timer).  TCP's window, which grows slowly and shrinks with loss, is
 * not modelled.
 *
 *	small lane	bytes are copied, and parsed when due
 *	bulk		bytes go to their place at once; gy_arrived is said when due
 *	end of a lane	is told behind all that came before it
 *
 * Wakes by a timer in the poll set, which always stands at the first thing due or before it, so
 * that a driver may sleep at any time.  Reading pauses while the link has a queue: then the
 * kernels' buffers fill, and the sender waits.
 */
#include "transports/tcp/shape.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "transports/tcp/tcp.h"

#define SHAPE_PACKET 1448	/* payload of a packet, */
#define SHAPE_HEADERS 52	/* and its headers: IPv4, TCP with time stamps */
#define SHAPE_QUEUE_NS (10 * 1000 * 1000ull)
#define SHAPE_QUEUE_PACKETS 4
#define SHAPE_RTO_NS (200 * 1000 * 1000ull)
#define SHAPE_HELD_MAX (4 * 1024 * 1024)	/* bytes of messages, as a receive window */
#define SHAPE_NEVER UINT64_MAX

/* Comes when it is due: a grain when dst is set, else bytes of the small lane. */
struct shape_item {
	struct gy_list link;	/* tcp_lane.late */
	uint64_t due_ns;
	const void *dst;
	size_t len;		/* of dst, or of bytes */
	_Alignas(8) char bytes[];	/* the grain's header, or bytes */
};

static uint64_t shape_now(const struct tcp_nic *nic)
{
	struct gy_sys *sys = nic->base.ctx->sys;

	return sys->ops->now_ns(sys);
}

static struct tcp_nic *shape_nic(const struct tcp_ep *te)
{
	return to_tcp_nic(te->base.nic);
}

static bool shape_is_small(const struct tcp_lane *lane)
{
	return lane == &lane->ep->lanes[0];
}

/* In [0, 1); splitmix64, so that a run can be repeated. */
static double shape_draw(struct tcp_link *link)
{
	uint64_t z = link->seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* ---- the timer ---- */

static void shape_set_timer(struct tcp_nic *nic)
{
	const uint64_t now = shape_now(nic);
	const uint64_t in = nic->wake_ns > now ? nic->wake_ns - now : 1;
	struct itimerspec t = { .it_value = { .tv_sec = (time_t)(in / 1000000000u),
					      .tv_nsec = (long)(in % 1000000000u) } };

	if (nic->wake_ns == SHAPE_NEVER)
		t = (struct itimerspec){ 0 };
	timerfd_settime(nic->shape_timer.fd, 0, &t, NULL);
}

/* wake_ns is 0 while tcp_shape_run runs, which sets it at its end. */
static void shape_wake(struct tcp_nic *nic, uint64_t at_ns)
{
	if (at_ns >= nic->wake_ns)
		return;
	nic->wake_ns = at_ns;
	shape_set_timer(nic);
}

static void shape_tick(struct gy_poll_fd *pfd, uint32_t events)
{
	struct tcp_nic *nic = gy_container_of(pfd, struct tcp_nic, shape_timer);
	uint64_t ticks;

	if (read(pfd->fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	if (shape_now(nic) < nic->wake_ns)
		shape_set_timer(nic);
	else
		tcp_shape_run(nic);
}

/* ---- coming in ---- */

static uint64_t shape_packet_ns(const struct tcp_shape *shape)
{
	return (uint64_t)((SHAPE_PACKET + SHAPE_HEADERS) * shape->ns_per_byte);
}

static uint64_t shape_queued_ns(const struct tcp_ep *te, uint64_t now)
{
	return te->in.free_ns > now ? te->in.free_ns - now : 0;
}

static void shape_pause(struct tcp_lane *lane, bool paused)
{
	lane->paused = paused;
	tcp_set_events(lane);
}

size_t tcp_shape_room(struct tcp_lane *lane)
{
	struct tcp_ep *te = lane->ep;
	const struct tcp_shape *shape = &shape_nic(te)->shape;
	uint64_t queued;

	if (lane->hurried)
		return SIZE_MAX;
	if (shape_is_small(lane) && te->in.held >= SHAPE_HELD_MAX) {
		shape_pause(lane, true);
		return 0;
	}
	if (shape->ns_per_byte == 0)
		return SIZE_MAX;
	queued = shape_queued_ns(te, tcp_now(te));
	if (queued + shape_packet_ns(shape) <= shape->queue_ns)
		return (size_t)((double)(shape->queue_ns - queued) / shape->ns_per_byte);
	shape_pause(lane, true);
	shape_wake(shape_nic(te), te->in.free_ns - shape->queue_ns / 2);
	return 0;
}

static bool shape_loses(struct tcp_link *in, double loss, size_t packets)
{
	bool lost = false;

	while (loss > 0 && packets--)
		lost |= shape_draw(in) < loss;
	return lost;
}

void tcp_shape_took(struct tcp_lane *lane, size_t n)
{
	struct tcp_ep *te = lane->ep;
	const struct tcp_shape *shape = &shape_nic(te)->shape;
	const size_t packets = (n + SHAPE_PACKET - 1) / SHAPE_PACKET;
	const double wire = (double)(n + packets * SHAPE_HEADERS);
	uint64_t due;

	te->in.free_ns = gy_max(te->in.free_ns, tcp_now(te));
	te->in.free_ns += (uint64_t)(wire * shape->ns_per_byte + 0.5);
	due = te->in.free_ns + shape->delay_ns;
	if (shape->jitter_ns)
		due += (uint64_t)(shape_draw(&te->in) * (double)shape->jitter_ns);
	if (shape_loses(&te->in, shape->loss, packets))
		due += 2 * shape->delay_ns + (shape_is_small(lane) ? SHAPE_RTO_NS : 0);
	lane->due_ns = gy_max(lane->due_ns, due);	/* nothing overtakes */
}

static int shape_add(struct tcp_lane *lane, const void *bytes, size_t n, const void *dst,
		     size_t len)
{
	struct shape_item *item = gy_alloc(sizeof(*item) + n);

	if (!item)
		return -ENOMEM;
	item->due_ns = lane->due_ns;
	item->dst = dst;
	item->len = len;
	memcpy(item->bytes, bytes, n);
	gy_list_add_tail(&lane->late, &item->link);
	shape_wake(shape_nic(lane->ep), item->due_ns);
	return 0;
}

int tcp_shape_hold(struct tcp_lane *lane, const void *bytes, size_t n)
{
	const int err = shape_add(lane, bytes, n, NULL, n);

	if (!err)
		lane->ep->in.held += sizeof(struct shape_item) + n;
	return err;
}

int tcp_shape_hold_grain(struct tcp_lane *lane, const struct gy_hdr *hdr, const void *dst)
{
	return shape_add(lane, hdr, sizeof(*hdr), dst, hdr->len);
}

bool tcp_shape_end(struct tcp_lane *lane, int err)
{
	struct tcp_ep *te = lane->ep;
	struct tcp_nic *nic = shape_nic(te);

	if (err == -ETIMEDOUT)		/* has taken its time already */
		return false;
	lane->end_err = err;
	lane->due_ns = gy_max(lane->due_ns,
			      gy_max(te->in.free_ns, tcp_now(te)) + nic->shape.delay_ns);
	shape_wake(nic, lane->due_ns);
	return true;
}

void tcp_shape_hurry(struct tcp_lane *lane)
{
	lane->hurried = true;
	if (lane->paused)
		shape_pause(lane, false);
}

/* ---- due ---- */

/* What is due next in the lane, or NULL. */
static struct shape_item *shape_first(const struct tcp_lane *lane)
{
	struct gy_list *pos = gy_list_first(&lane->late);

	return pos ? gy_list_entry(pos, struct shape_item, link) : NULL;
}

static bool shape_alive(const struct tcp_ep *te)
{
	return te->state == TCP_UP && !te->closed;
}

/* Makes the item's upcalls; how many. */
static int shape_tell(struct tcp_lane *lane, struct shape_item *item)
{
	struct tcp_ep *te = lane->ep;
	int n = 1;

	gy_list_del(&item->link);
	if (item->dst) {
		gy_arrived(&te->base, (const struct gy_hdr *)item->bytes);
	} else {
		te->in.held -= sizeof(*item) + item->len;
		n = tcp_small_take(te, item->bytes, item->len);
	}
	gy_free(item);
	return n;
}

static int shape_lane_due(struct tcp_lane *lane, uint64_t now)
{
	struct tcp_ep *te = lane->ep;
	struct shape_item *item;
	int err, n = 0;

	while (shape_alive(te) && (item = shape_first(lane))) {
		if (item->due_ns > now)
			return n;
		n += shape_tell(lane, item);
	}
	if (!shape_alive(te) || !lane->end_err || lane->due_ns > now)
		return n;
	err = lane->end_err;
	lane->end_err = 0;
	tcp_lane_gone(lane, err);
	return n + 1;
}

/* Reads the paused lanes again: the small one first, then each of the others first in its turn. */
static int shape_resume(struct tcp_ep *te, uint64_t now)
{
	const struct tcp_shape *shape = &shape_nic(te)->shape;
	struct tcp_lane *lane;
	unsigned i;
	int n = 0;

	if (shape_queued_ns(te, now) > shape->queue_ns / 2)
		return 0;
	if (te->lanes[0].paused && te->in.held < SHAPE_HELD_MAX / 2) {
		shape_pause(&te->lanes[0], false);
		n += tcp_small_recv(te);
	}
	for (i = 0; shape_alive(te) && i + 1 < te->nlanes; i++) {
		lane = &te->lanes[1 + (te->in.turn + i) % (te->nlanes - 1)];
		if (!lane->paused)
			continue;
		shape_pause(lane, false);
		n += tcp_bulk_recv(lane);
	}
	te->in.turn++;
	return n;
}

static int shape_ep_due(struct tcp_ep *te, uint64_t now)
{
	unsigned i;
	int n = 0;

	if (te->receiving || te->state != TCP_UP)
		return 0;
	te->receiving = true;
	tcp_enter(te);
	for (i = 0; i < te->nlanes; i++)
		n += shape_lane_due(&te->lanes[i], now);
	te->receiving = false;
	if (shape_alive(te))
		n += shape_resume(te, now);
	tcp_leave(te);
	return n;
}

int tcp_shape_poll(struct tcp_ep *te)
{
	struct tcp_nic *nic = shape_nic(te);
	const uint64_t now = shape_now(nic);

	return now < nic->wake_ns ? 0 : shape_ep_due(te, now);
}

/* When the endpoint next needs a look. */
static uint64_t shape_next(const struct tcp_ep *te)
{
	const uint64_t resume = te->in.free_ns - shape_nic(te)->shape.queue_ns / 2;
	const struct shape_item *item;
	const struct tcp_lane *lane;
	uint64_t next = SHAPE_NEVER;
	unsigned i;

	if (te->state != TCP_UP)
		return next;
	for (i = 0; i < te->nlanes; i++) {
		lane = &te->lanes[i];
		item = shape_first(lane);
		if (item)
			next = gy_min(next, item->due_ns);
		else if (lane->end_err)
			next = gy_min(next, lane->due_ns);
		if (lane->paused && (i > 0 || te->in.held < SHAPE_HELD_MAX / 2))
			next = gy_min(next, resume);
	}
	return next;
}

int tcp_shape_run(struct tcp_nic *nic)
{
	const uint64_t now = shape_now(nic);
	uint64_t wake = SHAPE_NEVER;
	struct gy_list *pos;
	int did, n = 0;

	if (now < nic->wake_ns || nic->wake_ns == 0)
		return 0;
	nic->wake_ns = 0;
again:
	gy_list_for_each(pos, &nic->eps) {
		did = shape_ep_due(gy_list_entry(pos, struct tcp_ep, link), now);
		n += did;
		if (did)		/* an upcall may have closed any of them */
			goto again;
	}
	gy_list_for_each(pos, &nic->eps)
		wake = gy_min(wake, shape_next(gy_list_entry(pos, struct tcp_ep, link)));
	nic->wake_ns = wake;
	shape_set_timer(nic);
	return n;
}

/* ---- ends ---- */

void tcp_shape_revoke(struct tcp_ep *te, const void *ptr, size_t len)
{
	const uintptr_t from = (uintptr_t)ptr, to = from + len;
	struct gy_list *pos, *after;
	struct shape_item *item;
	uintptr_t dst;
	unsigned i;

	for (i = 1; i < te->nlanes; i++) {
		gy_list_for_each_safe(pos, after, &te->lanes[i].late) {
			item = gy_list_entry(pos, struct shape_item, link);
			dst = (uintptr_t)item->dst;
			if (dst >= to || from >= dst + item->len)
				continue;
			gy_list_del(pos);
			gy_free(item);
		}
	}
}

void tcp_shape_drop(struct tcp_ep *te)
{
	struct gy_list *pos;
	unsigned i;

	for (i = 0; i < te->nlanes; i++) {
		while ((pos = gy_list_pop(&te->lanes[i].late)))
			gy_free(gy_list_entry(pos, struct shape_item, link));
		te->lanes[i].end_err = 0;
	}
}

bool tcp_shape_is_late(const struct tcp_ep *te)
{
	const struct tcp_lane *lane;
	unsigned i;

	for (i = 0; i < te->nlanes; i++) {
		lane = &te->lanes[i];
		if (lane->paused || lane->end_err || !gy_list_empty(&lane->late))
			return true;
	}
	return false;
}

static void shape_describe(const struct tcp_shape *shape)
{
	char rate[48] = "no limit of rate";

	if (shape->ns_per_byte > 0)
		snprintf(rate, sizeof(rate), "%g Mbit/s", 8e3 / shape->ns_per_byte);
	gy_info("tcp: shaped: %g ms round trip, %s, %g %% lost (as stalls), %g ms jitter",
		2 * (double)shape->delay_ns / 1e6, rate, 100 * shape->loss,
		(double)shape->jitter_ns / 1e6);
}

int tcp_shape_open(struct tcp_nic *nic)
{
	struct tcp_shape *shape = &nic->shape;
	const char *text = nic->base.ctx->cfg.tcp_shape;
	char why[200];
	int err = tcp_shape_parse(text, shape, why, sizeof(why));

	nic->wake_ns = SHAPE_NEVER;
	if (err)
		gy_err("GYRE_TCP_SHAPE = \"%s\": %s", text, why);
	if (err || !shape->on)
		return err;
	shape->queue_ns = gy_max(SHAPE_QUEUE_NS, SHAPE_QUEUE_PACKETS * shape_packet_ns(shape));
	nic->shape_timer.ready = shape_tick;
	nic->shape_timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (nic->shape_timer.fd < 0)
		return -errno;
	err = gy_poll_add(&nic->base.ctx->poll, &nic->shape_timer, EPOLLIN);
	if (err) {
		close(nic->shape_timer.fd);
		nic->shape_timer.fd = -1;
		return err;
	}
	shape_describe(shape);
	return 0;
}

void tcp_shape_close(struct tcp_nic *nic)
{
	if (nic->shape_timer.fd < 0)
		return;
	gy_poll_del(&nic->base.ctx->poll, &nic->shape_timer);
	close(nic->shape_timer.fd);
}
