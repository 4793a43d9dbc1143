/* SPDX-License-Identifier: BSD-3-Clause */
/* The address map: known addresses, invariants over many sizes, and every refusal. */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/platform.h"

static struct layout_config config_of(uint64_t ram, uint64_t maxmem, const uint64_t *node_bytes,
				      unsigned int nr_nodes)
{
	return (struct layout_config){
		.ram_bytes = ram,
		.maxmem_bytes = maxmem,
		.phys_bits = 46,
		.nr_nodes = nr_nodes,
		.node_bytes = node_bytes,
	};
}

/* layout.h, I1 to I3. */
static void check_invariants(const struct machine_layout *layout)
{
	const struct range fixed[] = {
		layout->low_ram,
		layout->high_ram,
		layout->device_memory,
		layout->ecam,
		layout->window32,
		layout->window64,
		{PLATFORM_IOAPIC_BASE, PLATFORM_IOAPIC_SIZE},
		{PLATFORM_LAPIC_BASE, PLATFORM_LAPIC_SIZE},
	};
	uint64_t sum = 0, devices = 0, limit = UINT64_C(1) << layout->phys_bits;
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(fixed); i++) {
		assert_true(range_valid(fixed[i]));
		assert_true(!fixed[i].size || range_end(fixed[i]) <= limit);
		for (j = 0; j < i; j++)
			assert_false(range_overlaps(fixed[i], fixed[j]));
	}
	for (i = 0; i < layout->nr_ram; i++) {
		const struct layout_ram *ram = &layout->ram[i];

		assert_true(range_contains(layout->low_ram, ram->gpa) ||
			    range_contains(layout->high_ram, ram->gpa));
		assert_int_equal(ram->ram_offset, sum);
		if (i) {
			assert_true(ram->gpa.start >= range_end(ram[-1].gpa));
			assert_true(ram->node >= ram[-1].node);
			assert_int_equal(ram->node_offset,
					 ram->node == ram[-1].node ? ram[-1].gpa.size : 0);
		}
		sum += ram->gpa.size;
	}
	assert_int_equal(sum, layout->ram_bytes);
	assert_int_equal(layout->low_ram.size + layout->high_ram.size, layout->ram_bytes);
	for (i = 0; i < layout->nr_devices; i++) {
		assert_true(range_contains(layout->device_memory, layout->devices[i].gpa));
		assert_non_null(layout->devices[i].id);
		devices += layout->devices[i].gpa.size;
		for (j = 0; j < i; j++)
			assert_false(
				range_overlaps(layout->devices[i].gpa, layout->devices[j].gpa));
	}
	assert_true(devices <= layout->maxmem_bytes - layout->ram_bytes);
	assert_true(num_is_pow2(layout->window64.size));
	assert_true(num_is_aligned(layout->window64.start, layout->window64.size));
	assert_true(num_is_aligned(layout->device_memory.start, GIB));
}

static void test_rfc_addresses(void **state)
{
	const uint64_t nodes[] = {2 * GIB, 2 * GIB};
	const struct layout_device_config devices[] = {
		{"reg0", 8 * GIB, 2 * MIB, 0, 0},
		{"reg1", 8 * GIB, 2 * MIB, 0, 1},
	};
	struct layout_config config = config_of(4 * GIB, 20 * GIB, nodes, 2);
	struct machine_layout *layout;

	(void)state;
	config.devices = devices;
	config.nr_devices = 2;
	assert_int_equal(layout_new(&config, &layout, NULL), 0);
	check_invariants(layout);
	assert_int_equal(layout->devices[0].gpa.start, 0x140000000);
	assert_int_equal(layout->devices[1].gpa.start, 0x340000000);
	assert_int_equal(layout->devices[1].node, 1);
	assert_string_equal(layout->devices[1].id, "reg1");
	/* Node 1 spans the hole. */
	assert_int_equal(layout->nr_ram, 3);
	assert_int_equal(layout->ram[0].gpa.size, 2 * GIB);
	assert_int_equal(layout->ram[1].gpa.start, 2 * GIB);
	assert_int_equal(layout->ram[1].gpa.size, GIB);
	assert_int_equal(layout->ram[2].gpa.start, 4 * GIB);
	assert_int_equal(layout->ram[2].gpa.size, GIB);
	assert_int_equal(layout->ram[2].node, 1);
	assert_int_equal(layout->ram[2].node_offset, GIB);
	layout_free(layout);
}

