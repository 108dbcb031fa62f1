/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-limits: what this machine's memory allows, by hand and without gyre: the ceiling to hold
 * gyre-bench against.  Forks ranks, gives them buffers and runs what limits-ops.c offers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/limits.h"

#define LIMITS_MAX_RANKS 256
#define LIMITS_PAGE 4096
#define LIMITS_CACHE_GUESS ((size_t)32 << 20)

/* What all ranks inherit. */
struct limits_plan {
	struct proto_options opt;
	int nranks;
	bool bind;
	const struct limits_op *ops[8];
	int nops;
	struct limits_rank *ranks;
	float *stages;
	char *arena;
};

static struct limits_job *to_limits_job(struct proto_job *job)
{
	return (struct limits_job *)((char *)job - offsetof(struct limits_job, base));
}

/* Mapped buffers lie densely for the size at hand, so that their pages stay the same. */
static void limits_place(struct limits_job *job)
{
	size_t stride = (job->buf.in_bytes + LIMITS_PAGE - 1) / LIMITS_PAGE * LIMITS_PAGE;
	char *at = job->arena + job->base.rank * 2 * PROTO_SETS * stride;
	int set;

	for (set = 0; set < PROTO_SETS; set++, at += 2 * stride) {
		job->buf.in[set] = at;
		job->buf.out[set] = at + stride;
		data_fill(&job->buf, set);
	}
}

static int limits_buffers(struct limits_job *job, struct proto_case *c)
{
	bool alone = job->op->alone, sum = alone && strcmp(job->op->name, "memcpy");
	int err;

	/* Alone, this is all of a job: of one rank to copy, of two to sum. */
	job->buf = (struct data_buffers){
		.shape = DATA_ALLREDUCE,
		.type = GYRE_F32,
		.op = GYRE_SUM,
		.rank = alone ? 0 : job->base.rank,
		.nranks = sum	  ? 2
			  : alone ? 1
				  : job->base.nranks,
	};
	err = data_layout(&job->buf, &c->bytes);
	if (err)
		return err;
	job->second = job->buf;
	job->second.rank = 1;
	job->second.out_bytes = 0;
	if (!sum)
		job->second.in_bytes = 0;
	if (job->op->mapped) {
		limits_place(job);
		return 0;
	}
	err = data_heap_get(&job->buf);
	if (err)
		return err;
	err = data_heap_get(&job->second);
	if (err)
		data_heap_put(&job->buf);
	return err;
}

static int limits_prepare(struct proto_job *base, struct proto_case *c)
{
	struct limits_job *job = to_limits_job(base);
	struct limits_rank *self = &job->ranks[base->rank];
	int set, err = limits_buffers(job, c);

	if (err)
		return err;
	for (set = 0; set < PROTO_SETS; set++) {
		self->in[set] = job->buf.in[set];
		self->out[set] = job->buf.out[set];
	}
	self->pid = getpid();
	snprintf(c->algorithm, sizeof(c->algorithm), "%s",
		 !job->op->alone && c->bytes <= LIMITS_SMALL ? "slots" : job->op->name);
	snprintf(c->transport, sizeof(c->transport), "memory");
	return 0;
}

static void limits_release(struct proto_job *base)
{
	struct limits_job *job = to_limits_job(base);

	if (!job->op->mapped) {
		data_heap_put(&job->buf);
		data_heap_put(&job->second);
	}
}

static int limits_run(struct proto_job *base, int set)
{
	struct limits_job *job = to_limits_job(base);

	return job->op->run(job, set);
}

static int limits_check(struct proto_job *base, int set)
{
	return data_check(&to_limits_job(base)->buf, set);
}

static int limits_barrier(struct proto_job *base)
{
	local_barrier(to_limits_job(base)->team);
	return 0;
}

static int limits_max(struct proto_job *base, double *v, int n)
{
	local_max(to_limits_job(base)->team, v, n);
	return 0;
}

static const struct proto_ops limits_proto_ops = {
	.prepare = limits_prepare,
	.run = limits_run,
	.check = limits_check,
	.release = limits_release,
	.barrier = limits_barrier,
	.max = limits_max,
};

static size_t limits_cache(void)
{
	long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);

	return bytes > 0 ? (size_t)bytes : LIMITS_CACHE_GUESS;
}

