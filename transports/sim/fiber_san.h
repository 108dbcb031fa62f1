/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_FIBER_SAN_H
#define GY_SIM_FIBER_SAN_H
/*
 * What sanitizers must be told about stacks that change; nothing without them.
 */
#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define GY_SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define GY_SIM_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GY_SIM_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define GY_SIM_TSAN 1
#endif

#ifdef GY_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

/* Before a switch; fake NULL: this stack will not run again. */
static inline void sim_asan_start(void **fake, const void *stack, size_t size)
{
	__sanitizer_start_switch_fiber(fake, stack, size);
}

/* After it, on the new stack: where we came from. */
static inline void sim_asan_finish(void *fake, const void **from, size_t *size)
{
	__sanitizer_finish_switch_fiber(fake, from, size);
}

/* Frames that were never left have poisoned what lies between their variables. */
static inline void sim_asan_unpoison(const void *stack, size_t size)
{
	__asan_unpoison_memory_region(stack, size);
}
#else
static inline void sim_asan_start(void **fake, const void *stack, size_t size)
{
}

static inline void sim_asan_finish(void *fake, const void **from, size_t *size)
{
}

static inline void sim_asan_unpoison(const void *stack, size_t size)
{
}
#endif

#ifdef GY_SIM_TSAN
#include <sanitizer/tsan_interface.h>

static inline void *sim_tsan_current(void)
{
	return __tsan_get_current_fiber();
}

static inline void *sim_tsan_create(void)
{
	return __tsan_create_fiber(0);
}

static inline void sim_tsan_switch(void *to)
{
	__tsan_switch_to_fiber(to, 0);
}

static inline void sim_tsan_destroy(void *fiber)
{
	__tsan_destroy_fiber(fiber);
}
#else
static inline void *sim_tsan_current(void)
{
	return NULL;
}

static inline void *sim_tsan_create(void)
{
	return NULL;
}

static inline void sim_tsan_switch(void *to)
{
}

static inline void sim_tsan_destroy(void *fiber)
{
}
#endif
#endif
