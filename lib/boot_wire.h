/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_BOOT_WIRE_H
#define GY_BOOT_WIRE_H
/*
 * What a client and the rendezvous say after the hello (hello.h, service "boot", to = number of
 * ranks): in each round every client sends a header and len bytes, and gets a header and the
 * nranks * len bytes of all, or a header with an error.  Little-endian, as in memory.
 */
#include <stdint.h>

#define GY_BOOT_SERVICE "boot"
#define GY_BOOT_MAGIC 0x746f6f62u	/* "boot" */
#define GY_BOOT_MAX_LEN (1u << 20)	/* bytes of a rank in a round */

struct gy_boot_head {
	uint32_t magic;
	uint32_t round;		/* from 0 */
	int32_t status;		/* reply: 0 or -errno */
	uint32_t timeout_ms;	/* request: what this rank will wait for the others */
	uint64_t len;		/* bytes that follow */
};

_Static_assert(sizeof(struct gy_boot_head) == 24, "wire format");
#endif
