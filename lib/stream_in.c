/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_in.c - the receiver's side of a stream: places are granted, what is lent is read where it
 * is, and grains come to their places (stream.c).
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/comm.h"
#include "lib/control.h"
#include "lib/stream_priv.h"

/* ---- grants ---- */

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
				&e->pool, s->granted == s->op->done && gy_run_needs(s->run, s->op));

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

void stream_grant_mode(struct gy_stream *s)
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

int stream_pump_in(struct gy_engine *e, struct gy_stream *s)
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

/* Grains of an in-stream up to there that have not been written. */
static unsigned stream_unwritten_to(const struct gy_stream *s, uint64_t upto)
{
	const uint64_t grain = s->run->grain;

	return (unsigned)((upto + grain - 1) / grain - (s->avail + grain - 1) / grain) -
	       (unsigned)__builtin_popcountll(s->mask);
}

/* Those that the peer may write. */
unsigned stream_unwritten(const struct gy_stream *s)
{
	return stream_unwritten_to(s, s->told);
}

/* The grains that it will not get are others' to be granted. */
gy_cold void stream_give_back(const struct gy_stream *s)
{
	struct gy_peer *peer = s->peer;

	peer->granted -= stream_unwritten_to(s, s->granted);
	if (!peer->grants_blocked)
		return;
	peer->grants_blocked = false;
	gy_engine_mark_all(&peer->ctx->engine);
}

/* ---- what is lent, and reading ---- */

int stream_lent(struct gy_stream *s, const struct gy_hdr *hdr, const void *body)
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

/* ---- grains that come ---- */

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
