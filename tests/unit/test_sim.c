/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sim.c - the simulator: coroutines, virtual time, seeds, faults, order of grains.  What every
 * transport does, the conformance suite looks at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gyre/context.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "transports/sim/nic.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 5
#define MESSAGES 60
#define GRAINS 24
#define GRAIN 3000

/* ---- an engine that checks ---- */

struct fake_peer {
	struct gy_peer base;
	unsigned got, sent;		/* messages */
	unsigned grains_got, grains_sent, grains_back;
	unsigned misordered;
	int ups, downs, err;
	uint64_t down_ns;
	struct gy_grain grain[GRAINS];
	uint8_t out[GRAINS][GRAIN], in[GRAINS][GRAIN];
	uint32_t last;
	bool blocked;
};

struct fake {
	struct gyre_context ctx;
	struct gy_sim_rank *rank;
	struct fake_peer *peers[MAX_RANKS];
	bool spoil;			/* changes a grain too early */
	char *fault;
};

static struct gy_nic *fake_nic(struct fake *f)
{
	return f->ctx.nics[0];
}

static struct fake *fake_of(struct gy_ep *ep)
{
	return gy_container_of(ep->nic->ctx, struct fake, ctx);
}

static struct fake_peer *fake_peer_of(struct gy_ep *ep)
{
	return gy_container_of(ep->peer, struct fake_peer, base);
}

static void fake_fault(struct fake *f, const char *what)
{
	if (!f->fault)
		f->fault = strdup(what);
}

static struct fake_peer *fake_peer(struct fake *f, int rank)
{
	struct fake_peer *p = f->peers[rank];

	if (p)
		return p;
	p = f->peers[rank] = calloc(1, sizeof(*p));
	p->base.rank = rank;
	p->base.ctx = &f->ctx;
	if (gy_sim_ops.ep_open(fake_nic(f), &p->base, &p->base.ep))
		abort();
	return p;
}

int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp)
{
	assert_string_equal(transport, "sim");
	*epp = fake_peer(gy_container_of(ctx, struct fake, ctx), rank)->base.ep;
	return 0;
}

void gy_ep_up(struct gy_ep *ep)
{
	fake_peer_of(ep)->ups++;
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	struct fake_peer *p = fake_peer_of(ep);

	p->downs++;
	p->err = err;
	p->down_ns = gy_sim_now(gy_sim_world(fake_of(ep)->rank));
}

void gy_ep_room(struct gy_ep *ep)
{
	fake_peer_of(ep)->blocked = false;
}

static uint8_t fake_byte(int from, int to, uint32_t i, uint32_t k)
{
	return (uint8_t)(from * 31 + to * 17 + i * 7 + k);
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	fake_peer_of(ep)->got++;
}

int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	struct fake_peer *p = fake_peer_of(ep);

	*dstp = p->in[hdr->seq];
	return 0;
}

void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr)
{
	struct fake *f = fake_of(ep);
	struct fake_peer *p = fake_peer_of(ep);
	uint32_t i;

	for (i = 0; i < GRAIN; i++) {
		if (p->in[hdr->seq][i] != fake_byte(p->base.rank, f->ctx.rank, hdr->seq, i)) {
			fake_fault(f, "grain with wrong bytes");
			break;
		}
	}
	p->misordered += hdr->seq < p->last;
	p->last = hdr->seq;
	p->grains_got++;
}

void gy_written(struct gy_ep *ep, uint32_t ticket)
{
}

void gy_sent(struct gy_ep *ep, struct gy_grain *grain)
{
	struct fake_peer *p = fake_peer_of(ep);

	p->grains_back++;
	memset(p->out[grain - p->grain], 0xee, GRAIN);	/* ours again: nobody reads it */
}

