/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI: every table reached from the RSDP, lengths and checksums, what they say of the machine, and
 * the judgement of ACPICA's own tools: each table disassembles, and the AML tables load together and do what they are for.
 */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vmm/machine/acpi.h"
#include "vmm/machine/acpi_aml.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/platform.h"

#define CPUS_MAX 512

struct machine {
	struct machine_layout *layout;
	struct acpi_cpu cpus[CPUS_MAX];
	struct acpi_config config;
};

/* @nr_nodes nodes of 2 GiB, a memory device of 8 GiB on each, CPUs dealt out in turn. */
static struct machine *machine_new_ports(unsigned int nr_nodes, unsigned int nr_cpus,
					 unsigned int nr_ports)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	uint64_t nodes[LAYOUT_NODES_MAX];
	struct layout_device_config devices[LAYOUT_NODES_MAX];
	struct layout_config config = {
		.ram_bytes = nr_nodes * 2 * GIB,
		.maxmem_bytes = nr_nodes * 10 * GIB,
		.phys_bits = 46,
		.nr_nodes = nr_nodes,
		.node_bytes = nodes,
		.nr_pci_ports = nr_ports,
		.devices = devices,
		.nr_devices = nr_nodes,
	};
	unsigned int i;

	assert_non_null(machine);
	for (i = 0; i < nr_nodes; i++) {
		nodes[i] = 2 * GIB;
		devices[i] = (struct layout_device_config){
			.size_bytes = 8 * GIB, .block_size_bytes = 2 * MIB, .node = i};
	}
	assert_int_equal(layout_new(&config, &machine->layout, NULL), 0);
	for (i = 0; i < nr_cpus; i++)
		machine->cpus[i] = (struct acpi_cpu){i, i % nr_nodes};
	machine->config = (struct acpi_config){
		.layout = machine->layout,
		.cpus = machine->cpus,
		.nr_cpus = nr_cpus,
		.serial = {{true, 0x3F8, 4}, {false, 0, 0}, {false, 0, 0}, {true, 0x2E8, 3}},
		.pvpanic_port = 0x505,
	};
	return machine;
}

static struct machine *machine_new(unsigned int nr_nodes, unsigned int nr_cpus)
{
	return machine_new_ports(nr_nodes, nr_cpus, 0);
}

static void machine_free(struct machine *machine)
{
	layout_free(machine->layout);
	free(machine);
}

static uint64_t get(const uint8_t *at, unsigned int size)
{
	return bytes_get_le(at, size);
}

