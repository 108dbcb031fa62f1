/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c - streams: how the grains of one move reach the next rank's, and the upcalls of
 * transports.
 *
 *   sender			receiver
 *   EAGER(all bytes) ->				whole stream in one message, copied
 *   LEND(off, where) ->	reads there
 *			  <- RELEASE(upto)	the source may change up to there
 *			  <- GRANT(upto)	so much has a place here (GY_CAP_WRITE: and where)
 *   grains ->					each to its place, any order
 *   RTS ->			(GRANT ...)		where the receiver cannot know of it
 *
 * What a stream has to say is a difference of two of its counters, said when there is room.
 * Messages that no open stream can use are parked with their peer until one opens.
 * Cost: one small message per LEND and RELEASE, one GRANT per half window of grains.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"

/* Grains of one stream that wait for a lane at a time; those that are written need none. */
#define GRAINS_OUT 4
#define SLOTS_HALF (GY_STREAM_SLOTS / 2)

static int stream_say(struct gy_engine *e, struct gy_stream *s, enum gy_msg_kind kind, uint64_t off,
		      const void *body, uint32_t len)
{
	struct gy_hdr hdr = s->run->hdr;

	hdr.kind = kind;
	hdr.off = off;
	hdr.len = len;
	if (s->run->hdr.coll != GY_P2P)
		hdr.stream = s->index;
	if (kind == GY_MSG_LEND)
		hdr.arg = gy_recalls_made(s->peer->ep->nic);
	return gy_peer_msg(e, s->peer, &hdr, body);
}

/* ---- open and close ---- */

static struct gy_stream *stream_alloc(struct gy_engine *e)
{
	struct gy_stream *s = e->free_streams;

	if (!s)
		return gy_alloc(sizeof(*s));
	e->free_streams = (struct gy_stream *)s->op_link.next;
	memset(s, 0, offsetof(struct gy_stream, lent));
	return s;
}

static bool stream_matches(const struct gy_stream *s, const struct gy_hdr *hdr)
{
	const bool to_out = hdr->kind == GY_MSG_GRANT || hdr->kind == GY_MSG_RELEASE;

	return s->run->hdr.seq == hdr->seq && s->run->hdr.comm == hdr->comm && s->out == to_out &&
	       (s->run->hdr.coll == GY_P2P) == (hdr->coll == GY_P2P) &&
	       (hdr->coll == GY_P2P || s->index == hdr->stream);
}

int gy_stream_open(struct gy_engine *e, struct gy_run *run, struct gy_op *op,
		   const struct gy_end *end, bool out, unsigned nin)
{
	struct gy_peer *peer;
	struct gy_list *pos, *after;
	struct gy_stream *s;
	int err;

	err = gy_peer_get(e->ctx, gy_run_world_rank(run, end), &peer);
	if (err)
		return err;
	s = stream_alloc(e);
	if (!s)
		return -ENOMEM;
	s->run = run;
	s->op = op;
	s->peer = peer;
	s->index = end->stream;
	s->out = out;
	s->nin = nin;
	s->len = op->len;
	gy_list_add_tail(&op->streams, &s->op_link);
	gy_list_add_tail(&peer->streams, &s->peer_link);
	gy_list_for_each_safe(pos, after, &peer->parked) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (!stream_matches(s, &p->hdr))
			continue;
		if (p->hdr.coll != GY_P2P && !gy_comm_check(run->comm, peer, &p->hdr))
			return -EPROTO;		/* the run has ended with its communicator */
		gy_list_del(&p->link);
		err = gy_stream_take(e, s, &p->hdr, p->body, p);
		if (err)
			return err;
	}
	/* Who has sent all that we need may have left since. */
	return gy_stream_has_all(s) ? 0 : gy_peer_need(peer, run->comm);
}

static void stream_put_slot(struct gy_engine *e, struct gy_stream *s, unsigned i)
{
	struct gy_slot *slot = s->slot[i];

	s->slot[i] = NULL;
	if (slot && --slot->users == 0)
		gy_slot_put(&e->pool, slot);
}

static bool stream_is_written(const struct gy_stream *s)
{
	return s->peer->ep->caps & GY_CAP_WRITE && s->mode == GY_BY_GRANT;
}

/* Grains of an in-stream up to there that have not been written. */
static unsigned stream_unwritten_to(const struct gy_stream *s, uint64_t upto)
{
	const uint64_t grain = s->run->grain;

	return (unsigned)((upto + grain - 1) / grain - (s->avail + grain - 1) / grain) -
	       (unsigned)__builtin_popcountll(s->mask);
}

