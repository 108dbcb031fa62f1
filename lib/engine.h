/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_ENGINE_H
#define GY_ENGINE_H
/*
 * The engine: runs plans.  One per context, one driver at a time.
 *
 * A run is one started plan.  It opens moves in program order, a window of them at a time; an open
 * move works grain by grain as its dependencies, inputs and outputs allow.  Streams carry grains
 * between the runs of two ranks:
 *
 *   EAGER	up to the eager limit, within the peer's allowance: one message with the bytes
 *   LEND	GY_CAP_LEND: messages that say where bytes lie; answered by RELEASE
 *   GRANT	GY_CAP_BULK: the receiver says how far the sender may send; grains follow.  RTS
 *		asks for a grant where the receiver expects an eager message or knows nothing yet
 *
 * Everything that a stream has to say follows from its state (released against told, ready against
 * sent ...), so a full small lane loses nothing: when there is room, streams are pumped again.
 *
 * Locking: one token.  Who holds it is the driver; everything below but the words marked atomic is
 * the driver's.  User threads take it to start an operation or while they wait for one; while
 * operations are outstanding and nobody waits, the progress thread takes it.  At most one thread,
 * the poller, sleeps on the poll set, without the token; the others that wait sleep on `news`.
 *
 *   run.c	runs, moves, dependencies		run_compute.c  the grains of moves
 *   stream.c	streams, by stream_in.c, stream_out.c	late.c	   who is awaited, and how long
 *   straight.c	the small-message executor, by line.c	peer.c	   connections and their loss
 *   pool.c	slots					engine.c   token, waiting, time
 *   deliver.c	small messages that come		park.c	   small messages that wait
 *   control.c	control messages beside operations
 */
#include <gyre/types.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "lib/coll.h"
#include "lib/kernels.h"
#include "lib/list.h"
#include "lib/transport.h"
#include "lib/util.h"

struct gyre_comm;
struct gyre_request;
struct gy_peer;
struct gy_thread;

#define GY_WINDOW 32		/* moves that a run has open at most, unless its plan needs more */
#define GY_STREAM_SLOTS 8	/* grains in flight of a stream that arrives in slots */
#define GY_STREAM_LENDS 8	/* LENDs in flight of a stream */
#define GY_STREAM_GRAINS 32	/* grains in flight of a stream that arrives in memory */
#define GY_MAX_RUNS 256		/* operations outstanding in a context */
#define GY_MAX_ENDS 128		/* inputs of a move */
#define GY_BOUNCE_BYTES (256 * 1024)
#define GY_LINE_ENDS 96		/* ends and moves of what can go by a straight line */
#define GY_FOLD_BYTES (16 * 1024)

enum gy_msg_kind {
	GY_MSG_EAGER = 1,	/* body: the whole stream */
	/*
	 * body: struct gy_lend_body: elements from off on can be read there; arg: recalls before
	 * (transport.h)
	 */
	GY_MSG_LEND,
	GY_MSG_RTS,		/* please grant */
	/*
	 * Send up to element off.  GY_CAP_WRITE: arg: ticket; body: struct gy_remote of each new
	 * grain's slot, or with GY_TICKET_WHOLE, once, of the whole stream
	 */
	GY_MSG_GRANT,
	GY_MSG_RELEASE,		/* elements before off may be reused */
	GY_MSG_GRAIN,		/* header on a bulk lane */
	GY_MSG_WAIT,		/* I wait for you in this call: compare fingerprints */
	GY_MSG_CREDIT,		/* only the credit field counts */
	GY_MSG_ABORT,		/* body: text; arg: errno: this communicator has failed */
	GY_MSG_BYE,		/* I leave and shall start nothing more */
	GY_MSG_BYE_ACK,		/* I need nothing more from you */
	GY_MSG_CONTROL,		/* control.h; arg: number of the port */
	GY_MSG_FENCE,		/* you have been declared dead; I hear you no more */
};

/*
 * Tickets: 24 bits name an in-stream to its peer; ticket << 8 | grain % 256 one of its grains.
 */
#define GY_TICKET_MAX 0xffffffu
#define GY_TICKET_WHOLE 0x80000000u

