/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What each structure says (DSP0134, 7), field by field in the standard's order. Handles are the type
 * in the upper byte and a number in the lower one. See smbios.h.
 */
#include <stdio.h>

#include "base/num.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/smbios_int.h"

#define HANDLE(type, index) ((uint16_t)((type) << 8 | (index)))
#define HANDLE_NONE         0xFFFE /* of errors: no information */

#define MANUFACTURER "Ebb"
#define TEXT_MAX     256

/* 7.1: fields that are bits */
#define BIOS_NOT_TOLD         UINT64_C(0x08)
#define BIOS_SEGMENT          0xE800
#define BIOS_EXT2_TARGETED    0x04
#define BIOS_EXT2_UEFI        0x08
#define BIOS_EXT2_VM          0x10
#define WAKE_UP_POWER_SWITCH  0x06
#define BOARD_HOSTING         0x01
#define BOARD_MOTHERBOARD     0x0A
#define CHASSIS_OTHER         0x01
#define CHASSIS_SAFE          0x03
#define CHASSIS_SECURITY      0x02
#define PROCESSOR_CENTRAL     0x03
#define PROCESSOR_OTHER       0x01
#define PROCESSOR_SOCKET_USED 0x40
#define PROCESSOR_ENABLED     0x01
#define PROCESSOR_64_BIT      0x04
#define CACHE_NONE            0xFFFF
#define ARRAY_OTHER           0x01
#define ARRAY_SYSTEM_MEMORY   0x03
#define ARRAY_CORRECTION      0x02 /* unknown */
#define ARRAY_EXTENDED_KIB    UINT64_C(0x80000000)
#define MEMORY_WIDTH_UNKNOWN  0xFFFF
#define MEMORY_EXTENDED_MIB   UINT64_C(0x7FFF)
#define MEMORY_DIMM           0x09
#define MEMORY_RAM            0x07
#define MEMORY_DETAIL_OTHER   0x02
#define RANGE_EXTENDED_KIB    UINT64_C(0xFFFFFFFF)

static const char *text_or(const char *text, const char *otherwise)
{
	return text ? text : otherwise;
}

/* Does a file have structures of this type? */
static bool smbios_replaced(const struct smbios_config *c, unsigned int type)
{
	const struct vm_smbios_config *smbios = &c->config->smbios;

	for (size_t i = 0; i < smbios->nr_files; i++) {
		if (smbios->files[i].bytes[0] == type)
			return true;
	}
	return false;
}

static bool smbios_given(const struct smbios_config *c, unsigned int type)
{
	return c->config->smbios.given >> type & 1;
}

static void smbios_put_bios(struct smbios_structures *s, const struct smbios_config *c)
{
	const struct vm_smbios_bios *bios = &c->config->smbios.bios;
	uint8_t ext2 = BIOS_EXT2_TARGETED | BIOS_EXT2_VM;

	if (!smbios_given(c, SMBIOS_BIOS))
		return;
	if (bios->uefi)
		ext2 |= BIOS_EXT2_UEFI;
	smbios_open(s, SMBIOS_BIOS, 0x18, HANDLE(SMBIOS_BIOS, 0));
	smbios_put_text(s, bios->vendor);
	smbios_put_text(s, bios->version);
	pack_u16(&s->bytes, BIOS_SEGMENT);
	smbios_put_text(s, bios->date);
	pack_u8(&s->bytes, 0); /* 64 KiB of ROM */
	pack_u64(&s->bytes, BIOS_NOT_TOLD);
	pack_u8(&s->bytes, 0);
	pack_u8(&s->bytes, ext2);
	pack_u8(&s->bytes, bios->has_release ? bios->release_major : 0xFF);
	pack_u8(&s->bytes, bios->has_release ? bios->release_minor : 0xFF);
	pack_u16(&s->bytes, 0xFFFF); /* no embedded controller */
	smbios_close(s);
}

/* The first three fields of a UUID are little-endian numbers here (7.2.1). */
static void smbios_put_uuid(struct smbios_structures *s, const uint8_t uuid[16])
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		pack_u8(&s->bytes, uuid[order[i]]);
}

