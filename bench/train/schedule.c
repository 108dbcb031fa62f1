/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/schedule.c - delay and period by rounds. */
#include <errno.h>
#include <stdlib.h>

#include "bench/train/schedule.h"

int schedule_add(struct schedule *s, const struct schedule_entry *entry)
{
	struct schedule_entry *more;

	if (!entry->round || !entry->period)
		return -EINVAL;
	while (s->count && s->entries[s->count - 1].round >= entry->round)
		s->count--;
	more = realloc(s->entries, (size_t)(s->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->entries = more;
	s->entries[s->count++] = *entry;
	return 0;
}

void schedule_fini(struct schedule *s)
{
	free(s->entries);
	*s = (struct schedule){ 0 };
}

const struct schedule_entry *schedule_after(const struct schedule *s, uint64_t round)
{
	int i;

	for (i = 0; i < s->count; i++)
		if (s->entries[i].round > round)
			return &s->entries[i];
	return NULL;
}
