/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_train_run.c - what a run of gyre-train goes by, without ranks: shards of the images, the
 * length of steps, schedules that change, checkpoints.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "bench/train/checkpoint.h"
#include "bench/train/clock.h"
#include "bench/train/pace.h"
#include "bench/train/rng.h"
#include "bench/train/schedule.h"
#include "bench/train/shards.h"

#define IMAGES 2000

/* ---- shards ---- */

static uint8_t labels[IMAGES];
static const struct dataset set = { .count = IMAGES, .labels = labels };

static int draw_labels(void **state)
{
	struct rng rng;
	int i;

	rng_init(&rng, 4, 0);
	for (i = 0; i < IMAGES; i++)
		labels[i] = rng_below(&rng, DATA_CLASSES);
	return 0;
}

static struct shards *make_shards(const char *kind, double alpha, int rank, int nranks, int batch)
{
	const struct shards_spec spec = { kind, alpha, 3, rank, nranks, batch };
	struct shards *s;
	struct why why;

	assert_int_equal(shards_create(&spec, &set, &s, &why), 0);
	return s;
}

/* Counts each image that the rank sees in some steps; the steps are asked for in order. */
static void count_images(struct shards *s, int steps, int batch, int *seen)
{
	const uint32_t *pick;
	int step, i;

	for (step = 0; step < steps; step++) {
		pick = shards_pick(s, step);
		for (i = 0; i < batch; i++) {
			assert_true(pick[i] < IMAGES);
			seen[pick[i]]++;
		}
	}
}

/* Step s of 4 ranks has the images of step s of one rank with four times the batch. */
static void even_shards_are_slices_of_one_batch(void **state)
{
	struct shards *one = make_shards("iid", 1, 0, 1, 20), *ranks[4];
	const uint32_t *whole;
	uint64_t step;
	int r;

	for (r = 0; r < 4; r++)
		ranks[r] = make_shards("iid", 1, r, 4, 5);
	assert_int_equal(shards_steps(one), 100);
	assert_int_equal(shards_steps(ranks[0]), 100);
	for (step = 0; step < 250; step++) {
		whole = shards_pick(one, step);
		for (r = 0; r < 4; r++)
			assert_memory_equal(shards_pick(ranks[r], step), whole + 5 * r,
					    5 * sizeof(*whole));
	}
	for (r = 0; r < 4; r++)
		shards_destroy(ranks[r]);
	shards_destroy(one);
}

/* Each image belongs to one rank, which sees it once in each pass. */
static void check_partition(const char *kind, double alpha, int nranks)
{
	int seen[IMAGES], owners[IMAGES] = { 0 }, r, i, mine, total = 0;
	struct shards *s;

	for (r = 0; r < nranks; r++) {
		s = make_shards(kind, alpha, r, nranks, 1);
		memset(seen, 0, sizeof(seen));
		count_images(s, IMAGES, 1, seen); /* so many are a pass at least */
		for (i = 0, mine = 0; i < IMAGES; i++) {
			owners[i] += seen[i] > 0;
			mine += seen[i] > 0;
		}
		for (i = 0; i < IMAGES; i++)
			assert_true(!seen[i] || abs(seen[i] - IMAGES / mine) <= 1);
		total += mine;
		shards_destroy(s);
	}
	for (i = 0; i < IMAGES; i++)
		assert_int_equal(owners[i], 1);
	assert_int_equal(total, IMAGES);
}

static void uneven_shards_share_out_all_images(void **state)
{
	check_partition("sorted", 1, 1);
	check_partition("sorted", 1, 3);
	check_partition("dirichlet", 0.1, 2);
	check_partition("dirichlet", 0.5, 4);
	check_partition("dirichlet", 100, 7);
}

/* Share of the most frequent label in a rank's images, mean over ranks. */
static double concentration(const char *kind, double alpha, int nranks)
{
	int count[DATA_CLASSES], seen[IMAGES], r, i, most, all;
	double sum = 0;
	struct shards *s;

	for (r = 0; r < nranks; r++) {
		s = make_shards(kind, alpha, r, nranks, 1);
		memset(seen, 0, sizeof(seen));
		memset(count, 0, sizeof(count));
		count_images(s, IMAGES, 1, seen);
		for (i = 0, most = 0, all = 0; i < IMAGES; i++) {
			count[labels[i]] += seen[i] > 0;
			all += seen[i] > 0;
			most = count[labels[i]] > most ? count[labels[i]] : most;
		}
		sum += (double)most / all;
		shards_destroy(s);
	}
	return sum / nranks;
}

static void small_alpha_makes_shards_uneven(void **state)
{
	const double even = concentration("dirichlet", 1000, 5);
	const double uneven = concentration("dirichlet", 0.1, 5);

	print_message("most frequent label: %.2f of a shard with 1000, %.2f with 0.1\n", even,
		      uneven);
	assert_true(even < 0.2 && uneven > 0.3);
	assert_true(concentration("sorted", 1, 5) > 0.4);
}