/* Those that the peer may write. */
static unsigned stream_unwritten(const struct gy_stream *s)
{
	return stream_unwritten_to(s, s->told);
}

/* The grains that it will not get are others' to be granted. */
static gy_cold void stream_give_back(const struct gy_stream *s)
{
	struct gy_peer *peer = s->peer;

	peer->granted -= stream_unwritten_to(s, s->granted);
	if (!peer->grants_blocked)
		return;
	peer->grants_blocked = false;
	gy_engine_mark_all(&peer->ctx->engine);
}

/* Nobody may touch the memory of a stream that ends early. */
static gy_cold void stream_revoke(struct gy_stream *s)
{
	const struct gy_run *run = s->run;
	struct gy_ep *ep = s->peer->ep;
	const struct gy_end *end = s->out ? s->op->source : s->op->mem_out;
	uint64_t elem, contig;
	unsigned i;

	if (!ep)
		return;
	if (stream_is_written(s)) {
		if (!s->out)
			stream_give_back(s);
		if (s->out ? !s->grains_out : !stream_unwritten(s))
			return;
	}
	for (i = 0; i < GY_STREAM_SLOTS; i++)
		if (s->slot[i])
			ep->ops->revoke(ep, s->slot[i]->mem, run->comm->ctx->engine.pool.slot_size);
	for (elem = 0; end && elem < s->len; elem += contig) {
		const void *ptr = gy_run_at(run, end, elem, &contig);

		ep->ops->revoke(ep, ptr, contig * run->es);
	}
}

void gy_stream_close(struct gy_engine *e, struct gy_stream *s, bool abort)
{
	unsigned i;

	if (abort)
		stream_revoke(s);
	if (s->eager)
		gy_unpark(e, s->eager);
	for (i = 0; i < GY_STREAM_SLOTS; i++)
		stream_put_slot(e, s, i);
	gy_list_del(&s->op_link);
	gy_list_del(&s->peer_link);
	s->op_link.next = (struct gy_list *)e->free_streams;
	e->free_streams = s;
}

/* ---- out ---- */

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
	s->slot[i] = gy_slot_get(&e->pool, gy_run_needs(s->run, s->op) && s->freed == s->sent);
	if (s->slot[i]) {
		s->slot[i]->users = 1;
		gy_op_gather(e, s->run, s->op, s->sent, n, s->slot[i]->mem);
	}
	return s->slot[i];
}

static uint64_t stream_grain_end(const struct gy_stream *s, uint64_t off)
{
	return gy_min((off / s->run->grain + 1) * s->run->grain, s->len);
}

/* The same where a grain begins at off: all but lent memory goes by whole ones. */
static uint64_t stream_next(const struct gy_stream *s, uint64_t off)
{
	return gy_min(off + s->run->grain, s->len);
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
	while (!err && s->sent < s->len && stream_next(s, s->sent) <= limit && stream_may_send(s))
		err = stream_send_grain(e, s);
	return err;
}

static int stream_pump_out(struct gy_engine *e, struct gy_stream *s)
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

/* ---- in ---- */

/*
 * Says how far the peer may send, and by GY_CAP_WRITE, where to.  Two streams of a peer that are
 * open at once have different tickets, since far fewer than 2^24 are.
 */
static int stream_say_grant(struct gy_engine *e, struct gy_stream *s)
{
	const uint64_t grain = s->run->grain;
	struct gy_remote where[GY_STREAM_SLOTS];
	struct gy_hdr hdr = s->run->hdr;
	struct gy_ep *ep = s->peer->ep;
	unsigned n = 0;
	uint64_t i;
	int err = 0;

	hdr.kind = GY_MSG_GRANT;
	hdr.off = s->granted;
	if (hdr.coll != GY_P2P)
		hdr.stream = s->index;
	if (ep->caps & GY_CAP_WRITE) {
		if (!s->ticket)
			s->ticket = e->next_ticket++ % GY_TICKET_MAX + 1;
		hdr.arg = s->ticket | (s->direct ? GY_TICKET_WHOLE : 0);
		if (s->direct && !s->told)
			where[n++] = s->to[0];
		for (i = s->told / grain; !s->direct && i * grain < s->granted && !err; i++)
			err = ep->ops->expose(ep, s->slot[i % GY_STREAM_SLOTS]->mem,
					      e->pool.slot_size, &where[n++]);
		if (err)	/* a slot's: the transport is of no use */
			return err == -EOPNOTSUPP ? -ENOMEM : err;
	}
	hdr.len = n * sizeof(where[0]);
	err = gy_peer_msg(e, s->peer, &hdr, where);
	if (err)
		return err;
	s->told = s->granted;
	return 0;
}

