/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_bulk.c - GY_CAP_BULK: grains into memory that the receiver names.
 *
 * A grain's number is hdr.stream, and says what bytes it has and how many.
 */
#include "tests/multi/conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BULK_BUSY 24		/* grains on their way */
#define BULK_MAX (600 * 1024)

enum bulk_state { BULK_NONE, BULK_PLACED, BULK_THROWN, BULK_THERE };

struct bulk_out {
	struct gy_grain grain;
	char *mem;
	bool busy;
};

struct bulk {
	struct bulk_out out[BULK_BUSY];
	unsigned total, sent, arrived, placed;
	uint8_t *state;			/* of each incoming grain: enum bulk_state */
	char **dst;
	bool refuse;
	size_t len;			/* of every grain; 0: differs */
};

static uint64_t bulk_seed(int from, uint32_t n)
{
	return ((uint64_t)from << 32 | n) * 0xbf58476d1ce4e5b9;
}

static uint32_t bulk_len(const struct bulk *b, uint32_t n)
{
	uint64_t seed = n;
	const uint64_t r = conf_random(&seed);

	if (b->len)
		return (uint32_t)b->len;
	return 1 + (uint32_t)(r >> 8) % (r % 4 ? 40000 : BULK_MAX);
}

static struct bulk *bulk_init(struct conf *c, unsigned total, size_t len)
{
	struct bulk *b = conf_alloc(c, sizeof(*b));

	b->total = total;
	b->len = len;
	b->state = conf_alloc(c, total);
	b->dst = conf_alloc(c, total * sizeof(*b->dst));
	c->state = b;
	return b;
}

/* ---- receiving ---- */

static int bulk_place(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	struct bulk *b = c->state;
	const uint32_t n = hdr->stream;

	CHECK(hdr->kind == CONF_OTHER && n < b->total && hdr->len == bulk_len(b, n));
	CHECK(b->state[n] == BULK_NONE);
	if (b->refuse && b->placed == 2)
		return -EPROTO;
	b->placed++;
	if (n % 7 == 3) {
		b->state[n] = BULK_THROWN;
		b->arrived++;		/* nothing more is heard of it */
		*dstp = NULL;
		return 0;
	}
	b->state[n] = BULK_PLACED;
	*dstp = b->dst[n] = conf_keep(c, malloc(hdr->len));
	return 0;
}

static void bulk_arrived(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr)
{
	struct bulk *b = c->state;
	const uint32_t n = hdr->stream;

	CHECK(n < b->total && b->state[n] == BULK_PLACED);
	CHECK(conf_matches(b->dst[n], hdr->len, bulk_seed(p->peer.rank, n)));
	b->state[n] = BULK_THERE;
	conf_free(c, b->dst[n]);
	b->arrived++;
}

/* ---- sending ---- */

static void bulk_sent(struct conf *c, struct conf_peer *p, struct gy_grain *grain)
{
	struct bulk_out *o = gy_container_of(grain, struct bulk_out, grain);

	CHECK(o->busy);
	o->busy = false;
	memset(o->mem, 0xff, grain->hdr.len);	/* ours again */
}

static int bulk_send_one(struct conf *c, struct conf_peer *p, struct bulk_out *o)
{
	struct bulk *b = c->state;
	const uint32_t len = bulk_len(b, b->sent);
	int err;

	if (!o->mem)
		o->mem = conf_keep(c, malloc(b->len ? b->len : BULK_MAX));
	conf_fill(o->mem, len, bulk_seed(c->rank, b->sent));
	o->grain = (struct gy_grain){ .src = o->mem };
	o->grain.hdr = (struct gy_hdr){ .kind = CONF_OTHER, .stream = b->sent, .len = len };
	o->busy = true;
	err = c->ops->bulk(p->peer.ep, &o->grain);
	if (err)
		o->busy = false;
	else
		b->sent++;
	return err;
}

/* As many as go: 0, or what ended it. */
static int bulk_send(struct conf *c, struct conf_peer *p)
{
	struct bulk *b = c->state;
	unsigned i;
	int err = 0;

	for (i = 0; i < BULK_BUSY && !err && b->sent < b->total; i++)
		if (!b->out[i].busy)
			err = bulk_send_one(c, p, &b->out[i]);
	return err;
}

static bool bulk_idle(const struct bulk *b)
{
	unsigned i;

	for (i = 0; i < BULK_BUSY; i++)
		if (b->out[i].busy)
			return false;
	return true;
}

static bool bulk_done(struct conf *c)
{
	struct bulk *b = c->state;
	struct conf_peer *p = &c->peers[!c->rank];
	int err;

	conf_send_all(c);
	if (!p->blocked) {
		err = bulk_send(c, p);
		CHECK(!err || err == -EAGAIN);
		p->blocked = err == -EAGAIN;
	}
	return b->sent == b->total && b->arrived == b->total && bulk_idle(b) &&
	       p->seq_out >= p->limit && p->seq_in >= p->limit;
}

