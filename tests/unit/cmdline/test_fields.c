/* SPDX-License-Identifier: BSD-3-Clause */
/* Right options: what they make of CPUs, memory, nodes and devices, and the defaults. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

#include "vmm/machine/cpu_models.h"

#define BASE "-kernel K -nodefaults "

static struct vm_config *config_of(const char *base, const char *line)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s%s", base, line);
	return fixture_config(text);
}

static void test_smp(void **state)
{
	static const struct {
		const char *line;
		unsigned int cpus, max_cpus, sockets, dies, cores, threads;
	} rows[] = {
		{"-S", 1, 1, 1, 1, 1, 1},
		{"-smp 4", 4, 4, 1, 1, 4, 1},
		{"-smp cpus=4", 4, 4, 1, 1, 4, 1},
		{"-smp 64", 64, 64, 1, 1, 64, 1},
		{"-smp 0x10", 16, 16, 1, 1, 16, 1},
		{"-smp sockets=2,cores=2", 4, 4, 2, 1, 2, 1},
		{"-smp 4,sockets=2", 4, 4, 2, 1, 2, 1},
		{"-smp 4,threads=2", 4, 4, 1, 1, 2, 2},
		{"-smp 4,cores=2", 4, 4, 2, 1, 2, 1},
		{"-smp 8,cores=2,threads=2", 8, 8, 2, 1, 2, 2},
		{"-smp 8,sockets=2,cores=2", 8, 8, 2, 1, 2, 2},
		{"-smp 8,sockets=2,dies=2", 8, 8, 2, 2, 2, 1},
		{"-smp 2,maxcpus=8", 2, 8, 1, 1, 8, 1},
		{"-smp 2,maxcpus=8,sockets=2", 2, 8, 2, 1, 4, 1},
		{"-smp maxcpus=6,sockets=3", 6, 6, 3, 1, 2, 1},
		{"-smp 2,sockets=2,cores=1,threads=1", 2, 2, 2, 1, 1, 1},
		{"-smp sockets=3,dies=2,cores=5,threads=2", 60, 60, 3, 2, 5, 2},
		{"-smp 4,clusters=1,books=1", 4, 4, 1, 1, 4, 1},
		{"-smp 4 -smp sockets=2", 4, 4, 2, 1, 2, 1},
		{"-smp 4 -smp 8", 8, 8, 1, 1, 8, 1},
		{"--smp 4", 4, 4, 1, 1, 4, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(BASE, rows[i].line);
		const struct vm_smp_config *smp = &config->smp;

		print_message("%s\n", rows[i].line);
		assert_int_equal(smp->cpus, rows[i].cpus);
		assert_int_equal(smp->max_cpus, rows[i].max_cpus);
		assert_int_equal(smp->sockets, rows[i].sockets);
		assert_int_equal(smp->dies, rows[i].dies);
		assert_int_equal(smp->cores, rows[i].cores);
		assert_int_equal(smp->threads, rows[i].threads);
		vm_config_free(config);
	}
}

static void test_memory(void **state)
{
	static const struct {
		const char *line;
		uint64_t ram_bytes, max_bytes;
		unsigned int slots;
	} rows[] = {
		{"-S", 128 * MIB, 128 * MIB, 0},
		{"-m 512", 512 * MIB, 512 * MIB, 0},
		{"-m 0x200", 512 * MIB, 512 * MIB, 0},
		{"-m size=512", 512 * MIB, 512 * MIB, 0},
		{"-m 4G", 4 * GIB, 4 * GIB, 0},
		{"-m 4g", 4 * GIB, 4 * GIB, 0},
		{"-m 1.5G", 1536 * MIB, 1536 * MIB, 0},
		{"-m 4194304K", 4 * GIB, 4 * GIB, 0},
		{"-m 4294967296B", 4 * GIB, 4 * GIB, 0},
		{"-m 2M", 2 * MIB, 2 * MIB, 0},
		{"-m 4G,maxmem=20G", 4 * GIB, 20 * GIB, 0},
		{"-m 4G,maxmem=4G", 4 * GIB, 4 * GIB, 0},
		{"-m 4G,maxmem=21474836480", 4 * GIB, 20 * GIB, 0},
		{"-m 4G,slots=4,maxmem=1T", 4 * GIB, TIB, 4},
		{"-m size=2097152k,slots=4,maxmem=16777216k", 2 * GIB, 16 * GIB, 4},
		{"-m 4G -m maxmem=20G", 4 * GIB, 20 * GIB, 0},
		{"-m 4G -m 8G", 8 * GIB, 8 * GIB, 0},
		{"-m 4G,", 4 * GIB, 4 * GIB, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(BASE, rows[i].line);

		print_message("%s\n", rows[i].line);
		assert_int_equal(config->memory.ram_bytes, rows[i].ram_bytes);
		assert_int_equal(config->memory.max_bytes, rows[i].max_bytes);
		assert_int_equal(config->memory.slots, rows[i].slots);
		assert_null(config->memory.backend);
		assert_int_equal(config->numa.nodes[0].mem_bytes, rows[i].ram_bytes);
		vm_config_free(config);
	}
}

/* "0:MIB/CPUS 1:MIB/CPUS", CPUS in hexadecimal. */
static void describe_nodes(const struct vm_numa_config *numa, char *buf, size_t size)
{
	size_t len = 0;

	for (unsigned int n = 0; n < numa->nr_nodes; n++)
		len += (size_t)snprintf(buf + len, size - len, "%s%u:%" PRIu64 "/%" PRIx64,
					n ? " " : "", n, numa->nodes[n].mem_bytes / MIB,
					numa->nodes[n].cpus);
}

