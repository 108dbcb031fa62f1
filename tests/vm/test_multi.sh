#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_multi.sh - a sample of the suite over the public interface, with processes; its seed is
# printed, and GY_TEST_SEED gives another.
. "$(dirname "$0")/common.sh"
in_guests 1 2 200
seed=${GY_TEST_SEED:-$((RANDOM << 15 | RANDOM))}
echo "seed $seed"
# A round that hangs is reported by the test, not ended by the guest.
exec test_multi --transport "$transport" --ranks 2-5 --cases 4 --bytes 131072 --seconds 40 --limit 120 \
	--seed "$seed"
