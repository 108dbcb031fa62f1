#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_big.sh - two ranks, calls of more than 2^31 and 2^32 bytes, over shared memory and TCP.
build=${top_builddir:?}
need=16		# GiB available: with room for others
if [ "${GY_TEST_LONG:-0}" = 0 ]; then
	echo "skipped: takes a minute and 9 GiB of memory: set GY_TEST_LONG=1"
	exit 77
fi
have=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
if [ "${have:-0}" -lt $need ]; then
	echo "skipped: $have GiB of memory are available, $need are needed"
	exit 77
fi
for transport in shm tcp; do
	echo "$transport"
	GYRE_TRANSPORT=$transport "$build/tools/gyrerun" -n 2 --timeout 100 "$build/tests/multi/test_big" || exit 1
done
