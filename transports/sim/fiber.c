/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fiber.c - coroutines by ucontext.
 * Cost: a switch is two system calls (signal masks), well under a microsecond; a stack is mapped,
 * with a guard page, and only the pages that are touched exist.
 * The floating-point environment is a fiber's own, as it would be a thread's.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/util.h"
#include "transports/sim/fiber.h"
#include "transports/sim/fiber_san.h"

#define FIBER_STACK (256 * 1024)

void sim_fiber_init_main(struct sim_fiber *f)
{
	*f = (struct sim_fiber){ .started = true, .tsan = sim_tsan_current() };
}

void sim_fiber_fini_main(struct sim_fiber *f)
{
}

/* Never returns to its caller: a fiber that is over, or dropped, is not entered again. */
static void fiber_exit(struct sim_fiber *f)
{
	f->done = true;
	sim_asan_start(NULL, f->asan_home, f->asan_home_size);
	sim_tsan_switch(f->home->tsan);
	setcontext(&f->home->uc);
}

/* makecontext passes ints. */
static void fiber_main(unsigned hi, unsigned lo)
{
	struct sim_fiber *f = (void *)(((uintptr_t)hi << 32) | lo);

	sim_asan_finish(NULL, &f->asan_home, &f->asan_home_size);
	f->fn(f->arg);
	fiber_exit(f);
}

int sim_fiber_init(struct sim_fiber *f, void (*fn)(void *), void *arg)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *stack = mmap(NULL, FIBER_STACK + page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return -ENOMEM;
	mprotect(stack, page, PROT_NONE);	/* stacks grow down: overflow faults */
	*f = (struct sim_fiber){
		.stack = stack,
		.stack_size = FIBER_STACK + page,
		.fn = fn,
		.arg = arg,
		.tsan = sim_tsan_create(),
	};
	getcontext(&f->uc);
	f->uc.uc_stack.ss_sp = (char *)stack + page;
	f->uc.uc_stack.ss_size = FIBER_STACK;
	makecontext(&f->uc, (void (*)(void))fiber_main, 2, (unsigned)((uintptr_t)f >> 32),
		    (unsigned)(uintptr_t)f);
	return 0;
}

void sim_fiber_enter(struct sim_fiber *f, struct sim_fiber *home)
{
	f->home = home;
	f->started = true;
	sim_asan_start(&home->asan_fake, f->uc.uc_stack.ss_sp, f->uc.uc_stack.ss_size);
	sim_tsan_switch(f->tsan);
	swapcontext(&home->uc, &f->uc);
	sim_asan_finish(home->asan_fake, NULL, NULL);
}

void sim_fiber_leave(struct sim_fiber *f)
{
	sim_asan_start(&f->asan_fake, f->asan_home, f->asan_home_size);
	sim_tsan_switch(f->home->tsan);
	swapcontext(&f->uc, &f->home->uc);
	sim_asan_finish(f->asan_fake, &f->asan_home, &f->asan_home_size);
	if (f->dying)
		fiber_exit(f);
}

void sim_fiber_fini(struct sim_fiber *f)
{
	if (f->started && !f->done) {
		f->dying = true;	/* lets sanitizers free what they keep for this stack */
		sim_fiber_enter(f, f->home);
	}
	sim_tsan_destroy(f->tsan);
	sim_asan_unpoison(f->stack, f->stack_size);
	munmap(f->stack, f->stack_size);
}
