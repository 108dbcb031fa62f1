/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite_data.c - inputs and exact results, and buffers that tell when something else was written.
 * Sums of small integers, products of powers of two, minima and maxima of anything: the result does
 * not depend on the order.  Up to 64 ranks.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/multi/suite_priv.h"

#define GUARD_BYTE 0xc7

bool suite_is_float(enum gyre_type type)
{
	return type >= GYRE_F16;
}

static inline uint64_t data_mix(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t z = a + b * UINT64_C(0x9e3779b97f4a7c15) + c * UINT64_C(0xd1342543de82ef95);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* ---- encodings ---- */

/*
 * x as a binary float of so many significand bits (with the hidden one), rounded to nearest even.
 * The hidden bit counts one exponent up, and so does what rounding carries: subnormals need nothing
 * of their own.
 */
static uint64_t data_encode(double x, int bits, int ebits)
{
	const int emin = 2 - (1 << (ebits - 1));
	const uint64_t sign = (uint64_t)(signbit(x) != 0) << (bits - 1 + ebits);
	const uint64_t inf = (((uint64_t)1 << ebits) - 1) << (bits - 1);
	uint64_t m, half;
	int e, shift;

	if (isnan(x))
		return sign | inf | (uint64_t)1 << (bits - 2);
	if (isinf(x))
		return sign | inf;
	memcpy(&m, &x, sizeof(m));
	e = (int)(m >> 52 & 2047) - 1023;
	m = (m & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
	shift = 53 - bits + (e < emin ? emin - e : 0);
	if (shift > 54)
		return sign;			/* less than half of the smallest */
	half = UINT64_C(1) << (shift - 1);
	m = (m + half - 1 + (m >> shift & 1)) >> shift;	/* in units of the last place */
	m += (uint64_t)(e < emin ? 0 : e - emin) << (bits - 1);
	return sign | (m < inf ? m : inf);
}

static uint64_t data_float_bits(enum gyre_type type, double x)
{
	float f = (float)x;
	uint64_t bits = 0;

	switch (type) {
	case GYRE_F16:
		return data_encode(x, 11, 5);
	case GYRE_BF16:
		return data_encode(x, 8, 8);
	case GYRE_F32:
		memcpy(&bits, &f, sizeof(f));
		return bits;
	default:
		memcpy(&bits, &x, sizeof(x));
		return bits;
	}
}

static bool data_is_nan(enum gyre_type type, uint64_t bits)
{
	switch (type) {
	case GYRE_F16:
		return (bits & 0x7fff) > 0x7c00;
	case GYRE_BF16:
		return (bits & 0x7fff) > 0x7f80;
	case GYRE_F32:
		return (bits & 0x7fffffff) > 0x7f800000;
	case GYRE_F64:
		return (bits & INT64_MAX) > UINT64_C(0x7ff0000000000000);
	default:
		return false;
	}
}

/* Integers as the 64-bit value that they stand for. */
static inline int64_t data_wrap(enum gyre_type type, uint64_t x)
{
	switch (type) {
	case GYRE_INT8:
		return (int8_t)x;
	case GYRE_UINT8:
		return (uint8_t)x;
	case GYRE_INT16:
		return (int16_t)x;
	case GYRE_UINT16:
		return (uint16_t)x;
	case GYRE_INT32:
		return (int32_t)x;
	case GYRE_UINT32:
		return (uint32_t)x;
	default:
		return (int64_t)x;
	}
}

/* ---- values ---- */

static inline double data_float(const struct suite_values *v, int rank, size_t i)
{
	static const double odd[] = { NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.5 };
	const uint64_t h = data_mix(v->seed, (uint64_t)rank, i);

	if (v->arbitrary)
		return (float)ldexp((double)(int64_t)h, -40 - (int)(h % 24));
	switch (v->op) {
	case GYRE_PROD:
		/* No more than nranks / 8 factors of two in one product. */
		if ((uint64_t)rank % 8 == i % 8)
			return h & 1 ? 2 : 0.5;
		return h & 1 ? 1 : -1;
	case GYRE_MIN:
	case GYRE_MAX:
		if (h % 16 == 0)
			return odd[h / 16 % 6];
		return (double)((int)(h / 16 % 255) - 127);
	default:
		return (double)((int)(h % 7) - 3);
	}
}

static inline int64_t data_int(const struct suite_values *v, int rank, size_t i)
{
	const uint64_t h = data_mix(v->seed, (uint64_t)rank, i);
	const bool is_signed = v->type % 2 == 0;	/* INT8, UINT8, ... */

	if (v->op == GYRE_AVG)
		return is_signed ? (int64_t)(h % 3) - 1 : (int64_t)(h % 4);
	return data_wrap(v->type, h);
}

static uint64_t data_input(const struct suite_values *v, int rank, size_t i)
{
	return suite_is_float(v->type) ? data_float_bits(v->type, data_float(v, rank, i))
				       : (uint64_t)data_int(v, rank, i);
}

/* NaN wins, and -0 < +0. */
static bool data_less(double a, double b)
{
	return a < b || (a == b && signbit(a) && !signbit(b));
}

static double data_reduce_float(const struct suite_values *v, size_t i)
{
	double acc = data_float(v, 0, i), x;
	int r;

	for (r = 1; r < v->nranks; r++) {
		x = data_float(v, r, i);
		if (v->op == GYRE_PROD)
			acc *= x;
		else if (v->op == GYRE_SUM || v->op == GYRE_AVG)
			acc += x;
		else if (isnan(acc) || isnan(x))
			acc = NAN;
		else if (data_less(x, acc) == (v->op == GYRE_MIN))
			acc = x;
	}
	if (v->op == GYRE_AVG)
		acc = v->type == GYRE_F64 ? acc / v->nranks : (float)acc / (float)v->nranks;
	return acc;
}

static int64_t data_reduce_int(const struct suite_values *v, size_t i)
{
	const bool is_unsigned = v->type % 2 != 0;
	int64_t acc = data_int(v, 0, i), x;
	bool less;
	int r;

	for (r = 1; r < v->nranks; r++) {
		x = data_int(v, r, i);
		less = is_unsigned ? (uint64_t)x < (uint64_t)acc : x < acc;
		if (v->op == GYRE_PROD)
			acc = data_wrap(v->type, (uint64_t)acc * (uint64_t)x);
		else if (v->op == GYRE_SUM || v->op == GYRE_AVG)
			acc = data_wrap(v->type, (uint64_t)acc + (uint64_t)x);
		else if (v->op == GYRE_MIN ? less : !less)
			acc = x;
	}
	return v->op == GYRE_AVG ? acc / v->nranks : acc;
}

static uint64_t data_result(const struct suite_values *v, size_t i)
{
	return suite_is_float(v->type) ? data_float_bits(v->type, data_reduce_float(v, i))
				       : (uint64_t)data_reduce_int(v, i);
}

/* Element k of buf. */
static uint64_t data_get(const void *buf, size_t k, size_t esize)
{
	switch (esize) {
	case 1:
		return ((const uint8_t *)buf)[k];
	case 2:
		return ((const uint16_t *)buf)[k];
	case 4:
		return ((const uint32_t *)buf)[k];
	default:
		return ((const uint64_t *)buf)[k];
	}
}

static void data_put(void *buf, size_t k, size_t esize, uint64_t bits)
{
	switch (esize) {
	case 1:
		((uint8_t *)buf)[k] = (uint8_t)bits;
		break;
	case 2:
		((uint16_t *)buf)[k] = (uint16_t)bits;
		break;
	case 4:
		((uint32_t *)buf)[k] = (uint32_t)bits;
		break;
	default:
		((uint64_t *)buf)[k] = bits;
	}
}

static bool data_equal(enum gyre_type type, uint64_t is, uint64_t wanted, size_t esize)
{
	const uint64_t mask = esize == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * esize) - 1;

	return is == (wanted & mask) || (data_is_nan(type, is) && data_is_nan(type, wanted & mask));
}

void suite_fill(const struct suite_values *v, int rank, void *buf, size_t first, size_t n)
{
	const size_t esize = gyre_type_size(v->type);
	size_t k;

	for (k = 0; k < n; k++)
		data_put(buf, k, esize, data_input(v, rank, first + k));
}

size_t suite_differs(const struct suite_values *v, int rank, const void *buf, size_t first,
		     size_t n)
{
	const size_t esize = gyre_type_size(v->type);
	size_t k;

	for (k = 0; k < n; k++) {
		if (!data_equal(v->type, data_get(buf, k, esize), data_input(v, rank, first + k),
				esize))
			break;
	}
	return k;
}

size_t suite_wrong(const struct suite_values *v, const void *buf, size_t first, size_t n)
{
	const size_t esize = gyre_type_size(v->type);
	size_t k;

	for (k = 0; k < n; k++) {
		if (!data_equal(v->type, data_get(buf, k, esize), data_result(v, first + k), esize))
			break;
	}
	return k;
}

/* ---- memory ---- */

struct suite_block {
	struct suite_block *prev, *next;
	_Alignas(max_align_t) char data[];
};

void *suite_alloc(struct suite_env *env, size_t size)
{
	struct suite_block *b = malloc(sizeof(*b) + size), **first = &env->heap->first[env->thread];

	if (!b)
		return NULL;
	b->prev = NULL;
	b->next = *first;
	if (b->next)
		b->next->prev = b;
	*first = b;
	return b->data;
}

void suite_free(struct suite_env *env, void *ptr)
{
	struct suite_block *b;

	if (!ptr)
		return;
	b = (struct suite_block *)((char *)ptr - offsetof(struct suite_block, data));
	if (b->prev)
		b->prev->next = b->next;
	else
		env->heap->first[env->thread] = b->next;
	if (b->next)
		b->next->prev = b->prev;
	free(b);
}

void suite_heap_free(struct suite_heap *heap)
{
	struct suite_block *b, *next;
	unsigned i;

	for (i = 0; i <= SUITE_MAX_THREADS; i++) {
		for (b = heap->first[i]; b; b = next) {
			next = b->next;
			free(b);
		}
		heap->first[i] = NULL;
	}
}

int suite_buf_alloc(struct suite_env *env, struct suite_rng *own, struct suite_buf *b, size_t size,
		    size_t esize, bool mem)
{
	const size_t off = SUITE_GUARD + suite_below(own, 32) * esize;
	int err;

	b->mem = mem;
	b->size = size;
	b->base_size = off + size + SUITE_GUARD;
	if (mem) {
		err = gyre_mem_alloc(env->ctx, b->base_size, &b->base);
		if (err)
			return suite_fail(env, "gyre_mem_alloc of %zu bytes: %s", b->base_size,
					  gyre_strerror(err));
	} else {
		b->base = suite_alloc(env, b->base_size);
		if (!b->base)
			return suite_fail(env, "no memory for a buffer of %zu bytes", b->base_size);
	}
	b->ptr = (char *)b->base + off;
	memset(b->base, GUARD_BYTE, b->base_size);
	return 0;
}

int suite_buf_check(struct suite_env *env, const struct suite_buf *b, const char *what)
{
	const unsigned char *p = b->base;
	const size_t from = (size_t)(b->ptr - (char *)b->base);
	size_t i;

	for (i = 0; i < b->base_size; i++) {
		if (i == from)
			i += b->size;		/* the buffer itself */
		if (p[i] != GUARD_BYTE)
			return suite_fail(env, "%s: byte %ld of %zu was written", what,
					  (long)i - (long)from, b->size);
	}
	return 0;
}

void suite_buf_free(struct suite_env *env, struct suite_buf *b)
{
	if (!b->mem)
		suite_free(env, b->base);
	else if (b->base)
		gyre_mem_free(env->ctx, b->base);
	b->base = NULL;
}
