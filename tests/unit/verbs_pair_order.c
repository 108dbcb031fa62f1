/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair_order.c - in good order: what a grain costs, which completions are asked for and when,
 * queue pairs that overtake each other, sleeping.
 */
#include <stdlib.h>

#include "lib/alloc.h"
#include "tests/unit/verbs_pair.h"

void test_no_device(void **state)
{
	struct gyre_context ctx = { .nranks = 2 };
	struct gy_nic *nic;

	gy_config_init(&ctx.cfg);
	vf.none = true;
	assert_int_equal(gy_verbs_ops.open(&ctx, &nic), -EOPNOTSUPP);
	assert_int_equal(gy_alloc_live(), 0);
	verbs_fake_reset();
}

void test_budget(void **state)
{
	unsigned i, sends;

	connect_ranks();
	pump(4);
	sends = vf.sends;
	vf.send_completions = vf.recv_completions = 0;
	for (i = 0; i < 160; i++) {
		fake_until(ranks, 2, !busy[0][i % SLOTS]);
		assert_int_equal(write_slot(0, i % SLOTS), 0);
	}
	fake_until(ranks, 2, written[1] == 160);
	assert_int_equal(vf.sends - vf.empty_writes, sends + 160);
	assert_true(vf.recv_completions == 160);
	/* A device that is done at once leaves a queue idle each time, so that is asked for. */
	assert_true(vf.empty_writes <= 160 / 2);
	close_ranks();
}

/* Under load one completion comes for 16 requests, and what is left gets one, too. */
void test_signals(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i;

	connect_ranks();
	pump(4);
	vf.hold = true;
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	assert_false(all_sent(0));
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	fake_until(ranks, 2, all_sent(0) && written[1] == SLOTS);
	assert_int_equal(vf.send_completions, 2);	/* of each queue pair */
	assert_int_equal(vf.empty_writes, 0);
	close_ranks();
}

