/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.c - shared files: memfd, or a file in /dev/shm that never has a name, so that a killed
 * process leaves nothing behind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transports/shm/shm.h"

int shm_file_create(size_t len, int *fdp)
{
	struct rlimit lim;
	int fd, err;

	/* Beyond this limit ftruncate does not only fail, it raises SIGXFSZ. */
	if (!getrlimit(RLIMIT_FSIZE, &lim) && lim.rlim_cur != RLIM_INFINITY && len > lim.rlim_cur)
		return -ENOSPC;
	fd = memfd_create("gyre", MFD_CLOEXEC);
	if (fd < 0)
		fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len)) {
		err = -errno;
		close(fd);
		return err;
	}
	*fdp = fd;
	return 0;
}

int shm_file_back(int fd, size_t len)
{
	while (fallocate(fd, 0, 0, (off_t)len))
		if (errno != EINTR)
			return -errno;
	return 0;
}

int shm_file_map(int fd, size_t len, int prot, void **memp)
{
	struct stat st;
	void *mem;

	if (fstat(fd, &st))
		return -errno;
	if (!len || st.st_size < 0 || (uint64_t)st.st_size < len)
		return -EPROTO;		/* beyond its end reads would raise SIGBUS */
	mem = mmap(NULL, len, prot, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	*memp = mem;
	return 0;
}

/* One page, the ring, the ring again. */
int shm_inbox_map(const struct shm_nic *nic, int fd, struct shm_inbox *in)
{
	const size_t file = nic->page_bytes + nic->ring_bytes, len = file + nic->ring_bytes;
	const int prot = PROT_READ | PROT_WRITE;
	struct stat st;
	char *mem;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < file)
		return -EPROTO;
	mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		return -errno;
	if (mmap(mem, file, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(mem + file, nic->ring_bytes, prot, MAP_SHARED | MAP_FIXED, fd,
		 (off_t)nic->page_bytes) == MAP_FAILED) {
		err = -errno;
		munmap(mem, len);
		return err;
	}
	*in = (struct shm_inbox){ .mem = mem, .len = len, .fd = -1 };
	return 0;
}

int shm_inbox_create(const struct shm_nic *nic, struct shm_inbox *in)
{
	const size_t len = nic->page_bytes + nic->ring_bytes;
	int fd, err;

	err = shm_file_create(len, &fd);
	if (err)
		return err;
	err = shm_file_back(fd, len);
	if (!err)
		err = shm_inbox_map(nic, fd, in);
	if (err) {
		close(fd);
		return err;
	}
	in->fd = fd;
	return 0;
}

void shm_inbox_fini(struct shm_inbox *in)
{
	if (in->mem)
		munmap(in->mem, in->len);
	if (in->fd >= 0)
		close(in->fd);
	*in = (struct shm_inbox){ .fd = -1 };
}
