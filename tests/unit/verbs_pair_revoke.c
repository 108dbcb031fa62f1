/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair_revoke.c - taking back what the peer may write: memory, an endpoint.
 */
#include <errno.h>

#include "tests/unit/verbs_pair.h"

/* A peer whose control connection is slow: grains go on failing until its word comes. */
void test_revoke(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i, total[2] = { 0, 0 }, said[2] = { 0, 0 }, dropped = 0, r, k;
	const unsigned n = test_times(3000, 100000);
	int err;

	connect_ranks();
	vf.hold = true;
	draw = &seed;
	for (i = 0; i < n; i++) {
		r = fake_random(&seed) % 2;
		k = fake_random(&seed) % SLOTS;
		if (!busy[r][k] && !write_slot((int)r, k))
			total[r]++;
		err = fake_random(&seed) % 4 ? -EAGAIN : say((int)r, 8);
		assert_true(!err || err == -EAGAIN);
		said[r] += !err;
		verbs_fake_move(fake_random(&seed) % 4, &seed);
		if (fake_random(&seed) % 16 == 0 && busy[r][k]) {
			gy_verbs_ops.revoke(peer_of((int)r)->base.ep, memory[r] + k * SLOT, SLOT);
			assert_false(busy[r][k]);
			dropped++;
		}
		fake_pump(&ranks[fake_random(&seed) % 2]);
	}
	draw = NULL;
	vf.hold = false;
	fake_until(ranks, 2,
		   verbs_fake_move(1000, &seed) == 0 && all_sent(0) && all_sent(1) &&
			   peer_of(0)->delivered == said[1] && peer_of(1)->delivered == said[0]);
	pump(10);
	assert_true(written[0] + written[1] <= total[0] + total[1]);
	assert_true(written[0] + written[1] + dropped >= total[0] + total[1]);
	assert_true(!peer_of(0)->down && !peer_of(1)->down && dropped > n / 100);
	assert_int_equal(say(0, 8), 0);
	fake_until(ranks, 2, peer_of(1)->delivered == said[0] + 1);
	close_ranks();
}

static void send_grains(void)
{
	unsigned i;

	for (i = 0; i < GRAINS; i++)
		assert_int_equal(write_slot(0, i), 0);
}

static void on_message(struct fake_peer *p, const struct gy_hdr *hdr, const void *body)
{
	if (expels)
		expel(p);
}

/* An endpoint ends in an upcall while so many completions wait that their array must grow. */
void test_expelled(void **state)
{
	unsigned i, k;

	for (k = 0; k < 4; k++) {
		connect_ranks();
		pump(4);
		peer_of(1)->deliver = on_message;
		assert_int_equal(say(1, 8), 0);	/* there is something to drain */
		if (k & 1)
			send_grains();
		for (i = 0; i < 100; i++)
			assert_int_equal(say(0, 8), 0);
		if (!(k & 1))
			send_grains();
		expels = true;
		expel_drains = k & 2;
		i = to_verbs_nic(ranks[1].nic)->wc_size;
		pump(1);
		assert_int_equal(peer_of(1)->delivered + written[1], 1);
		assert_true(to_verbs_nic(ranks[1].nic)->wc_size > i);
		fake_until(ranks, 2, peer_of(0)->down);
		assert_int_equal(peer_of(1)->delivered + written[1], 1);
		close_ranks();
	}
}

/*
 * Who is expelled hears why, however slow the device of the other is, which it cannot write to any
 * more; the connection ends then, or after a while.
 */
void test_last_words(void **state)
{
	uint64_t seed = fake_seed();
	unsigned k;

	for (k = 0; k < 2; k++) {
		connect_ranks();
		pump(4);
		vf.hold = true;
		assert_int_equal(write_slot(0, 1), 0);
		assert_int_equal(say(0, 8), 0);
		assert_int_equal(say(1, 8), 0);
		expel(peer_of(1));
		pump(8);
		assert_true(!peer_of(0)->delivered && !peer_of(0)->down);
		if (k)
			fake_clock_add_ms(1000);
		else
			fake_until(ranks, 2, verbs_fake_move(1, &seed) == 0);
		fake_until(ranks, 2, peer_of(0)->down);
		assert_int_equal(peer_of(0)->delivered, !k);
		assert_int_equal(peer_of(1)->delivered + written[1], 0);
		assert_true(is_filled(memory[1] + (GRAINS + 1) * SLOT, 0));
		assert_int_equal(vf.qps, 0);
		close_ranks();
	}
}
