/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_CONFORMANCE_H
#define TEST_CONFORMANCE_H
/*
 * One suite for every transport.  A rank has a context with one nic and a fake engine, which makes
 * the upcalls of lib/transport.h visible to a test.  Ranks are processes, or, of the simulator,
 * coroutines of one process, with a link, a clock and faults drawn from the seed.
 *
 *   conformance.c	the fake engine, ranks, waiting, messages that can be checked
 *   conformance_sim.c	ranks as coroutines
 *   conformance_*.c	the cases: what one knows is in struct conf, never in a static object, and
 *			it waits only by what is declared here
 *   test_conformance.c	the table of cases; ranks as processes
 *
 * A failed CHECK ends the process, and so the case.  Every wait is bounded.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include "lib/context.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "tests/long.h"

#define CONF_RANKS 3
#define CONF_WAIT_S 20		/* times GY_TEST_SLOWDOWN: how long nothing may come in a wait */
#define CONF_SOCKETS 8

/* What the ranks of a case share, beside the transport. */
struct conf_shared {
	uint8_t key[16];
	uint64_t seed;
	_Atomic unsigned arrived, opened;
	_Atomic unsigned barrier;	/* arrivals so far */
	_Atomic unsigned flag;		/* for the case */
	_Atomic uint64_t died_ns;	/* when the victim was about to die */
	struct gy_job_entry job[CONF_RANKS];
	_Atomic unsigned nsockets;	/* listeners of all ranks, for attackers */
	struct {
		struct sockaddr_storage addr;
		socklen_t len;
	} sockets[CONF_RANKS * CONF_SOCKETS];
};

struct conf_peer {
	struct gy_peer peer;
	unsigned up, down, rooms;
	int err;			/* of down */
	char why[160];
	uint64_t down_ns;
	bool blocked;			/* -EAGAIN, and no room since */
	uint32_t seq_in, seq_out;	/* checked messages */
	uint32_t limit;			/* how many to send */
};

struct conf;

/* What ranks are. */
struct conf_ranks {
	uint64_t (*now_ns)(struct conf *c);		/* one clock for all ranks */
	void (*compute)(struct conf *c, uint64_t ns);	/* for so long it does not drive */
	/* Is killed after so long, wherever it is then, or here, for 0; died_ns says when. */
	void (*die)(struct conf *c, uint64_t after_ns);
	void (*stop)(struct conf *c);			/* for a while */
};

struct conf {
	struct gyre_context ctx;	/* sys and sim are set before conf_open */
	const struct conf_ranks *ranks;
	const struct gy_transport_ops *ops;
	struct gy_nic *nic;
	struct conf_shared *shared;
	int rank, nranks;
	unsigned caps;
	bool sim;			/* one of many seeds: does less, and says nothing */
	bool shaped;
	bool sleepy;			/* waits sleep at once: no spinning */
	unsigned idle;
	unsigned barrier;		/* arrivals that the next barrier waits for */
	uint64_t tick_ns, seed;
	struct conf_peer peers[CONF_RANKS];
	void **kept;			/* by conf_keep */
	unsigned nkept;

	void *state;			/* the case's */
	/* Set by a case.  NULL: such a thing must not come. */
	void (*deliver)(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			const void *body);
	int (*place)(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp);
	void (*arrived_grain)(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr);
	void (*sent)(struct conf *c, struct conf_peer *p, struct gy_grain *grain);
	void (*written)(struct conf *c, struct conf_peer *p, uint32_t ticket);
};

struct conf_case {
	const char *name;
	int nranks;
	unsigned caps, without;		/* needed, and must not be there: enum gy_cap */
	void (*run)(struct conf *c);
	int victim;			/* rank that kills itself, + 1; 0: none */
	bool stops;			/* a rank stops itself; the parent lets it go on */
	unsigned rounds;		/* each with a seed of its own; 0: 1 */
	bool copies;			/* GYRE_CMA=off, GYRE_MAPPED=0 */
	bool listens;			/* about sockets that ranks listen on */
};

struct conf_transport {
	const char *name;
	const struct gy_transport_ops *ops;
	const char *tcp_shape;		/* the setting */
	bool sim;
};

