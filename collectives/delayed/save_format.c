/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collectives/delayed/save_format.c - the words and vectors of a saved handle, one after the other
 * in either direction; see save.h.
 */
#include "collectives/delayed/save.h"

#include <errno.h>
#include <string.h>

#include "lib/log.h"

struct save_field {
	const char *name;
	uint64_t value;
};

int gy_save_bytes(struct gy_save_io *io, void *buf, size_t len)
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

uint64_t gy_save_order(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(word);
#else
	return word;
#endif
}

/* Beyond the end only counts, which the caller finds. */
static void save_u64(struct gy_save_words *w, uint64_t *value)
{
	if (w->n < w->max && w->loading)
		*value = gy_save_order(w->word[w->n]);
	else if (w->n < w->max)
		w->word[w->n] = gy_save_order(*value);
	w->n++;
}

static void save_u32(struct gy_save_words *w, uint32_t *value)
{
	uint64_t word = *value;

	save_u64(w, &word);
	*value = (uint32_t)word;
}

static void save_double(struct gy_save_words *w, double *value)
{
	uint64_t word = save_double_bits(*value);

	save_u64(w, &word);
	memcpy(value, &word, sizeof(*value));
}

static void save_stats(struct gy_save_words *w, struct gyre_delayed_stats *s)
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

static void save_one_round(struct gy_save_words *w, struct gy_save_round *r)
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

static void save_numbers(struct gy_save_words *w, struct gy_save_state *s)
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
	save_u64(w, &s->model_round);
	save_u64(w, &s->switched);
	save_u64(w, &s->nsets);
	save_u64(w, &s->nchanges);
	save_double(w, &s->weight);
	for (i = 0; i < GY_DELAYED_CHANGES; i++) {
		save_u64(w, &s->changes[i].round);
		save_u64(w, &s->changes[i].not_before);
		save_u32(w, &s->changes[i].delay);
		save_u32(w, &s->changes[i].period);
	}
	save_stats(w, &s->stats);
}

/* Whether the handle can be there.  Changes wait only after a set, which is the end of a switch. */
static bool save_is_possible(const struct gyre_delayed *d, const struct gy_save_state *s)
{
	return s->applied <= s->posted && s->posted - s->applied <= d->nrounds &&
	       s->done <= s->posted && s->nchanges <= GY_DELAYED_CHANGES && s->period &&
	       s->delay <= UINT32_MAX && s->period <= UINT32_MAX && s->switched <= 1 &&
	       (s->switched || !s->nchanges);
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
		{ "switch_tick", a->switch_tick },
		{ "switch_period", a->switch_period },
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

	_Static_assert(GY_ARRAY_SIZE(fields) <= GY_SAVE_FIELDS, "save_describe");
	memcpy(out, fields, sizeof(fields));
	return GY_ARRAY_SIZE(fields);
}

static gy_cold int save_wrong_field(const struct save_field *f, uint64_t value)
{
	gy_err("gyre_delayed_load: %s was %llu when it was saved, and is %llu", f->name,
	       (unsigned long long)value, (unsigned long long)f->value);
	return -EPROTO;
}

static int save_fields(struct gy_save_words *w, const struct gyre_delayed *d)
{
	struct save_field fields[GY_SAVE_FIELDS];
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

int gy_save_all_words(struct gy_save_words *w, const struct gyre_delayed *d,
		      struct gy_save_state *s)
{
	uint64_t i;
	int err;

	err = save_fields(w, d);
	if (err)
		return err;
	save_numbers(w, s);
	if (!save_is_possible(d, s)) {
		gy_err("gyre_delayed_load: no such handle can be where this one was saved");
		return -EPROTO;
	}
	for (i = 0; i < s->posted - s->applied; i++)
		save_one_round(w, &s->rounds[i]);
	return 0;
}

/* ---- vectors ---- */

static int save_round_vectors(const struct gyre_delayed *d, const struct gy_save_state *s,
			      struct gy_save_io *io)
{
	uint64_t k;
	int err = 0;

	for (k = s->applied + 1; k <= s->posted && !err; k++) {
		const struct gy_round *r = gy_round_of(d, k);

		if (s->rounds[k - s->applied - 1].flags & GY_SAVE_CONTRIBUTES)
			err = gy_save_bytes(io, r->own,
					    d->attr.count * gyre_type_size(d->attr.type));
		if (!err && k <= s->done)
			err = gy_save_bytes(io, r->red,
					    d->attr.count * gyre_type_size(d->attr.wire));
	}
	return err;
}

int gy_save_vectors(const struct gyre_delayed *d, const struct gy_save_state *s,
		    struct gy_save_io *io)
{
	void *const vectors[] = { d->base, d->anchor, d->velocity, d->model };
	int err = 0;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(vectors) && !err; i++)
		if (vectors[i])
			err = gy_save_bytes(io, vectors[i],
					    d->attr.count * gyre_type_size(d->attr.type));
	return err ? err : save_round_vectors(d, s, io);
}
