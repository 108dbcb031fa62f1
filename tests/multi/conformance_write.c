/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_write.c - GY_CAP_WRITE: grains written into memory that the receiver has named.
 *
 * Grain n goes to a slot of the receiver's, which names it in a grant; n is its ticket.
 */
#define _GNU_SOURCE
#include "tests/multi/conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_SLOTS 48
#define WRITE_BUFS 24
#define WRITE_MAX 50000
#define WRITE_SLOT (WRITE_MAX + 64)

enum { WRITE_GRANT, WRITE_GAVE_UP };	/* hdr.stream */
enum write_state { WRITE_NONE, WRITE_GRANTED, WRITE_WRITTEN, WRITE_REVOKED, WRITE_TOO_LATE };

struct write_grant {
	struct gy_remote remote;
	uint32_t n;
};

struct write_buf {
	struct gy_grain grain;
	char *mem;
	uint32_t n;
	bool busy;
};

struct write {
	uint32_t total;			/* grains each way */
	unsigned revokes;		/* one in so many steps; 0: none */
	char *in, *out;			/* registered */
	/* receiving */
	struct {
		bool busy;
		bool revoked;		/* and not granted since */
		uint32_t n;
	} slot[WRITE_SLOTS];
	uint8_t *state;			/* of each grain: enum write_state */
	uint32_t granted, settled;
	/* sending */
	struct write_buf buf[WRITE_BUFS];
	struct write_grant *grants;	/* not used yet */
	unsigned ngrants;
	uint32_t sent;
	uint32_t gave_up[WRITE_BUFS];	/* to be told */
	unsigned ngave_up;
};

static uint32_t write_len(uint32_t n)
{
	uint64_t seed = n;
	const uint64_t r = conf_random(&seed);

	return 1 + (uint32_t)(r >> 8) % (r % 4 ? 5000 : WRITE_MAX);
}

static size_t write_off(uint32_t n)
{
	return 8 * (n % 8);
}

static uint64_t write_seed(int from, uint32_t n)
{
	return ((uint64_t)from << 32 | n) * 0x94d049bb133111eb;
}

static void *write_region(struct conf *c, size_t len)
{
	void *mem = conf_keep(c, aligned_alloc(4096, gy_align_up(len, 4096)));

	memset(mem, 0, gy_align_up(len, 4096));
	CHECK(!c->ops->mem_register(c->nic, mem, len));
	return mem;
}

static void write_regions(struct conf *c)
{
	struct write *w = c->state;
	unsigned i;

	w->in = write_region(c, (size_t)WRITE_SLOTS * WRITE_SLOT);
	w->out = write_region(c, (size_t)WRITE_BUFS * WRITE_MAX);
	for (i = 0; i < WRITE_BUFS; i++)
		w->buf[i].mem = w->out + (size_t)i * WRITE_MAX;
}

/* Freed at once: nobody writes there any more. */
static void write_unregions(struct conf *c)
{
	const struct write *w = c->state;

	c->ops->mem_unregister(c->nic, w->in, (size_t)WRITE_SLOTS * WRITE_SLOT);
	conf_free(c, w->in);
	c->ops->mem_unregister(c->nic, w->out, (size_t)WRITE_BUFS * WRITE_MAX);
	conf_free(c, w->out);
}

static char *write_slot(const struct write *w, unsigned i)
{
	return w->in + (size_t)i * WRITE_SLOT;
}

/* ---- receiving ---- */

static unsigned write_slot_of(const struct write *w, uint32_t n)
{
	unsigned i;

	for (i = 0; i < WRITE_SLOTS; i++)
		if (w->slot[i].busy && w->slot[i].n == n)
			return i;
	CHECK(!"a slot has it");
	return 0;
}

static void write_settle(struct write *w, unsigned i, enum write_state state)
{
	w->state[w->slot[i].n] = (uint8_t)state;
	w->slot[i].busy = false;
	w->settled++;
}

static void write_written(struct conf *c, struct conf_peer *p, uint32_t n)
{
	struct write *w = c->state;
	unsigned i;

	CHECK(n < w->total);
	if (w->state[n] == WRITE_REVOKED) {
		w->state[n] = WRITE_TOO_LATE;	/* once */
		return;
	}
	CHECK(w->state[n] == WRITE_GRANTED);
	i = write_slot_of(w, n);
	CHECK(conf_matches(write_slot(w, i) + write_off(n), write_len(n),
			   write_seed(p->peer.rank, n)));
	write_settle(w, i, WRITE_WRITTEN);
}

