/* SPDX-License-Identifier: BSD-3-Clause */
/* Plans as text for people; see gy_plan_text. */
#include <stdarg.h>
#include <stdio.h>
#include "lib/alloc.h"
#include "lib/plan.h"

/* Counts what would be written; writes what there is room for. */
struct text {
	char *buf;
	size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *t, const char *fmt, ...)
{
	const size_t room = t->len < t->size ? t->size - t->len : 0;
	va_list ap;

	va_start(ap, fmt);
	t->len += vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
}

static void text_range(struct text *t, enum gy_space space, const struct gy_range *r)
{
	static const char *const names[] = { "IN", "OUT", "SCRATCH" };

	text_add(t, "%s[%u", names[space], gy_range_block(r, 0));
	if (r->count > 1)
		text_add(t, "..%u", gy_range_block(r, r->count - 1));
	if (r->count > 1 && r->stride != 1)
		text_add(t, " step %u", r->stride);
	if (r->count > 1 && r->modulo)
		text_add(t, " mod %u", r->modulo);
	text_add(t, "]");
}

static void text_end(struct text *t, const struct gy_end *e, const char *arrow)
{
	if (e->space == GY_STREAM)
		text_add(t, "%s%d", arrow, e->peer);
	else
		text_range(t, e->space, &e->range);
}

static void text_deps(struct text *t, const struct gy_plan *pl, const struct gy_move *move)
{
	const struct gy_dep *dep = pl->deps + move->dep;
	const char *lead = "  after ";
	uint32_t i;

	for (i = 0; i < move->ndeps; i++) {
		if (i && dep[i].move == dep[i - 1].move && dep[i].kind == dep[i - 1].kind)
			continue;
		text_add(t, "%s%u%s", lead, dep[i].move, dep[i].kind == GY_DEP_FREE ? " sent" : "");
		lead = ", ";
	}
}

static void text_plan(struct text *t, const struct gy_plan *pl)
{
	uint32_t m, i;

	for (m = 0; m < pl->nmoves; m++) {
		const struct gy_move *move = &pl->moves[m];
		const struct gy_end *in = pl->ends + move->end, *out = in + move->nin;

		text_add(t, "%u:", m);
		for (i = 0; i < move->nout; i++) {
			text_add(t, " ");
			text_end(t, &out[i], "->");
		}
		text_add(t, " =");
		for (i = 0; i < move->nin; i++) {
			text_add(t, i ? " + " : " ");
			text_end(t, &in[i], "<-");
		}
		text_add(t, "%s", move->flags & GY_MOVE_FINAL ? " final" : "");
		text_deps(t, pl, move);
		text_add(t, "\n");
	}
}

char *gy_plan_text(const struct gy_plan *pl)
{
	struct text t = { 0 };

	text_plan(&t, pl);
	t.size = t.len + 1;
	t.len = 0;
	t.buf = gy_alloc(t.size);
	if (t.buf)
		text_plan(&t, pl);
	return t.buf;
}
