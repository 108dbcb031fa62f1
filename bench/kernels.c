/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench/kernels.c - gyre-kernels: speed of loops over memory on this CPU: reduction kernels, and
 * what delayed collectives do on the caller's thread.
 *
 * For each set, type, operator and size: the rate at which results are written, beside those of
 * memcpy and of a plain f32 a[i] + b[i] loop on as many bytes.  The three run by turns, and the
 * figures are medians over the rounds, so that the ratios hold on a busy machine too.  Not
 * installed; links the internal library, because the API does not show the kernels.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "collectives/delayed/merge.h"
#include "lib/kernels.h"
#include "lib/util.h"

#define KERNELS_MAX_ROUNDS 101
#define KERNELS_BYTES_PER_SAMPLE (8u << 20)
#define KERNELS_MAX_REPS 20000
#define KERNELS_MERGE_VECTORS 4		/* x, base, anchor and the sum; own is written */

static const char *const kernels_sets[] = { "scalar", "avx2", "avx512", "neon" };

/* What to run; NULL, GYRE_NTYPES and GYRE_NOPS mean all. */
struct kernels_opts {
	bool copy, merge, json;
	const char *set;
	enum gyre_type type;
	enum gyre_op op;
	unsigned nin, rounds, offset;
	size_t min_len, max_len;
};

/* One thing to time: len bytes of results. */
struct kernels_case {
	void (*run)(const struct kernels_case *c);
	const struct gy_kernels *set;		/* NULL: it has no variants */
	enum gyre_type elem, wire;		/* of a post or an apply */
	const char *type, *op;			/* names */
	size_t elem_size;
	gy_reduce_fn *reduce;
	void *dst;
	const void *in[GY_MAX_INPUTS];
	unsigned nin;
	size_t len;
	double seconds[KERNELS_MAX_ROUNDS];	/* of one run */
};

/* As -O3 -march=native would compile it. */
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#if !defined(__clang__)
__attribute__((optimize("O3")))
#endif
static void
kernels_plain_sum(float *restrict dst, const float *restrict a,
		  const float *restrict b, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		dst[i] = a[i] + b[i];
}

static void kernels_run_copy(const struct kernels_case *c)
{
	memcpy(c->dst, c->in[0], c->len);
}

static void kernels_run_plain(const struct kernels_case *c)
{
	kernels_plain_sum(c->dst, c->in[0], c->in[1], c->len / sizeof(float));
}

static void kernels_run_reduce(const struct kernels_case *c)
{
	c->reduce(c->dst, c->in, c->nin, c->len / c->elem_size);
}

static void kernels_run_stream(const struct kernels_case *c)
{
	gy_kernel_copy_stream(c->set, c->dst, c->in[0], c->len);
}

/* A contribution with another weight than 1 is written twice, as is and as it is sent. */
static void kernels_run_post(const struct kernels_case *c)
{
	const struct gy_merge_post p = {
		.n = c->len / c->elem_size,
		.type = c->elem,
		.wire = c->wire,
		.x = c->in[0],
		.b = (void *)c->in[1],
		.own = c->dst,
		.red = c->wire == c->elem ? NULL : (void *)c->in[3],
		.scale = 1,
	};

	gy_merge_post(&p);
}

static void kernels_run_apply(const struct kernels_case *c)
{
	const struct gy_merge_apply p = {
		.n = c->len / c->elem_size,
		.type = c->elem,
		.wire = c->wire,
		.merge = GYRE_MERGE_ADD_DIFF,
		.red = c->in[3],
		.weight_sum = 3,
		.factor = 1,
		.anchor = (void *)c->in[2],
		.b = (void *)c->in[1],
		.x = (void *)c->in[0],
	};

	gy_merge_apply(&p);
}

static double kernels_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double kernels_time(const struct kernels_case *c)
{
	const size_t reps = gy_min(KERNELS_MAX_REPS, gy_max(1, KERNELS_BYTES_PER_SAMPLE / c->len));
	double start;
	size_t i;

	c->run(c);		/* leaves its own data in the caches, not the last case's */
	start = kernels_now();
	for (i = 0; i < reps; i++) {
		c->run(c);
		__asm__ volatile("" ::: "memory");	/* each run counts */
	}
	return (kernels_now() - start) / (double)reps;
}

