#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-format.sh [--fix] [FILE...] - C layout: .clang-format, and at most 100 columns.
#
# Left to the author, because clang-format cannot keep them: blanks before a comment at the end of a
# line, line breaks after a comma (tables; the sense in an argument list), lines of .member = value,
# macros of several lines and their use at the top level, types on one line.  --fix changes none of
# them.  Without files: all C files of the tree.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
format=${CLANG_FORMAT:-clang-format}
version=$($format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p')
if [ "$version" != 14 ]; then
	echo "skipped: layout is what clang-format 14 (Debian 12) says, which differs between versions"
	exit 77
fi

fix=0
if [ "${1-}" = --fix ]; then
	fix=1
	shift
fi
if [ $# -gt 0 ]; then
	files=("$@")
else
	mapfile -t files < <(find include lib collectives transports bench tools interop tests \
		-name '*.[ch]' 2>/dev/null | sort)
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# One blank before each comment that follows code.
normal() {
	sed 's/\([^[:blank:]]\)[[:blank:]]*\/\*/\1 \/*/g'
}

# clang-format's opinion.  What is left to the author goes past it behind //@; an empty comment keeps a
# line break after a comma, where the line has room for it.
formatted() {
	expand "$1" | awk -v is="$1" '
	function balanced(s) { return gsub(/[({]/, "", s) == gsub(/[)}]/, "", s) }
	{ len = length($0); getline < is }
	in_macro { print "//@" $0; in_macro = /\\$/; next }
	in_use { print "//@" $0; in_use = !/\);?$/; next }
	/^#[ \t]*define.*\\$/ { print "//@" $0; in_macro = 1; next }
	/^[A-Z][A-Z0-9_]+\(/ { print "//@" $0; in_use = !/\);?$/; next }
	/^(enum|struct|union|typedef).*\{.*\}.*;/ { print "//@" $0; next }
	/^\t+\.[a-z_]+ = .*,$/ && balanced($0) { print "//@" $0; next }
	/,$/ && !/^[ \t]*\/?\*/ && len <= 97 { print $0 " //"; next }
	{ print }' | $format --assume-filename="$1" |
		sed 's/^[[:blank:]]*\/\/@//; s/[[:blank:]]*\/\/$//'
}

# The lines that stay come from the file itself, by number, so that blanks before comments stay too.
put_right() {
	diff --old-line-format= --new-line-format=N%L --unchanged-line-format="O%dn%c'\\012'" \
		"$work/is" "$work/should" |
		awk -v is="$1" 'BEGIN { while ((getline line < is) > 0) old[++n] = line }
			/^O/ { print old[substr($0, 2) + 0] }
			/^N/ { print substr($0, 2) }' >"$work/fixed"
	cat "$work/fixed" >"$1"
}

# differs FILE: whether clang-format would have it otherwise.
differs() {
	normal <"$1" >"$work/is"
	formatted "$1" | normal >"$work/should"
	[ -s "$work/should" ] && ! cmp -s "$work/is" "$work/should"
}

bad=0
for f in "${files[@]}"; do
	# A line that became shorter may be joined to the next at a second look.
	for _ in 1 2 3; do
		if [ $fix = 1 ] && differs "$f"; then
			put_right "$f"
		fi
	done
	if differs "$f"; then
		bad=$((bad + 1))
		diff -u --label "$f" --label "$f, formatted" "$work/is" "$work/should"
	fi
	if expand "$f" | grep -nE '^.{101}' | sed "s|^|$f:|" | cut -c1-120 | grep .; then
		echo "$f: lines of more than 100 columns"
		bad=$((bad + 1))
	fi
done
if [ $bad -gt 0 ]; then
	echo "$bad complaints; tests/check-format.sh --fix puts layout right, except long lines"
	exit 1
fi
echo "${#files[@]} files"
