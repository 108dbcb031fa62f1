/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_agree.c - gyre_comm_agree and gyre_comm_shrink in the simulator, while ranks die, stall, and
 * lose connections, one by one or all between two sets of ranks.
 *
 * Ranks go through rounds: collectives, whose errors they only note; an agreement on whether all
 * went well; when not, or now and then, a shrink, and on in the communicator that it gives.  Over
 * all ranks of a run:
 *
 *   - calls of one number on one communicator give the same flags, error and new communicator;
 *   - flags have what all gave who called, and nothing that a rank that got them did not give;
 *   - who ends all rounds ends them in the same communicator, and its sums are right;
 *   - nobody is declared dead unless a connection was cut, and then one rank for each at most; and
 *     only ranks too few to go on are told so;
 *   - every call ends, and nothing is left on the heap.
 *
 *	test_agree [--seed S] [--rounds N] [--seconds N] [--verbose]
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gyre/gyre.h>
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/config.h"
#include "lib/log.h"
#include "tests/long.h"
#include "transports/sim/sim.h"

#define MAX_RANKS 9
#define MAX_RECORDS 128
#define MAX_COUNT 20000
#define ROUNDS 5
#define MIN_RUNS 24		/* of seeds, however slow the machine */
#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

enum fault { KILL, KILL_EVENT, STALL, CUT, PART, ALL, FAULTS };

static const char *const fault_names[] = { "kill", "kill at event", "kill and stall",
					   "cut",  "part",	    "all" };

/* One call of agree or shrink: what the first rank got that returned from it. */
struct record {
	uint32_t comm;
	unsigned call;
	bool shrink, ended;
	int err;
	uint64_t given;			/* and of all that have called */
	uint64_t flags;
	uint32_t id;
	int size;
	int ranks[MAX_RANKS];		/* of the world */
};

struct run {
	uint64_t seed, rng;
	int nranks;
	enum fault fault;
	struct gy_config cfg;
	bool wait;			/* nobody leaves before all are through */
	int begun;			/* ranks that have their contexts */
	unsigned kills, cuts, parts;
	unsigned through;		/* ranks that have ended, */
	unsigned stale, unreachable;	/* and why */
	bool whole[MAX_RANKS];		/* ended all rounds, */
	uint32_t last[MAX_RANKS];	/* in this communicator */
	struct record records[MAX_RECORDS];
	unsigned nrecords;
	char why[300];
};

static bool verbose;
static float in[MAX_RANKS][MAX_COUNT], out[MAX_RANKS][MAX_COUNT];

/* What the library says of faults is not interesting in 1000s of runs. */
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!verbose)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int complain(struct run *r, const struct gy_sim_rank *rank, const char *what, int err)
{
	if (!r->why[0])
		snprintf(r->why, sizeof(r->why), "rank %d: %s: %s", gy_sim_rank_id(rank), what,
			 gyre_strerror(err));
	return -EBADMSG;
}

static int complain_sum(struct run *r, const struct gy_sim_rank *rank,
			const struct gyre_comm *comm, size_t i, float is, float should)
{
	char text[80];

	snprintf(text, sizeof(text), "sum %zu in communicator %u is %g, not %g", i, comm->id,
		 (double)is, (double)should);
	return complain(r, rank, text, 0);
}

/* ---- faults ---- */

static uint64_t fault_time(struct run *r, uint64_t now)
{
	return now + 1 + next(&r->rng) % (next(&r->rng) % 4 ? 1 * MS : 30 * MS);
}

/*
 * The last that has its context decides what happens, and when: of what dies before, only the stack
 * knows.
 */
