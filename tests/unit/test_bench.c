/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_bench.c - what the benchmarks stand on: their data and its check, the measuring protocol
 * against a system made up here, and how sizes are read.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <gyre/types.h>
#include "bench/data.h"
#include "bench/proto.h"

#define TEST_RANKS 3

/* ---- data ---- */

static void test_names(void **state)
{
	int i;

	for (i = 0; i < GYRE_NTYPES; i++) {
		struct data_buffers b = { .shape = DATA_BCAST, .type = i, .nranks = 1 };
		size_t bytes = 1000;

		assert_int_equal(data_type_by_name(gyre_type_name(i)), i);
		assert_int_equal(data_layout(&b, &bytes), 0);
		assert_int_equal(b.count, 1000 / gyre_type_size(i));
	}
	for (i = 0; i < GYRE_NOPS; i++)
		assert_int_equal(data_op_by_name(gyre_op_name(i)), i);
	assert_int_equal(data_type_by_name("f8"), -1);
	assert_int_equal(data_op_by_name("xor"), -1);
}

static void test_get(struct data_buffers *b, enum data_shape shape, enum gyre_type type,
		     size_t bytes)
{
	int r;

	for (r = 0; r < TEST_RANKS; r++) {
		size_t want = bytes;

		b[r] = (struct data_buffers){
			.shape = shape,
			.type = type,
			.op = GYRE_SUM,
			.rank = r,
			.nranks = TEST_RANKS,
		};
		assert_int_equal(data_layout(&b[r], &want), 0);
		assert_int_equal(data_heap_get(&b[r]), 0);
	}
}

static void test_put(struct data_buffers *b)
{
	int r;

	for (r = 0; r < TEST_RANKS; r++)
		data_heap_put(&b[r]);
}

static void test_sum_f32(struct data_buffers *b, int set, size_t from, size_t count, float *out)
{
	size_t i;
	int r;

	for (i = 0; i < count; i++)
		for (out[i] = 0, r = 0; r < TEST_RANKS; r++)
			out[i] += ((float *)b[r].in[set])[from + i];
}

/* Right results pass once; a changed element, and a result that nobody renewed, do not. */
static void test_reductions(void **state)
{
	struct data_buffers b[TEST_RANKS];
	int set, r;

	for (set = 0; set < PROTO_SETS; set++) {
		test_get(b, DATA_ALLREDUCE, GYRE_F32, 5000);
		for (r = 0; r < TEST_RANKS; r++) {
			test_sum_f32(b, set, 0, b[r].count, b[r].out[set]);
			assert_int_equal(data_check(&b[r], set), 0);
			assert_int_equal(data_check(&b[r], set), -EBADMSG);
			test_sum_f32(b, set, 0, b[r].count, b[r].out[set]);
			((float *)b[r].out[set])[b[r].count - 1] += 1;
			assert_int_equal(data_check(&b[r], set), -EBADMSG);
		}
		test_put(b);
		test_get(b, DATA_REDUCE_SCATTER, GYRE_F32, 50000);
		for (r = 0; r < TEST_RANKS; r++) {
			test_sum_f32(b, set, r * b[r].count, b[r].count, b[r].out[set]);
			assert_int_equal(data_check(&b[r], set), 0);
		}
		test_put(b);
	}
}

/* Integers wrap: every fourth of 60 ranks holds a 2, and 2^15 is 0 modulo 2^8. */
static void test_wrapping(void **state)
{
	struct data_buffers b = {
		.shape = DATA_ALLREDUCE,
		.type = GYRE_UINT8,
		.op = GYRE_PROD,
		.nranks = 60,
	};
	size_t bytes = 4;

	assert_int_equal(data_layout(&b, &bytes), 0);
	assert_int_equal(data_heap_get(&b), 0);
	memset(b.out[0], 0, 4);
	assert_int_equal(data_check(&b, 0), 0);
	data_heap_put(&b);
}

