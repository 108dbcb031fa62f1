/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cost.c - what work costs: a rank's processor, its port, the links.
 *
 * Processor: the engine counts the bytes that it reduces and copies; whenever it next turns to the
 * transport, they are charged, and so is each message and grain.  The rank is busy until then: what
 * it sends leaves then, and its next look at the transport waits for it.
 *
 * Wire: a grain holds its lane, and the ports of both ranks, for as long as its bytes take; its
 * last byte comes a latency after it left.  Small messages do not wait behind grains, only behind
 * each other, but take their share of the ports.  Bytes go through a port while others of the same
 * grain are on the way, so the two ends of a wire do not add up.
 */
#include <errno.h>
#include <sys/mman.h>

#include "lib/context.h"
#include "transports/sim/nic.h"
#include "transports/sim/world.h"

#define COST_MEMORY ((size_t)1 << 40)

static uint64_t cost_ns(uint64_t bytes, uint32_t bytes_per_us)
{
	return bytes_per_us ? bytes * 1000 / bytes_per_us : 0;
}

/* ---- the processor ---- */

void sim_cost_spend(struct gy_sim_rank *rank, uint64_t ns)
{
	rank->busy = gy_max(rank->busy, rank->world->now) + ns;
}

uint64_t sim_cost_now(struct sim_nic *nic)
{
	const struct gy_sim_attr *attr = &nic->rank->world->attr;
	const struct gy_stats *done = &nic->base.ctx->engine.stats;
	uint64_t ns;

	ns = cost_ns(done->bytes_reduced - nic->reduced, attr->reduce_bytes_per_us);
	ns += cost_ns(done->bytes_copied - nic->copied, attr->copy_bytes_per_us);
	sim_cost_spend(nic->rank, ns);
	nic->reduced = done->bytes_reduced;
	nic->copied = done->bytes_copied;
	return nic->rank->busy;
}

void sim_cost_pay(struct sim_nic *nic)
{
	struct gy_sim_world *w = nic->rank->world;

	sim_cost_now(nic);
	while (w->current && nic->rank->busy > w->now)
		sim_block(w, SIM_COMPUTE, NULL, nic->rank->busy - w->now);
}

void sim_cost_pull(const struct sim_ep *ep, size_t len)
{
	struct gy_sim_rank *rank = sim_ep_nic(ep)->rank;

	sim_cost_spend(rank, cost_ns(len, rank->world->attr.copy_bytes_per_us));
}

uint64_t gy_sim_time(struct gy_sim_rank *rank)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &rank->nics)
		sim_cost_now(gy_list_entry(pos, struct sim_nic, link));
	return gy_max(rank->busy, rank->world->now);
}

/* ---- the wire ---- */

/* Bytes that can leave at `from` take their turn on a port or lane; returns when the last is by. */
static uint64_t cost_turn(uint64_t *idle, uint64_t from, uint64_t ns)
{
	*idle = gy_max(*idle, from) + ns;
	return *idle;
}

uint64_t sim_cost_msg(struct sim_ep *ep, size_t len, uint64_t delay)
{
	struct sim_nic *nic = sim_ep_nic(ep);
	struct gy_sim_rank *from = nic->rank, *to = &from->world->ranks[ep->peer];
	const uint64_t port = cost_ns(len, from->world->attr.port_bytes_per_us);
	uint64_t at;

	sim_cost_spend(from, from->world->attr.overhead_ns);
	at = sim_cost_now(nic);
	cost_turn(&from->tx, at, port);
	at = cost_turn(&from->tx_small, at, port);
	at = gy_max(at, cost_turn(&ep->small_idle, at - port,
				  cost_ns(len, ep->how.bytes_per_us)));
	at += delay;
	cost_turn(&to->rx, at - port, port);
	return cost_turn(&to->rx_small, at - port, port);
}

uint64_t sim_cost_grain(struct sim_ep *ep, size_t len, uint64_t delay, uint64_t *left)
{
	struct sim_nic *nic = sim_ep_nic(ep);
	struct gy_sim_rank *from = nic->rank, *to = &from->world->ranks[ep->peer];
	const uint64_t port = cost_ns(len, from->world->attr.port_bytes_per_us);
	unsigned i, lane = 0;
	uint64_t start;

	sim_cost_spend(from, from->world->attr.overhead_ns);
	for (i = 1; i < ep->how.lanes; i++) {
		if (ep->lane_free[i] < ep->lane_free[lane])
			lane = i;
	}
	start = gy_max(gy_max(sim_cost_now(nic), from->tx), ep->lane_free[lane]);
	from->tx = start + port;
	*left = cost_turn(&ep->lane_free[lane], start, cost_ns(len, ep->how.bytes_per_us));
	*left = gy_max(*left, from->tx);
	return gy_max(*left + delay, cost_turn(&to->rx, start + delay, port));
}

/* ---- memory that is not there ---- */

int sim_cost_memory_map(struct gy_sim_world *w)
{
	if (!w->attr.no_data)
		return 0;
	w->nowhere = mmap(NULL, COST_MEMORY, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->nowhere == MAP_FAILED)
		w->nowhere = NULL;
	return w->nowhere ? 0 : -ENOMEM;
}

void sim_cost_memory_unmap(struct gy_sim_world *w)
{
	if (w->nowhere)
		munmap(w->nowhere, COST_MEMORY);
}

void *gy_sim_nowhere(struct gy_sim_rank *rank, unsigned buffer)
{
	gy_assert_always(rank->world->nowhere && buffer < GY_SIM_NOWHERES);
	return (char *)rank->world->nowhere + buffer * (COST_MEMORY / GY_SIM_NOWHERES);
}
