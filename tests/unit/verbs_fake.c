/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_fake.c - see verbs_fake.h.  Its functions take the place of those of the shared library.
 *
 * Here: the device, what it says by itself, memory.  verbs_fake_queue.c: queue pairs and
 * completions.  verbs_fake_cm.c: librdmacm.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>

#include "tests/unit/verbs_fake_priv.h"

#undef ibv_query_port
#undef ibv_reg_mr

#define DEV_CONTEXTS 16
#define DEV_MRS 1024
#define DEV_GIDS 2

struct verbs_fake vf;
pthread_mutex_t dev_mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static struct ibv_device dev_devices[] = { { .name = "fake0" }, { .name = "fake1" } };
static struct ibv_device *dev_two[] = { &dev_devices[0], &dev_devices[1], NULL };
static struct ibv_device *dev_one[] = { &dev_devices[0], NULL };
static struct dev_context dev_contexts[DEV_CONTEXTS];
static struct ibv_mr *dev_mrs[DEV_MRS];	/* by key - 1 */

static struct dev_context *to_context(struct ibv_context *ctx)
{
	return gy_container_of(gy_container_of(ctx, struct verbs_context, context),
			       struct dev_context, v);
}

struct dev_context *dev_context(unsigned n)
{
	return &dev_contexts[n];
}

/* ---- device ---- */

void verbs_fake_reset(void)
{
	unsigned i;

	need(!vf.mrs && !vf.qps && !vf.cqs && !vf.others);
	for (i = 0; i < DEV_CONTEXTS; i++)
		need(!dev_contexts[i].open);
	dev_queues_reset();
	dev_cm_reset();
	for (i = 0; i < GY_ARRAY_SIZE(dev_devices); i++)
		verbs_fake_near(i, NULL);
	vf = (struct verbs_fake){ .inline_max = 256 };
}

void verbs_fake_near(unsigned device, const char *cpus)
{
	char *dir = dev_devices[device].ibdev_path, path[IBV_SYSFS_PATH_MAX + 32];
	FILE *file;

	if (*dir) {
		snprintf(path, sizeof(path), "%s/device/local_cpus", dir);
		unlink(path);
		*strrchr(path, '/') = 0;
		rmdir(path);
		rmdir(dir);
		*dir = 0;
	}
	if (!cpus)
		return;
	strcpy(dir, "/tmp/gy-verbs-fake.XXXXXX");
	need(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/device", dir);
	need(mkdir(path, 0700) == 0);
	strcat(path, "/local_cpus");
	file = fopen(path, "w");
	need(file && fputs(cpus, file) >= 0 && fclose(file) == 0);
}

void verbs_fake_event(enum ibv_event_type type)
{
	struct dev_context *c;
	unsigned i;

	for (i = 0; i < DEV_CONTEXTS; i++) {
		c = &dev_contexts[i];
		if (!c->open)
			continue;
		c->events[c->nevents].event_type = type;
		c->events[c->nevents++].element.port_num = 1;
		need(eventfd_write(c->v.context.async_fd, 1) == 0);
	}
}

struct ibv_device **ibv_get_device_list(int *n)
{
	*n = vf.none ? 0 : 1 + vf.two;
	return vf.none ? dev_two + 2 : vf.two ? dev_two : dev_one;
}

void ibv_free_device_list(struct ibv_device **list)
{
}

int ibv_fork_init(void)
{
	return 0;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	DEV_LOCKED;
	struct dev_context *c = dev_contexts;
	struct ibv_context *ctx;

	while (c->open)
		c++;
	need(c < dev_contexts + DEV_CONTEXTS);
	memset(c, 0, sizeof(*c));
	c->open = true;
	ctx = &c->v.context;
	ctx->device = device;
	dev_queues_open(ctx);
	ctx->async_fd = eventfd(0, EFD_CLOEXEC);
	return ctx;
}

int ibv_close_device(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(ctx);

	close(ctx->async_fd);
	c->open = false;
	return 0;
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->phys_port_cnt = 1;
	attr->max_cqe = 1 << 20;
	return 0;
}

int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *compat)
{
	struct ibv_port_attr *attr = (struct ibv_port_attr *)compat;

	need(port == 1);
	attr->state = IBV_PORT_ACTIVE;
	attr->active_mtu = IBV_MTU_1024;
	attr->gid_tbl_len = DEV_GIDS;
	attr->active_width = 1;
	attr->active_speed = 1;
	attr->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t i, struct ibv_gid_entry *e,
		      uint32_t flags, size_t size)
{
	memset(e, 0, size);
	e->gid_type = IBV_GID_TYPE_ROCE_V2;
	if (i == 0 && !vf.mapped_only) {
		e->gid.raw[0] = 0xfe;
		e->gid.raw[1] = 0x80;
	} else {
		e->gid.raw[10] = e->gid.raw[11] = 0xff;
		e->gid.raw[12] = 10;
		e->gid.raw[14] = (uint8_t)i;
	}
	e->gid.raw[15] = (uint8_t)(1 + to_context(ctx) - dev_contexts);
	return 0;
}

