/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * round_cost.c - what a round of a delayed average costs the processor, and a training loop.
 *
 *	gyrerun -n 2 --bind core round_cost [-c COUNT] [-r ROUNDS] [-s SECONDS]
 *
 * First, of a vector of COUNT f32 (25 M): processor time of the whole process per round while its
 * own thread sleeps, beside what the work must take at the speed of this machine's memory: a copy
 * of 2 (n - 1) / n of the vector, and the passes that take a contribution and merge an average.
 * Then the time of a loop that computes for SECONDS (10), ROUNDS (5) times with a round, posted by
 * its first step and merged by its last, and before, between and after without: how much longer
 * each takes than the two beside it, and what share of it was spent waiting.  2 ROUNDS + 1 loops,
 * 110 s; SECONDS 0: none.  One rank for each core, which the library's thread shares.  Printed is
 * the median, and in brackets the smallest and the largest, of the rank that is worse off.
 */
#include <gyre/gyre.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP_S 0.01
#define FLOPS_PER_TURN 1000

struct cost {
	struct gyre_comm *world;
	int rank, nranks;
	size_t count;
	int rounds;
	double seconds;
	float *x;
};

static double cost_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void cost_sleep(double seconds)
{
	const struct timespec ts = { .tv_sec = (time_t)seconds,
				     .tv_nsec = (long)(1e9 * (seconds - floor(seconds))) };

	nanosleep(&ts, NULL);
}

static int cost_open(const struct cost *c, uint32_t phase, uint32_t period,
		     struct gyre_delayed **dp)
{
	struct gyre_delayed_attr attr;

	gyre_dts_attr(&attr, period - 1, period);
	attr.phase = phase;
	attr.count = c->count;
	return gyre_delayed_create(&attr, c->x, c->world, dp);
}

/* One round: posted by one tick, merged by the next; asleep between them. */
static int cost_round(struct gyre_delayed *d)
{
	struct gyre_delayed_stats stats;
	struct gyre_tick t;
	int err;

	err = gyre_delayed_tick(d, 1, &t);
	if (!err)
		err = gyre_delayed_tick(d, 1, &t);
	do {
		cost_sleep(0.005);
		if (!err)
			err = gyre_delayed_stats(d, &stats);
	} while (!err && stats.committed < t.posted);
	return err;
}

/* Processor seconds for a round: of the process, and of the thread that calls. */
static int cost_measure(const struct cost *c, double *cpu, double *passes)
{
	struct gyre_delayed *d;
	double start, own;
	int i, err;

	err = cost_open(c, 0, 2, &d);
	if (err)
		return err;
	err = cost_round(d); /* touches all memory */
	start = cost_clock(CLOCK_PROCESS_CPUTIME_ID);
	own = cost_clock(CLOCK_THREAD_CPUTIME_ID);
	for (i = 0; i < c->rounds && !err; i++)
		err = cost_round(d);
	*cpu = (cost_clock(CLOCK_PROCESS_CPUTIME_ID) - start) / c->rounds;
	*passes = (cost_clock(CLOCK_THREAD_CPUTIME_ID) - own) / c->rounds;
	gyre_delayed_destroy(d);
	return err;
}

/* Seconds of a copy of that many bytes, between memory that does not fit the caches. */
static double cost_copy(const struct cost *c, size_t len)
{
	char *a = malloc(len), *b = malloc(len);
	double start, best = INFINITY;
	int i;

	if (!a || !b) {
		free(a);
		free(b);
		return NAN;
	}
	memset(a, 1, len);
	memset(b, 2, len);
	for (i = 0; i < c->rounds; i++) {
		start = cost_clock(CLOCK_THREAD_CPUTIME_ID);
		memcpy(b, a, len);
		__asm__ volatile("" : : "r"(b) : "memory");
		start = cost_clock(CLOCK_THREAD_CPUTIME_ID) - start;
		best = start < best ? start : best;
	}
	free(a);
	free(b);
	return best;
}

static double cost_turn(double v)
{
	int i;

	for (i = 0; i < FLOPS_PER_TURN; i++)
		v = v * 0.999 + 0.5;
	return v;
}

/* Turns of computing that take a step. */
static unsigned cost_calibrate(void)
{
	volatile double v = 1;
	unsigned turns = 0;
	const double start = cost_clock(CLOCK_THREAD_CPUTIME_ID);

	while (cost_clock(CLOCK_THREAD_CPUTIME_ID) - start < 100 * STEP_S) {
		v = cost_turn(v);
		turns++;
	}
	return turns / 100;
}

/* Steps of a loop: at least one between post and merge. */
static uint32_t cost_period(const struct cost *c)
{
	const double steps = c->seconds / STEP_S;

	return steps < 2 ? 2 : (uint32_t)steps;
}

/* A period of steps; d NULL: without rounds.  turns 0: of ticks alone. */
struct cost_loop {
	double seconds, blocked;	/* wall clock; in ticks */
};

