/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - the token, waiting, the progress thread, and time.
 *
 * Who waits: spins while that helps, yields, then sleeps.  One sleeper, the poller, sleeps on the
 * poll set, with the transports armed; it does not hold the token.  The others sleep on `news`,
 * which changes when a run completes, when something comes that the thread of a straight line must
 * see to, and when the poller has woken, for it may not be the poller again.  The progress thread
 * naps while user calls keep coming, since they drive; it is kicked when operations are left that
 * nobody waits for.
 *
 * Ordering: `token`, `wanted` and `bell` form a store-load pair (say, then look) and use
 * sequentially consistent operations: who wants the token adds itself to wanted, then looks at the
 * token; a driver lets the token go, then looks at wanted.  `waiting` and `news` change under the
 * token only.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "lib/agree.h"
#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "lib/request.h"

#define TICK_NS (20 * 1000 * 1000ull)
#define NAP_NS (20 * 1000 * 1000ull)
#define NAP_SHORT_NS (100 * 1000ull)
#define SLEEP_NS (100 * 1000 * 1000ull)
#define YIELDS 64		/* steps of a waiter that yield before it sleeps */
/*
 * Of the time between two looks, what counts at most: a rank that was stopped, or computed, has not
 * waited.
 */
#define UNDRIVEN_NS (3 * SLEEP_NS / 2)
#define FD_EVERY 64		/* progress calls between looks at descriptors that carry no data */

int gy_engine_init(struct gy_engine *e, struct gyre_context *ctx)
{
	const struct gy_config *cfg = &ctx->cfg;
	int err;

	e->ctx = ctx;
	gy_list_init(&e->runs);
	gy_list_init(&e->comms);
	gy_list_init(&e->coming);
	gy_list_init(&e->past);
	gy_list_init(&e->ports);
	gy_list_init(&e->dropped);
	gy_list_init(&e->early_control);
	gy_list_init(&e->requests);
	gy_list_init(&e->mems);
	e->kernels = gy_kernels_best();
	e->eager_bytes = (uint32_t)cfg->eager_bytes;
	e->next_comm = 1;
	err = gy_pool_init(&e->pool, ctx, gy_grain_max(cfg), cfg->pool_bytes);
	if (err)
		return err;
	e->peers = gy_alloc_array(ctx->nranks, sizeof(*e->peers));
	e->bounce = gy_alloc_aligned(4096, GY_BOUNCE_BYTES);
	e->fold = gy_alloc_aligned(GY_CACHELINE, GY_FOLD_BYTES);
	if (!e->peers || !e->bounce || !e->fold) {
		gy_engine_fini(e);
		e->ctx = NULL;
		return -ENOMEM;
	}
	e->clock_ns = e->now_ns = ctx->sys->ops->now_ns(ctx->sys);
	return 0;
}

static void engine_free_caches(struct gy_engine *e)
{
	unsigned c;

	while (e->free_streams) {
		struct gy_stream *s = e->free_streams;

		e->free_streams = (struct gy_stream *)s->op_link.next;
		gy_free(s);
	}
	while (e->free_grains) {
		struct gy_grain *g = e->free_grains;

		e->free_grains = (struct gy_grain *)g->link.next;
		gy_free(g);
	}
	for (c = 0; c < GY_PARK_CLASSES; c++) {
		while (e->free_parked[c]) {
			struct gy_parked *p = e->free_parked[c];

			e->free_parked[c] = (struct gy_parked *)p->link.next;
			gy_free(p);
		}
	}
}

void gy_engine_fini(struct gy_engine *e)
{
	struct gy_list *pos;

	while ((pos = gy_list_pop(&e->mems))) {
		struct gy_mem *m = gy_list_entry(pos, struct gy_mem, link);

		if (m->registered)
			gy_mem_unregister(e->ctx, m->ptr, m->len);
		if (!m->users)
			gy_mem_put(m->nic, m->ptr, m->len);
		gy_free(m);
	}
	gy_requests_free(e);
	engine_free_caches(e);
	gy_pool_fini(&e->pool);
	gy_free(e->fold);
	gy_free(e->bounce);
	gy_free(e->peers);
}

/* ---- token ---- */

static void engine_ring(struct gy_engine *e, _Atomic uint32_t *word)
{
	struct gy_sys *sys = e->ctx->sys;

	atomic_fetch_add(word, 1);
	sys->ops->notify_word(sys, word);
}

