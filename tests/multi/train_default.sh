#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# train_default.sh - the documented run, "gyre-train -n 4" as in quickstart, reaches 90 % of the test
# images.  Minutes, so only for GY_TEST_LONG=1.
# shellcheck source=train_needs.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/train_needs.sh"

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
