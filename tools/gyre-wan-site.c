/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gyre-wan-site.c - a network namespace per site, with one TUN device and a default route to it.
 *
 * Namespaces and devices have no names outside: they live as long as the fds that gyre-wan holds
 * and the processes inside, so nothing stays when it is killed.  Others enter a site through
 * /proc/WAN_PID/fd.
 */
#define _GNU_SOURCE
#include "tools/gyre-wan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SITE_TX_QUEUE 10000 /* packets: dropped there, they would be missing in no counter */

/* A connection fills a path of 64 MiB; the usual 6 MiB are 230 Mbit/s from London to Tokyo. */
#define SITE_TCP_BUFFERS "4096 131072 67108864"

static void site_die(const char *what)
{
	const int err = errno;

	if (err == EPERM || err == EACCES) {
		fprintf(stderr,
			"gyre-wan: %s: %s; this needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN)\n", what,
			strerror(err));
		exit(GW_EXIT_SKIP);
	}
	if (strcmp(what, "/dev/net/tun") == 0 && (err == ENOENT || err == ENODEV)) {
		fprintf(stderr, "gyre-wan: %s: %s; this needs TUN devices\n", what, strerror(err));
		exit(GW_EXIT_SKIP);
	}
	tool_die("%s: %s", what, strerror(err));
}

static void site_sysctl(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fprintf(stderr, "gyre-wan: %s stays as it is: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static int site_tun(void)
{
	struct ifreq ifr = { .ifr_name = "wan0", .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		site_die("/dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		site_die("TUNSETIFF");
	return fd;
}

static void site_ioctl(int sock, unsigned long request, void *arg, const char *what)
{
	if (ioctl(sock, request, arg) < 0)
		site_die(what);
}

static void site_up(int sock, const char *device)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP | IFF_RUNNING };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", device);
	site_ioctl(sock, SIOCSIFFLAGS, &ifr, "SIOCSIFFLAGS");
}

static void site_sockaddr(struct sockaddr *to, const char *addr)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	inet_pton(AF_INET, addr, &in.sin_addr);
	memcpy(to, &in, sizeof(in));
}

static void site_configure(const struct gw_net *net, const struct gw_site *site)
{
	static char device[] = "wan0";
	struct ifreq ifr = { .ifr_name = "wan0" };
	struct rtentry route = { .rt_flags = RTF_UP, .rt_dev = device };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0)
		site_die("socket");
	site_sockaddr(&ifr.ifr_addr, site->addr);
	site_ioctl(sock, SIOCSIFADDR, &ifr, "SIOCSIFADDR");
	site_sockaddr(&ifr.ifr_netmask, "255.255.0.0");
	site_ioctl(sock, SIOCSIFNETMASK, &ifr, "SIOCSIFNETMASK");
	ifr.ifr_mtu = net->mtu;
	site_ioctl(sock, SIOCSIFMTU, &ifr, "SIOCSIFMTU");
	ifr.ifr_qlen = SITE_TX_QUEUE;
	site_ioctl(sock, SIOCSIFTXQLEN, &ifr, "SIOCSIFTXQLEN");
	site_up(sock, "lo");
	site_up(sock, device);
	site_sockaddr(&route.rt_dst, "0.0.0.0");
	site_sockaddr(&route.rt_genmask, "0.0.0.0");
	site_sockaddr(&route.rt_gateway, "0.0.0.0");
	site_ioctl(sock, SIOCADDRT, &route, "SIOCADDRT");
	close(sock);
	site_sysctl("/proc/sys/net/ipv4/tcp_rmem", SITE_TCP_BUFFERS);
	site_sysctl("/proc/sys/net/ipv4/tcp_wmem", SITE_TCP_BUFFERS);
}

void gw_sites_make(struct gw_net *net)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (home < 0)
		site_die("/proc/self/ns/net");
	for (int i = 0; i < net->n; i++) {
		struct gw_site *site = &net->site[i];

		if (unshare(CLONE_NEWNET) < 0)
			site_die("a new network namespace");
		site->netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		if (site->netns < 0)
			site_die("/proc/self/ns/net");
		site->tun = site_tun();
		site_configure(net, site);
	}
	if (setns(home, CLONE_NEWNET) < 0)
		site_die("setns");
	close(home);
}

/* Sites by name, and by gethostname(3): what runs in two of them is on two hosts. */
static void site_names(const char *name)
{
	char path[] = "/tmp/gyre-wan.XXXXXX", sites[1024], *words = NULL;
	const char *all = getenv("WAN_SITES");
	FILE *f;
	int fd;

	if (unshare(CLONE_NEWUTS | CLONE_NEWNS) < 0 || sethostname(name, strlen(name)) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		site_die("a site's host name");
	fd = mkostemp(path, O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		site_die(path);
	fchmod(fd, 0644);
	fputs("127.0.0.1 localhost\n", f);
	snprintf(sites, sizeof(sites), "%s", all ? all : "");
	for (char *s = strtok_r(sites, " ", &words); s; s = strtok_r(NULL, " ", &words)) {
		char *addr = strchr(s, ':');

		if (addr) {
			*addr++ = '\0';
			fprintf(f, "%.*s %s\n", (int)strcspn(addr, ":"), addr, s);
		}
	}
	fclose(f);
	umount2("/etc/hosts", MNT_DETACH);	/* that of the site that this comes from, if any */
	if (mount(path, "/etc/hosts", NULL, MS_BIND, NULL) < 0)
		fprintf(stderr, "gyre-wan: /etc/hosts stays as it is: %s\n", strerror(errno));
	unlink(path);
}

void gw_site_enter(const struct gw_net *net, int site)
{
	char text[1024], number[16];
	size_t len = 0;

	for (int i = 0; i < net->n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s:%s:%d", i ? " " : "",
					net->site[i].name, net->site[i].addr, net->site[i].netns);
	snprintf(number, sizeof(number), "%d", (int)getppid());
	setenv("WAN_SITES", text, 1);
	setenv("WAN_PID", number, 1);
	gw_site_join(net->site[site].name);
}

void gw_site_join(const char *site)
{
	const char *all = getenv("WAN_SITES"), *pid = getenv("WAN_PID");
	char sites[1024], path[64], index[16], *words = NULL;
	int i = 0, fd;

	if (!all || !pid)
		tool_die("not below a running gyre-wan: WAN_SITES and WAN_PID are not set");
	snprintf(sites, sizeof(sites), "%s", all);
	for (char *s = strtok_r(sites, " ", &words); s; s = strtok_r(NULL, " ", &words), i++) {
		char *addr = strchr(s, ':'), *ns = addr ? strchr(addr + 1, ':') : NULL;

		if (!ns)
			tool_die("WAN_SITES is not as gyre-wan has set it");
		*addr++ = *ns++ = '\0';
		if (strcmp(s, site) != 0 && strcmp(addr, site) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, ns);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			site_die(path);
		close(fd);
		snprintf(index, sizeof(index), "%d", i);
		setenv("WAN_SITE", s, 1);
		setenv("WAN_ADDR", addr, 1);
		setenv("WAN_INDEX", index, 1);
		site_names(s);
		return;
	}
	tool_die("there is no site '%s'", site);
}
