/* SPDX-License-Identifier: BSD-3-Clause */
/* The machines that top looks at: see top_list.h for the contract. */
#include "ebbctl/top_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/ptrs.h"
#include "ebbctl/top_model.h"

struct top_list {
	const struct top_link_ops *ops;
	void *opaque;
	char *const *names;
	size_t nr_names;
	bool *is_folder; /* of each name */
	struct top_link **links;
	bool *found; /* of each link: it lies in a folder */
	size_t nr;
	uint64_t read_ms; /* when folders were read last */
	bool has_folders;
	struct top_machine **machines; /* shown */
	struct top_link **shown;
};

static int top_list_add(struct top_list *list, const char *where, bool found, struct err **err)
{
	const char *slash = strrchr(where, '/');
	bool *grown = reallocarray(list->found, list->nr + 1, sizeof(*grown));
	struct top_link *link;
	int ret;

	if (!grown)
		return err_set(err, ENOMEM, "out of memory");
	list->found = grown;
	ret = top_link_new(where, slash ? slash + 1 : where, found, list->ops, list->opaque, &link,
			   err);
	if (ret)
		return ret;
	list->found[list->nr] = found;
	if (!ptrs_add(&list->links, &list->nr, link))
		return 0;
	top_link_free(link);
	return err_set(err, ENOMEM, "out of memory");
}

static bool top_list_has(const struct top_list *list, const char *where)
{
	for (size_t i = 0; i < list->nr; i++)
		if (!strcmp(top_link_where(list->links[i]), where))
			return true;
	return false;
}

static bool top_is_socket(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISSOCK(st.st_mode);
}

/* Add the sockets of a folder that are not there yet. Those that cannot be added are left out. */
static int top_list_read(struct top_list *list, const char *folder, struct err **err)
{
	struct dirent **entries;
	int nr = scandir(folder, &entries, NULL, alphasort);

	if (nr < 0)
		return err_set(err, errno, "%s: the folder cannot be read: %s", folder,
			       strerror(errno));
	for (int i = 0; i < nr; i++) {
		char *where;

		if (list->nr < TOP_LINKS_MAX &&
		    asprintf(&where, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/",
			     entries[i]->d_name) > 0) {
			if (top_is_socket(where) && !top_list_has(list, where))
				top_list_add(list, where, true, NULL);
			free(where);
		}
		free(entries[i]);
	}
	free(entries);
	return 0;
}

static void top_list_remove(struct top_list *list, size_t index)
{
	struct top_link *link = list->links[index];

	memmove(list->found + index, list->found + index + 1,
		(list->nr - index - 1) * sizeof(*list->found));
	ptrs_remove(&list->links, &list->nr, link);
	top_link_free(link);
}

int top_list_new(char *const *names, size_t nr, const struct top_link_ops *ops, void *opaque,
		 struct top_list **ret_list, struct err **err)
{
	struct top_list *list = calloc(1, sizeof(*list));
	struct stat st;
	int ret = 0;

	if (list)
		list->is_folder = calloc(nr + 1, sizeof(*list->is_folder));
	if (!list || !list->is_folder) {
		free(list);
		return err_set(err, ENOMEM, "out of memory");
	}
	list->ops = ops;
	list->opaque = opaque;
	list->names = names;
	list->nr_names = nr;
	for (size_t i = 0; !ret && i < nr; i++) {
		list->is_folder[i] = !stat(names[i], &st) && S_ISDIR(st.st_mode);
		list->has_folders = list->has_folders || list->is_folder[i];
		if (list->is_folder[i])
			ret = top_list_read(list, names[i], err);
		else if (list->nr == TOP_LINKS_MAX)
			ret = err_set(err, E2BIG, "at most %d sockets are allowed", TOP_LINKS_MAX);
		else if (!top_list_has(list, names[i]))
			ret = top_list_add(list, names[i], false, err);
	}
	if (ret) {
		top_list_free(list);
		return ret;
	}
	*ret_list = list;
	return 0;
}

void top_list_free(struct top_list *list)
{
	if (!list)
		return;
	while (list->nr)
		top_list_remove(list, list->nr - 1);
	free(list->links);
	free(list->found);
	free(list->is_folder);
	free(list->machines);
	free(list->shown);
	free(list);
}

void top_list_tick(struct top_list *list, uint64_t now_ms)
{
	if (list->has_folders && now_ms - list->read_ms >= TOP_RETRY_MS) {
		list->read_ms = now_ms;
		for (size_t i = list->nr; i-- > 0;)
			if (list->found[i] && top_link_is_down(list->links[i]) &&
			    !top_is_socket(top_link_where(list->links[i])))
				top_list_remove(list, i);
		for (size_t i = 0; i < list->nr_names; i++)
			if (list->is_folder[i])
				top_list_read(list, list->names[i], NULL);
	}
	for (size_t i = 0; i < list->nr; i++)
		top_link_tick(list->links[i], now_ms);
}

size_t top_list_nr(const struct top_list *list)
{
	return list->nr;
}

struct top_link *top_list_link(const struct top_list *list, size_t index)
{
	return list->links[index];
}

size_t top_list_shown(struct top_list *list, struct top_machine *const **ret_machines,
		      struct top_link *const **ret_links)
{
	size_t nr = 0;

	free(list->machines);
	free(list->shown);
	list->machines = calloc(list->nr + 1, sizeof(struct top_machine *));
	list->shown = calloc(list->nr + 1, sizeof(struct top_link *));
	for (size_t i = 0; list->machines && list->shown && i < list->nr; i++) {
		if (list->found[i] && !top_link_was_ready(list->links[i]))
			continue;
		list->machines[nr] = top_link_machine(list->links[i]);
		list->shown[nr++] = list->links[i];
	}
	*ret_machines = list->machines;
	*ret_links = list->shown;
	return nr;
}

bool top_list_has_folders(const struct top_list *list)
{
	return list->has_folders;
}

bool top_list_is_ready(const struct top_list *list)
{
	for (size_t i = 0; i < list->nr; i++)
		if (top_link_was_ready(list->links[i]))
			return true;
	return false;
}

bool top_list_is_idle(const struct top_list *list)
{
	for (size_t i = 0; i < list->nr; i++)
		if (!top_link_is_idle(list->links[i]))
			return false;
	return true;
}

bool top_list_is_down(const struct top_list *list)
{
	for (size_t i = 0; i < list->nr; i++)
		if (!top_link_is_down(list->links[i]))
			return false;
	return !list->has_folders;
}
