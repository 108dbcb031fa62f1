/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VERBS_PAIR_H
#define VERBS_PAIR_H
/*
 * Two ranks under a fake engine (net_fake.h), joined by verbs over a fake device (verbs_fake.h),
 * and the cases of test_verbs.c, which has their table.  Each case opens the ranks, and closes them
 * when it has ended: nothing is left then.
 */
#include "lib/log.h"
#include "tests/unit/net_fake.h"
#include "tests/unit/verbs_fake.h"
#include "transports/verbs/verbs.h"

#define TIMEOUT_MS 10000
#define SLOTS 16
#define GRAINS 80			/* most tests use SLOTS of them */
#define SLOT 4096

extern struct fake ranks[2];
extern char *memory[2];			/* registered, GRAINS of SLOT bytes each for out and in */
extern unsigned written[2], unfit[2];
extern struct gy_grain grains[2][GRAINS];
extern bool busy[2][GRAINS];
extern bool awaited[2][GRAINS];		/* the other has not heard of it */
extern unsigned more;			/* grains are of a stream that begins in slot 0; or 0 */
extern uint64_t *draw;			/* whether they are pooled, and how many follow */
extern bool expels;			/* the next upcall ends its endpoint */
extern bool expel_drains;

struct fake_peer *peer_of(int rank);
struct verbs_ep *ep_of(int rank);
bool is_filled(const char *mem, uint32_t number);
/* As the engine does to a peer that breaks the protocol. */
void expel(struct fake_peer *p);

void open_ranks(void);
void start_connecting(void);
void connect_ranks(void);
/* With one queue pair for grains. */
void connect_by_one(void);
/* Nothing is left, whatever has happened. */
void close_ranks(void);
void pump(unsigned n);

int say(int rank, uint32_t len);
/* A grain from rank to the other: into its slot of the same number. */
int write_slot(int rank, unsigned slot);
bool all_sent(int rank);

/* ---- verbs_pair_order.c ---- */
void test_no_device(void **state);
void test_budget(void **state);
void test_signals(void **state);
void test_quiet(void **state);
void test_went(void **state);
void test_old_count(void **state);
void test_bytes(void **state);
void test_full_tail(void **state);
void test_starved(void **state);
void test_pressed(void **state);
void test_pressed_again(void **state);
void test_out_of_order(void **state);
void test_arm(void **state);

/* ---- verbs_pair_meet.c ---- */
void test_next_address(void **state);
void test_route(void **state);
void test_unfit(void **state);
void test_meeting_fails(void **state);
void test_no_memory(void **state);

/* ---- verbs_pair_fail.c ---- */
void test_every_status(void **state);
void test_post_fails(void **state);
void test_device_events(void **state);
void test_qp_events(void **state);

/* ---- verbs_pair_mem.c ---- */
void test_pages(void **state);
void test_near_port(void **state);
void test_memlock(void **state);
void test_pool_shrinks(void **state);

/* ---- verbs_pair_revoke.c ---- */
void test_revoke(void **state);
void test_expelled(void **state);
void test_last_words(void **state);
#endif
