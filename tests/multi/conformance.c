/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance.c - the fake engine; see conformance.h.
 */
#define _GNU_SOURCE
#include "tests/multi/conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"

#define TICK_NS 20000000ull
#define IDLE_ROUNDS 200		/* pumps that find nothing, before a wait sleeps */
#define SIM_SHARE 20		/* of what processes do, the simulator does one in so many */

void conf_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "[%d] %s:%d: failed: %s\n", (int)getpid(), file, line, what);
	_exit(1);
}

static struct conf *to_conf(struct gy_ep *ep)
{
	return gy_container_of(ep->nic->ctx, struct conf, ctx);
}

static struct conf_peer *to_peer(struct gy_ep *ep)
{
	return gy_container_of(ep->peer, struct conf_peer, peer);
}

/* ---- upcalls ---- */

void gy_ep_up(struct gy_ep *ep)
{
	struct conf_peer *p = to_peer(ep);

	CHECK(!p->up++ && !p->down);
	p->peer.state = GY_PEER_UP;
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	struct conf_peer *p = to_peer(ep);

	CHECK(!p->down++);
	CHECK(err < 0 && why && *why);
	p->err = err;
	p->down_ns = conf_now(to_conf(ep));
	p->peer.state = GY_PEER_LOST;
	snprintf(p->why, sizeof(p->why), "%s", why);
}

void gy_ep_room(struct gy_ep *ep)
{
	struct conf_peer *p = to_peer(ep);

	p->rooms++;
	p->blocked = false;
}

static uint64_t conf_msg_seed(int from, int to, uint32_t seq)
{
	return ((uint64_t)from << 40 | (uint64_t)to << 32 | seq) * 0x9e3779b97f4a7c15;
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct conf *c = to_conf(ep);
	struct conf_peer *p = to_peer(ep);

	CHECK(p->up && !p->down);
	CHECK(hdr->len <= gy_body_max(ep));
	CHECK(((uintptr_t)body & 7) == 0);	/* the engine reads numbers from it */
	if (hdr->kind == CONF_MSG) {
		CHECK(hdr->seq == p->seq_in);
		CHECK(hdr->count == ~(uint64_t)hdr->seq && hdr->credit == hdr->len);
		CHECK(conf_matches(body, hdr->len,
				   conf_msg_seed(p->peer.rank, c->rank, hdr->seq)));
		p->seq_in++;
		return;
	}
	CHECK(hdr->kind == CONF_OTHER && c->deliver);
	c->deliver(c, p, hdr, body);
}

int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	struct conf *c = to_conf(ep);

	CHECK(c->place);
	return c->place(c, to_peer(ep), hdr, dstp);
}

void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr)
{
	struct conf *c = to_conf(ep);

	CHECK(c->arrived_grain);
	c->arrived_grain(c, to_peer(ep), hdr);
}

void gy_sent(struct gy_ep *ep, struct gy_grain *grain)
{
	struct conf *c = to_conf(ep);

	CHECK(c->sent);
	c->sent(c, to_peer(ep), grain);
}

void gy_written(struct gy_ep *ep, uint32_t ticket)
{
	struct conf *c = to_conf(ep);

	CHECK(c->written);
	c->written(c, to_peer(ep), ticket);
}

void gy_ep_unfit(struct gy_ep *ep, const char *why)
{
	conf_fail(__FILE__, __LINE__, why);
}

int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp)
{
	struct conf *c = gy_container_of(ctx, struct conf, ctx);

	CHECK(rank >= 0 && rank < c->nranks && rank != c->rank);
	if (strcmp(transport, c->ops->name) || c->peers[rank].down)
		return -ESTALE;
	*epp = conf_ep(c, rank);
	return 0;
}

/* ---- a rank's life ---- */

static uint64_t conf_limit(void)
{
	return CONF_WAIT_S * conf_slowdown() * 1000000000ull;
}

static void conf_yield(struct conf *c)
{
	c->ctx.sys->ops->yield(c->ctx.sys);
}

