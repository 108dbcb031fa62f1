/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_progress.c - what a rank begins and leaves, its progress thread goes on with, also when that
 * has long been asleep; in the simulator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <gyre/gyre.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/request.h"
#include "tests/long.h"
#include "transports/sim/sim.h"

#define MS 1000000ull
#define COUNT (64u << 10)		/* f32: too much for one message */
#define ASLEEP (50 * MS)		/* after so long without a call its thread sleeps */
#define SOON (5 * MS)			/* while that lasts, nobody drives */

static float in[COUNT], out[COUNT];

static bool request_is_done(const struct gyre_request *req)
{
	return atomic_load(&req->run.state) == GY_RUN_DONE;
}

/* The message has been announced long before the receive is there. */
static int recv_late(struct gy_sim_rank *rank, struct gyre_comm *world, int me)
{
	struct gyre_request *req;
	int err;

	gy_sim_sleep(rank, me ? ASLEEP + 10 * MS : ASLEEP);
	if (me)
		err = gyre_irecv(out, COUNT, GYRE_F32, 0, 1, world, &req);
	else
		err = gyre_isend(in, COUNT, GYRE_F32, 1, 1, world, &req);
	if (err)
		return err;
	gy_sim_sleep(rank, me ? SOON : ASLEEP);
	if (!request_is_done(req))
		err = -ETIME;
	return gyre_request_wait(&req, NULL) ? -EIO : err;
}

/* The root, or a leaf, is late: nobody else says anything any more. */
static int broadcast_late(struct gy_sim_rank *rank, struct gyre_comm *world, int late)
{
	const int me = gy_sim_rank_id(rank);
	struct gyre_request *req;
	int err;

	gy_sim_sleep(rank, me == late ? ASLEEP + 10 * MS : ASLEEP);
	err = gyre_ibroadcast(me ? out : in, COUNT, GYRE_F32, 0, world, &req);
	if (err)
		return err;
	gy_sim_sleep(rank, me == late ? SOON : 10 * MS + SOON);
	if (!request_is_done(req))
		err = -ETIME;
	return gyre_request_wait(&req, NULL) ? -EIO : err;
}

static int progress_rank(struct gy_sim_rank *rank, void *arg)
{
	const int what = *(const int *)arg, me = gy_sim_rank_id(rank);
	struct gyre_context *ctx;
	struct gyre_comm *world;
	int err = gy_sim_context(rank, NULL, &ctx);

	if (err)
		return err;
	world = gyre_context_world(ctx);
	err = gyre_barrier(world);
	if (!err)
		err = what == 2 ? recv_late(rank, world, me) : broadcast_late(rank, world, what);
	if (!err)
		err = gyre_barrier(world);
	gyre_context_destroy(ctx);
	return err;
}

static void progress_run(int what, unsigned caps)
{
	const uint64_t seeds = test_times(20, 500);
	struct gy_sim_attr attr;
	uint64_t seed;
	int err;

	for (seed = 1; seed <= seeds; seed++) {
		memset(out, 0, sizeof(out));
		gy_sim_attr_init(&attr, 2, seed);
		attr.link.caps = caps;
		err = gy_sim_run(&attr, progress_rank, &what);
		if (err)
			print_error("seed %llu, caps %u\n", (unsigned long long)seed, caps);
		assert_string_equal(gyre_strerror(err), gyre_strerror(0));
		assert_memory_equal(in, out, sizeof(in));
		assert_int_equal(gy_alloc_live(), 0);
	}
}

static void progress_all(int what)
{
	progress_run(what, GY_SIM_BULK);
	progress_run(what, GY_SIM_BULK | GY_SIM_WRITE);
	progress_run(what, GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP | GY_SIM_MAP_HEAP);
	progress_run(what, GY_SIM_LEND);
}

static void test_recv(void **state)
{
	progress_all(2);
}

static void test_broadcast_root(void **state)
{
	progress_all(0);
}

static void test_broadcast_leaf(void **state)
{
	progress_all(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recv),
		cmocka_unit_test(test_broadcast_root),
		cmocka_unit_test(test_broadcast_leaf),
	};
	unsigned i;

	for (i = 0; i < COUNT; i++)
		in[i] = (float)(i % 1009);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
