#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_vanished.sh - two hosts that stop to hear each other, without a word: network namespaces between
# which frames suddenly go to an address that nobody has.  Calls of both ranks end in time with an
# error that names the other, with data under way as in idle waiting.
build=$(cd "${top_builddir:?}" && pwd) || exit 1
# shellcheck source=expect.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/expect.sh"
timeout_ms=4000		# the least that keepalive, which counts in seconds, can keep
slack_ms=2000
a=gyre-$$-a b=gyre-$$-b pids=

# shellcheck disable=SC2317 # called by trap
end() {
	local one
	for one in $pids; do
		kill "$one" 2>/dev/null
	done
	ip netns del "$a" 2>/dev/null
	ip netns del "$b" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT

if ! command -v ip >/dev/null; then
	echo "skipped: no ip (Debian: apt install iproute2)"
	exit 77
fi
if ! { ip netns add "$a" && ip netns add "$b" &&
	ip -n "$a" link add gyre0 type veth peer name gyre0 netns "$b"; } 2>err; then
	echo "skipped: no network namespaces: $(tail -n 1 err)"
	exit 77
fi

# connect NAMESPACE HOST: as 10.99.0.HOST
connect() {
	if ! { ip -n "$1" addr add "10.99.0.$2/24" dev gyre0 && ip -n "$1" link set lo up &&
		ip -n "$1" link set gyre0 up; }; then
		fail "no interface in $1"
	fi
}

# deaf NAMESPACE HOST: what goes from it to that host is for nobody
deaf() {
	ip -n "$1" neigh replace "10.99.0.$2" lladdr 02:00:00:00:00:63 dev gyre0 nud permanent ||
		fail "the link of $1 cannot be cut"
}
hear() {
	ip -n "$1" neigh del "10.99.0.$2" dev gyre0
}

# run NAMESPACE RANK HOW: its process, in pids; what it says in a pipe, errors in err.RANK
run() {
	timeout -k 5 60 ip netns exec "$1" env GYRE_TRANSPORT=tcp GYRE_RANK="$2" GYRE_SIZE=2 \
		GYRE_ROOT=10.99.0.1:4000 GYRE_BOOT_TIMEOUT_MS=20000 GYRE_HOST_TIMEOUT_MS=$timeout_ms \
		GYRE_STALL_TIMEOUT_MS=60000 GYRE_LOG=error "$build/tests/multi/vanished_rank" "$3" \
		>"said.$2" 2>"err.$2" &
	pids="$pids $!"
}

# hear_of HOW WHAT: the next line of each rank, soon, begins with that
hear_of() {
	local rank line
	for rank in 0 1; do
		line=
		read -r -t 25 -u $((3 + rank)) line
		case $line in
		"$2"*) ;;
		*)
			fail "$1, rank $rank: '$line' instead of '$2'"
			cat err.$rank
			;;
		esac
	done
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

# vanish HOW
vanish() {
	local began took rank
	pids=
	run "$a" 0 "$1"
	run "$b" 1 "$1"
	hear_of "$1" begun
	deaf "$a" 2
	deaf "$b" 1
	began=$(now_ms)
	hear_of "$1" ended:
	took=$(($(now_ms) - began))
	echo "$1: both calls have ended after $took ms"
	[ $took -le $((timeout_ms + slack_ms)) ] || fail "$1: the limit is $timeout_ms ms"
	for rank in 0 1; do
		says "$1, rank $rank" err.$rank "rank $((1 - rank)) is lost"
	done
	# shellcheck disable=SC2086 # words
	wait $pids || fail "$1: a rank cannot exit"
	pids=
	hear "$a" 2
	hear "$b" 1
}

mkfifo said.0 said.1 || exit 1
exec 3<>said.0 4<>said.1
connect "$a" 1
connect "$b" 2
vanish busy
vanish idle
exit $failed
