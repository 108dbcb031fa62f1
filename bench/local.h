/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_LOCAL_H
#define BENCH_LOCAL_H
/*
 * Ranks as forked processes of one program, with a barrier and a maximum over shared memory: for
 * programs that measure something which brings no launcher of its own.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct local_shared;

struct local_team {
	int rank, nranks;
	int spins;		/* looks at a flag before the processor is given away */
	uint64_t barriers;	/* passed so far */
	struct local_shared *shared;
};

/*
 * Forks nranks processes, each bound to a core of its own when bind is set and there are enough,
 * and runs fn in each; its result is the exit status of that process.  Returns the first status
 * that is not 0 (then the others have been killed), 0, or -errno when it could not start them.
 */
int local_run(int nranks, bool bind, int (*fn)(struct local_team *team, void *arg), void *arg);

void local_barrier(struct local_team *team);
/* v[i] = the largest v[i] of all ranks. */
void local_max(struct local_team *team, double *v, int n);

/* Memory of len bytes, zeroed, that processes forked later share; NULL when there is none. */
void *local_map(size_t len);

/* Gives the processor away when a rank has looked often enough; looks starts at 0. */
void local_relax(const struct local_team *team, int *looks);

#ifdef __cplusplus
}
#endif
#endif