void gy_context_abandon(struct gyre_context *ctx)
{
	struct fake *f = gy_container_of(ctx, struct fake, ctx);
	int i;

	for (i = 0; i < ctx->nranks; i++) {
		if (f->peers[i]) {
			gy_sim_ops.ep_close(f->peers[i]->base.ep, false);
			free(f->peers[i]);
		}
	}
	gy_sim_ops.close(fake_nic(f));
	free(f->fault);
	free(f);
}

int gy_context_create(const struct gyre_context_attr *attr, struct gy_sys *sys, void *sim,
		      const struct gy_config *cfg, struct gyre_context **ctxp)
{
	struct fake *f = calloc(1, sizeof(*f));
	uint8_t blob[GY_BLOB_MAX], all[MAX_RANKS][GY_BLOB_MAX];
	int i, len, err;

	f->ctx.rank = attr->rank;
	f->ctx.nranks = attr->nranks;
	f->ctx.sys = sys;
	f->ctx.sim = sim;
	f->rank = sim;
	err = gy_sim_ops.open(&f->ctx, &f->ctx.nics[0]);
	if (err)
		return err;
	len = gy_sim_ops.describe(fake_nic(f), blob, sizeof(blob));
	err = attr->allgather(attr->allgather_arg, blob, all, sizeof(blob));
	if (err) {
		gy_sim_ops.close(fake_nic(f));
		free(f);
		return err;
	}
	for (i = 0; i < f->ctx.nranks; i++) {
		if (gy_sim_ops.reach(fake_nic(f), i, all[i], (size_t)len))
			fake_fault(f, "no way to a rank");
	}
	*ctxp = &f->ctx;
	return 0;
}

/* ---- what ranks do ---- */

static bool fake_send(struct fake *f, struct fake_peer *p)
{
	const unsigned before = p->sent + p->grains_sent;
	const struct gy_hdr hdr = { .seq = p->sent };
	struct gy_grain *g;
	uint32_t i;

	if (p->blocked || !p->ups || p->downs)
		return false;
	if (p->sent < MESSAGES) {
		p->blocked = gy_sim_ops.msg(p->base.ep, &hdr, NULL) == -EAGAIN;
		p->sent += !p->blocked;
	}
	if (!p->blocked && p->grains_sent < GRAINS) {
		g = &p->grain[p->grains_sent];
		for (i = 0; i < GRAIN; i++)
			p->out[p->grains_sent][i] =
				fake_byte(f->ctx.rank, p->base.rank, p->grains_sent, i);
		*g = (struct gy_grain){ .hdr = { .seq = p->grains_sent, .len = GRAIN },
					.src = p->out[p->grains_sent] };
		p->blocked = gy_sim_ops.bulk(p->base.ep, g) == -EAGAIN;
		p->grains_sent += !p->blocked;
		if (f->spoil && p->grains_sent == GRAINS)
			p->out[GRAINS - 1][5]++;
	}
	return p->sent + p->grains_sent != before;
}

static bool fake_peer_done(const struct fake_peer *p)
{
	return p->downs || (p->got == MESSAGES && p->sent == MESSAGES && p->grains_got == GRAINS &&
			    p->grains_back == GRAINS);
}

/* Sends everything to everybody and waits for as much. */
static void fake_exchange(struct fake *f)
{
	struct gy_sys *sys = f->ctx.sys;
	struct gy_nic *nic = fake_nic(f);
	bool done;
	int i, did;

	for (i = 0; i < f->ctx.nranks; i++) {
		if (i != f->ctx.rank)
			gy_sim_ops.connect(fake_peer(f, i)->base.ep);
	}
	do {
		did = gy_sim_ops.progress(nic);
		done = true;
		for (i = 0; i < f->ctx.nranks; i++) {
			if (i == f->ctx.rank)
				continue;
			did += fake_send(f, f->peers[i]);
			done &= fake_peer_done(f->peers[i]);
		}
		if (!did && !done && sys->ops->random(sys) % 2 == 0) {
			sys->ops->yield(sys);
		} else if (!did && !done) {
			if (!gy_sim_ops.arm(nic))
				sys->ops->sleep(sys, &f->ctx, 1000000000);
			gy_sim_ops.disarm(nic);
		}
	} while (!done);
}

