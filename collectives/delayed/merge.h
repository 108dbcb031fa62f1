/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_MERGE_H
#define GY_MERGE_H
/*
 * What delayed collectives do to memory: taking a contribution, and merging an average.
 *
 * Each goes over all of its vectors at once, in blocks that stay in the first-level cache, so that
 * memory is read once and written once.  Nothing is reassociated or contracted, so that ranks on
 * different machines compute equal bits.  Vectors are aligned to their elements; they do not
 * overlap, except where it says so.  No state, no allocation; MT-Safe.
 *
 * type is GYRE_F32 or GYRE_F64; wire is type, or with GYRE_F32 also GYRE_BF16 or GYRE_F16.
 */
#include <stdbool.h>
#include <stddef.h>
#include <gyre/delayed.h>

struct gy_merge_post {
	size_t n;
	enum gyre_type type, wire;
	const void *x;		/* NULL: own is there already: gy_merge_progress, and a filter */
	void *b;		/* base; NULL: x itself is contributed (MODEL, RAW) */
	void *own;		/* of type: what is contributed, as the others will see it */
	void *red;		/* of wire: scale own; NULL (wire == type, scale 1): own is used */
	double scale;		/* 0: abstains */
};

/*
 *	own = x - b;  red = wire(scale own);  b = x
 *
 * b is x to the bit, so that x comes to the anchor to the bit when nothing is done meanwhile.  With
 * a narrow wire own is then what was really sent, red / scale, and b += own, so that what rounding
 * left out stays in x - b; so it is with a filter (no x here).  What is finite is sent finite: as
 * the largest number of the wire at most.
 * scale 0: red = 0, own = 0 and b stays; without b, own = x.
 */
void gy_merge_post(const struct gy_merge_post *p);

/* own = x - b, for a filter to work on. */
void gy_merge_progress(enum gyre_type type, void *own, const void *x, const void *b, size_t n);

struct gy_merge_apply {
	size_t n;
	enum gyre_type type, wire;
	enum gyre_merge merge;	/* NONE: only avg is wanted */
	const void *red;	/* of wire: the sum; NULL: anchor has moved already */
	double weight_sum;	/* avg = red / (weight_sum / factor); 0: avg = 0 */
	double factor;		/* 1, or what contributions were divided by, on average */
	void *avg;		/* takes avg; may be own, red if wire == type; NULL: nobody asks */
	void *anchor;		/* NULL: MODEL, where the model to come to is avg itself */
	void *b;		/* with anchor */
	const void *own;	/* without: this rank's contribution to red */
	/*
	 * Contributions that stay under way, oldest first, b' = anchor + their sum.  None with
	 * OVERWRITE, when x is to be the anchor itself.
	 */
	const void *const *inflight;
	unsigned ninflight;
	void *x;
	double alpha;		/* INTERPOLATE */
	double outer_lr, outer_momentum;	/* as in struct gyre_delayed_attr */
	bool outer_nesterov;
	void *velocity;		/* outer_lr != 0 */
};

/*
 *	anchor += avg, or by outer_lr;  b' = anchor + inflight;
 *	ADD_DIFF x = b' + (x - b);  OVERWRITE x = b';  INTERPOLATE x = (1 - alpha) b' + alpha x;
 *	b = b'
 *
 * Without anchor: b' = avg, and own in place of b, which is not written.
 */
void gy_merge_apply(const struct gy_merge_apply *p);

/* b = anchor + inflight: takes back the contributions that are not among these. */
void gy_merge_unpost(enum gyre_type type, void *b, const void *anchor, const void *const *inflight,
		     unsigned ninflight, size_t n);

/* Neither NaN nor infinity among n of f32 or f64. */
bool gy_merge_finite(enum gyre_type type, const void *v, size_t n);

#endif
