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

static struct {
	struct bulk_out out[BULK_BUSY];
	unsigned total, sent, arrived, placed;
	uint8_t *state;			/* of each incoming grain: enum bulk_state */
	char **dst;
	bool refuse;
	size_t len;			/* of every grain; 0: differs */
} bulk;

static uint64_t bulk_seed(int from, uint32_t n)
{
	return ((uint64_t)from << 32 | n) * 0xbf58476d1ce4e5b9;
}

static uint32_t bulk_len(uint32_t n)
{
	uint64_t seed = n;
	const uint64_t r = conf_random(&seed);

	if (bulk.len)
		return (uint32_t)bulk.len;
	return 1 + (uint32_t)(r >> 8) % (r % 4 ? 40000 : BULK_MAX);
}

static void bulk_init(unsigned total, size_t len)
{
	bulk.total = total;
	bulk.len = len;
	bulk.state = calloc(total, 1);
	bulk.dst = calloc(total, sizeof(*bulk.dst));
	CHECK(bulk.state && bulk.dst);
}

static void bulk_fini(void)
{
	unsigned i;

	for (i = 0; i < BULK_BUSY; i++)
		free(bulk.out[i].mem);
	for (i = 0; i < bulk.total; i++)
		free(bulk.dst[i]);
	free(bulk.dst);
	free(bulk.state);
}

/* ---- receiving ---- */

static int bulk_place(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	const uint32_t n = hdr->stream;

	CHECK(hdr->kind == CONF_OTHER && n < bulk.total && hdr->len == bulk_len(n));
	CHECK(bulk.state[n] == BULK_NONE);
	if (bulk.refuse && bulk.placed == 2)
		return -EPROTO;
	bulk.placed++;
	if (n % 7 == 3) {
		bulk.state[n] = BULK_THROWN;
		bulk.arrived++;		/* nothing more is heard of it */
		*dstp = NULL;
		return 0;
	}
	bulk.state[n] = BULK_PLACED;
	*dstp = bulk.dst[n] = malloc(hdr->len);
	CHECK(*dstp);
	return 0;
}

static void bulk_arrived(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr)
{
	const uint32_t n = hdr->stream;

	CHECK(n < bulk.total && bulk.state[n] == BULK_PLACED);
	CHECK(conf_matches(bulk.dst[n], hdr->len, bulk_seed(p->peer.rank, n)));
	bulk.state[n] = BULK_THERE;
	free(bulk.dst[n]);
	bulk.dst[n] = NULL;
	bulk.arrived++;
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
	const uint32_t len = bulk_len(bulk.sent);
	int err;

	if (!o->mem)
		o->mem = malloc(bulk.len ? bulk.len : BULK_MAX);
	CHECK(o->mem);
	conf_fill(o->mem, len, bulk_seed(c->rank, bulk.sent));
	o->grain = (struct gy_grain){ .src = o->mem };
	o->grain.hdr = (struct gy_hdr){ .kind = CONF_OTHER, .stream = bulk.sent, .len = len };
	o->busy = true;
	err = c->ops->bulk(p->peer.ep, &o->grain);
	if (err)
		o->busy = false;
	else
		bulk.sent++;
	return err;
}

/* As many as go: 0, or what ended it. */
static int bulk_send(struct conf *c, struct conf_peer *p)
{
	unsigned i;
	int err = 0;

	for (i = 0; i < BULK_BUSY && !err && bulk.sent < bulk.total; i++)
		if (!bulk.out[i].busy)
			err = bulk_send_one(c, p, &bulk.out[i]);
	return err;
}

static bool bulk_idle(void)
{
	unsigned i;

	for (i = 0; i < BULK_BUSY; i++)
		if (bulk.out[i].busy)
			return false;
	return true;
}

static bool bulk_done(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	int err;

	conf_send_all(c);
	if (!p->blocked) {
		err = bulk_send(c, p);
		CHECK(!err || err == -EAGAIN);
		p->blocked = err == -EAGAIN;
	}
	return bulk.sent == bulk.total && bulk.arrived == bulk.total && bulk_idle() &&
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
	bulk_init(conf_times(400, 20000), 0);
	bulk_start(c);
	c->peers[!c->rank].limit = 2000;
	conf_wait(c, bulk_done);
	CHECK(!c->peers[!c->rank].down);
	conf_barrier(c);
	bulk_fini();
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
	bulk_init(100, 10000);
	bulk.refuse = c->rank == 1;
	bulk_start(c);
	conf_wait(c, bulk_down);
	CHECK(c->rank == 0 || (c->peers[0].err == -EPROTO && bulk.placed == 2));
	bulk_fini();
}

/* ---- revoke ---- */

static bool bulk_some(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];

	if (!p->blocked)
		p->blocked = bulk_send(c, p) == -EAGAIN;
	return bulk.sent > 0;
}

static bool bulk_any_placed(struct conf *c)
{
	return bulk.placed > 0;
}

/* All that the transport takes and the kernel holds. */
static bool bulk_stuck(struct conf *c)
{
	return bulk_some(c) && c->idle > 100;
}

/*
 * Grains that are stuck because the peer does not read: after revoke their memory may change, and
 * what arrives is what was sent.
 */
void conf_revoke_out(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	unsigned i;

	bulk_init(BULK_BUSY, 4 << 20);
	bulk_start(c);
	if (c->rank == 0) {
		conf_wait(c, bulk_stuck);
		for (i = 0; i < BULK_BUSY; i++) {
			if (!bulk.out[i].busy)
				continue;
			c->ops->revoke(p->peer.ep, bulk.out[i].mem, bulk.len);
			memset(bulk.out[i].mem, 0x77, bulk.len);
		}
		atomic_store(&c->shared->flag, 1);
		conf_barrier(c);
		c->ops->ep_close(p->peer.ep, true);
		p->peer.ep = NULL;
	} else {
		conf_wait(c, bulk_any_placed);	/* lanes are connected as long as this drives */
		conf_wait_flag(c, 1);
		conf_barrier(c);
		conf_wait(c, conf_any_down);
	}
	bulk_fini();
}

static int revoke_place(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	*dstp = bulk.dst[0];
	bulk.placed++;
	return 0;
}

static void revoke_arrived(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr)
{
	bulk.arrived++;
}

/* A grain half of which is here: after revoke the other half does not touch the memory. */
void conf_revoke_in(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	size_t i;

	bulk_init(1, 16 << 20);
	bulk_start(c);
	if (c->rank == 0) {
		conf_wait(c, bulk_some);
		p->limit = 100;
		conf_wait(c, conf_all_done);
	} else {
		bulk.dst[0] = malloc(bulk.len);
		CHECK(bulk.dst[0]);
		c->place = revoke_place;
		c->arrived_grain = revoke_arrived;
		conf_wait(c, bulk_any_placed);
		CHECK(!bulk.arrived);
		c->ops->revoke(p->peer.ep, bulk.dst[0], bulk.len);
		memset(bulk.dst[0], 0x77, bulk.len);
		p->limit = 100;
		conf_wait(c, conf_all_done);
	}
	CHECK(!p->down);
	conf_barrier(c);
	for (i = 0; c->rank == 1 && i < bulk.len; i++)
		CHECK(bulk.dst[0][i] == 0x77);
	bulk_fini();
}
