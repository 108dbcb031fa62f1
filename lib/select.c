/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * select.c - the table: collective x locality x ranks x bytes -> algorithm and grain.
 */
#include "lib/select.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/config.h"
#include "lib/log.h"
#include "lib/registry.h"
#include "lib/util.h"

#define ANY_RANKS UINT16_MAX
#define ANY_BYTES UINT64_MAX
#define KIB(n) ((n)*1024ull)
#define MIB(n) ((n)*1024ull * 1024)
#define GRAIN_MAX_LOG2 18
#define GRAIN_MIN_LOG2 6

#define NEAR GY_NEAR
#define WRITTEN GY_WRITTEN
#define FAR GY_FAR	/* and WRITTEN, where that has no row before it */

/* The first row that fits counts; max_bytes rises within one (coll, where, max_ranks). */
struct table_row {
	uint8_t coll, where;
	uint16_t max_ranks;
	uint64_t max_bytes;
	const char *algo;
	uint8_t grain_log2;
};

static const struct table_row table[] = {
	/* Near, each rank reads its peers' memory: fewest steps win until ranks are many. */
	{ GY_ALLREDUCE, NEAR, 2, KIB(64), "flat", 16 },
	{ GY_ALLREDUCE, NEAR, 4, KIB(8), "flat", 16 },
	{ GY_ALLREDUCE, NEAR, 8, KIB(4), "flat", 16 },
	{ GY_ALLREDUCE, NEAR, 64, KIB(4), "recursive_doubling", 16 },
	{ GY_ALLREDUCE, NEAR, 64, ANY_BYTES, "direct", 17 },
	{ GY_ALLREDUCE, NEAR, ANY_RANKS, KIB(8), "recursive_doubling", 16 },
	{ GY_ALLREDUCE, NEAR, ANY_RANKS, ANY_BYTES, "ring", 17 },
	{ GY_ALLREDUCE, FAR, 2, KIB(4), "flat", 16 },
	{ GY_ALLREDUCE, FAR, ANY_RANKS, KIB(16), "recursive_doubling", 16 },
	{ GY_ALLREDUCE, FAR, ANY_RANKS, KIB(256), "halving_doubling", 16 },
	/* A grain costs a request: smaller ones, as the last stands alone at each step's end. */
	{ GY_ALLREDUCE, WRITTEN, ANY_RANKS, MIB(16), "ring", 16 },
	{ GY_ALLREDUCE, FAR, ANY_RANKS, ANY_BYTES, "ring", 17 },

	{ GY_REDUCE_SCATTER, NEAR, 64, ANY_BYTES, "direct", 17 },
	{ GY_REDUCE_SCATTER, NEAR, ANY_RANKS, ANY_BYTES, "ring", 17 },
	{ GY_REDUCE_SCATTER, FAR, 8, KIB(64), "direct", 16 },
	{ GY_REDUCE_SCATTER, WRITTEN, ANY_RANKS, MIB(16), "ring", 16 },
	{ GY_REDUCE_SCATTER, FAR, ANY_RANKS, ANY_BYTES, "ring", 17 },

	{ GY_ALLGATHER, NEAR, 64, ANY_BYTES, "direct", 17 },
	{ GY_ALLGATHER, NEAR, ANY_RANKS, KIB(32), "bruck", 16 },
	{ GY_ALLGATHER, NEAR, ANY_RANKS, ANY_BYTES, "ring", 17 },
	{ GY_ALLGATHER, FAR, ANY_RANKS, KIB(32), "bruck", 16 },
	{ GY_ALLGATHER, FAR, ANY_RANKS, ANY_BYTES, "ring", 17 },

	{ GY_BROADCAST, NEAR, ANY_RANKS, KIB(64), "binomial", 16 },
	{ GY_BROADCAST, NEAR, ANY_RANKS, ANY_BYTES, "chain", 17 },
	{ GY_BROADCAST, FAR, ANY_RANKS, KIB(64), "binomial", 16 },
	{ GY_BROADCAST, FAR, 8, ANY_BYTES, "chain", 17 },
	{ GY_BROADCAST, FAR, 64, ANY_BYTES, "scatter_allgather", 17 },
	{ GY_BROADCAST, FAR, ANY_RANKS, ANY_BYTES, "chain", 17 },

	{ GY_BARRIER, NEAR, ANY_RANKS, ANY_BYTES, "dissemination", 16 },
	{ GY_BARRIER, FAR, ANY_RANKS, ANY_BYTES, "dissemination", 16 },
};

size_t gy_grain_max(const struct gy_config *cfg)
{
	size_t log2 = GRAIN_MIN_LOG2;

	if (!cfg->grain_bytes)
		return (size_t)1 << GRAIN_MAX_LOG2;
	while (((size_t)2 << log2) <= cfg->grain_bytes)
		log2++;
	return (size_t)1 << log2;
}

