/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults_recall.c - memory that was lent is its owner's again while the peer has yet to read it,
 * and there is no room to say so: two processes over shared memory.
 *
 * Rank 0 lends a message on a communicator, fills the small lane, destroys the communicator, and
 * writes over the message; only then rank 1, which has been busy, looks.  Its receive must fail,
 * however it reads: mapped, by process_vm_readv, or out of slots that have been used again.  What
 * goes on the world meanwhile, lent before and after, must come as it was sent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/context.h"
#include "lib/peer.h"
#include "tests/long.h"
#include "tests/multi/faults.h"

#define SMALLS 400		/* messages: the small lane takes all but some, < GY_MAX_RUNS */
#define SMALL 12		/* elements of each: two lines of the ring */
#define RANK_S 30		/* a rank that hangs is ended by SIGALRM, times GY_TEST_SLOWDOWN */

enum how { MAPPED, READV, SLOTS, NHOW };

static const char *const how_names[] = { "mapped", "by process_vm_readv", "in slots" };

struct recall {
	uint64_t seed;
	enum how how;
	bool posted;		/* the receive, before the communicator fails */
	size_t count;
	int rank, fd;
	struct gyre_context *ctx;
	struct gyre_comm *world, *comm;
	float *mem;		/* of the message that is lent */
	float *other[2];	/* of those on the world */
	float small[SMALLS * SMALL];
};

static void recall_expect(const struct recall *r, bool ok, const char *what, int err)
{
	if (ok)
		return;
	printf("rank %d: %s: %s\n", r->rank, what, gyre_strerror(err));
	exit(1);
}

static int recall_allgather(void *arg, const void *in, void *out, size_t len)
{
	const struct recall *r = arg;
	char *mine = (char *)out + (size_t)r->rank * len, *theirs = (char *)out + !r->rank * len;

	memmove(mine, in, len);
	if (send(r->fd, mine, len, MSG_NOSIGNAL) != (ssize_t)len ||
	    recv(r->fd, theirs, len, MSG_WAITALL) != (ssize_t)len)
		return -ECONNRESET;
	return 0;
}

/* The other rank is as far; nothing is driven meanwhile. */
static void recall_meet(const struct recall *r)
{
	char byte = 0;

	recall_expect(r, send(r->fd, &byte, 1, MSG_NOSIGNAL) == 1, "send", -errno);
	recall_expect(r, recv(r->fd, &byte, 1, 0) == 1, "recv", -errno);
}

static void recall_fill(float *p, size_t n, float first)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = first + (float)i;
}

static bool recall_is(const float *p, size_t n, float first)
{
	size_t i;

	for (i = 0; i < n && p[i] == first + (float)i; i++)
		;
	return i == n;
}

static float *recall_memory(const struct recall *r)
{
	void *mem;
	int err = -ENOMEM;

	if (r->how == MAPPED)
		err = gyre_mem_alloc(r->ctx, r->count * sizeof(float), &mem);
	else if ((mem = malloc(r->count * sizeof(float))))
		err = 0;
	recall_expect(r, !err, "memory", err);
	return mem;
}

static void recall_memory_free(const struct recall *r, float *mem)
{
	if (r->how == MAPPED)
		gyre_mem_free(r->ctx, mem);
	else
		free(mem);
}

static void recall_open(struct recall *r)
{
	const struct gyre_context_attr attr = {
		.size = sizeof(attr), .rank = r->rank, .nranks = 2,
		.allgather = recall_allgather, .allgather_arg = r, .transport = "shm",
		.progress = GYRE_PROGRESS_MANUAL,
	};
	int err, i;

	err = gyre_context_create(&attr, &r->ctx);
	recall_expect(r, !err, "context", err);
	r->world = gyre_context_world(r->ctx);
	err = gyre_comm_split(r->world, 0, 0, &r->comm);
	recall_expect(r, !err, "split", err);
	r->mem = recall_memory(r);
	for (i = 0; i < 2; i++)
		r->other[i] = recall_memory(r);
	err = gyre_barrier(r->comm);
	recall_expect(r, !err, "barrier", err);
	recall_meet(r);		/* the barrier's last messages have been taken */
}

