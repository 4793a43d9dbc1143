/* SPDX-License-Identifier: BSD-3-Clause */
/* Private memory and nodes of the host: what is mapped, read back from the kernel; refusals. */
#include "tests/unit/vm/memdev_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <numa.h>

static bool host_has(const char *path)
{
	if (is_there(path))
		return true;
	print_message("not checked: the kernel has no %s\n", path);
	return false;
}

/* ---- private memory ---- */

static void test_private(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_BOOT);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	map(&m, &config);
	assert_int_equal(m.fd, -1);
	assert_true(num_is_aligned((uintptr_t)m.memory, 2 * MIB));
	assert_true(mapping_find(m.memory, &mapping));
	assert_string_equal(mapping.perms, "rw-p");
	assert_string_equal(mapping.name, "");
	assert_int_equal(mapping.start, (uintptr_t)m.memory);
	assert_int_equal(mapping.end - mapping.start, SIZE);
	assert_int_equal(mapping.resident_bytes, 0);
	assert_true(mapping_has_flag(m.memory, "dc"));
	assert_false(mapping_has_flag(m.memory, "dd"));
	assert_false(mapping_has_flag(m.memory, "nr"));
	if (host_has("/sys/kernel/mm/transparent_hugepage"))
		assert_true(mapping_has_flag(m.memory, "hg"));
	if (host_has("/sys/kernel/mm/ksm"))
		assert_true(mapping_has_flag(m.memory, "mg"));
	memset(m.memory, 1, m.size);
	memdev_unmap(&m);
	assert_null(m.memory);
	memdev_unmap(&m);
}

static void test_attributes_off(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_BOOT);
	struct memdev m;

	(void)state;
	config.reserve = false;
	assert_int_equal(memdev_map(&m, "m0", 0, &config, false, false, NULL), 0);
	assert_true(mapping_has_flag(m.memory, "dd"));
	assert_false(mapping_has_flag(m.memory, "mg"));
	assert_true(mapping_has_flag(m.memory, "nr"));
	memdev_unmap(&m);
}

static void test_plain(void **state)
{
	struct memdev m, zeros = {0};

	(void)state;
	assert_int_equal(memdev_map(&m, "boot memory", SIZE, NULL, true, true, NULL), 0);
	assert_int_equal(m.size, SIZE);
	assert_int_equal(m.page_bytes, 4 * KIB);
	assert_int_equal(m.fd, -1);
	assert_true(mapping_has_flag(m.memory, "nr"));
	memdev_unmap(&m);
	memdev_unmap(&zeros);
	assert_true(is_there("/proc/self/fd/0")); /* of all zeros, 0 is no descriptor */
}

static void test_alignment(void **state)
{
	static const struct {
		uint64_t size, align, wanted;
	} rows[] = {
		{4 * KIB, 0, 2 * MIB},
		{SIZE, 64 * KIB, 2 * MIB},
		{SIZE, 16 * MIB, 16 * MIB},
		{GIB, 0, GIB},
		{GIB + 4 * KIB, 4 * GIB, 4 * GIB},
		{HUGE, 0, GIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_DEVICE);
		struct memdev m;

		config.size_bytes = rows[i].size;
		config.align_bytes = rows[i].align;
		map(&m, &config);
		assert_true(num_is_aligned((uintptr_t)m.memory, rows[i].wanted));
		memdev_unmap(&m);
	}
}

/* A device's memory is address space, of any size, whatever reserve and prealloc say. */
static void test_device(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_DEVICE);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	config.size_bytes = HUGE;
	config.prealloc = true;
	map(&m, &config);
	assert_true(mapping_find(m.memory, &mapping));
	assert_string_equal(mapping.perms, "rw-p");
	assert_int_equal(mapping.end - mapping.start, HUGE);
	assert_int_equal(mapping.resident_bytes, 0);
	assert_true(mapping_has_flag(m.memory, "nr"));
	memdev_unmap(&m);
}

/* A host that accounts for all writable memory, and has none: the linker puts this before mmap(). */
static bool no_writable_memory;

void *__real_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (no_writable_memory && (prot & PROT_WRITE)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap64(address, length, prot, flags, fd, offset);
}

/* Then a device's memory becomes writable, and accounted for, piece by piece. */
static void test_host_that_accounts(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_DEVICE);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	no_writable_memory = true;
	map(&m, &config);
	no_writable_memory = false;
	assert_true(mapping_find(m.memory, &mapping));
	assert_string_equal(mapping.perms, "r--p");
	assert_int_equal(mapping.end - mapping.start, SIZE);
	assert_int_equal(mprotect(m.memory, MIB, PROT_READ | PROT_WRITE), 0);
	*(char *)m.memory = 1;
	memdev_unmap(&m);
	config.user = VM_MEMDEV_BOOT;
	no_writable_memory = true;
	check_refused(&config, ENOMEM,
		      "-object memory-backend-ram,id=m0: the host cannot map its 8388608 bytes: "
		      "Cannot allocate memory");
	no_writable_memory = false;
}

