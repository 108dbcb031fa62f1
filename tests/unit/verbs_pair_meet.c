/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair_meet.c - meeting: addresses that do not join, routes, what cannot be had for it.
 */
#include <string.h>

#include "lib/alloc.h"
#include "tests/unit/verbs_pair.h"

void test_next_address(void **state)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		vf.deaf[1][1] = true;	/* the one that is tried first */
		vf.lost = i;		/* without a word of the device */
		open_ranks();
		start_connecting();
		while (i && !peer_of(0)->up) {
			fake_clock_add_ms(200);
			pump(1);
		}
		fake_until(ranks, 2, peer_of(0)->up && peer_of(1)->up);
		assert_int_equal(ep_of(0)->try, 1);
		assert_int_equal(ep_of(1)->gid, ep_of(0)->peer_gid);
		close_ranks();
	}
}

/* What librdmacm says of the route is used; without it the port's values are. */
void test_route(void **state)
{
	/* Two steps on each side; 1 to 4 fail, then there is no librdmacm. */
	static const int expected[] = { 6, 3, 3, 3, 3, 0 };
	int i;

	for (i = 0; i < 6; i++) {
		vf.no_cm = i == 5;
		vf.cm_fails = i < 5 ? i : 0;
		connect_ranks();
		assert_int_equal(ep_of(0)->route.sl + ep_of(1)->route.sl,
				 expected[i]);
		assert_int_equal(say(0, 8), 0);
		fake_until(ranks, 2, peer_of(1)->delivered == 1);
		close_ranks();
	}
	/* An endpoint that is closed meanwhile. */
	open_ranks();
	start_connecting();
	fake_until(ranks, 2, peer_of(0)->base.ep && ep_of(0)->cm_id);
	fake_close_ep(peer_of(0));
	pump(4);
	close_ranks();
}

void test_unfit(void **state)
{
	memset(vf.deaf, 1, sizeof(vf.deaf));
	open_ranks();
	start_connecting();
	fake_until(ranks, 2, unfit[0] && unfit[1]);
	assert_true(!peer_of(0)->up && !peer_of(1)->up && !peer_of(0)->down);
	assert_non_null(strstr(peer_of(0)->why, "status"));
	close_ranks();
}

/* Queue pairs that cannot be made or connected, on either side. */
void test_meeting_fails(void **state)
{
	int n;

	for (n = 1; n <= 24; n++) {
		open_ranks();
		vf.inline_max = 1000;
		*(n % 2 ? &vf.fail_qp : &vf.fail_modify) = (n + 1) / 2;
		start_connecting();
		fake_until(ranks, 2,
			   (peer_of(0)->up && peer_of(1)->up) || (unfit[0] && unfit[1]));
		close_ranks();
	}
	open_ranks();
	vf.fail_reg = 1;		/* the ring */
	start_connecting();
	fake_until(ranks, 2, unfit[0] && unfit[1]);
	close_ranks();
}

/* Every allocation fails once. */
void test_no_memory(void **state)
{
	long n, begin;

	for (n = 1;; n++) {
		begin = 0;
		open_ranks();
		begin = gy_alloc_count();
		gy_alloc_fail_at(n);
		if (fake_ep(&ranks[0], 1) && !gy_verbs_ops.connect(peer_of(0)->base.ep))
			fake_until(ranks, 2,
				   (peer_of(0)->up && peer_of(1)->up) || peer_of(0)->down ||
					   unfit[0] || gy_alloc_count() - begin > 1000);
		gy_alloc_fail_at(0);
		begin = gy_alloc_count() - begin;
		close_ranks();
		if (begin < n)
			break;
	}
	assert_true(n > 5);
}
