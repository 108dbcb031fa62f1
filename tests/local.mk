# Unit tests: a line in unit_tests for tests/unit/test_x.c, which links libgy.la and cmocka.
# Others: check_PROGRAMS and TESTS, or script_tests.  LONG_TESTS are those of TESTS that do more with GY_TEST_LONG=1.
# TEST_LIMITS: name=seconds for tests that may take longer than the limit in run-test.sh.
TEST_LIMITS = \
	test_agree=120 test_conformance=180 test_delayed_faults=120 test_engine_stress=120 \
	test_faults=120 test_faults_sim=120 test_multi=120 test_shm=120 test_suite_sim=120 \
	train_default.sh=120 train_methods.sh=180

# Those that take longest in the long run come first, so that no processor waits for another in the end.
LONG_TESTS += %D%/multi/test_conformance %D%/multi/test_delayed
if HAVE_TRAIN
LONG_TESTS += %D%/multi/train_methods.sh %D%/multi/train_default.sh
endif
LONG_TESTS += %D%/multi/test_big.sh %D%/multi/test_multi %D%/unit/test_suite_sim \
	%D%/unit/test_faults_sim %D%/unit/test_agree %D%/unit/test_noalloc %D%/unit/test_ladders

EXTRA_DIST += $(script_tests) \
	%D%/check-cppcheck.sh \
	%D%/check-format.sh \
	%D%/check-install.sh \
	%D%/check-shell.sh \
	%D%/long.h \
	%D%/multi/expect.sh \
	%D%/multi/instructions.sh \
	%D%/multi/test_vanished.sh \
	%D%/multi/test_wan.sh \
	%D%/multi/train.sh \
	%D%/multi/train_default.sh \
	%D%/multi/train_methods.sh \
	%D%/multi/train_needs.sh \
	%D%/run-test.sh

unit_tests = \
	%D%/unit/test_args \
	%D%/unit/test_base \
	%D%/unit/test_bench \
	%D%/unit/test_boot \
	%D%/unit/test_comm \
	%D%/unit/test_config \
	%D%/unit/test_delayed \
	%D%/unit/test_delayed_abstain \
	%D%/unit/test_delayed_calls \
	%D%/unit/test_delayed_drain \
	%D%/unit/test_delayed_facts \
	%D%/unit/test_delayed_faults \
	%D%/unit/test_delayed_late \
	%D%/unit/test_delayed_led \
	%D%/unit/test_delayed_schedule \
	%D%/unit/test_delayed_adapt \
	%D%/unit/test_delayed_attr \
	%D%/unit/test_delayed_save \
	%D%/unit/test_delayed_turn \
	%D%/unit/test_fpenv \
	%D%/unit/test_kernels \
	%D%/unit/test_merge \
	%D%/unit/test_plan \
	%D%/unit/test_planners \
	%D%/unit/test_presets \
	%D%/unit/test_progress \
	%D%/unit/test_select \
	%D%/unit/test_shm \
	%D%/unit/test_shm_mem \
	%D%/unit/test_sim \
	%D%/unit/test_sim_cost \
	%D%/unit/test_sim_write \
	%D%/unit/test_tcp \
	%D%/unit/test_tcp_shape \
	%D%/unit/test_topology \
	%D%/unit/test_wire \
	%D%/unit/test_wire_fuzz \
	%D%/fuzz/fuzz_hello

# Scripts.  Checks of layout and by cppcheck and shellcheck are in quickstart.
script_tests = \
	%D%/check-headers.sh \
	%D%/check-layers.sh \
	%D%/check-man.sh \
	%D%/check-symbols.sh \
	%D%/multi/bench_wan.sh \
	%D%/multi/test_big.sh \
	%D%/multi/test_delayed_save.sh \
	%D%/multi/test_gyrerun.sh \
	%D%/multi/test_info.sh \
	%D%/multi/test_readme.sh \
	%D%/multi/test_training.sh
LONG_TESTS += %D%/multi/instructions.sh %D%/multi/test_vanished.sh %D%/multi/test_wan.sh

if HAVE_TRAIN
unit_tests += \
	%D%/unit/test_train \
	%D%/unit/test_train_input \
	%D%/unit/test_train_run
script_tests += %D%/multi/train.sh %D%/multi/train_methods.sh
endif

