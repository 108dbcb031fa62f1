/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_SUITE_PRIV_H
#define GY_SUITE_PRIV_H
/* Parts of the suite: suite.c (drawing), suite_data.c, suite_coll.c, suite_p2p.c, suite_split.c. */
#include "tests/multi/suite.h"

#define SUITE_GUARD 64

struct suite_rng {
	uint64_t state;
};

uint64_t suite_next(struct suite_rng *rng);
uint64_t suite_below(struct suite_rng *rng, uint64_t n);
static inline bool suite_one_in(struct suite_rng *rng, uint64_t n)
{
	return suite_below(rng, n) == 0;
}

/* For what this rank does alone. */
struct suite_rng suite_own_rng(const struct suite_env *env, uint64_t seed);

/* -1, and why; the first failure is kept. */
int suite_fail(struct suite_env *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void suite_doing(struct suite_env *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A count that is likely to hurt, of elements of so many bytes. */
size_t suite_count(const struct suite_env *env, struct suite_rng *rng, size_t esize);

/* Waits until req is complete, by one of the ways there are. */
int suite_complete(struct suite_env *env, struct suite_rng *own, struct gyre_request **req,
		   struct gyre_status *status);

/* ---- suite_data.c ---- */

struct suite_values {
	uint64_t seed;
	enum gyre_type type;
	enum gyre_op op;
	int nranks;			/* whose inputs are reduced */
	bool arbitrary;			/* f32 sum of anything: only equality of ranks is known */
};

bool suite_is_float(enum gyre_type type);
/* Elements first .. first + n of rank's input. */
void suite_fill(const struct suite_values *v, int rank, void *buf, size_t first, size_t n);
/* Index of the first of n elements of buf that is not rank's input, or not the reduction; or n. */
size_t suite_differs(const struct suite_values *v, int rank, const void *buf, size_t first,
		     size_t n);
size_t suite_wrong(const struct suite_values *v, const void *buf, size_t first, size_t n);

/* Memory that suite_heap_free knows; NULL: none.  suite_free(NULL) is fine. */
void *suite_alloc(struct suite_env *env, size_t size);
void suite_free(struct suite_env *env, void *ptr);

/* A buffer with guard bytes on both sides, elements aligned but not more. */
struct suite_buf {
	void *base;
	size_t base_size;
	char *ptr;
	size_t size;
	bool mem;			/* of gyre_mem_alloc */
};

int suite_buf_alloc(struct suite_env *env, struct suite_rng *own, struct suite_buf *b, size_t size,
		    size_t esize, bool mem);
/* -1 when a guard byte has changed. */
int suite_buf_check(struct suite_env *env, const struct suite_buf *b, const char *what);
void suite_buf_free(struct suite_env *env, struct suite_buf *b);

/* ---- suite_coll.c ---- */

enum suite_form { SUITE_BLOCKING, SUITE_NONBLOCKING, SUITE_PERSISTENT };

enum suite_mem { SUITE_HEAP, SUITE_GYRE, SUITE_MIXED };

struct suite_coll {
	int coll;			/* as gyre/coll.h orders them */
	enum suite_form form;
	enum gyre_type type;
	enum gyre_op op;
	size_t count;
	int root;
	enum suite_mem mem;
	bool in_place, arbitrary;
	uint64_t salt;			/* of the data */
	struct gyre_comm *comm;
	int rank, nranks;		/* in comm */
	struct suite_buf in, out;
	struct gyre_request *req;
};

void suite_coll_draw(const struct suite_env *env, struct suite_rng *rng, struct suite_coll *c,
		     struct gyre_comm *comm);
void suite_coll_text(const struct suite_coll *c, char *buf, size_t len);
int suite_coll_open(struct suite_env *env, struct suite_coll *c, struct suite_rng *own);
/*
 * Fills the buffers for this start (the data depend on it) and starts; a blocking one is then
 * over.
 */
int suite_coll_start(struct suite_env *env, struct suite_coll *c, unsigned start);
int suite_coll_check(struct suite_env *env, struct suite_coll *c, unsigned start);
void suite_coll_close(struct suite_env *env, struct suite_coll *c);
/* All of that, so many times, and agree. */
int suite_coll_run(struct suite_env *env, struct suite_coll *c, struct suite_rng *own,
		   unsigned starts);
/* Ranks' results are equal, bit by bit. */
int suite_coll_agree(struct suite_env *env, struct suite_coll *c);

/* ---- cases ---- */
int suite_run_single(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_many(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_barrier(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_graph(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_ring(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_wrong(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_threads(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
int suite_run_split(struct suite_env *env, struct suite_rng *rng, uint64_t seed);
#endif
