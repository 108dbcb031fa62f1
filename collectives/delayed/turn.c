/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/turn.c - IN_TURN: one round at a time of several handles.
 *
 * Rounds that run side by side share the network and all end late; one after the other, each takes
 * its share of the time alone, and contributions are taken (FRESH) shortly before.  The leaders of
 * all handles concerned are on one rank, so that taking turns needs no message: a round that is
 * ready starts when none runs, and no other is ready whose handle has had its last turn earlier.
 *
 * All ranks have posted a round that is ready, so what runs ends without their callers: nobody
 * waits here for somebody who waits for him.  A handle that drains runs as it likes.
 * Locking: driver.
 */
#include "collectives/delayed/delayed.h"

/* The handle of a port, if it takes turns and this rank decides for it; or NULL. */
static struct gyre_delayed *turn_handle(struct gy_list *pos)
{
	struct gy_port *port = gy_list_entry(pos, struct gy_port, link);
	struct gyre_delayed *d;

	if (port->ops != &gy_round_port_ops)
		return NULL;
	d = gy_container_of(port, struct gyre_delayed, port);
	if (!(d->attr.flags & GYRE_DELAYED_IN_TURN) || d->comm->rank != 0)
		return NULL;
	return d->frozen || gy_delayed_status(d) ? NULL : d;
}

bool gy_turn_has_come(struct gyre_delayed *d)
{
	const struct gyre_delayed *other;
	uint64_t last = d->turn;
	struct gy_list *pos;

	if (!(d->attr.flags & GYRE_DELAYED_IN_TURN))
		return true;
	d->queued = true;
	gy_list_for_each(pos, &d->ctx->engine.ports) {
		other = turn_handle(pos);
		if (!other || other == d)
			continue;
		if (other->start > other->done || (other->queued && other->turn < d->turn))
			return false;
		last = gy_max(last, other->turn);
	}
	d->queued = false;
	d->turn = last + 1;
	return true;
}

void gy_turn_end(struct gyre_delayed *d)
{
	if (d->attr.flags & GYRE_DELAYED_IN_TURN)
		gy_ports_wake(&d->ctx->engine);
}