static void test_sizes(void **state)
{
	static const uint64_t sizes[] = {
		2 * MIB,         128 * MIB, GIB, 3 * GIB - 4096, 3 * GIB, 3 * GIB + 4096, 4 * GIB,
		5 * GIB + 12288, 64 * GIB,  TIB};
	static const unsigned int bits[] = {36, 39, 40, 46, 48, 52};
	size_t i, j, built = 0;
	uint64_t extra;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < ARRAY_SIZE(bits); j++) {
			for (extra = 0; extra <= 4 * TIB; extra = extra ? extra * 64 : GIB) {
				struct layout_config config =
					config_of(sizes[i], sizes[i] + extra, &sizes[i], 1);
				struct machine_layout *layout = NULL;

				config.phys_bits = bits[j];
				if (layout_new(&config, &layout, NULL)) {
					/* Refused only when it cannot fit. */
					assert_null(layout);
					assert_true(sizes[i] + extra + 12 * GIB >
						    UINT64_C(1) << bits[j]);
					continue;
				}
				check_invariants(layout);
				assert_int_equal(layout->device_memory.size >= extra, 1);
				assert_int_equal(!layout->device_memory.size, !extra);
				layout_free(layout);
				built++;
			}
		}
	}
	assert_true(built > 100);
}

/* Random nodes and devices: whatever is accepted keeps the invariants. */
static void test_random(void **state)
{
	unsigned int round, i, placed = 0;

	(void)state;
	srandom(1);
	for (round = 0; round < 2000; round++) {
		uint64_t nodes[LAYOUT_NODES_MAX], ram = 0, maxmem;
		struct layout_device_config devices[8];
		struct machine_layout *layout = NULL;
		struct layout_config config;
		unsigned int nr_nodes = 1 + (unsigned int)random() % 8;

		for (i = 0; i < nr_nodes; i++) {
			nodes[i] = (uint64_t)(random() % 2048) * MIB;
			ram += nodes[i];
		}
		nodes[0] += 2 * MIB;
		ram += 2 * MIB;
		maxmem = ram;
		for (i = 0; i < ARRAY_SIZE(devices); i++) {
			uint64_t block = UINT64_C(4096) << random() % 20;

			devices[i] = (struct layout_device_config){
				.size_bytes = block * (1 + (uint64_t)random() % 100),
				.block_size_bytes = block,
				.node = (unsigned int)random() % nr_nodes,
			};
			maxmem += devices[i].size_bytes;
		}
		config = config_of(ram, maxmem, nodes, nr_nodes);
		config.devices = devices;
		config.nr_devices = ARRAY_SIZE(devices);
		/* The region has room for any alignment: exactly maxmem always fits. */
		assert_int_equal(layout_new(&config, &layout, NULL), 0);
		check_invariants(layout);
		for (i = 0; i < ARRAY_SIZE(devices); i++)
			assert_true(num_is_aligned(
				layout->devices[i].gpa.start,
				num_max(devices[i].block_size_bytes, LAYOUT_DEVICE_ALIGN)));
		placed++;
		layout_free(layout);
	}
	assert_int_equal(placed, 2000);
}

