/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults.c - calls as data, and what was logged.
 */
#define _GNU_SOURCE
#include "tests/multi/faults.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct faults_call faults_calls[FAULTS_NCALLS] = {
	{ ALLREDUCE, GYRE_F32, GYRE_SUM, 4, 0 },
	{ ALLREDUCE, GYRE_F32, GYRE_MAX, 4, 0 },
	{ ALLREDUCE, GYRE_INT32, GYRE_SUM, 4, 0 },
	{ ALLREDUCE, GYRE_F32, GYRE_SUM, 5, 0 },
	{ ALLREDUCE, GYRE_F32, GYRE_SUM, 0, 0 },
	{ ALLREDUCE, GYRE_F32, GYRE_SUM, 40000, 0 },
	{ ALLREDUCE, GYRE_F32, GYRE_SUM, FAULTS_MAX_COUNT, 0 },
	{ REDUCE_SCATTER, GYRE_F32, GYRE_SUM, 4, 0 },
	{ REDUCE_SCATTER, GYRE_F32, GYRE_SUM, 20000, 0 },
	{ ALLGATHER, GYRE_F32, 0, 4, 0 },
	{ ALLGATHER, GYRE_F32, 0, 20000, 0 },
	{ ALLGATHER, GYRE_F32, 0, 0, 0 },
	{ BROADCAST, GYRE_F32, 0, 4, 0 },
	{ BROADCAST, GYRE_F32, 0, 4, 1 },
	{ BROADCAST, GYRE_F32, 0, 0, 0 },
	{ BROADCAST, GYRE_F32, 0, 40000, 0 },
	{ BROADCAST, GYRE_F32, 0, 40000, 1 },
	{ BARRIER, GYRE_UINT8, 0, 0, 0 },
};

int faults_do(const struct faults_call *call, struct faults_buf *buf, struct gyre_comm *comm)
{
	switch (call->coll) {
	case ALLREDUCE:
		return gyre_allreduce(buf->in, buf->out, call->count, call->type, call->op, comm);
	case REDUCE_SCATTER:
		return gyre_reduce_scatter(buf->in, buf->out, call->count, call->type, call->op,
					   comm);
	case ALLGATHER:
		return gyre_allgather(buf->in, buf->out, call->count, call->type, comm);
	case BROADCAST:
		return gyre_broadcast(buf->out, call->count, call->type, call->root, comm);
	default:
		return gyre_barrier(comm);
	}
}

int faults_start(const struct faults_call *call, struct faults_buf *buf, struct gyre_comm *comm,
		 struct gyre_request **reqp)
{
	switch (call->coll) {
	case ALLREDUCE:
		return gyre_iallreduce(buf->in, buf->out, call->count, call->type, call->op, comm,
				       reqp);
	case REDUCE_SCATTER:
		return gyre_ireduce_scatter(buf->in, buf->out, call->count, call->type, call->op,
					    comm, reqp);
	case ALLGATHER:
		return gyre_iallgather(buf->in, buf->out, call->count, call->type, comm, reqp);
	case BROADCAST:
		return gyre_ibroadcast(buf->out, call->count, call->type, call->root, comm, reqp);
	default:
		return gyre_ibarrier(comm, reqp);
	}
}

/* ---- a stream of calls ---- */

static void step_set(float *p, size_t n, float value)
{
	while (n--)
		*p++ = value;
}

static bool step_is(const float *p, size_t n, float value)
{
	for (; n && *p == value; n--)
		p++;
	return !n;
}

/* Each rank gives its number, from 1, in every element. */
static void step_fill(const struct faults_call *call, struct faults_buf *buf, int rank, int size)
{
	const size_t n = (size_t)call->count * (size_t)(call->coll == REDUCE_SCATTER ? size : 1);

	step_set(buf->in, n, (float)(rank + 1));
	step_set(buf->out, call->count, (float)(rank + 1));
}

static bool step_is_right(const struct faults_call *call, const struct faults_buf *buf, int size)
{
	const float sum = (float)(size * (size + 1) / 2);
	int r;

	if (call->type != GYRE_F32 || call->coll == BARRIER)
		return true;
	if (call->coll == BROADCAST)
		return step_is(buf->out, call->count, (float)(call->root + 1));
	if (call->coll != ALLGATHER)
		return step_is(buf->out, call->count, call->op == GYRE_MAX ? (float)size : sum);
	for (r = 0; r < size; r++)
		if (!step_is(buf->out + (size_t)r * call->count, call->count, (float)(r + 1)))
			return false;
	return true;
}

