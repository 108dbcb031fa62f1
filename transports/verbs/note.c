/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * note.c - messages of fixed length on the control connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/alloc.h"
#include "lib/net.h"
#include "transports/verbs/verbs.h"

#define NOTE_VERSION 2
#define NOTES_MAX (1u << 20)	/* bytes that wait for a peer which does not read */

static void note_want_out(struct verbs_ep *ve, bool want)
{
	if (ve->want_out == want || ve->sock.fd < 0)
		return;
	ve->want_out = want;
	gy_poll_mod(&ve->base.nic->ctx->poll, &ve->sock, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Room for one more; what a peer that does not read is to be told has a limit. */
static int note_room(struct verbs_ep *ve)
{
	const size_t size = 2 * ve->notes_size;
	char *notes;

	if (ve->notes_len + sizeof(struct verbs_note) <= ve->notes_size)
		return 0;
	if (size > NOTES_MAX)
		return -ENOBUFS;
	notes = gy_realloc_array(ve->notes, size, 1);
	if (!notes)
		return -ENOMEM;
	ve->notes = notes;
	ve->notes_size = size;
	return 0;
}

/* What does not go now is kept; that the connection is broken is seen on the reading side. */
void verbs_note_send(struct verbs_ep *ve, struct verbs_note *note)
{
	int err;

	if (ve->sock.fd < 0)
		return;
	err = note_room(ve);
	if (err) {
		verbs_doom(ve, err,
			   err == -ENOMEM ? "there is no memory for what it is to be told"
					  : "it does not read its control connection");
		return;
	}
	note->version = NOTE_VERSION;
	memcpy(ve->notes + ve->notes_len, note, sizeof(*note));
	ve->notes_len += sizeof(*note);
	verbs_note_flush(ve);
}

void verbs_note_flush(struct verbs_ep *ve)
{
	ssize_t n;

	if (ve->sock.fd < 0)
		return;
	n = send(ve->sock.fd, ve->notes, ve->notes_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0) {
		ve->notes_len -= (size_t)n;
		memmove(ve->notes, ve->notes + n, ve->notes_len);
	}
	note_want_out(ve, ve->notes_len > 0 && (n >= 0 || errno == EAGAIN || errno == EINTR));
}

static void note_act(struct verbs_ep *ve, const struct verbs_note *note)
{
	if (note->version != NOTE_VERSION)
		verbs_doom(ve, -EPROTO, "its control connection speaks another version");
	else if (ve->state == VERBS_MEETING && note->kind <= VERBS_UNFIT)
		verbs_meet_note(ve, note);
	else if (ve->state == VERBS_UP && (note->kind == VERBS_READY ||
					   note->kind == VERBS_REVOKE || note->kind == VERBS_RESET))
		verbs_reset_note(ve, note);
	else if (note->kind != VERBS_PINGED || ve->state != VERBS_UP)
		verbs_doom(ve, -EPROTO, "it says on its control connection what makes no sense");
}

void verbs_note_recv(struct verbs_ep *ve)
{
	struct verbs_note note;
	int r;

	verbs_enter(ve);
	while (ve->sock.fd >= 0 && !ve->closed && !ve->doom) {
		r = gy_net_read(ve->sock.fd, &ve->in, sizeof(ve->in), &ve->in_got);
		if (r < 0)
			verbs_doom(ve, r,
				   r == -ETIMEDOUT || r == -EHOSTUNREACH
					   ? "its host vanished"
					   : "its process ended or closed the connection");
		if (r != 1)
			break;
		ve->in_got = 0;
		note = ve->in;
		note_act(ve, &note);
	}
	verbs_leave(ve);
}
