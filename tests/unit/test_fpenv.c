/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fpenv.c - sums do not depend on the rounding mode or denormal handling of the calling
 * thread, which gets them back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fenv.h>
#include "lib/engine.h"
#include "lib/fpenv.h"

static void test_rounding(void **state)
{
	struct gy_engine e = { .kernels = gy_kernels_best() };
	struct gy_run run = { .es = 4, .type = GYRE_F32, .divide = 3 };
	const float one[2] = { 1.0f, 3.0f }, tiny[2] = { 0x1p-30f, 0x1p-30f };
	const void *in[] = { one, tiny };
	float out[2] = { 0, 0 };

	run.reduce = gy_kernel_reduce(e.kernels, GYRE_F32, GYRE_SUM);
	assert_true(gy_fpenv_is_default());
	assert_int_equal(fesetround(FE_UPWARD), 0);
	assert_false(gy_fpenv_is_default());
	gy_run_compute(&e, &run, out, in, 2, 2, false);
	assert_int_equal(fegetround(), FE_UPWARD);
	fesetround(FE_TONEAREST);
	assert_true(out[0] == 1.0f && out[1] == 3.0f);	/* upwards they would be one step larger */
}

#if defined(__x86_64__)
static void test_denormals(void **state)
{
	struct gy_engine e = { .kernels = gy_kernels_best() };
	struct gy_run run = { .es = 4, .type = GYRE_F32 };
	const float a[1] = { 0x1p-140f }, b[1] = { 0x1p-141f };
	const void *in[] = { a, b };
	const unsigned csr = __builtin_ia32_stmxcsr();
	float out[1] = { 0 };
	uint32_t bits;

	run.reduce = gy_kernel_reduce(e.kernels, GYRE_F32, GYRE_SUM);
	__builtin_ia32_ldmxcsr(csr | 0x8040);	/* flush to zero, denormals are zero */
	gy_run_compute(&e, &run, out, in, 2, 1, false);
	assert_int_equal(__builtin_ia32_stmxcsr() & 0x8040, 0x8040);
	__builtin_ia32_ldmxcsr(csr);
	__builtin_memcpy(&bits, out, sizeof(bits));
	assert_int_equal(bits, 0x300);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounding),
#if defined(__x86_64__)
		cmocka_unit_test(test_denormals),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
