/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of implementations; see registry.h. */
#include <stddef.h>
#include "lib/registry.h"

extern const struct gy_coll_algo gy_allreduce_flat, gy_allreduce_recursive_doubling,
	gy_allreduce_halving_doubling, gy_allreduce_direct, gy_allreduce_ring;
extern const struct gy_coll_algo gy_reduce_scatter_direct, gy_reduce_scatter_ring;
extern const struct gy_coll_algo gy_allgather_bruck, gy_allgather_direct, gy_allgather_ring;
extern const struct gy_coll_algo gy_broadcast_binomial, gy_broadcast_scatter_allgather,
	gy_broadcast_chain;
extern const struct gy_coll_algo gy_barrier_dissemination;

/* Positions go over the wire: ranks of one version have equal tables. */
const struct gy_coll_algo *const gy_algos[] = {
	&gy_allreduce_flat,
	&gy_allreduce_recursive_doubling,
	&gy_allreduce_halving_doubling,
	&gy_allreduce_direct,
	&gy_allreduce_ring,
	&gy_reduce_scatter_direct,
	&gy_reduce_scatter_ring,
	&gy_allgather_bruck,
	&gy_allgather_direct,
	&gy_allgather_ring,
	&gy_broadcast_binomial,
	&gy_broadcast_scatter_allgather,
	&gy_broadcast_chain,
	&gy_barrier_dissemination,
	NULL,
};

extern const struct gy_transport_ops gy_shm_ops, gy_verbs_ops, gy_tcp_ops, gy_sim_ops;

const struct gy_transport_ops *const gy_transports[] = {
	&gy_shm_ops,
	&gy_verbs_ops,
	&gy_tcp_ops,
	&gy_sim_ops,
	NULL,
};
