/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * straight.c - the straight-line executor, for small messages: moves in program order, one grain and
 * one eager message each, the caller waiting.
 *
 * Needs no open moves, streams or dependencies: program order is one of the orders that they allow.
 * At a move that needs more (a peer not connected, no allowance, a message that is not eager)
 * the run goes on in the general executor from that move.
 * Budget: an 8-byte allreduce of two ranks is about 400 instructions, from the call to its return.
 * Locking: driver; lets the token go while it sleeps.
 */
#include <errno.h>
#include <string.h>

#include "lib/comm.h"
#include "lib/context.h"
#include "lib/peer.h"

#define LOOK_AROUND 64	/* polls of the awaited peer between looks at everything else */

bool gy_straight_fits(struct gy_engine *e, const struct gy_run *run)
{
	return run->total * run->es <= e->eager_bytes && !run->plan->nscratch &&
	       run->plan->max_inputs <= GY_MAX_INPUTS &&
	       !gy_engine_nruns(e);
}

static bool straight_running(const struct gy_run *run)
{
	return atomic_load_explicit(&run->state, memory_order_relaxed) == GY_RUN_RUNNING;
}

static struct gy_peer *straight_peer(struct gy_engine *e, const struct gy_run *run, const struct gy_end *end)
{
	return e->peers[gy_run_world_rank(run, end)];
}

static struct gy_parked *straight_find(const struct gy_run *run, const struct gy_peer *peer, uint32_t stream)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &peer->parked) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->hdr.seq == run->hdr.seq && p->hdr.stream == stream &&
		    p->hdr.comm == run->hdr.comm && p->hdr.coll != GY_P2P)
			return p;
	}
	return NULL;
}

/* The message of an in-stream; NULL: the run has ended, or goes on in the general executor. */
static struct gy_parked *straight_await(struct gy_engine *e, struct gy_run *run, const struct gy_end *end)
{
	struct gy_peer *peer = straight_peer(e, run, end);
	struct gy_parked *p;
	unsigned idle = 0, looks = 0;

	for (;;) {
		p = straight_find(run, peer, end->stream);
		if (p)
			break;
		if (!straight_running(run) || peer->state != GY_PEER_UP)
			return NULL;
		if (peer->ep->ops->poll(peer->ep)) {
			idle = 0;
		} else if (++looks % LOOK_AROUND == 0 ? gy_engine_progress(e) == 0 : true) {
			gy_engine_wait_step(e, &idle);
		}
	}
	if (p->hdr.kind != GY_MSG_EAGER)
		return NULL;
	return p;
}

/* Whether all that a move sends to can take it now. */
static bool straight_ready(struct gy_engine *e, const struct gy_run *run, const struct gy_move *mv)
{
	const struct gy_end *end = run->plan->ends + mv->end;
	unsigned i;

	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		const struct gy_peer *peer;

		if (end[i].space != GY_STREAM)
			continue;
		peer = straight_peer(e, run, &end[i]);
		if (!peer || peer->state != GY_PEER_UP)
			return false;
		if (i >= mv->nin && !gy_peer_allows(peer, run->total * run->es))
			return false;
	}
	return true;
}

static void straight_send(struct gy_engine *e, struct gy_run *run, const struct gy_end *end,
			  const void *body, uint32_t len)
{
	struct gy_peer *peer = straight_peer(e, run, end);
	struct gy_hdr hdr = run->hdr;
	unsigned idle = 0;

	hdr.kind = GY_MSG_EAGER;
	hdr.stream = end->stream;
	hdr.len = len;
	while (straight_running(run) && gy_peer_msg(e, peer, &hdr, body) == -EAGAIN)
		if (!gy_engine_progress(e))
			gy_engine_wait_step(e, &idle);
}

