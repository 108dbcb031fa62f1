/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/idx.c - IDX files through zlib.
 * The header is not trusted: dimensions are bounded before anything is allocated, and a file
 * that is shorter or longer than its header says, or fails gzip's checksum, is -EBADMSG.
 * The checksum and the length are only seen when the file is read to its end. */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "bench/train/idx.h"

#define IDX_TYPE_U8 0x08
#define IDX_MAX_LEN ((size_t)1 << 30)

static int idx_read_exactly(gzFile file, void *buf, size_t len)
{
	return gzread(file, buf, len) == (int)len ? 0 : -EBADMSG;
}

static int idx_read_header(gzFile file, struct idx *idx)
{
	uint8_t magic[4], dim[4];
	size_t len = 1;
	int i, err;

	err = idx_read_exactly(file, magic, sizeof(magic));
	if (err)
		return err;
	if (magic[0] || magic[1] || magic[2] != IDX_TYPE_U8 || !magic[3] || magic[3] > IDX_MAX_DIMS)
		return -EBADMSG;
	idx->ndims = magic[3];
	for (i = 0; i < idx->ndims; i++) {
		err = idx_read_exactly(file, dim, sizeof(dim));
		if (err)
			return err;
		idx->dims[i] = (uint32_t)dim[0] << 24 | dim[1] << 16 | dim[2] << 8 | dim[3];
		if (!idx->dims[i] || idx->dims[i] > IDX_MAX_LEN / len)
			return -EBADMSG;
		len *= idx->dims[i];
	}
	idx->item_len = len / idx->dims[0];
	return 0;
}

static int idx_read_items(gzFile file, size_t max_items, struct idx *idx)
{
	const int whole = idx->dims[0] <= max_items;
	uint8_t past_end;
	size_t len;
	int err;

	if (!whole)
		idx->dims[0] = max_items;
	len = idx->dims[0] * idx->item_len;
	idx->bytes = malloc(len);
	if (!idx->bytes)
		return -ENOMEM;
	err = idx_read_exactly(file, idx->bytes, len);
	if (!err && whole && gzread(file, &past_end, 1) != 0)
		err = -EBADMSG;
	if (err)
		idx_fini(idx);
	return err;
}

int idx_read(const char *path, size_t max_items, struct idx *idx)
{
	struct idx got = { 0 };
	gzFile file;
	int err;

	if (!max_items)
		return -EINVAL;
	errno = 0;
	file = gzopen(path, "rb");
	if (!file)
		return errno ? -errno : -ENOMEM;
	err = idx_read_header(file, &got);
	if (!err)
		err = idx_read_items(file, max_items, &got);
	if (gzclose_r(file) != Z_OK && !err) { /* its checksum is cut off */
		idx_fini(&got);
		err = -EBADMSG;
	}
	if (!err)
		*idx = got;
	return err;
}

void idx_fini(struct idx *idx)
{
	free(idx->bytes);
	idx->bytes = NULL;
}
