/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_fake.c - see net_fake.h.
 */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/wire_priv.h"

struct fake_peer *to_fake(struct gy_ep *ep)
{
	return gy_container_of(ep->peer, struct fake_peer, base);
}

/* ---- clock ---- */

#define FAKE_PUMP_NS 200000

bool fake_clock_virtual;
static uint64_t fake_added_ns = 1000000000;

static uint64_t fake_now_ns(struct gy_sys *sys)
{
	return fake_clock_virtual ? fake_added_ns
				  : fake_added_ns + gy_sys_posix.ops->now_ns(&gy_sys_posix);
}

static uint64_t fake_sys_random(struct gy_sys *sys)
{
	static uint64_t seed;

	return fake_random(&seed);
}

static void fake_yield(struct gy_sys *sys)
{
}

static const struct gy_sys_ops fake_sys_ops = {
	.now_ns = fake_now_ns,
	.random = fake_sys_random,
	.yield = fake_yield,
};
static struct gy_sys fake_sys = { .ops = &fake_sys_ops };

void fake_clock_add_ms(uint64_t ms)
{
	fake_added_ns += ms * 1000000;
}

uint64_t fake_clock_ms(void)
{
	return fake_now_ns(&fake_sys) / 1000000;
}

uint64_t fake_real_ms(void)
{
	return gy_sys_posix.ops->now_ns(&gy_sys_posix) / 1000000;
}

/* ---- upcalls ---- */

void fake_close_ep(struct fake_peer *p)
{
	struct gy_ep *ep = p->base.ep;

	p->base.ep = NULL;
	ep->ops->ep_close(ep, false);
}

static void fake_after_upcall(struct fake_peer *p)
{
	if (p->close_in_upcall && p->base.ep)
		fake_close_ep(p);
}

void gy_ep_up(struct gy_ep *ep)
{
	struct fake_peer *p = to_fake(ep);

	p->up++;
	p->base.state = GY_PEER_UP;
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	struct fake_peer *p = to_fake(ep);

	p->down++;
	p->err = err;
	p->base.state = GY_PEER_LOST;
	snprintf(p->why, sizeof(p->why), "%s", why);
	fake_after_upcall(p);
}

void gy_ep_room(struct gy_ep *ep)
{
	to_fake(ep)->rooms++;
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct fake_peer *p = to_fake(ep);

	p->delivered++;
	if (p->deliver)
		p->deliver(p, hdr, body);
	fake_after_upcall(p);
}

int gy_place(struct gy_ep *ep, const struct gy_hdr *hdr, void **dstp)
{
	struct fake_peer *p = to_fake(ep);

	return p->place ? p->place(p, hdr, dstp) : -EPROTO;
}

void gy_arrived(struct gy_ep *ep, const struct gy_hdr *hdr)
{
	struct fake_peer *p = to_fake(ep);

	p->arrived++;
	if (p->arrive)
		p->arrive(p, hdr);
	fake_after_upcall(p);
}

void gy_sent(struct gy_ep *ep, struct gy_grain *g)
{
	struct fake_peer *p = to_fake(ep);

	p->sent++;
	if (p->grain_sent)
		p->grain_sent(p, g);
}

int gy_peer_ep(struct gyre_context *ctx, int rank, const char *transport, struct gy_ep **epp)
{
	struct fake *f = gy_container_of(ctx, struct fake, ctx);

	if (f->refuses || f->peer[rank].base.state == GY_PEER_LOST ||
	    strcmp(transport, f->nic->ops->name))
		return -ESTALE;
	if (f->no_endpoints)
		return -ENOMEM;
	*epp = fake_ep(f, rank);
	return *epp ? 0 : -ENOMEM;
}

/* ---- a transport that keeps the sockets it is handed ---- */

static int fake_nic_open(struct gyre_context *ctx, struct gy_nic **nicp)
{
	*nicp = gy_alloc(sizeof(**nicp));
	if (!*nicp)
		return -ENOMEM;
	**nicp = (struct gy_nic){ .ops = &fake_ops, .ctx = ctx };
	return 0;
}

static void fake_nic_close(struct gy_nic *nic)
{
	gy_free(nic);
}

static int fake_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp)
{
	*epp = gy_alloc(sizeof(**epp));
	if (!*epp)
		return -ENOMEM;
	**epp = (struct gy_ep){ .ops = &fake_ops, .nic = nic, .peer = peer };
	return 0;
}

static void fake_ep_close(struct gy_ep *ep, bool drain)
{
	struct fake_peer *p = to_fake(ep);
	int i;

	gy_wire_cancel(ep->nic->ctx->wire, ep);
	for (i = 0; i < FAKE_LANES; i++) {
		if (p->fd[i] >= 0)
			close(p->fd[i]);
		p->fd[i] = -1;
	}
	gy_free(ep);
}

