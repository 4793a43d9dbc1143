/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory backends: what right properties make of them, and the sentences about wrong ones. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

#define BASE "-kernel K -nodefaults "

#define WHAT_RAM   "-object memory-backend-ram,id=a"
#define WHAT_MEMFD "-object memory-backend-memfd,id=a"
#define WHAT_FILE  "-object memory-backend-file,id=a"
#define RAM        WHAT_RAM ",size=1G"
#define MEMFD      WHAT_MEMFD ",size=1G"
#define FILES      WHAT_FILE ",size=1G,mem-path=."

static struct vm_config *config_of(const char *line)
{
	char text[2048];

	snprintf(text, sizeof(text), BASE "%s", line);
	return fixture_config(text);
}

/* "ram", then what differs from a plain private backend of 4 KiB pages. */
static const char *describe(const struct vm_memdev_config *m, char *buf, size_t size)
{
	static const char *const types[] = {"ram", "memfd", "file"};
	size_t len = (size_t)snprintf(buf, size, "%s", types[m->type]);

#define ADD(...) len += (size_t)snprintf(buf + len, size - len, " " __VA_ARGS__)
	if (m->share)
		ADD("share");
	if (m->prealloc)
		ADD("prealloc");
	if (m->prealloc_threads != 1)
		ADD("threads=%u", m->prealloc_threads);
	if (!m->reserve)
		ADD("noreserve");
	if (m->policy != VM_POLICY_DEFAULT)
		ADD("%s", vm_mem_policy_name(m->policy));
	if (m->has_host_nodes)
		ADD("nodes=%llx:%llx", (unsigned long long)m->host_nodes[1],
		    (unsigned long long)m->host_nodes[0]);
	if (m->hugetlb)
		ADD("hugetlb");
	if (m->page_bytes != 4 * KIB)
		ADD("page=%lluM", (unsigned long long)(m->page_bytes / MIB));
	if (m->seal)
		ADD("seal");
	if (m->mem_path)
		ADD("path=%s", m->mem_path);
	if (m->offset_bytes)
		ADD("offset=%llu", (unsigned long long)m->offset_bytes);
	if (m->align_bytes)
		ADD("align=%llu", (unsigned long long)m->align_bytes);
	if (m->discard_data)
		ADD("discard");
#undef ADD
	return buf;
}

static void test_properties(void **state)
{
	static const struct {
		const char *line, *memdev;
	} rows[] = {
		{RAM, "ram"},
		{RAM ",share=on", "ram share"},
		{RAM ",share=off,prealloc=on,prealloc-threads=4", "ram prealloc threads=4"},
		{RAM ",reserve=off", "ram noreserve"},
		{RAM ",host-nodes=0,policy=bind", "ram bind nodes=0:1"},
		{RAM ",host-nodes=0-1,host-nodes=3,policy=interleave", "ram interleave nodes=0:b"},
		{RAM ",host-nodes=127,policy=preferred", "ram preferred nodes=8000000000000000:0"},
		{RAM ",policy=default,x-use-canonical-path-for-ramblock-id=off", "ram"},
		{MEMFD, "memfd share seal"},
		{MEMFD ",share=off,seal=off", "memfd"},
		{MEMFD ",hugetlb=on,hugetlbsize=2M", "memfd share hugetlb page=2M seal"},
		{MEMFD ",hugetlb=on,hugetlbsize=1G,share=no", "memfd hugetlb page=1024M seal"},
		{MEMFD ",hugetlb=off", "memfd share seal"},
		{FILES, "file path=."},
		{FILES ",share=on,discard-data=on,align=4M",
		 "file share path=. align=4194304 discard"},
		{WHAT_FILE ",size=1G,mem-path=nosuch,offset=8K", "file path=nosuch offset=8192"},
		{WHAT_FILE ",size=1G,mem-path=K,offset=8K", "file path=K offset=8192"},
		{FILES ",pmem=off,readonly=off,rom=off", "file path=."},
		{"-object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"a\",\"share\":true,"
		 "\"size\":1073741824,\"host-nodes\":[0,2],\"policy\":\"bind\",\"prealloc\":true}",
		 "memfd share prealloc bind nodes=0:5 seal"},
		{"-object {\"qom-type\":\"memory-backend-file\",\"id\":\"a\",\"mem-path\":\"K\","
		 "\"share\":true,\"size\":1073741824,\"x-use-canonical-path-for-ramblock-id\":"
		 "true}",
		 "file share path=K"},
		{RAM " -mem-prealloc -smp 3", "ram prealloc threads=3"},
		{RAM ",prealloc-threads=2 -mem-prealloc -smp 3", "ram prealloc threads=2"},
		{RAM ",prealloc=off -mem-prealloc", "ram"},
		{RAM ",reserve=off -mem-prealloc", "ram noreserve"},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(rows[i].line);
		const struct vm_memdev_config *m = config->memdevs[0];

		print_message("%s\n", rows[i].line);
		assert_string_equal(describe(m, text, sizeof(text)), rows[i].memdev);
		assert_string_equal(m->id, "a");
		assert_int_equal(m->size_bytes, GIB);
		assert_int_equal(m->user, VM_MEMDEV_UNUSED);
		vm_config_free(config);
	}
}

