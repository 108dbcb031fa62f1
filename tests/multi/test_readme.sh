#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_readme.sh - the C program of README.md compiles against this build and does what it says.
srcdir=${top_srcdir:-$(dirname "$0")/../..}
build=${top_builddir:-.}
read -ra cc <<<"${CC:-cc}"
if ! command -v "${cc[0]}" >/dev/null; then
	echo "skipped: no C compiler (${cc[0]})"
	exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

awk '/^```c$/ { in_c = 1; next } /^```/ { in_c = 0 } in_c' "$srcdir/README.md" >"$work/prog.c"
# A library with a sanitizer needs a program that has it too.
san=$(sed -n 's/^GY_CFLAGS = .*\(-fsanitize=[^ ]*\).*/\1/p' "$build/Makefile")
"${cc[@]}" ${san:+"$san"} -std=gnu11 -Wall -Wextra -Werror "$work/prog.c" -o "$work/prog" \
	-I"$srcdir/include" -L"$build/.libs" -lgyre || exit 1

LD_LIBRARY_PATH=$build/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
	"$build/tools/gyrerun" -n 3 --timeout 30 "$work/prog" >"$work/out" || exit 1
printf 'rank %d of 3: the sum is 6\n' 0 1 2 >"$work/expected"
sort "$work/out" | diff -u "$work/expected" - || exit 1
