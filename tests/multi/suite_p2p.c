/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite_p2p.c - messages between ranks: random graphs, rings, and receives that do not fit.
 *
 * A graph is a list of messages that all ranks know.  A rank handles its part of the list either by
 * posting all receives and then sending in order, blocking or not, or by starting all sends and
 * then receiving in order: the first message of the list that is not complete can always go on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/multi/suite_priv.h"

#define GRAPH_MAX 40

struct message {
	int src, dst, tag;
	size_t count;
	bool checked;			/* at the receiver */
};

/* How the receives of a rank name what they take. */
enum match { MATCH_EXACT, MATCH_ANY_SOURCE, MATCH_ANY_TAG, MATCH_ANY, MATCHES };

struct graph {
	struct message m[GRAPH_MAX];
	unsigned n;
	enum gyre_type type;
	uint64_t salt;
	bool post_first;		/* this rank: receives first */
	enum match match;		/* this rank */
	bool mem;
};

/* What this rank does with message i: sends it, or receives some message in its place. */
struct part {
	struct gyre_request *send, *recv;
	struct suite_buf out, in;
	struct gyre_status status;
	bool posted;
};

static struct suite_values graph_values(const struct graph *g, unsigned i)
{
	return (struct suite_values){
		.seed = g->salt + i, .type = g->type, .op = GYRE_MIN, .nranks = 1
	};
}

static void graph_draw(struct suite_env *env, struct suite_rng *rng, struct graph *g)
{
	const uint64_t n = (uint64_t)env->nranks;
	const bool few_tags = suite_one_in(rng, 2);
	unsigned i;
	int r;

	g->n = 1 + (unsigned)suite_below(rng, GRAPH_MAX);
	g->type = (enum gyre_type)suite_below(rng, GYRE_NTYPES);
	g->salt = suite_next(rng);
	g->mem = suite_one_in(rng, 3);
	for (i = 0; i < g->n; i++) {
		g->m[i] = (struct message){
			.src = (int)suite_below(rng, n),
			.dst = (int)suite_below(rng, n),
			.tag = few_tags ? (int)suite_below(rng, 2) : (int)suite_below(rng, 1000000),
			.count = suite_count(env, rng, gyre_type_size(g->type)),
		};
	}
	for (r = 0; r < env->nranks; r++) {	/* all ranks' choices, so that all draw the same */
		const bool post_first = suite_one_in(rng, 2);
		const enum match match = (enum match)suite_below(rng, MATCHES);

		if (r == env->rank) {
			g->post_first = post_first;
			g->match = match;
		}
	}
}

/* Elements that the receive in place of message i must have room for. */
static size_t graph_room(const struct suite_env *env, const struct graph *g, unsigned i)
{
	size_t room = g->m[i].count;
	unsigned k;

	if (g->match == MATCH_EXACT)
		return room + g->m[i].count % 3;
	for (k = 0; k < g->n; k++) {
		if (g->m[k].dst == env->rank && g->m[k].count > room)
			room = g->m[k].count;
	}
	return room;
}

static int graph_recv_source(const struct graph *g, unsigned i)
{
	return g->match == MATCH_ANY || g->match == MATCH_ANY_SOURCE ? GYRE_ANY_SOURCE
								     : g->m[i].src;
}

static int graph_recv_tag(const struct graph *g, unsigned i)
{
	return g->match == MATCH_ANY || g->match == MATCH_ANY_TAG ? GYRE_ANY_TAG : g->m[i].tag;
}

/* Which message the receive in place of i took: the first not yet taken that it could have. */
static int graph_taken(const struct suite_env *env, const struct graph *g, unsigned i,
		       const struct gyre_status *st)
{
	const int source = graph_recv_source(g, i), tag = graph_recv_tag(g, i);
	unsigned k;

	if ((source != GYRE_ANY_SOURCE && st->source != source) ||
	    (tag != GYRE_ANY_TAG && st->tag != tag))
		return -1;
	for (k = 0; k < g->n; k++) {
		const struct message *m = &g->m[k];

		if (m->dst == env->rank && !m->checked && m->src == st->source &&
		    (tag == GYRE_ANY_TAG || m->tag == tag))
			return m->tag == st->tag ? (int)k : -1;
	}
	return -1;
}