static void conf_wait_count(struct conf *c, _Atomic unsigned *count, unsigned n)
{
	const uint64_t end = conf_now(c) + conf_limit();

	while (atomic_load(count) < n) {
		CHECK(conf_now(c) < end);
		conf_yield(c);
	}
}

/* All ranks' addresses become known to all. */
static void conf_exchange(struct conf *c, const struct gy_job_entry *own)
{
	c->shared->job[c->rank] = *own;
	atomic_fetch_add(&c->shared->arrived, 1);
	conf_wait_count(c, &c->shared->arrived, (unsigned)c->nranks);
	memcpy(c->ctx.job, c->shared->job, (size_t)c->nranks * sizeof(*own));
}

int conf_open(struct conf *c, const struct conf_transport *tp, const struct conf_case *test,
	      struct conf_shared *shared, int rank)
{
	const struct gy_transport_ops *ops = tp->ops;
	struct gyre_context *ctx = &c->ctx;
	struct gy_job_entry own;
	int i, n, err;

	c->ops = ops;
	c->shared = shared;
	c->rank = rank;
	c->nranks = test->nranks;
	c->sim = tp->sim;
	c->shaped = *tp->tcp_shape;
	c->seed = shared->seed + (uint64_t)rank;
	gy_config_init(&ctx->cfg);
	ctx->cfg.cma = test->copies ? GY_CONFIG_OFF : GY_CONFIG_AUTO;
	ctx->cfg.mapped = !test->copies;
	CHECK(strlen(tp->tcp_shape) < sizeof(ctx->cfg.tcp_shape));
	strcpy(ctx->cfg.tcp_shape, tp->tcp_shape);
	ctx->cfg.time_scale = (int)conf_slowdown();
	ctx->cfg.host_timeout_ms *= (int)conf_slowdown();
	ctx->rank = rank;
	ctx->nranks = c->nranks;
	memcpy(ctx->job_key, shared->key, sizeof(shared->key));
	memset(&own, 0, sizeof(own));
	own.node[0] = own.node[1] = 1;
	ctx->job = gy_alloc_array((size_t)c->nranks, sizeof(*ctx->job));
	CHECK(ctx->job);
	if (!c->sim) {
		CHECK(!gy_poll_open(&ctx->poll));
		CHECK(!gy_wire_open(ctx, true, &ctx->wire, &own.addr));
	}
	err = ops->open(ctx, &c->nic);
	if (err)
		return err;
	ctx->nics[0] = c->nic;
	n = ops->describe(c->nic, own.blob[0].bytes, sizeof(own.blob[0].bytes));
	CHECK(n > 0);
	own.blob[0].len = (uint16_t)n;
	conf_exchange(c, &own);
	for (i = 0; i < c->nranks; i++) {
		c->peers[i].peer.ctx = ctx;
		c->peers[i].peer.rank = i;
		if (i != rank)
			CHECK(!ops->reach(c->nic, i, ctx->job[i].blob[0].bytes,
					  ctx->job[i].blob[0].len));
	}
	return 0;
}

void conf_close(struct conf *c, bool killed)
{
	int i;

	/* Not asked for any more: nothing may touch it. */
	while (c->nkept)
		free(c->kept[--c->nkept]);
	free(c->kept);
	for (i = 0; i < CONF_RANKS; i++)
		if (c->peers[i].peer.ep)
			c->ops->ep_close(c->peers[i].peer.ep, !killed);
	c->ops->close(c->nic);
	if (!c->sim) {
		gy_wire_close(c->ctx.wire);
		gy_poll_close(&c->ctx.poll);
	}
	gy_free(c->ctx.job);
}

void *conf_keep(struct conf *c, void *mem)
{
	CHECK(mem);
	c->kept = realloc(c->kept, (c->nkept + 1) * sizeof(*c->kept));
	CHECK(c->kept);
	return c->kept[c->nkept++] = mem;
}

void *conf_alloc(struct conf *c, size_t len)
{
	return conf_keep(c, calloc(1, len));
}

