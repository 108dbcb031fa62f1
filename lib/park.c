/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * park.c - small messages to and from a peer: what one side may send before the other uses it, and
 * where messages wait that nobody can use yet.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/peer.h"

static const size_t park_sizes[GY_PARK_CLASSES] = { 64, 1024, GY_BODY_MAX, GY_BODY_LONG };

struct gy_parked *gy_park(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr,
			  const void *body)
{
	struct gy_parked *p;
	unsigned c = 0;

	while (hdr->len > park_sizes[c])
		c++;
	p = e->free_parked[c];
	if (p) {
		e->free_parked[c] = (struct gy_parked *)p->link.next;
	} else {
		p = gy_alloc(sizeof(*p) + park_sizes[c]);
		if (!p)
			return NULL;
		p->size_class = c;
	}
	p->peer = peer;
	p->hdr = *hdr;
	memcpy(p->body, body, hdr->len);
	peer->parked_bytes += sizeof(*p) + park_sizes[c];
	return p;
}

gy_cold void gy_peer_credit_slow(struct gy_engine *e, struct gy_peer *peer)
{
	struct gy_hdr hdr = { .kind = GY_MSG_CREDIT };

	/* on -EAGAIN, the next message has it, or the tick */
	gy_peer_msg(e, peer, &hdr, NULL);
}

void gy_park_free(struct gy_engine *e, struct gy_parked *p)
{
	p->peer->parked_bytes -= sizeof(*p) + park_sizes[p->size_class];
	p->link.next = (struct gy_list *)e->free_parked[p->size_class];
	e->free_parked[p->size_class] = p;
}

void gy_unpark(struct gy_engine *e, struct gy_parked *p)
{
	gy_park_free(e, p);
	if (p->hdr.kind == GY_MSG_EAGER)
		gy_peer_consumed(e, p->peer, p->hdr.len);
}