static void test_nodes(void **state)
{
	static const struct {
		const char *line, *nodes;
	} rows[] = {
		{"-m 4G -smp 4", "0:4096/f"},
		{"-m 4G -numa node", "0:4096/1"},
		{"-m 4G -numa node -numa node", "0:2048/1 1:2048/0"},
		{"-m 100 -numa node -numa node -numa node", "0:32/1 1:32/0 2:36/0"},
		{"-m 10 -numa node -numa node", "0:0/1 1:10/0"},
		{"-smp 4 -m 4G -numa node,nodeid=0,cpus=0-1 -numa node,nodeid=1,cpus=2-3",
		 "0:2048/3 1:2048/c"},
		{"-smp 4 -m 4G -numa node,nodeid=1,cpus=0-1 -numa node,nodeid=0,cpus=2-3",
		 "0:2048/c 1:2048/3"},
		{"-smp 4 -m 4G -numa node,nodeid=1,cpus=0-1 -numa node,cpus=2-3",
		 "0:2048/c 1:2048/3"},
		{"-smp 4 -m 4G -numa node,cpus=0,cpus=2 -numa node,cpus=1,cpus=3",
		 "0:2048/5 1:2048/a"},
		{"-smp 4 -m 4G -numa node,cpus=0-3 -numa node", "0:2048/f 1:2048/0"},
		{"-smp 4,sockets=2 -m 4G -numa node -numa node", "0:2048/3 1:2048/c"},
		{"-smp 4,sockets=4 -m 4G -numa node -numa node", "0:2048/5 1:2048/a"},
		{"-smp 64 -m 4G -numa node", "0:4096/ffffffffffffffff"},
		{"-smp 64 -m 4G -numa node,cpus=0-63 -numa node",
		 "0:2048/ffffffffffffffff 1:2048/0"},
		{"-smp 1,maxcpus=2 -m 4G -numa node,cpus=0-1", "0:4096/3"},
		{"-m 4G -numa node,mem=1G -numa node,mem=3G", "0:1024/1 1:3072/0"},
		{"-m 4G -numa node,mem=1024 -numa node,mem=3072", "0:1024/1 1:3072/0"},
		{"-m 4G -numa node,mem=4G -numa node", "0:4096/1 1:0/0"},
		{"-m 4G -numa node,mem=4G -numa node,mem=0", "0:4096/1 1:0/0"},
		{"-m 3G -numa node,memdev=a -numa node,memdev=b "
		 "-object memory-backend-ram,id=a,size=1G "
		 "-object memory-backend-ram,id=b,size=2G",
		 "0:1024/1 1:2048/0"},
		{"-smp 4,sockets=2 -m 2G -numa node -numa node -numa cpu,node-id=1,socket-id=0 "
		 "-numa cpu,node-id=0,socket-id=1",
		 "0:1024/c 1:1024/3"},
		{"-smp 4,threads=2 -m 2G -numa node -numa node "
		 "-numa cpu,node-id=0,core-id=0 -numa cpu,node-id=1,core-id=1,thread-id=0 "
		 "-numa cpu,node-id=0,core-id=1,thread-id=1",
		 "0:1024/b 1:1024/4"},
		{"-smp 4,dies=2 -m 2G -numa node -numa node,cpus=2-3 "
		 "-numa cpu,node-id=0,socket-id=0,die-id=0",
		 "0:1024/3 1:1024/c"},
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(BASE, rows[i].line);

		print_message("%s\n", rows[i].line);
		describe_nodes(&config->numa, text, sizeof(text));
		assert_string_equal(text, rows[i].nodes);
		assert_int_equal(config->numa.given, strstr(rows[i].line, "-numa") != NULL);
		vm_config_free(config);
	}
}