/* What others of its stream follow gets no completion until nothing has happened for a while. */
void test_quiet(void **state)
{
	connect_ranks();
	pump(4);
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	assert_int_equal(write_slot(0, 0), 0);
	more = 0;
	pump(VERBS_QUIET - 1);
	assert_int_equal(written[1], 1);
	assert_true(busy[0][0] && !vf.send_completions);
	fake_until(ranks, 2, all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* A message of the peer ends grains out of slots, and no others; not one of before a reset. */
void test_went(void **state)
{
	unsigned i;

	connect_ranks();
	pump(4);
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	for (i = 0; i < 5; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	for (i = 0; i < 4; i++)
		grains[0][i].pooled = true;
	fake_until(ranks, 2, written[1] == 5);
	assert_int_equal(say(1, 8), 0);
	fake_until(ranks, 2, !busy[0][0] && !busy[0][1] && !busy[0][2] && !busy[0][3]);
	assert_true(busy[0][4] && !vf.send_completions && !vf.empty_writes);
	gy_verbs_ops.arm(ranks[0].nic);	/* before sleeping all are asked for */
	fake_until(ranks, 2, all_sent(0));
	assert_int_equal(vf.empty_writes, 1);

	gy_verbs_ops.revoke(peer_of(1)->base.ep, memory[1], SLOT);
	more = SLOTS;
	for (i = 0; i < 2; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	grains[0][0].pooled = grains[0][1].pooled = true;
	fake_until(ranks, 2, written[1] == 7);
	assert_true(busy[0][0] && busy[0][1]);
	assert_int_equal(say(1, 8), 0);
	fake_until(ranks, 2, all_sent(0));
	close_ranks();
}

/*
 * What was said before grains came that are known to have come, for their completions: its count of
 * 8 bits ends no other.  Nor does one of what has not been sent.
 */
void test_old_count(void **state)
{
	uint64_t seed = fake_seed();
	unsigned lag, i, total = 0;

	connect_by_one();
	for (lag = 1; lag < VERBS_GRANTS; lag += 23) {
		for (i = 0; i < lag; i++) {
			assert_int_equal(write_slot(0, i % SLOTS), 0);
			fake_pump(&ranks[0]);
			assert_false(busy[0][i % SLOTS]);
		}
		ep_of(1)->came.by[0] += lag == 1 ? 3 : 0;
		assert_int_equal(say(1, 8), 0);
		ep_of(1)->came.by[0] -= lag == 1 ? 3 : 0;
		vf.hold = true;
		assert_int_equal(write_slot(0, 0), 0);
		grains[0][0].pooled = true;
		fake_pump(&ranks[0]);
		assert_true(busy[0][0]);
		vf.hold = false;
		verbs_fake_move(1, &seed);
		total += lag + 1;
		fake_until(ranks, 2, written[1] == total && all_sent(0));
	}
	assert_int_equal(lag, VERBS_GRANTS - 1 + 23);
	close_ranks();
}

/* Large grains fill a queue pair before the 16th: a completion is on its way by then. */
void test_bytes(void **state)
{
	const uint32_t len = VERBS_BULK_BYTES / 8;
	uint64_t seed = fake_seed();
	struct gy_remote to;
	char *mem[2];
	unsigned i;

	connect_by_one();
	for (i = 0; i < 2; i++) {
		mem[i] = calloc(1, len);
		assert_non_null(mem[i]);
		assert_int_equal(gy_verbs_ops.mem_register(ranks[i].nic, mem[i], len), 0);
	}
	assert_int_equal(gy_verbs_ops.expose(peer_of(1)->base.ep, mem[1], len, &to), 0);
	vf.send_completions = vf.empty_writes = 0;
	vf.hold = true;
	for (i = 0; i <= 8; i++) {
		grains[0][i] =
			(struct gy_grain){ .src = mem[0], .hdr.len = len, .to = to, .more = SLOTS };
		busy[0][i] = i < 8;
		assert_int_equal(gy_verbs_ops.bulk(peer_of(0)->base.ep, &grains[0][i]),
				 i < 8 ? 0 : -EAGAIN);
	}
	vf.hold = false;
	verbs_fake_move(100, &seed);
	pump(4);
	assert_true(all_sent(0) && peer_of(0)->rooms);
	assert_true(vf.send_completions == 2 && !vf.empty_writes);
	for (i = 0; i < 2; i++) {
		gy_verbs_ops.mem_unregister(ranks[i].nic, mem[i], len);
		free(mem[i]);
	}
	close_ranks();
}

/* What a full queue pair was to be asked is asked when it has room. */
void test_full_tail(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i;

	connect_by_one();
	vf.empty_writes = 0;
	vf.hold = true;
	for (i = 0; i < VERBS_BULK_SQ; i++) {
		more = i ? GRAINS : 0;		/* so the last is not signalled */
		assert_int_equal(write_slot(0, i), 0);
	}
	assert_int_equal(write_slot(0, i), -EAGAIN);
	more = 0;
	assert_int_equal(gy_verbs_ops.arm(ranks[0].nic), 0);
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	pump(8);
	assert_true(all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* Nothing is left waiting for a completion while the engine waits for a slot. */
void test_starved(void **state)
{
	connect_ranks();
	pump(4);
	vf.empty_writes = 0;
	more = SLOTS;
	assert_int_equal(write_slot(0, 0), 0);
	more = 0;
	pump(8);
	assert_true(busy[0][0] && !vf.empty_writes);
	ranks[0].ctx.engine.pool.starved = true;
	pump(8);
	assert_true(all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/*
 * Nor while a stream can send no more before its grains have ended: a queue pair is asked that has
 * no completion on its way, another once it has come.
 */
void test_pressed(void **state)
{
	uint64_t seed = fake_seed();

	connect_by_one();
	vf.empty_writes = 0;
	vf.hold = true;
	assert_int_equal(write_slot(0, 0), 0);
	more = SLOTS;
	assert_int_equal(write_slot(0, 1), 0);
	more = 0;
	ranks[0].nic->pressed = true;
	pump(8);
	assert_int_equal(vf.empty_writes, 0);
	assert_true(ranks[0].nic->pressed);
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	pump(8);
	assert_true(all_sent(0) && !ranks[0].nic->pressed);
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* Also when grains are sent again after a reset, which nobody has signalled. */
void test_pressed_again(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i;

	connect_by_one();
	vf.hold = true;
	more = GRAINS;
	for (i = 0; i < 8; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	ranks[0].nic->pressed = true;
	gy_verbs_ops.revoke(peer_of(1)->base.ep, memory[1] + (GRAINS + 70) * SLOT, SLOT);
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	pump(200);
	assert_true(all_sent(0));
	close_ranks();
}

/* Queue pairs that overtake each other, small and large messages, room that runs out. */
void test_out_of_order(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i, r, k, total[2] = { 0, 0 }, said[2] = { 0, 0 };
	const unsigned n = test_times(20000, 400000);
	int err;

	vf.inline_max = 100;
	connect_ranks();
	vf.hold = true;
	draw = &seed;
	for (i = 0; i < n; i++) {
		r = fake_random(&seed) % 2;
		switch (fake_random(&seed) % 4) {
		case 0:
			err = say((int)r, (uint32_t)(fake_random(&seed) % (i % 64 ? 200 : 8193)));
			assert_true(!err || err == -EAGAIN);
			said[r] += !err;
			break;
		case 1:
			k = fake_random(&seed) % GRAINS;
			if (busy[r][k] || awaited[r][k])
				break;
			err = write_slot((int)r, k);
			assert_true(!err || err == -EAGAIN);
			total[r] += !err;
			break;
		case 2:
			verbs_fake_move(fake_random(&seed) % 8, &seed);
			break;
		default:
			fake_pump(&ranks[r]);
		}
	}
	draw = NULL;
	vf.hold = false;
	verbs_fake_move(100000, &seed);
	fake_until(ranks, 2,
		   written[0] == total[1] && written[1] == total[0] && all_sent(0) && all_sent(1) &&
			   peer_of(0)->delivered == said[1] && peer_of(1)->delivered == said[0]);
	assert_true(total[0] > n / 100 && said[0] > n / 100 && vf.inlined > 10);
	close_ranks();
}

/* The sleeper is woken; a completion that came before is not slept over. */
void test_arm(void **state)
{
	connect_ranks();
	pump(4);
	assert_int_equal(gy_verbs_ops.arm(ranks[1].nic), 0);
	assert_int_equal(say(0, 8), 0);
	gy_poll_sleep(&ranks[1].ctx.poll, TIMEOUT_MS);
	pump(1);
	assert_int_equal(peer_of(1)->delivered, 1);
	assert_int_equal(say(0, 8), 0);
	assert_int_equal(gy_verbs_ops.arm(ranks[1].nic), 1);
	close_ranks();
}
