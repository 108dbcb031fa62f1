/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * error.c - texts for the errors of gyre functions: what the errno means here, else the system's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <gyre/types.h>
#include "lib/util.h"

static const struct {
	int err;
	const char *text;
} error_texts[] = {
	{ 0, "success" },
	{ EACCES, "job key of a peer does not fit (EACCES)" },
	{ EAGAIN, "too many operations outstanding, complete one first (EAGAIN)" },
	{ EBUSY, "request is active (EBUSY)" },
	{ ECANCELED, "operation was cancelled (ECANCELED)" },
	{ ECONNREFUSED, "nobody listens at the address of the job or of a peer (ECONNREFUSED)" },
	{ ECONNRESET, "a rank died (ECONNRESET)" },
	{ EHOSTUNREACH, "no transport joins a pair of ranks (EHOSTUNREACH)" },
	{ EINVAL, "bad argument or setting (EINVAL)" },
	{ EMFILE, "too many open files (EMFILE)" },
	{ EMSGSIZE, "message is longer than the receive buffer (EMSGSIZE)" },
	{ ENETUNREACH, "too few ranks are left to go on (ENETUNREACH)" },
	{ ENOMEM, "out of memory (ENOMEM)" },
	{ ENOSPC, "shared memory is full (ENOSPC)" },
	{ ENOTCONN, "connection to a rank is gone (ENOTCONN)" },
	{ EOWNERDEAD, "agreed, and a rank is dead that was not known to be (EOWNERDEAD)" },
	{ EOPNOTSUPP, "not supported by this transport (EOPNOTSUPP)" },
	{ EPROTO, "calls, settings or versions of the ranks do not match (EPROTO)" },
	{ ESTALE, "this rank was declared dead by the others (ESTALE)" },
	{ ETIMEDOUT, "a host vanished or a rank stalled (ETIMEDOUT)" },
};

const char *gyre_strerror(int err)
{
	const char *text;
	size_t i;

	if (err < 0 && err >= -4095)
		err = -err;
	for (i = 0; i < GY_ARRAY_SIZE(error_texts); i++) {
		if (error_texts[i].err == err)
			return error_texts[i].text;
	}
	text = strerrordesc_np(err);
	return text ? text : "unknown error";
}
