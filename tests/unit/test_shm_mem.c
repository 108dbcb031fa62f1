/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shm_mem.c - shared memory: memory that is lent, mapped, pulled, freed, and not there.
 */
#include "tests/unit/test_shm_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/log.h"

#define MIB (1024 * 1024)

/* In place of libc's, so that it can be missing, as in some containers. */
static bool no_memfd;

int memfd_create(const char *name, unsigned flags)
{
	if (no_memfd) {
		errno = ENOSYS;
		return -1;
	}
	return (int)syscall(SYS_memfd_create, name, flags);
}

static char *alloc(struct fake *f, size_t len)
{
	void *p;

	assert_int_equal(f->nic->ops->mem_alloc(f->nic, len, &p), 0);
	return p;
}

static void dealloc(struct fake *f, void *p)
{
	assert_int_equal(f->nic->ops->mem_free(f->nic, p), 0);
}

static struct gy_remote lend(struct fake *f, const void *p, size_t len)
{
	struct gy_remote r;

	assert_int_equal(f->ep->ops->lend(f->ep, p, len, &r), 0);
	return r;
}

static int map(struct fake *f, const struct gy_remote *r, size_t off, size_t len, const char **p)
{
	const void *ptr = NULL;
	int err = f->ep->ops->map(f->ep, r, off, len, &ptr);

	*p = ptr;
	return err;
}

static int pull(struct fake *f, const struct gy_remote *r, size_t off, void *dst, size_t len)
{
	return f->ep->ops->pull(f->ep, r, off, dst, len);
}

static void test_alloc(void **state)
{
	const unsigned fds = fake_count_fds(), maps = fake_count_maps();
	struct fake a, b;
	char *p[20];
	unsigned i, k;
	void *q;

	fake_pair(&a, &b);
	for (i = 0; i < GY_ARRAY_SIZE(p); i++) {
		p[i] = alloc(&a, i * 5000 + 1);
		assert_int_equal((uintptr_t)p[i] % 4096, 0);
		for (k = 0; k <= i * 5000; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], 1, i * 5000 + 1);
	}
	assert_int_equal(a.nic->ops->mem_alloc(a.nic, 0, &q), -EINVAL);
	assert_int_equal(a.nic->ops->mem_alloc(a.nic, SIZE_MAX, &q), -ENOMEM);
	assert_true(a.nic->ops->mem_alloc(a.nic, SIZE_MAX / 4, &q) < 0);
	assert_int_equal(a.nic->ops->mem_free(a.nic, p[3] + 4096), -EINVAL);
	assert_int_equal(a.nic->ops->mem_free(a.nic, &a), -EINVAL);
	assert_int_equal(a.nic->ops->mem_free(a.nic, NULL), -EINVAL);
	for (i = 0; i < GY_ARRAY_SIZE(p); i += 2)	/* the rest goes with the nic */
		dealloc(&a, p[i]);
	assert_int_equal(a.nic->ops->mem_free(a.nic, p[0]), -EINVAL);
	fake_unpair(&a, &b);
	assert_int_equal(fake_count_fds(), fds);
	assert_int_equal(fake_count_maps(), maps);
}

static void test_mapped(void **state)
{
	struct fake a, b;
	struct gy_remote r;
	const char *q, *again;
	char dst[100], *p;

	fake_pair(&a, &b);
	p = alloc(&a, 3 * MIB);
	strcpy(p + 5000, "hello");
	r = lend(&a, p + 4990, 1000);
	assert_int_equal(map(&b, &r, 10, 990, &q), 0);
	assert_string_equal(q, "hello");
	strcpy(p + 5000, "world");		/* the same memory */
	assert_string_equal(q, "world");
	assert_int_equal(pull(&b, &r, 12, dst, 4), 0);
	assert_string_equal(dst, "rld");
	r = lend(&a, p, 3 * MIB);
	assert_int_equal(map(&b, &r, 5000, 1, &again), 0);
	assert_ptr_equal(q, again);
	assert_int_equal(map(&b, &r, 3 * MIB, 0, &q), 0);
	fake_unpair(&a, &b);
}

