/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delayed_job.c - jobs for the tests of delayed collectives: see delayed_job.h.
 */
#include "tests/unit/delayed_job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "collectives/delayed/delayed.h"
#include "lib/alloc.h"
#include "lib/config.h"
#include "lib/log.h"

char job_said[1000];

static void job_log(enum gy_log_level level, const char *text)
{
	if (level == GY_LOG_ERROR)
		snprintf(job_said, sizeof(job_said), "%s", text);
}

int job_test(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
	gy_log_set_hook(job_log);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests(argv[0], tests, n, NULL, NULL);
}

struct gyre_delayed_attr job_attr(uint32_t delay, uint32_t period)
{
	struct gyre_delayed_attr a;

	gyre_delayed_attr_init(&a);
	a.count = COUNT;
	a.delay = delay;
	a.period = period;
	return a;
}

/* Whole eighths go, the rest stays. */
static void job_filter(void *arg, void *s, size_t count, uint64_t round)
{
	float *v = s;
	size_t i;

	for (i = 0; i < count; i++)
		v[i] = (float)(int)(v[i] * 8) / 8;
}

static int job_outer(void *arg, const struct gyre_round *round, void *anchor)
{
	const float *avg = round->avg;
	float *a = anchor;
	size_t i;

	for (i = 0; i < round->count; i++)
		a[i] += 0.5f * avg[i];
	return 0;
}

/* A setting that create takes; what it refuses is tried again with other numbers. */
struct gyre_delayed_attr job_draw(uint64_t *rng)
{
	struct gyre_delayed_attr a = job_attr(0, 1);

	*rng = *rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	a.trigger = (enum gyre_trigger)(*rng >> 20 & 3);
	a.apply = (enum gyre_apply)((*rng >> 23) % 3);
	a.merge = (enum gyre_merge)((*rng >> 26) % 3);
	a.payload = (enum gyre_payload)(*rng >> 29 & 1);
	a.commit = (enum gyre_commit)(*rng >> 30 & 1);
	a.period = 1 + (uint32_t)((*rng >> 31) % 4);
	a.delay = (uint32_t)((*rng >> 34) % 7);
	if (a.payload == GYRE_PAYLOAD_MODEL || a.merge != GYRE_MERGE_ADD_DIFF)
		a.delay %= a.period + 1;
	if (a.payload == GYRE_PAYLOAD_MODEL && a.merge == GYRE_MERGE_OVERWRITE)
		a.delay %= a.period;
	a.min_steps = a.period;
	a.quorum = 1;
	a.grace_ms = (uint32_t)(*rng >> 37 & 3);
	a.margin = 1 + (uint32_t)(*rng >> 39 & 3);
	a.max_delay = a.apply == GYRE_APPLY_AGREED ? a.margin + 4 : 0;
	a.alpha = 0.5;
	a.wire = (*rng >> 41 & 3) == 0 ? GYRE_BF16 : a.type;
	if (a.trigger == GYRE_TRIGGER_QUORUM && a.apply == GYRE_APPLY_FIXED)
		a.apply = GYRE_APPLY_ARRIVAL;
	if (a.payload == GYRE_PAYLOAD_MODEL && a.trigger == GYRE_TRIGGER_QUORUM)
		a.trigger = GYRE_TRIGGER_READY_ALL;
	if (a.payload == GYRE_PAYLOAD_DELTA) {
		a.filter = (*rng >> 43 & 3) == 0 ? job_filter : NULL;
		a.outer = (*rng >> 45 & 3) == 0 ? job_outer : NULL;
		if (!a.outer && (*rng >> 45 & 3) == 1) {
			a.outer_lr = 0.5;
			a.outer_momentum = 0.5;
			a.outer_nesterov = *rng >> 47 & 1;
		}
		a.flags = *rng >> 48 & 1 ? GYRE_DELAYED_BY_STEPS : 0;
	}
	if (a.trigger == GYRE_TRIGGER_READY_ALL || a.trigger == GYRE_TRIGGER_QUORUM)
		a.flags |= *rng >> 49 & 1 ? GYRE_DELAYED_FRESH : 0;
	if (a.trigger == GYRE_TRIGGER_READY_ALL)
		a.flags |= *rng >> 51 & 1 ? GYRE_DELAYED_IN_TURN : 0;
	a.flags |= *rng >> 50 & 1 ? GYRE_DELAYED_WEIGHT_STEPS : 0;
	if (a.trigger == GYRE_TRIGGER_PERIOD && *rng >> 52 & 1) {
		a.switch_tick = 1 + (uint32_t)(*rng >> 53 & 15);
		a.switch_period = a.period + (uint32_t)(*rng >> 57 & 3);
	}
	return a;
}

static void job_print_attr(const struct gyre_delayed_attr *a)
{
	printf("trigger %d, apply %d, merge %d, payload %d, commit %d, wire %d, flags %u, "
	       "delay %u, period %u, switch %u to %u, margin %u, grace %u, %s, %s, outer_lr %g\n",
	       (int)a->trigger, (int)a->apply, (int)a->merge, (int)a->payload, (int)a->commit,
	       (int)a->wire, a->flags, a->delay, a->period, a->switch_tick, a->switch_period,
	       a->margin, a->grace_ms,
	       a->filter ? "filter" : "", a->outer ? "outer" : "", a->outer_lr);
}

