/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-file.c - files of /sys, /proc and /dev, of this machine or below another root (a
 * container's host, a tree made for a test).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/gyre-info.h"

static const char *file_root = "";

void gi_root_set(const char *dir)
{
	file_root = strcmp(dir, "/") == 0 ? "" : dir;
}

bool gi_root_is_here(void)
{
	return file_root[0] == 0;
}

static void file_path(char *path, size_t size, const char *fmt, va_list ap)
{
	size_t n = (size_t)snprintf(path, size, "%s", file_root);

	if (n < size)
		vsnprintf(path + n, size - n, fmt, ap);
}

const char *gi_path(const char *fmt, ...)
{
	static char path[PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	file_path(path, sizeof(path), fmt, ap);
	va_end(ap);
	return path;
}

static bool file_read(char *buf, size_t size, const char *fmt, va_list ap)
{
	char path[PATH_MAX];
	size_t n = 0;
	FILE *f;

	file_path(path, sizeof(path), fmt, ap);
	f = fopen(path, "re");
	if (f) {
		n = fread(buf, 1, size - 1, f);
		fclose(f);
	}
	while (n > 0 && strchr(" \t\n", buf[n - 1]))
		n--;
	buf[n] = 0;
	return n > 0;
}

bool gi_read(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	bool ok;

	va_start(ap, fmt);
	ok = file_read(buf, size, fmt, ap);
	va_end(ap);
	return ok;
}

long long gi_read_int(const char *fmt, ...)
{
	char text[64], *end;
	long long n;
	va_list ap;
	bool ok;

	va_start(ap, fmt);
	ok = file_read(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!ok)
		return GI_UNKNOWN;
	if (strncmp(text, "max", 3) == 0)
		return GI_UNLIMITED;
	n = strtoll(text, &end, 0);
	return end == text ? GI_UNKNOWN : n;
}

static int file_compare(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

size_t gi_names(char ***namesp, const char *fmt, ...)
{
	char path[PATH_MAX], **names = NULL;
	const struct dirent *entry;
	size_t n = 0;
	va_list ap;
	DIR *dir;

	va_start(ap, fmt);
	file_path(path, sizeof(path), fmt, ap);
	va_end(ap);
	*namesp = NULL;
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		names = gi_grow(names, n, sizeof(*names));
		names[n++] = gi_format("%s", entry->d_name);
	}
	closedir(dir);
	if (n)
		qsort(names, n, sizeof(*names), file_compare);
	*namesp = names;
	return n;
}

void gi_names_free(char **names, size_t n)
{
	while (n > 0)
		free(names[--n]);
	free(names);
}

bool gi_link(char *buf, size_t size, const char *fmt, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	file_path(path, sizeof(path), fmt, ap);
	va_end(ap);
	n = readlink(path, target, sizeof(target) - 1);
	buf[0] = 0;
	if (n <= 0)
		return false;
	target[n] = 0;
	slash = strrchr(target, '/');
	snprintf(buf, size, "%s", slash ? slash + 1 : target);
	return true;
}

int gi_count_list(const char *list)
{
	long first, last;
	char *end;
	int n = 0;

	while (*list) {
		first = last = strtol(list, &end, 10);
		if (end == list)
			break;
		if (*end == '-') {
			list = end + 1;
			last = strtol(list, &end, 10);
		}
		n += (int)(last - first) + 1;
		list = end + (*end == ',');
	}
	return n;
}
