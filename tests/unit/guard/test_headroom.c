/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much memory there is: on hosts that are folders of the test's, with odd and hostile contents,
 * and in a real control group, whose limit is met without anybody being killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/headroom.h"
#include "guard/pages.h"

#define V1_UNLIMITED "9223372036854771712\n"

/* ---- a host in a folder ---- */

static char host[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void host_end(void)
{
	if (host[0])
		nftw(host, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	host[0] = '\0';
}

static void host_start(void)
{
	host_end();
	strcpy(host, "/tmp/headroom-XXXXXX");
	assert_non_null(mkdtemp(host));
}

/* Write a file of the host, with the folders above it. */
static void put_bytes(const char *path, const void *bytes, size_t size)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", host, path);
	for (char *slash = full + strlen(host) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, size, f), size);
	fclose(f);
}

static void put(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

static void put_number(const char *folder, const char *name, uint64_t number)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)number);
	put(path, text);
}

/* A host of 8 GiB, of which 6 are available, and 1 GiB of swap is free. */
static void host_start_memory(void)
{
	host_start();
	put("/proc/meminfo", "MemTotal:        8388608 kB\n"
			     "MemFree:         1048576 kB\n"
			     "MemAvailable:    6291456 kB\n"
			     "SwapTotal:       2097152 kB\n"
			     "SwapFree:        1048576 kB\n"
			     "HugePages_Total:       0\n");
}