if HAVE_VERBS
unit_tests += %D%/unit/test_verbs %D%/unit/test_verbs_path %D%/unit/test_verbs_registered
endif

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
LONG_TESTS += %D%/fuzz/fuzz_hello %D%/unit/test_comm %D%/unit/test_delayed \
	%D%/unit/test_delayed_save \
	%D%/unit/test_kernels %D%/unit/test_planners %D%/unit/test_shm %D%/unit/test_sim_cost \
	%D%/unit/test_tcp %D%/unit/test_wire %D%/unit/test_wire_fuzz
if HAVE_VERBS
LONG_TESTS += %D%/unit/test_verbs
endif
endif

%C%_unit_test_train_LDADD = bench/libtrain.la $(CMOCKA_LIBS)
%C%_unit_test_train_input_LDADD = bench/libtrain.la $(CMOCKA_LIBS)
%C%_unit_test_train_run_LDADD = bench/libtrain.la $(CMOCKA_LIBS)

%C%_unit_test_bench_SOURCES = %D%/unit/test_bench.c $(bench_protocol)
%C%_unit_test_bench_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_unit_test_bench_LDADD = $(LDADD) $(JANSSON_LIBS) -lm

%C%_unit_test_kernels_SOURCES = \
	%D%/unit/kernels_ref.c \
	%D%/unit/kernels_ref.h \
	%D%/unit/test_kernels.c
# Delayed collectives in the simulator.
delayed_job = %D%/unit/delayed_job.c %D%/unit/delayed_job.h
LONG_TESTS += %D%/unit/test_delayed_abstain %D%/unit/test_delayed_calls %D%/unit/test_delayed_drain \
	%D%/unit/test_delayed_faults %D%/unit/test_delayed_late %D%/unit/test_delayed_led \
	%D%/unit/test_delayed_schedule
%C%_unit_test_delayed_SOURCES = %D%/unit/test_delayed.c $(delayed_job)
%C%_unit_test_delayed_LDADD = $(LDADD) -lm
%C%_unit_test_delayed_abstain_SOURCES = %D%/unit/test_delayed_abstain.c $(delayed_job)
%C%_unit_test_delayed_attr_SOURCES = %D%/unit/test_delayed_attr.c $(delayed_job)
%C%_unit_test_delayed_attr_LDADD = $(LDADD) -lm
%C%_unit_test_delayed_calls_SOURCES = %D%/unit/test_delayed_calls.c $(delayed_job)
%C%_unit_test_delayed_calls_LDADD = $(LDADD) -lm
%C%_unit_test_delayed_drain_SOURCES = %D%/unit/test_delayed_drain.c $(delayed_job)
%C%_unit_test_delayed_drain_LDADD = $(LDADD) -lm
%C%_unit_test_delayed_facts_SOURCES = %D%/unit/test_delayed_facts.c $(delayed_job)
%C%_unit_test_delayed_facts_LDADD = $(LDADD) -lm
%C%_unit_test_delayed_late_SOURCES = %D%/unit/test_delayed_late.c $(delayed_job)
%C%_unit_test_delayed_led_SOURCES = %D%/unit/test_delayed_led.c $(delayed_job)
%C%_unit_test_delayed_schedule_SOURCES = %D%/unit/test_delayed_schedule.c $(delayed_job)
# And with processes.
check_PROGRAMS += %D%/multi/test_delayed
TESTS += %D%/multi/test_delayed
%C%_multi_test_delayed_SOURCES = \
	%D%/multi/delayed_killed.c \
	%D%/multi/delayed_oracles.c \
	%D%/multi/delayed_work.h \
	%D%/multi/test_delayed.c
%C%_multi_test_delayed_LDADD = libgyre.la
%C%_unit_test_delayed_turn_SOURCES = %D%/unit/test_delayed_turn.c $(delayed_job)
%C%_unit_test_delayed_faults_SOURCES = %D%/unit/test_delayed_faults.c $(delayed_job)
%C%_unit_test_kernels_LDADD = $(LDADD) -lm

%C%_unit_test_merge_LDADD = $(LDADD) -lm

%C%_unit_test_planners_SOURCES = \
	%D%/unit/plan_check.c \
	%D%/unit/plan_check.h \
	%D%/unit/plan_layout.c \
	%D%/unit/plan_model.c \
	%D%/unit/plan_model.h \
	%D%/unit/test_planners.c