/* One rank, from fork to exit. */
static int limits_rank_main(struct local_team *team, void *arg)
{
	struct limits_plan *plan = arg;
	struct limits_job job = {
		.base = { .ops = &limits_proto_ops,
			  .system = "limits",
			  .options = "",
			  .element = "f32",
			  .rank = team->rank,
			  .nranks = team->nranks },
		.team = team,
		.cache = limits_cache(),
		.ranks = plan->ranks,
		.stages = plan->stages,
		.arena = plan->arena,
		.piece = data_alloc(LIMITS_PIECE),
	};
	int i, status = job.piece ? PROTO_OK : PROTO_FAILED;

	/* Siblings may read this process's memory also where only parents may by default. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	for (i = 0; !status && i < plan->nops; i++) {
		job.op = plan->ops[i];
		status = proto_sweep(&job.base, proto_find(job.op->name), &plan->opt);
	}
	free(job.piece);
	return status;
}

static void limits_usage(FILE *to)
{
	fprintf(to,
		"usage: gyre-limits [options] [memcpy|sum|mapped|push|cma|staged ...]\n"
		"  -n, --ranks N                 processes (default 2)\n"
		"      --bind core|none          a core for each if there are enough (default)\n"
		"%s"
		"memcpy and sum run on each rank by itself; the others are allreduces of f32,\n"
		"without a library, in which each rank sums a part:\n"
		"  mapped   from all inputs, each copying the results from there\n"
		"  push     from all inputs, into all outputs\n"
		"  cma      as mapped, reading peers' memory by process_vm_readv\n"
		"  staged   as mapped, through two shared blocks per rank\n",
		proto_help);
}

static int limits_choose(struct limits_plan *plan, const char *name)
{
	int i;

	for (i = 0; i < limits_nops && plan->nops < limits_nops; i++)
		if (!name || !strcmp(limits_ops[i].name, name))
			plan->ops[plan->nops++] = &limits_ops[i];
	if (plan->nops)
		return 0;
	fprintf(stderr, "gyre-limits: no benchmark '%s'\n", name ? name : "at all");
	return -EINVAL;
}

static int limits_bind_option(struct limits_plan *plan, const char *arg)
{
	if (strcmp(arg, "core") && strcmp(arg, "none")) {
		fprintf(stderr, "gyre-limits: --bind: '%s' is neither core nor none\n", arg);
		return -EINVAL;
	}
	plan->bind = !strcmp(arg, "core");
	return 0;
}

/* 0, a negative errno for bad usage, 1 for --help. */
static int limits_options(struct limits_plan *plan, int argc, char **argv)
{
	enum {
		BIND = 256
	};
	static const struct option options[] = {
		PROTO_LONG,
		{ "ranks", required_argument, NULL, 'n' },
		{ "bind", required_argument, NULL, BIND },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	size_t v;
	int c, err = 0;

	while (!err && (c = getopt_long(argc, argv, PROTO_SHORT "n:h", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			err = proto_number("-n", optarg, 1, LIMITS_MAX_RANKS, &v);
			if (!err)
				plan->nranks = v;
			break;
		case BIND:
			err = limits_bind_option(plan, optarg);
			break;
		case 'h':
			return 1;
		default:
			err = proto_option(&plan->opt, c, optarg);
		}
	}
	if (!err && optind == argc)
		err = limits_choose(plan, NULL);
	for (; !err && optind < argc; optind++)
		err = limits_choose(plan, argv[optind]);
	return err ? err : proto_default_sizes(&plan->opt, 8, PROTO_MAX_SIZE);
}

static int limits_map(struct limits_plan *plan)
{
	size_t largest = LIMITS_PAGE, len;
	int i;

	for (i = 0; i < plan->opt.nsizes; i++)
		if (plan->opt.sizes[i] > largest)
			largest = plan->opt.sizes[i];
	len = (largest + LIMITS_PAGE - 1) / LIMITS_PAGE * LIMITS_PAGE * 2 * PROTO_SETS;
	plan->ranks = local_map(plan->nranks * sizeof(*plan->ranks));
	plan->stages = local_map((size_t)plan->nranks * plan->nranks * 2 * LIMITS_STAGED);
	plan->arena = local_map(plan->nranks * len);
	return plan->ranks && plan->stages && plan->arena ? 0 : -ENOMEM;
}

int main(int argc, char **argv)
{
	struct limits_plan plan = { .nranks = 2, .bind = true };
	int err;

	proto_options_init(&plan.opt);
	err = limits_options(&plan, argc, argv);
	if (err) {
		limits_usage(err > 0 ? stdout : stderr);
		return err > 0 ? PROTO_OK : PROTO_USAGE;
	}
	err = limits_map(&plan);
	if (!err)
		err = local_run(plan.nranks, plan.bind, limits_rank_main, &plan);
	if (err < 0)
		fprintf(stderr, "gyre-limits: %s\n", strerror(-err));
	proto_options_fini(&plan.opt);
	return err < 0 ? PROTO_FAILED : err;
}
