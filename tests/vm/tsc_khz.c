/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tsc_khz.c - prints the frequency of this machine's time stamp counter, in kHz.  The emulator
 * hands the counter on to its guests, whose own way to measure it goes wrong on a busy machine.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define PROBES 20		/* the one that was not interrupted counts */
#define APART_NS 50000000

struct moment {
	uint64_t ticks;
	int64_t ns;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static struct moment take(void)
{
	struct moment best = { .ticks = 0 };
	uint64_t before, after, least = UINT64_MAX;
	int64_t ns;
	int i;

	for (i = 0; i < PROBES; i++) {
		before = __rdtsc();
		ns = now_ns();
		after = __rdtsc();
		if (after - before < least) {
			least = after - before;
			best = (struct moment){ .ticks = before + least / 2, .ns = ns };
		}
	}
	return best;
}

int main(void)
{
	const struct timespec apart = { .tv_nsec = APART_NS };
	struct moment a = take(), b;

	nanosleep(&apart, NULL);
	b = take();
	printf("%.0f\n", (double)(b.ticks - a.ticks) / (double)(b.ns - a.ns) * 1e6);
	return 0;
}
