/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/sgd.c - the optimizer.  Runs alike on every rank; its state is never exchanged. */
#include <math.h>
#include <string.h>

#include "bench/train/sgd.h"

static double sgd_constant(double done)
{
	return 1;
}

static double sgd_in_steps(double done)
{
	return done < 0.5 ? 1 : done < 0.75 ? 0.1 : 0.01;
}

static double sgd_cosine(double done)
{
	return 0.5 * (1 + cos(M_PI * done));
}

/* Factor of the learning rate when a share of the run, without its warm-up, is done. */
static const struct {
	const char *name;
	double (*factor)(double done);
} sgd_schedules[] = {
	{ "constant", sgd_constant },
	{ "step", sgd_in_steps },
	{ "cosine", sgd_cosine },
};

double sgd_lr(const struct sgd *sgd, double epoch)
{
	const double done = (epoch - sgd->warmup) / (sgd->epochs - sgd->warmup);
	size_t i;

	if (epoch < sgd->warmup)
		return sgd->lr * epoch / sgd->warmup;
	for (i = 0; i < sizeof(sgd_schedules) / sizeof(*sgd_schedules); i++)
		if (strcmp(sgd_schedules[i].name, sgd->schedule) == 0)
			return sgd->lr * sgd_schedules[i].factor(done);
	return 0;
}

void sgd_step(struct sgd *sgd, double lr, float *params, const float *grads, size_t count)
{
	const float momentum = sgd->momentum, decay = sgd->weight_decay;
	const float of_gradient = sgd->nesterov ? lr : 0;
	const float of_velocity = sgd->nesterov ? lr * momentum : lr;
	float *v = sgd->velocity;
	float g;
	size_t i;

	for (i = 0; i < count; i++) {
		g = grads[i] + decay * params[i];
		v[i] = momentum * v[i] + g;
		params[i] -= of_gradient * g + of_velocity * v[i];
	}
}
