/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite_coll.c - one collective: drawn, run in any form, checked to the last byte.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/multi/suite_priv.h"

enum coll_kind { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, BARRIER };

static const char *const coll_forms[] = { "blocking", "nonblocking", "persistent" };
static const char *const coll_mems[] = { "heap", "gyre", "mixed" };

void suite_coll_draw(const struct suite_env *env, struct suite_rng *rng, struct suite_coll *c,
		     struct gyre_comm *comm)
{
	size_t esize;

	*c = (struct suite_coll){ .comm = comm };
	c->rank = gyre_comm_rank(comm);
	c->nranks = gyre_comm_size(comm);
	c->coll = (int)suite_below(rng, 9);
	c->coll = c->coll < SUITE_NCOLLS ? c->coll : c->coll < 8 ? ALLREDUCE : BROADCAST;
	c->form = (enum suite_form)suite_below(rng, 3);
	c->type = (enum gyre_type)suite_below(rng, GYRE_NTYPES);
	c->op = (enum gyre_op)suite_below(rng, GYRE_NOPS);
	esize = gyre_type_size(c->type);
	c->count = suite_count(env, rng, esize);
	if (c->coll == REDUCE_SCATTER || c->coll == ALLGATHER)
		c->count /= suite_one_in(rng, 2) ? (size_t)c->nranks : 1;
	c->root = (int)suite_below(rng, (uint64_t)c->nranks);
	c->in_place = suite_one_in(rng, 3);
	c->mem = (enum suite_mem)suite_below(rng, 3);
	c->salt = suite_next(rng);
	c->arbitrary = suite_one_in(rng, 3) && c->coll == ALLREDUCE && c->type == GYRE_F32 &&
		       c->op == GYRE_SUM;
}

void suite_coll_text(const struct suite_coll *c, char *buf, size_t len)
{
	snprintf(buf, len, "%s %s of %zu %s %s%s root %d, %s memory%s, %d ranks",
		 coll_forms[c->form], suite_coll_name(c->coll), c->count, gyre_type_name(c->type),
		 gyre_op_name(c->op), c->in_place ? " in place" : "", c->root,
		 coll_mems[c->mem],
		 c->arbitrary ? ", any values" : "", c->nranks);
}

static struct suite_values coll_values(const struct suite_coll *c, unsigned start)
{
	return (struct suite_values){ .seed = c->salt + start,
				      .type = c->type,
				      .op = c->op,
				      .nranks = c->nranks,
				      .arbitrary = c->arbitrary };
}

/* Elements of the in and the out buffer. */
static size_t coll_in_count(const struct suite_coll *c)
{
	switch (c->coll) {
	case REDUCE_SCATTER:
		return c->count * (size_t)c->nranks;
	case BARRIER:
	case BROADCAST:
		return 0;
	default:
		return c->count;
	}
}

static size_t coll_out_count(const struct suite_coll *c)
{
	if (c->coll == BARRIER)
		return 0;
	if (c->coll == ALLGATHER || (c->coll == REDUCE_SCATTER && c->in_place))
		return c->count * (size_t)c->nranks;
	return c->count;
}

static int coll_init_request(struct suite_coll *c, const void *in)
{
	void *out = c->out.ptr;

	switch (c->coll) {
	case ALLREDUCE:
		return gyre_allreduce_init(in, out, c->count, c->type, c->op, c->comm, &c->req);
	case REDUCE_SCATTER:
		return gyre_reduce_scatter_init(in, out, c->count, c->type, c->op, c->comm,
						&c->req);
	case ALLGATHER:
		return gyre_allgather_init(in, out, c->count, c->type, c->comm, &c->req);
	case BROADCAST:
		return gyre_broadcast_init(out, c->count, c->type, c->root, c->comm, &c->req);
	default:
		return gyre_barrier_init(c->comm, &c->req);
	}
}

static int coll_start_nonblocking(struct suite_coll *c, const void *in)
{
	void *out = c->out.ptr;

	switch (c->coll) {
	case ALLREDUCE:
		return gyre_iallreduce(in, out, c->count, c->type, c->op, c->comm, &c->req);
	case REDUCE_SCATTER:
		return gyre_ireduce_scatter(in, out, c->count, c->type, c->op, c->comm, &c->req);
	case ALLGATHER:
		return gyre_iallgather(in, out, c->count, c->type, c->comm, &c->req);
	case BROADCAST:
		return gyre_ibroadcast(out, c->count, c->type, c->root, c->comm, &c->req);
	default:
		return gyre_ibarrier(c->comm, &c->req);
	}
}

static int coll_run_blocking(struct suite_coll *c, const void *in)
{
	void *out = c->out.ptr;

	switch (c->coll) {
	case ALLREDUCE:
		return gyre_allreduce(in, out, c->count, c->type, c->op, c->comm);
	case REDUCE_SCATTER:
		return gyre_reduce_scatter(in, out, c->count, c->type, c->op, c->comm);
	case ALLGATHER:
		return gyre_allgather(in, out, c->count, c->type, c->comm);
	case BROADCAST:
		return gyre_broadcast(out, c->count, c->type, c->root, c->comm);
	default:
		return gyre_barrier(c->comm);
	}
}

