/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/save.c - a handle's state out of one job and into another; as save.h says it
 * is written.
 *
 * On load, rounds that some rank has merged are committed: they were done on every rank before it
 * did, and so before any rank saved.  Later ones start again, with what was contributed, and give
 * the same bits.
 * Locking: the handle's numbers are taken down with the token held; what is written then, nobody
 * changes: contributions, and sums of rounds that are done.
 * Failure: of load, on all ranks; the handle is then good for destruction only.
 */
#include "collectives/delayed/save.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <gyre/coll.h>

#include "collectives/delayed/merge.h"
#include "lib/alloc.h"
#include "lib/log.h"

/* ---- save ---- */

static void save_take_round(const struct gy_round *r, struct gy_save_round *s)
{
	*s = (struct gy_save_round){
		.flags = (r->contributes ? GY_SAVE_CONTRIBUTES : 0) |
			 (r->in_place ? GY_SAVE_IN_PLACE : 0) |
			 (r->averaged ? GY_SAVE_AVERAGED : 0) |
			 (r->abstains ? GY_SAVE_ABSTAINS : 0),
		.post_tick = r->post_tick,
		.apply_tick = r->apply_tick,
		.taken_before = r->taken_before,
		.post_before = r->post_before,
		.weight = r->weight,
		.weights = { r->weights[0], r->weights[1] },
		.sums = { r->sums[0], r->sums[1] },
	};
}

/* Token held. */
static void save_take(struct gyre_delayed *d, struct gy_save_state *s)
{
	uint64_t k;

	gy_rounds_pump(d);
	s->tick = d->tick;
	s->posted = d->posted;
	s->done = d->done;
	s->applied = d->applied;
	s->last_post = d->last_post;
	s->taken = d->taken;
	s->next = d->next;
	s->last_apply = d->last_apply;
	s->delay = d->attr.delay;
	s->period = d->attr.period;
	s->model_round = d->model_round;
	s->switched = d->switched;
	s->nsets = d->nsets;
	s->nchanges = d->nchanges;
	s->weight = d->weight;
	memcpy(s->changes, d->changes, sizeof(s->changes));
	s->stats = d->stats;
	for (k = d->applied + 1; k <= d->posted; k++)
		save_take_round(gy_round_of(d, k), &s->rounds[k - d->applied - 1]);
}

static int save_write(struct gyre_delayed *d, struct gy_save_state *s, struct gy_save_words *w,
		      struct gy_save_io *io)
{
	struct gy_save_io count = { .bytes = 0 };
	uint64_t prefix[GY_SAVE_PREFIX] = { GY_SAVE_MAGIC, GY_SAVE_VERSION };
	size_t i;
	int err;

	w->n = GY_SAVE_PREFIX;
	err = gy_save_all_words(w, d, s);
	gy_assert(!err && w->n <= w->max);
	gy_save_vectors(d, s, &count);
	prefix[2] = w->n;
	prefix[3] = count.bytes;
	for (i = 0; i < GY_SAVE_PREFIX; i++)
		w->word[i] = gy_save_order(prefix[i]);
	err = gy_save_bytes(io, w->word, w->n * sizeof(*w->word));
	return err ? err : gy_save_vectors(d, s, io);
}

/* Room for the words of any state of the handle, and its rounds. */
static int save_room(const struct gyre_delayed *d, struct gy_save_state *s, struct gy_save_words *w)
{
	w->max = GY_SAVE_PREFIX + GY_SAVE_FIELDS + sizeof(*s) / sizeof(uint64_t) +
		 GY_DELAYED_CHANGES + d->nrounds * sizeof(*s->rounds) / sizeof(uint64_t);
	w->word = gy_alloc_array(w->max, sizeof(*w->word));
	s->rounds = gy_alloc_array(d->nrounds, sizeof(*s->rounds));
	return w->word && s->rounds ? 0 : -ENOMEM;
}

