/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * late.c - runs that make no progress: who waits for whom.
 *
 * After a moment the ranks that a run waits for are sent its fingerprint, so that two ranks that
 * both only receive, in calls that do not match, find out.  Later the log says who waits for whom,
 * and after the stall timeout the communicator fails.
 * Locking: driver.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"

#define PROBE_NS (200 * 1000 * 1000ull)

/* Calls fn for each peer that an open stream of the run waits for. */
static void late_each_peer(struct gy_run *run,
			   void (*fn)(struct gy_run *run, struct gy_peer *peer, void *arg),
			   void *arg)
{
	struct gy_list *pos;
	uint32_t m;

	for (m = run->base; m < run->next; m++) {
		struct gy_op *op = &run->ops[m % run->window];

		if (!op->open || op->index != m)
			continue;
		gy_list_for_each(pos, &op->streams) {
			struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

			/* Who has all, or nothing to send, waits for other streams of its move. */
			if (!s->finished && (s->out ? s->sent < op->done || s->freed < s->sent
						    : !gy_stream_has_all(s)))
				fn(run, s->peer, arg);
		}
	}
}

static void late_probe_peer(struct gy_run *run, struct gy_peer *peer, void *arg)
{
	struct gy_hdr hdr = run->hdr;

	hdr.kind = GY_MSG_WAIT;
	hdr.len = 0;		/* the straight line leaves its last message's there */
	if (hdr.coll == GY_P2P)
		gy_p2p_ask(run, &hdr);
	gy_peer_msg(arg, peer, &hdr, NULL);	/* again at the next tick if there is no room */
}

/* The straight-line executor has no streams: its plan tells whom it could be waiting for. */
static void late_probe_planned(struct gy_engine *e, struct gy_run *run)
{
	uint32_t i;

	for (i = 0; i < run->plan->nends; i++) {
		const struct gy_end *end = &run->plan->ends[i];
		struct gy_peer *peer;

		if (end->space != GY_STREAM)
			continue;
		peer = e->peers[gy_run_world_rank(run, end)];
		if (peer)
			late_probe_peer(run, peer, e);
	}
}

static void late_probe(struct gy_engine *e, struct gy_run *run)
{
	if (run->hdr.coll == GY_P2P) {
		/* Nothing is compared, but a peer that has destroyed the communicator says so. */
		if (run->peer >= 0 && e->peers[run->peer])
			late_probe_peer(run, e->peers[run->peer], e);
		return;
	}
	if (run->straight)
		late_probe_planned(e, run);
	else
		late_each_peer(run, late_probe_peer, e);
}

#define LATE_NAMES 8	/* ranks that a message names at most */

struct late_text {
	char text[32 * LATE_NAMES];
	size_t len;
	int named[LATE_NAMES];
	unsigned n;
};

static void late_name_peer(struct gy_run *run, struct gy_peer *peer, void *arg)
{
	struct late_text *t = arg;
	const int rank = gy_comm_rank_of(run->comm, peer->rank);
	unsigned i;

	for (i = 0; i < t->n; i++)
		if (t->named[i] == rank)
			return;
	if (t->n == LATE_NAMES)
		return;
	t->named[t->n++] = rank;
	t->len += (size_t)snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s%d%s",
				   t->len ? ", " : "", rank,
				   peer->state == GY_PEER_CONNECTING ? " (not connected)" : "");
}

static void late_describe(struct gy_engine *e, struct gy_run *run, char *buf, size_t len)
{
	struct late_text t = { .n = 0 };
	char call[96];

	if (!run->plan && run->peer < 0)
		snprintf(t.text, sizeof(t.text), "any");
	else if (!run->plan)
		snprintf(t.text, sizeof(t.text), "%d", gy_comm_rank_of(run->comm, run->peer));
	else if (run->straight)
		late_name_peer(run, run->waits_for, &t);
	else
		late_each_peer(run, late_name_peer, &t);
	gy_call_text(&run->hdr, call, sizeof(call));
	snprintf(buf, len, "rank %d waits for rank %s in %s, call %u", run->comm->rank,
		 t.text[0] ? t.text : "(none)", call, run->hdr.seq);
}

static void late_report(struct gy_engine *e, struct gy_run *run, uint64_t idle_ns)
{
	char text[512];

	late_describe(e, run, text, sizeof(text));
	gy_warn("%s, for %.1f s so far", text, (double)idle_ns / 1e9);
}

static void late_give_up(struct gy_engine *e, struct gy_run *run)
{
	char text[512];

	late_describe(e, run, text, sizeof(text));
	gy_comm_fail(run->comm, -ETIMEDOUT, "%s: nothing moved for GYRE_STALL_TIMEOUT_MS", text);
}

void gy_run_check_late(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_config *cfg = &e->ctx->cfg;
	const uint64_t idle = e->now_ns - run->moved_ns;

	if (idle > PROBE_NS && e->now_ns - run->probed_ns > PROBE_NS) {
		run->probed_ns = e->now_ns;
		late_probe(e, run);
	}
	if (cfg->late_warn_ms > 0 && idle > cfg->late_warn_ms * 1000000ull &&
	    run->warned_ns != run->moved_ns) {
		run->warned_ns = run->moved_ns;
		late_report(e, run, idle);
	}
	if (cfg->stall_timeout_ms > 0 && idle > cfg->stall_timeout_ms * 1000000ull)
		late_give_up(e, run);
}
