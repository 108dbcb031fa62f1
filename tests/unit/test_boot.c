/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_boot.c - the rendezvous, with a thread for each rank: rounds, keys, ranks that are late,
 * missing, wrong or leave early, one generation after the other.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/addrs.h"
#include "lib/alloc.h"
#include "lib/boot.h"
#include "lib/boot_wire.h"
#include "lib/log.h"
#include "lib/net.h"

#define RANKS 8
#define TIMEOUT_MS 20000

struct test_rank {
	/* What to do. */
	const char *addr;
	int rank, nranks, serve, have_key, timeout_ms;
	uint8_t key[16];
	unsigned rounds;
	size_t len, last_len;	/* of all rounds but the last; of that */
	int generations;
	/* What came of it. */
	int err;
	atomic_bool joined;
	pthread_t thread;
};

static const uint8_t test_key[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static uint8_t test_byte(int rank, unsigned round, size_t i)
{
	return (uint8_t)((unsigned)rank * 31 + round * 7 + i * 3);
}

static int test_round(struct gy_boot *b, const struct test_rank *r, unsigned round)
{
	const size_t len = round + 1 == r->rounds && r->last_len ? r->last_len : r->len;
	uint8_t *in = malloc(len + 1), *out = malloc((size_t)r->nranks * len + 1);
	int err, k;
	size_t i;

	for (i = 0; i < len; i++)
		in[i] = test_byte(r->rank, round, i);
	err = gy_boot_allgather(b, in, out, len);
	for (k = 0; !err && k < r->nranks; k++)
		for (i = 0; i < len; i++)
			if (out[(size_t)k * len + i] != test_byte(k, round, i))
				err = -EBADMSG;
	free(in);
	free(out);
	return err;
}

static void *test_main(void *arg)
{
	struct test_rank *r = arg;
	struct gy_boot *b;
	unsigned round;
	int g;

	for (g = 0; g < r->generations && !r->err; g++) {
		r->err = gy_boot_join(r->addr, r->rank, r->nranks, r->serve, r->key, r->have_key,
				      r->timeout_ms, &b);
		if (r->err)
			break;
		atomic_store(&r->joined, true);
		for (round = 0; round < r->rounds && !r->err; round++)
			r->err = test_round(b, r, round);
		gy_boot_leave(b);
	}
	return NULL;
}

static void test_fill(struct test_rank *r, int n, const char *addr)
{
	int i;

	memset(r, 0, (size_t)n * sizeof(*r));
	for (i = 0; i < n; i++) {
		r[i].addr = addr;
		r[i].rank = i;
		r[i].nranks = n;
		r[i].have_key = 1;
		r[i].timeout_ms = TIMEOUT_MS;
		r[i].rounds = 3;
		r[i].len = 100;
		r[i].generations = 1;
		memcpy(r[i].key, test_key, sizeof(test_key));
	}
}

static void test_start(struct test_rank *r, int n)
{
	int i;

	for (i = 0; i < n; i++)
		assert_int_equal(pthread_create(&r[i].thread, NULL, test_main, &r[i]), 0);
}

static void test_finish(struct test_rank *r, int n)
{
	int i;

	for (i = 0; i < n; i++)
		pthread_join(r[i].thread, NULL);
}

/* A port that is free now. */
static void test_free_port(char addr[64])
{
	const int fd = gy_net_listen_loopback(0);

	assert_true(fd >= 0);
	snprintf(addr, 64, "127.0.0.1:%d", gy_net_port(fd));
	close(fd);
}

/* ---- a server of its own, as in gyrerun ---- */

struct test_server {
	struct gy_boot_server *s;
	char addr[64];
	pthread_t thread;
};

static void *test_serve(void *arg)
{
	while (gy_boot_server_run(arg, -1) != -ECANCELED)
		;
	return NULL;
}

static void test_server_start(struct test_server *t, const char *addr, int n, const uint8_t *key)
{
	assert_int_equal(gy_boot_server_open(addr, n, key, &t->s, t->addr, sizeof(t->addr)), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, test_serve, t->s), 0);
}

static void test_server_stop(struct test_server *t)
{
	gy_boot_server_stop(t->s);
	pthread_join(t->thread, NULL);
	gy_boot_server_close(t->s);
}

