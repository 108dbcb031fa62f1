/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SIM_H
#define GY_SIM_H
/*
 * Simulation: all ranks of a job in one thread, on a virtual clock, under a seed.
 *
 * Each rank's main function, and each thread that the library spawns, is a coroutine; it runs until
 * it waits in the library's own waits (lib/sys.h), sleeps here, or returns.  Computing costs no
 * virtual time.  Everything that could go in more than one order - which rank runs first, how long
 * a message takes, which lane is faster, how much a poll finds - is drawn from the seed, so the
 * same seed gives the same run, and many seeds visit many interleavings.
 *
 *	static int rank_main(struct gy_sim_rank *r, void *arg)
 *	{
 *		struct gyre_context *ctx;
 *		int err = gy_sim_context(r, NULL, &ctx);
 *		...
 *		gyre_context_destroy(ctx);
 *	}
 *	gy_sim_attr_init(&attr, nranks, seed);
 *	err = gy_sim_run(&attr, rank_main, NULL);
 *
 * To learn how long something takes, instead of whether it is right (gy_sim_attr_cost): nothing is
 * random but jitter and loss, work is charged for, and the bytes themselves may be left out: then
 * 1000s of ranks fit, whose buffers are gy_sim_nowhere.
 *
 * A rank that is killed stops where it is: its stack is dropped, not unwound, so what only the
 * stack knows is leaked; keep buffers of such ranks outside.  Rank functions must not leave by
 * longjmp (assertions of test frameworks do): they return an error.
 *
 * MT-Unsafe: one thread; several worlds may exist, one after the other or in several threads.
 */
#include <stdbool.h>
#include <stdint.h>

struct gyre_context;
struct gy_config;
struct gy_sim_rank;
struct gy_sim_world;

/* What a pair of ranks can do with each other's memory.  Without any but BULK: streams only. */
enum gy_sim_cap {
	GY_SIM_BULK = 1,
	GY_SIM_LEND = 2,		/* memory of gyre_mem_alloc and of the pool can be lent */
	GY_SIM_LEND_HEAP = 4,		/* all memory can */
	GY_SIM_MAP = 8,			/* lent memory of those can be mapped */
	GY_SIM_MAP_HEAP = 16,		/* all lent memory can */
	/* beside BULK: as by RDMA, out of registered memory into memory that the receiver names */
	GY_SIM_WRITE = 32,
};

/* How two ranks are joined; the same in both directions. */
struct gy_sim_link {
	unsigned caps;			/* enum gy_sim_cap; one of BULK and LEND at least */
	unsigned lanes;			/* bulk lanes, >= 1: each in order, among them any order */
	uint32_t latency_ns;
	uint32_t jitter_ns;		/* 0..jitter is added, for each message and grain */
	uint32_t bytes_per_us;		/* of each lane; 0: no limit */
	uint32_t loss_ppm;		/* of messages and grains: sent again after rto_ns */
	uint32_t rto_ns;
	uint32_t connect_ns;		/* to connect, and to notice a loss: 0.5 to 1.5 of it */
	unsigned msg_room;		/* small messages under way in one direction, >= 1 */
	unsigned bulk_room;		/* grains under way in one direction, >= 1 */
	unsigned write_max;		/* WRITE: struct gy_ep.write_max */
};

struct gy_sim_stats {
	uint64_t hash;			/* of everything that happened, in order */
	uint64_t events;
	uint64_t switches;
	uint64_t now_ns;		/* virtual time at the end */
};

struct gy_sim_attr {
	int nranks;
	uint64_t seed;
	int ranks_per_node;		/* 0: all on one node */
	struct gy_sim_link link;
	bool random_links;		/* draws each pair's link, caps included, from the seed */
	/* May change the link of ranks a < b; NULL: nothing. */
	void (*link_of)(void *arg, int a, int b, struct gy_sim_link *link);
	void *link_arg;
	/*
	 * Ranks may lie: what breaks the rules of WRITE ends its connection only, not the run; and
	 * who takes memory for written that is not may send it while it changes.
	 */
	bool liars;
	uint32_t hiccup_ns;		/* now and then a coroutine runs up to this late */
	uint64_t deadline_ns;		/* virtual; then the run ends in -ETIMEDOUT, */
	uint64_t max_events;		/* or after so many events */
	bool quiet;			/* nothing on stderr */
	struct gy_sim_stats *stats;	/* filled at the end; may be NULL */

