/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_BOOT_H
#define GY_BOOT_H
/*
 * Meeting at GYRE_ROOT: a rendezvous that gathers one blob from each rank and gives all to all.
 * gyrerun serves it for its job; without gyrerun, rank 0 does, on a thread that lives during
 * gyre_context_create.  Every connection proves the job key (when there is one) as in wire.h;
 * messages are length-limited and versioned, time is bounded by boot_timeout_ms.
 */
#include <stddef.h>
#include <stdint.h>

struct gy_boot;
struct gy_boot_server;

/*
 * Server for nranks ranks at "host:port" (port 0: any).  Any number of allgather rounds until every
 * client has closed.  The bound address ("127.0.0.1:40123") is written to text.
 * _run serves until done (0), an error, or the timeout; blocking; any thread.
 */
int gy_boot_server_open(const char *addr, int nranks, const uint8_t key[16],
			struct gy_boot_server **sp, char *text, size_t len);
int gy_boot_server_run(struct gy_boot_server *s, int timeout_ms);
void gy_boot_server_stop(struct gy_boot_server *s);	/* any thread: ends run soon */
void gy_boot_server_close(struct gy_boot_server *s);

/*
 * Client.  Rank 0 with serve != 0 opens the server at addr too, unless addr is taken: by a
 * launcher.  key: the job key, or, when have_key is 0, rank 0 makes one and all ranks get it from
 * the rendezvous; written back.
 */
int gy_boot_join(const char *addr, int rank, int nranks, int serve, uint8_t key[16], int have_key,
		 int timeout_ms, struct gy_boot **bp);
/* Blocking; signature of gyre_context_attr.allgather. */
int gy_boot_allgather(void *boot, const void *in, void *out, size_t len);
void gy_boot_leave(struct gy_boot *b);
#endif
