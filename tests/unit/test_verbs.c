/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_verbs.c - verbs over a device that does what none does on demand: every completion status,
 * requests that cannot be posted, addresses that do not join, lanes out of order.
 */
#define _GNU_SOURCE
#include "tests/unit/verbs_fake.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"
#include "tests/unit/net_fake.h"
#include "transports/verbs/verbs.h"

#define TIMEOUT_MS 10000
#define SLOTS 16
#define GRAINS 80			/* most tests use SLOTS of them */
#define SLOT 4096
#define NUMBERS (1u << 20)

static struct fake f[2];
static char *memory[2];			/* registered, GRAINS of SLOT bytes each for out and in */
static unsigned written[2], unfit[2];
static struct gy_grain grains[2][GRAINS];
static bool busy[2][GRAINS];
static bool awaited[2][GRAINS];		/* the other has not heard of it */
static unsigned more;			/* grains are of a stream that begins in slot 0; or 0 */
static uint64_t *draw;			/* whether they are pooled, and how many follow */
static bool expels;			/* the next upcall ends its endpoint */
static bool expel_drains;

/* Each grain has a number, which it is full of. */
static uint32_t numbers, newest[2][GRAINS];
static bool came[NUMBERS];

static struct fake_peer *peer_of(int rank)
{
	return &f[rank].peer[!rank];
}

static struct verbs_ep *ep_of(int rank)
{
	return to_verbs(peer_of(rank)->base.ep);
}

static int rank_of(struct gy_ep *ep)
{
	return ep->nic->ctx->rank;
}

static void fill(char *mem, uint32_t number)
{
	unsigned i;

	for (i = 0; i < SLOT; i += sizeof(number))
		memcpy(mem + i, &number, sizeof(number));
}

static bool is_filled(const char *mem, uint32_t number)
{
	return !memcmp(mem, &number, sizeof(number)) &&
	       !memcmp(mem, mem + sizeof(number), SLOT - sizeof(number));
}

/* As the engine does to a peer that breaks the protocol. */
static void expel(struct fake_peer *p)
{
	struct gy_ep *old = p->base.ep;

	expels = false;
	gy_verbs_ops.revoke(old, memory[p->f->ctx.rank], SLOT);
	assert_int_equal(gy_verbs_ops.ep_open(old->nic, &p->base, &p->base.ep), 0);
	gy_verbs_ops.ep_close(old, expel_drains);
}

static void on_message(struct fake_peer *p, const struct gy_hdr *hdr, const void *body)
{
	if (expels)
		expel(p);
}

/* Once each, and what is there is no older; nor any newer, unless its slot has been taken again. */
void gy_written(struct gy_ep *ep, uint32_t ticket)
{
	const int rank = rank_of(ep);
	const unsigned slot = ticket % 256, number = ticket / 256;

	written[rank]++;
	if (number) {
		assert_false(came[number]);
		came[number] = true;
	}
	if (number && number == newest[!rank][slot]) {
		assert_true(is_filled(memory[rank] + (GRAINS + slot) * SLOT, number));
		awaited[!rank][slot] = false;
	}
	if (expels)
		expel(to_fake(ep));
}

void gy_ep_unfit(struct gy_ep *ep, const char *why)
{
	struct fake_peer *p = to_fake(ep);

	unfit[rank_of(ep)]++;
	snprintf(p->why, sizeof(p->why), "%s", why);
	fake_close_ep(p);
}

static void on_sent(struct fake_peer *p, struct gy_grain *g)
{
	const int rank = p->f->ctx.rank;
	const size_t slot = (size_t)(g - grains[rank]);

	assert_true(busy[rank][slot]);
	busy[rank][slot] = false;
	fill(memory[rank] + slot * SLOT, 0);	/* its user's again */
}

/* ---- two ranks ---- */

static void open_ranks(void)
{
	int i;

	memset(written, 0, sizeof(written));
	memset(unfit, 0, sizeof(unfit));
	memset(busy, 0, sizeof(busy));
	memset(awaited, 0, sizeof(awaited));
	memset(newest, 0, sizeof(newest));
	memset(came, 0, sizeof(came));
	numbers = 0;
	fake_open(f, 2, &gy_verbs_ops, TIMEOUT_MS, true);
	for (i = 0; i < 2; i++) {
		peer_of(i)->grain_sent = on_sent;
		memory[i] = calloc(2 * GRAINS, SLOT);
		assert_non_null(memory[i]);
		assert_int_equal(gy_verbs_ops.mem_register(f[i].nic, memory[i], 2 * GRAINS * SLOT),
				 0);
	}
}

