/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_CONTEXT_H
#define GY_CONTEXT_H
/*
 * The context as the library and the transports see it.
 */
#include <gyre/context.h>
#include "lib/config.h"
#include "lib/engine.h"
#include "lib/poll.h"
#include "lib/registry.h"
#include "lib/sys.h"
#include "lib/topology.h"
#include "lib/wire.h"

/* One rank's entry in the job's table, exchanged at start. */
struct gy_job_entry {
	uint64_t node[2];	/* which machine (and IPC namespace); equal = same node */
	struct gy_procs procs;	/* what it may run on; not told where nobody asks */
	struct gy_wire_addr addr;
	struct {
		uint16_t len;	/* 0: the rank does not have this transport */
		uint8_t bytes[GY_BLOB_MAX];
	} blob[GY_MAX_TRANSPORTS];	/* by position in gy_transports */
};

struct gyre_context {
	struct gy_config cfg;
	int rank, nranks;
	struct gy_sys *sys;
	void *sim;			/* transports/sim: the world it belongs to; else NULL */
	struct gy_poll poll;
	struct gy_topology topology;
	struct gy_wire *wire;		/* NULL under the simulator */
	uint8_t job_key[16];
	struct gy_job_entry *job;	/* nranks of them */
	struct gy_nic *nics[GY_MAX_TRANSPORTS];	/* by position in gy_transports; NULL: not open */
	bool unfit;		/* it has been said that a transport did not join some pair */
	struct gy_engine engine;
};

/*
 * As gyre_context_create, in a given world; sim (may be NULL) becomes ctx->sim.  The configuration
 * is *cfg when not NULL, else loaded from the environment.
 */
int gy_context_create(const struct gyre_context_attr *attr, struct gy_sys *sys, void *sim,
		      const struct gy_config *cfg, struct gyre_context **ctxp);

/*
 * Ends the context as a killed process would: nothing is said to peers, nothing is waited for,
 * memory is freed.  For the simulator's kill.
 */
void gy_context_abandon(struct gyre_context *ctx);
#endif
