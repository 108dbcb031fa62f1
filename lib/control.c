/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c - ports: control messages find theirs, wait for it, and wake it.
 */
#include "lib/control.h"

#include <errno.h>

#include "lib/agree.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/peer.h"

/* Memory of messages that one peer may have waiting for ports, bytes. */
#define EARLY_MAX (256 * 1024)

void gy_ports_wake(struct gy_engine *e)
{
	if (!gy_list_empty(&e->ports))
		e->ports_woken = true;
}

int gy_ports_pump(struct gy_engine *e)
{
	struct gy_list *pos;
	int n = 0;

	e->ports_woken = false;
	gy_list_for_each(pos, &e->ports) {
		struct gy_port *port = gy_list_entry(pos, struct gy_port, link);

		port->ops->pump(port);
		n++;
	}
	return n;
}

static struct gy_port *control_find(struct gy_engine *e, const struct gy_hdr *hdr)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &e->ports) {
		struct gy_port *port = gy_list_entry(pos, struct gy_port, link);

		if (port->number == hdr->arg && port->comm->id == hdr->comm)
			return port;
	}
	return NULL;
}

static void control_take(struct gy_engine *e, struct gy_port *port, struct gy_peer *peer,
			 const struct gy_hdr *hdr, const void *body)
{
	const int rank = gy_comm_rank_of(port->comm, peer->rank);
	const int err = rank < 0 ? -EPROTO : port->ops->message(port, rank, hdr, body);

	if (err) {
		gy_peer_expel(peer, err,
			      err == -ENOMEM ? "it sent a message that there is no memory for"
					     : "it sent a control message that does not fit");
		return;
	}
	gy_ports_wake(e);
	gy_engine_notify(e);		/* somebody may wait for what it says */
}

/* Whether the port that hdr names may still be opened here. */
static bool control_may_come(struct gy_engine *e, const struct gy_hdr *hdr)
{
	const struct gyre_comm *comm = gy_comm_find(e, hdr->comm);

	return comm ? hdr->arg >= comm->next_port : gy_comm_may_come(e, hdr->comm);
}

/* Its port is closed.  0, -EAGAIN: its sender is still to be told so, or it is unreachable. */
static int control_refuse(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr)
{
	return hdr->arg == GY_AGREE_PORT ? gy_agree_refuse(e, peer, hdr) : 0;
}

void gy_control_deliver(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr,
			const void *body)
{
	struct gy_port *port = control_find(e, hdr);
	struct gy_parked *p;

	if (gy_likely(port != NULL)) {
		control_take(e, port, peer, hdr, body);
		return;
	}
	if (!control_may_come(e, hdr) && control_refuse(e, peer, hdr) != -EAGAIN)
		return;
	if (peer->parked_bytes > EARLY_MAX) {
		gy_peer_expel(peer, -EPROTO, "it sent too many control messages for no port");
		return;
	}
	p = gy_park(e, peer, hdr, body);
	if (!p) {
		gy_peer_expel(peer, -ENOMEM, "it sent a message that there is no memory for");
		return;
	}
	gy_list_add_tail(&e->early_control, &p->link);
}

void gy_port_open(struct gy_port *port, struct gyre_comm *comm, const struct gy_port_ops *ops)
{
	struct gy_engine *e = &comm->ctx->engine;
	struct gy_list *pos, *after, mine;

	port->ops = ops;
	port->comm = comm;
	port->number = comm->next_port++;
	gy_list_add_tail(&e->ports, &port->link);
	gy_list_init(&mine);	/* a peer that is expelled takes its own from the other list */
	gy_list_for_each_safe(pos, after, &e->early_control) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->hdr.comm != comm->id || p->hdr.arg != port->number)
			continue;
		gy_list_del(&p->link);
		gy_list_add_tail(&mine, &p->link);
	}
	while ((pos = gy_list_pop(&mine))) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->peer->state != GY_PEER_LOST)
			control_take(e, port, p->peer, &p->hdr, p->body);
		gy_unpark(e, p);
	}
	gy_ports_wake(e);
}

void gy_port_close(struct gy_port *port)
{
	if (port->link.next)		/* it was opened */
		gy_list_del(&port->link);
}

int gy_port_send(struct gy_port *port, int rank, struct gy_hdr *hdr, const void *body)
{
	struct gyre_comm *comm = port->comm;
	struct gy_peer *peer;
	int err;

	err = gy_peer_get(comm->ctx, comm->ranks[rank], &peer);
	if (!err && gy_unlikely(peer->state != GY_PEER_UP))
		err = gy_peer_connect(peer);
	if (gy_unlikely(err))	/* there may be memory at the next tick, which pumps */
		return err == -ENOMEM ? -EAGAIN : err;
	hdr->kind = GY_MSG_CONTROL;
	hdr->comm = comm->id;
	hdr->arg = port->number;
	return gy_peer_msg(&comm->ctx->engine, peer, hdr, body);
}

static void control_forget(struct gy_engine *e, struct gy_parked *p)
{
	gy_list_del(&p->link);
	gy_unpark(e, p);
}

void gy_control_forget_peer(struct gy_engine *e, const struct gy_peer *peer)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &e->early_control) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (p->peer == peer)
			control_forget(e, p);
	}
}

void gy_control_tick(struct gy_engine *e)
{
	struct gy_list *pos, *after;

	gy_list_for_each_safe(pos, after, &e->early_control) {
		struct gy_parked *p = gy_list_entry(pos, struct gy_parked, link);

		if (!control_may_come(e, &p->hdr) && control_refuse(e, p->peer, &p->hdr) != -EAGAIN)
			control_forget(e, p);
	}
}
