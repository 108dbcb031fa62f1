#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# instructions.sh - what short operations cost at most, in instructions, by bench/instructions*.sh: the
# same however busy the machine is.  Only for optimized builds without assertions and sanitizers.
build=${top_builddir:?}
scripts=$(cd "${top_srcdir:-$(dirname "$0")/../..}/bench" && pwd) || exit 1
command -v valgrind >/dev/null || {
	echo "skipped: no valgrind (Debian: apt install valgrind)"
	exit 77
}
if grep -q 'DGY_DEBUG\|-fsanitize' "$build/Makefile" || ! grep -q '^CFLAGS = .*-O[23]' "$build/Makefile"; then
	echo "skipped: not an optimized build without assertions"
	exit 77
fi
failed=0

# at_most MAX SCRIPT: it says "N instructions ..."
at_most() {
	local said
	said=$(timeout 100 bash "$scripts/$2" "$build") || said="$2 failed: $said"
	echo "$said (at most $1)"
	[ "${said%% *}" -gt 0 ] 2>/dev/null && [ "${said%% *}" -le "$1" ] || failed=1
}

at_most 400 instructions.sh
if [ -x "$build/tests/unit/test_verbs_path" ]; then
	at_most 2000 instructions-verbs.sh
else
	echo "no verbs in this build"
fi
exit $failed
