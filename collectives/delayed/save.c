/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/save.c - a handle's state out of one job and into another.
 *
 * What is written: words of 8 bytes, little-endian - magic, version, their number, the bytes after
 * them; what the handle is, field by field; where it is; the rounds in flight - and then vectors as
 * they are in memory: base, anchor, velocity, and for each round in flight what this rank has
 * contributed and, if it is done here, the sum.
 *
 * On load, rounds that some rank has merged are committed: they were done on every rank before it
 * did, and so before any rank saved.  Later ones start again, with what was contributed, and give
 * the same bits.
 * Locking: the handle's numbers are taken down with the token held; what is written then, nobody
 * changes: contributions, and sums of rounds that are done.
 * Failure: of load, on all ranks; the handle is then good for destruction only.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <gyre/coll.h>
#include "collectives/delayed/delayed.h"
#include "collectives/delayed/merge.h"
#include "lib/alloc.h"
#include "lib/log.h"

#define SAVE_MAGIC UINT64_C(0x31796c6465727967)		/* "gyredly1" */
#define SAVE_VERSION 1
#define SAVE_PREFIX 4					/* words before all others */
#define SAVE_FIELDS 32					/* at most */

/* Of a round in flight. */
enum { SAVE_CONTRIBUTES = 1, SAVE_IN_PLACE = 2, SAVE_IGNORED = 4, SAVE_AVERAGED = 8 };

struct save_round {
	uint64_t flags, post_tick, apply_tick, taken_before, post_before;
	double weight, weights[2], sums[2];
};

/* The numbers of struct gyre_delayed, in its own words. */
struct save_state {
	uint64_t tick, posted, done, applied, last_post, taken, next, last_apply, delay, period;
	uint64_t model_known, nsets, nchanges;
	double weight, model_sum;
	struct gy_delayed_change changes[GY_DELAYED_CHANGES];
	struct gyre_delayed_stats stats;
	struct save_round *rounds;	/* applied + 1 .. posted; room for the handle's nrounds */
};

/* One way or the other; neither: counts. */
struct save_io {
	int (*write)(void *arg, const void *buf, size_t len);
	int (*read)(void *arg, void *buf, size_t len);
	void *arg;
	uint64_t bytes;
};

/* Words on their way, likewise: taken down (loading false) or put back. */
struct save_words {
	uint64_t *word;
	size_t n, max;
	bool loading;
};

struct save_field {
	const char *name;
	uint64_t value;
};

static int save_bytes(struct save_io *io, void *buf, size_t len)
{
	io->bytes += len;
	if (io->write)
		return io->write(io->arg, buf, len);
	return io->read ? io->read(io->arg, buf, len) : 0;
}

/* ---- words ---- */

