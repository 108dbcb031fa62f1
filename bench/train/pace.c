/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/pace.c - padded steps and stragglers. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/train/pace.h"
#include "bench/train/rng.h"

#define PACE_STREAM (1ull << 40) /* of random numbers: far from those of epochs */

/* 1 when text, up to a comma, is of one of the two forms; *len is how long it is. */
static int pace_scan(const char *text, struct pace_straggler *s, int *len)
{
	*len = 0;
	s->rank = -1;
	s->probability = 1;
	sscanf(text, "random:%lf:%lf%n", &s->probability, &s->factor, len);
	if (!*len)
		sscanf(text, "%d:%lf%n", &s->rank, &s->factor, len);
	if (!*len || (text[*len] && text[*len] != ','))
		return 0;
	return (s->rank >= 0 || text[0] == 'r') && s->probability >= 0 && s->probability <= 1 &&
	       s->factor >= 1 && s->factor <= 1e6;
}

int pace_init(struct pace *pace, const char *text, double step_seconds, uint64_t seed, int rank,
	      struct why *why)
{
	const char *at = text;
	int len;

	*pace = (struct pace){ .step_seconds = step_seconds, .seed = seed, .rank = rank };
	while (at) {
		if (pace->nstragglers == PACE_MAX_STRAGGLERS ||
		    !pace_scan(at, &pace->stragglers[pace->nstragglers], &len))
			return why_set(why, -EINVAL,
				       "--straggler %s: give RANK:FACTOR or random:P:FACTOR, at "
				       "most %d divided by commas, factors from 1",
				       text, PACE_MAX_STRAGGLERS);
		pace->nstragglers++;
		at = at[len] ? at + len + 1 : NULL;
	}
	return 0;
}

int pace_check(const struct pace *pace, int nranks, struct why *why)
{
	int i;

	for (i = 0; i < pace->nstragglers; i++)
		if (pace->stragglers[i].rank >= nranks)
			return why_set(why, -EINVAL,
				       "--straggler: there is no rank %d, only 0 to %d",
				       pace->stragglers[i].rank, nranks - 1);
	return 0;
}

double pace_factor(const struct pace *pace, uint64_t step)
{
	const struct pace_straggler *s;
	double factor = 1;
	struct rng rng;
	int i;

	for (i = 0; i < pace->nstragglers; i++) {
		s = &pace->stragglers[i];
		if (s->rank >= 0 && s->rank != pace->rank)
			continue;
		rng_init(&rng, pace->seed + pace->rank * PACE_STREAM, PACE_STREAM + step);
		if ((rng_next(&rng) >> 11) * 0x1p-53 < s->probability)
			factor = fmax(factor, s->factor);
	}
	return factor;
}

double pace_rest(const struct pace *pace, uint64_t step, double worked)
{
	const double whole = pace->step_seconds > 0 ? pace->step_seconds : worked;

	return whole * pace_factor(pace, step) - worked - pace->late;
}

void pace_end(struct pace *pace, uint64_t step, double took)
{
	const double late = pace->late + took - pace->step_seconds * pace_factor(pace, step);

	pace->late = fmin(fmax(late, 0), pace->step_seconds);
}

void pace_sleep(double seconds)
{
	struct timespec left = { .tv_sec = (time_t)seconds };

	if (seconds <= 0)
		return;
	left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
	while (nanosleep(&left, &left) && errno == EINTR)
		;
}