static void check_sum(const uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;
	size_t i;

	for (i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	assert_int_equal(sum, 0);
}

/* A whole table inside the image, checksummed. */
static const uint8_t *table_at(const struct acpi_image *image, uint64_t gpa)
{
	const uint8_t *table;
	uint64_t size;

	assert_true(gpa >= image->gpa && gpa - image->gpa <= image->size - 36);
	assert_int_equal(gpa % 16, 0);
	table = image->bytes + (gpa - image->gpa);
	size = get(table + 4, 4);
	assert_true(size >= 36 && size <= image->size - (gpa - image->gpa));
	check_sum(table, size);
	return table;
}

/* The table with this signature, by way of RSDP, XSDT and FADT; NULL if there is none. */
static const uint8_t *table_find(const struct acpi_image *image, const char *signature)
{
	const uint8_t *xsdt, *table;
	size_t i, nr;

	assert_memory_equal(image->bytes, "RSD PTR ", 8);
	check_sum(image->bytes, 20);
	check_sum(image->bytes, 36);
	assert_int_equal(image->bytes[15], 2);
	xsdt = table_at(image, get(image->bytes + 24, 8));
	assert_memory_equal(xsdt, "XSDT", 4);
	nr = (get(xsdt + 4, 4) - 36) / 8;
	assert_int_equal(36 + nr * 8, get(xsdt + 4, 4));
	for (i = 0; i < nr; i++) {
		table = table_at(image, get(xsdt + 36 + i * 8, 8));
		if (!strcmp(signature, "DSDT") && !memcmp(table, "FACP", 4)) {
			assert_int_equal(get(table + 40, 4), get(table + 140, 8));
			table = table_at(image, get(table + 140, 8));
		}
		if (!memcmp(table, signature, 4))
			return table;
	}
	return NULL;
}

static void build(const struct machine *machine, struct acpi_image *ret_image)
{
	assert_int_equal(acpi_image_build(&machine->config, ret_image, NULL), 0);
	assert_int_equal(ret_image->gpa, BOOT_ACPI_BASE);
	assert_true(ret_image->size <= BOOT_ACPI_SIZE);
}

static void test_fadt(void **state)
{
	struct machine *machine = machine_new(1, 1);
	struct acpi_image image;
	const uint8_t *fadt;

	(void)state;
	build(machine, &image);
	fadt = table_find(&image, "FACP");
	assert_non_null(fadt);
	assert_int_equal(get(fadt + 4, 4), 276);
	assert_int_equal(fadt[8], 6);
	assert_true(get(fadt + 112, 4) & 1u << 20);   /* hardware-reduced */
	assert_true(get(fadt + 112, 4) & 1u << 10);   /* reset register */
	assert_int_equal(get(fadt + 109, 2) & 2, 0);  /* no 8042 */
	assert_int_equal(get(fadt + 109, 2) & 4, 4);  /* no VGA */
	assert_int_equal(get(fadt + 109, 2) & 32, 0); /* a CMOS clock */
	assert_int_equal(fadt[116], 1);
	assert_int_equal(get(fadt + 120, 8), 0xCF9);
	assert_int_equal(fadt[128], 6);
	assert_int_equal(get(fadt + 248, 8), 0x600);
	assert_int_equal(get(fadt + 260, 8), 0x601);
	assert_non_null(table_find(&image, "DSDT"));
	assert_null(table_find(&image, "SLIT"));
	acpi_image_done(&image);
	machine_free(machine);
}

struct counts {
	unsigned int cpus, x2apic, ram, hot;
	uint64_t ram_bytes, hot_bytes;
};

static void count_madt(const struct acpi_image *image, const struct machine *machine,
		       struct counts *c)
{
	const uint8_t *madt = table_find(image, "APIC"), *end, *at;
	unsigned int ioapics = 0;

	assert_non_null(madt);
	assert_int_equal(get(madt + 36, 4), 0xFEE00000);
	assert_int_equal(get(madt + 40, 4), 0);
	end = madt + get(madt + 4, 4);
	for (at = madt + 44; at < end; at += at[1]) {
		uint64_t uid, id;

		assert_true(at[1] >= 6 && at + at[1] <= end);
		if (at[0] == 1) {
			assert_int_equal(get(at + 4, 4), 0xFEC00000);
			assert_int_equal(get(at + 8, 4), 0);
			ioapics++;
		}
		if (at[0] != 0 && at[0] != 9)
			continue;
		uid = at[0] ? get(at + 12, 4) : at[2];
		id = at[0] ? get(at + 4, 4) : at[3];
		assert_int_equal(uid, c->cpus);
		assert_int_equal(id, machine->cpus[uid].apic_id);
		assert_int_equal(get(at + (at[0] ? 8 : 4), 4), 1);
		assert_true(at[0] ? uid >= 255 || id >= 255 : id < 255);
		c->x2apic += at[0] == 9;
		c->cpus++;
	}
	assert_int_equal(ioapics, 1);
}

static void count_srat(const struct acpi_image *image, const struct machine *machine,
		       struct counts *c)
{
	const uint8_t *srat = table_find(image, "SRAT"), *end, *at;
	uint64_t pos = 0;
	unsigned int cpus = 0;

	assert_non_null(srat);
	assert_int_equal(get(srat + 36, 4), 1);
	end = srat + get(srat + 4, 4);
	for (at = srat + 48; at < end; at += at[1]) {
		assert_true(at[1] >= 16 && at + at[1] <= end);
		if (at[0] == 0 || at[0] == 2) {
			uint64_t id = at[0] ? get(at + 8, 4) : at[3];
			uint64_t node = at[0] ? get(at + 4, 4) : at[2];

			assert_int_equal(id, machine->cpus[cpus].apic_id);
			assert_int_equal(node, machine->cpus[cpus].node);
			cpus++;
			continue;
		}
		assert_int_equal(at[0], 1);
		assert_true(get(at + 8, 8) >= pos); /* ascending, apart */
		pos = get(at + 8, 8) + get(at + 16, 8);
		if (get(at + 28, 4) == 3) {
			c->hot++;
			c->hot_bytes += get(at + 16, 8);
		} else {
			assert_int_equal(get(at + 28, 4), 1);
			c->ram++;
			c->ram_bytes += get(at + 16, 8);
		}
	}
	assert_int_equal(cpus, machine->config.nr_cpus);
}

static void test_cpus_and_nodes(void **state)
{
	static const unsigned int nodes[] = {1, 2, 3, 8, 64};
	static const unsigned int cpus[] = {1, 2, 4, 64, 300};
	size_t i, j;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(nodes); i++) {
		for (j = 0; j < ARRAY_SIZE(cpus); j++) {
			struct machine *machine = machine_new(nodes[i], cpus[j]);
			struct counts c = {0};
			struct acpi_image image, again;

			build(machine, &image);
			build(machine, &again);
			assert_int_equal(image.size, again.size);
			assert_memory_equal(image.bytes, again.bytes, image.size);
			acpi_image_done(&again);
			count_madt(&image, machine, &c);
			count_srat(&image, machine, &c);
			assert_int_equal(c.cpus, cpus[j]);
			assert_int_equal(c.x2apic, cpus[j] > 255 ? cpus[j] - 255 : 0);
			assert_int_equal(c.ram, machine->layout->nr_ram);
			assert_int_equal(c.ram_bytes, machine->layout->ram_bytes);
			assert_int_equal(c.hot_bytes, machine->layout->device_memory.size);
			assert_int_equal(c.hot, nodes[i] + 1); /* devices, and what is left */
			acpi_image_done(&image);
			machine_free(machine);
		}
	}
}