/* Devices with an address come first, whatever their order; the others fill the gaps. */
static void test_fixed_addresses(void **state)
{
	const uint64_t ram = 4 * GIB;
	const struct layout_device_config devices[] = {
		{"a", GIB, 2 * MIB, 0, 0},
		{"b", GIB, 2 * MIB, 0x140000000, 0},
		{"c", GIB, 2 * MIB, 0x1C0000000, 0},
		{"d", 2 * GIB, 2 * MIB, 0, 0},
	};
	struct layout_config config = config_of(ram, ram + 6 * GIB, &ram, 1);
	struct layout_device_config late = {"late", GIB, 2 * MIB, 0, 0};
	struct machine_layout *layout;
	struct err *err = NULL;
	int ret;

	(void)state;
	config.devices = devices;
	config.nr_devices = ARRAY_SIZE(devices);
	assert_int_equal(layout_new(&config, &layout, NULL), 0);
	check_invariants(layout);
	assert_int_equal(layout->devices[0].gpa.start, 0x180000000);
	assert_int_equal(layout->devices[1].gpa.start, 0x140000000);
	assert_int_equal(layout->devices[2].gpa.start, 0x1C0000000);
	assert_int_equal(layout->devices[3].gpa.start, 0x200000000);

	/* Later ones: one more fits, then maxmem is used up, and what leaves makes room again. */
	assert_int_equal(layout_device_add(layout, &late, NULL), 0);
	assert_int_equal(layout->nr_devices, 5);
	check_invariants(layout);
	ret = layout_device_add(layout, &late, &err);
	assert_refused(ret, EINVAL, err, "'late'", "maxmem");
	assert_int_equal(layout->nr_devices, 5);
	layout_device_remove(layout, 1);
	assert_int_equal(layout->nr_devices, 4);
	assert_string_equal(layout->devices[1].id, "c");
	assert_int_equal(layout_device_add(layout, &late, NULL), 0);
	assert_int_equal(layout->devices[4].gpa.start, 0x140000000);
	check_invariants(layout);
	layout_free(layout);
}

static void test_refused_configs(void **state)
{
	const uint64_t ram = 4 * GIB, odd[] = {GIB + 1, 3 * GIB - 1}, wrong[] = {GIB, GIB};
	const uint64_t wrap[] = {UINT64_C(1) << 63, UINT64_C(1) << 63};
	struct machine_layout *layout = NULL;
	struct layout_config config;
	struct err *err = NULL;

	(void)state;
#define REFUSE(part, other)                                     \
	do {                                                    \
		err = NULL;                                     \
		int ret_ = layout_new(&config, &layout, &err);  \
		assert_refused(ret_, EINVAL, err, part, other); \
		assert_null(layout);                            \
	} while (0)
	config = config_of(ram + 1, ram + 1, &ram, 1);
	REFUSE("-m size", "4 KiB");
	config = config_of(MIB, MIB, &ram, 1);
	REFUSE("-m size", "2 MiB");
	config = config_of(ram, ram - 4096, &ram, 1);
	REFUSE("maxmem", "less");
	config = config_of(ram, ram, odd, 2);
	REFUSE("node 0", "4 KiB");
	config = config_of(ram, ram, wrong, 2);
	REFUSE("-numa", "4294967296");
	config = config_of(ram, ram, wrap, 2);
	REFUSE("-numa", "together");
	config = config_of(ram, ram, &ram, 0);
	REFUSE("-numa", "1 to 64");
	config = config_of(ram, ram, &ram, 1);
	config.phys_bits = 53;
	REFUSE("phys-bits", "36 to 52");
	config.phys_bits = 35;
	REFUSE("phys-bits", "36 to 52");
	config = config_of(ram, 64 * GIB, &ram, 1);
	config.phys_bits = 36;
	REFUSE("36 bits", "65536 MiB");
	config = config_of(ram, UINT64_MAX & ~UINT64_C(4095), &ram, 1);
	REFUSE("46 bits", "-m");
	config = config_of(ram, ram, &ram, 1);
	config.nr_pci_ports = 256;
	REFUSE("256 root ports", "up to 255");
	config.nr_pci_ports = 255;
	assert_int_equal(layout_new(&config, &layout, NULL), 0);
	check_invariants(layout);
	assert_int_equal(layout->ecam.size, 256 * MIB);
	layout_free(layout);
#undef REFUSE
}

