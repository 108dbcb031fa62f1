/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tcp_shape.c - shaped tcp: never earlier than the delay, never faster than the rate, all of
 * it, in order, and nothing after a revoke.  The clock is virtual: it moves with each look, so
 * nothing here depends on how busy the machine is.
 */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "transports/tcp/tcp.h"

#define TIMEOUT_MS 10000
#define MS 1000000ull

static struct fake f[2];

static struct fake_peer *shape_a(void)
{
	return &f[0].peer[1];
}

static struct fake_peer *shape_b(void)
{
	return &f[1].peer[0];
}

static unsigned shape_nopen(const struct fake_peer *p)
{
	return p->base.ep ? to_tcp(p->base.ep)->nopen : 0;
}

static void shape_reopen(struct fake *one, const char *shape)
{
	gy_tcp_ops.close(one->nic);
	one->ctx.cfg.tcp_streams = 2;
	snprintf(one->ctx.cfg.tcp_shape, sizeof(one->ctx.cfg.tcp_shape), "%s", shape);
	assert_int_equal(gy_tcp_ops.open(&one->ctx, &one->nic), 0);
}

static void shape_connect(const char *shape)
{
	fake_open(f, 2, &gy_tcp_ops, TIMEOUT_MS, true);
	shape_reopen(&f[0], shape);
	shape_reopen(&f[1], shape);
	assert_non_null(fake_ep(&f[0], 1));
	assert_int_equal(gy_tcp_ops.connect(shape_a()->base.ep), 0);
	fake_until(f, 2, shape_nopen(shape_a()) == 3 && shape_nopen(shape_b()) == 3);
}

static void shape_disconnect(void)
{
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
}

static uint64_t shape_now(void)
{
	return tcp_now(to_tcp(shape_b()->base.ep));
}

/* ---- the setting ---- */

static void test_words(void **state)
{
	static const struct {
		const char *text;
		uint64_t delay_ns, jitter_ns;
		double ns_per_byte, loss;
	} good[] = {
		{ "rtt=80ms", 40 * MS, 0, 0, 0 },
		{ "RTT=1", MS / 2, 0, 0, 0 },
		{ "delay=1.5s,jitter=250us", 1500 * MS, MS / 4, 0, 0 },
		{ "rate=8mbit,loss=0.1%", 0, 0, 1000, 0.001 },
		{ "rate=.8gbit,loss=.25", 0, 0, 10, 0.25 },
		{ "rate=0,loss=0", 0, 0, 0, 0 },
	};
	static const struct {
		const char *text, *word, *known;
	} bad[] = {
		{ "rt=80ms", "'rt=80ms'", "rtt=TIME, delay=TIME, rate=RATE, loss=SHARE, jitter" },
		{ "rtt=80ms,queue=1m", "'queue=1m'", "jitter=TIME" },
		{ "rtt", "'rtt'", "rate=RATE" },
		{ "rtt=80ms,", "''", "rate=RATE" },
		{ "rtt=", "'rtt='", "us, ms or s" },
		{ "rtt=80m", "'rtt=80m'", "us, ms or s" },
		{ "rtt=-1ms", "'rtt=-1ms'", "us, ms or s" },
		{ "rtt=1.2.3", "'rtt=1.2.3'", "us, ms or s" },
		{ "rtt=.", "'rtt=.'", "us, ms or s" },
		{ "delay=101s", "'delay=101s'", "100s" },
		{ "rate=100", "'rate=100'", "1kbit" },
		{ "rate=1tbit", "'rate=1tbit'", "gbit" },
		{ "loss=101%", "'loss=101%'", "0.1%" },
		{ "rtt 80", "'rtt 80'", "rtt=TIME" },
	};
	struct tcp_shape shape;
	char why[200];
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(good); i++) {
		assert_int_equal(tcp_shape_parse(good[i].text, &shape, why, sizeof(why)), 0);
		assert_true(shape.on);
		assert_int_equal(shape.delay_ns, good[i].delay_ns);
		assert_int_equal(shape.jitter_ns, good[i].jitter_ns);
		assert_true(shape.ns_per_byte >= good[i].ns_per_byte * 0.999999 &&
			    shape.ns_per_byte <= good[i].ns_per_byte * 1.000001);
		assert_true(shape.loss >= good[i].loss * 0.999999 &&
			    shape.loss <= good[i].loss * 1.000001);
	}
	for (i = 0; i < GY_ARRAY_SIZE(bad); i++) {
		assert_int_equal(tcp_shape_parse(bad[i].text, &shape, why, sizeof(why)), -EINVAL);
		assert_non_null(strstr(why, bad[i].word));
		assert_non_null(strstr(why, bad[i].known));
	}
	assert_int_equal(tcp_shape_parse("", &shape, why, sizeof(why)), 0);
	assert_false(shape.on);
}