static void test_server_end(struct test_server *t)
{
	test_server_stop(t);
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_served(void **state)
{
	struct test_rank r[RANKS];
	struct test_server t;
	int n, i;

	for (n = 1; n <= RANKS; n++) {
		test_server_start(&t, "127.0.0.1:0", n, test_key);
		test_fill(r, n, t.addr);
		for (i = 0; i < n; i++)
			r[i].generations = 3;
		test_start(r, n);
		test_finish(r, n);
		for (i = 0; i < n; i++)
			assert_int_equal(r[i].err, 0);
		test_server_end(&t);
	}
}

static void test_sizes(void **state)
{
	const size_t lens[] = { 0, 1, 4096, 300000, GY_BOOT_MAX_LEN };
	struct test_rank r[3];
	struct test_server t;
	size_t k;
	int i;

	test_server_start(&t, "127.0.0.1:0", 3, test_key);
	for (k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
		test_fill(r, 3, t.addr);
		for (i = 0; i < 3; i++)
			r[i].len = lens[k];
		test_start(r, 3);
		test_finish(r, 3);
		for (i = 0; i < 3; i++)
			assert_int_equal(r[i].err, 0);
	}
	test_server_end(&t);
}

/* Rank 0 serves; the others may be earlier; the key is made by the rendezvous. */
static void test_rank0_serves(void **state)
{
	struct test_rank r[RANKS];
	char addr[64];
	int n, i, keyed;

	for (keyed = 0; keyed < 2; keyed++) {
		for (n = 1; n <= RANKS; n += 3) {
			test_free_port(addr);
			test_fill(r, n, addr);
			for (i = 0; i < n; i++) {
				r[i].serve = 1;
				r[i].have_key = keyed;
				r[i].generations = 1;
			}
			test_start(r + 1, n - 1);
			test_start(r, 1);
			test_finish(r, n);
			for (i = 0; i < n; i++) {
				assert_int_equal(r[i].err, 0);
				assert_memory_equal(r[i].key, r[0].key, 16);
				assert_int_equal(memcmp(r[i].key, test_key, 16) == 0, keyed);
			}
		}
	}
	assert_int_equal(gy_alloc_live(), 0);
}

/* Contexts one after the other without gyrerun: each time rank 0 opens the same port again. */
static void test_rank0_serves_again(void **state)
{
	struct test_rank r[4];
	char addr[64];
	int i;

	test_free_port(addr);
	test_fill(r, 4, addr);
	for (i = 0; i < 4; i++) {
		r[i].serve = 1;
		r[i].generations = 10;
		r[i].rounds = 2;
	}
	test_start(r, 4);
	test_finish(r, 4);
	for (i = 0; i < 4; i++)
		assert_int_equal(r[i].err, 0);
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_addresses(void **state)
{
	char addr[300], dead[64];
	struct test_rank r[2];
	struct test_server t;
	uint8_t key[16];
	struct gy_boot *b;
	int i;

	/* One address of several works. */
	test_server_start(&t, "127.0.0.1:0", 2, test_key);
	test_free_port(dead);
	snprintf(addr, sizeof(addr), "%s,nosuchhost.invalid:1,%s", dead, t.addr);
	test_fill(r, 2, addr);
	test_start(r, 2);
	test_finish(r, 2);
	for (i = 0; i < 2; i++)
		assert_int_equal(r[i].err, 0);
	test_server_end(&t);

	/* IPv6, a name, every address. */
	if (gy_boot_server_open("[::1]:0", 1, test_key, &t.s, t.addr, sizeof(t.addr)) == 0) {
		gy_boot_server_close(t.s);
		test_server_start(&t, "[::1]:0", 2, test_key);
		test_fill(r, 2, t.addr);
		test_start(r, 2);
		test_finish(r, 2);
		assert_int_equal(r[0].err, 0);
		test_server_end(&t);
	}
	test_server_start(&t, "localhost:0", 2, test_key);
	test_fill(r, 2, t.addr);
	test_start(r, 2);
	test_finish(r, 2);
	assert_int_equal(r[0].err, 0);
	test_server_end(&t);
	test_server_start(&t, "*:0", 2, test_key);
	snprintf(addr, sizeof(addr), "127.0.0.1%s", strchr(t.addr, ':'));
	test_fill(r, 2, addr);
	test_start(r, 2);
	test_finish(r, 2);
	assert_int_equal(r[0].err, 0);
	test_server_end(&t);

	/* What is no address. */
	memcpy(key, test_key, sizeof(key));
	assert_int_equal(gy_boot_join("", 1, 2, 0, key, 1, 100, &b), -EINVAL);
	assert_int_equal(gy_boot_join("host", 1, 2, 0, key, 1, 100, &b), -EINVAL);
	assert_int_equal(gy_boot_join("host:", 1, 2, 0, key, 1, 100, &b), -EINVAL);
	assert_int_equal(gy_boot_join(":4711", 1, 2, 0, key, 1, 100, &b), -EINVAL);
	assert_int_equal(gy_boot_join("127.0.0.1:1", 2, 2, 0, key, 1, 100, &b), -EINVAL);
	assert_int_equal(gy_boot_server_open("127.0.0.1:x", 2, NULL, &t.s, addr, 64), -EINVAL);
	assert_int_equal(gy_boot_server_open("127.0.0.1:0", 0, NULL, &t.s, addr, 64), -EINVAL);
	assert_int_equal(gy_alloc_live(), 0);
}

/* ---- failures ---- */

static void test_nobody_there(void **state)
{
	uint8_t key[16] = { 0 };
	struct gy_boot *b;
	char addr[64];

	test_free_port(addr);
	assert_int_equal(gy_boot_join(addr, 1, 2, 0, key, 1, 200, &b), -ECONNREFUSED);
	assert_int_equal(gy_alloc_live(), 0);
}

static void test_wrong_key(void **state)
{
	struct test_server t;
	uint8_t key[16];
	struct gy_boot *b;

	memcpy(key, test_key, sizeof(key));
	test_server_start(&t, "127.0.0.1:0", 2, test_key);
	key[15] ^= 1;
	assert_int_equal(gy_boot_join(t.addr, 1, 2, 0, key, 1, TIMEOUT_MS, &b), -EACCES);
	assert_int_equal(gy_boot_join(t.addr, 1, 2, 0, key, 0, TIMEOUT_MS, &b), -EACCES);
	key[15] ^= 1;
	assert_int_equal(gy_boot_join(t.addr, 1, 3, 0, key, 1, TIMEOUT_MS, &b), -EPROTO);
	test_server_end(&t);
	test_server_start(&t, "127.0.0.1:0", 2, NULL);
	assert_int_equal(gy_boot_join(t.addr, 1, 2, 0, key, 1, TIMEOUT_MS, &b), -EACCES);
	test_server_end(&t);
}

/* A rank that does not come: the others are told when their time is over. */
static void test_missing(void **state)
{
	struct test_rank r[3];
	struct test_server t;
	int i;

	test_server_start(&t, "127.0.0.1:0", 4, test_key);
	test_fill(r, 3, t.addr);
	for (i = 0; i < 3; i++) {
		r[i].nranks = 4;
		r[i].timeout_ms = 300;
	}
	test_start(r, 3);
	test_finish(r, 3);
	for (i = 0; i < 3; i++)
		assert_int_equal(r[i].err, -ETIMEDOUT);
	/* And the next generation is as good as new. */
	test_fill(r, 3, t.addr);
	for (i = 0; i < 3; i++) {
		r[i].nranks = 4;
		r[i].timeout_ms = 300;
	}
	test_start(r, 2);
	test_finish(r, 2);
	for (i = 0; i < 2; i++)
		assert_int_equal(r[i].err, -ETIMEDOUT);
	test_server_end(&t);
}

/* One leaves between two rounds: the others learn it at once, not after their timeout. */
static void test_leaves_early(void **state)
{
	struct test_rank r[4];
	struct test_server t;
	struct timespec a, b;
	int i;

	test_server_start(&t, "127.0.0.1:0", 4, test_key);
	test_fill(r, 4, t.addr);
	r[2].rounds = 1;
	clock_gettime(CLOCK_MONOTONIC, &a);
	test_start(r, 4);
	test_finish(r, 4);
	clock_gettime(CLOCK_MONOTONIC, &b);
	for (i = 0; i < 4; i++)
		assert_int_equal(r[i].err, i == 2 ? 0 : -ECONNRESET);
	assert_true(b.tv_sec - a.tv_sec < TIMEOUT_MS / 2000);
	/* One leaves before the others have even come. */
	test_fill(r, 4, t.addr);
	r[2].rounds = 0;
	test_start(r + 2, 1);
	test_finish(r + 2, 1);
	test_server_end(&t);
}

static void test_mismatch(void **state)
{
	struct test_rank r[3];
	struct test_server t;
	int i;

	test_server_start(&t, "127.0.0.1:0", 3, test_key);
	test_fill(r, 3, t.addr);
	r[1].last_len = 101;
	test_start(r, 3);
	test_finish(r, 3);
	for (i = 0; i < 3; i++)
		assert_int_equal(r[i].err, -EPROTO);
	test_server_end(&t);
}

/* The rendezvous goes away: an error, not a hang. */
static void test_server_dies(void **state)
{
	struct test_rank r[2];
	struct test_server t;

	test_server_start(&t, "127.0.0.1:0", 3, test_key);
	test_fill(r, 2, t.addr);
	r[0].nranks = r[1].nranks = 3;
	test_start(r, 1);
	while (!atomic_load(&r[0].joined))
		sched_yield();
	test_server_stop(&t);
	test_finish(r, 1);
	assert_int_equal(gy_alloc_live(), 0);
	assert_true(r[0].err == -ECONNRESET || r[0].err == -ECANCELED || r[0].err == -EPIPE);
}

static void test_no_memory(void **state)
{
	struct gy_boot_server *s;
	struct gy_boot *b;
	uint8_t key[16];
	char addr[64];
	long n;

	memcpy(key, test_key, sizeof(key));
	for (n = 1; n < 20; n++) {
		gy_alloc_fail_at(n);
		if (gy_boot_server_open("127.0.0.1:0", 2, test_key, &s, addr, sizeof(addr)) == 0)
			gy_boot_server_close(s);
		gy_alloc_fail_at(n);
		if (gy_boot_join("127.0.0.1:0", 0, 1, 1, key, 1, 300, &b) == 0) {
			int in = 7, out = 0;

			if (gy_boot_allgather(b, &in, &out, sizeof(in)) == 0)
				assert_int_equal(out, 7);
			gy_boot_leave(b);
		}
		gy_alloc_fail_at(0);
		assert_int_equal(gy_alloc_live(), 0);
	}
}

/* ---- addresses of this machine ---- */

static void test_filter(void **state)
{
	struct gy_ip all[32], some[32];
	char text[GY_IP_TEXT];
	int n;

	n = gy_ips_local(NULL, all, 32);
	assert_true(n > 0);
	assert_int_equal(gy_ips_local("", some, 32), n);
	gy_ip_text(&all[0], 80, text);
	*strrchr(text, ':') = '\0';
	if (text[0] != '[') {
		assert_true(gy_ips_local(text, some, 32) >= 1);
		assert_memory_equal(&some[0], &all[0], sizeof(some[0]));
	}
	assert_int_equal(gy_ips_local("0.0.0.0/0,::/0", some, 32), n);
	assert_int_equal(gy_ips_local("^0.0.0.0/0,::/0", some, 32), -EADDRNOTAVAIL);
	assert_int_equal(gy_ips_local("nosuchif0", some, 32), -EADDRNOTAVAIL);
	assert_int_equal(gy_ips_local("^nosuchif0,eth99.100", some, 32), n);
	assert_int_equal(gy_ips_local("10.0.0.0/33", some, 32), -EINVAL);
	assert_int_equal(gy_ips_local("10.0.0/8", some, 32), -EINVAL);
	assert_int_equal(gy_ips_local("10.0.0.0/", some, 32), -EINVAL);
	assert_int_equal(gy_ips_local("a,,b", some, 32), -EINVAL);
	assert_int_equal(gy_ips_local("lo", some, 32) > 0 || n > 0, 1);
}

/*
 * What the kernel waits for a host that has fallen silent: since its last answer at most the
 * timeout; since it fell silent, which is up to idle later, at least 0.9 of it.
 */
static void test_keepalive(void **state)
{
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	int seconds, idle, interval, probes;
	socklen_t len = sizeof(int);

	assert_true(fd >= 0);
	for (seconds = 1; seconds <= 600; seconds++) {
		gy_net_tune(fd, seconds * 1000, true);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &len), 0);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, &len), 0);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, &len), 0);
		assert_int_equal(idle + probes * interval, seconds < 4 ? 4 : seconds);
		assert_true(10 * probes * interval >= 9 * seconds || seconds < 10);
		assert_true(idle <= interval);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_served),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_rank0_serves),
		cmocka_unit_test(test_rank0_serves_again),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_leaves_early),
		cmocka_unit_test(test_mismatch),
		cmocka_unit_test(test_server_dies),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_keepalive),
	};

	alarm(50);			/* what hangs dies, with a core */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
