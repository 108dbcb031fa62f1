/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_wire_fuzz.c - the engine under a peer that lies.  Ranks of the simulator run collectives and
 * point-to-point calls while what arrives is repeated, lost, held back, replayed, changed or
 * invented.
 *
 *	doubles	whole messages and grains come again: each result is right, or an error
 *	lie	one header field of one message is wrong: a wrong result has an error on some rank
 *	havoc	anything: no crash, no hang, nothing written outside of the buffers
 *	flood	messages for calls that nobody makes: the sender is thrown out, and all know it
 *
 * The upcalls are wrapped at link time, between the simulated transport and the engine.  Lent
 * memory is checked as shared memory does it: only what the peer has really lent can be read.
 *
 *	GYRE_TEST_SEED=n GYRE_TEST_ROUNDS=n test_wire_fuzz [fuzz_havoc]: from that seed on
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <gyre/gyre.h>

#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/engine.h"
#include "lib/peer.h"
#include "tests/long.h"
#include "tests/unit/wire_fuzz.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 4
#define CALLS 6
#define GUARD 64
#define MS 1000000ull

struct fuzz fuzz;

static const char *const fuzz_names[] = { "none", "doubles", "lie", "havoc", "flood" };

uint64_t fuzz_below(uint64_t n)
{
	uint64_t z = fuzz.rng += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	return n ? z % n : 0;
}

/* ---- one round ---- */

/*
 * A buffer between guards.  All are kept to the end of the round and looked at again then: nothing
 * may come late; and ranks that do not know yet of a failure may still read what they were lent.
 */
struct buf {
	struct buf *next;
	size_t n;			/* elements */
	int32_t *data;
	int check;			/* what its contents must be: a call's number, or -1 */
	int coll;
	int rank, nranks;		/* of the communicator */
	uint8_t mem[];
};

struct round {
	uint64_t seed;
	enum fuzz_mode mode;
	int nranks;
	struct gy_config cfg;
	unsigned errors, wrong;		/* calls, on all ranks */
	bool broken;			/* guards, late writes */
	struct buf *bufs;
};

struct rank {
	struct round *round;
	struct gy_sim_rank *sim;
	struct gyre_context *ctx;
	struct gyre_comm *comm;
	uint64_t calls;			/* state of the random numbers that ranks share */
	int id, n;			/* in comm */
	int err;
};

static uint64_t calls_below(struct rank *r, uint64_t n)
{
	const uint64_t mine = fuzz.rng;
	uint64_t z;

	fuzz.rng = r->calls;
	z = fuzz_below(n);
	r->calls = fuzz.rng;
	fuzz.rng = mine;
	return z;
}

static struct buf *buf_new(struct rank *r, size_t n)
{
	struct buf *b = malloc(sizeof(*b) + n * sizeof(int32_t) + 2 * GUARD);

	memset(b->mem, 0x5a, n * sizeof(int32_t) + 2 * GUARD);
	b->n = n;
	b->data = (int32_t *)(b->mem + GUARD);
	b->check = -1;
	b->rank = r->id;
	b->nranks = r->n;
	b->next = r->round->bufs;
	r->round->bufs = b;
	return b;
}

static int32_t value(int rank, int call, size_t i)
{
	return (int32_t)((uint32_t)(rank + 1) * 2654435761u + (uint32_t)call * 40503u +
			 (uint32_t)i * 7u);
}

static struct buf *buf_in(struct rank *r, size_t n, int call)
{
	struct buf *b = buf_new(r, n);
	size_t i;

	for (i = 0; i < n; i++)
		b->data[i] = value(r->id, call, i);
	return b;
}

enum call_kind { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, BARRIER, EXCHANGE, NCALLS };

static int32_t expected(const struct buf *b, size_t i)
{
	const size_t block = b->n / (size_t)b->nranks;
	uint32_t sum = 0;
	int k;

	switch (b->coll) {
	case ALLREDUCE:
		for (k = 0; k < b->nranks; k++)
			sum += (uint32_t)value(k, b->check, i);
		return (int32_t)sum;
	case REDUCE_SCATTER:
		for (k = 0; k < b->nranks; k++)
			sum += (uint32_t)value(k, b->check, i + (size_t)b->rank * b->n);
		return (int32_t)sum;
	case ALLGATHER:
		return value((int)(i / block), b->check, i % block);
	case BROADCAST:
		return value(b->check % b->nranks, b->check, i);
	default:
		return value((b->rank + b->nranks - 1) % b->nranks, b->check, i);
	}
}

