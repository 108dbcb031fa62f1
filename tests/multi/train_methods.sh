#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# train_methods.sh - gyre-train by each of its methods: it learns, a run that was stopped goes on as if it
# had not been, to the bit where a run can be repeated, and methods that are the same give the same.
# shellcheck source=train_needs.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/train_needs.sh"
failed=0

fail() {
	echo "FAIL: $*"
	failed=1
}

# learn NAME OPTION...: a short run; its log is $work/NAME.json.
learn() {
	local name=$1
	shift
	if ! "$train" -n 4 --model mlp --batch 16 --limit 3000 --epochs 2 --evals 2 --seed 5 --json \
		"$work/$name.json" "$@" >"$work/$name.out" 2>&1; then
		cat "$work/$name.out"
		fail "$*"
		return 1
	fi
}

# field NAME KEY: of the end of the log.
field() {
	sed -n "s/^{\"end\":.*\"$2\": \"*\([-0-9a-z.]*\).*/\1/p" "$work/$1.json" | tail -n 1
}

# holds EXPRESSION WHAT: arithmetic with fractions.
holds() {
	awk "BEGIN { exit !($1) }" || fail "$2: $1"
}

# same A B: two runs end with the same model.
same() {
	if [ -z "$(field "$1" crc)" ] || [ "$(field "$1" crc)" != "$(field "$2" crc)" ]; then
		fail "$1 ends with model $(field "$1" crc), $2 with $(field "$2" crc)"
	fi
}

refused() {
	if "$train" -n 2 --limit 640 --epochs 2 "$@" >"$work/refused" 2>&1 || grep -q loss "$work/refused"; then
		cat "$work/refused"
		fail "$* is not refused"
	fi
}

# Each method learns.
check_learns() {
	local name=$1
	learn "$name" --method "$@" || return
	echo "$*: accuracy $(field "$name" accuracy)"
	holds "$(field "$name" accuracy) > 0.6" "accuracy of $*"
}

# And goes on after a stop at its first test.
check_method() {
	local name=$1
	check_learns "$@" || return
	rm -f "$work/$name-at".*
	learn "$name-stopped" --method "$@" --checkpoint "$work/$name-at" --until 0.01 &&
		learn "$name-resumed" --method "$@" --checkpoint "$work/$name-at" --resume || return
	echo "$*: accuracy after a stop $(field "$name-resumed" accuracy)"
	holds "$(field "$name-resumed" accuracy) > 0.6" "accuracy of $* after a stop"
	[ "$name" = lasgd ] || [ "$name" = adpsgd ] || same "$name" "$name-resumed"
}

check_method dts --delay 5 --period 2
check_method adpsgd --step-time 3
check_learns lasgd --period 4 --step-time 3
check_method lasgd --fragments 3 --step-time 3

# What was chosen over a slow network can be repeated over a fast one; both by TCP, so with the same sums.
learn adapted --method dts --delay 1 --period 1 --adapt 60:30 --wan rtt=20ms,rate=1gbit &&
	learn replayed --method dts --delay 1 --period 1 --replay "$work/adapted.json" --wan rtt=0ms &&
	same adapted replayed
grep '"schedule"' "$work/adapted.json"
if [ "$(grep -c '"schedule"' "$work/adapted.json")" -lt 2 ] ||
	! diff <(grep '"schedule"' "$work/adapted.json") <(grep '"schedule"' "$work/replayed.json"); then
	fail "the schedule was not changed, or not as before"
fi

# cut_is_refused LINE: a log of which a line lost its end is not half a schedule, nor half a picture.
cut_is_refused() {
	sed "$1s/.........$//" "$work/adapted.json" >"$work/cut.json"
	refused -n 4 --method dts --delay 1 --period 1 --replay "$work/cut.json"
	grep -q "cut.json: line $1 is not a JSON object" "$work/refused" || fail "cut: $(cat "$work/refused")"
	if "$train" plot "$work/cut.json" -o "$work/cut.svg" >"$work/refused" 2>&1 ||
		! grep -q "cut.json: line $1 is not a JSON object" "$work/refused"; then
		fail "plot of a cut log: $(cat "$work/refused")"
	fi
}
cut_is_refused "$(grep -n '"schedule"' "$work/adapted.json" | tail -n 1 | cut -d : -f 1)"
cut_is_refused "$(wc -l <"$work/adapted.json")"
grep -v '"run"' "$work/adapted.json" >"$work/headless.json"
refused -n 4 --method dts --delay 1 --period 1 --replay "$work/headless.json"
grep -q 'not the log of a run with --adapt' "$work/refused" || fail "headless: $(cat "$work/refused")"

# Ranks at their own pace settle at different times; their rates are still no more than all can do, which
# is 100 steps/s of three and 25 of one, and a little by which steps make up for late ones.
if learn settled --method lasgd --step-time 10 --straggler 0:4 --settle 14 --limit 1920; then
	echo "settled: $(field settled steps_per_s) steps/s, $(field settled blocked_share) blocked"
	holds "$(field settled steps_per_s) > 1 && $(field settled steps_per_s) < 340" "rate after --settle"
fi

# no_rates NAME RANK: a rank that did not settle leaves no rates, and the run says which it was.
no_rates() {
	if [ "$(field "$1" steps_per_s) $(field "$1" blocked_share)" != "null null" ] ||
		! grep -q "settle 80: no rates, as rank $2 took only" "$work/$1.out"; then
		cat "$work/$1.out"
		fail "$1: rates of $(field "$1" steps_per_s) steps/s"
	fi
}
learn unsettled --method lasgd --step-time 4 --straggler 1:50 --settle 80 && no_rates unsettled 1
learn ended --method sync --until 0.01 --settle 80 && no_rates ended 0

