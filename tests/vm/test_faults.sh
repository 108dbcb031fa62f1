#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_faults.sh - two guests: packets late and lost change no result; a rank that is killed and a link
# that goes down end every rank's call in bounded time, and the next job works.
#
# The fault comes when rank 0 has printed its first result; the job would go on for much longer.
. "$(dirname "$0")/common.sh"
in_guests 2 1 300
port=4800
long=8$(printf ',64K%.0s' {1..500})
ranks=()	# process ids of those in this guest

# together COMMAND...: in both guests, each of which waits for the other.
together() {
	port=$((port + 1))
	guest-barrier $port 100 || fail "the other guest does not come"
	"$@"
}

bench() {
	local out=$VM_OUT/$1-$VM_RANK.json
	guest-ranks 2 1 $port gyre-bench -J -c -x 1 -i "$2" -s 8,64K allreduce >"$out" || return
	[ "$VM_RANK" != 0 ] || check_transport "$transport" "$out"
}

# start_job NAME RANKS: in the background; messages go to a file for each rank.
start_job() {
	local i rank
	export GYRE_SIZE=$((2 * $2)) GYRE_ROOT=10.77.0.1:$port
	ranks=()
	for ((i = 0; i < $2; i++)); do
		rank=$(($2 * VM_RANK + i))
		GYRE_RANK=$rank gyre-bench -J -s "$long" allreduce >"$VM_OUT/$1-$rank.json" \
			2>"$VM_OUT/$1-$rank.err" &
		ranks+=($!)
	done
	for ((i = 0; i < 600; i++)); do
		[ ! -s "$VM_OUT/$1-0.json" ] || return 0
		sleep 0.1
	done
	fail "no result after a minute"
}

# Leaves its connections and a core file in the logs.
stuck() {
	ss -tno
	kill -ABRT "$1"
	wait "$1"
	fail "process $1 has not ended"
}

# failed NAME SECONDS PATTERN PID...: each ends with an error in that time, and its message matches.
failed() {
	local job=$1 end=$((SECONDS + $2)) pattern=$3 pid rc
	shift 3
	for pid in "$@"; do
		while kill -0 "$pid" 2>/dev/null; do
			[ $SECONDS -lt $end ] || stuck "$pid"
			sleep 0.1
		done
		wait "$pid"
		rc=$?
		[ $rc = 3 ] || fail "process $pid: status $rc instead of 3"
	done
	grep -hE "$pattern" "$VM_OUT/$job"-*.err | sort -u | head -n 4 | sed 's/^/    /'
	! grep -LE "$pattern" "$VM_OUT/$job-$((VM_RANK * ${#ranks[@]})).err" | grep . ||
		fail "its messages do not say why"
}

kill_a_rank() {
	local limit=$((slowdown + 5))
	start_job kill 2
	guest-barrier kill 100 || return
	if [ "$VM_RANK" = 1 ]; then
		{ kill -KILL "${ranks[1]}" && wait "${ranks[1]}"; } 2>/dev/null
		guest-barrier killed || return
		failed kill $limit 'rank 3' "${ranks[0]}"
	else
		guest-barrier killed || return
		failed kill $limit 'rank 3' "${ranks[@]}"
	fi
}

# It comes up again when both have failed, or one side would hear of the other's end.
take_the_link_down() {
	start_job link 1
	guest-barrier link 100 || return
	[ "$VM_RANK" = 0 ] || ip link set eth0 down
	guest-barrier down || return
	failed link $((5 * slowdown)) "rank $((1 - VM_RANK))" "${ranks[@]}"
	guest-barrier both-failed 100 || return
	[ "$VM_RANK" = 0 ] || ip link set eth0 up
	[ "$VM_RANK" = 0 ] || ip addr add fd00:77::2/64 dev eth0 nodad
}

netem() {
	tc qdisc replace dev eth0 root netem "$@"
}

# Scaled; a lost packet is sent again after a part of it.
export GYRE_HOST_TIMEOUT_MS=1000
check "a job without faults" together bench plain 10
netem delay 5ms
check "packets 5 ms late" together bench delay 10
netem loss 1%
check "one packet of a hundred lost" together bench loss 20
tc qdisc del dev eth0 root
check "a rank killed" together kill_a_rank
check "a job afterwards" together bench after 5
check "the link of a guest down" together take_the_link_down
check "a job with the link up again" together bench again 5
