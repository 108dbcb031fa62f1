/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_WORLD_H
#define GY_SIM_WORLD_H
/*
 * Inside of the simulator: world, ranks, threads.
 *
 *   world.c  clock, events, scheduling	nic.c      a context's share, memory that can be lent
 *   sys.c    lib/sys.h on coroutines	ep.c       what one rank does with a peer
 *   fault.c  kill, stall, cut, part	parcel.c   what is under way between two ranks
 *   boot.c   making contexts		mem.c      memory that is lent
 *   fiber.c  coroutines		write.c    memory that is written to
 *   cost.c   what work takes
 */
#include "lib/list.h"
#include "lib/sys.h"
#include "lib/transport.h"
#include "transports/sim/fiber.h"
#include "transports/sim/heap.h"
#include "transports/sim/sim.h"

#define SIM_NEVER UINT64_MAX

enum sim_wait {
	SIM_RUNNING,		/* or about to */
	SIM_YIELD,
	SIM_COMPUTE,
	SIM_SLEEP,
	SIM_WORD,
	SIM_JOIN,
	SIM_GATHER,
	SIM_FINISHED,
};

/* A coroutine. */
struct gy_thread {
	struct gy_list link;		/* struct gy_sim_rank.threads */
	struct gy_sim_rank *rank;
	struct sim_fiber fiber;
	struct sim_event timer;		/* when it runs next */
	enum sim_wait wait;
	const void *what;		/* SIM_WORD: the word; SIM_SLEEP: the context; SIM_GATHER */
	uint64_t since;
	unsigned yields;		/* in a row */
	struct gy_thread *joiner;
	/* By gy_sim_spawn, whose threads the rank's end waits for; else NULL, and fn. */
	int (*user_fn)(struct gy_sim_rank *rank, void *arg);
	void (*fn)(void *arg);
	void *arg;
};

/* Where sleep and wake of a context meet. */
struct sim_bell {
	struct gy_list link;		/* struct gy_sim_rank.bells */
	const struct gyre_context *ctx;
	struct gy_thread *sleeper;
	bool rung;
};

struct sim_stall {
	struct gy_list link;		/* struct gy_sim_rank.stalls */
	uint64_t from, to;
};

struct gy_sim_rank {
	struct gy_sys sys;
	struct gy_sim_world *world;
	int id;
	bool gone;			/* killed, or its main has returned */
	bool killed;
	int rc;
	uint64_t rng;
	uint64_t clock;			/* what its clock is ahead of the world's */
	uint64_t kill_event;		/* SIM_NEVER: none */
	unsigned gathers;		/* allgathers so far */
	unsigned contexts;		/* contexts asked for so far */
	uint64_t busy;			/* the processor, until then */
	/* exact: its port, in each direction, until then; for small messages */
	uint64_t tx, rx, tx_small, rx_small;
	struct gy_thread *main;
	struct gy_list threads, bells, stalls;
	struct gy_list nics;		/* struct sim_nic.link */
	struct gy_list made;		/* struct sim_context: contexts that are complete */
};

struct gy_sim_world {
	struct gy_sim_attr attr;
	uint64_t rng;
	uint64_t now;
	uint64_t seq;
	uint64_t hash;
	uint64_t events, switches;
	uint64_t next_kill_event;
	struct sim_heap heap;
	struct sim_fiber home;
	struct gy_thread *current;	/* NULL: the scheduler itself */
	int (*fn)(struct gy_sim_rank *rank, void *arg);
	void *arg;
	int live;			/* ranks that are not gone */
	int err;			/* ends the run */
	void *nowhere;			/* no_data: addresses of buffers */
	struct gy_job_entry *job;	/* no_data: the table that all contexts share */
	struct gy_list faults, gathers, graves;
	struct gy_list parts;		/* struct sim_part */
	struct gy_sim_rank ranks[];
};

static inline struct gy_sim_rank *to_sim_rank(struct gy_sys *sys)
{
	return gy_container_of(sys, struct gy_sim_rank, sys);
}

/* ---- world.c ---- */
uint64_t sim_next(uint64_t *state);			/* splitmix64 */
uint64_t sim_below(struct gy_sim_world *w, uint64_t n);	/* 0..n-1; 0 for n = 0 */
static inline bool sim_one_in(struct gy_sim_world *w, uint64_t n)
{
	return sim_below(w, n) == 0;
}

void sim_trace(struct gy_sim_world *w, uint64_t what);
void sim_at(struct gy_sim_world *w, struct sim_event *ev, uint64_t at);	/* schedules, or moves */
void sim_cancel(struct gy_sim_world *w, struct sim_event *ev);
/* Ends the run with err; the first one counts. */
void sim_fail(struct gy_sim_world *w, int err);

/* Says what went wrong, with seed and time, unless the run is quiet. */
gy_cold void sim_complain(const struct gy_sim_world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Inside a coroutine: waits for timeout_ns or sim_thread_wake.  Elsewhere: returns at once. */
void sim_block(struct gy_sim_world *w, enum sim_wait wait, const void *what, uint64_t timeout_ns);
void sim_thread_wake(struct gy_thread *t);
int sim_thread_start(struct gy_sim_rank *rank, void (*fn)(void *), void *arg,
		     struct gy_thread **threadp);
void sim_thread_free(struct gy_thread *t);
/* Scheduler: the rank's process is over; threads stop where they are. */
void sim_rank_end(struct gy_sim_rank *rank);

/* ---- sys.c ---- */
extern const struct gy_sys_ops sim_sys_ops;
void sim_ring(struct gy_sim_rank *rank, const struct gyre_context *ctx);
void sim_bells_free(struct gy_sim_rank *rank);
void sim_wake_yielding(struct gy_sim_rank *rank);

/* ---- fault.c ---- */
void sim_check_kill_events(struct gy_sim_world *w);
/* When rank may run again: now, or the end of its stall. */
uint64_t sim_stalled_until(const struct gy_sim_rank *rank);
bool sim_is_parted(const struct gy_sim_world *w, int a, int b);
void sim_faults_free(struct gy_sim_world *w);

/* ---- cost.c ---- */
void sim_cost_spend(struct gy_sim_rank *rank, uint64_t ns);
int sim_cost_memory_map(struct gy_sim_world *w);
void sim_cost_memory_unmap(struct gy_sim_world *w);

/* ---- boot.c ---- */
/* Threads of rank have stopped: ends its contexts as a killed process's. */
void sim_contexts_abandon(struct gy_sim_rank *rank);
void sim_gathers_fail(struct gy_sim_world *w);		/* a rank that others wait for is gone */
void sim_gathers_free(struct gy_sim_world *w);

/* ---- nic.c ---- */
void sim_nics_vanish(struct gy_sim_rank *rank);		/* those that no context has closed */
void sim_graves_free(struct gy_sim_world *w);
void sim_nics_cut(struct gy_sim_rank *rank, int peer);
void sim_link_get(struct gy_sim_world *w, int a, int b, struct gy_sim_link *link);
#endif
