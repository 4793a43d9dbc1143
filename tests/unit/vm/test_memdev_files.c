/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory of files: memfds and their seals, pools of huge pages, files with and without a name. */
#include "tests/unit/vm/memdev_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_file(const char *path, const char *text, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

/* ---- memfd ---- */

static void check_memfd(const struct memdev *m, int seals)
{
	struct mapping mapping;
	struct stat st;
	char byte;

	assert_true(m->fd >= 0);
	assert_int_equal(m->fd_offset, 0);
	assert_int_equal(fcntl(m->fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(m->fd, F_GET_SEALS) & ~0x20 /* F_SEAL_EXEC */, seals);
	assert_int_equal(fstat(m->fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_blocks, 0);
	assert_true(mapping_find(m->memory, &mapping));
	assert_string_equal(mapping.perms, "rw-s");
	assert_string_equal(mapping.name, "/memfd:m0 (deleted)");
	*((volatile char *)m->memory + SIZE - 1) = 'x';
	assert_int_equal(pread(m->fd, &byte, 1, SIZE - 1), 1);
	assert_int_equal(byte, 'x');
}

static void test_memfd(void **state)
{
	const int sealed = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	struct vm_memdev_config config = config_of(VM_MEMDEV_MEMFD, VM_MEMDEV_BOOT);
	struct memdev m;

	(void)state;
	for (int user = VM_MEMDEV_BOOT; user <= VM_MEMDEV_DEVICE; user++) {
		config.user = user;
		map(&m, &config);
		check_memfd(&m, sealed);
		assert_int_equal(ftruncate(m.fd, SIZE / 2), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(
			fallocate(m.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
		assert_int_equal(*(char *)m.memory, 0);
		memdev_unmap(&m);
	}
	config.seal = false;
	map(&m, &config);
	check_memfd(&m, 0);
	memdev_unmap(&m);
	config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_BOOT);
	config.share = true;
	map(&m, &config);
	check_memfd(&m, 0);
	memdev_unmap(&m);
}

/* A file that nobody can see is private memory, which is faster. */
static void test_private_memfd(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_MEMFD, VM_MEMDEV_BOOT);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	config.share = false;
	map(&m, &config);
	assert_int_equal(m.fd, -1);
	assert_true(mapping_find(m.memory, &mapping));
	assert_string_equal(mapping.perms, "rw-p");
	assert_string_equal(mapping.name, "");
	memdev_unmap(&m);
}

/* ---- huge pages ---- */

#define POOLS "/sys/kernel/mm/hugepages/hugepages-2048kB"
#define POOL  POOLS "/nr_hugepages"

static long pool_number(const char *name)
{
	char path[128];
	long number = -1;
	FILE *in;

	snprintf(path, sizeof(path), POOLS "/%s", name);
	in = fopen(path, "re");
	if (in && fscanf(in, "%ld", &number) != 1)
		number = -1;
	if (in)
		fclose(in);
	return number;
}

static void pool_write(long pages)
{
	FILE *out = fopen(POOL, "we");

	if (!out)
		return;
	fprintf(out, "%ld", pages);
	fclose(out);
}

/* Pages that nobody has been promised. */
static long pool_free(void)
{
	return pool_number("free_hugepages") - pool_number("resv_hugepages");
}

/* Whatever a test does to the pool ends with it; *state is the number of pages before. */
static int pool_setup(void **state)
{
	*state = (void *)(intptr_t)pool_number("nr_hugepages");
	return 0;
}

static int pool_teardown(void **state)
{
	if ((intptr_t)*state >= 0)
		pool_write((intptr_t)*state);
	return 0;
}

static struct vm_memdev_config huge_of(enum vm_memdev_user user)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_MEMFD, user);

	config.hugetlb = true;
	config.page_bytes = 2 * MIB;
	return config;
}

static void test_pool(void **state)
{
	struct vm_memdev_config config = huge_of(VM_MEMDEV_BOOT), all = config;
	struct mapping mapping;
	struct memdev m, rest, others = {0};

	pool_write((intptr_t)*state + 6);
	if (pool_free() < 6)
		skip(); /* the pool of 2 MiB pages cannot be made larger by this user */
	all.size_bytes = (uint64_t)(pool_free() - 6) * 2 * MIB;
	if (all.size_bytes)
		map(&others, &all);
	for (int share = 0; share < 2; share++) {
		config.share = share;
		map(&m, &config);
		assert_true(m.fd >= 0);
		assert_true(mapping_find(m.memory, &mapping));
		assert_int_equal(mapping.page_bytes, 2 * MIB);
		assert_string_equal(mapping.perms, "rw-s");
		assert_int_equal(mapping.resident_bytes, 0);
		assert_int_equal(fcntl(m.fd, F_GET_SEALS) & F_SEAL_SHRINK, F_SEAL_SHRINK);
		/* 4 of 6 are set aside, though none is touched. */
		check_refused(&config, ENOMEM,
			      "-object memory-backend-memfd,id=m0: needs 4 huge pages of 2 MiB, "
			      "but the host has 2 that are free; it gets more by writing their "
			      "number to " POOL);
		config.size_bytes = 4 * MIB;
		map(&rest, &config);
		config.size_bytes = SIZE;
		memset(m.memory, 1, m.size);
		memset(rest.memory, 1, rest.size);
		memdev_unmap(&rest);
		memdev_unmap(&m);
	}
	config.prealloc = true;
	map(&m, &config);
	assert_true(mapping_find(m.memory, &mapping));
	assert_int_equal(mapping.resident_bytes, SIZE);
	memdev_unmap(&m);
	memdev_unmap(&others);
}

/* A device takes its pages when they are plugged; the pool may be empty until then. */
static void test_pool_device(void **state)
{
	struct vm_memdev_config config = huge_of(VM_MEMDEV_DEVICE);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	if (pool_number("nr_hugepages") < 0)
		skip(); /* no pool of 2 MiB pages */
	config.size_bytes = HUGE;
	map(&m, &config);
	assert_true(num_is_aligned((uintptr_t)m.memory, GIB));
	assert_true(mapping_find(m.memory, &mapping));
	assert_int_equal(mapping.page_bytes, 2 * MIB);
	assert_true(mapping_has_flag(m.memory, "nr"));
	memdev_unmap(&m);
}

static void test_no_pool(void **state)
{
	struct vm_memdev_config config = huge_of(VM_MEMDEV_DEVICE);

	(void)state;
	config.page_bytes = 8 * MIB;
	check_refused(&config, ENOENT,
		      "-object memory-backend-memfd,id=m0: the host has no huge pages of 8 MiB; "
		      "allowed: ");
}

/* ---- files ---- */

static void check_unnamed(const struct memdev *m)
{
	struct mapping mapping;
	struct stat st;

	assert_true(m->fd >= 0);
	assert_int_equal(m->fd_offset, 0);
	assert_int_equal(fstat(m->fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_size, m->size);
	assert_true(mapping_find(m->memory, &mapping));
	assert_string_equal(mapping.perms, "rw-s");
}

static void test_folder(void **state)
{
	struct vm_memdev_config config = file_of(".", VM_MEMDEV_BOOT);
	struct memdev m;

	(void)state;
	for (int i = 0; i < 4; i++) {
		config.share = i & 1;
		config.user = i & 2 ? VM_MEMDEV_BOOT : VM_MEMDEV_DEVICE;
		map(&m, &config);
		check_unnamed(&m);
		memdev_unmap(&m);
	}
	assert_int_equal(rmdir("."), -1);
	assert_int_equal(errno, EINVAL);
}

/* share=on: the file is made, or made larger, and has what is written. */
static void test_named(void **state)
{
	struct vm_memdev_config config = file_of("named", VM_MEMDEV_BOOT);
	struct memdev m;
	char text[8] = "";
	int fd;

	(void)state;
	config.share = true;
	map(&m, &config);
	assert_int_equal(stat_of("named").st_size, SIZE);
	strcpy(m.memory, "first");
	memdev_unmap(&m);
	config.offset_bytes = 4 * KIB;
	map(&m, &config);
	assert_int_equal(m.fd_offset, 4 * KIB);
	assert_int_equal(stat_of("named").st_size, SIZE + 4 * KIB);
	strcpy(m.memory, "second");
	memdev_unmap(&m);
	config.offset_bytes = 0;
	config.size_bytes = MIB;
	map(&m, &config);
	assert_string_equal(m.memory, "first");
	assert_string_equal((char *)m.memory + 4 * KIB, "second");
	memdev_unmap(&m);
	assert_int_equal(stat_of("named").st_size, SIZE + 4 * KIB);
	fd = open("named", O_RDONLY);
	assert_int_equal(pread(fd, text, sizeof(text), 4 * KIB), sizeof(text));
	assert_string_equal(text, "second");
	close(fd);
	unlink("named");
}

static void test_discard_data(void **state)
{
	struct vm_memdev_config config = file_of("named", VM_MEMDEV_BOOT);
	struct memdev m;

	(void)state;
	config.share = true;
	for (int discard = 0; discard < 2; discard++) {
		config.discard_data = discard;
		map(&m, &config);
		memset(m.memory, 1, m.size);
		memdev_unmap(&m);
		assert_int_equal(stat_of("named").st_size, SIZE);
		if (discard)
			assert_true(stat_of("named").st_blocks < 16);
		else
			assert_true(stat_of("named").st_blocks >= (blkcnt_t)(SIZE / 512));
	}
	unlink("named");
}

/* share=off: what is in the file is what boot memory starts with, and stays as it is. */
static void test_template(void **state)
{
	struct vm_memdev_config config = file_of("template", VM_MEMDEV_BOOT);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	write_file("template", "content", SIZE);
	map(&m, &config);
	assert_int_equal(m.fd, -1);
	assert_true(mapping_find(m.memory, &mapping));
	assert_string_equal(mapping.perms, "rw-p");
	assert_string_equal(m.memory, "content");
	strcpy(m.memory, "changed");
	memdev_unmap(&m);
	map(&m, &config);
	assert_string_equal(m.memory, "content");
	memdev_unmap(&m);

	config.offset_bytes = 4 * KIB;
	config.size_bytes = SIZE - 4 * KIB;
	map(&m, &config); /* only zeros there */
	check_unnamed(&m);
	memdev_unmap(&m);

	config.offset_bytes = 0;
	config.size_bytes = 2 * SIZE;
	check_refused(&config, EINVAL,
		      "mem-path=template has content, but 8388608 bytes only; with share=off it "
		      "needs to have offset and size together, 16777216");
	config.size_bytes = SIZE;
	config.user = VM_MEMDEV_DEVICE;
	check_refused(&config, EEXIST,
		      "-object memory-backend-file,id=m0: mem-path=template has content, which a "
		      "memory device cannot start with; allowed: share=on, which drops it, or a "
		      "file without");
	config.share = true;
	map(&m, &config);
	memdev_unmap(&m);
	assert_int_equal(stat_of("template").st_size, SIZE);
	unlink("template");
}

/* share=off and nothing in the file, or no file: another one, of the same file system. */
static void test_without_content(void **state)
{
	struct vm_memdev_config config = file_of("empty", VM_MEMDEV_DEVICE);
	struct memdev m;

	(void)state;
	map(&m, &config);
	check_unnamed(&m);
	assert_false(is_there("empty"));
	memdev_unmap(&m);
	write_file("empty", "", SIZE);
	for (int user = VM_MEMDEV_BOOT; user <= VM_MEMDEV_DEVICE; user++) {
		config.user = user;
		map(&m, &config);
		check_unnamed(&m);
		memset(m.memory, 1, m.size);
		assert_int_equal(stat_of("empty").st_blocks, 0);
		memdev_unmap(&m);
	}
	unlink("empty");
}

static void test_wrong_files(void **state)
{
	struct vm_memdev_config config = file_of("fifo", VM_MEMDEV_BOOT);

	(void)state;
	assert_int_equal(mkfifo("fifo", 0600), 0);
	check_refused(&config, EINVAL,
		      "-object memory-backend-file,id=m0: mem-path=fifo is neither a file nor a "
		      "folder");
	unlink("fifo");
	config.mem_path = (char *)"no/such";
	config.share = true;
	check_refused(&config, ENOENT,
		      "-object memory-backend-file,id=m0: mem-path=no/such cannot be opened: No "
		      "such file or directory");
	config.share = false;
	check_refused(&config, ENOENT,
		      "mem-path=no/such cannot be used as a place for a file without a name: ");
}

/* A tmpfs of its own, with a limit. */
static void test_tmpfs_limit(void **state)
{
	struct vm_memdev_config config = file_of("mount", VM_MEMDEV_BOOT);
	struct memdev m;

	(void)state;
	assert_int_equal(mkdir("mount", 0700), 0);
	if (mount("ebb-test", "mount", "tmpfs", 0, "size=4M") < 0) {
		rmdir("mount");
		skip(); /* this user cannot mount a tmpfs */
	}
	check_refused(&config, ENOSPC,
		      "-object memory-backend-file,id=m0: the file system of mem-path=mount has 4 "
		      "MiB left, but 8 MiB are needed; allowed: reserve=off, or remount it with a "
		      "larger size=");
	config.reserve = false;
	map(&m, &config);
	memdev_unmap(&m);
	config.reserve = true;
	config.user = VM_MEMDEV_DEVICE;
	map(&m, &config);
	memdev_unmap(&m);
	config.user = VM_MEMDEV_BOOT;
	config.size_bytes = 4 * MIB;
	config.prealloc = true;
	map(&m, &config);
	memdev_unmap(&m);
	config.size_bytes = SIZE;
	config.reserve = false;
	check_refused(&config, ENOMEM, "the host cannot preallocate its 8388608 bytes: ");
	assert_int_equal(umount("mount"), 0);
	rmdir("mount");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memfd),
		cmocka_unit_test(test_private_memfd),
		cmocka_unit_test_setup_teardown(test_pool, pool_setup, pool_teardown),
		cmocka_unit_test(test_pool_device),
		cmocka_unit_test(test_no_pool),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_named),
		cmocka_unit_test(test_discard_data),
		cmocka_unit_test(test_template),
		cmocka_unit_test(test_without_content),
		cmocka_unit_test(test_wrong_files),
		cmocka_unit_test(test_tmpfs_limit),
	};

	return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