if [ "${GY_TEST_LONG:-0}" = 0 ]; then
	echo "all methods: GY_TEST_LONG=1"
	exit $failed
fi
check_method lasgd --period 4 --step-time 3
check_method sync
check_method dts-overwrite --delay 2 --period 4
check_method dts-overwrite --delay 7 --period 4
check_method local --period 4
check_method postlocal --period 4 --switch 0.7
check_method cocod --period 4
check_method slowmo --period 4
check_method diloco --period 8 --outer-momentum 0.5
check_method async-diloco --period 4 --outer-lr 0.5 --outer-momentum 0.3
check_method sgp --delay 3

# agree A B: the losses of two runs, which a small rate keeps from growing apart, differ by rounding.
agree() {
	paste <(sed -n 's/.*"loss": \([0-9.e+-]*\).*/\1/p' "$work/$1.json") \
		<(sed -n 's/.*"loss": \([0-9.e+-]*\).*/\1/p' "$work/$2.json") >"$work/losses"
	awk '{ d = $1 - $2; print "losses " $1 " " $2; if (d * d > 1e-8 * $1 * $1) bad = 1 }
		END { exit bad || NR != 4 }' "$work/losses" || fail "losses of $1 and $2 differ"
}

# Averages of the models after each step are those of the gradients, as momentum is linear; so are
# averages of progress, which without momentum of its own is what an outer optimizer gives.
slowly="--lr 0.01 --lr-schedule constant"
# shellcheck disable=SC2086
{
	learn gradients --method sync $slowly
	learn models --method local --period 1 $slowly && agree models gradients
	learn progress --method dts --delay 0 --period 1 $slowly && agree progress gradients
	learn outer --method slowmo --period 1 --outer-momentum 0 $slowly && same outer progress
	learn overlap --method cocod --period 3 $slowly
	learn delayed --method dts --delay 3 --period 3 $slowly && agree overlap delayed
	learn switched --method postlocal --period 4 --switch 0 && same switched local
}

# Padding and stragglers: ranks that need not wait do not, and what is sent is as long as it says.
slow="--straggler 1:4 --step-time 4 --payload 400000"
# shellcheck disable=SC2086
learn slow-sync --method sync $slow && learn slow-lasgd --method lasgd --period 4 $slow &&
	learn slow-adpsgd --method adpsgd $slow --straggler random:0.2:4,1:2
echo "blocked with a straggler: synchronous $(field slow-sync blocked_share), lasgd" \
	"$(field slow-lasgd blocked_share), adpsgd $(field slow-adpsgd blocked_share)"
holds "$(field slow-sync blocked_share) > 0.4" "ranks wait for a straggler"
holds "$(field slow-lasgd blocked_share) < 0.2" "lasgd waits for nobody"
holds "$(field slow-sync megabytes) > 90 * 1.34" "padding is sent"

# A slow network: a round trip of 20 ms is in each synchronous step.
learn wan --method sync --limit 640 --epochs 1 --warmup 0 --evals 1 --wan rtt=20ms,rate=1gbit
holds "$(field wan blocked_share) > 0.5" "ranks wait for a slow network"

# What cannot be is refused, once, before anything is trained.
refused --straggler 2:4
grep -q 'there is no rank 2, only 0 to 1' "$work/refused" || fail "straggler: $(cat "$work/refused")"
refused --method postlocal --switch 2
grep -q 'switch must be less than --epochs' "$work/refused" || fail "switch: $(cat "$work/refused")"
refused --checkpoint "$work/nowhere/file"
grep -q "no file can be made in $work/nowhere/" "$work/refused" || fail "checkpoint: $(cat "$work/refused")"
refused --wan rtt=fast
refused --method cocod --adapt 20:20
grep -q 'method cocod has no use for --adapt' "$work/refused" || fail "adapt: $(cat "$work/refused")"
refused --method dts --delay 9 --replay "$work/adapted.json"
grep -q 'began with --method dts --delay 1 --period 1 on 4 ranks' "$work/refused" ||
	fail "replay: $(cat "$work/refused")"
refused --method dts --replay "$work/dts.json" --delay 5 --period 2
refused --method dts --settle 20
grep -q 'settle 20: the run has 20 steps' "$work/refused" || fail "settle: $(cat "$work/refused")"

# Uneven shards.
learn sorted --method local --period 4 --shards sorted &&
	learn dirichlet --method dts --delay 2 --period 2 --shards dirichlet --alpha 0.3
holds "$(field dirichlet accuracy) > 0.4" "accuracy with uneven shards"

# Pictures, of one run and of several.
learn drawn --method sgp --plot "$work/one.svg"
"$train" plot "$work/dts.json" "$work/local-stopped.json" -o "$work/two.svg" || fail "plot"
if ! grep -q '</svg>' "$work/one.svg" || ! grep -q 'dts, delay 5, period 2' "$work/two.svg"; then
	fail "pictures are not what they should be"
fi

# Another run's checkpoint is refused, once for all ranks.
if "$train" -n 4 --method sync --lr 0.2 --checkpoint "$work/sync-at" --resume >"$work/refused" 2>&1 ||
	[ "$(grep -c 'of another run' "$work/refused")" != 1 ]; then
	cat "$work/refused"
	fail "a checkpoint of another run: not one message and status 1"
fi
exit "$failed"
