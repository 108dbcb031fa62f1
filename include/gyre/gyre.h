/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GYRE_GYRE_H
#define GYRE_GYRE_H
/* The whole API.  See gyre(7). */
#include <gyre/coll.h>
#include <gyre/comm.h>
#include <gyre/context.h>
#include <gyre/delayed.h>
#include <gyre/mem.h>
#include <gyre/p2p.h>
#include <gyre/request.h>
#include <gyre/types.h>
#endif
