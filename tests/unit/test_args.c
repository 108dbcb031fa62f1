/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_args.c - each public function with each bad argument: the error that its header says, a
 * message that names the argument, and nothing has started: correct calls work before, between and
 * after.
 *
 * Runs alone, and as three ranks in the simulator.  Ranks there must not leave by longjmp, so what
 * is wrong is noted and asserted afterwards.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include <gyre/gyre.h>
#include "lib/alloc.h"
#include "transports/sim/sim.h"

#define N 4
#define BAD_TYPE ((enum gyre_type)GYRE_NTYPES)
#define BAD_OP ((enum gyre_op)GYRE_NOPS)
#define HUGE_COUNT (SIZE_MAX / 8)

struct env {
	struct gyre_context *ctx;
	struct gyre_comm *world;
	int rank, size;
	float in[3 * N], out[3 * N];
	struct gyre_request *req;	/* never set by a bad call */
	struct gyre_status status;
	unsigned calls;
	char wrong[400];		/* the first thing that is */
};

/* ---- what a call says ---- */

static int said_file, said_stderr;

static void said_begin(void)
{
	said_file = memfd_create("stderr", MFD_CLOEXEC);
	said_stderr = dup(STDERR_FILENO);
	assert_true(said_file >= 0 && said_stderr >= 0);
	dup2(said_file, STDERR_FILENO);
}

static void said_end(char *text, size_t size)
{
	ssize_t n;

	dup2(said_stderr, STDERR_FILENO);
	n = pread(said_file, text, size - 1, 0);
	text[n < 0 ? 0 : n] = 0;
	close(said_file);
	close(said_stderr);
}

static void wrong(struct env *env, const char *call, const char *what, int err, const char *said)
{
	if (!env->wrong[0])
		snprintf(env->wrong, sizeof(env->wrong), "rank %d: %s: %s: %d, said: %s", env->rank,
			 call, what, err, said);
}

/* A call that is to give want, and to say two words: its name and the argument's; NULL: nothing. */
static void check(struct env *env, const char *call, int err, int want, const char *arg)
{
	char text[1000], name[60];
	size_t len = strcspn(call, "(");

	said_end(text, sizeof(text));
	env->calls++;
	snprintf(name, sizeof(name), "%.*s: ", (int)len, call);
	if (err != want)
		wrong(env, call, "another result", err, text);
	else if (arg && (!strstr(text, name) || !strstr(text, arg)))
		wrong(env, call, "does not name function and argument", err, text);
	else if (!arg && text[0])
		wrong(env, call, "has nothing to say", err, text);
	if (env->req)
		wrong(env, call, "gave a request", err, text);
}