struct gy_lend_body {
	struct gy_remote remote;
	uint64_t n;		/* elements */
};

/* Memory of gyre_mem_alloc, or of the user's own that gyre_mem_register was told of. */
struct gy_mem {
	struct gy_list link;	/* struct gy_engine.mems */
	bool users;
	bool registered;	/* transports were told; else it is as ordinary memory */
	struct gy_nic *nic;	/* that made it; NULL: the system, or the user */
	void *ptr;
	size_t len;
};

struct gy_slot {
	struct gy_slot *next;	/* free list */
	void *mem;
	unsigned users;		/* streams that still send out of it */
};

struct gy_pool {
	struct gyre_context *ctx;
	size_t slot_size, max_slots;
	struct gy_slot *free;
	unsigned nslots, nfree;
	bool starved;		/* some stream found none */
	struct gy_list slabs;
};

/* Elements lent by the sender, not all consumed. */
struct gy_lent {
	uint64_t off, len;
	struct gy_remote remote;
};

/*
 * How a stream goes; an in-stream that could be eager or lent is OPEN until the first message says.
 */
enum gy_stream_mode { GY_BY_OPEN, GY_BY_EAGER, GY_BY_LEND, GY_BY_GRANT };

struct gy_stream {
	struct gy_list op_link;		/* struct gy_op.streams */
	struct gy_list peer_link;	/* struct gy_peer.streams */
	struct gy_run *run;
	struct gy_op *op;
	struct gy_peer *peer;
	uint32_t index;			/* number of the stream; point-to-point: 0 */
	bool out;
	/* out: something has been said (point-to-point: tag has gone) */
	bool first_sent;
	bool direct;			/* in by grant: grains land in user memory */
	/* in: something has come (an empty stream is one message) */
	bool got;
	bool finished;			/* nothing left to do, say or wait for */
	uint8_t mode;			/* enum gy_stream_mode */
	uint16_t nin;			/* in: which input of the move */
	uint64_t len;			/* elements */

	/* in: elements [0, avail) can be consumed; by grant, grains beyond it are in mask */
	uint64_t avail, told;		/* told: RELEASE or GRANT said so far */
	uint64_t mask;
	/* by grant: as mask: grains whose place a transport knows */
	uint64_t placed;
	uint64_t granted;		/* by grant: elements that have a place */
	struct gy_parked *eager;
	struct gy_slot
		*slot[GY_STREAM_SLOTS]; /* in by grant, and out of slots: of grain g at g % 8 */
	uint32_t lent_head, lent_tail;		/* LENDs in flight */
	/* in by lend: the peer's recalls, and how many it had made when these were known to hold */
	uint32_t recalls;
	const struct gy_recalls *recalls_of;

	/*
	 * out: [0, sent) have been handed over, [0, freed) let go; by grant, grains beyond in mask
	 */
	uint64_t sent, freed, limit;	/* limit: granted by the peer, elements */
	unsigned grains_out;		/* that the transport holds */
	bool via_slot;			/* memory cannot be lent, or sent: copy it to slots */
	/* GY_CAP_WRITE, in and out: names the stream in writes; 0: none yet */
	uint32_t ticket;

	/* From here on not cleared when a stream is made: each is written before it is read. */
	struct gy_lent lent[GY_STREAM_LENDS];	/* in, FIFO: [lent_head, lent_tail) */
	uint64_t lent_end[GY_STREAM_LENDS];	/* out by lend: where each in flight ends, FIFO */
	/* out: where grain g goes: at g % 8, or with direct, all at 0; in with direct: at 0 */
	struct gy_remote to[GY_STREAM_SLOTS];
};

/* A move of a run while it is open. */
struct gy_op {
	const struct gy_move *move;
	uint32_t index;			/* of the move */
	bool open;
	bool pure_send;			/* memory to streams: nothing to compute */
	bool ready;			/* free of hazards to the end; of an empty move too */
	bool computed;			/* to the end; of an empty move too */
	const struct gy_end *shape;	/* its first memory end: gives lengths */
	const struct gy_end *source;	/* memory that out streams are sent from; NULL: slots */
	const struct gy_end *mem_out;	/* the source too; or NULL */
	char *at;			/* where the source begins, when it lies in one piece: */
	bool whole;
	uint64_t len, ok, done;		/* elements: all; free of hazards; computed */
	unsigned nout;			/* out streams */
	struct gy_list streams;
};