struct world {
	bool random_links, spoil;
	int kill, stall;			/* rank, or -1 */
	int cut_a, cut_b;
	uint64_t fault_ns;
	unsigned misordered;
	unsigned completed;			/* ranks that got everything of everybody alive */
	uint64_t noticed_ns;
	int downs;
};

static int rank_exchange(struct gy_sim_rank *rank, void *arg)
{
	struct world *w = arg;
	struct gyre_context *ctx;
	struct fake *f;
	int i, err = 0;

	if (gy_sim_context(rank, NULL, &ctx))
		return -EIO;
	f = gy_container_of(ctx, struct fake, ctx);
	f->spoil = w->spoil;
	fake_exchange(f);
	if (f->fault) {
		if (!w->spoil)
			print_message("rank %d: %s\n", ctx->rank, f->fault);
		err = -EBADMSG;
	}
	for (i = 0; i < ctx->nranks; i++) {
		struct fake_peer *p = f->peers[i];

		if (!p)
			continue;
		w->misordered += p->misordered;
		if (p->downs > 1)
			err = -EALREADY;
		if (p->downs && i == w->kill && p->down_ns > w->noticed_ns)
			w->noticed_ns = p->down_ns;
		w->downs += p->downs;
	}
	w->completed++;
	gy_sim_sleep(rank, 1000000);	/* others still read from us */
	gy_context_abandon(ctx);
	return err;
}

static void world_init(struct world *w)
{
	*w = (struct world){ .kill = -1, .stall = -1, .cut_a = -1 };
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct world *w = arg;
	struct gy_sim_world *sim = gy_sim_world(rank);

	if (gy_sim_rank_id(rank) == 0) {
		if (w->kill >= 0)
			gy_sim_kill(sim, w->kill, w->fault_ns);
		if (w->cut_a >= 0)
			gy_sim_cut(sim, w->cut_a, w->cut_b, w->fault_ns);
		if (w->stall >= 0)
			gy_sim_stall(sim, w->stall, 0, w->fault_ns);
	}
	return rank_exchange(rank, arg);
}

static void link_in_bulk(void *arg, int a, int b, struct gy_sim_link *link)
{
	link->caps = GY_SIM_BULK;
}

static void attr_init(struct gy_sim_attr *attr, int nranks, uint64_t seed,
		      struct gy_sim_stats *stats)
{
	gy_sim_attr_init(attr, nranks, seed);
	attr->stats = stats;
	attr->link_of = link_in_bulk;
	attr->deadline_ns = 20ull * 1000 * 1000 * 1000;
}

/* ---- tests ---- */

/* Grains of different lanes. */
static void test_reorders(void **state)
{
	struct gy_sim_stats stats;
	struct gy_sim_attr attr;
	struct world w;
	unsigned misordered = 0;
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		world_init(&w);
		attr_init(&attr, 1 + (int)(seed % MAX_RANKS), seed, &stats);
		attr.random_links = true;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		assert_int_equal(w.completed, attr.nranks);
		misordered += w.misordered;
	}
	assert_true(misordered > 100);
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_same_seed_same_run(void **state)
{
	struct gy_sim_stats first, again, other;
	struct gy_sim_attr attr;
	struct world w;
	uint64_t seed;

	for (seed = 1; seed <= 5; seed++) {
		world_init(&w);
		attr_init(&attr, 4, seed, &first);
		attr.random_links = true;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		attr.stats = &again;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		attr.stats = &other;
		attr.seed += 100;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		assert_memory_equal(&first, &again, sizeof(first));
		assert_true(first.hash != other.hash);
	}
}

