/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap.c - pairing heap: push O(1), pop and remove O(log n) amortised.
 */
#include <stddef.h>

#include "transports/sim/heap.h"

static bool heap_before(const struct sim_event *a, const struct sim_event *b)
{
	if (a->at != b->at)
		return a->at < b->at;
	return a->tie != b->tie ? a->tie < b->tie : a->seq < b->seq;
}

/* Two roots, either may be NULL, become one. */
static struct sim_event *heap_meld(struct sim_event *a, struct sim_event *b)
{
	struct sim_event *swap;

	if (!a || !b)
		return a ? a : b;
	if (heap_before(b, a)) {
		swap = a;
		a = b;
		b = swap;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* The children of a root that goes: meld in pairs, then the pairs into one. */
static struct sim_event *heap_join(struct sim_event *first)
{
	struct sim_event *pairs = NULL, *root = NULL, *a, *b, *rest;

	for (; first; first = rest) {
		a = first;
		b = a->next;
		rest = b ? b->next : NULL;
		a->prev = a->next = NULL;
		if (b)
			b->prev = b->next = NULL;
		a = heap_meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	for (; pairs; pairs = rest) {
		rest = pairs->next;
		pairs->next = NULL;
		root = heap_meld(root, pairs);
	}
	return root;
}

void sim_heap_push(struct sim_heap *h, struct sim_event *ev)
{
	ev->child = ev->prev = ev->next = NULL;
	ev->queued = true;
	h->root = heap_meld(h->root, ev);
}

struct sim_event *sim_heap_pop(struct sim_heap *h)
{
	struct sim_event *ev = h->root;

	if (ev) {
		h->root = heap_join(ev->child);
		ev->queued = false;
	}
	return ev;
}

void sim_heap_remove(struct sim_heap *h, struct sim_event *ev)
{
	if (!ev->queued)
		return;
	if (ev == h->root) {
		sim_heap_pop(h);
		return;
	}
	if (ev->prev->child == ev)
		ev->prev->child = ev->next;
	else
		ev->prev->next = ev->next;
	if (ev->next)
		ev->next->prev = ev->prev;
	ev->queued = false;
	h->root = heap_meld(h->root, heap_join(ev->child));
}
