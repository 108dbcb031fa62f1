/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_DELAYED_SAVE_H
#define GY_DELAYED_SAVE_H
/*
 * What is written of a handle, and read again: words of 8 bytes, little-endian - magic, version,
 * their number, the bytes after them; what the handle is, field by field; where it is; the rounds
 * in flight - and then vectors as they are in memory: base, anchor, velocity or model, and for each
 * round in flight what this rank has contributed and, if it is done here, the sum.
 *
 * save.c takes it down and puts it back; save_format.c has what goes both ways.
 */
#include "collectives/delayed/delayed.h"

#define GY_SAVE_MAGIC UINT64_C(0x31796c6465727967)		/* "gyredly1" */
#define GY_SAVE_VERSION 3
#define GY_SAVE_PREFIX 4					/* words before all others */
#define GY_SAVE_FIELDS 32					/* at most */

/* Of a round in flight. */
enum {
	GY_SAVE_CONTRIBUTES = 1,
	GY_SAVE_IN_PLACE = 2,
	GY_SAVE_AVERAGED = 4,
	GY_SAVE_ABSTAINS = 8
};

struct gy_save_round {
	uint64_t flags, post_tick, apply_tick, taken_before, post_before;
	double weight, weights[2], sums[2];
};

/* The numbers of struct gyre_delayed, in its own words. */
struct gy_save_state {
	uint64_t tick, posted, done, applied, last_post, taken, next, last_apply, delay, period;
	uint64_t model_round, switched, nsets, nchanges;
	double weight;
	struct gy_delayed_change changes[GY_DELAYED_CHANGES];
	struct gyre_delayed_stats stats;
	struct gy_save_round *rounds;	/* applied + 1 .. posted; room for the handle's nrounds */
};

/* One way or the other; neither: counts. */
struct gy_save_io {
	int (*write)(void *arg, const void *buf, size_t len);
	int (*read)(void *arg, void *buf, size_t len);
	void *arg;
	uint64_t bytes;
};

/* Words on their way, likewise: taken down (loading false) or put back. */
struct gy_save_words {
	uint64_t *word;
	size_t n, max;
	bool loading;
};

int gy_save_bytes(struct gy_save_io *io, void *buf, size_t len);
uint64_t gy_save_order(uint64_t word);	/* to and from little-endian */
/* All words after the prefix.  -EPROTO: they do not fit this handle. */
int gy_save_all_words(struct gy_save_words *w, const struct gyre_delayed *d,
		      struct gy_save_state *s);
int gy_save_vectors(const struct gyre_delayed *d, const struct gy_save_state *s,
		    struct gy_save_io *io);
#endif
