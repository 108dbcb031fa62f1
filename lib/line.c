/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * line.c - compiling a run into a line.
 *
 *	move				steps
 *	->1 = IN			SEND
 *	->1 ->2 = IN			ROOM SEND SEND
 *	OUT = <-1			WAIT, into OUT
 *	OUT = <-0 + IN + <-2		WAIT WAIT COMPUTE
 *	OUT ->1 = <-1 + IN		ROOM FOLD SEND
 *
 * Cost: a look at each end.  Locking: driver.
 */
#include "lib/line.h"

#include <errno.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/comm.h"
#include "lib/context.h"
#include "lib/peer.h"

/* Where a memory end lies.  Pieces that do not follow each other are the general executor's. */
static int line_place(const struct gy_run *run, const struct gy_end *end, struct gy_line_place *p)
{
	uint64_t contig;
	char *ptr = gy_run_at(run, end, 0, &contig);

	p->space = end->space;
	p->off = (uint64_t)(ptr - (char *)run->mem[end->space]);
	return contig == gy_run_len(run, end) ? 0 : -EOPNOTSUPP;
}

static struct gy_line_place line_land(struct gy_line *line, uint64_t bytes)
{
	const struct gy_line_place p = { .space = GY_SCRATCH, .off = line->land + line->landed };

	line->landed += gy_align_up(bytes, GY_CACHELINE);
	return p;
}

static struct gy_line_step *line_add(struct gy_line *line, enum gy_line_what what, uint32_t move,
				     struct gy_line_place at, uint64_t n, uint64_t es)
{
	struct gy_line_step *step = line->end++;

	*step = (struct gy_line_step){
		.what = what, .space = at.space, .move = move, .off = at.off
	};
	step->n = (uint32_t)n;
	step->len = (uint32_t)(n * es);
	return step;
}

static int line_name_stream(struct gy_engine *e, const struct gy_run *run,
			    struct gy_line_step *step, const struct gy_end *end)
{
	const struct gy_hdr hdr = { .stream = end->stream, .len = step->len };

	memcpy(&step->word, &hdr.stream, sizeof(step->word));
	step->peer = e->peers[gy_run_world_rank(run, end)];
	if (!step->peer || !step->peer->ep)
		return -ENOTCONN;
	return step->len <= e->eager_bytes || step->peer->ep->caps & GY_CAP_LEND ? 0 : -EOPNOTSUPP;
}

/* A move while it is compiled. */
struct line_move {
	const struct gy_move *mv;
	uint32_t index;
	const struct gy_end *in, *out;
	const struct gy_end *mem_out;	/* or NULL */
	uint64_t n;			/* elements */
	unsigned sends;
	bool divides;
	bool folds;			/* one message with one input in memory */
	struct gy_line_place result;
	const struct gy_line_place *inputs;
};

static void line_look(const struct gy_run *run, struct line_move *m, uint32_t index)
{
	const struct gy_move *mv = &run->plan->moves[index];
	const struct gy_end *end = run->plan->ends + mv->end;
	unsigned i;

	*m = (struct line_move){ .mv = mv, .index = index, .in = end, .out = end + mv->nin };
	m->divides = mv->flags & GY_MOVE_FINAL && run->divide;
	m->folds = mv->nin == 2 && !m->divides &&
		   (m->in[0].space == GY_STREAM) != (m->in[1].space == GY_STREAM);
	for (i = 0; i < (unsigned)mv->nin + mv->nout; i++) {
		if (end[i].space != GY_STREAM)
			m->n = gy_run_len(run, &end[i]);
		if (i >= mv->nin && end[i].space == GY_STREAM)
			m->sends++;
		else if (i >= mv->nin)
			m->mem_out = &end[i];
	}
}

/*
 * Where the inputs and the result lie.  A single message comes to the result's place; in the
 * simulator's cost mode, where only scratch is memory, it stays there.
 */
static int line_compile_places(const struct gy_engine *e, const struct gy_run *run,
			       struct gy_line *line, struct line_move *m)
{
	struct gy_line_place *in = line->inputs + line->ninputs;
	const bool computes = m->mv->nin > 1 || m->divides;
	const bool memory = e->kernels != &gy_kernels_none;
	unsigned i;
	int err;

