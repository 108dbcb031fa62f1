/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/adapt.c - the controller of GYRE_DELAYED_ADAPT; adapt.h says what it is.
 *
 * At round k, a multiple of the window W: what round k - W's reduction has found is decided upon
 * (for round k + 1 on), and what has been measured of W rounds up to k - ring, which this rank has
 * merged by then, goes into a new reduction.
 *
 * A round's measures, each the least over the ranks, since who posts last has waited for nobody:
 *
 *	latency		from its start to the end of its sum of two weights
 *	transfer	to the end of its payload, from there on or from the end of the round before
 *	done		from its start to its end
 *	control		from its end to its commit; not of the leader, who is told first
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "collectives/delayed/adapt.h"
#include "collectives/delayed/delayed.h"
#include "lib/alloc.h"
#include "lib/log.h"

#define ADAPT_MARGIN 1.1
#define ADAPT_CHANGE 0.25
#define ADAPT_VOTES 3
#define ADAPT_MAX_ROUNDS 256	/* that are looked at of a window */
#define ADAPT_PERCENTILE 0.95

enum adapt_value { ADAPT_LATENCY, ADAPT_TRANSFER, ADAPT_DONE, ADAPT_CONTROL };

struct gy_adapt {
	unsigned window;
	unsigned nrounds;		/* measured of each */
	unsigned votes;
	uint64_t said;			/* round whose reduction has started; 0: none */
	/* Where the time since a window's end began. */
	uint64_t since_ns, since_blocked_ns, since_tick;
	uint64_t last_done_ns;		/* of the round merged last */
	struct gyre_request *request;
	double *samples;		/* GY_ADAPT_VALUES of round k at k % nsamples, negative */
	unsigned nsamples;
	double *said_values, *values;	/* ours, the ranks' maximum: see gy_adapt_measure */
};

/* ---- arithmetic ---- */

static int adapt_compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of n values, which are sorted; 0: of none. */
static double adapt_percentile(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), adapt_compare);
	return n ? v[(unsigned)ceil(ADAPT_PERCENTILE * n) - 1] : 0;
}

static double adapt_time(const double *of, enum adapt_value value)
{
	return of[value] > GY_ADAPT_UNKNOWN ? 0 - of[value] : 0;
}

void gy_adapt_measure(const double *values, unsigned nrounds, struct gy_adapt_measures *m)
{
	double transfer[ADAPT_MAX_ROUNDS], latency[ADAPT_MAX_ROUNDS];
	double total[ADAPT_MAX_ROUNDS], control[ADAPT_MAX_ROUNDS];
	unsigned i, n = 0;

	gy_assert(nrounds <= ADAPT_MAX_ROUNDS);
	for (i = 0; i < nrounds; i++) {
		const double *const of = values + 1 + (size_t)i * GY_ADAPT_VALUES;

		if (of[ADAPT_DONE] <= GY_ADAPT_UNKNOWN)
			continue;
		latency[n] = adapt_time(of, ADAPT_LATENCY);
		transfer[n] = adapt_time(of, ADAPT_TRANSFER);
		control[n] = adapt_time(of, ADAPT_CONTROL);
		total[n++] = adapt_time(of, ADAPT_DONE) + adapt_time(of, ADAPT_CONTROL);
	}
	*m = (struct gy_adapt_measures){
		.step = values[0],
		.transfer = adapt_percentile(transfer, n),
		.latency = adapt_percentile(latency, n),
		.total = adapt_percentile(total, n),
		.control = adapt_percentile(control, n),
		.nrounds = n,
	};
}

/* Ticks that a time takes, and a tenth more: at least 1, at most `most`. */
static uint32_t adapt_ticks(double time, double step, uint32_t most)
{
	const double ticks = ceil(ADAPT_MARGIN * time / step);

	return ticks >= most ? most : ticks > 1 ? (uint32_t)ticks : 1;
}

struct gy_adapt_schedule gy_adapt_choose(const struct gy_adapt_measures *m,
					 const struct gy_adapt_limits *limits)
{
	const double step = m->step > 1e-9 ? m->step : 1e-9;
	struct gy_adapt_schedule s = {
		.delay = adapt_ticks(m->total, step, limits->max_delay),
		.period = adapt_ticks(m->transfer, step, limits->max_period),
	};
	const uint64_t need = ((uint64_t)s.delay + limits->ring - 1) / limits->ring;

	if (s.period < need)		/* no room for as many rounds */
		s.period = need < limits->max_period ? (uint32_t)need : limits->max_period;
	if (s.delay > (uint64_t)s.period * limits->ring)
		s.delay = s.period * limits->ring;
	return s;
}

static bool adapt_is_off(uint32_t now, uint32_t choice)
{
	return fabs((double)choice - now) >= ADAPT_CHANGE * now;
}

