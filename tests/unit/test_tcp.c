/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tcp.c - what the conformance suite cannot see of tcp from outside: lanes that end one by
 * one, peers that stand still with shut windows, garbage behind a valid hello, endpoints closed
 * inside upcalls, memory that fails.
 */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "lib/wire_priv.h"
#include "transports/tcp/tcp.h"

#define TIMEOUT_MS 10000
#define GRAIN_MAX (300 * 1000)

static struct fake f[2];

static struct fake_peer *test_a(void)
{
	return &f[0].peer[1];
}

static struct fake_peer *test_b(void)
{
	return &f[1].peer[0];
}

static unsigned test_nopen(const struct fake_peer *p)
{
	return p->base.ep ? to_tcp(p->base.ep)->nopen : 0;
}

static void test_connect(int streams, int timeout_ms)
{
	fake_open(f, 2, &gy_tcp_ops, timeout_ms, true);
	f[0].ctx.cfg.tcp_streams = f[1].ctx.cfg.tcp_streams = streams;
	assert_non_null(fake_ep(&f[0], 1));
	assert_int_equal(gy_tcp_ops.connect(test_a()->base.ep), 0);
	fake_until(f, 2,
		   test_nopen(test_a()) == 1u + (unsigned)streams &&
			   test_nopen(test_b()) == 1u + (unsigned)streams);
	assert_int_equal(test_a()->up, 1);
	assert_int_equal(test_b()->up, 1);
}

/*
 * As fake_until.  The clock goes ten times as fast: when a lane has ended, an endpoint waits half a
 * second for the others to end too.
 */
#define test_until_soon(cond) fake_until(f, 2, (test_hurry(), (cond)))
static void test_hurry(void)
{
	static uint64_t last_ms;
	const uint64_t now_ms = fake_real_ms();

	if (now_ms != last_ms)
		fake_clock_add_ms(9);
	last_ms = now_ms;
}

static void test_disconnect(void)
{
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
}

static struct tcp_lane *test_lane(struct fake_peer *p, unsigned lane)
{
	return &to_tcp(p->base.ep)->lanes[lane];
}

/* ---- messages ---- */

static uint32_t test_body_len(uint64_t *seed)
{
	switch (fake_random(seed) % 4) {
	case 0:
		return 0;
	case 1:
		return (uint32_t)(fake_random(seed) % 64);
	case 2:
		return (uint32_t)(fake_random(seed) % (GY_BODY_MAX + 1));
	default:
		return GY_BODY_MAX;
	}
}

static void test_make_body(uint8_t *body, uint32_t len, uint64_t seed)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		body[i] = (uint8_t)(seed + i * 7);
}

static void test_check_message(struct fake_peer *p, const struct gy_hdr *hdr, const void *body)
{
	static uint8_t want[GY_BODY_MAX];
	const uint32_t len = test_body_len(&p->seed_in);

	assert_int_equal((uintptr_t)hdr % 8, 0);
	assert_int_equal((uintptr_t)body % 8, 0);
	assert_int_equal(hdr->len, len);
	assert_int_equal(hdr->seq, p->n++);
	test_make_body(want, len, p->seed_in);
	assert_memory_equal(body, want, len);
}

/* Sends messages until there is no room; true: it took n more. */
static unsigned test_send_some(struct fake_peer *p, unsigned from, unsigned n)
{
	static uint8_t body[GY_BODY_MAX];
	struct gy_hdr hdr = { .kind = 1 };
	uint64_t seed;
	int err;

	while (from < n) {
		seed = p->seed_out;
		hdr.seq = from;
		hdr.len = test_body_len(&seed);
		test_make_body(body, hdr.len, seed);
		err = gy_tcp_ops.msg(p->base.ep, &hdr, body);
		if (err) {
			assert_int_equal(err, -EAGAIN);
			break;
		}
		p->seed_out = seed;
		from++;
	}
	return from;
}

static void test_messages(void **state)
{
	const unsigned n = test_times(3000, 50000);
	unsigned from_a = 0, from_b = 0, rooms;
	uint64_t seed = fake_seed();

	test_connect(1, TIMEOUT_MS);
	test_a()->deliver = test_b()->deliver = test_check_message;
	test_a()->seed_out = test_b()->seed_in = 11;
	test_b()->seed_out = test_a()->seed_in = 22;
	while (test_a()->n < n || test_b()->n < n) {
		from_a = test_send_some(test_a(), from_a, n);
		from_b = test_send_some(test_b(), from_b, n);
		if (fake_random(&seed) & 1)
			fake_pump(&f[0]);
		if (fake_random(&seed) & 1)
			fake_pump(&f[1]);
		if (fake_random(&seed) & 1)
			gy_tcp_ops.poll(test_a()->base.ep);
	}
	/* The peer does not read: full at some time, and room again when it has read. */
	rooms = test_a()->rooms;
	test_a()->seed_out = test_b()->seed_in = 33;
	test_b()->n = 0;
	from_a = test_send_some(test_a(), 0, UINT32_MAX);
	fake_pump(&f[0]);
	assert_int_equal(test_send_some(test_a(), from_a, UINT32_MAX), from_a);
	fake_until(f, 2, test_b()->n == from_a);
	assert_true(test_a()->rooms > rooms);
	test_disconnect();
}

