/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sim_cost.c - the simulator's cost mode: what an allreduce takes is what the formulas of its
 * algorithm say, from 2 to 1024 ranks; and every algorithm takes as long with as without the bytes.
 *
 * L latency, B bytes per time of a port, R of the reduction, o per message, n ranks, S bytes:
 *
 *	ring			2 (n - 1) (L + S / n / B)
 *	recursive doubling	log2 n (L + S / B + S / R + 2 o)
 *	halving-doubling	2 log2 n L + 2 (n - 1) / n S / B
 *
 * and L for the first grant when S is more than the eager limit.  Grains of one step overlap with
 * the next step, so bulk may take less than that: never less than its bytes, though.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <gyre/gyre.h>

#include "lib/alloc.h"
#include "lib/coll.h"
#include "lib/config.h"
#include "lib/registry.h"
#include "tests/long.h"
#include "transports/sim/sim.h"

#define START_NS UINT64_C(1000000000)	/* of the call that is measured; one before it connects */
#define LATENCY_NS 10000
#define BYTES_PER_US 1000
#define HEADER 48

struct job {
	struct gy_sim_attr attr;
	struct gy_sim_stats stats;
	struct gy_config cfg;
	enum gy_coll coll;
	size_t bytes;			/* of the longer buffer */
	uint64_t took_ns;		/* the slowest rank */
};

static void job_init(struct job *j, int nranks, enum gy_coll coll, const char *algorithm,
		     size_t bytes)
{
	char text[64];

	memset(j, 0, sizeof(*j));
	j->coll = coll;
	j->bytes = bytes;
	gy_config_init(&j->cfg);
	snprintf(text, sizeof(text), "%s=%s", gy_coll_name(coll), algorithm);
	assert_int_equal(gy_config_set(&j->cfg, "algorithm", text, GY_CONFIG_FILE, "test"), 0);
	assert_int_equal(gy_config_set(&j->cfg, "progress", "manual", GY_CONFIG_FILE, "test"), 0);
	gy_sim_attr_init(&j->attr, nranks, 1);
	gy_sim_attr_cost(&j->attr, LATENCY_NS, BYTES_PER_US);
	j->attr.stats = &j->stats;
}

/* The results of other collectives are the suites' to check. */
static int rank_check(const struct job *j, const int32_t *out, size_t count, int nranks)
{
	size_t i;

	for (i = 0; i < count && j->coll == GY_ALLREDUCE; i++) {
		if (out[i] != (int32_t)(i % 1000) * nranks)
			return -EBADMSG;
	}
	return 0;
}

static int rank_call(const struct job *j, const int32_t *in, int32_t *out, struct gyre_comm *comm)
{
	const size_t all = j->bytes / sizeof(*in), share = all / (size_t)gyre_comm_size(comm);

	switch (j->coll) {
	case GY_ALLREDUCE:
		return gyre_allreduce(in, out, all, GYRE_INT32, GYRE_SUM, comm);
	case GY_REDUCE_SCATTER:
		return gyre_reduce_scatter(in, out, share, GYRE_INT32, GYRE_SUM, comm);
	case GY_ALLGATHER:
		return gyre_allgather(in, out, share, GYRE_INT32, comm);
	case GY_BROADCAST:
		return gyre_broadcast(out, all, GYRE_INT32, 0, comm);
	default:
		return gyre_barrier(comm);
	}
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct job *j = arg;
	const size_t count = j->bytes / sizeof(int32_t);
	struct gyre_context *ctx;
	int32_t *in = NULL, *out = NULL;
	int call, err;
	size_t i;

	err = gy_sim_context(rank, &j->cfg, &ctx);
	if (err)
		return err;
	if (j->attr.no_data) {
		in = gy_sim_nowhere(rank, 0);
		out = gy_sim_nowhere(rank, 1);
	} else if (posix_memalign((void **)&in, 4096, j->bytes) ||
		   posix_memalign((void **)&out, 4096, j->bytes)) {
		return -ENOMEM;
	}
	for (i = 0; i < count && !j->attr.no_data; i++)
		in[i] = (int32_t)(i % 1000);
	for (call = 0; call < 2 && !err; call++) {
		gy_sim_sleep(rank, (uint64_t)(call + 1) * START_NS - gy_sim_time(rank));
		err = rank_call(j, in, out, gyre_context_world(ctx));
	}
	if (gy_sim_time(rank) - 2 * START_NS > j->took_ns)
		j->took_ns = gy_sim_time(rank) - 2 * START_NS;
	gy_sim_sleep(rank, START_NS);	/* others may still read our memory */
	if (!j->attr.no_data) {
		if (!err)
			err = rank_check(j, out, count, gy_sim_nranks(rank));
		free(in);
		free(out);
	}
	gyre_context_destroy(ctx);
	return err;
}