static void test_kill(void **state)
{
	struct gy_sim_attr attr;
	struct world w;
	uint64_t seed;

	for (seed = 1; seed <= 40; seed++) {
		world_init(&w);
		attr_init(&attr, 2 + (int)(seed % 4), seed, NULL);
		attr.random_links = seed % 2;
		w.kill = (int)seed % attr.nranks;
		w.fault_ns = 40000 + seed * 2000;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		if (w.downs) {
			assert_true(w.completed >= (unsigned)attr.nranks - 1);
			assert_true(w.noticed_ns < w.fault_ns + 1000000);
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static int rank_make_and_die(struct gy_sim_rank *rank, void *arg)
{
	gy_sim_kill_at_event(gy_sim_world(rank), 1, 150);
	return rank_exchange(rank, arg);
}

static void test_kill_at_event(void **state)
{
	struct gy_sim_attr attr;
	struct world w;

	world_init(&w);
	attr_init(&attr, 3, 9, NULL);
	assert_int_equal(gy_sim_run(&attr, rank_make_and_die, &w), 0);
	assert_int_equal(w.completed, 2);
	assert_int_equal(w.downs, 2);
}

static void test_cut(void **state)
{
	struct gy_sim_attr attr;
	struct world w;
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		world_init(&w);
		attr_init(&attr, 3, seed, NULL);
		attr.link.bytes_per_us = 100;
		w.cut_a = 1;
		w.cut_b = 2;
		w.fault_ns = 100000 + seed * 5000;
		assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
		assert_int_equal(w.completed, 3);
		assert_int_equal(w.downs, 2);	/* each side, once; rank 0 is not concerned */
	}
}

static void test_stall(void **state)
{
	struct gy_sim_stats stats;
	struct gy_sim_attr attr;
	struct world w;

	world_init(&w);
	attr_init(&attr, 3, 3, &stats);
	w.stall = 2;
	w.fault_ns = 500 * 1000 * 1000;
	assert_int_equal(gy_sim_run(&attr, rank_main, &w), 0);
	assert_int_equal(w.completed, 3);
	assert_int_equal(w.downs, 0);
	assert_true(stats.now_ns > w.fault_ns);
}

static void test_early_reuse_is_found(void **state)
{
	struct gy_sim_attr attr;
	unsigned found = 0;
	struct world w;
	uint64_t seed;

	for (seed = 1; seed <= 20; seed++) {
		world_init(&w);
		w.spoil = true;
		attr_init(&attr, 2, seed, NULL);
		attr.quiet = true;
		found += gy_sim_run(&attr, rank_main, &w) != 0;
	}
	assert_int_equal(found, 20);	/* here, or as wrong bytes at the receiver */
}

/* ---- coroutines without a transport ---- */

struct words {
	_Atomic uint32_t word;
	unsigned order, woken;
	uint64_t at[3];
	struct gy_sys *sys;
};

static void thread_wait(void *arg)
{
	struct words *s = arg;

	while (atomic_load(&s->word) == 0)
		s->sys->ops->wait_word(s->sys, &s->word, 0, UINT64_MAX);
	s->woken++;
}

static int rank_words(struct gy_sim_rank *rank, void *arg)
{
	struct gy_sys *sys = (struct gy_sys *)rank;	/* the first member; see world.h */
	struct words s = { .sys = sys };
	struct gy_thread *t[3];
	uint64_t start;
	int i;

	for (i = 0; i < 3; i++) {
		if (sys->ops->spawn(sys, thread_wait, &s, &t[i]))
			return -ENOMEM;
	}
	start = sys->ops->now_ns(sys);
	gy_sim_sleep(rank, 5000000);
	if (sys->ops->now_ns(sys) - start < 5000000 || s.woken)
		return -ETIME;
	atomic_store(&s.word, 1);
	sys->ops->notify_word(sys, &s.word);
	for (i = 0; i < 3; i++)
		sys->ops->join(sys, t[i]);
	if (s.woken != 3)
		return -EIO;
	start = sys->ops->now_ns(sys);
	sys->ops->wait_word(sys, &s.word, 1, 1000000);	/* nobody notifies */
	sys->ops->sleep(sys, NULL, 1000000);
	sys->ops->wake(sys, NULL);
	sys->ops->sleep(sys, NULL, UINT64_MAX);		/* was rung before */
	return sys->ops->now_ns(sys) - start > 3000000 ? -ETIME : 0;
}

static void test_words(void **state)
{
	struct gy_sim_attr attr;
	uint64_t seed;

	for (seed = 1; seed <= 50; seed++) {
		attr_init(&attr, 3, seed, NULL);
		assert_int_equal(gy_sim_run(&attr, rank_words, NULL), 0);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static int rank_deadlock(struct gy_sim_rank *rank, void *arg)
{
	struct gy_sys *sys = (struct gy_sys *)rank;
	_Atomic uint32_t word = 0;

	if (gy_sim_rank_id(rank) == 1)
		return 0;
	for (;;)
		sys->ops->wait_word(sys, &word, 0, UINT64_MAX);
}

static int rank_livelock(struct gy_sim_rank *rank, void *arg)
{
	struct gy_sys *sys = (struct gy_sys *)rank;

	while (gy_sim_alive(gy_sim_world(rank), 0))
		sys->ops->yield(sys);
	return 0;
}

static void test_no_end(void **state)
{
	struct gy_sim_attr attr;

	attr_init(&attr, 3, 1, NULL);
	attr.quiet = true;
	assert_int_equal(gy_sim_run(&attr, rank_deadlock, NULL), -EDEADLK);
	attr.deadline_ns = 1000000;
	assert_int_equal(gy_sim_run(&attr, rank_livelock, NULL), -ETIMEDOUT);
	attr_init(&attr, 3, 1, NULL);
	attr.quiet = true;
	attr.max_events = 1000;
	assert_int_equal(gy_sim_run(&attr, rank_livelock, NULL), -ETIMEDOUT);
	assert_int_equal(gy_alloc_live(), 0);
}

static int rank_thread_result(struct gy_sim_rank *rank, void *arg)
{
	gy_sim_sleep(rank, 1000);
	return gy_sim_rank_id(rank) == 2 ? -ERANGE : 0;
}

static int rank_threads(struct gy_sim_rank *rank, void *arg)
{
	return gy_sim_spawn(rank, rank_thread_result, NULL);
}

static void test_user_threads(void **state)
{
	struct gy_sim_attr attr;

	attr_init(&attr, 3, 1, NULL);
	assert_int_equal(gy_sim_run(&attr, rank_threads, NULL), -ERANGE);
}

static int rank_nothing(struct gy_sim_rank *rank, void *arg)
{
	return 0;
}

static void test_many_ranks(void **state)
{
	struct gy_sim_attr attr;

	attr_init(&attr, 2000, 1, NULL);
	assert_int_equal(gy_sim_run(&attr, rank_nothing, NULL), 0);
}

/* A rank that never makes its context must not hang the others for ever. */
static int rank_no_context(struct gy_sim_rank *rank, void *arg)
{
	struct gyre_context *ctx;

	if (gy_sim_rank_id(rank) == 1)
		return 0;
	return gy_sim_context(rank, NULL, &ctx) == -ECONNRESET ? 0 : -EIO;
}

static void test_gather_fails(void **state)
{
	struct gy_sim_attr attr;

	attr_init(&attr, 4, 1, NULL);
	assert_int_equal(gy_sim_run(&attr, rank_no_context, NULL), 0);
	assert_int_equal(gy_alloc_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_no_end),
		cmocka_unit_test(test_user_threads),
		cmocka_unit_test(test_many_ranks),
		cmocka_unit_test(test_gather_fails),
		cmocka_unit_test(test_reorders),
		cmocka_unit_test(test_same_seed_same_run),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_kill_at_event),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_stall),
		cmocka_unit_test(test_early_reuse_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
