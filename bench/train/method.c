/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/method.c - which code runs a method, and what several of them share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/train/method.h"

/* All others are delayed collectives. */
static const struct {
	const char *name;
	const struct method_ops *ops;
} method_own[] = {
	{ "sync", &method_sync },
	{ "sgp", &method_sgp },
	{ "adpsgd", &method_adpsgd },
};

static const struct method_ops *method_find(const struct options *opt)
{
	size_t i;

	for (i = 0; i < sizeof(method_own) / sizeof(*method_own); i++)
		if (strcmp(method_own[i].name, opt->method) == 0)
			return method_own[i].ops;
	if (strcmp(opt->method, "dts-overwrite") == 0 && opt->delay > opt->period)
		return &method_late;
	return &method_delayed;
}

int method_open(const struct method_env *env, struct method **mp)
{
	const struct method_ops *ops = method_find(env->opt);
	struct method *m = calloc(1, ops->size);
	int err;

	if (!m)
		return -ENOMEM;
	m->ops = ops;
	m->row = methods_find(env->opt->method);
	m->env = *env;
	err = ops->open(m);
	if (err) {
		free(m);
		return err;
	}
	*mp = m;
	return 0;
}

void method_close(struct method *m)
{
	if (!m)
		return;
	m->ops->close(m);
	free(m);
}

void method_no_ready(struct method *m, size_t first)
{
}

int method_nothing(struct method *m)
{
	return 0;
}

void method_no_resume(struct method *m)
{
}

int method_no_save(struct method *m, method_write_fn write, void *arg)
{
	return 0;
}

int method_no_load(struct method *m, method_read_fn read, void *arg)
{
	return 0;
}

int method_average(struct method *m)
{
	return gyre_allreduce(GYRE_IN_PLACE, m->env.params, m->env.nparams, GYRE_F32, GYRE_AVG,
			      m->env.job->comm);
}

int method_agree(struct method *m, int err)
{
	const int32_t mine = -err;
	int32_t worst;
	const int comm_err = gyre_allreduce(&mine, &worst, 1, GYRE_INT32, GYRE_MAX,
					    m->env.job->comm);

	return err ? err : comm_err ? comm_err : -worst;
}