static void shards_refuse_what_cannot_be(void **state)
{
	const struct shards_spec many = { "iid", 1, 1, 0, 30, 100 };
	const struct shards_spec skewed = { "dirichlet", 0.001, 1, 0, 20, 100 };
	struct shards *s;
	struct why why;

	assert_int_equal(shards_create(&many, &set, &s, &why), -EINVAL);
	assert_non_null(strstr(why.text, "more images than there are"));
	assert_int_equal(shards_create(&skewed, &set, &s, &why), -EINVAL);
	assert_non_null(strstr(why.text, "--alpha 0.001"));
}

/* ---- steps ---- */

static struct pace make_pace(const char *text, double step_seconds, int rank)
{
	struct pace pace;
	struct why why;

	assert_int_equal(pace_init(&pace, text, step_seconds, 1, rank, &why), 0);
	return pace;
}

static void stragglers_are_slow(void **state)
{
	struct pace pace = make_pace(NULL, 0, 2);
	uint64_t step;
	int slow = 0;

	assert_true(pace_factor(&pace, 7) == 1 && pace_rest(&pace, 7, 3) == 0);
	pace = make_pace("2:4", 0, 2);
	assert_true(pace_factor(&pace, 7) == 4 && pace_rest(&pace, 7, 3) == 9);
	pace = make_pace("2:4", 0.5, 2);
	assert_true(pace_rest(&pace, 7, 0.25) == 1.75);
	pace = make_pace("2:4", 0.5, 1);
	assert_true(pace_rest(&pace, 7, 0.25) == 0.25 && pace_rest(&pace, 7, 1) < 0);
	pace = make_pace("1:2,random:0.25:8", 0, 1);
	for (step = 0; step < 4000; step++) {
		assert_true(pace_factor(&pace, step) == 2 || pace_factor(&pace, step) == 8);
		slow += pace_factor(&pace, step) == 8;
	}
	assert_in_range(slow, 900, 1100);
}

static void late_steps_are_made_up_for(void **state)
{
	struct pace pace = make_pace("1:4", 0.5, 1);

	pace_end(&pace, 0, 2.25);
	assert_true(pace_rest(&pace, 1, 0.5) == 1.25);
	pace_end(&pace, 1, 1.75);
	assert_true(pace_rest(&pace, 2, 0.5) == 1.5);
	pace_end(&pace, 2, 1); /* nothing is saved for later */
	assert_true(pace_rest(&pace, 3, 0.5) == 1.5);
	pace_end(&pace, 3, 100); /* and a long stall is not made up for */
	assert_true(pace_rest(&pace, 4, 0.5) == 1);
	pace = make_pace(NULL, 0, 1);
	pace_end(&pace, 0, 3);
	assert_true(pace_rest(&pace, 1, 3) == 0);
}

static void stragglers_are_drawn_apart(void **state)
{
	const struct pace a = make_pace("random:0.5:2", 0, 0), b = make_pace("random:0.5:2", 0, 1);
	int differ = 0;
	uint64_t step;

	for (step = 0; step < 1000; step++)
		differ += pace_factor(&a, step) != pace_factor(&b, step);
	assert_in_range(differ, 400, 600);
}