static int graph_check(struct suite_env *env, struct graph *g, unsigned i, struct part *p)
{
	const int k = graph_taken(env, g, i, &p->status);
	struct suite_values v;
	size_t bad;

	if (k < 0)
		return suite_fail(env,
				  "receive %u (from %d, tag %d) took a message from %d, tag %d", i,
				  graph_recv_source(g, i), graph_recv_tag(g, i), p->status.source,
				  p->status.tag);
	g->m[k].checked = true;
	if (p->status.count != g->m[k].count)
		return suite_fail(env, "message %d from %d: %zu elements came instead of %zu", k,
				  p->status.source, p->status.count, g->m[k].count);
	v = graph_values(g, (unsigned)k);
	bad = suite_differs(&v, 0, p->in.ptr, 0, g->m[k].count);
	if (bad != g->m[k].count)
		return suite_fail(env, "message %d from %d, tag %d: element %zu of %zu is wrong", k,
				  p->status.source, p->status.tag, bad, g->m[k].count);
	return suite_buf_check(env, &p->in, "received");
}

static int graph_open(struct suite_env *env, struct graph *g, struct part *p, struct suite_rng *own)
{
	const size_t esize = gyre_type_size(g->type);
	struct suite_values v;
	unsigned i;

	for (i = 0; i < g->n; i++) {
		p[i] = (struct part){ .send = NULL };
		if (g->m[i].src == env->rank) {
			if (suite_buf_alloc(env, own, &p[i].out, g->m[i].count * esize, esize,
					    g->mem))
				return -1;
			v = graph_values(g, i);
			suite_fill(&v, 0, p[i].out.ptr, 0, g->m[i].count);
		}
		if (g->m[i].dst == env->rank &&
		    suite_buf_alloc(env, own, &p[i].in, graph_room(env, g, i) * esize, esize,
				    g->mem))
			return -1;
	}
	return 0;
}

static int graph_send(struct suite_env *env, struct graph *g, struct part *p, unsigned i,
		      bool block)
{
	struct gyre_comm *comm = gyre_context_world(env->ctx);
	const struct message *m = &g->m[i];
	int err;

	if (m->src != env->rank)
		return 0;
	do {
		err = block ? gyre_send(p[i].out.ptr, m->count, g->type, m->dst, m->tag, comm)
			    : gyre_isend(p[i].out.ptr, m->count, g->type, m->dst, m->tag, comm,
					 &p[i].send);
		if (err == -EAGAIN)
			env->pass(env->arg, 0);
	} while (err == -EAGAIN);
	return err ? suite_fail(env, "sending message %u: %s", i, gyre_strerror(err)) : 0;
}

static int graph_recv(struct suite_env *env, struct graph *g, struct part *p, unsigned i,
		      bool block)
{
	struct gyre_comm *comm = gyre_context_world(env->ctx);
	const int source = graph_recv_source(g, i), tag = graph_recv_tag(g, i);
	size_t room;
	int err;

	if (g->m[i].dst != env->rank)
		return 0;
	room = p[i].in.size / gyre_type_size(g->type);
	do {
		err = block ? gyre_recv(p[i].in.ptr, room, g->type, source, tag, comm, &p[i].status)
			    : gyre_irecv(p[i].in.ptr, room, g->type, source, tag, comm, &p[i].recv);
		if (err == -EAGAIN)
			env->pass(env->arg, 0);
	} while (err == -EAGAIN);
	p[i].posted = !block;
	return err ? suite_fail(env, "receiving message %u: %s", i, gyre_strerror(err)) : 0;
}

/* Completes this rank's requests in a random order, then checks receives in the order posted. */
static int graph_finish(struct suite_env *env, struct graph *g, struct part *p,
			struct suite_rng *own)
{
	const unsigned first = (unsigned)suite_below(own, g->n);
	unsigned i, k;
	int err = 0;

	for (k = 0; k < g->n && !err; k++) {
		i = (first + k) % g->n;
		if (p[i].send)
			err = suite_complete(env, own, &p[i].send, NULL);
		if (!err && p[i].posted)
			err = suite_complete(env, own, &p[i].recv, &p[i].status);
		if (err)
			return suite_fail(env, "completing message %u: %s", i, gyre_strerror(err));
	}
	for (i = 0; i < g->n; i++) {
		struct suite_values v = graph_values(g, i);

		if (g->m[i].dst == env->rank && graph_check(env, g, i, &p[i]))
			return -1;
		if (g->m[i].src == env->rank &&
		    suite_differs(&v, 0, p[i].out.ptr, 0, g->m[i].count) != g->m[i].count)
			return suite_fail(env, "what was sent as message %u has changed", i);
	}
	return 0;
}