static void test_distances(void **state)
{
	struct vm_config *config;

	(void)state;
	config = config_of(BASE, "-numa node -numa node");
	assert_int_equal(config->numa.dist[0][0], 10);
	assert_int_equal(config->numa.dist[0][1], 20);
	assert_int_equal(config->numa.dist[1][0], 20);
	assert_false(config->numa.dist_given);
	vm_config_free(config);

	config = config_of(BASE, "-numa node -numa node -numa dist,src=1,dst=0,val=255");
	assert_int_equal(config->numa.dist[0][1], 255);
	assert_int_equal(config->numa.dist[1][0], 255);
	assert_int_equal(config->numa.dist[1][1], 10);
	assert_true(config->numa.dist_given);
	vm_config_free(config);

	config = config_of(BASE, "-numa node -numa node -numa dist,src=1,dst=0,val=21 "
				 "-numa dist,src=0,dst=1,val=22");
	assert_int_equal(config->numa.dist[0][1], 22);
	assert_int_equal(config->numa.dist[1][0], 21);
	vm_config_free(config);
}

static void test_backends(void **state)
{
	struct vm_config *config;

	(void)state;
	config =
		config_of(BASE, "-m 2G -object memory-backend-ram,id=a,size=2G,merge=on,reserve=off"
				" -machine mem-merge=off,dump-guest-core=off,memory-backend=a"
				" -object memory-backend-ram,id=b,size=4K,prealloc=on,dump=on"
				" -object rng-random,id=r -object rng-builtin,id=s"
				" -object secret,id=t,data=x -object iothread,id=u");
	assert_int_equal(config->nr_memdevs, 2);
	assert_ptr_equal(config->memory.backend, config->memdevs[0]);
	assert_int_equal(config->memdevs[0]->user, VM_MEMDEV_BOOT);
	assert_true(config->memdevs[0]->merge);
	assert_false(config->memdevs[0]->dump);
	assert_false(config->memdevs[0]->reserve);
	assert_false(config->memdevs[0]->prealloc);
	assert_int_equal(config->memdevs[1]->user, VM_MEMDEV_UNUSED);
	assert_false(config->memdevs[1]->merge);
	assert_true(config->memdevs[1]->dump);
	assert_true(config->memdevs[1]->reserve);
	assert_true(config->memdevs[1]->prealloc);
	assert_int_equal(config->memdevs[1]->size_bytes, 4096);
	assert_int_equal(config->nr_rngs, 2);
	assert_string_equal(config->rngs[0]->filename, "/dev/urandom");
	assert_null(config->rngs[1]->filename);
	assert_int_equal(config->nr_iothreads, 1);
	vm_config_free(config);
}

#define MEM "-kernel K -nodefaults -m 1G,maxmem=20G -numa node -numa node "

