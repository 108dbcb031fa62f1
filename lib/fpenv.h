/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_FPENV_H
#define GY_FPENV_H
/*
 * The floating-point environment in which sums are made: the default one, whatever the caller of
 * the library has set, or ranks would not get equal bits.
 */
#include <fenv.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
/* MXCSR: nearest, no flush to zero, no denormals as zero, every trap masked; flags do not count. */
static inline bool gy_fpenv_is_default(void)
{
	return (__builtin_ia32_stmxcsr() & 0xffc0) == 0x1f80;
}
#elif defined(__aarch64__)
static inline bool gy_fpenv_is_default(void)
{
	uint64_t fpcr;

	__asm__("mrs %0, fpcr" : "=r"(fpcr));
	return !fpcr;
}
#else
static inline bool gy_fpenv_is_default(void)
{
	return false;	/* not known: set it each time */
}
#endif
#endif
