/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_LIST_H
#define GY_LIST_H
/*
 * Intrusive doubly linked list.  struct gy_list is both the head and the link in a member; a link
 * that is in no list points to itself, so gy_list_empty(&x->link) says whether x is in one, and
 * deleting twice is harmless.  No locking.
 *
 *	gy_list_for_each_safe(pos, next, &peer->sends) {
 *		struct send *s = gy_list_entry(pos, struct send, link);
 */
#include <stdbool.h>
#include "lib/util.h"

struct gy_list {
	struct gy_list *prev, *next;
};

static inline void gy_list_init(struct gy_list *l)
{
	l->prev = l;
	l->next = l;
}

static inline bool gy_list_empty(const struct gy_list *l)
{
	return l->next == l;
}

static inline void gy_list_insert(struct gy_list *link, struct gy_list *prev, struct gy_list *next)
{
	link->prev = prev;
	link->next = next;
	prev->next = link;
	next->prev = link;
}

/* link must be in no list. */
static inline void gy_list_add_tail(struct gy_list *head, struct gy_list *link)
{
	gy_list_insert(link, head->prev, head);
}

static inline void gy_list_add_head(struct gy_list *head, struct gy_list *link)
{
	gy_list_insert(link, head, head->next);
}

static inline void gy_list_del(struct gy_list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	gy_list_init(link);
}

/* The first link, or NULL. */
static inline struct gy_list *gy_list_first(const struct gy_list *head)
{
	return gy_list_empty(head) ? NULL : head->next;
}

/* Takes the first link out and returns it, or NULL. */
static inline struct gy_list *gy_list_pop(struct gy_list *head)
{
	struct gy_list *link = gy_list_first(head);

	if (link)
		gy_list_del(link);
	return link;
}

#define gy_list_entry(ptr, type, member) gy_container_of(ptr, type, member)

#define gy_list_for_each(pos, head) \
	for ((pos) = (head)->next; (pos) != (head); (pos) = (pos)->next)

/* The body may delete or free pos. */
#define gy_list_for_each_safe(pos, after, head) \
	for ((pos) = (head)->next, (after) = (pos)->next; (pos) != (head); \
	     (pos) = (after), (after) = (pos)->next)

#endif