/* By GY_CAP_WRITE each grain needs a receive at the device; half of them are for needed streams. */
static bool stream_may_grant(const struct gy_stream *s)
{
	const struct gy_ep *ep = s->peer->ep;
	const unsigned all = s->peer->granted;

	if (!(ep->caps & GY_CAP_WRITE) || all < ep->write_max / 2 ||
	    (all < ep->write_max && s->granted == s->avail && gy_run_needs(s->run, s->op)))
		return true;
	s->peer->grants_blocked = true;
	return false;
}

/* Grants what has a place: user memory that is free of hazards, or slots. */
static int stream_pump_grant_in(struct gy_engine *e, struct gy_stream *s)
{
	const uint64_t grain = s->run->grain;
	const unsigned window = s->direct ? GY_STREAM_GRAINS : GY_STREAM_SLOTS;
	uint64_t end, i;

	while (s->granted < s->len) {
		end = stream_next(s, s->granted);
		i = s->granted / grain;
		if (s->granted - s->op->done >= window * grain ||
		    s->granted - s->avail >= 64 * grain || !stream_may_grant(s))
			break;
		if (s->direct) {
			if (end > s->op->ok)
				break;
		} else {
			struct gy_slot *slot = gy_slot_get(
				&e->pool, gy_run_needs(s->run, s->op) && s->granted == s->op->done);

			if (!slot)
				break;
			slot->users = 1;
			s->slot[i % GY_STREAM_SLOTS] = slot;
		}
		s->granted = end;
		s->peer->granted += (s->peer->ep->caps & GY_CAP_WRITE) != 0;
	}
	/* Half a window at a time, or all that is left, or the sender would stand still. */
	if (s->granted == s->told || (s->granted < s->len && s->told > s->avail &&
				      s->granted - s->told < grain * window / 2))
		return 0;
	return stream_say_grant(e, s);
}

static void stream_grant_mode(struct gy_stream *s)
{
	const struct gy_op *op = s->op;
	struct gy_ep *ep = s->peer->ep;
	uint64_t contig = 0;
	void *dst = NULL;

	s->mode = GY_BY_GRANT;
	if (op->move->nin == 1 && op->mem_out)
		dst = gy_op_at(s->run, op, 0, &contig);
	s->direct = contig >= s->len;
	if (s->direct && s->len && ep->caps & GY_CAP_WRITE)
		s->direct = !ep->ops->expose(ep, dst, s->len * s->run->es, &s->to[0]);
}

static int stream_pump_in(struct gy_engine *e, struct gy_stream *s)
{
	int err = 0;

	if (s->mode == GY_BY_OPEN && !(s->peer->ep->caps & GY_CAP_LEND) &&
	    s->len * s->run->es > e->eager_bytes && s->run->hdr.coll != GY_P2P)
		stream_grant_mode(s);
	if (s->mode == GY_BY_GRANT)
		err = stream_pump_grant_in(e, s);
	else if (s->mode == GY_BY_LEND && s->told < s->op->done) {
		err = stream_say(e, s, GY_MSG_RELEASE, s->op->done, NULL, 0);
		if (!err)
			s->told = s->op->done;
	}
	s->finished = s->got && s->op->computed && (s->mode != GY_BY_LEND || s->told == s->len);
	return err;
}

int gy_stream_pump(struct gy_engine *e, struct gy_stream *s)
{
	int err;

	if (s->finished || (s->peer->state != GY_PEER_UP && !gy_stream_has_all(s)))
		return 0;
	err = s->out ? stream_pump_out(e, s) : stream_pump_in(e, s);
	/* No connection any more: gy_ep_down follows, and says why. */
	return err == -EAGAIN || err == -ENOTCONN ? 0 : err;
}

/* The LEND that has this element: a grain may be lent in several pieces. */
static struct gy_lent *stream_lent_at(struct gy_stream *s, uint64_t elem)
{
	uint32_t i;

	for (i = s->lent_head; i != s->lent_tail; i++) {
		struct gy_lent *l = &s->lent[i % GY_STREAM_LENDS];

		if (elem < l->off + l->len)
			return l;
	}
	gy_assert(!"element not lent");
	return NULL;
}