int gyre_delayed_save(struct gyre_delayed *d,
		      int (*write)(void *arg, const void *buf, size_t len), void *arg)
{
	struct gy_save_state state = { .tick = 0 };
	struct gy_save_words words = { .loading = false };
	struct gy_save_io io = { .write = write, .arg = arg };
	int err;

	if (!d || !write) {
		gy_err("gyre_delayed_save: %s is NULL", d ? "write" : "d");
		return -EINVAL;
	}
	gy_delayed_begin(d);
	err = save_room(d, &state, &words);
	if (!err) {
		gy_engine_enter(&d->ctx->engine);
		save_take(d, &state);
		gy_engine_leave(&d->ctx->engine);
		err = save_write(d, &state, &words, &io);
	}
	gy_free(state.rounds);
	gy_free(words.word);
	return err;
}

/* ---- load ---- */

static gy_cold int load_wrong(const char *what)
{
	gy_err("gyre_delayed_load: %s", what);
	return -EPROTO;
}

/* The words before all others, as this version writes them. */
static int load_prefix(const struct gy_save_words *w, struct gy_save_io *io)
{
	size_t i;
	int err;

	err = gy_save_bytes(io, w->word, GY_SAVE_PREFIX * sizeof(*w->word));
	if (err)
		return err;
	for (i = 0; i < GY_SAVE_PREFIX; i++)
		w->word[i] = gy_save_order(w->word[i]);
	if (w->word[0] != GY_SAVE_MAGIC)
		return load_wrong("this is not what gyre_delayed_save writes");
	if (w->word[1] == GY_SAVE_VERSION)
		return 0;
	gy_err("gyre_delayed_load: this was saved in format %llu, and this library reads %d: load "
	       "it with the library that saved it, drain, and go on from x with a new handle",
	       (unsigned long long)w->word[1], GY_SAVE_VERSION);
	return -EPROTO;
}

/* Words and vectors of this rank, into s and the handle's memory. */
static int load_read(struct gyre_delayed *d, struct gy_save_state *s, struct gy_save_words *w,
		     struct gy_save_io *io)
{
	struct gy_save_io count = { .bytes = 0 };
	size_t n;
	int err;

	err = load_prefix(w, io);
	if (err)
		return err;
	n = w->word[2];
	if (n <= GY_SAVE_PREFIX || n > w->max)
		return load_wrong("what was saved is longer than any state of this handle");
	err = gy_save_bytes(io, w->word + GY_SAVE_PREFIX, (n - GY_SAVE_PREFIX) * sizeof(*w->word));
	if (err)
		return err;
	w->max = n;
	w->n = GY_SAVE_PREFIX;
	err = gy_save_all_words(w, d, s);
	if (err)
		return err;
	gy_save_vectors(d, s, &count);
	if (w->n != n || w->word[3] != count.bytes)
		return load_wrong("what was saved has another length than its numbers say");
	return gy_save_vectors(d, s, io);
}

static int load_local(struct gyre_delayed *d, struct gy_save_state *s, struct gy_save_words *w,
		      struct gy_save_io *io)
{
	int err;

	if (d->tick || d->posted) {
		gy_err("gyre_delayed_load: the handle has been used");
		return -EINVAL;
	}
	err = save_room(d, s, w);
	return err ? err : load_read(d, s, w, io);
}

/* A rank's part in the agreement. */
struct load_said {
	int64_t err;
	uint64_t applied, done, tick;
};

/* Rounds up to *keep have been merged somewhere. */
static int load_agree(const struct gyre_delayed *d, const struct gy_save_state *s, int err,
		      uint64_t *keep, uint64_t *tick)
{
	const struct load_said own = {
		.err = err, .applied = s->applied, .done = s->done, .tick = s->tick
	};
	struct load_said *const all = (struct load_said *)d->standings;	/* room for them */
	const int n = d->calls->size;
	int r, failed;

	_Static_assert(sizeof(*all) <= sizeof(*d->standings), "standings are larger");
	failed = gyre_allgather(&own, all, sizeof(own), GYRE_UINT8, d->calls);
	*keep = *tick = 0;
	for (r = 0; r < n && !failed; r++) {
		failed = (int)all[r].err;
		*keep = gy_max(*keep, all[r].applied);
		*tick = gy_max(*tick, all[r].tick);
	}
	for (r = 0; r < n && !failed; r++)
		if (all[r].done < *keep)	/* COMMIT_NONE */
			failed = load_wrong("a rank had merged a round that was not done on all");
	return failed;
}