static void start_connecting(void)
{
	assert_non_null(fake_ep(&f[0], 1));
	assert_int_equal(gy_verbs_ops.connect(peer_of(0)->base.ep), 0);
}

static void connect_ranks(void)
{
	open_ranks();
	start_connecting();
	fake_until(f, 2, peer_of(0)->up && peer_of(1)->up);
}

static void pump(unsigned n)
{
	while (n--)
		fake_pump_all(f, 2);
}

/* With one queue pair for grains. */
static void connect_by_one(void)
{
	open_ranks();
	f[0].ctx.cfg.verbs_qps = f[1].ctx.cfg.verbs_qps = 1;
	start_connecting();
	fake_until(f, 2, peer_of(0)->up && peer_of(1)->up);
	pump(4);
}

/* Nothing is left, whatever has happened. */
static void close_ranks(void)
{
	int i;

	vf.hold = vf.fail_poll = false;
	vf.fail = IBV_WC_SUCCESS;
	for (i = 0; i < 2; i++) {
		if (peer_of(i)->base.ep)
			fake_close_ep(peer_of(i));
		gy_verbs_ops.mem_unregister(f[i].nic, memory[i], 2 * GRAINS * SLOT);
		free(memory[i]);
	}
	fake_close(f, 2);
	assert_int_equal(gy_alloc_live(), 0);
	verbs_fake_reset();
}

static int say(int rank, uint32_t len)
{
	static const char body[GY_BODY_MAX];
	const struct gy_hdr hdr = { .len = len };

	return gy_verbs_ops.msg(peer_of(rank)->base.ep, &hdr, body);
}

/* A grain from rank to the other: into its slot of the same number. */
static int write_slot(int rank, unsigned slot)
{
	struct gy_grain *g = &grains[rank][slot];
	int err;

	assert_false(busy[rank][slot]);
	assert_true(++numbers < NUMBERS);
	*g = (struct gy_grain){ .src = memory[rank] + slot * SLOT,
				.hdr.len = SLOT,
				.ticket = numbers * 256 + slot,
				.more = more ? more - 1 - slot : 0 };
	if (draw) {
		g->pooled = fake_random(draw) % 2;
		g->more = (unsigned)(fake_random(draw) % SLOTS);
	}
	assert_int_equal(gy_verbs_ops.expose(peer_of(!rank)->base.ep,
					     memory[!rank] + (GRAINS + slot) * SLOT, SLOT, &g->to),
			 0);
	fill(memory[rank] + slot * SLOT, numbers);
	newest[rank][slot] = numbers;
	busy[rank][slot] = awaited[rank][slot] = true;
	err = gy_verbs_ops.bulk(peer_of(rank)->base.ep, g);
	if (err)
		busy[rank][slot] = awaited[rank][slot] = false;
	return err;
}

static bool all_sent(int rank)
{
	unsigned i;

	for (i = 0; i < GRAINS; i++)
		if (busy[rank][i])
			return false;
	return true;
}

/* ---- in good order ---- */

static void test_no_device(void **state)
{
	struct gyre_context ctx = { .nranks = 2 };
	struct gy_nic *nic;

	gy_config_init(&ctx.cfg);
	vf.none = true;
	assert_int_equal(gy_verbs_ops.open(&ctx, &nic), -EOPNOTSUPP);
	assert_int_equal(gy_alloc_live(), 0);
	verbs_fake_reset();
}

static void test_budget(void **state)
{
	unsigned i, sends;

	connect_ranks();
	pump(4);
	sends = vf.sends;
	vf.send_completions = vf.recv_completions = 0;
	for (i = 0; i < 160; i++) {
		fake_until(f, 2, !busy[0][i % SLOTS]);
		assert_int_equal(write_slot(0, i % SLOTS), 0);
	}
	fake_until(f, 2, written[1] == 160);
	assert_int_equal(vf.sends - vf.empty_writes, sends + 160);
	assert_true(vf.recv_completions == 160);
	/* A device that is done at once leaves a queue idle each time, so that is asked for. */
	assert_true(vf.empty_writes <= 160 / 2);
	close_ranks();
}

/* Under load one completion comes for 16 requests, and what is left gets one, too. */
static void test_signals(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i;

	connect_ranks();
	pump(4);
	vf.hold = true;
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	assert_false(all_sent(0));
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	fake_until(f, 2, all_sent(0) && written[1] == SLOTS);
	assert_int_equal(vf.send_completions, 2);	/* of each queue pair */
	assert_int_equal(vf.empty_writes, 0);
	close_ranks();
}

