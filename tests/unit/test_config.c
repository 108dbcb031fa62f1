/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_config.c - the table of settings: defaults, file, environment, and what is said of mistakes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/config.h"
#include "lib/config_value.h"
#include "lib/log.h"

static char config_log[16384];

/* Loads with stderr going to config_log. */
static int load_logged(struct gy_config *cfg)
{
	int saved = dup(STDERR_FILENO), fds[2], err;
	ssize_t n;

	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	dup2(fds[1], STDERR_FILENO);
	err = gy_config_load(cfg);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	n = read(fds[0], config_log, sizeof(config_log) - 1);
	close(fds[0]);
	config_log[n > 0 ? n : 0] = 0;
	return err;
}

static int load_with(const char *name, const char *value, struct gy_config *cfg)
{
	int err;

	setenv(name, value, 1);
	err = load_logged(cfg);
	unsetenv(name);
	return err;
}

static void assert_logged(const char *text)
{
	if (!strstr(config_log, text))
		fail_msg("\"%s\" is not in the log: %s", text, config_log);
}

/* A file with this text is GYRE_CONFIG during one load. */
static int load_file(const char *text, struct gy_config *cfg)
{
	char path[] = "/tmp/gyre-test-config-XXXXXX";
	int fd = mkstemp(path), err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	err = load_with("GYRE_CONFIG", path, cfg);
	unlink(path);
	return err;
}

static int clear_environment(void **state)
{
	char **variable, name[64];

	for (variable = environ; *variable;) {
		if (strncmp(*variable, "GYRE_", 5) == 0) {
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(*variable, "="),
				 *variable);
			unsetenv(name);
			variable = environ;
		} else {
			variable++;
		}
	}
	return 0;
}

static int set_default(struct gy_config *cfg, const char *name, const char *text)
{
	return gy_config_set(cfg, name, text, GY_CONFIG_DEFAULT, "test");
}

static void test_defaults(void **state)
{
	struct gy_config cfg;
	char text[600];
	size_t i;

	assert_int_equal(load_logged(&cfg), 0);
	assert_string_equal(config_log, "");
	assert_int_equal(cfg.rank, -1);
	assert_int_equal(cfg.eager_bytes, 8192);
	assert_int_equal(cfg.pool_bytes, 16 << 20);
	assert_int_equal(cfg.transport, GY_CONFIG_TRANSPORT_AUTO);
	assert_true(cfg.mapped);
	assert_int_equal(cfg.log, GY_LOG_WARN);
	assert_string_equal(cfg.root, "");
	for (i = 0; gy_config_entry(i); i++) {
		gy_config_value(&cfg, i, text, sizeof(text));
		assert_string_equal(gy_config_source_name(&cfg, i), "default");
		/* What is printed can be read again. */
		assert_int_equal(set_default(&cfg, gy_config_entry(i)->name, text), 0);
		assert_true(strlen(gy_config_entry(i)->name) < GY_CONFIG_NAME_MAX);
		assert_true(strlen(gy_config_entry(i)->doc) > 0);
	}
	assert_true(i >= 20);
}

static void test_environment(void **state)
{
	struct gy_config cfg;

	assert_int_equal(load_with("GYRE_POOL_BYTES", "64M", &cfg), 0);
	assert_true(cfg.pool_bytes == 64 << 20);
	assert_int_equal(load_with("GYRE_TRANSPORT", "tcp", &cfg), 0);
	assert_int_equal(cfg.transport, GY_CONFIG_TRANSPORT_TCP);
	assert_int_equal(load_with("GYRE_SPIN_US", "-1", &cfg), 0);
	assert_int_equal(load_with("GYRE_MAPPED", "on", &cfg), 0);
	assert_true(cfg.mapped);
	assert_int_equal(load_with("GYRE_MAPPED", "no", &cfg), 0);
	assert_false(cfg.mapped);
	assert_int_equal(load_with("GYRE_ALGORITHM", "allreduce=ring", &cfg), 0);
	assert_string_equal(cfg.algorithm, "allreduce=ring");
	assert_string_equal(config_log, "");
}