/* ---- grains ---- */

struct test_grain {
	struct gy_grain g;
	uint8_t *src;
	unsigned sent;
};

struct test_place {
	uint8_t *dst;
	bool dropped;
	unsigned arrived;
};

static struct test_place *test_places;
static unsigned test_narrived, test_ndropped;

static int test_do_place(struct fake_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	struct test_place *pl = &test_places[hdr->seq];

	*dstp = pl->dropped ? NULL : pl->dst;
	test_ndropped += pl->dropped;
	return 0;
}

static void test_do_arrive(struct fake_peer *p, const struct gy_hdr *hdr)
{
	struct test_place *pl = &test_places[hdr->seq];
	uint32_t i;

	assert_false(pl->dropped);
	assert_int_equal(pl->arrived++, 0);
	for (i = 0; i < hdr->len; i++)
		if (pl->dst[i] != (uint8_t)(hdr->seq * 13 + i))
			fail_msg("grain %u, byte %u", hdr->seq, i);
	test_narrived++;
}

static void test_do_sent(struct fake_peer *p, struct gy_grain *g)
{
	struct test_grain *tg = gy_container_of(g, struct test_grain, g);

	assert_int_equal(tg->sent++, 0);
	if (tg->src)
		memset(tg->src, 0xee, g->hdr.len);	/* it is ours again */
}

static struct test_grain *test_make_grains(unsigned n, uint64_t *seed)
{
	struct test_grain *tg = calloc(n, sizeof(*tg));
	unsigned i;
	uint32_t k;

	test_places = calloc(n, sizeof(*test_places));
	test_narrived = test_ndropped = 0;
	for (i = 0; i < n; i++) {
		const uint32_t len =
			i % 5 == 0 ? 0
				   : (uint32_t)(fake_random(seed) % (i % 5 == 1 ? 64 : GRAIN_MAX));

		tg[i].src = malloc(len + 1);
		tg[i].g.src = tg[i].src;
		tg[i].g.hdr = (struct gy_hdr){ .kind = 6, .seq = i, .len = len };
		for (k = 0; k < len; k++)
			tg[i].src[k] = (uint8_t)(i * 13 + k);
		test_places[i].dst = malloc(len + 1);
		test_places[i].dropped = fake_random(seed) % 8 == 0;
	}
	return tg;
}

static void test_free_grains(struct test_grain *tg, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		free(tg[i].src);
		free(test_places[i].dst);
	}
	free(tg);
	free(test_places);
}

static void test_take_grains(void)
{
	test_b()->place = test_do_place;
	test_b()->arrive = test_do_arrive;
	test_a()->grain_sent = test_do_sent;
}

/* Offers grains [next, n) until one is refused. */
static unsigned test_offer(struct test_grain *tg, unsigned next, unsigned n)
{
	unsigned sent;
	int err;

	while (next < n) {
		sent = test_a()->sent;
		err = gy_tcp_ops.bulk(test_a()->base.ep, &tg[next].g);
		assert_int_equal(test_a()->sent, sent);	/* no upcall out of bulk */
		if (err) {
			assert_int_equal(err, test_a()->down ? -ENOTCONN : -EAGAIN);
			break;
		}
		next++;
	}
	return next;
}

static void test_grains(void **state)
{
	const unsigned n = test_times(300, 3000);
	const int streams[] = { 1, 2, 5, 16 };
	uint64_t seed = fake_seed();
	struct test_grain *tg;
	unsigned next, i, k;

	for (k = 0; k < GY_ARRAY_SIZE(streams); k++) {
		test_connect(streams[k], TIMEOUT_MS);
		test_take_grains();
		tg = test_make_grains(n, &seed);
		for (next = 0; test_a()->sent < n || test_narrived + test_ndropped < n;) {
			next = test_offer(tg, next, n);
			if (fake_random(&seed) & 1)
				fake_pump(&f[0]);
			if (fake_random(&seed) & 1)
				fake_pump(&f[1]);
			if (fake_random(&seed) % 8 == 0)
				gy_tcp_ops.poll(test_b()->base.ep);
		}
		for (i = 0; i < n; i++) {
			assert_int_equal(tg[i].sent, 1);
			assert_int_equal(test_places[i].arrived, !test_places[i].dropped);
		}
		test_disconnect();
		test_free_grains(tg, n);
	}
}

