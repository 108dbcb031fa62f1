/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * round_cost.c - what a round of a delayed average costs the processor, and a training loop.
 *
 *	gyrerun -n 2 --bind core round_cost [-c COUNT] [-r ROUNDS] [-s SECONDS]
 *
 * First, of a vector of COUNT f32 (25 M): processor time of the whole process per round while its
 * own thread sleeps, beside what the work must take at the speed of this machine's memory: a copy
 * of 2 (n - 1) / n of the vector, and the passes that take a contribution and merge an average.
 * Then, for rounds of SECONDS (10) each: the time of a loop that computes all the while, with and
 * without rounds.  One rank for each core, which the library's thread shares.
 */
#include <gyre/gyre.h>
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

static int cost_open(const struct cost *c, uint32_t period, struct gyre_delayed **dp)
{
	struct gyre_delayed_attr attr;

	gyre_dts_attr(&attr, period - 1, period);
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

	err = cost_open(c, 2, &d);
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

/* Wall-clock seconds of three periods of steps; d NULL: without rounds. */
static int cost_loop(const struct cost *c, struct gyre_delayed *d, unsigned turns, double *seconds,
		     double *blocked)
{
	const int steps = (int)(3 * c->seconds / STEP_S);
	volatile double v = 1;
	struct gyre_tick t;
	unsigned k;
	double start;
	int i, err;

	err = gyre_barrier(c->world);
	start = cost_clock(CLOCK_MONOTONIC);
	for (i = 0; i < steps && !err; i++) {
		for (k = 0; k < turns; k++)
			v = cost_turn(v);
		if (!d)
			continue;
		err = gyre_delayed_tick(d, 1, &t);
		*blocked += 1e-9 * (double)t.blocked_ns;
	}
	*seconds = cost_clock(CLOCK_MONOTONIC) - start;
	return err;
}

static int cost_throughput(const struct cost *c)
{
	const unsigned turns = cost_calibrate();
	double with = 0, without = 0, again = 0, blocked = 0;
	struct gyre_delayed *d;
	int err;

	err = cost_open(c, (uint32_t)(c->seconds / STEP_S), &d);
	if (err)
		return err;
	err = cost_loop(c, NULL, turns, &without, &blocked);
	if (!err)
		err = cost_loop(c, d, turns, &with, &blocked);
	if (!err)
		err = cost_loop(c, NULL, turns, &again, &blocked);
	gyre_delayed_destroy(d);
	if (!err && c->rank == 0)
		printf("rounds every %.0f s of steps: %.2f s with them, %.2f and %.2f s without: "
		       "%.1f %% loss, %.2f %% blocked\n",
		       c->seconds, with, without, again, 100 * (with / ((without + again) / 2) - 1),
		       100 * blocked / with);
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
	err = c.x ? cost_run(&c) : -12;
	if (err)
		fprintf(stderr, "round_cost: %s\n", gyre_strerror(err));
	free(c.x);
	gyre_context_destroy(ctx);
	return err != 0;
}
