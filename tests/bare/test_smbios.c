/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * smbios: the tables are found as a system finds them (DSP0134, 5.2), are whole, and are in no memory
 * that the guest may use for itself. What they say is printed for whoever runs the test:
 *
 *	smbios entry 64|32 version M.N
 *	smbios type N handle 0xN			each structure, in their order
 *	smbios text N TEXT			each of its texts, in their order
 *	smbios uuid XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX
 *
 *	scribble=1	write over all of it in the end, for what a reset makes of it
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/text.h"
#include "tests.h"

#define SEARCHED_FROM 0xF0000u
#define SEARCHED_TO   0x100000u
#define STRIDE        16u

#define TYPE_SYSTEM 1u
#define TYPE_END    127u
#define UUID        8u /* offset in the system's structure */

struct smbios_area {
	const uint8_t *first, *end;
	uint32_t count; /* 0: not told */
};

static bool smbios_sum_ok(const uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;

	while (size-- > 0)
		sum = (uint8_t)(sum + *bytes++);
	return sum == 0;
}

static uint64_t smbios_number(const uint8_t *at, unsigned int size)
{
	uint64_t value = 0;

	while (size-- > 0)
		value = value << 8 | at[size];
	return value;
}

static const uint8_t *smbios_find(const char *anchor)
{
	for (uint64_t at = SEARCHED_FROM; at < SEARCHED_TO; at += STRIDE) {
		const uint8_t *bytes = (const uint8_t *)at;

		/* The compiler knows nothing of what is there. */
		__asm__ volatile("" : "+r"(bytes));
		if (memcmp(bytes, anchor, strlen(anchor)) == 0)
			return bytes;
	}
	return NULL;
}

static bool smbios_entry64(struct smbios_area *ret_area)
{
	const uint8_t *entry = smbios_find("_SM3_");

	if (entry == NULL || !smbios_sum_ok(entry, entry[6]))
		return false;
	console_printf("smbios entry 64 version %u.%u\n", entry[7], entry[8]);
	ret_area->first = (const uint8_t *)smbios_number(entry + 16, 8);
	ret_area->end = ret_area->first + smbios_number(entry + 12, 4);
	ret_area->count = 0;
	return true;
}

static bool smbios_entry32(struct smbios_area *ret_area)
{
	const uint8_t *entry = smbios_find("_SM_");

	if (entry == NULL || !smbios_sum_ok(entry, entry[5]) || !smbios_sum_ok(entry + 16, 15) ||
	    memcmp(entry + 16, "_DMI_", 5) != 0)
		return false;
	console_printf("smbios entry 32 version %u.%u\n", entry[6], entry[7]);
	ret_area->first = (const uint8_t *)smbios_number(entry + 24, 4);
	ret_area->end = ret_area->first + smbios_number(entry + 22, 2);
	ret_area->count = (uint32_t)smbios_number(entry + 28, 2);
	return true;
}

static void smbios_print_uuid(const uint8_t *uuid)
{
	console_printf("smbios uuid %08lx-%04lx-%04lx-", smbios_number(uuid, 4),
		       smbios_number(uuid + 4, 2), smbios_number(uuid + 6, 2));
	for (unsigned int i = 8; i < 16; i++)
		console_printf("%s%02x", i == 10 ? "-" : "", uuid[i]);
	console_printf("\n");
}

/* Print the structure at @at; where the next one is, or NULL when it does not end before @end. */
static const uint8_t *smbios_print(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *text = at + at[1];

	console_printf("smbios type %u handle 0x%lx\n", at[0], smbios_number(at + 2, 2));
	if (at[0] == TYPE_SYSTEM)
		smbios_print_uuid(at + UUID);
	if (*text == 0)
		text++;
	while (text < end && *text != 0) {
		console_printf("smbios text %u %s\n", at[0], (const char *)text);
		text += strlen((const char *)text) + 1;
	}
	return text < end ? text + 1 : NULL;
}

static void smbios_walk(const struct smbios_area *area)
{
	const uint8_t *at = area->first;
	uint32_t count = 0;
	bool ended = false;

	while (at != NULL && at < area->end && !ended) {
		ended = at[0] == TYPE_END;
		at = smbios_print(at, area->end);
		count++;
	}
	check(ended && at == area->end, "smbios-walk", "no end, or not where it should be");
	check(area->count == 0 || area->count == count, "smbios-count", "%u, not %u", count,
	      area->count);
}

static void smbios_check_reserved(const struct smbios_area *area)
{
	uint32_t count;
	const struct boot_memory *map = boot_memory(&count);
	bool told = false;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t end = map[i].addr + map[i].size;

		if (map[i].type != BOOT_MEMORY_RAM && map[i].addr <= SEARCHED_FROM &&
		    (uint64_t)area->end <= end)
			told = true;
		check(map[i].type != BOOT_MEMORY_RAM || end <= SEARCHED_FROM ||
			      map[i].addr >= (uint64_t)area->end,
		      "smbios-not-in-ram", "0x%lx size 0x%lx", map[i].addr, map[i].size);
	}
	check(told, "smbios-reserved", "the memory map does not say that it is");
}

void test_smbios(void)
{
	struct smbios_area area, other;
	bool has64 = smbios_entry64(&area), has32 = smbios_entry32(has64 ? &other : &area);

	if (!check(has64 || has32, "smbios-entry", "none that is valid"))
		return;
	check(!has64 || !has32 || (area.first == other.first && area.end == other.end),
	      "smbios-entries", "they are of different tables");
	if (has64 && has32)
		area.count = other.count;
	smbios_walk(&area);
	smbios_check_reserved(&area);
	if (arg_number("scribble", 0) != 0)
		memset((void *)(uintptr_t)SEARCHED_FROM, 0xA5, (uint64_t)area.end - SEARCHED_FROM);
}