/* What a confused peer may name: never more than was lent, never more than there is. */
static void test_bounds(void **state)
{
	struct fake a, b;
	struct gy_remote r, bad;
	const char *q;
	char dst[8], *p;

	fake_pair(&a, &b);
	p = alloc(&a, 8192);
	r = lend(&a, p + 100, 1000);
	assert_int_equal(map(&b, &r, 0, 1001, &q), -EPROTO);
	assert_int_equal(map(&b, &r, 1001, 0, &q), -EPROTO);
	assert_int_equal(map(&b, &r, SIZE_MAX, 2, &q), -EPROTO);
	assert_int_equal(pull(&b, &r, 997, dst, 4), -EPROTO);
	bad = r;
	bad.w[1] = 8192 - 999;
	assert_int_equal(map(&b, &bad, 0, 1, &q), -EPROTO);
	bad.w[1] = UINT64_MAX - 10;
	assert_int_equal(map(&b, &bad, 0, 1, &q), -EPROTO);
	bad = r;
	bad.w[0] = 77;
	assert_int_equal(map(&b, &bad, 0, 1, &q), -EPROTO);
	assert_int_equal(pull(&b, &bad, 0, dst, 1), -EPROTO);
	if (!a.ep->ops->lend(a.ep, dst, sizeof(dst), &r))
		assert_int_equal(pull(&b, &r, 1, p, sizeof(dst)), -EPROTO);
	assert_int_equal(b.down, 0);
	fake_unpair(&a, &b);
}

static void test_heap(void **state)
{
	const size_t len = 5 * MIB + 3;
	struct fake a, b;
	struct gy_remote r;
	const char *q;
	char *src = malloc(len), *dst = calloc(1, len), *gone;
	size_t i;

	assert_true(src && dst);
	for (i = 0; i < len; i++)
		src[i] = (char)(i * 11 + i / 4096);
	fake_pair(&a, &b);
	if (a.ep->ops->lend(a.ep, src, len, &r) == -EOPNOTSUPP) {
		print_message("process_vm_readv is not allowed here\n");
		fake_unpair(&a, &b);
		skip();
	}
	r = lend(&a, src, len);
	assert_int_equal(map(&b, &r, 0, 1, &q), -EOPNOTSUPP);
	assert_int_equal(pull(&b, &r, 1, dst + 1, len - 1), 0);
	assert_memory_equal(dst + 1, src + 1, len - 1);
	gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(gone, MAP_FAILED);
	r = lend(&a, gone, 8192);
	munmap(gone + 4096, 4096);
	assert_int_equal(pull(&b, &r, 0, dst, 4096), 0);
	assert_int_equal(pull(&b, &r, 0, dst, 8192), -EFAULT);
	assert_int_equal(pull(&b, &r, 4096, dst, 1), -EFAULT);
	munmap(gone, 4096);
	fake_unpair(&a, &b);
	free(src);
	free(dst);
}

/* GYRE_CMA=off on one side is enough: both copy. */
static void test_no_cma(void **state)
{
	struct fake a, b;
	struct gy_remote r;
	int off;

	for (off = 0; off < 2; off++) {
		assert_int_equal(fake_open(&a, 0), 0);
		assert_int_equal(fake_open(&b, 1), 0);
		(off ? &a : &b)->ctx.cfg.cma = GY_CONFIG_OFF;
		a.other = &b;
		b.other = &a;
		assert_int_equal(fake_ep_open(&a), 0);
		assert_int_equal(fake_ep_open(&b), 0);
		assert_int_equal(a.ep->ops->connect(a.ep), 0);
		fake_pump_both(&a, &b, 4);
		assert_int_equal(a.up + b.up, 2);
		assert_int_equal(a.ep->ops->lend(a.ep, &a, 1, &r), -EOPNOTSUPP);
		assert_int_equal(b.ep->ops->lend(b.ep, &b, 1, &r), -EOPNOTSUPP);
		lend(&a, alloc(&a, 100), 100);
		fake_unpair(&a, &b);
	}
}

