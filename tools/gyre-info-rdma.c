/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-rdma.c - RDMA devices, ports and GIDs, from /sys/class/infiniband: what the kernel has,
 * whether or not this program has libibverbs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/util.h"
#include "tools/gyre-info.h"

#define RDMA_SYS "/sys/class/infiniband"

bool gi_port_active(const struct gi_port *port)
{
	return strcmp(port->state, "ACTIVE") == 0;
}

bool gi_gid_is_link_local(const struct gi_gid *gid)
{
	return gid->raw[0] == 0xfe && (gid->raw[1] & 0xc0) == 0x80;
}

bool gi_gid_is_roce2(const struct gi_gid *gid)
{
	return strcmp(gid->type, "RoCE v2") == 0 && !gi_gid_is_link_local(gid);
}

/* ---- reading ---- */

/* "fe80:0000:0000:0000:5054:00ff:fe12:3456"; false for an empty entry. */
static bool rdma_gid_parse(const char *text, struct gi_gid *gid)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, zero[16];

	if (inet_pton(AF_INET6, text, gid->raw) != 1 || memcmp(gid->raw, zero, 16) == 0)
		return false;
	if (memcmp(gid->raw, mapped, sizeof(mapped)) == 0)
		inet_ntop(AF_INET, gid->raw + 12, gid->text, sizeof(gid->text));
	else
		inet_ntop(AF_INET6, gid->raw, gid->text, sizeof(gid->text));
	return true;
}

static void rdma_gids_read(struct gi_port *port, const char *dir)
{
	char **names, text[64];
	size_t n = gi_names(&names, "%s/gids", dir), i;

	for (i = 0; i < n; i++) {
		struct gi_gid gid = { .index = atoi(names[i]) };

		if (!gi_read(text, sizeof(text), "%s/gids/%s", dir, names[i]) ||
		    !rdma_gid_parse(text, &gid))
			continue;
		if (!gi_read(text, sizeof(text), "%s/gid_attrs/types/%s", dir, names[i]))
			snprintf(text, sizeof(text), "%s", port->ethernet ? "RoCE v1" : "IB");
		/* The kernel has one name for both meanings of version 1. */
		if (strcmp(text, "IB/RoCE v1") == 0)
			snprintf(text, sizeof(text), "%s", port->ethernet ? "RoCE v1" : "IB");
		snprintf(gid.type, sizeof(gid.type), "%s", text);
		gi_read(gid.netdev, sizeof(gid.netdev), "%s/gid_attrs/ndevs/%s", dir, names[i]);
		if (gid.netdev[0] && !port->netdev[0])
			snprintf(port->netdev, sizeof(port->netdev), "%s", gid.netdev);
		port->gids = gi_grow(port->gids, port->ngids, sizeof(*port->gids));
		port->gids[port->ngids++] = gid;
	}
	gi_names_free(names, n);
}

/* "4: ACTIVE" -> "ACTIVE" */
static void rdma_after_colon(char *buf, size_t size, const char *dir, const char *file)
{
	char text[64];
	const char *p;

	gi_read(text, sizeof(text), "%s/%s", dir, file);
	p = strchr(text, ':');
	snprintf(buf, size, "%s", p ? p + 1 + strspn(p + 1, " ") : text);
}

/* RoCE: the largest of InfiniBand's sizes that the network device's leaves room for. */
static long long rdma_roce_mtu(const char *netdev)
{
	const int headers = 40 + 8 + 12 + 4 + 28 + 4;	/* as the kernel reckons: GRH to ICRC */
	long long mtu = gi_read_int("/sys/class/net/%s/mtu", netdev), n;

	for (n = 4096; n >= 256; n /= 2)
		if (mtu - headers >= n)
			return n;
	return GI_UNKNOWN;
}