/* Without a size the huge pages are those of the host's default pool, where it has one. */
static void test_default_hugetlb(void **state)
{
	struct vm_config *config = NULL;
	struct err *err = NULL;
	unsigned long kib = 0;
	char line[128];
	FILE *in = fopen("/proc/meminfo", "r");
	int ret;

	(void)state;
	assert_non_null(in);
	while (!kib && fgets(line, sizeof(line), in))
		sscanf(line, "Hugepagesize: %lu kB", &kib);
	fclose(in);
	ret = fixture_parse(BASE MEMFD ",hugetlb=on", &config, &err);
	if (kib) {
		assert_int_equal(ret, 0);
		assert_int_equal(config->memdevs[0]->page_bytes, kib * KIB);
		vm_config_free(config);
	} else {
		assert_int_equal(ret, -ENOTSUP);
		err_free(err);
	}
}

/* -mem-path and -mem-prealloc without any backend make one. */
static void test_boot_memory(void **state)
{
	static const struct {
		const char *line, *memdev;
		bool merge, dump;
	} rows[] = {
		{"-m 1G -mem-path .", "file path=.", true, true},
		{"-m 1G -mem-path K -mem-path . -smp 2", "file path=.", true, true},
		{"-m 1G -mem-path . -mem-prealloc -smp 2", "file prealloc threads=2 path=.", true,
		 true},
		{"-m 1G -mem-prealloc -machine mem-merge=off", "ram prealloc", false, true},
		{"-m 1G -mem-prealloc -machine dump-guest-core=off", "ram prealloc", true, false},
		{"-m 1G -mem-path . -numa node,mem=512M -numa node,mem=512M", "file path=.", true,
		 true},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(rows[i].line);
		const struct vm_memdev_config *m = config->memory.backend;

		print_message("%s\n", rows[i].line);
		assert_int_equal(config->nr_memdevs, 1);
		assert_ptr_equal(m, config->memdevs[0]);
		assert_string_equal(describe(m, text, sizeof(text)), rows[i].memdev);
		assert_string_equal(m->id, "pc.ram");
		assert_int_equal(m->size_bytes, GIB);
		assert_int_equal(m->user, VM_MEMDEV_BOOT);
		assert_int_equal(m->merge, rows[i].merge);
		assert_int_equal(m->dump, rows[i].dump);
		vm_config_free(config);
	}
}