static void host_start_v2(const char *group)
{
	char text[256];

	host_start_memory();
	snprintf(text, sizeof(text), "0::%s\n", group);
	put("/proc/self/cgroup", text);
	put("/proc/self/mountinfo",
	    "22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"
	    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static void host_start_v1(const char *group, const char *mount_root)
{
	char text[512];

	host_start_memory();
	snprintf(text, sizeof(text), "5:cpu,cpuacct:/other\n4:memory,rdma:%s\n0::/unified\n",
		 group);
	put("/proc/self/cgroup", text);
	snprintf(text, sizeof(text),
		 "29 22 0:25 / /sys/fs/cgroup/unified rw shared:8 - cgroup2 cgroup2 rw\n"
		 "31 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
		 "32 22 0:28 %s /sys/fs/cgroup/memory rw - cgroup cgroup rw,rdma,memory\n",
		 mount_root);
	put("/proc/self/mountinfo", text);
}

static void check(uint64_t bytes)
{
	assert_int_equal(headroom_bytes_below(host), bytes);
}

static void test_host_alone(void **state)
{
	(void)state;
	host_start();
	check(UINT64_MAX);
	host_start_memory();
	check(7 * GIB);
	put("/proc/meminfo", "MemTotal: 1 kB\nMemFree: 1 kB\nSwapFree: 5 kB\n");
	check(UINT64_MAX);
	put("/proc/meminfo", "MemAvailable: 0 kB\n");
	check(0);
	put("/proc/meminfo", "MemAvailable: 18446744073709551615 kB\nSwapFree: 1 kB\n");
	check(UINT64_MAX);
	/* The last line has no end. */
	put("/proc/meminfo", "MemAvailable:\t 12 kB\nSwapFree: 4");
	check(16 * KIB);
}

static void test_v2_smallest_of_all_levels(void **state)
{
	(void)state;
	host_start_v2("/a/b/c");
	check(7 * GIB);
	put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
	put_number("/sys/fs/cgroup/a/b/c", "memory.current", 100);
	put_number("/sys/fs/cgroup/a/b", "memory.max", 3 * GIB);
	put_number("/sys/fs/cgroup/a/b", "memory.current", GIB);
	check(2 * GIB);
	put_number("/sys/fs/cgroup/a", "memory.max", 4 * GIB);
	put_number("/sys/fs/cgroup/a", "memory.current", 3 * GIB);
	check(GIB);
	put("/sys/fs/cgroup/a/memory.stat",
	    "anon 5\nfile 1073741824\nactive_file 1073741824\ninactive_file 536870912\n");
	check(GIB + 512 * MIB);
	/* A group beside does not count. */
	put_number("/sys/fs/cgroup/a/b/d", "memory.max", 1);
	put_number("/sys/fs/cgroup/a/b/d", "memory.current", 1);
	check(GIB + 512 * MIB);
	put_number("/sys/fs/cgroup/a/b/c", "memory.max", 200);
	check(100);
	put_number("/sys/fs/cgroup/a/b/c", "memory.max", 50);
	check(0);
	/* The cache is no more than what is in use. */
	put_number("/sys/fs/cgroup/a/b/c", "memory.max", 200);
	put("/sys/fs/cgroup/a/b/c/memory.stat", "inactive_file 99999999\n");
	check(200);
}

static void test_v1_smallest_of_all_levels(void **state)
{
	(void)state;
	host_start_v1("/vm/one", "/");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED);
	put_number("/sys/fs/cgroup/memory", "memory.usage_in_bytes", 4 * GIB);
	check(7 * GIB);
	put_number("/sys/fs/cgroup/memory/vm/one", "memory.limit_in_bytes", 2 * GIB);
	put_number("/sys/fs/cgroup/memory/vm/one", "memory.usage_in_bytes", 512 * MIB);
	check(GIB + 512 * MIB);
	put("/sys/fs/cgroup/memory/vm/one/memory.stat",
	    "inactive_file 7\ntotal_cache 1\ntotal_inactive_file 268435456\n");
	check(GIB + 768 * MIB);
	put_number("/sys/fs/cgroup/memory", "memory.limit_in_bytes", 5 * GIB);
	check(GIB);
	/* Those of v2 say nothing of memory here. */
	put_number("/sys/fs/cgroup/unified/unified", "memory.max", 1);
	put_number("/sys/fs/cgroup/unified/unified", "memory.current", 1);
	check(GIB);
}

/* What a process in a namespace or a container sees of its group. */
static void test_paths(void **state)
{
	static const struct {
		const char *group, *mount_root, *folder;
	} cases[] = {
		{"/docker/abc", "/docker/abc", ""},
		{"/docker/abc/in/it", "/docker/abc", "/in/it"},
		{"/docker/abcdef", "/docker/abc", ""}, /* not below it */
		{"/", "/", ""},
		{"/", "/docker/abc", ""},
		{"/../../other", "/", ""},
		{"/gone (deleted)", "/", ""},
		{"/with space", "/", "/with space"},
		{"/with space/x", "/with\\040space", "/x"},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		char folder[128];

		host_start_v1(cases[i].group, cases[i].mount_root);
		put("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED);
		snprintf(folder, sizeof(folder), "/sys/fs/cgroup/memory%s", cases[i].folder);
		put_number(folder, "memory.limit_in_bytes", 1000 + i);
		put_number(folder, "memory.usage_in_bytes", 0);
		put_number("/sys/fs", "memory.limit_in_bytes", 1);
		put_number("/sys/fs", "memory.usage_in_bytes", 1);
		check(1000 + i);
	}
	/* Of two mounts the one that shows the group. */
	host_start_v2("/vm/one");
	put("/proc/self/mountinfo", "30 22 0:26 /other /mnt/x rw - cgroup2 cgroup2 rw\n"
				    "31 22 0:26 /vm /mnt\\040y rw - cgroup2 cgroup2 rw\n"
				    "32 22 0:26 / /mnt/z rw - cgroup2 cgroup2 rw\n");
	put_number("/mnt y/one", "memory.max", 30);
	put_number("/mnt y/one", "memory.current", 10);
	check(20);
}

/* The file that is dear to read is left alone where the rest says enough. */
static void test_until_enough(void **state)
{
	(void)state;
	host_start_v2("/a");
	put_number("/sys/fs/cgroup/a", "memory.max", 1000);
	put_number("/sys/fs/cgroup/a", "memory.current", 600);
	put("/sys/fs/cgroup/a/memory.stat", "inactive_file 100\n");
	assert_int_equal(headroom_bytes_until(host, 400), 400);
	assert_int_equal(headroom_bytes_until(host, 401), 500);
	check(500);
}

static void test_odd_contents(void **state)
{
	static const char *const limits[] = {"", "\n", "-1\n", "max\n", "abc\n", "0x10\n", " \n"};
	char line[3 * 8192];
	char path[512];

	(void)state;
	host_start_v2("/a");
	put_number("/sys/fs/cgroup/a", "memory.current", 5);
	for (unsigned int i = 0; i < ARRAY_SIZE(limits); i++) {
		put("/sys/fs/cgroup/a/memory.max", limits[i]);
		check(i == 5 ? 0 : 7 * GIB); /* "0x10" begins with a 0 */
	}
	put("/sys/fs/cgroup/a/memory.max", "99999999999999999999999999\n");
	check(7 * GIB);
	put_number("/sys/fs/cgroup/a", "memory.max", 50);
	check(45);
	put("/sys/fs/cgroup/a/memory.current", "99999999999999999999999999\n");
	check(0);
	/* Lines longer than anything, and none at all. */
	put_number("/sys/fs/cgroup/a", "memory.current", 5);
	memset(line, 'x', sizeof(line));
	put_bytes("/sys/fs/cgroup/a/memory.stat", line, sizeof(line));
	check(45);
	memcpy(line + 2 * 8192, "\ninactive_file 3\n", 17);
	put_bytes("/sys/fs/cgroup/a/memory.stat", line, sizeof(line));
	check(48);
	put_bytes("/proc/self/mountinfo", line, sizeof(line));
	check(7 * GIB);
	/* A path that is too long. */
	memset(line, '/', sizeof(line));
	memcpy(line, "0::/", 4);
	put_bytes("/proc/self/cgroup", line, sizeof(line));
	check(7 * GIB);
	/* Folders and pipes where files should be. */
	host_start_v2("/a");
	put("/sys/fs/cgroup/a/memory.max/x", "");
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/a/memory.current", host);
	assert_int_equal(mkfifo(path, 0600), 0);
	check(7 * GIB);
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/memory.max", host);
	assert_int_equal(mkfifo(path, 0600), 0);
	check(7 * GIB);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Whatever stands there, there is an answer. */
static void test_random_contents(void **state)
{
	static const char *const files[] = {"/proc/meminfo",
					    "/proc/self/cgroup",
					    "/proc/self/mountinfo",
					    "/sys/fs/cgroup/a/memory.max",
					    "/sys/fs/cgroup/a/memory.current",
					    "/sys/fs/cgroup/a/memory.stat"};
	static const char alphabet[] = "0123456789 :/\n\\-,max\0cgroup2memory";
	uint64_t seed = 0x2545f4914f6cdd1d;

	(void)state;
	for (unsigned int round = 0; round < 600; round++) {
		unsigned int damage = 1 + (unsigned int)(next_random(&seed) % 3);

		if (round % 32 == 0) {
			host_start_v2("/a");
			put_number("/sys/fs/cgroup/a", "memory.max", 50);
			put_number("/sys/fs/cgroup/a", "memory.current", 5);
		}
		while (damage--) {
			char text[300];
			size_t size = next_random(&seed) % sizeof(text);

			for (size_t i = 0; i < size; i++)
				text[i] = alphabet[next_random(&seed) % sizeof(alphabet)];
			put_bytes(files[next_random(&seed) % ARRAY_SIZE(files)], text, size);
		}
		assert_true(headroom_bytes_below(host) >= headroom_bytes_until(host, 0));
	}
	host_end();
}

/* ---- this machine ---- */

static void test_here(void **state)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_true(headroom_bytes() > MIB);
	assert_int_equal(headroom_check(0), 0);
	assert_int_equal(headroom_check(4096), 0);
	assert_int_equal(headroom_check(pages * 1024), -ENOMEM);
	assert_int_equal(headroom_check(UINT64_MAX), -ENOMEM);
	assert_int_equal(headroom_check(UINT64_MAX - 4096), -ENOMEM);
}

#define LIMIT (96 * MIB)

/*
 * Write to each page of memory. What a sanitizer would keep for each write counts against the limit
 * as well, and is many times as much.
 */
__attribute__((no_sanitize("thread"))) static void touch(char *memory, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += 4096)
		*(volatile char *)(memory + at) = 1;
}

/* The life of a guard in a group with a limit; 0, or the number of what was wrong. */
static int live_with_limit(void)
{
	struct pages_config c = {.size = 512 * MIB, .block_size = 2 * MIB, .segment_size = GIB};
	struct pages *pages;
	struct stat st;
	unsigned int n = 0;
	uint64_t bytes = headroom_bytes();
	char *memory;

	if (bytes > LIMIT || bytes < LIMIT / 2)
		return 1;
	c.fd = memfd_create("limited", MFD_CLOEXEC);
	if (c.fd < 0 || ftruncate(c.fd, (off_t)c.size) < 0)
		return 2;
	c.memory = mmap(NULL, c.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c.fd, 0);
	if (c.memory == MAP_FAILED || pages_file_new(&c, &pages, NULL))
		return 3;
	if (pages->ops->open(pages, 0, LIMIT + 2 * MIB) != -ENOMEM)
		return 4;
	if (fstat(c.fd, &st) < 0 || st.st_blocks)
		return 5;
	/* Block by block until the group is full; what is there can be used. */
	while (n < 256 && pages->ops->open(pages, n * c.block_size, c.block_size) == 0) {
		touch(c.memory + n * c.block_size, c.block_size);
		n++;
	}
	if (n * c.block_size >= LIMIT || n * c.block_size < LIMIT / 2)
		return 6;
	if (fstat(c.fd, &st) < 0 || (uint64_t)st.st_blocks * 512 != n * c.block_size)
		return 7;
	memory = mmap(NULL, c.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || pages_populate_run(memory, 32 * MIB, 2) != -ENOMEM)
		return 8;
	if (pages->ops->close(pages, 0, c.size) || pages->ops->discard(pages, 0, c.size))
		return 9;
	if (pages_populate_supported() && pages_populate_run(memory, 32 * MIB, 2))
		return 10;
	return 0;
}

/* This process's own group: where a group with a limit can be made below it; v1 or v2. */
static bool own_group(char *folder, size_t size, bool v1)
{
	FILE *f = fopen("/proc/self/cgroup", "r");
	char line[PATH_MAX], *path;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		path = strstr(line, v1 ? ":memory:" : "0::");
		if (!path)
			continue;
		path = strrchr(path, ':') + 1;
		snprintf(folder, size, "/sys/fs/cgroup%s%s/headroom-%d", v1 ? "/memory" : "", path,
			 (int)getpid());
		found = true;
	}
	if (f)
		fclose(f);
	return found && mkdir(folder, 0755) == 0;
}

