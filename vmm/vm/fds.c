/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors that were handed over: see fds.h for the contract. */
#include "vmm/vm/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/ptrs.h"

struct fds_entry {
	int fd;
	int64_t set; /* -1: it has a name */
	char *text;  /* the name; of a set's the remark, or NULL */
};

struct fds {
	struct fds_entry **entries; /* sets by number, and by age within a set; names anywhere */
	size_t nr_entries;
};

struct fds *fds_new(void)
{
	return calloc(1, sizeof(struct fds));
}

static void fds_entry_free(struct fds *fds, struct fds_entry *entry)
{
	ptrs_remove(&fds->entries, &fds->nr_entries, entry);
	close(entry->fd);
	free(entry->text);
	free(entry);
}

void fds_free(struct fds *fds)
{
	if (!fds)
		return;
	while (fds->nr_entries)
		fds_entry_free(fds, fds->entries[fds->nr_entries - 1]);
	free(fds->entries);
	free(fds);
}

/* Without a place among the others, and without a descriptor. */
static struct fds_entry *fds_entry_new(int64_t set, const char *text)
{
	struct fds_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->set = set;
	entry->text = text ? strdup(text) : NULL;
	if (!text || entry->text)
		return entry;
	free(entry);
	return NULL;
}

static int fds_insert(struct fds *fds, struct fds_entry *entry)
{
	size_t i = fds->nr_entries;

	if (ptrs_add(&fds->entries, &fds->nr_entries, entry))
		return -ENOMEM;
	for (; i && fds->entries[i - 1]->set > entry->set; i--)
		fds->entries[i] = fds->entries[i - 1];
	fds->entries[i] = entry;
	return 0;
}

static int fds_check(const struct fds *fds, const char *what, int fd, const char *text,
		     struct err **err)
{
	if (text && strlen(text) > FDS_TEXT_MAX)
		return err_set(err, EINVAL, "%s: '%.32s...' is too long; allowed: %u bytes", what,
			       text, FDS_TEXT_MAX);
	if (fds->nr_entries == FDS_MAX)
		return err_set(err, EMFILE, "%s: there are too many descriptors; allowed: %u", what,
			       FDS_MAX);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, EBADF, "%s: the descriptor is not open", what);
	return 0;
}

/* Keeps or closes @fd. */
static int fds_add(struct fds *fds, const char *what, int fd, int64_t set, const char *text,
		   struct err **err)
{
	struct fds_entry *entry;
	int ret = fds_check(fds, what, fd, text, err);

	if (!ret) {
		entry = fds_entry_new(set, text);
		if (entry && !fds_insert(fds, entry)) {
			entry->fd = fd;
			return 0;
		}
		if (entry)
			free(entry->text);
		free(entry);
		ret = err_set(err, ENOMEM, "out of memory");
	}
	close(fd);
	return ret;
}

static int fds_duplicate(const char *what, int fd, int *ret_fd, struct err **err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_set(err, errno, "%s: the descriptor cannot be duplicated: %s", what,
			       strerror(errno));
	*ret_fd = copy;
	return 0;
}

/* ---- sets ---- */

/* Entries are in the order of their sets. */
static int64_t fds_free_set(const struct fds *fds)
{
	int64_t set = 0;

	for (size_t i = 0; i < fds->nr_entries && fds->entries[i]->set <= set; i++)
		if (fds->entries[i]->set == set)
			set++;
	return set;
}

int fds_set_add(struct fds *fds, const char *what, const int64_t *set, int fd, const char *opaque,
		int64_t *ret_set, struct err **err)
{
	int64_t number = set ? *set : fds_free_set(fds);
	int ret;

	if (number < 0) {
		close(fd);
		return err_set(err, EINVAL,
			       "%s: fdset-id=%" PRId64 " is not possible; allowed: 0 and more",
			       what, number);
	}
	ret = fds_add(fds, what, fd, number, opaque, err);
	if (!ret)
		*ret_set = number;
	return ret;
}

int fds_set_remove(struct fds *fds, const char *what, int64_t set, const int64_t *fd,
		   struct err **err)
{
	bool found = false;