static void test_copies(void **state)
{
	struct data_buffers b[TEST_RANKS];
	size_t i;
	int r, from;

	test_get(b, DATA_ALLGATHER, GYRE_INT16, 3000);
	for (r = 0; r < TEST_RANKS; r++) {
		for (from = 0; from < TEST_RANKS; from++)
			memcpy((char *)b[r].out[0] + from * 3000, b[from].in[0], 3000);
		assert_int_equal(data_check(&b[r], 0), 0);
	}
	test_put(b);

	test_get(b, DATA_BCAST, GYRE_F64, 3000);
	for (r = 1; r < TEST_RANKS; r++) {
		assert_int_equal(data_check(&b[r], 0), -EBADMSG);
		memcpy(b[r].out[0], b[0].out[0], b[0].out_bytes);
		assert_int_equal(data_check(&b[r], 0), 0);
	}
	test_put(b);

	test_get(b, DATA_STREAM, GYRE_F32, 400);
	assert_int_equal(b[1].copies, DATA_MAX_COPIES);
	for (i = 0; i < b[1].copies; i++)
		memcpy((char *)b[1].out[0] + i * 400, b[0].in[0], 400);
	((char *)b[1].out[0])[63 * 400] ^= 1;
	assert_int_equal(data_check(&b[1], 0), -EBADMSG);
	test_put(b);
}

static void test_layout(void **state)
{
	struct data_buffers b = { .shape = DATA_REDUCE_SCATTER, .type = GYRE_F32, .nranks = 3 };
	size_t bytes = 8;

	assert_int_equal(data_layout(&b, &bytes), -ERANGE);
	bytes = 100;
	assert_int_equal(data_layout(&b, &bytes), 0);
	assert_int_equal(bytes, 96);
	assert_int_equal(b.count, 8);
	assert_int_equal(b.out_bytes, 32);
}

/* ---- the protocol ---- */

/* A system of one rank that does as it is told and counts. */
struct fake_job {
	struct proto_job base;
	int runs, runs_of_set[PROTO_SETS], barriers, checks, prepared, released;
	int fail_at_run, result, wrong_at_check;
	bool barrier_before;
	const char *warmup; /* of the options; NULL: not given */
};

static struct fake_job *to_fake(struct proto_job *job)
{
	return (struct fake_job *)job;
}

static int fake_prepare(struct proto_job *job, struct proto_case *c)
{
	if (c->bytes < 4)
		return -ERANGE;
	c->bytes -= c->bytes % 4;
	to_fake(job)->prepared++;
	return 0;
}

static int fake_run(struct proto_job *job, int set)
{
	struct fake_job *f = to_fake(job);

	f->runs_of_set[set]++;
	if (!f->barrier_before)
		return -EPROTO;
	f->barrier_before = false;
	return ++f->runs == f->fail_at_run ? f->result : 0;
}

static int fake_check(struct proto_job *job, int set)
{
	return ++to_fake(job)->checks == to_fake(job)->wrong_at_check ? -EBADMSG : 0;
}

static void fake_release(struct proto_job *job)
{
	to_fake(job)->released++;
}

static int fake_barrier(struct proto_job *job)
{
	to_fake(job)->barriers++;
	to_fake(job)->barrier_before = true;
	return 0;
}

static int fake_max(struct proto_job *job, double *v, int n)
{
	return 0;
}

static const struct proto_ops fake_ops = {
	.prepare = fake_prepare,
	.run = fake_run,
	.check = fake_check,
	.release = fake_release,
	.barrier = fake_barrier,
	.max = fake_max,
};

static int fake_sweep_of(struct fake_job *f, const char *name, const char *sizes, bool validate)
{
	struct proto_options opt;
	int status;

	proto_options_init(&opt);
	assert_int_equal(proto_option(&opt, 's', sizes), 0);
	assert_int_equal(proto_option(&opt, 'i', "20"), 0);
	if (f->warmup)
		assert_int_equal(proto_option(&opt, 'x', f->warmup), 0);
	opt.validate = validate;
	f->base = (struct proto_job){
		.ops = &fake_ops, .system = "fake", .options = "", .element = "f32", .nranks = 1
	};
	status = proto_sweep(&f->base, proto_find(name), &opt);
	proto_options_fini(&opt);
	assert_int_equal(f->prepared, f->released);
	return status;
}

static int fake_sweep(struct fake_job *f, bool validate)
{
	return fake_sweep_of(f, "allreduce", "1,4,1K", validate);
}

/* What a sweep says of sizes that are no whole number of elements. */
static void test_sweep_says(void **state)
{
	struct fake_job f = { 0 };
	FILE *said = tmpfile();
	const int old = dup(STDERR_FILENO);
	char text[400];
	int status[2];

	assert_true(said && old >= 0);
	dup2(fileno(said), STDERR_FILENO);
	status[0] = fake_sweep_of(&f, "reduce_scatter", "4,6", false);
	status[1] = fake_sweep_of(&f, "allreduce", "3,2", false);
	dup2(old, STDERR_FILENO);
	close(old);
	rewind(said);
	text[fread(text, 1, sizeof(text) - 1, said)] = 0;
	fclose(said);
	assert_int_equal(status[0], PROTO_OK);
	assert_int_equal(status[1], PROTO_USAGE);
	assert_int_equal(f.prepared, 2);
	assert_string_equal(text,
			    "fake reduce_scatter: 6 bytes are no whole number of f32 for each of 1 "
			    "ranks; 4 measured\n"
			    "fake allreduce: 3 bytes are no whole number of f32; skipped\n"
			    "fake allreduce: 2 bytes are no whole number of f32; skipped\n");
}

