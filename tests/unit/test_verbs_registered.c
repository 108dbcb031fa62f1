/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_verbs_registered.c - how much memory a rank has registered with the device: bytes of all
 * live registrations, which the device in this process sums up.  The whole library, a thread for
 * each rank, all buffers on the heap, so that everything goes through slots.
 *
 * What a user allocates or registers (gyre_mem_alloc, gyre_mem_register) is the user's and comes on
 * top, byte for byte.  The queues of a device are no registrations; qp.c says how long they are.
 * GY_TEST_MEASURE=1 prints the figures, and sums up more elements.
 */
#include "tests/unit/net_fake.h"
#include "tests/unit/verbs_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/inproc.h"
#include "transports/verbs/verbs.h"

#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)
#define AT_MOST (32 * MIB)		/* of a rank of 4 */
#define PER_PEER (64 * KIB)		/* of each further one */
#define POOL (16 * MIB)			/* GYRE_POOL_BYTES */
#define BEYOND (4 * MIB)
#define TOGETHER 16			/* calls under way at once */
#define MESSAGES_EACH 8			/* with each peer, each way */
#define LEN (24 * MIB)			/* more than all slots; of each rank */
#define LONG_LEN (64 * MIB)
#define USERS (3 * MIB + 4096)

/* Of verbs_fake.c, which otherwise draws them from net_fake.c. */
uint64_t fake_random(uint64_t *seed)
{
	return inproc_random(seed);
}

enum stage { CONNECTED, SMALL, MEDIUM, LARGE, MANY, MESSAGES, STAGES };

static const char *const stages[] = {
	[CONNECTED] = "connected",
	[SMALL] = "small calls",
	[MEDIUM] = "a medium call",
	[LARGE] = "a large call",
	[MANY] = "many calls at once",
	[MESSAGES] = "many messages at once",
};

