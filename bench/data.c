/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffers with known contents; see data.h.
 *
 * Element i of rank r in set s is a small whole number made from (i mod DATA_PERIOD, r, s).  The
 * period is a prime, so that no block, grain or rank boundary falls together with it, and short, so
 * that one period of the expected result is computed and then compared by memcmp.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/data.h"

#define DATA_PERIOD 1021
#define DATA_MAX_SIZE 8				/* bytes of the largest element */
#define DATA_STREAM_BYTES ((size_t)64 << 20)	/* of all copies together, if more than one */

static const struct {
	const char *name;
	size_t size;
	double epsilon;	/* relative, of one rounding; 0 for integers */
} data_types[GYRE_NTYPES] = {
	[GYRE_INT8] = { "int8", 1, 0 },	    [GYRE_UINT8] = { "uint8", 1, 0 },
	[GYRE_INT16] = { "int16", 2, 0 },   [GYRE_UINT16] = { "uint16", 2, 0 },
	[GYRE_INT32] = { "int32", 4, 0 },   [GYRE_UINT32] = { "uint32", 4, 0 },
	[GYRE_INT64] = { "int64", 8, 0 },   [GYRE_UINT64] = { "uint64", 8, 0 },
	[GYRE_F16] = { "f16", 2, 0x1p-10 }, [GYRE_BF16] = { "bf16", 2, 0x1p-7 },
	[GYRE_F32] = { "f32", 4, 0x1p-23 }, [GYRE_F64] = { "f64", 8, 0x1p-52 },
};

static const char *const data_ops[GYRE_NOPS] = {
	[GYRE_SUM] = "sum", [GYRE_PROD] = "prod", [GYRE_MIN] = "min",
	[GYRE_MAX] = "max", [GYRE_AVG] = "avg",
};

int data_type_by_name(const char *name)
{
	int i;

	for (i = 0; i < GYRE_NTYPES; i++)
		if (!strcmp(data_types[i].name, name))
			return i;
	return -1;
}

int data_op_by_name(const char *name)
{
	int i;

	for (i = 0; i < GYRE_NOPS; i++)
		if (!strcmp(data_ops[i], name))
			return i;
	return -1;
}

void *data_alloc(size_t len)
{
	void *p;

	return posix_memalign(&p, 4096, len) ? NULL : p;
}

/* Whole numbers up to 2^24 and their quotients; no subnormals, infinities or NaN. */
static uint16_t data_to_f16(double v)
{
	uint16_t sign = v < 0 ? 0x8000 : 0;
	double frac;
	int exp;

	if (v == 0)
		return 0;
	frac = frexp(fabs(v), &exp);		/* [0.5, 1) */
	frac = nearbyint(ldexp(frac, 11));	/* 11 bits, rounded to even */
	return sign | (uint16_t)(((exp + 14) << 10) + ((int)frac - 1024));
}

static double data_from_f16(uint16_t h)
{
	int exp = (h >> 10) & 31, frac = h & 1023;
	double v = exp ? ldexp(1024 + frac, exp - 25) : ldexp(frac, -24);

	return h & 0x8000 ? -v : v;
}

static uint16_t data_to_bf16(float v)
{
	uint32_t u;

	memcpy(&u, &v, sizeof(u));
	return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}

static double data_from_bf16(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float v;

	memcpy(&v, &u, sizeof(v));
	return v;
}

/* Integers wrap to the width of the type, as the operators do. */
static void data_encode(enum gyre_type type, double v, void *to)
{
	int64_t whole = (int64_t)v;
	float f = (float)v;
	uint16_t h;

	switch (type) {
	case GYRE_F16:
		h = data_to_f16(v);
		memcpy(to, &h, sizeof(h));
		break;
	case GYRE_BF16:
		h = data_to_bf16(f);
		memcpy(to, &h, sizeof(h));
		break;
	case GYRE_F32:
		memcpy(to, &f, sizeof(f));
		break;
	case GYRE_F64:
		memcpy(to, &v, sizeof(v));
		break;
	default:	/* little-endian: the low bytes come first */
		memcpy(to, &whole, data_types[type].size);
	}
}