	/*
	 * No late coroutines, spurious returns, refusals or odd lanes: time passes for what is
	 * charged below and on the links, and a rank that waits sees at once what has come.
	 */
	bool exact;
	bool no_data;			/* exact: payload is neither read nor written */
	uint32_t overhead_ns;		/* exact: of the processor, per message sent or received */
	uint32_t reduce_bytes_per_us;	/* of one input into another; 0: takes no time */
	uint32_t copy_bytes_per_us;
	uint32_t port_bytes_per_us;	/* of a rank, in each direction; 0: no limit */
};

/*
 * Defaults: one node, all capabilities but MAP_HEAP, some microseconds, one hour of virtual time.
 */
void gy_sim_attr_init(struct gy_sim_attr *attr, int nranks, uint64_t seed);

/*
 * Cost mode: exact, no_data, and links of one lane with that latency and no limit but the ports',
 * which take so many bytes per microsecond.
 */
void gy_sim_attr_cost(struct gy_sim_attr *attr, uint32_t latency_ns, uint32_t port_bytes_per_us);

/*
 * Runs fn on every rank until all have returned or been killed.  A rank that returns with a context
 * left leaves like a process that exits.  Returns the first error that a rank returned, by rank;
 * -EDEADLK: nobody can go on; -ETIMEDOUT: see the limits; -ENOMEM.  For these two a report says the
 * seed, the virtual time and what each coroutine waits for.
 */
int gy_sim_run(const struct gy_sim_attr *attr, int (*fn)(struct gy_sim_rank *rank, void *arg),
	       void *arg);

/* ---- inside fn ---- */

int gy_sim_rank_id(const struct gy_sim_rank *rank);
int gy_sim_nranks(const struct gy_sim_rank *rank);
struct gy_sim_world *gy_sim_world(struct gy_sim_rank *rank);

/* Collective: every rank's n-th context makes one job.  cfg NULL: the defaults, no environment. */
int gy_sim_context(struct gy_sim_rank *rank, const struct gy_config *cfg,
		   struct gyre_context **ctxp);

/* Computes for ns, after gy_sim_time. */
void gy_sim_sleep(struct gy_sim_rank *rank, uint64_t ns);

/*
 * Runs fn(arg) as a further thread of this rank, whose result counts; joined at the end of the
 * run.
 */
int gy_sim_spawn(struct gy_sim_rank *rank, int (*fn)(struct gy_sim_rank *rank, void *arg),
		 void *arg);

/* Now, and what the rank has been charged for and not yet spent. */
uint64_t gy_sim_time(struct gy_sim_rank *rank);

/*
 * no_data: where a buffer would be, 64 GiB apart from the next; equal on all ranks.  To touch it is
 * a crash.
 */
#define GY_SIM_NOWHERES 16
void *gy_sim_nowhere(struct gy_sim_rank *rank, unsigned buffer);

/* Random numbers of this rank's own, the same for the same seed. */
uint64_t gy_sim_random(struct gy_sim_rank *rank);

/* ---- time and faults; also between events ---- */

/* Virtual, from 0; a rank's own clock differs. */
uint64_t gy_sim_now(const struct gy_sim_world *w);
uint64_t gy_sim_events(const struct gy_sim_world *w);

/*
 * The process of rank dies at that time (now, if it is over), or when so many events have
 * happened.
 */
void gy_sim_kill(struct gy_sim_world *w, int rank, uint64_t at_ns);
void gy_sim_kill_at_event(struct gy_sim_world *w, int rank, uint64_t event);
bool gy_sim_alive(const struct gy_sim_world *w, int rank);	/* not killed */

/* Nothing of rank runs from then to then, as under SIGSTOP. */
void gy_sim_stall(struct gy_sim_world *w, int rank, uint64_t from_ns, uint64_t to_ns);

/* What joins a and b is lost for good at that time: both sides find out on their own. */
void gy_sim_cut(struct gy_sim_world *w, int a, int b, uint64_t at_ns);

/*
 * As cut, for all pairs of which one is in the set (bit r: rank r < 64) and one is not; and until
 * then nothing else joins them.
 */
void gy_sim_part(struct gy_sim_world *w, uint64_t set, uint64_t from_ns, uint64_t to_ns);
#endif