#define CHECK(call, want, arg)                                                                   \
	do {                                                                                     \
		int check_err_;                                                                  \
		said_begin();                                                                    \
		check_err_ = (call);                                                             \
		check(env, #call, check_err_, want, arg);                                        \
	} while (0)

#define BAD(call, arg) CHECK(call, -EINVAL, arg)

/* ---- the correct calls ---- */

static void good_round(struct env *env)
{
	const int next = (env->rank + 1) % env->size,
		prev = (env->rank + env->size - 1) % env->size;
	struct gyre_request *req = NULL;
	const float sum = (float)(env->size * (env->size + 1) / 2);
	int err, i;

	for (i = 0; i < 3 * N; i++)
		env->in[i] = (float)(env->rank + 1);
	/* Twice: the second call of a kind takes a shorter way. */
	err = gyre_allreduce(env->in, env->out, N, GYRE_F32, GYRE_SUM, env->world);
	err |= gyre_allreduce(env->in, env->out, N, GYRE_F32, GYRE_SUM, env->world);
	if (err || env->out[0] != sum || env->out[N - 1] != sum)
		wrong(env, "allreduce", "a correct call", err, "");
	err = gyre_reduce_scatter(env->in, env->out, N, GYRE_F32, GYRE_MAX, env->world);
	err |= gyre_allgather(env->in, env->out, N, GYRE_F32, env->world);
	err |= gyre_broadcast(env->out, N, GYRE_F32, env->size - 1, env->world);
	err |= gyre_barrier(env->world);
	if (err)
		wrong(env, "collectives", "a correct call", err, "");
	err = gyre_irecv(env->out, N, GYRE_F32, prev, 3, env->world, &req);
	err |= gyre_send(env->in, N, GYRE_F32, next, 3, env->world);
	err |= gyre_request_wait(&req, NULL);
	if (err || env->out[0] != (float)(prev + 1))
		wrong(env, "send and receive", "a correct call", err, "");
}

/* ---- the bad ones ---- */

static void bad_allreduce(struct env *env)
{
	float *in = env->in, *out = env->out;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_allreduce(in, out, N, GYRE_F32, GYRE_SUM, NULL), "comm");
	BAD(gyre_allreduce(in, out, N, BAD_TYPE, GYRE_SUM, w), "type");
	BAD(gyre_allreduce(in, out, N, (enum gyre_type) - 1, GYRE_SUM, w), "type");
	BAD(gyre_allreduce(in, out, N, (enum gyre_type)(GYRE_F32 + 256), GYRE_SUM, w), "type");
	BAD(gyre_allreduce(in, out, N, GYRE_F32, BAD_OP, w), "op");
	BAD(gyre_allreduce(in, out, N, GYRE_F32, (enum gyre_op)(GYRE_SUM + 256), w), "op");
	BAD(gyre_allreduce(in, out, N, GYRE_F32, (enum gyre_op) - 1, w), "op");
	BAD(gyre_allreduce(in, out, HUGE_COUNT, GYRE_F32, GYRE_SUM, w), "count");
	BAD(gyre_allreduce(NULL, out, N, GYRE_F32, GYRE_SUM, w), "in");
	BAD(gyre_allreduce(in, NULL, N, GYRE_F32, GYRE_SUM, w), "out");
	BAD(gyre_allreduce(in, (void *)GYRE_IN_PLACE, N, GYRE_F32, GYRE_SUM, w), "out");
	BAD(gyre_iallreduce(in, out, N, GYRE_F32, GYRE_SUM, NULL, req), "comm");
	BAD(gyre_iallreduce(in, out, N, BAD_TYPE, GYRE_SUM, w, req), "type");
	BAD(gyre_iallreduce(in, out, N, GYRE_F32, BAD_OP, w, req), "op");
	BAD(gyre_iallreduce(NULL, out, N, GYRE_F32, GYRE_SUM, w, req), "in");
	BAD(gyre_iallreduce(in, NULL, N, GYRE_F32, GYRE_SUM, w, req), "out");
	BAD(gyre_iallreduce(in, out, N, GYRE_F32, GYRE_SUM, w, NULL), "req");
	BAD(gyre_allreduce_init(in, out, N, GYRE_F32, GYRE_SUM, NULL, req), "comm");
	BAD(gyre_allreduce_init(in, out, N, BAD_TYPE, GYRE_SUM, w, req), "type");
	BAD(gyre_allreduce_init(in, out, N, GYRE_F32, BAD_OP, w, req), "op");
	BAD(gyre_allreduce_init(in, out, HUGE_COUNT, GYRE_F32, GYRE_SUM, w, req), "count");
	BAD(gyre_allreduce_init(in, NULL, N, GYRE_F32, GYRE_SUM, w, req), "out");
	BAD(gyre_allreduce_init(in, out, N, GYRE_F32, GYRE_SUM, w, NULL), "req");
}

