/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random command lines: made of true fragments, and with bytes changed. Each is either accepted,
 * and then keeps the promises of config.h, or refused with one sentence on one line.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

#define ROUNDS   20000
#define PIECES   12
#define LINE_MAX 2048

static const char *const fragments[] = {
	"-m 1G",
	"-m 1G,maxmem=8G",
	"-m 512,slots=2,maxmem=4G",
	"-smp 4",
	"-smp 8,sockets=2",
	"-smp 2,maxcpus=4",
	"-numa node",
	"-numa node,cpus=0-1",
	"-numa node,cpus=2-3,mem=512M",
	"-numa dist,src=0,dst=1,val=30",
	"-numa cpu,node-id=0,socket-id=0",
	"-object memory-backend-ram,id=a,size=1G",
	"-object memory-backend-ram,id=b,size=1G,max-size=2G",
	"-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"c\",\"size\":1048576}",
	"-object memory-backend-memfd,id=d,size=1G,share=off,seal=off,prealloc-threads=3",
	"-object memory-backend-memfd,id=e,size=1G,hugetlb=on,hugetlbsize=2M",
	"-object memory-backend-file,id=f,size=1G,mem-path=.,host-nodes=0-3,policy=bind",
	"-mem-path K",
	"-mem-prealloc",
	"-object rng-builtin,id=r",
	"-object secret,id=s,data=,,",
	"-device virtio-mem-pci,memdev=a",
	"-device virtio-mem-pci,memdev=b,id=vb,addr=5",
	"-device virtio-rng-pci,rng=r,packed",
	"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"c\",\"block-size\":4096}",
	"-device isa-serial,chardev=n,index=1",
	"-device pvpanic",
	"-chardev null,id=n",
	"-chardev socket,id=m,path=x,server,nowait",
	"-chardev pty,id=p,mux=on",
	"-mon m",
	"-mon chardev=p,mode=readline",
	"-serial mon:stdio",
	"-serial chardev:p",
	"-monitor null",
	"-serial tcp:[::1]:5,server",
	"-serial unix:x,server",
	"-nodefaults",
	"-machine q35,usb=off",
	"-cpu host,+avx,-sse4.2",
	"-name a,,b",
	"-uuid 00112233-4455-6677-8899-aabbccddeeff",
	"-action panic=pause",
	"-initrd I",
	"-append x",
	"-daemonize",
	"-rtc base=utc",
	"-S",
	"-add-fd set=1,fd=3",
	"-global a.b=c",
	"-boot strict=on",
	"-m 4G,maxmem=0x200000000",
	"-smbios type=0,vendor=v,release=1.2,uefi=on",
	"-smbios type=1,serial=s,uuid=00112233-4455-6677-8899-aabbccddeeff",
	"-smbios type=2,location=l",
	"-smbios type=11,value=a,value=b,,c",
	"-smbios type=17,loc_pfx=D,speed=3200",
	"-smbios file=K",
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void build_line(uint32_t *seed, char *line)
{
	uint32_t pieces = next_random(seed) % PIECES;
	size_t len = (size_t)snprintf(line, LINE_MAX, "-kernel K");
	uint32_t changes;

	for (uint32_t i = 0; i < pieces; i++)
		len += (size_t)snprintf(line + len, LINE_MAX - len, " %s",
					fragments[next_random(seed) % ARRAY_SIZE(fragments)]);
	changes = next_random(seed) % 2 ? next_random(seed) % 4 : 0;
	for (uint32_t i = 0; i < changes; i++) {
		static const char bytes[] = ",=-0123456789kMGTx{}[]\":. \xff\x01nooff";

		line[next_random(seed) % len] = bytes[next_random(seed) % (sizeof(bytes) - 1)];
	}
}

static void check_config(const struct vm_config *config)
{
	const struct vm_smp_config *smp = &config->smp;
	uint64_t mem = 0, device_mem = 0, cpus = 0;

	if (config->output)
		return;
	assert_int_equal(smp->sockets * smp->dies * smp->cores * smp->threads, smp->max_cpus);
	assert_in_range(smp->cpus, 1, smp->max_cpus);
	assert_in_range(config->numa.nr_nodes, 1, VM_NUMA_NODES_MAX);
	for (unsigned int n = 0; n < config->numa.nr_nodes; n++) {
		mem += config->numa.nodes[n].mem_bytes;
		assert_int_equal(cpus & config->numa.nodes[n].cpus, 0);
		cpus |= config->numa.nodes[n].cpus;
		assert_int_equal(config->numa.dist[n][n], 10);
	}
	assert_int_equal(mem, config->memory.ram_bytes);
	assert_int_equal(__builtin_popcountll(cpus), smp->max_cpus);
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];
		const struct vm_virtio_mem_config *vmem = &device->virtio_mem;

		if (device->type == VM_DEVICE_ISA_SERIAL)
			assert_non_null(device->isa_serial.chardev);
		if (device->type != VM_DEVICE_VIRTIO_MEM)
			continue;
		assert_int_equal(vmem->region_size_bytes % vmem->block_size_bytes, 0);
		assert_true(vmem->requested_size_bytes <= vmem->region_size_bytes);
		assert_true(vmem->node < config->numa.nr_nodes);
		device_mem += vmem->region_size_bytes;
	}
	assert_true(device_mem <= config->memory.max_bytes - config->memory.ram_bytes);
	for (size_t i = 0; i < config->nr_monitors; i++)
		assert_non_null(config->monitors[i]->chardev);
}

static void test_random(void **state)
{
	uint32_t seed = 1, accepted = 0;
	char line[LINE_MAX];

	(void)state;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct vm_config *config = NULL;
		struct err *err = NULL;

		build_line(&seed, line);
		if (fixture_parse(line, &config, &err) < 0) {
			assert_null(config);
			assert_true(err_code(err) > 0);
			assert_true(strlen(err_message(err)) > 10);
			assert_null(strchr(err_message(err), '\n'));
		} else {
			check_config(config);
			accepted++;
		}
		vm_config_free(config);
		err_free(err);
	}
	/* The fragments are such that a good part fits together. */
	assert_in_range(accepted, ROUNDS / 50, ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