/* What others of its stream follow gets no completion until nothing has happened for a while. */
static void test_quiet(void **state)
{
	connect_ranks();
	pump(4);
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	assert_int_equal(write_slot(0, 0), 0);
	more = 0;
	pump(VERBS_QUIET - 1);
	assert_int_equal(written[1], 1);
	assert_true(busy[0][0] && !vf.send_completions);
	fake_until(f, 2, all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* A message of the peer ends grains out of slots, and no others; not one of before a reset. */
static void test_went(void **state)
{
	unsigned i;

	connect_ranks();
	pump(4);
	vf.send_completions = vf.empty_writes = 0;
	more = SLOTS;
	for (i = 0; i < 5; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	for (i = 0; i < 4; i++)
		grains[0][i].pooled = true;
	fake_until(f, 2, written[1] == 5);
	assert_int_equal(say(1, 8), 0);
	fake_until(f, 2, !busy[0][0] && !busy[0][1] && !busy[0][2] && !busy[0][3]);
	assert_true(busy[0][4] && !vf.send_completions && !vf.empty_writes);
	gy_verbs_ops.arm(f[0].nic);	/* before sleeping all are asked for */
	fake_until(f, 2, all_sent(0));
	assert_int_equal(vf.empty_writes, 1);

	gy_verbs_ops.revoke(peer_of(1)->base.ep, memory[1], SLOT);
	more = SLOTS;
	for (i = 0; i < 2; i++)
		assert_int_equal(write_slot(0, i), 0);
	more = 0;
	grains[0][0].pooled = grains[0][1].pooled = true;
	fake_until(f, 2, written[1] == 7);
	assert_true(busy[0][0] && busy[0][1]);
	assert_int_equal(say(1, 8), 0);
	fake_until(f, 2, all_sent(0));
	close_ranks();
}

/*
 * What was said before grains came that are known to have come, for their completions: its count of
 * 8 bits ends no other.  Nor does one of what has not been sent.
 */
static void test_old_count(void **state)
{
	uint64_t seed = fake_seed();
	unsigned lag, i, total = 0;

	connect_by_one();
	for (lag = 1; lag < VERBS_GRANTS; lag += 23) {
		for (i = 0; i < lag; i++) {
			assert_int_equal(write_slot(0, i % SLOTS), 0);
			fake_pump(&f[0]);
			assert_false(busy[0][i % SLOTS]);
		}
		ep_of(1)->came.by[0] += lag == 1 ? 3 : 0;
		assert_int_equal(say(1, 8), 0);
		ep_of(1)->came.by[0] -= lag == 1 ? 3 : 0;
		vf.hold = true;
		assert_int_equal(write_slot(0, 0), 0);
		grains[0][0].pooled = true;
		fake_pump(&f[0]);
		assert_true(busy[0][0]);
		vf.hold = false;
		verbs_fake_move(1, &seed);
		total += lag + 1;
		fake_until(f, 2, written[1] == total && all_sent(0));
	}
	assert_int_equal(lag, VERBS_GRANTS - 1 + 23);
	close_ranks();
}

/* Large grains fill a queue pair before the 16th: a completion is on its way by then. */
static void test_bytes(void **state)
{
	const uint32_t len = VERBS_BULK_BYTES / 8;
	uint64_t seed = fake_seed();
	struct gy_remote to;
	char *mem[2];
	unsigned i;

	connect_by_one();
	for (i = 0; i < 2; i++) {
		mem[i] = calloc(1, len);
		assert_non_null(mem[i]);
		assert_int_equal(gy_verbs_ops.mem_register(f[i].nic, mem[i], len), 0);
	}
	assert_int_equal(gy_verbs_ops.expose(peer_of(1)->base.ep, mem[1], len, &to), 0);
	vf.send_completions = vf.empty_writes = 0;
	vf.hold = true;
	for (i = 0; i <= 8; i++) {
		grains[0][i] =
			(struct gy_grain){ .src = mem[0], .hdr.len = len, .to = to, .more = SLOTS };
		busy[0][i] = i < 8;
		assert_int_equal(gy_verbs_ops.bulk(peer_of(0)->base.ep, &grains[0][i]),
				 i < 8 ? 0 : -EAGAIN);
	}
	vf.hold = false;
	verbs_fake_move(100, &seed);
	pump(4);
	assert_true(all_sent(0) && peer_of(0)->rooms);
	assert_true(vf.send_completions == 2 && !vf.empty_writes);
	for (i = 0; i < 2; i++) {
		gy_verbs_ops.mem_unregister(f[i].nic, mem[i], len);
		free(mem[i]);
	}
	close_ranks();
}

/* What a full queue pair was to be asked is asked when it has room. */
static void test_full_tail(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i;

	connect_by_one();
	vf.empty_writes = 0;
	vf.hold = true;
	for (i = 0; i < VERBS_BULK_SQ; i++) {
		more = i ? GRAINS : 0;		/* so the last is not signalled */
		assert_int_equal(write_slot(0, i), 0);
	}
	assert_int_equal(write_slot(0, i), -EAGAIN);
	more = 0;
	assert_int_equal(gy_verbs_ops.arm(f[0].nic), 0);
	vf.hold = false;
	verbs_fake_move(1000, &seed);
	pump(8);
	assert_true(all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* Nothing is left waiting for a completion while the engine waits for a slot. */
static void test_starved(void **state)
{
	connect_ranks();
	pump(4);
	vf.empty_writes = 0;
	more = SLOTS;
	assert_int_equal(write_slot(0, 0), 0);
	more = 0;
	pump(8);
	assert_true(busy[0][0] && !vf.empty_writes);
	f[0].ctx.engine.pool.starved = true;
	pump(8);
	assert_true(all_sent(0));
	assert_int_equal(vf.empty_writes, 1);
	close_ranks();
}

/* Queue pairs that overtake each other, small and large messages, room that runs out. */
static void test_out_of_order(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i, r, k, total[2] = { 0, 0 }, said[2] = { 0, 0 };
	const unsigned n = test_times(20000, 400000);
	int err;

	vf.inline_max = 100;
	connect_ranks();
	vf.hold = true;
	draw = &seed;
	for (i = 0; i < n; i++) {
		r = fake_random(&seed) % 2;
		switch (fake_random(&seed) % 4) {
		case 0:
			err = say((int)r, (uint32_t)(fake_random(&seed) % (i % 64 ? 200 : 8193)));
			assert_true(!err || err == -EAGAIN);
			said[r] += !err;
			break;
		case 1:
			k = fake_random(&seed) % GRAINS;
			if (busy[r][k] || awaited[r][k])
				break;
			err = write_slot((int)r, k);
			assert_true(!err || err == -EAGAIN);
			total[r] += !err;
			break;
		case 2:
			verbs_fake_move(fake_random(&seed) % 8, &seed);
			break;
		default:
			fake_pump(&f[r]);
		}
	}
	draw = NULL;
	vf.hold = false;
	verbs_fake_move(100000, &seed);
	fake_until(f, 2,
		   written[0] == total[1] && written[1] == total[0] && all_sent(0) && all_sent(1) &&
			   peer_of(0)->delivered == said[1] && peer_of(1)->delivered == said[0]);
	assert_true(total[0] > n / 100 && said[0] > n / 100 && vf.inlined > 10);
	close_ranks();
}

/* The sleeper is woken; a completion that came before is not slept over. */
static void test_arm(void **state)
{
	connect_ranks();
	pump(4);
	assert_int_equal(gy_verbs_ops.arm(f[1].nic), 0);
	assert_int_equal(say(0, 8), 0);
	gy_poll_sleep(&f[1].ctx.poll, TIMEOUT_MS);
	pump(1);
	assert_int_equal(peer_of(1)->delivered, 1);
	assert_int_equal(say(0, 8), 0);
	assert_int_equal(gy_verbs_ops.arm(f[1].nic), 1);
	close_ranks();
}

/* ---- addresses ---- */

static void test_next_address(void **state)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		vf.deaf[1][1] = true;	/* the one that is tried first */
		vf.lost = i;		/* without a word of the device */
		open_ranks();
		start_connecting();
		while (i && !peer_of(0)->up) {
			fake_clock_add_ms(200);
			pump(1);
		}
		fake_until(f, 2, peer_of(0)->up && peer_of(1)->up);
		assert_int_equal(ep_of(0)->try, 1);
		assert_int_equal(ep_of(1)->gid, ep_of(0)->peer_gid);
		close_ranks();
	}
}

/* What librdmacm says of the route is used; without it the port's values are. */
static void test_route(void **state)
{
	/* Two steps on each side; 1 to 4 fail, then there is no librdmacm. */
	static const int expected[] = { 6, 3, 3, 3, 3, 0 };
	int i;

	for (i = 0; i < 6; i++) {
		vf.no_cm = i == 5;
		vf.cm_fails = i < 5 ? i : 0;
		connect_ranks();
		assert_int_equal(ep_of(0)->route.sl + ep_of(1)->route.sl,
				 expected[i]);
		assert_int_equal(say(0, 8), 0);
		fake_until(f, 2, peer_of(1)->delivered == 1);
		close_ranks();
	}
	/* An endpoint that is closed meanwhile. */
	open_ranks();
	start_connecting();
	fake_until(f, 2, peer_of(0)->base.ep && ep_of(0)->cm_id);
	fake_close_ep(peer_of(0));
	pump(4);
	close_ranks();
}

static void test_unfit(void **state)
{
	memset(vf.deaf, 1, sizeof(vf.deaf));
	open_ranks();
	start_connecting();
	fake_until(f, 2, unfit[0] && unfit[1]);
	assert_true(!peer_of(0)->up && !peer_of(1)->up && !peer_of(0)->down);
	assert_non_null(strstr(peer_of(0)->why, "status"));
	close_ranks();
}

/* Queue pairs that cannot be made or connected, on either side. */
static void test_meeting_fails(void **state)
{
	int n;

	for (n = 1; n <= 24; n++) {
		open_ranks();
		vf.inline_max = 1000;
		*(n % 2 ? &vf.fail_qp : &vf.fail_modify) = (n + 1) / 2;
		start_connecting();
		fake_until(f, 2,
			   (peer_of(0)->up && peer_of(1)->up) || (unfit[0] && unfit[1]));
		close_ranks();
	}
	open_ranks();
	vf.fail_reg = 1;		/* the ring */
	start_connecting();
	fake_until(f, 2, unfit[0] && unfit[1]);
	close_ranks();
}

/* ---- what fails in flight ---- */

static void check_both_down(const char *what)
{
	fake_until(f, 2, peer_of(0)->down && peer_of(1)->down);
	assert_true(peer_of(0)->down == 1 && peer_of(1)->down == 1);
	assert_true(peer_of(0)->err < 0 && peer_of(1)->err < 0);
	if (what && !strstr(peer_of(0)->why, what) && !strstr(peer_of(1)->why, what))
		fail_msg("\"%s\" is in neither \"%s\" nor \"%s\"", what, peer_of(0)->why,
			 peer_of(1)->why);
	assert_int_equal(vf.qps, 0);	/* so nobody writes here any more */
	assert_int_equal(say(0, 8), -ENOTCONN);
	assert_int_equal(gy_verbs_ops.bulk(peer_of(0)->base.ep, &grains[0][0]), -ENOTCONN);
}

/* Both ends' queue pairs and addresses, and what may be the cause. */
static void check_names(const char *why)
{
	char mine[64] = "", theirs[64] = "", cause[8] = "";
	unsigned qpn[2], code;
	const char *at = strstr(why, "queue pair ");

	if (!at || sscanf(at,
			  "queue pair %u at %63s to %u at %63s failed: status %*u (vendor's code "
			  "0x%x): %7s",
			  &qpn[0], mine, &qpn[1], theirs, &code, cause) != 6)
		fail_msg("not both ends and a cause: \"%s\"", why);
	assert_true(qpn[0] && qpn[1] && strpbrk(mine, ".:") && strpbrk(theirs, ".:"));
}

static void check_status(enum ibv_wc_status status, bool bulk, bool recv)
{
	char text[32];

	connect_ranks();
	pump(4);
	vf.fail = status;
	vf.fail_bulk = bulk;
	vf.fail_recv = recv;
	assert_int_equal(bulk ? write_slot(0, 0) : say(0, 8), 0);
	snprintf(text, sizeof(text), "status %d", recv ? IBV_WC_REM_OP_ERR : (int)status);
	/* Whoever is first says why; the other may only see the connection end. */
	check_both_down(recv ? NULL : text);
	if (!recv)
		check_names(strstr(peer_of(0)->why, text) ? peer_of(0)->why : peer_of(1)->why);
	if (bulk) {
		gy_verbs_ops.revoke(peer_of(0)->base.ep, memory[0], SLOT);
		assert_true(all_sent(0));
	}
	close_ranks();
}

static void test_every_status(void **state)
{
	int s, k;

	for (s = IBV_WC_LOC_LEN_ERR; s <= IBV_WC_TM_RNDV_INCOMPLETE; s++)
		for (k = 0; k < 4; k++)
			check_status((enum ibv_wc_status)s, k & 1, k & 2);
}

static void test_post_fails(void **state)
{
	int k;

	for (k = 0; k < 2; k++) {
		connect_ranks();
		pump(4);
		vf.fail_post_send = 1;
		assert_int_equal(k ? write_slot(0, 0) : say(0, 8), -ENOTCONN);
		check_both_down("cannot be posted");
		close_ranks();
	}
	/* In the middle of a chain. */
	connect_ranks();
	pump(4);
	vf.fail_post_recv = 7;
	for (k = 0; k < VERBS_REFILL; k++)
		assert_int_equal(say(0, 8), 0);
	check_both_down("a receive cannot be posted");
	close_ranks();
}

static void test_device_events(void **state)
{
	static const enum ibv_event_type ends[] = { IBV_EVENT_DEVICE_FATAL, IBV_EVENT_CQ_ERR };
	unsigned i;

	/* A completion queue that has overflown loses what it should have told. */
	for (i = 0; i < GY_ARRAY_SIZE(ends); i++) {
		connect_ranks();
		verbs_fake_event(ends[i]);
		check_both_down(ibv_event_type_str(ends[i]));
		close_ranks();
	}

	connect_ranks();
	vf.fail_poll = true;
	check_both_down("completion queue");
	close_ranks();

	connect_ranks();
	verbs_fake_event(IBV_EVENT_PORT_ERR);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS / 4);
	verbs_fake_event(IBV_EVENT_PORT_ACTIVE);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS);
	pump(2);
	assert_int_equal(peer_of(0)->down, 0);
	verbs_fake_event(IBV_EVENT_PORT_ERR);
	pump(2);
	fake_clock_add_ms(TIMEOUT_MS / 2 + 1);
	check_both_down("link is down");
	close_ranks();
}

static void test_qp_events(void **state)
{
	static const enum ibv_event_type ends[] = {
		IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR,
	};
	unsigned k;

	for (k = 0; k < 2 * GY_ARRAY_SIZE(ends); k++) {
		connect_ranks();
		pump(4);
		verbs_fake_break_qp(0, k % 2, ends[k / 2]);
		check_both_down(NULL);
		close_ranks();
	}
}

/* ---- memory ---- */

/* As the kernel writes a set of processors: that of this thread. */
static const char *cpus_here(char cpus[512])
{
	unsigned cpu;
	size_t len;

	assert_int_equal(getcpu(&cpu, NULL), 0);
	assert_true(cpu < 1024);
	len = (size_t)snprintf(cpus, 512, "%x", 1u << cpu % 32);
	for (; cpu >= 32; cpu -= 32)
		len += (size_t)snprintf(cpus + len, 512 - len, ",00000000");
	return cpus;
}

/* Huge pages and the NUMA node of the device, as far as this kernel knows of them. */
static void test_pages(void **state)
{
	int policy = -1;
	char cpus[512];
	void *mem;

	verbs_fake_near(0, cpus_here(cpus));
	connect_ranks();
	assert_int_equal(gy_verbs_ops.mem_alloc(f[0].nic, (4 << 20) + 1, &mem), 0);
	assert_int_equal((uintptr_t)mem % (2 << 20), 0);
	assert_true(!((char *)mem)[0] && !((char *)mem)[4 << 20]);
	if (!syscall(SYS_get_mempolicy, &policy, NULL, 0, mem, MPOL_F_ADDR))
		assert_true(policy == MPOL_PREFERRED || policy == MPOL_PREFERRED_MANY);
	assert_int_equal(gy_verbs_ops.mem_free(f[0].nic, (char *)mem + 1), -EINVAL);
	assert_int_equal(gy_verbs_ops.mem_free(f[0].nic, mem), 0);
	assert_int_equal(gy_verbs_ops.mem_alloc(f[0].nic, 1, &mem), 0);
	assert_int_equal(gy_verbs_ops.mem_free(f[0].nic, mem), 0);
	assert_int_equal(gy_verbs_ops.mem_alloc(f[0].nic, SIZE_MAX, &mem), -ENOMEM);
	assert_int_equal(gy_verbs_ops.mem_alloc(f[0].nic, SIZE_MAX / 2, &mem), -ENOMEM);
	close_ranks();
}

/* Of ports that are equally quick, the one on this thread's node. */
static void test_near_port(void **state)
{
	char cpus[512];
	unsigned i;

	for (i = 0; i < 3; i++) {
		cpus_here(cpus);
		verbs_fake_near(0, i == 1 ? "0" : cpus);
		verbs_fake_near(1, i == 1 ? cpus : NULL);
		vf.two = true;
		connect_ranks();
		assert_string_equal(to_verbs_nic(f[0].nic)->dev->device->name,
				    i == 1 ? "fake1" : "fake0");
		close_ranks();
	}
}

static char warned[600];
static unsigned nwarned;

static void test_memlock(void **state)
{
	struct gy_remote remote;
	char *mem = calloc(1, SLOT);
	int i;

	assert_non_null(mem);
	connect_ranks();
	nwarned = 0;
	for (i = 0; i < 2; i++) {
		vf.fail_reg = 1;
		assert_int_equal(gy_verbs_ops.mem_register(f[0].nic, mem, SLOT), -ENOMEM);
		gy_verbs_ops.mem_unregister(f[0].nic, mem, SLOT);
	}
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "limits.conf"));
	assert_non_null(strstr(warned, "LimitMEMLOCK=infinity"));
	assert_non_null(strstr(warned, "--ulimit memlock=-1"));
	assert_int_equal(gy_verbs_ops.expose(peer_of(0)->base.ep, mem, 1, &remote), -EOPNOTSUPP);
	free(mem);
	close_ranks();
}