static void write_revoke_slot(struct conf *c, struct conf_peer *p, unsigned i)
{
	struct write *w = c->state;
	c->ops->revoke(p->peer.ep, write_slot(w, i), WRITE_SLOT);
	memset(write_slot(w, i), 0x77, WRITE_SLOT);
	w->slot[i].revoked = true;
	write_settle(w, i, WRITE_REVOKED);
}

static void write_deliver(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			  const void *body)
{
	struct write *w = c->state;
	uint32_t n;

	if (hdr->stream == WRITE_GRANT) {
		CHECK(hdr->len == sizeof(struct write_grant) && w->ngrants < w->total);
		memcpy(&w->grants[w->ngrants++], body, sizeof(struct write_grant));
		return;
	}
	memcpy(&n, body, sizeof(n));
	CHECK(hdr->len == sizeof(n) && n < w->total);
	if (w->state[n] == WRITE_GRANTED)
		write_revoke_slot(c, p, write_slot_of(w, n));
}

/* Nothing has come since it was revoked. */
static void write_check_revoked(const struct write *w, unsigned i)
{
	const char *slot = write_slot(w, i);

	if (w->slot[i].revoked)
		CHECK(slot[0] == 0x77 && !memcmp(slot, slot + 1, WRITE_SLOT - 1));
}

/* What has been revoked lies there for a while: the peer still holds its grant. */
static bool write_may_grant(struct conf *c, unsigned i)
{
	struct write *w = c->state;

	if (w->slot[i].busy || (w->slot[i].revoked && conf_random(&c->seed) % 32))
		return false;
	write_check_revoked(w, i);
	w->slot[i].revoked = false;
	return true;
}

static int write_tell(struct conf *c, struct conf_peer *p, uint32_t tag, const void *body,
		      uint32_t len)
{
	const struct gy_hdr hdr = { .kind = CONF_OTHER, .stream = tag, .len = len };
	const int err = c->ops->msg(p->peer.ep, &hdr, body);

	CHECK(!err || err == -EAGAIN);
	p->blocked |= err == -EAGAIN;
	return err;
}

static void write_grant(struct conf *c, struct conf_peer *p)
{
	struct write *w = c->state;
	struct write_grant g;
	unsigned i;

	for (i = 0; i < WRITE_SLOTS && w->granted < w->total && !p->blocked; i++) {
		if (!write_may_grant(c, i))
			continue;
		g.n = w->granted;
		CHECK(!c->ops->expose(p->peer.ep, write_slot(w, i), WRITE_SLOT, &g.remote));
		if (write_tell(c, p, WRITE_GRANT, &g, sizeof(g)))
			break;
		w->state[g.n] = WRITE_GRANTED;
		w->slot[i].busy = true;
		w->slot[i].n = w->granted++;
		c->idle = 0;
	}
}

/* ---- sending ---- */

static void write_sent(struct conf *c, struct conf_peer *p, struct gy_grain *grain)
{
	struct write_buf *b = gy_container_of(grain, struct write_buf, grain);

	CHECK(b->busy);
	b->busy = false;
	memset(b->mem, 0xff, WRITE_MAX);	/* ours again */
}

static int write_one(struct conf *c, struct conf_peer *p, struct write_buf *b,
		     const struct write_grant *g)
{
	const uint32_t len = write_len(g->n);
	int err;

	conf_fill(b->mem, len, write_seed(c->rank, g->n));
	b->grain = (struct gy_grain){ .src = b->mem, .to = g->remote };
	b->grain.hdr = (struct gy_hdr){ .kind = CONF_OTHER, .len = len };
	b->grain.to_off = write_off(g->n);
	b->grain.ticket = g->n;
	b->n = g->n;
	b->busy = true;
	err = c->ops->bulk(p->peer.ep, &b->grain);
	if (err)
		b->busy = false;
	return err;
}

static void write_send(struct conf *c, struct conf_peer *p)
{
	struct write *w = c->state;
	unsigned i;
	int err;

	for (i = 0; i < WRITE_BUFS && w->ngrants && !p->blocked; i++) {
		if (w->buf[i].busy)
			continue;
		err = write_one(c, p, &w->buf[i], &w->grants[w->ngrants - 1]);
		CHECK(!err || err == -EAGAIN);
		p->blocked = err == -EAGAIN;
		if (err)
			break;
		w->ngrants--;
		w->sent++;
		c->idle = 0;
	}
	while (w->ngave_up && !p->blocked &&
	       !write_tell(c, p, WRITE_GAVE_UP, &w->gave_up[w->ngave_up - 1], 4))
		w->ngave_up--;
}

