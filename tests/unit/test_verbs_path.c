/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_verbs_path.c - what a grain costs on its way over verbs, from the call to the device: counts
 * of requests, completions and copied bytes of the whole library over a device in this process.
 *
 * The ranks are threads, and so is the device, which carries out a request at a time.
 * With an argument, a number of calls, one thread makes so many for both ranks and is the device,
 * for callgrind to count the instructions of path_drive (bench/instructions-verbs.sh).
 */
#include "tests/unit/net_fake.h"
#include "tests/unit/verbs_fake.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/log.h"
#include "tests/unit/inproc.h"

#define CALLS 20
#define COUNT (1u << 20)		/* f32: 4 MiB */
#define TOGETHER 16

/* Of verbs_fake.c, which otherwise draws them from net_fake.c. */
uint64_t fake_random(uint64_t *seed)
{
	return inproc_random(seed);
}

struct path {
	const char *name;
	bool registered;		/* buffers are memory of gyre_mem_alloc */
	bool alone;			/* one thread makes the calls of both ranks, on the heap */
	bool starved;			/* many calls at a time, and hardly any slots */
	unsigned calls;
	uint64_t copied, reduced;	/* of all ranks */
	struct verbs_fake before;
};

static pthread_mutex_t sums = PTHREAD_MUTEX_INITIALIZER;
static float *heap[2][2];

static int path_calls(struct gyre_comm *comm, float *in, float *out, unsigned n)
{
	int err = 0;
	unsigned i;

	for (i = 0; i < COUNT; i++)
		in[i] = (float)(i % 97);
	while (n-- && !err)
		err = gyre_allreduce(in, out, COUNT, GYRE_F32, GYRE_SUM, comm);
	for (i = 0; i < COUNT && !err; i++)
		if (out[i] != 2 * (float)(i % 97))
			err = -EILSEQ;
	return err;
}

/* One call of each rank. */
__attribute__((noinline)) int path_drive(struct inproc *job);
int path_drive(struct inproc *job)
{
	struct gyre_request *req[2];
	int err = 0, done[2] = { 0, 0 }, i;

	for (i = 0; i < 2 && !err; i++)
		err = gyre_iallreduce(heap[i][0], heap[i][1], COUNT, GYRE_F32, GYRE_SUM,
				      gyre_context_world(job->ranks[i].ctx), &req[i]);
	while (!err && (!done[0] || !done[1]))
		for (i = 0; i < 2 && !err; i++)
			if (!done[i])
				err = gyre_request_test(&req[i], &done[i], NULL);
	return err;
}

static int path_alone(struct inproc_rank *r, struct path *path)
{
	unsigned calls = path->calls;
	int err = path_calls(gyre_context_world(r->ctx), heap[r->rank][0], heap[r->rank][1], 1);

	inproc_meet(r->job);
	if (r->rank == 0)
		path->before = vf;
	while (r->rank == 0 && calls-- && !err)
		err = path_drive(r->job);
	inproc_meet(r->job);
	return err;
}

/* Calls on parts of the buffers, all of them under way at once. */
static int path_together(struct inproc_rank *r, unsigned calls)
{
	float *in = heap[r->rank][0], *out = heap[r->rank][1];
	struct gyre_request *req[TOGETHER];
	const size_t n = COUNT / TOGETHER;
	unsigned i, k;
	int err = 0, ended;

	for (i = 0; i < COUNT; i++)
		in[i] = (float)(i % 97);
	while (calls-- && !err) {
		memset(out, 0, COUNT * sizeof(*out));
		for (k = 0; k < TOGETHER && !err; k++)
			err = gyre_iallreduce(in + k * n, out + k * n, n, GYRE_F32, GYRE_SUM,
					      gyre_context_world(r->ctx), &req[k]);
		for (i = 0; i < k; i++) {	/* the latest first */
			ended = gyre_request_wait(&req[k - 1 - i], NULL);
			err = err ? err : ended;
		}
		for (i = 0; i < COUNT && !err; i++)
			if (out[i] != 2 * (float)(i % 97))
				err = -EILSEQ;
	}
	return err;
}

static int path_main(struct inproc_rank *r, void *arg)
{
	struct path *path = arg;
	float *mem[2] = { heap[r->rank][0], heap[r->rank][1] };
	struct gy_stats before;
	int err = 0, i;

	if (path->alone)
		return path_alone(r, path);
	if (path->starved)
		return path_together(r, path->calls);
	for (i = 0; i < 2 && path->registered && !err; i++)
		err = gyre_mem_alloc(r->ctx, COUNT * sizeof(float), (void **)&mem[i]);
	/* Connects, and makes slabs. */
	err = err ? err : path_calls(gyre_context_world(r->ctx), mem[0], mem[1], 1);
	if (err)
		return err;
	inproc_meet(r->job);
	before = r->ctx->engine.stats;
	if (r->rank == 0)
		path->before = vf;
	inproc_meet(r->job);
	err = path_calls(gyre_context_world(r->ctx), mem[0], mem[1], path->calls);
	pthread_mutex_lock(&sums);
	path->copied += r->ctx->engine.stats.bytes_copied - before.bytes_copied;
	path->reduced += r->ctx->engine.stats.bytes_reduced - before.bytes_reduced;
	pthread_mutex_unlock(&sums);
	inproc_meet(r->job);
	for (i = 0; i < 2 && path->registered; i++)
		gyre_mem_free(r->ctx, mem[i]);
	return err;
}

