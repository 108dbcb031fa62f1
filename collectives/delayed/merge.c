/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/merge.c - memory passes of delayed collectives: take a contribution, merge an
 * average.
 *
 * All steps on a block are done before the next one is touched.  Cost of long vectors is thus that
 * of memory: a post reads x and b and writes own and b, an apply reads red, anchor, b, x and the
 * contributions under way, and writes anchor, b and x.
 */
#include <string.h>
#include "collectives/delayed/merge.h"
#include "lib/util.h"

#define MERGE_BLOCK 1024	/* elements: seven times as many f32 fit the first-level cache */

#define MERGE_T float
#define MERGE(name) merge_f32_##name
#include "collectives/delayed/merge_loops.h"
#undef MERGE_T
#undef MERGE

#define MERGE_T double
#define MERGE(name) merge_f64_##name
#include "collectives/delayed/merge_loops.h"
#undef MERGE_T
#undef MERGE

#define MERGE_INLINE inline __attribute__((always_inline))

/* What the loops are compiled for twice.  Without its fused multiplication: equal bits. */
#if defined(__x86_64__)
#define MERGE_WIDE __attribute__((target("avx2")))

static bool merge_is_wide(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define MERGE_WIDE

static bool merge_is_wide(void)
{
	return false;
}
#endif

static MERGE_INLINE float merge_float(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static MERGE_INLINE uint32_t merge_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* No branch and no ?:, with which gcc leaves a loop scalar if one side could raise an exception. */
static MERGE_INLINE int32_t merge_select(int32_t cond, int32_t yes, int32_t no)
{
	return (-cond & yes) | ((cond - 1) & no);
}

/*
 * f16 and bf16, to nearest even; what is finite stays finite.  Like those in lib/kernels_scalar.c,
 * but all cases are computed and one is chosen, so that the loops are vectors.  Signed: 32-bit
 * comparisons are, in the oldest vector instructions.
 */
static MERGE_INLINE uint16_t merge_f16_narrow(float x)
{
	const int32_t bits = (int32_t)merge_bits(x), mag = bits & INT32_MAX;
	const int32_t half = 126 << 23;		/* 0.5: a sum with it ends at 2^-24 */
	const int32_t normal = (mag - (112 << 23) + 0xfff + (mag >> 13 & 1)) >> 13;
	const int32_t tiny = (int32_t)merge_bits(merge_float((uint32_t)mag) + 0.5f) - half;
	const int32_t large = merge_select(normal > 0x7bff, 0x7bff, normal);
	const int32_t finite = merge_select(mag < 113 << 23, tiny, large);
	const int32_t other = merge_select(mag > 0x7f800000, 0x7e00, 0x7c00);

	return (uint16_t)((bits >> 16 & 0x8000) | merge_select(mag < 0x7f800000, finite, other));
}

static MERGE_INLINE float merge_f16_widen(uint16_t h)
{
	const int32_t mag = (h & 0x7fff) << 13, normal = mag + (112 << 23);
	const float tiny = merge_float((uint32_t)mag + (113u << 23)) - 0x1p-14f;
	const int32_t finite = merge_select(mag < 0x0400 << 13, (int32_t)merge_bits(tiny), normal);
	const int32_t any = merge_select(mag < 0x7c00 << 13, finite, mag + (224 << 23));

	return merge_float((uint32_t)any | (uint32_t)(h & 0x8000) << 16);
}

static MERGE_INLINE uint16_t merge_bf16_narrow(float x)
{
	const int32_t bits = (int32_t)merge_bits(x), mag = bits & INT32_MAX;
	const int32_t near = (int32_t)(((uint32_t)mag + 0x7fff + (mag >> 16 & 1)) >> 16);
	const int32_t finite = merge_select(near > 0x7f7f, 0x7f7f, near);
	const int32_t other = merge_select(mag > 0x7f800000, 0x7fc0, 0x7f80);

	return (uint16_t)((bits >> 16 & 0x8000) | merge_select(mag < 0x7f800000, finite, other));
}

static MERGE_INLINE float merge_bf16_widen(uint16_t h)
{
	return merge_float((uint32_t)h << 16);
}

/* red = wire(scale own), and own what that says. */
static MERGE_INLINE void merge_send_f16(uint16_t *restrict red, float *restrict own, float scale,
					size_t m)
{
	size_t i;

	for (i = 0; i < m; i++) {
		red[i] = merge_f16_narrow(scale * own[i]);
		own[i] = merge_f16_widen(red[i]) / scale;
	}
}

static MERGE_INLINE void merge_send_bf16(uint16_t *restrict red, float *restrict own, float scale,
					 size_t m)
{
	size_t i;

	for (i = 0; i < m; i++) {
		red[i] = merge_bf16_narrow(scale * own[i]);
		own[i] = merge_bf16_widen(red[i]) / scale;
	}
}

static MERGE_INLINE void merge_divide_f16(float *restrict avg, const uint16_t *restrict red,
					  float divisor, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		avg[i] = merge_f16_widen(red[i]) / divisor;
}

static MERGE_INLINE void merge_divide_bf16(float *restrict avg, const uint16_t *restrict red,
					   float divisor, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		avg[i] = merge_bf16_widen(red[i]) / divisor;
}

/* Of one block of the narrow types, from at on. */
static MERGE_INLINE void merge_post_narrow(const struct gy_merge_post *p, size_t at, size_t m)
{
	const float *const x = merge_f32_from(p->x, at);
	float *const own = merge_f32_from(p->own, at), *const b = merge_f32_from(p->b, at);
	uint16_t *const red = (uint16_t *)p->red + at;

	if (p->x && p->b)
		merge_f32_sub(own, x, b, m);
	else if (p->x)
		memcpy(own, x, m * sizeof(*own));
	if (p->wire == GYRE_F16)
		merge_send_f16(red, own, (float)p->scale, m);
	else
		merge_send_bf16(red, own, (float)p->scale, m);
	if (p->b)
		merge_f32_add(b, own, m);
}

static MERGE_INLINE void merge_post_block(const struct gy_merge_post *p, size_t at, size_t m)
{
	if (p->wire != p->type)
		merge_post_narrow(p, at, m);
	else if (p->type == GYRE_F32)
		merge_f32_post(p, at, m);
	else
		merge_f64_post(p, at, m);
}

/* Nothing to send: what there is stays where it is. */
static void merge_abstain(const struct gy_merge_post *p)
{
	const size_t len = p->n * gyre_type_size(p->type);

	if (p->red)
		memset(p->red, 0, p->n * gyre_type_size(p->wire));
	if (p->b || !p->x)
		memset(p->own, 0, len);
	else
		memcpy(p->own, p->x, len);
}

static MERGE_INLINE void merge_post_blocks(const struct gy_merge_post *p)
{
	size_t at;

	for (at = 0; at + MERGE_BLOCK <= p->n; at += MERGE_BLOCK)
		merge_post_block(p, at, MERGE_BLOCK);
	merge_post_block(p, at, p->n - at);
}

static void merge_post_plain(const struct gy_merge_post *p)
{
	merge_post_blocks(p);
}

MERGE_WIDE static void merge_post_wide(const struct gy_merge_post *p)
{
	merge_post_blocks(p);
}

void gy_merge_post(const struct gy_merge_post *p)
{
	gy_assert(p->red || p->scale == 0 || (p->wire == p->type && p->scale == 1));
	if (p->scale == 0)
		merge_abstain(p);
	else if (merge_is_wide())
		merge_post_wide(p);
	else
		merge_post_plain(p);
}

static MERGE_INLINE void merge_progress_block(enum gyre_type type, void *own, const void *x,
					      const void *b, size_t at, size_t m)
{
	if (type == GYRE_F32)
		merge_f32_sub((float *)own + at, (const float *)x + at, (const float *)b + at, m);
	else
		merge_f64_sub((double *)own + at, (const double *)x + at, (const double *)b + at,
			      m);
}

void gy_merge_progress(enum gyre_type type, void *own, const void *x, const void *b, size_t n)
{
	size_t at;

	for (at = 0; at + MERGE_BLOCK <= n; at += MERGE_BLOCK)
		merge_progress_block(type, own, x, b, at, MERGE_BLOCK);
	merge_progress_block(type, own, x, b, at, n - at);
}

/* Into a block of its own: p->avg may be red, or own. */
static MERGE_INLINE void merge_avg_f32(const struct gy_merge_apply *p, float *restrict avg,
				       size_t at, size_t m)
{
	const float divisor = (float)(p->weight_sum / p->factor);

	if (p->weight_sum == 0)
		memset(avg, 0, m * sizeof(*avg));
	else if (p->wire == GYRE_F32)
		merge_f32_divide(avg, (const float *)p->red + at, divisor, m);
	else if (p->wire == GYRE_F16)
		merge_divide_f16(avg, (const uint16_t *)p->red + at, divisor, m);
	else
		merge_divide_bf16(avg, (const uint16_t *)p->red + at, divisor, m);
}

static MERGE_INLINE void merge_avg_f64(const struct gy_merge_apply *p, double *restrict avg,
				       size_t at, size_t m)
{
	if (p->weight_sum == 0)
		memset(avg, 0, m * sizeof(*avg));
	else
		merge_f64_divide(avg, (const double *)p->red + at, p->weight_sum / p->factor, m);
}

static MERGE_INLINE void merge_apply_f32(const struct gy_merge_apply *p, size_t at, size_t m)
{
	float avg[MERGE_BLOCK];

	if (p->red)
		merge_avg_f32(p, avg, at, m);
	if (p->merge != GYRE_MERGE_NONE)
		merge_f32_merge(p, p->red ? avg : NULL, at, m);
	if (p->avg)
		memcpy((float *)p->avg + at, avg, m * sizeof(*avg));
}

static MERGE_INLINE void merge_apply_f64(const struct gy_merge_apply *p, size_t at, size_t m)
{
	double avg[MERGE_BLOCK];

	if (p->red)
		merge_avg_f64(p, avg, at, m);
	if (p->merge != GYRE_MERGE_NONE)
		merge_f64_merge(p, p->red ? avg : NULL, at, m);
	if (p->avg)
		memcpy((double *)p->avg + at, avg, m * sizeof(*avg));
}

static MERGE_INLINE void merge_apply_block(const struct gy_merge_apply *p, size_t at, size_t m)
{
	if (p->type == GYRE_F32)
		merge_apply_f32(p, at, m);
	else
		merge_apply_f64(p, at, m);
}

static MERGE_INLINE void merge_apply_blocks(const struct gy_merge_apply *p)
{
	size_t at;

	for (at = 0; at + MERGE_BLOCK <= p->n; at += MERGE_BLOCK)
		merge_apply_block(p, at, MERGE_BLOCK);
	merge_apply_block(p, at, p->n - at);
}

static void merge_apply_plain(const struct gy_merge_apply *p)
{
	merge_apply_blocks(p);
}

MERGE_WIDE static void merge_apply_wide(const struct gy_merge_apply *p)
{
	merge_apply_blocks(p);
}

void gy_merge_apply(const struct gy_merge_apply *p)
{
	gy_assert(p->red || (p->anchor && !p->avg));
	gy_assert(p->anchor || p->outer_lr == 0);
	if (merge_is_wide())
		merge_apply_wide(p);
	else
		merge_apply_plain(p);
}

static MERGE_INLINE void merge_unpost_block(enum gyre_type type, void *b, const void *anchor,
					    const void *const *inflight, unsigned ninflight,
					    size_t at, size_t m)
{
	const size_t size = gyre_type_size(type);
	unsigned k;

	memcpy((char *)b + at * size, (const char *)anchor + at * size, m * size);
	for (k = 0; k < ninflight; k++) {
		if (type == GYRE_F32)
			merge_f32_add((float *)b + at, (const float *)inflight[k] + at, m);
		else
			merge_f64_add((double *)b + at, (const double *)inflight[k] + at, m);
	}
}

void gy_merge_unpost(enum gyre_type type, void *b, const void *anchor, const void *const *inflight,
		     unsigned ninflight, size_t n)
{
	size_t at;

	for (at = 0; at + MERGE_BLOCK <= n; at += MERGE_BLOCK)
		merge_unpost_block(type, b, anchor, inflight, ninflight, at, MERGE_BLOCK);
	merge_unpost_block(type, b, anchor, inflight, ninflight, at, n - at);
}

static MERGE_INLINE bool merge_finite_block(enum gyre_type type, const void *v, size_t at, size_t m)
{
	return type == GYRE_F32 ? merge_f32_finite((const float *)v + at, m)
				: merge_f64_finite((const double *)v + at, m);
}

bool gy_merge_finite(enum gyre_type type, const void *v, size_t n)
{
	size_t at;

	for (at = 0; at + MERGE_BLOCK <= n; at += MERGE_BLOCK)
		if (!merge_finite_block(type, v, at, MERGE_BLOCK))
			return false;
	return merge_finite_block(type, v, at, n - at);
}