/* Copies between the pieces of a memory end and buf. */
static void straight_copy(const struct gy_run *run, const struct gy_end *end, uint64_t len, char *buf, bool out)
{
	uint64_t elem, contig;

	for (elem = 0; elem < len; elem += contig) {
		void *mem = gy_run_at(run, end, elem, &contig);

		memcpy(out ? mem : (void *)(buf + elem * run->es),
		       out ? (void *)(buf + elem * run->es) : mem, contig * run->es);
	}
}

static uint64_t straight_len(const struct gy_run *run, const struct gy_move *mv)
{
	const struct gy_end *end = run->plan->ends + mv->end;
	uint64_t len = 0;
	uint32_t i;

	while (end->space == GY_STREAM)
		end++;
	for (i = 0; i < end->range.count; i++) {
		uint32_t b = end->range.first + i * end->range.stride;

		if (end->range.modulo)
			b %= end->range.modulo;
		len += gy_run_block_len(run, b % run->plan->nblocks);
	}
	return len;
}

/* One move.  false: not done; the run has ended or the general executor must do it. */
static bool straight_move(struct gy_engine *e, struct gy_run *run, const struct gy_move *mv)
{
	const struct gy_end *in = run->plan->ends + mv->end, *out = in + mv->nin;
	struct gy_parked *from[GY_MAX_INPUTS];
	const void *ptr[GY_MAX_INPUTS];
	const uint64_t len = straight_len(run, mv);
	char *spare = e->bounce, *result = NULL;
	const struct gy_end *keep = NULL;
	uint64_t contig;
	unsigned i;

	if (!straight_ready(e, run, mv))
		return false;
	for (i = 0; i < mv->nin; i++) {
		if (in[i].space != GY_STREAM)
			continue;
		from[i] = straight_await(e, run, &in[i]);
		if (!from[i])
			return false;
		if (from[i]->hdr.len != len * run->es) {
			gy_comm_fail(run->comm, -EPROTO, "rank %d sent %u bytes where %llu are expected",
				     in[i].peer, from[i]->hdr.len, (unsigned long long)(len * run->es));
			return false;
		}
		ptr[i] = from[i]->body;
	}
	for (i = 0; i < mv->nin; i++) {
		if (in[i].space == GY_STREAM)
			continue;
		ptr[i] = gy_run_at(run, &in[i], 0, &contig);
		if (contig < len) {
			straight_copy(run, &in[i], len, spare, false);
			ptr[i] = spare;
			spare += gy_align_up(len * run->es, GY_CACHELINE);
		}
	}
	for (i = 0; i < mv->nout; i++)
		if (out[i].space != GY_STREAM)
			keep = &out[i];
	if (keep)
		result = gy_run_at(run, keep, 0, &contig);
	if (keep && contig >= len)
		keep = NULL;		/* in one piece: computed in place */
	else if (keep || mv->nin > 1)
		result = spare;
	if (result)
		gy_run_compute(e, run, result, ptr, mv->nin, len, mv->flags & GY_MOVE_FINAL);
	if (keep)
		straight_copy(run, keep, len, result, true);
	for (i = 0; i < mv->nout; i++)
		if (out[i].space == GY_STREAM)
			straight_send(e, run, &out[i], result ? result : ptr[0], len * run->es);
	for (i = 0; i < mv->nin; i++) {
		if (in[i].space == GY_STREAM) {
			gy_list_del(&from[i]->link);
			gy_unpark(e, from[i]);
		}
	}
	return true;
}

void gy_straight_run(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_plan *plan = run->plan;
	uint32_t m;
	int err;

	gy_assert(gy_driver_held(e));
	run->straight = true;
	run->moved_ns = e->now_ns;
	for (m = 0; m < plan->nmoves; m++)
		if (!straight_move(e, run, &plan->moves[m]))
			break;
	if (!straight_running(run))
		return;
	if (m == plan->nmoves) {
		gy_run_end(e, run, 0);
		return;
	}
	err = gy_run_prepare(run, plan);
	if (err) {
		gy_comm_fail(run->comm, err, "no memory to run a collective");
		return;
	}
	run->base = run->next = m;
	gy_run_start(e, run);
}