	for (size_t i = fds->nr_entries; i-- > 0;) {
		struct fds_entry *entry = fds->entries[i];

		if (set < 0 || entry->set != set || (fd && entry->fd != *fd))
			continue;
		fds_entry_free(fds, entry);
		found = true;
	}
	if (found)
		return 0;
	if (fd)
		return err_set(err, ENOENT,
			       "%s: there is no descriptor %" PRId64 " in set %" PRId64, what, *fd,
			       set);
	return err_set(err, ENOENT, "%s: there is no set %" PRId64, what, set);
}

int fds_set_open(const struct fds *fds, const char *what, int64_t set, int *ret_fd,
		 struct err **err)
{
	for (size_t i = 0; i < fds->nr_entries; i++) {
		const struct fds_entry *entry = fds->entries[i];
		int flags;

		if (set < 0 || entry->set != set)
			continue;
		flags = fcntl(entry->fd, F_GETFL);
		if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
			continue;
		return fds_duplicate(what, entry->fd, ret_fd, err);
	}
	return err_set(err, ENOENT,
		       "%s: there is no descriptor that can be written to in set %" PRId64, what,
		       set);
}

/* A remark of the command line that is no UTF-8 is left out. */
static json_t *fds_entry_json(const struct fds_entry *entry)
{
	json_t *opaque = entry->text ? json_string(entry->text) : NULL;

	return json_pack("{s:i, s:o*}", "fd", entry->fd, "opaque", opaque);
}

json_t *fds_sets(const struct fds *fds)
{
	json_t *sets = json_array(), *members = NULL;
	int64_t set = -1;

	for (size_t i = 0; sets && i < fds->nr_entries; i++) {
		const struct fds_entry *entry = fds->entries[i];
		int bad = 0;

		if (entry->set < 0)
			continue;
		if (entry->set != set) {
			set = entry->set;
			members = json_array();
			bad = json_array_append_new(sets,
						    json_pack("{s:I, s:o}", "fdset-id",
							      (json_int_t)set, "fds", members));
		}
		if (bad || json_array_append_new(members, fds_entry_json(entry))) {
			json_decref(sets);
			sets = NULL;
		}
	}
	return sets;
}

/* ---- names ---- */

static struct fds_entry *fds_find(const struct fds *fds, const char *name)
{
	for (size_t i = 0; i < fds->nr_entries && fds->entries[i]->set < 0; i++)
		if (!strcmp(fds->entries[i]->text, name))
			return fds->entries[i];
	return NULL;
}

int fds_name(struct fds *fds, const char *what, const char *name, int fd, struct err **err)
{
	struct fds_entry *entry = fds_find(fds, name);

	if (!*name || (*name >= '0' && *name <= '9')) {
		close(fd);
		return err_set(err, EINVAL,
			       "%s: fdname=%.32s is not possible; allowed: a name that does not "
			       "start with a digit",
			       what, name);
	}
	if (!entry)
		return fds_add(fds, what, fd, -1, name, err);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, EBADF, "%s: the descriptor is not open", what);
	close(entry->fd);
	entry->fd = fd;
	return 0;
}

static struct fds_entry *fds_get(const struct fds *fds, const char *what, const char *name,
				 struct err **err)
{
	struct fds_entry *entry = fds_find(fds, name);

	if (!entry)
		err_set(err, ENOENT, "%s: there is no descriptor of the name %.64s", what, name);
	return entry;
}

int fds_open(const struct fds *fds, const char *what, const char *name, int *ret_fd,
	     struct err **err)
{
	const struct fds_entry *entry = fds_get(fds, what, name, err);

	return entry ? fds_duplicate(what, entry->fd, ret_fd, err) : -ENOENT;
}

int fds_take(struct fds *fds, const char *what, const char *name, int *ret_fd, struct err **err)
{
	struct fds_entry *entry = fds_get(fds, what, name, err);

	if (!entry)
		return -ENOENT;
	*ret_fd = entry->fd;
	ptrs_remove(&fds->entries, &fds->nr_entries, entry);
	free(entry->text);
	free(entry);
	return 0;
}
