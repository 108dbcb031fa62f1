#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# train_default.sh - the documented run, "gyre-train -n 4" as in quickstart, reaches 90 % of the test
# images.  Minutes, so only for GY_TEST_LONG=1.
data=/usr/share/datasets/fashion-mnist
train=${top_builddir:?}/bench/gyre-train
if [ ! -x "$train" ]; then
	echo "skipped: gyre-train is not built (Debian: apt install libopenblas-dev libjansson-dev zlib1g-dev)"
	exit 77
fi
if [ ! -e $data/train-images-idx3-ubyte.gz ]; then
	echo "skipped: no data (Debian: apt install dataset-fashion-mnist)"
	exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

if ! timeout -k 5 440 "$train" -n 4 --json "$work/json" >"$work/log" 2>&1; then
	tail -n 20 "$work/log"
	echo "the documented run failed, or takes more than 440 s"
	exit 1
fi
accuracy=$(sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$work/json" | tail -n 1)
tail -n 1 "$work/json"
if ! awk -v a="$accuracy" 'BEGIN { exit !(a >= 0.90 && a <= 1) }'; then
	echo "accuracy is '$accuracy', not at least 0.90"
	exit 1
fi
