/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sim_write.c - what the simulator itself does about GY_CAP_WRITE: bytes land while nobody
 * looks, not in revoked parts of what is exposed, and who breaks the rules is told.  Rank 0 writes
 * grains into memory of rank 1, under an engine that only counts what it is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <gyre/context.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/peer.h"
#include "lib/transport.h"
#include "transports/sim/nic.h"
#include "transports/sim/sim.h"

#define GRAINS 16
#define GRAIN 2000
#define TICKET 700		/* of grain 0 */
#define LONG_NS 50000000

enum breach {
	NONE,
	BEYOND,			/* a grain begins inside of what is exposed, and ends outside */
	UNKNOWN,		/* an exposure that never was */
	TWICE,			/* one place is written twice */
	SAME_TICKET,
	FLOOD,			/* more grains than write_max */
	UNREGISTERED,		/* the receiver's memory is gone when they land */
	SOURCE_FREED,		/* the sender's while grains are with the transport */
	BREACHES,
};

struct side {
	struct gyre_context ctx;
	struct gy_peer peer;
	struct gy_grain grain[GRAINS];
	uint8_t mem[GRAINS][GRAIN];
	struct gy_remote where;
	unsigned sent, back;
	unsigned written[GRAINS];
	bool blocked;
};

struct play {
	enum breach breach;
	bool revoke, polls;
	struct side *side[2];		/* outlive their ranks: late bytes must be seen */
};

static struct side *side_of(struct gy_ep *ep)
{
	return gy_container_of(ep->peer, struct side, peer);
}

/* ---- the engine ---- */

int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp)
{
	*epp = gy_container_of(ctx, struct side, ctx)->peer.ep;
	return 0;
}

void gy_ep_up(struct gy_ep *ep)
{
	ep->peer->state = GY_PEER_UP;
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	ep->peer->state = GY_PEER_LOST;
}

void gy_ep_room(struct gy_ep *ep)
{
	side_of(ep)->blocked = false;
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
}

int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	return -EPROTO;			/* writes are not placed */
}

void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr)
{
}

void gy_written(struct gy_ep *ep, uint32_t ticket)
{
	side_of(ep)->written[(ticket - TICKET) % GRAINS]++;
}

void gy_sent(struct gy_ep *ep, struct gy_grain *grain)
{
	side_of(ep)->back++;
}

int gy_context_create(const struct gyre_context_attr *attr, struct gy_sys *sys, void *sim,
		      const struct gy_config *cfg, struct gyre_context **ctxp)
{
	struct side *s = calloc(1, sizeof(*s));
	uint64_t all[2], one = 1;
	int err;

	s->ctx = (struct gyre_context){
		.rank = attr->rank, .nranks = attr->nranks, .sys = sys, .sim = sim,
	};
	err = gy_sim_ops.open(&s->ctx, &s->ctx.nics[0]);
	if (!err)
		err = attr->allgather(attr->allgather_arg, &one, all, sizeof(one));
	*ctxp = &s->ctx;
	return err;
}

void gy_context_abandon(struct gyre_context *ctx)
{
	gy_sim_ops.ep_close(gy_container_of(ctx, struct side, ctx)->peer.ep, false);
	gy_sim_ops.close(ctx->nics[0]);
}

static void side_drive(struct side *s)
{
	if (!gy_sim_ops.progress(s->ctx.nics[0]))
		s->ctx.sys->ops->yield(s->ctx.sys);
}

static int side_open(struct play *play, struct gy_sim_rank *rank, struct side **sp)
{
	struct gyre_context *ctx;
	struct side *s;
	int err;

	err = gy_sim_context(rank, NULL, &ctx);
	if (err)
		return err;
	*sp = s = play->side[ctx->rank] = gy_container_of(ctx, struct side, ctx);
	s->peer.rank = 1 - ctx->rank;
	s->peer.ctx = ctx;
	err = gy_sim_ops.ep_open(ctx->nics[0], &s->peer, &s->peer.ep);
	if (!err)
		err = gy_sim_ops.mem_register(ctx->nics[0], s->mem, sizeof(s->mem));
	if (err)
		return err;
	gy_sim_ops.connect(s->peer.ep);
	while (s->peer.state != GY_PEER_UP)
		side_drive(s);
	return 0;
}

static uint8_t byte_of(unsigned grain, unsigned i)
{
	return (uint8_t)(1 + (grain * 31 + i) % 200);
}

/* ---- rank 0 ---- */

static void sender_fill(struct play *play, struct side *s, unsigned i)
{
	struct gy_grain *g = &s->grain[i];
	unsigned k;

	for (k = 0; k < GRAIN; k++)
		s->mem[i][k] = byte_of(i, k);
	*g = (struct gy_grain){
		.hdr = { .len = GRAIN },
		.src = s->mem[i],
		.to = play->side[1]->where,
		.to_off = (size_t)i * GRAIN,
		.ticket = TICKET + i,
	};
	if (i != GRAINS - 1)
		return;
	switch (play->breach) {
	case BEYOND:
		g->to_off++;
		break;
	case UNKNOWN:
		g->to.w[2] += 7;
		break;
	case TWICE:
		g->to_off = 0;
		break;
	case SAME_TICKET:
		g->ticket--;
		break;
	default:
		break;
	}
}