/* Whether grains [from, n) have arrived. */
static bool test_all_in(unsigned from, unsigned n)
{
	while (from < n && test_places[from].arrived)
		from++;
	return from == n;
}

/*
 * Revoked at any moment, half of them without memory for the copy: the sender's memory is not read
 * again.
 */
static void test_revoke(void **state)
{
	const unsigned n = 24;
	unsigned next, last, i, times, rounds = test_times(40, 400);
	uint64_t seed = fake_seed();
	struct test_grain *tg;

	for (times = 0; times < rounds; times++) {
		test_connect(1 + (int)(fake_random(&seed) % 3), TIMEOUT_MS);
		test_take_grains();
		tg = test_make_grains(n, &seed);
		next = test_offer(tg, 0, n);
		for (i = (unsigned)(fake_random(&seed) % 6); i > 0; i--) {
			fake_pump(&f[fake_random(&seed) & 1]);
			next = test_offer(tg, next, n);
		}
		if (times & 1)
			gy_alloc_fail_at(1);
		for (i = 0; i < next; i++) {
			gy_tcp_ops.revoke(test_a()->base.ep, tg[i].src, tg[i].g.hdr.len);
			if (tg[i].g.hdr.len == 0)
				continue;
			assert_int_equal(tg[i].sent, 1);
			free(tg[i].src);
			tg[i].src = NULL;
		}
		gy_alloc_fail_at(0);
		/* The receiver takes its memory back too, then everything goes on. */
		for (i = 0; i < n; i++) {
			gy_tcp_ops.revoke(test_b()->base.ep, test_places[i].dst, tg[i].g.hdr.len);
			test_places[i].dropped = true;
		}
		for (i = next; i < n; i++)
			test_places[i].dropped = false;
		last = next;
		test_until_soon(test_a()->down || ((next = test_offer(tg, next, n)) == n &&
						   test_a()->sent == n && test_all_in(last, n)));
		assert_true(!test_a()->down || (times & 1));
		test_disconnect();
		test_free_grains(tg, n);
	}
}

/* ---- ends ---- */

/* A sends all it has and goes at once: B gets everything, then hears of the end. */
static void test_last_words(void **state)
{
	const unsigned n = 9;
	uint64_t seed = fake_seed();
	struct test_grain *tg;
	unsigned next, i;

	test_connect(3, TIMEOUT_MS);
	test_take_grains();
	test_b()->deliver = test_check_message;
	test_a()->seed_out = test_b()->seed_in = 5;
	tg = test_make_grains(n, &seed);
	assert_int_equal(test_send_some(test_a(), 0, 3), 3);
	for (next = 0; test_a()->sent < n;) {	/* B reads nothing that it need not */
		next = test_offer(tg, next, n);
		fake_pump(&f[0]);
		if (fake_random(&seed) % 64 == 0)
			fake_pump(&f[1]);
	}
	gy_tcp_ops.ep_close(test_a()->base.ep, true);
	test_a()->base.ep = NULL;
	fake_until(f, 2, test_b()->down);
	assert_int_equal(test_b()->err, -ECONNRESET);
	assert_int_equal(test_b()->n, 3);
	assert_int_equal(test_narrived + test_ndropped, n);
	for (i = 0; i < n; i++)
		assert_int_equal(test_places[i].arrived, !test_places[i].dropped);
	assert_int_equal(gy_tcp_ops.msg(test_b()->base.ep, &(struct gy_hdr){ .kind = 1 }, NULL),
			 -ENOTCONN);
	assert_int_equal(test_b()->down, 1);
	test_disconnect();
	test_free_grains(tg, n);
}

/* One connection of several is cut: the endpoint goes down, soon. */
static void test_one_lane_ends(void **state)
{
	unsigned lane;

	for (lane = 0; lane < 4; lane++) {
		const uint64_t start = fake_real_ms();

		test_connect(3, TIMEOUT_MS);
		shutdown(test_lane(test_a(), lane)->pfd.fd, SHUT_RDWR);
		test_until_soon(test_a()->down && test_b()->down);
		assert_int_equal(test_a()->err, -ECONNRESET);
		assert_int_equal(test_b()->err, -ECONNRESET);
		assert_true(fake_real_ms() - start < 9000);
		test_disconnect();
	}
}

