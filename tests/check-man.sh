#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-man.sh - mandoc finds nothing to warn of; cross-references to pages of ours exist; programs in
# EXAMPLES, and in the README, compile; gyre-env(7) has the settings and defaults of lib/config.c; pages
# that list transports have all; each public struct is shown with all its fields, which the text explains.
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
# Pages and texts that tell a user which transports there are; sim is for tests alone.
while read -r transport; do
	for file in man/gyre.7 man/gyre-env.7 man/gyre-bench.1 man/gyre_context_create.3 \
		include/gyre/context.h bench/gyre-bench.c; do
		if ! grep -E '^\.(It )?(Cm|Ql) |"auto|auto, ' "$file" | grep -qw "$transport"; then
			echo "$file: lists transports without $transport"
			bad=1
		fi
	done
done < <(sed -nE '/config_transports\[\]/s/.*\{(.*)\}.*/\1/p' lib/config.c | grep -oE '[a-z]+' |
	grep -vx -e auto -e sim)

# fields: "struct.field" a line of all public structs in standard input, C without comments.
fields() {
	awk '
		/^struct gyre_[a-z_]+ \{/ { name = $2; next }
		/^\}/                     { name = ""; next }
		name == ""                { next }
		match($0, /\(\*[a-z_]+\)/) { print name "." substr($0, RSTART + 2, RLENGTH - 3); next }
		{ n = split($0, part, /[,;]/)
		  for (i = 1; i < n; i++)
			if (match(part[i], /[a-z0-9_]+$/)) print name "." substr(part[i], RSTART) }' | sort
}
shown=$(for page in man/*.3; do
	awk '/^\.Bd /, /^\.Ed/' "$page" | sed -E 's:/\*.*\*/::; s/[ \t]+$//' | fields | sed "s:^:$page :"
done)
if ! diff -u --label "public structs" --label "man/*.3" \
	<(${CC:-cc} -E -P -Iinclude include/gyre/gyre.h | fields) <(cut -d ' ' -f 2 <<<"$shown" | sort); then
	echo "man/*.3: structs are not shown as they are"
	bad=1
fi
while read -r page field; do
	if ! sed '1,/^\.Sh DESCRIPTION/d' "$page" | grep -E '^\.(It )?[FV]a ' | grep -qw -- "${field#*.}"; then
		echo "$page: does not say what $field is"
		bad=1
	fi
done <<<"$shown"
echo "${#pages[@]} pages, $programs programs, $(wc -l <<<"$shown") fields of structs"
exit $bad