static void bulk_start(struct conf *c)
{
	c->place = bulk_place;
	c->arrived_grain = bulk_arrived;
	c->sent = bulk_sent;
	conf_connect_all(c);
}

/* Both directions at once, with small messages beside them, on any lanes. */
void conf_bulk(struct conf *c)
{
	bulk_init(c, conf_times(c, 400, 20000), 0);
	bulk_start(c);
	c->peers[!c->rank].limit = conf_times(c, 2000, 2000);
	conf_wait(c, bulk_done);
	CHECK(!c->peers[!c->rank].down);
	conf_barrier(c);
}

static bool bulk_down(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	int err;

	if (c->rank == 0 && !p->blocked && !p->down) {
		err = bulk_send(c, p);
		CHECK(!err || err == -EAGAIN || err == -ENOTCONN);
		p->blocked = err == -EAGAIN;
	}
	return p->down;
}

/* A grain that was not granted ends the endpoint, on both sides. */
void conf_bulk_refused(struct conf *c)
{
	struct bulk *b = bulk_init(c, 100, 10000);

	b->refuse = c->rank == 1;
	bulk_start(c);
	conf_wait(c, bulk_down);
	CHECK(c->rank == 0 || (c->peers[0].err == -EPROTO && b->placed == 2));
}

/* ---- revoke ---- */

static bool bulk_some(struct conf *c)
{
	struct bulk *b = c->state;
	struct conf_peer *p = &c->peers[!c->rank];

	if (!p->blocked)
		p->blocked = bulk_send(c, p) == -EAGAIN;
	return b->sent > 0;
}

static bool bulk_any_placed(struct conf *c)
{
	const struct bulk *b = c->state;

	return b->placed > 0;
}

/* All that the transport takes and the kernel holds; the peer has seen some of it. */
static bool bulk_stuck(struct conf *c)
{
	return bulk_some(c) && c->idle > 100 && atomic_load(&c->shared->flag) > 0;
}

/*
 * Grains that are stuck because the peer does not read: after revoke their memory may change, and
 * what arrives is what was sent.
 */
void conf_revoke_out(struct conf *c)
{
	struct bulk *b = bulk_init(c, BULK_BUSY, c->sim ? 40000 : 4 << 20);
	struct conf_peer *p = &c->peers[!c->rank];
	unsigned i;

	bulk_start(c);
	if (c->rank == 0) {
		conf_wait(c, bulk_stuck);
		for (i = 0; i < BULK_BUSY; i++) {
			if (!b->out[i].busy)
				continue;
			c->ops->revoke(p->peer.ep, b->out[i].mem, b->len);
			memset(b->out[i].mem, 0x77, b->len);
		}
		atomic_store(&c->shared->flag, 2);
		conf_barrier(c);
		c->ops->ep_close(p->peer.ep, true);
		p->peer.ep = NULL;
	} else {
		conf_wait(c, bulk_any_placed);	/* lanes are connected as long as this drives */
		atomic_store(&c->shared->flag, 1);
		conf_wait_flag(c, 2);
		conf_barrier(c);
		conf_wait(c, conf_any_down);
	}
}

static int revoke_place(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	struct bulk *b = c->state;

	*dstp = b->dst[0];
	b->placed++;
	return 0;
}

static void revoke_arrived(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr)
{
	struct bulk *b = c->state;

	b->arrived++;
}

/*
 * A grain half of which is here: after revoke the other half does not touch the memory.  In the
 * simulator it may be whole.
 */
void conf_revoke_in(struct conf *c)
{
	struct bulk *b = bulk_init(c, 1, c->sim ? 40000 : 16 << 20);
	struct conf_peer *p = &c->peers[!c->rank];
	size_t i;

	bulk_start(c);
	if (c->rank == 0) {
		conf_wait(c, bulk_some);
		p->limit = 100;
		conf_wait(c, conf_all_done);
	} else {
		b->dst[0] = conf_keep(c, malloc(b->len));
		c->place = revoke_place;
		c->arrived_grain = revoke_arrived;
		conf_wait(c, bulk_any_placed);
		CHECK(!b->arrived || c->sim);
		c->ops->revoke(p->peer.ep, b->dst[0], b->len);
		memset(b->dst[0], 0x77, b->len);
		p->limit = 100;
		conf_wait(c, conf_all_done);
	}
	CHECK(!p->down);
	conf_barrier(c);
	for (i = 0; c->rank == 1 && i < b->len; i++)
		CHECK(b->dst[0][i] == 0x77);
}