/* What is sent, from own, which has it as it was sent. */
static void load_send_again(const struct gyre_delayed *d, struct gy_round *r)
{
	const double steps = r->contributes ? round(r->weights[1] / r->weights[0]) : 1;
	const struct gy_merge_post p = {
		.n = d->attr.count,
		.type = d->attr.type,
		.wire = d->attr.wire,
		.own = r->own,
		.red = r->red,
		.scale = d->attr.flags & GYRE_DELAYED_BY_STEPS ? r->weight / steps : r->weight,
	};

	if (r->contributes && r->in_place)
		gy_merge_post(&p);
}

static void load_round(struct gyre_delayed *d, uint64_t k, const struct gy_save_round *s,
		       uint64_t keep, uint64_t tick)
{
	struct gy_round *r = gy_round_of(d, k);

	r->number = k;
	r->contributes = s->flags & GY_SAVE_CONTRIBUTES;
	r->in_place = s->flags & GY_SAVE_IN_PLACE;
	r->averaged = k <= keep && s->flags & GY_SAVE_AVERAGED;
	r->abstains = s->flags & GY_SAVE_ABSTAINS;
	r->nstarted = r->ndone = 0;
	r->post_tick = s->post_tick;
	r->apply_tick = s->apply_tick;
	r->taken_before = s->taken_before;
	r->post_before = s->post_before;
	r->weight = s->weight;
	memcpy(r->weights, s->weights, sizeof(r->weights));
	memcpy(r->sums, s->sums, sizeof(r->sums));
	r->done_tick = r->done_max = 0;
	r->state = k <= keep ? GY_ROUND_COMMITTED : GY_ROUND_POSTED;
	if (k > keep)
		load_send_again(d, r);
	if (d->attr.apply == GYRE_APPLY_AGREED && k > keep)
		r->apply_tick = GY_NO_TICK;
	else if (d->attr.apply == GYRE_APPLY_AGREED && r->apply_tick == GY_NO_TICK)
		r->apply_tick = tick + 1;
}

static void load_put(struct gyre_delayed *d, const struct gy_save_state *s, uint64_t keep,
		     uint64_t tick)
{
	uint64_t k;

	d->tick = s->tick;
	d->posted = s->posted;
	d->started = d->done = d->committed = keep;
	d->applied = s->applied;
	d->last_post = s->last_post;
	d->taken = s->taken;
	d->next = s->next;
	d->last_apply = s->last_apply;
	d->attr.delay = (uint32_t)s->delay;
	d->attr.period = (uint32_t)s->period;
	d->model_round = s->model_round;
	d->switched = s->switched;
	d->nsets = s->nsets;
	d->nchanges = (unsigned)s->nchanges;
	d->weight = s->weight;
	memcpy(d->changes, s->changes, sizeof(d->changes));
	d->stats = s->stats;
	d->start = gy_delayed_is_led(d) ? keep : GY_NO_TICK;
	for (k = s->applied + 1; k <= s->posted; k++)
		load_round(d, k, &s->rounds[k - s->applied - 1], keep, tick);
}

/* Rounds go on in a communicator in which nothing has been said yet. */
static int load_begin(struct gyre_delayed *d, struct gy_save_state *s, int err)
{
	struct gyre_comm *comm;
	uint64_t keep, tick;
	int failed;

	failed = gyre_comm_split(d->calls, 0, 0, &comm);
	if (failed)
		return failed;
	failed = load_agree(d, s, err, &keep, &tick);
	if (failed) {
		gyre_comm_destroy(comm);
		return failed;
	}
	gy_rounds_close(d);
	d->comm = comm;
	load_put(d, s, keep, tick);
	gy_rounds_open(d);
	return 0;
}

int gyre_delayed_load(struct gyre_delayed *d, int (*read)(void *arg, void *buf, size_t len),
		      void *arg)
{
	struct gy_save_state state = { .tick = 0 };
	struct gy_save_words words = { .loading = true };
	struct gy_save_io io = { .read = read, .arg = arg };
	int err;

	if (!d || !read) {
		gy_err("gyre_delayed_load: %s is NULL", d ? "read" : "d");
		return -EINVAL;
	}
	err = load_local(d, &state, &words, &io);
	err = load_begin(d, &state, err);
	gy_free(state.rounds);
	gy_free(words.word);
	return err;
}