/* Of mixed memory each buffer of each rank may be either. */
static bool coll_in_gyre(const struct suite_coll *c, struct suite_rng *own)
{
	return c->mem == SUITE_MIXED ? suite_one_in(own, 2) : c->mem == SUITE_GYRE;
}

int suite_coll_open(struct suite_env *env, struct suite_coll *c, struct suite_rng *own)
{
	const size_t esize = gyre_type_size(c->type);
	const void *in;
	int err;

	if (suite_buf_alloc(env, own, &c->in, c->in_place ? 0 : coll_in_count(c) * esize, esize,
			    coll_in_gyre(c, own)) ||
	    suite_buf_alloc(env, own, &c->out, coll_out_count(c) * esize, esize,
			    coll_in_gyre(c, own)))
		return -1;
	in = c->in_place ? GYRE_IN_PLACE : c->in.ptr;
	err = c->form == SUITE_PERSISTENT ? coll_init_request(c, in) : 0;
	return err ? suite_fail(env, "making the request: %s", gyre_strerror(err)) : 0;
}

/* The input, where this call takes it from; the rest of out holds what must not be relied on. */
static void coll_fill(struct suite_coll *c, unsigned start)
{
	const struct suite_values v = coll_values(c, start);
	const size_t esize = gyre_type_size(c->type);

	if (c->out.size)
		memset(c->out.ptr, 0x5a, c->out.size);
	if (c->coll == BROADCAST && c->rank == c->root)
		suite_fill(&v, c->root, c->out.ptr, 0, c->count);
	else if (!c->in_place)
		suite_fill(&v, c->rank, c->in.ptr, 0, coll_in_count(c));
	else if (c->coll == ALLGATHER)
		suite_fill(&v, c->rank, c->out.ptr + (size_t)c->rank * c->count * esize, 0,
			   c->count);
	else
		suite_fill(&v, c->rank, c->out.ptr, 0, coll_in_count(c));
}

int suite_coll_start(struct suite_env *env, struct suite_coll *c, unsigned start)
{
	const void *in = c->in_place ? GYRE_IN_PLACE : c->in.ptr;
	int err;

	coll_fill(c, start);
	do {
		if (c->form == SUITE_BLOCKING)
			err = coll_run_blocking(c, in);
		else if (c->form == SUITE_NONBLOCKING)
			err = coll_start_nonblocking(c, in);
		else
			err = gyre_request_start(c->req);
		if (err == -EAGAIN)
			env->pass(env->arg, 0);
	} while (err == -EAGAIN);
	return err ? suite_fail(env, "starting %s: %s", suite_coll_name(c->coll),
				gyre_strerror(err))
		   : 0;
}

static int coll_wrong(struct suite_env *env, const struct suite_coll *c, const char *what, size_t i,
		      unsigned start)
{
	char text[200];

	suite_coll_text(c, text, sizeof(text));
	return suite_fail(env, "%s: %s: element %zu is wrong, start %u", text, what, i, start);
}

int suite_coll_check(struct suite_env *env, struct suite_coll *c, unsigned start)
{
	const struct suite_values v = coll_values(c, start);
	const size_t n = c->count, nin = c->in_place ? 0 : coll_in_count(c);
	const size_t esize = gyre_type_size(c->type);
	size_t bad = n;
	int r;

	if (suite_buf_check(env, &c->in, "in") || suite_buf_check(env, &c->out, "out"))
		return -1;
	if (suite_differs(&v, c->rank, c->in.ptr, 0, nin) != nin)
		return coll_wrong(env, c, "input", suite_differs(&v, c->rank, c->in.ptr, 0, nin),
				  start);
	switch (c->coll) {
	case ALLREDUCE:
		if (!c->arbitrary)
			bad = suite_wrong(&v, c->out.ptr, 0, n);
		break;
	case REDUCE_SCATTER:
		bad = suite_wrong(&v, c->out.ptr, (size_t)c->rank * n, n);
		break;
	case ALLGATHER:
		for (r = 0; r < c->nranks && bad == n; r++)
			bad = suite_differs(&v, r, c->out.ptr + (size_t)r * n * esize, 0, n);
		break;
	case BROADCAST:
		bad = suite_differs(&v, c->root, c->out.ptr, 0, n);
		break;
	default:
		return 0;
	}
	return bad == n ? 0 : coll_wrong(env, c, "output", bad, start);
}

void suite_coll_close(struct suite_env *env, struct suite_coll *c)
{
	if (c->form == SUITE_PERSISTENT)
		gyre_request_free(c->req);
	suite_buf_free(env, &c->in);
	suite_buf_free(env, &c->out);
}

