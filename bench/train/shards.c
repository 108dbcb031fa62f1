/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/shards.c - images shared out over ranks, evenly or not. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/rng.h"
#include "bench/train/shards.h"

#define SHARDS_STREAM (1ull << 41) /* of random numbers: far from those of epochs */
#define SHARDS_TRIES 1000

struct shards {
	struct shards_spec spec;
	const struct dataset *set;
	uint32_t *mine; /* this rank's images; NULL: all ranks' */
	size_t nmine;
	uint32_t *order; /* of this pass */
	uint64_t pass;	 /* plus 1; 0: none yet */
};

/* Images label by label, each label's in a random order. */
static uint32_t *shards_by_label(const struct shards *s)
{
	const size_t count = s->set->count;
	uint32_t *sorted = calloc(count, sizeof(*sorted));
	size_t label, i, n = 0;

	if (!sorted)
		return NULL;
	data_shuffle(s->order, count, s->spec.seed + SHARDS_STREAM, 0);
	for (label = 0; label < DATA_CLASSES; label++)
		for (i = 0; i < count; i++)
			if (s->set->labels[s->order[i]] == label)
				sorted[n++] = s->order[i];
	return sorted;
}

static int shards_cut_sorted(struct shards *s, const uint32_t *sorted)
{
	const size_t count = s->set->count;
	const size_t first = count * s->spec.rank / s->spec.nranks;

	s->nmine = count * (s->spec.rank + 1) / s->spec.nranks - first;
	memcpy(s->mine, sorted + first, s->nmine * sizeof(*s->mine));
	return 0;
}

static double shards_unit(struct rng *rng)
{
	return ((rng_next(rng) >> 11) + 0.5) * 0x1p-53; /* (0, 1) */
}

static double shards_normal(struct rng *rng)
{
	const double radius = sqrt(-2 * log(shards_unit(rng)));

	return radius * cos(2 * M_PI * shards_unit(rng));
}

/* Marsaglia and Tsang 2000; below 1 by way of shape + 1. */
static double shards_gamma(struct rng *rng, double shape)
{
	const double d = (shape < 1 ? shape + 1 : shape) - 1 / 3.0;
	double x, v;

	do {
		x = shards_normal(rng);
		v = pow(1 + x / sqrt(9 * d), 3);
	} while (v <= 0 || log(shards_unit(rng)) > x * x / 2 + d * (1 - v + log(v)));
	return d * v * (shape < 1 ? pow(shards_unit(rng), 1 / shape) : 1);
}

/* Where each rank's share of n images ends. */
static void shards_draw_ends(struct rng *rng, double alpha, size_t n, int nranks, double *ends)
{
	double sum = 0;
	int r;

	for (r = 0; r < nranks; r++)
		ends[r] = sum += shards_gamma(rng, alpha);
	for (r = 0; r < nranks; r++)
		ends[r] = sum > 0 ? floor(n * (ends[r] / sum)) : (double)(n * (r + 1) / nranks);
}

/* Draws shares of all labels; the size of the smallest shard. */
static size_t shards_draw(struct shards *s, const uint32_t *sorted, struct rng *rng, double *ends,
			  size_t *sizes)
{
	const int nranks = s->spec.nranks, me = s->spec.rank;
	size_t first, n, begin, least = SIZE_MAX;
	int label, r;

	memset(sizes, 0, nranks * sizeof(*sizes));
	s->nmine = 0;
	for (label = 0, first = 0; label < DATA_CLASSES; label++, first += n) {
		for (n = 0; first + n < s->set->count; n++)
			if (s->set->labels[sorted[first + n]] != label)
				break;
		shards_draw_ends(rng, s->spec.alpha, n, nranks, ends);
		for (r = 0; r < nranks; r++) {
			begin = r ? (size_t)ends[r - 1] : 0;
			sizes[r] += (size_t)ends[r] - begin;
			if (r != me)
				continue;
			memcpy(s->mine + s->nmine, sorted + first + begin,
			       ((size_t)ends[r] - begin) * sizeof(*s->mine));
			s->nmine = sizes[r];
		}
	}
	for (r = 0; r < nranks; r++)
		least = sizes[r] < least ? sizes[r] : least;
	return least;
}

