/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VERBS_FAKE_H
#define VERBS_FAKE_H
/*
 * A device in this process, in place of libibverbs: queue pairs that are connected to each other
 * move bytes by memcpy, and the test says what goes wrong.  Ranks may be threads.
 *
 * It checks what a device may not forgive, and fails the test: keys and ranges of registered
 * memory, overflow of queues, receives that are not posted, states of queue pairs, objects that are
 * left.
 */
#include <infiniband/verbs.h>
#include <stdbool.h>

struct verbs_fake {
	/* What the test sets. */
	bool none, two;			/* devices: none, two; else one */
	bool hold;			/* requests stay in their queues until verbs_fake_move */
	bool deaf[4][4];		/* [sender's GID][receiver's]: nothing passes */
	bool lost;			/* what does not pass is never reported */
	enum ibv_wc_status fail;	/* of the next request that matches, else success */
	bool fail_bulk;			/* it is one of a queue pair for grains */
	bool fail_recv;			/* rather the receive that it would use */
	int fail_post_send, fail_post_recv;	/* the n-th from now fails (1: the next) */
	int fail_reg, fail_qp, fail_modify;
	size_t lock_limit;		/* a context's registered memory, bytes; 0: none */
	bool fail_poll;
	bool no_cm;			/* librdmacm is of no use */
	int cm_fails;			/* its n-th answer from now is an error */
	bool mapped_only;		/* GIDs 0 and 1 are IPv4 ones; else 0 is link-local */
	unsigned inline_max;

	/* What it counts. */
	unsigned sends, send_completions, recv_completions, empty_writes;
	unsigned grains, bulk_send_completions, bulk_recv_completions;
	unsigned mrs, qps, cqs, others;	/* objects there are */
	unsigned resized, inlined;
};

extern struct verbs_fake vf;

void verbs_fake_reset(void);
/* Up to n held requests go, each from a queue pair chosen by the seed: how many went. */
unsigned verbs_fake_move(unsigned n, uint64_t *seed);
/* Bytes that a context has registered; most (or NULL): at any time since it was last asked. */
size_t verbs_fake_registered(struct ibv_context *ctx, size_t *most);
/* Which processors the system says are near a device; NULL, as at first: nothing. */
void verbs_fake_near(unsigned device, const char *cpus);
/* The device says so by itself; qp: for those about one. */
void verbs_fake_event(enum ibv_event_type type);
/* Ends the queue pair for grains (or small) of the context that was opened as the n-th. */
void verbs_fake_break_qp(unsigned context, bool bulk, enum ibv_event_type type);
#endif