static void faults_begin(struct run *r, struct gy_sim_rank *rank)
{
	struct gy_sim_world *w = gy_sim_world(rank);
	const uint64_t now = gy_sim_now(w), n = (uint64_t)r->nranks;
	const unsigned count = 1 + (unsigned)(next(&r->rng) % (n > 4 ? 4 : n - 1));
	uint64_t at, end;
	unsigned i;
	int a, b;

	if (++r->begun < r->nranks || r->seed % 64 == 0)
		return;
	for (i = 0; i < count; i++) {
		enum fault f = r->fault == ALL ? (enum fault)(next(&r->rng) % ALL) : r->fault;

		at = fault_time(r, now);
		a = (int)(next(&r->rng) % n);
		b = (a + 1 + (int)(next(&r->rng) % (n - 1))) % (int)n;
		end = at + next(&r->rng) % (300 * MS);
		if (f == KILL || (f == STALL && next(&r->rng) % 3 == 0))
			gy_sim_kill(w, a, at);
		else if (f == KILL_EVENT)
			gy_sim_kill_at_event(w, a, gy_sim_events(w) + 1 + next(&r->rng) % 4000);
		else if (f == STALL)
			gy_sim_stall(w, a, at, end);
		else if (f == CUT)
			gy_sim_cut(w, a, b, at);
		else
			gy_sim_part(w, next(&r->rng), at, i ? end : UINT64_MAX);
		r->kills += f == KILL || f == KILL_EVENT || f == STALL;
		r->cuts += f == CUT;
		r->parts += f == PART;
	}
}

/* ---- what calls give ---- */

static struct record *record_of(struct run *r, const struct gyre_comm *comm, unsigned call,
				bool shrink)
{
	struct record *rec;
	unsigned i;

	for (i = 0; i < r->nrecords; i++) {
		rec = &r->records[i];
		if (rec->comm == comm->id && rec->call == call)
			return rec;
	}
	if (r->nrecords == MAX_RECORDS)
		abort();
	rec = &r->records[r->nrecords++];
	*rec = (struct record){
		.comm = comm->id, .call = call, .shrink = shrink, .given = UINT64_MAX,
	};
	return rec;
}

static int record_check(struct run *r, const struct gy_sim_rank *rank, const struct record *rec,
			const struct record *got)
{
	if (rec->shrink != got->shrink)
		return complain(r, rank, "rounds are not the same", 0);
	if (rec->err != got->err)
		return complain(r, rank, "another error than the others'", got->err);
	if (rec->flags != got->flags)
		return complain(r, rank, "other flags than the others'", 0);
	if (rec->id != got->id || rec->size != got->size ||
	    memcmp(rec->ranks, got->ranks, sizeof(got->ranks)))
		return complain(r, rank, "another communicator than the others'", 0);
	return 0;
}

/* A call has come to an end that all must see. */
static int record_end(struct run *r, const struct gy_sim_rank *rank, struct record *rec,
		      const struct record *got)
{
	if (rec->ended)
		return record_check(r, rank, rec, got);
	rec->ended = true;
	rec->err = got->err;
	rec->flags = got->flags;
	rec->id = got->id;
	rec->size = got->size;
	memcpy(rec->ranks, got->ranks, sizeof(got->ranks));
	return 0;
}

/* Who leads may die with a decision that it has not told to all, or to anybody. */
static void rank_may_die(struct run *r, struct gy_sim_rank *rank, const struct gyre_comm *comm)
{
	struct gy_sim_world *w = gy_sim_world(rank);

	if (comm->rank || r->seed % 64 == 0 || (r->fault != KILL && r->fault != ALL) ||
	    next(&r->rng) % 4)
		return;
	gy_sim_kill(w, gy_sim_rank_id(rank), gy_sim_now(w) + next(&r->rng) % (2 * US));
	r->kills++;
}

/* An end for this rank alone: whether it may be. */
static int rank_is_out(struct run *r, const struct gy_sim_rank *rank, int err)
{
	if (err == -ESTALE && (r->cuts || r->parts)) {
		r->stale++;
		return err;
	}
	if (err == -ENETUNREACH &&
	    (r->cuts || r->parts || r->through || 2 * r->kills >= (unsigned)r->nranks)) {
		r->unreachable++;
		return err;
	}
	return complain(r, rank, "an error that should not be", err);
}

/* ---- a rank ---- */

