#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_gyrerun.sh - gyrerun from outside: who gets which environment, input and core, where output goes, how
# jobs end, and that nobody is left behind.  Other hosts are this one behind a stand-in for ssh.
# shellcheck disable=SC2016 # the ranks' shells expand these
gyrerun=${top_builddir:?}/tools/gyrerun
rank=$top_builddir/tests/multi/gyrerun_rank
# shellcheck source=expect.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/expect.sh"

# same WHAT FILE LINE...: the file is these lines, in any order
same() {
	local what=$1 file=$2
	shift 2
	if ! diff <(sort "$file") <(printf '%s\n' "$@" | sort) >diff.txt; then
		fail "$what"
		head -n 8 diff.txt
	fi
}

# over PID: it has ended.  Orphans stay zombies until init looks, which may take it seconds.
over() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	[[ ${stat##*) } == Z* ]]
}

# gone WHAT PID...: these processes end, soon
gone() {
	local what=$1 pid end=$((SECONDS + 20))
	shift
	for pid in "$@"; do
		until over "$pid"; do
			[ $SECONDS -lt $end ] || { fail "$what: $pid is left"; kill -9 "$pid"; break; }
			sleep 0.02
		done
	done
}

# ready N: so many lines come through the fifo `ready`, to $words.  It stays open here, both ways, so that no
# rank waits for a reader, nor its reader for a rank.
mkfifo ready go
exec 3<>ready 4<>go
ready() {
	local n word
	words=
	for ((n = 0; n < $1; n++)); do
		read -r -t 20 -u 3 word || { fail "only $n of $1 are ready"; break; }
		words+=" $word"
	done
}

# ended JOB: its status to $rc
ended() {
	timeout 20 tail -s 0.02 --pid="$1" -f /dev/null || { fail "$1 does not end"; kill -9 "$1"; }
	wait "$1" 2>/dev/null
	rc=$?
}

# ---- environment ----
expect 0 environment "$gyrerun" -n 3 sh -c 'echo $GYRE_RANK of $GYRE_SIZE; echo $GYRE_JOB_KEY $GYRE_ROOT >&2'
same environment out "0 of 3" "1 of 3" "2 of 3"
[ "$(sort -u err | wc -l)" = 1 ] || fail "ranks have different keys"
grep -qE '^[0-9a-f]{32} 127\.0\.0\.1:[0-9]+$' err || fail "key or rendezvous: $(cat err)"
cp err first
expect 0 environment "$gyrerun" -n 1 sh -c 'echo $GYRE_JOB_KEY $GYRE_ROOT >&2'
[ "$(cut -d' ' -f1 err)" != "$(head -n 1 first | cut -d' ' -f1)" ] || fail "two jobs have one key"
A=outer expect 0 "-x" "$gyrerun" -n 2 -x A -x B=b=c -x NOSUCH sh -c 'echo $A $B ${NOSUCH-none}'
same "-x" out "outer b=c none" "outer b=c none"

# ---- arguments ----
expect 125 usage "$gyrerun"
expect 125 usage "$gyrerun" true
expect 125 usage "$gyrerun" -n 0 true
expect 125 usage "$gyrerun" -n 2x true
expect 125 usage "$gyrerun" -n 2
expect 125 usage "$gyrerun" -n 2 --bind sometimes true
expect 125 usage "$gyrerun" -n 2 --timeout soon true
expect 125 usage "$gyrerun" -n 2 --nosuch true
expect 0 help "$gyrerun" --help
expect 0 version "$gyrerun" --version
expect 127 "not found" "$gyrerun" -n 3 "$work/nosuch"
says "not found" err "cannot run '$work/nosuch'"
[ "$(wc -l <err)" = 1 ] || fail "not found: said more than once"
touch plain
expect 126 "not executable" "$gyrerun" -n 2 "$work/plain"
expect 0 "options of the program" "$gyrerun" -n 1 echo -n -l
same "options of the program" out "-l"

# ---- exit status ----
expect 7 "exit status" "$gyrerun" -n 3 sh -c '[ $GYRE_RANK = 1 ] && exit 7; sleep 100'
says "exit status" err "rank 1 (pid"
says "exit status" err "ended with status 7"
expect 139 "death by signal" "$gyrerun" -n 3 sh -c '[ $GYRE_RANK = 2 ] && kill -SEGV $$; sleep 100'
says "death by signal" err "rank 2 (pid"
says "death by signal" err "died of signal 11"
expect 0 "some end early" "$gyrerun" -n 3 sh -c '[ $GYRE_RANK != 0 ] || echo end'
expect 124 "--timeout" "$gyrerun" --timeout 0.3 -n 2 sleep 100
says "--timeout" err "time is over"

# ---- output ----
# Lines in small pieces from all ranks at once come out whole and in order.
printf '%s\n' 'i=0
while [ $i -lt 300 ]; do
	printf "r%s " $GYRE_RANK; printf "line "; printf "%s of three hundred\n" $i
	i=$((i + 1))
done' >pieces.sh
expect 0 lines "$gyrerun" -n 4 sh pieces.sh
for r in 0 1 2 3; do
	seq -f "r$r line %g of three hundred" 0 299 >want
	grep "^r$r " out | cmp -s - want || fail "lines of rank $r"
done
[ "$(wc -l <out)" = 1200 ] || fail "lines: $(wc -l <out)"
expect 0 tags "$gyrerun" -l -n 2 sh -c 'echo out; printf err >&2'
same tags out "[0] out" "[1] out"
same tags err "[0] err" "[1] err"
expect 0 "no newline" "$gyrerun" -n 1 printf 'a\nb'
[ "$(cat out)" = "$(printf 'a\nb')" ] || fail "no newline"
expect 0 "much output" "$gyrerun" -n 2 sh -c 'head -c 3000000 /dev/zero | tr "\0" x'
[ "$(wc -c <out)" = 6000000 ] || fail "much output: $(wc -c <out)"
timeout 30 "$gyrerun" -n 2 yes 2>err | head -n 1 >out
[ "${PIPESTATUS[0]}" = 141 ] || fail "nobody reads: ${PIPESTATUS[0]}"
if [ -w /dev/full ]; then
	timeout 30 "$gyrerun" -n 2 yes >/dev/full 2>err
	status=$?
	[ $status = 125 ] || fail "a full disk: status $status"
	says "a full disk" err "cannot write the output of ranks: No space left on device"
	[ "$(wc -l <err)" = 1 ] || fail "a full disk: $(cat err)"
fi

# ---- input ----
seq 200000 >numbers
expect 0 input "$gyrerun" -n 3 sh -c 'cat >in.$GYRE_RANK' <numbers
cmp -s numbers in.0 || fail "input of rank 0"
if [ -s in.1 ] || [ -s in.2 ]; then fail "others have input"; fi
expect 0 "input unread" "$gyrerun" -n 2 true <numbers

# ---- binding ----
cpus() {
	sed -n 's/^Cpus_allowed_list:[[:blank:]]*//p' /proc/self/status
}
mine=$(cpus)
show='sed -n "s/^Cpus_allowed_list:[[:blank:]]*//p" /proc/self/status'
expect 0 binding "$gyrerun" --bind none -n 2 sh -c "$show"
same "--bind none" out "$mine" "$mine"
expect 0 binding "$gyrerun" -n 64 sh -c "$show"
if [ "$(nproc)" -lt 64 ]; then
	[ "$(sort -u out)" = "$mine" ] || fail "more ranks than cores are bound"
fi
expect 0 binding "$gyrerun" --bind core -n "$(nproc)" sh -c "$show"
cores=$(lscpu -p=CORE | grep -v '^#' | sort -u | wc -l)
if [ "$mine" = "$(cat /sys/devices/system/cpu/online)" ] && [ "$cores" = "$(nproc)" ]; then
	[ "$(sort -u out | wc -l)" = "$cores" ] || fail "ranks share cores: $(sort out | uniq -c)"
fi

# ---- signals ----
printf '%s\n' 'trap "echo got $GYRE_RANK >>got; exit 3" TERM USR1 INT HUP' \
	'echo $$ >ready; while :; do sleep 0.05; done' >trap.sh
for sig in TERM USR1 INT HUP; do
	rm -f got
	# What a shell starts in the background ignores SIGINT.
	setsid env --default-signal=INT "$gyrerun" -n 2 sh trap.sh >out 2>err &
	job=$!
	ready 2
	kill -"$sig" $job
	ended $job
	[ "$rc" = 3 ] || fail "SIG$sig: status $rc"
	[ -s got ] || fail "SIG$sig did not reach the ranks"
	# shellcheck disable=SC2086 # words
	gone "SIG$sig" $words
done

# A failure ends the others: SIGTERM, then SIGKILL for those who do not listen.
expect 5 "SIGTERM first" "$gyrerun" -n 2 sh -c \
	'trap "echo cleaned >cleaned; exit 0" TERM
	 if [ $GYRE_RANK = 0 ]; then read -r x <go; exit 5; fi
	 echo x >go; while :; do sleep 0.05; done'
[ -s cleaned ] || fail "SIGTERM first: no chance to clean up"
start=$SECONDS
expect 6 "SIGKILL then" "$gyrerun" --grace 0.5 -n 2 sh -c \
	'trap "" TERM
	 if [ $GYRE_RANK = 0 ]; then read -r x <go; exit 6; fi
	 echo x >go; while :; do sleep 0.05; done'
[ $((SECONDS - start)) -lt 20 ] || fail "SIGKILL then: took $((SECONDS - start)) s"

# ---- nobody is left behind ----
# Grandchildren included, whether a rank fails, or gyrerun is killed.
printf '%s\n' 'sleep 1000 & echo $! >ready; echo $$ >ready' \
	'[ "$1" = $GYRE_RANK ] && read -r x <go && exit 9' 'wait' >family.sh
setsid "$gyrerun" -n 3 sh family.sh 1 >out 2>err &
job=$!
ready 6
echo go >go
ended $job
[ "$rc" = 9 ] || fail "a rank fails: status $rc"
# shellcheck disable=SC2086
gone "a rank fails" $words
setsid "$gyrerun" -n 3 sh family.sh none >out 2>err &
job=$!
ready 6
kill -KILL $job
ended $job
# shellcheck disable=SC2086
gone "gyrerun is killed" $words

# ---- other hosts ----
printf '%s\n' '#!/bin/sh' 'echo "$@" >>'"$work"'/ssh.log' 'FAKE_HOST=$1; export FAKE_HOST; shift' \
	'[ "$FAKE_HOST" = down ] && exit 255' '[ "$FAKE_HOST" = deaf ] && exit 0' \
	'[ "$FAKE_HOST" = killed ] && kill -9 $$' \
	'[ "$FAKE_HOST" = tty ] && { cd / && sh -c "$*" 2>&1 | sed "s/$/\r/"; exit; }' \
	'cd / && exec sh -c "$*"' >fake-ssh
chmod +x fake-ssh
over=("$gyrerun" --ssh "$work/fake-ssh" --hosts 'a,b')
expect 0 hosts "${over[@]}" -n 5 sh -c 'echo $GYRE_RANK of $GYRE_SIZE on $FAKE_HOST in $PWD; echo $GYRE_JOB_KEY >&2'
same hosts out "0 of 5 on a in $work" "1 of 5 on a in $work" "2 of 5 on a in $work" \
	"3 of 5 on b in $work" "4 of 5 on b in $work"
grep -qF "$(head -n 1 err)" ssh.log && fail "the key is on a command line"
[ "$(sort -u err | wc -l)" = 1 ] || fail "hosts have different keys"
expect 0 "hosts, words" "${over[@]}" -n 1 printf '%s|' "a b" "it's" '$HOME' ''
same "hosts, words" out "a b|it's|\$HOME||"
GYRE_LOG=debug expect 0 "hosts, settings" "${over[@]}" -n 2 -x A=1 sh -c 'echo $GYRE_LOG $A'
same "hosts, settings" out "debug 1" "debug 1"
expect 0 "hosts, input" "${over[@]}" -n 4 sh -c 'cat >in.$GYRE_RANK' <numbers
cmp -s numbers in.0 || fail "hosts, input of rank 0"
if [ -s in.1 ] || [ -s in.3 ]; then fail "hosts, others have input"; fi
# What is there at once comes with the description of the job.
expect 0 "hosts, a line of input" "${over[@]}" -n 2 sh -c '[ $GYRE_RANK = 1 ] || cat' <<<"one line"
same "hosts, a line of input" out "one line"
expect 0 "hosts, tags" "${over[@]}" -l -n 2 echo x
same "hosts, tags" out "[0] x" "[1] x"
expect 7 "hosts, failure" "${over[@]}" -n 4 sh -c '[ $GYRE_RANK = 3 ] && exit 7; sleep 100'
says "hosts, failure" err "rank 3 (pid"
expect 127 "hosts, not found" "${over[@]}" -n 4 "$work/nosuch"
# One host fails before the other has begun, which ends all the same at once, not after the grace.
expect 255 "hosts, no ssh" "$gyrerun" --grace 100 --ssh "$work/fake-ssh" --hosts down,a -n 2 sleep 100
says "hosts, no ssh" err "host down: no gyrerun began there: '$work/fake-ssh down '"
says "hosts, no ssh" err "ended with status 255"
says "hosts, no ssh" err "What does this say?  $work/fake-ssh down '"
expect 125 "hosts, nothing runs" "$gyrerun" --grace 100 --ssh "$work/fake-ssh" --hosts a,deaf -n 2 sleep 100
says "hosts, nothing runs" err "host deaf: no gyrerun began there"
says "hosts, nothing runs" err "ended with status 0"
expect 137 "hosts, ssh is killed" "$gyrerun" --ssh "$work/fake-ssh" --hosts killed -n 1 true
says "hosts, ssh is killed" err "ended with signal 9"
expect 0 "hosts, streams joined" "$gyrerun" --ssh "$work/fake-ssh" --hosts tty -n 1 echo yes
[ "$(tr -d '\r' <out)" = yes ] || fail "hosts, streams joined: $(cat out err)"
expect 1 "hosts, false for ssh" "$gyrerun" --ssh false --hosts a -n 1 true
says "hosts, false for ssh" err "ended with status 1"
expect 127 "hosts, no such ssh" "$gyrerun" --ssh "$work/nosuch" --hosts a -n 1 true
expect 124 "hosts, --timeout" "${over[@]}" --timeout 0.3 -n 2 sleep 100
rm -f got
setsid "${over[@]}" -n 2 sh trap.sh >out 2>err &
job=$!
ready 2
kill -USR1 $job
ended $job
[ "$rc" = 3 ] || fail "hosts, signal: status $rc"
setsid "${over[@]}" -n 2 sh family.sh none >out 2>err &
job=$!
ready 4
kill -KILL $job
ended $job
# shellcheck disable=SC2086
gone "hosts, gyrerun is killed" $words

# ---- a real job ----
if [ -x "$rank" ]; then
	expect 0 "a job" "$gyrerun" -n 3 "$rank" 5
	same "a job" out summed summed summed
	GYRE_LOG=info GYRE_TRANSPORT=shm expect 0 "a job, info" "$gyrerun" -n 3 "$rank"
	says "a job, info" err 'info: 3 ranks: 2 by shm'
	expect 0 "a job on hosts" "${over[@]}" -n 3 "$rank" 2
	same "a job on hosts" out summed summed summed
	expect 0 "a job with --root-addr" "${over[@]}" --root-addr 127.0.0.1 -n 2 "$rank" 1
	expect 1 "interfaces: none" env GYRE_TCP_INTERFACES=nosuch0 "$gyrerun" -n 2 "$rank" 1
	says "interfaces: none" err '"nosuch0"; interfaces with an address: '
	for r in 0 1; do
		expect 1 "bad root, rank $r" env GYRE_RANK=$r GYRE_SIZE=2 GYRE_ROOT=nohost "$rank" 1
		says "bad root, rank $r" err 'GYRE_ROOT: "nohost" is not host:port'
	done
fi
exit $failed
