/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot: how the loader starts a guest and what it tells it.
 *
 *	ram=SIZE	boot memory that the map must add up to (but for what firmware areas take)
 *	initrd_size=N initrd_sum=N
 *			size of the module and the sum of its bytes; without, there must be no module
 *	word=TEXT	"found" must arrive (other words are there to be skipped)
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "tests.h"

#define CR0_PE_PG 0x80000001ull
#define CR4_PAE   0x20ull
#define MSR_EFER  0xc0000080u
#define EFER_LMA  0x400ull
#define FIRMWARE  0x100000ull /* at most this much below 1 MiB may be missing from the map */

extern uint8_t guest_start[], guest_end[];

static void boot_check_map(void)
{
	uint32_t count;
	const struct boot_memory *map = boot_memory(&count);
	uint64_t ram = 0, should = arg_number("ram", 0);
	bool apart = true, sane = count > 0;

	for (uint32_t i = 0; i < count; i++) {
		console_printf("memory 0x%lx size 0x%lx type %u\n", map[i].addr, map[i].size,
			       map[i].type);
		if (map[i].type == BOOT_MEMORY_RAM)
			ram += map[i].size;
		sane = sane && map[i].size > 0 && map[i].addr + map[i].size > map[i].addr;
		for (uint32_t j = 0; j < i; j++)
			apart = apart && (map[j].addr + map[j].size <= map[i].addr ||
					  map[i].addr + map[i].size <= map[j].addr);
	}
	check(sane, "boot-map-sane", "%u entries, some empty or beyond the end", count);
	check(apart, "boot-map-apart", "entries overlap");
	check(boot_is_ram((uint64_t)guest_start, (uint64_t)(guest_end - guest_start)),
	      "boot-map-image", "the image is not in RAM");
	if (should != 0)
		check(ram <= should && should - ram <= FIRMWARE, "boot-map-size",
		      "0x%lx bytes of RAM, should be about 0x%lx", ram, should);
}

static void boot_check_ram_edges(void)
{
	uint32_t count;
	const struct boot_memory *map = boot_memory(&count);
	bool ok = true;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t last = map[i].addr + map[i].size - 8;

		if (map[i].type != BOOT_MEMORY_RAM || map[i].addr < 0x100000)
			continue;
		mem_map(map[i].addr, map[i].size < MEM_LARGE_BYTES ? map[i].size : MEM_LARGE_BYTES);
		mem_map(last, 8);
		if (last >= (uint64_t)guest_end) {
			uint64_t old = cpu_load64(last);

			cpu_store64(last, ~last);
			ok = ok && cpu_load64(last) == ~last;
			cpu_store64(last, old);
		}
	}
	check(ok, "boot-ram-edges", "the last bytes of a RAM range do not hold what was written");
}

static void boot_check_module(void)
{
	const struct boot_info *info = boot_info();
	const struct boot_module *module = (const struct boot_module *)info->modlist_paddr;
	uint64_t size = arg_number("initrd_size", 0), sum = 0;

	if (size == 0) {
		check_equal(info->nr_modules, 0, "boot-no-module");
		return;
	}
	if (!check_equal(info->nr_modules, 1, "boot-module"))
		return;
	check_equal(module->size, size, "boot-module-size");
	check(boot_is_ram(module->paddr, module->size), "boot-module-in-ram", "at 0x%lx",
	      module->paddr);
	check(module->paddr >= (uint64_t)guest_end || module->paddr + size <= 0x100000,
	      "boot-module-apart", "at 0x%lx, over the image", module->paddr);
	mem_map(module->paddr, module->size);
	for (uint64_t i = 0; i < module->size; i++)
		sum += ((const uint8_t *)module->paddr)[i];
	check_equal(sum, arg_number("initrd_sum", 0), "boot-module-content");
}

void test_boot(void)
{
	const struct boot_info *info = boot_info();

	check((cpu_cr0() & CR0_PE_PG) == CR0_PE_PG && (cpu_cr4() & CR4_PAE) != 0 &&
		      (cpu_rdmsr(MSR_EFER) & EFER_LMA) != 0,
	      "boot-long-mode", "cr0 0x%lx cr4 0x%lx", cpu_cr0(), cpu_cr4());
	check_equal(info->magic, BOOT_MAGIC, "boot-magic");
	check(info->version >= 1, "boot-version", "version %u", info->version);
	check(arg_is("word", "found"), "boot-command-line", "word=found is missing");
	check(info->rsdp_paddr != 0, "boot-rsdp", "no RSDP");
	boot_check_map();
	boot_check_ram_edges();
	boot_check_module();
}
