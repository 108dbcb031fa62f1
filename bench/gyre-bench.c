/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-bench: how fast this library's collectives and messages are, here.  See gyre-bench(1).
 *
 * Runs as one rank of a job; with -n it first becomes "gyrerun -n N gyre-bench ...".  The protocol
 * of measurement is that of proto.h; the exit status is enum proto_exit.  Options that are settings
 * of the library go into the environment, and so to the ranks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gyre-bench.h"
#include "bench/train/launch.h"

#define BENCH_MAX_RANKS 4096

struct bench_options {
	struct proto_options proto;
	int nranks;	/* 0: whatever the launcher says */
	bool gyre_mem;
	enum gyre_type type;
	enum gyre_op op;
	char label[256];
};

static struct bench_job *to_bench_job(struct proto_job *job)
{
	return (struct bench_job *)((char *)job - offsetof(struct bench_job, base));
}

static void bench_mem_put(struct bench_job *job)
{
	int set;

	for (set = 0; set < PROTO_SETS; set++) {
		gyre_mem_free(job->ctx, job->buf.in[set]);
		gyre_mem_free(job->ctx, job->buf.out[set]);
		job->buf.in[set] = job->buf.out[set] = NULL;
	}
}

static int bench_mem_get(struct bench_job *job)
{
	struct data_buffers *b = &job->buf;
	int set, err = 0;

	for (set = 0; !err && set < PROTO_SETS; set++) {
		if (b->in_bytes)
			err = gyre_mem_alloc(job->ctx, b->in_bytes, &b->in[set]);
		if (!err && b->out_bytes)
			err = gyre_mem_alloc(job->ctx, b->out_bytes, &b->out[set]);
		if (!err)
			data_fill(b, set);
	}
	if (err)
		bench_mem_put(job);
	return err;
}

/* The library's own words; an unknown algorithm is no reason not to measure it. */
static void bench_describe(struct bench_job *job, struct proto_case *c)
{
	char text[128];
	size_t bytes;

	snprintf(c->algorithm, sizeof(c->algorithm), "unknown");
	snprintf(c->transport, sizeof(c->transport), "unknown");
	bytes = job->buf.out_bytes > job->buf.in_bytes ? job->buf.out_bytes : job->buf.in_bytes;
	if (job->buf.shape == DATA_STREAM)
		bytes = c->bytes;
	if (gyre_comm_describe(job->world, job->op->coll, bytes, text, sizeof(text)))
		return;
	sscanf(text, "algorithm=%31s transport=%15s", c->algorithm, c->transport);
}

static int bench_prepare(struct proto_job *base, struct proto_case *c)
{
	struct bench_job *job = to_bench_job(base);
	int err = data_layout(&job->buf, &c->bytes);

	if (err)
		return err;
	if (job->buf.shape == DATA_PINGPONG)
		c->per_run = 2;
	if (job->buf.shape == DATA_STREAM)
		c->per_run = job->buf.copies;
	bench_describe(job, c);
	return job->gyre_mem ? bench_mem_get(job) : data_heap_get(&job->buf);
}

static void bench_release(struct proto_job *base)
{
	struct bench_job *job = to_bench_job(base);

	if (job->gyre_mem)
		bench_mem_put(job);
	else
		data_heap_put(&job->buf);
}

static int bench_run(struct proto_job *base, int set)
{
	struct bench_job *job = to_bench_job(base);

	return job->op->run(job, set);
}

static int bench_check(struct proto_job *base, int set)
{
	return data_check(&to_bench_job(base)->buf, set);
}

static int bench_sync(struct proto_job *base)
{
	return gyre_barrier(to_bench_job(base)->world);
}

static int bench_max(struct proto_job *base, double *v, int n)
{
	return gyre_allreduce(GYRE_IN_PLACE, v, n, GYRE_F64, GYRE_MAX, to_bench_job(base)->world);
}

static const struct proto_ops bench_proto_ops = {
	.prepare = bench_prepare,
	.run = bench_run,
	.check = bench_check,
	.release = bench_release,
	.barrier = bench_sync,
	.max = bench_max,
};

