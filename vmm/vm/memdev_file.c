/* SPDX-License-Identifier: BSD-3-Clause */
/* The files behind memory backends: see memdev.h for which and when. */
#include "vmm/vm/memdev_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
#define FILE_MODE 0600
/* stat's unit */
#define STAT_BLOCK_BYTES 512

static int memdev_file_failed(const struct memdev *m, const char *verb, int code, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];

	return err_set(err, code, "%s: mem-path=%s cannot be %s: %s", memdev_what(m, what),
		       m->config->mem_path, verb, strerror(code));
}

/* ---- memfd ---- */

static int memdev_memfd_create(const struct memdev *m)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (m->config->hugetlb)
		flags |= MFD_HUGETLB |
			 ((unsigned int)__builtin_ctzll(m->page_bytes) << MFD_HUGE_SHIFT);
	fd = memfd_create(m->id, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(m->id, flags);
	return fd < 0 ? -errno : fd;
}

static int memdev_open_memfd(struct memdev *m, bool seal, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];
	int ret = memdev_memfd_create(m);

	if (ret >= 0) {
		m->fd = ret;
		ret = ftruncate(m->fd, (off_t)m->size) < 0 ? -errno : 0;
	}
	if (!ret && seal &&
	    fcntl(m->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		ret = -errno;
	if (ret < 0)
		return err_set(err, -ret,
			       "%s: the host cannot make a file of %" PRIu64 " bytes: %s",
			       memdev_what(m, what), m->size, strerror(-ret));
	return 0;
}

/* ---- a file without a name ---- */

static int memdev_make_unnamed(const char *folder)
{
	char *path;
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, FILE_MODE);

	/* Not all file systems can; those that do not know O_TMPFILE take it for O_DIRECTORY. */
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	if (asprintf(&path, "%s/ebb-memory-XXXXXX", folder) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	else
		unlink(path);
	free(path);
	return fd;
}

static int memdev_open_unnamed(struct memdev *m, const char *folder, struct err **err)
{
	int ret = memdev_make_unnamed(folder);

	if (ret >= 0) {
		m->fd = ret;
		ret = ftruncate(m->fd, (off_t)m->size) < 0 ? -errno : 0;
	}
	if (ret < 0)
		return memdev_file_failed(m, "used as a place for a file without a name", -ret,
					  err);
	return 0;
}

static int memdev_open_unnamed_beside(struct memdev *m, struct err **err)
{
	char *copy = strdup(m->config->mem_path);
	int ret;

	if (!copy)
		return err_set(err, ENOMEM, "out of memory");
	ret = memdev_open_unnamed(m, dirname(copy), err);
	free(copy);
	return ret;
}

/* ---- a file with a name ---- */

/* Is anything but zeros in the part of @fd that the memory would be? 0, 1 or -errno. */
static int memdev_file_has_content(const struct memdev *m, int fd, const struct stat *st)
{
	uint64_t start = m->config->offset_bytes;
	off_t data;

	/* hugetlbfs takes all of a file for data, but counts its blocks right. */
	if (m->config->hugetlb)
		return st->st_blocks > 0;
	data = lseek(fd, (off_t)start, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	return (uint64_t)data < start + m->size;
}

/* share=off: the file is read and never changed. */
static int memdev_open_template(struct memdev *m, bool *ret_private, struct err **err)
{
	const struct vm_memdev_config *c = m->config;
	char what[MEMDEV_WHAT_MAX];
	struct stat st;
	int ret;

	m->fd = open(c->mem_path, O_RDONLY | O_CLOEXEC);
	if (m->fd < 0 && errno == ENOENT)
		return memdev_open_unnamed_beside(m, err);
	if (m->fd < 0 || fstat(m->fd, &st) < 0)
		return memdev_file_failed(m, "opened", errno, err);
	ret = memdev_file_has_content(m, m->fd, &st);
	if (ret < 0)
		return memdev_file_failed(m, "read", -ret, err);
	if (!ret) {
		close(m->fd);
		m->fd = -1;
		return memdev_open_unnamed_beside(m, err);
	}
	if (memdev_is_device(m))
		return err_set(err, EEXIST,
			       "%s: mem-path=%s has content, which a memory device cannot start "
			       "with; allowed: share=on, which drops it, or a file without",
			       memdev_what(m, what), c->mem_path);
	if ((uint64_t)st.st_size < c->offset_bytes + m->size)
		return err_set(err, EINVAL,
			       "%s: mem-path=%s has content, but %" PRIu64
			       " bytes only; with share=off it needs to have offset and size "
			       "together, %" PRIu64,
			       memdev_what(m, what), c->mem_path, (uint64_t)st.st_size,
			       c->offset_bytes + m->size);
	*ret_private = true;
	return 0;
}

static int memdev_open_shared(struct memdev *m, struct err **err)
{
	const struct vm_memdev_config *c = m->config;
	struct stat st;

	m->fd = open(c->mem_path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
	if (m->fd < 0 || fstat(m->fd, &st) < 0)
		return memdev_file_failed(m, "opened", errno, err);
	if ((uint64_t)st.st_size < c->offset_bytes + m->size &&
	    ftruncate(m->fd, (off_t)(c->offset_bytes + m->size)) < 0)
		return memdev_file_failed(m, "made as large as offset and size", errno, err);
	return 0;
}

/*
 * Boot memory with reserve=on: room in the file system. On tmpfs that would be memory itself, so
 * there it is only looked whether it could be had; hugetlbfs sets pages aside when they are mapped.
 */
static int memdev_file_reserve(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], left_text[SIZE_TEXT_MAX], size_text[SIZE_TEXT_MAX];
	uint64_t left, has;
	struct statfs fs;
	struct stat st;

	if (fstatfs(m->fd, &fs) < 0 || fstat(m->fd, &st) < 0)
		return memdev_file_failed(m, "looked at", errno, err);
	if (fs.f_type == HUGETLBFS_MAGIC)
		return 0;
	if (fs.f_type != TMPFS_MAGIC) {
		if (!fallocate(m->fd, FALLOC_FL_KEEP_SIZE, (off_t)m->fd_offset, (off_t)m->size) ||
		    errno == EOPNOTSUPP)
			return 0;
		return memdev_file_failed(m, "given room on its disk", errno, err);
	}
	left = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	has = (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	if (!fs.f_blocks || has >= m->size || left >= m->size - has)
		return 0;
	return err_set(
		err, ENOSPC,
		"%s: the file system of mem-path=%s has %s left, but %s are needed; allowed: "
		"reserve=off, or remount it with a larger size=",
		memdev_what(m, what), m->config->mem_path, size_format(left, left_text),
		size_format(m->size - has, size_text));
}

static int memdev_open_file(struct memdev *m, bool *ret_private, struct err **err)
{
	const struct vm_memdev_config *c = m->config;
	char what[MEMDEV_WHAT_MAX];
	struct stat st;
	int ret;

	if (stat(c->mem_path, &st) < 0) {
		if (errno != ENOENT)
			return memdev_file_failed(m, "opened", errno, err);
		st.st_mode = S_IFREG;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(err, EINVAL, "%s: mem-path=%s is neither a file nor a folder",
			       memdev_what(m, what), c->mem_path);
	if (S_ISDIR(st.st_mode))
		ret = memdev_open_unnamed(m, c->mem_path, err);
	else if (c->share)
		ret = memdev_open_shared(m, err);
	else
		ret = memdev_open_template(m, ret_private, err);
	/* One without a name has nothing in front of the memory. */
	if (!ret && (*ret_private || (c->share && S_ISREG(st.st_mode))))
		m->fd_offset = c->offset_bytes;
	if (!ret && !*ret_private && c->reserve && !memdev_is_device(m))
		ret = memdev_file_reserve(m, err);
	return ret;
}

int memdev_open(struct memdev *m, bool *ret_private, struct err **err)
{
	const struct vm_memdev_config *c = m->config;

	*ret_private = false;
	if (c->type == VM_MEMDEV_FILE)
		return memdev_open_file(m, ret_private, err);
	if (!c->share && !c->hugetlb)
		return 0;
	return memdev_open_memfd(m, c->type == VM_MEMDEV_MEMFD && c->seal, err);
}