struct gy_run {
	struct gy_list link;		/* struct gy_engine.runs; not those of straight lines */
	struct gy_list comm_link;	/* struct gyre_comm.runs */
	struct gyre_comm *comm;
	const struct gy_plan *plan;	/* NULL: a receive that waits for its message */
	struct gy_hdr hdr;		/* template: fingerprint, comm, seq, tag */
	int peer;			/* point-to-point: world rank; else -1 */
	void *mem[3];			/* by enum gy_space */
	size_t in_place_off;		/* of IN in OUT, in place, bytes */
	size_t es;			/* bytes of an element */
	uint64_t q, total;		/* block b is elements [b q, b q + q) cut at total */
	uint64_t grain;			/* elements */
	gy_reduce_fn *reduce;
	enum gyre_type type;
	unsigned divide;		/* AVG: divisor of final moves; else 0 */
	struct gy_op *ops;		/* of move m at m % window */
	uint32_t window, ops_size;
	uint32_t base, next;		/* oldest open move, next to open */
	bool dirty;			/* something may be possible */
	bool straight;			/* the straight-line executor has it */
	bool owned;			/* a port waits for its end: control.h */
	struct gy_line *line;		/* its plan compiled for that; line.h */
	struct gy_peer *waits_for;	/* straight: of which it last found nothing */
	uint64_t moved_ns;		/* last progress, coarse clock */
	uint64_t warned_ns, probed_ns;
	void *scratch;
	size_t scratch_size;
	/* enum gy_run_state; RUNNING -> DONE by the driver, release */
	_Atomic uint32_t state;
	int err;
	uint64_t received;		/* point-to-point: elements that came */
};

enum gy_run_state { GY_RUN_IDLE, GY_RUN_RUNNING, GY_RUN_DONE };

/* A message that nobody could use yet. */
struct gy_parked {
	struct gy_list link;		/* of a peer, a communicator or the engine */
	struct gy_peer *peer;
	unsigned size_class;
	struct gy_hdr hdr;
	uint8_t body[];
};

#define GY_PARK_CLASSES 4
#define GY_PAST 64

enum gy_poller {
	GY_POLLER_NONE,
	GY_POLLER_WAITS,	/* a thread that waits for something: it wants to hear of news */
	GY_POLLER_THREAD,	/* the progress thread: it wants to hear of work alone */
};

struct gy_engine {
	struct gyre_context *ctx;
	_Alignas(GY_CACHELINE) _Atomic uint32_t token;	/* 1: there is a driver */
	_Atomic uint32_t wanted;	/* threads that wait for the token */
	_Atomic uint32_t bell;		/* changes when one of them may have it */
	_Atomic uint32_t waiting;	/* threads that wait for news; written by the driver only */
	_Atomic uint32_t news;		/* changes when one of them should look again */
	_Atomic uint32_t poller;	/* enum gy_poller: who sleeps on the poll set */
	_Atomic uint32_t
		calls; /* user calls so far: the progress thread keeps away from busy callers */
	_Atomic uint32_t nap;		/* 1: the progress thread naps on this word */
	_Atomic uint32_t stop;		/* the progress thread should end */