void conf_free(struct conf *c, void *mem)
{
	unsigned i = 0;

	while (c->kept[i] != mem)
		CHECK(++i < c->nkept);
	c->kept[i] = c->kept[--c->nkept];
	free(mem);
}

/* ---- driving ---- */

uint64_t conf_slowdown(void)
{
	const char *s = getenv("GY_TEST_SLOWDOWN");
	const int n = s ? atoi(s) : 1;

	return n > 0 ? (uint64_t)n : 1;
}

/* Over a shaped connection each message takes its time: a million would take hours. */
unsigned conf_times(const struct conf *c, unsigned n, unsigned long_n)
{
	if (c->sim)
		return n / SIM_SHARE;
	if (c->shaped)
		n /= test_is_long() ? 1 : 10;
	else if (test_is_long())
		n = long_n;
	return n / (unsigned)conf_slowdown();
}

/* The sockets' share.  The simulator has none. */
static int conf_pump_wire(struct conf *c)
{
	const int did = gy_poll_dispatch(&c->ctx.poll);
	const uint64_t now = conf_now(c);

	if (now - c->tick_ns > TICK_NS) {
		c->tick_ns = now;
		gy_wire_tick(c->ctx.wire, now);
	}
	return did;
}

void conf_pump(struct conf *c)
{
	int did = c->ops->progress(c->nic);

	if (!c->sim)
		did += conf_pump_wire(c);
	c->idle = did ? 0 : c->idle + 1;
}

static void conf_sleep(struct conf *c)
{
	const uint64_t begin = conf_now(c);
	struct gy_sys *sys = c->ctx.sys;

	/* Only the wire needs ticks, so what is up sleeps until something comes. */
	if (!c->ops->arm(c->nic)) {
		sys->ops->sleep(sys, &c->ctx, c->sleepy ? CONF_WAIT_S * 1000000000ull : TICK_NS);
		CHECK(conf_now(c) - begin < (CONF_WAIT_S - 1) * 1000000000ull);
	}
	c->ops->disarm(c->nic);
}

void conf_wait(struct conf *c, bool (*ready)(struct conf *c))
{
	uint64_t end = conf_now(c) + conf_limit();

	while (!ready(c)) {
		conf_pump(c);
		if (!c->idle)
			end = conf_now(c) + conf_limit();
		if (c->sleepy ? c->idle : c->idle > IDLE_ROUNDS) {
			if (ready(c))
				break;
			if (c->idle)
				conf_sleep(c);
		} else if (c->idle) {
			conf_yield(c);
		}
		CHECK(conf_now(c) < end);
	}
}

static bool conf_at_barrier(struct conf *c)
{
	return atomic_load(&c->shared->barrier) >= c->barrier;
}

void conf_barrier(struct conf *c)
{
	const bool sleepy = c->sleepy;

	c->sleepy = false;		/* nothing would wake it */
	c->barrier += (unsigned)c->nranks;
	atomic_fetch_add(&c->shared->barrier, 1);
	conf_wait(c, conf_at_barrier);
	c->sleepy = sleepy;
}

void conf_wait_flag(struct conf *c, unsigned value)
{
	conf_wait_count(c, &c->shared->flag, value);
}

/* ---- connections and messages ---- */

struct gy_ep *conf_ep(struct conf *c, int rank)
{
	struct conf_peer *p = &c->peers[rank];

	if (!p->peer.ep) {
		CHECK(!c->ops->ep_open(c->nic, &p->peer, &p->peer.ep));
		CHECK(p->peer.ep->nic == c->nic && p->peer.ep->peer == &p->peer);
		CHECK(p->peer.ep->ops == c->ops && p->peer.ep->caps);
		c->caps = p->peer.ep->caps;
	}
	return p->peer.ep;
}

void conf_connect(struct conf *c, int rank)
{
	struct gy_ep *ep = conf_ep(c, rank);

	if (c->peers[rank].peer.state == GY_PEER_IDLE)
		c->peers[rank].peer.state = GY_PEER_CONNECTING;
	CHECK(!c->ops->connect(ep));
}

