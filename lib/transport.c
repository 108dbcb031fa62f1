/* SPDX-License-Identifier: BSD-3-Clause */
/* transport.c - what a transport puts into slots that it has no use for; see transport.h. */
#include "lib/transport.h"

#include <errno.h>
#include <unistd.h>

int gy_no_bulk(struct gy_ep *ep, struct gy_grain *grain)
{
	return -EOPNOTSUPP;
}

int gy_no_expose(struct gy_ep *ep, void *ptr, size_t len, struct gy_remote *remote)
{
	return -EOPNOTSUPP;
}

int gy_no_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote)
{
	return -EOPNOTSUPP;
}

int gy_no_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
	      const void **ptrp)
{
	return -EOPNOTSUPP;
}

int gy_no_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst, size_t len)
{
	return -EOPNOTSUPP;
}

void gy_no_accepted(struct gy_ep *ep, unsigned lane, int fd)
{
	close(fd);
}

void gy_no_revoke(struct gy_ep *ep, const void *ptr, size_t len)
{
}

int gy_no_arm(struct gy_nic *nic)
{
	return 0;
}

void gy_no_disarm(struct gy_nic *nic)
{
}

int gy_no_mem_alloc(struct gy_nic *nic, size_t len, void **ptrp)
{
	return -EOPNOTSUPP;
}

int gy_no_mem_free(struct gy_nic *nic, void *ptr)
{
	return -EINVAL;
}

int gy_no_mem_register(struct gy_nic *nic, void *ptr, size_t len)
{
	return 0;
}

void gy_no_mem_unregister(struct gy_nic *nic, void *ptr, size_t len)
{
}