bool gy_adapt_vote(unsigned *votes, const struct gy_adapt_schedule *now,
		   const struct gy_adapt_schedule *choice)
{
	if (!((choice->delay != now->delay && adapt_is_off(now->delay, choice->delay)) ||
	      (choice->period != now->period && adapt_is_off(now->period, choice->period)))) {
		*votes = 0;
		return false;
	}
	if (++*votes < ADAPT_VOTES)
		return false;
	*votes = 0;
	return true;
}

/* ---- of a handle ---- */

static unsigned adapt_nvalues(const struct gy_adapt *a)
{
	return 1 + a->nrounds * GY_ADAPT_VALUES;
}

/* A window is as long as rounds may be in flight, and one more: see gy_adapt_turn. */
int gy_adapt_create(struct gyre_delayed *d)
{
	struct gy_adapt *a;

	if (!(d->attr.flags & GYRE_DELAYED_ADAPT))
		return 0;
	a = gy_alloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	d->adapt = a;
	a->window = (unsigned)gy_max(d->attr.adapt_window, d->nrounds + 1);
	a->nrounds = (unsigned)gy_min(a->window, ADAPT_MAX_ROUNDS);
	a->nsamples = a->nrounds + d->nrounds;
	a->samples = gy_alloc_array(a->nsamples, GY_ADAPT_VALUES * sizeof(*a->samples));
	a->said_values = gy_alloc_array(adapt_nvalues(a), sizeof(*a->said_values));
	a->values = gy_alloc_array(adapt_nvalues(a), sizeof(*a->values));
	gy_engine_enter(&d->ctx->engine);
	a->request = gy_request_get(&d->ctx->engine);
	gy_engine_leave(&d->ctx->engine);
	return a->samples && a->said_values && a->values && a->request ? 0 : -ENOMEM;
}

void gy_adapt_destroy(struct gyre_delayed *d)
{
	struct gy_adapt *a = d->adapt;

	if (!a)
		return;
	if (a->request) {
		gy_engine_enter(&d->ctx->engine);
		a->request->persistent = false;
		gy_request_put(&d->ctx->engine, a->request);
		gy_engine_leave(&d->ctx->engine);
	}
	gy_free(a->samples);
	gy_free(a->said_values);
	gy_free(a->values);
	gy_free(a);
	d->adapt = NULL;
}

static double *adapt_sample(const struct gy_adapt *a, uint64_t round)
{
	return a->samples + round % a->nsamples * GY_ADAPT_VALUES;
}

static void adapt_since(struct gyre_delayed *d, uint64_t blocked_ns)
{
	struct gy_adapt *a = d->adapt;

	a->since_ns = gy_delayed_now(d);
	a->since_blocked_ns = d->stats.blocked_ns + blocked_ns;
	a->since_tick = d->tick;
}

void gy_adapt_reset(struct gyre_delayed *d)
{
	struct gy_adapt *a = d->adapt;
	size_t i;

	if (!a)
		return;
	a->request->active = false;
	a->votes = 0;
	a->said = 0;
	a->last_done_ns = 0;
	for (i = 0; i < (size_t)a->nsamples * GY_ADAPT_VALUES; i++)
		a->samples[i] = GY_ADAPT_UNKNOWN;
	for (i = 0; i < adapt_nvalues(a); i++)
		a->said_values[i] = GY_ADAPT_UNKNOWN;
	adapt_since(d, 0);
}

static bool adapt_is_over(const struct gyre_delayed *d)
{
	const struct gy_adapt *a = d->adapt;

	return !a->said ||
	       atomic_load_explicit(&a->request->run.state, memory_order_acquire) == GY_RUN_DONE;
}

int gy_adapt_start(struct gyre_delayed *d, uint64_t round)
{
	struct gy_adapt *a = d->adapt;
	struct gyre_request *req;
	int err;

	if (!a || round % a->window || a->said == round)
		return 0;
	if (!adapt_is_over(d))
		return -EAGAIN;
	req = a->request;
	req->comm = d->comm;
	req->kind = GY_REQ_COLL;
	req->coll = GY_ALLREDUCE;
	req->op = GYRE_MAX;
	req->root = 0;
	req->in = a->said_values;
	req->out = a->values;
	req->count = adapt_nvalues(a);
	req->type = GYRE_F64;
	req->status = (struct gyre_status){ .source = -1, .tag = -1, .count = req->count };
	req->persistent = true;
	req->run.owned = true;
	err = gy_coll_start(&d->ctx->engine, req, false);
	if (!err)
		a->said = round;
	return err;
}

void gy_adapt_watch(struct gyre_delayed *d)
{
	uint64_t k;

	for (k = d->done + 1; d->adapt && k <= d->started; k++) {
		struct gy_round *r = gy_round_of(d, k);

		if (!r->sum_ns &&
		    atomic_load_explicit(&r->sum->run.state, memory_order_acquire) == GY_RUN_DONE)
			r->sum_ns = gy_delayed_now(d);
	}
}

