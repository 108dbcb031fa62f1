/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SHM_RING_H
#define SHM_RING_H
/*
 * One direction of a small lane: a ring of cache lines, one producer, one consumer.
 *
 * A record is a word, a header and a body, in consecutive lines.  A body of up to 8 bytes fits the
 * first line, so that such a message is one cache line that moves once; a longer one begins with
 * the second, so that loads and stores of vectors do not cross lines.
 *
 *	| word 8 | header 48 | body 8 |
 *	| word 8 | header 48 | -      || body 64 || ...
 *	word = sequence number << 32 | SHM_FULL | bytes of body; 0: nothing here yet
 *
 * Nothing else is shared on the fast path.  The consumer looks at the word of the next record;
 * before the producer publishes a record it clears the word behind it, where old bytes may lie.
 * How far the consumer has come is in `taken`; it says so once a quarter ring, and the producer
 * reads it when it has used up the room it knew of.  The ring is mapped twice, back to back, so
 * that a record never wraps.
 *
 * What the other process wrote is not trusted: lengths are checked, and read once.
 *
 * Ordering: word is released by the producer and acquired by the consumer: header and body are seen
 * whole.  taken is released by the consumer and acquired by the producer: lines are not overwritten
 * while they are read.  Both are also the `store` of a store-load pair with `sleep` (shm.h), hence
 * sequentially consistent stores.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "lib/transport.h"
#include "lib/util.h"

#define SHM_FULL (1u << 31)
#define SHM_BODY_INSIDE 8
#define SHM_NEXT ((uint64_t)1 << 32)	/* from the word of one record to that of the next */

struct shm_line {
	_Atomic uint64_t word;
	struct gy_hdr hdr;
	uint8_t body[SHM_BODY_INSIDE];
};

_Static_assert(sizeof(struct shm_line) == GY_CACHELINE, "a short message is one cache line");

/* First page of a ring's file; the ring follows. */
struct shm_ring {
	_Atomic uint32_t taken;		/* lines that the consumer is done with, modulo 2^32 */
};

/* Each end keeps its own position. */
struct shm_tx {
	struct shm_line *next, *end;
	uint64_t word;			/* of the next record, but for the length */
	uint32_t sent, limit;		/* lines written; how far before a look at taken */
	uint32_t lines;
	struct shm_ring *ring;
};

struct shm_rx {
	struct shm_line *next, *end;
	uint64_t word;
	uint32_t taken;			/* lines done with, as said in the ring */
	uint32_t since, quarter;	/* lines since then; when to say so */
	uint32_t lines;
	struct shm_ring *ring;
};

static inline uint32_t shm_record_lines(uint32_t len)
{
	return len <= SHM_BODY_INSIDE ? 1 : 1 + (len + GY_CACHELINE - 1) / GY_CACHELINE;
}

static inline void *shm_record_body(struct shm_line *line, uint32_t len)
{
	return len <= SHM_BODY_INSIDE ? line->body : (void *)(line + 1);
}

#define SHM_RECORD_MAX (1 + GY_BODY_LONG / GY_CACHELINE)

static inline void shm_tx_init(struct shm_tx *tx, struct shm_ring *ring, struct shm_line *base,
			       uint32_t lines)
{
	/* One line stays free for the cleared word behind the last record. */
	*tx = (struct shm_tx){ .next = base,
			       .end = base + lines,
			       .lines = lines,
			       .ring = ring,
			       .limit = lines - 1,
			       .word = SHM_FULL };
}

static inline void shm_rx_init(struct shm_rx *rx, struct shm_ring *ring, struct shm_line *base,
			       uint32_t lines)
{
	*rx = (struct shm_rx){
		.next = base, .end = base + lines, .lines = lines, .quarter = lines / 4,
		.ring = ring, .word = SHM_FULL,
	};
}

static inline bool shm_tx_fits(const struct shm_tx *tx, uint32_t n)
{
	return tx->limit - tx->sent >= n;
}

/* Looks how far the consumer has come.  -EPROTO: it cannot be there. */
static inline int shm_tx_look(struct shm_tx *tx)
{
	const uint32_t taken = atomic_load_explicit(&tx->ring->taken, memory_order_seq_cst);

	if (gy_unlikely(tx->sent - taken > tx->lines))
		return -EPROTO;
	tx->limit = taken + tx->lines - 1;
	return 0;
}

/* Until the next look nothing fits. */
static inline void shm_tx_shut(struct shm_tx *tx)
{
	tx->limit = tx->sent;
}

/* Writes and publishes a record, which must fit.  len: hdr->len; better where it is constant. */
static inline void shm_tx_put(struct shm_tx *tx, const struct gy_hdr *hdr, const void *body,
			      uint32_t len)
{
	const uint32_t n = shm_record_lines(len);
	struct shm_line *line = tx->next, *next = line + n;

	line->hdr = *hdr;
	if (len)
		memcpy(shm_record_body(line, len), body, len);
	if (next >= tx->end)
		next -= tx->lines;
	atomic_store_explicit(&next->word, 0, memory_order_relaxed);
	atomic_store_explicit(&line->word, tx->word + len, memory_order_seq_cst);
	tx->word += SHM_NEXT;
	tx->next = next;
	tx->sent += n;
}

/*
 * Takes the next record: 1, a copy of its header, and where its body lies until shm_rx_done.
 * 0: there is none.  -EPROTO: there is something that no producer of ours writes.
 */
static inline int shm_rx_get(struct shm_rx *rx, struct gy_hdr *hdr, const void **body)
{
	struct shm_line *line = rx->next;
	const uint64_t word = atomic_load_explicit(&line->word, memory_order_acquire);
	const uint64_t len = word - rx->word;
	uint32_t n;

	if (len > GY_BODY_LONG)
		return word ? -EPROTO : 0;
	*hdr = line->hdr;
	if (gy_unlikely(hdr->len != (uint32_t)len))
		return -EPROTO;
	*body = shm_record_body(line, (uint32_t)len);
	n = shm_record_lines((uint32_t)len);
	line += n;
	rx->next = line < rx->end ? line : line - rx->lines;
	rx->word += SHM_NEXT;
	rx->since += n;
	return 1;
}

/* Whether a look is worth while; for a rank that is about to sleep. */
static inline bool shm_rx_any(const struct shm_rx *rx)
{
	return atomic_load_explicit(&rx->next->word, memory_order_seq_cst) != 0;
}

/* The bodies so far have been used.  True: the producer has been told, and may wait for that. */
static inline bool shm_rx_done(struct shm_rx *rx)
{
	if (gy_likely(rx->since < rx->quarter))
		return false;
	rx->taken += rx->since;
	rx->since = 0;
	atomic_store_explicit(&rx->ring->taken, rx->taken, memory_order_seq_cst);
	return true;
}
#endif
