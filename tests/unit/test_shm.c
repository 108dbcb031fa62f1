/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shm.c - shared memory endpoints: the small lane, sleeping, and what a bad peer can do.
 */
#include "tests/unit/test_shm_fake.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/alloc.h"

/* ---- messages that can be checked: seq says all ---- */

static uint32_t msg_len(uint32_t seq)
{
	uint64_t seed = seq;
	const uint64_t r = fake_random(&seed);

	switch (r % 4) {
	case 0:
		return (uint32_t)(r >> 8) % (GY_BODY_LONG + 1);
	case 1:
		return (uint32_t)(r >> 8) % 256;
	default:
		return 8;
	}
}

static void msg_fill(uint8_t *body, uint32_t seq, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		body[i] = (uint8_t)(seq * 7 + i);
}

static int msg_send(struct fake *f, uint32_t len)
{
	uint8_t body[GY_BODY_LONG];
	struct gy_hdr hdr = { .kind = 1, .seq = f->seq_out, .len = len, .count = ~0ull };
	int err;

	msg_fill(body, f->seq_out, len);
	err = f->ep->ops->msg(f->ep, &hdr, body);
	if (!err)
		f->seq_out++;
	return err;
}

static void msg_check(struct fake *f, const struct gy_hdr *hdr, const void *body)
{
	uint8_t want[GY_BODY_LONG];

	assert_int_equal(hdr->seq, f->seq_in);
	assert_int_equal(hdr->count, ~0ull);
	msg_fill(want, hdr->seq, hdr->len);
	assert_memory_equal(body, want, hdr->len);
	f->seq_in++;
}

/* ---- small lane ---- */

static void test_connect(void **state)
{
	const unsigned fds = fake_count_fds(), maps = fake_count_maps();
	const long live = gy_alloc_live();
	uint8_t blob[GY_BLOB_MAX];
	struct fake a, b;
	int len;

	fake_pair(&a, &b);
	assert_int_equal(a.ep->caps, GY_CAP_LEND);
	assert_int_equal(a.ep->ops->connect(a.ep), 0);
	len = b.nic->ops->describe(b.nic, blob, sizeof(blob));
	assert_in_range(len, 1, sizeof(blob));
	assert_int_equal(b.nic->ops->describe(b.nic, blob, (size_t)len - 1), -ENOBUFS);
	assert_int_equal(a.nic->ops->reach(a.nic, 1, blob, (size_t)len), 0);
	assert_int_equal(a.nic->ops->reach(a.nic, 1, blob, (size_t)len - 1), -EHOSTUNREACH);
	blob[len / 2] ^= 1;
	assert_int_equal(a.nic->ops->reach(a.nic, 1, blob, (size_t)len), -EHOSTUNREACH);
	fake_unpair(&a, &b);
	assert_int_equal(fake_count_fds(), fds);
	assert_int_equal(fake_count_maps(), maps);
	assert_int_equal(gy_alloc_live(), live);
}

static void test_all_lengths(void **state)
{
	struct fake a, b;
	uint32_t len, n = 0;

	fake_pair(&a, &b);
	b.deliver = msg_check;
	/* Each up to some lines, then all remainders of a line again and again, and the longest. */
	for (len = 0; len <= GY_BODY_LONG; len += len < 1024 || len > GY_BODY_LONG - 64 ? 1 : 13) {
		assert_int_equal(msg_send(&a, len), 0);
		assert_int_equal(b.ep->ops->poll(b.ep), 1);
		n++;
	}
	assert_int_equal(b.ep->ops->poll(b.ep), 0);
	assert_int_equal(b.seq_in, n);
	fake_unpair(&a, &b);
}

/* A full ring says so, and says once when there is room, which is enough for any message. */
static void test_full(void **state)
{
	struct fake a, b;
	int round, err;

	fake_pair(&a, &b);
	b.deliver = msg_check;
	for (round = 0; round < 50; round++) {
		while (!(err = msg_send(&a, msg_len(a.seq_out))))
			;
		assert_int_equal(err, -EAGAIN);
		assert_int_equal(a.ep->ops->poll(a.ep), 0);
		while (!a.ep->ops->poll(a.ep))
			assert_int_equal(b.ep->ops->poll(b.ep), 1);
		assert_int_equal(a.rooms, round + 1);
		assert_int_equal(a.ep->ops->poll(a.ep), 0);
		assert_int_equal(msg_send(&a, GY_BODY_LONG), 0);
	}
	while (fake_pump(&b))
		;
	assert_int_equal(a.seq_out, b.seq_in);
	fake_unpair(&a, &b);
}