static void bad_reduce_scatter(struct env *env)
{
	float *in = env->in, *out = env->out;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_reduce_scatter(in, out, N, GYRE_F32, GYRE_SUM, NULL), "comm");
	BAD(gyre_reduce_scatter(in, out, N, BAD_TYPE, GYRE_SUM, w), "type");
	BAD(gyre_reduce_scatter(in, out, N, GYRE_F32, BAD_OP, w), "op");
	BAD(gyre_reduce_scatter(in, out, HUGE_COUNT, GYRE_F32, GYRE_SUM, w), "count");
	BAD(gyre_reduce_scatter(NULL, out, N, GYRE_F32, GYRE_SUM, w), "in");
	BAD(gyre_reduce_scatter(in, NULL, N, GYRE_F32, GYRE_SUM, w), "out");
	BAD(gyre_ireduce_scatter(in, out, N, GYRE_F32, GYRE_SUM, NULL, req), "comm");
	BAD(gyre_ireduce_scatter(in, out, N, BAD_TYPE, GYRE_SUM, w, req), "type");
	BAD(gyre_ireduce_scatter(in, out, N, GYRE_F32, BAD_OP, w, req), "op");
	BAD(gyre_ireduce_scatter(in, out, N, GYRE_F32, GYRE_SUM, w, NULL), "req");
	BAD(gyre_reduce_scatter_init(in, out, N, GYRE_F32, BAD_OP, w, req), "op");
	BAD(gyre_reduce_scatter_init(in, out, N, BAD_TYPE, GYRE_SUM, w, req), "type");
	BAD(gyre_reduce_scatter_init(in, out, N, GYRE_F32, GYRE_SUM, NULL, req), "comm");
	BAD(gyre_reduce_scatter_init(in, out, N, GYRE_F32, GYRE_SUM, w, NULL), "req");
}

static void bad_allgather(struct env *env)
{
	float *in = env->in, *out = env->out;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_allgather(in, out, N, GYRE_F32, NULL), "comm");
	BAD(gyre_allgather(in, out, N, BAD_TYPE, w), "type");
	BAD(gyre_allgather(in, out, HUGE_COUNT, GYRE_F32, w), "count");
	BAD(gyre_allgather(NULL, out, N, GYRE_F32, w), "in");
	BAD(gyre_allgather(in, NULL, N, GYRE_F32, w), "out");
	BAD(gyre_iallgather(in, out, N, GYRE_F32, NULL, req), "comm");
	BAD(gyre_iallgather(in, out, N, BAD_TYPE, w, req), "type");
	BAD(gyre_iallgather(in, out, N, GYRE_F32, w, NULL), "req");
	BAD(gyre_allgather_init(in, out, N, GYRE_F32, NULL, req), "comm");
	BAD(gyre_allgather_init(in, out, N, BAD_TYPE, w, req), "type");
	BAD(gyre_allgather_init(in, out, N, GYRE_F32, w, NULL), "req");
}

static void bad_broadcast(struct env *env)
{
	float *buf = env->out;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_broadcast(buf, N, GYRE_F32, 0, NULL), "comm");
	BAD(gyre_broadcast(buf, N, BAD_TYPE, 0, w), "type");
	BAD(gyre_broadcast(buf, HUGE_COUNT, GYRE_F32, 0, w), "count");
	BAD(gyre_broadcast(NULL, N, GYRE_F32, 0, w), "buf");
	BAD(gyre_broadcast((void *)GYRE_IN_PLACE, N, GYRE_F32, 0, w), "buf");
	BAD(gyre_broadcast(buf, N, GYRE_F32, -1, w), "root");
	BAD(gyre_broadcast(buf, N, GYRE_F32, env->size, w), "root");
	BAD(gyre_ibroadcast(buf, N, GYRE_F32, 0, NULL, req), "comm");
	BAD(gyre_ibroadcast(buf, N, BAD_TYPE, 0, w, req), "type");
	BAD(gyre_ibroadcast(buf, N, GYRE_F32, env->size, w, req), "root");
	BAD(gyre_ibroadcast(buf, N, GYRE_F32, 0, w, NULL), "req");
	BAD(gyre_broadcast_init(buf, N, GYRE_F32, 0, NULL, req), "comm");
	BAD(gyre_broadcast_init(buf, N, BAD_TYPE, 0, w, req), "type");
	BAD(gyre_broadcast_init(buf, N, GYRE_F32, -1, w, req), "root");
	BAD(gyre_broadcast_init(buf, N, GYRE_F32, 0, w, NULL), "req");
	BAD(gyre_barrier(NULL), "comm");
	BAD(gyre_ibarrier(NULL, req), "comm");
	BAD(gyre_ibarrier(w, NULL), "req");
	BAD(gyre_barrier_init(NULL, req), "comm");
	BAD(gyre_barrier_init(w, NULL), "req");
}

