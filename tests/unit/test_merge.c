/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_merge.c - memory passes of delayed collectives against a plain reference, bit by bit: every
 * combination of what they are asked for, odd lengths and offsets; narrow types against arithmetic
 * on exact numbers; the algebra: nothing that is not sent is lost.  GY_TEST_SEED repeats a run.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "collectives/delayed/merge.h"
#include "lib/util.h"

#define MAX_N 2100		/* two blocks and a rest */
#define GUARD 8			/* elements around a vector that must stay as they are */
#define MAX_INFLIGHT 3

static const size_t merge_lengths[] = { 1, 7, 1023, 1024, 2050 };

/* What there is of each case. */
enum merge_vector { X, B, OWN, RED, AVG, ANCHOR, VELOCITY, FLIGHT0, FLIGHT1, FLIGHT2, NVECTORS };

static const struct {
	enum gyre_type type, wire;
} merge_types[] = {
	{ GYRE_F32, GYRE_F32 },
	{ GYRE_F64, GYRE_F64 },
	{ GYRE_F32, GYRE_BF16 },
	{ GYRE_F32, GYRE_F16 },
};

/* All vectors twice: what the library works on, and what the reference says, as numbers. */
struct merge_case {
	enum gyre_type type, wire;
	size_t n, offset;
	double is[NVECTORS][MAX_N + 2 * GUARD];		/* memory of any type */
	double should[NVECTORS][MAX_N];
};

static uint64_t merge_random_state;
static struct merge_case merge_the_case;