static uint64_t save_double_bits(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* To and from little-endian. */
static uint64_t save_order(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(word);
#else
	return word;
#endif
}

/* Beyond the end only counts, which the caller finds. */
static void save_u64(struct save_words *w, uint64_t *value)
{
	if (w->n < w->max && w->loading)
		*value = save_order(w->word[w->n]);
	else if (w->n < w->max)
		w->word[w->n] = save_order(*value);
	w->n++;
}

static void save_u32(struct save_words *w, uint32_t *value)
{
	uint64_t word = *value;

	save_u64(w, &word);
	*value = (uint32_t)word;
}

static void save_double(struct save_words *w, double *value)
{
	uint64_t word = save_double_bits(*value);

	save_u64(w, &word);
	memcpy(value, &word, sizeof(*value));
}

static void save_stats(struct save_words *w, struct gyre_delayed_stats *s)
{
	save_u64(w, &s->posted);
	save_u64(w, &s->applied);
	save_u64(w, &s->skipped);
	save_u64(w, &s->aborted);
	save_u64(w, &s->abstained);
	save_u64(w, &s->blocked_ns);
	save_u64(w, &s->merge_ns);
	save_u64(w, &s->bytes);
	save_u32(w, &s->max_staleness);
}

static void save_one_round(struct save_words *w, struct save_round *r)
{
	save_u64(w, &r->flags);
	save_u64(w, &r->post_tick);
	save_u64(w, &r->apply_tick);
	save_u64(w, &r->taken_before);
	save_u64(w, &r->post_before);
	save_double(w, &r->weight);
	save_double(w, &r->weights[0]);
	save_double(w, &r->weights[1]);
	save_double(w, &r->sums[0]);
	save_double(w, &r->sums[1]);
}

static void save_numbers(struct save_words *w, struct save_state *s)
{
	unsigned i;

	save_u64(w, &s->tick);
	save_u64(w, &s->posted);
	save_u64(w, &s->done);
	save_u64(w, &s->applied);
	save_u64(w, &s->last_post);
	save_u64(w, &s->taken);
	save_u64(w, &s->next);
	save_u64(w, &s->last_apply);
	save_u64(w, &s->delay);
	save_u64(w, &s->period);
	save_u64(w, &s->model_known);
	save_u64(w, &s->nsets);
	save_u64(w, &s->nchanges);
	save_double(w, &s->weight);
	save_double(w, &s->model_sum);
	for (i = 0; i < GY_DELAYED_CHANGES; i++) {
		save_u64(w, &s->changes[i].round);
		save_u64(w, &s->changes[i].not_before);
		save_u32(w, &s->changes[i].delay);
		save_u32(w, &s->changes[i].period);
	}
	save_stats(w, &s->stats);
}

/* Whether the handle can be there. */
static bool save_is_possible(const struct gyre_delayed *d, const struct save_state *s)
{
	return s->applied <= s->posted && s->posted - s->applied <= d->nrounds &&
	       s->done <= s->posted && s->nchanges <= GY_DELAYED_CHANGES && s->period &&
	       s->delay <= UINT32_MAX && s->period <= UINT32_MAX;
}

/* What must be the same in the handle that loads. */
static size_t save_describe(const struct gyre_delayed *d, struct save_field *out)
{
	const struct gyre_delayed_attr *a = &d->attr;
	const struct save_field fields[] = {
		{ "number of ranks", (uint64_t)d->comm->size },
		{ "rank", (uint64_t)d->comm->rank },
		{ "count", a->count },
		{ "type", a->type },
		{ "wire", a->wire },
		{ "payload", a->payload },
		{ "trigger", a->trigger },
		{ "apply", a->apply },
		{ "merge", a->merge },
		{ "commit", a->commit },
		{ "flags", a->flags },
		{ "phase", a->phase },
		{ "min_steps", a->min_steps },
		{ "quorum", a->quorum },
		{ "max_delay", a->max_delay },
		{ "margin", a->margin },
		{ "ring", d->nrounds },
		{ "alpha", save_double_bits(a->alpha) },
		{ "outer_lr", save_double_bits(a->outer_lr) },
		{ "outer_momentum", save_double_bits(a->outer_momentum) },
		{ "outer_nesterov", (uint64_t)a->outer_nesterov },
		{ "outer", a->outer != NULL },
		{ "filter", a->filter != NULL },
	};

	_Static_assert(GY_ARRAY_SIZE(fields) <= SAVE_FIELDS, "save_describe");
	memcpy(out, fields, sizeof(fields));
	return GY_ARRAY_SIZE(fields);
}

static gy_cold int save_wrong_field(const struct save_field *f, uint64_t value)
{
	gy_err("gyre_delayed_load: %s was %llu when it was saved, and is %llu", f->name,
	       (unsigned long long)value, (unsigned long long)f->value);
	return -EPROTO;
}

static int save_fields(struct save_words *w, const struct gyre_delayed *d)
{
	struct save_field fields[SAVE_FIELDS];
	const size_t n = save_describe(d, fields);
	uint64_t value;
	size_t i;

	for (i = 0; i < n; i++) {
		value = fields[i].value;
		save_u64(w, &value);
		if (value != fields[i].value)
			return save_wrong_field(&fields[i], value);
	}
	return 0;
}

/* All words after the prefix.  -EPROTO: they do not fit this handle. */
static int save_all_words(struct save_words *w, const struct gyre_delayed *d, struct save_state *s)
{
	uint64_t i;
	int err;

	err = save_fields(w, d);
	if (err)
		return err;
	save_numbers(w, s);
	if (!save_is_possible(d, s))
		return -EPROTO;
	for (i = 0; i < s->posted - s->applied; i++)
		save_one_round(w, &s->rounds[i]);
	return 0;
}

/* ---- vectors ---- */

/* MODEL keeps the model merged last in the one slot that it has, in flight or not. */
static int save_model_vectors(const struct gyre_delayed *d, const struct save_state *s,
			      struct save_io *io)
{
	struct gy_round *r = &d->rounds[0];
	const bool has_red = s->posted > s->applied ? s->done == s->posted : s->model_sum != 0;
	int err;

	err = save_bytes(io, r->own, d->attr.count * gyre_type_size(d->attr.type));
	if (!err && has_red)
		err = save_bytes(io, r->red, d->attr.count * gyre_type_size(d->attr.wire));
	return err;
}

static int save_round_vectors(const struct gyre_delayed *d, const struct save_state *s,
			      struct save_io *io)
{
	uint64_t k;
	int err = 0;

	for (k = s->applied + 1; k <= s->posted && !err; k++) {
		const struct gy_round *r = gy_round_of(d, k);

		if (s->rounds[k - s->applied - 1].flags & SAVE_CONTRIBUTES)
			err = save_bytes(io, r->own, d->attr.count * gyre_type_size(d->attr.type));
		if (!err && k <= s->done)
			err = save_bytes(io, r->red, d->attr.count * gyre_type_size(d->attr.wire));
	}
	return err;
}

static int save_vectors(const struct gyre_delayed *d, const struct save_state *s,
			struct save_io *io)
{
	void *const vectors[] = { d->base, d->anchor, d->velocity };
	int err = 0;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(vectors) && !err; i++)
		if (vectors[i])
			err = save_bytes(io, vectors[i],
					 d->attr.count * gyre_type_size(d->attr.type));
	if (err)
		return err;
	return d->attr.payload == GYRE_PAYLOAD_MODEL ? save_model_vectors(d, s, io)
						     : save_round_vectors(d, s, io);
}

