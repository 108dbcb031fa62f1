/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WIRE_FUZZ_H
#define WIRE_FUZZ_H
/*
 * What lies between the simulated transport and the engine in test_wire_fuzz: it changes what
 * arrives.
 */
#include <stdbool.h>
#include <stdint.h>

enum fuzz_mode { FUZZ_NONE, FUZZ_DOUBLES, FUZZ_LIE, FUZZ_HAVOC, FUZZ_FLOOD };

struct fuzz {
	enum fuzz_mode mode;
	uint64_t rng;
	uint64_t rate;			/* one message of so many is changed */
	uint64_t lie_at;		/* FUZZ_LIE: the one message */
	uint64_t messages, changes;	/* all rounds */
	uint64_t seen;			/* this round */
	const char *fault;		/* what the engine did that it must not */
};

extern struct fuzz fuzz;

uint64_t fuzz_below(uint64_t n);	/* 0..n-1, drawn */
void fuzz_begin(enum fuzz_mode mode, uint64_t seed);
void fuzz_end(void);
#endif
