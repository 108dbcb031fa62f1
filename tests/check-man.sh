#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-man.sh - mandoc finds nothing to warn of; cross-references to pages of ours exist; programs in
# EXAMPLES, and in the README, compile; gyre-env(7) has the settings and defaults of lib/config.c.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
shopt -s nullglob
pages=(man/*.[1-9])
if [ ${#pages[@]} = 0 ]; then
	echo "skipped: no pages in man/"
	exit 77
fi
command -v mandoc >/dev/null || {
	echo "skipped: no mandoc (Debian: apt install mandoc)"
	exit 77
}
bad=0

mandoc -T lint -W warning "${pages[@]}" || bad=1

# .Xr NAME SECTION, gyre's own; mandoc does not look whether they exist.
while read -r page name section _; do
	if [ ! -e "man/$name.$section" ]; then
		echo "$page: .Xr $name $section: there is no man/$name.$section"
		bad=1
	fi
done < <(grep -HE '^\.Xr gyre' "${pages[@]}" | sed -E 's/:\.Xr / /')

# compile WHERE: standard input is a C program.
compile() {
	if ! ${CC:-cc} -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Werror -fsyntax-only \
		-Iinclude -x c -; then
		echo "$1: the program does not compile"
		bad=1
	fi
}

programs=0
for page in "${pages[@]}"; do
	# Displays that are whole programs, one file each, with mdoc's escapes undone.
	work=$(mktemp -d) || exit 1
	awk -v dir="$work" '
		/^\.Bd /  { text = ""; in_bd = 1; next }
		/^\.Ed/   { if (text ~ /#include/) { print text > (dir "/" ++n) } in_bd = 0; next }
		in_bd     { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); gsub(/\\\(dq/, "\"")
			    text = text $0 "\n" }' "$page"
	for program in "$work"/*; do
		compile "$page" <"$program"
		programs=$((programs + 1))
	done
	rm -rf "$work"
done
if [ -e README.md ]; then
	awk '/^```c$/ { in_c = 1; next } /^```/ { in_c = 0 } in_c' README.md | compile README.md
	programs=$((programs + 1))
fi

# ".It Ev GYRE_NAME Pq Cm default", or "Pq none"; against name and default in the table.
if [ -e man/gyre-env.7 ]; then
	settings=$(sed -nE 's/^\tCONFIG_[A-Z]+\(([a-z_]+), "([^"]*)".*/GYRE_\U\1\E \2/p' lib/config.c | sort)
	documented=$(sed -nE 's/\\-/-/; s/^\.It Ev (GYRE_[A-Z_]+) Pq (Cm |none)(.*)/\1 \3/p' man/gyre-env.7 | sort)
	if [ -z "$settings" ] ||
		! diff -u --label lib/config.c --label man/gyre-env.7 <(echo "$settings") <(echo "$documented"); then
		echo "man/gyre-env.7: names and defaults are not those of lib/config.c"
		bad=1
	fi
fi
echo "${#pages[@]} pages, $programs programs"
exit $bad
