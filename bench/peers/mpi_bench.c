/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The benchmarks of gyre-bench over MPI: the same protocol (bench/proto.c), the same data, f32 sum.
 * Built once with each MPI by the script build; run by mpirun.  Usage: mpi_bench BENCH [options]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#include "bench/data.h"

#ifdef OPEN_MPI
#define MPI_BENCH_SYSTEM "openmpi"
#else
#define MPI_BENCH_SYSTEM "mpich"
#endif

#define MPI_BENCH_TAG 1

struct mpi_job {
	struct proto_job base;
	struct data_buffers buf;
	int (*run)(struct mpi_job *job, int set);
};

static struct mpi_job *to_mpi_job(struct proto_job *job)
{
	return (struct mpi_job *)((char *)job - offsetof(struct mpi_job, base));
}

/* MPI's default error handler ends the job, so what returns has succeeded. */
static int mpi_allreduce(struct mpi_job *job, int set)
{
	MPI_Allreduce(job->buf.in[set], job->buf.out[set], job->buf.count, MPI_FLOAT, MPI_SUM,
		      MPI_COMM_WORLD);
	return 0;
}

static int mpi_reduce_scatter(struct mpi_job *job, int set)
{
	MPI_Reduce_scatter_block(job->buf.in[set], job->buf.out[set], job->buf.count, MPI_FLOAT,
				 MPI_SUM, MPI_COMM_WORLD);
	return 0;
}

static int mpi_allgather(struct mpi_job *job, int set)
{
	MPI_Allgather(job->buf.in[set], job->buf.count, MPI_FLOAT, job->buf.out[set],
		      job->buf.count, MPI_FLOAT, MPI_COMM_WORLD);
	return 0;
}

static int mpi_bcast(struct mpi_job *job, int set)
{
	MPI_Bcast(job->buf.out[set], job->buf.count, MPI_FLOAT, 0, MPI_COMM_WORLD);
	return 0;
}

static int mpi_barrier(struct mpi_job *job, int set)
{
	(void)job, (void)set;
	MPI_Barrier(MPI_COMM_WORLD);
	return 0;
}

/* A round trip between ranks 0 and 1. */
static int mpi_latency(struct mpi_job *job, int set)
{
	struct data_buffers *b = &job->buf;
	int me = job->base.rank;

	if (me > 1)
		return 0;
	if (me == 0)
		MPI_Send(b->in[set], b->count, MPI_FLOAT, 1, MPI_BENCH_TAG, MPI_COMM_WORLD);
	MPI_Recv(b->out[set], b->count, MPI_FLOAT, !me, MPI_BENCH_TAG, MPI_COMM_WORLD,
		 MPI_STATUS_IGNORE);
	if (me == 1)
		MPI_Send(b->in[set], b->count, MPI_FLOAT, 0, MPI_BENCH_TAG, MPI_COMM_WORLD);
	return 0;
}

/* A window of messages from rank 0 to rank 1, and an empty one back. */
static int mpi_bw(struct mpi_job *job, int set)
{
	struct data_buffers *b = &job->buf;
	MPI_Request reqs[DATA_MAX_COPIES];
	int me = job->base.rank, peer = !me;
	size_t i;

	if (me > 1)
		return 0;
	for (i = 0; i < b->copies; i++) {
		if (me == 0)
			MPI_Isend(b->in[set], b->count, MPI_FLOAT, peer, MPI_BENCH_TAG,
				  MPI_COMM_WORLD, &reqs[i]);
		else
			MPI_Irecv((float *)b->out[set] + i * b->count, b->count, MPI_FLOAT, peer,
				  MPI_BENCH_TAG, MPI_COMM_WORLD, &reqs[i]);
	}
	MPI_Waitall(b->copies, reqs, MPI_STATUSES_IGNORE);
	if (me == 0)
		MPI_Recv(NULL, 0, MPI_FLOAT, peer, MPI_BENCH_TAG, MPI_COMM_WORLD,
			 MPI_STATUS_IGNORE);
	else
		MPI_Send(NULL, 0, MPI_FLOAT, peer, MPI_BENCH_TAG, MPI_COMM_WORLD);
	return 0;
}

