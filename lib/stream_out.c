/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_out.c - the sender's side of a stream: eager in one message, lent, or grain by grain where
 * the receiver has a place for them (stream.c).
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/stream_priv.h"

/* Grains of one stream that wait for a lane at a time; those that are written need none. */
#define GRAINS_OUT 4
#define SLOTS_HALF (GY_STREAM_SLOTS / 2)

static uint64_t stream_ready(const struct gy_stream *s)
{
	return s->op->done;
}

/* One message can take it: not what lies in several slots. */
static bool stream_fits_eager(const struct gy_engine *e, const struct gy_stream *s)
{
	return s->len * s->run->es <= e->eager_bytes && (s->op->source || s->len <= s->run->grain);
}

/* What is computed into memory that cannot be lent goes to slots at once, once for all streams. */
static void stream_lend_mode(struct gy_stream *s)
{
	struct gy_ep *ep = s->peer->ep;
	struct gy_remote remote;
	const void *ptr;
	uint64_t n;

	s->mode = GY_BY_LEND;
	if (!s->op->source || s->op->pure_send)
		return;
	ptr = gy_op_at(s->run, s->op, 0, &n);
	s->via_slot = ep->ops->lend(ep, ptr, n * s->run->es, &remote) == -EOPNOTSUPP;
}

static void stream_choose_mode(struct gy_engine *e, struct gy_stream *s)
{
	if (stream_fits_eager(e, s) && gy_peer_allows(s->peer, s->len * s->run->es))
		s->mode = GY_BY_EAGER;
	else if (s->len && s->peer->ep->caps & GY_CAP_LEND)
		stream_lend_mode(s);
	else
		s->mode = GY_BY_GRANT;	/* nothing at all: RTS says so, whatever the allowance */
}

static int stream_pump_eager(struct gy_engine *e, struct gy_stream *s)
{
	const void *body = e->bounce;
	uint64_t contig = 0;
	int err;

	if (!s->op->computed)
		return 0;
	if (!s->op->source) {
		body = s->len ? s->slot[0]->mem : NULL;
	} else if (s->len) {
		body = gy_op_at(s->run, s->op, 0, &contig);
		if (contig < s->len) {
			gy_op_gather(e, s->run, s->op, 0, s->len, e->bounce);
			body = e->bounce;
		}
	}
	err = stream_say(e, s, GY_MSG_EAGER, 0, body, s->len * s->run->es);
	if (err)
		return err;
	stream_put_slot(e, s, 0);
	s->sent = s->freed = s->len;
	s->finished = true;
	return 0;
}

/* One out of memory in pieces, after others from where they lie, may come round to their slot. */
static bool stream_has_come_round(const struct gy_stream *s)
{
	return s->sent / s->run->grain - s->freed / s->run->grain >= GY_STREAM_SLOTS;
}

/* The slot that holds the grain at s->sent: computed into one, or copied to one now. */
static struct gy_slot *stream_out_slot(struct gy_engine *e, struct gy_stream *s, uint64_t n)
{
	const unsigned i = s->sent / s->run->grain % GY_STREAM_SLOTS;

	/* Whether or not the grain before has a slot: it is freed by that place. */
	if (stream_has_come_round(s))
		return NULL;
	if (!s->op->source || s->slot[i])
		return s->slot[i];
	s->slot[i] = gy_slot_get(&e->pool, s->freed == s->sent && gy_run_needs(s->run, s->op));
	if (s->slot[i]) {
		s->slot[i]->users = 1;
		gy_op_gather(e, s->run, s->op, s->sent, n, s->slot[i]->mem);
	}
	return s->slot[i];
}

static int stream_lend_one(struct gy_engine *e, struct gy_stream *s)
{
	struct gy_ep *ep = s->peer->ep;
	const size_t es = s->run->es;
	struct gy_lend_body body;
	const void *ptr;
	uint64_t n;
	int err;

	if (s->op->source && !s->via_slot) {
		ptr = gy_op_at(s->run, s->op, s->sent, &n);
		n = gy_min(n, stream_ready(s) - s->sent);
		err = ep->ops->lend(ep, ptr, n * es, &body.remote);
		if (err == -EOPNOTSUPP)
			s->via_slot = true;
		else if (err)
			return err;
	}
	if (!s->op->source || s->via_slot) {
		struct gy_slot *slot;

		n = stream_grain_end(s, s->sent) - s->sent;
		if (s->sent + n > stream_ready(s))
			return -EAGAIN;		/* a slot takes a whole grain */
		slot = stream_out_slot(e, s, n);
		if (!slot)
			return -EAGAIN;
		err = ep->ops->lend(ep, slot->mem, n * es, &body.remote);
		if (err)
			return err;
	}
	body.n = n;
	err = stream_say(e, s, GY_MSG_LEND, s->sent, &body, sizeof(body));
	if (err)
		return err;
	s->sent += n;
	s->lent_end[s->lent_tail++ % GY_STREAM_LENDS] = s->sent;
	return 0;
}

