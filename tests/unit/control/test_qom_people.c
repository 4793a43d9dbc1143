/* SPDX-License-Identifier: BSD-3-Clause */
/* The object tree as people see it: lines of the human monitor, byte for byte, and completion. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/control/qom_rig.h"

#define SMALL                                                                                  \
	"-kernel K -nodefaults -machine pc -m 128M,maxmem=2G -chardev null,id=c "              \
	"-object memory-backend-ram,id=mem0,size=1G "                                          \
	"-device virtio-mem-pci,id=vm0,memdev=mem0,requested-size=64M,addr=4 -device pvpanic " \
	"-device isa-serial,id=com1,chardev=c"

static void prints(struct rig *rig, const char *line, const char *want)
{
	char *text = rig_line(rig, line);

	assert_string_equal(text, want);
	free(text);
}

static void test_listing(void **state)
{
	prints(*state, "qom-list", "/\n");
	prints(*state, "qom-list /",
	       "type (string)\n"
	       "machine (child<pc-q35-9.0-machine>)\n"
	       "objects (child<container>)\n"
	       "chardevs (child<container>)\n");
	prints(*state, "qom-list /objects/rnd0", "type (string)\nfilename (string)\n");
	prints(*state, "qom-list /nope", "Error: Device '/nope' not found\n");
	prints(*state, "qom-list device[0]", "Error: Path 'device[0]' is ambiguous\n");
}

static void test_reading(void **state)
{
	prints(*state, "qom-get vm0 requested-size", "67108864\n");
	prints(*state, "qom-get vm0 memdev", "\"/objects/mem0\"\n");
	prints(*state, "qom-get /objects/mem0 share", "false\n");
	prints(*state, "qom-get /objects/mem1 host-nodes", "[\n    0\n]\n");
	prints(*state, "qom-get /nope x", "Error: Device '/nope' not found\n");
	prints(*state, "qom-get vm0 nope", "Error: Property 'virtio-mem-pci.nope' not found\n");
}

static void test_setting(void **state)
{
	prints(*state, "qom-set vm0 requested-size 128M", "");
	assert_int_equal(rig_requested(*state, "mem0"), 128 << 20);
	prints(*state, "qom-set vm0 requested-size 2097152", "");
	assert_int_equal(rig_requested(*state, "mem0"), 2 << 20);
	prints(*state, "qom-set -j vm0 requested-size 4194304", "");
	assert_int_equal(rig_requested(*state, "mem0"), 4 << 20);
	prints(*state, "qom-set -j vm0 requested-size \"4M\"",
	       "Error: Parameter 'requested-size' expects uint64\n");
	prints(*state, "qom-set vm0 requested-size 4Q",
	       "Error: qom-set: requested-size=4Q is not a size; allowed: a number, then B, K, M, "
	       "G, T or P for its unit (bytes without)\n");
	prints(*state, "qom-set vm0 requested-size 1", "Error: no such size\n");
	prints(*state, "qom-set vm0 size 4M",
	       "Error: Property 'virtio-mem-pci.size' is not writable\n");
	prints(*state, "qom-set vm0 nope 4M", "Error: Property 'virtio-mem-pci.nope' not found\n");
	prints(*state, "qom-set /nope x 1", "Error: Device '/nope' not found\n");
	assert_int_equal(rig_requested(*state, "mem0"), 4 << 20);
}

static void test_tree(void **state)
{
	struct rig *rig = rig_new(SMALL);

	(void)state;
	prints(rig, "info qom-tree",
	       "/machine (pc-i440fx-9.0-machine)\n"
	       "  /i440fx (i440FX-pcihost)\n"
	       "    /pci.0 (PCI)\n"
	       "  /peripheral (container)\n"
	       "    /com1 (isa-serial)\n"
	       "    /vm0 (virtio-mem-pci)\n"
	       "      /virtio-backend (virtio-mem)\n"
	       "      /virtio-bus (virtio-pci-bus)\n"
	       "  /peripheral-anon (container)\n"
	       "    /device[0] (pvpanic)\n"
	       "  /unattached (container)\n"
	       "    /device[0] (host-x86_64-cpu)\n"
	       "    /isa.0 (ISA)\n"
	       "    /sysbus (System)\n");
	prints(rig, "info qom-tree /objects",
	       "/objects (container)\n"
	       "  /mem0 (memory-backend-ram)\n");
	prints(rig, "info qom-tree vm0/memdev", "/mem0 (memory-backend-ram)\n");
	prints(rig, "info qom-tree /nope", "Path '/nope' could not be resolved.\n");
	prints(rig, "info qom-tree device[0]", "Path 'device[0]' is ambiguous.\n");
	rig_free(rig);
}

static void test_device_tree(void **state)
{
	struct rig *rig = rig_new(SMALL);

	(void)state;
	prints(rig, "info qtree",
	       "bus: main-system-bus\n"
	       "  type System\n"
	       "  dev: i440FX-pcihost, id \"\"\n"
	       "    bus: pci.0\n"
	       "      type PCI\n"
	       "      dev: virtio-mem-pci, id \"vm0\"\n"
	       "        addr = 04.0\n"
	       "        vectors = 2 (0x2)\n"
	       "        disable-legacy = \"on\"\n"
	       "        disable-modern = false\n"
	       "        ats = false\n"
	       "        page-per-vq = false\n"
	       "        multifunction = false\n"
	       "        class RAM controller, addr 00:04.0, pci id 1af4:1058 (sub 1af4:0040)\n"
	       "        bar 4: mem at 0xfe000000 [0xfe003fff]\n"
	       "        bus: virtio-bus\n"
	       "          type virtio-pci-bus\n"
	       "          dev: virtio-mem, id \"\"\n"
	       "            event_idx = true\n"
	       "            indirect_desc = true\n"
	       "            iommu_platform = false\n"
	       "            packed = false\n"
	       "            node = 0 (0x0)\n"
	       "            size = 2097152 (2 MiB)\n"
	       "            requested-size = 67108864 (64 MiB)\n"
	       "            request-limit = 0 (0 B)\n"
	       "            request-rate = 0 (0 B)\n"
	       "            granted-size = 0 (0 B)\n"
	       "            block-size = 2097152 (2 MiB)\n"
	       "            memaddr = 4294967296 (0x100000000)\n"
	       "            on-violation = \"deny\"\n"
	       "            memslot-size = 134217728 (128 MiB)\n"
	       "            region-size = 1073741824 (1 GiB)\n"
	       "            usable-region-size = 536870912 (512 MiB)\n"
	       "            request-status = \"no-driver\"\n"
	       "            request-explanation = \"nobody is there\"\n"
	       "            guard-mechanism = \"mprotect\"\n"
	       "            guard-memslots = 3 (0x3)\n"
	       "            violation-writes = 5 (0x5)\n"
	       "            violation-reads = 7 (0x7)\n"
	       "            prealloc = false\n"
	       "            unplugged-inaccessible = \"auto\"\n"
	       "            dynamic-memslots = false\n"
	       "            guard = true\n"
	       "            guest-requests = false\n"
	       "bus: isa.0\n"
	       "  type ISA\n"
	       "  dev: isa-serial, id \"com1\"\n"
	       "    index = 0 (0x0)\n"
	       "    iobase = 1016 (0x3f8)\n"
	       "    irq = 4 (0x4)\n"
	       "    chardev = \"c\"\n"
	       "  dev: pvpanic, id \"\"\n"
	       "    ioport = 1285 (0x505)\n");
	rig_free(rig);
}

/* What Tab makes of @keys; the line is given up afterwards. */
static void completes(struct rig *rig, const char *keys, const char *want)
{
	char *text = rig_type(rig, keys), *rest;

	rest = strstr(text, want);
	if (!rest || strcmp(rest, want))
		fail_msg("%s: %s", keys, text);
	free(text);
	free(rig_type(rig, "\025"));
}

