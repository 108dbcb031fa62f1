# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# train_needs.sh - what tests of gyre-train source: $train, the program, and $work, a folder that goes
# with the test; skips the test where the program or the images are missing.
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