static int stream_pump_lend(struct gy_engine *e, struct gy_stream *s)
{
	int err = 0;

	while (!err && s->sent < stream_ready(s) && s->lent_tail - s->lent_head < GY_STREAM_LENDS)
		err = stream_lend_one(e, s);
	return err;
}

/* What stream_fill_grain does not set is as new. */
static struct gy_grain *grain_alloc(struct gy_engine *e)
{
	struct gy_grain *g = e->free_grains;

	if (!g)
		return gy_alloc(sizeof(*g));
	e->free_grains = (struct gy_grain *)g->link.next;
	g->src = NULL;
	g->done = 0;
	return g;
}

static void grain_free(struct gy_engine *e, struct gy_grain *g)
{
	g->link.next = (struct gy_list *)e->free_grains;
	e->free_grains = g;
}

/*
 * Where the n elements at s->sent lie; no src: they must go by a slot, and there is none now.
 *
 * More: a receiver that grants slots grants the next when some have been emptied: a message that
 * ends those out of ours.  Else half of our slots must not wait for the other half.
 */
static void stream_grain_src(struct gy_engine *e, struct gy_stream *s, uint64_t n,
			     struct gy_grain *g)
{
	const uint64_t i = s->sent / s->run->grain, left = s->len - s->sent;
	struct gy_slot *slot;
	uint64_t contig = 0;

	g->more = e->pool.starved ? 0 : (left - 1) / s->run->grain;
	g->pooled = false;
	if (s->op->source && !s->via_slot)
		g->src = gy_op_at(s->run, s->op, s->sent, &contig);
	if ((contig < n && s->direct) || (contig >= n && contig < left))
		g->more = gy_min(g->more, SLOTS_HALF - 1 - i % SLOTS_HALF);
	if (contig >= n)
		return;
	slot = stream_out_slot(e, s, n);
	g->src = slot ? slot->mem : NULL;
	g->pooled = true;
}

static void stream_fill_grain(const struct gy_stream *s, struct gy_grain *g, uint64_t n)
{
	const uint64_t i = s->sent / s->run->grain;

	gy_list_init(&g->link);
	g->hdr = s->run->hdr;
	g->hdr.kind = GY_MSG_GRAIN;
	g->hdr.off = s->sent;
	g->hdr.len = n * s->run->es;
	if (g->hdr.coll != GY_P2P)
		g->hdr.stream = s->index;
	g->to = s->to[s->direct ? 0 : i % GY_STREAM_SLOTS];
	g->to_off = s->direct ? s->sent * s->run->es : 0;
	g->ticket = s->ticket << 8 | (i & 255);
}

static int stream_send_grain(struct gy_engine *e, struct gy_stream *s)
{
	const uint64_t n = stream_next(s, s->sent) - s->sent;
	struct gy_ep *ep = s->peer->ep;
	struct gy_grain *g = grain_alloc(e);
	int err;

	if (!g)
		return -ENOMEM;
	stream_fill_grain(s, g, n);
	g->stream = s;
	stream_grain_src(e, s, n, g);
	err = g->src ? ep->ops->bulk(ep, g) : -EAGAIN;
	if (err == -EOPNOTSUPP && !s->via_slot) {	/* not out of this memory */
		s->via_slot = true;
		stream_grain_src(e, s, n, g);
		err = g->src ? ep->ops->bulk(ep, g) : -EAGAIN;
	}
	if (err) {
		s->peer->bulk_blocked |= err == -EAGAIN && g->src;
		grain_free(e, g);
		return err;
	}
	s->sent += n;
	s->grains_out++;
	return 0;
}

/*
 * One grain may stay behind on a slow lane: the others must not come round to its slot, or bit.
 */
static bool stream_may_send(const struct gy_stream *s)
{
	const uint64_t out = s->sent - s->freed, grain = s->run->grain;
	const bool slots = !s->op->source || s->via_slot;

	if (!(s->peer->ep->caps & GY_CAP_WRITE))
		return s->grains_out < GRAINS_OUT && out < GY_STREAM_SLOTS * grain;
	return out < (slots ? GY_STREAM_SLOTS : GY_STREAM_GRAINS) * grain;
}