static void bad_send(struct env *env)
{
	float *buf = env->in;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_send(buf, N, GYRE_F32, 0, 1, NULL), "comm");
	BAD(gyre_send(buf, N, BAD_TYPE, 0, 1, w), "type");
	BAD(gyre_send(buf, HUGE_COUNT, GYRE_F32, 0, 1, w), "count");
	BAD(gyre_send(NULL, N, GYRE_F32, 0, 1, w), "buf");
	BAD(gyre_send(GYRE_IN_PLACE, N, GYRE_F32, 0, 1, w), "buf");
	BAD(gyre_send(buf, N, GYRE_F32, GYRE_ANY_SOURCE, 1, w), "dest");
	BAD(gyre_send(buf, N, GYRE_F32, env->size, 1, w), "dest");
	BAD(gyre_send(buf, N, GYRE_F32, 0, GYRE_ANY_TAG, w), "tag");
	BAD(gyre_isend(buf, N, GYRE_F32, 0, 1, NULL, req), "comm");
	BAD(gyre_isend(buf, N, BAD_TYPE, 0, 1, w, req), "type");
	BAD(gyre_isend(buf, N, GYRE_F32, env->size, 1, w, req), "dest");
	BAD(gyre_isend(buf, N, GYRE_F32, 0, -5, w, req), "tag");
	BAD(gyre_isend(buf, N, GYRE_F32, 0, 1, w, NULL), "req");
	BAD(gyre_send_init(buf, N, GYRE_F32, 0, 1, NULL, req), "comm");
	BAD(gyre_send_init(buf, N, BAD_TYPE, 0, 1, w, req), "type");
	BAD(gyre_send_init(buf, N, GYRE_F32, -1, 1, w, req), "dest");
	BAD(gyre_send_init(NULL, N, GYRE_F32, 0, 1, w, req), "buf");
	BAD(gyre_send_init(buf, N, GYRE_F32, 0, 1, w, NULL), "req");
}

static void bad_recv(struct env *env)
{
	float *in = env->in, *out = env->out;
	struct gyre_request **req = &env->req;
	struct gyre_comm *w = env->world;

	BAD(gyre_recv(out, N, GYRE_F32, 0, 1, NULL, NULL), "comm");
	BAD(gyre_recv(out, N, BAD_TYPE, 0, 1, w, NULL), "type");
	BAD(gyre_recv(out, HUGE_COUNT, GYRE_F32, 0, 1, w, NULL), "count");
	BAD(gyre_recv(NULL, N, GYRE_F32, 0, 1, w, NULL), "buf");
	BAD(gyre_recv(out, N, GYRE_F32, -2, 1, w, NULL), "source");
	BAD(gyre_recv(out, N, GYRE_F32, env->size, 1, w, NULL), "source");
	BAD(gyre_recv(out, N, GYRE_F32, 0, -2, w, NULL), "tag");
	BAD(gyre_irecv(out, N, GYRE_F32, 0, 1, NULL, req), "comm");
	BAD(gyre_irecv(out, N, BAD_TYPE, 0, 1, w, req), "type");
	BAD(gyre_irecv(out, N, GYRE_F32, env->size, 1, w, req), "source");
	BAD(gyre_irecv(out, N, GYRE_F32, 0, 1, w, NULL), "req");
	BAD(gyre_recv_init(out, N, GYRE_F32, 0, 1, NULL, req), "comm");
	BAD(gyre_recv_init(out, N, BAD_TYPE, 0, 1, w, req), "type");
	BAD(gyre_recv_init(out, N, GYRE_F32, 0, -2, w, req), "tag");
	BAD(gyre_recv_init(out, N, GYRE_F32, 0, 1, w, NULL), "req");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, out, N, GYRE_F32, 0, 1, NULL, NULL), "comm");
	BAD(gyre_sendrecv(NULL, N, GYRE_F32, 0, 1, out, N, GYRE_F32, 0, 1, w, NULL), "sendbuf");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, NULL, N, GYRE_F32, 0, 1, w, NULL), "recvbuf");
	BAD(gyre_sendrecv(in, N, BAD_TYPE, 0, 1, out, N, GYRE_F32, 0, 1, w, NULL), "sendtype");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, out, N, BAD_TYPE, 0, 1, w, NULL), "recvtype");
	BAD(gyre_sendrecv(in, N, GYRE_F32, -1, 1, out, N, GYRE_F32, 0, 1, w, NULL), "dest");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, out, N, GYRE_F32, 9, 1, w, NULL), "source");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, -1, out, N, GYRE_F32, 0, 1, w, NULL), "sendtag");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, out, N, GYRE_F32, 0, -7, w, NULL), "recvtag");
	BAD(gyre_sendrecv(in, HUGE_COUNT, GYRE_F32, 0, 1, out, N, GYRE_F32, 0, 1, w, NULL),
	    "sendcount");
	BAD(gyre_sendrecv(in, N, GYRE_F32, 0, 1, out, HUGE_COUNT, GYRE_F32, 0, 1, w, NULL),
	    "recvcount");
}