static int fake_accepted(struct gy_ep *ep, unsigned lane, int fd)
{
	struct fake_peer *p = to_fake(ep);

	if (fd < 0) {
		gy_ep_down(ep, fd, "a lane cannot be had");
		return 0;
	}
	if (p->f->short_of_memory) {
		p->f->short_of_memory--;
		return -ENOMEM;
	}
	p->accepted++;
	if (lane >= FAKE_LANES) {
		close(fd);
		return 0;
	}
	if (p->fd[lane] >= 0)
		close(p->fd[lane]);
	p->fd[lane] = fd;
	if (lane == 0)
		gy_ep_up(ep);
	return 0;
}

static int fake_progress(struct gy_nic *nic)
{
	return 0;
}

const struct gy_transport_ops fake_ops = {
	.name = "fake",
	.open = fake_nic_open,
	.close = fake_nic_close,
	.ep_open = fake_ep_open,
	.accepted = fake_accepted,
	.ep_close = fake_ep_close,
	.progress = fake_progress,
};

/* ---- ranks ---- */

static void fake_open_one(struct fake *f, int rank, int n, const struct gy_transport_ops *ops,
			  int timeout_ms, bool all_local)
{
	int i, k;

	memset(f, 0, sizeof(*f));
	gy_config_init(&f->ctx.cfg);
	f->ctx.cfg.host_timeout_ms = timeout_ms;
	f->ctx.rank = rank;
	f->ctx.nranks = n;
	f->ctx.sys = &fake_sys;
	f->ctx.job = f->job;
	memset(f->ctx.job_key, 0x5a, sizeof(f->ctx.job_key));
	for (i = 0; i < n; i++) {
		f->peer[i].f = f;
		f->peer[i].base.ctx = &f->ctx;
		f->peer[i].base.rank = i;
		for (k = 0; k < FAKE_LANES; k++)
			f->peer[i].fd[k] = -1;
	}
	assert_int_equal(gy_poll_open(&f->ctx.poll), 0);
	assert_int_equal(gy_wire_open(&f->ctx, all_local, &f->ctx.wire, &f->job[rank].addr), 0);
	assert_int_equal(ops->open(&f->ctx, &f->nic), 0);
}

void fake_open(struct fake *f, int n, const struct gy_transport_ops *ops, int timeout_ms,
	       bool all_local)
{
	int i, k;

	assert_true(n <= FAKE_RANKS);
	for (i = 0; i < n; i++)
		fake_open_one(&f[i], i, n, ops, timeout_ms, all_local);
	for (i = 0; i < n; i++)
		for (k = 0; k < n; k++)
			f[i].job[k].addr = f[k].job[k].addr;
}

struct gy_ep *fake_ep(struct fake *f, int rank)
{
	struct fake_peer *p = &f->peer[rank];

	if (!p->base.ep && f->nic->ops->ep_open(f->nic, &p->base, &p->base.ep))
		return NULL;
	return p->base.ep;
}

void fake_close_one(struct fake *f)
{
	int i;

	if (!f->nic)
		return;
	for (i = 0; i < f->ctx.nranks; i++)
		if (f->peer[i].base.ep)
			fake_close_ep(&f->peer[i]);
	f->nic->ops->close(f->nic);
	f->nic = NULL;
	gy_wire_close(f->ctx.wire);
	gy_poll_close(&f->ctx.poll);
	gy_topology_fini(&f->ctx.topology);
}

void fake_close(struct fake *f, int n)
{
	int i;

	for (i = 0; i < n; i++)
		fake_close_one(&f[i]);
}

void fake_pump(struct fake *f)
{
	if (!f->nic)
		return;
	if (fake_clock_virtual)
		fake_added_ns += FAKE_PUMP_NS;
	gy_poll_dispatch(&f->ctx.poll);
	f->nic->ops->progress(f->nic);
	gy_wire_tick(f->ctx.wire, fake_now_ns(&fake_sys));
}

void fake_pump_all(struct fake *f, int n)
{
	int i;

	for (i = 0; i < n; i++)
		fake_pump(&f[i]);
}

/* ---- strangers ---- */

int fake_dial(const struct fake *f, enum gy_wire_kind kind)
{
	const struct wire_blob *b = (const struct wire_blob *)&f->job[f->ctx.rank].addr;
	struct sockaddr_storage sa = { .ss_family = AF_UNIX };
	socklen_t len;
	int fd;

	if (kind == GY_WIRE_TCP) {
		len = gy_ip_sockaddr(&b->ips[0], b->port, &sa);
	} else {
		memcpy(((struct sockaddr_un *)&sa)->sun_path + 1, b->name, strlen(b->name));
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(b->name));
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

int fake_is_closed(int fd)
{
	char c;
	const ssize_t n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n > 0)
		return -1;
	return n == 0 || errno != EAGAIN;
}

/* ---- randomness ---- */

uint64_t fake_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t fake_seed(void)
{
	const char *text = getenv("GY_TEST_SEED");
	uint64_t seed = 0;

	if (text)
		seed = strtoull(text, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		fail();
	printf("GY_TEST_SEED=0x%llx\n", (unsigned long long)seed);
	return seed;
}