/* Bulk lanes are refused when the small one is up: both sides hear of it, once. */
static void test_lanes_refused(void **state)
{
	int i;

	fake_open(f, 2, &gy_tcp_ops, TIMEOUT_MS, true);
	f[0].ctx.cfg.tcp_streams = f[1].ctx.cfg.tcp_streams = 16;
	assert_non_null(fake_ep(&f[0], 1));
	assert_int_equal(gy_tcp_ops.connect(test_a()->base.ep), 0);
	fake_until(f, 2, (f[1].refuses = test_b()->up) && test_a()->up);
	fake_until(f, 2, test_a()->down && test_b()->down);
	assert_int_equal(test_a()->err, -ESTALE);
	assert_int_equal(test_b()->err, -ECONNRESET);
	for (i = 0; i < 100; i++)
		fake_pump_all(f, 2);
	assert_int_equal(test_a()->down, 1);
	assert_int_equal(test_b()->down, 1);
	test_disconnect();
}

/*
 * B stands still while A fills every buffer on the way, for longer than the host timeout: as its
 * kernel still answers, that is no reason to give it up.
 */
static void test_standstill(void **state)
{
	const unsigned n = 64;
	uint64_t seed = 1, end;
	struct test_grain *tg;
	unsigned next = 0, sent;

	test_connect(2, 2000);
	test_take_grains();
	test_b()->deliver = test_check_message;
	test_a()->seed_out = test_b()->seed_in = 7;
	tg = test_make_grains(n, &seed);
	sent = test_send_some(test_a(), 0, UINT32_MAX);
	for (end = fake_real_ms() + 3000; fake_real_ms() < end;) {
		next = test_offer(tg, next, n);
		fake_pump(&f[0]);
		usleep(1000);		/* only to leave the processor to others */
	}
	assert_int_equal(test_a()->down, 0);
	fake_until(f, 2,
		   test_b()->n >= sent && ((next = test_offer(tg, next, n)) == n) &&
			   test_narrived + test_ndropped == n);
	assert_int_equal(test_a()->down + test_b()->down, 0);
	test_disconnect();
	test_free_grains(tg, n);
}

/* ---- who has proved the key may still talk nonsense ---- */

static void test_expect_proto(const void *bytes, size_t len, unsigned lane)
{
	test_connect(2, TIMEOUT_MS);
	assert_int_equal(send(test_lane(test_a(), lane)->pfd.fd, bytes, len, 0), len);
	fake_until(f, 2, test_b()->down);
	assert_int_equal(test_b()->err, -EPROTO);
	fake_until(f, 2, test_a()->down || !test_a()->base.ep);
	test_disconnect();
}

static void test_nonsense(void **state)
{
	const struct gy_hdr too_long = { .kind = 1, .len = GY_BODY_MAX + 1 };
	const struct gy_hdr much_too_long = { .kind = 1, .len = UINT32_MAX };
	const struct gy_hdr unasked = { .kind = 6, .len = 100 };

	test_expect_proto(&too_long, sizeof(too_long), 0);
	test_expect_proto(&much_too_long, sizeof(much_too_long), 0);
	test_expect_proto(&unasked, sizeof(unasked), 1);
	test_expect_proto(&unasked, sizeof(unasked), 2);
}

static void test_take_any(struct fake_peer *p, const struct gy_hdr *hdr, const void *body)
{
	volatile const uint8_t *b = body;
	uint32_t i, sum = 0;

	for (i = 0; i < hdr->len; i++)
		sum += b[i];
	p->n += sum & 1;
}

static int test_place_any(struct fake_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	static uint8_t room[4096];

	if (hdr->len > sizeof(room))
		return hdr->len & 1 ? -EPROTO : 0;
	*dstp = hdr->seq & 1 ? room : NULL;
	return 0;
}

