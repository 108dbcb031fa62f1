/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-info-doctor-rdma.c - what keeps gyre from an RDMA device that the kernel has.
 */
#include <stdio.h>
#include <string.h>

#include <gyre/types.h>
#include "tools/gyre-info.h"

#define ROCE_BIG_MTU 4200	/* of the network device, for RDMA packets of 4096 bytes */

static void rdma_files(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_rdma *rdma = &info->rdma;
	size_t i;

	for (i = 0; i < rdma->n; i++) {
		const struct gi_device *dev = &rdma->devices[i];

		if (!dev->uverbs[0]) {
			gi_problem(found, "rdma",
				   "%s has no file in /dev/infiniband: the module "
				   "ib_uverbs is not loaded",
				   dev->name);
			gi_fix(found, "sudo modprobe ib_uverbs");
		} else if (!dev->node) {
			gi_problem(found, "rdma", "%s: /dev/infiniband/%s is missing", dev->name,
				   dev->uverbs);
			if (info->host.container)
				gi_fix(found, "%s run --device=/dev/infiniband/%s ...",
				       info->host.container, dev->uverbs);
			else
				gi_fix(found, "sudo udevadm trigger --subsystem-match="
					      "infiniband_verbs");
		} else if (!dev->opens) {
			gi_problem(found, "rdma", "%s: /dev/infiniband/%s cannot be opened",
				   dev->name, dev->uverbs);
			gi_fix(found, "sudo chmod 0666 /dev/infiniband/%s", dev->uverbs);
		}
	}
	if (rdma->library_devices == 0) {
		gi_problem(found, "rdma", "libibverbs has no driver for these devices");
		gi_fix(found, "sudo apt install ibverbs-providers");
	}
	if (!rdma->rdma_cm) {
		gi_problem(found, "rdma",
			   "/dev/infiniband/rdma_cm cannot be opened, which finds "
			   "routes to other hosts");
		if (info->host.container)
			gi_fix(found, "%s run --device=/dev/infiniband/rdma_cm ...",
			       info->host.container);
		else
			gi_fix(found, "sudo modprobe rdma_ucm && "
				      "sudo chmod 0666 /dev/infiniband/rdma_cm");
	}
}

/* Why a port does not work, and what would help. */
static void rdma_port_down(const struct gi_device *dev, const struct gi_port *port, bool counts,
			   struct gi_findings *found)
{
	const bool linked = strcmp(port->physical, "LinkUp") == 0;
	/* A dead cable on a second port may be meant; a link without a subnet manager is not. */
	const bool problem = counts || (linked && !port->ethernet);
	const char *state = port->state[0] ? port->state : "unknown";

	if (problem)
		gi_problem(found, "rdma", "port %s/%d is %s, its link %s%s", dev->name,
			   port->number, state, port->physical,
			   linked && !port->ethernet ? ": no subnet manager has set it up" : "");
	else
		gi_note(found, "rdma", "port %s/%d is %s, its link %s; others are active",
			dev->name, port->number, state, port->physical);
	if (port->ethernet && port->netdev[0])
		gi_fix(found, "sudo ip link set dev %s up", port->netdev);
	else if (port->ethernet)
		gi_fix(found, "rdma link show %s/%d", dev->name, port->number);
	else if (linked)
		gi_fix(found, "sudo systemctl start opensm  # on one host of the fabric");
	else if (strcmp(port->physical, "Disabled") == 0)
		gi_fix(found, "sudo ibportstate -C %s -P %d -D 0 %d enable", dev->name,
		       port->number, port->number);
	else
		gi_fix(found, "ibstat %s %d  # and the cable, or the switch", dev->name,
		       port->number);
}

static void rdma_old_roce(const struct gi_device *dev, const struct gi_port *port,
			  struct gi_findings *found)
{
	gi_problem(found, "rdma",
		   "port %s/%d has GIDs of RoCE v1 only, which no router passes and "
		   "gyre does not use",
		   dev->name, port->number);
	if (strncmp(dev->driver, "mlx4", 4) == 0)
		gi_fix(found, "echo 'options mlx4_core roce_mode=2' | "
			      "sudo tee /etc/modprobe.d/gyre-roce.conf && "
			      "sudo modprobe -r mlx4_ib mlx4_en mlx4_core && "
			      "sudo modprobe mlx4_core");
	else
		gi_fix(found, "sudo cma_roce_mode -d %s -p %d -m 2", dev->name, port->number);
}