/* ---- save ---- */

static void save_take_round(const struct gy_round *r, struct save_round *s)
{
	*s = (struct save_round){
		.flags = (r->contributes ? SAVE_CONTRIBUTES : 0) |
			 (r->in_place ? SAVE_IN_PLACE : 0) | (r->ignored ? SAVE_IGNORED : 0) |
			 (r->averaged ? SAVE_AVERAGED : 0),
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
static void save_take(struct gyre_delayed *d, struct save_state *s)
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
	s->model_known = d->model_known;
	s->nsets = d->nsets;
	s->nchanges = d->nchanges;
	s->weight = d->weight;
	s->model_sum = d->model_sum;
	memcpy(s->changes, d->changes, sizeof(s->changes));
	s->stats = d->stats;
	for (k = d->applied + 1; k <= d->posted; k++)
		save_take_round(gy_round_of(d, k), &s->rounds[k - d->applied - 1]);
}

static int save_write(struct gyre_delayed *d, struct save_state *s, struct save_words *w,
		      struct save_io *io)
{
	struct save_io count = { .bytes = 0 };
	uint64_t prefix[SAVE_PREFIX] = { SAVE_MAGIC, SAVE_VERSION };
	size_t i;
	int err;

	w->n = SAVE_PREFIX;
	err = save_all_words(w, d, s);
	gy_assert(!err && w->n <= w->max);
	save_vectors(d, s, &count);
	prefix[2] = w->n;
	prefix[3] = count.bytes;
	for (i = 0; i < SAVE_PREFIX; i++)
		w->word[i] = save_order(prefix[i]);
	err = save_bytes(io, w->word, w->n * sizeof(*w->word));
	return err ? err : save_vectors(d, s, io);
}

/* Room for the words of any state of the handle, and its rounds. */
static int save_room(const struct gyre_delayed *d, struct save_state *s, struct save_words *w)
{
	w->max = SAVE_PREFIX + SAVE_FIELDS + sizeof(*s) / sizeof(uint64_t) + GY_DELAYED_CHANGES +
		 d->nrounds * sizeof(*s->rounds) / sizeof(uint64_t);
	w->word = gy_alloc_array(w->max, sizeof(*w->word));
	s->rounds = gy_alloc_array(d->nrounds, sizeof(*s->rounds));
	return w->word && s->rounds ? 0 : -ENOMEM;
}

int gyre_delayed_save(struct gyre_delayed *d,
		      int (*write)(void *arg, const void *buf, size_t len), void *arg)
{
	struct save_state state = { .tick = 0 };
	struct save_words words = { .loading = false };
	struct save_io io = { .write = write, .arg = arg };
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

/* Words and vectors of this rank, into s and the handle's memory. */
static int load_read(struct gyre_delayed *d, struct save_state *s, struct save_words *w,
		     struct save_io *io)
{
	struct save_io count = { .bytes = 0 };
	size_t i, n;
	int err;

	err = save_bytes(io, w->word, SAVE_PREFIX * sizeof(*w->word));
	if (err)
		return err;
	for (i = 0; i < SAVE_PREFIX; i++)
		w->word[i] = save_order(w->word[i]);
	if (w->word[0] != SAVE_MAGIC || w->word[1] != SAVE_VERSION)
		return load_wrong("this is not what gyre_delayed_save of this version writes");
	n = w->word[2];
	if (n <= SAVE_PREFIX || n > w->max)
		return load_wrong("what was saved is longer than any state of this handle");
	err = save_bytes(io, w->word + SAVE_PREFIX, (n - SAVE_PREFIX) * sizeof(*w->word));
	if (err)
		return err;
	w->max = n;
	w->n = SAVE_PREFIX;
	err = save_all_words(w, d, s);
	if (err)
		return err;
	save_vectors(d, s, &count);
	if (w->n != n || w->word[3] != count.bytes)
		return load_wrong("what was saved has another length than its numbers say");
	return save_vectors(d, s, io);
}

static int load_local(struct gyre_delayed *d, struct save_state *s, struct save_words *w,
		      struct save_io *io)
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
static int load_agree(const struct gyre_delayed *d, const struct save_state *s, int err,
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

static void load_round(struct gyre_delayed *d, uint64_t k, const struct save_round *s,
		       uint64_t keep, uint64_t tick)
{
	struct gy_round *r = gy_round_of(d, k);

	r->number = k;
	r->contributes = s->flags & SAVE_CONTRIBUTES;
	r->in_place = s->flags & SAVE_IN_PLACE;
	r->ignored = s->flags & SAVE_IGNORED;
	r->averaged = k <= keep && s->flags & SAVE_AVERAGED;
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

static void load_put(struct gyre_delayed *d, const struct save_state *s, uint64_t keep,
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
	d->model_known = s->model_known;
	d->nsets = s->nsets;
	d->nchanges = (unsigned)s->nchanges;
	d->weight = s->weight;
	d->model_sum = s->model_sum;
	memcpy(d->changes, s->changes, sizeof(d->changes));
	d->stats = s->stats;
	d->start = gy_delayed_is_led(d) ? keep : GY_NO_TICK;
	for (k = s->applied + 1; k <= s->posted; k++)
		load_round(d, k, &s->rounds[k - s->applied - 1], keep, tick);
}

/* Rounds go on in a communicator in which nothing has been said yet. */
static int load_begin(struct gyre_delayed *d, struct save_state *s, int err)
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
	struct save_state state = { .tick = 0 };
	struct save_words words = { .loading = true };
	struct save_io io = { .read = read, .arg = arg };
	int err;

	if (!d || !read) {
		gy_err("gyre_delayed_load: %s is NULL", d ? "read" : "d");
		return -EINVAL;
	}
	err = load_local(d, &state, &words, &io);
	err = load_begin(d, &state, err);
	d->residue = d->base && (d->attr.filter || d->attr.wire != d->attr.type);
	gy_free(state.rounds);
	gy_free(words.word);
	return err;
}