static int graph_run(struct suite_env *env, struct graph *g, struct part *p, struct suite_rng *own)
{
	const bool block = suite_one_in(own, 2);
	unsigned i;

	for (i = 0; i < g->n; i++) {
		if (g->post_first ? graph_recv(env, g, p, i, false)
				  : graph_send(env, g, p, i, false))
			return -1;
	}
	if (suite_one_in(own, 2))
		env->pass(env->arg, 100);
	for (i = 0; i < g->n; i++) {
		/*
		 * A wildcard that blocks may take what a later one waits for: only exact ones may.
		 */
		if (g->post_first ? graph_send(env, g, p, i, block)
				  : graph_recv(env, g, p, i, block && g->match == MATCH_EXACT))
			return -1;
		if (suite_one_in(own, 8))
			env->pass(env->arg, 30);
	}
	return graph_finish(env, g, p, own);
}

int suite_run_graph(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct suite_rng own = suite_own_rng(env, seed);
	struct part *p = suite_alloc(env, GRAPH_MAX * sizeof(*p));
	struct graph g;
	unsigned i;
	int err;

	if (!p)
		return suite_fail(env, "no memory");
	graph_draw(env, rng, &g);
	suite_doing(env, "%u messages of %s, receives %s, match %d", g.n, gyre_type_name(g.type),
		    g.post_first ? "first" : "last", (int)g.match);
	err = graph_open(env, &g, p, &own);
	if (!err)
		err = graph_run(env, &g, p, &own);
	/* Wildcards must not take messages of the next case. */
	if (!err && gyre_barrier(gyre_context_world(env->ctx)))
		err = suite_fail(env, "barrier after messages failed");
	for (i = 0; i < g.n && !err; i++) {
		suite_buf_free(env, &p[i].in);
		suite_buf_free(env, &p[i].out);
	}
	if (!err)
		suite_free(env, p);
	return err;
}

/* ---- rings ---- */

struct ring {
	struct suite_values v;
	size_t n;
	bool persistent;
	unsigned starts;
	struct suite_buf in, out;
	struct gyre_request *req[2];
};

/* One exchange: to the rank `by` above, from the one `by` below. */
static int ring_exchange(struct suite_env *env, struct ring *g, int by, struct gyre_status *st)
{
	struct gyre_comm *comm = gyre_context_world(env->ctx);
	const int to = (env->rank + by) % env->nranks;
	const int from = (env->rank - by + env->nranks) % env->nranks;
	struct gyre_status both[2];
	int err;

	if (!g->persistent)
		return gyre_sendrecv(g->out.ptr, g->n, g->v.type, to, by, g->in.ptr, g->n,
				     g->v.type, from, by, comm, st);
	err = gyre_request_start(g->req[0]);
	if (!err)
		err = gyre_request_start(g->req[1]);
	if (!err)
		err = gyre_request_waitall(2, g->req, both);
	*st = both[0];
	return err;
}

static int ring_shift(struct suite_env *env, struct ring *g, int by, uint64_t seed)
{
	struct gyre_comm *comm = gyre_context_world(env->ctx);
	const int to = (env->rank + by) % env->nranks;
	const int from = (env->rank - by + env->nranks) % env->nranks;
	struct gyre_status st;
	unsigned start;
	int err = 0;

	if (g->persistent) {
		err = gyre_recv_init(g->in.ptr, g->n, g->v.type, from, by, comm, &g->req[0]);
		if (!err)
			err = gyre_send_init(g->out.ptr, g->n, g->v.type, to, by, comm, &g->req[1]);
	}
	for (start = 0; start < g->starts && !err; start++) {
		g->v.seed = seed + (uint64_t)by * 16 + start;
		suite_fill(&g->v, env->rank, g->out.ptr, 0, g->n);
		err = ring_exchange(env, g, by, &st);
		if (!err && (st.source != from || st.count != g->n ||
			     suite_differs(&g->v, from, g->in.ptr, 0, g->n) != g->n))
			return suite_fail(env,
					  "shift by %d: wrong, from %d came %zu of %zu elements",
					  by, st.source, st.count, g->n);
	}
	gyre_request_free(g->req[0]);
	gyre_request_free(g->req[1]);
	g->req[0] = g->req[1] = NULL;
	if (err)
		return suite_fail(env, "shift by %d: %s", by, gyre_strerror(err));
	return suite_buf_check(env, &g->in, "received") || suite_buf_check(env, &g->out, "sent")
		       ? -1
		       : 0;
}

