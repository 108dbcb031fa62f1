#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# bench_wan.sh - gyre-bench --wan from outside: it says that links are shaped, no message is early, bad
# settings are named, and ranks that disagree do not join.
# shellcheck disable=SC2016 # the ranks' shells expand these
build=$(cd "${top_builddir:?}" && pwd) || exit 1
bench=$build/bench/gyre-bench
# shellcheck source=expect.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/expect.sh"
unset GYRE_TRANSPORT GYRE_TCP_SHAPE

# early MIN: the smallest time, in microseconds, is less
early() {
	awk -v min="$1" '!/^#/ && NF > 2 { n++; bad = bad || $3 < min } END { exit !(bad || !n) }' out
}

# late BYTES MAX: the median for so many bytes is larger, or there is none.  MAX is three times what the
# shape says: for a link that is slower than it should be, not for a machine that is.
late() {
	awk -v bytes="$1" -v max="$2" '$1 == bytes { n++; bad = bad || $5 > max } END { exit !(bad || !n) }' out
}

expect 0 "shaped" "$bench" -n 2 -f -i 5 -x 1 -s 8,64K --wan rtt=20ms,rate=100mbit,loss=0.1% latency
says "shaped" out ", shaped: rtt=20ms,rate=100mbit,loss=0.1%, loss as stalls"
says "shaped" out "tcp"
early 10000 && { fail "a message came before its delay"; cat out; }
late 8 30000 && { fail "8 bytes took three times their delay"; cat out; }
# asked for, granted and sent
late 65536 105600 && { fail "64 KiB took three times their delays and rate"; cat out; }

# 64 KiB take 5.2 ms at 100 Mbit/s.
expect 0 "rate" "$bench" -n 2 -f -i 5 -x 1 -s 64K --transport auto --wan rate=100mbit latency
says "rate" out "shaped: rate=100mbit"
lacks "rate" out "stalls"
early 5200 && { fail "faster than the rate"; cat out; }
late 65536 15600 && { fail "slower than a third of the rate"; cat out; }

expect 0 "an environment that shapes" env GYRE_TCP_SHAPE=delay=1ms "$bench" -n 2 -J -s 8 latency
says "an environment that shapes" out "shaped: delay=1ms"
expect 2 "not TCP" "$bench" -n 2 --transport shm --wan rtt=1ms latency
says "not TCP" err "only TCP can be shaped, not transport shm"
expect 3 "no such word" "$bench" -n 2 --wan rtt=1ms,lost=1% latency
says "no such word" err "'lost=1%' is none of rtt=TIME, delay=TIME, rate=RATE, loss=SHARE, jitter=TIME"
expect 3 "ranks disagree" "$build/tools/gyrerun" -n 2 sh -c \
	'exec "$0" --wan rtt=$((GYRE_RANK + 1))ms latency' "$bench"
says "ranks disagree" err "tcp_shape=rtt=2ms"
exit $failed
