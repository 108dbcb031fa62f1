/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_REGISTRY_H
#define GY_REGISTRY_H
/* The only place that names implementations: transports in order of preference, and algorithms. */
#include "lib/coll.h"

struct gy_transport_ops;

#define GY_MAX_TRANSPORTS 4

extern const struct gy_transport_ops *const gy_transports[];	/* NULL-terminated */

/* Position in the table = algorithm id on the wire, equal on all ranks of one version. */
extern const struct gy_coll_algo *const gy_algos[];		/* NULL-terminated */
#endif
