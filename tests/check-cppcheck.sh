#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-cppcheck.sh - cppcheck finds nothing in the code that ships.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
command -v cppcheck >/dev/null || {
	echo "skipped: no cppcheck (Debian: apt install cppcheck)"
	exit 77
}
mapfile -t files < <(find lib transports collectives tools bench -name '*.c' | sort)
# -D: one configuration is enough; all of them take minutes and say the same.
cppcheck --quiet --std=c11 --language=c --enable=warning,portability --inline-suppr \
	--error-exitcode=1 -j "$(nproc)" -Iinclude -I. -D__x86_64__ -D__GNUC__=12 -D__linux__ \
	-DGY_DEBUG=1 -DPACKAGE_VERSION='"0"' \
	--suppress=missingIncludeSystem --suppress=arrayIndexThenCheck --suppress=internalAstError --suppress='*:/usr/include/*' "${files[@]}" &&
	echo "${#files[@]} files"
