/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_METHOD_H
#define TRAIN_METHOD_H
/*
 * How ranks work together.  A step of every method is
 *
 *	backward pass		writes grads; ready(first) as it goes
 *	reduce			grads are what the optimizer is to use
 *	optimizer		changes params
 *	tick			merges and gives away what is due
 *
 * All calls are the training thread's.  open, pause, resume, finish, load and close are collective.
 * After an error all that is left is close.
 */
#include <stddef.h>
#include <stdint.h>

#include "bench/train/job.h"
#include "bench/train/methods.h"
#include "bench/train/options.h"
#include "bench/train/schedule.h"

struct method_ops;

/* What a method works with; the trainer's, as long as the method is open. */
struct method_env {
	const struct job *job;
	const struct options *opt;
	float *params;		/* nparams, and npadding more that stand for a larger model */
	size_t nparams, npadding;
	int steps; /* of an epoch */
	const struct schedule *replay; /* delay and period to go by; NULL: those of opt */
};

struct method {
	const struct method_ops *ops;
	const struct methods_row *row;
	struct method_env env;
	float *grads; /* nparams, and a place for the loss of the batch behind them */
	/* Seconds of the training thread since the start: in exchanges, and waiting in them. */
	double exposed, blocked;
	uint64_t bytes; /* given away */
	/* Where delay and period change during the run: those in force, and since which round. */
	struct schedule_entry schedule;
};

/* Reads or writes len bytes of a checkpoint. */
typedef int (*method_read_fn)(void *arg, void *buf, size_t len);
typedef int (*method_write_fn)(void *arg, const void *buf, size_t len);

struct method_ops {
	size_t size; /* of the object that starts with a struct method */
	/* env and row are set; sets grads. */
	int (*open)(struct method *m);
	/* grads[first ..] are final, the first time the loss too.  Errors wait for reduce. */
	void (*ready)(struct method *m, size_t first);
	/* grads[nparams] becomes what is known of the loss. */
	int (*reduce)(struct method *m);
	int (*tick)(struct method *m);
	/* From here to resume, params hold all that this rank has been given. */
	int (*pause)(struct method *m);
	void (*resume)(struct method *m);
	/* Makes params the average of the ranks' progress, the same on all to the bit. */
	int (*finish)(struct method *m);
	/* While paused.  What of params and the optimizer's state goes beside. */
	int (*save)(struct method *m, method_write_fn write, void *arg);
	/* Right after open, params being as they were. */
	int (*load)(struct method *m, method_read_fn read, void *arg);
	void (*close)(struct method *m);
};

extern const struct method_ops method_sync;
extern const struct method_ops method_delayed;
extern const struct method_ops method_late;
extern const struct method_ops method_sgp;
extern const struct method_ops method_adpsgd;

/* That of env->opt->method.  -errno when it cannot be had, on all ranks alike. */
int method_open(const struct method_env *env, struct method **mp);
/* NULL is fine. */
void method_close(struct method *m);

/* For methods that have no use for a call. */
void method_no_ready(struct method *m, size_t first);
int method_nothing(struct method *m);
void method_no_resume(struct method *m);
int method_no_save(struct method *m, method_write_fn write, void *arg);
int method_no_load(struct method *m, method_read_fn read, void *arg);

/* The mean of params over all ranks, in place. */
int method_average(struct method *m);

/* Collective.  err, or that of another rank: 0 on all or on none. */
int method_agree(struct method *m, int err);

#endif