static void bad_request(struct env *env)
{
	struct gyre_request *none = NULL, *one, *kept;
	int done = 0, err;

	BAD(gyre_request_start(NULL), "req");
	BAD(gyre_request_test(NULL, &done, NULL), "req");
	BAD(gyre_request_test(&none, NULL, NULL), "done");
	BAD(gyre_request_wait(NULL, NULL), "req");
	BAD(gyre_request_waitall(2, NULL, NULL), "reqs");
	CHECK(gyre_request_test(&none, &done, NULL), 0, NULL);
	CHECK(gyre_request_wait(&none, NULL), 0, NULL);
	CHECK(gyre_request_waitall(0, NULL, NULL), 0, NULL);
	CHECK(gyre_request_free(NULL), 0, NULL);
	if (!done)
		wrong(env, "gyre_request_test", "no request is complete", 0, "");
	/* A receive that nothing has matched yet is active. */
	err = gyre_irecv(env->out, N, GYRE_F32, env->rank, 9, env->world, &one);
	err |= gyre_recv_init(env->out, N, GYRE_F32, env->rank, 8, env->world, &kept);
	err |= gyre_request_start(kept);
	if (err) {
		wrong(env, "gyre_irecv", "a correct call", err, "");
		return;
	}
	BAD(gyre_request_start(one), "req");
	BAD(gyre_request_start(kept), "req");
	CHECK(gyre_request_free(one), -EBUSY, "req");
	CHECK(gyre_request_free(kept), -EBUSY, "req");
	err = gyre_send(env->in, N, GYRE_F32, env->rank, 9, env->world);
	err |= gyre_send(env->in, N, GYRE_F32, env->rank, 8, env->world);
	err |= gyre_request_wait(&one, &env->status);
	err |= gyre_request_wait(&kept, &env->status);
	if (err || one || !kept || env->status.tag != 8)
		wrong(env, "gyre_request_wait", "a correct call", err, "");
	CHECK(gyre_request_wait(&kept, NULL), 0, NULL);		/* inactive: complete */
	CHECK(gyre_request_free(kept), 0, NULL);
}

