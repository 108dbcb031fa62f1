/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/checkpoint.c - a head, whatever the callers write, and a checksum of both.
 * Written beside its final name, to which it is renamed when it is on disk. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "bench/train/checkpoint.h"

struct checkpoint {
	FILE *file;
	bool writing;
	uint32_t crc;
	int err;
	char path[PATH_MAX], beside[PATH_MAX];
};

static int checkpoint_path(const char *path, int rank, uint64_t number, struct checkpoint *c)
{
	const int len = snprintf(c->path, sizeof(c->path), "%s.%d.%d", path, rank,
				 (int)(number % 2));

	if (len + 5 > (int)sizeof(c->path))
		return -ENAMETOOLONG;
	memcpy(c->beside, c->path, len);
	memcpy(c->beside + len, ".new", 5);
	return 0;
}

int checkpoint_write(void *arg, const void *buf, size_t len)
{
	struct checkpoint *c = arg;

	if (c->err)
		return c->err;
	c->crc = crc32_z(c->crc, buf, len);
	if (fwrite(buf, 1, len, c->file) != len)
		c->err = -errno;
	return c->err;
}

int checkpoint_read(void *arg, void *buf, size_t len)
{
	struct checkpoint *c = arg;

	if (!c->err && fread(buf, 1, len, c->file) != len)
		c->err = -EBADMSG;
	return c->err;
}

int checkpoint_check(const char *path, struct why *why)
{
	const char *slash = strrchr(path, '/');
	const int len = slash ? (int)(slash - path) + 1 : 1;
	char folder[PATH_MAX];
	int err;

	snprintf(folder, sizeof(folder), "%.*s", len, slash ? path : ".");
	if (!access(folder, W_OK | X_OK))
		return 0;
	err = -errno;
	return why_set(why, err, "--checkpoint %s: no file can be made in %s: %s", path, folder,
		       strerror(-err));
}

int checkpoint_create(const char *path, int rank, const struct checkpoint_head *head,
		      struct checkpoint **cp)
{
	struct checkpoint *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	err = checkpoint_path(path, rank, head->number, c);
	if (err)
		goto free_checkpoint;
	c->writing = true;
	c->file = fopen(c->beside, "wb");
	if (!c->file) {
		err = -errno;
		goto free_checkpoint;
	}
	checkpoint_write(c, head, sizeof(*head)); /* an error is kept */
	*cp = c;
	return 0;

free_checkpoint:
	free(c);
	return err;
}

/* The file but for its last bytes has the sum that these say. */
static int checkpoint_verify(struct checkpoint *c)
{
	uint8_t block[65536];
	uint32_t crc = 0, want;
	long left;
	size_t len;

	if (fseek(c->file, 0, SEEK_END))
		return -errno;
	left = ftell(c->file) - (long)sizeof(want);
	rewind(c->file);
	while (left > 0) {
		len = left < (long)sizeof(block) ? (size_t)left : sizeof(block);
		if (fread(block, 1, len, c->file) != len)
			return -EBADMSG;
		crc = crc32_z(crc, block, len);
		left -= len;
	}
	if (left < 0 || fread(&want, 1, sizeof(want), c->file) != sizeof(want) || want != crc)
		return -EBADMSG;
	rewind(c->file);
	return 0;
}

static int checkpoint_open_file(const char *path, int rank, uint64_t number,
				struct checkpoint_head *head, struct checkpoint **cp)
{
	struct checkpoint *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	err = checkpoint_path(path, rank, number, c);
	if (err)
		goto free_checkpoint;
	c->file = fopen(c->path, "rb");
	if (!c->file) {
		err = -errno;
		goto free_checkpoint;
	}
	err = checkpoint_verify(c);
	if (!err)
		err = checkpoint_read(c, head, sizeof(*head));
	if (err)
		goto close_file;
	head->id[CHECKPOINT_ID - 1] = 0;
	*cp = c;
	return 0;

close_file:
	fclose(c->file);
free_checkpoint:
	free(c);
	return err;
}

int checkpoint_open(const char *path, int rank, const struct checkpoint_head *head,
		    struct checkpoint **cp, struct why *why)
{
	struct checkpoint_head got;
	struct checkpoint *c;
	int err = checkpoint_open_file(path, rank, head->number, &got, &c);

	if (err)
		return why_set(why, err, "checkpoint %s of rank %d: %s", path, rank,
			       err == -EBADMSG ? "damaged" : strerror(-err));
	if (got.number == head->number && strcmp(got.id, head->id) == 0) {
		*cp = c;
		return 0;
	}
	checkpoint_close(c, 0);
	if (got.number != head->number)
		return why_set(why, -ENOENT, "checkpoint %s: rank %d lacks that of test %llu", path,
			       rank, (unsigned long long)head->number);
	return why_set(why, -EBADMSG, "checkpoint %s is of another run:\n  %s\nnot\n  %s", path,
		       got.id, head->id);
}

uint64_t checkpoint_latest(const char *path, int rank)
{
	struct checkpoint_head head;
	struct checkpoint *c;
	uint64_t latest = 0;
	int i;

	for (i = 0; i < 2; i++) {
		if (checkpoint_open_file(path, rank, i, &head, &c))
			continue;
		latest = head.number > latest ? head.number : latest;
		checkpoint_close(c, 0);
	}
	return latest;
}

int checkpoint_close(struct checkpoint *c, int err)
{
	const uint32_t crc = c->crc;

	if (!err)
		err = c->err;
	if (c->writing && !err)
		err = checkpoint_write(c, &crc, sizeof(crc));
	if (c->writing && !err && (fflush(c->file) || fsync(fileno(c->file))))
		err = -errno;
	if (fclose(c->file) && !err)
		err = -errno;
	if (c->writing && !err && rename(c->beside, c->path))
		err = -errno;
	if (c->writing && err)
		unlink(c->beside);
	free(c);
	return err;
}
