/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_P2P_H
#define GYRE_P2P_H
/*
 * Point-to-point messages, matched by (source, tag) in the order sent.  They share nothing with
 * the order of collectives.  A message may be shorter than the receive (status->count says); a
 * longer one ends the receive with -EMSGSIZE and is dropped; different types on the two sides
 * end it with -EPROTO.  Neither fails the communicator.  A send completes when its
 * buffer may be reused, which says nothing about the receiver.  Sending to oneself works, given a
 * receive that was posted or is nonblocking.  Forms and errors as for collectives (coll.h).
 * MT-Safe; messages that several threads send are in the order in which their calls come.
 */
#include <gyre/request.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

#define GYRE_ANY_SOURCE (-1)	/* as source: the first matching message of any rank */
#define GYRE_ANY_TAG (-1)	/* as tag of a receive; tags of sends are >= 0 */

int gyre_send(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
	      struct gyre_comm *comm);
int gyre_isend(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
	       struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_send_init(const void *buf, size_t count, enum gyre_type type, int dest, int tag,
		   struct gyre_comm *comm, struct gyre_request **reqp);

/* status may be NULL. */
int gyre_recv(void *buf, size_t count, enum gyre_type type, int source, int tag,
	      struct gyre_comm *comm, struct gyre_status *status);
int gyre_irecv(void *buf, size_t count, enum gyre_type type, int source, int tag,
	       struct gyre_comm *comm, struct gyre_request **reqp);
int gyre_recv_init(void *buf, size_t count, enum gyre_type type, int source, int tag,
		   struct gyre_comm *comm, struct gyre_request **reqp);

/*
 * A send and a receive at once, so that exchanges in a circle cannot block.  The buffers must not
 * overlap.
 */
int gyre_sendrecv(const void *sendbuf, size_t sendcount, enum gyre_type sendtype, int dest,
		  int sendtag, void *recvbuf, size_t recvcount, enum gyre_type recvtype, int source,
		  int recvtag, struct gyre_comm *comm, struct gyre_status *status);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