static void bad_comm(struct env *env)
{
	struct gyre_comm *sub = NULL;
	uint64_t flags = 0;
	char text[100];

	BAD(gyre_comm_rank(NULL), "comm");
	BAD(gyre_comm_size(NULL), "comm");
	BAD(gyre_comm_split(NULL, 0, 0, &sub), "comm");
	BAD(gyre_comm_split(env->world, 0, 0, NULL), "newp");
	BAD(gyre_comm_split(env->world, -2, 0, &sub), "color");
	BAD(gyre_comm_agree(NULL, &flags), "comm");
	BAD(gyre_comm_agree(env->world, NULL), "flags");
	BAD(gyre_comm_shrink(NULL, &sub), "comm");
	BAD(gyre_comm_shrink(env->world, NULL), "newp");
	BAD(gyre_comm_describe(NULL, "allreduce", 1, text, sizeof(text)), "comm");
	BAD(gyre_comm_describe(env->world, NULL, 1, text, sizeof(text)), "coll");
	BAD(gyre_comm_describe(env->world, "alltoallx", 1, text, sizeof(text)), "alltoallx");
	BAD(gyre_comm_describe(env->world, "allreduce", 1, NULL, 9), "buf");
	BAD(gyre_comm_describe(env->world, "allreduce", 1, text, 0), "len");
	CHECK(gyre_comm_status(NULL, text, sizeof(text)), -EINVAL, NULL);
	CHECK(gyre_comm_status(env->world, NULL, 0), 0, NULL);
	CHECK(gyre_comm_status(env->world, text, 1), 0, NULL);
	gyre_comm_destroy(NULL);
	gyre_comm_destroy(env->world);		/* left to its context */
	if (sub)
		wrong(env, "gyre_comm_split", "gave a communicator", 0, "");
}

/* Local calls alone: ranks of the simulator must not change while one is listened to. */
static void bad_attr(struct env *env)
{
	struct gyre_delayed_attr *null = NULL;
	double gain;
	float x[1] = { 0 };

	BAD(gyre_delayed_attr_init(null), "attr");
	BAD(gyre_dts_attr(null, 1, 1), "attr");
	BAD(gyre_lasgd_attr(null, 1), "attr");
	BAD(gyre_local_sgd_attr(null, 1), "attr");
	BAD(gyre_postlocal_sgd_attr(null, 4, 100), "attr");
	BAD(gyre_cocod_attr(null, 1), "attr");
	BAD(gyre_slowmo_attr(null, 1, 1, 0), "attr");
	BAD(gyre_diloco_attr(null, 1, 1, 0, 0), "attr");
	BAD(gyre_streaming_diloco_attr(null, 1, 1, 0, 1, 1, 0, 0), "attr");
	BAD(gyre_merge_add_diff(NULL, x, x, 1, GYRE_F32), "x is NULL");
	BAD(gyre_merge_add_diff(x, NULL, x, 1, GYRE_F32), "avg");
	BAD(gyre_merge_add_diff(x, x, NULL, 1, GYRE_F32), "own");
	BAD(gyre_merge_add_diff(x, x, x, 1, GYRE_INT32), "type");
	CHECK(gyre_merge_add_diff(NULL, NULL, NULL, 0, GYRE_F32), 0, NULL);
	BAD(gyre_momentum_gain(.5, 3, NULL, &gain), "velocity_gain");
	BAD(gyre_momentum_gain(.5, 3, &gain, NULL), "x_gain");
	BAD(gyre_momentum_gain(2, 3, &gain, &gain), "beta");
}

static int no_write(void *arg, const void *buf, size_t len)
{
	return -EIO;		/* never called: there is no handle */
}

static int no_read(void *arg, void *buf, size_t len)
{
	return -EIO;
}

