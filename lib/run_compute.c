/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_compute.c - what is computed: the grains of open moves, by the kernels.
 *
 * Inputs are read where they lie: in memory, in slots and bodies that have come, or where a peer
 * has lent them.  The result goes to memory, to a slot from which it is sent, or to both.  A move
 * that only sends out of memory computes nothing: what is ok is done.
 * Locking: driver.
 */
#include <errno.h>
#include <string.h>

#include "lib/context.h"
#include "lib/fpenv.h"

#define PULL_PIECE (64 * 1024)

/* Those that one call of the kernel does not take. */
static gy_cold void compute_fold_more(struct gy_run *run, void *dst, const void *const *in,
				      unsigned nin, size_t n)
{
	const void *part[GY_MAX_INPUTS];
	unsigned i, k;

	for (i = GY_MAX_INPUTS; i < nin; i += k - 1) {
		k = nin - i < GY_MAX_INPUTS - 1 ? nin - i + 1 : GY_MAX_INPUTS;
		part[0] = dst;
		memcpy(part + 1, in + i, (k - 1) * sizeof(*part));
		run->reduce(dst, part, k, n);
	}
}

static void compute_fold(struct gy_engine *e, struct gy_run *run, void *dst, const void *const *in,
			 unsigned nin, size_t n, bool final)
{
	e->stats.bytes_reduced += (nin - 1) * n * run->es;
	if (nin > 1) {
		run->reduce(dst, in, nin < GY_MAX_INPUTS ? nin : GY_MAX_INPUTS, n);
	} else if (n && dst != in[0]) {	/* of nothing, dst may be NULL */
		gy_kernel_copy(e->kernels, dst, in[0], n * run->es);
		e->stats.bytes_copied += n * run->es;
	}
	if (gy_unlikely(nin > GY_MAX_INPUTS))
		compute_fold_more(run, dst, in, nin, n);
	if (final && run->divide)
		gy_kernel_divide(e->kernels, run->type, dst, dst, n, run->divide);
}

static gy_cold void compute_fold_by_default(struct gy_engine *e, struct gy_run *run, void *dst,
					    const void *const *in, unsigned nin, size_t n,
					    bool final)
{
	fenv_t caller;

	fegetenv(&caller);
	fesetenv(FE_DFL_ENV);
	compute_fold(e, run, dst, in, nin, n, final);
	fesetenv(&caller);
}

void gy_run_compute(struct gy_engine *e, struct gy_run *run, void *dst, const void *const *in,
		    unsigned nin, size_t n, bool final)
{
	if (gy_likely(gy_fpenv_is_default()))
		compute_fold(e, run, dst, in, nin, n, final);
	else
		compute_fold_by_default(e, run, dst, in, nin, n, final);
}

void gy_op_gather(struct gy_engine *e, const struct gy_run *run, const struct gy_op *op,
		  uint64_t elem, uint64_t n, char *dst)
{
	uint64_t contig;

	while (n) {
		const void *src = gy_op_at(run, op, elem, &contig);

		contig = gy_min(contig, n);
		gy_kernel_copy(e->kernels, dst, src, contig * run->es);
		e->stats.bytes_copied += contig * run->es;
		dst += contig * run->es;
		elem += contig;
		n -= contig;
	}
}

/*
 * The inputs of n elements from elem on.  Streams whose memory cannot be mapped are pulled into the
 * bounce buffer, each into its share, or straight into `into` when it is the only input.
 */
static int compute_inputs(struct gy_engine *e, struct gy_run *run, struct gy_op *op, uint64_t elem,
			  uint64_t *np, const void **in, void *into)
{
	const struct gy_end *end = run->plan->ends + op->move->end;
	const unsigned nin = op->move->nin;
	struct gy_stream *pull[GY_MAX_ENDS];
	uint64_t n = *np, contig, share = 0;
	struct gy_list *pos;
	unsigned i, npull = 0;
	char *bounce = e->bounce;
	int err;

	for (i = 0; i < nin; i++) {
		if (end[i].space == GY_STREAM)
			continue;
		in[i] = gy_run_at(run, &end[i], elem, &contig);
		n = gy_min(n, contig);
	}
	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (s->out)
			continue;
		err = gy_stream_read(s, elem, &in[s->nin], &contig);
		if (err)
			return err;
		n = gy_min(n, contig);
		if (!in[s->nin])
			pull[npull++] = s;
	}
	if (npull && !(nin == 1 && into)) {
		share = gy_min(GY_BOUNCE_BYTES / npull, PULL_PIECE) & ~(size_t)(GY_CACHELINE - 1);
		n = gy_min(n, share / run->es);
	}
	for (i = 0; i < npull; i++) {
		void *dst = nin == 1 && into ? into : bounce + i * share;

		err = gy_stream_pull(pull[i], elem, dst, n);
		if (err)
			return err;
		in[pull[i]->nin] = dst;
	}
	*np = n;
	return 0;
}

/*
 * Computes elements [elem, elem + n) of an op; dst: the slot that takes them, or NULL for memory.
 */
