/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello.c - codec and proofs of the hello (hello.h).
 * Locking: none, no state.
 */
#include "lib/hello.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

#include "lib/util.h"

static const uint8_t hello_magic[8] = "gyre-hi";
static const uint8_t hello_answer_magic[8] = "gyre-ok";

/* What a proof covers: all that both sides have said, up to the proofs. */
struct hello_text {
	char role[16];
	struct gy_hello hello;
	uint8_t challenge[offsetof(struct gy_challenge, proof)];
};

void gy_hello_random(uint8_t *buf, unsigned len)
{
	gy_assert(len <= 256);		/* up to that getrandom is not cut short by signals */
	while (getrandom(buf, len, 0) != (ssize_t)len)
		;
}

/* HMAC-SHA256.  libcrypto can fail only by memory: a proof of zeros that nobody will accept. */
static void hello_hmac(const uint8_t key[GY_KEY_LEN], const void *text, size_t len, uint8_t mac[32])
{
	if (!HMAC(EVP_sha256(), key, GY_KEY_LEN, text, len, mac, NULL))
		memset(mac, 0, 32);
}

static void hello_proof(const char *role, const struct gy_hello *h, const uint8_t key[GY_KEY_LEN],
			const struct gy_challenge *c, uint8_t mac[32])
{
	struct hello_text text;

	memset(&text, 0, sizeof(text));
	memcpy(text.role, role, strlen(role));
	text.hello = *h;
	memcpy(text.challenge, c, sizeof(text.challenge));
	hello_hmac(key, &text, sizeof(text), mac);
}

static int hello_same(const uint8_t a[32], const uint8_t b[32])
{
	static const uint8_t zero[32];

	/* Zeros are what a failed HMAC leaves. */
	return CRYPTO_memcmp(a, b, 32) == 0 && CRYPTO_memcmp(a, zero, 32) != 0;
}

static void hello_job(const uint8_t key[GY_KEY_LEN], uint8_t job[16])
{
	uint8_t mac[32];

	hello_hmac(key, "job", 3, mac);
	memcpy(job, mac, 16);
}

void gy_hello_make(struct gy_hello *h, const uint8_t key[GY_KEY_LEN], const char *service,
		   uint32_t from, uint32_t to, unsigned lane)
{
	gy_assert(strlen(service) < sizeof(h->service));
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, hello_magic, sizeof(h->magic));
	h->version = GY_HELLO_VERSION;
	h->lane = (uint16_t)lane;
	h->from = from;
	h->to = to;
	memcpy(h->service, service, strlen(service));
	hello_job(key, h->job);
	gy_hello_random(h->nonce, sizeof(h->nonce));
}

int gy_hello_check(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN])
{
	uint8_t job[16];

	if (memcmp(h->magic, hello_magic, sizeof(h->magic)) || h->version != GY_HELLO_VERSION ||
	    h->service[sizeof(h->service) - 1] != '\0')
		return -EPROTO;
	hello_job(key, job);
	return memcmp(h->job, job, sizeof(job)) ? -EACCES : 0;
}

void gy_hello_answer(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN], int status,
		     struct gy_challenge *c)
{
	memset(c, 0, sizeof(*c));
	memcpy(c->magic, hello_answer_magic, sizeof(c->magic));
	c->version = GY_HELLO_VERSION;
	c->status = status;
	if (status)
		return;			/* no proof for those who are refused anyway */
	gy_hello_random(c->nonce, sizeof(c->nonce));
	hello_proof("acceptor", h, key, c, c->proof);
}

int gy_hello_prove(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN],
		   const struct gy_challenge *c, struct gy_proof *p)
{
	uint8_t mac[32];

	if (memcmp(c->magic, hello_answer_magic, sizeof(c->magic)) ||
	    c->version != GY_HELLO_VERSION)
		return -EPROTO;
	if (c->status)
		return c->status < 0 && c->status >= -4095 ? c->status : -EPROTO;
	hello_proof("acceptor", h, key, c, mac);
	if (!hello_same(mac, c->proof))
		return -EACCES;
	hello_proof("dialler", h, key, c, p->proof);
	return 0;
}

int gy_hello_proved(const struct gy_hello *h, const uint8_t key[GY_KEY_LEN],
		    const struct gy_challenge *c, const struct gy_proof *p)
{
	uint8_t mac[32];

	hello_proof("dialler", h, key, c, mac);
	return hello_same(mac, p->proof) ? 0 : -EACCES;
}