static void bad_delayed(struct env *env)
{
	struct gyre_delayed_attr attr;
	struct gyre_delayed_stats stats;
	struct gyre_round round;
	struct gyre_delayed *d = NULL;
	int err;

	bad_attr(env);
	gyre_delayed_attr_init(&attr);
	attr.count = N;
	attr.payload = GYRE_PAYLOAD_RAW;
	attr.trigger = GYRE_TRIGGER_MANUAL;
	attr.merge = GYRE_MERGE_NONE;
	BAD(gyre_delayed_create(&attr, NULL, NULL, &d), "comm");
	BAD(gyre_delayed_create(&attr, NULL, env->world, NULL), "dp");
	err = gyre_delayed_create(&attr, NULL, env->world, &d);
	if (err) {
		wrong(env, "gyre_delayed_create", "a correct call", err, "");
		return;
	}
	BAD(gyre_delayed_tick(NULL, 1, NULL), "d is");
	BAD(gyre_delayed_tick(d, -1, NULL), "weight");
	BAD(gyre_delayed_post(NULL, env->in, 1), "d is");
	BAD(gyre_delayed_post(d, NULL, 1), "v is");
	BAD(gyre_delayed_result(NULL, 0, &round), "d is");
	BAD(gyre_delayed_result(d, 0, NULL), "result is");
	BAD(gyre_delayed_set(NULL, 1, 1, 0, NULL), "d is");
	BAD(gyre_delayed_drain(NULL, GYRE_DRAIN_APPLY), "d is");
	BAD(gyre_delayed_drain(d, (enum gyre_drain)2), "how");
	BAD(gyre_delayed_rebind(NULL, env->world), "d is");
	BAD(gyre_delayed_rebind(d, NULL), "comm");
	BAD(gyre_delayed_stats(NULL, &stats), "d is");
	BAD(gyre_delayed_stats(d, NULL), "stats is");
	BAD(gyre_delayed_save(NULL, no_write, NULL), "d is");
	BAD(gyre_delayed_save(d, NULL, NULL), "write");
	BAD(gyre_delayed_load(NULL, no_read, NULL), "d is");
	BAD(gyre_delayed_load(d, NULL, NULL), "read");
	gyre_delayed_destroy(NULL);
	gyre_delayed_destroy(d);
}

static void bad_registered(struct env *env)
{
	char *own = (char *)env->in;
	void *ptr = NULL;

	BAD(gyre_mem_register(NULL, own, 8), "ctx");
	BAD(gyre_mem_register(env->ctx, NULL, 8), "ptr");
	BAD(gyre_mem_register(env->ctx, own, 0), "len");
	BAD(gyre_mem_register(env->ctx, own, SIZE_MAX), "len");
	BAD(gyre_mem_unregister(NULL, own), "ctx");
	BAD(gyre_mem_unregister(env->ctx, own), "ptr");
	CHECK(gyre_mem_unregister(env->ctx, NULL), 0, NULL);
	CHECK(gyre_mem_register(env->ctx, own, 16), 0, NULL);
	CHECK(gyre_mem_register(env->ctx, own, 16), -EEXIST, "ptr");
	CHECK(gyre_mem_register(env->ctx, own + 15, 8), -EEXIST, "ptr");
	BAD(gyre_mem_unregister(env->ctx, own + 1), "ptr");
	BAD(gyre_mem_free(env->ctx, own), "ptr");
	CHECK(gyre_mem_unregister(env->ctx, own), 0, NULL);
	BAD(gyre_mem_unregister(env->ctx, own), "ptr");
	CHECK(gyre_mem_alloc(env->ctx, 8, &ptr), 0, NULL);
	CHECK(gyre_mem_register(env->ctx, ptr, 8), -EEXIST, "ptr");
	BAD(gyre_mem_unregister(env->ctx, ptr), "ptr");
	CHECK(gyre_mem_free(env->ctx, ptr), 0, NULL);
}

static void bad_mem(struct env *env)
{
	void *ptr = NULL;
	int on_stack;

	BAD(gyre_mem_alloc(NULL, 8, &ptr), "ctx");
	BAD(gyre_mem_alloc(env->ctx, 0, &ptr), "len");
	BAD(gyre_mem_alloc(env->ctx, 8, NULL), "ptrp");
	BAD(gyre_mem_free(NULL, &on_stack), "ctx");
	BAD(gyre_mem_free(env->ctx, &on_stack), "ptr");
	CHECK(gyre_mem_free(env->ctx, NULL), 0, NULL);
	CHECK(gyre_mem_alloc(env->ctx, 8, &ptr), 0, NULL);
	BAD(gyre_mem_free(env->ctx, (char *)ptr + 1), "ptr");
	CHECK(gyre_mem_free(env->ctx, ptr), 0, NULL);
	BAD(gyre_mem_free(env->ctx, ptr), "ptr");
	bad_registered(env);
	BAD(gyre_progress(NULL), "ctx");
	if (gyre_context_world(NULL))
		wrong(env, "gyre_context_world", "of nothing", 0, "");
	gyre_context_destroy(NULL);
}

