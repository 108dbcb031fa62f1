#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# instructions.sh BUILD - instructions of one blocking 8-byte allreduce on 2 ranks over shared
# memory, by callgrind: the same whatever else the machine is doing.  BUILD is where gyre is built.
set -eu
build=${1:?usage: instructions.sh BUILD}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# inclusive CALLS: instructions in all of rank 0's calls, and below
inclusive() {
	"$build/libtool" --mode=execute valgrind --tool=callgrind --callgrind-out-file="$out/$1" \
		"$build/bench/instructions" "$1" >/dev/null 2>"$out/log" ||
		{ cat "$out/log" >&2; exit 1; }
	callgrind_annotate --inclusive=yes --show-percs=no --threshold=100 "$out/$1" |
		sed -n 's/^ *\([0-9,]*\) .*api_coll\.c:gyre_allreduce .*/\1/p' | head -n 1 | tr -d ,
}

a=$(inclusive 1000)
b=$(inclusive 3000)
echo "$(((b - a) / 2000)) instructions per 8-byte allreduce and rank"