static void test_not_up(void **state)
{
	struct gy_remote remote = { { 0 } };
	struct gy_hdr hdr = { .kind = 1 };
	const void *ptr;
	struct fake a;

	assert_int_equal(fake_open(&a, 0), 0);
	assert_int_equal(fake_ep_open(&a), 0);
	assert_int_equal(a.ep->ops->msg(a.ep, &hdr, NULL), -ENOTCONN);
	assert_int_equal(a.ep->ops->lend(a.ep, &hdr, 1, &remote), -ENOTCONN);
	assert_int_equal(a.ep->ops->map(a.ep, &remote, 0, 1, &ptr), -ENOTCONN);
	assert_int_equal(a.ep->ops->pull(a.ep, &remote, 0, &hdr, 1), -ENOTCONN);
	assert_int_equal(a.ep->ops->poll(a.ep), 0);
	assert_int_equal(a.nic->ops->arm(a.nic), 0);
	a.nic->ops->disarm(a.nic);
	assert_int_equal(fake_pump(&a), 0);
	fake_close(&a);
}

/* Every allocation on the way to a connection fails once; nothing leaks, the peer hears of it. */
static void test_no_memory(void **state)
{
	const unsigned fds = fake_count_fds(), maps = fake_count_maps();
	const long live = gy_alloc_live();
	struct fake a, b;
	int n, err;

	for (n = 1; n < 50; n++) {
		assert_int_equal(fake_open(&b, 1), 0);
		assert_int_equal(fake_ep_open(&b), 0);
		gy_alloc_fail_at(n);
		err = fake_open(&a, 0);
		if (!err && fake_ep_open(&a))
			fake_close(&a);
		else if (!err) {
			a.other = &b;
			b.other = &a;
			a.ep->ops->connect(a.ep);
			fake_pump_both(&a, &b, 5);
			err = !a.up || a.down;
			if (err)
				assert_int_equal(b.up + b.down, a.down ? 1 + b.up : 1);
			fake_close(&a);
		}
		gy_alloc_fail_at(0);
		fake_close(&b);
		assert_int_equal(gy_alloc_live(), live);
		if (!err && a.up)
			break;
	}
	assert_in_range(n, 3, 49);
	assert_int_equal(fake_count_fds(), fds);
	assert_int_equal(fake_count_maps(), maps);
}

/* ---- the end of a peer ---- */

static void test_drains(void **state)
{
	struct fake a, b;
	unsigned i;

	fake_pair(&a, &b);
	b.deliver = msg_check;
	for (i = 0; i < 100; i++)
		assert_int_equal(msg_send(&a, 16), 0);
	a.ep->ops->ep_close(a.ep, true);
	a.ep = NULL;
	gy_poll_dispatch(&b.ctx.poll);
	assert_int_equal(b.seq_in, 100);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.err, -ECONNRESET);
	assert_int_equal(msg_send(&b, 8), -ENOTCONN);
	fake_pump_both(&a, &b, 3);
	assert_int_equal(b.down, 1);
	fake_unpair(&a, &b);
}

static void test_close_in_upcall(void **state)
{
	struct fake a, b;
	int down;

	for (down = 0; down < 2; down++) {
		fake_pair(&a, &b);
		if (!down) {
			assert_int_equal(msg_send(&a, 8), 0);
			assert_int_equal(msg_send(&a, 8), 0);
		}
		b.close_in_upcall = true;
		a.ep->ops->ep_close(a.ep, true);
		a.ep = NULL;
		fake_pump_both(&a, &b, 3);
		assert_null(b.ep);
		assert_int_equal(b.delivered, !down);
		assert_int_equal(b.down, down);
		fake_unpair(&a, &b);
	}
}

/* ---- bad peers ---- */

/* Whatever stands in the ring: messages of a legal length, or the end of the endpoint. */
static void any_message(struct fake *f, const struct gy_hdr *hdr, const void *body)
{
	uint8_t copy[GY_BODY_LONG];

	assert_in_range(hdr->len, 0, GY_BODY_LONG);
	memcpy(copy, body, hdr->len);
	f->seed += hdr->len ? copy[hdr->len - 1] : 0; /* so that it is read */
}