static void all_bad(struct env *env)
{
	static void (*const parts[])(struct env * env) = {
		bad_allreduce, bad_reduce_scatter, bad_allgather, bad_broadcast, bad_send,
		bad_recv,      bad_request,	   bad_comm,	  bad_mem,
		bad_delayed,
	};
	size_t i;

	env->world = gyre_context_world(env->ctx);
	env->rank = gyre_comm_rank(env->world);
	env->size = gyre_comm_size(env->world);
	good_round(env);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		parts[i](env);
		good_round(env);
	}
}

/* ---- tests ---- */

static void test_alone(void **state)
{
	struct env env = { .rank = 0 };

	assert_int_equal(gyre_context_create(NULL, &env.ctx), 0);
	all_bad(&env);
	gyre_context_destroy(env.ctx);
	assert_string_equal(env.wrong, "");
	assert_int_equal(gy_alloc_live(), 0);
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct env *env = (struct env *)arg + gy_sim_rank_id(rank);
	int err = gy_sim_context(rank, NULL, &env->ctx);

	if (err)
		return err;
	all_bad(env);
	gyre_context_destroy(env->ctx);
	return env->wrong[0] ? -EBADMSG : 0;
}

static void test_three_ranks(void **state)
{
	static struct env envs[3];
	struct gy_sim_attr attr;
	uint64_t seed;
	int i;

	for (seed = 1; seed <= 20; seed++) {
		memset(envs, 0, sizeof(envs));
		gy_sim_attr_init(&attr, 3, seed);
		attr.random_links = seed % 2;
		attr.deadline_ns = UINT64_C(60000000000);
		if (gy_sim_run(&attr, rank_main, envs))
			print_message("seed %u\n", (unsigned)seed);
		for (i = 0; i < 3; i++) {
			assert_string_equal(envs[i].wrong, "");
			assert_int_equal(envs[i].calls, envs[0].calls);
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static int no_gather(void *arg, const void *in, void *out, size_t len)
{
	return -EIO;		/* never called: the attributes are bad */
}

static void test_context(void **state)
{
	struct gyre_context_attr good = {
		.size = sizeof(good), .rank = 0, .nranks = 1, .allgather = no_gather,
	}, bad;
	struct env whole = { .rank = 0 }, *env = &whole;
	struct gyre_context *ctx = NULL;
	char text[300];

	BAD(gyre_context_create(&good, NULL), "ctxp");
	bad = good;
	bad.size = 8;
	BAD(gyre_context_create(&bad, &ctx), "size");
	bad = good;
	bad.nranks = 0;
	BAD(gyre_context_create(&bad, &ctx), "nranks");
	bad = good;
	bad.rank = 1;
	BAD(gyre_context_create(&bad, &ctx), "rank");
	bad.rank = -1;
	BAD(gyre_context_create(&bad, &ctx), "rank");
	bad = good;
	bad.transport = "carrier pigeon";
	said_begin();
	assert_int_equal(gyre_context_create(&bad, &ctx), -EINVAL);
	said_end(text, sizeof(text));
	assert_non_null(strstr(text, "attr->transport"));
	bad = good;
	bad.progress = (enum gyre_progress)7;
	BAD(gyre_context_create(&bad, &ctx), "progress");
	CHECK(gyre_context_create(&good, &ctx), -EIO, NULL);
	assert_null(ctx);
	assert_string_equal(whole.wrong, "");
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_names(void **state)
{
	assert_int_equal(gyre_type_size(BAD_TYPE), 0);
	assert_int_equal(gyre_type_size((enum gyre_type) - 1), 0);
	assert_string_equal(gyre_type_name(BAD_TYPE), "?");
	assert_string_equal(gyre_op_name((enum gyre_op) - 1), "?");
	assert_non_null(gyre_strerror(123456));
	assert_non_null(gyre_strerror(INT_MIN));
	assert_non_null(gyre_version());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_three_ranks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