static uint64_t job_run(struct job *j)
{
	j->took_ns = 0;
	assert_int_equal(gy_sim_run(&j->attr, rank_main, j), 0);
	return j->took_ns;
}

static uint64_t predict(int nranks, const char *algorithm, size_t bytes)
{
	struct job j;

	job_init(&j, nranks, GY_ALLREDUCE, algorithm, bytes);
	return job_run(&j);
}

static void expect(const char *what, int n, size_t bytes, uint64_t got, double low, double high)
{
	if ((double)got < low || (double)got > high)
		fail_msg("%s, %d ranks, %zu bytes: %llu ns, not %.0f to %.0f", what, n, bytes,
			 (unsigned long long)got, low, high);
}

static unsigned log2_of(int n)
{
	return (unsigned)__builtin_ctz((unsigned)n);
}

static double wire_ns(double bytes)
{
	return bytes * 1000 / BYTES_PER_US;
}

/* ---- formulas ---- */

static void test_ring(void **state)
{
	static const int ranks[] = { 2, 3, 4, 7, 8, 16, 64 };
	static const size_t sizes[] = { 64 << 10, 1 << 20, 64 << 20 };
	unsigned i, k;

	for (i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			const int n = ranks[i];
			const double steps = 2 * (n - 1), data = steps * wire_ns(sizes[k]) / n;

			if (n == 64 && k == 2)
				continue;	/* takes seconds */
			expect("ring", n, sizes[k], predict(n, "ring", sizes[k]),
			       data + LATENCY_NS, 1.02 * (data + (steps + 1) * LATENCY_NS));
		}
	}
}

static void test_recursive_doubling(void **state)
{
	static const size_t sizes[] = { 8, 1024, 8192, 65536, 262144 };
	unsigned k;
	int n;

	for (n = 2; n <= (int)test_times(64, 256); n *= 2) {
		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			const double data = log2_of(n) * wire_ns((double)sizes[k] + HEADER);
			const double high = data + log2_of(n) * (double)LATENCY_NS;
			const bool eager = sizes[k] <= 8192;

			expect("recursive doubling", n, sizes[k],
			       predict(n, "recursive_doubling", sizes[k]),
			       eager ? high : data + LATENCY_NS,
			       1.02 * (eager ? high : high + LATENCY_NS));
		}
	}
}

/*
 * With many grains, a rank whose next partner wants the first part of a sum starts on it while its
 * last grains of this step are still to be sent: the two share its port, and the other partner
 * waits longer than the formula says.
 */
static void test_halving_doubling(void **state)
{
	static const size_t sizes[] = { 65536, 1 << 20 };
	unsigned k;
	int n;

	for (k = 0; k < 2; k++) {
		for (n = 2; n <= 64; n *= 2) {
			const double data = 2.0 * (n - 1) / n * wire_ns((double)sizes[k]);
			const double latencies = (2 * log2_of(n) + 1) * (double)LATENCY_NS;

			expect("halving-doubling", n, sizes[k],
			       predict(n, "halving_doubling", sizes[k]), data + LATENCY_NS,
			       k ? 1.75 * (data + latencies) : 1.02 * (data + latencies));
		}
	}
}

static void test_processor(void **state)
{
	static const size_t bytes = 4000;
	double want;
	struct job j;
	int n;

	for (n = 2; n <= 32; n *= 2) {
		job_init(&j, n, GY_ALLREDUCE, "recursive_doubling", bytes);
		j.attr.overhead_ns = 700;
		j.attr.reduce_bytes_per_us = 500;
		want = log2_of(n) * (LATENCY_NS + wire_ns((double)bytes + HEADER) +
				     (double)bytes * 1000 / 500 + 2 * 700);
		expect("with a processor", n, bytes, job_run(&j), want, 1.02 * want + bytes);
	}
}

/* ---- which is faster ---- */

static void faster(int n, size_t bytes, const char *a, const char *b)
{
	const uint64_t ta = predict(n, a, bytes), tb = predict(n, b, bytes);

	if (ta >= tb)
		fail_msg("%d ranks, %zu bytes: %s takes %llu ns, %s %llu", n, bytes, a,
			 (unsigned long long)ta, b, (unsigned long long)tb);
}