static void hostile_write(struct fake *a, uint64_t *seed)
{
	struct shm_ep *ep = to_shm_ep(a->ep);
	struct shm_line *line = ep->tx.next;
	uint64_t *words = (uint64_t *)(void *)line;
	unsigned i;

	switch (fake_random(seed) % 5) {
	case 0:		/* a length that is too large, in the word */
		words[0] = ep->tx.word + GY_BODY_LONG + 1 + fake_random(seed) % 1000000;
		break;
	case 1:		/* or in the header only */
		msg_send(a, 8);
		line->hdr.len = 1 + GY_BODY_LONG + (uint32_t)fake_random(seed) % 100000;
		break;
	case 2:		/* wrong sequence number */
		words[0] = ep->tx.word + (fake_random(seed) | 1) * SHM_NEXT;
		break;
	case 3:		/* lines that nobody filled */
		words[0] = ep->tx.word + fake_random(seed) % (GY_BODY_LONG + 1);
		break;
	case 4:
		for (i = 0; i < ep->tx.lines * 8; i++)
			((uint64_t *)(void *)(ep->tx.end - ep->tx.lines))[i] = fake_random(seed);
		break;
	}
}

static void test_hostile_ring(void **state)
{
	uint64_t seed = fake_seed();
	struct fake a, b;
	int round, i;

	for (round = 0; round < 300; round++) {
		fake_pair(&a, &b);
		b.deliver = any_message;
		for (i = (int)(fake_random(&seed) % 40); i > 0; i--) {
			msg_send(&a, msg_len(a.seq_out));
			fake_pump(&b);
		}
		hostile_write(&a, &seed);
		fake_pump_both(&a, &b, 3);
		if (b.down) {
			assert_int_equal(b.down, 1);
			assert_int_equal(b.err, -EPROTO);
			assert_int_equal(a.err, -ECONNRESET);
		}
		fake_unpair(&a, &b);
	}
}

static void test_hostile_taken(void **state)
{
	struct fake a, b;

	fake_pair(&a, &b);
	while (!msg_send(&a, 4000))
		;
	atomic_store(&to_shm_ep(b.ep)->rx.ring->taken, 123456);
	fake_pump_both(&a, &b, 3);
	assert_int_equal(a.down, 1);
	assert_int_equal(a.err, -EPROTO);
	fake_unpair(&a, &b);
}

/* With n copies of fd. */
static void send_fds(int sock, const void *bytes, size_t len, int fd, int n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(32 * sizeof(int))];
	} c = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;
	int i;

	if (n) {
		m.msg_control = c.bytes;
		m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		for (i = 0; i < n; i++)
			memcpy(CMSG_DATA(cm) + (size_t)i * sizeof(int), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &m, MSG_NOSIGNAL), (ssize_t)len);
}