static bool buf_right(const struct buf *b)
{
	size_t i;

	for (i = 0; b->check >= 0 && i < b->n; i++)
		if (b->data[i] != expected(b, i))
			return false;
	return true;
}

static bool buf_guarded(const struct buf *b)
{
	const uint8_t *end = (const uint8_t *)(b->data + b->n);
	unsigned i;

	for (i = 0; i < GUARD; i++)
		if (b->mem[i] != 0x5a || end[i] != 0x5a)
			return false;
	return true;
}

static void call_done(struct rank *r, struct buf *out, enum call_kind coll, int call, int err)
{
	struct round *round = r->round;

	if (err) {
		r->err = err;
		round->errors++;
		return;
	}
	if (!out)
		return;
	out->coll = (int)coll;
	out->check = call;
	if (buf_right(out))
		return;
	out->check = -1;
	/* In point-to-point calls header fields are data. */
	if (coll != EXCHANGE || round->mode == FUZZ_DOUBLES)
		round->wrong++;
}

/* Waits so long that the library must have ended it; receives that nothing comes for may stay. */
static int wait_for(struct rank *r, struct gyre_request **req, struct gyre_status *status)
{
	uint64_t step = MS / 100, waited = 0;
	int done = 0, err = 0;

	while (!done && waited < 800 * MS) {
		err = gyre_request_test(req, &done, status);
		if (done)
			break;
		gy_sim_sleep(r->sim, step);
		waited += step;
		step = gy_min(2 * step, MS / 5);
	}
	return done ? err : -ETIME;
}

/* Everyone sends to the next one; tags and late receives make some of it unexpected. */
static void call_exchange(struct rank *r, size_t n, int call)
{
	struct buf *in = buf_in(r, n, call), *out = buf_new(r, n + 3);
	struct gyre_request *send = NULL, *recv = NULL;
	struct gyre_status status = { .source = -1 };
	const int next = (r->id + 1) % r->n, prev = (r->id + r->n - 1) % r->n;
	const bool late = calls_below(r, 2);
	int err;

	err = gyre_isend(in->data, n, GYRE_INT32, next, call % 3, r->comm, &send);
	if (late)
		gy_sim_sleep(r->sim, gy_sim_random(r->sim) % (MS / 10));
	if (!err)
		err = gyre_irecv(out->data, n + 3, GYRE_INT32, call % 2 ? prev : GYRE_ANY_SOURCE,
				 call % 3, r->comm, &recv);
	if (!err)
		err = wait_for(r, &recv, &status);
	if (!err)
		err = wait_for(r, &send, NULL);
	if (!err && status.count == n) {
		out->n = n;		/* the rest was never touched: a guard */
		memset(out->data + n, 0x5a, 3 * sizeof(int32_t));
	} else if (!err && r->round->mode == FUZZ_DOUBLES) {
		r->round->wrong++;
	}
	call_done(r, status.count == n ? out : NULL, EXCHANGE, call, err);
}

static int call_start(struct rank *r, enum call_kind kind, const int32_t *in, int32_t *out,
		      size_t n, int call, struct gyre_request **req)
{
	switch (kind) {
	case ALLREDUCE:
		return req ? gyre_iallreduce(in, out, n, GYRE_INT32, GYRE_SUM, r->comm, req)
			   : gyre_allreduce(in, out, n, GYRE_INT32, GYRE_SUM, r->comm);
	case REDUCE_SCATTER:
		return req ? gyre_ireduce_scatter(in, out, n, GYRE_INT32, GYRE_SUM, r->comm, req)
			   : gyre_reduce_scatter(in, out, n, GYRE_INT32, GYRE_SUM, r->comm);
	case ALLGATHER:
		return req ? gyre_iallgather(in, out, n, GYRE_INT32, r->comm, req)
			   : gyre_allgather(in, out, n, GYRE_INT32, r->comm);
	case BROADCAST:
		return req ? gyre_ibroadcast(out, n, GYRE_INT32, call % r->n, r->comm, req)
			   : gyre_broadcast(out, n, GYRE_INT32, call % r->n, r->comm);
	default:
		return req ? gyre_ibarrier(r->comm, req) : gyre_barrier(r->comm);
	}
}