static int rank_sum(struct run *r, const struct gy_sim_rank *rank, struct gyre_comm *comm,
		    size_t count)
{
	float *x = in[gy_sim_rank_id(rank)], *y = out[gy_sim_rank_id(rank)], sum = 0;
	size_t i;
	int m, err;

	for (m = 0; m < comm->size; m++)
		sum += (float)(comm->ranks[m] + 1);
	for (i = 0; i < count; i++)
		x[i] = (float)(gy_sim_rank_id(rank) + 1);
	err = gyre_allreduce(x, y, count, GYRE_F32, GYRE_SUM, comm);
	for (i = 0; i < count && !err; i++)
		if (y[i] != sum)
			return complain_sum(r, rank, comm, i, y[i], sum);
	return err;
}

static int rank_agree(struct run *r, struct gy_sim_rank *rank, struct gyre_comm *comm,
		      unsigned call, uint64_t *flags)
{
	struct record *rec = record_of(r, comm, call, false);
	const uint64_t given = *flags;
	struct record got = { .shrink = false };

	rec->given &= given;
	got.err = gyre_comm_agree(comm, flags);
	if (got.err && got.err != -EOWNERDEAD)
		return rank_is_out(r, rank, got.err);
	rank_may_die(r, rank, comm);
	got.flags = *flags;
	if (got.flags & ~given)
		return complain(r, rank, "flags that it did not give", 0);
	return record_end(r, rank, rec, &got) ? -EBADMSG : got.err;
}

static int rank_shrink(struct run *r, struct gy_sim_rank *rank, struct gyre_comm *comm,
		       unsigned call, struct gyre_comm **newp)
{
	struct record *rec = record_of(r, comm, call, true);
	struct record got = { .shrink = true };

	got.err = gyre_comm_shrink(comm, newp);
	if (got.err)
		return rank_is_out(r, rank, got.err);
	rank_may_die(r, rank, comm);
	got.id = (*newp)->id;
	got.size = (*newp)->size;
	memcpy(got.ranks, (*newp)->ranks, (size_t)got.size * sizeof(got.ranks[0]));
	return record_end(r, rank, rec, &got);
}

struct place {
	struct gyre_comm *comm, *world;
	unsigned calls;			/* of agree and shrink on comm */
};

static int rank_go_on(struct run *r, struct gy_sim_rank *rank, struct place *p)
{
	struct gyre_comm *left;
	int err = rank_shrink(r, rank, p->comm, ++p->calls, &left);

	if (err)
		return err;
	if (p->comm != p->world && next(&r->rng) % 4)
		gyre_comm_destroy(p->comm);
	p->comm = left;
	p->calls = 0;
	err = rank_sum(r, rank, left, 1);
	return err == -EBADMSG ? err : 0;
}

/* The same on all ranks, but for what they draw for themselves. */
static int rank_round(struct run *r, struct gy_sim_rank *rank, struct place *p, uint64_t how)
{
	const uint64_t sleep = next(&how), colls = next(&how) % 4, what = next(&how);
	uint64_t flags = gy_sim_random(rank) | 1;
	unsigned i;
	int err = 0;

	if (sleep % 2)
		gy_sim_sleep(rank, gy_sim_random(rank) % (sleep % 16 == 1 ? 40 * MS : 200 * US));
	for (i = 0; i < colls && !err; i++)
		err = rank_sum(r, rank, p->comm, next(&how) % 3 ? 7 : MAX_COUNT);
	if (err == -EBADMSG)
		return err;
	if (err)
		flags &= ~UINT64_C(1);
	if (what % 8 == 0)
		return rank_go_on(r, rank, p);
	err = rank_agree(r, rank, p->comm, ++p->calls, &flags);
	if (err && err != -EOWNERDEAD)
		return err;
	return err || !(flags & 1) || what % 8 == 1 ? rank_go_on(r, rank, p) : 0;
}

static int rank_main(struct gy_sim_rank *rank, void *arg)
{
	struct run *r = arg;
	const int me = gy_sim_rank_id(rank);
	struct gy_sim_world *w = gy_sim_world(rank);
	struct gyre_context *ctx;
	struct place p = { .calls = 0 };
	unsigned i, alive;
	int err, k;

	err = gy_sim_context(rank, &r->cfg, &ctx);
	if (err)
		return complain(r, rank, "no context", err);
	faults_begin(r, rank);
	p.comm = p.world = gyre_context_world(ctx);
	for (i = 0; i < ROUNDS && !err; i++)
		err = rank_round(r, rank, &p, r->seed * ROUNDS + i);
	if (err == -EBADMSG)
		return err;
	r->whole[me] = !err;
	r->last[me] = p.comm->id;
	for (r->through++, alive = r->nranks; r->wait && r->through < alive;) {
		gyre_progress(ctx);
		gy_sim_sleep(rank, 200 * US);
		for (alive = 0, k = 0; k < r->nranks; k++)
			alive += gy_sim_alive(w, k);
	}
	gyre_context_destroy(ctx);
	return 0;
}

