/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_train_input.c - what gyre-train reads and draws: IDX files, damaged ones too, shuffling, the
 * command line; and its picture.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>
#include "bench/train/data.h"
#include "bench/train/idx.h"
#include "bench/train/methods.h"
#include "bench/train/options.h"
#include "bench/train/plot.h"
#include "bench/train/rng.h"

static void random_numbers_keep_their_range(void **state)
{
	int seen[5] = { 0 }, i;
	float lowest = 0, highest = 0, x;
	struct rng rng;

	rng_init(&rng, 1, 2);
	for (i = 0; i < 10000; i++) {
		seen[rng_below(&rng, 5)]++;
		x = rng_uniform(&rng, 3);
		lowest = fminf(lowest, x);
		highest = fmaxf(highest, x);
	}
	for (i = 0; i < 5; i++)
		assert_in_range(seen[i], 1800, 2200);
	assert_true(lowest >= -3 && lowest < -2.9f && highest < 3 && highest > 2.9f);
}

static void shuffle_is_a_permutation_of_the_seed(void **state)
{
	enum {
		COUNT = 1000
	};
	uint32_t a[COUNT], b[COUNT];
	char seen[COUNT] = { 0 };
	int i;

	data_shuffle(a, COUNT, 5, 0);
	for (i = 0; i < COUNT; i++) {
		assert_true(a[i] < COUNT && !seen[a[i]]);
		seen[a[i]] = 1;
	}
	data_shuffle(b, COUNT, 5, 0);
	assert_memory_equal(a, b, sizeof(a));
	data_shuffle(b, COUNT, 5, 1);
	assert_memory_not_equal(a, b, sizeof(a));
	data_shuffle(b, COUNT, 6, 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

static char file_path[64];

static void file_write(const void *bytes, size_t len, int compress)
{
	gzFile file = gzopen(file_path, compress ? "wb" : "wbT");

	assert_non_null(file);
	assert_int_equal(gzwrite(file, bytes, len), (int)len);
	assert_int_equal(gzclose(file), Z_OK);
}

/* Three images of 2 x 4. */
static const uint8_t idx_good[16 + 24] = { 0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0,
					   0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9 };

static int idx_try(const void *bytes, size_t len, int compress, size_t max_items)
{
	struct idx idx;
	int err;

	file_write(bytes, len, compress);
	err = idx_read(file_path, max_items, &idx);
	if (err)
		return err;
	assert_in_range(idx.ndims, 1, IDX_MAX_DIMS);
	assert_true(idx.dims[0] >= 1 && idx.dims[0] <= max_items && idx.item_len >= 1);
	assert_non_null(idx.bytes);
	idx_fini(&idx);
	return 0;
}

static void idx_reads_what_is_right(void **state)
{
	struct idx idx;
	int compress;

	for (compress = 0; compress < 2; compress++) {
		file_write(idx_good, sizeof(idx_good), compress);
		assert_int_equal(idx_read(file_path, SIZE_MAX, &idx), 0);
		assert_int_equal(idx.ndims, 3);
		assert_int_equal(idx.dims[0], 3);
		assert_int_equal(idx.item_len, 8);
		assert_memory_equal(idx.bytes, idx_good + 16, 24);
		idx_fini(&idx);
		assert_int_equal(idx_read(file_path, 2, &idx), 0);
		assert_int_equal(idx.dims[0], 2);
		assert_memory_equal(idx.bytes, idx_good + 16, 16);
		idx_fini(&idx);
	}
	assert_int_equal(idx_read(file_path, 0, &idx), -EINVAL);
	assert_int_equal(idx_read("/nonexistent/file.gz", 1, &idx), -ENOENT);
}

static void idx_refuses_wrong_lengths(void **state)
{
	uint8_t longer[sizeof(idx_good) + 1] = { 0 };
	size_t len;

	memcpy(longer, idx_good, sizeof(idx_good));
	for (len = 0; len < sizeof(idx_good); len++) {
		assert_int_equal(idx_try(idx_good, len, 0, SIZE_MAX), -EBADMSG);
		assert_int_equal(idx_try(idx_good, len, 1, SIZE_MAX), -EBADMSG);
	}
	assert_int_equal(idx_try(longer, sizeof(longer), 1, SIZE_MAX), -EBADMSG);
}

/* Dimensions whose product is too large, too large for a size_t, and 0. */
static void idx_refuses_absurd_dimensions(void **state)
{
	uint8_t file[sizeof(idx_good)];

	memcpy(file, idx_good, sizeof(file));
	file[5] = file[9] = file[13] = 16; /* 2^60 */
	assert_int_equal(idx_try(file, sizeof(file), 1, SIZE_MAX), -EBADMSG);
	memset(file + 4, 0xff, 8);
	assert_int_equal(idx_try(file, sizeof(file), 1, SIZE_MAX), -EBADMSG);
	memcpy(file, idx_good, sizeof(file));
	file[11] = 0;
	assert_int_equal(idx_try(file, sizeof(file), 1, SIZE_MAX), -EBADMSG);
}

/* A compressed file cut anywhere: the checksum at its end is part of it. */
static void idx_refuses_cut_gzip(void **state)
{
	uint8_t packed[256];
	struct idx idx;
	size_t len, cut;
	FILE *file;

	file_write(idx_good, sizeof(idx_good), 1);
	file = fopen(file_path, "rb");
	assert_non_null(file);
	len = fread(packed, 1, sizeof(packed), file);
	fclose(file);
	for (cut = 0; cut < len; cut++) {
		file = fopen(file_path, "wb");
		assert_non_null(file);
		assert_int_equal(fwrite(packed, 1, cut, file), cut);
		fclose(file);
		assert_int_equal(idx_read(file_path, SIZE_MAX, &idx), -EBADMSG);
	}
}

/* Headers with random bytes changed, and plain noise: an error or a sane result, nothing else. */
static void idx_survives_garbage(void **state)
{
	const char *given = getenv("GY_TEST_SEED");
	const uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	uint8_t bytes[sizeof(idx_good)];
	struct rng rng;
	int round, i, err;

	printf("seed %llu (GY_TEST_SEED repeats it)\n", (unsigned long long)seed);
	rng_init(&rng, seed, 0);
	for (round = 0; round < 2000; round++) {
		memcpy(bytes, idx_good, sizeof(bytes));
		for (i = rng_below(&rng, 4); i >= 0; i--)
			bytes[rng_below(&rng, round % 2 ? 16 : sizeof(bytes))] = rng_next(&rng);
		err = idx_try(bytes, 4 + rng_below(&rng, sizeof(bytes) - 3), round & 2,
			      1 + rng_below(&rng, 4));
		assert_true(err == 0 || err == -EBADMSG || err == -ENOMEM);
	}
}

static void data_says_what_is_missing(void **state)
{
	struct data data;
	struct why why;

	assert_int_equal(data_load("/nonexistent", 0, &data, &why), -ENOENT);
	assert_non_null(strstr(why.text, "/nonexistent/train-images-idx3-ubyte.gz is missing"));
	assert_non_null(strstr(why.text, "apt install dataset-fashion-mnist"));
}

/* ---- options and plot ---- */

static int parse(struct options *opt, const char *first, const char *second)
{
	char *argv[] = { (char[]){ "gyre-train" }, strdup(first), second ? strdup(second) : NULL,
			 NULL };
	int err;

	optind = 0;
	err = options_parse(second ? 3 : 2, argv, false, opt);
	free(argv[2]); /* text options of opt point here: callers look at numbers only */
	free(argv[1]);
	return err;
}

static void options_are_checked(void **state)
{
	static const char *const bad[][2] = {
		{ "--epochs", "0" },	  { "--epochs", "1.5" }, { "--epochs", "" },
		{ "--lr", "nan" },	  { "--lr", "0" },	 { "--lr", "1x" },
		{ "--model", "vgg" },	  { "--model", "ml" },	 { "--model", "" },
		{ "--warmup", "100" },	  { "-n", "0" },	 { "--limit", "99999999999" },
		{ "--frobnicate", NULL }, { "stray", NULL },	 { "--lr", NULL },
		{ "--delay", "4" },	  { "--period", "4" },	 { "--weights", "steps" },
		{ "--method", "dt" },	  { "--method", "" },	 { "--outer-lr", "1" },
		{ "--straggler", "1" },	  { "--resume", NULL },	 { "--straggler", "1:0.5" },
		{ "--shards", "even" },	  { "--until", "2" },	 { "--straggler", "1:2,," },
		{ "--adapt", "9:9" },	  { "--replay", "log" }, { "--settle", "-1" },
	};
	struct options opt;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (parse(&opt, bad[i][0], bad[i][1]) != -EINVAL)
			fail_msg("%s %s was taken", bad[i][0], bad[i][1] ? bad[i][1] : "");
	assert_int_equal(parse(&opt, "--lr", "1e-3"), 0);
	assert_true(opt.lr == 1e-3);
	assert_int_equal(parse(&opt, "-n", "4"), 0);
	assert_int_equal(opt.ranks, 4);
	assert_int_equal(parse(&opt, "--nesterov", NULL), 0);
	assert_true(opt.nesterov);
	assert_int_equal(parse(&opt, "--lr-schedule", "step"), 0);
	assert_int_equal(parse(&opt, "--model", "mlp"), 0);
	assert_int_equal(parse(&opt, "--payload", "102e6"), 0);
	assert_true(opt.payload == 102e6);
}

static void methods_fill_in_what_is_not_given(void **state)
{
	struct options opt;

	assert_int_equal(parse(&opt, "--lr", "1"), 0);
	assert_true(opt.delay == 0 && opt.period == 1); /* sync */
	assert_int_equal(parse(&opt, "--method", "dts"), 0);
	assert_true(opt.delay == 4 && opt.period == 4);
	assert_int_equal(parse(&opt, "--method", "diloco"), 0);
	assert_true(opt.outer_lr == 0.7 && opt.outer_momentum == 0.9);
	assert_int_equal(parse(&opt, "--method", "postlocal"), 0);
	assert_true(opt.switch_epoch == 3);
	assert_true(methods_find("adpsgd")->own_pace && !methods_find("sgp")->own_pace);
}

static int parse_dts(const char *option, const char *text, struct options *opt)
{
	char *argv[] = { (char[]){ "gyre-train" }, (char[]){ "--method=dts" }, strdup(option),
			 strdup(text), NULL };
	int err;

	optind = 0;
	err = options_parse(4, argv, false, opt);
	free(argv[3]);
	free(argv[2]);
	return err;
}

static void limits_of_adapt_are_checked(void **state)
{
	static const char *const bad[] = { "",	    "9",    "9:",	 "0:9",	       "9:0",
					   "9:9:9", "9:9x", "9:1000001", "99999999:9", "-1:9" };
	struct options opt;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (parse_dts("--adapt", bad[i], &opt) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	assert_int_equal(parse_dts("--adapt", "300:60", &opt), 0);
	assert_true(opt.adapt_delay == 300 && opt.adapt_period == 60 && opt.delay == 4);
}

static void plot_takes_any_run(void **state)
{
	const struct point points[3] = {
		{ .epoch = 1, .time = 1, .loss = 0.5, .accuracy = 0.8, .compute_ms = 1 },
		{ .epoch = 2, .time = 2, .loss = 0.5, .accuracy = 0.8, .blocked_ms = 1 },
		{ .epoch = 3, .time = 3, .loss = 1e-9, .accuracy = 1, .exposed_ms = 0.5 },
	};
	const struct plot_run runs[2] = { { "one", points, 1 }, { "all <&> three", points, 3 } };
	char text[32768];
	FILE *file;
	int count;

	for (count = 0; count <= 3; count++) {
		memset(text, 0, sizeof(text));
		file = fmemopen(text, sizeof(text), "w");
		assert_non_null(file);
		plot_write(file, "a run", count < 2 ? runs + count : runs, count < 2 ? 1 : 2,
			   count == 3);
		assert_int_equal(fclose(file), 0);
		assert_non_null(strstr(text, "</svg>"));
		assert_null(strstr(text, "nan"));
		assert_null(strstr(text, "inf"));
		assert_null(strstr(text, "<&"));
		assert_int_equal(!strstr(text, ">seconds<"), count == 3);
	}
}

static int make_file(void **state)
{
	int fd;

	snprintf(file_path, sizeof(file_path), "/tmp/gyre-test-train.XXXXXX");
	fd = mkstemp(file_path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	return unlink(file_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_numbers_keep_their_range),
		cmocka_unit_test(shuffle_is_a_permutation_of_the_seed),
		cmocka_unit_test(idx_reads_what_is_right),
		cmocka_unit_test(idx_refuses_wrong_lengths),
		cmocka_unit_test(idx_refuses_absurd_dimensions),
		cmocka_unit_test(idx_refuses_cut_gzip),
		cmocka_unit_test(idx_survives_garbage),
		cmocka_unit_test(data_says_what_is_missing),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(methods_fill_in_what_is_not_given),
		cmocka_unit_test(limits_of_adapt_are_checked),
		cmocka_unit_test(plot_takes_any_run),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
