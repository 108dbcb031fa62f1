/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_SHM_FAKE_H
#define TEST_SHM_FAKE_H
/*
 * Two contexts in one process, joined by shared memory, with a fake engine: the upcalls count what
 * they hear, and gy_wire_dial makes a socketpair.  Each context may be driven by a thread of its
 * own.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "lib/context.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "transports/shm/shm.h"

struct fake {
	struct gyre_context ctx;
	struct gy_peer peer;
	struct gy_nic *nic;
	struct gy_ep *ep;
	struct fake *other;
	unsigned up, down, rooms, delivered;
	int err;		/* of down */
	char why[128];
	bool dialled;
	/* What to do with a message; NULL: count it. */
	void (*deliver)(struct fake *f, const struct gy_hdr *hdr, const void *body);
	bool close_in_upcall;	/* deliver and down close the endpoint */
	uint32_t seq_in, seq_out;	/* for the test */
	uint64_t seed;
};

/* 0 or the first error; nothing is left behind on an error. */
int fake_open(struct fake *f, int rank);
int fake_ep_open(struct fake *f);
void fake_close(struct fake *f);

/* Opens both and connects them: both are up. */
void fake_pair(struct fake *a, struct fake *b);
void fake_unpair(struct fake *a, struct fake *b);

/* One round of looking for work; returns upcalls. */
int fake_pump(struct fake *f);
void fake_pump_both(struct fake *a, struct fake *b, unsigned rounds);

/*
 * Lets both ends use the same addresses for what they share, so that the thread sanitizer sees each
 * access of both.  Before fake_unpair: fake_unalias.
 */
void fake_alias(struct fake *a, struct fake *b);
void fake_unalias(struct fake *a, struct fake *b);

/* splitmix64 */
uint64_t fake_random(uint64_t *seed);
/* A seed that is printed; GY_TEST_SEED gives it. */
uint64_t fake_seed(void);
/* Iterations: n, or long_n for GY_TEST_LONG=1; fewer under sanitizers. */
unsigned fake_times(unsigned n, unsigned long_n);
/* Open descriptors of this process; its mappings of shared files. */
unsigned fake_count_fds(void);
unsigned fake_count_maps(void);
#endif
