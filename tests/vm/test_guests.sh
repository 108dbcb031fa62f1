#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_guests.sh - gyre-bench over two and over four guests, one and two ranks in each: shared memory
# inside, verbs across, and nothing else.
. "$(dirname "$0")/common.sh"
in_guests 4 1 240
port=4700

# job GUESTS RANKS BENCHMARK...
job() {
	local guests=$1 ranks=$2 out=$VM_OUT/$1x$2.json expected=$transport
	shift 2
	[ "$ranks" = 1 ] || expected=shm+$transport
	port=$((port + 1))
	guest-barrier $port 120 || return
	if [ "$VM_RANK" = 0 ]; then
		guest-ranks "$guests" "$ranks" $port gyre-bench -J -c -i 3 -x 1 -s 8,64K,512K "$@" >"$out" ||
			return
		show "$out"
		check_transport "$expected" "$out"
	else
		guest-ranks "$guests" "$ranks" $port gyre-bench -J -c -i 3 -x 1 -s 8,64K,512K "$@"
	fi
}

for guests in 2 4; do
	for ranks in 1 2; do
		check "$guests guests, $ranks ranks in each" job $guests $ranks allreduce
	done
done
check "2 guests, 2 ranks in each, the others" job 2 2 reduce_scatter allgather bcast barrier
