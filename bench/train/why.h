/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_WHY_H
#define TRAIN_WHY_H
/* Why something failed, as text for the user: kept, because only one rank shall print it. */

struct why {
	char text[6144];
};

/* Sets the text and returns err. */
int why_set(struct why *why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