/* splitmix64 */
static uint64_t merge_random(void)
{
	uint64_t x = merge_random_state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Of either sign and some orders of magnitude; now and then 0. */
static double merge_number(void)
{
	const uint64_t r = merge_random();
	const double mantissa = (double)(int32_t)r, scale = (double)(r >> 32 & 15);

	return r >> 60 ? ldexp(mantissa, -31 - (int)scale) : 0;
}

static enum gyre_type merge_type_of(const struct merge_case *c, int v)
{
	return v == RED ? c->wire : c->type;
}

static void *merge_at(struct merge_case *c, int v)
{
	return (char *)c->is[v] + (GUARD + c->offset) * gyre_type_size(merge_type_of(c, v));
}

/* A number from its fields: bits of fraction, the least exponent. */
static double merge_widen(uint16_t h, int fraction, int least)
{
	const int exponent = (h & 0x7fff) >> fraction, mantissa = h & ((1 << fraction) - 1);
	const double sign = h & 0x8000 ? -1 : 1;

	if (exponent == 0x7fff >> fraction)
		return mantissa ? NAN : sign * INFINITY;
	if (!exponent)
		return sign * ldexp(mantissa, least - fraction);
	return sign * ldexp(mantissa + (1 << fraction), least - fraction + exponent - 1);
}

/* The number of the wire that is nearest to x; not beyond the largest. */
static double merge_round(double x, enum gyre_type wire)
{
	const int fraction = wire == GYRE_F16 ? 10 : 7, least = wire == GYRE_F16 ? -14 : -126;
	const double largest = wire == GYRE_F16 ? 65504 : 0x1.fep127;
	double unit;

	if (wire == GYRE_F32 || wire == GYRE_F64 || x == 0 || !isfinite(x))
		return wire == GYRE_F32 ? (float)x : x;
	unit = ldexp(1, (ilogb(x) < least ? least : ilogb(x)) - fraction);
	x = nearbyint(x / unit) * unit;
	return fabs(x) > largest ? copysign(largest, x) : x;
}

static double merge_get(struct merge_case *c, int v, size_t i)
{
	const void *p = merge_at(c, v);

	switch (merge_type_of(c, v)) {
	case GYRE_F64:
		return ((const double *)p)[i];
	case GYRE_F32:
		return ((const float *)p)[i];
	case GYRE_F16:
		return merge_widen(((const uint16_t *)p)[i], 10, -14);
	default:
		return merge_widen(((const uint16_t *)p)[i], 7, -126);
	}
}

/* x in the type of all but the wire, in which each step of the reference rounds. */
static double merge_in(const struct merge_case *c, double x)
{
	return c->type == GYRE_F32 ? (float)x : x;
}

static double merge_sum(struct merge_case *c, int v, int w, size_t i)
{
	return merge_in(c, c->should[v][i] + c->should[w][i]);
}

static void merge_set(struct merge_case *c, int v, size_t i, double x)
{
	void *const p = merge_at(c, v);

	if (merge_type_of(c, v) == GYRE_F64)
		((double *)p)[i] = x;
	else if (merge_type_of(c, v) == GYRE_F32)
		((float *)p)[i] = (float)x;
	else if (c->wire == GYRE_F16)	/* any bits will do, if they are no NaN */
		((uint16_t *)p)[i] = (uint16_t)(merge_random() % 0x7c00);
	else
		((uint16_t *)p)[i] = (uint16_t)(0x3000 + merge_random() % 0x1000);
	c->should[v][i] = merge_get(c, v, i);
}

/* Fresh numbers everywhere. */
static void merge_fill(struct merge_case *c)
{
	size_t i;
	int v;

	memset(c->is, 0x5a, sizeof(c->is));
	for (v = 0; v < NVECTORS; v++)
		for (i = 0; i < c->n; i++)
			merge_set(c, v, i, merge_number());
}

/* Values of all vectors, and the memory around them. */
static void merge_check(struct merge_case *c)
{
	const char *p;
	size_t i, k, size;
	double is;
	int v;

	for (v = 0; v < NVECTORS; v++) {
		for (i = 0; i < c->n; i++) {
			is = merge_get(c, v, i);
			if (is != c->should[v][i])
				fail_msg("%s/%s n %zu vector %d [%zu]: %a, not %a",
					 gyre_type_name(c->type), gyre_type_name(c->wire), c->n, v,
					 i, is, c->should[v][i]);
		}
		size = gyre_type_size(merge_type_of(c, v));
		p = merge_at(c, v);
		for (k = 1; k <= size; k++)
			if (p[-(ptrdiff_t)k] != 0x5a || p[c->n * size + k - 1] != 0x5a)
				fail_msg("vector %d: written outside", v);
	}
}

static void merge_post_should(struct merge_case *c, const struct gy_merge_post *p)
{
	double *const own = c->should[OWN], *const b = c->should[B], *const red = c->should[RED];
	const double scale = merge_in(c, p->scale);
	size_t i;

	for (i = 0; i < c->n; i++) {
		if (p->scale == 0) {
			own[i] = p->x && !p->b ? c->should[X][i] : 0;
			if (p->red)
				red[i] = 0;
			continue;
		}
		if (p->x)
			own[i] = p->b ? merge_in(c, c->should[X][i] - b[i]) : c->should[X][i];
		if (p->red)
			red[i] = merge_round(merge_in(c, scale * own[i]), c->wire);
		if (c->wire != c->type)
			own[i] = merge_in(c, red[i] / scale);
		if (p->b && p->x && c->wire == c->type)
			b[i] = c->should[X][i];
		else if (p->b)
			b[i] = merge_in(c, b[i] + own[i]);
	}
}

static void merge_post_once(struct merge_case *c, int with_x, int with_b, int with_red,
			    double scale)
{
	const struct gy_merge_post p = {
		.n = c->n,
		.type = c->type,
		.wire = c->wire,
		.x = with_x ? merge_at(c, X) : NULL,
		.b = with_b ? merge_at(c, B) : NULL,
		.own = merge_at(c, OWN),
		.red = with_red ? merge_at(c, RED) : NULL,
		.scale = scale,
	};

	if (!with_red && (c->wire != c->type || (scale != 0 && scale != 1)))
		return;
	merge_fill(c);
	merge_post_should(c, &p);
	gy_merge_post(&p);
	merge_check(c);
}

/* The next combination of type, length and offset, from 0 on; false: there is none. */
static bool merge_shape(struct merge_case *c, unsigned k)
{
	const unsigned lengths = GY_ARRAY_SIZE(merge_lengths), types = GY_ARRAY_SIZE(merge_types);

	c->n = merge_lengths[k % lengths];
	c->type = merge_types[k / lengths % types].type;
	c->wire = merge_types[k / lengths % types].wire;
	c->offset = merge_random() % 4;
	return k < lengths * types;
}

static void test_post(void **state)
{
	static const double scales[] = { 1, 0, 0.5, 3, 0.3 };
	struct merge_case *const c = &merge_the_case;
	unsigned k, s, with;

	for (k = 0; merge_shape(c, k); k++)
		for (s = 0; s < GY_ARRAY_SIZE(scales); s++)
			for (with = 0; with < 8; with++)
				merge_post_once(c, with & 1, with & 2, with & 4, scales[s]);
}

static void test_progress(void **state)
{
	struct merge_case *const c = &merge_the_case;
	unsigned k;
	size_t i;

	for (k = 0; merge_shape(c, k); k++) {
		merge_fill(c);
		gy_merge_progress(c->type, merge_at(c, OWN), merge_at(c, X), merge_at(c, B), c->n);
		for (i = 0; i < c->n; i++)
			c->should[OWN][i] = merge_in(c, c->should[X][i] - c->should[B][i]);
		merge_check(c);
	}
}

static double merge_avg_should(struct merge_case *c, const struct gy_merge_apply *p, size_t i)
{
	if (p->weight_sum == 0)
		return 0;
	return merge_in(c, c->should[RED][i] / merge_in(c, p->weight_sum / p->factor));
}

static void merge_anchor_should(struct merge_case *c, const struct gy_merge_apply *p, size_t i,
				double avg)
{
	double *const a = &c->should[ANCHOR][i], *const v = &c->should[VELOCITY][i], step;
	const double lr = merge_in(c, p->outer_lr), momentum = merge_in(c, p->outer_momentum);

	if (p->outer_lr == 0) {
		*a = merge_in(c, *a + avg);
		return;
	}
	*v = merge_in(c, merge_in(c, momentum * *v) - avg);
	step = p->outer_nesterov ? merge_in(c, merge_in(c, momentum * *v) - avg) : *v;
	*a = merge_in(c, *a - merge_in(c, lr * step));
}

static void merge_apply_should(struct merge_case *c, const struct gy_merge_apply *p)
{
	double *const x = c->should[X], *const b = c->should[B];
	double avg = 0, base, was;
	size_t i;
	unsigned k;

	for (i = 0; i < c->n; i++) {
		if (p->red)
			avg = merge_avg_should(c, p, i);
		if (p->avg)
			c->should[p->avg == p->red ? RED : AVG][i] = avg;
		if (p->merge == GYRE_MERGE_NONE)
			continue;
		if (p->red && p->anchor)
			merge_anchor_should(c, p, i, avg);
		base = p->anchor ? c->should[ANCHOR][i] : avg;
		for (k = 0; p->anchor && k < p->ninflight; k++)
			base = merge_in(c, base + c->should[FLIGHT0 + k][i]);
		was = p->anchor ? b[i] : c->should[OWN][i];
		if (p->merge == GYRE_MERGE_ADD_DIFF)
			x[i] = merge_in(c, base + merge_in(c, x[i] - was));
		else if (p->merge == GYRE_MERGE_OVERWRITE)
			x[i] = base;
		else
			x[i] = merge_in(c, merge_in(c, merge_in(c, 1 - p->alpha) * base) +
						   merge_in(c, merge_in(c, p->alpha) * x[i]));
		if (p->anchor)
			b[i] = base;
	}
}

/* How avg is asked for: not, of its own, in place of red, not there (the anchor has moved). */
enum merge_ask { ASK_NOT, ASK_AVG, ASK_RED, MOVED, NASKS };

static void merge_apply_once(struct merge_case *c, struct gy_merge_apply *p, enum merge_ask ask,
			     bool model)
{
	const void *const inflight[] = { merge_at(c, FLIGHT0), merge_at(c, FLIGHT1),
					 merge_at(c, FLIGHT2) };

	if ((ask == ASK_RED && c->wire != c->type) ||
	    (model && (ask == MOVED || p->outer_lr != 0 || p->ninflight)))
		return;
	p->n = c->n;
	p->type = c->type;
	p->wire = c->wire;
	p->red = ask == MOVED ? NULL : merge_at(c, RED);
	p->avg = ask == ASK_AVG ? merge_at(c, AVG) : ask == ASK_RED ? merge_at(c, RED) : NULL;
	p->anchor = model ? NULL : merge_at(c, ANCHOR);
	p->b = model ? NULL : merge_at(c, B);
	p->own = model ? merge_at(c, OWN) : NULL;
	p->velocity = p->outer_lr != 0 ? merge_at(c, VELOCITY) : NULL;
	p->inflight = inflight;
	p->x = merge_at(c, X);
	merge_fill(c);
	merge_apply_should(c, p);
	gy_merge_apply(p);
	merge_check(c);
}

/* Every merge rule and outer optimizer, with each number of rounds under way. */
static void merge_apply_all(struct merge_case *c, double weight_sum, double factor)
{
	struct gy_merge_apply p = { .weight_sum = weight_sum, .factor = factor, .alpha = 0.3 };
	unsigned how, ask;

	for (how = 0; how < 4 * 3 * 4 * 2; how++) {
		p.merge = how % 4;
		p.outer_lr = how / 4 % 3 ? 0.7 : 0;
		p.outer_momentum = 0.9;
		p.outer_nesterov = how / 4 % 3 == 2;
		p.ninflight = how / 12 % 4;
		for (ask = 0; ask < NASKS; ask++)
			merge_apply_once(c, &p, ask, how / 48);
	}
}

static void test_apply(void **state)
{
	struct merge_case *const c = &merge_the_case;
	unsigned k;

	for (k = 0; merge_shape(c, k); k++) {
		merge_apply_all(c, 3, 1);
		if (c->n == 7) {
			merge_apply_all(c, 0, 1);
			merge_apply_all(c, 4, 2.5);
		}
	}
}

static void test_unpost(void **state)
{
	struct merge_case *const c = &merge_the_case;
	const void *inflight[MAX_INFLIGHT];
	unsigned shape, n, k;
	size_t i;

	for (shape = 0; merge_shape(c, shape); shape++) {
		for (n = 0; n <= MAX_INFLIGHT; n++) {
			merge_fill(c);
			for (k = 0; k < n; k++)
				inflight[k] = merge_at(c, FLIGHT0 + (int)k);
			gy_merge_unpost(c->type, merge_at(c, B), merge_at(c, ANCHOR), inflight, n,
					c->n);
			for (i = 0; i < c->n; i++) {
				c->should[B][i] = c->should[ANCHOR][i];
				for (k = 0; k < n; k++)
					c->should[B][i] = merge_sum(c, B, FLIGHT0 + (int)k, i);
			}
			merge_check(c);
		}
	}
}

/* One number through a post with wire, as red and as own. */
static uint16_t merge_send(float x, enum gyre_type wire, double scale, float *own)
{
	uint16_t red;
	const struct gy_merge_post p = {
		.n = 1, .type = GYRE_F32, .wire = wire, .x = &x, .own = own, .red = &red,
		.scale = scale,
	};

	gy_merge_post(&p);
	return red;
}

/* Every number of a narrow type is sent as it is; and back. */
static void test_narrow_all(void **state)
{
	static const enum gyre_type wires[] = { GYRE_F16, GYRE_BF16 };
	struct gy_merge_apply p = { .n = 1,
				    .type = GYRE_F32,
				    .weight_sum = 1,
				    .factor = 1,
				    .merge = GYRE_MERGE_NONE };
	uint16_t bits;
	float own, avg;
	unsigned w, h;
	double x;

	for (w = 0; w < 2; w++) {
		for (h = 0; h < 0x10000; h++) {
			bits = (uint16_t)h;
			p.wire = wires[w];
			p.red = &bits;
			p.avg = &avg;
			gy_merge_apply(&p);
			x = merge_widen(bits, w ? 7 : 10, w ? -126 : -14);
			assert_true(isnan(x) ? isnan(avg) : avg == x);
			if (isnan(x)) {
				merge_send(avg, wires[w], 1, &own);
				assert_true(isnan(own));
				continue;
			}
			assert_int_equal(merge_send(avg, wires[w], 1, &own), h);
			assert_true(own == avg && signbit(own) == signbit(avg));
		}
	}
}

/* Any f32: to the nearest, ties to even, the finite to the finite. */
static void test_narrow_nearest(void **state)
{
	static const float fixed[] = {
		65504,	      65519.99f,   65520,     65536,	 1e6f,	       3.4e38f, 0x1p-24f,
		0x1p-25f,     0x1.8p-25f,  0x1p-26f,  0x1p-14f,	 0x1.ffcp-15f,
		0x1.ffep-15f, 2049,	   2051,      0x1.01p0f, 0x1.03p0f,
		0x1.ffp127f,  0x1.fep127f, 0x1p-133f, 0x1p-134f, 1e-45f
	};
	float x, own;
	uint32_t bits;
	unsigned k, w;

	for (k = 0; k < 200000; k++) {
		bits = (uint32_t)merge_random();
		memcpy(&x, &bits, sizeof(x));
		if (k < 2 * GY_ARRAY_SIZE(fixed))
			x = k % 2 ? -fixed[k / 2] : fixed[k / 2];
		for (w = 0; w < 2; w++) {
			merge_send(x, w ? GYRE_BF16 : GYRE_F16, 1, &own);
			if (isnan(x))
				assert_true(isnan(own));
			else if (own != (float)merge_round(x, w ? GYRE_BF16 : GYRE_F16))
				fail_msg("%a as %s: %a", x, w ? "bf16" : "f16", own);
		}
	}
}

/* What a rank has sent and what it keeps is all that it had: dyadic numbers, so exactly. */
static void test_residual(void **state)
{
	struct merge_case *const c = &merge_the_case;
	double progress[MAX_N];
	size_t i;
	unsigned k, scale;

	for (k = 0; merge_shape(c, k); k++) {
		for (scale = 1; scale <= 4; scale *= 2) {
			const struct gy_merge_post p = {
				.n = c->n, .type = c->type, .wire = c->wire, .x = merge_at(c, X),
				.b = merge_at(c, B), .own = merge_at(c, OWN),
				.red = merge_at(c, RED), .scale = scale,
			};

			merge_fill(c);
			for (i = 0; i < c->n; i++) {
				merge_set(c, X, i, ldexp((double)(merge_random() % 65536), -16));
				merge_set(c, B, i, ldexp((double)(merge_random() % 65536), -16));
				progress[i] = c->should[X][i] - c->should[B][i];
			}
			gy_merge_post(&p);
			for (i = 0; i < c->n; i++) {
				assert_true(merge_get(c, OWN, i) * scale == merge_get(c, RED, i));
				assert_true(merge_get(c, X, i) - merge_get(c, B, i) +
						    merge_get(c, OWN, i) ==
					    progress[i]);
			}
		}
	}
}

static void test_finite(void **state)
{
	struct merge_case *const c = &merge_the_case;
	static const double wrong[] = { NAN, -NAN, INFINITY, -INFINITY };
	unsigned k;
	size_t i;

	for (k = 0; merge_shape(c, k); k++) {
		merge_fill(c);
		merge_set(c, X, c->n / 2, c->type == GYRE_F32 ? 3.4e38 : 1.7e308);
		merge_set(c, X, c->n / 3, c->type == GYRE_F32 ? -3.4e38 : -1.7e308);
		assert_true(gy_merge_finite(c->type, merge_at(c, X), c->n));
		for (i = 0; i < c->n; i++) {
			merge_set(c, X, i, wrong[i % 4]);
			assert_false(gy_merge_finite(c->type, merge_at(c, X), c->n));
			merge_set(c, X, i, 1);
		}
		assert_true(gy_merge_finite(c->type, merge_at(c, X), c->n));
	}
	assert_true(gy_merge_finite(GYRE_F32, &k, 0));
}

#define STEPS 24
#define RANKS 3

/* One rank of test_trajectory. */
struct merge_rank {
	double x, b, anchor, own[STEPS + 1];
};

/* Rounds that are posted at tick n and not merged: their contributions, oldest first. */
static unsigned merge_under_way(struct merge_rank *r, const void **inflight, int posted,
				int applied)
{
	unsigned n = 0;

	while (++applied <= posted)
		inflight[n++] = &r->own[applied];
	return n;
}

static void merge_trajectory_tick(struct merge_rank *r, int n, int p, int d, double *sums)
{
	const void *inflight[STEPS];
	struct gy_merge_apply a = {
		.n = 1, .type = GYRE_F64, .wire = GYRE_F64, .merge = GYRE_MERGE_ADD_DIFF,
		.weight_sum = RANKS, .factor = 1, .anchor = &r->anchor, .b = &r->b, .x = &r->x,
		.inflight = inflight,
	};
	struct gy_merge_post post = { .n = 1,
				      .type = GYRE_F64,
				      .wire = GYRE_F64,
				      .x = &r->x,
				      .b = &r->b,
				      .scale = 1 };

	if (n % p == 0 && d == 0) {
		post.own = &r->own[n / p];
		gy_merge_post(&post);
		sums[n / p] += r->own[n / p];
		return;			/* merged when all have posted */
	}
	if (n > d && (n - d) % p == 0) {
		a.red = &sums[(n - d) / p];
		a.ninflight = merge_under_way(r, inflight, (n - 1) / p, (n - d) / p);
		gy_merge_apply(&a);
	}
	if (n % p == 0) {
		post.own = &r->own[n / p];
		gy_merge_post(&post);
		sums[n / p] += r->own[n / p];
	}
}

/* d = 0: the second half of the tick. */
static void merge_trajectory_now(struct merge_rank *r, double *sum)
{
	const struct gy_merge_apply a = {
		.n = 1, .type = GYRE_F64, .wire = GYRE_F64, .merge = GYRE_MERGE_ADD_DIFF,
		.weight_sum = RANKS, .factor = 1, .anchor = &r->anchor, .b = &r->b, .x = &r->x,
		.red = sum,
	};

	gy_merge_apply(&a);
}

/*
 * Constant updates u_j: x_j(n) = x0 + p K mean(u) + (n - p K) u_j, K rounds being merged by tick n,
 * for every period and delay, delays beyond the period too.
 */
static void test_trajectory(void **state)
{
	static const double u[RANKS] = { 0.75, -1.5, 3 };	/* mean 0.75 */
	struct merge_rank ranks[RANKS];
	double sums[STEPS + 1];
	int p, d, n, j, k;

	for (p = 1; p <= 6; p++) {
		for (d = 0; d <= 9; d++) {
			memset(sums, 0, sizeof(sums));
			for (j = 0; j < RANKS; j++)
				ranks[j] = (struct merge_rank){ .x = 8, .b = 8, .anchor = 8 };
			for (n = 1; n <= STEPS; n++) {
				for (j = 0; j < RANKS; j++) {
					ranks[j].x += u[j];
					merge_trajectory_tick(&ranks[j], n, p, d, sums);
				}
				k = n > d ? (n - d) / p : 0;
				for (j = 0; j < RANKS; j++) {
					if (d == 0 && n % p == 0)
						merge_trajectory_now(&ranks[j], &sums[n / p]);
					assert_true(ranks[j].x ==
						    8 + p * k * 0.75 + (n - p * k) * u[j]);
					assert_true(ranks[j].anchor == ranks[0].anchor);
				}
			}
		}
	}
}

/* How far a rank is from the mean of all, with models merged as delta == false says; in updates. */
static double merge_distance(int p, int d, int steps, bool delta)
{
	static const double u[2] = { 1, -1 }; /* the mean is 0, and x the distance */
	double own[2][STEPS + 1], x[2] = { 0, 0 }, taken[2] = { 0, 0 }, avg;
	int n, j, k;

	for (n = 1; n <= steps; n++) {
		for (j = 0; j < 2; j++)
			x[j] += u[j];
		k = (n - d) / p;
		avg = n > d && (n - d) % p == 0 ? (own[0][k] + own[1][k]) / 2 : 0;
		for (j = 0; j < 2; j++) {
			if (n > d && (n - d) % p == 0)
				assert_int_equal(gyre_merge_add_diff(&x[j], &avg, &own[j][k], 1,
								     GYRE_F64),
						 0);
			if (n % p)
				continue;
			own[j][n / p] = delta ? n * u[j] - taken[j] : x[j];
			taken[j] = n * u[j];
		}
	}
	assert_true(x[0] == -x[1]); /* whatever is merged, the sum stays */
	return x[0];
}

/*
 * Why MODEL with delay > period is refused: a snapshot that is taken while a round is under way has
 * what that round corrects, too, and so it is corrected twice.  Of progress each step counts once.
 */
static void test_model_twice(void **state)
{
	int p, d, steps;

	for (p = 1; p <= 4; p++) {
		for (d = 1; d <= 2 * p; d++) {
			/* two rounds are merged: only the last d steps are this rank's own */
			steps = 2 * p + d;
			assert_true(merge_distance(p, d, steps, true) == d);
			assert_true(merge_distance(p, d, steps, false) == (d > p ? d - p : d));
		}
	}
	/* and on with it, models part for good */
	for (steps = 4; steps <= STEPS; steps++)
		assert_true(merge_distance(1, 3, steps, true) == 3);
	assert_true(fabs(merge_distance(1, 3, STEPS, false)) > 2 * 3);
}

static void test_add_diff(void **state)
{
	float x[3] = { 1, 2, 3 }, avg[3] = { 10, 20, 30 }, own[3] = { 1, 1, 2 };
	double y = 1, yavg = 4, yown = 0.5;

	assert_int_equal(gyre_merge_add_diff(x, avg, own, 3, GYRE_F32), 0);
	assert_true(x[0] == 10 && x[1] == 21 && x[2] == 31);
	assert_int_equal(gyre_merge_add_diff(&y, &yavg, &yown, 1, GYRE_F64), 0);
	assert_true(y == 4.5);
	assert_int_equal(gyre_merge_add_diff(x, avg, own, 3, GYRE_F16), -EINVAL);
	assert_int_equal(gyre_merge_add_diff(x, avg, own, 3, GYRE_INT32), -EINVAL);
}

/* Heavy ball that gets the gradient g + e at step n, or g, and e's gains after step n + delay. */
static void test_momentum_gain(void **state)
{
	static const double betas[] = { 0, 0.5, 0.875, 1 };
	const double lr = 0.25, e = 3;
	double gv, gx, v, x, v2, x2;
	unsigned b, d, n;

	for (b = 0; b < GY_ARRAY_SIZE(betas); b++) {
		for (d = 0; d < 6; d++) {
			v = x = v2 = x2 = 0;
			for (n = 0; n <= d; n++) {
				v = betas[b] * v + 1 + (n ? 0 : e);
				x -= lr * v;
				v2 = betas[b] * v2 + 1;
				x2 -= lr * v2;
			}
			assert_int_equal(gyre_momentum_gain(betas[b], d, &gv, &gx), 0);
			assert_true(fabs(v2 + gv * e - v) < 1e-12);
			assert_true(fabs(x2 - lr * gx * e - x) < 1e-12);
		}
	}
	assert_int_equal(gyre_momentum_gain(-0.1, 1, &gv, &gx), -EINVAL);
	assert_int_equal(gyre_momentum_gain(1.1, 1, &gv, &gx), -EINVAL);
	assert_int_equal(gyre_momentum_gain(NAN, 1, &gv, &gx), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_post),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_apply),
		cmocka_unit_test(test_unpost),
		cmocka_unit_test(test_narrow_all),
		cmocka_unit_test(test_narrow_nearest),
		cmocka_unit_test(test_residual),
		cmocka_unit_test(test_finite),
		cmocka_unit_test(test_trajectory),
		cmocka_unit_test(test_model_twice),
		cmocka_unit_test(test_add_diff),
		cmocka_unit_test(test_momentum_gain),
	};
	const char *seed = getenv("GY_TEST_SEED");

	merge_random_state = seed ? strtoull(seed, NULL, 0) : 1;
	printf("GY_TEST_SEED=%#llx\n", (unsigned long long)merge_random_state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