static void test_bad_setting(void **state)
{
	struct gy_nic *nic;

	fake_open(f, 2, &gy_tcp_ops, TIMEOUT_MS, true);
	strcpy(f[0].ctx.cfg.tcp_shape, "speed=1");
	assert_int_equal(gy_tcp_ops.open(&f[0].ctx, &nic), -EINVAL);
	shape_disconnect();
}

/* ---- what is sent: the time is in it ---- */

#define GRAINS 64
#define GRAIN (100 * 1000)

static struct {
	uint64_t least_ns[2];	/* of messages and of grains: from sent to heard of */
	uint64_t begin_ns;
	double ns_per_byte;	/* all that came took so long at least, since begin */
	double bytes;
	struct gy_grain grain[GRAINS];
	char *src, *dst[GRAINS];
	unsigned said, next;	/* of messages and of grains */
	unsigned placed, told;
} t;

static void shape_came(const struct gy_hdr *hdr, bool bulk)
{
	const uint64_t now = shape_now();

	assert_true(now - hdr->count >= t.least_ns[bulk]);
	t.bytes += (double)(sizeof(*hdr) + hdr->len) * 1500 / 1448;
	assert_true((double)(now - t.begin_ns) >= (t.bytes - 64) * t.ns_per_byte);
}

static void shape_deliver(struct fake_peer *p, const struct gy_hdr *hdr, const void *body)
{
	assert_int_equal(hdr->seq, p->n++);
	shape_came(hdr, false);
}

static int shape_place(struct fake_peer *p, const struct gy_hdr *hdr, void **dstp)
{
	t.placed++;
	*dstp = t.dst[hdr->seq];
	return 0;
}

static void shape_arrive(struct fake_peer *p, const struct gy_hdr *hdr)
{
	assert_non_null(t.dst[hdr->seq]);
	assert_memory_equal(t.dst[hdr->seq], t.src, GRAIN);
	t.told++;
	shape_came(hdr, true);
}

static int shape_say(unsigned seq, uint32_t len)
{
	static const char body[GY_BODY_MAX];
	const struct gy_hdr hdr = { .kind = 1, .seq = seq, .len = len, .count = shape_now() };

	return gy_tcp_ops.msg(shape_a()->base.ep, &hdr, body);
}

static unsigned shape_offer(unsigned next, unsigned n)
{
	struct gy_grain *g;

	for (; next < n; next++) {
		g = &t.grain[next];
		*g = (struct gy_grain){ .src = t.src };
		g->hdr = (struct gy_hdr){ .kind = 6, .seq = next, .len = GRAIN };
		g->hdr.count = shape_now();
		if (gy_tcp_ops.bulk(shape_a()->base.ep, g))
			break;
	}
	return next;
}

static void shape_begin(const char *shape, uint64_t least_msg_ms, uint64_t least_grain_ms)
{
	unsigned i;

	memset(&t, 0, sizeof(t));
	t.src = malloc(GRAIN);
	memset(t.src, 0x5a, GRAIN);
	for (i = 0; i < GRAINS; i++)
		t.dst[i] = calloc(1, GRAIN);
	t.least_ns[0] = least_msg_ms * MS;
	t.least_ns[1] = least_grain_ms * MS;
	shape_connect(shape);
	t.begin_ns = shape_now();
	shape_b()->deliver = shape_deliver;
	shape_b()->place = shape_place;
	shape_b()->arrive = shape_arrive;
}

static void shape_end(void)
{
	unsigned i;

	shape_disconnect();
	free(t.src);
	for (i = 0; i < GRAINS; i++)
		free(t.dst[i]);
}

/* Some more messages and grains; true: all have come. */
static bool shape_go_on(uint64_t *seed, unsigned nmsgs, unsigned ngrains)
{
	unsigned i;

	for (i = (unsigned)(fake_random(seed) % 8); i > 0 && t.said < nmsgs; i--)
		t.said += !shape_say(t.said, (uint32_t)(fake_random(seed) % 3000));
	t.next = shape_offer(t.next, ngrains);
	return shape_b()->n == nmsgs && t.told == ngrains;
}

static void shape_exchange(unsigned nmsgs, unsigned ngrains)
{
	uint64_t seed = fake_seed();

	fake_until(f, 2, shape_go_on(&seed, nmsgs, ngrains));
	assert_int_equal(shape_a()->down + shape_b()->down, 0);
}

static void test_delay(void **state)
{
	shape_begin("delay=40ms,jitter=5ms", 40, 40);
	shape_exchange(500, GRAINS);
	shape_end();
}

static void test_rate(void **state)
{
	shape_begin("rate=80mbit,rtt=10ms", 5, 5);
	t.ns_per_byte = 100;
	shape_exchange(500, GRAINS);
	shape_end();
}

