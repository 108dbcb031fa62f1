/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shm_fake.c - see test_shm_fake.h.
 */
#include "tests/unit/test_shm_fake.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/long.h"

static struct fake *to_fake(struct gy_ep *ep)
{
	return gy_container_of(ep->nic->ctx, struct fake, ctx);
}

/* ---- upcalls ---- */

void gy_ep_up(struct gy_ep *ep)
{
	to_fake(ep)->up++;
}

static void fake_close_ep(struct fake *f)
{
	f->ep->ops->ep_close(f->ep, false);
	f->ep = NULL;
}

void gy_ep_down(struct gy_ep *ep, int err, const char *why)
{
	struct fake *f = to_fake(ep);

	f->down++;
	f->err = err;
	snprintf(f->why, sizeof(f->why), "%s", why);
	if (f->close_in_upcall)
		fake_close_ep(f);
}

void gy_ep_room(struct gy_ep *ep)
{
	to_fake(ep)->rooms++;
}

void gy_deliver(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body)
{
	struct fake *f = to_fake(ep);

	f->delivered++;
	if (f->deliver)
		f->deliver(f, hdr, body);
	if (f->close_in_upcall)
		fake_close_ep(f);
}

/* ---- wire ---- */

int gy_wire_dial(struct gy_wire *w, struct gy_ep *ep, enum gy_wire_kind kind, unsigned lane)
{
	struct fake *f = to_fake(ep);
	int sv[2];

	assert_int_equal(kind, GY_WIRE_UNIX);
	assert_int_equal(lane, 0);
	if (f->dialled || f->other->dialled)
		return 0;
	f->dialled = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv))
		return -errno;
	ep->ops->accepted(ep, 0, sv[0]);
	f->other->ep->ops->accepted(f->other->ep, 0, sv[1]);
	return 0;
}

void gy_wire_cancel(struct gy_wire *w, struct gy_ep *ep)
{
}

/* ---- contexts ---- */

int fake_open(struct fake *f, int rank)
{
	int err;

	memset(f, 0, sizeof(*f));
	gy_config_init(&f->ctx.cfg);
	f->ctx.cfg.cma = GY_CONFIG_AUTO;
	f->ctx.rank = rank;
	f->ctx.nranks = 2;
	f->ctx.sys = &gy_sys_posix;
	f->peer.ctx = &f->ctx;
	f->peer.rank = !rank;
	assert_int_equal(gy_poll_open(&f->ctx.poll), 0);
	err = gy_shm_ops.open(&f->ctx, &f->nic);
	if (err) {
		f->nic = NULL;
		gy_poll_close(&f->ctx.poll);
	}
	return err;
}

int fake_ep_open(struct fake *f)
{
	return f->nic->ops->ep_open(f->nic, &f->peer, &f->ep);
}

void fake_close(struct fake *f)
{
	if (f->ep)
		fake_close_ep(f);
	f->nic->ops->close(f->nic);
	gy_poll_close(&f->ctx.poll);
}

int fake_pump(struct fake *f)
{
	int did = f->nic->ops->progress(f->nic);

	gy_poll_dispatch(&f->ctx.poll);
	return did;
}

void fake_pump_both(struct fake *a, struct fake *b, unsigned rounds)
{
	while (rounds--) {
		fake_pump(a);
		fake_pump(b);
	}
}

void fake_pair(struct fake *a, struct fake *b)
{
	assert_int_equal(fake_open(a, 0), 0);
	assert_int_equal(fake_open(b, 1), 0);
	a->other = b;
	b->other = a;
	assert_int_equal(fake_ep_open(a), 0);
	assert_int_equal(fake_ep_open(b), 0);
	assert_int_equal(a->ep->ops->connect(a->ep), 0);
	assert_int_equal(b->ep->ops->connect(b->ep), 0);
	fake_pump_both(a, b, 4);
	assert_int_equal(a->up, 1);
	assert_int_equal(b->up, 1);
}

void fake_unpair(struct fake *a, struct fake *b)
{
	fake_close(a);
	fake_close(b);
}

static void fake_see(struct fake *f, struct shm_inbox *ring, const struct shm_page *page)
{
	struct shm_ep *ep = to_shm_ep(f->ep);
	struct shm_nic *nic = to_shm_nic(f->nic);

	shm_tx_init(&ep->tx, ring->mem, shm_inbox_lines(nic, ring),
		    (uint32_t)(nic->ring_bytes / GY_CACHELINE));
	ep->peer_page = page;
}

void fake_alias(struct fake *a, struct fake *b)
{
	fake_see(a, &to_shm_ep(b->ep)->mine, to_shm_nic(b->nic)->page);
	fake_see(b, &to_shm_ep(a->ep)->mine, to_shm_nic(a->nic)->page);
}

void fake_unalias(struct fake *a, struct fake *b)
{
	to_shm_ep(a->ep)->peer_page = NULL;
	to_shm_ep(b->ep)->peer_page = NULL;
}

/* ---- odds and ends ---- */

uint64_t fake_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t fake_seed(void)
{
	const char *given = getenv("GY_TEST_SEED");
	uint64_t seed = 0;

	if (given)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = 1;
	print_message("GY_TEST_SEED=0x%llx\n", (unsigned long long)seed);
	return seed;
}

unsigned fake_times(unsigned n, unsigned long_n)
{
	const char *slow = getenv("GY_TEST_SLOWDOWN");

	n = test_times(n, long_n);
	return slow && atoi(slow) > 0 ? n / (unsigned)atoi(slow) : n;
}

unsigned fake_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

unsigned fake_count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned n = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, "memfd:gyre") != NULL;
	fclose(file);
	return n;
}