/* One call, or several outstanding at a time. */
static void call_some(struct rank *r, int *callp)
{
	static const size_t counts[] = { 0, 1, 2, 5, 64, 300, 1100, 5000, 40000 };
	const enum call_kind kind = (enum call_kind)calls_below(r, NCALLS);
	const size_t n = counts[calls_below(r, GY_ARRAY_SIZE(counts))];
	const unsigned many = (unsigned)calls_below(r, 3) + 1;
	const bool block = calls_below(r, 3);
	struct gyre_request *req[3] = { NULL };
	struct buf *in[3], *out[3];
	size_t in_n = n, out_n = n;
	unsigned i;
	int err;

	if (kind == EXCHANGE) {
		call_exchange(r, n, (*callp)++);
		return;
	}
	if (kind == REDUCE_SCATTER)
		in_n *= (size_t)r->n;
	else if (kind == ALLGATHER)
		out_n *= (size_t)r->n;
	for (i = 0; i < many && !r->err; i++) {
		const int call = *callp + (int)i;

		in[i] = buf_in(r, in_n, call);
		out[i] = kind == BROADCAST && call % r->n == r->id ? in[i] : buf_new(r, out_n);
		err = call_start(r, kind, in[i]->data, out[i]->data, n, call,
				 block ? NULL : &req[i]);
		if (err || block)
			call_done(r, kind == BARRIER ? NULL : out[i], kind, call, err);
	}
	for (i = 0; i < many && !block; i++) {
		if (!req[i])
			continue;
		err = wait_for(r, &req[i], NULL);
		call_done(r, kind == BARRIER ? NULL : out[i], kind, *callp + (int)i, err);
	}
	*callp += (int)many;
}

static void rank_calls(struct rank *r, int calls)
{
	int call = 0;

	r->id = gyre_comm_rank(r->comm);
	r->n = gyre_comm_size(r->comm);
	while (call < calls && !r->err)
		call_some(r, &call);
}

static void round_check(struct round *round)
{
	struct buf *b;

	while ((b = round->bufs)) {
		round->bufs = b->next;
		if (!buf_guarded(b) || (round->mode <= FUZZ_DOUBLES && !buf_right(b)))
			round->broken = true;
		free(b);
	}
}

static int rank_main(struct gy_sim_rank *sim, void *arg)
{
	struct round *round = arg;
	struct rank r = { .round = round, .sim = sim, .calls = round->seed };
	struct gyre_comm *half = NULL;
	int err;

	err = gy_sim_context(sim, &round->cfg, &r.ctx);
	if (err)
		return err;
	r.comm = gyre_context_world(r.ctx);
	rank_calls(&r, CALLS);
	if (!r.err && round->seed % 3 == 0) {
		err = gyre_comm_split(r.comm, gy_sim_rank_id(sim) % 2, 0, &half);
		if (err) {
			r.err = err;
			round->errors++;
		}
	}
	if (half) {
		r.comm = half;
		rank_calls(&r, CALLS / 2);
	}
	if (r.err)	/* whatever happened, a further call ends too */
		gyre_barrier(gyre_context_world(r.ctx));
	gyre_context_destroy(r.ctx);
	return 0;
}

static void round_config(struct round *r)
{
	static const size_t eager[] = { 0, 64, 1024, 4096, 8192 };
	static const size_t grain[] = { 0, 4096, 16384 };

	gy_config_init(&r->cfg);
	r->cfg.stall_timeout_ms = 300;
	r->cfg.late_warn_ms = 0;
	r->cfg.pool_bytes = 1 << 20;
	r->cfg.eager_bytes = eager[fuzz_below(GY_ARRAY_SIZE(eager))];
	r->cfg.grain_bytes = grain[fuzz_below(GY_ARRAY_SIZE(grain))];
	if (fuzz_below(4) == 0)
		r->cfg.progress = GY_CONFIG_PROGRESS_MANUAL;
}

static const char *round_fault(const struct round *r, int err, uint64_t now_ns)
{
	if (err)
		return gyre_strerror(err);
	if (fuzz.fault)
		return fuzz.fault;
	if (r->broken)
		return "memory was written that was nobody's to write";
	if (r->wrong && (r->mode == FUZZ_DOUBLES || r->mode == FUZZ_NONE))
		return "a wrong result";
	if (r->wrong && r->mode == FUZZ_LIE && !r->errors)
		return "a wrong result, and no rank has an error";
	if (r->errors && r->mode == FUZZ_NONE)
		return "an error without a cause";
	if (r->mode == FUZZ_FLOOD && (!r->errors || now_ns > r->cfg.stall_timeout_ms * MS))
		return "a flood did not end the job at once";
	if (gy_alloc_live())
		return "memory is left";
	return NULL;
}

