/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_LAUNCH_H
#define TRAIN_LAUNCH_H

/*
 * Becomes "gyrerun -n nranks" of this very program with the same arguments.  Returns only on
 * error, -errno, after saying what to do.
 */
int launch_ranks(int nranks, char **argv);

#endif