static const struct gy_coll_algo *select_named(enum gy_coll coll, const char *name, size_t len,
					       uint8_t *id)
{
	uint8_t i;

	for (i = 0; gy_algos[i]; i++) {
		if (gy_algos[i]->coll == coll && strlen(gy_algos[i]->name) == len &&
		    !strncmp(gy_algos[i]->name, name, len)) {
			*id = i;
			return gy_algos[i];
		}
	}
	return NULL;
}

static gy_cold int select_refuse(const char *what, size_t len, int coll)
{
	char known[256] = "";
	size_t used = 0;
	int i;

	for (i = 0; coll < 0 && i < GY_NCOLLS; i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, " %s",
					 gy_coll_name(i));
	for (i = 0; coll >= 0 && gy_algos[i] && used < sizeof(known); i++)
		if ((int)gy_algos[i]->coll == coll)
			used += (size_t)snprintf(known + used, sizeof(known) - used, " %s",
						 gy_algos[i]->name);
	gy_err("GYRE_ALGORITHM: unknown %s \"%.*s\"; known:%s",
	       coll < 0 ? "collective" : "algorithm", (int)len, what, known);
	return -EINVAL;
}

/* "coll=algo,coll=algo": which algorithm is asked for, by collective. */
static int select_override(const char *text, struct gy_choice chosen[GY_NCOLLS])
{
	while (*text) {
		const size_t item = strcspn(text, ","), key = strcspn(text, "=,");
		const size_t name = key + (text[key] == '=');
		int coll;

		for (coll = 0; coll < GY_NCOLLS; coll++)
			if (strlen(gy_coll_name(coll)) == key &&
			    !strncmp(gy_coll_name(coll), text, key))
				break;
		if (coll == GY_NCOLLS)
			return select_refuse(text, key, -1);
		chosen[coll].algo =
			select_named(coll, text + name, item - name, &chosen[coll].algo_id);
		if (!chosen[coll].algo)
			return select_refuse(text + name, item - name, coll);
		text += item + (text[item] == ',');
	}
	return 0;
}

static bool select_fits(const struct gy_coll_algo *algo, int nranks)
{
	return !algo->max_ranks || nranks <= algo->max_ranks;
}

static void select_add(struct gy_select_row **row, uint64_t max_bytes, struct gy_choice choice)
{
	**row = (struct gy_select_row){ .max_bytes = max_bytes, .choice = choice };
	++*row;
}

static bool select_is_of(const struct table_row *row, enum gy_where where)
{
	return row->where == where || (row->where == FAR && where == WRITTEN);
}

static void select_coll(struct gy_select *sel, enum gy_coll coll, const struct gy_choice *chosen,
			int nranks, enum gy_where where, uint8_t grain_log2)
{
	struct gy_select_row *row = sel->rows[coll];
	uint64_t from = 0;
	size_t i;

	if (chosen->algo && select_fits(chosen->algo, nranks)) {
		struct gy_choice c = *chosen;

		c.grain_log2 = grain_log2 ? grain_log2 : 16;
		from = c.algo->flags & GY_ALGO_SMALL ? GY_SMALL_COLL : ANY_BYTES;
		select_add(&row, from, c);
	}
	for (i = 0; i < GY_ARRAY_SIZE(table) && from != ANY_BYTES; i++) {
		const struct table_row *t = &table[i];
		struct gy_choice c = { .grain_log2 = grain_log2 ? grain_log2 : t->grain_log2 };

		if (t->coll != coll || !select_is_of(t, where) || nranks > t->max_ranks ||
		    t->max_bytes <= from)
			continue;
		c.algo = select_named(coll, t->algo, strlen(t->algo), &c.algo_id);
		gy_assert(c.algo && select_fits(c.algo, nranks));
		gy_assert(row < sel->rows[coll] + GY_SELECT_MAX);
		select_add(&row, t->max_bytes, c);
		from = t->max_bytes;
	}
}

int gy_select_init(struct gy_select *sel, const struct gy_config *cfg, int nranks,
		   enum gy_where where)
{
	struct gy_choice chosen[GY_NCOLLS] = { { .algo = NULL } };
	uint8_t grain_log2 = 0;
	int coll, err;

	err = select_override(cfg->algorithm, chosen);
	if (err)
		return err;
	if (cfg->grain_bytes)
		grain_log2 = (uint8_t)__builtin_ctzl(gy_grain_max(cfg));
	for (coll = 0; coll < GY_NCOLLS; coll++)
		select_coll(sel, coll, &chosen[coll], nranks, where, grain_log2);
	return 0;
}
