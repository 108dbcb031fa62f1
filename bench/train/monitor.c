/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/monitor.c - sums of the ranks' steps, on a communicator and a thread of their own.
 * Locking: lock is over all that both threads use. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "bench/train/monitor.h"

#define MONITOR_MS 10

struct monitor {
	struct gyre_comm *comm;
	int nranks;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t steps;
	bool stop;
	int64_t sum; /* or an error */
};

static void monitor_rest(struct monitor *m)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += MONITOR_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (!m->stop)
		pthread_cond_timedwait(&m->changed, &m->lock, &until);
}

/* Ends on all ranks in the same round: when all want it. */
static void *monitor_main(void *arg)
{
	struct monitor *m = arg;
	uint64_t sums[2] = { 0 };
	int err = 0;

	pthread_mutex_lock(&m->lock);
	while (!err && sums[1] < (uint64_t)m->nranks) {
		monitor_rest(m);
		sums[0] = m->steps;
		sums[1] = m->stop;
		pthread_mutex_unlock(&m->lock);
		err = gyre_allreduce(GYRE_IN_PLACE, sums, 2, GYRE_UINT64, GYRE_SUM, m->comm);
		pthread_mutex_lock(&m->lock);
		m->sum = err ? err : (int64_t)sums[0];
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

int monitor_create(const struct job *job, uint64_t steps, struct monitor **monitorp)
{
	struct monitor *m = calloc(1, sizeof(*m));
	const struct why why = { "out of memory" };
	int err = job_agree(job, m ? 0 : -ENOMEM, &why);

	if (err)
		goto free_monitor;
	m->steps = steps;
	err = gyre_allreduce(&m->steps, &m->sum, 1, GYRE_INT64, GYRE_SUM, job->comm);
	if (!err)
		err = gyre_comm_split(job->comm, 0, 0, &m->comm);
	if (err)
		goto free_monitor;
	m->nranks = job->nranks;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	err = pthread_create(&m->thread, NULL, monitor_main, m);
	if (err)
		goto destroy_comm;
	*monitorp = m;
	return 0;

destroy_comm:
	err = -err;
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	gyre_comm_destroy(m->comm);
free_monitor:
	free(m);
	return err;
}

void monitor_destroy(struct monitor *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->stop = true;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	gyre_comm_destroy(m->comm);
	free(m);
}

void monitor_set(struct monitor *m, uint64_t steps)
{
	pthread_mutex_lock(&m->lock);
	m->steps = steps;
	pthread_mutex_unlock(&m->lock);
}

int64_t monitor_sum(struct monitor *m)
{
	int64_t sum;

	pthread_mutex_lock(&m->lock);
	sum = m->sum;
	pthread_mutex_unlock(&m->lock);
	return sum;
}