/* High APIC ids, as sparse topologies give them, though there are few CPUs. */
static void test_high_apic_ids(void **state)
{
	struct machine *machine = machine_new(2, 3);
	struct counts c = {0};
	struct acpi_image image;

	(void)state;
	machine->cpus[1].apic_id = 254;
	machine->cpus[2].apic_id = 255;
	build(machine, &image);
	count_madt(&image, machine, &c);
	count_srat(&image, machine, &c);
	assert_int_equal(c.x2apic, 1);
	acpi_image_done(&image);
	machine_free(machine);
}

/* The address of every device with its node, and the gaps between them. */
static void test_device_ranges(void **state)
{
	struct machine *machine = machine_new(2, 2);
	struct acpi_image image;
	const uint8_t *srat, *at;
	unsigned int found = 0;

	(void)state;
	/* reg0 leaves: its place becomes a gap in front of reg1, of the last node. */
	layout_device_remove(machine->layout, 0);
	build(machine, &image);
	srat = table_find(&image, "SRAT");
	for (at = srat + 48; at < srat + get(srat + 4, 4); at += at[1]) {
		if (at[0] != 1 || get(at + 28, 4) != 3)
			continue;
		assert_int_equal(get(at + 2, 4), 1);
		assert_int_equal(get(at + 8, 8), found == 0   ? 0x140000000
						 : found == 1 ? 0x340000000
							      : 0x540000000);
		found++;
	}
	assert_int_equal(found, 3);
	acpi_image_done(&image);
	machine_free(machine);
}

static void test_slit_mcfg(void **state)
{
	static const uint8_t distances[] = {10, 30, 40, 10};
	struct machine *machine = machine_new(2, 2);
	struct acpi_image image;
	const uint8_t *table;

	(void)state;
	build(machine, &image);
	table = table_find(&image, "SLIT");
	assert_int_equal(get(table + 36, 8), 2);
	assert_memory_equal(table + 44, "\x0a\x14\x14\x0a", 4);
	table = table_find(&image, "MCFG");
	assert_int_equal(get(table + 44, 8), 0xE0000000);
	assert_int_equal(table[54], 0);
	assert_int_equal(table[55], 0);
	acpi_image_done(&image);
	machine->config.distances = distances;
	build(machine, &image);
	table = table_find(&image, "SLIT");
	assert_memory_equal(table + 44, distances, 4);
	acpi_image_done(&image);
	machine_free(machine);
}

