/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/merge_loops.h - the loops of merge.c over vectors of one type.  It includes
 * this once for each, after it has defined
 *
 *	MERGE_T		the type
 *	MERGE(name)	the name of a function for it
 *
 * Their length m is a constant, MERGE_BLOCK, but at a vector's end: compilers then use vector
 * instructions at -O2 too.
 */

#define MERGE_LOOP inline __attribute__((always_inline)) void

static inline __attribute__((always_inline)) MERGE_T *MERGE(from)(const void *v, size_t at)
{
	return v ? (MERGE_T *)v + at : NULL;
}

static MERGE_LOOP MERGE(sub)(MERGE_T *restrict own, const MERGE_T *restrict x,
			     const MERGE_T *restrict b, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		own[i] = x[i] - b[i];
}

static MERGE_LOOP MERGE(add)(MERGE_T *restrict b, const MERGE_T *restrict own, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		b[i] += own[i];
}

/* sub, and b = x, in one pass. */
static MERGE_LOOP MERGE(take)(MERGE_T *restrict own, MERGE_T *restrict b,
			      const MERGE_T *restrict x, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++) {
		own[i] = x[i] - b[i];
		b[i] = x[i];
	}
}

static MERGE_LOOP MERGE(scale)(MERGE_T *restrict red, const MERGE_T *restrict own, MERGE_T scale,
			       size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		red[i] = scale * own[i];
}

static MERGE_LOOP MERGE(divide)(MERGE_T *restrict avg, const MERGE_T *restrict red,
				MERGE_T divisor, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		avg[i] = red[i] / divisor;
}

/* How the anchor moves, by g = -avg. */
static MERGE_LOOP MERGE(outer)(MERGE_T *restrict anchor, MERGE_T *restrict velocity,
			       const MERGE_T *restrict avg, MERGE_T lr, MERGE_T momentum, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++) {
		velocity[i] = momentum * velocity[i] - avg[i];
		anchor[i] -= lr * velocity[i];
	}
}

static MERGE_LOOP MERGE(outer_nesterov)(MERGE_T *restrict anchor, MERGE_T *restrict velocity,
					const MERGE_T *restrict avg, MERGE_T lr, MERGE_T momentum,
					size_t m)
{
	size_t i;

	for (i = 0; i < m; i++) {
		velocity[i] = momentum * velocity[i] - avg[i];
		anchor[i] -= lr * (momentum * velocity[i] - avg[i]);
	}
}

/* x comes to base, with the progress that it has made since was. */
static MERGE_LOOP MERGE(diff)(MERGE_T *restrict x, const MERGE_T *restrict base,
			      const MERGE_T *restrict was, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		x[i] = base[i] + (x[i] - was[i]);
}

static MERGE_LOOP MERGE(interpolate)(MERGE_T *restrict x, const MERGE_T *restrict base,
				     MERGE_T alpha, MERGE_T rest, size_t m)
{
	size_t i;

	for (i = 0; i < m; i++)
		x[i] = rest * base[i] + alpha * x[i];
}

/* v - v is 0, or NaN where v is NaN or infinity, which stays one in the sum. */
static inline __attribute__((always_inline)) bool MERGE(finite)(const MERGE_T *v, size_t m)
{
	MERGE_T sum[8] = { 0 };
	size_t i, k;

	for (i = 0; i + 8 <= m; i += 8)
		for (k = 0; k < 8; k++)
			sum[k] += v[i + k] - v[i + k];
	for (; i < m; i++)
		sum[0] += v[i] - v[i];
	for (k = 1; k < 8; k++)
		sum[0] += sum[k];
	return sum[0] == 0;
}

/* One block of gy_merge_post where wire is the type. */
static MERGE_LOOP MERGE(post)(const struct gy_merge_post *p, size_t at, size_t m)
{
	const MERGE_T *const x = MERGE(from)(p->x, at);
	MERGE_T *const own = MERGE(from)(p->own, at), *const b = MERGE(from)(p->b, at);

	if (p->x && p->b)
		MERGE(take)(own, b, x, m);
	else if (p->x)
		memcpy(own, x, m * sizeof(*own));
	else if (p->b)
		MERGE(add)(b, own, m);
	if (p->red)
		MERGE(scale)(MERGE(from)(p->red, at), own, (MERGE_T)p->scale, m);
}

/* The model that x comes to: the anchor where it moves to, and what is under way. */
static inline __attribute__((always_inline)) const MERGE_T *
MERGE(target)(const struct gy_merge_apply *p, const MERGE_T *avg, MERGE_T *tmp, size_t at, size_t m)
{
	MERGE_T *const anchor = MERGE(from)(p->anchor, at);
	MERGE_T *const velocity = MERGE(from)(p->velocity, at);
	const MERGE_T lr = (MERGE_T)p->outer_lr, momentum = (MERGE_T)p->outer_momentum;
	unsigned k;

	if (avg && p->outer_lr == 0)
		MERGE(add)(anchor, avg, m);
	else if (avg && p->outer_nesterov)
		MERGE(outer_nesterov)(anchor, velocity, avg, lr, momentum, m);
	else if (avg)
		MERGE(outer)(anchor, velocity, avg, lr, momentum, m);
	if (!p->ninflight)
		return anchor;
	memcpy(tmp, anchor, m * sizeof(*tmp));
	for (k = 0; k < p->ninflight; k++)
		MERGE(add)(tmp, MERGE(from)(p->inflight[k], at), m);
	return tmp;
}

/* One block of gy_merge_apply from avg on, which is NULL when the anchor has moved. */
static MERGE_LOOP MERGE(merge)(const struct gy_merge_apply *p, const MERGE_T *avg, size_t at,
			       size_t m)
{
	MERGE_T tmp[MERGE_BLOCK];
	MERGE_T *const x = MERGE(from)(p->x, at), *const b = MERGE(from)(p->b, at);
	const MERGE_T *const own = MERGE(from)(p->own, at);
	const MERGE_T *const base = p->anchor ? MERGE(target)(p, avg, tmp, at, m) : avg;

	if (p->merge == GYRE_MERGE_ADD_DIFF)
		MERGE(diff)(x, base, p->anchor ? b : own, m);
	else if (p->merge == GYRE_MERGE_OVERWRITE)
		memcpy(x, base, m * sizeof(*x));
	else
		MERGE(interpolate)(x, base, (MERGE_T)p->alpha, (MERGE_T)(1 - p->alpha), m);
	if (p->anchor)
		memcpy(b, base, m * sizeof(*b));
}
