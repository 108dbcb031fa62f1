/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What gyre-limits times.  The allreduces do what any implementation must do and nothing more: no
 * matching, no dispatch, no errors of peers.
 *
 *   small    every rank writes its slot and reads all others: one transfer of a cache line
 *   mapped   rank r sums part r from all inputs into its own output; the others copy it from
 *            there, block by block as it becomes ready
 *   push     rank r sums part r and writes it into all outputs: fewer passes over memory, and
 *            past the caches when they would not hold the result anyway.  Where they do, the
 *            reader of the result pays for moving it; no timing here shows that.
 *   cma      as mapped, but peers' memory is read by process_vm_readv, in pieces
 *   staged   as mapped, but through two blocks of shared memory per rank that stay in the
 *            caches: no rank touches another's buffers
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "bench/limits.h"

#define LIMITS_LINE 16	/* floats of a cache line; parts start at one */
#define LIMITS_BLOCK (LIMITS_STAGED / sizeof(float))
#define LIMITS_PIECE_FLOATS (LIMITS_PIECE / sizeof(float))

static size_t limits_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static struct limits_rank *limits_self(const struct limits_job *job)
{
	return &job->ranks[job->base.rank];
}

static size_t limits_part_len(const struct limits_job *job)
{
	size_t n = job->base.nranks, len = (job->buf.count + n - 1) / n;

	return (len + LIMITS_LINE - 1) / LIMITS_LINE * LIMITS_LINE;
}

/* Elements of the part of a rank; it begins at *first. */
static size_t limits_part(const struct limits_job *job, int rank, size_t *first)
{
	size_t count = job->buf.count, len = limits_part_len(job);

	*first = limits_min(len * rank, count);
	return limits_min(len, count - *first);
}

/* Block k of that part. */
static size_t limits_block(const struct limits_job *job, int rank, size_t k, size_t *first)
{
	size_t len = limits_part(job, rank, first), skip = limits_min(k * LIMITS_BLOCK, len);

	*first += skip;
	return limits_min(LIMITS_BLOCK, len - skip);
}

/* All ranks' in and out are ready: in for reading, out for writing. */
static void limits_enter(struct limits_job *job)
{
	int r;

	local_flag_set(&limits_self(job)->entered, job->turn);
	for (r = 0; r < job->base.nranks; r++)
		local_flag_wait(job->team, &job->ranks[r].entered, job->turn);
}

/* Nobody uses this rank's memory any more. */
static void limits_leave(struct limits_job *job)
{
	int r;

	local_flag_set(&limits_self(job)->left, job->turn);
	for (r = 0; r < job->base.nranks; r++)
		local_flag_wait(job->team, &job->ranks[r].left, job->turn);
}

static int limits_memcpy(struct limits_job *job, int set)
{
	memcpy(job->buf.out[set], job->buf.in[set], job->buf.in_bytes);
	return 0;
}

static int limits_plain_sum(struct limits_job *job, int set)
{
	limits_sum(job->buf.out[set], job->buf.in[set], job->second.in[set], job->buf.count);
	return 0;
}

/*
 * A slot is written again two operations later.  By then all have read it: this rank has finished
 * the operation between, so all have written their slots of that one, so all have left this one.
 */
static void limits_small(struct limits_job *job, int set)
{
	struct limits_slot *mine = &limits_self(job)->slots[job->turn % 2];
	float *out = job->buf.out[set];
	int r;

	memcpy(mine->data, job->buf.in[set], job->buf.in_bytes);
	local_flag_set(&mine->turn, job->turn);
	for (r = 0; r < job->base.nranks; r++) {
		struct limits_slot *slot = &job->ranks[r].slots[job->turn % 2];

		local_flag_wait(job->team, &slot->turn, job->turn);
		if (r == 0)
			memcpy(out, slot->data, job->buf.in_bytes);
		else
			limits_sum(out, out, slot->data, job->buf.count);
	}
}

/* What every allreduce begins with; true when that was all. */
static bool limits_quick(struct limits_job *job, int set)
{
	job->turn++;
	if (job->base.nranks == 1)
		limits_memcpy(job, set);
	else if (job->buf.in_bytes <= LIMITS_SMALL)
		limits_small(job, set);
	else
		return false;
	return true;
}