static int sender_main(struct play *play, struct side *s)
{
	uint64_t end = gy_sim_now(gy_sim_world(s->ctx.sim)) + LONG_NS;
	int err;

	while (!play->side[1]->where.w[1])
		side_drive(s);
	while (s->back < GRAINS && gy_sim_now(gy_sim_world(s->ctx.sim)) < end) {
		while (s->sent < GRAINS && !s->blocked) {
			sender_fill(play, s, s->sent);
			err = gy_sim_ops.bulk(s->peer.ep, &s->grain[s->sent]);
			if (err && err != -EAGAIN)
				return err;
			s->blocked = err == -EAGAIN;
			s->sent += !err;
		}
		if (play->breach == SOURCE_FREED && s->sent && s->back < s->sent)
			gy_sim_ops.mem_unregister(s->ctx.nics[0], s->mem, sizeof(s->mem));
		side_drive(s);
	}
	return s->back == GRAINS ? 0 : -ETIME;
}

/* ---- rank 1 ---- */

/* What was there before anything came. */
static bool grain_is(const struct side *s, unsigned i, bool written)
{
	unsigned k;

	for (k = 0; k < GRAIN; k++) {
		if (s->mem[i][k] != (written ? byte_of(i, k) : 0))
			return false;
	}
	return true;
}

/* Every other grain is revoked; what has been said of it before counts. */
static void receiver_revoke(struct side *s, bool *revoked)
{
	unsigned i;

	for (i = 0; i < GRAINS; i += 2) {
		if (s->written[i])
			continue;
		revoked[i] = true;
		gy_sim_ops.revoke(s->peer.ep, s->mem[i], GRAIN);
		memset(s->mem[i], 0, GRAIN);
	}
}

static int receiver_main(struct play *play, struct side *s)
{
	struct gy_sim_rank *rank = s->ctx.sim;
	const uint64_t end = gy_sim_now(gy_sim_world(rank)) + 2 * (uint64_t)LONG_NS;
	bool revoked[GRAINS] = { false };
	unsigned i;
	int err;

	err = gy_sim_ops.expose(s->peer.ep, s->mem, sizeof(s->mem), &s->where);
	if (err)
		return err;
	if (play->breach == UNREGISTERED) {
		gy_sim_sleep(rank, 2000);
		gy_sim_ops.mem_unregister(s->ctx.nics[0], s->mem, sizeof(s->mem));
	}
	if (play->revoke) {
		gy_sim_sleep(rank, gy_sim_random(rank) % 20000);
		receiver_revoke(s, revoked);
	}
	while (play->polls && gy_sim_now(gy_sim_world(rank)) < end)
		side_drive(s);
	gy_sim_sleep(rank, LONG_NS);	/* nobody polls, the bytes land all the same */
	for (i = 0; i < GRAINS; i++) {
		if (!grain_is(s, i, !revoked[i]))
			return -EBADMSG;
	}
	while (gy_sim_now(gy_sim_world(rank)) < end + LONG_NS)
		side_drive(s);
	for (i = 0; i < GRAINS; i++) {
		if (s->written[i] != !revoked[i])
			return -EPROTO;
	}
	return 0;
}

static int play_main(struct gy_sim_rank *rank, void *arg)
{
	struct play *play = arg;
	struct side *s;
	int err;

	err = side_open(play, rank, &s);
	if (err)
		return err;
	err = s->ctx.rank ? receiver_main(play, s) : sender_main(play, s);
	gy_sim_sleep(rank, 10 * (uint64_t)LONG_NS);	/* the other is still busy */
	return err;
}

static int play_run(struct play *play, uint64_t seed)
{
	struct gy_sim_attr attr;
	int err;

	gy_sim_attr_init(&attr, 2, seed);
	attr.link.caps = GY_SIM_BULK | GY_SIM_WRITE;
	attr.link.lanes = 1 + seed % 4;
	attr.link.write_max = play->breach == FLOOD ? GRAINS - 1 : GRAINS;
	attr.link.bulk_room = GRAINS;
	attr.quiet = play->breach != NONE;
	err = gy_sim_run(&attr, play_main, play);
	free(play->side[0]);
	free(play->side[1]);
	return err;
}

/* ---- tests ---- */

static void test_lands_unasked(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 40; seed++) {
		struct play play = { .polls = seed % 2 };

		if (play_run(&play, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_revoked_never_lands(void **state)
{
	uint64_t seed;

	for (seed = 1; seed <= 100; seed++) {
		struct play play = { .revoke = true, .polls = seed % 2 };

		if (play_run(&play, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
	}
}

static void test_breaches_end_the_run(void **state)
{
	int breach;
	uint64_t seed;

	for (breach = BEYOND; breach < BREACHES; breach++) {
		for (seed = 1; seed <= 10; seed++) {
			struct play play = { .breach = (enum breach)breach };
			const int err = play_run(&play, seed);

			if (err != -EFAULT && !(breach == SOURCE_FREED && err == -EBUSY))
				fail_msg("breach %d, seed %llu: %d", breach,
					 (unsigned long long)seed, err);
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lands_unasked),
		cmocka_unit_test(test_revoked_never_lands),
		cmocka_unit_test(test_breaches_end_the_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
