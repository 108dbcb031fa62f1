/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method_sync.c - synchronous SGD: the mean of the gradients, in buckets that start
 * during the backward pass (sync.c).  Padding lies behind the loss and starts first, so that it can
 * hide behind the whole pass, and the sleep after it. */
#include "bench/train/method.h"
#include "bench/train/sync.h"

struct method_of_sync {
	struct method base;
	struct sync *sync; /* gradients, the loss, padding */
	size_t count;
};

static struct method_of_sync *to_sync(struct method *m)
{
	return (struct method_of_sync *)m;
}

static int sync_method_open(struct method *m)
{
	struct method_of_sync *s = to_sync(m);
	int err;

	s->count = m->env.nparams + 1 + m->env.npadding;
	err = sync_create(m->env.job, s->count, m->env.opt->bucket_kib * 1024 / sizeof(float),
			  &s->sync);
	if (!err)
		m->grads = sync_vector(s->sync);
	return err;
}

static void sync_method_ready(struct method *m, size_t first)
{
	sync_ready(to_sync(m)->sync, first);
}

static int sync_method_reduce(struct method *m)
{
	struct method_of_sync *s = to_sync(m);
	const int err = sync_wait(s->sync);

	sync_take_seconds(s->sync, &m->exposed, &m->blocked);
	m->bytes += s->count * sizeof(float);
	return err;
}

static void sync_method_close(struct method *m)
{
	sync_destroy(to_sync(m)->sync);
}

const struct method_ops method_sync = {
	.size = sizeof(struct method_of_sync),
	.open = sync_method_open,
	.ready = sync_method_ready,
	.reduce = sync_method_reduce,
	.tick = method_nothing,
	.pause = method_nothing,
	.resume = method_no_resume,
	.finish = method_nothing,
	.save = method_no_save,
	.load = method_no_load,
	.close = sync_method_close,
};