/* Some of the peer's communicators have failed since; ours too?  It may have no room to say so. */
bool gy_stream_was_lent_slow(struct gy_stream *s)
{
	struct gyre_comm *comm = s->run->comm;
	char why[GY_RECALL_TEXT];
	const int err = gy_recalled(s->recalls_of, comm->id, &s->recalls, why);
	struct gy_hdr hdr = { .arg = (uint32_t)-err };

	if (!err)
		return true;
	hdr.len = (uint32_t)strlen(why);
	gy_comm_aborted(comm, s->peer, &hdr, why);
	return false;
}

/* Who lent it has died, if it does not say otherwise; its connection may tell later. */
static gy_cold int stream_unreadable(struct gy_stream *s, int err)
{
	struct gyre_comm *comm = s->run->comm;
	const int rank = gy_comm_rank_of(comm, s->peer->rank);

	if (err == -ENOTCONN)	/* the transport knows already, and has yet to say so */
		err = -ECONNRESET;
	if (gy_stream_was_lent(s))
		gy_comm_fail(comm, err, "rank %d is lost: its memory cannot be read: %s", rank,
			     gyre_strerror(err));
	return err;
}

int gy_stream_read(struct gy_stream *s, uint64_t elem, const void **ptr, uint64_t *contig)
{
	const size_t es = s->run->es;
	int err;

	gy_assert(elem < s->avail);
	if (s->eager) {
		*ptr = s->eager->body + elem * es;
		*contig = s->len - elem;
	} else if (s->mode == GY_BY_GRANT) {
		*ptr = (char *)s->slot[elem / s->run->grain % GY_STREAM_SLOTS]->mem +
		       elem % s->run->grain * es;
		*contig = stream_grain_end(s, elem) - elem;
	} else {
		struct gy_lent *l = stream_lent_at(s, elem);
		const uint64_t skip = elem - l->off;

		*contig = l->len - skip;
		err = s->peer->ep->ops->map(s->peer->ep, &l->remote, skip * es, *contig * es, ptr);
		if (err && err != -EOPNOTSUPP)
			return stream_unreadable(s, err);
		/* Kernels need their elements aligned: a buffer of the peer's may not be. */
		if (err || (uintptr_t)*ptr % es)
			*ptr = NULL;
	}
	return 0;
}

int gy_stream_pull(struct gy_stream *s, uint64_t elem, void *dst, uint64_t n)
{
	struct gy_lent *l = stream_lent_at(s, elem);
	const size_t es = s->run->es;
	const int err =
		s->peer->ep->ops->pull(s->peer->ep, &l->remote, (elem - l->off) * es, dst, n * es);

	return gy_unlikely(err) ? stream_unreadable(s, err) : 0;
}

void gy_stream_consumed(struct gy_engine *e, struct gy_stream *s, uint64_t upto)
{
	uint64_t i;

	if (s->eager && upto == s->len) {
		gy_unpark(e, s->eager);
		s->eager = NULL;
	} else if (s->mode == GY_BY_GRANT && !s->direct) {
		for (i = s->freed / s->run->grain; s->freed < upto; i++) {
			s->freed = stream_next(s, s->freed);
			stream_put_slot(e, s, i % GY_STREAM_SLOTS);
		}
	} else if (s->mode == GY_BY_LEND) {
		while (s->lent_head != s->lent_tail) {
			struct gy_lent *l = &s->lent[s->lent_head % GY_STREAM_LENDS];

			if (l->off + l->len > upto)
				break;
			s->lent_head++;
		}
	}
}

/* ---- upcalls ---- */

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

static int stream_released(struct gy_engine *e, struct gy_stream *s, uint64_t upto)
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

static int stream_lent(struct gy_stream *s, const struct gy_hdr *hdr, const void *body)
{
	struct gy_lend_body lb;
	struct gy_lent *l;

	if (hdr->len != sizeof(lb) || s->mode == GY_BY_GRANT || s->eager || !s->peer->ep->recalls)
		return -EPROTO;
	memcpy(&lb, body, sizeof(lb));
	if (hdr->off != s->avail || !lb.n || lb.n > s->len - s->avail ||
	    s->lent_tail - s->lent_head == GY_STREAM_LENDS)
		return -EPROTO;
	if (s->mode != GY_BY_LEND) {
		s->mode = GY_BY_LEND;
		s->recalls_of = s->peer->ep->recalls;
		s->recalls = hdr->arg;
	}
	l = &s->lent[s->lent_tail++ % GY_STREAM_LENDS];
	*l = (struct gy_lent){ .off = hdr->off, .len = lb.n, .remote = lb.remote };
	s->avail += lb.n;
	s->got = true;
	return 0;
}