static int kernels_compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double kernels_median(struct kernels_case *c, unsigned rounds)
{
	qsort(c->seconds, rounds, sizeof(c->seconds[0]), kernels_compare);
	return c->seconds[rounds / 2];
}

/* seconds: of the kernel, memcpy and the plain loop. */
static void kernels_print(const struct kernels_case *c, bool json, const double seconds[3])
{
	const char *format =
		json ? "{\"set\": \"%s\", \"type\": \"%s\", \"op\": \"%s\", \"inputs\": %u, "
		       "\"bytes\": %zu, \"ns\": %.1f, \"GBps\": %.3f, \"Gelem_per_s\": %.3f, "
		       "\"vs_memcpy\": %.3f, \"vs_plain_sum\": %.3f}\n"
		     : "%-7s %-7s %-5s %2u %10zu %12.1f %8.2f %8.2f %7.2f %7.2f\n";
	const double gbps = (double)c->len / seconds[0] * 1e-9;

	printf(format, c->set ? gy_kernels_name(c->set) : "-", c->type, c->op, c->nin, c->len,
	       seconds[0] * 1e9, gbps, gbps / (double)c->elem_size, seconds[1] / seconds[0],
	       seconds[2] / seconds[0]);
	fflush(stdout);
}

/* The kernel, memcpy and the plain loop by turns, for all sizes. */
static void kernels_measure(const struct kernels_opts *o, const struct kernels_case *kernel)
{
	struct kernels_case cases[3] = { *kernel, *kernel, *kernel };
	double seconds[3];
	unsigned r, i;
	size_t len;

	cases[1].run = kernels_run_copy;
	cases[2].run = kernels_run_plain;
	for (len = o->min_len; len <= o->max_len; len *= 4) {
		for (i = 0; i < 3; i++)
			cases[i].len = len;
		for (r = 0; r < o->rounds; r++)
			for (i = 0; i < 3; i++)
				cases[i].seconds[r] = kernels_time(&cases[i]);
		for (i = 0; i < 3; i++)
			seconds[i] = kernels_median(&cases[i], o->rounds);
		kernels_print(&cases[0], o->json, seconds);
	}
}

/* Ones: no sum or product of them leaves the range of normal numbers. */
static void kernels_fill(void *p, size_t len, enum gyre_type type)
{
	static const uint64_t ones[GYRE_NTYPES] = {
		[GYRE_INT8] = 1,
		[GYRE_UINT8] = 1,
		[GYRE_INT16] = 1,
		[GYRE_UINT16] = 1,
		[GYRE_INT32] = 1,
		[GYRE_UINT32] = 1,
		[GYRE_INT64] = 1,
		[GYRE_UINT64] = 1,
		[GYRE_F16] = 0x3c00,
		[GYRE_BF16] = 0x3f80,
		[GYRE_F32] = 0x3f800000,
		[GYRE_F64] = 0x3ff0000000000000,
	};
	const size_t size = gyre_type_size(type);
	size_t i;

	for (i = 0; i + size <= len; i += size)
		memcpy((char *)p + i, &ones[type], size);	/* little-endian */
}

/* Operators on one type, in all sets. */
static void kernels_type(const struct kernels_opts *o, enum gyre_type type, struct kernels_case *c)
{
	unsigned op, k;
	size_t s;

	c->run = kernels_run_reduce;
	c->type = gyre_type_name(type);
	c->elem_size = gyre_type_size(type);
	for (k = 0; k < gy_max(2, o->nin); k++)
		kernels_fill((void *)c->in[k], o->max_len, type);
	for (s = 0; s < GY_ARRAY_SIZE(kernels_sets); s++) {
		c->set = gy_kernels_named(kernels_sets[s]);
		if (!c->set || (o->set && strcmp(o->set, kernels_sets[s])))
			continue;
		for (op = GYRE_SUM; op <= GYRE_MAX; op++) {
			if (o->op != GYRE_NOPS && o->op != op)
				continue;
			c->op = gyre_op_name(op);
			c->reduce = gy_kernel_reduce(c->set, type, op);
			kernels_measure(o, c);
		}
	}
}