/* With a backend, -mem-prealloc is about that one. */
static void test_prealloc_of_backend(void **state)
{
	struct vm_config *config = config_of("-m 1G -mem-prealloc -machine memory-backend=a " RAM);

	(void)state;
	assert_int_equal(config->nr_memdevs, 1);
	assert_true(config->memory.backend->prealloc);
	vm_config_free(config);
	config = config_of("-m 1G -mem-prealloc -numa node,memdev=a " MEMFD);
	assert_int_equal(config->nr_memdevs, 1);
	assert_null(config->memory.backend);
	assert_true(config->numa.nodes[0].memdev->prealloc);
	vm_config_free(config);
}

static void test_devices(void **state)
{
	static const struct {
		const char *line, *memdev;
	} rows[] = {
		{MEMFD ",hugetlb=on,hugetlbsize=2M,reserve=off",
		 "memfd share noreserve hugetlb page=2M seal"},
		{WHAT_FILE ",size=512M,max-size=1G,mem-path=.", "file path=."},
		{RAM ",share=on", "ram share"},
	};
	char line[1024], text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config;

		snprintf(line, sizeof(line), "-m 1G,maxmem=2G -device virtio-mem-pci,memdev=a %s",
			 rows[i].line);
		config = config_of(line);
		print_message("%s\n", rows[i].line);
		assert_string_equal(describe(config->memdevs[0], text, sizeof(text)),
				    rows[i].memdev);
		assert_int_equal(config->memdevs[0]->user, VM_MEMDEV_DEVICE);
		assert_int_equal(config->devices[0]->virtio_mem.region_size_bytes, GIB);
		vm_config_free(config);
	}
}