/* len elements from first of all ranks' inputs; to may be the output or the piece. */
static void limits_reduce(struct limits_job *job, int set, float *to, size_t first, size_t len)
{
	struct limits_rank *ranks = job->ranks;
	int r;

	limits_sum(to, ranks[0].in[set] + first, ranks[1].in[set] + first, len);
	for (r = 2; r < job->base.nranks; r++)
		limits_sum(to, to, ranks[r].in[set] + first, len);
}

/* Block k of all other ranks' parts, from their outputs, as they become ready. */
static void limits_copy_blocks(struct limits_job *job, int set, size_t k)
{
	int n = job->base.nranks, i, r;
	size_t first, len;

	for (i = 1; i < n; i++) {
		r = (job->base.rank + i) % n;
		len = limits_block(job, r, k, &first);
		local_flag_wait(job->team, &job->ranks[r].progress, job->blocks + k + 1);
		memcpy((float *)job->buf.out[set] + first, job->ranks[r].out[set] + first,
		       len * sizeof(float));
	}
}

static int limits_mapped(struct limits_job *job, int set)
{
	size_t k, nblocks = (limits_part_len(job) + LIMITS_BLOCK - 1) / LIMITS_BLOCK;
	size_t first, len;

	if (limits_quick(job, set))
		return 0;
	limits_enter(job);
	for (k = 0; k <= nblocks; k++) {
		if (k < nblocks) {
			len = limits_block(job, job->base.rank, k, &first);
			limits_reduce(job, set, (float *)job->buf.out[set] + first, first, len);
			local_flag_set(&limits_self(job)->progress, job->blocks + k + 1);
		}
		if (k > 0)
			limits_copy_blocks(job, set, k - 1);
	}
	job->blocks += nblocks;
	limits_leave(job);
	return 0;
}

/* One block to all outputs; with two ranks without a stop in between. */
static void limits_push_block(struct limits_job *job, int set, size_t first, size_t len,
			      bool stream)
{
	struct limits_rank *ranks = job->ranks;
	int r;

	if (job->base.nranks == 2) {
		limits_sum_to_both(ranks[0].out[set] + first, ranks[1].out[set] + first,
				   ranks[0].in[set] + first, ranks[1].in[set] + first, len, stream);
		return;
	}
	limits_reduce(job, set, job->piece, first, len);
	for (r = 0; r < job->base.nranks; r++) {
		if (stream)
			limits_copy_past_caches(ranks[r].out[set] + first, job->piece, len);
		else
			memcpy(ranks[r].out[set] + first, job->piece, len * sizeof(float));
	}
}

static int limits_push(struct limits_job *job, int set)
{
	size_t k, first, len;
	bool stream = job->base.nranks * 2 * PROTO_SETS * job->buf.in_bytes > job->cache;

	if (limits_quick(job, set))
		return 0;
	limits_enter(job);
	for (k = 0; (len = limits_block(job, job->base.rank, k, &first)) > 0; k++)
		limits_push_block(job, set, first, len, stream);
	limits_leave(job);
	return 0;
}

static int limits_read(pid_t pid, float *to, const float *from, size_t len)
{
	struct iovec local = { .iov_base = to, .iov_len = len * sizeof(*to) };
	struct iovec remote = { .iov_base = (void *)from, .iov_len = local.iov_len };
	ssize_t got = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	if (got == (ssize_t)local.iov_len)
		return 0;
	perror("process_vm_readv");
	return got < 0 ? -errno : -EIO;
}

static int limits_cma_reduce(struct limits_job *job, int set, size_t first, size_t len)
{
	float *out = (float *)job->buf.out[set] + first;
	const float *acc = (float *)job->buf.in[set] + first;
	int n = job->base.nranks, i, r, err;

	for (i = 1; i < n; i++, acc = out) {
		r = (job->base.rank + i) % n;
		err = limits_read(job->ranks[r].pid, job->piece, job->ranks[r].in[set] + first,
				  len);
		if (err)
			return err;
		limits_sum(out, acc, job->piece, len);
	}
	return 0;
}

static int limits_cma_copy(struct limits_job *job, int set)
{
	int n = job->base.nranks, i, r, err = 0;
	size_t first, len;

	for (i = 1; !err && i < n; i++) {
		r = (job->base.rank + i) % n;
		len = limits_part(job, r, &first);
		local_flag_wait(job->team, &job->ranks[r].progress, job->blocks + 1);
		err = limits_read(job->ranks[r].pid, (float *)job->buf.out[set] + first,
				  job->ranks[r].out[set] + first, len);
	}
	return err;
}

