/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance_fault.c - ranks that die, stop or leave, and strangers.
 */
#define _GNU_SOURCE
#include "tests/multi/conformance.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the end of a process ---- */

#define FAULT_GRAIN 100000

enum { FAULT_LENT, FAULT_ALIVE };	/* hdr.stream */

struct fault {
	struct gy_remote remote;	/* memory that the victim lent */
	bool alive;			/* the other survivor says so */
	unsigned acts, last;		/* of the victim */
	struct gy_grain grain[2];
	bool busy[2];
	char *src, *dst;
};

static void fault_deliver(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr,
			  const void *body)
{
	struct fault *f = c->state;

	CHECK(hdr->len == sizeof(f->remote));
	if (hdr->stream == FAULT_LENT)
		memcpy(&f->remote, body, sizeof(f->remote));
	else
		f->alive = true;
}

static int fault_place(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	const struct fault *f = c->state;

	CHECK(p->peer.rank == 2 && hdr->len == FAULT_GRAIN);
	*dstp = f->dst;			/* all are equal */
	return 0;
}

static void fault_arrived(struct conf *c, struct conf_peer *p, const struct gy_hdr *hdr)
{
	const struct fault *f = c->state;

	CHECK(conf_matches(f->dst, FAULT_GRAIN, 1));
}

static void fault_sent(struct conf *c, struct conf_peer *p, struct gy_grain *grain)
{
	struct fault *f = c->state;

	f->busy[p->peer.rank] = false;
}

/* One message or grain to each of the others. */
static void fault_act(struct conf *c)
{
	struct fault *f = c->state;
	struct gy_grain *g;
	int i;

	for (i = 0; i < 2; i++) {
		if (f->acts++ == f->last)
			c->ranks->die(c, 0);
		if (!c->peers[i].blocked)
			conf_send(c, &c->peers[i], (uint32_t)(conf_random(&c->seed) % 1000));
		if ((c->caps & (GY_CAP_BULK | GY_CAP_WRITE)) != GY_CAP_BULK || f->busy[i])
			continue;
		g = &f->grain[i];
		*g = (struct gy_grain){ .src = f->src };
		g->hdr = (struct gy_hdr){ .kind = CONF_OTHER, .len = FAULT_GRAIN };
		f->busy[i] = !c->ops->bulk(c->peers[i].peer.ep, g);
	}
}

static bool fault_victim(struct conf *c)
{
	fault_act(c);
	c->idle = 0;
	return false;
}

static bool fault_survivor(struct conf *c)
{
	conf_send_all(c);
	return c->peers[2].down;
}

static bool fault_other_alive(struct conf *c)
{
	const struct fault *f = c->state;

	return f->alive;
}

/* By its own hand between two calls, or, every other time, anywhere. */
static void fault_run_victim(struct conf *c)
{
	struct fault *f = c->state;
	const uint64_t r = conf_random(&c->seed);
	struct gy_remote remote;
	void *mem;
	int i;

	if (c->caps & GY_CAP_LEND) {
		CHECK(!c->ops->mem_alloc(c->nic, FAULT_GRAIN, &mem));
		for (i = 0; i < 2; i++) {
			CHECK(!c->ops->lend(c->peers[i].peer.ep, mem, FAULT_GRAIN, &remote));
			conf_say(c, &c->peers[i], FAULT_LENT, &remote, sizeof(remote));
		}
	}
	f->last = r % 2 ? (unsigned)(r >> 40) % 4000 : ~0u;
	if (!(r % 2))
		c->ranks->die(c, 1000 * (1 + (r >> 8) % 30000));
	conf_wait(c, fault_victim);
}

static void fault_after(struct conf *c)
{
	struct fault *f = c->state;
	struct conf_peer *p = &c->peers[2];
	const struct gy_hdr hdr = { .kind = CONF_MSG };
	struct gy_ep *ep = p->peer.ep;
	const void *ptr;
	char byte;
	unsigned i;

	CHECK(p->err == -ECONNRESET || p->err == -EPIPE);
	CHECK(p->down_ns - atomic_load(&c->shared->died_ns) < 1000000000ull * conf_slowdown());
	CHECK(c->ops->msg(ep, &hdr, NULL) == -ENOTCONN);
	if (c->caps & GY_CAP_LEND) {
		CHECK(c->ops->lend(ep, &byte, 1, &f->remote) == -ENOTCONN);
		CHECK(c->ops->map(ep, &f->remote, 0, 1, &ptr) == -ENOTCONN);
		CHECK(c->ops->pull(ep, &f->remote, 0, &byte, 1) == -ENOTCONN);
	}
	for (i = 0; i < 100; i++)	/* and says so once only */
		conf_pump(c);
	c->ops->ep_close(ep, true);
	p->peer.ep = NULL;
}

