/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TRAIN_IDX_H
#define TRAIN_IDX_H
/*
 * IDX files, as MNIST and its descendants come: a big-endian header (two zero bytes, element
 * type, number of dimensions, the dimensions), then the elements, row-major.  Only bytes as
 * elements.  Compressed by gzip or not.
 */
#include <stddef.h>
#include <stdint.h>

#define IDX_MAX_DIMS 3

struct idx {
	int ndims;
	uint32_t dims[IDX_MAX_DIMS]; /* dims[0] is the number of items */
	size_t item_len;	     /* bytes of one item: the product of the other dimensions */
	uint8_t *bytes;		     /* dims[0] * item_len */
};

/*
 * Reads path; of more than max_items items, only the first max_items.  Free by idx_fini.
 * Errors: -ENOENT and the like, -EBADMSG (not such a file, truncated or damaged), -ENOMEM.
 */
int idx_read(const char *path, size_t max_items, struct idx *idx);

void idx_fini(struct idx *idx);

#endif
