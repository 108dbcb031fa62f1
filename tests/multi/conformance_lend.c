/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_lend.c - GY_CAP_LEND: memory that the peer reads.
 *
 * Each rank lends pieces of its memory to the other, a few at a time.  The reader looks at each
 * where it is mapped, where that works, pulls a part of it, and gives it back.  Then one lends, and
 * recalls and writes over what it has lent while the other reads.
 */
#include "tests/multi/conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEND_AREAS 4
#define LEND_BYTES (300 * 1024)

enum { LEND_TAKE, LEND_BACK };		/* hdr.stream */

struct lend_body {
	struct gy_remote remote;
	uint64_t len, seed;
	uint32_t area;
};

struct lend {
	char *areas[LEND_AREAS];	/* two from mem_alloc, two from the heap */
	bool out[LEND_AREAS];		/* lent now */
	bool owed[LEND_AREAS];		/* of the peer: read, to be given back */
	unsigned lent, taken, total;
	unsigned heap, mapped;		/* of them */
	char *copy;
};

static void lend_check(struct conf *c, struct gy_ep *ep, const struct lend_body *b)
{
	struct lend *l = c->state;
	const size_t off = conf_random(&c->seed) % b->len / 8 * 8;
	const size_t len = 1 + conf_random(&c->seed) % (b->len - off);
	const void *ptr = NULL;
	int err = c->ops->map(ep, &b->remote, off, len, &ptr);

	CHECK(!err || err == -EOPNOTSUPP);
	if (!err) {
		l->mapped++;
		CHECK(conf_matches(ptr, len, b->seed + off));
	}
	memset(l->copy, 0x5a, len + 1);
	CHECK(!c->ops->pull(ep, &b->remote, off, l->copy, len));
	CHECK(conf_matches(l->copy, len, b->seed + off));
	CHECK(l->copy[len] == 0x5a);
}

static void lend_deliver(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			 const void *body)
{
	struct lend *l = c->state;
	struct lend_body b;

	CHECK(hdr->len == sizeof(b));
	memcpy(&b, body, sizeof(b));
	CHECK(b.area < LEND_AREAS);
	if (hdr->stream == LEND_BACK) {
		CHECK(l->out[b.area]);
		l->out[b.area] = false;
		return;
	}
	lend_check(c, p->peer.ep, &b);
	l->taken++;
	l->owed[b.area] = true;
}

/* Freed memory has been read, and its addresses may be used again. */
static void lend_renew(struct conf *c, uint32_t area)
{
	struct lend *l = c->state;
	void *mem;

	CHECK(!c->ops->mem_free(c->nic, l->areas[area]));
	CHECK(!c->ops->mem_alloc(c->nic, LEND_BYTES, &mem));
	l->areas[area] = mem;
}

static void lend_one(struct conf *c, struct conf_peer *p, uint32_t area)
{
	struct lend *l = c->state;
	const size_t off = conf_random(&c->seed) % (LEND_BYTES / 2);
	struct lend_body b = { .area = area, .seed = conf_random(&c->seed) };
	char *ptr;
	int err;

	if (area == 1 && l->lent % 8 == 0)
		lend_renew(c, area);
	ptr = l->areas[area] + off;
	b.len = 1 + conf_random(&c->seed) % (LEND_BYTES - off);
	conf_fill(ptr, b.len, b.seed);
	err = c->ops->lend(p->peer.ep, ptr, b.len, &b.remote);
	if (area >= 2 && err == -EOPNOTSUPP)
		return;			/* ordinary memory; the engine would copy to a slot */
	CHECK(!err);
	l->heap += area >= 2;
	l->out[area] = true;
	l->lent++;
	conf_say(c, p, LEND_TAKE, &b, sizeof(b));
}

static bool lend_done(struct conf *c)
{
	struct lend *l = c->state;
	struct conf_peer *p = &c->peers[!c->rank];
	bool out = false;
	uint32_t a;

	for (a = 0; a < LEND_AREAS; a++) {
		if (l->owed[a]) {
			l->owed[a] = false;
			conf_say(c, p, LEND_BACK, &(struct lend_body){ .area = a },
				 sizeof(struct lend_body));
		}
		if (!l->out[a] && l->lent < l->total)
			lend_one(c, p, a);
	}
	for (a = 0; a < LEND_AREAS; a++)	/* something may have come while we spoke */
		out |= l->out[a] || l->owed[a];
	return l->lent >= l->total && l->taken >= l->total && !out;
}

