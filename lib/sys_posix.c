/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sys_posix.c - the real world: clock, getrandom, futex, pthreads, and sleeping on the poll set.
 * Holds no state.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/context.h"
#include "lib/sys.h"
#include "lib/util.h"

struct gy_thread {
	pthread_t id;
	void (*fn)(void *);
	void *arg;
};

static uint64_t posix_now_ns(struct gy_sys *sys)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t posix_random(struct gy_sys *sys)
{
	uint64_t r = 0;

	while (getrandom(&r, sizeof(r), 0) != sizeof(r))
		;
	return r;
}

static void posix_yield(struct gy_sys *sys)
{
	sched_yield();
}

static void posix_sleep(struct gy_sys *sys, struct gyre_context *ctx, uint64_t timeout_ns)
{
	gy_poll_sleep(&ctx->poll, (int)((timeout_ns + 999999) / 1000000));
}

static void posix_wake(struct gy_sys *sys, struct gyre_context *ctx)
{
	gy_poll_ring(&ctx->poll);
}

static void posix_wait_word(struct gy_sys *sys, _Atomic uint32_t *word, uint32_t value,
			    uint64_t timeout_ns)
{
	const struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &ts, NULL, 0);
}

static void posix_notify_word(struct gy_sys *sys, _Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/*
 * The boot id tells machines apart, the IPC and network namespaces containers, and a hash of the
 * host's name makes up for either being hidden.
 */
static void posix_node(struct gy_sys *sys, uint64_t id[2])
{
	uint64_t h = 0xcbf29ce484222325u;
	char text[256] = "";
	struct stat st;
	ssize_t n;
	int fd;

	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0) {
		gethostname(text, sizeof(text) - 1);
		n = (ssize_t)strlen(text);
	}
	while (n-- > 0)		/* FNV-1a */
		h = (h ^ (unsigned char)text[n]) * 0x100000001b3u;
	id[0] = h;
	id[1] = stat("/proc/self/ns/ipc", &st) ? 0 : (uint64_t)st.st_ino;
	if (stat("/proc/self/ns/net", &st) == 0)	/* another one has another loopback */
		id[1] ^= (uint64_t)st.st_ino << 32;
}

static void *posix_thread_main(void *arg)
{
	struct gy_thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

static int posix_spawn_thread(struct gy_sys *sys, void (*fn)(void *), void *arg,
			      struct gy_thread **threadp)
{
	struct gy_thread *t = gy_alloc(sizeof(*t));
	sigset_t all, old;
	int err;

	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);	/* the new thread inherits it */
	err = -pthread_create(&t->id, NULL, posix_thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		gy_free(t);
		return err;
	}
	*threadp = t;
	return 0;
}

static void posix_join(struct gy_sys *sys, struct gy_thread *t)
{
	pthread_join(t->id, NULL);
	gy_free(t);
}

static const struct gy_sys_ops posix_ops = {
	.now_ns = posix_now_ns,
	.random = posix_random,
	.yield = posix_yield,
	.sleep = posix_sleep,
	.wake = posix_wake,
	.wait_word = posix_wait_word,
	.notify_word = posix_notify_word,
	.node = posix_node,
	.spawn = posix_spawn_thread,
	.join = posix_join,
};

struct gy_sys gy_sys_posix = { .ops = &posix_ops };
