/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SHM_SHM_H
#define SHM_SHM_H
/*
 * Shared memory: the transport between ranks of one machine.
 *
 *   nic.c	one per context: open, reach, progress, sleeping
 *   ep.c	one per peer: small lane, life and death
 *   note.c	the control connection: notes and descriptors that go with them
 *   mem.c	memory: mem_alloc, lend, map, pull
 *   file.c	shared files: memfd or a nameless file in /dev/shm; mapping
 *   ring.h	the ring that a small lane is made of
 *
 * A pair is joined by a unix socket (lib/wire.h).  Each side makes the ring that it reads and
 * sends it, with its doorbell and the page that says whether it sleeps, over the socket:
 *
 *	HELLO	ring, page and doorbell as descriptors; where to find a number in my memory
 *	VERDICT	whether I can read your memory (process_vm_readv found the number)
 *
 * With the peer's VERDICT an endpoint is up.  Later the socket carries SEGMENT (memory that a lend
 * is about to name) and FREE, and its end is the peer's death: what the ring still holds is
 * delivered, then the endpoint is down.
 *
 * Memory per peer: 2 * (4 + 20) KiB of rings (4 KiB pages), one of them the peer's.
 * Locking: driver only (transport.h).  An endpoint that is closed is freed by the next progress:
 * it may have been closed inside an upcall, whose caller still looks at it.
 */
#include <sys/types.h>
#include "lib/context.h"
#include "lib/list.h"
#include "lib/poll.h"
#include "lib/transport.h"
#include "transports/shm/ring.h"

#define SHM_RING_BYTES (40 * 1024)	/* two of the longest messages; rounded up to pages */
#define SHM_STALE 64			/* address ranges kept after their memory has gone */
#define SHM_NOTE_FDS 3

/* What a rank shows to all its peers; they map it read-only. */
struct shm_page {
	/*
	 * Odd: asleep, or about to be, and new work should ring the doorbell, once for each value.
	 * Store-load pair: the sleeper stores it, then looks at rings; a peer publishes in a ring,
	 * then looks at it.  All four are sequentially consistent.  (A fence-free peer and a
	 * membarrier(2) of the sleeper save the peer some 8 ns and cost the sleeper 10 us.)
	 */
	_Alignas(GY_CACHELINE) _Atomic uint32_t sleep;
	_Alignas(GY_CACHELINE) struct gy_recalls recalls;
};

_Static_assert(sizeof(struct shm_page) <= 4096, "a page");

enum shm_note_kind { SHM_HELLO = 1, SHM_VERDICT, SHM_SEGMENT, SHM_FREE };

#define SHM_MAGIC 0x336d6873	/* "shm3": layout of notes, rings and pages */

/* What goes over the socket; always whole.  Same machine, so as it is in memory. */
struct shm_note {
	uint32_t magic;
	uint32_t kind;		/* enum shm_note_kind */
	uint64_t id;		/* SEGMENT, FREE */
	uint64_t len;		/* HELLO: bytes of the ring; SEGMENT: of the segment */
	uint64_t secret_addr;	/* HELLO: there is */
	uint64_t secret;	/* this number */
	uint64_t can_read;	/* VERDICT */
	uint64_t spare[2];
};

/* A note that the socket would not take yet. */
struct shm_queued {
	struct gy_list link;
	struct shm_note note;
	unsigned nfds;
	int fds[SHM_NOTE_FDS];	/* still their owners' */
};

/* Memory of ours that peers can map. */
struct shm_seg {
	uint64_t id;		/* never used again */
	char *base;
	size_t len;
	int fd;
	uint64_t *told;		/* bit by rank: has got the descriptor */
};

/* Memory of a peer, mapped. */
struct shm_map {
	uint64_t id;
	char *base;
	size_t len;
};

struct shm_range {
	void *base;
	size_t len;
};

/* A mapped ring file. */
struct shm_inbox {
	void *mem;
	size_t len;
	int fd;
};

/*
 * What two ranks must have in common: the running kernel, its name space of abstract sockets, the
 * size of pages and this version.
 */
struct shm_blob {
	uint32_t magic, page_bytes;
	char boot_id[40];
	uint64_t net_dev, net_ino;
};

struct shm_nic {
	struct gy_nic base;
	struct shm_blob blob;
	struct shm_page *page;
	struct shm_ep **up;	/* endpoints that are up */
	unsigned nup, up_size;	/* there is room for all endpoints: */
	unsigned neps;
	size_t page_bytes;	/* of the machine */
	size_t ring_bytes;
	int page_fd;
	uint64_t secret;	/* peers that can read it here can read all of our memory */
	struct gy_list dead;	/* closed, not yet freed */
	struct shm_seg *segs;	/* by address */
	unsigned nsegs, segs_size;
	uint64_t last_id;
	struct shm_range stale[SHM_STALE];
	unsigned stale_next;
	struct shm_line empty;	/* the ring of endpoints that are not up */
};

extern const struct gy_transport_ops gy_shm_ops;

enum shm_state { SHM_IDLE, SHM_DIALLING, SHM_MEETING, SHM_JUDGING, SHM_UP, SHM_DOWN };