static bool write_number(const char *folder, const char *name, uint64_t number)
{
	char path[2 * PATH_MAX];
	bool done;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r+");
	if (!f)
		return false;
	done = fprintf(f, "%llu\n", (unsigned long long)number) > 0;
	return fclose(f) == 0 && done;
}

/* How many processes of the group the kernel killed for its limit; -1 when it does not tell. */
static long killed(const char *folder, bool v1)
{
	char path[2 * PATH_MAX], line[128];
	long number = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, v1 ? "memory.oom_control" : "memory.events");
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "oom_kill %ld", &number);
	if (f)
		fclose(f);
	return number;
}

static void test_real_group(void **state)
{
	char folder[PATH_MAX + 64], byte = 0;
	int gate[2], status;
	bool v1 = true, limited;
	pid_t child;
	long dead;

	(void)state;
	if (!own_group(folder, sizeof(folder), true)) {
		v1 = false;
		if (!own_group(folder, sizeof(folder), false)) {
			print_message("no control group can be made here\n");
			skip();
		}
	}
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) == 1 ? live_with_limit() : 100);
	}
	limited = write_number(folder, v1 ? "memory.limit_in_bytes" : "memory.max", LIMIT) &&
		  write_number(folder, "cgroup.procs", (uint64_t)child);
	if (limited)
		assert_int_equal(write(gate[1], &byte, 1), 1);
	close(gate[0]);
	close(gate[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	dead = killed(folder, v1);
	rmdir(folder);
	if (!limited) {
		print_message("no control group can be given a limit here\n");
		skip();
	}
	assert_int_equal(dead, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_alone),
		cmocka_unit_test(test_v2_smallest_of_all_levels),
		cmocka_unit_test(test_v1_smallest_of_all_levels),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_until_enough),
		cmocka_unit_test(test_odd_contents),
		cmocka_unit_test(test_random_contents),
		cmocka_unit_test(test_here),
		cmocka_unit_test(test_real_group),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	host_end();
	return failed;
}