gy_cold void gy_engine_enter_slow(struct gy_engine *e)
{
	struct gy_sys *sys = e->ctx->sys;
	unsigned spins;
	uint32_t bell;

	atomic_fetch_add(&e->wanted, 1);
	for (;;) {
		for (spins = 0; spins < e->spin; spins++) {
			if (!atomic_load_explicit(&e->token, memory_order_relaxed) &&
			    gy_engine_try(e))
				goto got;
			GY_PAUSE();
		}
		bell = atomic_load(&e->bell);
		if (gy_engine_try(e))
			goto got;
		sys->ops->wait_word(sys, &e->bell, bell, SLEEP_NS);
	}
got:
	atomic_fetch_sub(&e->wanted, 1);
}

static void engine_take(struct gy_engine *e)
{
	if (gy_unlikely(!gy_engine_try(e)))
		gy_engine_enter_slow(e);
}

static void engine_disarm(struct gy_engine *e)
{
	unsigned i;

	e->armed = false;
	for (i = 0; i < GY_MAX_TRANSPORTS; i++)
		if (e->ctx->nics[i])
			e->ctx->nics[i]->ops->disarm(e->ctx->nics[i]);
}

/* Asleep with runnable work is what must never be; arm asks the transports. */
static bool engine_has_work(const struct gy_engine *e)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &e->runs) {
		if (gy_list_entry(pos, struct gy_run, link)->dirty)
			return true;
	}
	return e->ports_woken;
}

/* Transports wake the poller from now on.  True: there is work already. */
static bool engine_arm(struct gy_engine *e)
{
	bool work = false;
	unsigned i;

	e->armed = true;
	for (i = 0; i < GY_MAX_TRANSPORTS; i++)
		if (e->ctx->nics[i])
			work |= e->ctx->nics[i]->ops->arm(e->ctx->nics[i]) != 0;
	return work;
}

/*
 * A poller that sleeps must not miss what comes after this driver has gone.  What is there already
 * this driver does itself, once: that costs less than to wake the poller.
 */
gy_cold void gy_engine_rearm(struct gy_engine *e)
{
	struct gy_sys *sys = e->ctx->sys;

	if (!engine_has_work(e) && !engine_arm(e))
		return;
	gy_engine_progress(e);
	if (engine_has_work(e) || engine_arm(e))
		sys->ops->wake(sys, e->ctx);
}

gy_cold void gy_engine_leave_slow(struct gy_engine *e)
{
	engine_ring(e, &e->bell);
}

static void engine_tell_waiting(struct gy_engine *e)
{
	gy_assert(gy_driver_held(e));
	if (atomic_load_explicit(&e->waiting, memory_order_relaxed))
		engine_ring(e, &e->news);
}

gy_cold void gy_engine_notify_slow(struct gy_engine *e)
{
	struct gy_sys *sys = e->ctx->sys;

	engine_tell_waiting(e);
	if (atomic_load(&e->poller) == GY_POLLER_WAITS)
		sys->ops->wake(sys, e->ctx);
}

/* ---- time ---- */

/* A run that is ended changes the list: go on at the next tick. */
static void engine_check_late(struct gy_engine *e, struct gyre_comm *comm)
{
	const unsigned n = gy_engine_nruns(e);
	struct gy_list *pos;

	gy_list_for_each(pos, &comm->runs) {
		gy_run_check_late(e, gy_list_entry(pos, struct gy_run, comm_link));
		if (gy_engine_nruns(e) != n)
			break;
	}
}

static gy_cold void engine_tick(struct gy_engine *e)
{
	struct gy_list *pos;

	e->tick_ns = e->clock_ns + TICK_NS;
	if (gy_unlikely(e->pool.starved)) {	/* memory may be there again */
		e->pool.starved = false;
		gy_engine_mark_all(e);
	}
	if (e->ctx->wire)
		gy_wire_tick(e->ctx->wire, e->clock_ns);
	gy_peers_tick(e);
	gy_control_tick(e);
	gy_ports_wake(e);	/* some wait for a time */
	gy_p2p_release_dropped(e);
	gy_list_for_each(pos, &e->comms) {	/* who could not be told yet */
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (atomic_load_explicit(&comm->err, memory_order_relaxed))
			gy_comm_tell_all(comm);
		gy_p2p_tick(comm);
		gy_agree_tick(comm);
	}
	gy_list_for_each(pos, &e->past) {
		struct gyre_comm *comm = gy_list_entry(pos, struct gyre_comm, link);

		if (comm->untold)
			gy_comm_tell_all(comm);
	}
	gy_list_for_each(pos, &e->comms)
		engine_check_late(e, gy_list_entry(pos, struct gyre_comm, link));
}

