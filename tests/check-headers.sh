#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-headers.sh - each public header compiles alone as C11 and as C++, each header of lib/ alone.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
cc=${CC:-cc}
flags="-Wall -Wextra -Wno-unused-parameter -Werror -fsyntax-only"
bad=0 n=0

# compile HEADER LANGUAGE FLAG...: that the second inclusion is empty is checked too.
compile() {
	local header=$1 language=$2 name=$1
	shift 2
	case $header in
	include/*) name="<${header#include/}>" ;;
	*) name="\"$header\"" ;;
	esac
	n=$((n + 1))
	# shellcheck disable=SC2086 # flags and CC are lists
	if ! printf '#include %s\n#include %s\n' "$name" "$name" |
		$cc -x "$language" "$@" $flags -Iinclude -I. -; then
		echo "$header: does not compile alone as $language"
		bad=$((bad + 1))
	fi
}

cxx=yes
if ! echo 'int x;' | $cc -x c++ -fsyntax-only - 2>/dev/null; then
	echo "no C++ compiler behind $cc: C++ is not checked"
	cxx=no
fi
for h in include/gyre/*.h; do
	compile "$h" c -std=c11 -pedantic-errors
	[ $cxx = no ] || compile "$h" c++ -std=c++11 -pedantic-errors
done
for h in lib/*.h; do
	# Without a guard: a template that wants its parameters defined before.
	if grep -q '^#ifndef GY_' "$h"; then
		compile "$h" c -std=gnu11
	fi
done
echo "$n compilations, $bad failed"
[ $bad = 0 ]
