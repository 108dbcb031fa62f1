/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_TYPES_H
#define GYRE_TYPES_H
/*
 * Element types, reduction operators, and the opaque objects of the library.
 */
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct gyre_context;	/* one engine: connections, memory pool, progress; see context.h */
struct gyre_comm;	/* an ordered group of ranks; see comm.h */
struct gyre_request;	/* one started or persistent operation; see request.h */

/* Element types.  The values are part of the wire format. */
enum gyre_type {
	GYRE_INT8,
	GYRE_UINT8,
	GYRE_INT16,
	GYRE_UINT16,
	GYRE_INT32,
	GYRE_UINT32,
	GYRE_INT64,
	GYRE_UINT64,
	GYRE_F16,	/* IEEE binary16; reduced in f32 inside a step, rounded to nearest even */
	GYRE_BF16,	/* bfloat16; likewise */
	GYRE_F32,
	GYRE_F64,
	GYRE_NTYPES
};

/*
 * Reduction operators, for every type.  Integer sums and products wrap.  For floating point,
 * min and max give NaN when an operand is NaN, and -0 < +0.  AVG sums, then divides once, last,
 * by the number of ranks; integers round toward zero.
 */
enum gyre_op {
	GYRE_SUM,
	GYRE_PROD,
	GYRE_MIN,
	GYRE_MAX,
	GYRE_AVG,
	GYRE_NOPS
};

/* Bytes of one element, or 0 for an unknown type.  MT-Safe. */
size_t gyre_type_size(enum gyre_type type);

/* "f32", "sum", ...; "?" for an unknown value.  Static storage.  MT-Safe. */
const char *gyre_type_name(enum gyre_type type);
const char *gyre_op_name(enum gyre_op op);

/*
 * Text for an error that a gyre function returned (negative errno; the sign is ignored).
 * Static storage, never NULL.  MT-Safe.
 */
const char *gyre_strerror(int err);

/* Library version, "MAJOR.MINOR.PATCH".  Static storage.  MT-Safe. */
const char *gyre_version(void);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
