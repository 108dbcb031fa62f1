/* SPDX-License-Identifier: BSD-3-Clause */
/* What planners write with: ends, and the usual moves; see plan.h. */
#include "lib/plan.h"

struct gy_end gy_blocks(enum gy_space space, struct gy_range range)
{
	return (struct gy_end){ .space = space, .range = range };
}

struct gy_end gy_in(uint32_t block)
{
	return gy_blocks(GY_IN, (struct gy_range){ .first = block, .count = 1, .stride = 1 });
}

struct gy_end gy_out(uint32_t block)
{
	return gy_blocks(GY_OUT, (struct gy_range){ .first = block, .count = 1, .stride = 1 });
}

struct gy_end gy_scratch(uint32_t block)
{
	return gy_blocks(GY_SCRATCH, (struct gy_range){ .first = block, .count = 1, .stride = 1 });
}

struct gy_end gy_from(int peer)
{
	return (struct gy_end){ .space = GY_STREAM, .peer = peer };
}

struct gy_end gy_to(int peer)
{
	return (struct gy_end){ .space = GY_STREAM, .peer = peer };
}

void gy_copy(struct gy_plan *pl, struct gy_end from, struct gy_end to)
{
	gy_move(pl, &from, 1, &to, 1);
}

void gy_send(struct gy_plan *pl, int peer, struct gy_end from)
{
	gy_copy(pl, from, gy_to(peer));
}

void gy_recv(struct gy_plan *pl, int peer, struct gy_end to)
{
	gy_copy(pl, gy_from(peer), to);
}

void gy_recv_reduce(struct gy_plan *pl, int peer, struct gy_end with, struct gy_end to)
{
	gy_move(pl, (struct gy_end[]){ gy_from(peer), with }, 2, &to, 1);
}

void gy_recv_reduce_send(struct gy_plan *pl, int peer, struct gy_end with, int next)
{
	gy_recv_reduce(pl, peer, with, gy_to(next));
}

void gy_recv_reduce_keep_send(struct gy_plan *pl, int peer, struct gy_end with,
			      struct gy_end keep, int next)
{
	gy_move(pl, (struct gy_end[]){ gy_from(peer), with }, 2,
		(struct gy_end[]){ keep, gy_to(next) }, 2);
}

void gy_recv_keep_send(struct gy_plan *pl, int peer, struct gy_end keep, int next)
{
	const struct gy_end from = gy_from(peer);

	gy_move(pl, &from, 1, (struct gy_end[]){ keep, gy_to(next) }, 2);
}