static int cost_loop(const struct cost *c, struct gyre_delayed *d, unsigned turns,
		     struct cost_loop *out)
{
	const int steps = (int)cost_period(c);
	volatile double v = 1;
	struct gyre_tick t;
	double start;
	unsigned k;
	int i, err;

	*out = (struct cost_loop){ .seconds = 0 };
	err = gyre_barrier(c->world);
	start = cost_clock(CLOCK_MONOTONIC);
	for (i = 0; i < steps && !err; i++) {
		for (k = 0; k < turns; k++)
			v = cost_turn(v);
		if (!d)
			continue;
		err = gyre_delayed_tick(d, 1, &t);
		out->blocked += 1e-9 * (double)t.blocked_ns;
	}
	out->seconds = cost_clock(CLOCK_MONOTONIC) - start;
	return err;
}

/* Up to the first tick that posts; then a round that nobody times, which touches all memory. */
static int cost_warm(const struct cost *c, struct gyre_delayed *d)
{
	struct cost_loop none;
	int err = cost_loop(c, d, 0, &none);

	return err ? err : cost_loop(c, d, 0, &none);
}

/* Percentages of each round: what it made the loop longer, and what of it was waiting. */
static int cost_pairs(const struct cost *c, struct gyre_delayed *d, double *loss, double *blocked)
{
	const unsigned turns = cost_calibrate();
	struct cost_loop before, with, after;
	int i, err;

	err = cost_warm(c, d);
	if (!err)
		err = cost_loop(c, NULL, turns, &before);
	for (i = 0; i < c->rounds && !err; i++) {
		err = cost_loop(c, d, turns, &with);
		if (!err)
			err = cost_loop(c, NULL, turns, &after);
		loss[i] = 100 * (2 * with.seconds / (before.seconds + after.seconds) - 1);
		blocked[i] = 100 * with.blocked / with.seconds;
		before = after;
	}
	return err;
}

static int cost_compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void cost_print(const char *what, double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), cost_compare);
	printf("%s %.2f %% [%.2f .. %.2f]\n", what, (v[(n - 1) / 2] + v[n / 2]) / 2, v[0],
	       v[n - 1]);
}

static int cost_throughput(const struct cost *c)
{
	const size_t n = (size_t)c->rounds;
	double *v = calloc(2 * n, sizeof(*v));
	struct gyre_delayed *d;
	int err;

	if (!v)
		return -ENOMEM;
	err = cost_open(c, 1, cost_period(c), &d);
	if (!err) {
		err = cost_pairs(c, d, v, v + n);
		gyre_delayed_destroy(d);
	}
	if (!err)
		err = gyre_allreduce(GYRE_IN_PLACE, v, 2 * n, GYRE_F64, GYRE_MAX, c->world);
	if (!err && c->rank == 0) {
		printf("%d rounds of %.1f s each, in steps of %.0f ms:\n", c->rounds, c->seconds,
		       1e3 * STEP_S);
		cost_print("  loss of throughput", v, c->rounds);
		cost_print("  blocked", v + n, c->rounds);
	}
	free(v);
	return err;
}

static int cost_run(const struct cost *c)
{
	const size_t moved =
		c->count * sizeof(float) * 2 * (size_t)(c->nranks - 1) / (size_t)c->nranks;
	double cpu, passes, copy;
	int err;

	err = cost_measure(c, &cpu, &passes);
	if (err)
		return err;
	copy = cost_copy(c, moved);
	if (c->rank == 0)
		printf("a round of %.1f MB: %.3f s of processor time; copy of %.1f MB %.3f s, "
		       "passes of the caller %.3f s: ratio %.2f\n",
		       (double)c->count * 4e-6, cpu, (double)moved * 1e-6, copy, passes,
		       cpu / (copy + passes));
	return c->seconds > 0 ? cost_throughput(c) : 0;
}

int main(int argc, char **argv)
{
	struct cost c = { .count = 25000000, .rounds = 5, .seconds = 10 };
	struct gyre_context *ctx;
	int opt, err;

	while ((opt = getopt(argc, argv, "c:r:s:")) != -1) {
		if (opt == 'c')
			c.count = strtoull(optarg, NULL, 0);
		else if (opt == 'r')
			c.rounds = atoi(optarg);
		else if (opt == 's')
			c.seconds = atof(optarg);
		else
			return 2;
	}
	if (!c.count || c.rounds < 1 || gyre_context_create(NULL, &ctx))
		return 2;
	c.world = gyre_context_world(ctx);
	c.rank = gyre_comm_rank(c.world);
	c.nranks = gyre_comm_size(c.world);
	c.x = calloc(c.count, sizeof(*c.x));
	err = c.x ? cost_run(&c) : -ENOMEM;
	if (err)
		fprintf(stderr, "round_cost: %s\n", gyre_strerror(err));
	free(c.x);
	gyre_context_destroy(ctx);
	return err != 0;
}