static int compute_piecewise(struct gy_engine *e, struct gy_run *run, struct gy_op *op,
			     uint64_t elem, uint64_t n, char *dst)
{
	const bool final = op->move->flags & GY_MOVE_FINAL;
	const void *in[GY_MAX_ENDS];
	uint64_t piece, contig;
	const char *own;
	unsigned i;
	void *to;
	int err;

	while (n) {
		piece = n;
		to = dst;
		if (!dst) {
			to = gy_op_at(run, op, elem, &contig);
			piece = gy_min(piece, contig);
		}
		err = compute_inputs(e, run, op, elem, &piece, in, to);
		if (err)
			return err;
		/*
		 * More inputs than one kernel call takes: dst must not be among the later ones.
		 * Fold elsewhere then.
		 */
		own = to;
		for (i = GY_MAX_INPUTS; i < op->move->nin && in[i] != own; i++)
			;
		if (i < op->move->nin) {
			piece = gy_min(piece, GY_FOLD_BYTES / run->es);
			gy_run_compute(e, run, e->fold, in, op->move->nin, piece, final);
			gy_kernel_copy(e->kernels, to, e->fold, piece * run->es);
		} else {
			gy_run_compute(e, run, to, in, op->move->nin, piece, final);
		}
		elem += piece;
		n -= piece;
		if (dst)
			dst += piece * run->es;
	}
	return 0;
}

/* Whether an out stream sends what is computed out of slots. */
static bool compute_by_slot(const struct gy_op *op, const struct gy_stream *s)
{
	return s->out && (!op->mem_out || s->via_slot);
}

/*
 * One slot for the grain at op->done, for all streams that send it out of one; NULL: none does.
 * -EAGAIN: not now; what is in memory too can be copied later, for each stream on its own.
 */
static int compute_out_slot(struct gy_engine *e, struct gy_run *run, struct gy_op *op,
			    struct gy_slot **slotp)
{
	const uint64_t g = op->done / run->grain;
	bool needed = !op->mem_out, any = false;
	struct gy_list *pos;
	struct gy_slot *slot;

	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (!compute_by_slot(op, s))
			continue;
		/* The place may be that of an earlier grain, which is still to be copied. */
		if (s->slot[g % GY_STREAM_SLOTS] || g - s->sent / run->grain >= GY_STREAM_SLOTS)
			return -EAGAIN;
		needed &= s->freed == op->done;
		any = true;
	}
	if (!any)
		return 0;
	slot = gy_slot_get(&e->pool, needed && gy_run_needs(run, op));
	if (!slot)
		return -EAGAIN;
	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (compute_by_slot(op, s)) {
			s->slot[g % GY_STREAM_SLOTS] = slot;
			slot->users++;
		}
	}
	*slotp = slot;
	return 0;
}

struct compute_come {
	uint64_t avail;		/* how far they have come */
	bool direct;		/* they are in their memory already */
	bool all;		/* something has come of each */
	bool lent;		/* some are read where the peer has them */
};

static struct compute_come compute_available(const struct gy_op *op)
{
	struct compute_come in = { .avail = op->ok, .all = true };
	struct gy_list *pos;

	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (s->out)
			continue;
		in.avail = gy_min(in.avail, s->avail);
		in.direct |= s->direct;
		in.all &= s->got;
		in.lent |= s->mode == GY_BY_LEND;
	}
	return in;
}

static void compute_advance(struct gy_engine *e, struct gy_run *run, struct gy_op *op,
			    uint64_t upto)
{
	struct gy_list *pos;

	op->done = upto;
	if (op->done == op->len)
		op->computed = true;
	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (!s->out)
			gy_stream_consumed(e, s, upto);
	}
	run->moved_ns = e->now_ns;
}

/* Whether all that has just been read was lent still; if not, the run has ended. */
static bool compute_was_lent(const struct gy_op *op)
{
	const struct gy_list *pos;

	gy_list_for_each(pos, &op->streams) {
		struct gy_stream *s = gy_list_entry(pos, struct gy_stream, op_link);

		if (!s->out && s->mode == GY_BY_LEND && !gy_stream_was_lent(s))
			return false;
	}
	return true;
}

int gy_op_compute(struct gy_engine *e, struct gy_run *run, struct gy_op *op)
{
	struct gy_slot *slot = NULL;
	struct compute_come in;
	uint64_t hi;
	int err;

	if (op->pure_send) {
		if (op->ok == op->done && !op->ready)
			return 0;
		op->done = op->ok;
		op->computed = op->ready;
		return 1;
	}
	in = compute_available(op);
	if (!op->len) {
		if (!op->ready || !in.all)
			return 0;
		compute_advance(e, run, op, 0);
		return 1;
	}
	if (in.direct) {
		if (in.avail == op->done)
			return 0;
		compute_advance(e, run, op, in.avail);
		return 1;
	}
	hi = gy_min(op->done + run->grain, op->len);
	if (in.avail < hi)
		return 0;
	err = compute_out_slot(e, run, op, &slot);
	if (err && !op->mem_out)
		return 0;
	err = compute_piecewise(e, run, op, op->done, hi - op->done,
				slot && !op->mem_out ? slot->mem : NULL);
	if (in.lent && !compute_was_lent(op))
		return -ECANCELED;
	if (err)
		return err;
	if (slot && op->mem_out)
		gy_op_gather(e, run, op, op->done, hi - op->done, slot->mem);
	e->stats.grains++;
	compute_advance(e, run, op, hi);
	return 1;
}