static int stream_pump_grant_out(struct gy_engine *e, struct gy_stream *s)
{
	const uint64_t limit = gy_min(stream_ready(s), s->limit);
	int err = 0;

	/* Where the receiver looks for an eager message, or for nothing, it must be asked. */
	if (!s->first_sent &&
	    (s->len * s->run->es <= e->eager_bytes || s->run->hdr.coll == GY_P2P)) {
		err = stream_say(e, s, GY_MSG_RTS, 0, NULL, 0);
		if (err)
			return err;
		s->first_sent = true;
		s->finished = !s->len;
	}
	while (!err && s->sent < s->len && stream_next(s, s->sent) <= limit) {
		if (!stream_may_send(s)) {
			s->peer->ep->nic->pressed = true;
			break;
		}
		err = stream_send_grain(e, s);
	}
	return err;
}

int stream_pump_out(struct gy_engine *e, struct gy_stream *s)
{
	if (s->mode == GY_BY_OPEN && !s->op->computed && stream_fits_eager(e, s))
		return 0;	/* choose when it can be sent: the allowance may be better then */
	if (s->mode == GY_BY_OPEN)
		stream_choose_mode(e, s);
	switch (s->mode) {
	case GY_BY_EAGER:
		return s->finished ? 0 : stream_pump_eager(e, s);
	case GY_BY_LEND:
		return stream_pump_lend(e, s);
	default:
		return stream_pump_grant_out(e, s);
	}
}

/* ---- what the receiver says, and the transport ---- */

static void stream_freed(struct gy_engine *e, struct gy_stream *s, uint64_t upto)
{
	const uint64_t grain = s->run->grain;

	while (s->freed < upto) {
		const uint64_t end = stream_grain_end(s, s->freed);

		if (end > upto) {	/* part of a grain: only memory is lent so */
			s->freed = upto;
			break;
		}
		stream_put_slot(e, s, s->freed / grain % GY_STREAM_SLOTS);
		s->freed = end;
	}
	s->finished = s->freed == s->len;
}

int stream_released(struct gy_engine *e, struct gy_stream *s, uint64_t upto)
{
	if (upto > s->sent) {	/* a receiver that drops the message: it wants no more of it */
		if (s->run->hdr.coll != GY_P2P || upto != s->len || s->grains_out)
			return -EPROTO;
		s->sent = s->len;
	} else if (s->mode != GY_BY_LEND) {
		return -EPROTO;
	}
	while (s->lent_head != s->lent_tail && s->lent_end[s->lent_head % GY_STREAM_LENDS] <= upto)
		s->lent_head++;
	stream_freed(e, s, upto);
	return 0;
}

int stream_granted(struct gy_stream *s, const struct gy_hdr *hdr, const void *body)
{
	const unsigned n = hdr->len / sizeof(s->to[0]);
	const uint64_t grain = s->run->grain;
	uint64_t i = s->limit / grain, new;
	unsigned k;

	if (hdr->off > s->len || hdr->off < s->limit || hdr->len % sizeof(s->to[0]))
		return -EPROTO;
	if (s->peer->ep->caps & GY_CAP_WRITE) {
		s->direct = hdr->arg & GY_TICKET_WHOLE;
		new = s->direct ? !s->limit : (hdr->off + grain - 1) / grain - i;
		if (n != new || n > GY_STREAM_SLOTS ||
		    (s->ticket && s->ticket != (hdr->arg & GY_TICKET_MAX)) ||
		    (!s->direct && i - s->sent / grain + n > GY_STREAM_SLOTS))
			return -EPROTO;
		s->ticket = hdr->arg & GY_TICKET_MAX;
		for (k = 0; k < n; k++)
			memcpy(&s->to[(i + k) % GY_STREAM_SLOTS],
			       (const char *)body + k * sizeof(s->to[0]), sizeof(s->to[0]));
	}
	s->limit = hdr->off;
	return 0;
}

void gy_sent(struct gy_ep *ep, struct gy_grain *g)
{
	struct gy_engine *e = &ep->nic->ctx->engine;
	struct gy_stream *s = g->stream;

	s->grains_out--;
	s->mask |= 1ull << (g->hdr.off - s->freed) / s->run->grain;
	while (s->mask & 1) {
		s->mask >>= 1;
		stream_put_slot(e, s, s->freed / s->run->grain % GY_STREAM_SLOTS);
		s->freed = stream_next(s, s->freed);
	}
	s->finished = s->freed == s->len;
	s->run->dirty = true;
	s->run->moved_ns = e->now_ns;
	grain_free(e, g);
}