static void write_revoke_buf(struct conf *c, struct conf_peer *p, struct write_buf *b)
{
	struct write *w = c->state;
	c->ops->revoke(p->peer.ep, b->mem, WRITE_MAX);
	CHECK(!b->busy);
	memset(b->mem, 0x77, WRITE_MAX);
	w->gave_up[w->ngave_up++] = b->n;
}

/* ---- the cases ---- */

static void write_start(struct conf *c, uint32_t total, unsigned revokes)
{
	struct write *w = conf_alloc(c, sizeof(*w));

	c->state = w;
	w->total = total;
	w->revokes = revokes;
	w->state = conf_alloc(c, total);
	w->grants = conf_alloc(c, total * sizeof(*w->grants));
	write_regions(c);
	c->deliver = write_deliver;
	c->sent = write_sent;
	c->written = write_written;
	conf_connect_all(c);
	CHECK(c->peers[!c->rank].peer.ep->write_max >= WRITE_SLOTS);
}

static void write_end(struct conf *c)
{
	const struct write *w = c->state;
	struct conf_peer *p = &c->peers[!c->rank];
	unsigned i;

	CHECK(!p->down);
	conf_barrier(c);
	for (i = 0; i < WRITE_SLOTS; i++)
		write_check_revoked(w, i);
	c->ops->ep_close(p->peer.ep, true);
	p->peer.ep = NULL;
	write_unregions(c);
}

static void write_maybe_revoke(struct conf *c, struct conf_peer *p)
{
	struct write *w = c->state;
	const uint64_t r = conf_random(&c->seed);
	const unsigned i = (unsigned)(r >> 32) % WRITE_SLOTS;
	struct write_buf *b = &w->buf[(unsigned)(r >> 32) % WRITE_BUFS];

	if (!w->revokes || r % w->revokes)
		return;
	if (r >> 60 & 1 && w->slot[i].busy)
		write_revoke_slot(c, p, i);
	else if (!(r >> 60 & 1) && b->busy && !w->ngave_up)
		write_revoke_buf(c, p, b);
}

static bool write_done(struct conf *c)
{
	struct write *w = c->state;
	struct conf_peer *p = &c->peers[!c->rank];
	unsigned i;

	conf_send_all(c);
	write_grant(c, p);
	write_send(c, p);
	write_maybe_revoke(c, p);
	for (i = 0; i < WRITE_BUFS; i++)
		if (w->buf[i].busy)
			return false;
	return w->sent == w->total && w->settled == w->total && !w->ngave_up &&
	       p->seq_out >= p->limit && p->seq_in >= p->limit;
}

/* Both directions at once, with small messages beside them. */
void conf_write(struct conf *c)
{
	write_start(c, conf_times(c, 3000, 100000), 0);
	c->peers[!c->rank].limit = conf_times(c, 2000, 100000);
	conf_wait(c, write_done);
	write_end(c);
}

/* What is not revoked comes once; what is revoked does not come where other things are by now. */
void conf_write_revoked(struct conf *c)
{
	write_start(c, conf_times(c, 3000, 30000), 50);
	c->peers[!c->rank].limit = conf_times(c, 1000, 1000);
	conf_wait(c, write_done);
	write_end(c);
}

void conf_write_revoked_by_one(struct conf *c)
{
	write_start(c, conf_times(c, 3000, 30000), c->rank == 0 ? 20 : 0);
	conf_wait(c, write_done);
	write_end(c);
}

/* A registration within another. */
static void write_within(struct conf *c, char *mem, size_t len)
{
	struct gy_ep *ep = c->peers[!c->rank].peer.ep;
	struct gy_remote remote;

	CHECK(!c->ops->mem_register(c->nic, mem + 1000, 1000));
	CHECK(!c->ops->expose(ep, mem, len, &remote));
	CHECK(!c->ops->expose(ep, mem + 2500, 1, &remote));
	c->ops->mem_unregister(c->nic, mem + 1000, 1000);
	CHECK(!c->ops->expose(ep, mem + 1500, 1, &remote));
}