static void rdma_port_read(struct gi_device *dev, const char *number)
{
	char dir[256];
	struct gi_port *port;

	dev->ports = gi_grow(dev->ports, dev->nports, sizeof(*dev->ports));
	port = &dev->ports[dev->nports++];
	port->number = atoi(number);
	snprintf(dir, sizeof(dir), RDMA_SYS "/%s/ports/%s", dev->name, number);
	gi_read(port->link_layer, sizeof(port->link_layer), "%s/link_layer", dir);
	port->ethernet = strcmp(port->link_layer, "Ethernet") == 0;
	rdma_after_colon(port->state, sizeof(port->state), dir, "state");
	rdma_after_colon(port->physical, sizeof(port->physical), dir, "phys_state");
	gi_read(port->rate, sizeof(port->rate), "%s/rate", dir);
	port->lid = port->ethernet ? GI_UNKNOWN : gi_read_int("%s/lid", dir);
	port->sm_lid = port->ethernet ? GI_UNKNOWN : gi_read_int("%s/sm_lid", dir);
	rdma_gids_read(port, dir);
	if (port->ethernet && !port->netdev[0])
		gi_read(port->netdev, sizeof(port->netdev), RDMA_SYS "/%s/parent", dev->name);
	port->max_mtu = GI_UNKNOWN;
	port->active_mtu = port->ethernet ? rdma_roce_mtu(port->netdev) : GI_UNKNOWN;
}

/* The character device of libibverbs: uverbs0 for mlx5_0. */
static void rdma_uverbs_read(struct gi_device *dev)
{
	char **names, ibdev[64];
	size_t n = gi_names(&names, "/sys/class/infiniband_verbs"), i;

	for (i = 0; i < n; i++) {
		gi_read(ibdev, sizeof(ibdev), "/sys/class/infiniband_verbs/%s/ibdev", names[i]);
		if (strcmp(ibdev, dev->name) == 0)
			snprintf(dev->uverbs, sizeof(dev->uverbs), "%s", names[i]);
	}
	gi_names_free(names, n);
	if (!dev->uverbs[0])
		return;
	dev->node = access(gi_path("/dev/infiniband/%s", dev->uverbs), F_OK) == 0;
	dev->opens = access(gi_path("/dev/infiniband/%s", dev->uverbs), R_OK | W_OK) == 0;
}

static void rdma_device_read(struct gi_device *dev)
{
	char **names, text[64], dir[128];
	size_t n, i;

	snprintf(dir, sizeof(dir), RDMA_SYS "/%s", dev->name);
	rdma_after_colon(dev->type, sizeof(dev->type), dir, "node_type");
	gi_read(dev->firmware, sizeof(dev->firmware), RDMA_SYS "/%s/fw_ver", dev->name);
	gi_read(dev->board, sizeof(dev->board), RDMA_SYS "/%s/board_id", dev->name);
	gi_read(dev->guid, sizeof(dev->guid), RDMA_SYS "/%s/node_guid", dev->name);
	dev->numa = gi_read_int(RDMA_SYS "/%s/device/numa_node", dev->name);
	if (!gi_link(dev->driver, sizeof(dev->driver), RDMA_SYS "/%s/device/driver", dev->name) &&
	    gi_read(text, sizeof(text), RDMA_SYS "/%s/parent", dev->name))
		snprintf(dev->driver, sizeof(dev->driver), "software");
	rdma_uverbs_read(dev);
	n = gi_names(&names, RDMA_SYS "/%s/ports", dev->name);
	for (i = 0; i < n; i++)
		rdma_port_read(dev, names[i]);
	gi_names_free(names, n);
}

void gi_rdma_read(struct gi_rdma *rdma)
{
	char **names;
	size_t i;

	rdma->n = gi_names(&names, RDMA_SYS);
	for (i = 0; i < rdma->n; i++) {
		rdma->devices = gi_grow(rdma->devices, i, sizeof(*rdma->devices));
		snprintf(rdma->devices[i].name, sizeof(rdma->devices[i].name), "%s", names[i]);
		rdma_device_read(&rdma->devices[i]);
	}
	gi_names_free(names, rdma->n);
	rdma->rdma_cm = access(gi_path("/dev/infiniband/rdma_cm"), R_OK | W_OK) == 0;
	rdma->library_devices = -1;
	gi_verbs_read(rdma);
}

void gi_rdma_free(struct gi_rdma *rdma)
{
	size_t i, p;

	for (i = 0; i < rdma->n; i++) {
		for (p = 0; p < rdma->devices[i].nports; p++)
			free(rdma->devices[i].ports[p].gids);
		free(rdma->devices[i].ports);
	}
	free(rdma->devices);
}