/* The first place in a table where @bytes are. */
static const uint8_t *find_bytes(const uint8_t *table, const void *bytes, size_t size)
{
	const uint8_t *at = memmem(table, get(table + 4, 4), bytes, size);

	assert_non_null(at);
	return at;
}

/* What is announced are the buses that there are; what is reserved, those of any machine. */
static void test_pci_buses(void **state)
{
	static const unsigned int ports[] = {0, 1, 31, 255};
	/* A word address space descriptor of bus numbers; a fixed memory range of 32 bits. */
	static const uint8_t window[] = {0x88, 0x0D, 0x00, 0x02};
	static const uint8_t fixed[] = {0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0xE0};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(ports); i++) {
		struct machine *machine = machine_new_ports(1, 1, ports[i]);
		struct acpi_image image;
		const uint8_t *at;

		build(machine, &image);
		at = table_find(&image, "MCFG");
		assert_int_equal(at[54], 0);
		assert_int_equal(at[55], ports[i]);
		at = find_bytes(table_find(&image, "SSDT"), window, sizeof(window));
		assert_int_equal(get(at + 8, 2), 0);
		assert_int_equal(get(at + 10, 2), ports[i]);
		assert_int_equal(get(at + 14, 2), ports[i] + 1);
		at = find_bytes(table_find(&image, "DSDT"), fixed, sizeof(fixed));
		assert_int_equal(get(at + 8, 4), 256 * MIB);
		acpi_image_done(&image);
		machine_free(machine);
	}
}

static void test_write_and_limit(void **state)
{
	struct machine *machine = machine_new(2, 2);
	struct fixture *fixture = fixture_new(64 * MIB);
	struct acpi_image image;
	struct err *err = NULL;
	uint64_t at;
	int ret;

	(void)state;
	build(machine, &image);
	memset((char *)fixture->low + BOOT_ACPI_BASE, 0xFF, BOOT_ACPI_SIZE);
	assert_int_equal(acpi_image_write(&image, fixture->gm), 0);
	assert_memory_equal((char *)fixture->low + image.gpa, image.bytes, image.size);
	for (at = image.gpa + image.size; at < BOOT_ACPI_BASE + BOOT_ACPI_SIZE; at++)
		assert_int_equal(((uint8_t *)fixture->low)[at], 0);
	acpi_image_done(&image);
	machine->config.nr_cpus = CPUS_MAX;
	build(machine, &image);
	acpi_image_done(&image);
	machine_free(machine);

	machine = machine_new(2, 2);
	machine->config.cpus = calloc(4096, sizeof(struct acpi_cpu));
	assert_non_null(machine->config.cpus);
	machine->config.nr_cpus = 4096;
	ret = acpi_image_build(&machine->config, &image, &err);
	assert_refused(ret, EFBIG, err, "4096 CPUs", "64 KiB");
	free((void *)machine->config.cpus);
	machine_free(machine);
	fixture_free(fixture);
}

/* Lengths on both sides of each form's limit. */
static void test_package_length(void **state)
{
	static const struct {
		size_t content, encoded;
		uint8_t bytes[4];
	} cases[] = {
		{62, 1, {0x3F}},
		{63, 2, {0x41, 0x04}},
		{4093, 2, {0x4F, 0xFF}},
		{4094, 3, {0x81, 0x00, 0x01}},
		{1048572, 3, {0x8F, 0xFF, 0xFF}},
		{1048573, 4, {0xC1, 0x00, 0x00, 0x01}},
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct aml aml = {0};
		size_t mark = aml_open_package(&aml, 0xAB);

		aml_put_zeros(&aml, cases[i].content - 1);
		aml_close(&aml, mark);
		assert_false(aml_failed(&aml));
		assert_int_equal(aml.size, 1 + cases[i].encoded + cases[i].content);
		assert_int_equal(aml.bytes[0], 0x12);
		assert_memory_equal(aml.bytes + 1, cases[i].bytes, cases[i].encoded);
		assert_int_equal(aml.bytes[1 + cases[i].encoded], 0xAB);
		aml_done(&aml);
	}
}