static void test_not_mapped(void **state)
{
	struct fake a, b;
	struct gy_remote r;
	const char *q;
	char dst[6], *p;

	fake_pair(&a, &b);
	b.ctx.cfg.mapped = false;
	p = alloc(&a, 100);
	strcpy(p, "hello");
	r = lend(&a, p, 6);
	assert_int_equal(map(&b, &r, 0, 6, &q), -EOPNOTSUPP);
	assert_int_equal(pull(&b, &r, 0, dst, 6), 0);
	assert_string_equal(dst, "hello");
	fake_unpair(&a, &b);
}

/*
 * The owner frees what the peer still has a pointer to: the peer reads zeros, the memory is gone.
 */
static void test_freed(void **state)
{
	const size_t len = 2 * MIB;
	struct fake a, b;
	struct gy_remote r;
	const char *q[300], *again;
	unsigned i, maps;
	char *p;

	fake_pair(&a, &b);
	maps = fake_count_maps();
	for (i = 0; i < GY_ARRAY_SIZE(q); i++) {
		p = alloc(&a, len);
		p[0] = p[len - 1] = 1;
		r = lend(&a, p, len);
		assert_int_equal(map(&b, &r, 0, len, &q[i]), 0);
		assert_int_equal(q[i][0] + q[i][len - 1], 2);
		dealloc(&a, p);
		fake_pump(&b);
		assert_int_equal(q[i][0] + q[i][len - 1], 0);
		assert_int_equal(map(&b, &r, 0, 1, &again), -EPROTO);
		if (i + 1 >= SHM_STALE)
			assert_int_equal(q[i + 1 - SHM_STALE][0], 0);
	}
	assert_int_equal(fake_count_maps(), maps);
	assert_int_equal(a.down + b.down, 0);
	fake_unpair(&a, &b);
}

/*
 * A peer that does not read its control connection: segments queue, messages that could name them
 * wait, and all arrive when it looks.
 */
static void test_queue(void **state)
{
	struct gy_hdr hdr = { .kind = 1 };
	static struct gy_remote r[3000];
	static char *p[3000];
	struct fake a, b;
	unsigned n, i;
	const char *q;

	fake_pair(&a, &b);
	for (n = 0; n < GY_ARRAY_SIZE(r) && gy_list_empty(&to_shm_ep(a.ep)->queue); n++) {
		p[n] = alloc(&a, 1);
		*(unsigned *)(void *)p[n] = n;
		r[n] = lend(&a, p[n], 4);
	}
	assert_in_range(n, 10, GY_ARRAY_SIZE(r) - 1);
	assert_int_equal(a.ep->ops->msg(a.ep, &hdr, NULL), -EAGAIN);
	assert_int_equal(a.nic->ops->arm(a.nic), 0);
	a.nic->ops->disarm(a.nic);
	dealloc(&a, p[n - 1]);		/* never told of */
	fake_pump(&a);
	assert_int_equal(a.rooms, 0);
	for (i = 0; i < n - 1; i++) {
		assert_int_equal(map(&b, &r[i], 0, 4, &q), 0);
		assert_int_equal(*(const unsigned *)(const void *)q, i);
	}
	fake_pump_both(&a, &b, 3);
	assert_int_equal(a.rooms, 1);
	assert_int_equal(a.ep->ops->msg(a.ep, &hdr, NULL), 0);
	assert_int_equal(gy_poll_dispatch(&a.ctx.poll), 0);	/* not asked to write any more */
	fake_pump(&b);
	assert_int_equal(b.delivered, 1);
	assert_int_equal(map(&b, &r[n - 1], 0, 4, &q), -EPROTO);
	fake_unpair(&a, &b);
}