static int job_main(struct gy_sim_rank *rank, void *arg)
{
	struct job *j = arg;
	struct gyre_context *ctx;
	struct gy_config cfg;
	int err;

	if (j->begin)
		j->begin(j, rank);
	gy_config_init(&cfg);
	cfg.stall_timeout_ms = 10000;
	err = gy_sim_context(rank, &cfg, &ctx);
	if (err)
		return err;
	err = j->fn(j, rank, ctx);
	gyre_context_destroy(ctx);
	return err;
}

int job_run(struct job *j)
{
	struct gy_sim_attr sim;
	int err;

	gy_sim_attr_init(&sim, j->nranks, j->seed);
	sim.random_links = j->seed % 2;
	sim.link.jitter_ns = 200000;
	if (j->latency_ns) {
		sim.random_links = false;
		sim.link.latency_ns = j->latency_ns;
	}
	sim.deadline_ns = 100000 * MS;
	sim.stats = &j->stats;
	err = gy_sim_run(&sim, job_main, j);
	if (!err && !j->leaks && gy_alloc_live()) {
		printf("%ld blocks are left\n", gy_alloc_live());
		err = -ENOTEMPTY;
	}
	if (err) {
		printf("seed %llu: %d ranks: %s; logged last: %s\n", (unsigned long long)j->seed,
		       j->nranks, gyre_strerror(err), job_said);
		job_print_attr(&j->attr);
	}
	return err;
}

/* What rank adds to element i at each step: a multiple of 1/8. */
float job_update(int rank, unsigned i)
{
	return (float)((int)((unsigned)rank * 5 + i * 3) % 16 - 7) / 8;
}

float job_mean_update(int nranks, unsigned i)
{
	float sum = 0;
	int r;

	for (r = 0; r < nranks; r++)
		sum += job_update(r, i);
	return sum / (float)nranks;
}

float job_initial(unsigned i)
{
	return (float)i - 10;
}

void job_begin_x(float *x)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] = job_initial(i);
}

void job_step(float *x, int rank)
{
	unsigned i;

	for (i = 0; i < COUNT; i++)
		x[i] += job_update(rank, i);
}

int job_open(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx,
	     struct gyre_delayed **d)
{
	float *const x = j->x[gy_sim_rank_id(rank)];

	*d = NULL;
	job_begin_x(x);
	return gyre_delayed_create(&j->attr, x, gyre_context_world(ctx), d);
}

int job_ticks(struct job *j, struct gy_sim_rank *rank, struct gyre_delayed *d, unsigned n)
{
	const int me = gy_sim_rank_id(rank);
	int err = 0;

	while (n-- && !err) {
		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, NULL);
	}
	return err;
}

int job_close(struct gyre_delayed *d, int err)
{
	if (!err)
		err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	gyre_delayed_destroy(d);
	return err;
}

int job_constant_main(struct job *j, struct gy_sim_rank *rank, struct gyre_context *ctx)
{
	const int me = gy_sim_rank_id(rank);
	const unsigned p = j->attr.period, delay = j->attr.delay;
	struct gyre_delayed *d;
	struct gyre_tick t;
	unsigned n, i;
	int err;

	err = job_open(j, rank, ctx, &d);
	if (err)
		return err;
	for (n = 1; n <= j->ticks && !err; n++) {
		const unsigned k = n >= delay ? (n - delay) / p : 0;

		gy_sim_sleep(rank, gy_sim_random(rank) % STEP_NS);
		job_step(j->x[me], me);
		err = gyre_delayed_tick(d, 1, &t);
		if (!err && (t.tick != n || t.applied != k || t.posted != n / p ||
			     t.inflight != n / p - k || (t.napplied && t.staleness != delay)))
			err = -EBADMSG;
		for (i = 0; i < COUNT && !err; i++) {
			const float want = job_initial(i) +
					   (float)(p * k) * job_mean_update(j->nranks, i) +
					   (float)(n - p * k) * job_update(me, i);

			if (j->x[me][i] != want) {
				printf("rank %d, tick %u, element %u: %g, not %g\n", me, n, i,
				       (double)j->x[me][i], (double)want);
				err = -EBADMSG;
			}
		}
	}
	return job_close(d, err);
}

int job_agree(struct gyre_comm *comm, bool ok)
{
	uint64_t flags = ok;
	const int err = gyre_comm_agree(comm, &flags);

	return err && err != -EOWNERDEAD ? err : flags == 1;
}

int job_recover_once(struct gyre_delayed *d, struct gyre_comm **comm)
{
	struct gyre_comm *left;
	int err = gyre_comm_shrink(*comm, &left);

	if (err)
		return err;
	gyre_comm_destroy(*comm);
	*comm = left;
	err = gyre_delayed_rebind(d, left);
	return job_agree(left, !err);
}

int job_recover(struct gyre_delayed *d, struct gyre_comm **comm)
{
	int ok;

	do
		ok = job_recover_once(d, comm);
	while (ok == 0);
	return ok < 0 ? ok : 0;
}

void job_bury(struct gyre_delayed *d)
{
	if (!d)
		return;
	gy_free(d->rounds);
	gy_free(d->inflight);
	gy_free(d->commit_ticks);
	gy_free(d->members);
	gy_free(d->standings);
	gy_free(d);
}

void job_check_equal(const struct job *j)
{
	int r;

	for (r = 1; r < j->nranks; r++)
		assert_memory_equal(j->x[r], j->x[0], sizeof(j->x[0]));
}
