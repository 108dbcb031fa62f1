#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_wan.sh - gyre-wan from outside: delay by ping, rate by iperf3, loss by its counters, who gets
# which environment, a job with a rank per site, and that nothing is left behind.
# On a busy machine packets are late, and that is no fault of the program: with GY_TEST_MEASURE=1, on a
# quiet one, delays must be within 2 % and rates within 5 %.
# shellcheck disable=SC2016 # the sites' shells expand these
srcdir=${top_srcdir:-$(dirname "$0")/../..}
build=$(cd "${top_builddir:?}" && pwd) || exit 1
wan=$build/tools/gyre-wan
WAN_TOPOLOGY=$(cd "$srcdir" && pwd)/tools/wan/four-regions.topo
export WAN_TOPOLOGY
for tool in ping iperf3; do
	command -v $tool >/dev/null || {
		echo "skipped: no $tool (Debian: apt install iputils-ping iperf3)"
		exit 77
	}
done
# shellcheck source=expect.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/expect.sh"
if [ -n "${GY_TEST_MEASURE-}" ]; then
	late=1.02 slow=0.95
else
	late=1.5 slow=0.5
fi

# within WHAT VALUE MIN MAX
within() {
	awk -v v="$2" -v min="$3" -v max="$4" 'BEGIN { exit !(v != "" && v >= min && v <= max) }' ||
		fail "$1: '$2' is not from $3 to $4"
}

# Without -f or WAN_TOPOLOGY: the sources' topology in a build tree, or that which is installed; --from is
# looked at when it has been read.
mkdir -p sources/build/tools sources/tools/wan alone
cp "$wan" sources/build/tools && cp "$WAN_TOPOLOGY" sources/tools/wan && cp "$wan" alone || exit 1
expect 125 "not installed" env -u WAN_TOPOLOGY sources/build/tools/gyre-wan --from paris -- true
says "not installed" err "there is no site 'paris'"
expect 125 "no topology" env -u WAN_TOPOLOGY alone/gyre-wan --from paris -- true
grep -q -e "by -f FILE" -e "no site 'paris'" err || fail "no topology: $(cat err)"
expect 125 "no such rate" "$wan" --rate fast -- true
says "no such rate" err "'rate=fast': rate is given as 100mbit"
expect 125 "too much loss" "$wan" --loss 2 -- true
says "too much loss" err "loss is given as 0.1%"

timeout 10 "$wan" -- true 2>err
status=$?
if [ $status = 77 ]; then
	echo "skipped: $(cat err)"
	exit 77
fi
[ $status = 0 ] || fail "gyre-wan -- true: status $status: $(cat err)"

expect 0 "environment" "$wan" -- sh -c 'echo $WAN_INDEX $WAN_SITE $WAN_ADDR $(hostname)'
diff <(sort out) - <<'EOF' || fail "environment"
0 london 10.1.0.1 london
1 tokyo 10.2.0.1 tokyo
2 oregon 10.3.0.1 oregon
3 ohio 10.4.0.1 ohio
EOF

# The least of some round trips is the network's; the others are this machine's too.
for pair in london:tokyo:213 tokyo:oregon:98 ohio:oregon:51; do
	IFS=: read -r from to rtt <<<"$pair"
	expect 0 "ping $pair" "$wan" --from "$from" -- ping -q -c 10 -i 0.05 "$to"
	least=$(sed -nE 's|^rtt [^=]*= ([0-9.]+)/.*|\1|p' out)
	echo "ping $from $to: $least ms"
	within "round trip $from $to" "$least" "$rtt" "$(awk -v r="$rtt" -v l=$late 'BEGIN { print r * l }')"
done

