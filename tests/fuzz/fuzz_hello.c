/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_hello.c - strangers at every door: random, cut, mutated, overlong, slow and half-proved
 * hellos, at both listeners of wire and at the rendezvous; and the same from acceptors to ranks
 * that dial.
 *
 * Nobody gets in, memory stays bounded, and in between honest ranks connect.  Seeded: GY_TEST_SEED.
 */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/boot.h"
#include "lib/boot_wire.h"
#include "lib/hello.h"
#include "lib/log.h"
#include "lib/net.h"
#include "lib/wire_priv.h"

#define LINGER 24	/* strangers that stay for a while */

static uint64_t fuzz_seed;

static uint64_t fuzz_rnd(uint64_t n)
{
	return fake_random(&fuzz_seed) % n;
}

static void fuzz_fill(void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len--)
		*p++ = (uint8_t)fuzz_rnd(256);
}

static void fuzz_mutate(void *buf, size_t len)
{
	uint8_t *p = buf;
	unsigned n = 1 + (unsigned)fuzz_rnd(4);

	while (n--)
		p[fuzz_rnd(len)] ^= (uint8_t)(1 + fuzz_rnd(255));
}

static void fuzz_say(int fd, const void *buf, size_t len)
{
	/* The other side may be gone: that is its right. */
	if (len && send(fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		assert_true(errno == EPIPE || errno == ECONNRESET || errno == EAGAIN);
}

enum fuzz_way {
	FUZZ_RANDOM,
	FUZZ_CUT,
	FUZZ_MUTATED,
	FUZZ_WRONG_PROOF,
	FUZZ_WRONG_KEY,
	FUZZ_OVERLONG,
	FUZZ_HALF_CLOSED,
	FUZZ_SILENT,
	FUZZ_NWAYS
};

static bool fuzz_read(int fd, void *buf, size_t len, void (*pump)(void *), void *arg)
{
	const uint64_t end = fake_real_ms() + 2000;
	size_t got = 0;
	int r;

	while (!(r = gy_net_read(fd, buf, len, &got)) && fake_real_ms() < end)
		pump(arg);
	return r == 1;
}

/* One stranger: says something and leaves its socket as it is. */
static void fuzz_stranger(int fd, const char *service, uint32_t from, uint32_t to,
			  const uint8_t *key, void (*pump)(void *), void *arg)
{
	uint8_t junk[4096], wrong[GY_KEY_LEN];
	struct gy_challenge c;
	struct gy_hello h;
	struct gy_proof p;
	const enum fuzz_way way = (enum fuzz_way)fuzz_rnd(FUZZ_NWAYS);

	memcpy(wrong, key, sizeof(wrong));
	wrong[fuzz_rnd(sizeof(wrong))] ^= (uint8_t)(1 + fuzz_rnd(255));
	fuzz_fill(junk, sizeof(junk));
	fuzz_fill(&p, sizeof(p));
	gy_hello_make(&h, way == FUZZ_WRONG_KEY ? wrong : key, service, from, to, 0);
	switch (way) {
	case FUZZ_RANDOM:
		fuzz_say(fd, junk, fuzz_rnd(sizeof(junk)));
		break;
	case FUZZ_CUT:
		fuzz_say(fd, &h, fuzz_rnd(sizeof(h)));
		break;
	case FUZZ_MUTATED:
		fuzz_mutate(&h, sizeof(h));
		fuzz_say(fd, &h, sizeof(h));
		fuzz_say(fd, &p, sizeof(p));
		break;
	case FUZZ_WRONG_PROOF:
		fuzz_say(fd, &h, sizeof(h));
		if (fuzz_read(fd, &c, sizeof(c), pump, arg) && !gy_hello_prove(&h, key, &c, &p))
			fuzz_mutate(&p, sizeof(p));
		fuzz_say(fd, &p, sizeof(p));
		break;
	case FUZZ_WRONG_KEY:
		fuzz_say(fd, &h, sizeof(h));
		if (fuzz_read(fd, &c, sizeof(c), pump, arg))
			assert_int_equal(c.status, -EACCES);
		fuzz_say(fd, &p, sizeof(p));
		break;
	case FUZZ_OVERLONG:
		fuzz_say(fd, &h, sizeof(h));
		fuzz_say(fd, junk, sizeof(junk));
		break;
	case FUZZ_HALF_CLOSED:
		fuzz_say(fd, &h, fuzz_rnd(sizeof(h) + 1));
		shutdown(fd, SHUT_WR);
		break;
	default:
		break;
	}
}

/* A place for a stranger to stay; who was there leaves, by a reset now and then. */
static void fuzz_linger(int *places, int fd)
{
	const struct linger reset = { .l_onoff = 1 };
	int *place = &places[fuzz_rnd(LINGER)];

	if (*place >= 0) {
		if (fuzz_rnd(3) == 0)
			setsockopt(*place, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(*place);
	}
	*place = fd;
}

static void fuzz_leave(int *places)
{
	int i;

	for (i = 0; i < LINGER; i++) {
		if (places[i] >= 0)
			close(places[i]);
		places[i] = -1;
	}
}

/* ---- wire, acceptor ---- */

static void fuzz_pump_wire(void *arg)
{
	fake_pump_all(arg, 2);
}

static void fuzz_honest(struct fake *f, enum gy_wire_kind kind)
{
	uint64_t start = fake_clock_ms();
	unsigned a, b;
	int i;

	for (i = 0; i < 2; i++) {
		if (f[i].peer[!i].base.ep)
			fake_close_ep(&f[i].peer[!i]);
		f[i].peer[!i].base.state = GY_PEER_IDLE;
	}
	a = f[0].peer[1].accepted;
	b = f[1].peer[0].accepted;
	i = fuzz_rnd(2) == 0;
	assert_int_equal(gy_wire_dial(f[i].ctx.wire, fake_ep(&f[i], !i), kind, 0), 0);
	fake_until(f, 2, f[0].peer[1].accepted > a && f[1].peer[0].accepted > b);
	assert_int_equal(f[0].peer[1].accepted + f[1].peer[0].accepted, a + b + 2);
	assert_true(fake_clock_ms() - start < 3000);
}

static void fuzz_wire(enum gy_wire_kind kind, unsigned times)
{
	static struct fake f[2];
	int places[LINGER];
	unsigned i, in;
	long live;
	int fd;

	memset(places, -1, sizeof(places));
	fake_open(f, 2, &fake_ops, 4000, true);
	fuzz_honest(f, kind);
	live = gy_alloc_live();
	for (i = 0; i < times; i++) {
		if (i % 50 == 49)
			fuzz_honest(f, kind);
		in = f[1].peer[0].accepted;
		fd = fake_dial(&f[1], kind);
		fuzz_stranger(fd, "fake", 0, 1, f[0].ctx.job_key, fuzz_pump_wire, f);
		while (fuzz_rnd(3))
			fake_pump(&f[1]);
		fuzz_linger(places, fd);
		if (fuzz_rnd(64) == 0)
			fake_clock_add_ms(fuzz_rnd(4000));
		assert_int_equal(f[1].peer[0].accepted, in);
		assert_true(f[1].ctx.wire->nunproved <= 64);
		assert_true(gy_alloc_live() <= live + 64);
	}
	fuzz_honest(f, kind);
	fuzz_leave(places);
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
}

static void fuzz_wire_unix(void **state)
{
	fuzz_wire(GY_WIRE_UNIX, test_times(2000, 50000));
}

static void fuzz_wire_tcp(void **state)
{
	fuzz_wire(GY_WIRE_TCP, test_times(2000, 20000));
}

/* ---- wire, dialler: what listens at a peer's port is not the peer ---- */

static void fuzz_acceptor(struct fake *f, int fd)
{
	struct gy_challenge c;
	struct gy_verdict v = { .status = 0 };
	struct gy_hello h;
	uint8_t junk[512];

	fuzz_fill(junk, sizeof(junk));
	if (!fuzz_read(fd, &h, sizeof(h), fuzz_pump_wire, f))
		return;
	gy_hello_answer(&h, f[0].ctx.job_key, fuzz_rnd(3) ? 0 : -(int)fuzz_rnd(5000), &c);
	switch (fuzz_rnd(4)) {
	case 0:
		fuzz_say(fd, junk, fuzz_rnd(sizeof(junk)));
		break;
	case 1:
		fuzz_say(fd, &c, fuzz_rnd(sizeof(c)));
		break;
	case 2:
		fuzz_fill(c.proof, sizeof(c.proof));
		fuzz_say(fd, &c, sizeof(c));
		fuzz_say(fd, &v, sizeof(v));
		break;
	default:		/* it even knows the key, and then talks nonsense */
		fuzz_say(fd, &c, sizeof(c));
		v.status = -1 - (int)fuzz_rnd(UINT32_MAX / 2 - 1);
		fuzz_say(fd, &v, fuzz_rnd(sizeof(v) + 1));
		break;
	}
}

static void fuzz_wire_dialler(void **state)
{
	static struct fake f[2];
	struct wire_blob *b;
	unsigned i, times = test_times(300, 5000);
	int listener, fd = -1, rounds;

	fake_open(f, 2, &fake_ops, 2000, true);
	b = (struct wire_blob *)&f[0].job[1].addr;
	listener = gy_net_listen_loopback(0);
	assert_true(listener >= 0);
	b->port = (uint16_t)gy_net_port(listener);
	for (i = 0; i < times; i++) {
		f[0].peer[1].down = 0;
		f[0].peer[1].base.state = GY_PEER_IDLE;
		assert_int_equal(gy_wire_dial(f[0].ctx.wire, fake_ep(&f[0], 1), GY_WIRE_TCP, 0), 0);
		for (rounds = 0; rounds < 200 && !f[0].peer[1].down; rounds++) {
			fake_pump(&f[0]);
			fd = gy_net_accept(listener);
			if (fd < 0) {
				fake_clock_add_ms(20);
				continue;
			}
			fuzz_acceptor(f, fd);
			close(fd);
		}
		assert_int_equal(f[0].peer[1].accepted, 0);
		fake_close_ep(&f[0].peer[1]);
	}
	close(listener);
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
}

/* ---- rendezvous ---- */

static const uint8_t fuzz_key[GY_KEY_LEN] = "sixteen bytes !";

struct fuzz_rank {
	const char *addr;
	int rank, err;
};

static void *fuzz_serve(void *arg)
{
	while (gy_boot_server_run(arg, -1) != -ECANCELED)
		;
	return NULL;
}

static void *fuzz_join(void *arg)
{
	struct fuzz_rank *r = arg;
	uint8_t key[GY_KEY_LEN];
	struct gy_boot *b;
	int in = r->rank, out[2] = { -1, -1 };

	memcpy(key, fuzz_key, sizeof(key));
	r->err = gy_boot_join(r->addr, r->rank, 2, 0, key, 1, 5000, &b);
	if (r->err)
		return NULL;
	r->err = gy_boot_allgather(b, &in, out, sizeof(in));
	if (!r->err && (out[0] != 0 || out[1] != 1))
		r->err = -EBADMSG;
	gy_boot_leave(b);
	return NULL;
}

/* Both ranks meet.  A generation that strangers with the key have spoiled may come first. */
static void fuzz_meet(const char *addr, bool spoiled)
{
	struct fuzz_rank r[2] = { { addr, 0, 0 }, { addr, 1, 0 } };
	pthread_t t[2];
	int i, tries;

	for (tries = 0; tries < (spoiled ? 5 : 1); tries++) {
		for (i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&t[i], NULL, fuzz_join, &r[i]), 0);
		for (i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		if (!r[0].err && !r[1].err)
			return;
	}
	fail_msg("honest ranks cannot meet: %d %d", r[0].err, r[1].err);
}

static int fuzz_dial_boot(const char *addr)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(strchr(addr, ':') + 1)),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void fuzz_pump_boot(void *arg)
{
	struct pollfd pfd = { .fd = *(int *)arg, .events = POLLIN };

	poll(&pfd, 1, 100);
}

/* One that has the key, joins, and then talks nonsense. */
static void fuzz_insider(int fd)
{
	uint8_t junk[256];
	struct gy_boot_head head = { .magic = GY_BOOT_MAGIC,
				     .len = fuzz_rnd(2 * GY_BOOT_MAX_LEN),
				     .round = (uint32_t)fuzz_rnd(3) };
	struct gy_challenge c;
	struct gy_verdict v;
	struct gy_hello h;
	struct gy_proof p;

	fuzz_fill(junk, sizeof(junk));
	gy_hello_make(&h, fuzz_key, GY_BOOT_SERVICE, (uint32_t)fuzz_rnd(2), 2, 0);
	fuzz_say(fd, &h, sizeof(h));
	if (!fuzz_read(fd, &c, sizeof(c), fuzz_pump_boot, &fd))
		return;
	assert_int_equal(gy_hello_prove(&h, fuzz_key, &c, &p), 0);
	fuzz_say(fd, &p, sizeof(p));
	if (fuzz_rnd(2))		/* the verdict comes late when that rank is there already */
		gy_net_read(fd, &v, sizeof(v), &(size_t){ 0 });
	if (fuzz_rnd(2))
		fuzz_mutate(&head, sizeof(head));
	fuzz_say(fd, &head, fuzz_rnd(4) ? sizeof(head) : fuzz_rnd(sizeof(head)));
	fuzz_say(fd, junk, fuzz_rnd(sizeof(junk)));
}

static void fuzz_boot(void **state)
{
	unsigned i, times = test_times(1000, 20000);
	struct gy_boot_server *s;
	int places[LINGER], fd;
	bool spoiled = false;
	pthread_t server;
	char addr[64];

	memset(places, -1, sizeof(places));
	assert_int_equal(gy_boot_server_open("127.0.0.1:0", 2, fuzz_key, &s, addr, sizeof(addr)),
			 0);
	assert_int_equal(pthread_create(&server, NULL, fuzz_serve, s), 0);
	for (i = 0; i < times; i++) {
		if (i % 100 == 99) {
			/* Those who got in must go first: a rank can be there once only. */
			if (spoiled)
				fuzz_leave(places);
			fuzz_meet(addr, spoiled);
			spoiled = false;
		}
		fd = fuzz_dial_boot(addr);
		if (fuzz_rnd(20) == 0) {
			fuzz_insider(fd);
			spoiled = true;
		} else {
			fuzz_stranger(fd, GY_BOOT_SERVICE, (uint32_t)fuzz_rnd(2), 2, fuzz_key,
				      fuzz_pump_boot, &fd);
		}
		fuzz_linger(places, fd);
	}
	fuzz_leave(places);
	fuzz_meet(addr, true);
	gy_boot_server_stop(s);
	pthread_join(server, NULL);
	gy_boot_server_close(s);
	assert_int_equal(gy_alloc_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fuzz_wire_unix),
		cmocka_unit_test(fuzz_wire_tcp),
		cmocka_unit_test(fuzz_wire_dialler),
		cmocka_unit_test(fuzz_boot),
	};

	gy_log_set_level(GY_LOG_ERROR);	/* strangers are what this is about */
	fake_clock_virtual = true;
	fuzz_seed = fake_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