/* ---- a run ---- */

static void run_check(struct run *r)
{
	const unsigned n = (unsigned)r->nranks;
	unsigned i;
	int a, b;

	for (i = 0; i < r->nrecords; i++) {
		const struct record *rec = &r->records[i];

		if (rec->ended && !rec->shrink && (rec->flags & rec->given) != rec->given)
			snprintf(r->why, sizeof(r->why), "flags lack what all gave");
	}
	for (a = 0; a < r->nranks; a++)
		for (b = 0; b < a; b++)
			if (r->whole[a] && r->whole[b] && r->last[a] != r->last[b])
				snprintf(r->why, sizeof(r->why), "ranks %d and %d end apart", b, a);
	if (r->cuts && !r->kills && !r->parts && 2 * r->cuts < n && r->wait &&
	    r->stale + r->unreachable > r->cuts)
		snprintf(r->why, sizeof(r->why), "%u cuts, and %u ranks are out", r->cuts,
			 r->stale + r->unreachable);
}

static int run_one(uint64_t seed, struct gy_sim_stats *stats)
{
	struct run r = { .seed = seed, .rng = seed, .fault = (enum fault)(seed % FAULTS) };
	struct gy_sim_attr attr;
	int err;

	r.nranks = 2 + (int)(next(&r.rng) % (MAX_RANKS - 1));
	r.wait = next(&r.rng) % 2;
	gy_config_init(&r.cfg);
	r.cfg.stall_timeout_ms = 5000;
	r.cfg.progress = next(&r.rng) % 4 ? GY_CONFIG_PROGRESS_THREAD : GY_CONFIG_PROGRESS_MANUAL;
	gy_sim_attr_init(&attr, r.nranks, seed);
	attr.random_links = next(&r.rng) % 2;
	attr.deadline_ns = 20000 * MS;
	attr.stats = stats;
	err = gy_sim_run(&attr, rank_main, &r);
	if (!err)
		run_check(&r);
	if (!err && gy_alloc_live()) {
		snprintf(r.why, sizeof(r.why), "%ld blocks are left", gy_alloc_live());
		err = -ENOTEMPTY;
	}
	if (verbose)
		printf("seed %" PRIu64 ": %s, %d ranks, %u calls, %u stale, %u unreachable, "
		       "%.3f ms virtual, %" PRIu64 " events\n",
		       seed, fault_names[r.fault], r.nranks, r.nrecords, r.stale, r.unreachable,
		       (double)stats->now_ns * 1e-6, stats->events);
	if (!err && !r.why[0])
		return 0;
	printf("FAILED: %s: %s; %s, %d ranks%s\nagain: test_agree --seed %" PRIu64 " --rounds 1\n",
	       gyre_strerror(err), r.why, fault_names[r.fault], r.nranks,
	       r.cfg.progress == GY_CONFIG_PROGRESS_MANUAL ? ", manual" : "", seed);
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },    { "rounds", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 't' }, { "verbose", 0, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	const double start = test_cpu_seconds();
	double time = test_times(2, 30);
	uint64_t seed = 1, rounds = UINT64_MAX, i;
	struct gy_sim_stats stats;
	int opt, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			rounds = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			time = atof(optarg);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	for (i = 0; i < rounds && !failed &&
		    (rounds != UINT64_MAX || test_cpu_seconds() - start < time || i < MIN_RUNS);
	     i++)
		failed = run_one(seed + i, &stats);
	printf("%s: %" PRIu64 " rounds from seed %" PRIu64 ", %.1f s\n",
	       failed ? "FAILED" : "passed", i, seed, test_cpu_seconds() - start);
	return failed;
}