/* Until every rank has a batch: all ranks draw the same, so all see when. */
static int shards_cut_dirichlet(struct shards *s, const uint32_t *sorted)
{
	double *ends = calloc(s->spec.nranks, sizeof(*ends));
	size_t *sizes = calloc(s->spec.nranks, sizeof(*sizes));
	int err = ends && sizes ? -EINVAL : -ENOMEM, i;
	struct rng rng;

	rng_init(&rng, s->spec.seed, SHARDS_STREAM);
	for (i = 0; err == -EINVAL && i < SHARDS_TRIES; i++)
		if (shards_draw(s, sorted, &rng, ends, sizes) >= (size_t)s->spec.batch)
			err = 0;
	free(sizes);
	free(ends);
	return err;
}

static int shards_cut(struct shards *s)
{
	uint32_t *sorted = shards_by_label(s);
	int err = -ENOMEM;

	s->mine = calloc(s->set->count, sizeof(*s->mine));
	if (sorted && s->mine)
		err = strcmp(s->spec.kind, "sorted") == 0 ? shards_cut_sorted(s, sorted)
							  : shards_cut_dirichlet(s, sorted);
	free(sorted);
	return err;
}

int shards_create(const struct shards_spec *spec, const struct dataset *set,
		  struct shards **shardsp, struct why *why)
{
	struct shards *s = calloc(1, sizeof(*s));
	int err = 0;

	if (!s)
		return why_set(why, -ENOMEM, "out of memory");
	s->spec = *spec;
	s->set = set;
	if ((size_t)spec->nranks * spec->batch > set->count)
		err = why_set(why, -EINVAL,
			      "%d ranks x --batch %d are more images than there are (%zu)",
			      spec->nranks, spec->batch, set->count);
	if (err)
		goto destroy;
	s->order = calloc(set->count, sizeof(*s->order));
	if (!s->order)
		err = why_set(why, -ENOMEM, "out of memory");
	else if (strcmp(spec->kind, "iid") != 0)
		err = shards_cut(s);
	if (err == -EINVAL)
		why_set(why, err, "--alpha %g leaves some of %d ranks without a batch of images",
			spec->alpha, spec->nranks);
	if (err)
		goto destroy;
	*shardsp = s;
	return 0;

destroy:
	shards_destroy(s);
	return err;
}

void shards_destroy(struct shards *s)
{
	if (!s)
		return;
	free(s->order);
	free(s->mine);
	free(s);
}

int shards_steps(const struct shards *s)
{
	return s->set->count / ((size_t)s->spec.nranks * s->spec.batch);
}

static const uint32_t *shards_pick_shared(struct shards *s, uint64_t step)
{
	const uint64_t steps = shards_steps(s), epoch = step / steps;

	if (s->pass != epoch + 1)
		data_shuffle(s->order, s->set->count, s->spec.seed, epoch);
	s->pass = epoch + 1;
	return s->order + (step % steps * s->spec.nranks + s->spec.rank) * s->spec.batch;
}

const uint32_t *shards_pick(struct shards *s, uint64_t step)
{
	const uint64_t steps = s->nmine / s->spec.batch;
	size_t i;

	if (!s->mine)
		return shards_pick_shared(s, step);
	if (s->pass != step / steps + 1) {
		data_shuffle(s->order, s->nmine, s->spec.seed + (s->spec.rank + 1) * SHARDS_STREAM,
			     step / steps);
		for (i = 0; i < s->nmine; i++)
			s->order[i] = s->mine[s->order[i]];
		s->pass = step / steps + 1;
	}
	return s->order + step % steps * s->spec.batch;
}