/* ---- the limit of locked memory ---- */

static rlim_t locked_soft = RLIM_INFINITY, locked_hard = RLIM_INFINITY;

int __wrap_getrlimit(int resource, struct rlimit *lim);
int __wrap_getrlimit(int resource, struct rlimit *lim)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	*lim = (struct rlimit){ locked_soft, locked_hard };
	return 0;
}

int __wrap_setrlimit(int resource, const struct rlimit *lim);
int __wrap_setrlimit(int resource, const struct rlimit *lim)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	assert_true(lim->rlim_cur <= locked_hard && lim->rlim_max == locked_hard);
	locked_soft = lim->rlim_cur;
	return 0;
}

/* A context with this limit: what the pool may have then; 0: verbs are of no use. */
static size_t pool_with(rlim_t soft, rlim_t hard, size_t lock_limit)
{
	struct gyre_context ctx = { .nranks = 2 };
	struct gy_nic *nic;
	int err;

	gy_config_init(&ctx.cfg);
	ctx.cfg.transport = GY_CONFIG_TRANSPORT_VERBS;
	locked_soft = soft;
	locked_hard = hard;
	vf.lock_limit = lock_limit;
	nwarned = 0;
	assert_int_equal(gy_poll_open(&ctx.poll), 0);
	err = gy_verbs_ops.open(&ctx, &nic);
	if (!err)
		gy_verbs_ops.close(nic);
	gy_poll_close(&ctx.poll);
	vf.lock_limit = 0;
	assert_true(!err || err == -EOPNOTSUPP);
	assert_int_equal(gy_alloc_live(), 0);
	return err ? 0 : ctx.cfg.pool_bytes;
}