%C%_unit_test_shm_SOURCES = \
	%D%/unit/test_shm.c \
	%D%/unit/test_shm_fake.c \
	%D%/unit/test_shm_fake.h
%C%_unit_test_shm_mem_SOURCES = \
	%D%/unit/test_shm_fake.c \
	%D%/unit/test_shm_fake.h \
	%D%/unit/test_shm_mem.c

# Real threads: a job whose ranks are threads, and no suite.
inproc_sources = %D%/unit/inproc.c %D%/unit/inproc.h
check_PROGRAMS += %D%/unit/test_engine_stress
TESTS += %D%/unit/test_engine_stress
%C%_unit_test_engine_stress_SOURCES = %D%/unit/test_engine_stress.c $(inproc_sources)
%C%_unit_test_engine_stress_LDADD = libgy.la
check_PROGRAMS += %D%/unit/test_ladders %D%/unit/test_noalloc
TESTS += %D%/unit/test_ladders %D%/unit/test_noalloc
%C%_unit_test_ladders_SOURCES = %D%/unit/test_ladders.c $(inproc_sources)
%C%_unit_test_ladders_LDADD = libgy.la
%C%_unit_test_ladders_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gy_log
%C%_unit_test_noalloc_SOURCES = \
	%D%/unit/heap_count.c \
	%D%/unit/heap_count.h \
	%D%/unit/test_noalloc.c \
	$(inproc_sources)
%C%_unit_test_noalloc_LDADD = libgy.la
%C%_unit_test_noalloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mmap,--wrap=sim_parcel_new

# One suite for every transport.  It has the upcalls itself, so nothing that defines them may be linked.
check_PROGRAMS += %D%/multi/test_conformance
TESTS += %D%/multi/test_conformance
%C%_multi_test_conformance_SOURCES = \
	%D%/multi/conformance.c \
	%D%/multi/conformance.h \
	%D%/multi/conformance_bulk.c \
	%D%/multi/conformance_fault.c \
	%D%/multi/conformance_lend.c \
	%D%/multi/conformance_sim.c \
	%D%/multi/conformance_small.c \
	%D%/multi/conformance_write.c \
	%D%/multi/test_conformance.c
%C%_multi_test_conformance_LDADD = libgy.la

# One suite over the public interface: in the simulator, and with processes over each transport.
suite_sources = \
	%D%/multi/suite.c \
	%D%/multi/suite.h \
	%D%/multi/suite_coll.c \
	%D%/multi/suite_data.c \
	%D%/multi/suite_p2p.c \
	%D%/multi/suite_priv.h \
	%D%/multi/suite_split.c \
	%D%/multi/suite_threads.c
suite_sim_sources = $(suite_sources) \
	%D%/unit/suite_sim.c \
	%D%/unit/suite_sim.h
check_PROGRAMS += %D%/multi/test_multi %D%/unit/test_faults_sim %D%/unit/test_suite_sim
TESTS += %D%/multi/test_multi %D%/unit/test_faults_sim %D%/unit/test_suite_sim
%C%_multi_test_multi_SOURCES = %D%/multi/test_multi.c $(suite_sources)
%C%_multi_test_multi_LDADD = libgyre.la -lm
%C%_unit_test_suite_sim_SOURCES = %D%/unit/test_suite_sim.c $(suite_sim_sources)
%C%_unit_test_suite_sim_LDADD = libgy.la -lm
%C%_unit_test_faults_sim_SOURCES = %D%/unit/test_faults_sim.c $(suite_sim_sources)
%C%_unit_test_faults_sim_LDADD = libgy.la -lm

# Agreement and shrinking, in the simulator.
check_PROGRAMS += %D%/unit/test_agree
TESTS += %D%/unit/test_agree
%C%_unit_test_agree_SOURCES = %D%/unit/test_agree.c
%C%_unit_test_agree_LDADD = libgy.la
%C%_unit_test_agree_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gy_log

%C%_unit_test_topology_SOURCES = %D%/unit/test_topology.c $(inproc_sources)
%C%_unit_test_topology_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS)
%C%_unit_test_topology_LDADD = $(LDADD) $(HWLOC_LIBS)

# Real sockets under a fake engine: nothing that defines the upcalls may be linked.
%C%_unit_test_wire_SOURCES = \
	%D%/unit/net_fake.c \
	%D%/unit/net_fake.h \
	%D%/unit/test_wire.c
