#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_conformance.sh - the suite that every transport passes, over rxe.
. "$(dirname "$0")/common.sh"
in_guests 1 2 400
exec test_conformance "$transport"
