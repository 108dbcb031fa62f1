/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NET_FAKE_H
#define NET_FAKE_H
/*
 * Ranks in one process that are joined by real sockets, under a fake engine and a clock that the
 * test moves: for the tests of wire and of tcp, and the fuzzer.  Upcalls count what they hear.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "lib/context.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "tests/long.h"

#define FAKE_RANKS 4
#define FAKE_LANES 8

struct fake;

/* What the fake engine has heard of one peer. */
struct fake_peer {
	struct gy_peer base;
	struct fake *f;
	unsigned up, down, rooms, accepted;
	int err;			/* of down */
	char why[160];
	int fd[FAKE_LANES];		/* fake transport: sockets by lane; -1: none */
	/* tcp: */
	unsigned delivered, arrived, sent;
	void (*deliver)(struct fake_peer *p, const struct gy_hdr *hdr, const void *body);
	int (*place)(struct fake_peer *p, const struct gy_hdr *hdr, void **dstp);
	void (*arrive)(struct fake_peer *p, const struct gy_hdr *hdr);
	void (*grain_sent)(struct fake_peer *p, struct gy_grain *g);
	bool close_in_upcall;		/* deliver, arrived and down close the endpoint */
	uint64_t seed_in, seed_out;	/* for the test */
	unsigned n;			/* for the test */
};

struct fake {
	struct gyre_context ctx;
	struct fake_peer peer[FAKE_RANKS];
	struct gy_nic *nic;
	bool refuses;			/* gy_peer_ep gives none */
	unsigned short_of_memory;	/* so often a connection cannot be accepted */
	bool no_endpoints;		/* there is never memory for one */
	struct gy_job_entry job[FAKE_RANKS];
};

extern const struct gy_transport_ops fake_ops;	/* keeps the sockets it is handed */

/*
 * The clock of all: moves with the real one, or, when virtual, by 200 us each time that a rank is
 * pumped; and by what the test adds.
 */
extern bool fake_clock_virtual;
void fake_clock_add_ms(uint64_t ms);
uint64_t fake_clock_ms(void);

/*
 * n ranks with a wire and the transport.  timeout_ms: of a host.  all_local as gy_wire_open.  The
 * key is the same for all; the addresses are exchanged.
 */
void fake_open(struct fake *f, int n, const struct gy_transport_ops *ops, int timeout_ms,
	       bool all_local);
void fake_close(struct fake *f, int n);
void fake_close_one(struct fake *f);

/* One look at everything. */
void fake_pump(struct fake *f);
void fake_pump_all(struct fake *f, int n);

/* Pumps until cond, or fails the test after 10 s. */
#define fake_until(f, n, cond) \
	do { \
		const uint64_t fake_end = fake_real_ms() + 10000; \
		while (!(cond)) { \
			fake_pump_all(f, n); \
			if (fake_real_ms() > fake_end) \
				fail_msg("not within 10 s: %s", #cond); \
		} \
	} while (0)
uint64_t fake_real_ms(void);

struct gy_ep *fake_ep(struct fake *f, int rank);
void fake_close_ep(struct fake_peer *p);
struct fake_peer *to_fake(struct gy_ep *ep);

/* A plain connection to a rank's listener, blocking. */
int fake_dial(const struct fake *f, enum gy_wire_kind kind);
/* Whether the other side has closed fd: 1, 0 or -1 for data waiting. */
int fake_is_closed(int fd);

/* splitmix64 */
uint64_t fake_random(uint64_t *seed);
/* A seed, printed; GY_TEST_SEED gives it. */
uint64_t fake_seed(void);
#endif
