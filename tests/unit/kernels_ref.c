/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kernels_ref.c - see kernels_ref.h.  f16 and bf16 are taken apart and put together by ldexp and
 * nearbyint, integers are divided as 128-bit ones.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "tests/unit/kernels_ref.h"

enum ref_kind {
	REF_SIGNED,
	REF_UNSIGNED,
	REF_FLOAT
};

static enum ref_kind ref_kind(enum gyre_type type)
{
	if (type >= GYRE_F16)
		return REF_FLOAT;
	return type == GYRE_INT8 || type == GYRE_INT16 || type == GYRE_INT32 || type == GYRE_INT64
		       ? REF_SIGNED
		       : REF_UNSIGNED;
}

/* One element on its way; which member says its kind. */
union ref_value {
	int64_t i;
	uint64_t u;
	double d;
};

static uint64_t ref_load_bits(const void *p, size_t size)
{
	uint64_t x64;
	uint32_t x32;
	uint16_t x16;

	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		memcpy(&x16, p, 2);
		return x16;
	case 4:
		memcpy(&x32, p, 4);
		return x32;
	default:
		memcpy(&x64, p, 8);
		return x64;
	}
}

static void ref_store_bits(void *p, size_t size, uint64_t bits)
{
	const uint32_t x32 = (uint32_t)bits;
	const uint16_t x16 = (uint16_t)bits;

	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)bits;
		break;
	case 2:
		memcpy(p, &x16, 2);
		break;
	case 4:
		memcpy(p, &x32, 4);
		break;
	default:
		memcpy(p, &bits, 8);
	}
}

/* A binary format of 16 bits with this many bits of fraction; the rest but the sign is exponent. */
static double ref_decode16(uint64_t bits, int fraction_bits)
{
	const int bias = (1 << (14 - fraction_bits)) - 1;
	const int exponent = (int)(bits >> fraction_bits) & (2 * bias + 1);
	const int fraction = (int)bits & ((1 << fraction_bits) - 1);
	double x;

	if (exponent == 2 * bias + 1)
		x = fraction ? (double)NAN : (double)INFINITY;
	else if (exponent == 0)
		x = ldexp(fraction, 1 - bias - fraction_bits);
	else
		x = ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
	return bits & 0x8000 ? -x : x;
}

static uint64_t ref_encode16(double x, int fraction_bits)
{
	const int bias = (1 << (14 - fraction_bits)) - 1;
	const uint64_t sign = signbit(x) ? 0x8000 : 0, inf = (2 * (uint64_t)bias + 1)
							     << fraction_bits;
	int exponent;
	uint64_t m;

	if (isnan(x))
		return inf | (uint64_t)1 << (fraction_bits - 1);
	if (isinf(x))
		return sign | inf;
	if (x == 0)
		return sign;
	exponent = ilogb(x) < 1 - bias ? 1 - bias : ilogb(x);
	m = (uint64_t)nearbyint(ldexp(fabs(x), fraction_bits - exponent));
	/* The leading 1 of m, and a carry into the next power of two, count in the exponent. */
	m += (uint64_t)(exponent + bias - 1) << fraction_bits;
	return sign | (m > inf ? inf : m);
}

static union ref_value ref_load(enum gyre_type type, const void *p)
{
	const size_t size = gyre_type_size(type);
	const uint64_t bits = ref_load_bits(p, size);
	union ref_value v = { .u = bits };
	float f;

	if (ref_kind(type) == REF_SIGNED && bits >> (8 * size - 1))
		v.u = bits | (size < 8 ? ~(uint64_t)0 << (8 * size) : 0);
	else if (type == GYRE_F16)
		v.d = ref_decode16(bits, 10);
	else if (type == GYRE_BF16)
		v.d = ref_decode16(bits, 7);
	else if (type == GYRE_F32) {
		memcpy(&f, p, sizeof(f));
		v.d = f;
	}
	return v;
}

static void ref_store(enum gyre_type type, void *p, union ref_value v)
{
	const float f = ref_kind(type) == REF_FLOAT ? (float)v.d : 0;
	uint64_t bits = v.u;
	uint32_t bits32;

	if (type == GYRE_F16) {
		bits = ref_encode16(v.d, 10);
	} else if (type == GYRE_BF16) {
		bits = ref_encode16(v.d, 7);
	} else if (type == GYRE_F32) {
		memcpy(&bits32, &f, sizeof(bits32));
		bits = isnan(v.d) ? 0x7fc00000 : bits32;
	} else if (type == GYRE_F64 && isnan(v.d)) {
		bits = 0x7ff8000000000000;
	}
	ref_store_bits(p, gyre_type_size(type), bits);
}

static double ref_float_op(enum gyre_type type, enum gyre_op op, double a, double b)
{
	double r;

	if (op == GYRE_MIN || op == GYRE_MAX) {
		if (isnan(a) || isnan(b))
			return NAN;
		if (a == b)
			return !!signbit(a) == (op == GYRE_MIN) ? a : b;
		return (a < b) == (op == GYRE_MIN) ? a : b;
	}
	r = op == GYRE_PROD ? a * b : a + b;
	if (type == GYRE_F64)
		return r;
	/* 53 bits are more than twice 24 and 2: rounding twice is rounding once. */
	return (float)r;
}

static union ref_value ref_op(enum gyre_type type, enum gyre_op op, union ref_value a,
			      union ref_value b)
{
	union ref_value v;
	bool less;

	if (ref_kind(type) == REF_FLOAT) {
		v.d = ref_float_op(type, op, a.d, b.d);
		return v;
	}
	less = ref_kind(type) == REF_SIGNED ? a.i < b.i : a.u < b.u;
	switch (op) {
	case GYRE_PROD:
		v.u = a.u * b.u;
		break;
	case GYRE_MIN:
		v = less ? a : b;
		break;
	case GYRE_MAX:
		v = less ? b : a;
		break;
	default:
		v.u = a.u + b.u;
	}
	/* Wrap to the type's own width. */
	ref_store_bits(&v.u, gyre_type_size(type), v.u);
	return ref_load(type, &v.u);
}

void kernels_ref_reduce(enum gyre_type type, enum gyre_op op, void *dst, const void *const *in,
			unsigned nin, size_t n)
{
	const size_t size = gyre_type_size(type);
	union ref_value acc;
	unsigned k;
	size_t i;

	if (nin == 1) {
		memcpy(dst, in[0], n * size);
		return;
	}
	for (i = 0; i < n * size; i += size) {
		acc = ref_load(type, (const char *)in[0] + i);
		for (k = 1; k < nin; k++)
			acc = ref_op(type, op, acc, ref_load(type, (const char *)in[k] + i));
		ref_store(type, (char *)dst + i, acc);
	}
}

void kernels_ref_divide(enum gyre_type type, void *dst, const void *src, size_t n,
			unsigned divisor)
{
	const size_t size = gyre_type_size(type);
	union ref_value v;
	size_t i;

	for (i = 0; i < n * size; i += size) {
		v = ref_load(type, (const char *)src + i);
		if (ref_kind(type) == REF_SIGNED)
			v.i = (int64_t)((__int128)v.i / divisor);
		else if (ref_kind(type) == REF_UNSIGNED)
			v.u = v.u / divisor;
		else if (type == GYRE_F64)
			v.d = v.d / (double)divisor;
		else
			v.d = (float)v.d / (float)divisor;
		ref_store(type, (char *)dst + i, v);
	}
}