static int bench_one(struct bench_job *job, const struct bench_options *opt,
		     const struct bench_op *op)
{
	char cause[256];
	int status;

	if (job->base.nranks < 2 && (op->shape == DATA_PINGPONG || op->shape == DATA_STREAM)) {
		fprintf(stderr, "gyre-bench: %s needs two ranks: -n 2\n", op->name);
		return PROTO_USAGE;
	}
	job->op = op;
	job->buf = (struct data_buffers){
		.shape = op->shape,
		.type = opt->type,
		.op = opt->op,
		.rank = job->base.rank,
		.nranks = job->base.nranks,
	};
	status = proto_sweep(&job->base, proto_find(op->name), &opt->proto);
	if (status == PROTO_FAILED && gyre_comm_status(job->world, cause, sizeof(cause)))
		fprintf(stderr, "gyre-bench: rank %d: %s\n", job->base.rank, cause);
	return status;
}

static int bench_job_run(struct bench_job *job, const struct bench_options *opt, char **names)
{
	int status = PROTO_OK;

	job->world = gyre_context_world(job->ctx);
	job->base.rank = gyre_comm_rank(job->world);
	job->base.nranks = gyre_comm_size(job->world);
	if (opt->nranks && opt->nranks != job->base.nranks) {
		if (job->base.rank == 0)
			fprintf(stderr, "gyre-bench: -n %d, but the launcher started %d ranks\n",
				opt->nranks, job->base.nranks);
		return PROTO_USAGE;
	}
	if (job->base.nranks == 1)
		fprintf(stderr, "gyre-bench: one rank only; -n 2 starts two here\n");
	for (; !status && *names; names++)
		status = bench_one(job, opt, bench_op_find(*names));
	return status;
}

static int bench_rank_main(const struct bench_options *opt, char **names)
{
	struct bench_job job = {
		.base = { .ops = &bench_proto_ops,
			  .system = "gyre",
			  .options = opt->label,
			  .element = gyre_type_name(opt->type) },
		.gyre_mem = opt->gyre_mem,
	};
	int status, err = gyre_context_create(NULL, &job.ctx);

	if (err) {
		fprintf(stderr, "gyre-bench: cannot join the job: %s\n", gyre_strerror(err));
		return PROTO_FAILED;
	}
	status = bench_job_run(&job, opt, names);
	gyre_context_destroy(job.ctx);
	return status;
}

static void bench_usage(FILE *to)
{
	fprintf(to,
		"usage: gyre-bench [options] BENCH ...\n"
		"  BENCH: %s\n"
		"  -n, --ranks N                 starts N ranks on this machine, by gyrerun\n"
		"      --transport NAME          auto, shm, verbs or tcp, as GYRE_TRANSPORT\n"
		"      --wan SETTINGS            a slow network: rtt=80ms,rate=40mbit,loss=0.1%%\n"
		"      --mem heap|gyre           where buffers come from (default heap)\n"
		"  -t, --type TYPE               f32 (default), f64, f16, bf16, int8 ... uint64\n"
		"  -o, --op OP                   sum, prod, min, max or avg (default sum)\n"
		"%s"
		"  -h, --help; -V, --version\n",
		bench_op_names, proto_help);
}

static int bench_choice(const char *what, const char *arg, int value)
{
	if (value < 0)
		fprintf(stderr, "gyre-bench: no %s '%s'\n", what, arg);
	return value;
}

enum {
	BENCH_TRANSPORT = 256,
	BENCH_MEM,
	BENCH_WAN
};

/*
 * Only TCP is shaped, and by itself it is not taken for ranks of one machine.  The label says so:
 * nobody may take the figures for those of an ordinary link.
 */
