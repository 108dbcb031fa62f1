#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_delayed_save.sh - training that is saved in one job and loaded in another, by processes, ends with
# the bits of training that was not interrupted.
build=${top_builddir:-.}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# train WHAT [FILE]
train() {
	"$build/tools/gyrerun" -n 3 --timeout 40 "$build/tests/multi/delayed_save" "$@"
}

for transport in auto tcp; do
	export GYRE_TRANSPORT=$transport
	train whole >"$work/whole" || exit 1
	train save "$work/state" || exit 1
	train load "$work/state" >"$work/load" || exit 1
	cat "$work/load"
	diff -u <(sort "$work/whole") <(sort "$work/load") || exit 1
done
truncate -s -4 "$work/state.1"
if train load "$work/state" >"$work/load" 2>"$work/err"; then
	echo "a file that has lost its end was loaded"
	exit 1
fi
