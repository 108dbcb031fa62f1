#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_train.sh - some steps of gyre-train over verbs, synchronous and delayed, have the losses that they
# have over shared memory.
. "$(dirname "$0")/common.sh"
data=/usr/share/datasets/fashion-mnist
if [ ! -e $data/train-images-idx3-ubyte.gz ]; then
	echo "skipped: no data (Debian: apt install dataset-fashion-mnist)"
	exit 77
fi
if [ ! -x "$build/bench/gyre-train" ]; then
	echo "skipped: gyre-train is not built (Debian: apt install libopenblas-dev libjansson-dev zlib1g-dev)"
	exit 77
fi
in_guests 1 2 240

# losses TRANSPORT FILE IMAGES OPTION...
losses() {
	local file=$2
	GYRE_TRANSPORT=$1 gyre-train -n 2 --model mlp --batch 16 --limit "$3" --epochs 1 --seed 3 \
		--json - "${@:4}" >"$file.json" || return
	sed -n 's/.*"loss": \([0-9.e+-]*\).*/\1/p' "$file.json" >"$file"
	[ -s "$file" ]
}

agree() {
	paste "$1" "$2" | awk '{ d = $1 - $2; print "    " $1, $2; exit d * d > 1e-8 * $1 * $1 }'
}

# compare STEPS WHAT OPTION...
compare() {
	local steps=$1 what=$2 t
	shift 2
	for t in shm "$transport"; do
		check "$steps $what steps over $t" losses "$t" "$VM_OUT/$what-$t" $((steps * 32)) "$@"
	done
	check "the same losses" agree "$VM_OUT/$what-shm" "$VM_OUT/$what-$transport"
}

compare 20 synchronous --bucket-kib 100
compare 12 delayed --method dts --delay 3 --period 2