void conf_lend(struct conf *c)
{
	struct lend *l = conf_alloc(c, sizeof(*l));
	void *mem;
	unsigned a;

	c->state = l;
	c->deliver = lend_deliver;
	l->total = conf_times(c, 800, 20000);
	l->copy = conf_keep(c, malloc(LEND_BYTES + 1));
	for (a = 0; a < LEND_AREAS; a++) {
		if (a < 2)
			CHECK(!c->ops->mem_alloc(c->nic, LEND_BYTES, &mem));
		else
			mem = conf_keep(c, malloc(LEND_BYTES));
		l->areas[a] = mem;
	}
	conf_connect_all(c);
	conf_wait(c, lend_done);
	conf_barrier(c);
	if (!c->rank && !c->sim)
		printf("  %u lent, %u of them ordinary memory; %u mapped\n", l->lent, l->heap,
		       l->mapped);
	for (a = 0; a < 2; a++)
		CHECK(!c->ops->mem_free(c->nic, l->areas[a]));
}

/* ---- recalled ---- */

struct recall_body {
	struct gy_remote remote;
	uint64_t len, seed;
	uint32_t count;
};

struct recall {
	char *area, *copy;
	unsigned lent, read, total;
	unsigned held, recalled;	/* what the reader has found */
};

/* What may be lent still is as it was; which communicator's it is, is known. */
static void recall_deliver(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			   const void *body)
{
	struct recall *r = c->state;
	const struct gy_recalls *recalls = p->peer.ep->recalls;
	const void *ptr = NULL;
	char why[GY_RECALL_TEXT];
	struct recall_body b;
	uint32_t count;
	bool matches;

	CHECK(hdr->len == sizeof(b) && recalls);
	memcpy(&b, body, sizeof(b));
	if (++r->read % 2 || c->ops->map(p->peer.ep, &b.remote, 0, b.len, &ptr)) {
		CHECK(!c->ops->pull(p->peer.ep, &b.remote, 0, r->copy, b.len));
		ptr = r->copy;
	}
	matches = conf_matches(ptr, b.len, b.seed);
	if (gy_none_recalled(recalls, b.count)) {
		CHECK(matches);
		r->held++;
		atomic_store(&c->shared->flag, r->read);
		return;
	}
	r->recalled++;
	count = b.count;
	CHECK(gy_recalled(recalls, b.count, &count, why) && *why && count == b.count);
	count = b.count;
	if (!gy_recalled(recalls, ~b.count, &count, why))
		CHECK(count != b.count);	/* another communicator's */
	atomic_store(&c->shared->flag, r->read);
}

/* One at a time, as if there were a communicator for each that fails. */
static void recall_lend_one(struct conf *c)
{
	struct recall *r = c->state;
	struct conf_peer *p = &c->peers[1];
	struct recall_body b = { .seed = conf_random(&c->seed) };
	const uint64_t wait = conf_random(&c->seed) % 80000;

	b.len = 1 + conf_random(&c->seed) % (conf_random(&c->seed) % 4 ? 2000 : LEND_BYTES);
	b.count = gy_recalls_made(c->nic);
	conf_fill(r->area, b.len, b.seed);
	CHECK(!c->ops->lend(p->peer.ep, r->area, b.len, &b.remote));
	conf_say(c, p, 0, &b, sizeof(b));
	r->lent++;
	if (wait < 40000)		/* else the reader may not have run at all */
		c->ranks->compute(c, wait);
	gy_recall(c->nic->recalls, b.count, -ECANCELED, "its user wants it");
	conf_fill(r->area, b.len, ~b.seed);
}

/* Rank 0 hears nothing else of the reader, and would take it for stuck. */
static void recall_show_life(struct conf *c)
{
	const struct recall *r = c->state;
	struct conf_peer *p = &c->peers[0];
	int err = 0;

	if (p->seq_out < r->read / 1000)
		err = conf_send(c, p, 0);
	CHECK(!err || err == -EAGAIN);
}

static bool recall_done(struct conf *c)
{
	struct recall *r = c->state;

	if (c->rank) {
		recall_show_life(c);
		return r->read == r->total;
	}
	c->idle = 0;			/* nothing would wake it */
	if (r->lent < r->total && atomic_load(&c->shared->flag) == r->lent)
		recall_lend_one(c);
	return r->lent == r->total;
}

void conf_lend_recalled(struct conf *c)
{
	struct recall *r = conf_alloc(c, sizeof(*r));
	void *mem;

	c->state = r;
	c->deliver = recall_deliver;
	r->total = conf_times(c, 20000, 150000);
	r->copy = conf_keep(c, malloc(LEND_BYTES));
	CHECK(!c->ops->mem_alloc(c->nic, LEND_BYTES, &mem));
	r->area = mem;
	conf_connect_all(c);
	conf_wait(c, recall_done);
	conf_barrier(c);
	if (c->rank && !c->sim)
		printf("  %u read, %u of them recalled\n", r->read, r->recalled);
	CHECK(!c->rank || r->held + r->recalled == r->total);
	CHECK(!c->ops->mem_free(c->nic, mem));
}
