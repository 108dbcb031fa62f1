# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# expect.sh - for tests that look at programs from outside: sourced, it makes and enters a folder that
# goes when the test ends.  The test ends by: exit $failed
# Settings: limit, seconds for one command; shown, lines of output that a failure prints.
limit=30
shown=20
failed=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail() {
	echo "FAILED: $*"
	failed=1
}

# expect STATUS WHAT COMMAND...: runs it, bounded; output in out and err
expect() {
	local want=$1 what=$2 got
	shift 2
	timeout -k 5 "$limit" "$@" >out 2>err
	got=$?
	if [ "$got" != "$want" ]; then
		fail "$what: status $got instead of $want"
		head -n "$shown" out err
	fi
}

# says WHAT FILE TEXT; lacks WHAT FILE TEXT
says() {
	grep -qF -- "$3" "$2" || { fail "$1: no '$3' in"; head -n "$shown" "$2"; }
}
lacks() {
	if grep -qF -- "$3" "$2"; then
		fail "$1: '$3' in"
		head -n "$shown" "$2"
	fi
}
