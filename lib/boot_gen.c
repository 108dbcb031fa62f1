/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_gen.c - the rendezvous: ranks become members of a generation and go through its rounds.
 *
 * Ranks that have proved the key form a generation: one connection for each rank, served until all
 * have closed.  A rank that comes again (its next context) while its generation still lives is
 * parked, without a verdict, until the next one begins.  A generation that fails (a rank is
 * missing, leaves, or is in another step) is over at once: its members are told when they ask.
 * Locking: the thread that runs the server.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/boot_priv.h"
#include "lib/log.h"
#include "lib/net.h"

static bool boot_is_stranger(const struct boot_conn *c)
{
	return c->state == BOOT_HELLO || c->state == BOOT_PROOF;
}

void gy_boot_drop(struct boot_conn *c)
{
	struct gy_boot_server *s = c->s;

	if (boot_is_stranger(c)) {
		s->nstrangers--;
	} else if (c->told) {
		s->ntold--;
	} else if (c->state != BOOT_PARKED) {
		s->nmembers--;
		s->nwaiting -= c->state == BOOT_WAITING;
		s->member[c->rank] = NULL;
	}
	gy_list_del(&c->link);
	close(c->fd);
	gy_free(c->body);
	gy_free(c);
}

/* ---- generations ---- */

static void boot_welcome(struct boot_conn *c)
{
	struct gy_boot_server *s = c->s;
	struct gy_verdict v = { .status = 0 };

	if (!s->keyed)
		memcpy(v.key, s->job_key, sizeof(v.key));
	gy_list_del(&c->link);
	gy_list_add_tail(&s->members, &c->link);
	s->nmembers++;
	s->member[c->rank] = c;
	s->njoined++;
	s->joined[c->rank] = true;
	c->state = BOOT_HEAD;
	c->got = 0;
	/* If it has gone already, reading from it will tell. */
	(void)gy_net_say(c->fd, &v, sizeof(v));
}

void gy_boot_next_generation(struct gy_boot_server *s)
{
	struct gy_list *pos, *after;

	gy_assert(gy_list_empty(&s->members));
	memset(s->joined, 0, s->nranks * sizeof(*s->joined));
	s->njoined = s->nwaiting = s->round = 0;
	s->left = -1;
	gy_list_for_each_safe(pos, after, &s->parked)
		boot_welcome(gy_list_entry(pos, struct boot_conn, link));
}

static void boot_reply(struct boot_conn *c, int status, uint64_t len)
{
	c->head = (struct gy_boot_head){ .magic = GY_BOOT_MAGIC,
					 .round = c->head.round,
					 .status = status,
					 .len = len };
	c->sent = 0;
	c->state = BOOT_REPLY;
}

void gy_boot_fail(struct gy_boot_server *s, int err)
{
	struct boot_conn *c;

	while (!gy_list_empty(&s->members)) {
		c = gy_list_entry(gy_list_pop(&s->members), struct boot_conn, link);
		gy_list_add_tail(&s->told, &c->link);
		s->ntold++;
		s->nmembers--;
		s->member[c->rank] = NULL;
		c->told = err;
		if (c->state == BOOT_WAITING)
			boot_reply(c, err, 0);
	}
	gy_boot_next_generation(s);
}

static void boot_fail_left(struct gy_boot_server *s)
{
	gy_err("rendezvous: rank %lld left while others wait for it", (long long)s->left);
	gy_boot_fail(s, -ECONNRESET);
}

/* A connection has ended.  A rank that leaves before the others have come takes them with it. */
void gy_boot_lost(struct boot_conn *c)
{
	struct gy_boot_server *s = c->s;
	const bool member = !boot_is_stranger(c) && c->state != BOOT_PARKED && !c->told;

	if (member && s->left < 0)
		s->left = c->rank;
	gy_boot_drop(c);
	if (member && s->nwaiting)
		boot_fail_left(s);
	else if (member && s->njoined < s->nranks)
		gy_boot_fail(s, -ECONNRESET);
}