	m->inputs = in;
	line->ninputs += m->mv->nin;
	if (m->mem_out) {
		err = line_place(run, m->mem_out, &m->result);
		if (err)
			return err;
	} else if (computes) {
		m->result = line_land(line, m->n * run->es);
	}
	for (i = 0; i < m->mv->nin; i++) {
		if (m->in[i].space != GY_STREAM) {
			err = line_place(run, &m->in[i], &in[i]);
			if (err)
				return err;
		} else if (m->folds || (m->mem_out && !computes && memory)) {
			in[i] = m->result;
		} else {
			in[i] = line_land(line, m->n * run->es);
		}
	}
	if (!m->mem_out && !computes)
		m->result = in[0];
	return 0;
}

static int line_compile_waits(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			      const struct line_move *m)
{
	struct gy_line_step *step = NULL;
	uint8_t waits = 0;
	unsigned i;
	int err;

	for (i = 0; i < m->mv->nin; i++) {
		if (m->in[i].space != GY_STREAM)
			continue;
		step = line_add(line, m->folds ? GY_LINE_FOLD : GY_LINE_WAIT, m->index,
				m->inputs[i], m->n, run->es);
		step->first = !waits++;
		if (m->folds) {
			step->body = (uint8_t)i;
			step->inputs = &m->inputs[1 - i];
		}
		err = line_name_stream(e, run, step, &m->in[i]);
		if (err)
			return err;
	}
	if (step)
		step->waits = waits;
	return 0;
}

static void line_compile_compute(const struct gy_run *run, struct gy_line *line,
				 const struct line_move *m)
{
	const bool alone = m->mv->nin == 1;
	struct gy_line_step *step;

	if (m->folds || (alone && !m->divides && (!m->mem_out || m->in[0].space == GY_STREAM)))
		return;		/* it is there already */
	step = line_add(line, GY_LINE_COMPUTE, m->index, m->result, m->n, run->es);
	step->nin = (uint8_t)m->mv->nin;
	step->final = m->mv->flags & GY_MOVE_FINAL;
	step->inputs = m->inputs;
}

static int line_compile_move(struct gy_engine *e, const struct gy_run *run, struct gy_line *line,
			     uint32_t index)
{
	const struct gy_line_step *first = line->end;
	struct gy_line_step *step;
	struct line_move m;
	unsigned i;
	int err;

	line_look(run, &m, index);
	err = line_compile_places(e, run, line, &m);
	if (err)
		return err;
	if (m.sends && (m.sends > 1 || m.mv->nin > 1 || m.mem_out || m.in[0].space == GY_STREAM ||
			m.n * run->es > e->eager_bytes)) {
		step = line_add(line, GY_LINE_ROOM, index, m.result, m.n, run->es);
		step->sends = (uint8_t)m.sends;
	}
	err = line_compile_waits(e, run, line, &m);
	if (err)
		return err;
	line_compile_compute(run, line, &m);
	for (i = 0; i < m.mv->nout; i++) {
		if (m.out[i].space != GY_STREAM)
			continue;
		step = line_add(line, GY_LINE_SEND, index, m.result, m.n, run->es);
		step->first = step == first;
		err = line_name_stream(e, run, step, &m.out[i]);
		if (err)
			return err;
	}
	return 0;
}

int gy_line_compile(struct gy_engine *e, struct gy_run *run)
{
	const struct gy_plan *plan = run->plan;
	struct gy_line *line = run->line;
	uint32_t m;
	int err;

	/* At most one step for each end, and one more for each move. */
	if (plan->nends + plan->nmoves > GY_LINE_ENDS || plan->max_inputs > GY_MAX_INPUTS)
		return -EOPNOTSUPP;
	if (!line)
		line = run->line = gy_alloc(sizeof(*line));
	if (!line || gy_run_scratch(run, plan, 0))
		return -ENOMEM;
	line->end = line->steps;
	line->ninputs = 0;
	line->landed = 0;
	line->land = gy_align_up(plan->nscratch * run->total * run->es, GY_CACHELINE);
	for (m = 0; m < plan->nmoves; m++) {
		err = line_compile_move(e, run, line, m);
		if (err)
			return err;
	}
	run->hdr.kind = GY_MSG_EAGER;
	return gy_run_scratch(run, plan, line->land + line->landed);
}
