/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench/predict.c - gyre-predict: how long each algorithm of a collective would take on a network
 * that is described, not there.
 *
 *	gyre-predict [-n RANKS] [-l LATENCY_US] [-r MB/s] [-o OVERHEAD_US] [-k REDUCE_MB/s]
 *		     [-m MIN:MAX] [COLLECTIVE [ALGORITHM...]]
 *
 * The library runs as it is, in the simulator's cost mode: no bytes are moved.  One line per size,
 * one column of microseconds per algorithm; "-" where an algorithm is not for so many ranks or
 * bytes.  Thousands of ranks fit, but take their time: a ring of n ranks is n * n steps.  Not
 * installed; links the internal library, because the API does not show the simulator.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <gyre/gyre.h>

#include "lib/coll.h"
#include "lib/config.h"
#include "lib/registry.h"
#include "transports/sim/sim.h"

#define PREDICT_START_NS UINT64_C(10000000000)
#define PREDICT_MAX_ALGOS 16

struct predict {
	int nranks;
	double latency_us, rate, overhead_us, reduce_rate;
	size_t min, max;
	enum gy_coll coll;
	const struct gy_coll_algo *algos[PREDICT_MAX_ALGOS];
	unsigned nalgos;
	/* of one run */
	struct gy_config cfg;
	size_t bytes;
	uint64_t took_ns;
};

/* As gyre-bench counts: of the whole vector, or of each rank's block. */
static int predict_call(const struct predict *p, void *in, void *out, struct gyre_comm *comm)
{
	const size_t count = p->bytes / sizeof(float);

	switch (p->coll) {
	case GY_ALLREDUCE:
		return gyre_allreduce(in, out, count, GYRE_F32, GYRE_SUM, comm);
	case GY_REDUCE_SCATTER:
		return gyre_reduce_scatter(in, out, count, GYRE_F32, GYRE_SUM, comm);
	case GY_ALLGATHER:
		return gyre_allgather(in, out, count, GYRE_F32, comm);
	case GY_BROADCAST:
		return gyre_broadcast(out, count, GYRE_F32, 0, comm);
	default:
		return gyre_barrier(comm);
	}
}

/* The first call connects, the second is timed: all ranks start it at once. */
static int predict_rank(struct gy_sim_rank *rank, void *arg)
{
	struct predict *p = arg;
	struct gyre_context *ctx;
	uint64_t took = 0;
	int call, err;

	err = gy_sim_context(rank, &p->cfg, &ctx);
	if (err)
		return err;
	for (call = 1; call <= 2 && !err; call++) {
		gy_sim_sleep(rank, (uint64_t)call * PREDICT_START_NS - gy_sim_time(rank));
		err = predict_call(p, gy_sim_nowhere(rank, 0), gy_sim_nowhere(rank, 1),
				   gyre_context_world(ctx));
		took = gy_sim_time(rank) - (uint64_t)call * PREDICT_START_NS;
	}
	if (took > p->took_ns)
		p->took_ns = took;
	gyre_context_destroy(ctx);
	return err;
}

/* Microseconds; < 0: this algorithm is not for that. */
static double predict_one(struct predict *p, const struct gy_coll_algo *algo)
{
	struct gy_sim_attr attr;
	char text[64];
	int err;

	if ((algo->max_ranks && p->nranks > algo->max_ranks) ||
	    (algo->flags & GY_ALGO_SMALL && p->bytes > GY_SMALL_COLL))
		return -1;
	gy_config_init(&p->cfg);
	snprintf(text, sizeof(text), "%s=%s", gy_coll_name(algo->coll), algo->name);
	gy_config_set(&p->cfg, "algorithm", text, GY_CONFIG_FILE, "gyre-predict");
	gy_config_set(&p->cfg, "progress", "manual", GY_CONFIG_FILE, "gyre-predict");
	gy_sim_attr_init(&attr, p->nranks, 1);
	gy_sim_attr_cost(&attr, (uint32_t)(p->latency_us * 1000), (uint32_t)p->rate);
	attr.overhead_ns = (uint32_t)(p->overhead_us * 1000);
	attr.reduce_bytes_per_us = (uint32_t)p->reduce_rate;
	attr.max_events = UINT64_MAX;
	p->took_ns = 0;
	err = gy_sim_run(&attr, predict_rank, p);
	if (err) {
		fprintf(stderr, "gyre-predict: %s: %s\n", algo->name, gyre_strerror(err));
		exit(1);
	}
	return (double)p->took_ns / 1000;
}