static void test_paths_are_completed(void **state)
{
	completes(*state, "qom-list \t", "qom-list /");
	completes(*state, "qom-get /o\t", "qom-get /objects");
	completes(*state, "qom-get /objects/i\t", "qom-get /objects/io0 ");
	completes(*state, "qom-get /machine/peripheral/vm\t",
		  "\r\n/machine/peripheral/vm0   /machine/peripheral/vm0/  "
		  "/machine/peripheral/vm1\r\n/machine/peripheral/vm1/\r\n"
		  "(qemu) qom-get /machine/peripheral/vm");
	completes(*state, "qom-list vm\t", "qom-list vm");
	completes(*state, "info qom-tree /machine/peripheral/vm0/virtio-ba\t",
		  "info qom-tree /machine/peripheral/vm0/virtio-backend ");
	completes(*state, "qom-get vm0 requested\t", "qom-get vm0 requested-size ");
	completes(*state, "qom-get /objects/mem0 hos\t", "qom-get /objects/mem0 host-nodes ");
	completes(*state, "qom-set -j vm0 requested\t", "qom-set -j vm0 requested-size ");
	completes(*state, "qom-set /objects/mem0 s\t", "qom-set /objects/mem0 s");
	completes(*state, "qom-get /nope s\t", "qom-get /nope s");
	completes(*state, "qom-get \"/no s\t", "qom-get \"/no s");
	completes(*state, "qom-list /nope/x\t", "qom-list /nope/x");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_listing),
		T(test_reading),
		T(test_setting),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_device_tree),
		T(test_paths_are_completed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