static void test_virtio_mem(void **state)
{
	static const struct {
		const char *line;
		uint64_t region_size, requested_size, block_size, memaddr;
		unsigned int node;
	} rows[] = {
		{"-object memory-backend-ram,id=a,size=8G -device virtio-mem-pci,memdev=a", 8 * GIB,
		 0, 2 * MIB, 0, 0},
		{"-device virtio-mem-pci,memdev=a,requested-size=1G,node=1 "
		 "-object memory-backend-ram,id=a,size=8G",
		 8 * GIB, GIB, 2 * MIB, 0, 1},
		{"-object memory-backend-ram,id=a,size=4G,max-size=8G "
		 "-device virtio-mem-pci,memdev=a",
		 8 * GIB, 4 * GIB, 2 * MIB, 0, 0},
		{"-object memory-backend-ram,id=a,size=0,max-size=8G "
		 "-device virtio-mem-pci,memdev=a",
		 8 * GIB, 0, 2 * MIB, 0, 0},
		{"-object memory-backend-ram,id=a,size=8G,max-size=8G "
		 "-device virtio-mem-pci,memdev=a",
		 8 * GIB, 8 * GIB, 2 * MIB, 0, 0},
		{"-object memory-backend-ram,id=a,size=4G,max-size=8G "
		 "-device virtio-mem-pci,memdev=a,requested-size=4G",
		 8 * GIB, 4 * GIB, 2 * MIB, 0, 0},
		{"-object memory-backend-ram,id=a,size=12K "
		 "-device virtio-mem-pci,memdev=a,block-size=4K,requested-size=8192",
		 12288, 8192, 4096, 0, 0},
		{"-object memory-backend-ram,id=a,size=1G "
		 "-device virtio-mem-pci,memdev=a,block-size=1G,memaddr=0x140000000",
		 GIB, 0, GIB, 0x140000000, 0},
		{"-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":1073741824} "
		 "-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"a\",\"node\":1,"
		 "\"block-size\":4194304,\"requested-size\":\"512M\",\"memaddr\":5368709120}",
		 GIB, 512 * MIB, 4 * MIB, 0x140000000, 1},
		{"-object memory-backend-ram,id=a,size=19G -device virtio-mem-pci,memdev=a",
		 19 * GIB, 0, 2 * MIB, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of(MEM, rows[i].line);
		const struct vm_virtio_mem_config *mem = &config->devices[0]->virtio_mem;

		print_message("%s\n", rows[i].line);
		assert_int_equal(config->nr_devices, 1);
		assert_int_equal(config->devices[0]->type, VM_DEVICE_VIRTIO_MEM);
		assert_int_equal(mem->region_size_bytes, rows[i].region_size);
		assert_int_equal(mem->requested_size_bytes, rows[i].requested_size);
		assert_int_equal(mem->block_size_bytes, rows[i].block_size);
		assert_int_equal(mem->memaddr_gpa, rows[i].memaddr);
		assert_int_equal(mem->node, rows[i].node);
		assert_ptr_equal(mem->memdev, config->memdevs[0]);
		assert_int_equal(mem->memdev->user, VM_MEMDEV_DEVICE);
		assert_int_equal(mem->memdev->page_bytes, 4096);
		vm_config_free(config);
	}
}

