#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_training.sh - the program of gyre-training(7), of at most 40 lines, trains: every rank ends with
# the same model to the bit, and nearly the best there is.
srcdir=${top_srcdir:-$(dirname "$0")/../..}
build=${top_builddir:-.}
read -ra cc <<<"${CC:-cc}"
if ! command -v "${cc[0]}" >/dev/null; then
	echo "skipped: no C compiler (${cc[0]})"
	exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

awk '/^\.Bd -literal$/ { in_bd = 1; next } /^\.Ed/ { in_bd = 0 } in_bd { gsub(/\\e/, "\\"); print }' \
	"$srcdir/man/gyre-training.7" >"$work/prog.c"
if [ "$(wc -l <"$work/prog.c")" -gt 40 ]; then
	echo "the program has more than 40 lines"
	exit 1
fi
# A library with a sanitizer needs a program that has it too.
san=$(sed -n 's/^GY_CFLAGS = .*\(-fsanitize=[^ ]*\).*/\1/p' "$build/Makefile")
"${cc[@]}" ${san:+"$san"} -std=gnu11 -O2 -Wall -Wextra -Werror "$work/prog.c" -o "$work/prog" \
	-I"$srcdir/include" -L"$build/.libs" -lgyre || exit 1

export LD_LIBRARY_PATH=$build/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for transport in auto tcp; do
	GYRE_TRANSPORT=$transport "$build/tools/gyrerun" -n 3 --timeout 30 "$work/prog" \
		>"$work/out" || exit 1
	cat "$work/out"
	if [ "$(grep -c '^after: loss' "$work/out")" != 3 ] || [ "$(sort -u "$work/out" | wc -l)" != 2 ]; then
		echo "the ranks do not have one model"
		exit 1
	fi
	if ! awk '/^before: loss/ && $3 > 0.2 { bad++ }
		/^after: loss/ && $3 > 0.005 && $3 < 0.0065 { good++ }
		END { exit bad != 3 || good != 3 }' "$work/out"; then
		echo "the model is not good"
		exit 1
	fi
done
