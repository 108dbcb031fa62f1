# Tests in virtual machines with a software RDMA device, on request: make check-vm.  One after the
# other, since each keeps two cores busy.  Seconds of TEST_LIMITS: those in the test, and 150 to boot.
VM_TESTS = \
	%D%/test_conformance.sh \
	%D%/test_multi.sh \
	%D%/test_bench.sh \
	%D%/test_guests.sh \
	%D%/test_faults.sh \
	%D%/test_delayed.sh \
	%D%/test_train.sh
TEST_LIMITS += test_conformance.sh=550 test_multi.sh=350 test_bench.sh=390 test_guests.sh=390 \
	test_faults.sh=450 test_delayed.sh=350 test_train.sh=390

check-vm: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	$(MAKE) $(AM_MAKEFLAGS) -j1 check TESTS='$(VM_TESTS)'

# For a build with sanitizers, which the others would take too long under.
check-vm-conformance: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	$(MAKE) $(AM_MAKEFLAGS) -j1 check TESTS=%D%/test_conformance.sh
.PHONY: check-vm check-vm-conformance

EXTRA_DIST += $(VM_TESTS) \
	%D%/common.sh \
	%D%/guest-barrier \
	%D%/guest-init \
	%D%/guest-ranks \
	%D%/guest-start \
	%D%/kernel \
	%D%/tsc_khz.c \
	%D%/vm