/* A full disk is a failure. */
static void test_sweep_unwritten(void **state)
{
	const int full = open("/dev/full", O_WRONLY), out = dup(STDOUT_FILENO);
	struct fake_job f = { 0 };
	int status;

	if (full < 0)
		skip();
	fflush(stdout);
	dup2(full, STDOUT_FILENO);
	status = fake_sweep_of(&f, "allreduce", "4", false);
	dup2(out, STDOUT_FILENO);
	clearerr(stdout);
	close(out);
	close(full);
	assert_int_equal(status, PROTO_FAILED);
}

static void test_sweep(void **state)
{
	struct fake_job f = { 0 };

	assert_int_equal(fake_sweep(&f, false), PROTO_OK);
	assert_int_equal(f.prepared, 2);			/* the size 1 was nothing to run */
	assert_int_equal(f.checks, 2 * PROTO_SETS);
	assert_int_equal(f.barriers, f.runs);
	assert_int_equal(f.runs_of_set[0], f.runs_of_set[1]);
	assert_true(f.runs >= 2 * (PROTO_SETS + 20));

	f = (struct fake_job){ 0 };
	assert_int_equal(fake_sweep(&f, true), PROTO_OK);
	assert_int_equal(f.checks, 2 * (PROTO_SETS + 20));

	/* With nothing to find out, nothing else runs. */
	f = (struct fake_job){ .warmup = "3" };
	assert_int_equal(fake_sweep(&f, false), PROTO_OK);
	assert_int_equal(f.runs, 2 * (PROTO_SETS + 3 + 20));
}

static void test_sweep_fails(void **state)
{
	struct fake_job f = { .wrong_at_check = 2 };

	assert_int_equal(fake_sweep(&f, false), PROTO_WRONG);
	assert_int_equal(f.runs, PROTO_SETS);			/* nothing was timed */
	f = (struct fake_job){ .wrong_at_check = PROTO_SETS + 7 };
	assert_int_equal(fake_sweep(&f, true), PROTO_WRONG);
	f = (struct fake_job){ .fail_at_run = 15, .result = -ECONNRESET };
	assert_int_equal(fake_sweep(&f, false), PROTO_FAILED);
	assert_int_equal(f.runs, 15);
}

static void test_sizes(void **state)
{
	struct proto_options opt;
	size_t v;

	proto_options_init(&opt);
	assert_int_equal(proto_option(&opt, 'm', "8:1K"), 0);
	assert_int_equal(opt.nsizes, 8);
	assert_int_equal(opt.sizes[7], 1024);
	assert_int_equal(proto_option(&opt, 's', "3,2m"), 0);
	assert_int_equal(opt.nsizes, 2);
	assert_int_equal(opt.sizes[1], 2 << 20);
	assert_int_equal(proto_option(&opt, 'm', "4"), 0);
	assert_int_equal(opt.nsizes, 3);
	assert_int_equal(proto_option(&opt, 'm', "4M:"), 0);
	assert_int_equal(opt.nsizes, 3);
	assert_int_equal(opt.sizes[2], 16 << 20);
	assert_int_equal(proto_option(&opt, 'm', "32M:"), -EINVAL);
	assert_int_equal(proto_option(&opt, 'm', ":8"), -EINVAL);
	assert_int_equal(proto_option(&opt, 'm', "9:8"), -EINVAL);
	assert_int_equal(proto_option(&opt, 's', "8,x"), -EINVAL);
	assert_int_equal(proto_option(&opt, 's', ""), -EINVAL);
	assert_int_equal(proto_option(&opt, 'i', "-1"), -EINVAL);
	assert_int_equal(proto_option(&opt, 'i', "0"), -EINVAL);
	assert_int_equal(proto_number("test", "17179869184G", 0, SIZE_MAX, &v), -EINVAL);
	assert_int_equal(proto_number("test", "8K8", 0, SIZE_MAX, &v), -EINVAL);
	proto_options_fini(&opt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_reductions),
		cmocka_unit_test(test_wrapping),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_sweep_fails),
		cmocka_unit_test(test_sweep_says),
		cmocka_unit_test(test_sweep_unwritten),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