/* Seeded bytes on any lane; headers among them have small lengths now and then. */
static void test_fuzz(void **state)
{
	unsigned times, i, rounds = test_times(60, 2000);
	uint64_t seed = fake_seed();
	uint8_t junk[4096];
	struct gy_hdr *hdr = (struct gy_hdr *)junk;

	for (times = 0; times < rounds; times++) {
		test_connect(2, TIMEOUT_MS);
		test_b()->deliver = test_take_any;
		test_b()->place = test_place_any;
		test_b()->close_in_upcall = fake_random(&seed) % 8 == 0;
		while (!test_b()->down && test_b()->base.ep && fake_random(&seed) % 64) {
			const unsigned lane = (unsigned)(fake_random(&seed) % 3);

			for (i = 0; i < sizeof(junk); i++)
				junk[i] = (uint8_t)fake_random(&seed);
			if (fake_random(&seed) % 4)
				hdr->len = (uint32_t)(fake_random(&seed) % 5000);
			if (test_a()->down)
				break;
			if (send(test_lane(test_a(), lane)->pfd.fd, junk,
				 fake_random(&seed) % sizeof(junk),
				 MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
				break;
			fake_pump(&f[1]);
		}
		test_disconnect();
	}
}

/* ---- the rest ---- */

static void test_close_in_upcall(void **state)
{
	static const struct gy_hdr hdr = { .kind = 1 };
	uint64_t seed = 3;
	struct test_grain *tg;
	unsigned i;

	test_connect(2, TIMEOUT_MS);		/* in deliver, with more messages behind it */
	for (i = 0; i < 10; i++)
		assert_int_equal(gy_tcp_ops.msg(test_a()->base.ep, &hdr, NULL), 0);
	test_b()->close_in_upcall = true;
	fake_until(f, 2, !test_b()->base.ep);
	assert_int_equal(test_b()->delivered, 1);
	test_a()->close_in_upcall = true;	/* in down */
	fake_until(f, 2, !test_a()->base.ep);
	test_disconnect();

	test_connect(2, TIMEOUT_MS);		/* in arrived */
	test_take_grains();
	tg = test_make_grains(3, &seed);
	test_places[1].dropped = false;
	test_b()->close_in_upcall = true;
	assert_int_equal(gy_tcp_ops.bulk(test_a()->base.ep, &tg[1].g), 0);
	fake_until(f, 2, !test_b()->base.ep);
	fake_until(f, 2, test_a()->down);
	test_disconnect();
	test_free_grains(tg, 3);
}

/* Sockets for lanes that are there already, or cannot be. */
static void test_odd_lanes(void **state)
{
	const unsigned odd[] = { 0, 1, 2, 3, 99 };
	int sv[2];
	size_t i;

	test_connect(2, TIMEOUT_MS);
	for (i = 0; i < GY_ARRAY_SIZE(odd); i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		gy_tcp_ops.accepted(test_b()->base.ep, odd[i], sv[0]);
		assert_int_equal(fake_is_closed(sv[1]), 1);
		close(sv[1]);
	}
	assert_int_equal(test_b()->down, 0);
	test_disconnect();
}

static void test_ipv6(void **state)
{
	struct wire_blob *b;

	fake_open(f, 2, &gy_tcp_ops, TIMEOUT_MS, false);
	b = (struct wire_blob *)&f[0].job[1].addr;
	b->nips = 1;
	memset(&b->ips[0], 0, sizeof(b->ips[0]));
	b->ips[0].family = 6;
	b->ips[0].bytes[15] = 1;
	assert_non_null(fake_ep(&f[0], 1));
	assert_int_equal(gy_tcp_ops.connect(test_a()->base.ep), 0);
	fake_until(f, 2,
		   test_a()->down || (test_nopen(test_a()) == 3 && test_nopen(test_b()) == 3));
	if (test_a()->down)
		print_message("no IPv6 here: %s\n", test_a()->why);
	test_disconnect();
}

/* Memory fails at each place of the set-up: an error at once, or it comes up all the same. */
static void test_no_memory(void **state)
{
	struct gy_nic *nic;
	long n;

	for (n = 1; n < 24; n++) {
		fake_open(f, 2, &gy_tcp_ops, 500, true);
		gy_alloc_fail_at(n);
		if (gy_tcp_ops.open(&f[0].ctx, &nic) == 0)
			gy_tcp_ops.close(nic);
		gy_alloc_fail_at(n);
		if (fake_ep(&f[0], 1) && gy_tcp_ops.connect(test_a()->base.ep) == 0)
			fake_until(f, 2, test_nopen(test_a()) == 3 && test_nopen(test_b()) == 3);
		gy_alloc_fail_at(0);
		assert_true(!test_a()->down && !test_b()->down);
		test_disconnect();
	}
}

/* As promised: what a peer costs beyond the kernel's buffers. */
static void test_memory(void **state)
{
	assert_true(sizeof(struct tcp_ep) + 17 * sizeof(struct tcp_lane) + 2 * TCP_BUF <=
		    64 * 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_grains),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_one_lane_ends),
		cmocka_unit_test(test_lanes_refused),
		cmocka_unit_test(test_standstill),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_fuzz),
		cmocka_unit_test(test_close_in_upcall),
		cmocka_unit_test(test_odd_lanes),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_memory),
	};

	gy_log_set_level(GY_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