static void test_pool_shrinks(void **state)
{
	const size_t mib = 1 << 20, all = 16 * mib;
	size_t got;

	assert_int_equal(pool_with(8 * mib, RLIM_INFINITY, 0), all);
	assert_true(locked_soft == RLIM_INFINITY);
	assert_int_equal(pool_with(8 * mib, 32 * mib, 32 * mib), all);
	assert_int_equal(pool_with(8 * mib, 8 * mib, 0), all);	/* it has privileges */
	assert_int_equal(nwarned, 0);

	got = pool_with(8 * mib, 8 * mib, 8 * mib);
	assert_in_range(got, 6 * mib, 8 * mib - 1);
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "KiB for slots instead of 16384"));
	assert_non_null(strstr(warned, "limits.conf"));
	assert_in_range(pool_with(5 * mib, 5 * mib, 5 * mib), 4 * mib, 5 * mib - 1);

	assert_int_equal(pool_with(4 * mib, 4 * mib, 4 * mib), 0);
	assert_int_equal(nwarned, 1);
	assert_non_null(strstr(warned, "verbs are not used"));
	assert_non_null(strstr(warned, "--ulimit memlock=-1"));
	locked_soft = locked_hard = RLIM_INFINITY;
	verbs_fake_reset();
}

void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...);
void __wrap_gy_log(enum gy_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > GY_LOG_WARN)
		return;
	nwarned++;
	va_start(ap, fmt);
	vsnprintf(warned, sizeof(warned), fmt, ap);
	va_end(ap);
}

