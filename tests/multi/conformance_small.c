/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_small.c - connecting, the small lane, sleeping.
 */
#include "tests/multi/conformance.h"

#include <errno.h>
#include <string.h>

/* ---- connecting ---- */

/* Then a barrier, after which a peer may leave at any time. */
static void small_end_up(struct conf *c)
{
	int i;

	for (i = 0; i < c->nranks; i++)
		if (i != c->rank)
			CHECK(c->peers[i].up == 1 && !c->peers[i].down);
	conf_barrier(c);
}

static void small_exchange(struct conf *c, uint32_t n)
{
	int i;

	for (i = 0; i < c->nranks; i++)
		c->peers[i].limit = i == c->rank ? 0 : n;
	conf_wait(c, conf_all_done);
	small_end_up(c);
}

/* One side connects; the other only drives, after it has computed for a while. */
static void small_one_sided(struct conf *c, bool connects)
{
	if (connects) {
		conf_connect(c, !c->rank);
		conf_connect(c, !c->rank);	/* again: nothing */
	} else {
		c->ranks->compute(c, 50000000);
	}
	conf_wait(c, conf_all_up);
	conf_connect(c, !c->rank);
	small_exchange(c, 10);
}

void conf_connect_first(struct conf *c)
{
	small_one_sided(c, c->rank == 0);
}

void conf_connect_second(struct conf *c)
{
	small_one_sided(c, c->rank == 1);
}

/* Both at once, and in the middle of the other's dial. */
void conf_connect_both(struct conf *c)
{
	unsigned pumps = (unsigned)(conf_random(&c->seed) % 20);

	conf_ep(c, !c->rank);
	conf_barrier(c);
	while (pumps--)
		conf_pump(c);
	conf_connect(c, !c->rank);
	conf_wait(c, conf_all_up);
	small_exchange(c, 100);
}

/* ---- the small lane ---- */

void conf_order(struct conf *c)
{
	conf_connect_all(c);
	small_exchange(c, conf_times(c, 40000, 500000));
}

void conf_order_three(struct conf *c)
{
	conf_connect_all(c);
	small_exchange(c, conf_times(c, 10000, 200000));
}

static bool small_unblocked(struct conf *c)
{
	return !c->peers[!c->rank].blocked;
}

static bool small_has_all(struct conf *c)
{
	return c->peers[!c->rank].seq_in == atomic_load(&c->shared->flag);
}

/* There is room.  Now and then a transport may say no all the same, but not again and again. */
static void small_send_soon(struct conf *c, struct conf_peer *p)
{
	unsigned refused = 0;
	int err;

	while ((err = conf_send(c, p, gy_body_max(p->peer.ep))) == -EAGAIN) {
		CHECK(c->sim && ++refused < 10);
		conf_wait(c, small_unblocked);
	}
	CHECK(!err);
}

/* A peer that computes: -EAGAIN, and gy_ep_room only when it takes messages again. */
void conf_room(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	unsigned round, rooms;
	int err;

	conf_connect_all(c);
	for (round = 1; round <= 5; round++) {
		if (c->rank == 1) {
			conf_wait_flag(c, round);
			conf_barrier(c);
			continue;
		}
		rooms = p->rooms;
		for (err = 0; !err && p->seq_out < round * 20000;)
			err = conf_send(c, p, gy_body_max(p->peer.ep));
		CHECK(err == -EAGAIN);	/* not after 160 MB: who would hold all that? */
		conf_pump(c);
		atomic_store(&c->shared->flag, round);
		conf_wait(c, small_unblocked);
		CHECK(p->rooms > rooms);
		small_send_soon(c, p);
		conf_barrier(c);
	}
	if (c->rank == 0)
		atomic_store(&c->shared->flag, p->seq_out);
	conf_barrier(c);
	if (c->rank == 1)
		conf_wait(c, small_has_all);
	small_end_up(c);
}

/* ---- sleeping ---- */

/* One message there, one back. */
static bool small_next_turn(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	int err;

	if (!p->blocked && p->seq_out < p->limit && p->seq_out < p->seq_in + (c->rank == 0)) {
		err = conf_send(c, p, 8);
		CHECK(!err || (c->sim && err == -EAGAIN));
	}
	return p->seq_out == p->limit && p->seq_in == p->limit;
}

void conf_wake(struct conf *c)
{
	conf_connect_all(c);
	c->peers[!c->rank].limit = conf_times(c, 3000, 1000000);
	c->sleepy = true;
	conf_wait(c, small_next_turn);
	c->sleepy = false;
	small_end_up(c);
}

void conf_wake_stream(struct conf *c)
{
	conf_connect_all(c);
	c->sleepy = true;
	small_exchange(c, conf_times(c, 8000, 1000000));
}

/* ---- leaving ---- */

/* Rank 0 says something, as far as there is room, and closes. */
static void small_close(struct conf *c, bool drain)
{
	struct conf_peer *p = &c->peers[1];
	unsigned i;
	int err = 0;

	for (i = 0; i < 150 && !err; i++)
		err = conf_send(c, p, 64);
	CHECK(!err || (c->sim && err == -EAGAIN));
	c->ops->ep_close(p->peer.ep, drain);
	p->peer.ep = NULL;
	atomic_store(&c->shared->flag, 1 + p->seq_out);
}

static void small_hear_all(struct conf *c)
{
	const struct conf_peer *p = &c->peers[0];

	conf_wait(c, conf_any_down);
	conf_wait_flag(c, 1);
	CHECK(p->seq_in + 1 == atomic_load(&c->shared->flag));
	CHECK(p->err == -ECONNRESET);
}

/* What was accepted before ep_close with drain arrives, though the peer looks only afterwards. */
void conf_drain(struct conf *c)
{
	conf_connect_all(c);
	if (c->rank == 0) {
		small_close(c, true);
		return;
	}
	conf_wait_flag(c, 1);
	small_hear_all(c);
}

static bool small_is_heard(struct conf *c)
{
	return atomic_load(&c->shared->flag) == 0;
}

/* Without drain, too, when a device takes it and rank 0 goes on with something else. */
void conf_last_words(struct conf *c)
{
	conf_connect_all(c);
	if (c->rank == 0) {
		small_close(c, false);
		conf_wait(c, small_is_heard);
		return;
	}
	small_hear_all(c);
	atomic_store(&c->shared->flag, 0);
}