/* ---- rounds ---- */

static int boot_gather(struct gy_boot_server *s)
{
	struct gy_list *pos;
	struct boot_conn *c;
	uint8_t *all;

	if (s->all_size < s->nranks * s->round_len) {
		all = gy_alloc_array(s->nranks, s->round_len);
		if (!all)
			return -ENOMEM;
		gy_free(s->all);
		s->all = all;
		s->all_size = s->nranks * s->round_len;
	}
	gy_list_for_each(pos, &s->members) {
		c = gy_list_entry(pos, struct boot_conn, link);
		if (s->round_len)
			memcpy(s->all + c->rank * s->round_len, c->body, s->round_len);
		boot_reply(c, 0, s->nranks * s->round_len);
	}
	s->nwaiting = 0;
	s->round++;
	return 0;
}

/* All of c's blob is here. */
void gy_boot_on_blob(struct boot_conn *c)
{
	struct gy_boot_server *s = c->s;
	const uint64_t end_ms = gy_boot_now_ms() + c->head.timeout_ms;
	int err;

	if (c->told) {
		boot_reply(c, c->told, 0);
		return;
	}
	if (s->nwaiting == 0) {
		s->round_len = c->head.len;
		s->round_end_ms = end_ms;
	}
	if (end_ms < s->round_end_ms)
		s->round_end_ms = end_ms;
	c->state = BOOT_WAITING;
	s->nwaiting++;
	if (s->left >= 0) {
		boot_fail_left(s);
	} else if (c->head.len != s->round_len || c->head.round != s->round) {
		gy_err("rendezvous: rank %u is in another step than the others", c->rank);
		gy_boot_fail(s, -EPROTO);
	} else if (s->nwaiting == s->nranks) {
		err = boot_gather(s);
		if (err)
			gy_boot_fail(s, err);
	}
}

/* ---- becoming a member ---- */

/* The hello is here: what is wrong with it, as far as one can tell without proof. */
static int boot_check_hello(const struct boot_conn *c)
{
	int err = gy_hello_check(&c->hello, c->s->key);

	if (err)
		return err;
	if (strcmp(c->hello.service, GY_BOOT_SERVICE))
		return -EPROTO;
	return c->hello.to == c->s->nranks && c->hello.from < c->s->nranks ? 0 : -EINVAL;
}

int gy_boot_on_hello(struct boot_conn *c)
{
	const int err = boot_check_hello(c);
	int r;

	gy_hello_answer(&c->hello, c->s->key, err, &c->challenge);
	r = gy_net_say(c->fd, &c->challenge, sizeof(c->challenge));
	if (err || r)
		return err ? err : r;
	c->rank = c->hello.from;
	c->state = BOOT_PROOF;
	c->got = 0;
	return 0;
}

static bool boot_is_parked(const struct gy_boot_server *s, uint32_t rank)
{
	struct gy_list *pos;

	gy_list_for_each(pos, &s->parked)
		if (gy_list_entry(pos, struct boot_conn, link)->rank == rank)
			return true;
	return false;
}

int gy_boot_on_proof(struct boot_conn *c)
{
	const struct gy_verdict taken = { .status = -EEXIST };
	struct gy_boot_server *s = c->s;
	int err;

	err = gy_hello_proved(&c->hello, s->key, &c->challenge, &c->proof);
	if (err)
		return err;
	if (s->joined[c->rank] && boot_is_parked(s, c->rank)) {
		gy_err("rendezvous: two processes say that they are rank %u", c->rank);
		gy_net_say(c->fd, &taken, sizeof(taken));
		return -EEXIST;
	}
	s->nstrangers--;
	if (!s->joined[c->rank]) {
		boot_welcome(c);
		return 0;
	}
	c->state = BOOT_PARKED;
	gy_list_del(&c->link);
	gy_list_add_tail(&s->parked, &c->link);
	return 0;
}