const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	static char text[32];

	snprintf(text, sizeof(text), "status %d", (int)status);
	return text;
}

const char *ibv_event_type_str(enum ibv_event_type type)
{
	return "an event";
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *e)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(ctx);
	eventfd_t n;

	if (!c->nevents)
		return -1;
	*e = c->events[--c->nevents];
	if (!c->nevents)
		need(eventfd_read(ctx->async_fd, &n) == 0);
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *e)
{
}

/* ---- memory and channels ---- */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	pd->context = ctx;
	vf.others++;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	DEV_LOCKED;

	vf.others--;
	free(pd);
	return 0;
}

const struct ibv_mr *dev_mr(uint32_t key, uint64_t addr, uint64_t len)
{
	const struct ibv_mr *mr = key && key <= DEV_MRS ? dev_mrs[key - 1] : NULL;

	if (!mr || addr < (uintptr_t)mr->addr || addr + len > (uintptr_t)mr->addr + mr->length)
		return NULL;
	return mr;
}

size_t verbs_fake_registered(struct ibv_context *ctx, size_t *most)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(ctx);

	if (most) {
		*most = c->most;
		c->most = c->registered;
	}
	return c->registered;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	DEV_LOCKED;
	struct dev_context *c = to_context(pd->context);
	struct ibv_mr *mr;
	uint32_t i = 0;

	need(access & IBV_ACCESS_REMOTE_WRITE && access & IBV_ACCESS_LOCAL_WRITE);
	if (dev_due(&vf.fail_reg) || (vf.lock_limit && c->registered + length > vf.lock_limit)) {
		errno = ENOMEM;
		return NULL;
	}
	while (i < DEV_MRS && dev_mrs[i])
		i++;
	need(i < DEV_MRS);
	mr = calloc(1, sizeof(*mr));
	*mr = (struct ibv_mr){ .context = pd->context, .pd = pd, .addr = addr, .length = length };
	mr->lkey = mr->rkey = i + 1;
	dev_mrs[i] = mr;
	vf.mrs++;
	c->registered += length;
	c->most = gy_max(c->most, c->registered);
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	DEV_LOCKED;

	dev_mrs[mr->lkey - 1] = NULL;
	to_context(mr->context)->registered -= mr->length;
	free(mr);
	vf.mrs--;
	return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	DEV_LOCKED;
	struct ibv_comp_channel *ch = calloc(1, sizeof(*ch));

	ch->context = ctx;
	ch->fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	vf.others++;
	return ch;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ch)
{
	DEV_LOCKED;

	close(ch->fd);
	free(ch);
	vf.others--;
	return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ch, struct ibv_cq **cq, void **arg)
{
	eventfd_t n;

	*cq = NULL;
	*arg = NULL;
	return eventfd_read(ch->fd, &n);
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n)
{
}
