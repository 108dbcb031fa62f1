/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pair_fail.c - what fails in flight: every completion status, requests that cannot be
 * posted, what a device says of itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/verbs_pair.h"

static void check_both_down(const char *what)
{
	fake_until(ranks, 2, peer_of(0)->down && peer_of(1)->down);
	assert_true(peer_of(0)->down == 1 && peer_of(1)->down == 1);
	assert_true(peer_of(0)->err < 0 && peer_of(1)->err < 0);
	if (what && !strstr(peer_of(0)->why, what) && !strstr(peer_of(1)->why, what))
		fail_msg("\"%s\" is in neither \"%s\" nor \"%s\"", what, peer_of(0)->why,
			 peer_of(1)->why);
	assert_int_equal(vf.qps, 0);	/* so nobody writes here any more */
	assert_int_equal(say(0, 8), -ENOTCONN);
	assert_int_equal(gy_verbs_ops.bulk(peer_of(0)->base.ep, &grains[0][0]), -ENOTCONN);
}

/* Both ends' queue pairs and addresses, and what may be the cause. */
static void check_names(const char *why)
{
	char mine[64] = "", theirs[64] = "", cause[8] = "";
	unsigned qpn[2], code;
	const char *at = strstr(why, "queue pair ");

	if (!at || sscanf(at,
			  "queue pair %u at %63s to %u at %63s failed: status %*u (vendor's code "
			  "0x%x): %7s",
			  &qpn[0], mine, &qpn[1], theirs, &code, cause) != 6)
		fail_msg("not both ends and a cause: \"%s\"", why);
	assert_true(qpn[0] && qpn[1] && strpbrk(mine, ".:") && strpbrk(theirs, ".:"));
}

static void check_status(enum ibv_wc_status status, bool bulk, bool recv)
{
	char text[32];

	connect_ranks();
	pump(4);
	vf.fail = status;
	vf.fail_bulk = bulk;
	vf.fail_recv = recv;
	assert_int_equal(bulk ? write_slot(0, 0) : say(0, 8), 0);
	snprintf(text, sizeof(text), "status %d", recv ? IBV_WC_REM_OP_ERR : (int)status);
	/* Whoever is first says why; the other may only see the connection end. */
	check_both_down(recv ? NULL : text);
	if (!recv)
		check_names(strstr(peer_of(0)->why, text) ? peer_of(0)->why : peer_of(1)->why);
	if (bulk) {
		gy_verbs_ops.revoke(peer_of(0)->base.ep, memory[0], SLOT);
		assert_true(all_sent(0));
	}
	close_ranks();
}

void test_every_status(void **state)
{
	int s, k;

	for (s = IBV_WC_LOC_LEN_ERR; s <= IBV_WC_TM_RNDV_INCOMPLETE; s++)
		for (k = 0; k < 4; k++)
			check_status((enum ibv_wc_status)s, k & 1, k & 2);
}

void test_post_fails(void **state)
{
	int k;

	for (k = 0; k < 2; k++) {
		connect_ranks();
		pump(4);
		vf.fail_post_send = 1;
		assert_int_equal(k ? write_slot(0, 0) : say(0, 8), -ENOTCONN);
		check_both_down("cannot be posted");
		close_ranks();
	}
	/* In the middle of a chain. */
	connect_ranks();
	pump(4);
	vf.fail_post_recv = 7;
	for (k = 0; k < VERBS_REFILL; k++)
		assert_int_equal(say(0, 8), 0);
	check_both_down("a receive cannot be posted");
	close_ranks();
}

void test_device_events(void **state)
{
	static const enum ibv_event_type ends[] = { IBV_EVENT_DEVICE_FATAL, IBV_EVENT_CQ_ERR };
	unsigned i;

	/* A completion queue that has overflown loses what it should have told. */
	for (i = 0; i < GY_ARRAY_SIZE(ends); i++) {
		connect_ranks();
		verbs_fake_event(ends[i]);
		check_both_down(ibv_event_type_str(ends[i]));
		close_ranks();
	}

	connect_ranks();
	vf.fail_poll = true;
	check_both_down("completion queue");
	close_ranks();

	connect_ranks();
	verbs_fake_event(IBV_EVENT_PORT_ERR);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS / 4);
	verbs_fake_event(IBV_EVENT_PORT_ACTIVE);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS);
	pump(2);
	assert_int_equal(peer_of(0)->down, 0);
	verbs_fake_event(IBV_EVENT_PORT_ERR);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS / 2 + 1);
	check_both_down("link is down");
	close_ranks();
}

void test_qp_events(void **state)
{
	static const enum ibv_event_type ends[] = {
		IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR,
	};
	unsigned k;

	for (k = 0; k < 2 * GY_ARRAY_SIZE(ends); k++) {
		connect_ranks();
		pump(4);
		verbs_fake_break_qp(0, k % 2, ends[k / 2]);
		check_both_down(NULL);
		close_ranks();
	}
}