static void smbios_put_system(struct smbios_structures *s, const struct smbios_config *c)
{
	const struct vm_smbios_system *system = &c->config->smbios.system;

	smbios_open(s, SMBIOS_SYSTEM, 0x1B, HANDLE(SMBIOS_SYSTEM, 0));
	smbios_put_text(s, text_or(system->manufacturer, MANUFACTURER));
	smbios_put_text(s, text_or(system->product, c->config->machine.name));
	smbios_put_text(s, system->version);
	smbios_put_text(s, system->serial);
	smbios_put_uuid(s, c->config->uuid);
	pack_u8(&s->bytes, WAKE_UP_POWER_SWITCH);
	smbios_put_text(s, system->sku);
	smbios_put_text(s, system->family);
	smbios_close(s);
}

static void smbios_put_board(struct smbios_structures *s, const struct smbios_config *c)
{
	const struct vm_smbios_board *board = &c->config->smbios.board;

	if (!smbios_given(c, SMBIOS_BOARD))
		return;
	smbios_open(s, SMBIOS_BOARD, 0x0F, HANDLE(SMBIOS_BOARD, 0));
	smbios_put_text(s, text_or(board->manufacturer, MANUFACTURER));
	smbios_put_text(s, text_or(board->product, c->config->machine.name));
	smbios_put_text(s, board->version);
	smbios_put_text(s, board->serial);
	smbios_put_text(s, board->asset);
	pack_u8(&s->bytes, BOARD_HOSTING);
	smbios_put_text(s, board->location);
	pack_u16(&s->bytes, HANDLE(SMBIOS_CHASSIS, 0));
	pack_u8(&s->bytes, BOARD_MOTHERBOARD);
	pack_u8(&s->bytes, 0);
	smbios_close(s);
}

static void smbios_put_chassis(struct smbios_structures *s, const struct smbios_config *c)
{
	const struct vm_smbios_chassis *chassis = &c->config->smbios.chassis;

	smbios_open(s, SMBIOS_CHASSIS, 0x16, HANDLE(SMBIOS_CHASSIS, 0));
	smbios_put_text(s, text_or(chassis->manufacturer, MANUFACTURER));
	pack_u8(&s->bytes, CHASSIS_OTHER);
	smbios_put_text(s, chassis->version);
	smbios_put_text(s, chassis->serial);
	smbios_put_text(s, chassis->asset);
	pack_u8(&s->bytes, CHASSIS_SAFE);
	pack_u8(&s->bytes, CHASSIS_SAFE); /* power supply */
	pack_u8(&s->bytes, CHASSIS_SAFE); /* temperature */
	pack_u8(&s->bytes, CHASSIS_SECURITY);
	pack_u32(&s->bytes, 0);
	pack_u8(&s->bytes, 0);  /* height */
	pack_u8(&s->bytes, 0);  /* power cords */
	pack_u16(&s->bytes, 0); /* contained elements */
	smbios_put_text(s, chassis->sku);
	smbios_close(s);
}

/* Sockets fill up in the order of CPUs; one that has none yet is empty. */
static void smbios_put_processor(struct smbios_structures *s, const struct smbios_config *c,
				 unsigned int socket)
{
	const struct vm_smbios_processor *p = &c->config->smbios.processor;
	const struct vm_smp_config *smp = &c->config->smp;
	unsigned int cores = smp->dies * smp->cores, threads = cores * smp->threads;
	unsigned int before = socket * threads;
	unsigned int cpus = smp->cpus > before ? smp->cpus - before : 0;
	unsigned int enabled = (cpus + smp->threads - 1) / smp->threads;
	char name[TEXT_MAX];

	if (enabled > cores)
		enabled = cores;
	(void)snprintf(name, sizeof(name), "%s %u", text_or(p->sock_pfx, "CPU"), socket);
	smbios_open(s, SMBIOS_PROCESSOR, 0x30, HANDLE(SMBIOS_PROCESSOR, socket));
	smbios_put_text(s, name);
	pack_u8(&s->bytes, PROCESSOR_CENTRAL);
	pack_u8(&s->bytes, PROCESSOR_OTHER); /* family: CPUID knows */
	smbios_put_text(s, text_or(p->manufacturer, MANUFACTURER));
	pack_u64(&s->bytes, p->processor_id);
	smbios_put_text(s, p->version);
	pack_u8(&s->bytes, 0);  /* voltage */
	pack_u16(&s->bytes, 0); /* external clock */
	pack_u16(&s->bytes, p->max_speed_mhz);
	pack_u16(&s->bytes, p->current_speed_mhz);
	pack_u8(&s->bytes, cpus ? PROCESSOR_SOCKET_USED | PROCESSOR_ENABLED : 0);
	pack_u8(&s->bytes, PROCESSOR_OTHER); /* upgrade */
	pack_u16(&s->bytes, CACHE_NONE);
	pack_u16(&s->bytes, CACHE_NONE);
	pack_u16(&s->bytes, CACHE_NONE);
	smbios_put_text(s, p->serial);
	smbios_put_text(s, p->asset);
	smbios_put_text(s, p->part);
	_Static_assert(VM_CPUS_MAX < 0xFF, "counts fit into a byte each");
	pack_u8(&s->bytes, (uint8_t)cores);
	pack_u8(&s->bytes, (uint8_t)enabled);
	pack_u8(&s->bytes, (uint8_t)threads);
	pack_u16(&s->bytes, PROCESSOR_64_BIT);
	pack_u16(&s->bytes, PROCESSOR_OTHER);
	pack_u16(&s->bytes, (uint16_t)cores);
	pack_u16(&s->bytes, (uint16_t)enabled);
	pack_u16(&s->bytes, (uint16_t)threads);
	smbios_close(s);
}