bool conf_all_up(struct conf *c)
{
	int i;

	for (i = 0; i < c->nranks; i++)
		if (i != c->rank && !c->peers[i].up)
			return false;
	return true;
}

bool conf_any_down(struct conf *c)
{
	int i;

	for (i = 0; i < c->nranks; i++)
		if (c->peers[i].down)
			return true;
	return false;
}

void conf_connect_all(struct conf *c)
{
	int i;

	for (i = 0; i < c->nranks; i++)
		if (i != c->rank)
			conf_connect(c, i);
	conf_wait(c, conf_all_up);
	conf_barrier(c);
}

int conf_send(struct conf *c, struct conf_peer *p, uint32_t len)
{
	_Alignas(8) uint8_t body[GY_BODY_LONG];
	struct gy_hdr hdr = { .kind = CONF_MSG, .seq = p->seq_out, .len = len, .credit = len };
	int err;

	hdr.count = ~(uint64_t)hdr.seq;
	conf_fill(body, len, conf_msg_seed(c->rank, p->peer.rank, p->seq_out));
	err = c->ops->msg(p->peer.ep, &hdr, body);
	if (!err)
		p->seq_out++;
	p->blocked |= err == -EAGAIN;
	return err;
}

void conf_say(struct conf *c, struct conf_peer *p, uint32_t tag, const void *body, uint32_t len)
{
	const struct gy_hdr hdr = { .kind = CONF_OTHER, .stream = tag, .len = len };
	const uint64_t end = conf_now(c) + conf_limit();
	int err;

	while ((err = c->ops->msg(p->peer.ep, &hdr, body)) == -EAGAIN) {
		CHECK(conf_now(c) < end);
		conf_pump(c);
		if (c->idle)
			conf_yield(c);
	}
	CHECK(!err || p->down);
}

/* Mostly small, some large. */
static uint32_t conf_length(struct conf *c, const struct conf_peer *p)
{
	const uint64_t r = conf_random(&c->seed);

	if (r % 16 == 0)
		return (uint32_t)(r >> 8) % (gy_body_max(p->peer.ep) + 1);
	return (uint32_t)(r >> 8) % (r % 4 ? 9 : 300);
}

void conf_send_all(struct conf *c)
{
	struct conf_peer *p;
	int i, burst, err;

	for (i = 0; i < c->nranks; i++) {
		p = &c->peers[i];
		for (burst = 0; burst < 50 && !p->blocked && p->seq_out < p->limit; burst++) {
			err = conf_send(c, p, conf_length(c, p));
			CHECK(!err || err == -EAGAIN || err == -ENOTCONN);
			if (err)
				break;
			c->idle = 0;
		}
	}
}

bool conf_all_done(struct conf *c)
{
	bool done = true;
	int i;

	conf_send_all(c);
	for (i = 0; i < c->nranks; i++)
		done &= c->peers[i].seq_out >= c->peers[i].limit &&
			c->peers[i].seq_in >= c->peers[i].limit;
	return done;
}

uint64_t conf_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t conf_word(uint64_t seed, size_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15;
}

void conf_fill(void *buf, size_t len, uint64_t seed)
{
	const size_t whole = len & ~(sizeof(uint64_t) - 1);
	uint64_t word;
	size_t i;

	for (i = 0; i < whole; i += sizeof(word)) {
		word = conf_word(seed, i);
		memcpy((char *)buf + i, &word, sizeof(word));
	}
	word = conf_word(seed, whole);
	memcpy((char *)buf + whole, &word, len - whole);
}

bool conf_matches(const void *buf, size_t len, uint64_t seed)
{
	const size_t whole = len & ~(sizeof(uint64_t) - 1);
	uint64_t word, is;
	size_t i;

	for (i = 0; i < whole; i += sizeof(word)) {
		memcpy(&is, (const char *)buf + i, sizeof(is));
		if (is != conf_word(seed, i))
			return false;
	}
	word = conf_word(seed, whole);
	return !memcmp((const char *)buf + whole, &word, len - whole);
}
