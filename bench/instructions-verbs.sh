#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# instructions-verbs.sh BUILD - instructions that the library takes for a grain of 64 KiB over verbs,
# sent and received, outside kernels, by callgrind over a device in the process: the same whatever
# else the machine is doing.  BUILD is where "make check" has built tests/unit/test_verbs_path.
set -eu
build=${1:?usage: instructions-verbs.sh BUILD}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
calls=5

"$build/libtool" --mode=execute valgrind --tool=callgrind --collect-atstart=no \
	--toggle-collect=path_drive --callgrind-out-file="$out/counts" \
	"$build/tests/unit/test_verbs_path" $calls >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
# Lines are "count file:function [object]"; files as they were compiled, or below this folder.
cd "$out"
callgrind_annotate --show-percs=no --threshold=100 counts 2>/dev/null | awk -v calls=$calls '
	$1 ~ /^[0-9,]+$/ && $2 ~ /(^|\/)(lib|collectives|transports)\/[^:]*:/ &&
			$2 !~ /lib\/kernels|x86_64/ {
		gsub(",", "", $1)
		sum += $1
	}
	END {
		# 4 MiB on 2 ranks, each of which sends as many bytes
		grain = sum / (calls * 2 * 64)
		printf "%.0f instructions per 64 KiB grain\n", grain
		exit grain < 1
	}'