/* ---- progress ---- */

void gy_engine_mark_all(struct gy_engine *e)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &e->runs)
		gy_list_entry(pos, struct gy_run, link)->dirty = true;
}

static int engine_pump(struct gy_engine *e)
{
	struct gy_list *pos = e->runs.next;
	int did = 0;

	while (pos != &e->runs) {
		struct gy_run *run = gy_list_entry(pos, struct gy_run, link);

		pos = pos->next;
		if (!run->dirty)
			continue;
		gy_run_pump(e, run);
		did++;
		if (gy_list_empty(pos))		/* it has ended too; the pumped are clean now */
			pos = e->runs.next;
	}
	return did;
}

int gy_engine_progress(struct gy_engine *e)
{
	struct gyre_context *ctx = e->ctx;
	int did = 0;
	unsigned i;

	gy_assert(gy_driver_held(e));
	if (gy_unlikely(e->armed))
		engine_disarm(e);
	for (i = 0; i < GY_MAX_TRANSPORTS; i++)
		if (ctx->nics[i])
			did += ctx->nics[i]->ops->progress(ctx->nics[i]);
	did += gy_engine_poll_fds(e);
	if (gy_unlikely(e->ports_woken))
		did += gy_ports_pump(e);
	did += engine_pump(e);
	return did;
}

int gy_engine_poll_fds(struct gy_engine *e)
{
	struct gyre_context *ctx = e->ctx;
	uint64_t now;
	int did = 0;

	/*
	 * Looking at descriptors costs a system call; where only shared memory moves data, that is
	 * for connections and their ends only, and every so often is enough.
	 */
	if (e->fd_data || ++e->fd_skipped >= FD_EVERY) {
		e->fd_skipped = 0;
		if (!ctx->sim)
			did = gy_poll_dispatch(&ctx->poll);
		now = ctx->sys->ops->now_ns(ctx->sys);
		e->now_ns += gy_min(now - e->clock_ns, UNDRIVEN_NS);
		e->clock_ns = now;
		if (gy_unlikely(now >= e->tick_ns))
			engine_tick(e);
	}
	return did;
}

/* ---- waiting ---- */

/* Somebody else is the poller. */
static void engine_sleep_on_news(struct gy_engine *e)
{
	const uint32_t news = atomic_load_explicit(&e->news, memory_order_relaxed);
	struct gy_sys *sys = e->ctx->sys;

	atomic_fetch_add_explicit(&e->waiting, 1, memory_order_relaxed);
	gy_engine_leave(e);
	sys->ops->wait_word(sys, &e->news, news, TICK_NS);
	engine_take(e);
	atomic_fetch_sub_explicit(&e->waiting, 1, memory_order_relaxed);
}

static void engine_sleep(struct gy_engine *e, enum gy_poller as)
{
	struct gy_sys *sys = e->ctx->sys;
	uint32_t none = GY_POLLER_NONE;

	gy_assert(!engine_has_work(e));
	e->fd_skipped = FD_EVERY;	/* look at everything after waking */
	if (!atomic_compare_exchange_strong(&e->poller, &none, as)) {
		engine_sleep_on_news(e);
		return;
	}
	if (engine_arm(e)) {
		atomic_store(&e->poller, GY_POLLER_NONE);
		engine_disarm(e);
		return;
	}
	e->stats.sleeps++;
	gy_engine_drop(e);
	sys->ops->sleep(sys, e->ctx, gy_engine_nruns(e) ? TICK_NS : SLEEP_NS);
	atomic_store(&e->poller, GY_POLLER_NONE);
	engine_take(e);
	engine_tell_waiting(e);		/* one of them may have to be the poller now */
}

/*
 * Lets other threads run, which may take as long as there is work for the processor: the token is
 * free meanwhile.  A poller needs no arming for that: what has come, this driver sees next.
 */
static void engine_yield(struct gy_engine *e)
{
	gy_engine_drop(e);
	e->ctx->sys->ops->yield(e->ctx->sys);
	engine_take(e);
}

