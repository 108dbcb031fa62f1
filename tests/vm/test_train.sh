#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_train.sh - some steps of gyre-train over verbs have the losses that they have over shared memory.
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

# losses TRANSPORT FILE
losses() {
	GYRE_TRANSPORT=$1 gyre-train -n 2 --model mlp --batch 16 --limit 640 --epochs 1 --seed 3 \
		--bucket-kib 100 --json - >"$2.json" || return
	sed -n 's/.*"loss": \([0-9.e+-]*\).*/\1/p' "$2.json" >"$2"
	[ -s "$2" ]
}

agree() {
	paste "$1" "$2" | awk '{ d = $1 - $2; print "    " $1, $2; exit d * d > 1e-8 * $1 * $1 }'
}

check "20 steps over shared memory" losses shm "$VM_OUT/shm"
check "20 steps over $transport" losses "$transport" "$VM_OUT/$transport"
check "the same losses" agree "$VM_OUT/shm" "$VM_OUT/$transport"
