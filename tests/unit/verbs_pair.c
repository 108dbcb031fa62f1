/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair.c - see verbs_pair.h.
 */
#include "tests/unit/verbs_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

#define NUMBERS (1u << 20)

struct fake ranks[2];
char *memory[2];
unsigned written[2], unfit[2];
struct gy_grain grains[2][GRAINS];
bool busy[2][GRAINS];
bool awaited[2][GRAINS];
unsigned more;
uint64_t *draw;
bool expels;
bool expel_drains;

/* Each grain has a number, which it is full of. */
static uint32_t numbers, newest[2][GRAINS];
static bool came[NUMBERS];

struct fake_peer *peer_of(int rank)
{
	return &ranks[rank].peer[!rank];
}

struct verbs_ep *ep_of(int rank)
{
	return to_verbs(peer_of(rank)->base.ep);
}

static int rank_of(struct gy_ep *ep)
{
	return ep->nic->ctx->rank;
}

static void fill(char *mem, uint32_t number)
{
	unsigned i;

	for (i = 0; i < SLOT; i += sizeof(number))
		memcpy(mem + i, &number, sizeof(number));
}

bool is_filled(const char *mem, uint32_t number)
{
	return !memcmp(mem, &number, sizeof(number)) &&
	       !memcmp(mem, mem + sizeof(number), SLOT - sizeof(number));
}

void expel(struct fake_peer *p)
{
	struct gy_ep *old = p->base.ep;

	expels = false;
	gy_verbs_ops.revoke(old, memory[p->f->ctx.rank], SLOT);
	assert_int_equal(gy_verbs_ops.ep_open(old->nic, &p->base, &p->base.ep), 0);
	gy_verbs_ops.ep_close(old, expel_drains);
}

/* Once each, and what is there is no older; nor any newer, unless its slot has been taken again. */
void gy_written(struct gy_ep *ep, uint32_t ticket)
{
	const int rank = rank_of(ep);
	const unsigned slot = ticket % 256, number = ticket / 256;

	written[rank]++;
	if (number) {
		assert_false(came[number]);
		came[number] = true;
	}
	if (number && number == newest[!rank][slot]) {
		assert_true(is_filled(memory[rank] + (GRAINS + slot) * SLOT, number));
		awaited[!rank][slot] = false;
	}
	if (expels)
		expel(to_fake(ep));
}

void gy_ep_unfit(struct gy_ep *ep, const char *why)
{
	struct fake_peer *p = to_fake(ep);

	unfit[rank_of(ep)]++;
	snprintf(p->why, sizeof(p->why), "%s", why);
	fake_close_ep(p);
}

static void on_sent(struct fake_peer *p, struct gy_grain *g)
{
	const int rank = p->f->ctx.rank;
	const size_t slot = (size_t)(g - grains[rank]);

	assert_true(busy[rank][slot]);
	busy[rank][slot] = false;
	fill(memory[rank] + slot * SLOT, 0);	/* its user's again */
}

/* ---- two ranks ---- */

void open_ranks(void)
{
	int i;

	memset(written, 0, sizeof(written));
	memset(unfit, 0, sizeof(unfit));
	memset(busy, 0, sizeof(busy));
	memset(awaited, 0, sizeof(awaited));
	memset(newest, 0, sizeof(newest));
	memset(came, 0, sizeof(came));
	numbers = 0;
	fake_open(ranks, 2, &gy_verbs_ops, TIMEOUT_MS, true);
	for (i = 0; i < 2; i++) {
		peer_of(i)->grain_sent = on_sent;
		memory[i] = calloc(2 * GRAINS, SLOT);
		assert_non_null(memory[i]);
		assert_int_equal(
			gy_verbs_ops.mem_register(ranks[i].nic, memory[i], 2 * GRAINS * SLOT), 0);
	}
}

void start_connecting(void)
{
	assert_non_null(fake_ep(&ranks[0], 1));
	assert_int_equal(gy_verbs_ops.connect(peer_of(0)->base.ep), 0);
}

void connect_ranks(void)
{
	open_ranks();
	start_connecting();
	fake_until(ranks, 2, peer_of(0)->up && peer_of(1)->up);
}

void pump(unsigned n)
{
	while (n--)
		fake_pump_all(ranks, 2);
}

void connect_by_one(void)
{
	open_ranks();
	ranks[0].ctx.cfg.verbs_qps = ranks[1].ctx.cfg.verbs_qps = 1;
	start_connecting();
	fake_until(ranks, 2, peer_of(0)->up && peer_of(1)->up);
	pump(4);
}

void close_ranks(void)
{
	int i;

	vf.hold = vf.fail_poll = false;
	vf.fail = IBV_WC_SUCCESS;
	for (i = 0; i < 2; i++) {
		if (peer_of(i)->base.ep)
			fake_close_ep(peer_of(i));
		gy_verbs_ops.mem_unregister(ranks[i].nic, memory[i], 2 * GRAINS * SLOT);
		free(memory[i]);
	}
	fake_close(ranks, 2);
	assert_int_equal(gy_alloc_live(), 0);
	verbs_fake_reset();
}

int say(int rank, uint32_t len)
{
	static const char body[GY_BODY_MAX];
	const struct gy_hdr hdr = { .len = len };

	return gy_verbs_ops.msg(peer_of(rank)->base.ep, &hdr, body);
}

int write_slot(int rank, unsigned slot)
{
	struct gy_grain *g = &grains[rank][slot];
	int err;

	assert_false(busy[rank][slot]);
	assert_true(++numbers < NUMBERS);
	*g = (struct gy_grain){ .src = memory[rank] + slot * SLOT,
				.hdr.len = SLOT,
				.ticket = numbers * 256 + slot,
				.more = more ? more - 1 - slot : 0 };
	if (draw) {
		g->pooled = fake_random(draw) % 2;
		g->more = (unsigned)(fake_random(draw) % SLOTS);
	}
	assert_int_equal(gy_verbs_ops.expose(peer_of(!rank)->base.ep,
					     memory[!rank] + (GRAINS + slot) * SLOT, SLOT, &g->to),
			 0);
	fill(memory[rank] + slot * SLOT, numbers);
	newest[rank][slot] = numbers;
	busy[rank][slot] = awaited[rank][slot] = true;
	err = gy_verbs_ops.bulk(peer_of(rank)->base.ep, g);
	if (err)
		busy[rank][slot] = awaited[rank][slot] = false;
	return err;
}

bool all_sent(int rank)
{
	unsigned i;

	for (i = 0; i < GRAINS; i++)
		if (busy[rank][i])
			return false;
	return true;
}