/* Lets others who want the token have it. */
static void engine_hand_over(struct gy_engine *e)
{
	if (gy_likely(!atomic_load_explicit(&e->wanted, memory_order_relaxed)))
		return;
	gy_engine_leave(e);
	e->ctx->sys->ops->yield(e->ctx->sys);
	engine_take(e);
}

void gy_engine_wait_step(struct gy_engine *e, unsigned *idle)
{
	++*idle;
	if (*idle < e->spin) {
		GY_PAUSE();
	} else if (*idle < e->spin + YIELDS) {
		engine_yield(e);
	} else if (gy_engine_progress(e)) {
		/* callers that wait for one peer have looked at it alone */
		*idle = 0;
	} else {
		engine_sleep(e, GY_POLLER_WAITS);
		return;
	}
	engine_hand_over(e);
}

void gy_engine_wait(struct gy_engine *e, struct gy_run *run)
{
	unsigned idle = 0;

	while (atomic_load_explicit(&run->state, memory_order_acquire) == GY_RUN_RUNNING) {
		if (gy_engine_progress(e)) {
			idle = 0;
			engine_hand_over(e);
		} else {
			gy_engine_wait_step(e, &idle);
		}
	}
}

/* ---- the progress thread ---- */

void gy_engine_kick(struct gy_engine *e)
{
	struct gy_sys *sys = e->ctx->sys;

	if (e->thread && atomic_load(&e->nap) == 1) {
		atomic_store(&e->nap, 0);
		sys->ops->notify_word(sys, &e->nap);
	}
}

/*
 * Keeps away from callers: naps, the longer the longer they keep coming, then says whether to
 * drive.  With nothing outstanding there is time.
 */
static bool progress_nap(struct gy_engine *e, uint64_t *nap_ns)
{
	struct gy_sys *sys = e->ctx->sys;
	const uint32_t calls = atomic_load_explicit(&e->calls, memory_order_relaxed);
	uint32_t napping = 1;

	if (!gy_engine_nruns(e))
		*nap_ns = NAP_NS;
	atomic_store(&e->nap, 1);
	sys->ops->wait_word(sys, &e->nap, 1, *nap_ns);
	*nap_ns = gy_min(*nap_ns * 2, NAP_NS);
	return !atomic_compare_exchange_strong(&e->nap, &napping, 0) ||
	       calls == atomic_load_explicit(&e->calls, memory_order_relaxed);
}

/* Drives until there is nothing to do, or a caller comes; sleeps as the poller in between. */
static void progress_drive(struct gy_engine *e)
{
	uint32_t calls = atomic_load_explicit(&e->calls, memory_order_relaxed);
	unsigned idle = 0;

	while (!atomic_load(&e->stop) && !atomic_load(&e->wanted)) {
		if (gy_engine_progress(e))
			idle = 0;
		else
			idle++;
		if (!idle)
			continue;
		if (gy_engine_nruns(e) && idle < YIELDS) {
			engine_yield(e);
			continue;
		}
		engine_sleep(e, GY_POLLER_THREAD);
		/* Callers drive for themselves: leave them alone while they keep coming. */
		if (calls != atomic_load_explicit(&e->calls, memory_order_relaxed) &&
		    !gy_engine_nruns(e))
			break;
		calls = atomic_load_explicit(&e->calls, memory_order_relaxed);
	}
}

static void progress_main(void *arg)
{
	struct gy_engine *e = arg;
	uint64_t nap_ns = NAP_NS;

	while (!atomic_load(&e->stop)) {
		if (!progress_nap(e, &nap_ns) || !gy_engine_try(e))
			continue;	/* callers come, or one is driving */
		nap_ns = NAP_SHORT_NS;
		progress_drive(e);
		gy_engine_leave(e);
	}
}

int gy_engine_start_thread(struct gy_engine *e)
{
	struct gy_sys *sys = e->ctx->sys;

	return sys->ops->spawn(sys, progress_main, e, &e->thread);
}

void gy_engine_stop(struct gy_engine *e)
{
	struct gy_sys *sys;

	if (!e->thread)
		return;
	sys = e->ctx->sys;
	gy_engine_enter(e);
	atomic_store(&e->stop, 1);
	engine_tell_waiting(e);
	gy_engine_leave(e);
	gy_engine_kick(e);
	sys->ops->wake(sys, e->ctx);
	sys->ops->join(sys, e->thread);
	e->thread = NULL;
}