/* Kinds of messages: CONF_MSG are checked by the fake engine, others go to deliver. */
enum { CONF_MSG = 1, CONF_OTHER };

#define CHECK(x) ((x) ? (void)0 : conf_fail(__FILE__, __LINE__, #x))
void conf_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* ---- a rank's life ---- */

/* -EOPNOTSUPP: this transport does not work here. */
int conf_open(struct conf *c, const struct conf_transport *tp, const struct conf_case *test,
	      struct conf_shared *shared, int rank);
/* Closes what is open; a rank that was killed says nothing more. */
void conf_close(struct conf *c, bool killed);

/* A case's memory, freed when the rank closes: a victim does nothing more.  Never NULL. */
void *conf_alloc(struct conf *c, size_t len);		/* zeroed */
void *conf_keep(struct conf *c, void *mem);		/* of malloc and the like */
void conf_free(struct conf *c, void *mem);		/* before that */

/* In the simulator: 0, or 1 when a rank or the simulator has failed. */
int conf_run_sim(const struct conf_transport *tp, const struct conf_case *test,
		 struct conf_shared *shared);

/* ---- driving ---- */

static inline uint64_t conf_now(struct conf *c)
{
	return c->ranks->now_ns(c);
}

void conf_pump(struct conf *c);
/*
 * Until ready(c); fails when nothing comes for long; sleeps when there is nothing to do.  ready may
 * send; it sets c->idle = 0 when it should be called again before anything comes.
 */
void conf_wait(struct conf *c, bool (*ready)(struct conf *c));
/* All ranks are here; drives meanwhile. */
void conf_barrier(struct conf *c);
/* Waits for shared->flag without driving, as a rank that computes. */
void conf_wait_flag(struct conf *c, unsigned value);
/* Iterations: n, or long_n for GY_TEST_LONG=1; fewer under sanitizers and in the simulator. */
unsigned conf_times(const struct conf *c, unsigned n, unsigned long_n);
uint64_t conf_slowdown(void);

/* ---- connections and messages ---- */

struct gy_ep *conf_ep(struct conf *c, int rank);
void conf_connect(struct conf *c, int rank);
void conf_connect_all(struct conf *c);
bool conf_all_up(struct conf *c);
bool conf_any_down(struct conf *c);
/* The next checked message: 0, -EAGAIN (then blocked is set) or -errno. */
int conf_send(struct conf *c, struct conf_peer *p, uint32_t len);
/* Any other message; waits for room. */
void conf_say(struct conf *c, struct conf_peer *p, uint32_t tag, const void *body, uint32_t len);
/* Sends to all peers up to their limits, as far as there is room. */
void conf_send_all(struct conf *c);
/* Every rank has the same limits: all has been sent and has come. */
bool conf_all_done(struct conf *c);

/* Bytes that say where they belong. */
void conf_fill(void *buf, size_t len, uint64_t seed);
bool conf_matches(const void *buf, size_t len, uint64_t seed);
uint64_t conf_random(uint64_t *seed);

/* ---- cases ---- */

void conf_connect_first(struct conf *c);
void conf_connect_second(struct conf *c);
void conf_connect_both(struct conf *c);
void conf_order(struct conf *c);
void conf_order_three(struct conf *c);
void conf_room(struct conf *c);
void conf_wake(struct conf *c);
void conf_wake_stream(struct conf *c);
void conf_drain(struct conf *c);
void conf_last_words(struct conf *c);
void conf_bulk(struct conf *c);
void conf_bulk_refused(struct conf *c);
void conf_revoke_out(struct conf *c);
void conf_revoke_in(struct conf *c);
void conf_write(struct conf *c);
void conf_write_refused(struct conf *c);
void conf_write_revoked(struct conf *c);
void conf_write_revoked_by_one(struct conf *c);
void conf_write_kill(struct conf *c);
void conf_lend(struct conf *c);
void conf_lend_recalled(struct conf *c);
void conf_kill(struct conf *c);
void conf_stop(struct conf *c);
void conf_leave(struct conf *c);
void conf_garbage(struct conf *c);
#endif