/* The most that any rank had registered at any time of a stage. */
struct registered {
	int nranks;
	size_t len;			/* of the large call */
	size_t most[STAGES];
	float *heap[INPROC_RANKS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct ibv_context *device_of(const struct inproc_rank *r)
{
	unsigned i = 0;

	while (gy_transports[i] != &gy_verbs_ops)
		i++;
	return to_verbs_nic(r->ctx->nics[i])->dev;
}

static void stage_over(struct inproc_rank *r, struct registered *all, enum stage stage)
{
	size_t most;

	verbs_fake_registered(device_of(r), &most);
	pthread_mutex_lock(&lock);
	all->most[stage] = gy_max(all->most[stage], most);
	pthread_mutex_unlock(&lock);
	inproc_meet(r->job);
}

/* A message to each other rank and one from it, on a ring of steps. */
static int meet_everybody(struct inproc_rank *r, int n)
{
	struct gyre_comm *world = gyre_context_world(r->ctx);
	int step, in, err = 0;

	for (step = 1; step < n && !err; step++) {
		const int to = (r->rank + step) % n, from = (r->rank - step + n) % n;

		err = gyre_sendrecv(&r->rank, 1, GYRE_INT32, to, step, &in, 1, GYRE_INT32, from,
				    step, world, NULL);
		if (!err && in != from)
			err = -EILSEQ;
	}
	return err;
}

static int call(struct inproc_rank *r, struct registered *all, size_t len)
{
	const size_t count = len / sizeof(float);
	float *mem = all->heap[r->rank];
	size_t i;
	int err;

	for (i = 0; i < count; i++)
		mem[i] = (float)(i % 97);
	err = gyre_allreduce(GYRE_IN_PLACE, mem, count, GYRE_F32, GYRE_SUM,
			     gyre_context_world(r->ctx));
	for (i = 0; i < count && !err; i++)
		if (mem[i] != (float)all->nranks * (float)(i % 97))
			err = -EILSEQ;
	return err;
}

/* Each has streams of its own, which all want slots. */
static int many_calls(struct inproc_rank *r, struct registered *all)
{
	const size_t n = all->len / TOGETHER / sizeof(float);
	struct gyre_request *req[TOGETHER];
	unsigned i, started;
	int err = 0, ended;

	for (i = 0; i < TOGETHER && !err; i++)
		err = gyre_iallreduce(GYRE_IN_PLACE, all->heap[r->rank] + i * n, n, GYRE_F32,
				      GYRE_MAX, gyre_context_world(r->ctx), &req[i]);
	started = err ? i - 1 : i;
	for (i = 0; i < started; i++) {
		ended = gyre_request_wait(&req[i], NULL);
		err = err ? err : ended;
	}
	return err;
}

/*
 * From and to each other rank, all under way at once; what comes is thrown away.  Each may have one
 * slot beyond the pool, so that a peer which is stopped delays none of the others.
 */
static int many_messages(struct inproc_rank *r, struct registered *all)
{
	const size_t n = all->len / 2 / MESSAGES_EACH / (size_t)all->nranks / sizeof(float);
	struct gyre_comm *world = gyre_context_world(r->ctx);
	struct gyre_request *req[2 * MESSAGES_EACH * 4];
	float *out = all->heap[r->rank], *in = out + all->len / 2 / sizeof(float);
	int started = 0, peer, i, err = 0, ended;

	for (i = 0; i < MESSAGES_EACH * all->nranks && !err; i++) {
		peer = i / MESSAGES_EACH;
		if (peer == r->rank)
			continue;
		err = gyre_irecv(in + (size_t)i * n, n, GYRE_F32, peer, i % MESSAGES_EACH, world,
				 &req[started]);
		started += !err;
		err = err ? err
			  : gyre_isend(out + (size_t)i * n, n, GYRE_F32, peer, i % MESSAGES_EACH,
				       world, &req[started]);
		started += !err;
	}
	while (started-- > 0) {		/* the latest first */
		ended = gyre_request_wait(&req[started], NULL);
		err = err ? err : ended;
	}
	return err;
}

static int users_memory(struct inproc_rank *r)
{
	const size_t before = verbs_fake_registered(device_of(r), NULL);
	void *mem;
	int err = gyre_mem_alloc(r->ctx, USERS, &mem);

	if (err)
		return err;
	if (verbs_fake_registered(device_of(r), NULL) != before + USERS)
		err = -EILSEQ;
	gyre_mem_free(r->ctx, mem);
	return verbs_fake_registered(device_of(r), NULL) == before ? err : -EILSEQ;
}

static int rank_main(struct inproc_rank *r, void *arg)
{
	struct registered *all = arg;
	const int n = all->nranks;
	int err;

	verbs_fake_registered(device_of(r), &(size_t){ 0 });	/* looks at limits have ended */
	err = meet_everybody(r, n);
	inproc_meet(r->job);
	stage_over(r, all, CONNECTED);
	err = err ? err : call(r, all, sizeof(float));
	err = err ? err : call(r, all, 8 * KIB);
	stage_over(r, all, SMALL);
	err = err ? err : call(r, all, all->len / 8);
	stage_over(r, all, MEDIUM);
	err = err ? err : call(r, all, all->len);
	stage_over(r, all, LARGE);
	err = err ? err : many_calls(r, all);
	stage_over(r, all, MANY);
	if (n <= 4)
		err = err ? err : many_messages(r, all);
	stage_over(r, all, MESSAGES);
	return err ? err : users_memory(r);
}

static void measure(struct registered *all, int nranks, size_t len)
{
	struct inproc job;
	int i, err;

	*all = (struct registered){ .nranks = nranks, .len = len };
	for (i = 0; i < nranks; i++) {
		all->heap[i] = malloc(len);
		if (!all->heap[i])
			abort();
	}
	inproc_init(&job, nranks, "verbs");
	err = inproc_run(&job, rank_main, all);
	for (i = 0; i < nranks; i++)
		free(all->heap[i]);
	verbs_fake_reset();
	if (err)
		fail_msg("%d ranks: %s", nranks, gyre_strerror(err));
	for (i = 0; i < STAGES && getenv("GY_TEST_MEASURE"); i++)
		printf("%d ranks, %zu MiB: %s: %zu KiB registered\n", nranks, len / MIB, stages[i],
		       all->most[i] / KIB);
}

static size_t most_of(const struct registered *all)
{
	size_t most = 0;
	int i;

	for (i = 0; i < STAGES; i++)
		most = gy_max(most, all->most[i]);
	return most;
}

static size_t large(void)
{
	return getenv("GY_TEST_MEASURE") || test_is_long() ? LONG_LEN : LEN;
}

/* As much as stated, whatever is sent. */
static void test_rank(void **state)
{
	struct registered two, four;

	measure(&two, 2, large());
	measure(&four, 4, large());
	assert_true(two.most[CONNECTED] && two.most[LARGE] > two.most[CONNECTED]);
	assert_true(most_of(&two) <= AT_MOST && most_of(&four) <= AT_MOST);
	assert_true(four.most[CONNECTED] <= 3 * PER_PEER);
	/* Whatever the size of a call: all slots, and some for what must go on without any. */
	assert_true(four.most[MEDIUM] <= POOL + BEYOND && four.most[LARGE] <= POOL + BEYOND);
}

/* Only what each connection needs grows with their number. */
static void test_peers(void **state)
{
	static const int nranks[] = { 4, 8, 16 };
	struct registered all[GY_ARRAY_SIZE(nranks)];
	size_t further, added;
	unsigned i;

	for (i = 0; i < GY_ARRAY_SIZE(nranks); i++) {
		measure(&all[i], nranks[i], 2 * MIB);
		assert_true(most_of(&all[i]) <= AT_MOST + (size_t)(nranks[i] - 4) * PER_PEER);
		if (i == 0)
			continue;
		further = (size_t)(nranks[i] - nranks[i - 1]);
		added = (all[i].most[CONNECTED] - all[i - 1].most[CONNECTED]) / further;
		if (getenv("GY_TEST_MEASURE"))
			printf("%d ranks: %zu bytes for each further peer\n", nranks[i], added);
		assert_in_range(added, 1, PER_PEER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rank),
		cmocka_unit_test(test_peers),
	};

	verbs_fake_reset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