/* What keeps a guest from memory that it gave up: the defaults, and what can be said of it. */
static void test_virtio_mem_guard(void **state)
{
	static const struct {
		const char *keys;
		uint64_t block_size, memslot;
		bool guard;
		enum vm_violation_action action;
		enum vm_on_off_auto inaccessible;
	} rows[] = {
		{"", 2 * MIB, 0, true, VM_VIOLATION_DENY, VM_AUTO},
		{",guard=on,on-violation=deny,unplugged-inaccessible=off", 2 * MIB, 0, true,
		 VM_VIOLATION_DENY, VM_OFF},
		{",guard=off,on-violation=pause,memslot-size=2M", 2 * MIB, 2 * MIB, false,
		 VM_VIOLATION_PAUSE, VM_AUTO},
		{",on-violation=shutdown,memslot-size=1T,unplugged-inaccessible=on", 2 * MIB, TIB,
		 true, VM_VIOLATION_SHUTDOWN, VM_ON},
		{",block-size=4K,memslot-size=128M", 4096, 128 * MIB, true, VM_VIOLATION_DENY,
		 VM_AUTO},
		{",block-size=4M,memslot-size=4M", 4 * MIB, 4 * MIB, true, VM_VIOLATION_DENY,
		 VM_AUTO},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vm_virtio_mem_config *mem;
		struct vm_config *config;
		char line[256];

		snprintf(line, sizeof(line),
			 "-object memory-backend-ram,id=a,size=8G "
			 "-device virtio-mem-pci,memdev=a%s",
			 rows[i].keys);
		config = config_of(MEM, line);
		mem = &config->devices[0]->virtio_mem;
		print_message("%s\n", rows[i].keys);
		assert_int_equal(mem->block_size_bytes, rows[i].block_size);
		assert_int_equal(mem->memslot_bytes, rows[i].memslot);
		assert_int_equal(mem->guard, rows[i].guard);
		assert_int_equal(mem->on_violation, rows[i].action);
		assert_int_equal(mem->unplugged_inaccessible, rows[i].inaccessible);
		vm_config_free(config);
	}
}

/* A block is a page of the memory at least, and shared memory can be had without the guard too. */
static void test_virtio_mem_backends(void **state)
{
	static const struct {
		const char *backend, *keys;
		uint64_t block_size;
		enum vm_on_off_auto inaccessible;
	} rows[] = {
		{"ram,share=on", "", 2 * MIB, VM_AUTO},
		{"ram,share=on", ",unplugged-inaccessible=on", 2 * MIB, VM_ON},
		{"ram,share=on", ",guard=off,unplugged-inaccessible=off", 2 * MIB, VM_OFF},
		{"memfd,share=off", ",unplugged-inaccessible=off", 2 * MIB, VM_OFF},
		{"memfd,hugetlb=on,hugetlbsize=1G", "", GIB, VM_AUTO},
		{"memfd,hugetlb=on,hugetlbsize=2M", ",block-size=4M", 4 * MIB, VM_AUTO},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vm_virtio_mem_config *mem;
		struct vm_config *config;
		char line[256];

		snprintf(line, sizeof(line),
			 "-object memory-backend-%s,id=a,size=8G -device virtio-mem-pci,memdev=a%s",
			 rows[i].backend, rows[i].keys);
		print_message("%s\n", line);
		config = config_of(MEM, line);
		mem = &config->devices[0]->virtio_mem;
		assert_int_equal(mem->block_size_bytes, rows[i].block_size);
		assert_int_equal(mem->unplugged_inaccessible, rows[i].inaccessible);
		vm_config_free(config);
	}
}

