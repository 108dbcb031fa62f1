/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_verbs.c - verbs over a device that does what none does on demand: every completion status,
 * requests that cannot be posted, addresses that do not join, lanes out of order.
 */
#include "tests/unit/verbs_pair.h"

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_went),
		cmocka_unit_test(test_old_count),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_full_tail),
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_pressed),
		cmocka_unit_test(test_pressed_again),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_arm),
		cmocka_unit_test(test_next_address),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_unfit),
		cmocka_unit_test(test_meeting_fails),
		cmocka_unit_test(test_every_status),
		cmocka_unit_test(test_post_fails),
		cmocka_unit_test(test_device_events),
		cmocka_unit_test(test_qp_events),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_near_port),
		cmocka_unit_test(test_memlock),
		cmocka_unit_test(test_pool_shrinks),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_expelled),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_no_memory),
	};

	verbs_fake_reset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
