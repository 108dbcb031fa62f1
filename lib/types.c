/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * types.c - sizes and names of element types and operators, and the version.
 */
#include <gyre/types.h>
#include "lib/util.h"

static const struct {
	const char *name;
	size_t size;
} types_table[GYRE_NTYPES] = {
	[GYRE_INT8] = { "int8", 1 },
	[GYRE_UINT8] = { "uint8", 1 },
	[GYRE_INT16] = { "int16", 2 },
	[GYRE_UINT16] = { "uint16", 2 },
	[GYRE_INT32] = { "int32", 4 },
	[GYRE_UINT32] = { "uint32", 4 },
	[GYRE_INT64] = { "int64", 8 },
	[GYRE_UINT64] = { "uint64", 8 },
	[GYRE_F16] = { "f16", 2 },
	[GYRE_BF16] = { "bf16", 2 },
	[GYRE_F32] = { "f32", 4 },
	[GYRE_F64] = { "f64", 8 },
};

static const char *const types_ops[GYRE_NOPS] = {
	[GYRE_SUM] = "sum",
	[GYRE_PROD] = "prod",
	[GYRE_MIN] = "min",
	[GYRE_MAX] = "max",
	[GYRE_AVG] = "avg",
};

/* The comparisons are unsigned, so that negative values are unknown too. */
size_t gyre_type_size(enum gyre_type type)
{
	return (unsigned int)type < GYRE_NTYPES ? types_table[type].size : 0;
}

const char *gyre_type_name(enum gyre_type type)
{
	return (unsigned int)type < GYRE_NTYPES ? types_table[type].name : "?";
}

const char *gyre_op_name(enum gyre_op op)
{
	return (unsigned int)op < GYRE_NOPS ? types_ops[op] : "?";
}

const char *gyre_version(void)
{
	return PACKAGE_VERSION;		/* from configure.ac */
}