/* Shifts by every distance, with sendrecv or persistent requests, started several times. */
int suite_run_ring(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct suite_rng own = suite_own_rng(env, seed);
	struct ring g = { .v = { .op = GYRE_MAX, .nranks = 1 } };
	size_t esize;
	bool mem;
	int by;

	g.v.type = (enum gyre_type)suite_below(rng, GYRE_NTYPES);
	esize = gyre_type_size(g.v.type);
	g.n = suite_count(env, rng, esize);
	g.persistent = suite_one_in(rng, 2);
	mem = suite_one_in(rng, 2);
	g.starts = 1 + (unsigned)suite_below(rng, 3);
	suite_doing(env, "%s ring of %zu %s, %u times", g.persistent ? "persistent" : "sendrecv",
		    g.n, gyre_type_name(g.v.type), g.starts);
	if (suite_buf_alloc(env, &own, &g.in, g.n * esize, esize, mem) ||
	    suite_buf_alloc(env, &own, &g.out, g.n * esize, esize, mem))
		return -1;
	for (by = 0; by < env->nranks; by++) {
		if (ring_shift(env, &g, by, seed))
			return -1;
	}
	suite_buf_free(env, &g.in);
	suite_buf_free(env, &g.out);
	return 0;
}

/* ---- receives that do not fit ---- */

/*
 * Too long or of another type: the receive says so, and nothing else suffers, nor when the
 * communicator is destroyed at once.
 */
int suite_run_wrong(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	struct gyre_comm *world = gyre_context_world(env->ctx), *part = NULL, *comm;
	struct suite_rng own = suite_own_rng(env, seed);
	const size_t n = 1 + suite_count(env, rng, 4), room = suite_below(rng, n);
	const bool other_type = suite_one_in(rng, 2);
	const bool own_comm = suite_one_in(rng, 2) && !env->no_split;
	const int to = (env->rank + 1) % env->nranks;
	const int from = (env->rank + env->nranks - 1) % env->nranks;
	struct suite_values v = { .seed = seed, .type = GYRE_INT32, .op = GYRE_SUM, .nranks = 1 };
	struct gyre_request *req[2];
	struct suite_buf in, out;
	int err, wanted = other_type ? -EPROTO : -EMSGSIZE;

	suite_doing(env, "receive that does not fit: %zu elements, %s", n,
		    other_type ? "other type" : "too long");
	if (suite_buf_alloc(env, &own, &in, (other_type ? n : room) * 4, 4, false) ||
	    suite_buf_alloc(env, &own, &out, n * 4, 4, false))
		return -1;
	suite_fill(&v, env->rank, out.ptr, 0, n);
	err = own_comm ? gyre_comm_split(world, 0, env->rank, &part) : 0;
	if (err)
		return suite_fail(env, "split: %s", gyre_strerror(err));
	comm = own_comm ? part : world;
	err = gyre_irecv(in.ptr, other_type ? n : room, other_type ? GYRE_F32 : GYRE_INT32, from, 7,
			 comm, &req[0]);
	if (err)
		return suite_fail(env, "irecv: %s", gyre_strerror(err));
	err = gyre_isend(out.ptr, n, GYRE_INT32, to, 7, comm, &req[1]);
	if (err)
		return suite_fail(env, "isend: %s", gyre_strerror(err));
	err = suite_complete(env, &own, &req[0], NULL);
	if (err != wanted)
		return suite_fail(env, "the receive says \"%s\", not \"%s\"", gyre_strerror(err),
				  gyre_strerror(wanted));
	err = suite_complete(env, &own, &req[1], NULL);
	if (err)
		return suite_fail(env, "the send says %s", gyre_strerror(err));
	gyre_comm_destroy(part);
	if (suite_buf_check(env, &in, "received") ||
	    suite_differs(&v, env->rank, out.ptr, 0, n) != n)
		return suite_fail(env, "what was sent has changed");
	suite_buf_free(env, &in);
	suite_buf_free(env, &out);
	err = gyre_barrier(world);
	return err ? suite_fail(env, "after it, a barrier says %s", gyre_strerror(err)) : 0;
}