/* ---- showing ---- */

static void rdma_show_ports(const struct gi_rdma *rdma, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "device", "Port" },
		{ "port", "" },
		{ "link_layer", "Link" },
		{ "state", "State" },
		{ "physical", "Physical" },
		{ "rate", "Rate" },
		{ "active_mtu", "MTU" },
		{ "max_mtu", "Max MTU" },
		{ "lid", "LID" },
		{ "sm_lid", "SM LID" },
		{ "interface", "Interface" },
	};
	size_t i, p;

	gi_doc_table(doc, "ports", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; i < rdma->n; i++) {
		for (p = 0; p < rdma->devices[i].nports; p++) {
			const struct gi_port *port = &rdma->devices[i].ports[p];

			gi_doc_cell(doc, gi_str(rdma->devices[i].name));
			gi_doc_cell(doc, gi_int(port->number));
			gi_doc_cell(doc, gi_str(port->link_layer));
			gi_doc_cell(doc, gi_str(port->state));
			gi_doc_cell(doc, gi_str(port->physical));
			gi_doc_cell(doc, gi_str(port->rate));
			gi_doc_cell(doc, gi_int(port->active_mtu));
			gi_doc_cell(doc, gi_int(port->max_mtu));
			gi_doc_cell(doc, gi_int(port->lid));
			gi_doc_cell(doc, gi_int(port->sm_lid));
			gi_doc_cell(doc, gi_str(port->netdev));
		}
	}
}

static void rdma_show_gids(const struct gi_rdma *rdma, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "device", "GID" },
		{ "port", "" },
		{ "index", "Index" },
		{ "type", "Type" },
		{ "interface", "Interface" },
		{ "address", "Address" },
	};
	size_t i, p, g;

	gi_doc_table(doc, "gids", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; i < rdma->n; i++) {
		for (p = 0; p < rdma->devices[i].nports; p++) {
			const struct gi_port *port = &rdma->devices[i].ports[p];

			for (g = 0; g < port->ngids; g++) {
				gi_doc_cell(doc, gi_str(rdma->devices[i].name));
				gi_doc_cell(doc, gi_int(port->number));
				gi_doc_cell(doc, gi_int(port->gids[g].index));
				gi_doc_cell(doc, gi_str(port->gids[g].type));
				gi_doc_cell(doc, gi_str(port->gids[g].netdev));
				gi_doc_cell(doc, gi_str(port->gids[g].text));
			}
		}
	}
}

void gi_rdma_show(const struct gi_rdma *rdma, struct gi_doc *doc)
{
	static const struct gi_column columns[] = {
		{ "name", "Device" },
		{ "type", "Type" },
		{ "driver", "Driver" },
		{ "firmware", "Firmware" },
		{ "board", "Board" },
		{ "guid", "GUID" },
		{ "numa_node", "NUMA" },
		{ "file", "File" },
		{ "opens", "Opens" },
	};
	size_t i;

	gi_doc_section(doc, "rdma", "RDMA devices");
	if (!rdma->n)
		gi_doc_field(doc, "found", "Devices", gi_text("none in " RDMA_SYS));
	gi_doc_table(doc, "devices", columns, GY_ARRAY_SIZE(columns));
	for (i = 0; i < rdma->n; i++) {
		const struct gi_device *dev = &rdma->devices[i];

		gi_doc_cell(doc, gi_str(dev->name));
		gi_doc_cell(doc, gi_str(dev->type));
		gi_doc_cell(doc, gi_str(dev->driver));
		gi_doc_cell(doc, gi_str(dev->firmware));
		gi_doc_cell(doc, gi_str(dev->board));
		gi_doc_cell(doc, gi_str(dev->guid));
		gi_doc_cell(doc, gi_int(dev->numa));
		gi_doc_cell(doc, gi_str(dev->uverbs));
		gi_doc_cell(doc, gi_bool(dev->opens));
	}
	rdma_show_ports(rdma, doc);
	rdma_show_gids(rdma, doc);
}
