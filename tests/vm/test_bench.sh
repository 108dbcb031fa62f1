#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_bench.sh - gyre-bench in one guest with 2, 4 and 8 ranks, every result checked.
. "$(dirname "$0")/common.sh"
in_guests 1 2 240
out=$VM_OUT/bench.json

# bench RANKS SIZES BENCHMARK...
bench() {
	local ranks=$1 sizes=$2
	shift 2
	gyre-bench -n "$ranks" --transport "$transport" -J -c -i 3 -x 1 -s "$sizes" "$@" >"$out" || return
	show "$out"
	check_transport "$transport" "$out"
}

check "2 ranks, messages" bench 2 8,64K latency bw
check "2 ranks" bench 2 8,4K,64K,1M allreduce
check "2 ranks, registered memory" bench 2 64K,1M --mem gyre allreduce
check "4 ranks" bench 4 8,64K,1M allreduce reduce_scatter allgather bcast barrier
check "8 ranks" bench 8 8,64K,512K allreduce