static void test_objects(void **state)
{
	static const uint8_t expect[] = {
		0x00, 0x01, 0x0A, 0x02, 0x0A, 0xFF, 0x0B, 0x00, 0x01, 0x0B, 0xFF, 0xFF, 0x0C, 0x00,
		0x00, 0x01, 0x00, 0x0E, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x0D, 'A',
		'B',  0x00, 0x0C, 0x41, 0xD0, 0x05, 0x01, 0x08, '_',  'H',  'I',  'D',
	};
	static const uint64_t integers[] = {0, 1, 2, 0xFF, 0x100, 0xFFFF, 0x10000, 0x100000000};
	struct aml aml = {0};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(integers); i++)
		aml_put_integer(&aml, integers[i]);
	aml_put_string(&aml, "AB");
	aml_put_eisa_id(&aml, "PNP0501");
	aml_put_name(&aml, "_HID");
	assert_int_equal(aml.size, sizeof(expect));
	assert_memory_equal(aml.bytes, expect, sizeof(expect));
	aml_done(&aml);
}

/* Run a tool in the folder @dir, its output in @dir/log; the exit status, or -1 without the tool. */
static int run_tool(const char *dir, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	extern char **environ;
	int status, ret;
	pid_t pid;

	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_addchdir_np(&actions, dir), 0);
	assert_int_equal(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0),
			 0);
	assert_int_equal(posix_spawn_file_actions_addopen(&actions, 1, "log",
							  O_WRONLY | O_CREAT | O_TRUNC, 0600),
			 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, 1, 2), 0);
	ret = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		return -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Whether the log of the last tool has @text in it. */
static bool log_has(const char *dir, const char *text)
{
	static char log[200000];
	char path[128];
	size_t size;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/log", dir);
	file = fopen(path, "r");
	assert_non_null(file);
	size = fread(log, 1, sizeof(log) - 1, file);
	log[size] = 0;
	(void)fclose(file);
	return strstr(log, text);
}