/* ---- revoke ---- */

/* A peer whose control connection is slow: grains go on failing until its word comes. */
static void test_revoke(void **state)
{
	uint64_t seed = fake_seed();
	unsigned i, total[2] = { 0, 0 }, said[2] = { 0, 0 }, dropped = 0, r, k;
	const unsigned n = test_times(3000, 100000);
	int err;

	connect_ranks();
	vf.hold = true;
	draw = &seed;
	for (i = 0; i < n; i++) {
		r = fake_random(&seed) % 2;
		k = fake_random(&seed) % SLOTS;
		if (!busy[r][k] && !write_slot((int)r, k))
			total[r]++;
		err = fake_random(&seed) % 4 ? -EAGAIN : say((int)r, 8);
		assert_true(!err || err == -EAGAIN);
		said[r] += !err;
		verbs_fake_move(fake_random(&seed) % 4, &seed);
		if (fake_random(&seed) % 16 == 0 && busy[r][k]) {
			gy_verbs_ops.revoke(peer_of((int)r)->base.ep, memory[r] + k * SLOT, SLOT);
			assert_false(busy[r][k]);
			dropped++;
		}
		fake_pump(&f[fake_random(&seed) % 2]);
	}
	draw = NULL;
	vf.hold = false;
	fake_until(f, 2,
		   verbs_fake_move(1000, &seed) == 0 && all_sent(0) && all_sent(1) &&
			   peer_of(0)->delivered == said[1] && peer_of(1)->delivered == said[0]);
	pump(10);
	assert_true(written[0] + written[1] <= total[0] + total[1]);
	assert_true(written[0] + written[1] + dropped >= total[0] + total[1]);
	assert_true(!peer_of(0)->down && !peer_of(1)->down && dropped > n / 100);
	assert_int_equal(say(0, 8), 0);
	fake_until(f, 2, peer_of(1)->delivered == said[0] + 1);
	close_ranks();
}

