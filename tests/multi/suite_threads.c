/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suite_threads.c - several threads of each rank at once, each with a communicator of its own, or
 * with messages of its own tag on the one that all share.
 */
#include <string.h>

#include "tests/multi/suite_priv.h"

struct thread {
	struct suite_env env;		/* a copy: why and heap are the thread's */
	struct gyre_comm *comm;
	uint64_t seed;
	unsigned n;			/* collectives */
	int tag;
	bool messages;
};

static int threads_collectives(struct thread *t)
{
	struct suite_rng rng = { t->seed }, own = suite_own_rng(&t->env, t->seed);
	struct suite_coll c;
	unsigned i;

	for (i = 0; i < t->n; i++) {
		suite_coll_draw(&t->env, &rng, &c, t->comm);
		if (suite_coll_run(&t->env, &c, &own, 1))
			return -1;
	}
	return 0;
}

/* To the next, from the one before, in order. */
static int threads_messages(struct thread *t)
{
	struct suite_env *env = &t->env;
	struct suite_rng rng = { t->seed }, own = suite_own_rng(env, t->seed);
	struct suite_values v = { .type = GYRE_INT64, .op = GYRE_SUM, .nranks = 1 };
	const int to = (env->rank + 1) % env->nranks;
	const int from = (env->rank + env->nranks - 1) % env->nranks;
	struct suite_buf in, out;
	struct gyre_status st;
	unsigned i;
	size_t n;
	int err;

	for (i = 0; i < t->n; i++) {
		n = suite_count(env, &rng, 8);
		v.seed = t->seed + i;
		if (suite_buf_alloc(env, &own, &in, n * 8, 8, false) ||
		    suite_buf_alloc(env, &own, &out, n * 8, 8, false))
			return -1;
		suite_fill(&v, env->rank, out.ptr, 0, n);
		err = gyre_sendrecv(out.ptr, n, v.type, to, t->tag, in.ptr, n, v.type, from,
				    t->tag, t->comm, &st);
		if (err)
			return suite_fail(env, "sendrecv: %s", gyre_strerror(err));
		if (st.count != n || suite_differs(&v, from, in.ptr, 0, n) != n)
			return suite_fail(env, "message %u of tag %d is wrong", i, t->tag);
		suite_buf_free(env, &in);
		suite_buf_free(env, &out);
	}
	return 0;
}

static int threads_main(void *arg)
{
	struct thread *t = arg;

	return t->messages ? threads_messages(t) : threads_collectives(t);
}

int suite_run_threads(struct suite_env *env, struct suite_rng *rng, uint64_t seed)
{
	const unsigned n = 2 + (unsigned)suite_below(rng, SUITE_MAX_THREADS - 1);
	struct gyre_comm *world = gyre_context_world(env->ctx);
	struct thread *t = suite_alloc(env, n * sizeof(*t));
	void *args[SUITE_MAX_THREADS];
	unsigned i;
	int err = 0;

	if (!t)
		return suite_fail(env, "no memory");
	suite_doing(env, "%u threads", n);
	for (i = 0; i < n; i++) {
		t[i] = (struct thread){ .env = *env,
					.seed = seed + i,
					.tag = 100 + (int)i,
					.comm = world };
		t[i].env.doing = NULL;
		t[i].env.thread = i + 1;
		t[i].n = 1 + (unsigned)suite_below(rng, 6);
		t[i].messages = suite_one_in(rng, 2);
		args[i] = &t[i];
		if (!t[i].messages && !err)
			err = gyre_comm_split(world, 0, env->rank, &t[i].comm);
	}
	if (err)
		return suite_fail(env, "split: %s", gyre_strerror(err));
	if (env->parallel(env->arg, n, threads_main, args)) {
		for (i = 0; i < n; i++) {
			if (t[i].env.why[0])
				suite_fail(env, "thread %u of %u, %s: %s", i, n,
					   t[i].messages ? "messages" : "collectives",
					   t[i].env.why);
		}
		return suite_fail(env, "a thread failed");
	}
	for (i = 0; i < n; i++) {
		if (!t[i].messages)
			gyre_comm_destroy(t[i].comm);
	}
	suite_free(env, t);
	return 0;
}
