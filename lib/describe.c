/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * describe.c - how a communicator would do a call, in words, for people and benchmarks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/comm.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"

/* The one that joins us to that rank, or will: a pair may have changed to another. */
static int describe_transport(const struct gyre_context *ctx, int rank)
{
	const struct gy_peer *peer = ctx->engine.peers[rank];
	int t = 0;

	if (!peer)
		return gy_peer_transport(ctx, rank);
	while (gy_transports[t] != peer->ep->ops)
		t++;
	return t;
}

/* The transports that join us to the other members: "shm", "shm+tcp". */
static void describe_transports(const struct gyre_comm *comm, char *buf, size_t len)
{
	bool used[GY_MAX_TRANSPORTS] = { false };
	size_t n = 0;
	int i, t;

	snprintf(buf, len, "none");
	gy_engine_enter(&comm->ctx->engine);
	for (i = 0; i < comm->size; i++) {
		t = i == comm->rank ? -1 : describe_transport(comm->ctx, comm->ranks[i]);
		if (t >= 0)
			used[t] = true;
	}
	gy_engine_leave(&comm->ctx->engine);
	for (t = 0; t < GY_MAX_TRANSPORTS; t++)
		if (used[t] && n < len)
			n += (size_t)snprintf(buf + n, len - n, "%s%s", n ? "+" : "",
					      gy_transports[t]->name);
}

int gyre_comm_describe(struct gyre_comm *comm, const char *coll, size_t bytes, char *buf,
		       size_t len)
{
	const char *algo = NULL;
	char transports[64];
	int c;

	if (!comm || !coll || !buf || !len) {
		gy_err("gyre_comm_describe: %s", !comm	 ? "comm is NULL"
						 : !coll ? "coll is NULL"
						 : !buf	 ? "buf is NULL"
							 : "len is 0");
		return -EINVAL;
	}
	if (!strcmp(coll, "send"))
		algo = bytes <= comm->ctx->engine.eager_bytes ? "eager" : "rendezvous";
	for (c = 0; c < GY_NCOLLS; c++)
		if (!strcmp(coll, gy_coll_name(c)))
			algo = comm->size == 1 ? "none"
					       : gy_select(&comm->select, c, bytes)->algo->name;
	if (!algo) {
		gy_err("gyre_comm_describe: no collective is called \"%s\"", coll);
		return -EINVAL;
	}
	describe_transports(comm, transports, sizeof(transports));
	snprintf(buf, len, "algorithm=%s transport=%s", algo, transports);
	return 0;
}