/* Rank 2 is killed somewhere; the others hear of it within a second and go on with each other. */
void conf_kill(struct conf *c)
{
	struct fault *f = conf_alloc(c, sizeof(*f));
	struct conf_peer *p = &c->peers[!c->rank];

	c->state = f;
	f->src = conf_alloc(c, FAULT_GRAIN);
	f->dst = conf_alloc(c, FAULT_GRAIN);
	conf_fill(f->src, FAULT_GRAIN, 1);
	c->deliver = fault_deliver;
	c->place = fault_place;
	c->arrived_grain = fault_arrived;
	c->sent = fault_sent;
	conf_connect_all(c);
	if (c->rank == 2)
		fault_run_victim(c);
	/* Every other time there is little to say, and who has said it sleeps until the end. */
	p->limit = c->peers[2].limit = conf_random(&c->seed) % 2 ? UINT32_MAX : 200;
	c->sleepy = true;
	conf_wait(c, fault_survivor);
	fault_after(c);
	conf_say(c, p, FAULT_ALIVE, &f->remote, sizeof(f->remote));
	conf_wait(c, fault_other_alive);
	CHECK(!p->down);
	c->nranks = 2;
	conf_barrier(c);
}

/* ---- a process that is stopped ---- */

static bool fault_started(struct conf *c)
{
	return c->peers[!c->rank].seq_in > 0;
}

/* It is not dead, and goes on where it was. */
void conf_stop(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];

	conf_connect_all(c);
	if (c->rank == 1) {
		c->ranks->stop(c);
	} else {
		c->sleepy = true;
		conf_wait(c, fault_started);
	}
	p->limit = 1000;
	conf_wait(c, conf_all_done);
	CHECK(!p->down);
	conf_barrier(c);
}

/* ---- a rank that closes without a word ---- */

void conf_leave(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];

	conf_connect_all(c);
	if (c->rank == 0) {
		c->ops->ep_close(p->peer.ep, false);
		p->peer.ep = NULL;
		return;
	}
	c->sleepy = true;
	conf_wait(c, conf_any_down);
	CHECK(p->err == -ECONNRESET && p->down == 1);
}

/* ---- strangers ---- */

/* The sockets that this process listens on, for the attacker. */
static void fault_list_sockets(struct conf *c)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, on;
	unsigned n;

	for (fd = 3; fd < 200; fd++) {
		len = sizeof(on);
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) || !on)
			continue;
		len = sizeof(addr);
		CHECK(!getsockname(fd, (struct sockaddr *)&addr, &len));
		n = atomic_fetch_add(&c->shared->nsockets, 1);
		CHECK(n < CONF_RANKS * CONF_SOCKETS);
		c->shared->sockets[n].addr = addr;
		c->shared->sockets[n].len = len;
	}
}

/* Connects, says anything, hangs up or stays, until the flag is set. */
static void fault_attack(struct conf_shared *s, uint64_t seed)
{
	const struct timeval patience = { .tv_usec = 100000 };
	uint64_t junk[512];
	int held[20], nheld = 0, fd;
	unsigned k;

	while (!atomic_load(&s->flag)) {
		sched_yield();
		k = (unsigned)(conf_random(&seed) % atomic_load(&s->nsockets));
		fd = socket(s->sockets[k].addr.ss_family, SOCK_STREAM, 0);
		CHECK(fd >= 0);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		if (connect(fd, (struct sockaddr *)&s->sockets[k].addr, s->sockets[k].len)) {
			close(fd);
			continue;
		}
		conf_fill(junk, sizeof(junk), conf_random(&seed));
		send(fd, junk, conf_random(&seed) % sizeof(junk), MSG_NOSIGNAL);
		if (nheld < (int)GY_ARRAY_SIZE(held) && conf_random(&seed) % 4 == 0)
			held[nheld++] = fd;
		else
			close(fd);
	}
	while (nheld)
		close(held[--nheld]);
}

void conf_garbage(struct conf *c)
{
	struct conf_peer *p = &c->peers[!c->rank];
	pid_t pid = 0;
	int status;

	fault_list_sockets(c);
	conf_barrier(c);
	CHECK(atomic_load(&c->shared->nsockets) >= 2);
	if (c->rank == 0) {
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			fault_attack(c->shared, c->seed);
			_exit(0);
		}
	}
	conf_connect_all(c);
	p->limit = 3000;
	conf_wait(c, conf_all_done);
	CHECK(p->up == 1 && !p->down);
	conf_barrier(c);
	if (c->rank == 0) {
		atomic_store(&c->shared->flag, 1);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}