/* ---- the device ---- */

static _Atomic bool device_stops;

static void *device_main(void *arg)
{
	uint64_t seed = 1;

	while (!device_stops) {
		if (!verbs_fake_move(1, &seed))
			sched_yield();
	}
	return NULL;
}

static void path_run(struct path *path)
{
	const bool device = !path->alone;
	struct inproc job;
	pthread_t id;
	int err;

	inproc_init(&job, 2, "verbs");
	if (path->alone) {
		inproc_set(&job, "progress", "manual");
		inproc_set(&job, "grain_bytes", "64k");
	}
	if (path->starved) {
		inproc_set(&job, "pool_bytes", "1m");
		inproc_set(&job, "grain_bytes", "16k");
	}
	vf.hold = device;
	device_stops = false;
	if (device && pthread_create(&id, NULL, device_main, NULL))
		abort();
	err = inproc_run(&job, path_main, path);
	device_stops = true;
	if (device)
		pthread_join(id, NULL);
	if (err)
		fail_msg("%s: %s", path->name, gyre_strerror(err));
}

static void path_check(struct path *path, double copied)
{
	double grains, posts, sends, recvs, per_byte;

	path->calls = CALLS;
	path_run(path);
	grains = vf.grains - path->before.grains;
	posts = grains + vf.empty_writes - path->before.empty_writes;
	sends = vf.bulk_send_completions - path->before.bulk_send_completions;
	recvs = vf.bulk_recv_completions - path->before.bulk_recv_completions;
	per_byte = (double)path->copied / (double)path->reduced;
	printf("%s: %.0f grains; of each: %.3f posts, %.3f receive completions, %.3f send "
	       "completions; %.2f bytes copied per byte reduced\n",
	       path->name, grains, posts / grains, recvs / grains, sends / grains, per_byte);
	assert_true(recvs <= grains);
	/* How many are under way together is up to the scheduler of this machine. */
	assert_true(posts <= grains * 5 / 4 && sends < grains);
	assert_true(per_byte <= copied);
	verbs_fake_reset();
}

static void test_slots(void **state)
{
	struct path path = { .name = "slots" };

	path_check(&path, 3);
}

static void test_registered(void **state)
{
	struct path path = { .name = "registered memory", .registered = true };

	path_check(&path, 0);
}

/* Nobody waits for a scheduler, so that the numbers are exact. */
static void test_counts(void **state)
{
	struct path path = { .name = "one thread", .alone = true, .calls = CALLS };
	unsigned grains;

	path_run(&path);
	grains = vf.grains - path.before.grains;
	assert_int_equal(grains, CALLS * 2 * 64);
	assert_int_equal(vf.bulk_recv_completions - path.before.bulk_recv_completions, grains);
	assert_int_equal(vf.empty_writes - path.before.empty_writes, 0);
	assert_true((vf.bulk_send_completions - path.before.bulk_send_completions) * 16 <= grains);
	verbs_fake_reset();
}

/*
 * Whoever waits for a slot that its device has done with gets it, although most grains have no
 * completion of their own.
 */
static void test_starved(void **state)
{
	struct path path = { .name = "few slots", .starved = true, .calls = CALLS / 4 };

	path_run(&path);
	printf("%s: %u grains, %u empty writes\n", path.name, vf.grains, vf.empty_writes);
	verbs_fake_reset();
}

/* ---- falling back ---- */

#define LONELY 3

static _Atomic unsigned unfit_warned, unfit_told;

static void unfit_hook(enum gy_log_level level, const char *text)
{
	if (strstr(text, "cannot be joined by verbs, and is by tcp: "))
		*(level == GY_LOG_WARN ? &unfit_warned : &unfit_told) += 1;
}

/* Nobody can be reached by shared memory. */
static void unfit_edit(void *said, size_t len)
{
	struct gy_job_entry *job = said;
	unsigned i;

	for (i = 0; len == sizeof(*job) && gy_transports[i]; i++)
		if (!strcmp(gy_transports[i]->name, "shm"))
			job->blob[i].len = 0;
}

static int unfit_main(struct inproc_rank *r, void *arg)
{
	struct gyre_comm *world = gyre_context_world(r->ctx);
	int in = r->rank + 1, out = 0;
	char text[200];
	int err = gyre_allreduce(&in, &out, 1, GYRE_INT32, GYRE_SUM, world);

	if (!err && out != LONELY * (LONELY + 1) / 2)
		err = -EILSEQ;
	if (!err)
		err = gyre_comm_describe(world, "allreduce", sizeof(in), text, sizeof(text));
	if (!err && !strstr(text, "transport=tcp"))
		err = -ENOTSUP;
	return err;
}