	_Alignas(GY_CACHELINE) struct gy_list runs;	/* RUNNING, to be pumped */
	_Atomic uint32_t nruns;		/* written by the driver only */
	bool armed;			/* transports will wake the poller */
	struct gy_peer **peers;		/* by world rank; NULL: never named */
	struct gy_list comms;		/* struct gyre_comm.link, as the next two */
	struct gy_list coming;		/* that others may have already: gy_comm_expect */
	struct gy_list past;		/* destroyed ones, the last and who has failed untold */
	struct gy_list ports;		/* struct gy_port.link */
	struct gy_list dropped;		/* refused, and not said: struct gy_parked */
	struct gy_list early_control;	/* control messages for ports to come: struct gy_parked */
	bool ports_woken;
	struct gyre_comm *world;
	uint32_t next_ticket;
	uint32_t next_comm;		/* number of the next communicator that this rank names */
	struct gy_pool pool;
	const struct gy_kernels *kernels;
	struct gy_list mems;
	struct gy_list requests;	/* all, free or not */
	struct gyre_request *free_requests;	/* through link.next */
	struct gy_stream *free_streams;	/* through op_link.next; cached for good */
	struct gy_grain *free_grains;
	struct gy_parked *free_parked[GY_PARK_CLASSES];
	/* GY_BOUNCE_BYTES: where pulled inputs and gathered messages go */
	void *bounce;
	void *fold;			/* GY_FOLD_BYTES: see run_compute.c */
	bool leaving;			/* the context is being destroyed: peers may go */
	struct gy_thread *thread;	/* the progress thread, or NULL */
	uint32_t eager_bytes;
	uint32_t spin;			/* polls before a waiter yields */
	/* some peer's data come through descriptors: look each time */
	bool fd_data;
	unsigned fd_skipped;
	uint64_t clock_ns;		/* as of the last look at descriptors */
	uint64_t now_ns;		/* likewise, but it stands still while nobody drives */
	uint64_t tick_ns;		/* next tick */
	struct gy_stats {
		uint64_t grains, messages, sleeps, bytes_copied, bytes_reduced;
	} stats;
};

int gy_engine_init(struct gy_engine *e, struct gyre_context *ctx);
/* Stops the progress thread; then nothing runs any more. */
void gy_engine_stop(struct gy_engine *e);
void gy_engine_fini(struct gy_engine *e);
int gy_engine_start_thread(struct gy_engine *e);

/* The token.  enter counts as a user's call. */
static inline bool gy_driver_held(struct gy_engine *e)
{
	return atomic_load_explicit(&e->token, memory_order_relaxed) != 0;
}

static inline bool gy_engine_try(struct gy_engine *e)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(&e->token, &free, 1, memory_order_acquire,
						       memory_order_relaxed);
}

void gy_engine_enter_slow(struct gy_engine *e);
void gy_engine_rearm(struct gy_engine *e);
void gy_engine_leave_slow(struct gy_engine *e);
void gy_engine_notify_slow(struct gy_engine *e);