static void kernels_copies(const struct kernels_opts *o, struct kernels_case *c)
{
	size_t s;

	c->run = kernels_run_stream;
	c->type = "-";
	c->op = "copy";
	c->elem_size = 1;
	kernels_fill((void *)c->in[0], o->max_len, GYRE_UINT8);
	kernels_fill((void *)c->in[1], o->max_len, GYRE_UINT8);
	for (s = 0; s < GY_ARRAY_SIZE(kernels_sets); s++) {
		c->set = gy_kernels_named(kernels_sets[s]);
		if (c->set && (!o->set || !strcmp(o->set, kernels_sets[s])))
			kernels_measure(o, c);
	}
}

/* As training calls them: one round under way at a time, every rank of weight 1. */
static void kernels_merges(const struct kernels_opts *o, struct kernels_case *c)
{
	static const struct {
		const char *name;
		enum gyre_type type, wire;
	} types[] = {
		{ "f32", GYRE_F32, GYRE_F32 },
		{ "f64", GYRE_F64, GYRE_F64 },
		{ "f32:bf", GYRE_F32, GYRE_BF16 },
		{ "f32:f16", GYRE_F32, GYRE_F16 },
	};
	size_t t, k;

	for (t = 0; t < GY_ARRAY_SIZE(types); t++) {
		if (o->type != GYRE_NTYPES && o->type != types[t].type)
			continue;
		for (k = 0; k < KERNELS_MERGE_VECTORS; k++)
			kernels_fill((void *)c->in[k], o->max_len,
				     k == 3 ? types[t].wire : types[t].type);
		c->type = types[t].name;
		c->elem = types[t].type;
		c->wire = types[t].wire;
		c->elem_size = gyre_type_size(c->elem);
		c->op = "post";
		c->run = kernels_run_post;
		kernels_measure(o, c);
		c->op = "apply";
		c->run = kernels_run_apply;
		kernels_measure(o, c);
	}
}

static int kernels_run_all(const struct kernels_opts *o)
{
	const unsigned nin = (unsigned)gy_max(o->merge ? KERNELS_MERGE_VECTORS : 2, o->nin);
	void *mem[GY_MAX_INPUTS + 1] = { NULL };
	struct kernels_case c = { .nin = o->nin };
	unsigned type, k;
	int err = 0;

	for (k = 0; k <= nin && !err; k++) {
		mem[k] = aligned_alloc(4096, gy_align_up(o->max_len + o->offset, 4096));
		if (!mem[k])
			err = -ENOMEM;
		else if (k < nin)
			c.in[k] = (char *)mem[k] + o->offset;
		else
			c.dst = (char *)mem[k] + o->offset;
	}
	if (!o->json && !err)
		printf("%-7s %-7s %-5s %2s %10s %12s %8s %8s %7s %7s\n", "set", "type", "op", "in",
		       "bytes", "ns", "GB/s", "Gelem/s", "/memcpy", "/plain");
	for (type = 0; type < GYRE_NTYPES && !err && !o->copy && !o->merge; type++)
		if (o->type == GYRE_NTYPES || o->type == type)
			kernels_type(o, type, &c);
	if (o->copy && !err)
		kernels_copies(o, &c);
	if (o->merge && !err)
		kernels_merges(o, &c);
	for (k = 0; k <= nin; k++)
		free(mem[k]);
	return err;
}

static void kernels_usage(FILE *f)
{
	fputs("usage: gyre-kernels [options]\n"
	      "  -k, --kernels SET   scalar, avx2, avx512 or neon (default: all that run here)\n"
	      "  -t, --type TYPE     int8 ... uint64, f16, bf16, f32, f64 (default: all)\n"
	      "  -o, --op OP         sum, prod, min, max (default: these), copy, or\n"
	      "                      merge: posts and applies of delayed collectives\n"
	      "  -n, --inputs N      2..16 (default 2)\n"
	      "  -m, --sizes MIN:MAX bytes of the result, in steps of 4 (default 16:64M)\n"
	      "  -a, --offset BYTES  of buffers in a page, 0..4095 (default 0; malloc: 16)\n"
	      "  -r, --rounds N      1..101 (default 5)\n"
	      "  -j, --json          one object per line\n"
	      "GB/s: bytes of results.  /memcpy, /plain: the time of those over the kernel's.\n",
	      f);
}

