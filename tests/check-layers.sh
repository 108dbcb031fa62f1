#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-layers.sh - who may include what: include <- lib <- { transports, collectives }.
#
# Names in quotes start with a layer's directory.  Only lib/registry.[ch] names implementations.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
bad=0

complain() {
	echo "$1: $2"
	bad=$((bad + 1))
}

# allowed FILE: a pattern of the #include operands that this file may have.
allowed() {
	local system='<[a-z0-9_/.-]+\.h>' dir
	case $1 in
	include/gyre/*) echo '<(gyre/[a-z0-9]+|std[a-z]+)\.h>' ;;
	lib/*) echo "$system|\"lib/.*\"" ;;
	transports/*)
		dir=${1#transports/}
		echo "$system|\"(lib|transports/${dir%%/*})/.*\""
		;;
	collectives/delayed/*) echo "$system|\"(lib|collectives)/.*\"" ;;
	collectives/*)	# planners: no sockets, no threads, nothing but the contracts
		echo '<(gyre/.*|std[a-z]+|string|limits|errno)\.h>|"(lib/(coll|plan|util)|collectives/.*)\.h"'
		;;
	bench/kernels.c) echo "$system|\"(lib|collectives/delayed)/.*\"" ;;	# measures what the API does not show
	bench/predict.c) echo "$system|\"(lib|transports/sim)/.*\"" ;;	# runs in the simulator
	bench/*) echo "$system|\"bench/.*\"" ;;
	tools/*) echo "$system|\"(lib|tools)/.*\"" ;;
	interop/*) echo "$system|\"interop/.*\"" ;;
	tests/*) echo "$system|\"(lib|transports|collectives|tools|bench|tests)/.*\"" ;;
	esac
}

mapfile -t files < <(find include lib transports collectives bench tools interop tests \
	-name '*.[ch]' 2>/dev/null | sort)
for f in "${files[@]}"; do
	pattern=$(allowed "$f")
	while read -r operand; do
		if ! [[ $operand =~ ^($pattern)$ ]]; then
			complain "$f" "must not include $operand"
		fi
	done < <(sed -nE 's/^[[:blank:]]*#[[:blank:]]*include[[:blank:]]*([<"][^>"]*[>"]).*/\1/p' "$f")
done

# Declarations and calls of implementations' names, comments aside.
while read -r hit; do
	complain "${hit%%:*}" "names an implementation: ${hit#*:}"
done < <(grep -nE '\bgy_((tcp|shm|sim|verbs)_|plan_(allreduce|reduce_scatter|allgather|broadcast|barrier)_)[a-z_]+\b' \
	lib/*.[ch] | grep -vE '^lib/registry\.[ch]:|:[0-9]+:[[:blank:]]*(/\*|\*)')

# Files begin with the licence.
for f in "${files[@]}"; do
	head -n 2 "$f" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' ||
		complain "$f" "no SPDX line"
done

# Files that no local.mk lists are missing in the distribution.  A program of one file is listed
# without its .c.
for f in "${files[@]}"; do
	mk=${f%/*}/local.mk
	[ -e "$mk" ] || mk=${f%%/*}/local.mk
	grep -qE "%D%/$(sed 's/\./\\./g; s/\\\.c$/(\\.c)?/' <<<"${f#"${mk%/*}"/}")([[:blank:]]|$)" "$mk" ||
		complain "$f" "not in $mk"
done

echo "${#files[@]} files, $bad complaints"
[ $bad = 0 ]