static void test_bad_values(void **state)
{
	static const char *const bad[][2] = {
		{ "GYRE_RANK", "" },
		{ "GYRE_RANK", "x" },
		{ "GYRE_RANK", "3x" },
		{ "GYRE_RANK", " 3" },
		{ "GYRE_RANK", "-2" },
		{ "GYRE_RANK", "2147483648" },
		{ "GYRE_RANK", "99999999999999999999" },
		{ "GYRE_RANK", "3k" },
		{ "GYRE_POOL_BYTES", "1" },
		{ "GYRE_POOL_BYTES", "16mb" },
		{ "GYRE_POOL_BYTES", "9223372036854775807g" },
		{ "GYRE_POOL_BYTES", "-1m" },
		{ "GYRE_TCP_STREAMS", "0" },
		{ "GYRE_TCP_STREAMS", "17" },
		{ "GYRE_TRANSPORT", "ucx" },
		{ "GYRE_MAPPED", "2" },
		{ "GYRE_LOG", "loud" },
	};
	struct gy_config cfg;
	size_t i;

	for (i = 0; i < GY_ARRAY_SIZE(bad); i++) {
		assert_int_equal(load_with(bad[i][0], bad[i][1], &cfg), -EINVAL);
		assert_logged(bad[i][0]);
		assert_logged("allowed is");
	}
	load_with("GYRE_TCP_STREAMS", "17", &cfg);
	assert_logged("1 to 16");
	load_with("GYRE_TRANSPORT", "ucx", &cfg);
	assert_logged("auto, shm, verbs, tcp, sim");
}

static void test_secret_is_not_shown(void **state)
{
	static const char key[] = "00112233445566778899aabbccddeeff";
	struct gy_config cfg;
	char text[64];
	size_t i;

	assert_int_equal(load_with("GYRE_JOB_KEY", "00112233445566778899aabbccddeeff0", &cfg),
			 -EINVAL);
	assert_null(strstr(config_log, key));
	assert_int_equal(load_with("GYRE_JOB_KEY", key, &cfg), 0);
	assert_string_equal(cfg.job_key, key);
	for (i = 0; gy_config_entry(i); i++) {
		if (strcmp(gy_config_entry(i)->name, "job_key") != 0)
			continue;
		gy_config_value(&cfg, i, text, sizeof(text));
		assert_string_equal(text, "...");
	}
}

static void test_unknown_names(void **state)
{
	struct gy_config cfg;
	char name[200] = "GYRE_";

	assert_int_equal(load_with("GYRE_TRANSPROT", "tcp", &cfg), 0);
	assert_logged("unknown setting GYRE_TRANSPROT; did you mean GYRE_TRANSPORT?");
	assert_int_equal(load_with("GYRE_COFFEE_MACHINE", "1", &cfg), 0);
	assert_logged("unknown setting GYRE_COFFEE_MACHINE; gyre-env(7)");
	memset(name + 5, 'A', 150);
	assert_int_equal(load_with(name, "1", &cfg), 0);
	assert_logged("gyre-env(7)");
	assert_int_equal(load_with("GYRE_LOG", "error", &cfg), 0);
	gy_log_set_level(GY_LOG_WARN);
	assert_int_equal(gy_config_distance("ring", "RINGS"), 1);
	assert_int_equal(gy_config_distance("", "abc"), 3);
	assert_int_equal(gy_config_distance("kitten", "sitting"), 3);
}

static void test_file(void **state)
{
	static const char text[] = "# comment\n\n  transport = shm \ntcp_streams=8\n"
				   "root=\nlate_wran_ms = 5\npool_bytes = 1g";
	struct gy_config cfg;
	size_t i;

	setenv("GYRE_TCP_STREAMS", "4", 1);
	assert_int_equal(load_file(text, &cfg), 0);
	unsetenv("GYRE_TCP_STREAMS");
	assert_int_equal(cfg.transport, GY_CONFIG_TRANSPORT_SHM);
	assert_int_equal(cfg.tcp_streams, 4);
	assert_true(cfg.pool_bytes == 1 << 30);
	assert_logged(":6: unknown setting late_wran_ms; did you mean late_warn_ms?");
	for (i = 0; gy_config_entry(i); i++) {
		if (strcmp(gy_config_entry(i)->name, "tcp_streams") == 0)
			assert_string_equal(gy_config_source_name(&cfg, i), "environment");
		if (strcmp(gy_config_entry(i)->name, "transport") == 0)
			assert_string_equal(gy_config_source_name(&cfg, i), "file");
	}
}

