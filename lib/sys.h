/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SYS_H
#define GY_SYS_H
/*
 * The world under a context: time, randomness, threads, and the one place where the library blocks.
 * gy_sys_posix is the real one; transports/sim has one with a virtual clock and a coroutine per
 * rank, so that everything above runs unchanged under a seed.
 */
#include <stdbool.h>
#include <stdint.h>

struct gyre_context;
struct gy_sys;
struct gy_thread;

struct gy_sys_ops {
	uint64_t (*now_ns)(struct gy_sys *sys);		/* monotonic */
	uint64_t (*random)(struct gy_sys *sys);
	/*
	 * Gives the processor away for a moment: called in loops that wait for a peer or another
	 * thread.
	 */
	void (*yield)(struct gy_sys *sys);
	/*
	 * Sleeps until an event for the context's transports or gy_sys wake, at most timeout_ns.
	 * Spurious returns are fine.  Called by at most one thread of a context at a time.
	 */
	void (*sleep)(struct gy_sys *sys, struct gyre_context *ctx, uint64_t timeout_ns);
	/* Ends sleep of ctx: a sleep that runs, or else the next one.  Any thread. */
	void (*wake)(struct gy_sys *sys, struct gyre_context *ctx);
	/*
	 * Waits while *word == value, at most timeout_ns; notify wakes all who wait on word.
	 * Spurious returns are fine.
	 */
	void (*wait_word)(struct gy_sys *sys, _Atomic uint32_t *word, uint32_t value,
			  uint64_t timeout_ns);
	void (*notify_word)(struct gy_sys *sys, _Atomic uint32_t *word);
	/*
	 * Which machine (and set of processes that can share memory) this is: equal on ranks of one
	 * node.
	 */
	void (*node)(struct gy_sys *sys, uint64_t id[2]);
	/* A thread with all signals blocked.  0 or -errno. */
	int (*spawn)(struct gy_sys *sys, void (*fn)(void *), void *arg, struct gy_thread **threadp);
	void (*join)(struct gy_sys *sys, struct gy_thread *thread);
};

struct gy_sys {
	const struct gy_sys_ops *ops;
};

extern struct gy_sys gy_sys_posix;	/* holds no state */
#endif