static void test_loss(void **state)
{
	shape_begin("rtt=20ms,loss=100%", 10 + 20 + 200, 10 + 20);
	shape_exchange(100, GRAINS);
	shape_end();
}

/* ---- bounds ---- */

/* Not more than a receive window is kept for messages that are not due; then the sender waits. */
static void test_window(void **state)
{
	unsigned said = 0, idle;

	shape_begin("delay=100s", 100 * 1000, 100 * 1000);
	for (idle = 0; idle < 200; idle++) {
		while (!shape_say(said, GY_BODY_MAX)) {
			said++;
			idle = 0;
		}
		assert_true(said < 64 * 1024 * 1024 / GY_BODY_MAX);
		fake_pump_all(f, 2);
	}
	assert_in_range(to_tcp(shape_b()->base.ep)->in.held, 4 << 20, 5 << 20);
	assert_int_equal(shape_b()->n, 0);
	while (shape_b()->n < said) {
		fake_clock_add_ms(100 * 1000);
		for (idle = 0; idle < 50; idle++)
			fake_pump_all(f, 2);
	}
	assert_int_equal(to_tcp(shape_b()->base.ep)->in.held, 0);
	assert_true(shape_a()->rooms > 0);
	shape_end();
}

static void test_no_memory(void **state)
{
	unsigned bulk;

	for (bulk = 0; bulk < 2; bulk++) {
		shape_begin("delay=1ms", 1, 1);
		if (bulk)
			assert_int_equal(shape_offer(0, 1), 1);
		else
			assert_int_equal(shape_say(0, 100), 0);
		gy_alloc_fail_at(1);
		fake_until(f, 2, shape_b()->down);
		gy_alloc_fail_at(0);
		assert_int_equal(shape_b()->err, -ENOMEM);
		assert_int_equal(t.told + shape_b()->n, 0);
		shape_end();
	}
}

/* ---- ends ---- */

/* Grains that lie in their places and are not due are not heard of after a revoke. */
static void test_revoke(void **state)
{
	const unsigned n = 8;
	unsigned next = 0, i;

	shape_begin("delay=1s", 1000, 1000);
	fake_until(f, 2, ((next = shape_offer(next, n)), shape_a()->sent == n && t.placed == n));
	for (i = 0; i < 20; i++)
		fake_pump_all(f, 2);
	for (i = 0; i < n; i += 2) {
		gy_tcp_ops.revoke(shape_b()->base.ep, t.dst[i] + GRAIN / 2, 1);
		free(t.dst[i]);
		t.dst[i] = NULL;
	}
	assert_int_equal(t.told, 0);
	assert_int_equal(shape_say(0, 8), 0);
	fake_until(f, 2, shape_b()->n == 1 && t.told == n / 2);
	assert_int_equal(shape_b()->arrived, n / 2);
	shape_end();
}

/* A sends and goes at once: B hears of everything, then of the end, none of it early. */
static void test_last_words(void **state)
{
	const unsigned n = 8;
	uint64_t gone_ns;
	unsigned next = 0, i;

	shape_begin("rtt=600ms,rate=100mbit,loss=50%,jitter=100ms", 300, 300);
	for (i = 0; i < 10; i++)
		assert_int_equal(shape_say(i, 1000), 0);
	fake_until(f, 2, ((next = shape_offer(next, n)), shape_a()->sent == n));
	gy_tcp_ops.ep_close(shape_a()->base.ep, true);
	shape_a()->base.ep = NULL;
	gone_ns = shape_now();
	fake_until(f, 2, shape_b()->down);
	assert_int_equal(shape_b()->err, -ECONNRESET);
	assert_int_equal(shape_b()->n, 10);
	assert_int_equal(t.told, n);
	assert_true(shape_now() - gone_ns >= 300 * MS);
	shape_end();
}

/* The endpoint is closed in an upcall with more due behind it, and with all of it under way. */
static void test_close(void **state)
{
	unsigned i;

	shape_begin("delay=5ms", 5, 5);
	for (i = 0; i < 10; i++)
		assert_int_equal(shape_say(i, 8), 0);
	shape_b()->close_in_upcall = true;
	fake_until(f, 2, !shape_b()->base.ep);
	assert_int_equal(shape_b()->delivered, 1);
	shape_end();

	shape_begin("delay=5ms", 5, 5);
	assert_int_equal(shape_offer(0, 1), 1);
	shape_b()->close_in_upcall = true;
	fake_until(f, 2, !shape_b()->base.ep);
	assert_int_equal(t.told, 1);
	shape_end();

	shape_begin("delay=5s", 5000, 5000);
	assert_int_equal(shape_say(0, 8), 0);
	assert_int_equal(shape_offer(0, 1), 1);
	fake_until(f, 2, to_tcp(shape_b()->base.ep)->in.held && t.placed);
	shape_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_bad_setting),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_close),
	};

	fake_clock_virtual = true;
	gy_log_set_level(GY_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