/* Garbage found by map and not by the socket's handler ends the endpoint all the same. */
static void test_garbage_for_map(void **state)
{
	const struct gy_remote r = { { 5, 0, 1 } };
	char junk[sizeof(struct shm_note)] = "garbage";
	struct fake a, b;
	const char *q;

	fake_pair(&a, &b);
	assert_int_equal(write(to_shm_ep(a.ep)->sock.fd, junk, sizeof(junk)), sizeof(junk));
	assert_int_equal(map(&b, &r, 0, 1, &q), -ENOTCONN);
	assert_int_equal(b.down, 0);
	fake_pump(&b);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.err, -EPROTO);
	fake_unpair(&a, &b);
}

/* ---- no space; each in a process of its own ---- */

static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* 0: the small one is there, the large one is -ENOSPC, and afterwards the small one again. */
static int small_then_large(size_t large)
{
	struct fake a;
	void *p, *q;
	int i;

	if (fake_open(&a, 0))
		return 2;
	for (i = 0; i < 3; i++) {
		if (a.nic->ops->mem_alloc(a.nic, 64 * 1024, &p))
			return 3;
		memset(p, 1, 64 * 1024);
		if (a.nic->ops->mem_alloc(a.nic, large, &q) != -ENOSPC)
			return 4;
		if (a.nic->ops->mem_free(a.nic, p))
			return 5;
	}
	fake_close(&a);
	return 0;
}

static int child_fsize(void)
{
	const struct rlimit lim = { .rlim_cur = MIB, .rlim_max = MIB };

	if (setrlimit(RLIMIT_FSIZE, &lim))
		return 77;
	return small_then_large(2 * MIB);
}

static bool say(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return ok;
}

/* Mounts of our own; who is not root has them as a user of a namespace, who then needs a number. */
static bool own_mounts(void)
{
	const unsigned uid = getuid(), gid = getgid();
	char users[40], groups[40];

	if (!unshare(CLONE_NEWNS))
		return true;
	snprintf(users, sizeof(users), "%u %u 1", uid, uid);
	snprintf(groups, sizeof(groups), "%u %u 1", gid, gid);
	return !unshare(CLONE_NEWUSER | CLONE_NEWNS) && say("/proc/self/setgroups", "deny") &&
	       say("/proc/self/uid_map", users) && say("/proc/self/gid_map", groups);
}

static int child_tmpfs(void)
{
	no_memfd = true;
	if (!own_mounts())
		return 77;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m"))
		return 77;
	return small_then_large(2 * MIB);
}

static int child_no_shm(void)
{
	struct fake a;

	no_memfd = true;
	if (!own_mounts())
		return 77;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/dev", "tmpfs", 0, "size=1m"))
		return 77;
	gy_log_set_level(GY_LOG_ERROR);
	return fake_open(&a, 0) == -EOPNOTSUPP ? 0 : 6;
}

static void check_child(int (*fn)(void))
{
	const int rc = in_child(fn);

	if (rc == 77) {
		print_message("not allowed to set this up\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

static void test_fsize(void **state)
{
	check_child(child_fsize);
}

static void test_tmpfs(void **state)
{
	check_child(child_tmpfs);
}

static void test_no_shm(void **state)
{
	check_child(child_no_shm);
}

static void test_alloc_fails(void **state)
{
	const unsigned fds = fake_count_fds(), maps = fake_count_maps();
	struct fake a, b;
	int n, err = -1;
	void *p;

	fake_pair(&a, &b);
	for (n = 1; n < 10 && err; n++) {
		gy_alloc_fail_at(n);
		err = a.nic->ops->mem_alloc(a.nic, 100, &p);
		gy_alloc_fail_at(0);
		assert_true(!err || err == -ENOMEM);
	}
	assert_in_range(n, 3, 9);
	fake_unpair(&a, &b);
	assert_int_equal(fake_count_fds(), fds);
	assert_int_equal(fake_count_maps(), maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_heap),
		cmocka_unit_test(test_no_cma),
		cmocka_unit_test(test_not_mapped),
		cmocka_unit_test(test_freed),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_garbage_for_map),
		cmocka_unit_test(test_fsize),
		cmocka_unit_test(test_tmpfs),
		cmocka_unit_test(test_no_shm),
		cmocka_unit_test(test_alloc_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