static double data_decode(enum gyre_type type, const void *from)
{
	int64_t whole = 0;
	uint16_t h;
	double v;
	float f;

	switch (type) {
	case GYRE_F16:
		memcpy(&h, from, sizeof(h));
		return data_from_f16(h);
	case GYRE_BF16:
		memcpy(&h, from, sizeof(h));
		return data_from_bf16(h);
	case GYRE_F32:
		memcpy(&f, from, sizeof(f));
		return f;
	case GYRE_F64:
		memcpy(&v, from, sizeof(v));
		return v;
	default:
		memcpy(&whole, from, data_types[type].size);
		return (double)whole;
	}
}

/* Products stay small: at most 15 ranks hold a 2, the others a 1. */
static double data_value(const struct data_buffers *b, size_t i, int rank, int set)
{
	size_t mix = 3 * i + 5 * (size_t)rank + 7 * (size_t)set + i / 8;

	if (b->op == GYRE_PROD)
		return rank < 60 && (mix & 3) == 0 ? 2 : 1;
	return (double)(mix & (data_types[b->type].size == 1 ? 1 : 7));
}

static double data_reduced(const struct data_buffers *b, size_t i, int set)
{
	double v = data_value(b, i, 0, set);
	int r;

	for (r = 1; r < b->nranks; r++) {
		double x = data_value(b, i, r, set);

		switch (b->op) {
		case GYRE_PROD:
			v *= x;
			break;
		case GYRE_MIN:
			v = x < v ? x : v;
			break;
		case GYRE_MAX:
			v = x > v ? x : v;
			break;
		default:
			v += x;
		}
	}
	return b->op == GYRE_AVG ? v / b->nranks : v;
}

#define DATA_REDUCED (-1)

/* One period of what rank contributes, or of the reduction. */
static void data_pattern(const struct data_buffers *b, int rank, int set, char *to)
{
	size_t i, size = data_types[b->type].size;

	for (i = 0; i < DATA_PERIOD; i++)
		data_encode(b->type,
			    rank == DATA_REDUCED ? data_reduced(b, i, set)
						 : data_value(b, i, rank, set),
			    to + i * size);
}

/* What lies where for the shapes that are not the same on all ranks. */
static void data_layout_p2p(struct data_buffers *b)
{
	if (b->shape == DATA_STREAM) {
		b->copies = DATA_STREAM_BYTES / b->in_bytes;
		b->copies = b->copies < 1 ? 1 : b->copies;
		b->copies = b->copies > DATA_MAX_COPIES ? DATA_MAX_COPIES : b->copies;
		b->out_bytes *= b->copies;
	}
	if (b->rank > 1 || (b->shape == DATA_STREAM && b->rank == 1))
		b->in_bytes = 0;
	if (b->rank > 1 || (b->shape == DATA_STREAM && b->rank == 0))
		b->out_bytes = 0;
}

int data_layout(struct data_buffers *b, size_t *bytes)
{
	size_t size = data_types[b->type].size, n = b->nranks;

	if (b->shape == DATA_NOTHING)
		return 0;
	b->count = *bytes / size;
	if (b->shape == DATA_REDUCE_SCATTER)
		b->count /= n;
	if (!b->count)
		return -ERANGE;
	b->in_bytes = b->out_bytes = b->count * size;
	if (b->shape == DATA_REDUCE_SCATTER)
		b->in_bytes *= n;
	*bytes = b->in_bytes;
	if (b->shape == DATA_ALLGATHER)
		b->out_bytes *= n;
	if (b->shape == DATA_BCAST)
		b->in_bytes = 0;
	if (b->shape == DATA_PINGPONG || b->shape == DATA_STREAM)
		data_layout_p2p(b);
	return 0;
}

static void data_write(const struct data_buffers *b, int set, void *buf, size_t bytes)
{
	char pattern[DATA_PERIOD * DATA_MAX_SIZE];
	size_t done, len, period = DATA_PERIOD * data_types[b->type].size;

	data_pattern(b, b->rank, set, pattern);
	for (done = 0; done < bytes; done += len) {
		len = bytes - done < period ? bytes - done : period;
		memcpy((char *)buf + done, pattern, len);
	}
}

