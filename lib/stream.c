/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c - streams: how the grains of one move reach the next rank's, and the upcalls of
 * transports.
 *
 *   stream.c		opening and closing, messages that come
 *   stream_out.c	the sender: eager, lending, grains
 *   stream_in.c	the receiver: grants, what is read where
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
#include "lib/stream_priv.h"

int stream_say(struct gy_engine *e, struct gy_stream *s, enum gy_msg_kind kind, uint64_t off,
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

int gy_stream_pump(struct gy_engine *e, struct gy_stream *s)
{
	int err;

	if (s->finished || (s->peer->state != GY_PEER_UP && !gy_stream_has_all(s)))
		return 0;
	err = s->out ? stream_pump_out(e, s) : stream_pump_in(e, s);
	/* No connection any more: gy_ep_down follows, and says why. */
	return err == -EAGAIN || err == -ENOTCONN ? 0 : err;
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
