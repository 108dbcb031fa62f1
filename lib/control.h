/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_CONTROL_H
#define GY_CONTROL_H
/*
 * Control messages: small facts that the members of a communicator tell each other beside its
 * operations - ready, start, done, commit, a vote.
 *
 * A port is one rank's end of one protocol in one communicator.  Ports of the same number belong
 * together on all members; each member opens the same ones in the same order.  Messages go by the
 * small lane: in order from each sender, never behind bulk, and as long as two ranks are connected,
 * also when their communicator has failed.  What comes before its port is open waits for it.
 *
 * A protocol keeps in its own state what it still has to say: pump says it, and is called again
 * whenever more may be possible - a message came, there is room, a peer came up or was lost, the
 * communicator failed, an operation with run.owned ended.  Whoever drives calls it, the progress
 * thread too.
 *
 * Locking: driver.
 */
#include <stdint.h>
#include "lib/list.h"

struct gy_engine;
struct gy_hdr;
struct gy_peer;
struct gy_port;
struct gyre_comm;

struct gy_port_ops {
	/*
	 * A message of that member.  hdr: stream, off, count, seq and len (of body) are the
	 * protocol's.  Called while messages are taken in: notes what it says, no more; pump
	 * follows.  -EPROTO, -ENOMEM: the sender is expelled.
	 */
	int (*message)(struct gy_port *port, int rank, const struct gy_hdr *hdr, const void *body);
	/* May start operations and send; must not wait, nor open or close ports. */
	void (*pump)(struct gy_port *port);
};

struct gy_port {
	struct gy_list link;		/* struct gy_engine.ports */
	const struct gy_port_ops *ops;
	struct gyre_comm *comm;
	uint32_t number;
};

/* Takes the communicator's next number, and what has come for it already. */
void gy_port_open(struct gy_port *port, struct gyre_comm *comm, const struct gy_port_ops *ops);
void gy_port_close(struct gy_port *port);	/* before its communicator goes; none: nothing */

/*
 * hdr: stream, off, count, seq and len are the protocol's, the rest is filled in.  Connects when
 * need be.  -EAGAIN: not now, pump will be called.  Else the peer is lost: why.
 */
int gy_port_send(struct gy_port *port, int rank, struct gy_hdr *hdr, const void *body);

/* All ports are pumped soon: something that they may wait for has happened. */
void gy_ports_wake(struct gy_engine *e);

/* ---- for the engine ---- */
int gy_ports_pump(struct gy_engine *e);		/* how many; when they were woken */
void gy_control_deliver(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr,
			const void *body);
/* Messages that wait for a port: of that peer; and those whose port can come no more. */
void gy_control_forget_peer(struct gy_engine *e, const struct gy_peer *peer);
void gy_control_tick(struct gy_engine *e);
#endif