static int limits_cma(struct limits_job *job, int set)
{
	size_t first, len, done, piece;
	int err;

	if (limits_quick(job, set))
		return 0;
	limits_enter(job);
	len = limits_part(job, job->base.rank, &first);
	for (done = 0; done < len; done += piece) {
		piece = limits_min(len - done, LIMITS_PIECE_FLOATS);
		err = limits_cma_reduce(job, set, first + done, piece);
		if (err)
			return err;
	}
	local_flag_set(&limits_self(job)->progress, job->blocks + 1);
	err = limits_cma_copy(job, set);
	job->blocks++;
	limits_leave(job);
	return err;
}

/* Shared blocks of a rank: two (k even, k odd) for each rank, its own ones for the results. */
static float *limits_stage(const struct limits_job *job, int from, int to, uint64_t k)
{
	int n = job->base.nranks;

	return job->stages + ((from * n + to) * 2 + k % 2) * LIMITS_BLOCK;
}

/* Block k of the others' parts, from this rank's input. */
static void limits_stage_in(struct limits_job *job, int set, size_t k)
{
	int me = job->base.rank, n = job->base.nranks, i, r;
	size_t first, len;

	for (i = 1; i < n; i++) {
		r = (me + i) % n;
		len = limits_block(job, r, k, &first);
		memcpy(limits_stage(job, me, r, job->blocks + k), (float *)job->buf.in[set] + first,
		       len * sizeof(float));
	}
	local_flag_set(&limits_self(job)->staged, job->blocks + k + 1);
}

/* The sum of block k of this rank's part, for its output and for the others. */
static void limits_stage_reduce(struct limits_job *job, int set, size_t k)
{
	int me = job->base.rank, n = job->base.nranks, i, r;
	uint64_t at = job->blocks + k;
	size_t first, len = limits_block(job, me, k, &first);
	float *out = (float *)job->buf.out[set] + first;
	const float *acc = (float *)job->buf.in[set] + first;

	for (i = 1; i < n; i++, acc = out) {
		r = (me + i) % n;
		local_flag_wait(job->team, &job->ranks[r].staged, at + 1);
		if (i < n - 1)
			limits_sum(out, acc, limits_stage(job, r, me, at), len);
		else
			limits_sum_to_both(out, limits_stage(job, me, me, at), acc,
					   limits_stage(job, r, me, at), len, false);
	}
	local_flag_set(&limits_self(job)->progress, at + 1);
}

static void limits_stage_out(struct limits_job *job, int set, size_t k)
{
	int me = job->base.rank, n = job->base.nranks, i, r;
	uint64_t at = job->blocks + k;
	size_t first, len;

	for (i = 1; i < n; i++) {
		r = (me + i) % n;
		len = limits_block(job, r, k, &first);
		local_flag_wait(job->team, &job->ranks[r].progress, at + 1);
		memcpy((float *)job->buf.out[set] + first, limits_stage(job, r, r, at),
		       len * sizeof(float));
	}
}

/*
 * Block k is written where block k - 2 was.  Its readers are done: those that reduce have set
 * progress, for which stage_out(k - 1) waited; those that copy did so before they staged block k,
 * for which stage_reduce(k) waits.
 */
static int limits_staged(struct limits_job *job, int set)
{
	size_t k, nblocks = (limits_part_len(job) + LIMITS_BLOCK - 1) / LIMITS_BLOCK;

	if (limits_quick(job, set))
		return 0;
	for (k = 0; k <= nblocks; k++) {
		if (k < nblocks) {
			limits_stage_in(job, set, k);
			limits_stage_reduce(job, set, k);
		}
		if (k > 0)
			limits_stage_out(job, set, k - 1);
	}
	job->blocks += nblocks;
	return 0;
}

const struct limits_op limits_ops[] = {
	{ .name = "memcpy", .alone = true, .run = limits_memcpy },
	{ .name = "sum", .alone = true, .run = limits_plain_sum },
	{ .name = "mapped", .mapped = true, .run = limits_mapped },
	{ .name = "push", .mapped = true, .run = limits_push },
	{ .name = "cma", .run = limits_cma },
	{ .name = "staged", .run = limits_staged },
};

const int limits_nops = sizeof(limits_ops) / sizeof(limits_ops[0]);
