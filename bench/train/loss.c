/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/loss.c - softmax cross-entropy. */
#include <math.h>

#include "bench/train/loss.h"

static int loss_largest(const float *row, int classes)
{
	int i, largest = 0;

	for (i = 1; i < classes; i++)
		if (row[i] > row[largest])
			largest = i;
	return largest;
}

/* Subtracting the largest logit changes no probability and keeps expf from overflowing. */
static double loss_row(const float *logits, int label, int classes, float weight, float *grad)
{
	const int largest = loss_largest(logits, classes);
	const float top = logits[largest];
	float sum = 1; /* the largest one's share */
	int i;

	for (i = 0; i < classes; i++) {
		grad[i] = expf(logits[i] - top);
		sum += i == largest ? 0 : grad[i];
	}
	for (i = 0; i < classes; i++)
		grad[i] *= weight / sum;
	grad[label] -= weight;
	return log(sum) - (logits[label] - top);
}

float loss_softmax(const float *logits, const uint8_t *labels, int n, int classes, float *dlogits)
{
	const float weight = 1.0f / n;
	double total = 0;
	int i;

	for (i = 0; i < n; i++, logits += classes, dlogits += classes)
		total += loss_row(logits, labels[i], classes, weight, dlogits);
	return total / n;
}

int loss_count_correct(const float *logits, const uint8_t *labels, int n, int classes)
{
	int i, correct = 0;

	for (i = 0; i < n; i++, logits += classes)
		correct += loss_largest(logits, classes) == labels[i];
	return correct;
}
