#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# train.sh - 4 ranks x batch 16 learn what 1 rank x batch 64 learns: the losses agree to rounding, and
# a run repeated is the same run.  Ranks that cannot start say so with one voice.
# shellcheck source=train_needs.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/train_needs.sh"

# losses MODEL RANKS BATCH FILE: the loss of each epoch, one a line.  60 steps with a rate at which the
# training is not chaotic, or rounding would grow within them.
losses() {
	if ! "$train" -n "$2" --model "$1" --batch "$3" --limit 1920 --epochs 2 --seed 3 --lr 0.01 \
		--lr-schedule constant --bucket-kib 100 --json - >"$4.json" 2>"$4.log"; then
		cat "$4.log"
		echo "$1 with $2 ranks failed"
		exit 1
	fi
	sed -n 's/.*"loss": \([0-9.e+-]*\).*/\1/p' "$4.json" >"$4"
}

# agree A B BOUND WHAT
agree() {
	if ! paste "$1" "$2" | awk -v bound="$3" '
		{ d = ($1 - $2) / $1; if (d < 0) d = -d; print "epoch " NR ": " $1 " " $2; if (d > bound) bad = 1 }
		END { exit bad || NR != 2 }'; then
		echo "$4: the losses differ by more than $3 of them"
		exit 1
	fi
}

for model in mlp cnn; do
	losses $model 1 64 "$work/one"
	losses $model 4 16 "$work/four"
	agree "$work/one" "$work/four" 1e-4 "$model, 1 rank x 64 and 4 ranks x 16 images"
	losses $model 4 16 "$work/again"
	agree "$work/four" "$work/again" 0 "$model, 4 ranks, twice"
done

"$train" --method foo 2>"$work/method"
if [ $? != 2 ] || ! grep -q '^gyre-train: --method foo: give one of sync|dts|.*|adpsgd$' "$work/method"; then
	cat "$work/method"
	echo "an unknown method: not status 2 and the known ones"
	exit 1
fi

if [ -w /dev/full ]; then
	"$train" --model mlp --limit 1920 --epochs 1 --json /dev/full >"$work/text" 2>"$work/full"
	if [ $? != 1 ] || ! grep -q '^gyre-train: /dev/full could not be written$' "$work/full"; then
		cat "$work/full"
		echo "a full disk: not status 1 and the file's name"
		exit 1
	fi
fi

if "$train" -n 3 --data "$work" >"$work/missing" 2>&1 || [ "$(grep -c 'is missing' "$work/missing")" != 1 ]; then
	cat "$work/missing"
	echo "three ranks without data: not one message and status 1"
	exit 1
fi