static int bench_label(struct bench_options *opt)
{
	const char *shape = getenv("GYRE_TCP_SHAPE"), *transport = getenv("GYRE_TRANSPORT");
	int n = snprintf(opt->label, sizeof(opt->label), "mem=%s type=%s op=%s",
			 opt->gyre_mem ? "gyre" : "heap", gyre_type_name(opt->type),
			 gyre_op_name(opt->op));

	if (!shape || !*shape)
		return 0;
	if (transport && strcasecmp(transport, "tcp") && strcasecmp(transport, "auto")) {
		fprintf(stderr, "gyre-bench: only TCP can be shaped, not transport %s\n",
			transport);
		return -EINVAL;
	}
	snprintf(opt->label + n, sizeof(opt->label) - (size_t)n, ", shaped: %s%s", shape,
		 strcasestr(shape, "loss") ? ", loss as stalls" : "");
	return setenv("GYRE_TRANSPORT", "tcp", 1) ? -errno : 0;
}

static int bench_option(struct bench_options *opt, int c, const char *arg)
{
	size_t v;
	int i;

	switch (c) {
	case 'n':
		if (proto_number("-n", arg, 1, BENCH_MAX_RANKS, &v))
			return -EINVAL;
		opt->nranks = v;
		return 0;
	case 't':
		i = bench_choice("type", arg, data_type_by_name(arg));
		opt->type = i < 0 ? opt->type : (enum gyre_type)i;
		return i < 0 ? -EINVAL : 0;
	case 'o':
		i = bench_choice("operator", arg, data_op_by_name(arg));
		opt->op = i < 0 ? opt->op : (enum gyre_op)i;
		return i < 0 ? -EINVAL : 0;
	case BENCH_MEM:
		i = !strcmp(arg, "gyre") ? 1 : !strcmp(arg, "heap") ? 0 : -1;
		opt->gyre_mem = bench_choice("kind of memory", arg, i) == 1;
		return i < 0 ? -EINVAL : 0;
	case BENCH_TRANSPORT:	/* the library knows the names; ranks inherit it */
		return setenv("GYRE_TRANSPORT", arg, 1) ? -errno : 0;
	case BENCH_WAN:		/* likewise */
		return setenv("GYRE_TCP_SHAPE", arg, 1) ? -errno : 0;
	default:
		return proto_option(&opt->proto, c, arg);
	}
}

/* The names of benchmarks are left in argv from optind.  1 for --help. */
static int bench_options(struct bench_options *opt, int argc, char **argv)
{
	static const struct option options[] = {
		PROTO_LONG,
		{ "ranks", required_argument, NULL, 'n' },
		{ "type", required_argument, NULL, 't' },
		{ "op", required_argument, NULL, 'o' },
		{ "mem", required_argument, NULL, BENCH_MEM },
		{ "transport", required_argument, NULL, BENCH_TRANSPORT },
		{ "wan", required_argument, NULL, BENCH_WAN },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c, i, err = 0;

	while (!err && (c = getopt_long(argc, argv, PROTO_SHORT "n:t:o:hV", options, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c == 'V') {
			printf("gyre-bench (gyre) %s\n", gyre_version());
			exit(PROTO_OK);
		}
		err = bench_option(opt, c, optarg);
	}
	if (!err && optind == argc) {
		fprintf(stderr, "gyre-bench: which benchmark?\n");
		err = -EINVAL;
	}
	for (i = optind; !err && i < argc; i++) {
		if (!bench_op_find(argv[i])) {
			fprintf(stderr, "gyre-bench: no benchmark '%s'\n", argv[i]);
			err = -EINVAL;
		}
	}
	err = err ? err : bench_label(opt);
	return err ? err : proto_default_sizes(&opt->proto, 8, PROTO_MAX_SIZE);
}

int main(int argc, char **argv)
{
	struct bench_options opt = { .type = GYRE_F32, .op = GYRE_SUM };
	int status;

	proto_options_init(&opt.proto);
	status = bench_options(&opt, argc, argv);
	if (status) {
		bench_usage(status > 0 ? stdout : stderr);
		status = status > 0 ? PROTO_OK : PROTO_USAGE;
	} else if (opt.nranks && !getenv("GYRE_RANK")) {
		launch_ranks(opt.nranks, argv);	/* returns on error only */
		status = PROTO_FAILED;
	} else {
		status = bench_rank_main(&opt, argv + optind);
	}
	proto_options_fini(&opt.proto);
	return status;
}
