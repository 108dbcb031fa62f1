/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_LINE_H
#define GY_LINE_H
/*
 * Lines: what the straight-line executor runs, a plan with peers and offsets filled in.  Compiled
 * once for a call; a request that is used again for the same call keeps its line.
 */
#include "lib/engine.h"

enum gy_line_what {
	GY_LINE_ROOM,	/* all sends of the move that begins here can go now */
	GY_LINE_COMPUTE,	/* any number of inputs in memory, copies, a division */
	GY_LINE_SEND,	/* memory to a peer */
	GY_LINE_WAIT,	/* a peer's message into memory */
	GY_LINE_FOLD,	/* a peer's message, summed with memory, into memory */
};

/* Memory: off bytes from run->mem[space]. */
struct gy_line_place {
	uint8_t space;
	uint64_t off;
};

struct gy_line_step {
	uint8_t what;		/* enum gy_line_what */
	uint8_t space;		/* SEND, WAIT, FOLD, COMPUTE: of memory: off bytes into it */
	uint8_t nin;		/* COMPUTE: inputs */
	uint8_t body;		/* FOLD: which of two inputs is the message, 0 or 1 */
	uint8_t sends;		/* ROOM: of the move */
	uint8_t waits;		/* the last WAIT of a move: all of the move; else 0 */
	bool first;		/* of its move; SEND: then it looks for room itself */
	bool final;		/* COMPUTE: divides */
	uint32_t move;		/* of the plan */
	uint32_t len;		/* bytes of the move */
	uint32_t n;		/* elements */
	uint64_t word;		/* SEND, WAIT, FOLD: header's stream and len, as they lie there */
	uint64_t off;
	struct gy_peer *peer;
	const struct gy_line_place *inputs;	/* COMPUTE: all; FOLD: the one in memory */
};

/*
 * What has no memory in the plan (messages, what is only sent) lies in scratch, behind the plan's.
 */
struct gy_line {
	struct gy_line_step *end;		/* of steps */
	uint32_t ninputs;
	uint64_t land, landed;	/* where in scratch that begins, and how much there is so far */
	struct gy_line_step steps[GY_LINE_ENDS];
	struct gy_line_place inputs[GY_LINE_ENDS];
};

/* Largest calls that go by a line; see GY_BODY_LONG. */
static inline uint64_t gy_line_bytes(const struct gy_engine *e)
{
	return GY_BODY_LONG / GY_BODY_MAX * (uint64_t)e->eager_bytes;
}

/* Compiles the run, whose fields are set: 0, or -errno when it cannot go by a line (now). */
int gy_line_compile(struct gy_engine *e, struct gy_run *run);
#endif
