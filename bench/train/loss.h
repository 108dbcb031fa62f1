/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H
/* Softmax cross-entropy of n rows of logits against their labels. */
#include <stdint.h>

/* The mean loss; its gradient by the logits goes to dlogits. */
float loss_softmax(const float *logits, const uint8_t *labels, int n, int classes, float *dlogits);

/* How many rows have their largest logit at their label. */
int loss_count_correct(const float *logits, const uint8_t *labels, int n, int classes);

#endif
