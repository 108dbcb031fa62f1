#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-shell.sh - shellcheck finds nothing in the scripts.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
command -v shellcheck >/dev/null || {
	echo "skipped: no shellcheck (Debian: apt install shellcheck)"
	exit 77
}
mapfile -t scripts < <(find quickstart .ci bench tests tools -type f \
	-exec sh -c 'head -c 64 "$1" | grep -qaE "^#!.*(bash|/sh)( |$)"' sh {} \; -print | sort)
shellcheck --severity=style --external-sources --source-path=SCRIPTDIR "${scripts[@]}" && echo "${#scripts[@]} scripts"