static void predict_table(struct predict *p)
{
	unsigned i;

	printf("# %s, %d ranks, latency %g us, %g MB/s, overhead %g us, reducing %g MB/s; us\n",
	       gy_coll_name(p->coll), p->nranks, p->latency_us, p->rate, p->overhead_us,
	       p->reduce_rate);
	printf("%-12s", "# bytes");
	for (i = 0; i < p->nalgos; i++)
		printf(" %20s", p->algos[i]->name);
	for (p->bytes = p->min; p->bytes <= p->max; p->bytes *= 4) {
		printf("\n%-12zu", p->bytes);
		for (i = 0; i < p->nalgos; i++) {
			const double us = predict_one(p, p->algos[i]);

			if (us < 0)
				printf(" %20s", "-");
			else
				printf(" %20.2f", us);
			fflush(stdout);
		}
		if (p->coll == GY_BARRIER)
			break;
	}
	printf("\n");
}

static void predict_usage(void)
{
	fprintf(stderr, "usage: gyre-predict [-n RANKS] [-l LATENCY_US] [-r MB/s] [-o OVERHEAD_US] "
			"[-k REDUCE_MB/s] [-m MIN:MAX] [COLLECTIVE [ALGORITHM...]]\n");
	exit(2);
}

/* name NULL: all of the collective. */
static void predict_add(struct predict *p, const char *name)
{
	const unsigned before = p->nalgos;
	unsigned i;

	for (i = 0; gy_algos[i] && p->nalgos < PREDICT_MAX_ALGOS; i++) {
		if (gy_algos[i]->coll == p->coll && (!name || !strcmp(name, gy_algos[i]->name)))
			p->algos[p->nalgos++] = gy_algos[i];
	}
	if (p->nalgos == before)
		predict_usage();
}

static void predict_coll(struct predict *p, const char *name)
{
	int coll;

	for (coll = 0; coll < GY_NCOLLS; coll++) {
		if (!strcmp(name, gy_coll_name((enum gy_coll)coll))) {
			p->coll = (enum gy_coll)coll;
			return;
		}
	}
	predict_usage();
}

int main(int argc, char **argv)
{
	struct predict p = {
		.nranks = 16, .latency_us = 10, .rate = 1250, .overhead_us = 1, .reduce_rate = 5000,
		.min = 64, .max = 16 << 20, .coll = GY_ALLREDUCE,
	};
	int opt;

	while ((opt = getopt(argc, argv, "n:l:r:o:k:m:")) != -1) {
		if (opt == 'n')
			p.nranks = atoi(optarg);
		else if (opt == 'l')
			p.latency_us = atof(optarg);
		else if (opt == 'r')
			p.rate = atof(optarg);
		else if (opt == 'o')
			p.overhead_us = atof(optarg);
		else if (opt == 'k')
			p.reduce_rate = atof(optarg);
		else if (opt != 'm' || sscanf(optarg, "%zu:%zu", &p.min, &p.max) != 2)
			predict_usage();
	}
	if (p.nranks < 2 || p.nranks > UINT16_MAX || p.rate < 1 || p.min < sizeof(float))
		predict_usage();
	if (optind < argc)
		predict_coll(&p, argv[optind++]);
	if (optind == argc)
		predict_add(&p, NULL);
	for (; optind < argc; optind++)
		predict_add(&p, argv[optind]);
	predict_table(&p);
	return 0;
}
