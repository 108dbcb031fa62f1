/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_STREAM_PRIV_H
#define GY_STREAM_PRIV_H
/* What stream.c, stream_out.c (what a sender does) and stream_in.c (a receiver) share. */
#include "lib/context.h"
#include "lib/peer.h"

/* ---- stream.c ---- */
int stream_say(struct gy_engine *e, struct gy_stream *s, enum gy_msg_kind kind, uint64_t off,
	       const void *body, uint32_t len);

/* ---- stream_out.c ---- */
/* What can go now goes.  0, -EAGAIN, -errno. */
int stream_pump_out(struct gy_engine *e, struct gy_stream *s);
/* What the receiver has said: 0, or -EPROTO. */
int stream_released(struct gy_engine *e, struct gy_stream *s, uint64_t upto);
int stream_granted(struct gy_stream *s, const struct gy_hdr *hdr, const void *body);

/* ---- stream_in.c ---- */
int stream_pump_in(struct gy_engine *e, struct gy_stream *s);
/* It comes by grants: into the move's memory if that is in one piece, else into slots. */
void stream_grant_mode(struct gy_stream *s);
int stream_lent(struct gy_stream *s, const struct gy_hdr *hdr, const void *body);
/* Grains that the peer may still write. */
unsigned stream_unwritten(const struct gy_stream *s);
/* Those that it will not get are others' to be granted. */
gy_cold void stream_give_back(const struct gy_stream *s);

static inline void stream_put_slot(struct gy_engine *e, struct gy_stream *s, unsigned i)
{
	struct gy_slot *slot = s->slot[i];

	s->slot[i] = NULL;
	if (slot && --slot->users == 0)
		gy_slot_put(&e->pool, slot);
}

static inline uint64_t stream_grain_end(const struct gy_stream *s, uint64_t off)
{
	return gy_min((off / s->run->grain + 1) * s->run->grain, s->len);
}

/* The same where a grain begins at off: all but lent memory goes by whole ones. */
static inline uint64_t stream_next(const struct gy_stream *s, uint64_t off)
{
	return gy_min(off + s->run->grain, s->len);
}

static inline bool stream_is_written(const struct gy_stream *s)
{
	return s->peer->ep->caps & GY_CAP_WRITE && s->mode == GY_BY_GRANT;
}
#endif