/* Devices that do not reach each other: each pair goes by TCP, of which each rank warns once. */
static void test_falls_back(void **state)
{
	struct inproc job;
	int err;

	inproc_init(&job, LONELY, "auto");
	inproc_set(&job, "algorithm", "allreduce=flat");	/* all pairs */
	job.edit = unfit_edit;
	memset(vf.deaf, 1, sizeof(vf.deaf));
	gy_log_set_level(GY_LOG_INFO);
	gy_log_set_hook(unfit_hook);
	err = inproc_run(&job, unfit_main, NULL);
	gy_log_set_hook(NULL);
	gy_log_set_level(GY_LOG_WARN);
	assert_string_equal(gyre_strerror(err), gyre_strerror(0));
	assert_int_equal(unfit_warned, LONELY);
	assert_int_equal(unfit_told, LONELY * (LONELY - 2));
	verbs_fake_reset();
}

/* ---- memory that is short while ranks connect ---- */

/* Nobody reads of so many failures. */
static void short_hook(enum gy_log_level level, const char *text)
{
}

/* Whether the call has failed for the memory that it lacks itself, and no rank is lost for it. */
static bool short_explains(struct inproc *job, int err)
{
	char why[300];
	int i;

	for (i = 0; i < 2 && err == -ENOMEM; i++)
		if (gyre_comm_status(gyre_context_world(job->ranks[i].ctx), why, sizeof(why)) &&
		    (!strstr(why, "memory") || strstr(why, "lost"))) {
			printf("rank %d: %s\n", i, why);
			err = -EILSEQ;
		}
	return err == -ENOMEM;
}

/* One call of each rank, by one thread; again, where nothing has started. */
static int short_drive(struct inproc *job)
{
	struct gyre_request *req[2] = { NULL, NULL };
	int in[2] = { 1, 2 }, out[2] = { 0, 0 }, err = 0, done[2] = { 0, 0 }, i;

	for (i = 0; i < 2 && !err; i++)
		do
			err = gyre_iallreduce(&in[i], &out[i], 1, GYRE_INT32, GYRE_SUM,
					      gyre_context_world(job->ranks[i].ctx), &req[i]);
		while (err == -ENOMEM &&
		       !gyre_comm_status(gyre_context_world(job->ranks[i].ctx), NULL, 0));
	while (!err && (!done[0] || !done[1]))
		for (i = 0; i < 2 && !err; i++)
			if (!done[i])
				err = gyre_request_test(&req[i], &done[i], NULL);
	if (!err && (out[0] != 3 || out[1] != 3))
		err = -EILSEQ;
	return short_explains(job, err) ? 0 : err;
}

static int short_main(struct inproc_rank *r, void *arg)
{
	long *rung = arg, before = gy_alloc_count();
	int err = 0;

	inproc_meet(r->job);
	if (r->rank == 0) {
		gy_alloc_fail_at(*rung);
		err = short_drive(r->job);
		gy_alloc_fail_at(0);
		if (gy_alloc_count() - before < *rung)
			*rung = 0;
	}
	inproc_meet(r->job);
	return err;
}

/*
 * One allocation after the other fails while ranks connect, by TCP also after their devices did not
 * reach each other: the call says so, or they connect all the same, as there is memory later.
 */
static void test_short(void **state)
{
	static const char *const names[] = { "auto", "tcp", "shm" };
	struct inproc job;
	long n, rung;
	unsigned i;
	int err;

	for (i = 0; i < GY_ARRAY_SIZE(names); i++) {
		for (n = rung = 1; rung; n++) {
			rung = n;
			inproc_init(&job, 2, names[i]);
			inproc_set(&job, "progress", "manual");
			job.edit = i ? NULL : unfit_edit;
			memset(vf.deaf, 1, sizeof(vf.deaf));
			gy_log_set_hook(short_hook);
			err = inproc_run(&job, short_main, &rung);
			gy_log_set_hook(NULL);
			if (err)
				fail_msg("%s: allocation %ld: %s", names[i], n, gyre_strerror(err));
			verbs_fake_reset();
		}
		printf("%s: %ld allocations\n", names[i], n - 2);
		assert_true(n > 10);
	}
}

static void path_heap(void)
{
	int i;

	for (i = 0; i < 4; i++) {
		heap[i / 2][i % 2] = calloc(COUNT, sizeof(float));
		if (!heap[i / 2][i % 2])
			abort();
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_registered),
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_falls_back),
		cmocka_unit_test(test_short),
	};
	struct path path = { .name = "one thread", .alone = true };
	int i, rc = 0;

	path_heap();
	verbs_fake_reset();
	if (argc > 1) {
		path.calls = (unsigned)atoi(argv[1]);
		path_run(&path);
		printf("%u grains\n", vf.grains);
	} else {
		rc = cmocka_run_group_tests(tests, NULL, NULL);
	}
	for (i = 0; i < 4; i++)
		free(heap[i / 2][i % 2]);
	return rc;
}