static void round_run(enum fuzz_mode mode, uint64_t seed)
{
	struct round r = { .seed = seed, .mode = mode };
	struct gy_sim_stats stats;
	struct gy_sim_attr attr;
	const char *fault;
	int err;

	fuzz_begin(mode, seed);
	r.nranks = 2 + (int)(seed % (MAX_RANKS - 1));
	round_config(&r);
	gy_sim_attr_init(&attr, r.nranks, seed);
	attr.random_links = seed % 3 != 0;
	attr.liars = mode >= FUZZ_LIE;
	attr.deadline_ns = 60 * 1000 * MS;
	attr.max_events = 5 * 1000 * 1000;
	attr.stats = &stats;
	err = gy_sim_run(&attr, rank_main, &r);
	fuzz_end();
	round_check(&r);
	fault = round_fault(&r, err, stats.now_ns);
	if (fault)
		fail_msg("%s, %d ranks, seed %llu: %s (%u errors, %u wrong, %ld blocks)",
			 fuzz_names[mode], r.nranks, (unsigned long long)seed, fault, r.errors,
			 r.wrong, gy_alloc_live());
}

/* ---- rounds ---- */

static void rounds(enum fuzz_mode mode)
{
	const char *from = getenv("GYRE_TEST_SEED"), *n = getenv("GYRE_TEST_ROUNDS");
	const double time = test_is_long() ? 5 : 0.4, start = test_cpu_seconds();
	uint64_t seed = from ? strtoull(from, NULL, 0) : (uint64_t)mode * 1000000, i;
	const uint64_t max = n ? strtoull(n, NULL, 0) : UINT64_MAX;

	print_message("%s from seed %llu\n", fuzz_names[mode], (unsigned long long)seed);
	for (i = 0; i < max && (n || test_cpu_seconds() - start < time); i++)
		round_run(mode, seed + i);
	print_message("%llu rounds, %llu messages, %llu changed\n", (unsigned long long)i,
		      (unsigned long long)fuzz.messages, (unsigned long long)fuzz.changes);
}

static void fuzz_none(void **state)
{
	rounds(FUZZ_NONE);
}

static void fuzz_doubles(void **state)
{
	rounds(FUZZ_DOUBLES);
}

static void fuzz_lie(void **state)
{
	rounds(FUZZ_LIE);
}

static void fuzz_havoc(void **state)
{
	rounds(FUZZ_HAVOC);
}

static void fuzz_flood(void **state)
{
	rounds(FUZZ_FLOOD);
}

/* A communicator may lie where one was that is no more: nothing of that one may be used. */
static int reuse_main(struct gy_sim_rank *sim, void *arg)
{
	struct gyre_comm *world, *comm;
	struct gyre_context *ctx;
	int32_t in[4] = { 1, 2, 3, 4 }, out[4];
	int err, i, k;

	err = gy_sim_context(sim, NULL, &ctx);
	if (err)
		return err;
	world = gyre_context_world(ctx);
	for (i = 0; i < 8 && !err; i++) {
		const int size = i % 2 ? 2 : 3, color = gy_sim_rank_id(sim) >= size ? -1 : 0;

		err = gyre_comm_split(world, color, 0, &comm);
		for (k = 0; k < 3 && comm && !err; k++) {
			err = gyre_allreduce(in, out, (size_t)(4 - k), GYRE_INT32, GYRE_SUM, comm);
			if (!err && out[0] != size)
				err = -EBADMSG;
		}
		gyre_comm_destroy(comm);
	}
	gyre_context_destroy(ctx);
	return err;
}

static void comm_reuse(void **state)
{
	struct gy_sim_attr attr;

	fuzz_begin(FUZZ_NONE, 1);
	gy_sim_attr_init(&attr, 3, 1);
	assert_int_equal(gy_sim_run(&attr, reuse_main, NULL), 0);
	fuzz_end();
	assert_int_equal(gy_alloc_live(), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fuzz_none),
		cmocka_unit_test(fuzz_doubles),
		cmocka_unit_test(fuzz_lie),
		cmocka_unit_test(fuzz_havoc),
		cmocka_unit_test(fuzz_flood),
		cmocka_unit_test(comm_reuse),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