# Jitter of 20 ms: each packet, each way, is late by any part of it.
expect 0 "jitter" "$wan" --jitter 20ms --from ohio -- ping -q -c 60 -i 0.05 oregon
IFS=/ read -r least mean most deviation < <(sed -nE 's|^rtt [^=]*= ([0-9./]+) .*|\1|p' out)
echo "ping ohio oregon, jitter 20ms: $least, $mean to $most ms, deviation $deviation"
within "least with jitter" "$least" 51 67
within "mean with jitter" "$mean" 63 "$(awk -v l=$late 'BEGIN { print 79 * l }')"
within "most with jitter" "$most" 73 "$(awk -v l=$late 'BEGIN { print 91 * l }')"
within "deviation" "$deviation" 4 "$(awk -v l=$late 'BEGIN { print 13 * l }')"

# rate NAME MBIT OPTION...: a TCP connection's goodput at the receiver, after its start
rate() {
	local name=$1 mbit=$2 got
	shift 2
	expect 0 "iperf3 $name" "$wan" --rate "$name" "$@" --from oregon -- sh -c '
		"$0" exec ohio -- iperf3 -s -1 -D && n=0
		until "$0" exec ohio -- ss -Hltn "sport = 5201" | grep -q 5201; do
			n=$((n + 1)); [ $n -lt 200 ] || exit 1
		done
		iperf3 -c ohio -t 4 -O 2 -f k' "$wan"
	got=$(awk '/receiver/ { for (i = 1; i < NF; i++) if ($(i + 1) == "Kbits/sec") print $i / 1000 }' out)
	echo "iperf3 at $name: $got Mbit/s"
	within "goodput at $name" "$got" "$(awk -v r="$mbit" -v s=$slow 'BEGIN { print r * s }')" \
		"$(awk -v r="$mbit" 'BEGIN { print r * 1.05 }')"
}
rate 100mbit 100 --delay-scale 0.2
rate 1gbit 1000 --delay-scale 0.2

# Loss: of 400 packets each way 10 %, the same with the same seed.
lost() {
	timeout 20 "$wan" --json --seed "$1" --loss 10% --delay-scale 0 --from ohio -- \
		ping -q -A -c 400 -i 0.002 -W 1 london 2>&1 >/dev/null |
		sed -nE 's/.*"from":"ohio","to":"london".*"lost":([0-9]+).*/\1/p'
}
echo "seed 7"
first=$(lost 7)
within "lost of 400" "$first" 20 60
[ "$(lost 7)" = "$first" ] || fail "loss is not the same with the same seed"

expect 3 "status of the first that fails" "$wan" -- sh -c '[ $WAN_SITE != ohio ] || exit 3; sleep 60'
expect 125 "no such site" "$wan" --from paris -- true
expect 127 "no such program" "$wan" --from ohio -- ./there-is-none

# A rank in each site, by gyrerun's --hosts.
expect 0 "gyrerun" "$wan" --delay-scale 0.1 --from london -- "$build/tools/gyrerun" -n 4 \
	--hosts london,tokyo,oregon,ohio --ssh "$wan ssh" sh -c 'echo $GYRE_RANK $WAN_SITE'
[ "$(sort out | tr '\n' ' ')" = "0 london 1 tokyo 2 oregon 3 ohio " ] || fail "gyrerun: $(cat out)"

# SIGTERM, and SIGKILL: nobody is left.
for sig in TERM KILL; do
	mkfifo pids.$sig
	"$wan" -- sh -c 'echo $$; exec sleep 60' >pids.$sig 2>err &
	pid=$!
	exec 3<pids.$sig
	pids=
	for _ in 1 2 3 4; do
		read -r -t 10 -u 3 one && pids="$pids $one"
	done
	kill -$sig $pid
	wait $pid 2>/dev/null
	for one in $pids; do
		timeout 10 tail -s 0.02 --pid="$one" -f /dev/null || { fail "SIG$sig: $one is left"; kill -9 "$one"; }
	done
	[ "$(wc -w <<<"$pids")" = 4 ] || fail "SIG$sig: started:$pids"
	exec 3<&-
done
exit $failed
