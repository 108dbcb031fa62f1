/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_wire.c - connections between ranks: every order in which two may dial each other, addresses
 * that lead nowhere, ranks that are late or dead, strangers of every kind.
 */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/hello.h"
#include "lib/log.h"
#include "lib/net.h"
#include "lib/wire_priv.h"

#define TIMEOUT_MS 10000

static struct wire_blob *test_blob(struct fake *f, int rank)
{
	return (struct wire_blob *)&f->job[rank].addr;
}

static void test_dial(struct fake *f, int rank, enum gy_wire_kind kind, unsigned lane)
{
	assert_int_equal(gy_wire_dial(f->ctx.wire, fake_ep(f, rank), kind, lane), 0);
}

/* What a writes b reads, on that lane. */
static void test_joined(struct fake_peer *a, struct fake_peer *b, unsigned lane)
{
	const uint32_t out = (uint32_t)(uintptr_t)a ^ lane;
	struct pollfd pfd = { .fd = b->fd[lane], .events = POLLIN };
	uint32_t in = 0;

	assert_int_equal(write(a->fd[lane], &out, sizeof(out)), sizeof(out));
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_int_equal(read(b->fd[lane], &in, sizeof(in)), sizeof(in));
	assert_int_equal(in, out);
}

static void test_one_dials(void **state)
{
	static struct fake f[2];
	enum gy_wire_kind kind;
	int dialler;

	for (kind = GY_WIRE_UNIX; kind <= GY_WIRE_TCP; kind++) {
		for (dialler = 0; dialler < 2; dialler++) {
			fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
			assert_int_equal(gy_wire_reach(f[0].ctx.wire, kind, &f[0].job[1].addr), 0);
			test_dial(&f[dialler], !dialler, kind, 0);
			assert_int_equal(f[dialler].peer[!dialler].accepted, 0);
			fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
			test_joined(&f[0].peer[1], &f[1].peer[0], 0);
			test_joined(&f[1].peer[0], &f[0].peer[1], 0);
			fake_close(f, 2);
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_lanes(void **state)
{
	static struct fake f[2];
	unsigned lane;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	for (lane = 0; lane < 4; lane++)
		test_dial(&f[0], 1, GY_WIRE_TCP, lane);
	fake_until(f, 2, f[0].peer[1].accepted == 4 && f[1].peer[0].accepted == 4);
	for (lane = 0; lane < 4; lane++)
		test_joined(&f[0].peer[1], &f[1].peer[0], lane);
	/* The higher rank may not: nobody at the other end takes it, and it is told. */
	test_dial(&f[1], 0, GY_WIRE_TCP, 5);
	fake_until(f, 2, f[1].peer[0].down);
	assert_int_equal(f[1].peer[0].err, -EPROTO);
	fake_close(f, 2);
}

/* Both dial at once; whoever runs when, there is one connection in the end, the same for both. */
static void test_both_dial(void **state)
{
	static struct fake f[2];
	uint64_t seed = fake_seed();
	unsigned i, times = test_times(300, 5000);

	for (i = 0; i < times; i++) {
		const enum gy_wire_kind kind = fake_random(&seed) & 1 ? GY_WIRE_TCP : GY_WIRE_UNIX;

		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		test_dial(&f[0], 1, kind, 0);
		while (fake_random(&seed) % 4)
			fake_pump(&f[fake_random(&seed) & 1]);
		if (!f[1].peer[0].accepted)
			test_dial(&f[1], 0, kind, 0);
		while (!f[0].peer[1].accepted || !f[1].peer[0].accepted)
			fake_pump(&f[fake_random(&seed) & 1]);
		fake_pump_all(f, 2);
		fake_pump_all(f, 2);
		assert_int_equal(f[0].peer[1].accepted, 1);
		assert_int_equal(f[1].peer[0].accepted, 1);
		assert_int_equal(f[0].peer[1].down + f[1].peer[0].down, 0);
		test_joined(&f[0].peer[1], &f[1].peer[0], 0);
		test_joined(&f[1].peer[0], &f[0].peer[1], 0);
		fake_close(f, 2);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_cancel(void **state)
{
	static struct fake f[2];
	int i;

	for (i = 0; i < 6; i++) {
		int k;

		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		test_dial(&f[0], 1, GY_WIRE_TCP, 0);
		for (k = 0; k < i; k++)
			fake_pump(&f[k & 1]);
		gy_wire_cancel(f[0].ctx.wire, f[0].peer[1].base.ep);
		for (k = 0; k < 5; k++)
			fake_pump_all(f, 2);
		assert_int_equal(f[0].peer[1].down, 0);
		fake_close(f, 2);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

/* ---- peers that are not there ---- */

static void test_dead(void **state)
{
	static struct fake f[2];
	enum gy_wire_kind kind;

	for (kind = GY_WIRE_UNIX; kind <= GY_WIRE_TCP; kind++) {
		uint64_t start;

		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		start = fake_clock_ms();
		fake_close_one(&f[1]);
		test_dial(&f[0], 1, kind, 0);
		fake_until(f, 1, f[0].peer[1].down);
		assert_int_equal(f[0].peer[1].err, -ECONNREFUSED);
		assert_true(fake_clock_ms() - start < 1000);
		assert_int_equal(f[0].peer[1].down, 1);
		fake_close(f, 1);
	}
}

/* Its process is there but does nothing for much longer than any timeout; then it goes on. */
static void test_late(void **state)
{
	static struct fake f[2];
	int i;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	for (i = 0; i < 100; i++) {
		fake_pump(&f[0]);
		fake_clock_add_ms(TIMEOUT_MS);
	}
	assert_int_equal(f[0].peer[1].down, 0);
	fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
	test_joined(&f[0].peer[1], &f[1].peer[0], 0);
	fake_close(f, 2);
}

/* A rank that stops between the messages of a hello loses the attempt, not the connection. */
static void test_late_in_hello(void **state)
{
	static struct fake f[2];
	int stop, i, late;

	for (stop = 1; stop < 8; stop++) {
		for (late = 0; late < 2; late++) {
			fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
			test_dial(&f[0], 1, GY_WIRE_TCP, 0);
			for (i = 0; i < stop; i++)
				fake_pump(&f[i & 1]);
			fake_clock_add_ms(5 * TIMEOUT_MS);
			for (i = 0; i < 5; i++)
				fake_pump(&f[late]);
			fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
			assert_int_equal(f[0].peer[1].down + f[1].peer[0].down, 0);
			fake_close(f, 2);
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

/* ---- addresses ---- */

static int test_listen_at(uint32_t ip, uint16_t port, int backlog)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(ip) };
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, backlog))
		skip();
	return fd;
}

static void test_fill_backlog(uint32_t ip, uint16_t port, int *fds, int n)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(ip) };
	int i;

	for (i = 0; i < n; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		assert_true(fds[i] >= 0);
		if (connect(fds[i], (struct sockaddr *)&sa, sizeof(sa)))
			assert_int_equal(errno, EINPROGRESS);
	}
}

static void test_put_ip(struct wire_blob *b, unsigned i, uint32_t ip)
{
	const uint32_t net = htonl(ip);

	memset(&b->ips[i], 0, sizeof(b->ips[i]));
	b->ips[i].family = 4;
	memcpy(b->ips[i].bytes, &net, 4);
	b->nips = (uint8_t)gy_max(b->nips, i + 1);
}

/*
 * The first address answers nothing, the second refuses, at the third is somebody else; then ours.
 */
static void test_addresses(void **state)
{
	static struct fake f[2];
	int hole, filler[8], other, talker = -1, i;
	struct wire_blob *b;
	uint64_t start;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	b = test_blob(&f[0], 1);
	hole = test_listen_at(0x7f000002, b->port, 0);
	test_fill_backlog(0x7f000002, b->port, filler, 8);
	other = test_listen_at(0x7f000004, b->port, 8);
	test_put_ip(b, 0, 0x7f000002);
	test_put_ip(b, 1, 0x7f000003);
	test_put_ip(b, 2, 0x7f000004);
	test_put_ip(b, 3, 0x7f000001);
	start = fake_clock_ms();
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	while (!f[0].peer[1].accepted || !f[1].peer[0].accepted) {
		fake_pump_all(f, 2);
		if (talker < 0)
			talker = accept(other, NULL, NULL);
		if (talker >= 0 &&
		    send(talker, "220 mail.example.org ESMTP\r\n", 28, MSG_NOSIGNAL) < 0)
			assert_true(errno == EPIPE || errno == ECONNRESET);
		assert_true(fake_clock_ms() - start < 2000);
	}
	test_joined(&f[0].peer[1], &f[1].peer[0], 0);
	close(hole);
	close(other);
	if (talker >= 0)
		close(talker);
	for (i = 0; i < 8; i++)
		close(filler[i]);
	fake_close(f, 2);
}

/* Nothing but holes: an error when the host timeout is over. */
static void test_hole(void **state)
{
	static struct fake f[2];
	int hole, filler[8], i;
	struct wire_blob *b;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	b = test_blob(&f[0], 1);
	hole = test_listen_at(0x7f000002, b->port, 0);
	test_fill_backlog(0x7f000002, b->port, filler, 8);
	test_put_ip(b, 0, 0x7f000002);
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	for (i = 0; i < 10; i++) {
		fake_clock_add_ms(TIMEOUT_MS / 20);
		fake_pump(&f[0]);
		assert_int_equal(f[0].peer[1].down, 0);
	}
	fake_clock_add_ms(TIMEOUT_MS);
	fake_pump(&f[0]);
	assert_int_equal(f[0].peer[1].down, 1);
	assert_int_equal(f[0].peer[1].err, -ETIMEDOUT);
	close(hole);
	for (i = 0; i < 8; i++)
		close(filler[i]);
	fake_close(f, 2);
}

static void test_not_local(void **state)
{
	static struct fake f[2];
	struct gy_ip six = { .family = 6 };
	struct wire_blob *b;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, false);
	b = test_blob(&f[0], 1);
	assert_true(b->nips >= 1);
	assert_int_equal(b->loopback, 0);
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
	test_joined(&f[0].peer[1], &f[1].peer[0], 0);
	six.bytes[15] = 1;
	b->ips[0] = six;
	b->nips = 1;
	test_dial(&f[0], 1, GY_WIRE_TCP, 1);
	fake_until(f, 2, f[0].peer[1].accepted == 2 || f[0].peer[1].down);
	if (f[0].peer[1].down)
		print_message("no IPv6 here: %s\n", f[0].peer[1].why);
	else
		test_joined(&f[0].peer[1], &f[1].peer[0], 1);
	fake_close(f, 2);
}

static void test_reach(void **state)
{
	static struct fake f[2];
	struct wire_blob *b;
	struct gy_wire *w;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	w = f[0].ctx.wire;
	b = test_blob(&f[0], 1);
	b->node[3] ^= 1;		/* another machine: its loopback is not ours */
	assert_int_equal(gy_wire_reach(w, GY_WIRE_UNIX, &f[0].job[1].addr), -EHOSTUNREACH);
	assert_int_equal(gy_wire_reach(w, GY_WIRE_TCP, &f[0].job[1].addr), -EHOSTUNREACH);
	b->loopback = 0;
	assert_int_equal(gy_wire_reach(w, GY_WIRE_TCP, &f[0].job[1].addr), 0);
	b->nips = 255;
	assert_int_equal(gy_wire_reach(w, GY_WIRE_TCP, &f[0].job[1].addr), -EHOSTUNREACH);
	memset(b, 0, sizeof(*b));
	assert_int_equal(gy_wire_reach(w, GY_WIRE_TCP, &f[0].job[1].addr), -EHOSTUNREACH);
	assert_int_equal(gy_wire_dial(w, fake_ep(&f[0], 1), GY_WIRE_TCP, 0), -EHOSTUNREACH);
	fake_close(f, 2);
}

/* ---- who is not let in ---- */

static void test_wrong_key(void **state)
{
	static struct fake f[2];
	enum gy_wire_kind kind;

	for (kind = GY_WIRE_UNIX; kind <= GY_WIRE_TCP; kind++) {
		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		f[0].ctx.job_key[7] ^= 1;
		test_dial(&f[0], 1, kind, 0);
		fake_until(f, 2, f[0].peer[1].down);
		assert_int_equal(f[0].peer[1].err, -EACCES);
		assert_int_equal(f[1].peer[0].accepted, 0);
		assert_true(f[1].ctx.wire->rejected > 0);
		fake_close(f, 2);
	}
}

static void test_refused(void **state)
{
	static struct fake f[2];

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	f[1].refuses = true;		/* say, it has declared us dead */
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	fake_until(f, 2, f[0].peer[1].down);
	assert_int_equal(f[0].peer[1].err, -ESTALE);
	fake_close(f, 2);
}

/* A dialler by hand: sends what it says, up to the verdict.  0, or what it got instead. */
static int test_by_hand(struct fake *f, const struct gy_hello *h, struct gy_challenge *c,
			struct gy_proof *p, const uint8_t *key, int fd)
{
	const uint64_t end = fake_real_ms() + 5000;
	struct gy_verdict v;
	size_t got = 0;
	int r;

	assert_int_equal(gy_net_say(fd, h, sizeof(*h)), 0);
	while (!(r = gy_net_read(fd, c, sizeof(*c), &got)) && fake_real_ms() < end)
		fake_pump(f);
	if (r < 0)
		return r;
	if (key) {
		r = gy_hello_prove(h, key, c, p);
		if (r)
			return r;
	}
	assert_int_equal(gy_net_say(fd, p, sizeof(*p)), 0);
	for (got = 0; !(r = gy_net_read(fd, &v, sizeof(v), &got)) && fake_real_ms() < end;)
		fake_pump(f);
	return r < 0 ? r : v.status;
}

static void test_replay(void **state)
{
	static struct fake f[2];
	struct gy_challenge c;
	struct gy_hello h;
	struct gy_proof p;
	int fd;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	gy_hello_make(&h, f[0].ctx.job_key, "fake", 0, 1, 0);
	fd = fake_dial(&f[1], GY_WIRE_TCP);
	assert_int_equal(test_by_hand(&f[1], &h, &c, &p, f[0].ctx.job_key, fd), 0);
	assert_int_equal(f[1].peer[0].accepted, 1);
	close(fd);
	/* The same words again, to the same rank and to another one. */
	fd = fake_dial(&f[1], GY_WIRE_TCP);
	assert_int_equal(test_by_hand(&f[1], &h, &c, &p, NULL, fd), -ECONNRESET);
	close(fd);
	fd = fake_dial(&f[0], GY_WIRE_TCP);
	assert_int_equal(test_by_hand(&f[0], &h, &c, &p, f[0].ctx.job_key, fd), -ENXIO);
	close(fd);
	assert_int_equal(f[1].peer[0].accepted, 1);
	fake_close(f, 2);
}

/* Each of these hellos is refused, whoever could prove it. */
static void test_bad_hellos(void **state)
{
	static struct fake f[2];
	const struct {
		uint32_t from, to;
		unsigned lane, version;
		const char *service;
		int err;
	} bad[] = {
		{ 1, 1, 0, GY_HELLO_VERSION, "fake", -EPROTO },
		{ 7, 1, 0, GY_HELLO_VERSION, "fake", -EPROTO },
		{ 0xffffffff, 1, 0, GY_HELLO_VERSION, "fake", -EPROTO },
		{ 0, 7, 0, GY_HELLO_VERSION, "fake", -ENXIO },
		{ 0, 1, 0, GY_HELLO_VERSION, "", -EPROTO },
		{ 0, 1, 0, GY_HELLO_VERSION + 1, "fake", -EPROTO },
		{ 0, 1, 0, GY_HELLO_VERSION, "none", -ESTALE },
	};
	struct gy_challenge c;
	struct gy_hello h;
	struct gy_proof p;
	size_t i;
	int fd;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	for (i = 0; i < GY_ARRAY_SIZE(bad); i++) {
		fd = fake_dial(&f[1], i & 1 ? GY_WIRE_TCP : GY_WIRE_UNIX);
		gy_hello_make(&h, f[0].ctx.job_key, bad[i].service, bad[i].from, bad[i].to,
			      bad[i].lane);
		h.version = (uint16_t)bad[i].version;
		assert_int_equal(test_by_hand(&f[1], &h, &c, &p, f[0].ctx.job_key, fd), bad[i].err);
		close(fd);
	}
	memset(&h.service, 'x', sizeof(h.service));
	fd = fake_dial(&f[1], GY_WIRE_TCP);
	assert_int_equal(test_by_hand(&f[1], &h, &c, &p, f[0].ctx.job_key, fd), -EPROTO);
	close(fd);
	assert_int_equal(f[1].peer[0].accepted, 0);
	fake_close(f, 2);
}

/* ---- strangers in numbers ---- */

#define CROWD 200

/*
 * Silent ones, drip feeders and talkers of garbage, three times as many as are kept: those kept are
 * few, their memory is, and ranks still connect at once.
 */
static void test_crowd(void **state)
{
	static struct fake f[2];
	enum gy_wire_kind kind;
	int fds[CROWD], i, open;
	struct gy_hello h;
	long live;

	for (kind = GY_WIRE_UNIX; kind <= GY_WIRE_TCP; kind++) {
		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		gy_hello_make(&h, f[0].ctx.job_key, "fake", 0, 1, 0);
		live = gy_alloc_live();
		for (i = 0; i < CROWD; i++) {
			fds[i] = fake_dial(&f[1], kind);
			if (i % 3 == 0)
				assert_int_equal(send(fds[i], &h, (size_t)i % 64, 0), i % 64);
			else if (i % 3 == 1)
				assert_int_equal(send(fds[i], "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
			if (i % 8 == 0)
				fake_pump(&f[1]);
		}
		for (i = 0; i < 20; i++)
			fake_pump(&f[1]);
		assert_true(f[1].ctx.wire->nunproved <= 64);
		assert_true(gy_alloc_live() - live <= 64);
		test_dial(&f[0], 1, kind, 0);
		fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
		test_joined(&f[0].peer[1], &f[1].peer[0], 0);
		/* All the others are gone when their time is over. */
		fake_clock_add_ms(TIMEOUT_MS);
		fake_pump(&f[1]);
		assert_int_equal(f[1].ctx.wire->nunproved, 0);
		for (i = open = 0; i < CROWD; i++) {
			open += fake_is_closed(fds[i]) == 0;
			close(fds[i]);
		}
		assert_int_equal(open, 0);
		fake_close(f, 2);
	}
	assert_int_equal(gy_alloc_live(), 0);
}

/* Those who have said a valid hello stay when silent ones come in numbers. */
static void test_greeted_stay(void **state)
{
	static struct fake f[2];
	int fds[CROWD], i, honest;
	struct gy_challenge c;
	struct gy_hello h;
	struct gy_proof p;
	size_t got = 0;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	gy_hello_make(&h, f[0].ctx.job_key, "fake", 0, 1, 0);
	honest = fake_dial(&f[1], GY_WIRE_TCP);
	assert_int_equal(gy_net_say(honest, &h, sizeof(h)), 0);
	while (!gy_net_read(honest, &c, sizeof(c), &got))
		fake_pump(&f[1]);
	for (i = 0; i < CROWD; i++) {
		fds[i] = fake_dial(&f[1], GY_WIRE_TCP);
		fake_pump(&f[1]);
	}
	assert_int_equal(gy_hello_prove(&h, f[0].ctx.job_key, &c, &p), 0);
	assert_int_equal(gy_net_say(honest, &p, sizeof(p)), 0);
	fake_until(f, 2, f[1].peer[0].accepted);
	for (i = 0; i < CROWD; i++)
		close(fds[i]);
	close(honest);
	fake_close(f, 2);
}

/* Descriptors run out: the listener waits, and goes on when there are some. */
static void test_no_descriptors(void **state)
{
	static struct fake f[2];
	struct rlimit old, low;
	int fds[8], i;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	for (i = 0; i < 8; i++)
		fds[i] = fake_dial(&f[1], GY_WIRE_TCP);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)fds[7] + 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	gy_poll_dispatch(&f[1].ctx.poll);
	assert_true(f[1].ctx.wire->tcp.paused);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	fake_until(f, 2, !f[1].ctx.wire->tcp.paused);
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
	for (i = 0; i < 8; i++)
		close(fds[i]);
	fake_close(f, 2);
}

/* Memory fails at each place in turn, on either side; two ranks still connect. */
static void test_no_memory(void **state)
{
	static struct fake f[2];
	struct gy_wire_addr addr;
	struct gy_wire *w;
	long n, before;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	for (n = 1; n < 10; n++) {
		gy_alloc_fail_at(n);
		if (gy_wire_open(&f[0].ctx, true, &w, &addr) == 0)
			gy_wire_close(w);
		gy_alloc_fail_at(0);
	}
	for (n = 1; n < 12; n++) {
		before = gy_alloc_live();
		assert_non_null(fake_ep(&f[0], 1));
		gy_alloc_fail_at(n);
		if (gy_wire_dial(f[0].ctx.wire, fake_ep(&f[0], 1), GY_WIRE_TCP, 0) == 0)
			fake_until(f, 2, f[0].peer[1].accepted && f[1].peer[0].accepted);
		gy_alloc_fail_at(0);
		assert_true(!f[0].peer[1].down && !f[1].peer[0].down);
		fake_close_ep(&f[0].peer[1]);
		if (f[1].peer[0].base.ep)
			fake_close_ep(&f[1].peer[0]);
		f[0].peer[1].accepted = f[1].peer[0].accepted = 0;
		f[0].peer[1].base.state = f[1].peer[0].base.state = GY_PEER_IDLE;
		fake_pump_all(f, 2);
		fake_pump_all(f, 2);
		assert_int_equal(gy_alloc_live(), before);
	}
	fake_close(f, 2);
}

/*
 * A transport that has no memory for a connection gets it later, with what the peer has sent by
 * then; lanes that the peer dials meanwhile wait.  After a while it is told that there was none.
 */
static void test_offers(void **state)
{
	static struct fake f[2];
	struct fake_peer *slow, *quick;
	char c = 0;
	int k, me;

	for (k = 0; k < 4; k++) {
		me = k % 2;
		slow = &f[me].peer[!me];
		quick = &f[!me].peer[me];
		fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
		f[me].short_of_memory = k < 2 ? 5 : UINT_MAX;
		test_dial(&f[0], 1, GY_WIRE_TCP, 0);
		fake_until(f, 2, quick->accepted);
		assert_int_equal(write(quick->fd[0], "x", 1), 1);
		if (k == 1)
			test_dial(&f[0], 1, GY_WIRE_TCP, 1);
		test_dial(&f[me], !me, GY_WIRE_TCP, 0);	/* it has been dialled */
		fake_until(f, 2, slow->accepted || slow->down);
		if (k < 2) {
			assert_int_equal(read(slow->fd[0], &c, 1), 1);
			assert_true(c == 'x' && !f[me].short_of_memory);
			fake_until(f, 2, f[1].peer[0].accepted == 1u + (k == 1));
			assert_true(!slow->down && !quick->down);
		} else {
			assert_int_equal(slow->err, -ENOMEM);
			assert_non_null(strstr(slow->why, "memory"));
		}
		fake_close(f, 2);
		assert_int_equal(gy_alloc_live(), 0);
	}
}

/* The same where the peer never has an endpoint for it: it says so, as long as a host may take. */
static void test_never_memory(void **state)
{
	static struct fake f[2];
	struct fake_peer *p = &f[0].peer[1];
	uint64_t begun;

	fake_open(f, 2, &fake_ops, TIMEOUT_MS, true);
	f[1].no_endpoints = true;
	begun = fake_clock_ms();
	test_dial(&f[0], 1, GY_WIRE_TCP, 0);
	fake_until(f, 2, p->down);
	assert_int_equal(p->err, -ENOMEM);
	assert_non_null(strstr(p->why, "memory"));
	assert_in_range(fake_clock_ms() - begun, TIMEOUT_MS / 2, 3 * TIMEOUT_MS);
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_dials),
		cmocka_unit_test(test_lanes),
		cmocka_unit_test(test_both_dial),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_dead),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_late_in_hello),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_hole),
		cmocka_unit_test(test_not_local),
		cmocka_unit_test(test_reach),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_bad_hellos),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_greeted_stay),
		cmocka_unit_test(test_no_descriptors),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_never_memory),
	};

	alarm(50);			/* what hangs dies, with a core */
	fake_clock_virtual = true;
	gy_log_set_level(GY_LOG_ERROR);	/* rejected strangers are what this is about */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