static void test_bad_file(void **state)
{
	struct gy_config cfg;
	char text[3000];

	assert_int_equal(load_file("transport tcp\n", &cfg), -EINVAL);
	assert_logged(":1: expected key = value");
	assert_int_equal(load_file("\ntransport = udp\n", &cfg), -EINVAL);
	assert_logged(":2 = \"udp\" is not valid for transport");
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	assert_int_equal(load_file(text, &cfg), -EINVAL);
	assert_logged(":1: line is longer");
	assert_int_equal(load_with("GYRE_CONFIG", "/nonexistent/gyre", &cfg), -ENOENT);
	assert_logged("cannot open /nonexistent/gyre");
	assert_int_equal(load_with("GYRE_CONFIG", "/tmp", &cfg), -EIO);
	assert_int_equal(load_with("GYRE_CONFIG", "", &cfg), 0);
}

static void report_set(void *arg, size_t i, const char *where)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 1000 - len, "%s from %s\n", gy_config_entry(i)->name,
		 strrchr(where, '/') ? strrchr(where, ':') : where);
}

static void report_unknown(void *arg, const char *where, const char *name, const char *near)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 1000 - len, "%s? %s!\n", name, near);
}

static void report_invalid(void *arg, const char *where, const char *text)
{
	size_t len = strlen(arg);

	snprintf((char *)arg + len, 1000 - len, "%s is bad\n",
		 strrchr(where, '/') ? strrchr(where, ':') : where);
}

/* All that is found and all that is wrong, in one go, and not a line in the log. */
static void test_report(void **state)
{
	char path[] = "/tmp/gyre-test-config-XXXXXX", said[1000] = "";
	static const char text[] = "tcp_streams = 3\ntransport = udp\nmaped = 0\nspin_us = 7\n";
	const struct gy_config_report report = {
		.arg = said,
		.set = report_set,
		.unknown = report_unknown,
		.invalid = report_invalid,
	};
	int fd = mkstemp(path), err;
	struct gy_config cfg;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	setenv("GYRE_CONFIG", path, 1);
	setenv("GYRE_POOL_BYTES", "none", 1);
	setenv("GYRE_COFFEE_MACHINE", "1", 1);
	setenv("GYRE_LOG", "debug", 1);
	err = gy_config_load_report(&cfg, &report);
	unlink(path);
	clear_environment(NULL);
	assert_int_equal(err, -EINVAL);
	assert_int_equal(cfg.tcp_streams, 3);
	assert_int_equal(cfg.spin_us, 7);
	assert_int_equal(cfg.log, GY_LOG_DEBUG);
	assert_non_null(strstr(said, "tcp_streams from :1\n:2 is bad\nmaped? mapped!\n"
				     "spin_us from :4\n"));
	assert_non_null(strstr(said, "GYRE_POOL_BYTES is bad\n"));
	assert_non_null(strstr(said, "GYRE_COFFEE_MACHINE? !\n"));
	assert_non_null(strstr(said, "log from GYRE_LOG\n"));
}

static void test_set(void **state)
{
	struct gy_config cfg;

	gy_config_init(&cfg);
	assert_int_equal(gy_config_set(&cfg, "eager_bytes", "2k", GY_CONFIG_FILE, "test"), 0);
	assert_int_equal(cfg.eager_bytes, 2048);
	assert_int_equal(gy_config_set(&cfg, "eager_bytes", "9k", GY_CONFIG_FILE, "test"), -EINVAL);
	assert_int_equal(cfg.eager_bytes, 2048);
	assert_int_equal(gy_config_set(&cfg, "no_such", "1", GY_CONFIG_FILE, "test"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_secret_is_not_shown),
		cmocka_unit_test(test_unknown_names),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_bad_file),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_set),
	};

	return cmocka_run_group_tests(tests, clear_environment, NULL);
}
