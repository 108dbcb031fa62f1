/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_HELLO_H
#define GY_HELLO_H
/*
 * The hello that opens every connection of a job: who calls, for what, and proof by both sides that
 * they hold the 128-bit job key.  Messages of fixed length; no I/O here (wire.c, boot*.c do it).
 *
 *	dialler				acceptor
 *	gy_hello	-------->			who I am, whom I call, for what; a nonce
 *			<--------	gy_challenge	a nonce; HMAC of "acceptor", both
 *	gy_proof	-------->			HMAC of "dialler", both
 *			<--------	gy_verdict	0 or why not
 *
 * The key never travels (but see gy_verdict.key).  Fresh nonces make a recorded hello worthless;
 * the two words make a reflected proof worthless.  What follows on the connection is not protected.
 * Wire format: little-endian, as in memory (x86, arm64).  MT-Safe.
 */
#include <stdint.h>

#define GY_HELLO_VERSION 1	/* of everything that ranks say to each other */
#define GY_KEY_LEN 16

struct gy_hello {
	uint8_t magic[8];
	uint16_t version;
	uint16_t lane;
	uint32_t from, to;	/* ranks; to the rendezvous: number of ranks */
	char service[12];	/* name of the transport, or "boot"; padded with zeros */
	uint8_t job[16];	/* tells jobs apart: a hash of the key */
	uint8_t nonce[16];
};

struct gy_challenge {
	uint8_t magic[8];
	uint16_t version;
	uint16_t zero;
	int32_t status;		/* -errno: refused, the connection is closed; by nobody proved */
	uint8_t nonce[16];
	uint8_t proof[32];
};

struct gy_proof {
	uint8_t proof[32];
};

struct gy_verdict {
	int32_t status;		/* 0 or -errno */
	uint32_t zero;
	uint8_t key[GY_KEY_LEN];	/* from a rendezvous without a key: the job's; else zero */
};

_Static_assert(sizeof(struct gy_hello) == 64 && sizeof(struct gy_challenge) == 64 &&
		       sizeof(struct gy_proof) == 32 && sizeof(struct gy_verdict) == 24,
	       "wire format");

/* Fresh random bytes of the kernel. */
void gy_hello_random(uint8_t *buf, unsigned len);

void gy_hello_make(struct gy_hello *h, const uint8_t key[GY_KEY_LEN], const char *service,
		   uint32_t from, uint32_t to, unsigned lane);

/*
 * Acceptor: 0, -EPROTO (not a hello of this version) or -EACCES (of another job).  Proves nothing
 * yet.
 */
int gy_hello_check(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN]);

/* Acceptor: status is what gy_hello_check said, or another reason to refuse. */
void gy_hello_answer(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN], int status,
		     struct gy_challenge *c);

/* Dialler: 0, or why not: -EPROTO, -EACCES, the acceptor's status. */
int gy_hello_prove(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN],
		   const struct gy_challenge *c, struct gy_proof *p);

/* Acceptor: 0 or -EACCES. */
int gy_hello_proved(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN],
		    const struct gy_challenge *c, const struct gy_proof *p);
#endif
