#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-symbols.sh - one list of functions in four places: public headers, lib/libgyre.map, what
# libgyre.so exports, and the manual (.Fn and .Fo of man/*.3); tests/unit/test_args.c gives NULL to
# each of them that takes a pointer.
srcdir=${top_srcdir:-$(dirname "$0")/..}
lib=${top_builddir:-.}/.libs/libgyre.so
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0

# The preprocessor takes the comments out.
${CC:-cc} -E -P -I"$srcdir/include" "$srcdir/include/gyre/gyre.h" |
	grep -oE '\bgyre_[a-z0-9_]+[[:blank:]]*\(' | tr -d '([:blank:]' | sort -u >"$work/headers"
sed -n 's/^[[:blank:]]*\(gyre_[a-z0-9_]*\);.*/\1/p' "$srcdir/lib/libgyre.map" |
	sort >"$work/map"

# same NAME FILE: FILE holds the functions of the headers, no more and no less.
same() {
	if diff -u --label "public headers" --label "$1" "$work/headers" "$2"; then
		echo "$1: $(wc -l <"$2") functions"
	else
		bad=1
	fi
}

same lib/libgyre.map "$work/map"

if [ -e "$lib" ]; then
	# The version's own name is an absolute symbol.
	nm -D --defined-only "$lib" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
		sort >"$work/exports"
	same "$lib" "$work/exports"
	nm -D --undefined-only "$lib" | awk '$2 ~ /^gyr?e?_/ { print $2 }' >"$work/undefined"
	if [ -s "$work/undefined" ]; then
		echo "$lib: used and nowhere defined:"
		cat "$work/undefined"
		bad=1
	fi
else
	echo "$lib is not built: exports are not checked"
fi

if ls "$srcdir"/man/*.3 >/dev/null 2>&1; then
	sed -nE 's/^\.(Fn|Fo) (gyre_[a-z0-9_]+).*/\2/p' "$srcdir"/man/*.3 | sort -u >"$work/manual"
	same "man/*.3" "$work/manual"
else
	echo "no man/*.3: the manual is not checked"
fi
# One declaration a line; those with a pointer among the arguments.
${CC:-cc} -E -P -I"$srcdir/include" "$srcdir/include/gyre/gyre.h" | tr '\n' ' ' | tr ';' '\n' |
	sed -nE 's/.*\b(gyre_[a-z0-9_]+) *\(([^)]*\*.*)/\1/p' | sort -u >"$work/pointers"
while read -r name; do
	if ! tr '\n\t' '  ' <"$srcdir/tests/unit/test_args.c" |
		grep -qE "\b$name\(([^;]*[ (,])?(NULL|null)\b"; then
		echo "tests/unit/test_args.c: $name is never called with NULL"
		bad=1
	fi
done <"$work/pointers"
echo "tests/unit/test_args.c: $(wc -l <"$work/pointers") functions with pointers"
exit $bad