static const struct error_row rows[] = {
	{RAM ",hugetlb=on", EINVAL,
	 WHAT_RAM ": hugetlb is unknown; allowed: share, size, max-size, prealloc, "
		  "prealloc-threads, merge, dump, reserve, host-nodes, policy, id"},
	{RAM ",prealloc-threads=0", ERANGE,
	 WHAT_RAM ": prealloc-threads=0 is out of range; allowed: 1 to 1024"},
	{RAM ",prealloc-threads=1025", ERANGE,
	 WHAT_RAM ": prealloc-threads=1025 is out of range; allowed: 1 to 1024"},
	{RAM ",prealloc-context=c", ENOTSUP,
	 WHAT_RAM ": prealloc-context=c is not possible: there are no thread contexts in this "
		  "version"},
	{RAM ",prealloc=on,reserve=off", EINVAL,
	 WHAT_RAM ": prealloc=on and reserve=off exclude each other"},
	{RAM ",host-nodes=0", EINVAL,
	 WHAT_RAM ": host-nodes= needs a policy= next to it; allowed: preferred, bind, interleave"},
	{RAM ",policy=interleave", EINVAL,
	 WHAT_RAM ": policy=interleave needs host-nodes= next to it"},
	{RAM ",policy=local", EINVAL,
	 WHAT_RAM ": policy=local is unknown; allowed: default, preferred, bind, interleave"},
	{RAM ",policy=bind,host-nodes=128", ERANGE,
	 WHAT_RAM ": host-nodes=128 is out of range; allowed: 0 to 127"},
	{MEMFD ",hugetlbsize=2M", EINVAL, WHAT_MEMFD ": hugetlbsize= needs hugetlb=on next to it"},
	{MEMFD ",hugetlb=on,hugetlbsize=3M", EINVAL,
	 WHAT_MEMFD ": hugetlbsize=3M is not a power of two"},
	{MEMFD ",hugetlb=on,hugetlbsize=4K", ERANGE,
	 WHAT_MEMFD ": hugetlbsize=4K is too small; allowed: at least 8 KiB"},
	{WHAT_MEMFD ",size=1023M,hugetlb=on,hugetlbsize=2M", EINVAL,
	 WHAT_MEMFD ": the size (1023 MiB) is not a multiple of its pages (2 MiB)"},
	{WHAT_MEMFD ",size=512M,max-size=1025M,hugetlb=on,hugetlbsize=2M", EINVAL,
	 WHAT_MEMFD ": the size (1025 MiB) is not a multiple of its pages (2 MiB)"},
	{MEMFD ",hugetlb=maybe", EINVAL,
	 WHAT_MEMFD ": hugetlb=maybe is neither yes nor no; allowed: on, off"},
	{WHAT_FILE ",size=1G", EINVAL,
	 WHAT_FILE ": needs mem-path= (a file, or a folder for one without a name)"},
	{WHAT_FILE ",size=1G,mem-path=", EINVAL, WHAT_FILE ": mem-path= is empty"},
	{WHAT_FILE ",size=1G,mem-path=no/such", ENOENT,
	 WHAT_FILE ": mem-path=no/such cannot be used: No such file or directory"},
	{WHAT_FILE ",size=1G,mem-path=K/x", ENOTDIR,
	 WHAT_FILE ": mem-path=K/x cannot be used: Not a directory"},
	{FILES ",offset=4K", EINVAL,
	 WHAT_FILE ": offset= needs a file in mem-path=; . is a folder, for a file without a name"},
	{WHAT_FILE ",size=1G,mem-path=K,offset=1K", EINVAL,
	 WHAT_FILE ": offset=1K is not a multiple of 4 KiB"},
	{WHAT_FILE ",size=1G,mem-path=K,offset=0x7ffffffffffff000", ERANGE,
	 WHAT_FILE ": offset and size together are too large"},
	{FILES ",align=3M", EINVAL,
	 WHAT_FILE ": align (3 MiB) is not possible; allowed: powers of two from 4 KiB on"},
	{FILES ",align=2K", EINVAL,
	 WHAT_FILE ": align (2 KiB) is not possible; allowed: powers of two from 4 KiB on"},
	{FILES ",pmem=on", ENOTSUP,
	 WHAT_FILE ": pmem=on is not possible: there are no NVDIMMs, nothing would tell when to "
		   "write through"},
	{FILES ",readonly=on", ENOTSUP,
	 WHAT_FILE ": readonly=on is not possible: a guest writes to its memory; share=off leaves "
		   "the file as it is"},
	{FILES ",rom=on", ENOTSUP,
	 WHAT_FILE ": rom=on is not possible: a guest writes to its memory"},
	{"-m 1G -machine memory-backend=a " MEMFD ",hugetlb=on,hugetlbsize=2M,reserve=off", EINVAL,
	 "-machine memory-backend: object a has reserve=off, and so huge pages that may be missing "
	 "when the guest needs them; for boot memory, allowed: reserve=on"},
	{"-m 1G -numa node,memdev=a " MEMFD ",hugetlb=on,hugetlbsize=2M,policy=bind,host-nodes=0",
	 EINVAL,
	 "-numa node,nodeid=0: object a has huge pages and policy=bind, which can be set aside "
	 "only by allocating them; for boot memory, prealloc=on is needed"},
	{"-mem-path ''", EINVAL, "-mem-path: the name of the file or folder is empty"},
	{"-mem-path no/such", ENOENT,
	 "-mem-path: mem-path=no/such cannot be used: No such file or directory"},
	{"-m 1G -mem-path . -machine memory-backend=a " RAM, EINVAL,
	 "-mem-path: boot memory comes from an -object already; allowed: one of the two"},
	{"-m 1G -mem-path . -numa node,memdev=a " RAM, EINVAL,
	 "-mem-path: boot memory comes from an -object already; allowed: one of the two"},
	{"-mem-prealloc -object memory-backend-ram,id=pc.ram,size=1G", EEXIST,
	 "-object: id=pc.ram is the boot memory's; allowed with -mem-path and -mem-prealloc: any "
	 "other"},
};

static void test_sentences(void **state)
{
	(void)state;
	fixture_check_errors(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_properties),  cmocka_unit_test(test_default_hugetlb),
		cmocka_unit_test(test_boot_memory), cmocka_unit_test(test_prealloc_of_backend),
		cmocka_unit_test(test_devices),     cmocka_unit_test(test_sentences),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
