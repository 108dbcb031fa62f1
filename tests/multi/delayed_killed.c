/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delayed_killed.c - ranks with a delayed collective of which one is killed: the others hear of it,
 * have applied the same rounds, go on without it, and lose nothing of their own.  One is killed
 * between two ticks, with x by a closed form; others anywhere, with any method, by a seed.
 *
 * In the latter only rank r adds to the elements that are r modulo RANKS, a WHOLE each step: what a
 * round's average says of such an element is how many steps of that rank it has.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "tests/multi/delayed_work.h"

#define LEADER 0 /* of rounds */

static int killed_victim(uint64_t seed)
{
	return LEADER;
}

/* A rank dies between two ticks, with rounds in flight. */
static int work_killed(struct rank *rank)
{
	const struct gyre_delayed_attr a = delayed_attr(3, 1);
	const unsigned last = 8 + (unsigned)rank->seed % 8;
	uint32_t ticks[RANKS];
	struct gyre_delayed_stats st = { 0 };
	struct gyre_delayed *d = NULL;
	struct gyre_comm *left = NULL;
	unsigned n, i, shared;
	int r, err;

	err = gyre_delayed_create(&a, rank->x, rank->world, &d);
	for (n = 1; n <= 40 && !err; n++) {
		if (rank->me == LEADER && n == last)
			raise(SIGKILL);
		delayed_compute(1e-3);
		delayed_step(rank->x, rank->me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	n--;
	if (!err)
		return -EBADMSG;
	err = gyre_comm_shrink(rank->world, &left);
	if (!err)
		err = gyre_delayed_rebind(d, left);
	if (!err)
		err = gyre_delayed_stats(d, &st);
	shared = (unsigned)st.committed;
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	/* what the victim shared counts; of the others, all: they may have done unequal steps */
	if (!err)
		err = gyre_allgather(&n, ticks, 1, GYRE_UINT32, left);
	for (i = 0; i < COUNT && !err; i++) {
		float want = (float)shared * delayed_mean_update(-1, i);

		for (r = 1; r < RANKS; r++)
			want += (float)(ticks[r - 1] - shared) * delayed_update(r, i) / (RANKS - 1);
		err = delayed_expect(rank, "left", i, rank->x[i], want);
	}
	gyre_delayed_destroy(d);
	gyre_comm_destroy(left);
	return err;
}

/* ---- drawn ---- */

#define WHOLE 12 /* by any number of ranks, a whole number */
#define SPAN_US 20000

struct draw {
	int victim;
	long us; /* after handles are made */
	struct gyre_delayed_attr attr;
};

static int drawn_victim(uint64_t seed)
{
	return (int)(delayed_random(&seed) >> 40) % RANKS;
}

static struct draw drawn(uint64_t seed)
{
	struct draw w = { .victim = drawn_victim(seed) };
	uint64_t dice = seed + 1, r = delayed_random(&dice);
	struct gyre_delayed_attr *a = &w.attr;

	w.us = 1 + (long)(delayed_random(&dice) >> 33) % SPAN_US;
	*a = delayed_attr((uint32_t)(r >> 10) % 7, 1 + (uint32_t)(r >> 20) % 3);
	a->trigger = (enum gyre_trigger)((r >> 30) % 3); /* but MANUAL */
	a->apply = (enum gyre_apply)((r >> 36) % 3);
	a->payload = (enum gyre_payload)(r >> 40 & 1);
	a->commit = (r >> 41 & 3) ? GYRE_COMMIT_ALL : GYRE_COMMIT_NONE;
	a->min_steps = a->period;
	a->quorum = 1 + (uint32_t)(r >> 43 & 1);
	a->grace_ms = (uint32_t)(r >> 44 & 1);
	a->margin = 1 + (uint32_t)(r >> 45 & 3);
	a->max_delay = a->apply == GYRE_APPLY_AGREED ? a->margin + 4 : 0;
	if (a->trigger == GYRE_TRIGGER_QUORUM)
		a->payload = GYRE_PAYLOAD_DELTA;
	/* ranks at unequal ticks would wait in one for those that drain */
	if (a->trigger != GYRE_TRIGGER_PERIOD && a->apply == GYRE_APPLY_FIXED)
		a->apply = GYRE_APPLY_ARRIVAL;
	if (a->payload == GYRE_PAYLOAD_MODEL)
		a->delay %= a->period + 1;
	return w;
}

static void drawn_die(int sig)
{
	raise(SIGKILL);
}

static uint64_t drawn_hash(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* As without an outer; and keeps account. */
static int drawn_outer(void *arg, const struct gyre_round *round, void *anchor)
{
	struct seen *seen = arg;
	const float *avg = round->avg;
	float *a = anchor;
	size_t i;

	for (i = 0; i < round->count; i++)
		a[i] += avg[i];
	for (i = 0; i < RANKS; i++)
		seen->shared[i] += (double)avg[i] * round->weight_sum / WHOLE;
	seen->rounds++;
	seen->hash = drawn_hash(seen->hash, &round->round, sizeof(round->round));
	seen->hash = drawn_hash(seen->hash, &round->weight_sum, sizeof(round->weight_sum));
	seen->hash = drawn_hash(seen->hash, avg, round->count * sizeof(*avg));
	return 0;
}

/* To tick last, or to a failure. */
static int drawn_ticks(struct rank *rank, struct gyre_delayed *d, uint64_t last)
{
	uint64_t *n = &rank->shared->seen[rank->me].ticks;
	unsigned i;
	int err = 0;

	while (*n < last && !err) {
		delayed_compute(50e-6);
		for (i = (unsigned)rank->me; i < COUNT; i += RANKS)
			rank->x[i] += WHOLE;
		++*n;
		err = gyre_delayed_tick(d, 1, NULL);
	}
	return err;
}

/* The others' rounds are this rank's, too. */
static int drawn_check_rounds(struct rank *rank, struct gyre_comm *left)
{
	const struct seen *mine = &rank->shared->seen[rank->me];
	uint64_t all[RANKS][2];
	int r, err;

	err = gyre_allgather(&mine->rounds, all, 2, GYRE_UINT64, left);
	for (r = 0; r < RANKS - 1 && !err; r++) {
		if (all[r][0] == mine->rounds && all[r][1] == mine->hash)
			continue;
		fprintf(stderr, "rank %d applied %llu rounds, survivor %d others: %llu\n", rank->me,
			(unsigned long long)mine->rounds, r, (unsigned long long)all[r][0]);
		err = -EBADMSG;
	}
	if (!err)
		err = delayed_expect(rank, "own steps in rounds", (unsigned)rank->me,
				     mine->shared[rank->me], (double)mine->ticks);
	return err;
}

/*
 * Each of its own steps is in x, by rounds of RANKS ranks, or one less.  Of any number: by QUORUM,
 * and with ARRIVAL, where a rank may have begun rounds that another only joins when it drains.
 */
static int drawn_check_x(const struct rank *rank, const struct gyre_delayed_attr *a)
{
	const bool any = a->trigger == GYRE_TRIGGER_QUORUM ||
			 (a->trigger == GYRE_TRIGGER_PERIOD && a->apply == GYRE_APPLY_ARRIVAL);
	const double all = (double)rank->shared->seen[rank->me].ticks * WHOLE;
	const double own = rank->x[rank->me];
	unsigned i;
	int err = 0;

	for (i = 0; i < COUNT && !err; i++)
		err = delayed_expect(rank, "against one of the same rank", i, rank->x[i],
				     rank->x[i % RANKS]);
	/* a round that some have merged and others have not: there is no anchor to take instead */
	if (a->commit == GYRE_COMMIT_NONE && a->payload == GYRE_PAYLOAD_MODEL)
		return err;
	if (!err && (own < all / RANKS || own > all / (any ? 1 : RANKS - 1)))
		err = delayed_expect(rank, "own progress", (unsigned)rank->me, own, all / RANKS);
	return err;
}

static int drawn_go_on(struct rank *rank, struct gyre_delayed *d, const struct gyre_delayed_attr *a)
{
	const struct seen *mine = &rank->shared->seen[rank->me];
	struct gyre_comm *left = NULL;
	uint64_t last = 0;
	int err;

	err = gyre_comm_shrink(rank->world, &left);
	if (!err && gyre_comm_size(left) != RANKS - 1)
		err = -EBADMSG;
	if (!err)
		err = gyre_delayed_rebind(d, left);
	if (!err)
		err = gyre_allreduce(&mine->ticks, &last, 1, GYRE_UINT64, GYRE_MAX, left);
	if (!err)
		err = drawn_ticks(rank, d, last + 12);
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	if (!err && a->outer && a->commit == GYRE_COMMIT_ALL)
		err = drawn_check_rounds(rank, left);
	if (!err)
		err = drawn_check_x(rank, a);
	gyre_comm_destroy(left);
	return err;
}

static int drawn_complain(const struct rank *rank, const struct draw *w, int err)
{
	const struct gyre_delayed_attr *a = &w->attr;

	fprintf(stderr,
		"rank %d, tick %llu; %d killed after %ld us; trigger %d, apply %d, payload %d, "
		"commit %d, delay %u, period %u, quorum %u, grace %u, margin %u\n",
		rank->me, (unsigned long long)rank->shared->seen[rank->me].ticks, w->victim, w->us,
		(int)a->trigger, (int)a->apply, (int)a->payload, (int)a->commit, a->delay,
		a->period, a->quorum, a->grace_ms, a->margin);
	return err;
}

/* COMMIT_NONE: a rank may be given the anchor that a round has moved instead of the round. */
static int work_drawn(struct rank *rank)
{
	struct draw w = drawn(rank->seed);
	const struct itimerval timer = { .it_value.tv_usec = w.us };
	struct gyre_delayed *d = NULL;
	int err;

	if (w.attr.payload == GYRE_PAYLOAD_DELTA) {
		w.attr.outer = drawn_outer;
		w.attr.outer_arg = &rank->shared->seen[rank->me];
	}
	err = gyre_delayed_create(&w.attr, rank->x, rank->world, &d);
	if (err)
		return drawn_complain(rank, &w, err);
	err = gyre_barrier(rank->world); /* all have handles, or this fails */
	if (rank->me == w.victim) {
		signal(SIGALRM, drawn_die);
		setitimer(ITIMER_REAL, &timer, NULL);
	}
	if (!err)
		err = drawn_ticks(rank, d, UINT64_MAX);
	err = drawn_go_on(rank, d, &w.attr);
	gyre_delayed_destroy(d);
	return err ? drawn_complain(rank, &w, err) : 0;
}

const struct work delayed_killed[] = {
	{ .name = "killed", .fn = work_killed, .victim = killed_victim },
	{ .name = "drawn", .fn = work_drawn, .victim = drawn_victim, .draws = true },
	{ .name = NULL },
};
