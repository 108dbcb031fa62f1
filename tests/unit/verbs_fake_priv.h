/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VERBS_FAKE_PRIV_H
#define VERBS_FAKE_PRIV_H
/*
 * What the files of verbs_fake share.  Ranks may be threads: everything that others see is done
 * under one lock, which is recursive.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/net_fake.h"
#include "tests/unit/verbs_fake.h"

#define DEV_EVENTS 16

#define need(x) \
	do { \
		if (!(x)) \
			fail_msg("%s:%d: %s", __FILE__, __LINE__, #x); \
	} while (0)

struct dev_context {
	struct verbs_context v;		/* ibv_context is its last member */
	struct ibv_async_event events[DEV_EVENTS];
	unsigned nevents;
	size_t registered, most;	/* bytes: now; the most since verbs_fake_registered */
	bool open;
};

extern pthread_mutex_t dev_mutex;

static inline pthread_mutex_t *dev_lock(void)
{
	pthread_mutex_lock(&dev_mutex);
	return &dev_mutex;
}

static inline void dev_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

/* To the end of the function. */
#define DEV_LOCKED \
	__attribute__((cleanup(dev_unlock), unused)) pthread_mutex_t *locked = dev_lock()

static inline bool dev_due(int *countdown)
{
	return *countdown > 0 && --*countdown == 0;
}

/* The one that was opened as the n-th. */
struct dev_context *dev_context(unsigned n);
/* Registered memory by its key, when all of that range is in it; else NULL. */
const struct ibv_mr *dev_mr(uint32_t key, uint64_t addr, uint64_t len);

/* verbs_fake_queue.c */
void dev_queues_open(struct ibv_context *ctx);
void dev_queues_reset(void);

/* verbs_fake_cm.c */
void dev_cm_reset(void);
#endif