static void smbios_put_processors(struct smbios_structures *s, const struct smbios_config *c)
{
	for (unsigned int i = 0; i < c->config->smp.sockets; i++)
		smbios_put_processor(s, c, i);
}

static void smbios_put_oem_strings(struct smbios_structures *s, const struct smbios_config *c)
{
	const struct vm_smbios_config *smbios = &c->config->smbios;

	if (!smbios->nr_oem)
		return;
	smbios_open(s, SMBIOS_OEM_STRINGS, 5, HANDLE(SMBIOS_OEM_STRINGS, 0));
	pack_u8(&s->bytes, (uint8_t)smbios->nr_oem);
	for (size_t i = 0; i < smbios->nr_oem; i++)
		smbios_add_text(s, smbios->oem[i]);
	smbios_close(s);
}

static uint64_t smbios_node_bytes(const struct machine_layout *layout, unsigned int node)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < layout->nr_ram; i++)
		bytes += layout->ram[i].node == node ? layout->ram[i].gpa.size : 0;
	return bytes;
}

static void smbios_put_memory_array(struct smbios_structures *s, const struct smbios_config *c)
{
	uint64_t max_bytes = c->layout->maxmem_bytes;
	uint16_t nr_memories = 0;

	for (unsigned int i = 0; i < c->layout->nr_nodes; i++)
		nr_memories = (uint16_t)(nr_memories + (smbios_node_bytes(c->layout, i) > 0));
	smbios_open(s, SMBIOS_MEMORY_ARRAY, 0x17, HANDLE(SMBIOS_MEMORY_ARRAY, 0));
	pack_u8(&s->bytes, ARRAY_OTHER);
	pack_u8(&s->bytes, ARRAY_SYSTEM_MEMORY);
	pack_u8(&s->bytes, ARRAY_CORRECTION);
	pack_u32(&s->bytes, (uint32_t)num_min(max_bytes / KIB, ARRAY_EXTENDED_KIB));
	pack_u16(&s->bytes, HANDLE_NONE);
	pack_u16(&s->bytes, nr_memories);
	pack_u64(&s->bytes, max_bytes / KIB < ARRAY_EXTENDED_KIB ? 0 : max_bytes);
	smbios_close(s);
}