/* Memory that the transport does not know. */
void conf_write_refused(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	const size_t len = 100000;
	char *mem, *other = conf_keep(c, malloc(len));
	struct gy_grain g = { .src = other, .hdr.len = 100 };
	struct gy_remote remote;

	conf_connect_all(c);
	mem = write_region(c, len);
	CHECK(c->ops->expose(p->peer.ep, other, len, &remote) == -EOPNOTSUPP);
	CHECK(c->ops->expose(p->peer.ep, mem, len + 1, &remote) == -EOPNOTSUPP);
	CHECK(!c->ops->expose(p->peer.ep, mem + 1, len - 1, &g.to));
	CHECK(c->ops->bulk(p->peer.ep, &g) == -EOPNOTSUPP);
	if (!c->sim)			/* which tells when the engine does that */
		write_within(c, mem, len);
	c->ops->mem_unregister(c->nic, mem, len);
	CHECK(c->ops->expose(p->peer.ep, mem, 1, &remote) == -EOPNOTSUPP);
	conf_free(c, mem);
	conf_free(c, other);
	p->limit = 100;
	conf_wait(c, conf_all_done);
	CHECK(!p->down);
	conf_barrier(c);
}

/* ---- the end of a process that writes ---- */

struct victim {
	struct write w;			/* of it, what lies in memory and the buffers */
	struct write_grant grants[2][WRITE_SLOTS];	/* survivors' memory */
	unsigned ngrants[2];
	bool granted[WRITE_SLOTS];	/* a survivor's */
};

static struct victim *to_victim(struct conf *c)
{
	return gy_container_of((struct write *)c->state, struct victim, w);
}

static void victim_deliver(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			   const void *body)
{
	struct victim *v = to_victim(c);
	const int r = p->peer.rank;

	CHECK(hdr->len == sizeof(struct write_grant) && r < 2 && v->ngrants[r] < WRITE_SLOTS);
	memcpy(&v->grants[r][v->ngrants[r]++], body, hdr->len);
}

static bool victim_writes(struct conf *c)
{
	struct victim *v = to_victim(c);
	unsigned i;
	int r;

	for (i = 0; i < WRITE_BUFS; i++) {
		r = i % 2;
		if (v->w.buf[i].busy || !v->ngrants[r])
			continue;
		if (!write_one(c, &c->peers[r], &v->w.buf[i], &v->grants[r][v->ngrants[r] - 1]))
			v->ngrants[r]--;
	}
	c->idle = 0;
	return false;
}

static void survivor_written(struct conf *c, struct conf_peer *p, uint32_t n)
{
	struct victim *v = to_victim(c);

	CHECK(n < WRITE_SLOTS && v->granted[n] && p->peer.rank == 2);
	v->granted[n] = false;
}

static bool survivor_is_left(struct conf *c)
{
	const struct gy_hdr hdr = { .kind = CONF_OTHER, .len = sizeof(struct write_grant) };
	struct conf_peer *p = &c->peers[2];
	struct victim *v = to_victim(c);
	struct write_grant g;
	int err;

	for (g.n = 0; g.n < WRITE_SLOTS && !p->down; g.n++) {
		if (v->granted[g.n])
			continue;
		err = c->ops->expose(p->peer.ep, write_slot(&v->w, g.n), WRITE_SLOT, &g.remote);
		CHECK(!err || err == -ENOTCONN);	/* gy_ep_down follows */
		if (err || c->ops->msg(p->peer.ep, &hdr, &g))
			break;
		v->granted[g.n] = true;
	}
	return p->down;
}

/* After gy_ep_down nothing writes: the memory may be freed at once. */
void conf_write_kill(struct conf *c)
{
	const uint64_t after = 1000 * (1 + conf_random(&c->seed) % 200000);
	struct victim *v = conf_alloc(c, sizeof(*v));
	struct conf_peer *p = &c->peers[2];

	c->state = &v->w;
	c->sent = write_sent;
	c->written = survivor_written;
	c->deliver = victim_deliver;
	write_regions(c);
	conf_connect_all(c);
	if (c->rank == 2) {
		c->ranks->die(c, after);
		conf_wait(c, victim_writes);
	}
	conf_wait(c, survivor_is_left);
	CHECK(p->err == -ECONNRESET || p->err == -EPIPE);
	c->ops->revoke(p->peer.ep, v->w.in, (size_t)WRITE_SLOTS * WRITE_SLOT);
	write_unregions(c);
	c->ops->ep_close(p->peer.ep, true);
	p->peer.ep = NULL;
	c->nranks = 2;
	c->peers[!c->rank].limit = 100;
	conf_wait(c, conf_all_done);
	CHECK(!c->peers[!c->rank].down);
	conf_barrier(c);
}