static inline void gy_engine_enter(struct gy_engine *e)
{
	if (gy_unlikely(!gy_engine_try(e)))
		gy_engine_enter_slow(e);
	atomic_store_explicit(&e->calls, atomic_load_explicit(&e->calls, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static inline uint32_t gy_engine_nruns(struct gy_engine *e)
{
	return atomic_load_explicit(&e->nruns, memory_order_relaxed);
}

/* Leaves without a look at what is left to do: to sleep or to yield. */
static inline void gy_engine_drop(struct gy_engine *e)
{
	gy_assert(gy_driver_held(e));
	atomic_store(&e->token, 0);
	if (gy_unlikely(atomic_load(&e->wanted)))
		gy_engine_leave_slow(e);
}

/* What this driver has begun or taken in, a poller that has been armed before does not know of. */
static inline void gy_engine_leave(struct gy_engine *e)
{
	if (gy_unlikely(atomic_load_explicit(&e->poller, memory_order_relaxed)) &&
	    (!e->armed || e->ports_woken || gy_engine_nruns(e)))
		gy_engine_rearm(e);
	gy_engine_drop(e);
}

/* One writer at a time, the driver: no read-modify-write is needed. */
static inline void gy_engine_count(struct gy_engine *e, int change)
{
	atomic_store_explicit(&e->nruns, gy_engine_nruns(e) + (uint32_t)change,
			      memory_order_relaxed);
}

/* Something that any run may have waited for is there. */
void gy_engine_mark_all(struct gy_engine *e);

/* Looks for work everywhere, once.  Returns how much was found.  Driver. */
int gy_engine_progress(struct gy_engine *e);

/* The part of progress that looks at descriptors and the clock; each time, or every so often. */
int gy_engine_poll_fds(struct gy_engine *e);

/*
 * Drives, or sleeps, until the run is DONE; the token is held before and after, not always between.
 */
void gy_engine_wait(struct gy_engine *e, struct gy_run *run);
/* One step of waiting, for loops of their own: *idle counts steps that found nothing. */
void gy_engine_wait_step(struct gy_engine *e, unsigned *idle);
/* Wakes the progress thread from its nap. */
void gy_engine_kick(struct gy_engine *e);
/* leave, and when operations are left that nobody waits for, kick. */
static inline void gy_engine_exit(struct gy_engine *e)
{
	const bool left = gy_engine_nruns(e) != 0;

	gy_engine_leave(e);
	if (gy_unlikely(left))
		gy_engine_kick(e);
}
/*
 * Wakes those who wait in this context: a run has become DONE, or something has come for one that
 * its own thread must see to.  Driver.
 */
static inline void gy_engine_notify(struct gy_engine *e)
{
	if (gy_unlikely(atomic_load_explicit(&e->waiting, memory_order_relaxed) ||
			atomic_load(&e->poller) == GY_POLLER_WAITS))
		gy_engine_notify_slow(e);
}

/* ---- run.c ---- */
/* Makes ready: ops for the plan's window, scratch.  May allocate the first time.  0 or -ENOMEM. */
int gy_run_prepare(struct gy_run *run, const struct gy_plan *plan);
/* The latter alone; with room for what a line keeps behind it. */
int gy_run_scratch(struct gy_run *run, const struct gy_plan *plan, size_t at_least);
void gy_run_fini(struct gy_run *run);
void gy_run_start(struct gy_engine *e,
		  struct gy_run *run); /* all fields set; never fails, the run may */
void gy_run_pump(struct gy_engine *e, struct gy_run *run);
/*
 * Completes a run; with err, streams are closed first and no peer can touch its memory any more.
 * A straight line that has succeeded needs less: gy_run_over (comm.h).
 */
void gy_run_end(struct gy_engine *e, struct gy_run *run, int err);
void *gy_run_at(const struct gy_run *run, const struct gy_end *end, uint64_t elem,
		uint64_t *contig);
/* The same of an open move's source, or mem_out. */
static inline void *gy_op_at(const struct gy_run *run, const struct gy_op *op, uint64_t elem,
			     uint64_t *contig)
{
	if (gy_unlikely(!op->whole))
		return gy_run_at(run, op->source, elem, contig);
	*contig = op->len - elem;
	return op->at + elem * run->es;
}
uint64_t gy_run_len(const struct gy_run *run, const struct gy_end *end);	/* elements */
int gy_run_world_rank(const struct gy_run *run, const struct gy_end *end);
/*
 * Whether it is a message, or the oldest collective of its communicator on this rank.  The oldest
 * that any rank has not ended is so wherever it runs: if it can go on, all end in their turn.
 */
bool gy_run_is_oldest(const struct gy_run *run);
/*
 * Whether other ranks' moves may wait for this one, while it cannot wait: it is in the window that
 * the plan asks for, and no collective before it holds what it lacks.
 */
static inline bool gy_run_needs(const struct gy_run *run, const struct gy_op *op)
{
	return op->index - run->base < run->plan->min_window && gy_run_is_oldest(run);
}
static inline uint64_t gy_run_block_len(const struct gy_run *run, uint32_t b)
{
	const uint64_t off = b * run->q;

	return off >= run->total ? 0 : run->total - off < run->q ? run->total - off : run->q;
}

/* ---- run_compute.c ---- */
/* dst = the fold of in[0..nin - 1], n elements each; final: divided, for averages. */
void gy_run_compute(struct gy_engine *e, struct gy_run *run, void *dst, const void *const *in,
		    unsigned nin, size_t n, bool final);
/* Copies n elements of an op's source memory, which may lie in pieces. */
void gy_op_gather(struct gy_engine *e, const struct gy_run *run, const struct gy_op *op,
		  uint64_t elem, uint64_t n, char *dst);
/* Computes what it can of an open move, at most one grain.  Returns 1: did something, 0, -errno. */
int gy_op_compute(struct gy_engine *e, struct gy_run *run, struct gy_op *op);

/* ---- late.c ---- */
/*
 * For a run that has not moved for a while: asks the ranks it waits for whether they are in the
 * same call; tells the log; gives up.  Also for a receive that waits for a message.
 */
void gy_run_check_late(struct gy_engine *e, struct gy_run *run);

/* ---- straight.c ---- */
void gy_straight_run(struct gy_engine *e, struct gy_run *run);

/* ---- stream.c, stream_in.c, stream_out.c ---- */
int gy_stream_open(struct gy_engine *e, struct gy_run *run, struct gy_op *op,
		   const struct gy_end *end, bool out, unsigned nin);
/* An in-stream whose message has come whole: its peer is not needed any more. */
static inline bool gy_stream_has_all(const struct gy_stream *s)
{
	return !s->out && s->got && (s->mode == GY_BY_EAGER || !s->len);
}
void gy_stream_close(struct gy_engine *e, struct gy_stream *s, bool abort);
/* Says and sends what can be said and sent.  Returns 0, or -errno that fails the run. */
int gy_stream_pump(struct gy_engine *e, struct gy_stream *s);
/* In: where elements from elem on can be read, and how many; NULL: pull them (gy_stream_pull). */
int gy_stream_read(struct gy_stream *s, uint64_t elem, const void **ptr, uint64_t *contig);
int gy_stream_pull(struct gy_stream *s, uint64_t elem, void *dst, uint64_t n);
/*
 * After reading what is lent: false, and the run has ended, when it may have been something else.
 * Hot: a load and a compare.
 */
gy_cold bool gy_stream_was_lent_slow(struct gy_stream *s);
static inline bool gy_stream_was_lent(struct gy_stream *s)
{
	return gy_likely(gy_none_recalled(s->recalls_of, s->recalls)) || gy_stream_was_lent_slow(s);
}
void gy_stream_consumed(struct gy_engine *e, struct gy_stream *s, uint64_t upto);
/* The open stream that hdr belongs to, or NULL. */
struct gy_stream *gy_stream_find(const struct gy_peer *peer, const struct gy_hdr *hdr);
/*
 * Takes in a message of its; p: as parked, or NULL.  -EPROTO: it does not fit; -ENOMEM.
 */
int gy_stream_take(struct gy_engine *e, struct gy_stream *s, const struct gy_hdr *hdr,
		   const void *body, struct gy_parked *p);
void gy_stream_bad_message(struct gy_peer *peer);

/* ---- park.c ---- */
struct gy_parked *gy_park(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr,
			  const void *body);
/* Frees it; gy_unpark: its eager bytes have been consumed: gives credit too. */
void gy_park_free(struct gy_engine *e, struct gy_parked *p);
void gy_unpark(struct gy_engine *e, struct gy_parked *p);

/* ---- pool.c ---- */
int gy_pool_init(struct gy_pool *pool, struct gyre_context *ctx, size_t slot_size, size_t bytes);
void gy_pool_fini(struct gy_pool *pool);
/*
 * NULL: none now.  needed: beyond the pool's size if it must be; for a stream that holds none, of a
 * move that others may wait for.  So every run can go on in its turn, whatever others hold.
 */
struct gy_slot *gy_slot_get(struct gy_pool *pool, bool needed);
void gy_slot_put(struct gy_pool *pool, struct gy_slot *slot);

/* ---- mem.c ---- */
/* Memory for peers to map, from the transport *nicp, or NULL: plain pages. */
int gy_mem_get(struct gyre_context *ctx, size_t len, struct gy_nic **nicp, void **ptrp);
void gy_mem_put(struct gy_nic *nic, void *ptr, size_t len);
/* Tells all transports of memory.  The first error of one; nothing has changed then. */
int gy_mem_register(struct gyre_context *ctx, void *ptr, size_t len);
void gy_mem_unregister(struct gyre_context *ctx, void *ptr, size_t len);

/* ---- peer.c ---- */
/* All endpoints closed and freed; with drain, after goodbyes. */
void gy_peers_close(struct gy_engine *e, bool drain);
void gy_peers_tick(struct gy_engine *e);
/* A connected peer's share of deliver: BYE, BYE_ACK. */
void gy_peer_bye(struct gy_engine *e, struct gy_peer *peer, const struct gy_hdr *hdr);
#endif