void data_fill(struct data_buffers *b, int set)
{
	if (b->in_bytes)
		data_write(b, set, b->in[set], b->in_bytes);
	if (b->shape == DATA_BCAST && b->rank == 0)
		data_write(b, set, b->out[set], b->out_bytes);
	else if (b->out_bytes)
		memset(b->out[set], 0xa5, b->out_bytes);
}

static bool data_close(const struct data_buffers *b, const void *got, const void *want)
{
	double g = data_decode(b->type, got), w = data_decode(b->type, want);
	double tolerance = data_types[b->type].epsilon * b->nranks * fabs(w);

	return fabs(g - w) <= tolerance;	/* false for NaN */
}

/* count elements at got, which are elements first... of rank's contribution or of the result. */
static int data_compare(const struct data_buffers *b, int set, const char *got, int rank,
			size_t first, size_t count)
{
	char want[DATA_PERIOD * DATA_MAX_SIZE];
	size_t i, j, n, at, size = data_types[b->type].size;

	data_pattern(b, rank, set, want);
	for (i = 0; i < count; i += n) {
		at = (first + i) % DATA_PERIOD;
		n = count - i < DATA_PERIOD - at ? count - i : DATA_PERIOD - at;
		if (!memcmp(got + i * size, want + at * size, n * size))
			continue;
		for (j = 0; j < n; j++) {
			const char *g = got + (i + j) * size, *w = want + (at + j) * size;

			if (data_close(b, g, w))
				continue;
			fprintf(stderr, "rank %d: element %zu is %.9g, not %.9g (buffer %d)\n",
				b->rank, i + j, data_decode(b->type, g), data_decode(b->type, w),
				set);
			return -EBADMSG;
		}
	}
	return 0;
}

static int data_compare_shape(const struct data_buffers *b, int set)
{
	size_t i, size = data_types[b->type].size;
	const char *out = b->out[set];
	int r, err = 0;

	switch (b->shape) {
	case DATA_ALLREDUCE:
		return data_compare(b, set, out, DATA_REDUCED, 0, b->count);
	case DATA_REDUCE_SCATTER:
		return data_compare(b, set, out, DATA_REDUCED, b->rank * b->count, b->count);
	case DATA_ALLGATHER:
		for (r = 0; !err && r < b->nranks; r++)
			err = data_compare(b, set, out + r * b->count * size, r, 0, b->count);
		return err;
	case DATA_BCAST:
		return data_compare(b, set, out, 0, 0, b->count);
	case DATA_PINGPONG:
		return b->rank > 1 ? 0 : data_compare(b, set, out, !b->rank, 0, b->count);
	case DATA_STREAM:
		for (i = 0; !err && b->rank == 1 && i < b->copies; i++)
			err = data_compare(b, set, out + i * b->count * size, 0, 0, b->count);
		return err;
	case DATA_NOTHING:
		break;
	}
	return 0;
}

int data_check(struct data_buffers *b, int set)
{
	int err = data_compare_shape(b, set);

	if (b->out_bytes && !(b->shape == DATA_BCAST && b->rank == 0))
		memset(b->out[set], 0xa5, b->out_bytes);
	return err;
}

int data_heap_get(struct data_buffers *b)
{
	int set;

	for (set = 0; set < PROTO_SETS; set++) {
		b->in[set] = b->in_bytes ? data_alloc(b->in_bytes) : NULL;
		b->out[set] = b->out_bytes ? data_alloc(b->out_bytes) : NULL;
		if ((b->in_bytes && !b->in[set]) || (b->out_bytes && !b->out[set])) {
			data_heap_put(b);
			return -ENOMEM;
		}
		data_fill(b, set);
	}
	return 0;
}

void data_heap_put(struct data_buffers *b)
{
	int set;

	for (set = 0; set < PROTO_SETS; set++) {
		free(b->in[set]);
		free(b->out[set]);
		b->in[set] = b->out[set] = NULL;
	}
}