static void rdma_roce_port(const struct gi_device *dev, const struct gi_port *port,
			   struct gi_findings *found)
{
	const char *netdev = port->netdev[0] ? port->netdev : "INTERFACE";
	bool second = false, usable = false;
	long long mtu;
	size_t i;

	for (i = 0; i < port->ngids; i++) {
		second |= strcmp(port->gids[i].type, "RoCE v2") == 0;
		usable |= gi_gid_is_roce2(&port->gids[i]);
	}
	if (!second && port->ngids) {
		rdma_old_roce(dev, port, found);
	} else if (!usable) {
		gi_problem(found, "rdma", "port %s/%d has no GID of an IP address: %s has none",
			   dev->name, port->number, netdev);
		gi_fix(found, "sudo ip address add ADDRESS/PREFIX dev %s", netdev);
	}
	mtu = gi_read_int("/sys/class/net/%s/mtu", netdev);
	if (mtu > 0 && mtu < ROCE_BIG_MTU && port->active_mtu < 4096) {
		gi_note(found, "rdma",
			"port %s/%d sends packets of %lld bytes; 4096 are faster, "
			"where the switches pass them",
			dev->name, port->number, port->active_mtu);
		gi_fix(found, "sudo ip link set dev %s mtu %d", netdev, ROCE_BIG_MTU);
	}
}

/* Each port by itself. */
static void rdma_ports(const struct gi_rdma *rdma, struct gi_findings *found)
{
	size_t i, p, active = 0;

	for (i = 0; i < rdma->n; i++)
		for (p = 0; p < rdma->devices[i].nports; p++)
			active += gi_port_active(&rdma->devices[i].ports[p]);
	for (i = 0; i < rdma->n; i++) {
		const struct gi_device *dev = &rdma->devices[i];

		if (strcmp(dev->type, "RNIC") == 0) {
			gi_note(found, "rdma", "%s speaks iWARP, which gyre does not use",
				dev->name);
			continue;
		}
		for (p = 0; p < dev->nports; p++) {
			if (!gi_port_active(&dev->ports[p]))
				rdma_port_down(dev, &dev->ports[p], !active, found);
			else if (dev->ports[p].ethernet)
				rdma_roce_port(dev, &dev->ports[p], found);
		}
	}
}

/* That verbs does not open, in the library's words, where nothing found before explains it. */
static void rdma_unexplained(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_settings *set = &info->settings;
	size_t i;

	for (i = 0; i < found->n; i++)
		if (found->list[i].problem && (!strcmp(found->list[i].area, "rdma") ||
					       !strcmp(found->list[i].area, "memlock")))
			return;
	for (i = 0; i < set->ntransports; i++) {
		const struct gi_transport *t = &set->transports[i];

		if (strcmp(t->name, "verbs") != 0 || !t->err)
			continue;
		gi_problem(found, "rdma", "the transport verbs does not open: %s",
			   t->why[0] ? t->why : gyre_strerror(t->err));
		if (set->cfg.verbs_device[0])
			gi_fix(found, "unset GYRE_VERBS_DEVICE");
	}
}

void gi_doctor_rdma(const struct gi_info *info, struct gi_findings *found)
{
	const struct gi_rdma *rdma = &info->rdma;

	if (!rdma->n)
		return;
	if (!rdma->library) {
		gi_problem(found, "rdma", "%s is there, but this gyre was built without verbs",
			   rdma->devices[0].name);
		gi_fix(found, "sudo apt install libibverbs-dev librdmacm-dev && "
			      "./configure --with-verbs && make && sudo make install");
	}
	rdma_files(info, found);
	rdma_ports(rdma, found);
	if (gi_root_is_here())
		rdma_unexplained(info, found);
}
