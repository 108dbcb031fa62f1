// SPDX-License-Identifier: BSD-3-Clause
//
// The benchmarks of gyre-bench over Gloo's TCP device on the loopback interface: the same protocol
// (bench/proto.c), the same data, f32 sum, Gloo's new-style calls (its old-style classes work in
// place only and are not what its users call today).  With --device over an RDMA device: that knows
// the old style only, so the input is copied first, and barriers go by shared memory.
// Forks its own ranks, which meet through a directory; or with --rank is one of them, and the others
// are started elsewhere with the same --store.  Usage: gloo_bench [options] BENCH
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/config.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#if GLOO_HAVE_TRANSPORT_IBVERBS
#include <gloo/transport/ibverbs/device.h>
#endif

#include "bench/data.h"
#include "bench/local.h"

namespace
{

constexpr uint32_t TAG_BARRIER = 1000; // apart from the operation that is timed, tag 0
constexpr uint32_t TAG_MAX = 1001;

struct gloo_plan {
	proto_options opt = {};
	int nranks = 2;
	bool bind = false;
	std::string bench;
	gloo::AllreduceOptions::Algorithm algorithm = gloo::AllreduceOptions::Algorithm::RING;
	int rank = -1; // of this process; -1: all are forked here
	std::string address = "127.0.0.1";
	std::string directory;
	std::string device; // of RDMA; empty: TCP
	int gid_index = 0;
};

// One rank.  The calls of proto_ops come with the base and must not throw.
struct gloo_job : proto_job {
	const gloo_plan *plan;
	local_team *team;
	std::shared_ptr<gloo::Context> context;
	data_buffers buf;
	std::function<void()> operations[PROTO_SETS];
};

template <typename Call> int gloo_guard(Call call)
{
	try {
		call();
		return 0;
	} catch (const std::exception &e) {
		fprintf(stderr, "gloo: %s\n", e.what());
		return -EIO;
	}
}

gloo_job *to_gloo_job(proto_job *job)
{
	return static_cast<gloo_job *>(job);
}

void gloo_sum(void *out, const void *a, const void *b, size_t n)
{
	gloo::sum<float>(out, a, b, n);
}

void gloo_greatest(void *out, const void *a, const void *b, size_t n)
{
	gloo::max<double>(out, a, b, n);
}

// Old style, for RDMA; algorithm, buffers and all are made once.
std::function<void()> gloo_rdma_operation(gloo_job *job, float *in, float *out)
{
	std::vector<float *> ptrs{ out };
	int count = static_cast<int>(job->buf.count);
	size_t bytes = job->buf.count * sizeof(float);
	std::shared_ptr<gloo::Algorithm> algorithm;

	if (job->plan->algorithm == gloo::AllreduceOptions::Algorithm::BCUBE)
		algorithm = std::make_shared<gloo::AllreduceHalvingDoubling<float>>(job->context,
										    ptrs, count);
	else
		algorithm = std::make_shared<gloo::AllreduceRingChunked<float>>(job->context, ptrs,
										count);
	return [=] {
		memcpy(out, in, bytes);
		algorithm->run();
	};
}

// Options are made once per buffer, so that a timed run is the operation and nothing else.
std::function<void()> gloo_operation(gloo_job *job, float *in, float *out)
{
	size_t count = job->buf.count;

	if (!job->plan->device.empty())
		return gloo_rdma_operation(job, in, out);
	switch (job->buf.shape) {
	case DATA_ALLREDUCE: {
		auto opts = std::make_shared<gloo::AllreduceOptions>(job->context);
		opts->setAlgorithm(job->plan->algorithm);
		opts->setInput(in, count);
		opts->setOutput(out, count);
		opts->setReduceFunction(gloo_sum);
		return [opts] { gloo::allreduce(*opts); };
	}
	case DATA_ALLGATHER: {
		auto opts = std::make_shared<gloo::AllgatherOptions>(job->context);
		opts->setInput(in, count);
		opts->setOutput(out, count * job->nranks);
		return [opts] { gloo::allgather(*opts); };
	}
	case DATA_BCAST: {
		auto opts = std::make_shared<gloo::BroadcastOptions>(job->context);
		opts->setRoot(0);
		opts->setOutput(out, count);
		return [opts] { gloo::broadcast(*opts); };
	}
	default: {
		auto opts = std::make_shared<gloo::BarrierOptions>(job->context);
		return [opts] { gloo::barrier(*opts); };
	}
	}
}

int gloo_prepare(proto_job *base, proto_case *c)
{
	gloo_job *job = to_gloo_job(base);
	bool bcube = job->plan->algorithm == gloo::AllreduceOptions::Algorithm::BCUBE;
	int err = data_layout(&job->buf, &c->bytes);

	if (!err)
		err = data_heap_get(&job->buf);
	if (err)
		return err;
	snprintf(c->algorithm, sizeof(c->algorithm), "%s",
		 job->buf.shape != DATA_ALLREDUCE ? "default"
		 : !bcube			  ? "ring"
		 : job->plan->device.empty()	  ? "bcube"
						  : "halving-doubling");
	snprintf(c->transport, sizeof(c->transport), "%s",
		 job->plan->device.empty() ? "tcp" : "ibverbs");
	return gloo_guard([&] {
		for (int set = 0; set < PROTO_SETS; set++)
			job->operations[set] =
				gloo_operation(job, static_cast<float *>(job->buf.in[set]),
					       static_cast<float *>(job->buf.out[set]));
	});
}

int gloo_run(proto_job *base, int set)
{
	return gloo_guard(to_gloo_job(base)->operations[set]);
}

int gloo_check(proto_job *base, int set)
{
	return data_check(&to_gloo_job(base)->buf, set);
}

void gloo_release(proto_job *base)
{
	gloo_job *job = to_gloo_job(base);

	for (auto &operation : job->operations)
		operation = nullptr;
	data_heap_put(&job->buf);
}

int gloo_barrier(proto_job *base)
{
	if (!to_gloo_job(base)->plan->device.empty()) {
		local_barrier(to_gloo_job(base)->team);
		return 0;
	}
	return gloo_guard([&] {
		gloo::BarrierOptions opts(to_gloo_job(base)->context);
		opts.setTag(TAG_BARRIER);
		gloo::barrier(opts);
	});
}

int gloo_max(proto_job *base, double *v, int n)
{
	if (!to_gloo_job(base)->plan->device.empty()) {
		local_max(to_gloo_job(base)->team, v, n);
		return 0;
	}
	return gloo_guard([&] {
		gloo::AllreduceOptions opts(to_gloo_job(base)->context);
		opts.setOutput(v, n);
		opts.setReduceFunction(gloo_greatest);
		opts.setTag(TAG_MAX);
		gloo::allreduce(opts);
	});
}

const proto_ops gloo_proto_ops = { gloo_prepare, gloo_run,     gloo_check,
				   gloo_release, gloo_barrier, gloo_max };

bool gloo_shape(const std::string &bench, data_shape *shape)
{
	static const struct {
		const char *name;
		data_shape shape;
	} shapes[] = {
		{ "allreduce", DATA_ALLREDUCE },
		{ "allgather", DATA_ALLGATHER },
		{ "bcast", DATA_BCAST },
		{ "barrier", DATA_NOTHING },
	};

	for (const auto &s : shapes) {
		if (bench == s.name) {
			*shape = s.shape;
			return true;
		}
	}
	return false;
}

std::shared_ptr<gloo::transport::Device> gloo_device(const gloo_plan *plan)
{
	if (plan->device.empty()) {
		gloo::transport::tcp::attr attr(plan->address.c_str());

		return gloo::transport::tcp::CreateDevice(attr);
	}
#if GLOO_HAVE_TRANSPORT_IBVERBS
	return gloo::transport::ibverbs::CreateDevice({ plan->device, 1, plan->gid_index });
#else
	throw std::runtime_error("this Gloo has no ibverbs transport");
#endif
}

void gloo_connect(gloo_job *job)
{
	auto device = gloo_device(job->plan);
	auto context = std::make_shared<gloo::rendezvous::Context>(job->rank, job->nranks);
	gloo::rendezvous::FileStore store(job->plan->directory);

	context->connectFullMesh(store, device);
	job->context = context;
}

int gloo_rank_main(local_team *team, void *arg)
{
	const gloo_plan *plan = static_cast<gloo_plan *>(arg);
	gloo_job job;

	job.ops = &gloo_proto_ops;
	job.system = "gloo";
	job.options = "";
	job.rank = team->rank;
	job.nranks = team->nranks;
	job.plan = plan;
	job.team = team;
	job.buf = {};
	job.buf.type = GYRE_F32;
	job.buf.op = GYRE_SUM;
	job.buf.rank = job.rank;
	job.buf.nranks = job.nranks;
	gloo_shape(plan->bench, &job.buf.shape);
	if (gloo_guard([&] { gloo_connect(&job); }))
		return PROTO_FAILED;

	int status = proto_sweep(&job, proto_find(plan->bench.c_str()), &plan->opt);

	// A rank that leaves early would cut the others' last messages.
	return status ? status : gloo_barrier(&job) ? PROTO_FAILED : PROTO_OK;
}

int gloo_option(gloo_plan *plan, int c, const char *arg)
{
	std::string text = arg ? arg : "";
	size_t v;

	switch (c) {
	case 'n':
		if (proto_number("-n", arg, 1, 256, &v))
			return -EINVAL;
		plan->nranks = v;
		return 0;
	case 'b':
		plan->bind = text == "core";
		return plan->bind || text == "none" ? 0 : -EINVAL;
	case 'd':
		plan->device = text;
		return 0;
	case 'g':
		if (proto_number("--gid-index", arg, 0, 255, &v))
			return -EINVAL;
		plan->gid_index = v;
		return 0;
	case 'r':
		if (proto_number("--rank", arg, 0, 255, &v))
			return -EINVAL;
		plan->rank = v;
		return 0;
	case 'A':
		plan->address = text;
		return 0;
	case 'S':
		plan->directory = text;
		return 0;
	case 'a':
		plan->algorithm = text == "bcube" ? gloo::AllreduceOptions::Algorithm::BCUBE
						  : gloo::AllreduceOptions::Algorithm::RING;
		return text == "bcube" || text == "ring" ? 0 : -EINVAL;
	default:
		return proto_option(&plan->opt, c, arg);
	}
}

int gloo_options(gloo_plan *plan, int argc, char **argv)
{
	static const option options[] = {
		PROTO_LONG,
		{ "ranks", required_argument, nullptr, 'n' },
		{ "bind", required_argument, nullptr, 'b' },
		{ "algorithm", required_argument, nullptr, 'a' },
		{ "device", required_argument, nullptr, 'd' },
		{ "gid-index", required_argument, nullptr, 'g' },
		{ "rank", required_argument, nullptr, 'r' },
		{ "address", required_argument, nullptr, 'A' },
		{ "store", required_argument, nullptr, 'S' },
		{ nullptr, 0, nullptr, 0 },
	};
	data_shape shape;
	int c, err = 0;

	while (!err && (c = getopt_long(argc, argv, PROTO_SHORT "n:", options, nullptr)) != -1)
		err = gloo_option(plan, c, optarg);
	if (err || optind != argc - 1)
		return -EINVAL;
	plan->bench = argv[optind];
	if (!gloo_shape(plan->bench, &shape)) {
		fprintf(stderr, "gloo_bench: no benchmark '%s'\n", argv[optind]);
		return -EINVAL;
	}
	if (!plan->device.empty() && shape != DATA_ALLREDUCE) {
		fprintf(stderr, "gloo_bench: only allreduce goes over an RDMA device\n");
		return -EINVAL;
	}
	if (plan->rank >= plan->nranks || (plan->rank >= 0) != !plan->directory.empty()) {
		fprintf(stderr, "gloo_bench: --rank below --ranks and --store belong together\n");
		return -EINVAL;
	}
	return proto_default_sizes(&plan->opt, 8, PROTO_MAX_SIZE);
}

// All ranks here, or the one that the others, started elsewhere, wait for.
int gloo_start(gloo_plan *plan)
{
	char directory[] = "/tmp/gloo_bench.XXXXXX";
	std::error_code ignored;

	if (plan->rank >= 0) {
		local_team team = {};

		team.rank = plan->rank;
		team.nranks = plan->nranks;
		return gloo_rank_main(&team, plan);
	}
	if (!mkdtemp(directory))
		return -errno;
	plan->directory = directory;

	int err = local_run(plan->nranks, plan->bind, gloo_rank_main, plan);

	std::filesystem::remove_all(plan->directory, ignored);
	return err;
}

} // namespace

int main(int argc, char **argv)
{
	gloo_plan plan;

	proto_options_init(&plan.opt);
	if (gloo_options(&plan, argc, argv)) {
		fprintf(stderr,
			"usage: gloo_bench [options] allreduce|allgather|bcast|barrier\n"
			"  -n, --ranks N                 processes (default 2)\n"
			"      --bind core|none          default none: each rank has a second thread\n"
			"      --algorithm ring|bcube    of allreduce (default ring)\n"
			"      --device NAME             this RDMA device instead of TCP; bcube is\n"
			"                                then halving-doubling\n"
			"      --gid-index N             its address\n"
			"      --rank R --store DIR      be rank R; all meet in DIR, empty at first\n"
			"      --address A               this rank's (127.0.0.1)\n"
			"%s",
			proto_help);
		return PROTO_USAGE;
	}

	int err = gloo_start(&plan);

	proto_options_fini(&plan.opt);
	if (err < 0)
		fprintf(stderr, "gloo_bench: %s\n", strerror(-err));
	return err < 0 ? PROTO_FAILED : err;
}