/* Less than nothing: what the clock cannot tell. */
static double adapt_negative(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? -(double)(to_ns - from_ns) * 1e-9 : 0;
}

void gy_adapt_note(struct gyre_delayed *d, const struct gy_round *r)
{
	struct gy_adapt *a = d->adapt;
	uint64_t sum_ns;
	double *v;

	if (!a)
		return;
	sum_ns = r->sum_ns ? r->sum_ns : r->done_ns;
	v = adapt_sample(a, r->number);
	v[ADAPT_LATENCY] = adapt_negative(r->started_ns, sum_ns);
	v[ADAPT_TRANSFER] = adapt_negative(gy_max(sum_ns, a->last_done_ns), r->done_ns);
	v[ADAPT_DONE] = adapt_negative(r->started_ns, r->done_ns);
	v[ADAPT_CONTROL] = d->comm->rank == 0 ? GY_ADAPT_UNKNOWN
					      : adapt_negative(r->done_ns, r->committed_ns);
	a->last_done_ns = r->done_ns;
}

/* What there is to say at round k. */
static void adapt_collect(struct gyre_delayed *d, uint64_t k, uint64_t blocked_ns)
{
	struct gy_adapt *a = d->adapt;
	const uint64_t merged = k > d->nrounds ? k - d->nrounds : 0;
	const uint64_t waited_ns = d->stats.blocked_ns + blocked_ns - a->since_blocked_ns;
	const uint64_t passed_ns = gy_delayed_now(d) - a->since_ns;
	const uint64_t ticks = gy_max(d->tick - a->since_tick, 1);
	double *of = a->said_values + 1;
	uint64_t i;

	a->said_values[0] = -adapt_negative(waited_ns, passed_ns) / (double)ticks;
	for (i = 0; i < a->nrounds; i++, of += GY_ADAPT_VALUES) {
		if (i < merged)
			memcpy(of, adapt_sample(a, merged - i), GY_ADAPT_VALUES * sizeof(*of));
		else
			of[ADAPT_DONE] = GY_ADAPT_UNKNOWN;
	}
	adapt_since(d, blocked_ns);
}

/* Everything that it was decided upon, so that gy_adapt_choose says it again. */
static gy_cold void adapt_log(const struct gyre_delayed *d, uint64_t round,
			      const struct gy_adapt_measures *m,
			      const struct gy_adapt_limits *limits,
			      const struct gy_adapt_schedule *choice, bool change)
{
	const size_t bytes = d->attr.count * gyre_type_size(d->attr.wire);

	if (d->comm->rank != 0)		/* the others would say the same */
		return;
	gy_info("adapt: round %llu: %u rounds, step %.9g s, transfer %.9g s (%zu bytes, "
		"%.4g MB/s), latency %.9g s, total %.9g s, control %.9g s; limits %u %u, ring %u; "
		"delay %u -> %u, period %u -> %u: %s",
		(unsigned long long)round, m->nrounds, m->step, m->transfer, bytes,
		m->transfer > 0 ? (double)bytes / m->transfer * 1e-6 : 0, m->latency, m->total,
		m->control, limits->max_delay, limits->max_period, limits->ring, d->attr.delay,
		choice->delay, d->attr.period, choice->period,
		change ? "from the next round on" : "not yet");
}

static void adapt_decide(struct gyre_delayed *d, uint64_t k)
{
	const struct gy_adapt_limits limits = {
		.max_delay = d->attr.adapt_max_delay,
		.max_period = d->attr.adapt_max_period,
		.ring = d->nrounds,
	};
	const struct gy_adapt_schedule now = { d->attr.delay, d->attr.period };
	struct gy_adapt_schedule choice;
	struct gy_adapt_measures m;
	bool change;

	gy_adapt_measure(d->adapt->values, d->adapt->nrounds, &m);
	if (!m.nrounds)
		return;
	choice = gy_adapt_choose(&m, &limits);
	change = gy_adapt_vote(&d->adapt->votes, &now, &choice);
	adapt_log(d, k, &m, &limits, &choice, change);
	if (change)
		gy_delayed_change(d, &(struct gy_delayed_change){ .round = k + 1,
								  .delay = choice.delay,
								  .period = choice.period });
}

/*
 * The reduction of a window before is over by now, but for what the network did to it alone: rounds
 * after its own have been merged.
 */
int gy_adapt_turn(struct gyre_delayed *d, uint64_t *blocked_ns)
{
	const uint64_t k = d->posted + 1;
	struct gy_adapt *a = d->adapt;
	int err = 0;

	if (!a || k % a->window)
		return 0;
	gy_engine_enter(&d->ctx->engine);
	if (a->said && a->said + a->window == k) {
		err = gy_delayed_wait(d, adapt_is_over, blocked_ns);
		if (!err && !a->request->run.err)
			adapt_decide(d, k);
	}
	if (!err)
		adapt_collect(d, k, *blocked_ns);
	gy_engine_exit(&d->ctx->engine);
	return err;
}
