#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_delayed.sh - delayed collectives of four processes: every trigger, two handles at once, a slow
# rank, and a leader that is killed.
. "$(dirname "$0")/common.sh"
in_guests 1 2 200
exec test_delayed "$transport"