static void save_table(const struct acpi_image *image, const char *dir, const char *signature)
{
	const uint8_t *table = table_find(image, signature);
	char path[128];
	FILE *file;

	assert_non_null(table);
	(void)snprintf(path, sizeof(path), "%s/%s.dat", dir, signature);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(table, get(table + 4, 4), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

/* The table of slots, which has the signature of the other one: by what is behind its id. */
static void save_slots(const struct acpi_image *image, const char *dir)
{
	const uint8_t *at = image->bytes, *end = image->bytes + image->size;
	char path[128];
	FILE *file;

	while (at < end && (memcmp(at, "SSDT", 4) != 0 || memcmp(at + 16, "EBBSLOTS", 8) != 0))
		at += 16;
	assert_true(at < end);
	(void)snprintf(path, sizeof(path), "%s/SLOTS.dat", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(at, get(at + 4, 4), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

/*
 * The event device's method finds the slots', which notify each of a set; acpiexec's registers hold what
 * was written last. Only where there are such slots.
 */
static void test_slots(void **state)
{
	static char *const notify[] = {
		"acpiexec",  "-b", "execute \\_SB.PCI0.SLNT 0x20000020 1", "DSDT.dat", "SSDT.dat",
		"SLOTS.dat", NULL};
	static char *const eject[] = {"acpiexec", "-b",       "execute \\_SB.PCI0.S031._EJ0 1",
				      "DSDT.dat", "SSDT.dat", "SLOTS.dat",
				      NULL};
	static char *const slot[] = {"acpiexec", "-b",       "execute \\_SB.PCI0.S005._ADR",
				     "DSDT.dat", "SSDT.dat", "SLOTS.dat",
				     NULL};
	static char *const none[] = {"acpiexec", "-b",       "execute \\_SB.PCI0.S003._ADR",
				     "DSDT.dat", "SSDT.dat", "SLOTS.dat",
				     NULL};
	static char *const event[] = {"acpiexec", "-b",       "execute \\_SB.GED._EVT 9",
				      "DSDT.dat", "SSDT.dat", NULL};
	char dir[] = "/tmp/ebb-acpi-XXXXXX";
	char *const disassemble[] = {"iasl", "-d", "SLOTS.dat", NULL};
	char *const clear[] = {"rm", "-rf", dir, NULL};
	struct machine *machine = machine_new(1, 1);
	struct acpi_image image;

	(void)state;
	machine->config.pci_slots = ~1u & ~(1u << 3);
	build(machine, &image);
	assert_non_null(mkdtemp(dir));
	save_table(&image, dir, "DSDT");
	save_table(&image, dir, "SSDT");
	save_slots(&image, dir);
	assert_int_equal(run_tool(dir, disassemble), 0);
	assert_false(log_has(dir, "rror"));
	if (run_tool(dir, notify) < 0) {
		print_message("acpiexec is not installed: methods are not run\n");
	} else {
		assert_true(log_has(dir, "3 ACPI AML tables successfully acquired and loaded"));
		assert_true(log_has(dir, "(Device Check)"));
		assert_true(log_has(dir, "Notify on [S005]") && log_has(dir, "Notify on [S029]"));
		assert_false(log_has(dir, "Notify on [S006]") || log_has(dir, "AE_"));
		assert_int_equal(run_tool(dir, eject), 0);
		assert_false(log_has(dir, "AE_"));
		assert_int_equal(run_tool(dir, slot), 0);
		assert_true(log_has(dir, "0000000000050000"));
		(void)run_tool(dir, none);
		assert_true(log_has(dir, "AE_NOT_FOUND"));
		/* Without the table the event device has nothing to tell of slots. */
		assert_int_equal(run_tool(dir, event), 0);
		assert_false(log_has(dir, "AE_"));
	}
	assert_int_equal(run_tool(dir, clear), 0);
	acpi_image_done(&image);
	machine_free(machine);
}

static void test_acpica(void **state)
{
	static const char *const signatures[] = {"DSDT", "SSDT", "FACP", "APIC",
						 "SRAT", "SLIT", "MCFG"};
	static char *const load[] = {"acpiexec", "-b",       "execute \\_SB.PCI0._PRT",
				     "DSDT.dat", "SSDT.dat", NULL};
	char dir[] = "/tmp/ebb-acpi-XXXXXX", name[16];
	char *const disassemble[] = {"iasl", "-d", name, NULL};
	char *const clear[] = {"rm", "-rf", dir, NULL};
	struct machine *machine = machine_new(2, 300);
	struct acpi_image image;
	size_t i;
	int ret;

	(void)state;
	machine->cpus[299].apic_id = 4000;
	build(machine, &image);
	assert_non_null(mkdtemp(dir));
	for (i = 0; i < ARRAY_SIZE(signatures); i++) {
		save_table(&image, dir, signatures[i]);
		(void)snprintf(name, sizeof(name), "%s.dat", signatures[i]);
		/* The build needs iasl, so it is here. */
		assert_int_equal(run_tool(dir, disassemble), 0);
		assert_false(log_has(dir, "rror"));
		assert_false(log_has(dir, "nvalid"));
		assert_false(log_has(dir, "ncorrect"));
	}
	ret = run_tool(dir, load);
	if (ret < 0)
		print_message("acpiexec is not installed: loading is not tested\n");
	else {
		assert_int_equal(ret, 0);
		assert_true(log_has(dir, "2 ACPI AML tables successfully acquired and loaded"));
		assert_true(log_has(dir, "Contains 128 Elements"));
		assert_false(log_has(dir, "AE_"));
	}
	assert_int_equal(run_tool(dir, clear), 0);
	acpi_image_done(&image);
	machine_free(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_cpus_and_nodes),
		cmocka_unit_test(test_high_apic_ids),
		cmocka_unit_test(test_device_ranges),
		cmocka_unit_test(test_slit_mcfg),
		cmocka_unit_test(test_pci_buses),
		cmocka_unit_test(test_write_and_limit),
		cmocka_unit_test(test_package_length),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_acpica),
		cmocka_unit_test(test_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
