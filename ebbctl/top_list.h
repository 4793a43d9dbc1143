/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The machines that top looks at: those that were named, and those whose sockets lie in folders
 * that were, as they come and go.
 *
 * I1  A socket in a folder is shown once it turned out to be a monitor for programs, and forgotten
 *     when there is no such file any more. One that was named is always shown.
 *
 * Ownership: the list owns its links. Threads: one.
 */
#ifndef EBBCTL_TOP_LIST_H
#define EBBCTL_TOP_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ebbctl/top_link.h"

/* Sockets that are looked at, at most. */
#define TOP_LINKS_MAX 256

struct top_list;

/* Names are looked up and folders read; the sentence says what is wrong with the first bad one. */
int top_list_new(char *const *names, size_t nr, const struct top_link_ops *ops, void *opaque,
		 struct top_list **ret_list, struct err **err);
/* NULL is allowed. */
void top_list_free(struct top_list *list);

/* Folders are read again, connections made. Then what is shown may be others. */
void top_list_tick(struct top_list *list, uint64_t now_ms);

size_t top_list_nr(const struct top_list *list);
struct top_link *top_list_link(const struct top_list *list, size_t index);
/* Those that are shown (I1), for the view, and the links they belong to; until the next tick. */
size_t top_list_shown(struct top_list *list, struct top_machine *const **ret_machines,
		      struct top_link *const **ret_links);

bool top_list_has_folders(const struct top_list *list);
/* Some machine is there to be shown. */
bool top_list_is_ready(const struct top_list *list);
/* All that was asked has been answered. */
bool top_list_is_idle(const struct top_list *list);
/* Nothing is connected, and nothing can come by itself: there are no folders. */
bool top_list_is_down(const struct top_list *list);

#endif