struct shm_ep {
	struct gy_ep base;
	struct shm_rx rx;
	bool blocked;			/* owes a gy_ep_room */
	bool peer_reads;		/* the peer can read any memory of ours, */
	bool reads_peer;		/* and we its */
	struct shm_tx tx;
	const struct shm_page *peer_page;
	uint32_t rung;			/* value of peer_page->sleep that we have rung for */
	int bell;
	enum shm_state state;
	int broken;			/* found in an op; told by the socket's handler */
	pid_t pid;
	unsigned last_map;		/* where the last look-up ended */
	struct shm_map *maps;		/* by id */
	unsigned nmaps, maps_size;
	unsigned index;			/* in nic->up */
	struct gy_poll_fd sock;
	struct gy_list queue;		/* struct shm_queued; to be said before anything else */
	struct shm_note in;		/* note that is arriving */
	size_t in_have;
	unsigned in_nfds;
	int in_fds[SHM_NOTE_FDS];
	struct shm_inbox mine, theirs;	/* what we read, what we write */
	struct gy_list link;		/* nic->dead */
};

static inline struct shm_nic *to_shm_nic(struct gy_nic *nic)
{
	return gy_container_of(nic, struct shm_nic, base);
}

static inline struct shm_ep *to_shm_ep(struct gy_ep *ep)
{
	return gy_container_of(ep, struct shm_ep, base);
}

static inline struct shm_nic *shm_ep_nic(struct shm_ep *ep)
{
	return to_shm_nic(ep->base.nic);
}

/* ---- file.c ---- */

/* A shared file without a name, len bytes, none of them backed.  Also -ENOSPC. */
int shm_file_create(size_t len, int *fdp);
/* Backs it: -ENOSPC now and not SIGBUS later. */
int shm_file_back(int fd, size_t len);
/* Maps a peer's file, which must have the length that it says. */
int shm_file_map(int fd, size_t len, int prot, void **memp);
/* Makes and backs a ring's file, or takes a peer's (fd, which stays the caller's); maps it. */
int shm_inbox_create(const struct shm_nic *nic, struct shm_inbox *in);
int shm_inbox_map(const struct shm_nic *nic, int fd, struct shm_inbox *in);
void shm_inbox_fini(struct shm_inbox *in);

static inline struct shm_line *shm_inbox_lines(const struct shm_nic *nic,
					       const struct shm_inbox *in)
{
	return (struct shm_line *)((char *)in->mem + nic->page_bytes);
}

/* ---- ep.c ---- */

int shm_ep_open(struct gy_nic *nic, struct gy_peer *peer, struct gy_ep **epp);
int shm_ep_connect(struct gy_ep *ep);
int shm_ep_accepted(struct gy_ep *ep, unsigned lane, int fd);
void shm_ep_close(struct gy_ep *ep, bool drain);
int shm_ep_msg(struct gy_ep *ep, const struct gy_hdr *hdr, const void *body);
int shm_ep_poll(struct gy_ep *ep);
/* The peer has accepted us: both rings are there. */
void shm_ep_up(struct shm_ep *ep);
/*
 * Stops using it and says gy_ep_down.  The endpoint may be closed when this returns, but is not
 * freed.
 */
gy_cold void shm_ep_fail(struct shm_ep *ep, int err, const char *why);
/* For failures found where no upcall is expected: makes the socket's handler fail it, soon. */
gy_cold void shm_ep_break(struct shm_ep *ep, int err);
/* Whether gy_ep_room is due. */
bool shm_ep_has_room(struct shm_ep *ep);
void shm_ep_free(struct shm_ep *ep);

/* ---- note.c ---- */

/* The handler of the socket in the poll set. */
void shm_note_ready(struct gy_poll_fd *pfd, uint32_t events);
/*
 * Sends, or queues; then messages wait too.  fds stay the caller's, open until sent.  0 or
 * -ENOMEM.
 */
int shm_note_send(struct shm_ep *ep, struct shm_note *note, const int *fds, unsigned nfds);
int shm_note_hello(struct shm_ep *ep);
/* Takes in all notes that are there.  0, or -errno when the connection has ended or is not ours. */
int shm_note_read(struct shm_ep *ep);
/* Drops queued notes about a segment (0: all notes). */
void shm_note_forget(struct shm_ep *ep, uint64_t id);
void shm_note_close_fds(struct shm_ep *ep);

/* ---- mem.c ---- */

int shm_mem_alloc(struct gy_nic *nic, size_t len, void **ptrp);
int shm_mem_free(struct gy_nic *nic, void *ptr);
void shm_mem_fini(struct shm_nic *nic);
int shm_mem_lend(struct gy_ep *ep, const void *ptr, size_t len, struct gy_remote *remote);
int shm_mem_map(struct gy_ep *ep, const struct gy_remote *remote, size_t off, size_t len,
		const void **ptrp);
int shm_mem_pull(struct gy_ep *ep, const struct gy_remote *remote, size_t off, void *dst,
		 size_t len);
/* A peer's segment has come (fd stays the caller's), or has gone. */
int shm_mem_add(struct shm_ep *ep, uint64_t id, size_t len, int fd);
void shm_mem_gone(struct shm_ep *ep, uint64_t id);
void shm_mem_unmap_all(struct shm_ep *ep);
/* Whether process_vm_readv finds secret at addr in the peer. */
bool shm_mem_probe(struct shm_ep *ep, uint64_t addr, uint64_t secret);
#endif