/* A peer that says anything on the socket, before or after it has come up. */
static void test_hostile_socket(void **state)
{
	uint64_t seed = fake_seed(), junk[64];
	const unsigned fds = fake_count_fds();
	struct shm_note *note = (struct shm_note *)(void *)junk;
	struct fake b;
	int round, sv[2];
	unsigned i;

	for (round = 0; round < 600; round++) {
		assert_int_equal(fake_open(&b, 1), 0);
		assert_int_equal(fake_ep_open(&b), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
		b.ep->ops->accepted(b.ep, 0, sv[1]);
		for (i = 0; i < GY_ARRAY_SIZE(junk); i++)
			junk[i] = fake_random(&seed);
		if (round % 4) {
			note->magic = SHM_MAGIC;
			note->kind = (uint32_t)(fake_random(&seed) % 6);
		}
		if (round % 4 > 1)
			note->len = to_shm_nic(b.nic)->ring_bytes;
		send_fds(sv[0], junk, 64 * (1 + fake_random(&seed) % 8) - (round % 7 == 0),
			 b.ctx.poll.doorbell, (int)(fake_random(&seed) % 8));
		fake_pump(&b);
		close(sv[0]);
		fake_pump(&b);
		assert_int_equal(b.up, 0);
		assert_int_equal(b.down, 1);
		fake_close(&b);
	}
	assert_int_equal(fake_count_fds(), fds);
}

/* A second connection, or one for a lane that shared memory does not have, is closed. */
static void test_superfluous(void **state)
{
	struct fake a, b;
	int sv[2];
	char c;

	fake_pair(&a, &b);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	a.ep->ops->accepted(a.ep, 0, sv[1]);
	assert_int_equal(read(sv[0], &c, 1), 0);
	close(sv[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	a.ep->ops->accepted(a.ep, 1, sv[1]);
	assert_int_equal(read(sv[0], &c, 1), 0);
	close(sv[0]);
	assert_int_equal(msg_send(&a, 8), 0);
	assert_int_equal(a.down, 0);
	fake_unpair(&a, &b);
}

/* ---- two threads ---- */

/*
 * STREAM: both send all they can and sleep when they cannot.  TURNS: one message there and one
 * back, and both sleep meanwhile.  RACE: likewise, but one side never sleeps and answers within a
 * random moment, so that its answer and the other's falling asleep often meet.
 */
enum pattern { STREAM, TURNS, RACE };

struct side {
	struct fake *f;
	enum pattern pattern;
	uint32_t messages;		/* to send, and to get */
	bool spins;
	uint64_t seed;
	unsigned sleeps, overslept;
};

#define SLEEP_MS 20000
#define SPINS 1000		/* then the other side may need the processor */

static bool side_may_send(const struct side *s)
{
	return s->f->seq_out < s->messages &&
	       (s->pattern == STREAM || s->f->seq_out < s->f->seq_in + !s->spins);
}

static void side_dally(struct side *s)
{
	unsigned i;

	if (s->pattern == RACE)
		for (i = (unsigned)(fake_random(&s->seed) % 32); i > 0; i--)
			GY_PAUSE();
}

/* As an engine waits, but without spinning, so that each wait is a sleep. */
static void side_sleep(struct side *s)
{
	struct gy_sys *sys = s->f->ctx.sys;
	struct gy_nic *nic = s->f->nic;
	const uint64_t begin = sys->ops->now_ns(sys);

	if (!nic->ops->arm(nic)) {
		gy_poll_sleep(&s->f->ctx.poll, SLEEP_MS);
		s->sleeps++;
		s->overslept += sys->ops->now_ns(sys) - begin >= SLEEP_MS * 1000000ull;
	}
	nic->ops->disarm(nic);
}

static void *side_run(void *arg)
{
	struct side *s = arg;
	struct fake *f = s->f;
	bool blocked = false;
	unsigned rooms = 0, spins = 0;

	while (f->seq_out < s->messages || f->seq_in < s->messages) {
		blocked = blocked && f->rooms == rooms;
		while (!blocked && side_may_send(s)) {
			side_dally(s);
			rooms = f->rooms;
			blocked = msg_send(f, s->pattern ? 8 : msg_len(f->seq_out)) == -EAGAIN;
		}
		side_dally(s);
		if (f->ep->ops->poll(f->ep) || f->seq_in == s->messages)
			continue;
		if (!s->spins)
			side_sleep(s);
		else if (++spins % SPINS == 0)
			sched_yield();
	}
	return NULL;
}

static void run_sides(uint32_t n, enum pattern pattern, bool alias)
{
	struct fake a, b;
	struct side sa = { .f = &a, .messages = n, .pattern = pattern, .seed = 1 };
	struct side sb = { .f = &b, .messages = n, .pattern = pattern, .seed = 2 };
	pthread_t thread;

	fake_pair(&a, &b);
	if (alias)
		fake_alias(&a, &b);
	a.deliver = b.deliver = msg_check;
	sb.spins = pattern == RACE;
	assert_int_equal(pthread_create(&thread, NULL, side_run, &sb), 0);
	side_run(&sa);
	pthread_join(thread, NULL);
	print_message("%u messages each way, %u + %u sleeps\n", n, sa.sleeps, sb.sleeps);
	assert_int_equal(sa.overslept + sb.overslept, 0);
	assert_int_equal(a.down + b.down, 0);
	if (alias)
		fake_unalias(&a, &b);
	fake_unpair(&a, &b);
}

static void test_threads(void **state)
{
	run_sides(fake_times(30000, 1000000), STREAM, false);
	run_sides(fake_times(5000, 1000000), TURNS, false);
	run_sides(fake_times(30000, 1000000), RACE, false);
}

static void test_threads_aliased(void **state)
{
	run_sides(fake_times(20000, 300000), STREAM, true);
	run_sides(fake_times(5000, 300000), TURNS, true);
	run_sides(fake_times(10000, 300000), RACE, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_all_lengths),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_not_up),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_drains),
		cmocka_unit_test(test_close_in_upcall),
		cmocka_unit_test(test_hostile_ring),
		cmocka_unit_test(test_hostile_taken),
		cmocka_unit_test(test_hostile_socket),
		cmocka_unit_test(test_superfluous),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_threads_aliased),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