/* Run @body in a child, so that limits of this process stay; it fails by _exit(1). */
static void in_child(void (*body)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

#define CHILD_CHECK(condition)                                         \
	do {                                                           \
		if (!(condition)) {                                    \
			fprintf(stderr, "not true: %s\n", #condition); \
			_exit(1);                                      \
		}                                                      \
	} while (0)

static void limited_addresses(void)
{
	const struct rlimit limit = {GIB, GIB};
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_DEVICE);
	struct memdev m;

	CHILD_CHECK(!setrlimit(RLIMIT_AS, &limit));
	config.size_bytes = TIB;
	CHILD_CHECK(memdev_map(&m, "m0", 0, &config, true, true, NULL) == -ENOMEM);
	CHILD_CHECK(!m.memory);
	config.size_bytes = INT64_MAX - 4095;
	CHILD_CHECK(memdev_map(&m, "m0", 0, &config, true, true, NULL) == -ENOMEM);
}

static void test_no_addresses(void **state)
{
	(void)state;
	in_child(limited_addresses);
}

static void test_prealloc(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_BOOT);
	struct mapping mapping;
	struct memdev m;

	(void)state;
	config.prealloc = true;
	config.prealloc_threads = 3;
	for (int share = 0; share < 2; share++) {
		config.share = share;
		map(&m, &config);
		assert_true(mapping_find(m.memory, &mapping));
		assert_int_equal(mapping.resident_bytes, SIZE);
		memdev_unmap(&m);
	}
}

/* ---- nodes ---- */

static bool has_policies(void)
{
	return numa_available() >= 0 && numa_bitmask_isbitset(numa_all_nodes_ptr, 0);
}

static void test_policies(void **state)
{
	static const struct {
		enum vm_mem_policy policy;
		const char *text;
	} rows[] = {
		{VM_POLICY_DEFAULT, "default"},
		{VM_POLICY_BIND, "bind:0"},
		{VM_POLICY_INTERLEAVE, "interleave:0"},
		{VM_POLICY_PREFERRED, "prefer"},
	};
	char text[64];

	(void)state;
	if (!has_policies())
		skip(); /* the kernel has no NUMA policies, or node 0 no memory */
	for (size_t i = 0; i < ARRAY_SIZE(rows) * 3; i++) {
		enum vm_memdev_type type = i % 3;
		size_t row = i / 3;
		struct vm_memdev_config config = config_of(type, VM_MEMDEV_DEVICE);
		struct memdev m;

		config.policy = rows[row].policy;
		config.host_nodes[0] = 1;
		config.mem_path = type == VM_MEMDEV_FILE ? (char *)"/dev/shm" : NULL;
		map(&m, &config);
		mapping_policy(m.memory, text, sizeof(text));
		/* "prefer:0", or "prefer (many):0" */
		text[strlen(rows[row].text)] = '\0';
		assert_string_equal(text, rows[row].text);
		memdev_unmap(&m);
	}
}

static void test_wrong_nodes(void **state)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_RAM, VM_MEMDEV_BOOT);
	struct vm_memdev_config file = file_of(".", VM_MEMDEV_BOOT);

	(void)state;
	if (!has_policies() || numa_max_node() > 125)
		skip(); /* the kernel has no NUMA policies, or every node */
	config.policy = VM_POLICY_BIND;
	config.host_nodes[0] = 1;
	config.host_nodes[1] = UINT64_C(1) << 63;
	check_refused(&config, ENOENT,
		      "-object memory-backend-ram,id=m0: host-nodes=127: the host has no memory on "
		      "such a node; allowed: 0");
	file.policy = VM_POLICY_BIND;
	file.host_nodes[0] = 1;
	if (is_there("/var/tmp")) {
		file.mem_path = (char *)"/var/tmp";
		check_refused(&file, ENOTSUP,
			      "policy=bind is not possible for a file on a disk; allowed: "
			      "mem-path= on tmpfs or hugetlbfs, policy=default");
	}
	if (HUGE < TIB)
		return; /* a host may have so much */
	config.host_nodes[1] = 0;
	config.size_bytes = HUGE;
	config.reserve = false;
	config.prealloc = true;
	check_refused(&config, ENOMEM, " bytes: host-nodes=0 have ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_private),      cmocka_unit_test(test_attributes_off),
		cmocka_unit_test(test_plain),        cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_device),       cmocka_unit_test(test_host_that_accounts),
		cmocka_unit_test(test_no_addresses), cmocka_unit_test(test_prealloc),
		cmocka_unit_test(test_policies),     cmocka_unit_test(test_wrong_nodes),
	};

	return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