static void test_refused_devices(void **state)
{
	static const struct {
		struct layout_device_config device;
		const char *part;
	} cases[] = {
		{{"x", 3 * MIB, 3 * MIB, 0, 0}, "power of two"},
		{{"x", 2 * MIB, 0, 0, 0}, "power of two"},
		{{"x", 0, 2 * MIB, 0, 0}, "not 0"},
		{{"x", 3 * MIB, 2 * MIB, 0, 0}, "multiple of the block size"},
		{{"x", 2 * MIB, 2 * MIB, 0, 1}, "no node 1"},
		{{"x", 9 * GIB, 2 * MIB, 0, 0}, "maxmem leaves 8192 MiB"},
		{{"x", 8 * GIB + 2 * MIB, 2 * MIB, 0, 0}, "maxmem"},
		{{"x", UINT64_MAX & ~(2 * MIB - 1), 2 * MIB, 0, 0}, "maxmem"},
		{{"x", 2 * MIB, 2 * MIB, 0x140100000, 0}, "multiple of the block size"},
		{{"x", 2 * MIB, 2 * MIB, 0x100000000, 0}, "inside the device memory"},
		{{"x", 2 * MIB, 2 * MIB, UINT64_MAX & ~(2 * MIB - 1), 0}, "inside"},
		{{"x", 2 * GIB, 2 * MIB, 0x1C0000000, 0}, "overlaps device 'first'"},
	};
	const uint64_t ram = 4 * GIB;
	const struct layout_device_config first = {"first", 2 * GIB, 2 * MIB, 0x200000000, 0};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct layout_device_config devices[] = {cases[i].device, first};
		struct layout_config config = config_of(ram, ram + 10 * GIB, &ram, 1);
		struct machine_layout *layout = NULL;
		struct err *err = NULL;
		int ret;

		/* As the only ones of the start, and as a later one. */
		config.devices = &first;
		config.nr_devices = 1;
		assert_int_equal(layout_new(&config, &layout, NULL), 0);
		if (!strstr(cases[i].part, "maxmem")) {
			ret = layout_device_add(layout, &cases[i].device, &err);
			assert_refused(ret, EINVAL, err, "'x'", cases[i].part);
			assert_int_equal(layout->nr_devices, 1);
		}
		layout_free(layout);
		layout = NULL;
		err = NULL;
		config.maxmem_bytes = ram + 8 * GIB;
		config.devices = devices;
		config.nr_devices = cases[i].device.memaddr_gpa ? 2 : 1;
		if (strstr(cases[i].part, "overlaps"))
			continue; /* at the start, the later of two fixed ones is refused */
		ret = layout_new(&config, &layout, &err);
		assert_refused(ret, EINVAL, err, "'x'", cases[i].part);
		assert_null(layout);
	}
}

/* A device without room between fixed ones, though maxmem allows it. */
static void test_refused_fragmented(void **state)
{
	const uint64_t ram = 4 * GIB, base = 0x140000000;
	struct layout_device_config devices[] = {
		{"big", 6 * GIB, GIB, 0, 0},
		{"wall", GIB, GIB, base + 4 * GIB, 0},
		{"wall", GIB, GIB, base + 9 * GIB, 0},
	};
	struct layout_config config = config_of(ram, ram + 8 * GIB, &ram, 1);
	struct machine_layout *layout = NULL;
	struct err *err = NULL;
	int ret;

	(void)state;
	config.devices = devices;
	config.nr_devices = ARRAY_SIZE(devices);
	ret = layout_new(&config, &layout, &err);
	assert_refused(ret, EINVAL, err, "'big'", "no free range of 6144 MiB");
	devices[1].memaddr_gpa -= GIB;
	devices[2].memaddr_gpa += GIB;
	assert_int_equal(layout_new(&config, &layout, NULL), 0);
	check_invariants(layout);
	assert_int_equal(layout->devices[0].gpa.start, base + 4 * GIB);
	layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_addresses),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_fixed_addresses),
		cmocka_unit_test(test_refused_configs),
		cmocka_unit_test(test_refused_devices),
		cmocka_unit_test(test_refused_fragmented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
