#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-install.sh PREFIX LIBDIR - for make installcheck: a program builds and runs against what is
# installed, found by pkg-config as users do.
prefix=$1 libdir=$2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cat >"$work/version.c" <<'EOC'
#include <gyre/gyre.h>
#include <stdio.h>

int main(void)
{
	puts(gyre_version());
	return gyre_type_size(GYRE_F32) != 4;
}
EOC
export PKG_CONFIG_PATH=$libdir/pkgconfig
if ! flags=$(pkg-config --cflags --libs gyre); then
	exit 1
fi
# shellcheck disable=SC2086 # CC and flags are lists
${CC:-cc} -Wall -Werror "$work/version.c" -o "$work/version" $flags || exit 1
LD_LIBRARY_PATH=$libdir "$work/version" || exit 1
for page in "$prefix"/share/man/man?/gyre*; do
	echo "installed: ${page#"$prefix"/}"
done