%C%_unit_test_tcp_SOURCES = \
	%D%/unit/net_fake.c \
	%D%/unit/net_fake.h \
	%D%/unit/test_tcp.c
%C%_unit_test_tcp_shape_SOURCES = \
	%D%/unit/net_fake.c \
	%D%/unit/net_fake.h \
	%D%/unit/test_tcp_shape.c
# A device of its own, in place of the shared library's.
verbs_fake = \
	%D%/unit/verbs_fake.c \
	%D%/unit/verbs_fake.h \
	%D%/unit/verbs_fake_cm.c \
	%D%/unit/verbs_fake_priv.h \
	%D%/unit/verbs_fake_queue.c
%C%_unit_test_verbs_SOURCES = \
	%D%/unit/net_fake.c \
	%D%/unit/net_fake.h \
	%D%/unit/test_verbs.c \
	%D%/unit/verbs_pair.c \
	%D%/unit/verbs_pair.h \
	%D%/unit/verbs_pair_fail.c \
	%D%/unit/verbs_pair_meet.c \
	%D%/unit/verbs_pair_mem.c \
	%D%/unit/verbs_pair_order.c \
	%D%/unit/verbs_pair_revoke.c \
	$(verbs_fake)
%C%_unit_test_verbs_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gy_log \
	-Wl,--wrap=getrlimit,--wrap=setrlimit
%C%_unit_test_verbs_path_SOURCES = \
	%D%/unit/test_verbs_path.c \
	$(verbs_fake) \
	$(inproc_sources)
%C%_unit_test_verbs_registered_SOURCES = \
	%D%/unit/test_verbs_registered.c \
	$(verbs_fake) \
	$(inproc_sources)
# Between the simulated transport and the engine.
%C%_unit_test_wire_fuzz_SOURCES = \
	%D%/unit/test_wire_fuzz.c \
	%D%/unit/wire_fuzz.c \
	%D%/unit/wire_fuzz.h
%C%_unit_test_wire_fuzz_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=gy_deliver,--wrap=gy_place,--wrap=gy_written,--wrap=gy_log \
	-Wl,--wrap=sim_ep_lend,--wrap=sim_ep_map,--wrap=sim_ep_pull
%C%_fuzz_fuzz_hello_SOURCES = \
	%D%/fuzz/fuzz_hello.c \
	%D%/unit/net_fake.c \
	%D%/unit/net_fake.h

# Saved in one job, loaded in another.
check_PROGRAMS += %D%/multi/delayed_save
%C%_multi_delayed_save_SOURCES = %D%/multi/delayed_save.c
%C%_multi_delayed_save_LDADD = libgyre.la

# A host that vanishes.
check_PROGRAMS += %D%/multi/vanished_rank
%C%_multi_vanished_rank_SOURCES = %D%/multi/vanished_rank.c
%C%_multi_vanished_rank_LDADD = libgyre.la

check_PROGRAMS += %D%/multi/gyrerun_rank
%C%_multi_gyrerun_rank_SOURCES = %D%/multi/gyrerun_rank.c
%C%_multi_gyrerun_rank_LDADD = libgyre.la

# Two ranks under gyrerun, with buffers of gigabytes: only for GY_TEST_LONG=1.
check_PROGRAMS += %D%/multi/test_big
%C%_multi_test_big_LDADD = libgyre.la

# Misuse and faults: in the simulator, and with processes.
check_PROGRAMS += %D%/multi/test_faults
TESTS += %D%/multi/test_faults
LONG_TESTS += %D%/multi/test_faults
%C%_multi_test_faults_SOURCES = \
	%D%/multi/faults.c \
	%D%/multi/faults.h \
	%D%/multi/faults_kill.c \
	%D%/multi/faults_late.c \
	%D%/multi/faults_mismatch.c \
	%D%/multi/faults_proc.c \
	%D%/multi/faults_recall.c \
	%D%/multi/faults_request.c \
	%D%/multi/test_faults.c
%C%_multi_test_faults_LDADD = libgy.la

# make -j runs TESTS in order: the long ones are above, and the short ones last, so that no processor
# waits for another in the end.
TESTS += $(script_tests)
if HAVE_CMOCKA
TESTS += $(unit_tests)
endif

include %D%/vm/local.mk