/*
 * By the formulas, with L = 10 us and B = 1000 bytes per us, 16 ranks: recursive doubling is as
 * fast as halving-doubling at 19 KB, and as the ring at 122 KB.
 */
static void test_crossovers(void **state)
{
	faster(16, 10000, "recursive_doubling", "halving_doubling");
	faster(16, 40000, "halving_doubling", "recursive_doubling");
	faster(16, 60000, "recursive_doubling", "ring");
	faster(16, 240000, "ring", "recursive_doubling");
	faster(2, 4000, "recursive_doubling", "ring");
	faster(2, 60000, "recursive_doubling", "ring");
	faster(64, 100000, "halving_doubling", "ring");
}

/* ---- with and without data ---- */

static void test_data_takes_as_long(void **state)
{
	static const unsigned caps[] = {
		GY_SIM_BULK,
		GY_SIM_BULK | GY_SIM_WRITE,
		GY_SIM_LEND | GY_SIM_LEND_HEAP | GY_SIM_MAP,
		GY_SIM_LEND | GY_SIM_MAP,
	};
	struct gy_sim_stats stats;
	unsigned i, nalgos = 0;
	struct job j;

	while (gy_algos[nalgos])
		nalgos++;
	for (i = 0; i < test_times(8, 20) * nalgos; i++) {
		const struct gy_coll_algo *algo = gy_algos[i % nalgos];
		const int n = 2 + (int)(i * 7 % 9);
		uint64_t took;

		job_init(&j, n, algo->coll, algo->name, 4 * (1 + i * i * 37 % 60000));
		j.attr.seed = i;
		j.attr.link.caps = caps[i / nalgos % 4];
		j.attr.link.lanes = 1 + i % 3;
		j.attr.link.jitter_ns = i % 2 ? 5000 : 0;
		j.attr.link.loss_ppm = i % 7 ? 0 : 3000;
		j.attr.overhead_ns = 300;
		j.attr.reduce_bytes_per_us = 4000;
		j.attr.copy_bytes_per_us = 8000;
		took = job_run(&j);
		stats = j.stats;
		job_run(&j);
		assert_memory_equal(&stats, &j.stats, sizeof(stats));
		j.attr.no_data = false;
		if (job_run(&j) != took)
			fail_msg("seed %u: %llu ns with data, %llu without", i,
				 (unsigned long long)j.took_ns, (unsigned long long)took);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

/* ---- size ---- */

/* No more than sending everything to everybody, one after the other, twice; and not too little. */
static void test_every_algorithm(void **state)
{
	const int ranks[] = { 2, 7, 32, (int)test_times(50, 100) };
	const size_t bytes = 100 * 1024;
	struct job j;
	unsigned i, k;

	for (i = 0; gy_algos[i]; i++) {
		const bool barrier = gy_algos[i]->coll == GY_BARRIER;

		for (k = 0; k < sizeof(ranks) / sizeof(ranks[0]); k++) {
			const int n = ranks[k];
			const double once = barrier ? 0 : wire_ns((double)bytes * (n - 1) / n);

			job_init(&j, n, gy_algos[i]->coll, gy_algos[i]->name, bytes);
			expect(gy_algos[i]->name, n, bytes, job_run(&j), once + LATENCY_NS,
			       2.2 * n * (once + LATENCY_NS));
		}
	}
}

static void test_many_ranks(void **state)
{
	const int n = (int)test_times(512, 1024);
	const double steps = log2_of(n);
	struct rusage use;

	expect("recursive doubling", n, 1000, predict(n, "recursive_doubling", 1000),
	       steps * LATENCY_NS, 1.02 * steps * (LATENCY_NS + wire_ns(1000 + HEADER)));
	getrusage(RUSAGE_SELF, &use);
	print_message("%d ranks: at most %ld MiB\n", n, use.ru_maxrss >> 10);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(use.ru_maxrss < n << 10);
#endif
	assert_int_equal(gy_alloc_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_recursive_doubling),
		cmocka_unit_test(test_halving_doubling),
		cmocka_unit_test(test_processor),
		cmocka_unit_test(test_crossovers),
		cmocka_unit_test(test_data_takes_as_long),
		cmocka_unit_test(test_every_algorithm),
		cmocka_unit_test(test_many_ranks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
