# Programs on the public API only: x_SOURCES, x_CPPFLAGS = $(BENCH_CPPFLAGS), x_LDADD = libgyre.la
BENCH_CPPFLAGS = -I$(top_srcdir)/include

# gyre-train.  Into libtrain.la goes what knows nothing of ranks, for the unit test.
if HAVE_TRAIN
bin_PROGRAMS += %D%/gyre-train
noinst_LTLIBRARIES += %D%/libtrain.la
endif

%C%_libtrain_la_SOURCES = \
	%D%/train/affine.c %D%/train/affine.h \
	%D%/train/checkpoint.c %D%/train/checkpoint.h \
	%D%/train/conv.c \
	%D%/train/data.c %D%/train/data.h \
	%D%/train/idx.c %D%/train/idx.h \
	%D%/train/layers.c %D%/train/layers.h \
	%D%/train/loss.c %D%/train/loss.h \
	%D%/train/methods.c %D%/train/methods.h \
	%D%/train/model.c %D%/train/model.h \
	%D%/train/options.c %D%/train/options.h \
	%D%/train/pace.c %D%/train/pace.h \
	%D%/train/plot.c %D%/train/plot.h \
	%D%/train/point.h \
	%D%/train/rng.c %D%/train/rng.h \
	%D%/train/sgd.c %D%/train/sgd.h \
	%D%/train/schedule.c %D%/train/schedule.h \
	%D%/train/shape.h \
	%D%/train/shards.c %D%/train/shards.h \
	%D%/train/why.c %D%/train/why.h
# -O2 alone leaves the loops over channels scalar with gcc.
%C%_libtrain_la_CFLAGS = $(AM_CFLAGS) -ftree-vectorize $(OPENBLAS_CFLAGS) $(ZLIB_CFLAGS)
%C%_libtrain_la_LIBADD = $(OPENBLAS_LIBS) $(ZLIB_LIBS) -lm

%C%_gyre_train_SOURCES = \
	%D%/train/clock.h \
	%D%/train/job.c %D%/train/job.h \
	%D%/train/launch.c %D%/train/launch.h \
	%D%/train/logs.c %D%/train/logs.h \
	%D%/train/main.c \
	%D%/train/method.c %D%/train/method.h \
	%D%/train/method_adpsgd.c \
	%D%/train/method_delayed.c \
	%D%/train/method_late.c \
	%D%/train/method_sgp.c \
	%D%/train/method_sync.c \
	%D%/train/monitor.c %D%/train/monitor.h \
	%D%/train/report.c %D%/train/report.h \
	%D%/train/sync.c %D%/train/sync.h \
	%D%/train/train.c %D%/train/train.h \
	%D%/train/train-save.c \
	%D%/train/train-test.c \
	%D%/train/trainer.h
%C%_gyre_train_CFLAGS = $(AM_CFLAGS) -ftree-vectorize $(OPENBLAS_CFLAGS) $(ZLIB_CFLAGS) $(JANSSON_CFLAGS)
%C%_gyre_train_LDADD = %D%/libtrain.la libgyre.la $(JANSSON_LIBS)

# gyre-bench, gyre-limits and the programs of peers/ measure by one protocol.  peers/build compiles
# the latter.
if HAVE_JANSSON
bench_report = %D%/report-json.c
else
bench_report = %D%/report-nojson.c
endif
bench_protocol = \
	%D%/data.c %D%/data.h \
	%D%/proto.c %D%/proto.h \
	%D%/report.c $(bench_report)

bin_PROGRAMS += %D%/gyre-bench
%C%_gyre_bench_SOURCES = \
	%D%/gyre-bench.c %D%/gyre-bench.h \
	%D%/gyre-bench-ops.c \
	%D%/train/launch.c %D%/train/launch.h \
	$(bench_protocol)
%C%_gyre_bench_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_gyre_bench_LDADD = libgyre.la $(JANSSON_LIBS) -lm

# For instructions.sh.
noinst_PROGRAMS += %D%/instructions
%C%_instructions_SOURCES = %D%/instructions.c
%C%_instructions_LDADD = libgyre.la
EXTRA_DIST += %D%/instructions.sh %D%/instructions-verbs.sh

# What a round of a delayed average costs; and the experiments with gyre-train and gyre-wan.
noinst_PROGRAMS += %D%/round_cost
%C%_round_cost_SOURCES = %D%/round_cost.c
%C%_round_cost_LDADD = libgyre.la -lm
EXTRA_DIST += %D%/headline %D%/dts.svg %D%/dts-far.svg %D%/lasgd-2.svg %D%/lasgd-4.svg %D%/lasgd-random.svg

# Links nothing of gyre.
noinst_PROGRAMS += %D%/gyre-limits
%C%_gyre_limits_SOURCES = \
	%D%/flag.h \
	%D%/limits.c %D%/limits.h \
	%D%/limits-loops.c \
	%D%/limits-ops.c \
	%D%/local.c %D%/local.h \
	$(bench_protocol)
%C%_gyre_limits_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_gyre_limits_LDADD = $(JANSSON_LIBS) -lm

# The reduction kernels alone; they are internal.
noinst_PROGRAMS += %D%/gyre-kernels
%C%_gyre_kernels_SOURCES = %D%/kernels.c
%C%_gyre_kernels_LDADD = libgy.la

# Networks that are not there; the simulator is internal too.
noinst_PROGRAMS += %D%/gyre-predict
%C%_gyre_predict_SOURCES = %D%/predict.c
%C%_gyre_predict_LDADD = libgy.la

EXTRA_DIST += \
	%D%/RESULTS.md \
	%D%/peers/build \
	%D%/peers/compare \
	%D%/peers/compare-vm \
	%D%/peers/gloo_bench.cc \
	%D%/peers/mpi_bench.c
