# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# common.sh - for the tests here, each of which is one script with two parts: on the host it calls
# in_guests, which runs the same script again in guests; there, in_guests returns and the rest runs.
#
# GY_VM_TRANSPORT	verbs (default), or tcp, for guests without an RDMA device
# GY_VM_SLOWDOWN	how many times slower than the host a guest is, for limits of time (10)
# GY_TEST_LOGS		folder for the logs of what failed (logs in the build directory)
set -u
build=${top_builddir:?make check-vm sets it}
transport=${GY_VM_TRANSPORT:-verbs}
slowdown=${GY_VM_SLOWDOWN:-10}
name=$(basename "$0" .sh)

# in_guests GUESTS PROCESSORS SECONDS [OPTION...]: options are those of the script vm.
in_guests() {
	local logs rc
	if [ -n "${VM_RANK-}" ]; then
		set_up_guest
		return
	fi
	logs=${GY_TEST_LOGS:-$build/logs}/$(basename "$build")-$name
	rm -rf "$logs"
	mkdir -p "$logs" || exit 1
	"$(dirname "$0")/vm" -n "$1" -c "$2" -t "$3" -o "$logs" -e top_builddir -e GY_TEST_SEED \
		-e GY_VM_TRANSPORT -e GY_VM_SLOWDOWN -e ASAN_OPTIONS -e UBSAN_OPTIONS "${@:4}" \
		-- bash "$(readlink -f "$0")"
	rc=$?
	if [ $rc = 0 ] || [ $rc = 77 ]; then
		rm -rf "$logs"
	else
		echo "$name: status $rc; the guests' logs: $logs"
	fi
	exit $rc
}

# The programs themselves rather than libtool's wrappers, which are slow here.
set_up_guest() {
	export LD_LIBRARY_PATH=$build/.libs OPENBLAS_NUM_THREADS=1
	export PATH=$build/bench/.libs:$build/bench:$build/tools/.libs:$build/tools:$PATH
	export PATH=$build/tests/multi/.libs:$build/tests/multi:$PATH
	export GYRE_TIME_SCALE=$slowdown GY_TEST_SLOWDOWN=$slowdown
	[ "$transport" = verbs ] || rdma link del rxe0
	[ "$transport" != verbs ] || [ -e /sys/class/infiniband/rxe0 ] || fail "no rxe0 in the guest"
}

say() {
	echo "$SECONDS s: $*"
}

fail() {
	echo "$name: FAILED: $*"
	exit 1
}

# check WHAT COMMAND...
check() {
	local what=$1 began=$SECONDS
	shift
	"$@" || fail "$what: status $?"
	say "$what: ok, $((SECONDS - began)) s"
}

# check_transport EXPECTED FILE: every line of gyre-bench's JSON says so.
check_transport() {
	[ -s "$2" ] || fail "no results"
	! grep -v "\"transport\":\"$1\"" "$2" || fail "not over $1"
}

# show FILE: size and time of gyre-bench's lines of JSON.
show() {
	sed -E 's/.*"bench":"([a-z_]+)","ranks":([0-9]+),"bytes":([0-9]+),"p50_us":([0-9.e+]+).*/    \1 \2 ranks \3 B \4 us/' "$1"
}