static void send_grains(void)
{
	unsigned i;

	for (i = 0; i < GRAINS; i++)
		assert_int_equal(write_slot(0, i), 0);
}

/* An endpoint ends in an upcall while so many completions wait that their array must grow. */
static void test_expelled(void **state)
{
	unsigned i, k;

	for (k = 0; k < 4; k++) {
		connect_ranks();
		pump(4);
		peer_of(1)->deliver = on_message;
		assert_int_equal(say(1, 8), 0);	/* there is something to drain */
		if (k & 1)
			send_grains();
		for (i = 0; i < 100; i++)
			assert_int_equal(say(0, 8), 0);
		if (!(k & 1))
			send_grains();
		expels = true;
		expel_drains = k & 2;
		i = to_verbs_nic(f[1].nic)->wc_size;
		pump(1);
		assert_int_equal(peer_of(1)->delivered + written[1], 1);
		assert_true(to_verbs_nic(f[1].nic)->wc_size > i);
		fake_until(f, 2, peer_of(0)->down);
		assert_int_equal(peer_of(1)->delivered + written[1], 1);
		close_ranks();
	}
}

/*
 * Who is expelled hears why, however slow the device of the other is, which it cannot write to any
 * more; the connection ends then, or after a while.
 */
static void test_last_words(void **state)
{
	uint64_t seed = fake_seed();
	unsigned k;

	for (k = 0; k < 2; k++) {
		connect_ranks();
		pump(4);
		vf.hold = true;
		assert_int_equal(write_slot(0, 1), 0);
		assert_int_equal(say(0, 8), 0);
		assert_int_equal(say(1, 8), 0);
		expel(peer_of(1));
		pump(8);
		assert_true(!peer_of(0)->delivered && !peer_of(0)->down);
		if (k)
			fake_clock_add_ms(1000);
		else
			fake_until(f, 2, verbs_fake_move(1, &seed) == 0);
		fake_until(f, 2, peer_of(0)->down);
		assert_int_equal(peer_of(0)->delivered, !k);
		assert_int_equal(peer_of(1)->delivered + written[1], 0);
		assert_true(is_filled(memory[1] + (GRAINS + 1) * SLOT, 0));
		assert_int_equal(vf.qps, 0);
		close_ranks();
	}
}

/* Every allocation fails once. */
static void test_no_memory(void **state)
{
	long n, begin;

	for (n = 1;; n++) {
		begin = 0;
		open_ranks();
		begin = gy_alloc_count();
		gy_alloc_fail_at(n);
		if (fake_ep(&f[0], 1) && !gy_verbs_ops.connect(peer_of(0)->base.ep))
			fake_until(f, 2,
				   (peer_of(0)->up && peer_of(1)->up) || peer_of(0)->down ||
					   unfit[0] || gy_alloc_count() - begin > 1000);
		gy_alloc_fail_at(0);
		begin = gy_alloc_count() - begin;
		close_ranks();
		if (begin < n)
			break;
	}
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_went),
		cmocka_unit_test(test_old_count),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_full_tail),
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_arm),
		cmocka_unit_test(test_next_address),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_unfit),
		cmocka_unit_test(test_meeting_fails),
		cmocka_unit_test(test_every_status),
		cmocka_unit_test(test_post_fails),
		cmocka_unit_test(test_device_events),
		cmocka_unit_test(test_qp_events),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_near_port),
		cmocka_unit_test(test_memlock),
		cmocka_unit_test(test_pool_shrinks),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_expelled),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_no_memory),
	};

	verbs_fake_reset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
