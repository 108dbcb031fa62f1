/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_comm.c - communicators that come and go: who is in them, and, in the simulator, what others
 * hear of one that is gone.
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
#include <gyre/gyre.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/config.h"
#include "lib/context.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "tests/long.h"
#include "transports/sim/sim.h"

#define US 1000ull
#define MS 1000000ull
#define RANKS 3
#define OLD 100			/* communicators that are destroyed first */
#define LATER 1000		/* others that come and go before any of them is called on */
#define COUNT 16
#define LARGE 20000

enum { TALKER, OTHER, DEAF };

struct job {
	void (*fn)(struct job *j, struct gy_sim_rank *rank, int me);
	uint64_t seed;
	uint32_t latency_ns; /* 0: the simulator's */
	struct gyre_context *ctx[RANKS];
	unsigned steps[RANKS];
	unsigned unmade;
	char why[300];
};

/* Notes what went wrong first. */
static void job_fail(struct job *j, int me, const char *what, int err)
{
	if (!j->why[0])
		snprintf(j->why, sizeof(j->why), "rank %d: %s: %s", me, what, gyre_strerror(err));
}

#define EXPECT(j, me, cond, err)                                                                 \
	do {                                                                                     \
		if (!(cond))                                                                     \
			job_fail(j, me, #cond, err);                                             \
	} while (0)

/* What the library says of failures is not interesting here. */
static void job_log(enum gy_log_level level, const char *text)
{
}

static int job_rank(struct gy_sim_rank *rank, void *arg)
{
	const int me = gy_sim_rank_id(rank);
	struct job *j = arg;
	struct gy_config cfg;
	int err;

	gy_config_init(&cfg);
	cfg.progress = GY_CONFIG_PROGRESS_MANUAL;
	cfg.stall_timeout_ms = 3000;
	err = gy_sim_context(rank, &cfg, &j->ctx[me]);
	if (err)
		return err;
	j->fn(j, rank, me);
	gyre_context_destroy(j->ctx[me]);
	return 0;
}

static void job_run(struct job *j)
{
	struct gy_sim_attr attr;
	int err;

	gy_sim_attr_init(&attr, RANKS, j->seed);
	attr.link.msg_room = 8;
	if (j->latency_ns)
		attr.link.latency_ns = j->latency_ns;
	attr.max_events = 20000000;
	err = gy_sim_run(&attr, job_rank, j);
	if (err || j->why[0])
		print_error("seed %llu: %s: %s\n", (unsigned long long)j->seed, gyre_strerror(err),
			    j->why);
	assert_int_equal(err, 0);
	assert_string_equal(j->why, "");
	assert_int_equal(gy_alloc_live(), 0);
}

/* This rank has come so far; it drives until that other has. */
static void job_meet(struct job *j, struct gy_sim_rank *rank, int me, int other, unsigned step)
{
	j->steps[me] = step;
	while (j->steps[other] < step) {
		gyre_progress(j->ctx[me]);
		gy_sim_sleep(rank, 10 * US);
	}
}

static struct gyre_comm *job_split(struct job *j, int me, struct gyre_comm *comm, bool takes_part)
{
	struct gyre_comm *some = NULL;
	const int err = gyre_comm_split(comm, takes_part ? 0 : -1, me, &some);

	EXPECT(j, me, !err, err);
	return some;
}

/* ---- the cause of a failure reaches who could not be told before it was destroyed ---- */

static void job_fill_lane(struct job *j, int me, int to)
{
	struct gy_engine *e = &j->ctx[me]->engine;
	int i;

	gy_engine_enter(e);
	for (i = 0; i < 1000 && !e->peers[to]->blocked; i++)
		gy_peer_msg(e, e->peers[to], &(struct gy_hdr){ .kind = GY_MSG_CREDIT }, NULL);
	EXPECT(j, me, e->peers[to]->blocked, i);
	gy_engine_leave(e);
}

/* What the others do after their failure, before the deaf rank hears again. */
enum after { GO_ON, MAKE_OTHERS, LEAVE, AFTERS };

/* The calls of two ranks do not match, and they destroy the communicator. */
static void cause_fail(struct job *j, struct gy_sim_rank *rank, int me, struct gyre_comm *sub,
		       struct gyre_comm *pair)
{
	const enum after after = (enum after)(j->seed % AFTERS);
	float x[COUNT] = { 0 }, y[COUNT];
	int err, i;

	job_meet(j, rank, me, DEAF, 1);
	job_fill_lane(j, me, DEAF);
	job_meet(j, rank, me, !me, 2);
	err = gyre_allreduce(x, y, me ? COUNT : COUNT / 2, GYRE_F32, GYRE_SUM, sub);
	EXPECT(j, me, err == -EPROTO, err);
	gyre_comm_destroy(sub);
	for (i = 0; i < 2 * GY_PAST && after == MAKE_OTHERS; i++)
		gyre_comm_destroy(job_split(j, me, pair, true));
	job_meet(j, rank, me, !me, 3);
	gyre_comm_destroy(pair);
	if (after != LEAVE)
		job_meet(j, rank, me, DEAF, 3);
}

/* One rank does nothing meanwhile, and reads nothing. */
static void cause_deaf(struct job *j, struct gy_sim_rank *rank, struct gyre_comm *sub)
{
	float x[COUNT] = { 0 }, y[COUNT];
	char why[300] = "";
	int err;

	while (j->steps[TALKER] < 3 || j->steps[OTHER] < 3)
		gy_sim_sleep(rank, MS);
	if (j->seed / AFTERS % 2)
		err = gyre_recv(x, COUNT, GYRE_F32, TALKER, 0, sub, NULL);
	else
		err = gyre_allreduce(x, y, COUNT, GYRE_F32, GYRE_SUM, sub);
	EXPECT(j, DEAF, err == -EPROTO, err);
	gyre_comm_status(sub, why, sizeof(why));
	if (!strstr(why, "calls do not match: "))
		job_fail(j, DEAF, why, err);
	gyre_comm_destroy(sub);
	j->steps[DEAF] = 3;
}

static void cause_rank(struct job *j, struct gy_sim_rank *rank, int me)
{
	struct gyre_comm *world = gyre_context_world(j->ctx[me]);
	struct gyre_comm *sub = job_split(j, me, world, true);
	struct gyre_comm *pair = job_split(j, me, world, me != DEAF);
	int64_t one = 1, all[RANKS];
	int err = gyre_allgather(&one, all, 1, GYRE_INT64, sub);

	EXPECT(j, me, !err, err);
	j->steps[me] = 1;	/* it has ended, not only for others */
	if (me == DEAF)
		cause_deaf(j, rank, sub);
	else
		cause_fail(j, rank, me, sub, pair);
}

static void test_cause_outlives_communicator(void **state)
{
	const unsigned n = 6 * test_times(4, 100);
	unsigned i;

	for (i = 0; i < n; i++) {
		struct job j = { .fn = cause_rank, .seed = i };

		job_run(&j);
	}
}

/* ---- and who has made one that another could not make ---- */

/* A rank that has no part in the new communicator is lost while it is made. */
static void unmade_rank(struct job *j, struct gy_sim_rank *rank, int me)
{
	struct gyre_comm *world = gyre_context_world(j->ctx[me]), *pair = NULL;
	struct gy_sim_world *w = gy_sim_world(rank);
	int64_t one = 1, all[RANKS];
	char why[300] = "";
	uint64_t at;
	int err;

	err = gyre_allgather(&one, all, 1, GYRE_INT64, world);
	EXPECT(j, me, !err, err);
	job_meet(j, rank, me, TALKER, 1);
	job_meet(j, rank, me, OTHER, 1);
	if (me == DEAF) {
		at = gy_sim_now(w) + gy_sim_random(rank) % (100 * US);
		gy_sim_cut(w, TALKER, DEAF, at);
		gy_sim_cut(w, OTHER, DEAF, at);
	}
	err = gyre_comm_split(world, me == DEAF ? -1 : 0, me, &pair);
	if (!err && me != DEAF) {
		err = gyre_allgather(&one, all, 1, GYRE_INT64, pair);
		gyre_comm_status(pair, why, sizeof(why));
		if (err && !strstr(why, "since what it comes from failed: rank 2 is lost"))
			job_fail(j, me, why, err);
		j->unmade += err != 0;
	}
	job_meet(j, rank, me, !me, 2);
	gyre_comm_destroy(pair);
}

static void test_cause_of_no_communicator(void **state)
{
	const unsigned n = test_times(300, 3000);
	unsigned i, unmade = 0;

	for (i = 0; i < n; i++) {
		struct job j = { .fn = unmade_rank, .seed = i };

		job_run(&j);
		unmade += j.unmade;
	}
	assert_true(unmade > 0);
}

/* ---- messages for what was destroyed long ago ---- */

/* It calls on them late, on all; once the other waits for a shrink, whose name it cannot know. */
static void late_talker(struct job *j, struct gy_sim_rank *rank, struct gyre_comm **old)
{
	float x[COUNT] = { 0 };
	uint64_t flags, begin;
	char why[300] = "";
	int i, err;

	job_meet(j, rank, TALKER, OTHER, 1);
	for (i = 0; i < OLD; i++) {
		flags = 3;
		begin = gy_sim_time(rank);
		switch (i % 4) {
		case 0:
			err = gyre_send(x, COUNT, GYRE_F32, 1, 0, old[i]);
			EXPECT(j, TALKER, !err || err == -EPROTO, err);
			break;
		case 1:
			err = gyre_recv(x, COUNT, GYRE_F32, 1, 0, old[i], NULL);
			EXPECT(j, TALKER, err == -EPROTO, err);
			gyre_comm_status(old[i], why, sizeof(why));
			EXPECT(j, TALKER, strstr(why, "has destroyed the communicator"), err);
			break;
		default:
			err = gyre_comm_agree(old[i], &flags);
			EXPECT(j, TALKER, err == -EOWNERDEAD && flags == 3, err);
		}
		EXPECT(j, TALKER, gy_sim_time(rank) - begin < 1000 * MS, i);
		if (i == OLD / 2)
			job_meet(j, rank, TALKER, OTHER, 2);
	}
	job_meet(j, rank, TALKER, OTHER, 3);
}

static void late_other(struct job *j, struct gy_sim_rank *rank, struct gyre_comm **old,
		       struct gyre_comm *pair)
{
	const struct gy_engine *e = &j->ctx[OTHER]->engine;
	struct gyre_comm *left = NULL;
	const struct gy_list *pos;
	int i, err, past = 0;

	for (i = 0; i < OLD; i++)
		gyre_comm_destroy(old[i]);
	for (i = 0; i < LATER; i++)
		gyre_comm_destroy(job_split(j, OTHER, pair, true));
	job_meet(j, rank, OTHER, TALKER, 2);
	err = gyre_comm_shrink(pair, &left);
	EXPECT(j, OTHER, !err, err);
	gyre_comm_destroy(left);
	job_meet(j, rank, OTHER, TALKER, 3);
	EXPECT(j, OTHER, gy_list_empty(&e->early_control), 0);
	gy_list_for_each(pos, &e->past)
		past++;
	EXPECT(j, OTHER, past <= GY_PAST, past);
	EXPECT(j, OTHER, !e->peers[TALKER]->parked_bytes, (int)e->peers[TALKER]->parked_bytes);
}

static void late_rank(struct job *j, struct gy_sim_rank *rank, int me)
{
	struct gyre_comm *world = gyre_context_world(j->ctx[me]), *old[OLD], *left = NULL, *pair;
	int i, err;

	pair = job_split(j, me, world, me != TALKER);
	for (i = 0; i < OLD; i++)
		old[i] = job_split(j, me, world, me != DEAF);
	if (me == TALKER) {
		late_talker(j, rank, old);
	} else if (me == OTHER) {
		late_other(j, rank, old, pair);
	} else {
		for (i = 0; i < LATER; i++)
			gyre_comm_destroy(job_split(j, me, pair, true));
		while (j->steps[TALKER] < 2)
			gy_sim_sleep(rank, MS);
		gy_sim_sleep(rank, 100 * MS);
		err = gyre_comm_shrink(pair, &left);
		EXPECT(j, me, !err, err);
		gyre_comm_destroy(left);
	}
	err = gyre_barrier(world);
	EXPECT(j, me, !err, err);
	for (i = 0; i < OLD && me == TALKER; i++)
		gyre_comm_destroy(old[i]);
	gyre_comm_destroy(pair);
}

static void test_late_messages(void **state)
{
	const unsigned n = test_times(1, 10);
	unsigned i;

	for (i = 0; i < n; i++) {
		struct job j = { .fn = late_rank, .seed = i };

		job_run(&j);
	}
}

/* ---- a late rank ends a call and destroys the communicator, as it is asked for the call ---- */

static int asked_start(const struct job *j, int me, struct gyre_comm *pair,
		       struct gyre_request **req)
{
	static float in[LARGE], out[2][LARGE];

	if (j->seed % 3 == 0)
		return gyre_iallreduce(in, out[me], COUNT, GYRE_F32, GYRE_SUM, pair, req);
	if ((j->seed % 3 == 1) == (me == TALKER))
		return gyre_isend(in, j->seed % 2 ? COUNT : LARGE, GYRE_F32, !me, 1, pair, req);
	return gyre_irecv(out[me], LARGE, GYRE_F32, !me, 1, pair, req);
}

static void asked_rank(struct job *j, struct gy_sim_rank *rank, int me)
{
	struct gyre_comm *world = gyre_context_world(j->ctx[me]);
	struct gyre_comm *pair = job_split(j, me, world, me != DEAF);
	struct gyre_request *req = NULL;
	int i, err = 0, done = me == DEAF;

	if (me == TALKER) /* the other asks after 200 ms, at ticks of 20 ms */
		gy_sim_sleep(rank, 190 * MS + j->seed * 7919 % 4000 * 10 * US);
	if (!done)
		err = asked_start(j, me, pair, &req);
	while (!err && !done) { /* what has come and that the communicator is gone, at a time */
		gy_sim_sleep(rank, me == TALKER ? 10 * US : 10 * MS);
		err = gyre_request_test(&req, &done, NULL);
	}
	EXPECT(j, me, !err, err);
	if (me == TALKER)
		gyre_comm_destroy(pair);
	for (i = 0; i < 300; i++) {
		gyre_progress(j->ctx[me]);
		gy_sim_sleep(rank, 100 * US);
	}
	err = gyre_barrier(world);
	EXPECT(j, me, !err, err);
	if (me != OTHER)
		return;
	err = gyre_comm_status(pair, NULL, 0);
	EXPECT(j, me, !err, err);
	gyre_comm_destroy(pair);
}

static void test_asked_late(void **state)
{
	const unsigned n = test_times(90, 900);
	unsigned i;

	for (i = 0; i < n; i++) {
		struct job j = { .fn = asked_rank, .seed = i, .latency_ns = 5 * MS };

		job_run(&j);
	}
}

/* ---- who comes into which new communicator ---- */

/* As gyre_comm_split says: its members are those of one colour, ordered by key, then by rank. */
static void split_check(const struct gy_split *all, int n, int me, const int *ranks, int size)
{
	int i, j, place, members = 0;

	for (i = 0; i < n; i++) {
		if (all[i].color != all[me].color)
			continue;
		members++;
		for (j = 0, place = 0; j < n; j++)
			place += all[j].color == all[i].color &&
				 (all[j].key < all[i].key || (all[j].key == all[i].key && j < i));
		assert_true(place < size);
		assert_int_equal(ranks[place], i);
	}
	assert_int_equal(size, members);
}

static void split_try(int n, unsigned colors, unsigned keys)
{
	struct gy_split *all = calloc((size_t)n, sizeof(*all));
	struct gy_split *sorted = calloc((size_t)n, sizeof(*all));
	int *ranks = calloc((size_t)n, sizeof(*ranks));
	const int me = rand() % n;
	int i, size, place = -1;

	assert_true(all && sorted && ranks);
	for (i = 0; i < n; i++) {
		all[i].color = rand() % (int)colors - 1;
		all[i].key = keys ? rand() % (int)keys - (int)keys / 2
				  : (int32_t)((uint32_t)rand() << 1);
		sorted[i] = all[i];
	}
	size = gy_split_members(sorted, n, me, ranks, &place);
	split_check(all, n, me, ranks, size);
	assert_int_equal(ranks[place], me);
	free(ranks);
	free(sorted);
	free(all);
}

static void test_split_members(void **state)
{
	static const unsigned colors[] = { 1, 2, 10, 1000 }, keys[] = { 0, 1, 3, 100 };
	unsigned c, k, i;
	int n;

	srand(1);
	for (c = 0; c < GY_ARRAY_SIZE(colors); c++) {
		for (k = 0; k < GY_ARRAY_SIZE(keys); k++) {
			for (n = 1; n <= 9; n++)
				split_try(n, colors[c], keys[k]);
			for (i = 0; i < test_times(5, 50); i++)
				split_try(1 + rand() % 300, colors[c], keys[k]);
		}
		split_try(4000, colors[c], keys[c]);
	}
}

/*
 * A message of DEAF has been refused, and there is no room to say so while it does not read.  It
 * hears of it although TALKER leaves; and where it does not read for longer than TALKER waits,
 * OTHER still hears that TALKER has left in good order.
 */
static void bye_rank(struct job *j, struct gy_sim_rank *rank, int me)
{
	static float in[LARGE], out[COUNT];
	const bool long_deaf = j->seed % 2;
	struct gyre_comm *world = gyre_context_world(j->ctx[me]);
	struct gyre_request *req = NULL;
	int i, err = gyre_barrier(world);

	EXPECT(j, me, !err, err);
	if (me == DEAF) {
		err = gyre_isend(in, LARGE, GYRE_F32, TALKER, 1, world, &req);
		EXPECT(j, me, !err, err);
		gy_sim_sleep(rank, (long_deaf ? 6000 : 500) * MS);
		err = gyre_request_wait(&req, NULL);
		EXPECT(j, me, !err || long_deaf, err);
	} else if (me == TALKER) {
		for (i = 0; i < 100; i++) {
			gyre_progress(j->ctx[me]);
			gy_sim_sleep(rank, MS);
		}
		job_fill_lane(j, me, DEAF);
		err = gyre_recv(out, COUNT, GYRE_F32, DEAF, 1, world, NULL);
		EXPECT(j, me, err == -EMSGSIZE, err);
	} else {
		for (i = 0; i < 4000; i++) {
			gyre_progress(j->ctx[me]);
			gy_sim_sleep(rank, MS);
		}
		err = gyre_comm_status(world, NULL, 0);
		EXPECT(j, me, !err, err);
	}
}

static void test_bye(void **state)
{
	struct job j = { .fn = bye_rank };

	for (j.seed = 0; j.seed < 8; j.seed++) {
		struct job one = j;

		job_run(&one);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cause_outlives_communicator),
		cmocka_unit_test(test_cause_of_no_communicator),
		cmocka_unit_test(test_late_messages),
		cmocka_unit_test(test_asked_late),
		cmocka_unit_test(test_split_members),
		cmocka_unit_test(test_bye),
	};

	gy_log_set_hook(job_log);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