int suite_coll_agree(struct suite_env *env, struct suite_coll *c)
{
	uint64_t own = 1, *all;
	size_t i;
	int r, err;

	if (c->coll != ALLREDUCE)
		return 0;
	for (i = 0; i < c->out.size; i++)
		own = (own ^ (uint8_t)c->out.ptr[i]) * UINT64_C(0x100000001b3);
	all = suite_alloc(env, (size_t)c->nranks * sizeof(*all));
	if (!all)
		return suite_fail(env, "no memory");
	err = gyre_allgather(&own, all, 1, GYRE_UINT64, c->comm);
	if (err)
		suite_fail(env, "gathering what others have: %s", gyre_strerror(err));
	for (r = 0; r < c->nranks && !err; r++) {
		if (all[r] != own)
			err = suite_fail(env, "result differs from that of rank %d", r);
	}
	if (!err)
		suite_free(env, all);
	return err ? -1 : 0;
}

/* ---- cases ---- */

int suite_coll_run(struct suite_env *env, struct suite_coll *c, struct suite_rng *own,
		   unsigned starts)
{
	unsigned start;
	int err;

	err = suite_coll_open(env, c, own);
	for (start = 0; start < starts && !err; start++) {
		err = suite_coll_start(env, c, start);
		if (!err && c->form != SUITE_BLOCKING) {
			if (suite_one_in(own, 3))
				env->pass(env->arg, 50);
			err = suite_complete(env, own, &c->req, NULL);
			if (err)
				suite_fail(env, "completing: %s", gyre_strerror(err));
		}
		if (!err)
			err = suite_coll_check(env, c, start);
	}
	if (!err)
		err = suite_coll_agree(env, c);
	if (!err)
		suite_coll_close(env, c);
	return err;
}

int suite_run_single(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct suite_rng own = suite_own_rng(env, seed);
	struct suite_coll c;
	char text[200];
	unsigned starts;

	suite_coll_draw(env, rng, &c, gyre_context_world(env->ctx));
	starts = c.form == SUITE_PERSISTENT || suite_one_in(rng, 2)
			 ? 1 + (unsigned)suite_below(rng, 4)
			 : 1;
	suite_coll_text(&c, text, sizeof(text));
	suite_doing(env, "%u x %s", starts, text);
	return suite_coll_run(env, &c, &own, starts);
}

int suite_collective(struct suite_env *env, uint64_t seed, int coll, enum gyre_type type,
		     enum gyre_op op, size_t count)
{
	struct suite_rng rng = { seed }, own = suite_own_rng(env, seed);
	struct suite_coll c;
	char text[200];

	suite_coll_draw(env, &rng, &c, gyre_context_world(env->ctx));
	c.coll = coll;
	c.type = type;
	c.op = op;
	c.count = count;
	c.arbitrary = false;
	suite_coll_text(&c, text, sizeof(text));
	suite_doing(env, "%s", text);
	return suite_coll_run(env, &c, &own, 1);
}

/* ---- several at once ---- */

#define SET_MAX 12

struct coll_set {
	struct suite_coll c[SET_MAX];
	bool running[SET_MAX];
	unsigned n, round;
};

static int set_start(struct suite_env *env, struct coll_set *set, unsigned i)
{
	struct suite_coll *c = &set->c[i];

	if (suite_coll_start(env, c, set->round))
		return -1;
	if (c->form == SUITE_BLOCKING)
		return suite_coll_check(env, c, set->round);
	set->running[i] = true;
	return 0;
}

static int set_finish(struct suite_env *env, struct coll_set *set, unsigned i,
		      struct suite_rng *own)
{
	int err;

	if (!set->running[i])
		return 0;
	err = suite_complete(env, own, &set->c[i].req, NULL);
	if (err)
		return suite_fail(env, "completing %s: %s", suite_coll_name(set->c[i].coll),
				  gyre_strerror(err));
	set->running[i] = false;
	return suite_coll_check(env, &set->c[i], set->round);
}

/* Starts in the order that all have, completes some early, and the rest, in its own. */
static int set_round(struct suite_env *env, struct coll_set *set, struct suite_rng *own)
{
	unsigned i, k;

	for (i = 0; i < set->n; i++) {
		if (set_start(env, set, i))
			return -1;
		if (suite_one_in(own, 4))
			env->pass(env->arg, 30);
		if (suite_one_in(own, 3) &&
		    set_finish(env, set, (unsigned)suite_below(own, set->n), own))
			return -1;
	}
	i = (unsigned)suite_below(own, set->n);
	for (k = 0; k < set->n; k++) {
		if (set_finish(env, set, (i + k) % set->n, own))
			return -1;
	}
	return 0;
}

int suite_run_many(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct suite_rng own = suite_own_rng(env, seed);
	const unsigned rounds = 1 + (unsigned)suite_below(rng, 3);
	struct coll_set set = { .n = 2 + (unsigned)suite_below(rng, SET_MAX - 1) };
	unsigned i;
	int err = 0;

	for (i = 0; i < set.n; i++)
		suite_coll_draw(env, rng, &set.c[i], gyre_context_world(env->ctx));
	for (i = 0; i < set.n && !err; i++)
		err = suite_coll_open(env, &set.c[i], &own);
	for (; set.round < rounds && !err; set.round++) {
		suite_doing(env, "%u collectives at once, round %u of %u", set.n, set.round,
			    rounds);
		err = set_round(env, &set, &own);
	}
	for (i = 0; i < set.n && !err; i++)	/* after an error some may still be written to */
		suite_coll_close(env, &set.c[i]);
	return err;
}
