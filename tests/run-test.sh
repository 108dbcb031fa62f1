#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run-test.sh PROGRAM [ARG...] - runs one test under a hard time limit, for the test harness.
#
# The limit is 60 s, or what GY_TEST_LIMITS ("name=seconds ...") says for the program's name; it is
# four times that for GY_TEST_LONG=1 and multiplied by GY_TEST_SLOWDOWN (sanitizers).  At the limit
# the test's process group gets SIGABRT, so that cores and sanitizers can tell, then SIGKILL.
# The log ends with what the test took.
name=$(basename "$1")
limit=60
for pair in $GY_TEST_LIMITS; do
	if [ "${pair%%=*}" = "$name" ]; then
		limit=${pair#*=}
	fi
done
if [ "${GY_TEST_LONG:-0}" != 0 ]; then
	limit=$((limit * 4))
fi
limit=$((limit * ${GY_TEST_SLOWDOWN:-1}))

ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:$ASAN_OPTIONS
UBSAN_OPTIONS=print_stacktrace=1:$UBSAN_OPTIONS
TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1:second_deadlock_stack=1:$TSAN_OPTIONS
export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS

case $1 in
*.sh) set -- bash "$@" ;;
esac
read -r began _ </proc/uptime
timeout --signal=ABRT --kill-after=5 "$limit" "$@"
rc=$?
case $rc in
124 | 137) echo "$name: ended after its limit of $limit s (GY_TEST_LIMITS in tests/local.mk)" >&2 ;;
esac
read -r ended _ </proc/uptime
took=$((${ended%.*}${ended#*.} - ${began%.*}${began#*.}))	# in 1/100 s
echo "$name: $((took / 100)).$((took / 10 % 10)) s; user and system time, of this script and of the test:"
times
exit $rc