/* Round the ring: to the next rank, from the one before or from any. */
static int step_ring(size_t count, bool any, struct faults_buf *buf, struct gyre_comm *comm)
{
	const int me = gyre_comm_rank(comm), size = gyre_comm_size(comm);
	const int next = (me + 1) % size, prev = (me + size - 1) % size;
	struct gyre_request *reqs[2] = { NULL, NULL };
	int err, first;

	step_set(buf->in, count, (float)(me + 1));
	first = gyre_irecv(buf->out, count, GYRE_F32, any ? GYRE_ANY_SOURCE : prev, 7, comm,
			   &reqs[0]);
	if (!first)
		first = gyre_isend(buf->in, count, GYRE_F32, next, 7, comm, &reqs[1]);
	err = gyre_request_waitall(2, reqs, NULL);
	if (first || err)
		return first ? first : err;
	return step_is(buf->out, count, (float)(prev + 1)) ? 0 : -EBADMSG;
}

/* Two collectives at once. */
static int step_pair(const struct faults_call *call, struct faults_buf *buf, struct gyre_comm *comm)
{
	const int me = gyre_comm_rank(comm), size = gyre_comm_size(comm), root = 1;
	struct gyre_request *reqs[2] = { NULL, NULL };
	int err, first;

	step_set(buf->second, FAULTS_SECOND, (float)(me + 1));
	step_fill(call, buf, me, size);
	first = gyre_ibroadcast(buf->second, FAULTS_SECOND, GYRE_F32, root, comm, &reqs[0]);
	if (!first)
		first = faults_start(call, buf, comm, &reqs[1]);
	err = gyre_request_waitall(2, reqs, NULL);
	if (first || err)
		return first ? first : err;
	return step_is(buf->second, FAULTS_SECOND, (float)(root + 1)) &&
			       step_is_right(call, buf, size)
		       ? 0
		       : -EBADMSG;
}

int faults_step(uint64_t seed, struct faults_buf *buf, struct gyre_comm *comm)
{
	const struct faults_call *call = &faults_calls[faults_next(&seed) % FAULTS_NCALLS];
	const uint64_t what = faults_next(&seed) % 4, how = faults_next(&seed);
	int err;

	if (what == 0)
		return step_ring(how % 2 ? 9 : 20000, how & 2, buf, comm);
	if (what == 1)
		return step_pair(call, buf, comm);
	step_fill(call, buf, gyre_comm_rank(comm), gyre_comm_size(comm));
	err = faults_do(call, buf, comm);
	return err || step_is_right(call, buf, gyre_comm_size(comm)) ? err : -EBADMSG;
}

void faults_text(const struct faults_call *call, char *text, size_t len)
{
	static const char *const names[] = { "allreduce", "reduce_scatter", "allgather",
					     "broadcast", "barrier" };
	const char *name = names[call->coll];

	if (call->coll == BARRIER)
		snprintf(text, len, "barrier()");
	else if (call->coll == BROADCAST)
		snprintf(text, len, "broadcast(count %u, f32, root %d)", call->count, call->root);
	else if (call->coll == ALLGATHER)
		snprintf(text, len, "allgather(count %u, f32)", call->count);
	else
		snprintf(text, len, "%s(count %u, %s, %s)", name, call->count,
			 gyre_type_name(call->type), gyre_op_name(call->op));
}

uint64_t faults_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t faults_slowdown(void)
{
	const char *text = getenv("GY_TEST_SLOWDOWN");
	const int n = text ? atoi(text) : 1;

	return n > 1 ? (uint64_t)n : 1;
}

/* ---- stderr ---- */

static int faults_stderr = -1, faults_file = -1;

/* This process crashes: what it said last must not go down with it. */
static void faults_show(void)
{
	char text[4096];
	ssize_t n;

	if (faults_file < 0)
		return;
	lseek(faults_file, 0, SEEK_SET);
	while ((n = read(faults_file, text, sizeof(text))) > 0)
		if (write(faults_stderr, text, (size_t)n) < 0)
			return;
}

static void faults_crash(int sig)
{
	faults_show();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Of sanitizers. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

void faults_capture(void)
{
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(faults_show);
	signal(SIGABRT, faults_crash);
	faults_file = memfd_create("stderr", MFD_CLOEXEC);
	faults_stderr = dup(STDERR_FILENO);
	if (faults_file < 0 || faults_stderr < 0 || dup2(faults_file, STDERR_FILENO) < 0)
		abort();
}

char *faults_captured(void)
{
	const off_t len = lseek(faults_file, 0, SEEK_END);
	char *text = calloc((size_t)len + 1, 1);

	if (!text || pread(faults_file, text, (size_t)len, 0) != len ||
	    dup2(faults_stderr, STDERR_FILENO) < 0)
		abort();
	close(faults_stderr);
	close(faults_file);
	faults_file = -1;
	return text;
}
