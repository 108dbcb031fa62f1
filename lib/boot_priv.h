/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_BOOT_PRIV_H
#define GY_BOOT_PRIV_H
/*
 * What boot_server.c (connections, time) and boot_gen.c (ranks, generations, rounds) share.
 */
#include <poll.h>
#include <stdbool.h>
#include <time.h>

#include "lib/boot.h"
#include "lib/boot_wire.h"
#include "lib/hello.h"
#include "lib/list.h"

enum boot_state {
	BOOT_HELLO,	/* a stranger: waits for its hello, */
	BOOT_PROOF,	/* for its proof */
	BOOT_PARKED,	/* proved, for the next generation */
	BOOT_HEAD,	/* a member: waits for its next blob's header, */
	BOOT_BODY,	/* for the blob, */
	BOOT_WAITING,	/* for those of the others; */
	BOOT_REPLY,	/* is sent all of them */
};

struct boot_conn {
	struct gy_list link;		/* server.strangers, .parked, .members or .told */
	struct gy_boot_server *s;
	int fd;
	enum boot_state state;
	uint32_t rank;			/* once the hello is there */
	uint64_t deadline_ms;		/* of a stranger */
	int told;			/* -errno: its generation has failed */
	size_t got, sent;		/* bytes of the message in hand */
	struct gy_hello hello;
	struct gy_challenge challenge;
	struct gy_proof proof;
	struct gy_boot_head head;	/* of the round: in, then out */
	uint8_t *body;
};

struct gy_boot_server {
	int listener, stop;
	uint64_t listen_ms;		/* look at the listener from then on */
	uint32_t nranks;
	bool keyed;
	uint8_t key[GY_KEY_LEN];	/* that hellos are proved by; zeros when not keyed */
	uint8_t job_key[GY_KEY_LEN];	/* given to ranks when not keyed */
	uint64_t end_ms;
	bool stopping;

	struct gy_list strangers, parked, members, told;
	uint32_t nstrangers, nmembers, ntold;
	struct boot_conn **member;	/* by rank; NULL: has not joined, or has left */
	bool *joined;
	uint32_t njoined, nwaiting;
	int64_t left;			/* first member that has left, or -1 */

	uint32_t round;
	uint64_t round_len, round_end_ms;
	uint8_t *all;			/* last reply; all have it before the next completes */
	size_t all_size;

	struct pollfd *pfds;
	struct boot_conn **polled;
	size_t npolled, max_polled;
};

static inline uint64_t gy_boot_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Closes and frees a connection, whatever it is. */
void gy_boot_drop(struct boot_conn *c);
/* A connection has ended: drops it, and does what that means to the others. */
void gy_boot_lost(struct boot_conn *c);

/* The message is here.  -errno: the connection is to be dropped. */
int gy_boot_on_hello(struct boot_conn *c);
int gy_boot_on_proof(struct boot_conn *c);
void gy_boot_on_blob(struct boot_conn *c);

/* There are no members: those who wait for their turn are the first of a new generation. */
void gy_boot_next_generation(struct gy_boot_server *s);
/* This one can complete no round any more: its members are told when they wait for one. */
void gy_boot_fail(struct gy_boot_server *s, int err);
#endif
