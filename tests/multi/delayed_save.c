/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delayed_save.c - a rank of test_delayed_save.sh:
 *
 *	delayed_save whole		trains, and prints a sum over the bits of its model
 *	delayed_save save FILE		trains half the way, and saves to FILE.RANK
 *	delayed_save load FILE		goes on from there, and prints
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <gyre/gyre.h>

enum { COUNT = 100000, TICKS = 30, SAVED = 13 };

static float save_x[COUNT];

static int save_write(void *arg, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, arg) == len ? 0 : -5;
}

static int save_read(void *arg, void *buf, size_t len)
{
	return fread(buf, 1, len, arg) == len ? 0 : -5;
}

static int save_train(struct gyre_delayed *d, int rank, int from, int to)
{
	int n, i, err = 0;

	for (n = from; n <= to && !err; n++) {
		for (i = 0; i < COUNT; i++)
			save_x[i] += 0.01f * (float)((i * 7 + n * 13 + rank * 5) % 17 - 8) -
				     0.03f * save_x[i];
		err = gyre_delayed_tick(d, rank + 1, NULL);
	}
	return err;
}

static int save_print(struct gyre_delayed *d, int rank)
{
	uint32_t bits, hash = 2166136261u;
	int i, err;

	err = gyre_delayed_drain(d, GYRE_DRAIN_APPLY);
	for (i = 0; i < COUNT; i++) {
		memcpy(&bits, &save_x[i], sizeof(bits));
		hash = (hash ^ bits) * 16777619u;
	}
	if (!err)
		printf("rank %d: %08x\n", rank, hash);
	return err;
}

static int save_save(struct gyre_delayed *d, struct gyre_comm *comm, FILE *f)
{
	int err = save_train(d, gyre_comm_rank(comm), 1, SAVED);

	if (!err)
		err = gyre_barrier(comm);
	if (!err)
		err = save_write(f, save_x, sizeof(save_x));
	if (!err)
		err = gyre_delayed_save(d, save_write, f);
	return err ? err : gyre_barrier(comm);
}

static int save_load(struct gyre_delayed *d, struct gyre_comm *comm, FILE *f)
{
	int err = save_read(f, save_x, sizeof(save_x));

	if (!err)
		err = gyre_delayed_load(d, save_read, f);
	if (!err)
		err = save_train(d, gyre_comm_rank(comm), SAVED + 1, TICKS);
	return err ? err : save_print(d, gyre_comm_rank(comm));
}

static int save_run(struct gyre_comm *comm, const char *what, const char *file)
{
	struct gyre_delayed_attr attr;
	struct gyre_delayed *d;
	char name[4096];
	FILE *f = NULL;
	int err;

	gyre_dts_attr(&attr, 5, 2);
	attr.count = COUNT;
	attr.wire = GYRE_BF16;
	err = gyre_delayed_create(&attr, save_x, comm, &d);
	if (err)
		return err;
	if (file) {
		snprintf(name, sizeof(name), "%s.%d", file, gyre_comm_rank(comm));
		f = fopen(name, strcmp(what, "save") ? "rb" : "wb");
	}
	if (file && !f)
		err = -2;
	else if (!file)
		err = save_train(d, gyre_comm_rank(comm), 1, TICKS);
	else
		err = strcmp(what, "save") ? save_load(d, comm, f) : save_save(d, comm, f);
	if (!err && !file)
		err = save_print(d, gyre_comm_rank(comm));
	if (f && fclose(f))
		err = -5;
	gyre_delayed_destroy(d);
	return err;
}

int main(int argc, char **argv)
{
	struct gyre_context *ctx;
	int err;

	if (argc < 2 || gyre_context_create(NULL, &ctx))
		return 2;
	err = save_run(gyre_context_world(ctx), argv[1], argc > 2 ? argv[2] : NULL);
	if (err)
		fprintf(stderr, "%s: %s\n", argv[1], gyre_strerror(err));
	gyre_context_destroy(ctx);
	return err != 0;
}