static void stragglers_are_checked(void **state)
{
	static const char *const bad[] = { "",	   "1",	     "1:",	   "1:0.5", "-1:2", "1:2,",
					   "1:2x", "random", "random:2:2", "a:b",   "1:nan" };
	struct pace pace;
	struct why why;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (pace_init(&pace, bad[i], 0, 0, 0, &why) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void sleep_is_not_short(void **state)
{
	const double start = clock_seconds();

	pace_sleep(0.01);
	pace_sleep(-1);
	assert_true(clock_seconds() - start >= 0.01);
}

/* ---- schedules ---- */

/* A run that was stopped and went on may have said things that came otherwise. */
static void schedules_forget_what_came_otherwise(void **state)
{
	static const struct schedule_entry said[] = {
		{ 1, 4, 4 }, { 30, 8, 2 }, { 50, 9, 3 }, { 41, 8, 2 }, { 70, 12, 6 },
	};
	struct schedule s = { 0 };
	size_t i;

	for (i = 0; i < sizeof(said) / sizeof(*said); i++)
		assert_int_equal(schedule_add(&s, &said[i]), 0);
	assert_int_equal(s.count, 4);
	assert_int_equal(schedule_after(&s, 0)->round, 1);
	assert_int_equal(schedule_after(&s, 30)->round, 41);
	assert_int_equal(schedule_after(&s, 41)->period, 6);
	assert_null(schedule_after(&s, 70));
	assert_int_equal(schedule_add(&s, &(struct schedule_entry){ 0, 4, 4 }), -EINVAL);
	assert_int_equal(schedule_add(&s, &(struct schedule_entry){ 80, 4, 0 }), -EINVAL);
	assert_int_equal(schedule_add(&s, &said[0]), 0);
	assert_int_equal(s.count, 1);
	schedule_fini(&s);
	assert_null(schedule_after(&s, 0));
}

/* ---- checkpoints ---- */

static char folder[64];

static const char *in_folder(void)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/run", folder);
	return path;
}

static struct checkpoint_head make_head(const char *id, uint64_t number)
{
	struct checkpoint_head head = { .number = number };

	snprintf(head.id, sizeof(head.id), "%s", id);
	return head;
}

static void write_checkpoint(uint64_t number, int value)
{
	const struct checkpoint_head head = make_head("a run", number);
	struct checkpoint *c;

	assert_int_equal(checkpoint_create(in_folder(), 3, &head, &c), 0);
	assert_int_equal(checkpoint_write(c, &value, sizeof(value)), 0);
	assert_int_equal(checkpoint_close(c, 0), 0);
}

static int try_checkpoint(const char *id, uint64_t number, int *value)
{
	const struct checkpoint_head head = make_head(id, number);
	struct checkpoint *c;
	struct why why;
	int err = checkpoint_open(in_folder(), 3, &head, &c, &why);

	if (err)
		return err;
	err = checkpoint_read(c, value, sizeof(*value));
	assert_int_equal(checkpoint_close(c, 0), 0);
	return err;
}

static void checkpoints_keep_the_two_latest(void **state)
{
	int value;

	assert_int_equal(checkpoint_latest(in_folder(), 3), 0);
	write_checkpoint(1, 11);
	write_checkpoint(2, 12);
	write_checkpoint(3, 13);
	assert_int_equal(checkpoint_latest(in_folder(), 3), 3);
	assert_int_equal(checkpoint_latest(in_folder(), 2), 0);
	assert_int_equal(try_checkpoint("a run", 3, &value), 0);
	assert_int_equal(value, 13);
	assert_int_equal(try_checkpoint("a run", 2, &value), 0);
	assert_int_equal(value, 12);
	assert_int_equal(try_checkpoint("a run", 1, &value), -ENOENT);
	assert_int_equal(try_checkpoint("another run", 3, &value), -EBADMSG);
}

/* One that was given up leaves the others as they are. */
static void checkpoints_count_when_complete(void **state)
{
	const struct checkpoint_head head = make_head("a run", 5);
	struct checkpoint *c;
	int value = 15;

	write_checkpoint(3, 13);
	assert_int_equal(checkpoint_create(in_folder(), 3, &head, &c), 0);
	assert_int_equal(checkpoint_write(c, &value, sizeof(value)), 0);
	assert_int_equal(checkpoint_latest(in_folder(), 3), 3);
	assert_int_equal(checkpoint_close(c, -EIO), -EIO);
	assert_int_equal(checkpoint_latest(in_folder(), 3), 3);
}

/* Cut anywhere, or with any byte changed. */
static void checkpoints_that_are_damaged_are_refused(void **state)
{
	uint8_t bytes[sizeof(struct checkpoint_head) + 8];
	const size_t len = sizeof(bytes);
	char path[128];
	size_t i;
	FILE *f;
	int value;

	write_checkpoint(4, 14);
	snprintf(path, sizeof(path), "%s.3.0", in_folder());
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fread(bytes, 1, len, f), len);
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
	for (i = 0; i < 2 * len; i++) {
		f = fopen(path, "wb");
		assert_non_null(f);
		bytes[i / 2] ^= i % 2;
		assert_int_equal(fwrite(bytes, 1, i % 2 ? len : i / 2, f), i % 2 ? len : i / 2);
		bytes[i / 2] ^= i % 2;
		fclose(f);
		assert_int_equal(try_checkpoint("a run", 4, &value), -EBADMSG);
	}
}

static int make_folder(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/gyre-test-run.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char path[128];
	int i;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s.3.%d", in_folder(), i);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(even_shards_are_slices_of_one_batch),
		cmocka_unit_test(uneven_shards_share_out_all_images),
		cmocka_unit_test(small_alpha_makes_shards_uneven),
		cmocka_unit_test(shards_refuse_what_cannot_be),
		cmocka_unit_test(stragglers_are_slow),
		cmocka_unit_test(late_steps_are_made_up_for),
		cmocka_unit_test(stragglers_are_drawn_apart),
		cmocka_unit_test(stragglers_are_checked),
		cmocka_unit_test(sleep_is_not_short),
		cmocka_unit_test(schedules_forget_what_came_otherwise),
		cmocka_unit_test_setup_teardown(checkpoints_keep_the_two_latest, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(checkpoints_count_when_complete, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(checkpoints_that_are_damaged_are_refused,
						make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, draw_labels, NULL);
}