static void recall_owner(struct recall *r)
{
	struct gyre_request *req, *others[2 + SMALLS];
	int err, i, n = 0;

	recall_fill(r->mem, r->count, 1);
	recall_fill(r->other[0], r->count, 2);
	recall_fill(r->other[1], r->count, 3);
	recall_fill(r->small, SMALLS * SMALL, 4);
	err = gyre_isend(r->mem, r->count, GYRE_F32, 1, 0, r->comm, &req);
	err |= gyre_isend(r->other[0], r->count, GYRE_F32, 1, 0, r->world, &others[n++]);
	for (i = 0; i < SMALLS; i++)
		err |= gyre_isend(r->small + i * SMALL, SMALL, GYRE_F32, 1, 1, r->world,
				  &others[n++]);
	recall_expect(r, !err, "isend", err);
	recall_expect(r, r->ctx->engine.peers[1]->blocked, "no room left", 0);
	gyre_comm_destroy(r->comm);
	err = gyre_request_wait(&req, NULL);
	recall_expect(r, err == -ECANCELED, "a send on what was destroyed", err);
	recall_fill(r->mem, r->count, 1000);
	err = gyre_isend(r->other[1], r->count, GYRE_F32, 1, 2, r->world, &others[n++]);
	recall_expect(r, !err, "isend after", err);
	recall_meet(r);
	recall_meet(r);
	err = gyre_request_waitall((size_t)n, others, NULL);
	recall_expect(r, !err, "what went on the world", err);
}

static void recall_reader(struct recall *r)
{
	struct gyre_request *req = NULL;
	char text[256];
	int err = 0, i;

	if (r->posted)
		err = gyre_irecv(r->mem, r->count, GYRE_F32, 0, 0, r->comm, &req);
	recall_meet(r);
	if (!r->posted)
		err = gyre_irecv(r->mem, r->count, GYRE_F32, 0, 0, r->comm, &req);
	recall_expect(r, !err, "irecv", err);
	err = gyre_request_wait(&req, NULL);
	recall_expect(r, err == -ECANCELED, "a receive out of memory that was taken back", err);
	err = gyre_comm_status(r->comm, text, sizeof(text));
	recall_expect(r, err == -ECANCELED && strstr(text, "rank 0 "), text, err);
	recall_meet(r);
	err = gyre_recv(r->other[0], r->count, GYRE_F32, 0, 0, r->world, NULL);
	for (i = 0; i < SMALLS && !err; i++)
		err = gyre_recv(r->small + i * SMALL, SMALL, GYRE_F32, 0, 1, r->world, NULL);
	if (!err)
		err = gyre_recv(r->other[1], r->count, GYRE_F32, 0, 2, r->world, NULL);
	recall_expect(r, !err, "what goes on the world", err);
	recall_expect(r, recall_is(r->other[0], r->count, 2), "lent before", 0);
	recall_expect(r, recall_is(r->small, SMALLS * SMALL, 4), "small", 0);
	recall_expect(r, recall_is(r->other[1], r->count, 3), "lent after", 0);
	gyre_comm_destroy(r->comm);
}

static void recall_rank(struct recall *r)
{
	int err, i;

	alarm((unsigned)(RANK_S * faults_slowdown()));
	recall_open(r);
	if (r->rank)
		recall_reader(r);
	else
		recall_owner(r);
	err = gyre_barrier(r->world);
	recall_expect(r, !err, "barrier", err);
	recall_memory_free(r, r->mem);
	for (i = 0; i < 2; i++)
		recall_memory_free(r, r->other[i]);
	gyre_context_destroy(r->ctx);
	exit(0);
}

static int recall_run(uint64_t seed)
{
	struct recall *r = calloc(1, sizeof(*r));
	uint64_t rng = seed;
	int pair[2], status, rank, failed = 0;
	pid_t pid[2];

	if (!r || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	r->seed = seed;
	r->how = (enum how)(seed % NHOW);
	r->posted = faults_next(&rng) % 2;
	/* As much as slots in flight can hold, when it goes by these. */
	r->count = 2000 + faults_next(&rng) % (r->how == SLOTS ? 30000 : 700000);
	setenv("GYRE_CMA", r->how == READV ? "on" : "off", 1);
	setenv("GYRE_EAGER_BYTES", "1k", 1);
	fflush(stdout);
	for (rank = 0; rank < 2; rank++) {
		pid[rank] = fork();
		if (pid[rank] < 0)
			abort();
		if (pid[rank])
			continue;
		close(pair[!rank]);
		r->rank = rank;
		r->fd = pair[rank];
		recall_rank(r);
	}
	close(pair[0]);
	close(pair[1]);
	for (rank = 0; rank < 2; rank++) {
		while (waitpid(pid[rank], &status, 0) < 0)
			if (errno != EINTR)
				abort();
		failed |= status;
	}
	if (failed)
		printf("%s, %zu elements, receive posted %s; again: test_faults --seed %llu "
		       "--count 1 recall\n",
		       how_names[r->how], r->count, r->posted ? "before" : "after",
		       (unsigned long long)seed);
	free(r);
	return failed != 0;
}

int faults_recall(uint64_t seed, unsigned count)
{
	unsigned i, failed = 0;

	if (!count)
		count = test_is_long() ? 120 : 6;
	faults_capture();	/* the library names what was destroyed, each time */
	for (i = 0; i < count && failed < 5; i++)
		failed += (unsigned)recall_run(seed + i);
	free(faults_captured());
	return failed != 0;
}