static int stream_granted(struct gy_stream *s, const struct gy_hdr *hdr, const void *body)
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

/*
 * A message for an open stream.  p: it was parked, and is ours to free; else it is parked here if
 * it must be kept.  -errno: the peer breaks the protocol.
 */
int gy_stream_take(struct gy_engine *e, struct gy_stream *s, const struct gy_hdr *hdr,
		   const void *body, struct gy_parked *p)
{
	int err = 0;

	s->run->dirty = true;
	s->run->moved_ns = e->now_ns;
	switch (hdr->kind) {
	case GY_MSG_EAGER:
		if (hdr->len != s->len * s->run->es || s->mode != GY_BY_OPEN) {
			err = -EPROTO;
			break;
		}
		if (!p)
			p = gy_park(e, s->peer, hdr, body);
		if (!p)
			return -ENOMEM;
		s->mode = GY_BY_EAGER;
		s->eager = p;
		s->avail = s->len;
		s->got = true;
		return 0;
	case GY_MSG_LEND:
		err = stream_lent(s, hdr, body);
		break;
	case GY_MSG_RTS:
		if (s->mode == GY_BY_OPEN)
			stream_grant_mode(s);
		else
			err = -EPROTO;
		s->got |= !s->len;
		break;
	case GY_MSG_GRANT:
		err = stream_granted(s, hdr, body);
		break;
	case GY_MSG_RELEASE:
		err = stream_released(e, s, hdr->off);
		break;
	default:
		err = -EPROTO;
	}
	if (p)
		gy_unpark(e, p);
	return err;
}

struct gy_stream *gy_stream_find(const struct gy_peer *peer, const struct gy_hdr *hdr)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &peer->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, peer_link);

		if (stream_matches(s, hdr))
			return s;
	}
	return NULL;
}

gy_cold void gy_stream_bad_message(struct gy_peer *peer)
{
	gy_peer_expel(peer, -EPROTO, "it sent a message that does not fit its streams");
}

int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	struct gy_stream *s;
	uint64_t n, contig, bit;

	*dstp = NULL;
	if (hdr->kind != GY_MSG_GRAIN)
		return -EPROTO;
	s = gy_stream_find(ep->peer, hdr);
	if (!s)
		/* its operation has ended: a failure, or a message that was dropped */
		return 0;
	if (s->mode != GY_BY_GRANT || ep->caps & GY_CAP_WRITE || hdr->off >= s->told ||
	    hdr->off < s->avail || hdr->off % s->run->grain)
		return -EPROTO;
	n = stream_grain_end(s, hdr->off) - hdr->off;
	bit = 1ull << (hdr->off - s->avail) / s->run->grain;
	if (hdr->len != n * s->run->es || s->placed & bit)
		return -EPROTO;
	s->placed |= bit;
	*dstp = s->direct ? gy_op_at(s->run, s->op, hdr->off, &contig)
			  : s->slot[hdr->off / s->run->grain % GY_STREAM_SLOTS]->mem;
	return 0;
}

/* Grain number i after s->avail is in its place. */
static void stream_grain_came(struct gy_engine *e, struct gy_stream *s, uint64_t i)
{
	s->mask |= 1ull << i;
	while (s->mask & 1) {
		s->mask >>= 1;
		s->placed >>= 1;
		s->avail = stream_next(s, s->avail);
	}
	s->got = true;
	s->run->dirty = true;
	s->run->moved_ns = e->now_ns;
}

void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr)
{
	struct gy_stream *s = gy_stream_find(ep->peer, hdr);

	if (s && s->mode == GY_BY_GRANT)
		stream_grain_came(&ep->nic->ctx->engine, s,
				  (hdr->off - s->avail) / s->run->grain);
}

void gy_written(struct gy_ep *ep, uint32_t ticket)
{
	struct gy_engine *e = &ep->nic->ctx->engine;
	struct gy_peer *peer = ep->peer;
	struct gy_list *pos;

	gy_list_for_each(pos, &peer->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, peer_link);
		const uint64_t grain = s->run->grain;
		uint64_t i;

		if (s->out || s->ticket != ticket >> 8)
			continue;
		i = (ticket - s->avail / grain) & 255;
		if (s->avail + i * grain >= s->told || s->mask & 1ull << i) {
			gy_stream_bad_message(peer);
			return;
		}
		peer->granted--;
		if (gy_unlikely(peer->grants_blocked)) {
			peer->grants_blocked = false;
			gy_engine_mark_all(e);
		}
		stream_grain_came(e, s, i);
		return;
	}
	/* else its operation has ended meanwhile */
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