static const struct mpi_bench {
	const char *name;
	enum data_shape shape;
	int (*run)(struct mpi_job *job, int set);
} mpi_benches[] = {
	{ "allreduce", DATA_ALLREDUCE, mpi_allreduce },
	{ "reduce_scatter", DATA_REDUCE_SCATTER, mpi_reduce_scatter },
	{ "allgather", DATA_ALLGATHER, mpi_allgather },
	{ "bcast", DATA_BCAST, mpi_bcast },
	{ "barrier", DATA_NOTHING, mpi_barrier },
	{ "latency", DATA_PINGPONG, mpi_latency },
	{ "bw", DATA_STREAM, mpi_bw },
};

static const struct mpi_bench *mpi_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(mpi_benches) / sizeof(mpi_benches[0]); i++)
		if (!strcmp(mpi_benches[i].name, name))
			return &mpi_benches[i];
	return NULL;
}

static int mpi_prepare(struct proto_job *base, struct proto_case *c)
{
	struct mpi_job *job = to_mpi_job(base);
	int err;

	err = data_layout(&job->buf, &c->bytes);
	if (err)
		return err;
	if (job->buf.shape == DATA_PINGPONG)
		c->per_run = 2;
	if (job->buf.shape == DATA_STREAM)
		c->per_run = job->buf.copies;
	snprintf(c->algorithm, sizeof(c->algorithm), "default");
	snprintf(c->transport, sizeof(c->transport), "mpi");
	return data_heap_get(&job->buf);
}

static int mpi_run(struct proto_job *base, int set)
{
	struct mpi_job *job = to_mpi_job(base);

	return job->run(job, set);
}

static int mpi_check(struct proto_job *base, int set)
{
	return data_check(&to_mpi_job(base)->buf, set);
}

static void mpi_release(struct proto_job *base)
{
	data_heap_put(&to_mpi_job(base)->buf);
}

static int mpi_proto_barrier(struct proto_job *base)
{
	(void)base;
	MPI_Barrier(MPI_COMM_WORLD);
	return 0;
}

static int mpi_max(struct proto_job *base, double *v, int n)
{
	(void)base;
	MPI_Allreduce(MPI_IN_PLACE, v, n, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
	return 0;
}

static const struct proto_ops mpi_proto_ops = {
	.prepare = mpi_prepare,
	.run = mpi_run,
	.check = mpi_check,
	.release = mpi_release,
	.barrier = mpi_proto_barrier,
	.max = mpi_max,
};

static int mpi_options(struct proto_options *opt, int argc, char **argv)
{
	static const struct option options[] = { PROTO_LONG, { NULL, 0, NULL, 0 } };
	int c, err = 0;

	while (!err && (c = getopt_long(argc, argv, PROTO_SHORT, options, NULL)) != -1)
		err = proto_option(opt, c, optarg);
	if (!err && optind != argc - 1)
		err = -EINVAL;
	return err ? err : proto_default_sizes(opt, 8, PROTO_MAX_SIZE);
}

static int mpi_sweep(const struct proto_options *opt, const char *name)
{
	const struct mpi_bench *bench = mpi_find(name);
	struct mpi_job job = {
		.base = { .ops = &mpi_proto_ops, .system = MPI_BENCH_SYSTEM, .options = "" },
		.buf = { .type = GYRE_F32, .op = GYRE_SUM },
	};

	if (!bench) {
		fprintf(stderr, "mpi_bench: no benchmark '%s'\n", name);
		return PROTO_USAGE;
	}
	MPI_Comm_rank(MPI_COMM_WORLD, &job.base.rank);
	MPI_Comm_size(MPI_COMM_WORLD, &job.base.nranks);
	if (job.base.nranks < 2 && (bench->run == mpi_latency || bench->run == mpi_bw)) {
		fprintf(stderr, "mpi_bench: %s needs two ranks\n", name);
		return PROTO_USAGE;
	}
	job.buf.shape = bench->shape;
	job.buf.rank = job.base.rank;
	job.buf.nranks = job.base.nranks;
	job.run = bench->run;
	return proto_sweep(&job.base, proto_find(name), opt);
}

int main(int argc, char **argv)
{
	struct proto_options opt;
	int status = PROTO_USAGE;

	MPI_Init(&argc, &argv);
	proto_options_init(&opt);
	if (mpi_options(&opt, argc, argv))
		fprintf(stderr, "usage: mpi_bench [options] BENCH\n%s", proto_help);
	else
		status = mpi_sweep(&opt, argv[optind]);
	proto_options_fini(&opt);
	if (status)
		MPI_Abort(MPI_COMM_WORLD, status);
	MPI_Finalize();
	return status;
}