/* -1: unknown name. */
static int kernels_parse_type(const char *s, enum gyre_type *type)
{
	for (*type = 0; *type < GYRE_NTYPES; (*type)++)
		if (!strcmp(s, gyre_type_name(*type)))
			return 0;
	return -1;
}

static int kernels_parse_op(const char *s, enum gyre_op *op)
{
	for (*op = 0; *op <= GYRE_MAX; (*op)++)
		if (!strcmp(s, gyre_op_name(*op)))
			return 0;
	return -1;
}

static size_t kernels_parse_len(const char *s, char **end)
{
	size_t len = strtoull(s, end, 10);

	if (**end == 'K')
		len <<= 10;
	else if (**end == 'M')
		len <<= 20;
	else
		return len;
	(*end)++;
	return len;
}

static int kernels_parse_sizes(const char *s, struct kernels_opts *o)
{
	char *end;

	o->min_len = o->max_len = kernels_parse_len(s, &end);
	if (*end == ':')
		o->max_len = kernels_parse_len(end + 1, &end);
	return *end || o->min_len < 8 || o->max_len < o->min_len ? -1 : 0;
}

static int kernels_parse_number(const char *s, unsigned long min, unsigned long max,
				unsigned *value)
{
	char *end;
	const unsigned long v = strtoul(s, &end, 10);

	*value = (unsigned)v;
	return *end || v < min || v > max ? -1 : 0;
}

static int kernels_parse(int argc, char **argv, struct kernels_opts *o)
{
	static const struct option longs[] = {
		{ "kernels", required_argument, NULL, 'k' },
		{ "type", required_argument, NULL, 't' },
		{ "op", required_argument, NULL, 'o' },
		{ "inputs", required_argument, NULL, 'n' },
		{ "sizes", required_argument, NULL, 'm' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "offset", required_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int c, bad = 0;

	while (!bad && (c = getopt_long(argc, argv, "k:t:o:n:m:a:r:j", longs, NULL)) != -1) {
		switch (c) {
		case 'k':
			o->set = optarg;
			bad = gy_kernels_named(optarg) ? 0 : -1;
			break;
		case 't':
			bad = kernels_parse_type(optarg, &o->type);
			break;
		case 'o':
			o->copy = !strcmp(optarg, "copy");
			o->merge = !strcmp(optarg, "merge");
			bad = o->copy || o->merge ? 0 : kernels_parse_op(optarg, &o->op);
			break;
		case 'n':
			bad = kernels_parse_number(optarg, 2, GY_MAX_INPUTS, &o->nin);
			break;
		case 'm':
			bad = kernels_parse_sizes(optarg, o);
			break;
		case 'a':
			bad = kernels_parse_number(optarg, 0, 4095, &o->offset);
			break;
		case 'r':
			bad = kernels_parse_number(optarg, 1, KERNELS_MAX_ROUNDS, &o->rounds);
			break;
		case 'j':
			o->json = true;
			break;
		default:
			return -1;
		}
		if (bad)
			fprintf(stderr, "gyre-kernels: -%c %s: not known or not possible here\n", c,
				optarg);
	}
	return bad || optind < argc ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct kernels_opts o = {
		.type = GYRE_NTYPES,
		.op = GYRE_NOPS,
		.nin = 2,
		.rounds = 5,
		.min_len = 16,
		.max_len = 64u << 20,
	};
	int err;

	if (kernels_parse(argc, argv, &o)) {
		kernels_usage(stderr);
		return 2;
	}
	err = kernels_run_all(&o);
	if (err)
		fprintf(stderr, "gyre-kernels: %s\n", strerror(-err));
	return err ? 1 : 0;
}
