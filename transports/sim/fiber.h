/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_FIBER_H
#define GY_SIM_FIBER_H
/*
 * Coroutines on stacks of their own, all in one thread.  One of them, the main fiber, is the thread
 * that runs the simulation; it alone enters others, and they return to it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

struct sim_fiber {
	ucontext_t uc;
	void *stack;			/* NULL: the main fiber's is the thread's */
	size_t stack_size;
	void (*fn)(void *arg);
	void *arg;
	struct sim_fiber *home;		/* where leave goes */
	bool started, done, dying;
	void *asan_fake, *tsan;
	const void *asan_home;		/* home's stack, as AddressSanitizer wants to know it */
	size_t asan_home_size;
};

/* Wraps the running thread. */
void sim_fiber_init_main(struct sim_fiber *f);
void sim_fiber_fini_main(struct sim_fiber *f);

/* A fiber that will run fn(arg) when first entered.  0 or -ENOMEM. */
int sim_fiber_init(struct sim_fiber *f, void (*fn)(void *), void *arg);

/* Main fiber only: runs f until it leaves or is done. */
void sim_fiber_enter(struct sim_fiber *f, struct sim_fiber *home);
/* Inside f: back to home; returns when f is next entered. */
void sim_fiber_leave(struct sim_fiber *f);

/* Main fiber only.  Whatever f was doing is dropped where it stands; nothing is unwound. */
void sim_fiber_fini(struct sim_fiber *f);
#endif