/* What the guest may ask for by itself: nothing, unless that was said. */
static void test_virtio_mem_requests(void **state)
{
	static const struct {
		const char *keys;
		bool on;
		uint64_t limit, rate;
	} rows[] = {
		{"", false, 0, 0},
		{",guest-requests=off", false, 0, 0},
		{",guest-requests=on", true, 8 * GIB, 0},
		{",guest-requests=on,request-limit=4G", true, 4 * GIB, 0},
		{",guest-requests=on,request-limit=0,request-rate=0", true, 0, 0},
		{",guest-requests=on,request-limit=2M,request-rate=1", true, 2 * MIB, 1},
		{",request-rate=64M,guest-requests=on,requested-size=2G,request-limit=1G", true,
		 GIB, 64 * MIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vm_virtio_mem_config *mem;
		struct vm_config *config;
		char line[256];

		snprintf(
			line, sizeof(line),
			"-object memory-backend-ram,id=a,size=8G -device virtio-mem-pci,memdev=a%s",
			rows[i].keys);
		print_message("%s\n", line);
		config = config_of(MEM, line);
		mem = &config->devices[0]->virtio_mem;
		assert_int_equal(mem->guest_requests, rows[i].on);
		assert_int_equal(mem->request_limit_bytes, rows[i].limit);
		assert_int_equal(mem->request_rate_bytes, rows[i].rate);
		vm_config_free(config);
	}
}

static void test_virtio_common(void **state)
{
	struct vm_config *config;

	(void)state;
	config = config_of(BASE, "-device virtio-rng-pci");
	assert_false(config->devices[0]->pci.has_addr);
	assert_null(config->devices[0]->pci.bus);
	assert_false(config->devices[0]->virtio.packed);
	assert_true(config->devices[0]->virtio.event_idx);
	assert_true(config->devices[0]->virtio.indirect_desc);
	assert_int_equal(config->devices[0]->virtio.vectors, UINT32_MAX);
	assert_null(config->devices[0]->virtio_rng.rng);
	assert_true(config->devices[0]->virtio_rng.max_bytes == UINT64_MAX);
	assert_int_equal(config->devices[0]->virtio_rng.period_ms, 65536);
	vm_config_free(config);

	config = config_of(BASE, "-object rng-builtin,id=r -device virtio-rng-pci-non-transitional,"
				 "rng=r,packed,event_idx=off,noindirect_desc,vectors=0,bus=pci.0,"
				 "addr=1f.0,disable-legacy=on,iommu_platform=off,max-bytes=1024,"
				 "period=1000,id=rng0");
	assert_string_equal(config->devices[0]->id, "rng0");
	assert_true(config->devices[0]->pci.has_addr);
	assert_int_equal(config->devices[0]->pci.slot, 0x1f);
	assert_int_equal(config->devices[0]->pci.function, 0);
	assert_true(config->devices[0]->virtio.packed);
	assert_false(config->devices[0]->virtio.event_idx);
	assert_false(config->devices[0]->virtio.indirect_desc);
	assert_int_equal(config->devices[0]->virtio.vectors, 0);
	assert_ptr_equal(config->devices[0]->virtio_rng.rng, config->rngs[0]);
	assert_int_equal(config->devices[0]->virtio_rng.max_bytes, 1024);
	assert_int_equal(config->devices[0]->virtio_rng.period_ms, 1000);
	vm_config_free(config);

	config = config_of(BASE, "-machine q35 -device "
				 "{\"driver\":\"virtio-rng-pci\",\"bus\":\"pcie.0\",\"addr\":24}");
	assert_int_equal(config->machine.type, VM_MACHINE_Q35);
	assert_string_equal(config->machine.root_bus, "pcie.0");
	assert_int_equal(config->devices[0]->pci.slot, 3);
	vm_config_free(config);
}

static void test_cpu(void **state)
{
	struct vm_config *config;
	const struct vm_cpu_config *cpu;

	(void)state;
	config = config_of(BASE, "-S");
	assert_true(config->cpu.migratable);
	assert_true(config->cpu.kvm);
	assert_false(config->cpu.pmu);
	assert_true(config->cpu.host_phys_bits);
	assert_int_equal(config->cpu.phys_bits, 0);
	assert_int_equal(config->cpu.nr_features, 0);
	vm_config_free(config);

	config = config_of(BASE, "-cpu max,phys-bits=50 -cpu host");
	assert_int_equal(config->cpu.phys_bits, 0);
	vm_config_free(config);

	config = config_of(BASE, "-cpu host,+avx,pmu=on -cpu "
				 "host,migratable=off,kvm=off,phys-bits=46,+sse4.1,-sse4_2,invtsc,"
				 "nx=off,+tsc_deadline");
	cpu = &config->cpu;
	assert_false(cpu->migratable);
	assert_false(cpu->kvm);
	assert_false(cpu->pmu);
	assert_false(cpu->host_phys_bits);
	assert_int_equal(cpu->phys_bits, 46);
	assert_int_equal(cpu->nr_features, 5);
	assert_string_equal(cpu->features[0].name, "sse4-1");
	assert_int_equal(cpu->features[0].leaf, 1);
	assert_int_equal(cpu->features[0].reg, VM_CPUID_ECX);
	assert_int_equal(cpu->features[0].bit, 19);
	assert_true(cpu->features[0].on);
	assert_int_equal(cpu->features[1].bit, 20);
	assert_false(cpu->features[1].on);
	assert_int_equal(cpu->features[2].leaf, 0x80000007);
	assert_true(cpu->features[2].on);
	assert_string_equal(cpu->features[3].name, "nx");
	assert_false(cpu->features[3].on);
	assert_int_equal(cpu->features[4].bit, 24);
	vm_config_free(config);
}

/* A model by name, what is changed of it, and older names of features. */
static void test_cpu_models(void **state)
{
	struct vm_config *config;
	const struct vm_cpu_config *cpu;

	(void)state;
	config = config_of(BASE, "-S");
	assert_null(config->cpu.model);
	assert_string_equal(config->cpu.name, "host");
	assert_true(config->cpu.check);
	assert_false(config->cpu.enforce);
	vm_config_free(config);

	config =
		config_of(BASE, "-cpu Haswell-noTSX,enforce,check=off,vendor=AuthenticAMD,model=61,"
				"family=0x17,stepping=3,level=13,xlevel=0x8000001e,xd=off,sse3=off,"
				"avx512_vbmi2=on,lahf_lm=off,vmx-ept=off,sgx=off,intel-pt=off");
	cpu = &config->cpu;
	assert_string_equal(cpu->name, "Haswell-noTSX");
	assert_string_equal(cpu->model->name, "Haswell-v2");
	assert_true(cpu->enforce);
	assert_false(cpu->check);
	assert_string_equal(cpu->identity.vendor, "AuthenticAMD");
	assert_null(cpu->identity.model_id);
	assert_int_equal(cpu->identity.family, 0x17);
	assert_int_equal(cpu->identity.model, 61);
	assert_int_equal(cpu->identity.stepping, 3);
	assert_int_equal(cpu->identity.level, 13);
	assert_int_equal(cpu->identity.xlevel, 0x8000001e);
	assert_true(cpu->identity.family_given && cpu->identity.xlevel_given);
	assert_false(cpu->host_phys_bits);
	assert_int_equal(cpu->nr_features, 4);
	assert_string_equal(cpu->features[0].name, "nx");
	assert_string_equal(cpu->features[1].name, "pni");
	assert_string_equal(cpu->features[2].name, "avx512vbmi2");
	assert_string_equal(cpu->features[3].name, "lahf-lm");
	vm_config_free(config);

	config = config_of(BASE, "-cpu Haswell,vendor=AuthenticAMD,family=1 -cpu "
				 "EPYC-x86_64-cpu,model-id=,host-phys-bits=on,"
				 "host-phys-bits-limit=42");
	cpu = &config->cpu;
	assert_string_equal(cpu->name, "EPYC");
	assert_string_equal(cpu->model->name, "EPYC-v1");
	assert_null(cpu->identity.vendor);
	assert_string_equal(cpu->identity.model_id, "");
	assert_false(cpu->identity.family_given);
	assert_true(cpu->host_phys_bits);
	assert_int_equal(cpu->phys_bits_limit, 42);
	vm_config_free(config);
}

static void test_process(void **state)
{
	struct vm_config *config;

	(void)state;
	config = config_of(BASE, "-S");
	assert_string_equal(config->kernel, "K");
	assert_null(config->initrd);
	assert_string_equal(config->append, "");
	assert_null(config->name);
	assert_false(config->has_uuid);
	assert_false(config->daemonize);
	assert_int_equal(config->machine.type, VM_MACHINE_PC);
	assert_string_equal(config->machine.root_bus, "pci.0");
	assert_true(config->machine.dump_guest_core);
	assert_int_equal(config->action.reboot, VM_REBOOT_RESET);
	assert_int_equal(config->action.shutdown, VM_SHUTDOWN_POWEROFF);
	assert_int_equal(config->action.panic, VM_PANIC_SHUTDOWN);
	assert_int_equal(config->action.watchdog, VM_WATCHDOG_RESET);
	assert_int_equal(config->rtc.base, VM_RTC_UTC);
	assert_null(config->incoming);
	assert_false(config->only_migratable);
	vm_config_free(config);

	config = config_of(
		BASE,
		"-initrd I -append a=b,c -append x=1,,2 -name a,,b,debug-threads=on -S -pidfile p "
		"-metrics path=m -incoming defer -incoming tcp:[::]:4444 -only-migratable "
		"-uuid 00112233-4455-6677-8899-AABBCCDDEEFF -daemonize -no-reboot -no-shutdown "
		"-action panic=exit-failure -watchdog-action inject-nmi -rtc base=localtime "
		"-msg timestamp=on,guest-name=on -boot strict=on -overcommit mem-lock=off "
		"-boot order=cd,menu=off,reboot-timeout=5000 -boot c -no-hpet "
		"-sandbox off -audiodev none,id=x -global ICH9-LPC.noreboot=off -vga none "
		"-display none -nographic -no-user-config -net none -nic none -parallel none "
		"-accel kvm,dirty-ring-size=4096 -enable-kvm --enable-kvm "
		"-machine accel=kvm:tcg,usb=off,vmport=off");
	assert_int_equal(config->machine.dirty_ring_entries, 4096);
	assert_string_equal(config->initrd, "I");
	assert_string_equal(config->append, "x=1,,2");
	assert_string_equal(config->name, "a,b");
	assert_true(config->debug_threads);
	assert_true(config->start_paused);
	assert_string_equal(config->pidfile, "p");
	assert_string_equal(config->metrics_path, "m");
	assert_string_equal(config->incoming, "tcp:[::]:4444");
	assert_true(config->only_migratable);
	assert_true(config->has_uuid);
	assert_int_equal(config->uuid[0], 0x00);
	assert_int_equal(config->uuid[5], 0x55);
	assert_int_equal(config->uuid[15], 0xff);
	assert_true(config->daemonize);
	assert_int_equal(config->action.reboot, VM_REBOOT_SHUTDOWN);
	assert_int_equal(config->action.shutdown, VM_SHUTDOWN_PAUSE);
	assert_int_equal(config->action.panic, VM_PANIC_EXIT_FAILURE);
	assert_int_equal(config->action.watchdog, VM_WATCHDOG_INJECT_NMI);
	assert_int_equal(config->rtc.base, VM_RTC_LOCALTIME);
	assert_true(config->msg_timestamp);
	assert_true(config->msg_guest_name);
	vm_config_free(config);
}

static void test_output(void **state)
{
	static const struct {
		const char *line, *part;
	} rows[] = {
		{"-h", "Usage: ebb"},
		{"-help", "-device DRIVER"},
		{"--help", "-device DRIVER"},
		{"-version", "ebb version "},
		{"--version", "ebb version "},
		{"-m 4G -version -nonsense", "ebb version "},
		{"-device help", "  virtio-mem-pci "},
		{"-device ?", "  isa-serial "},
		{"-device virtio-mem-pci,help", "  requested-size=<size>"},
		{"-device virtio-mem-pci,?", "  memdev=<id>  the id of its memory"},
		{"-device virtio-rng-pci-non-transitional,help", "max-bytes=<number>"},
		{"-object help", "  memory-backend-ram "},
		{"-object memory-backend-ram,help", "max-size=<size>"},
		{"-chardev help", "  socket "},
		{"-chardev socket,help", "  server=<on|off>"},
		{"-machine help", "  q35 "},
		{"-M help", "dump-guest-core=<on|off>"},
		{"-accel help", "kvm"},
		{"-accel help", "dirty-ring-size=<0-65536>"},
		{"-cpu help", " avx2 "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = fixture_config(rows[i].line);

		print_message("%s\n", rows[i].line);
		assert_non_null(config->output);
		assert_non_null(strstr(config->output, rows[i].part));
		vm_config_free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smp),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_distances),
		cmocka_unit_test(test_backends),
		cmocka_unit_test(test_virtio_mem),
		cmocka_unit_test(test_virtio_common),
		cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_cpu_models),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_virtio_mem_guard),
		cmocka_unit_test(test_virtio_mem_backends),
		cmocka_unit_test(test_virtio_mem_requests),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
