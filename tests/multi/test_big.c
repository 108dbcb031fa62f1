/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_big.c - buffers of more than 2^31 and 2^32 bytes, with real data: one rank of test_big.sh.
 * Every element of every result is compared.  One buffer serves all calls, since touching pages for
 * the first time takes longer than anything else; what each call writes differs.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <gyre/gyre.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define MEMORY (4 * GIB + 8 * MIB)

static struct gyre_comm *comm;
static int rank, nranks;
static void *memory;

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Depends on all 64 bits of the index; small, so that sums are exact. */
static inline uint32_t mark(uint64_t i, uint32_t seed)
{
	return (uint32_t)(i ^ i >> 11 ^ i >> 29) * 2654435761u + seed * 40503u;
}

static int report(const char *what, double start, int err, uint64_t bad, uint64_t first)
{
	if (err)
		printf("rank %d: %s: %s\n", rank, what, gyre_strerror(err));
	else if (bad)
		printf("rank %d: %s: %llu elements (bytes: words of 8) are wrong, the first is "
		       "%llu\n",
		       rank, what, (unsigned long long)bad, (unsigned long long)first);
	else if (!rank)
		printf("%s: %.1f s with filling and checking\n", what, seconds() - start);
	return err || bad;
}

static float term(uint64_t i, int r)
{
	return (float)(mark(i, (uint32_t)r) >> 20);
}

static int big_allreduce(void)
{
	const size_t n = (2 * GIB + GIB / 2) / sizeof(float) + 3;
	float *buf = memory, sum;
	const double start = seconds();
	uint64_t i, bad = 0, first = 0;
	int err, r;

	for (i = 0; i < n; i++)
		buf[i] = term(i, rank);
	err = gyre_allreduce(GYRE_IN_PLACE, buf, n, GYRE_F32, GYRE_SUM, comm);
	for (i = n; i-- > 0 && !err;) {
		for (sum = 0, r = 0; r < nranks; r++)
			sum += term(i, r);
		if (buf[i] != sum) {
			bad++;
			first = i;
		}
	}
	return report("allreduce of 2.5 GiB of f32", start, err, bad, first);
}

/* Words of the block with this number; the last may be cut. */
static uint64_t word(uint64_t i, int r)
{
	return mark(i, (uint32_t)r) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill(uint8_t *block, size_t len, int r)
{
	uint64_t i, w;

	for (i = 0; i < len / 8; i++) {
		w = word(i, r);
		memcpy(block + i * 8, &w, 8);
	}
	w = word(i, r);
	memcpy(block + i * 8, &w, len % 8);
}

/* Words that are wrong. */
static uint64_t compare(const uint8_t *block, size_t len, int r, uint64_t *first)
{
	uint64_t i, w, got, bad = 0;

	w = word(len / 8, r);
	if (memcmp(block + len / 8 * 8, &w, len % 8)) {
		bad++;
		*first = len / 8;
	}
	for (i = len / 8; i-- > 0;) {
		w = word(i, r);
		memcpy(&got, block + i * 8, 8);
		if (got != w) {
			bad++;
			*first = i;
		}
	}
	return bad;
}

/* Together more than 2^32 elements, a block more than 2^31. */
static int big_allgather(void)
{
	const size_t n = 2 * GIB + MIB + 5;
	uint8_t *out = memory;
	const double start = seconds();
	uint64_t bad = 0, first = 0;
	int err, r;

	fill(out + (size_t)rank * n, n, 10 + rank);
	err = gyre_allgather(GYRE_IN_PLACE, out, n, GYRE_INT8, comm);
	for (r = nranks; r-- > 0 && !err;)
		bad += compare(out + (size_t)r * n, n, 10 + r, &first);
	return report("allgather of 2 x 2 GiB of i8", start, err, bad, first);
}

static int big_broadcast(void)
{
	const size_t n = 4 * GIB + MIB + 7;
	uint8_t *buf = memory;
	const double start = seconds();
	uint64_t bad = 0, first = 0;
	int err;

	if (rank == 1)
		fill(buf, n, 20);
	err = gyre_broadcast(buf, n, GYRE_INT8, 1, comm);
	if (!err)
		bad = compare(buf, n, 20, &first);
	return report("broadcast of 4 GiB of i8", start, err, bad, first);
}

/* One message. */
static int big_send(void)
{
	const size_t n = 2 * GIB + 9;
	uint8_t *buf = memory;
	const double start = seconds();
	struct gyre_status status = { .count = n };
	uint64_t bad = 0, first = 0;
	int err;

	if (rank == 0)
		fill(buf, n, 30);
	err = rank == 0 ? gyre_send(buf, n, GYRE_INT8, 1, 3, comm)
			: gyre_recv(buf, n, GYRE_INT8, 0, 3, comm, &status);
	if (!err && status.count != n)
		err = -EBADMSG;
	if (!err && rank)
		bad = compare(buf, n, 30, &first);
	return report("send of 2 GiB of i8", start, err, bad, first);
}

int main(void)
{
	struct gyre_context *ctx;
	int failed, err;

	setvbuf(stdout, NULL, _IOLBF, 0);
	err = gyre_context_create(NULL, &ctx);
	if (err) {
		printf("context: %s\n", gyre_strerror(err));
		return 1;
	}
	comm = gyre_context_world(ctx);
	rank = gyre_comm_rank(comm);
	nranks = gyre_comm_size(comm);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED || nranks != 2) {
		printf("rank %d of %d: no memory, or not two ranks\n", rank, nranks);
		return 1;
	}
	madvise(memory, MEMORY, MADV_HUGEPAGE);
	failed = big_allreduce() || big_allgather() || big_broadcast() || big_send();
	gyre_context_destroy(ctx);
	return failed;
}