static void smbios_put_memory(struct smbios_structures *s, const struct smbios_config *c,
			      unsigned int node)
{
	const struct vm_smbios_memory *m = &c->config->smbios.memory;
	uint64_t size_mib = (smbios_node_bytes(c->layout, node) + MIB - 1) / MIB;
	char name[TEXT_MAX];

	if (!size_mib)
		return;
	(void)snprintf(name, sizeof(name), "%s %u", text_or(m->loc_pfx, "DIMM"), node);
	smbios_open(s, SMBIOS_MEMORY, 0x28, HANDLE(SMBIOS_MEMORY, node));
	pack_u16(&s->bytes, HANDLE(SMBIOS_MEMORY_ARRAY, 0));
	pack_u16(&s->bytes, HANDLE_NONE);
	pack_u16(&s->bytes, MEMORY_WIDTH_UNKNOWN);
	pack_u16(&s->bytes, MEMORY_WIDTH_UNKNOWN);
	pack_u16(&s->bytes, (uint16_t)num_min(size_mib, MEMORY_EXTENDED_MIB));
	pack_u8(&s->bytes, MEMORY_DIMM);
	pack_u8(&s->bytes, 0); /* device set */
	smbios_put_text(s, name);
	smbios_put_text(s, m->bank);
	pack_u8(&s->bytes, MEMORY_RAM);
	pack_u16(&s->bytes, MEMORY_DETAIL_OTHER);
	pack_u16(&s->bytes, m->speed_mts);
	smbios_put_text(s, text_or(m->manufacturer, MANUFACTURER));
	smbios_put_text(s, m->serial);
	smbios_put_text(s, m->asset);
	smbios_put_text(s, m->part);
	pack_u8(&s->bytes, 0); /* ranks */
	pack_u32(&s->bytes, size_mib < MEMORY_EXTENDED_MIB ? 0 : (uint32_t)size_mib);
	pack_u16(&s->bytes, m->speed_mts);
	pack_u16(&s->bytes, 0); /* voltages */
	pack_u16(&s->bytes, 0);
	pack_u16(&s->bytes, 0);
	smbios_close(s);
}

static void smbios_put_memories(struct smbios_structures *s, const struct smbios_config *c)
{
	for (unsigned int i = 0; i < c->layout->nr_nodes; i++)
		smbios_put_memory(s, c, i);
}

static void smbios_put_range(struct smbios_structures *s, struct range gpa, unsigned int index)
{
	uint64_t last = range_end(gpa) - 1;
	bool extended = last / KIB >= RANGE_EXTENDED_KIB;

	if (!gpa.size)
		return;
	smbios_open(s, SMBIOS_MEMORY_RANGE, 0x1F, HANDLE(SMBIOS_MEMORY_RANGE, index));
	pack_u32(&s->bytes, (uint32_t)(extended ? RANGE_EXTENDED_KIB : gpa.start / KIB));
	pack_u32(&s->bytes, (uint32_t)(extended ? RANGE_EXTENDED_KIB : last / KIB));
	pack_u16(&s->bytes, HANDLE(SMBIOS_MEMORY_ARRAY, 0));
	pack_u8(&s->bytes, 1); /* partition width */
	pack_u64(&s->bytes, extended ? gpa.start : 0);
	pack_u64(&s->bytes, extended ? last : 0);
	smbios_close(s);
}

static void smbios_put_ranges(struct smbios_structures *s, const struct smbios_config *c)
{
	smbios_put_range(s, c->layout->low_ram, 0);
	smbios_put_range(s, c->layout->high_ram, 1);
}

static void smbios_put_boot_status(struct smbios_structures *s, const struct smbios_config *c)
{
	static const uint8_t nothing_wrong[7];

	(void)c;
	smbios_open(s, SMBIOS_BOOT_STATUS, 0x0B, HANDLE(SMBIOS_BOOT_STATUS, 0));
	pack_bytes(&s->bytes, nothing_wrong, sizeof(nothing_wrong));
	smbios_close(s);
}

void smbios_put_all(struct smbios_structures *s, const struct smbios_config *config)
{
	static const struct {
		unsigned int type;
		void (*put)(struct smbios_structures *s, const struct smbios_config *c);
	} types[] = {
		{SMBIOS_BIOS, smbios_put_bios},
		{SMBIOS_SYSTEM, smbios_put_system},
		{SMBIOS_BOARD, smbios_put_board},
		{SMBIOS_CHASSIS, smbios_put_chassis},
		{SMBIOS_PROCESSOR, smbios_put_processors},
		{SMBIOS_OEM_STRINGS, smbios_put_oem_strings},
		{SMBIOS_MEMORY_ARRAY, smbios_put_memory_array},
		{SMBIOS_MEMORY, smbios_put_memories},
		{SMBIOS_MEMORY_RANGE, smbios_put_ranges},
		{SMBIOS_BOOT_STATUS, smbios_put_boot_status},
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (!smbios_replaced(config, types[i].type))
			types[i].put(s, config);
	}
}
